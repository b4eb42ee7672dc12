//! The proof: after thousands of calls that were given up, nothing is left.
//!
//! Nothing to write: run it. Every entry, handler, task and stream has an owner that ends it.
//!
//! Works then: all of day 4's core: after thousands of calls that were given up, everything is as it was.
//!
//! Chapter: What goes wrong without it

use super::*;

/// After 2000 calls that timed out, 2000 that were dropped, 2000 whose handlers were stopped, and 2000 whose
/// connections were lost, there are as many tasks, handlers, entries and streams as before.
///
/// Each of the pitfalls of the day leaks one of these for each call. One is not noticed; thousands are an outage.
///
/// Hint: if this fails and all before it pass, look at what is spawned, and who owns it.
#[test]
fn after_thousands_of_calls_that_were_given_up_nothing_is_left() {
    run_paused(async || {
        let (handler, probe) = probe();
        let (connector, listener) = Connector::new();
        let _serving = serve_until(Server::new(handler).handle_timeout(2 * SECOND), listener);
        let client = connector.client(&Options::default()).await;
        within("a reply", client.call::<_, u64>("Test.now", &())).await.unwrap();
        let count = || (alive_tasks(), connector.at_server.now(), connector.at_clients.now());
        let before = count();

        for round in 0..4 {
            for call in start_many(&client.with_timeout(SECOND), &probe, 500).await {
                assert_timeout(within("the end of a call", call).await, SECOND);
            }
            assert_eq!(client.in_flight(), 0, "round {round}");
            drop(start_many(&client, &probe, 500).await);
            assert_eq!(client.in_flight(), 0, "round {round}");
            for call in start_many(&client, &probe, 500).await {
                let ended = within("the end of a call whose handler is stopped", call).await;
                assert!(matches!(ended, Err(Error::Remote(_))), "{ended:?}");
            }
        }
        for round in 0..100 {
            let other = connector.client(&Options::default()).await;
            let calls = start_many(&other, &probe, 20).await;
            if round % 2 == 0 {
                other.close();
            }
            drop((other, calls));
        }

        eventually("the end of all handlers", || probe.handlers.now() == 0).await;
        eventually("tasks and streams are as many as before", || count() == before).await;
        assert_eq!(probe.handlers.total(), 8000, "each call had a handler");
        within("a reply", client.call::<_, u64>("Test.now", &())).await.unwrap();
    });
}

/// Starts so many calls that are never answered, and waits until each of them has a handler.
async fn start_many(client: &Client, probe: &Probe, count: usize) -> Vec<PendingCall<u64>> {
    let before = probe.handlers.total();
    let mut calls = Vec::new();
    for _ in 0..count {
        calls.push(within("start", client.start("Test.hang", &())).await.unwrap());
    }
    eventually("all handlers have started", || probe.handlers.total() == before + count).await;
    calls
}
