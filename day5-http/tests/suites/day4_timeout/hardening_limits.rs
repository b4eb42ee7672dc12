//! Hardening, limits: the defaults are in force, and the largest and smallest numbers do no harm.
//!
//! The defaults are in `src/deadline.rs`, `src/server/settings.rs` and `src/client/options.rs`; `later` in
//! `src/deadline.rs` adds what others have sent. The limits of the stages before this one are tested there.
//!
//! Chapter: Limits

use std::time::Duration;

use day5_http::{
    BUDGET_TIMEOUT, Client, DEFAULT_CALL_TIMEOUT, DEFAULT_CONNECT_TIMEOUT, DEFAULT_GRACE_PERIOD,
    DEFAULT_HANDLE_TIMEOUT, DEFAULT_HANDSHAKE_TIMEOUT, DEFAULT_IDLE_TIMEOUT, DEFAULT_MAX_REQUEST_BYTES,
    DEFAULT_MESSAGE_TIMEOUT, DEFAULT_PING_INTERVAL, DEFAULT_PING_TIMEOUT, DEFAULT_READ_TIMEOUT,
    DEFAULT_WRITE_TIMEOUT, Error, LARGE_BODY_LEN, Options, Server,
};
use serde_json::json;
use tokio::io::duplex;
use tokio::time::sleep;

use crate::support::client::{begin, begin_big, check_it_works, connected, json_only, next_call, pair_with};
use crate::support::peer::call;
use crate::support::timeouts::{
    Connector, SECOND, call_header, millis, peer_of, probe, serve_until, settle, takes, timed_out,
};
use crate::support::{run_paused, serve_in_memory, within};

/// The defaults are what the chapter says.
///
/// They are part of the contract: others set their own limits by them.
///
/// Hint: `src/deadline.rs`.
#[test]
fn the_defaults_are_as_documented() {
    assert_eq!(DEFAULT_CONNECT_TIMEOUT, 10 * SECOND);
    assert_eq!(DEFAULT_CALL_TIMEOUT, 30 * SECOND);
    assert_eq!(DEFAULT_PING_INTERVAL, 5 * SECOND);
    assert_eq!(DEFAULT_PING_TIMEOUT, 5 * SECOND);
    assert_eq!(DEFAULT_WRITE_TIMEOUT, 10 * SECOND);
    assert_eq!(DEFAULT_HANDSHAKE_TIMEOUT, 10 * SECOND);
    assert_eq!(DEFAULT_HANDLE_TIMEOUT, 60 * SECOND);
    assert_eq!(DEFAULT_READ_TIMEOUT, 10 * SECOND);
    assert_eq!(DEFAULT_MESSAGE_TIMEOUT, 60 * SECOND);
    assert_eq!(DEFAULT_IDLE_TIMEOUT, 300 * SECOND);
    assert_eq!(DEFAULT_GRACE_PERIOD, 10 * SECOND);
    assert_eq!(BUDGET_TIMEOUT, 2 * SECOND);
    assert_eq!(DEFAULT_MAX_REQUEST_BYTES, 256 * 1024 * 1024);
    assert_eq!(LARGE_BODY_LEN, 64 * 1024);
}

/// A client that asks for nothing has 10 s to connect, 30 s for a call, and 10 s for each step of a write.
///
/// A default that is not in force is no limit. All of `Duration::MAX` passed the tests of an earlier version.
///
/// Hint: `Options::default`.
#[test]
fn the_limits_of_a_client_are_in_force_by_default() {
    run_paused(async || {
        let (io, _silent) = duplex(1024);
        let connecting = tokio::spawn(async move { Client::handshake(io, &Options::default()).await });
        assert_eq!(timed_out(takes(10 * SECOND, "the end of it", connecting).await.unwrap()), 10 * SECOND);

        let (client, mut peer) = pair_with(&json_only().ping_interval(Duration::MAX), json!({})).await;
        let pending = begin(&client, 1).await;
        next_call(&mut peer).await;
        assert_eq!(timed_out(takes(30 * SECOND, "the end of the call", pending).await), 30 * SECOND);

        let patient = json_only().ping_interval(Duration::MAX).call_timeout(Duration::MAX);
        let (io, other_end) = duplex(64);
        let (client, _reads_nothing) = connected(io, other_end, &patient, json!({})).await;
        let _large = begin_big(&client).await;
        let reason = takes(10 * SECOND, "the end of the connection", client.closed()).await;
        assert!(matches!(*reason, Error::Timeout { after, .. } if after == 10 * SECOND), "{reason:?}");
    });
}

