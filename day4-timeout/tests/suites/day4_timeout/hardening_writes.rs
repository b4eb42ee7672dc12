//! Hardening, writes: the other side takes nothing, or it takes little and takes it evenly.
//!
//! Write `set_up` in `src/wire/tcp.rs`; the limits are in `src/server/liveness.rs`, and in `write_requests` in
//! `src/client/connection.rs`.
//!
//! Chapter: Limits

use std::collections::BTreeSet;
use std::time::Duration;

use day4_timeout::{DEFAULT_MAX_IN_FLIGHT, Error, Server};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::time::{Instant, sleep, timeout};

use crate::support::client::{begin_big, connected, disconnected, json_only};
use crate::support::peer::{Peer, call};
use crate::support::slow::{SECOND, millis, peer_of, probe, settle, takes, timed_out};
use crate::support::{run, run_paused, start, within};

/// A client that takes not one byte of its replies for 10 s is dropped, and its handlers go with it.
///
/// One peer that does not read holds 65 tasks in GeeRPC, as long as it likes.
///
/// Hint: the write is the wait; the limit is on a step of it.
#[test]
fn a_client_that_reads_nothing_is_dropped_with_its_handlers() {
    run_paused(async || {
        let (handler, mut probe) = probe();
        let (mut peer, served) = peer_of(&Server::new(handler), 256).await;
        peer.send(&call("Test.hang", 1, json!(null))).await;
        assert_eq!(probe.started().await, 1);
        peer.send(&call("Test.big", 2, json!(100_000))).await;
        assert_eq!(timed_out(ends_after(10 * SECOND, served).await), 10 * SECOND);
        assert_eq!(probe.stopped().await, 1);
    });
}

/// Waits for the end of a connection, which may linger for a moment.
async fn ends_after(time: Duration, served: tokio::task::JoinHandle<Result<(), Error>>) -> Result<(), Error> {
    let since = Instant::now();
    let result = timeout(time + 2 * SECOND, served).await.expect("never happened: the end of the connection");
    assert!(since.elapsed() >= time, "it has ended after {:?} already", since.elapsed());
    result.unwrap()
}

/// Sending more does not help a client that does not read: its time is up all the same.
///
/// A limit that begins anew with each event, whatever it is, is no limit.
///
/// Hint: keep the instant since when there is something to write, across all the turns of the loop.
#[test]
fn a_client_that_sends_but_does_not_read_is_dropped_too() {
    run_paused(async || {
        let (handler, _probe) = probe();
        let (peer, served) = peer_of(&Server::new(handler), 256).await;
        let (_unread, mut write) = tokio::io::split(peer.io);
        let sending = tokio::spawn(async move {
            for seq in 1.. {
                if write.write_all(&call("Test.big", seq, json!(300))).await.is_err() {
                    return;
                }
                sleep(SECOND).await;
            }
        });
        assert_eq!(timed_out(ends_after(10 * SECOND, served).await), 10 * SECOND);
        within("the client notices", sending).await.unwrap();
    });
}

/// A client that takes a few bytes now and then is slow, and served: each byte gives new time.
///
/// A limit for a whole reply would forbid large replies to slow networks.
///
/// Hint: one step of the flush, not all of it.
#[test]
fn a_client_that_takes_a_few_bytes_now_and_then_is_served() {
    run_paused(async || {
        let (handler, _probe) = probe();
        let (mut peer, _served) = peer_of(&Server::new(handler), 64).await;
        peer.send(&call("Test.big", 1, json!(1000))).await;
        let mut reply = Vec::new();
        let since = Instant::now();
        while !reply.ends_with(b"xxx\"") {
            sleep(9 * SECOND).await;
            let mut few = [0; 64];
            let count = within("a few bytes", peer.io.read(&mut few)).await.unwrap();
            assert!(count > 0, "dropped after {:?}", since.elapsed());
            reply.extend_from_slice(&few[..count]);
        }
        assert!(since.elapsed() > 100 * SECOND, "this took many limits: {:?}", since.elapsed());
    });
}

