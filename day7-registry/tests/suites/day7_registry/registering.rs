//! A server registers.
//!
//! In `src/registry/request.rs`: `server`, in which weight and instance may wait for the stage of instances. In
//! `src/registry/leases.rs`: `register`, with `entry`, `admits` and `remove_ended`; and `servers`, which makes a name's list.
//! In `src/registry/server.rs`: `with_lease`.
//!
//! Works then: a server registers, and learns for how long.
//!
//! Chapter: The wire; Files of today > src/registry/request.rs

use super::*;

/// `POST` answers 200 and says how long the lease is, as a header and in JSON.
///
/// A server that renews must know how often. A constant on the server's side is wrong for every registry that is
/// set up otherwise. And an answer about this moment must not be kept by a cache on the way.
///
/// Hint: `answer` of the debug page makes an answer that is not kept. The lease is a header of its own.
#[test]
fn registering_answers_with_the_lease() {
    run(async || {
        let registry = RunningRegistry::start(&RegistryServer::new()).await;
        let answer = registry.exchange(&post("tcp@127.0.0.1:7001")).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.header("x-rrpc-lease-ms"), Some("10000"));
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.json(), json!({"lease_ms": 10_000}));
        assert_eq!(DEFAULT_LEASE, Duration::from_secs(10));
    });
}

/// A `POST` or `DELETE` names exactly one good endpoint. Everything else is 400, with a text that says why.
///
/// In GeeRPC `a,b` registers two servers, one of which the sender may not own. And `[::]:port`, the address that a
/// server listens on, is handed to clients, which cannot connect to it.
///
/// Hint: a header may be there twice. `HeaderMap::get` shows you only the first.
#[test]
fn a_request_must_name_exactly_one_reachable_server() {
    run(async || {
        let registry = RegistryServer::new();
        let running = RunningRegistry::start(&registry).await;
        let long = format!("X-Rrpc-Server: tcp@{}:1", "a".repeat(195));
        let cases: [&[&str]; 10] = [
            &[],
            &["X-Rrpc-Server:"],
            &["X-Rrpc-Server: tcp@a:1,tcp@b:1"],
            &["X-Rrpc-Server: unix@/a,unix@/b"],
            &["X-Rrpc-Server: tcp@a:1", "X-Rrpc-Server: tcp@b:1"],
            &["X-Rrpc-Server: 127.0.0.1:1"],
            &["X-Rrpc-Server: tcp@a:0"],
            &["X-Rrpc-Server: tcp@0.0.0.0:1"],
            &["X-Rrpc-Server: http@[::]:1"],
            &[&long],
        ];
        for method in ["POST", "DELETE"] {
            for headers in cases {
                let answer = running.exchange(&request(method, REGISTRY_PATH, headers)).await;
                assert_eq!(answer.status(), 400, "{method} {headers:?}: {answer:?}");
                assert!(!answer.body.is_empty(), "{method} {headers:?}: why?");
            }
        }
        assert_eq!(registry.servers(), [], "none of them was registered");

        let longest = format!("tcp@{}:1", "a".repeat(194));
        assert_eq!(longest.len(), MAX_SERVER_LEN);
        assert_eq!(running.exchange(&post(&longest)).await.status(), 200, "200 bytes are not too long");
    });
}
