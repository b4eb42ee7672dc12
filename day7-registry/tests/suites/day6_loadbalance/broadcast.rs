//! Broadcast: one call to every server.
//!
//! In `src/balance/broadcast.rs`: `broadcast` and `call_one`, then `broadcast_all`.
//!
//! Works then: one call goes to every server, and ends with the first failure or with all results.
//!
//! Chapter: Broadcast; Limits > calls of a broadcast that begin together

use super::*;

/// A broadcast calls every server once, all at the same time, and one of the replies is its own.
///
/// It is for what all must know, such as a cache to empty. One after the other it would take as long as all
/// of them together.
///
/// Hint: one future per server, in a `FuturesUnordered`.
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

/// A broadcast with no server to call is an error, also after the last one has left.
///
/// In GeeRPC it reports success: no server failed, as there was none.
///
/// Hint: look at the list before the first call.
#[test]
fn a_broadcast_with_no_server_is_an_error() {
    run(async || {
        let site = Site::start("a").await;
        let list = list_of([&site.endpoint]);
        let left = client_of(&list, Options::default());
        list.update([]);
        for client in [round_robin([]), left] {
            let one = within("a broadcast", client.broadcast::<_, String>("Site.name", &())).await;
            assert!(
                matches!(one, Err(BalanceError::Discovery(DiscoveryError::NoServers))),
                "broadcast with no server should be NoServers, but: {one:?}"
            );
            let all = within("a broadcast", client.broadcast_all::<_, String>("Site.name", &())).await;
            assert!(
                matches!(all, Err(BalanceError::Discovery(DiscoveryError::NoServers))),
                "broadcast_all with no server should be NoServers, but: {all:?}"
            );
        }
        assert_eq!(site.seen.accepted(), 0, "a server that has left is not dialed");
    });
}

/// One server fails, and the broadcast is over at once, with the server's name and its error; the calls on
/// the others are cancelled there, too.
///
/// GeeRPC throws away which server it was, and "one of them failed" helps no operator.
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
            Err(BalanceError::Call { endpoint, source: Error::Remote(error) }) => {
                assert_eq!((&endpoint, error.code()), (&sites[1].endpoint, &Code::DATA_LOSS));
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

/// `broadcast_all` returns every endpoint's own result, in the order of the list, in whatever order they answer; a
/// server that cannot be dialed is one result among the others.
///
/// Sometimes one failure is no reason to stop, and then each server's own answer is wanted.
///
/// Hint: each future returns its position with its result.
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
        let is_broken =
            |source: &Error| matches!(source, Error::Remote(error) if *error.code() == Code::DATA_LOSS);
        assert!(
            matches!(third, Err(BalanceError::Call { endpoint, source })
                if *endpoint == b.endpoint && is_broken(source)),
            "{third:?}"
        );
        assert_eq!(fourth.as_ref().unwrap(), "c");
    });
}
