//! Hardening, a silent server: the client asks whether it is still there, and gives it up if it does not answer.
//!
//! Write `Silence::limit` in `src/client/connection.rs`. Ping and pong are messages in `src/wire/message.rs`, answered
//! by `receive` in `src/server/connection.rs` and `take_replies` in `src/client/connection.rs`.
//!
//! Chapter: Limits

use day4_timeout::{Client, Error, Options, Server};
use serde_json::json;
use tokio::io::{AsyncReadExt, DuplexStream};
use tokio::time::{Instant, sleep, timeout};

use crate::support::client::{
    begin, begin_big, begin_many, check_it_works, connected, disconnected, json_only, narrow_pair, next_call,
    not_sent, pair, pair_with,
};
use crate::support::peer::{Peer, RawMessage, call, reply};
use crate::support::timeouts::{SECOND, call_header, cancel, peer_of, ping, pong, probe, settle, takes};
use crate::support::{run_paused, within};

/// A client and its server in memory; the calls have all the time that they want.
async fn patient_pair() -> (Client, Peer<DuplexStream>) {
    pair_with(&json_only().call_timeout(1000 * SECOND), json!({})).await
}

/// Waits for the ping that a server's silence of 5 s has for an answer.
#[track_caller]
fn expect_ping(peer: &mut Peer<DuplexStream>) -> impl Future<Output = RawMessage> {
    let read = async {
        let message = peer.read_message().await;
        assert_eq!(message.kind(), "ping", "{}", message.header);
        message
    };
    takes(5 * SECOND, "a ping", read)
}

/// A server that says nothing for 5 s while a call waits is sent a ping; after 5 s more the connection is given
/// up: its calls fail, and it takes no new ones.
///
/// A network that is cut says nothing at all. In an earlier version one server of three, cut off without a FIN,
/// lost 809 of 809 calls in 808 s, as small requests fit into the kernel's buffer and no write ever failed.
///
/// Hint: `Silence` waits with the read, and knows two limits.
#[test]
fn a_silent_server_is_asked_and_then_given_up() {
    run_paused(async || {
        let (client, mut peer) = patient_pair().await;
        let (calls, _) = begin_many(&client, &mut peer, 3).await;
        expect_ping(&mut peer).await;
        assert!(client.is_available(), "it has 5 s to answer");
        let reason = takes(5 * SECOND, "the end of the connection", client.closed()).await;
        assert!(matches!(*reason, Error::Timeout { after, .. } if after == 5 * SECOND), "{reason:?}");
        assert!(!client.is_available());
        for call in calls {
            disconnected(within("the end of a call", call).await);
        }
        not_sent(within("the end of a new call", client.call::<_, u32>("Test.late", &1)).await);
    });
}

/// The limits are the client's own.
///
/// Five seconds are long in a data centre, and short on a satellite.
///
/// Hint: `Options::ping_interval` and `ping_timeout`.
#[test]
fn both_limits_of_silence_can_be_set() {
    run_paused(async || {
        let options = json_only().ping_interval(2 * SECOND).ping_timeout(SECOND);
        let (client, mut peer) = pair_with(&options, json!({})).await;
        let pending = begin(&client, 1).await;
        next_call(&mut peer).await;
        let ping = takes(2 * SECOND, "a ping", peer.read_message()).await;
        assert_eq!(ping.kind(), "ping");
        disconnected(takes(SECOND, "the end of the call", pending).await);
        let reason = within("the end of the connection", client.closed()).await;
        assert!(matches!(*reason, Error::Timeout { after: SECOND, .. }), "{reason:?}");
    });
}

/// A pong is a sign of life, and so is anything else that the server says: a reply, or a part of one.
///
/// A handler may take minutes, and a large reply on a slow line too. Neither is silence.
///
/// Hint: whatever is read begins the wait anew.
#[test]
fn whatever_the_server_says_is_a_sign_of_life() {
    run_paused(async || {
        let (client, mut peer) = patient_pair().await;
        let (mut calls, seen) = begin_many(&client, &mut peer, 4).await;
        let mut large = reply(seen[0].seq(), json!(7));
        let rest = large.split_off(20);
        let signs = [pong(), reply(seen[1].seq(), json!(1)), ping(), large, rest, pong()];
        for (number, sign) in signs.iter().enumerate() {
            expect_ping(&mut peer).await;
            sleep(4 * SECOND).await;
            assert!(client.is_available(), "given up before sign {number}");
            peer.send(sign).await;
            settle().await;
            if number == 2 {
                assert_eq!(peer.read_message().await.kind(), "pong", "it answers a ping");
            }
        }
        assert_eq!(within("the reply that came in two parts", calls.remove(0)).await.unwrap(), 7);
        peer.send(&reply(seen[2].seq(), json!(2))).await;
        assert_eq!(within("a reply", calls.remove(1)).await.unwrap(), 2);
    });
}

/// No ping is sent while no call waits, nor while the server talks; and such a connection is not given up.
///
/// Thousands of idle connections would keep both sides busy with pings, and radios awake.
///
/// Hint: look at the table when the time is over.
#[test]
fn no_ping_is_sent_when_nothing_waits_or_the_server_talks() {
    run_paused(async || {
        let (client, mut peer) = patient_pair().await;
        let mut byte = [0];
        let silent = timeout(3600 * SECOND, peer.io.read(&mut byte)).await;
        assert!(silent.is_err(), "in an hour without a call, the client said something: {silent:?}");
        check_it_works(&client, &mut peer).await;

        let (_calls, seen) = begin_many(&client, &mut peer, 20).await;
        for call in &seen[1..] {
            sleep(4 * SECOND).await;
            peer.send(&reply(call.seq(), json!(0))).await;
        }
        peer.send(&reply(seen[0].seq(), json!(0))).await;
        let silent = timeout(3600 * SECOND, peer.io.read(&mut byte)).await;
        assert!(silent.is_err(), "it was pinged between replies, or after the last: {silent:?}");
        check_it_works(&client, &mut peer).await;
    });
}

