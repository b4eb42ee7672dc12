//! A server has a limit for its connections.
//!
//! Write `Server::max_connections` and change `accept_loop` in `src/server/mod.rs`; `refuse` is in
//! `src/wire/handshake.rs`.
//!
//! Chapter: Limits > connections of a server; Limits > peers that are being refused

use super::*;

/// One connection too many is told so in the answer to its handshake, and when one leaves there is room
/// again.
///
/// A server that accepts everybody runs out of sockets, and then serves nobody.
///
/// Hint: a connection beyond the limit is accepted, answered and closed; it has no handler.
#[test]
fn one_connection_too_many_is_told_so() {
    run(async || {
        assert_eq!(DEFAULT_MAX_CONNECTIONS, 16 * 1024);
        let (handler, _probe) = probe();
        let server = start(Server::new(handler).max_connections(2)).await;
        let connect =
            || async { within("connecting", Client::connect(server.addr, &Options::default())).await };
        let first = connect().await.unwrap();
        let second = connect().await.unwrap();
        match connect().await {
            Err(Error::Handshake(reason)) => assert!(reason.contains('2'), "it names the limit: {reason:?}"),
            other => panic!("expected Error::Handshake, got {other:?}"),
        }
        assert_eq!(within("a reply", second.call::<_, u64>("Test.now", &())).await.unwrap(), 1);
        drop(first);
        let room = async {
            loop {
                if let Ok(third) = connect().await {
                    return third;
                }
            }
        };
        let third = within("room for a third", room).await;
        assert_eq!(within("a reply", third.call::<_, u64>("Test.now", &())).await.unwrap(), 1);
    });
}
