//! Broadcast: one call to every server.
//!
//! Write `broadcast`, `broadcast_all` and `Broadcast::next` in `src/balance/broadcast.rs`.
//!
//! Chapter: Files of today > src/balance/broadcast.rs; Limits > servers that a broadcast talks to

use super::*;

/// A broadcast calls every server once, all at the same time, and one of the replies is its own.
///
/// It is for what all must know, such as a cache to empty. One after the other it would take as long as all
/// of them together.
///
/// Hint: one task per server.
#[test]
fn a_broadcast_calls_every_server_once() {
    run(async || {
        let sites = [Site::start("a").await, Site::start("b").await, Site::start("c").await];
        let client = round_robin(&sites);
        let broadcast = spawn_broadcast(&client);
        for site in &sites {
            site.a_call_waits().await;
        }
        for site in &sites {
            assert!(!broadcast.is_finished(), "it should wait for all servers");
            site.open_gate(1);
            eventually("the server is done", || site.seen.gate.available_permits() == 0).await;
        }
        let reply = outcome(broadcast).await.unwrap();
        assert!(["a", "b", "c"].contains(&reply.as_str()), "{reply}");
        for site in &sites {
            assert_eq!((site.seen.calls(), site.seen.stopped()), (1, 0));
        }
    });
}

/// A broadcast to nobody is an error, also after the last server has left.
///
/// In GeeRPC it reports success: no server failed, as there was none.
///
/// Hint: look at the list before anybody is called.
#[test]
fn a_broadcast_to_nobody_is_an_error() {
    run(async || {
        let site = Site::start("a").await;
        let (none, left) = (round_robin([]), round_robin([&site]));
        left.discovery().update(Vec::new());
        for client in [none, left] {
            let one = within("a broadcast", client.broadcast::<_, String>("Site.name", ())).await;
            assert!(
                matches!(one, Err(BalanceError::Discovery(DiscoveryError::NoServers))),
                "broadcast to nobody should be NoServers, but: {one:?}"
            );
            let all = within("a broadcast", client.broadcast_all::<_, String>("Site.name", ())).await;
            assert!(
                matches!(all, Err(BalanceError::Discovery(DiscoveryError::NoServers))),
                "broadcast_all to nobody should be NoServers, but: {all:?}"
            );
        }
        assert_eq!(site.seen.accepted(), 0, "a server that has left is not dialed");
    });
}

/// A broadcast uses the connections that are there.
///
/// One connection per server is enough for calls and broadcasts together.
///
/// Hint: the tasks of a broadcast share the pool with all clones of the client.
#[test]
fn a_broadcast_shares_the_connections() {
    run(async || {
        let site = Site::start("a").await;
        let client = round_robin([&site]);
        name(&client).await;
        for client in [client.clone(), client.with_mode(key("k"))] {
            within("a broadcast", client.broadcast::<_, String>("Site.name", ())).await.unwrap();
            within("a broadcast", client.broadcast_all::<_, String>("Site.name", ())).await.unwrap();
        }
        assert_eq!((site.seen.calls(), site.seen.accepted(), client.connections()), (5, 1, 1));
    });
}

/// One server fails, and the broadcast is over at once, with the server's name and its error; the calls on
/// the others are cancelled there, too.
///
/// GeeRPC throws away which server it was, and nobody can do anything about "one of them failed".
///
/// Hint: dropping a call tells its server (day 4).
#[test]
fn a_broadcast_ends_with_the_first_failure_and_cancels_the_rest() {
    run(async || {
        let sites = [Site::start("a").await, Site::start("b").await, Site::start("c").await];
        let client = round_robin(&sites);
        let broadcast = spawn_broadcast(&client);
        for site in &sites {
            site.a_call_waits().await;
        }
        sites[1].seen.broken.store(true, SeqCst);
        sites[1].open_gate(1);
        match outcome(broadcast).await {
            Err(BalanceError::Call { endpoint, source: Error::Remote(text) }) => {
                assert_eq!((endpoint, text.as_str()), (sites[1].endpoint.clone(), "b is broken"));
            }
            other => panic!("the broadcast should have failed, but: {other:?}"),
        }
        eventually("the other handlers are stopped", || {
            sites[0].seen.stopped() == 1 && sites[2].seen.stopped() == 1
        })
        .await;
        assert_eq!(client.connections(), 3, "the connections are as good as before");
    });
}