/// Of the calls on a connection that is given up, those that were written may have run, and those that waited
/// to be written have not.
///
/// Who knows that a call has not run sends it elsewhere at once.
///
/// Hint: the table knows which requests were taken to be written.
#[test]
fn a_call_that_was_not_written_to_a_silent_server_has_not_run() {
    run_paused(async || {
        let options = json_only().write_timeout(1000 * SECOND);
        let (io, other_end) = tokio::io::duplex(64);
        let (client, _peer) = connected(io, other_end, &options, json!({})).await;
        let being_written = begin_big(&client).await;
        settle().await;
        let waiting = begin(&client, 1).await;
        let error = takes(10 * SECOND, "the end of the call", being_written).await.unwrap_err();
        assert!(matches!(error, Error::Disconnected(_)) && error.may_have_run(), "{error:?}");
        let error = within("the end of the call behind it", waiting).await.unwrap_err();
        assert!(matches!(error, Error::NotSent(_)) && !error.may_have_run(), "{error:?}");
    });
}

/// The server answers a ping at once, whether or not calls are in flight, and in order with what is queued
/// already.
///
/// A pong that overtakes replies, or waits for handlers, says nothing about the server.
///
/// Hint: it is queued like a reply.
#[test]
fn the_server_answers_a_ping_in_its_turn() {
    run_paused(async || {
        let (handler, mut probe) = probe();
        let (mut peer, _served) = peer_of(&Server::new(handler), 64 * 1024).await;
        peer.send(&ping()).await;
        assert_eq!(peer.read_message().await.header, json!({"pong": {}}));

        peer.send(&call("Test.hang", 1, json!(null))).await;
        probe.started().await;
        let since = Instant::now();
        let now = |seq| call("Test.echo", seq, json!(seq));
        peer.send(&[now(2), ping(), now(3), now(4), ping(), ping()].concat()).await;
        for expected in [Some(2), None, Some(3), Some(4), None, None] {
            let message = peer.read_message().await;
            match expected {
                Some(seq) => assert_eq!((message.seq(), message.value()), (seq, json!(seq))),
                None => assert_eq!(message.header, json!({"pong": {}})),
            }
        }
        assert!(since.elapsed() < SECOND, "it waited {:?}", since.elapsed());
        peer.send(&cancel(1)).await;
        assert_eq!(probe.stopped().await, 1);
    });
}

/// The client answers a ping with a pong, idle or not; and a server that sends pings and does not read the
/// answers costs it no memory.
///
/// The wire allows pings in both directions. A pong for each ping, kept until it can be written, is a queue
/// without a limit.
///
/// Hint: one pong that waits is enough.
#[test]
fn the_client_answers_a_ping_and_keeps_no_more_than_one() {
    run_paused(async || {
        let (client, mut peer) = pair().await;
        peer.send(&ping()).await;
        assert_eq!(peer.read_message().await.header, json!({"pong": {}}));
        let _call = begin(&client, 1).await;
        next_call(&mut peer).await;
        peer.send(&ping()).await;
        assert_eq!(peer.read_message().await.header, json!({"pong": {}}));

        let (client, mut peer) = narrow_pair().await;
        let _call = begin_big(&client).await;
        settle().await;
        for _ in 0..1000 {
            peer.send(&ping()).await;
        }
        settle().await;
        next_call(&mut peer).await;
        let mut pongs = 0;
        while let Ok(message) = timeout(SECOND, peer.read_message()).await {
            assert_eq!(message.header, json!({"pong": {}}));
            pongs += 1;
        }
        assert!((1..=2).contains(&pongs), "{pongs} pongs for pings that nothing could answer before");
    });
}

/// A handler that takes longer than the silence that the client bears is waited for.
///
/// Silence is asked about, not punished: our own server answers pings beside its handlers.
///
/// Hint: as above, on both sides.
#[test]
fn a_slow_handler_is_not_a_silent_server() {
    run_paused(async || {
        let (handler, _probe) = probe();
        let (io, other_end) = tokio::io::duplex(4096);
        tokio::spawn(async move { Server::new(handler).serve_connection(other_end).await });
        let options = Options::default().ping_interval(SECOND).ping_timeout(SECOND);
        let client = within("the handshake", Client::handshake(io, &options)).await.unwrap();
        let call = client.start::<_, u64>("Test.later", &25_000_u64).await.unwrap();
        takes(25 * SECOND, "the reply", call).await.unwrap();
        assert!(client.is_available());
    });
}

/// A server that says nothing because the client's message is incomplete answers pings all the same, once it is
/// complete.
///
/// The bytes of two messages never mix: a ping in the middle of a body would be a part of the body.
///
/// Hint: nothing to write; whole messages are queued.
#[test]
fn a_ping_behind_a_half_message_waits_for_the_rest() {
    run_paused(async || {
        let (handler, _probe) = probe();
        let (mut peer, _served) = peer_of(&Server::new(handler), 64 * 1024).await;
        peer.send(&call_header("Test.echo", 1)).await;
        settle().await;
        let body = crate::support::peer::frame("7");
        peer.send(&[body, ping()].concat()).await;
        assert_eq!(peer.read_message().await.value(), 7);
        assert_eq!(peer.read_message().await.kind(), "pong");
    });
}