/// A handler has 60 s by default, a step of a write 10 s, and the calls in flight at a shutdown 10 s.
///
/// Most servers never set a limit of their own, so these are the ones that hold.
///
/// Hint: `Settings::default`.
#[test]
fn the_limits_of_a_server_are_in_force_by_default() {
    run_paused(async || {
        let (handler, mut probe) = probe();
        let (mut peer, _served) = peer_of(&Server::new(handler), 1024).await;
        peer.send(&call("Test.hang", 1, json!(null))).await;
        assert_eq!(probe.started().await, 1);
        let reply = takes(60 * SECOND, "the end of the handler", peer.read_message()).await;
        assert_eq!(reply.code(), "deadline_exceeded");
        assert_eq!(probe.stopped().await, 1);
        let hang_and_big = [call("Test.hang", 2, json!(null)), call("Test.big", 3, json!(100_000))].concat();
        peer.send(&hang_and_big).await;
        takes(10 * SECOND, "the end of a client that does not read", probe.stopped()).await;

        let (handler, mut probe) = self::probe();
        let (connector, listener) = Connector::new();
        let (stop, serving) = serve_until(Server::new(handler), listener);
        let mut peer = connector.open(1024);
        peer.handshake_json().await;
        peer.send(&call("Test.hang", 1, json!(null))).await;
        assert_eq!(probe.started().await, 1);
        stop.send(()).unwrap();
        assert_eq!(timed_out(takes(10 * SECOND, "the end", serving).await.unwrap()), 10 * SECOND);
    });
}

/// There is room for 256 MiB of large bodies by default: 32 of 8 MiB, and not for another.
///
/// The longest body and the number of calls are limits for one connection; the memory of a process is one for all.
///
/// Hint: as above. The room is taken when a body is announced, so that nothing of it need be sent here.
#[test]
fn the_budget_is_in_force_by_default() {
    run_paused(async || {
        let (handler, mut probe) = probe();
        let server = Server::new(handler);
        let announced = [call_header("Test.echo", 1), (8_u32 << 20).to_be_bytes().to_vec()].concat();
        let mut peers = Vec::new();
        for _ in 0..31 {
            let (mut peer, _served) = peer_of(&server, 1024).await;
            peer.send(&announced).await;
            peers.push(peer);
        }
        settle().await;
        let body = json!("x".repeat((8 << 20) - 2));
        let (mut peer, _served) = peer_of(&server, 64 * 1024).await;
        peer.send(&call("Test.hang", 2, body.clone())).await;
        assert_eq!(probe.started().await, 2);

        let (mut peer, _served) = peer_of(&server, 1024).await;
        peer.send(&announced).await;
        let refused = takes(BUDGET_TIMEOUT, "a refusal", peer.read_message()).await;
        assert!(refused.is_refused(), "{refused:?}");
    });
}

/// The longest time and the largest number in every setting are a limit that is never reached, and no panic.
///
/// `Instant::now() + Duration::MAX` panics, and a semaphore has fewer places than `usize::MAX`.
///
/// Hint: `Instant::checked_add`, and "too far to tell" is "never".
#[test]
fn the_largest_settings_do_no_harm() {
    run_paused(async || {
        for longest in [Duration::MAX, millis(u64::MAX), Duration::from_secs(u64::MAX / 2)] {
            let (handler, _probe) = probe();
            let server = Server::new(handler)
                .handshake_timeout(longest)
                .handle_timeout(longest)
                .read_timeout(longest)
                .message_timeout(longest)
                .write_timeout(longest)
                .idle_timeout(longest)
                .grace_period(longest)
                .max_body_len(usize::MAX)
                .max_in_flight(usize::MAX)
                .max_connections(usize::MAX)
                .max_request_bytes(usize::MAX);
            let options = json_only()
                .connect_timeout(longest)
                .call_timeout(longest)
                .handle_timeout(longest)
                .write_timeout(longest)
                .ping_interval(longest)
                .ping_timeout(longest)
                .max_body_len(usize::MAX)
                .max_in_flight(usize::MAX);
            let (connector, listener) = Connector::new();
            let (stop, serving) = serve_until(server, listener);
            let io = connector.open(64 * 1024).io;
            let client = within("the handshake", Client::handshake(io, &options)).await.unwrap();
            sleep(1000 * SECOND).await;
            within("a reply", client.call::<_, u64>("Test.later", &10_u64)).await.unwrap();
            let patient = client.with_timeout(longest);
            within("a large reply", patient.call::<_, String>("Test.big", &1_000_000_u64)).await.unwrap();
            let large = "x".repeat(1_000_000);
            let back = within("a large call", patient.call::<_, String>("Test.echo", &large)).await.unwrap();
            assert!(back == large);
            stop.send(()).unwrap();
            within("the end of the server", serving).await.unwrap().unwrap();
        }
    });
}

