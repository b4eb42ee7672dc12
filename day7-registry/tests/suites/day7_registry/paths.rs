//! The registry as a server of HTTP: which paths and methods there are.
//!
//! In `src/registry/server.rs`: `serve_with_shutdown`, `serve_one` and `respond`, with `note_request` in
//! `src/registry/leases.rs`, and `name` in `src/registry/request.rs`. A name may wait for the stage of instances:
//! without one it is none.
//!
//! Works then: an HTTP server that knows its paths and its methods.
//!
//! Chapter: The wire

use super::*;

/// Another path is 404. Another method is 405, and says which methods there are.
///
/// A status alone leaves a user who has mistyped a URL guessing. And a registry that takes any path seems to work
/// until something else shares its port.
///
/// Hint: the path first, then the method. `Allow` is a header.
#[test]
fn other_paths_and_methods_are_refused() {
    run(async || {
        let running = RunningRegistry::start(&RegistryServer::new()).await;
        for (method, path) in
            [("GET", "/elsewhere"), ("POST", "/"), ("GET", "/_rrpc_/registry2"), ("GET", "/_rrpc_")]
        {
            let answer = running.exchange(&request(method, path, &["X-Rrpc-Server: tcp@a:1"])).await;
            assert_eq!(answer.status(), 404, "{method} {path}: {answer:?}");
            assert!(!answer.body.is_empty(), "{method} {path}: what is here?");
        }
        let put = running.exchange(&request("PUT", REGISTRY_PATH, &["X-Rrpc-Server: tcp@a:1"])).await;
        assert_eq!(put.status(), 405, "{put:?}");
        let allowed: BTreeSet<_> =
            put.header("allow").unwrap_or_default().split(',').map(str::trim).collect();
        assert!(allowed.is_superset(&BTreeSet::from(["GET", "POST", "DELETE"])), "{put:?}");
    });
}