/// `broadcast_all` returns every endpoint's own result, in the order of the list, whoever answers first; a
/// server that cannot be dialed is one result among the others.
///
/// Sometimes one failure is no reason to stop, and then each server's own answer is wanted.
///
/// Hint: a task returns its position with its result.
#[test]
fn broadcast_all_returns_every_result_in_list_order() {
    run(async || {
        let (a, b, c) = (Site::start("a").await, Site::start("b").await, Site::start("c").await);
        let (_port, down) = refusing();
        let list = [&a.endpoint, &down, &b.endpoint, &c.endpoint];
        let client = directed(list, Options::default());
        let broadcast = spawn_broadcast_all(&client);
        b.seen.broken.store(true, SeqCst);
        // The last of the list is the first to answer.
        for site in [&c, &b, &a] {
            site.a_call_waits().await;
            site.open_gate(1);
            eventually("the server is done", || site.seen.gate.available_permits() == 0).await;
        }
        let results = outcome(broadcast).await;
        assert_eq!(results.iter().map(|(endpoint, _)| endpoint).collect::<Vec<_>>(), list);
        let [(_, first), (_, second), (_, third), (_, fourth)] = &results[..] else {
            panic!("four results, not {results:?}");
        };
        assert_eq!(first.as_ref().unwrap(), "a");
        assert!(
            matches!(second, Err(BalanceError::Dial { endpoint, .. }) if *endpoint == down),
            "{second:?}"
        );
        let is_broken = |source: &Error| matches!(source, Error::Remote(text) if text == "b is broken");
        assert!(
            matches!(third, Err(BalanceError::Call { endpoint, source })
                if *endpoint == b.endpoint && is_broken(source)),
            "{third:?}"
        );
        assert_eq!(fourth.as_ref().unwrap(), "c");
    });
}

/// A broadcast as a whole has the time limit of a call, dialing included, and who was too slow is named.
///
/// One server of ten that hangs must not hold back the replies of nine.
///
/// Hint: one deadline for all of it. Here nobody talks to the first connection, and the second one is there
/// when two thirds of the time are gone.
#[test]
fn a_broadcast_has_the_time_limit_of_a_call() {
    run(async || {
        let (hung, slow) = (Site::hung("hung").await, Site::hung("slow").await);
        let limit = Duration::from_millis(600);
        let list = [&hung.endpoint, &slow.endpoint];
        let client = directed(list, Options::default().call_timeout(limit));
        let begin = Instant::now();
        let broadcast = spawn_broadcast_all(&client);
        within("two thirds of the time pass", sleep_until(begin + limit * 2 / 3)).await;
        slow.open_door();
        let results = tokio::select! {
            biased;
            results = broadcast => results.unwrap(),
            () = well_after(begin + limit * 4 / 3) => {
                panic!("after 800 ms, a broadcast of at most 600 ms goes on");
            }
        };
        for (server, result) in results {
            match result {
                Err(BalanceError::Call { endpoint, source: Error::Timeout { .. } }) if endpoint == server => {
                }
                Err(BalanceError::Dial { endpoint, source })
                    if endpoint == server && matches!(*source, Error::Timeout { .. }) => {}
                other => panic!("{server} should have timed out, but: {other:?}"),
            }
        }
        assert!(begin.elapsed() >= limit, "it gave up after {:?} already", begin.elapsed());
    });
}

/// A broadcast that is given up stops its handlers and its dialing, and a client that is dropped after that
/// leaves nothing behind.
///
/// The tasks of a broadcast hold the client's connections. If one of them goes on, so do those.
///
/// Hint: who owns the tasks? Dropping a `JoinSet` aborts what is in it.
#[test]
fn a_broadcast_that_is_given_up_leaves_nothing_behind() {
    run(async || {
        let (hung, good) = (Site::hung("hung").await, Site::start("good").await);
        let before = alive_tasks();
        let client = directed([&hung.endpoint, &good.endpoint], Options::default());
        let broadcast = spawn_broadcast(&client);
        good.a_call_waits().await;
        hung.is_being_dialed().await;
        broadcast.abort();
        eventually("the handler is stopped", || good.seen.stopped() == 1).await;
        assert_eq!(name(&to(&client, &good.endpoint)).await, "good", "the client works as before");
        drop(client);
        eventually("the client's tasks end, and their peers", || alive_tasks() <= before + 1).await;
        hung.open_door();
        eventually("all connections are closed", || hung.seen.open() + good.seen.open() == 0).await;
        eventually("all tasks end", || alive_tasks() == before).await;
    });
}