/// The same over TCP: a client that reads evenly is not dropped, however slowly the system says so.
///
/// Linux reports a socket as writable when a third of its buffer is free, which may be megabytes. In our first
/// edition a client that read 100 KiB/s evenly was dropped after 10 s, in the middle of its reply.
///
/// Hint: `TCP_NOTSENT_LOWAT`. This test takes some seconds of real time.
#[test]
fn a_client_that_reads_evenly_over_tcp_is_served() {
    run(async || {
        const LEN: usize = 32 * 1024 * 1024;
        let (handler, _probe) = probe();
        let server = start(Server::new(handler).write_timeout(2 * SECOND)).await;
        let mut peer = Peer::connect(server.addr).await;
        peer.handshake_json_with(json!({"max_body_len": 2 * LEN})).await;
        peer.send(&call("Test.big", 1, json!(LEN))).await;
        let mut received = 0;
        let mut piece = vec![0; 16 * 1024];
        let since = std::time::Instant::now();
        while since.elapsed() < 4 * SECOND {
            let read = within("bytes of the reply", peer.io.read_exact(&mut piece)).await;
            received += read.unwrap_or_else(|error| panic!("{error} after {received} bytes"));
            sleep(millis(60)).await;
        }
        let mut piece = vec![0; 1024 * 1024];
        while received < LEN {
            match within("more of the reply", peer.io.read(&mut piece)).await {
                Ok(count) if count > 0 => received += count,
                end => panic!("the reply ends after {received} bytes: {end:?}"),
            }
        }
    });
}

/// A server that takes nothing of a write for 10 s is given up by the client, and one that takes a few bytes
/// now and then is not.
///
/// The same limit, on the other side.
///
/// Hint: `Options::write_timeout`, around one step of the flush.
#[test]
fn a_server_that_takes_a_few_bytes_now_and_then_is_not_given_up() {
    run_paused(async || {
        let options = json_only().ping_interval(Duration::MAX).call_timeout(Duration::MAX);
        let (io, other_end) = duplex(64);
        let (client, mut peer) = connected(io, other_end, &options, json!({})).await;
        let large = begin_big(&client).await;
        let mut few = [0; 64];
        for _ in 0..10 {
            sleep(9 * SECOND).await;
            within("a few bytes", peer.io.read_exact(&mut few)).await.unwrap();
        }
        assert!(client.is_available());
        let reason = takes(10 * SECOND, "the end of the connection", client.closed()).await;
        assert!(matches!(*reason, Error::Timeout { after, .. } if after == 10 * SECOND), "{reason:?}");
        disconnected(within("the end of the call", large).await);
        assert!(!client.is_available());
    });
}

/// Calls that are started and dropped while the server does not read stop being accepted at some point; and
/// when it reads again, every call that it gets is followed by its cancel, and those that were given up before
/// are not sent.
///
/// If a dropped call gave its place back while its messages wait to be written, they would pile up for as long
/// as callers try again.
///
/// Hint: a call that was given up keeps its place until its cancel is about to be written.
#[test]
fn calls_that_are_given_up_do_not_pile_up_before_a_stalled_server() {
    run_paused(async || {
        let options =
            json_only().write_timeout(Duration::MAX).ping_interval(Duration::MAX).call_timeout(SECOND);
        let (io, other_end) = duplex(64);
        let (client, mut peer) = connected(io, other_end, &options, json!({})).await;
        let _large = begin_big(&client).await;
        settle().await; // it is being written now
        let (mut started, mut held) = (1, Vec::new());
        let ended = loop {
            match within("a call starts, or not", client.start::<_, ()>("Test.hang", &())).await {
                Ok(call) => held.push(call),
                Err(error) => break error,
            }
            started += 1;
            assert!(
                started < 4 * DEFAULT_MAX_IN_FLIGHT,
                "{started} calls were accepted, and no byte is read"
            );
            if held.len() == 100 {
                held.clear();
            }
        };
        drop(held);
        assert_eq!(timed_out(Err::<(), _>(ended)), SECOND);
        assert!(started >= DEFAULT_MAX_IN_FLIGHT, "only {started} calls were accepted");

        let (mut calls, mut cancels) = (BTreeSet::new(), BTreeSet::new());
        let patient = client.with_timeout(Duration::MAX);
        let next = tokio::spawn(async move { patient.start::<_, u32>("Test.next", &()).await });
        loop {
            let message = peer.read_message().await;
            match message.kind() {
                "call" if message.header["call"]["service_method"] == "Test.next" => break,
                "call" => assert!(calls.insert(message.seq())),
                "cancel" => {
                    assert!(
                        calls.contains(&message.seq()),
                        "a cancel of a call that was not sent: {message:?}"
                    );
                    assert!(cancels.insert(message.seq()));
                }
                _ => panic!("{message:?}"),
            }
        }
        assert!(calls.len() <= 1, "{} calls were sent whose callers had gone", calls.len());
        assert_eq!(calls, cancels);
        let _next = within("the call after the stall starts", next).await.unwrap().unwrap();
    });
}
