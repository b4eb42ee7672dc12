//! Servers come and go, and their connections with them.
//!
//! Write `Pool::follow_list` and `removed` in `src/balance/pool.rs`.
//!
//! Chapter: Limits > connections of a balanced client

use super::*;

/// When a server leaves the list, its connection is closed, without any further call; a call that is in
/// flight there still gets its reply.
///
/// GeeRPC keeps the clients of removed servers for ever.
///
/// Hint: something must watch the list; and whoever makes a call holds a clone of the connection.
#[test]
fn a_server_that_leaves_is_disconnected_after_its_last_call() {
    run(async || {
        let sites = [Site::start("a").await, Site::start("b").await, Site::start("c").await];
        let [a, b, c] = &sites;
        let client = directed(sites.iter().map(|site| &site.endpoint), Options::default());
        for site in &sites {
            name(&to(&client, &site.endpoint)).await;
        }
        let call = spawn_call(&to(&client, &a.endpoint), "Site.wait");
        a.a_call_waits().await;

        client.discovery().update(vec![c.endpoint.clone()]);
        eventually("the idle connection is closed", || b.seen.open() == 0).await;
        assert_eq!((client.connections(), a.seen.open(), c.seen.open()), (1, 1, 1));
        a.open_gate(1);
        assert_eq!(outcome(call).await.unwrap(), "a");
        eventually("the connection is closed after its call", || a.seen.open() == 0).await;
        assert_eq!((name(&client).await.as_str(), c.seen.accepted()), ("c", 1));
    });
}

/// A server that is not in the list is not dialed, though it was chosen: the call goes to another at once.
///
/// The choice may have been made a moment before the server left. Its connection would belong to nobody: it is
/// closed when a server leaves the list, and this one has left already.
///
/// Hint: the pool looks into the list before it dials, and `removed` is the failure.
#[test]
fn a_server_that_has_left_is_not_dialed() {
    run(async || {
        let (left, good) = (Site::start("left").await, Site::start("good").await);
        let client = directed([&left.endpoint, &good.endpoint], Options::default());
        assert_eq!(name(&to(&client, &left.endpoint)).await, "left");
        client.discovery().update(vec![good.endpoint.clone()]);
        // From here on, nobody would close a new connection to it.
        eventually("the client notices the change", || client.connections() == 0).await;
        let answered = name(&to(&client, &left.endpoint)).await;
        assert_eq!(answered, "good", "a server that is not in the list was called");
        assert_eq!(left.seen.accepted(), 1, "a server that is not in the list was dialed");
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
            let client = directed([&hung.endpoint, &good.endpoint], Options::default());
            let clone = client.clone();
            // Whoever provides the list may live longer than the client.
            let _list = Arc::clone(&client.discovery().0);
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
            hung.open_door();
            eventually("all connections are closed", || hung.seen.open() + good.seen.open() == 0).await;
            eventually("all tasks end", || alive_tasks() == before).await;
            hung.seen.door.forget_permits(usize::MAX);
        }
    });
}
