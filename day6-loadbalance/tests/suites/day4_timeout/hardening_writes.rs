//! Hardening, writes: the other side takes nothing, or it takes little and takes it evenly.
//!
//! Write `set_up` in `src/wire/tcp.rs`; the limits are in `src/server/liveness.rs`, and in `write_requests` in
//! `src/client/connection.rs`.
//!
//! Chapter: Limits

use std::collections::BTreeSet;
use std::time::Duration;

use day6_loadbalance::{DEFAULT_MAX_IN_FLIGHT, Server};
use serde_json::json;
use tokio::io::{AsyncReadExt, duplex};
use tokio::time::{Instant, sleep};

use crate::support::client::{begin_big, connected, json_only};
use crate::support::peer::{Peer, call};
use crate::support::timeouts::{SECOND, millis, probe, settle, timed_out};
use crate::support::{run, run_paused, start, within};

/// Over TCP, a client that reads evenly is not dropped, however slowly the system says so.
///
/// Linux reports a socket as writable when a third of its buffer is free, which may be megabytes. In an
/// earlier version a client that read 100 KiB/s evenly was dropped after 10 s, in the middle of its reply.
///
/// Hint: `TCP_NOTSENT_LOWAT`. This test takes two seconds of real time.
#[test]
fn a_client_that_reads_evenly_over_tcp_is_served() {
    run(async || {
        const LEN: usize = 12 * 1024 * 1024;
        let (handler, _probe) = probe();
        let server = start(Server::new(handler).write_timeout(SECOND)).await;
        let mut peer = Peer::connect(server.addr).await;
        peer.handshake_json_with(json!({"max_body_len": 2 * LEN})).await;
        peer.send(&call("Test.big", 1, json!(LEN))).await;
        let mut received = 0;
        let mut piece = vec![0; 32 * 1024];
        let mut first = None; // the reply may be a while in the making
        while first.is_none_or(|first: Instant| first.elapsed() < 2 * SECOND) {
            let read = within("bytes of the reply", peer.io.read_exact(&mut piece)).await;
            received += read.unwrap_or_else(|error| panic!("{error} after {received} bytes"));
            first.get_or_insert_with(Instant::now);
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
