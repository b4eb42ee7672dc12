//! Servers come and go, and their connections with them.
//!
//! In `src/balance/discovery.rs`: `refreshed`; in `src/balance/failover.rs`: `renewed`; in `src/balance/select.rs`: `renew`.
//!
//! Works then: servers come and go while calls are made, and their connections with them.
//!
//! Chapter: Servers come and go

use super::*;

/// When a server leaves the list, its connection is closed, without any further call; a call that is in
/// flight there still gets its reply.
///
/// GeeRPC keeps the clients of removed servers as long as the process lives.
///
/// Hint: a task watches the list; and a call holds a clone of the connection.
#[test]
fn a_server_that_leaves_is_disconnected_after_its_last_call() {
    run(async || {
        let sites = [Site::start("a").await, Site::start("b").await, Site::start("c").await];
        let [a, b, c] = &sites;
        let list = list_of(sites.iter().map(|site| &site.endpoint));
        let client = client_of(&list, Options::default());
        for site in &sites {
            name(&to(&client, &site.endpoint)).await;
        }
        let call = spawn_call(&to(&client, &a.endpoint), "Site.wait");
        a.a_call_waits().await;

        list.update([c.endpoint.clone().into()]);
        eventually("the idle connection is closed", || b.seen.open() == 0).await;
        assert_eq!((client.connections(), a.seen.open(), c.seen.open()), (1, 1, 1));
        a.open_gate(1);
        assert_eq!(outcome(call).await.unwrap(), "a");
        eventually("the connection is closed after its call", || a.seen.open() == 0).await;
        assert_eq!((name(&client).await.as_str(), c.seen.accepted()), ("c", 1));
    });
}

/// With its last clone, a client takes its connections, its attempts and its tasks along.
///
/// Whatever is started has an owner, and ends with it; else a program that makes a client for each job runs
/// out of sockets.
///
/// Hint: who owns the task that dials, and the one that follows the list?
#[test]
fn a_dropped_client_leaves_nothing_behind() {
    run(async || {
        let (hung, good) = (Site::hung("hung").await, Site::start("good").await);
        let before = alive_tasks();
        for _ in 0..5 {
            // The list may live longer than the client.
            let list = list_of([&hung.endpoint, &good.endpoint]);
            let client = client_of(&list, Options::default());
            let clone = client.clone();
            name(&to(&client, &good.endpoint)).await;
            let stuck = spawn_call(&to(&client, &hung.endpoint), "Site.name");
            let waiting = spawn_call(&to(&clone, &good.endpoint), "Site.wait");
            good.a_call_waits().await;
            eventually("the hung server is dialed", || hung.seen.open() == 1).await;
            drop(client);
            stuck.abort();
            assert_eq!(name(&to(&clone, &good.endpoint)).await, "good", "a clone is left, and works");
            waiting.abort();
            drop(clone);
            eventually("the client's tasks end, and their peers", || alive_tasks() <= before + 1).await;
            hung.answer_handshakes();
            eventually("all connections are closed", || hung.seen.open() + good.seen.open() == 0).await;
            eventually("all tasks end", || alive_tasks() == before).await;
            hung.seen.handshakes.forget_permits(usize::MAX);
        }
    });
}

/// With no server a call is an error, also after the last one has left.
///
/// A client that waits for a server instead may wait without end, and its caller does not know what for.
///
/// Hint: the discovery has said it already; its error is passed on.
#[test]
fn a_call_with_no_server_is_an_error() {
    run(async || {
        let site = Site::start("a").await;
        let list = list_of([&site.endpoint]);
        let left = client_of(&list, Options::default());
        assert_eq!(name(&left).await, "a");
        list.update([]);
        for client in [round_robin([]), left] {
            let call = try_call(&client).await;
            assert!(
                matches!(call, Err(BalanceError::Discovery(DiscoveryError::NoServers))),
                "a call with no server should be NoServers, but: {call:?}"
            );
        }
        assert_eq!(site.seen.calls(), 1);
    });
}
