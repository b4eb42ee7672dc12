//! A server has a number of places for connections.
//!
//! In `src/server/accept.rs`: `accept`, `accept_loop` and `log_end`; a first version may leave the shutdown alone. In
//! `src/server/mod.rs`: `serve_with_shutdown`.
//!
//! Works then: a server takes no more connections than it has places for, and the others wait in the system's queue.
//!
//! Chapter: Limits

use super::*;

/// One connection more than `max_connections` is not accepted before another has ended. Then it is served.
///
/// A server that accepts without a limit runs out of file descriptors, and then serves no client. In the queue of the
/// system a connection costs the server nothing.
///
/// Hint: take the permit of a semaphore first, then accept; and let the connection's task own it.
#[test]
fn one_connection_too_many_waits_until_another_has_ended() {
    run_paused(async || {
        let (handler, _probe) = probe();
        let (connector, listener) = Connector::new();
        let _serving = serve_until(Server::new(handler).max_connections(1), listener);
        for end in ["it leaves", "it leaves with a call in flight", "it breaks the rules"] {
            let mut peer = connector.peer().await;
            let accepted = connector.at_server.total();
            let mut next = pin!(connector.client(&Options::default()));
            assert!(waits(next.as_mut()).await);
            sleep(SECOND).await;
            assert!(waits(next.as_mut()).await, "before {end:?}: there is one place");
            assert_eq!(connector.at_server.total(), accepted, "connections that were accepted: {end:?}");

            match end {
                "it leaves" => {}
                "it breaks the rules" => peer.send(&frame("no header")).await,
                _ => peer.send(&call("Test.hang", 1, Value::Null)).await,
            }
            drop(peer);
            let client = within("a place for the next", next).await;
            within("a reply", client.call::<_, u64>("Test.now", &())).await.unwrap();
        }
        assert_eq!(connector.at_server.peak(), 1);
    });
}
