//! Hardening, slow clients: a message that has begun and does not end, and a connection that is idle.
//!
//! No new function. See `src/server/liveness.rs`, and what `run` in `src/server/connection.rs` tells it.
//!
//! Chapter: Limits

use std::time::Duration;

use day6_loadbalance::{Client, Error, Server};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

use crate::support::client::json_only;
use crate::support::peer::{call, client_hello, frame};
use crate::support::timeouts::{
    SECOND, call_header, cancel, expect_goaway_after, peer_of, ping, probe, settle, takes, timed_out,
};
use crate::support::{run_paused, serve_in_memory, within};

/// A client that stops inside a message, wherever that is, is dropped after 10 s and told why; the handlers of
/// its other calls go with it.
///
/// In an earlier version 5,000 such peers were all held, and 250 that stopped one byte before the end of 8 MiB
/// held 2 GB.
///
/// Hint: a message has begun when a byte of it has been read; so has one whose header is there and whose body
/// is not.
#[test]
fn a_client_that_stops_inside_a_message_is_dropped() {
    let whole = call("Test.echo", 2, json!("the body"));
    let header_len = call_header("Test.echo", 2).len();
    let cuts = [1, 4, 20, header_len, header_len + 2, header_len + 4, whole.len() - 1];
    run_paused(async move || {
        for cut in cuts {
            println!("the client stops after {cut} bytes");
            let (handler, mut probe) = probe();
            let (mut peer, served) = peer_of(&Server::new(handler), 1024).await;
            peer.send(&call("Test.hang", 1, json!(null))).await;
            assert_eq!(probe.started().await, 1);
            peer.send(&whole[..cut]).await;
            expect_goaway_after(10 * SECOND, &mut peer).await;
            assert_eq!(probe.stopped().await, 1, "after {cut} bytes");
            drop(peer);
            let result = within("the end of the connection", served).await.unwrap();
            assert_eq!(timed_out(result), 10 * SECOND, "after {cut} bytes");
        }
    });
}

/// A client that sends a byte of its message now and then has 60 s for all of it.
///
/// "Slow loris": a limit for each read is never reached, and a few bytes a minute hold a connection.
///
/// Hint: two limits, one since the last byte and one since the first.
#[test]
fn a_message_that_drips_has_one_limit_for_all_of_it() {
    run_paused(async || {
        let (handler, _probe) = probe();
        let (mut peer, served) = peer_of(&Server::new(handler), 1024).await;
        let message = call("Test.echo", 1, json!("the body"));
        let since = Instant::now();
        for byte in &message[..6] {
            peer.send(&[*byte]).await;
            sleep(9 * SECOND).await;
        }
        peer.send(&message[6..7]).await;
        expect_goaway_after(6 * SECOND, &mut peer).await;
        assert!(since.elapsed() < 61 * SECOND);
        drop(peer);
        let result = within("the end of the connection", served).await.unwrap();
        assert_eq!(timed_out(result), 60 * SECOND);
    });
}

/// A client that is slow and steady is served, message after message, also if each begins in the bytes in which
/// the last one ends.
///
/// A limit must know a slow line from a hostile peer. The time of a message is its own: ten of them take ten
/// times as long.
///
/// Hint: what has been read behind a message is the begin of the next.
#[test]
fn a_slow_but_steady_client_is_served() {
    run_paused(async || {
        let (handler, _probe) = probe();
        let (mut peer, _served) = peer_of(&Server::new(handler), 1024).await;
        let all: Vec<u8> = (1..=10).flat_map(|seq| call("Test.echo", seq, json!(seq))).collect();
        // Five of them are a little more than a message, so that many pieces hold parts of two.
        let piece_len = call("Test.echo", 1, json!(1)).len() / 5 + 1;
        let since = Instant::now();
        for piece in all.chunks(piece_len) {
            peer.send(piece).await;
            sleep(9 * SECOND).await;
        }
        assert!(since.elapsed() > 5 * 60 * SECOND);
        for seq in 1..=10 {
            assert_eq!(peer.read_message().await.value(), json!(seq));
        }
    });
}

/// A client that has no call in flight for five minutes is told to go, and its connection ends.
///
/// Of 500 clients that vanished without a FIN, an earlier version had all 500 after 15 minutes.
///
/// Hint: the same end as at a shutdown.
#[test]
fn an_idle_client_is_told_to_go() {
    run_paused(async || {
        for pings in [false, true] {
            let (handler, _probe) = probe();
            let (mut peer, served) = peer_of(&Server::new(handler), 1024).await;
            sleep(200 * SECOND).await;
            peer.send(&call("Test.echo", 1, json!(1))).await;
            assert_eq!(peer.read_message().await.value(), 1);
            if pings {
                sleep(100 * SECOND).await;
                peer.send(&ping()).await; // says that it is there, and asks for nothing
                assert_eq!(peer.read_message().await.kind(), "pong");
                sleep(100 * SECOND).await;
                peer.send(&cancel(1)).await;
                expect_goaway_after(100 * SECOND, &mut peer).await;
            } else {
                expect_goaway_after(300 * SECOND, &mut peer).await;
            }
            drop(peer);
            within("the end of the connection", served).await.unwrap().unwrap();
        }
    });
}

