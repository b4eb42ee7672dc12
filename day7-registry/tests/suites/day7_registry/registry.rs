//! The registry on the wire.
//!
//! Write `Registry` in `src/registry/mod.rs`: `serve`, `respond`, `register`, `list`, and the leases that
//! end by themselves.
//!
//! Chapter: The wire; Files of today > src/registry/mod.rs

use super::*;

/// `POST` answers 200 and says how long the lease is, as a header and in JSON.
///
/// Who renews must know how often; a constant on the server's side is wrong for every other registry.
///
/// Hint: hyper writes header names in lower case, unless it is told `title_case_headers`.
#[test]
fn registering_answers_with_the_lease() {
    run(async || {
        let registry = RunningRegistry::start(&Registry::new()).await;
        let answer = registry.ask(&post("tcp@127.0.0.1:7001")).await;
        assert_eq!(
            answer,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Rrpc-Lease-Ms: 10000\r\n\
             Connection: close\r\nContent-Length: 18\r\n\r\n{\"lease_ms\":10000}"
        );
        assert_eq!(DEFAULT_TTL, Duration::from_secs(10));
    });
}

/// `GET` answers with the list, sorted, in a header and as a JSON array; who registers twice is there once.
///
/// A heartbeat is a registration that is repeated, so repeating must only renew.
///
/// Hint: a map from the endpoint to the end of its lease; a `BTreeMap` is sorted by itself.
#[test]
fn the_list_is_in_a_header_and_in_the_body() {
    run(async || {
        let registry = Registry::new();
        let running = RunningRegistry::start(&registry).await;
        for server in ["unix@/run/a.sock", "tcp@b:7002", "http@b:7001", "tcp@b:7002"] {
            running.ask(&post(server)).await;
        }
        assert_eq!(
            running.ask(&request("GET", REGISTRY_PATH, &[])).await,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Rrpc-Lease-Ms: 10000\r\n\
             X-Rrpc-Servers: http@b:7001,tcp@b:7002,unix@/run/a.sock\r\nConnection: close\r\n\
             Content-Length: 47\r\n\r\n[\"http@b:7001\",\"tcp@b:7002\",\"unix@/run/a.sock\"]"
        );
        assert_eq!(texts(&registry.servers()), ["http@b:7001", "tcp@b:7002", "unix@/run/a.sock"]);
    });
}

/// A server that does not renew its lease is not in the list any more when the lease has ended, and one that
/// does is.
///
/// GeeRPC's tests also pass with a registry that forgets nobody; then every crash leaves a dead server.
///
/// Hint: ask the clock when the list is read. A timer that cleans up may always be late.
#[test]
fn a_server_that_stops_renewing_is_forgotten() {
    run_paused(async || {
        let registry = Registry::new().ttl(LEASE);
        let (_serving, [a, b, again, get]) = in_memory(&registry);
        ask(a, &post("tcp@a:1")).await;
        ask(b, &post("tcp@b:1")).await;
        sleep(Duration::from_secs(8)).await;
        assert_eq!(texts(&registry.servers()), ["tcp@a:1", "tcp@b:1"], "both leases have a second left");
        ask(again, &post("tcp@b:1")).await;
        // To the millisecond: a lease is over when its time is up, not some time after.
        sleep(Duration::from_secs(1)).await;
        assert_eq!(texts(&registry.servers()), ["tcp@b:1"], "only b has renewed its lease");
        let answer = ask(get, &request("GET", REGISTRY_PATH, &[])).await;
        assert!(answer.ends_with("\r\n\r\n[\"tcp@b:1\"]"), "{answer}");
        sleep(Duration::from_secs(8)).await;
        assert_eq!(texts(&registry.servers()), [""; 0], "the renewed lease ends too");
    });
}

/// A full registry refuses a new server and names the limit, goes on renewing those it has, and takes a new
/// one when a lease has ended.
///
/// Anybody may register, so the list must be bounded; but a full list must not kill those in it.
///
/// Hint: first remove what has ended, then look whether the server is there, then count.
#[test]
fn a_full_registry_refuses_new_servers_and_renews_old_ones() {
    run_paused(async || {
        let registry = Registry::new().max_servers(2);
        let (_serving, [a, b, c, again, c2]) = in_memory(&registry);
        ask(a, &post("tcp@a:1")).await;
        ask(b, &post("tcp@b:1")).await;
        let refused = ask(c, &post("tcp@c:1")).await;
        assert!(refused.starts_with("HTTP/1.1 507 "), "{refused}");
        assert!(refused.contains("2 servers are registered"), "{refused}");
        advance(Duration::from_secs(6)).await;
        assert!(ask(again, &post("tcp@a:1")).await.starts_with("HTTP/1.1 200 "), "renewing works");
        advance(Duration::from_secs(6)).await;
        assert!(ask(c2, &post("tcp@c:1")).await.starts_with("HTTP/1.1 200 "), "b has made room");
        assert_eq!(texts(&registry.servers()), ["tcp@a:1", "tcp@c:1"]);
    });
}

/// `DELETE` takes a server off the list at once, and is no error if it is not there.
///
/// GeeRPC has no way to deregister; each deploy then means failing calls until the lease ends.
///
/// Hint: 204 either way: what the sender wants is true in both cases.
#[test]
fn deregistering_takes_effect_at_once() {
    run(async || {
        let registry = Registry::new();
        let running = RunningRegistry::start(&registry).await;
        running.ask(&post("tcp@a:1")).await;
        running.ask(&post("tcp@b:1")).await;
        let delete = request("DELETE", REGISTRY_PATH, &["X-Rrpc-Server: tcp@a:1"]);
        for _ in 0..2 {
            let answer = running.ask(&delete).await;
            assert_eq!(answer, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
            assert_eq!(texts(&registry.servers()), ["tcp@b:1"]);
        }
    });
}

/// A `POST` or `DELETE` names exactly one good endpoint. Everything else is 400, and the text says what was
/// wrong and what is accepted.
///
/// In GeeRPC `a,b` registers two servers, one of which the sender may not own; and `[::]:port`, the address
/// that a server listens on, is handed to clients, who cannot connect to it.
///
/// Hint: a header may be there twice. `HeaderMap::get` shows you only the first.
#[test]
fn a_request_must_name_exactly_one_reachable_server() {
    run(async || {
        let registry = Registry::new();
        let running = RunningRegistry::start(&registry).await;
        let long = format!("X-Rrpc-Server: tcp@{}:1", "a".repeat(195));
        let cases: [(&[&str], &str); 9] = [
            (&[], "missing"),
            (&["X-Rrpc-Server: tcp@a:1,tcp@b:1"], "comma"),
            (&["X-Rrpc-Server: unix@/a,unix@/b"], "comma"),
            (&["X-Rrpc-Server: tcp@a:1", "X-Rrpc-Server: tcp@b:1"], "more than once"),
            (&["X-Rrpc-Server: 127.0.0.1:1"], "the protocol is missing"),
            (&["X-Rrpc-Server: tcp@a:0"], "the port is not a number from 1 to 65535"),
            (&["X-Rrpc-Server: tcp@0.0.0.0:1"], "nobody can connect"),
            (&["X-Rrpc-Server: http@[::]:1"], "nobody can connect"),
            (&[&long], "longer than 200 bytes"),
        ];
        for method in ["POST", "DELETE"] {
            for (headers, reason) in cases {
                let answer = running.ask(&request(method, REGISTRY_PATH, headers)).await;
                assert!(answer.starts_with("HTTP/1.1 400 "), "{method} {headers:?}: {answer}");
                assert!(answer.contains(reason), "{method} {headers:?}: {answer}");
                assert!(answer.contains("expected one endpoint"), "{method} {headers:?}: {answer}");
            }
        }
        assert_eq!(registry.servers(), [], "none of them was registered");

        let longest = format!("tcp@{}:1", "a".repeat(194));
        let answer = running.ask(&post(&longest)).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "200 bytes are not too long: {answer}");
    });
}

/// Another path is 404; another method is 405, and says which methods there are.
///
/// A status alone leaves whoever has mistyped a URL guessing; and a registry that takes any path seems to
/// work until something else shares its port.
///
/// Hint: the path first, then the method. `Allow` is a header.
#[test]
fn other_paths_and_methods_are_refused() {
    run(async || {
        let running = RunningRegistry::start(&Registry::new()).await;
        let elsewhere = running.ask(&request("GET", "/elsewhere", &[])).await;
        assert!(elsewhere.starts_with("HTTP/1.1 404 "), "{elsewhere}");
        assert!(elsewhere.contains(REGISTRY_PATH), "{elsewhere}");
        let put = running.ask(&request("PUT", REGISTRY_PATH, &[])).await;
        assert!(put.starts_with("HTTP/1.1 405 "), "{put}");
        assert!(put.contains("\r\nAllow: GET, POST, DELETE\r\n"), "{put}");
    });
}

/// A list that is too long for a header is in the body only, and all of it.
///
/// HTTP clients and proxies limit headers; a list that grows must not one day break them all.
///
/// Hint: leave the header out; half a list is worse than none. Clients read the body.
#[test]
fn a_long_list_is_in_the_body_only() {
    run(async || {
        let running = RunningRegistry::start(&Registry::new()).await;
        let servers: BTreeSet<_> = (1..=25).map(|n| format!("tcp@{}.example:{n}", "a".repeat(180))).collect();
        for server in &servers {
            running.ask(&post(server)).await;
        }
        assert!(servers.iter().map(String::len).sum::<usize>() > MAX_SERVERS_HEADER_LEN);
        let answer = running.ask(&request("GET", REGISTRY_PATH, &[])).await;
        assert!(!answer.contains("X-Rrpc-Servers"), "{answer}");
        assert!(answer.contains("X-Rrpc-Lease-Ms: 10000\r\n"), "{answer}");
        let list = within("the list", running.client().servers()).await.unwrap();
        assert_eq!(BTreeSet::from_iter(texts(&list.servers)), servers);
    });
}

/// Dropping the future of `serve` leaves nothing behind, no timer either.
///
/// Leak-free by construction; whoever starts a registry in a test or a program can also stop it.
///
/// Hint: connections in a `JoinSet` that the future of `serve` owns; the clean-up is one more branch of it,
/// and no task.
#[test]
fn a_registry_that_is_dropped_leaves_nothing_behind() {
    run(async || {
        let before = alive_tasks();
        let running = RunningRegistry::start(&Registry::new()).await;
        running.ask(&post("tcp@a:1")).await;
        let mut open = tokio::net::TcpStream::connect(running.addr).await.unwrap();
        running.kill().await;
        eventually("all tasks are gone", || alive_tasks() == before).await;
        let mut rest = Vec::new();
        // The end of the stream, or a reset; but it does not stay open.
        within("the end of an idle connection", open.read_to_end(&mut rest)).await.ok();
    });
}
