//! Peers that leave, that say nothing, and that take nothing.
//!
//! In `src/client/in_flight.rs`: `queue`. The server's side is what the connection's loop asks
//! `src/server/liveness.rs`, and the client's the limit of each step of a write.
//!
//! Works then: a peer that leaves, that says nothing or that takes nothing keeps nothing alive.
//!
//! Chapter: Limits; What goes wrong without it

use super::*;

/// The handlers of a client that has gone are stopped, however it went: closed, dropped, gone in the middle of a
/// message, or reset.
///
/// GeeRPC's server waits for handlers whose client does not listen any more.
///
/// Hint: the task of the connection owns its handlers, and it ends when reading ends.
#[test]
fn the_handlers_of_a_client_that_has_gone_are_stopped() {
    run(async || {
        let (handler, mut probe) = probe();
        let server = start(Server::new(handler)).await;

        for closes in [true, false] {
            let client = connect(&server, &Options::default()).await;
            let pending = within("start", client.start::<_, u64>("Test.hang", &())).await.unwrap();
            probe.started().await;
            if closes {
                client.close();
            }
            drop((client, pending));
            probe.stopped().await;
        }

        let next = call("Test.hang", 2, Value::Null);
        for (sent, resets) in [(0, false), (next.len() / 2, false), (0, true)] {
            let mut peer = Peer::connect_json(server.addr).await;
            peer.send(&call("Test.hang", 1, Value::Null)).await;
            probe.started().await;
            peer.send(&next[..sent]).await;
            if resets {
                peer.io.set_zero_linger().unwrap();
            }
            drop(peer);
            probe.stopped().await;
        }
        assert_eq!(probe.handlers.now(), 0);
    });
}

/// A client that takes nothing of its replies is dropped at the limit, and its handlers are stopped, whether it says
/// nothing or goes on calling.
///
/// One peer that does not read holds 65 goroutines in GeeRPC, without an end. And a limit that begins anew whenever
/// anything happens is none.
///
/// Hint: remember since when there is something to write of which the client has taken nothing.
#[test]
fn a_client_that_takes_nothing_is_dropped() {
    run_paused(async || {
        for goes_on in [false, true] {
            let (handler, mut probe) = probe();
            let server = Server::new(handler).write_timeout(3 * SECOND);
            let (Peer { io }, served) = peer_of(&server, 256).await;
            let (_unread, write) = tokio::io::split(io);
            let mut peer = Peer { io: tokio::io::join(tokio::io::empty(), write) };
            peer.send(&call("Test.hang", 1, Value::Null)).await;
            assert_eq!(probe.started().await, 1);
            let since = Instant::now();
            peer.send(&call("Test.big", 2, json!(10_000))).await;
            let _calling = tokio::spawn(async move {
                for seq in 3..20 {
                    sleep(millis(700)).await;
                    if goes_on && peer.io.write_all(&call("Test.now", seq, Value::Null)).await.is_err() {
                        break; // the server has closed the stream
                    }
                }
                std::future::pending::<()>().await; // the stream stays open
            });
            assert_eq!(probe.stopped().await, 1);
            assert_took(since, 3 * SECOND);
            assert_timeout(within("the end of the connection", served).await.unwrap(), 3 * SECOND);
        }
    });
}

/// A client that takes a few bytes now and then is slow, and gets its whole reply.
///
/// A limit for a whole reply would forbid large replies on slow lines.
///
/// Hint: whatever the client takes gives it new time for the rest.
#[test]
fn a_client_that_reads_slowly_is_served() {
    run_paused(async || {
        let (handler, _probe) = probe();
        let (mut peer, _served) = peer_of(&Server::new(handler).write_timeout(2 * SECOND), 16).await;
        peer.send(&call("Test.big", 1, json!(100))).await;
        let since = Instant::now();
        let mut reply = Vec::new();
        while !reply.ends_with(b"xxx\"") {
            sleep(millis(1900)).await;
            let mut some = [0; 16];
            let count = within("some bytes", peer.io.read(&mut some)).await.unwrap();
            assert!(count > 0, "the stream has ended after {:?}", since.elapsed());
            reply.extend_from_slice(&some[..count]);
        }
        assert!(since.elapsed() > 8 * SECOND, "several limits have passed: {:?}", since.elapsed());
    });
}

/// A server that takes nothing of a request for the client's limit loses the connection, and every caller learns of
/// it. One that is slow does not.
///
/// The calls' own limits end them one by one, and each new call would go to the same dead connection.
///
/// Hint: a limit for each step of a write.
#[test]
fn a_server_that_does_not_read_is_given_up() {
    run_paused(async || {
        let (io, other_end) = duplex(64);
        let options = json_only().write_timeout(2 * SECOND).call_timeout(Duration::MAX);
        let (client, mut peer) = connected(io, other_end, &options, json!({})).await;
        let sent = begin_big(&client).await;
        settle().await; // its write has begun
        let unsent = begin(&client, 1).await;
        for _ in 0..2 {
            sleep(millis(1900)).await;
            within("a part of the request", peer.io.read_exact(&mut [0; 64])).await.unwrap();
        }
        settle().await;
        assert!(client.is_available(), "the server is slow, but it reads");
        let since = Instant::now();
        disconnected(within("the end of a call that is partly sent", sent).await);
        not_sent(within("the end of a call that is not sent", unsent).await);
        assert!(since.elapsed() <= 2 * SECOND, "it took {:?}", since.elapsed());
        assert!(!client.is_available());
        assert_timeout(Err::<(), _>(reason_of(&client).await), 2 * SECOND);
    });
}

/// Why the connection of this client has ended.
async fn reason_of(client: &Client) -> Error {
    let reason = within("the end of the connection", client.closed()).await;
    match &*reason {
        Error::Timeout { what, after } => Error::Timeout { what, after: *after },
        other => Error::Disconnected(other.to_string()),
    }
}
