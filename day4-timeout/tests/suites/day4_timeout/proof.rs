//! The proof: after thousands of calls that were given up, nothing is left.
//!
//! No new function. Every entry, handler and task has an owner that ends it.
//!
//! Chapter: What goes wrong without it; Reading order

use super::*;

/// After 2000 calls that timed out, 2000 that were dropped, and 2000 that lost their connection, there are as
/// many tasks, handlers, entries and streams as before.
///
/// Each of the pitfalls above leaks one of these per call. One is not seen; thousands are.
///
/// Hint: if this fails and all before it pass, look at what is spawned, and who owns it.
#[test]
fn after_thousands_of_calls_that_were_given_up_nothing_is_left() {
    run_paused(async || {
        let (handler, probe) = probe();
        let (street, door) = Street::new();
        let _server = tokio::spawn(async move { Server::new(handler).serve(door).await });
        let client = street.client(&Options::default().call_timeout(SECOND)).await;
        within("a reply", client.call::<_, u64>("Test.now", &())).await.unwrap();
        let started = |count| move |probe: &Probe| probe.handlers.total.load(SeqCst) == count;
        let before = (alive_tasks(), street.at_server.now(), street.at_clients.now());

        for round in 1..=4 {
            let calls = start_all(&client, 500).await;
            for call in calls {
                assert_timeout(within("the end of a call", call).await, SECOND);
            }
            assert!(started(round * 500)(&probe), "each of them had a handler");
        }
        for round in 5..=8 {
            let calls = start_all(&client, 500).await;
            eventually("all handlers have started", || started(round * 500)(&probe)).await;
            drop(calls);
        }
        for round in 1..=100 {
            let other = street.client(&Options::default()).await;
            let calls = start_all(&other, 20).await;
            eventually("all handlers have started", || started(4000 + round * 20)(&probe)).await;
            if round % 2 == 0 {
                other.close();
            }
            drop((other, calls));
        }

        assert_eq!(client.in_flight(), 0);
        eventually("all handlers have stopped", || probe.handlers.now() == 0).await;
        eventually("tasks and streams are what they were", || {
            (alive_tasks(), street.at_server.now(), street.at_clients.now()) == before
        })
        .await;
        assert_eq!(probe.handlers.total.load(SeqCst), 6000);
        within("a reply", client.call::<_, u64>("Test.now", &())).await.unwrap();
    });
}