/// A connection with a call in flight is not idle, and its time begins when the last call has ended.
///
/// A long poll may say nothing for an hour.
///
/// Hint: note when a call begins and when one ends; while any is in flight there is no limit.
#[test]
fn a_busy_connection_is_not_idle() {
    run_paused(async || {
        let (handler, mut probe) = probe();
        let server = Server::new(handler).handle_timeout(Duration::MAX);
        let (mut peer, _served) = peer_of(&server, 1024).await;
        peer.send(&call("Test.gate", 1, json!(null))).await;
        assert_eq!(probe.started().await, 1);
        let silent = timeout(3600 * SECOND, peer.io.read_u8()).await;
        assert!(silent.is_err(), "a call is in flight, and the server said {silent:?}");
        probe.gate.add_permits(1);
        assert_eq!(peer.read_message().await.value(), 1);
        sleep(299 * SECOND).await;
        peer.send(&call("Test.echo", 2, json!(2))).await;
        assert_eq!(peer.read_message().await.value(), 2, "it was idle for less than five minutes");
        expect_goaway_after(300 * SECOND, &mut peer).await;
    });
}

/// A call that crosses the goaway of an idle connection is refused, so that its caller can send it again
/// elsewhere.
///
/// The client may call in the very moment in which the server gives up waiting. An answer is missing otherwise,
/// and its caller cannot know whether it has run.
///
/// Hint: the connection stays for a moment after the goaway, for the client to end it.
#[test]
fn a_call_that_crosses_the_goaway_of_an_idle_connection_is_refused() {
    run_paused(async || {
        let (handler, mut probe) = probe();
        let (mut peer, served) = peer_of(&Server::new(handler), 1024).await;
        let goaway = takes(300 * SECOND, "a goaway", peer.read_message()).await;
        assert_eq!(goaway.kind(), "goaway");
        peer.send(&call("Test.hang", 1, json!(null))).await;
        let refused = peer.read_message().await;
        assert!(refused.seq() == 1 && refused.is_refused(), "{refused:?}");
        assert!(probe.is_quiet(), "and it has not run");
        drop(peer);
        within("the end of the connection", served).await.unwrap().unwrap();
    });
}

/// Our client that is told to go is not available any more, and its next call fails as one that was not sent.
///
/// The pool of a later day dials afresh then, and no call is lost.
///
/// Hint: a goaway closes the in-flight table.
#[test]
fn our_own_idle_client_learns_of_the_end() {
    run_paused(async || {
        let (handler, _probe) = probe();
        let (peer, _served) = serve_in_memory(Server::new(handler));
        let client = within("the handshake", Client::handshake(peer.io, &json_only())).await.unwrap();
        within("a reply", client.call::<_, u32>("Test.echo", &1)).await.unwrap();
        let reason = takes(300 * SECOND, "the end of the connection", client.closed()).await;
        assert!(matches!(*reason, Error::Disconnected(_)), "{reason:?}");
        assert!(!client.is_available());
        let late = within("the end of the call", client.call::<_, u32>("Test.echo", &1)).await;
        assert!(matches!(late, Err(Error::NotSent(_))), "{late:?}");
    });
}

/// The limits are the server's settings.
///
/// A line to the other side of the world needs more time, and a server that is short of memory gives less.
///
/// Hint: `Server::read_timeout`, `message_timeout`, `idle_timeout`.
#[test]
fn the_limits_for_slow_clients_can_be_set() {
    run_paused(async || {
        let (handler, _probe) = probe();
        let server = Server::new(handler)
            .read_timeout(2 * SECOND)
            .message_timeout(5 * SECOND)
            .idle_timeout(7 * SECOND);
        let (mut peer, _served) = peer_of(&server, 1024).await;
        expect_goaway_after(7 * SECOND, &mut peer).await;

        let (mut peer, _served) = peer_of(&server, 1024).await;
        peer.send(&[0]).await;
        expect_goaway_after(2 * SECOND, &mut peer).await;

        let (mut peer, _served) = peer_of(&server, 1024).await;
        for byte in [0, 0, 0] {
            peer.send(&[byte]).await;
            sleep(SECOND * 3 / 2).await;
        }
        peer.send(&[200]).await;
        expect_goaway_after(SECOND / 2, &mut peer).await;
    });
}

/// A handshake that has begun and does not end has its own limit, of 10 s for all of it; the peer is told why.
///
/// Connections that cost nothing to hold are held.
///
/// Hint: one limit around the handshake, not around the reads in it.
#[test]
fn a_handshake_that_drips_has_one_limit_for_all_of_it() {
    run_paused(async || {
        let (handler, _probe) = probe();
        let (mut peer, served) = serve_in_memory(Server::new(handler));
        for byte in &client_hello(&["application/json"])[..5] {
            sleep(SECOND * 19 / 10).await;
            peer.send(&[*byte]).await;
        }
        let answer = takes(SECOND / 2, "an answer", peer.read_json()).await;
        assert!(answer["error"].is_string(), "no error in {answer}");
        peer.expect_end().await;
        drop(peer);
        let result = within("the end of the connection", served).await.unwrap();
        assert_eq!(timed_out(result), 10 * SECOND);
    });
}

/// A client that sends half a message and then ends its stream is gone at once, and its handlers with it.
///
/// An end is no silence: there is nothing to wait for.
///
/// Hint: reading returns 0.
#[test]
fn a_stream_that_ends_inside_a_message_is_not_waited_for() {
    run_paused(async || {
        let (handler, mut probe) = probe();
        let (mut peer, served) = peer_of(&Server::new(handler), 1024).await;
        peer.send(&[call("Test.hang", 1, json!(null)), frame("{}")[..3].to_vec()].concat()).await;
        assert_eq!(probe.started().await, 1);
        peer.io.shutdown().await.unwrap();
        settle().await;
        assert_eq!(probe.stopped().await, 1);
        drop(peer);
        takes(Duration::ZERO, "the end of the connection", served).await.unwrap().unwrap_err();
    });
}
