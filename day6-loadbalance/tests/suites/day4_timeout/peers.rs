//! Clients that leave, that do not speak, that do not read.
//!
//! Write `Server::handshake_timeout` and `write_timeout` in `src/server/mod.rs`, and `write_step` in
//! `src/server/connection.rs`.
//!
//! Chapter: Limits > a handshake; Limits > a write in which the client takes not one byte

use super::*;

/// The handlers of a client that has gone are stopped, however it went: closed, dropped in the middle of a
/// message, or reset.
///
/// GeeRPC waits for handlers that nobody listens to any more.
///
/// Hint: the connection's task owns its handlers, and it ends when reading ends.
#[test]
fn handlers_of_a_client_that_has_gone_are_stopped() {
    run(async || {
        let (handler, mut probe) = probe();
        let server = start(Server::new(handler)).await;

        let client = within("connecting", Client::connect(server.addr, &Options::default())).await.unwrap();
        let call = client.start::<_, ()>("Test.hang", &()).await.unwrap();
        probe.started().await;
        client.close();
        probe.stopped().await;
        drop(call);

        let client = within("connecting", Client::connect(server.addr, &Options::default())).await.unwrap();
        let call = client.start::<_, ()>("Test.hang", &()).await.unwrap();
        probe.started().await;
        drop((client, call));
        probe.stopped().await;

        let mut peer = Peer::connect_json(server.addr).await;
        peer.send(&json_message("Test.hang", 1, json!(null))).await;
        probe.started().await;
        let next = json_message("Test.hang", 2, json!(null));
        peer.send(&next[..next.len() / 2]).await;
        drop(peer);
        probe.stopped().await;

        let mut peer = Peer::connect_json(server.addr).await;
        peer.send(&json_message("Test.hang", 1, json!(null))).await;
        probe.started().await;
        peer.io.set_zero_linger().unwrap(); // closing sends a reset
        drop(peer);
        probe.stopped().await;
    });
}

/// A peer that connects and says nothing is told so at the limit, and dropped.
///
/// Connections that cost nothing to hold are held for ever.
///
/// Hint: one limit around the handshake; then an answer that says `error`.
#[test]
fn a_silent_peer_is_dropped_and_told_why() {
    run_paused(async || {
        let (handler, _probe) = probe();
        let (io, served) = serve_in_memory(&Server::new(handler).handshake_timeout(2 * SECOND), 1024);
        let since = Instant::now();
        let mut peer = Peer { io };
        let answer = peer.read_json().await;
        assert_took(since, 2 * SECOND);
        assert!(answer["error"].as_str().is_some_and(|error| error.contains("timed out")), "{answer}");
        peer.expect_end().await;
        assert_timeout(within("the end of the connection", served).await.unwrap(), 2 * SECOND);
    });
}

/// A client that takes not one byte of its replies is dropped at the write limit, and its handlers go.
///
/// One peer that does not read holds 65 tasks in GeeRPC, for ever.
///
/// Hint: the write is the wait; the limit is on a step of it.
#[test]
fn a_peer_that_never_reads_is_dropped_with_its_handlers() {
    run_paused(async || {
        let (handler, mut probe) = probe();
        let (mut peer, served) = peer_of(&Server::new(handler).write_timeout(3 * SECOND), 256).await;
        peer.send(&json_message("Test.hang", 1, json!(null))).await;
        assert_eq!(probe.started().await, 1);
        peer.send(&json_message("Test.big", 2, json!(100_000))).await;
        let since = Instant::now();
        assert_timeout(within("the end of the connection", served).await.unwrap(), 3 * SECOND);
        assert_took(since, 3 * SECOND);
        assert_eq!(probe.stopped().await, 1);
    });
}

/// A client that takes a few bytes now and then is slow, and served.
///
/// A limit for a whole reply would forbid large replies to slow networks.
///
/// Hint: every byte that is taken gives new time for the next.
#[test]
fn a_slow_reader_is_not_dropped() {
    run_paused(async || {
        let (handler, _probe) = probe();
        let (mut peer, _served) = peer_of(&Server::new(handler).write_timeout(2 * SECOND), 16).await;
        peer.send(&json_message("Test.big", 1, json!(100))).await;
        let mut reply = Vec::new();
        let since = Instant::now();
        while !reply.ends_with(b"xxx\"") {
            sleep(millis(1900)).await;
            let mut few = [0; 16];
            let n = within("a few bytes", peer.io.read(&mut few)).await.unwrap();
            assert!(n > 0, "dropped after {:?}", since.elapsed());
            reply.extend_from_slice(&few[..n]);
        }
        assert!(since.elapsed() > 8 * SECOND, "this took several limits: {:?}", since.elapsed());
    });
}
