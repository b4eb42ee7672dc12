//! The list, and how a server leaves it.
//!
//! In `src/registry/leases.rs`: `list`.
//!
//! Works then: the registry lists the servers whose lease has not ended.
//!
//! Chapter: Leases; The wire; Files of today > src/registry/leases.rs

use super::*;

/// `GET` answers with the list, sorted, in a header and as a JSON array. A server that registers twice is there
/// once.
///
/// A heartbeat is a registration that is repeated, so repeating must only renew.
///
/// Hint: a map from the endpoint to the end of its lease, sorted when it is read.
#[test]
fn the_list_is_in_a_header_and_in_the_body() {
    run(async || {
        let registry = RegistryServer::new();
        let running = RunningRegistry::start(&registry).await;
        let answer = running.exchange(&get()).await;
        assert_eq!((answer.status(), answer.json()), (200, json!([])));

        for server in ["unix@/run/a.sock", "tcp@b:7002", "http@b:7001", "tcp@b:7002"] {
            running.exchange(&post(server)).await;
        }
        let answer = running.exchange(&get()).await;
        let sorted = ["http@b:7001", "tcp@b:7002", "unix@/run/a.sock"];
        assert_eq!((answer.status(), answer.json()), (200, listed(&sorted)));
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("x-rrpc-lease-ms"), Some("10000"));
        assert_eq!(answer.header("x-rrpc-servers"), Some(&*sorted.join(",")));
        let age = answer.header("x-rrpc-age-ms").and_then(|age| age.parse::<u64>().ok());
        assert!(age.is_some_and(|age| age < 20_000), "how old is the registry? {answer:?}");
        assert_eq!(texts(&registry.servers()), sorted);
    });
}

/// A server that does not renew its lease leaves the list when the lease ends, and one that renews stays.
///
/// GeeRPC's tests also pass with a registry that forgets no server. Then every crash leaves a dead server in the
/// list.
///
/// Hint: look at the clock when the list is read. A timer that cleans up may always be late.
#[test]
fn a_server_that_stops_renewing_is_forgotten() {
    run_paused(async || {
        let registry = RegistryServer::new().lease(LEASE);
        let wire = InMemory::serve(&registry);
        wire.exchange(&post("tcp@a:1")).await;
        wire.exchange(&post("tcp@b:1")).await;
        sleep(Duration::from_secs(8)).await;
        assert_eq!(texts(&registry.servers()), ["tcp@a:1", "tcp@b:1"], "both leases have a second left");
        assert_eq!(wire.list().await, listed(&["tcp@a:1", "tcp@b:1"]));
        wire.exchange(&post("tcp@b:1")).await;
        // To the millisecond: a lease is over when its time is up, not some time after.
        sleep(Duration::from_secs(1)).await;
        assert_eq!(texts(&registry.servers()), ["tcp@b:1"], "only b has renewed its lease");
        let answer = wire.exchange(&get()).await;
        assert_eq!(answer.json(), listed(&["tcp@b:1"]));
        assert_eq!(answer.header("x-rrpc-lease-ms"), Some("9000"));
        sleep(Duration::from_secs(8)).await;
        assert_eq!(texts(&registry.servers()), [""; 0], "the renewed lease ends too");
    });
}

/// A full registry refuses a new server, goes on renewing those it has, and takes a new one when a lease has
/// ended.
///
/// Any peer may register, so the list must be bounded. But a full list must not cost those in it their leases.
///
/// Hint: first remove what has ended, then look whether the server is there, then count. The status is 507.
#[test]
fn a_full_registry_refuses_new_servers_and_renews_old_ones() {
    run_paused(async || {
        let registry = RegistryServer::new().max_servers(2);
        let wire = InMemory::serve(&registry);
        wire.exchange(&post("tcp@a:1")).await;
        wire.exchange(&post("tcp@b:1")).await;
        assert_eq!(wire.status(&post("tcp@c:1")).await, 507);
        assert_eq!(texts(&registry.servers()), ["tcp@a:1", "tcp@b:1"]);
        advance(Duration::from_secs(6)).await;
        assert_eq!(wire.status(&post("tcp@a:1")).await, 200, "renewing works");
        advance(Duration::from_secs(6)).await;
        assert_eq!(wire.status(&post("tcp@c:1")).await, 200, "b has made room");
        assert_eq!(texts(&registry.servers()), ["tcp@a:1", "tcp@c:1"]);
    });
}

/// Dropping the future of `serve` leaves nothing behind, no timer either.
///
/// Whatever is started has an owner. A program or a test that starts a registry can also stop it.
///
/// Hint: connections in a `JoinSet` that the future of `serve` owns. The clean-up is one more branch of it, and no
/// task.
#[test]
fn a_registry_that_is_dropped_leaves_nothing_behind() {
    run(async || {
        let before = alive_tasks();
        let running = RunningRegistry::start(&RegistryServer::new()).await;
        running.exchange(&post("tcp@a:1")).await;
        let mut open = tokio::net::TcpStream::connect(running.addr).await.unwrap();
        running.kill().await;
        eventually("all tasks are gone", || alive_tasks() == before).await;
        let mut rest = Vec::new();
        // The end of the stream, or a reset; but it does not stay open.
        within("the end of an idle connection", open.read_to_end(&mut rest)).await.ok();
    });
}