/// The smallest settings are limits as well: they end what they limit, and keep no core busy.
///
/// 0 is what a subtraction leaves, or a configuration file. It must not mean "never", nor "again and again".
///
/// Hint: a timer that is over at once, and is set again at once, is a loop.
#[test]
fn the_smallest_settings_do_no_harm() {
    run_paused(async || {
        let (handler, _probe) = probe();
        let (peer, _served) = serve_in_memory(Server::new(handler));
        let options = json_only().ping_interval(Duration::ZERO);
        let client = within("the handshake", Client::handshake(peer.io, &options)).await.unwrap();
        sleep(10 * SECOND).await; // on a paused clock this ends only if nothing else goes on
        within("a reply", client.call::<_, u64>("Test.later", &100_u64)).await.unwrap();
        let hasty = client.with_timeout(Duration::ZERO);
        let late = hasty.call::<_, u64>("Test.later", &100_u64);
        assert_eq!(timed_out(within("the end of the call", late).await), Duration::ZERO);

        let (handler, _probe) = self::probe();
        let server = Server::new(handler)
            .handle_timeout(Duration::ZERO)
            .read_timeout(Duration::ZERO)
            .message_timeout(Duration::ZERO)
            .grace_period(Duration::ZERO)
            .max_request_bytes(0);
        let (connector, listener) = Connector::new();
        let (stop, serving) = serve_until(server, listener);
        let mut peer = connector.open(64 * 1024);
        peer.handshake_json().await;
        peer.send(&call("Test.echo", 1, json!("ready at once"))).await;
        assert_eq!(peer.read_message().await.value(), "ready at once");
        peer.send(&call("Test.hang", 2, json!(null))).await;
        assert_eq!(peer.read_message().await.code(), "deadline_exceeded");
        sleep(10 * SECOND).await;
        stop.send(()).unwrap();
        within("the end of the server", serving).await.unwrap().unwrap();

        let (handler, _probe) = self::probe();
        let server = Server::new(handler).max_connections(0).max_in_flight(0).max_body_len(0);
        let (_connector, listener) = Connector::new();
        let (stop, serving) = serve_until(server.clone(), listener);
        settle().await;
        stop.send(()).unwrap();
        within("the end of the server", serving).await.unwrap().unwrap();
        let (mut peer, _served) = peer_of(&server, 1024).await;
        peer.send(&[call_header("Test.echo", 1), vec![0; 4]].concat()).await;
        assert!(peer.read_message().await.is_refused());
    });
}

/// The largest and the smallest numbers in a peer's hello do no harm.
///
/// They come from a stranger. 0 ms is a limit like any other: a handler that is ready at once is in time, and
/// one that waits is not. 0 calls in flight would be a client that never calls.
///
/// Hint: check before you add, and clamp what becomes the size of something.
#[test]
fn numbers_of_a_peer_do_no_harm() {
    run_paused(async || {
        for (after, max) in [(0, 0), (1, 1), (u64::MAX - 1, u64::MAX - 1), (u64::MAX, u64::MAX)] {
            println!("handlers may take {after} ms, and replies may have {max} bytes");
            let (handler, _probe) = probe();
            let server = Server::new(handler).handle_timeout(Duration::MAX);
            let (mut peer, _served) = serve_in_memory(server);
            peer.handshake_json_with(json!({"handle_timeout_ms": after, "max_body_len": max})).await;
            peer.send(&call("Test.echo", 1, json!(10))).await;
            let reply = peer.read_message().await;
            assert_eq!(reply.header["reply"]["error"].is_null(), max > 2, "{reply:?}");
            peer.send(&call("Test.later", 2, json!(20))).await;
            let reply = peer.read_message().await;
            assert_eq!(reply.seq(), 2);
            assert_eq!(reply.header["reply"]["error"].is_null(), after > 20, "{reply:?}");
        }
        for max in [0, 1, u64::MAX - 1, u64::MAX] {
            println!("the server takes {max} calls at once");
            let (client, mut peer) = pair_with(&json_only(), json!({"max_in_flight": max})).await;
            check_it_works(&client, &mut peer).await;
        }
    });
}
