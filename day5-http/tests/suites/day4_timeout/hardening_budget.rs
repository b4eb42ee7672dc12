//! Hardening, the budget of bytes: large bodies wait for room before they are read.
//!
//! Write `Budget::new` in `src/server/budget.rs`, and `refuse_body` in `src/server/connection.rs`, which throws a body
//! away.
//!
//! Chapter: Limits

use std::time::Duration;

use bytes::Bytes;
use day5_http::{BUDGET_TIMEOUT, Client, Error, LARGE_BODY_LEN, Server};
use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::time::{sleep, timeout};

use crate::support::client::json_only;
use crate::support::peer::{Peer, call};
use crate::support::timeouts::{
    Probe, SECOND, call_header, cancel, millis, peer_of, probe, settle, takes, timed_out,
};
#[cfg(target_os = "linux")]
use crate::support::{alone, resident_kib};
use crate::support::{eventually, run_paused, within};

const MIB: usize = 1024 * 1024;

/// A body of so many bytes.
fn body(len: usize) -> Value {
    json!("x".repeat(len - 2)) // and two quotes
}

/// A server with room for one MiB. Its handlers may take as long as they like.
fn small_server() -> (Server, Probe) {
    let (handler, probe) = probe();
    (Server::new(handler).max_request_bytes(MIB).handle_timeout(Duration::MAX), probe)
}

/// Sends as much as the other side takes. The clock is paused: it moves only when nothing else does, that is
/// when the server reads no more.
async fn push(peer: &mut Peer<DuplexStream>, bytes: &[u8]) -> usize {
    let mut sent = 0;
    while sent < bytes.len()
        && let Ok(written) = timeout(millis(10), peer.io.write(&bytes[sent..])).await
    {
        sent += written.unwrap();
    }
    sent
}

/// A client that has all of the room, with call 1 of this method in flight.
async fn take_all(server: &Server, probe: &mut Probe, method: &str) -> Peer<DuplexStream> {
    let (mut peer, _served) = peer_of(server, 64 * 1024).await;
    peer.send(&call(method, 1, body(MIB))).await;
    assert_eq!(probe.started().await, 1);
    peer
}

/// A large body that finds no room is not read before there is; small calls of other connections go on, and so
/// do those of the same connection that came before it.
///
/// In an earlier version 1024 calls of 8 MiB, in flight on one connection, took 5.5 GB.
///
/// Hint: the header tells the length. A semaphore counts the KiB.
#[test]
fn a_large_body_is_not_read_before_there_is_room() {
    run_paused(async || {
        let (server, mut probe) = small_server();
        let mut first = take_all(&server, &mut probe, "Test.gate").await;
        let (mut second, _served) = peer_of(&server, 4096).await;
        let (mut third, _served) = peer_of(&server, 4096).await;

        let bytes = [call("Test.echo", 1, json!("small")), call("Test.gate", 2, body(MIB))].concat();
        let sent = push(&mut second, &bytes).await;
        assert!(sent < 64 * 1024, "the server has read {sent} bytes of a call that has no room");
        assert_eq!(second.read_message().await.value(), "small");
        assert!(probe.is_quiet());
        third.send(&call("Test.echo", 3, json!("other"))).await;
        assert_eq!(third.read_message().await.value(), "other");

        probe.gate.add_permits(2);
        assert_eq!(first.read_message().await.value(), 1);
        second.send(&bytes[sent..]).await;
        assert_eq!(probe.started().await, 2);
        assert_eq!(second.read_message().await.value(), 2);
    });
}

/// The room is given back with the request, however that ends: by its reply, a cancel, the end of the
/// connection, the end of the handler's time; and by a client that stops or leaves in the middle of a body.
///
/// Room that is lost is lost for every connection of the server.
///
/// Hint: the request owns the permit, and before that the connection does.
#[test]
fn the_room_is_given_back_however_a_call_ends() {
    run_paused(async || {
        for way in ["a reply", "a cancel", "an end", "a timeout", "a half body", "half a body, and silence"] {
            println!("the call ends by {way}");
            let (mut server, mut probe) = small_server();
            if way == "a timeout" {
                server = server.handle_timeout(SECOND);
            }
            let mut first = if way.contains("half") {
                let (mut peer, _served) = peer_of(&server, 64 * 1024).await;
                let bytes = call("Test.gate", 1, body(MIB));
                peer.send(&bytes[..MIB / 2]).await;
                peer
            } else {
                take_all(&server, &mut probe, "Test.gate").await
            };
            settle().await;
            match way {
                "a reply" => probe.gate.add_permits(1),
                "a cancel" => first.send(&cancel(1)).await,
                "a timeout" => sleep(SECOND).await,
                "half a body, and silence" => sleep(10 * SECOND).await,
                _ => first.io.shutdown().await.unwrap(),
            }
            let (mut second, _served) = peer_of(&server, 64 * 1024).await;
            second.send(&call("Test.hang", 2, body(MIB))).await;
            assert_eq!(probe.started().await, 2, "{way}");
            drop(first);
        }
    });
}

/// A body that is longer than all of the room takes all of it, and is served alone; also if the room is 0 bytes.
///
/// Refusing it would make two limits of one; a body may be as long as `max_body_len` says. And 0 is not "no limit".
///
/// Hint: ask for no more permits than there are, or the wait never ends. There is at least one.
#[test]
fn a_body_longer_than_the_whole_room_is_served_alone() {
    run_paused(async || {
        for room in [MIB, 0] {
            let (server, mut probe) = small_server();
            let server = server.max_request_bytes(room);
            let mut peers = Vec::new();
            for seq in [1, 2] {
                let (mut peer, _served) = peer_of(&server, 64 * 1024).await;
                let bytes = call("Test.gate", seq, body(3 * MIB));
                let sent = push(&mut peer, &bytes).await;
                peers.push((peer, bytes, sent));
            }
            for (number, (mut peer, bytes, sent)) in (1..).zip(peers) {
                peer.send(&bytes[sent..]).await;
                assert_eq!(probe.started().await, number);
                settle().await;
                assert!(probe.is_quiet(), "one at a time, with room for {room} bytes");
                probe.gate.add_permits(1);
                assert_eq!(peer.read_message().await.value(), number);
            }
        }
    });
}

/// A body of 64 KiB needs no room, and one of a byte more does.
///
/// Small calls are most calls. They pay nothing for the few that are large, and are never held up by them.
///
/// Hint: `LARGE_BODY_LEN`.
#[test]
fn a_small_body_needs_no_room() {
    run_paused(async || {
        let (server, mut probe) = small_server();
        let _first = take_all(&server, &mut probe, "Test.hang").await;
        let (mut peer, _served) = peer_of(&server, MIB).await;
        peer.send(&call("Test.echo", 1, body(LARGE_BODY_LEN))).await;
        assert_eq!(peer.read_message().await.value(), body(LARGE_BODY_LEN));
        peer.send(&call("Test.echo", 2, body(LARGE_BODY_LEN + 1))).await;
        assert!(peer.read_message().await.is_refused());
    });
}

/// A call whose body finds no room for 2 s is refused, so that its caller can send it elsewhere; its body is
/// read and thrown away, and the connection goes on.
///
/// A connection that waits reads nothing, so it cannot answer a ping. If it waited longer than the client
/// bears, the client would give it up with all of its calls.
///
/// Hint: forget the turn, too, or the room that comes later is given to nothing.
#[test]
fn a_call_that_waits_too_long_for_room_is_refused() {
    run_paused(async || {
        let (server, mut probe) = small_server();
        let first = take_all(&server, &mut probe, "Test.hang").await;
        let (mut second, _served) = peer_of(&server, 4096).await;
        second.send(&call("Test.gate", 1, json!(null))).await;
        assert_eq!(probe.started().await, 1);
        for seq in [2, 3] {
            let bytes = call("Test.hang", seq, body(MIB));
            let sent = push(&mut second, &bytes).await;
            let refused = takes(BUDGET_TIMEOUT, "a refusal", second.read_message()).await;
            assert_eq!((refused.seq(), refused.is_refused()), (seq, true), "{refused:?}");
            assert_eq!(refused.code(), "resource_exhausted");
            second.send(&bytes[sent..]).await;
        }
        second.send(&call("Test.echo", 4, json!("behind them"))).await;
        assert_eq!(second.read_message().await.value(), "behind them");
        probe.gate.add_permits(1);
        assert_eq!(second.read_message().await.value(), 1, "and a call before them");
        assert!(probe.is_quiet());

        drop(first);
        eventually("the first handler is gone", || probe.handlers.now() == 0).await;
        let (mut third, _served) = peer_of(&server, 64 * 1024).await;
        third.send(&call("Test.hang", 5, body(MIB))).await;
        assert_eq!(probe.started().await, 5, "there is room again");
    });
}

/// A refused body that does not arrive is waited for as any other: 10 s. A header behind it is no part of it.
///
/// What is thrown away is counted, not guessed.
///
/// Hint: the connection is inside a message until the last byte has been thrown away.
#[test]
fn a_refused_body_that_does_not_arrive_ends_the_connection() {
    run_paused(async || {
        let (server, mut probe) = small_server();
        let _first = take_all(&server, &mut probe, "Test.hang").await;
        let (mut second, served) = peer_of(&server, 4096).await;
        let header = call_header("Test.hang", 1);
        let len = u32::try_from(MIB).unwrap().to_be_bytes();
        second.send(&[&header[..], &len[..]].concat()).await;
        let refused = takes(BUDGET_TIMEOUT, "a refusal", second.read_message()).await;
        assert!(refused.is_refused());
        second.send(&[b'x'; 1000]).await;
        let goaway = takes(10 * SECOND, "a goaway", second.read_message()).await;
        assert_eq!(goaway.kind(), "goaway");
        drop(second);
        assert_eq!(timed_out(within("the end of the connection", served).await.unwrap()), 10 * SECOND);
    });
}

/// Our client does not give up a server that makes it wait for room: its large calls are refused one by one,
/// and its other calls go on.
///
/// Two limits that do not know each other meet here: the server's patience with its budget, and the client's
/// with the server.
///
/// Hint: the server's is the smaller one.
#[test]
fn our_client_does_not_give_up_a_server_without_room() {
    run_paused(async || {
        let (server, mut probe) = small_server();
        let _first = take_all(&server, &mut probe, "Test.hang").await;
        let (io, other_end) = tokio::io::duplex(64 * 1024);
        let serving = server.clone();
        tokio::spawn(async move { serving.serve_connection(other_end).await });
        let client = within("the handshake", Client::handshake(io, &json_only())).await.unwrap();
        let small = client.start::<_, u64>("Test.later", &25_000).await.unwrap();
        probe.started().await;
        let mut large = Vec::new();
        for _ in 0..8 {
            large.push(client.start::<_, u64>("Test.hang", &"x".repeat(MIB)).await.unwrap());
        }
        for call in large {
            let result = takes(BUDGET_TIMEOUT, "a refusal", call).await;
            assert!(matches!(result, Err(Error::Refused(_))), "{result:?}");
        }
        takes(9 * SECOND, "the reply of the small call", small).await.unwrap();
        assert!(client.is_available());
    });
}

/// Many connections that send 8 MiB each take no more memory than the budget of 32 MiB and a little.
///
/// This is what the budget is for: a limit for each connection, times many connections, is no limit.
///
/// Hint: nothing more to write.
#[test]
#[cfg(target_os = "linux")] // it asks the system how much memory the process has
fn many_large_bodies_take_no_more_memory_than_there_is_room() {
    alone(module_path!(), "many_large_bodies_take_no_more_memory_than_there_is_room", || {
        run_paused(async || {
            let (handler, probe) = probe();
            let server = Server::new(handler).max_request_bytes(32 * MIB).handle_timeout(Duration::MAX);
            let bytes = Bytes::from(call("Test.hang", 1, body(8 * MIB)));
            let mut peers = Vec::new();
            for _ in 0..24 {
                peers.push(peer_of(&server, 64 * 1024).await.0);
            }
            let before = resident_kib();
            let mut reading = Vec::new();
            for peer in peers {
                let (read, mut write) = tokio::io::split(peer.io);
                let bytes = bytes.clone();
                tokio::spawn(async move { write.write_all(&bytes).await });
                reading.push(read);
            }
            for after in [SECOND, 5 * SECOND] {
                sleep(after).await;
                assert_eq!(probe.handlers.now(), 4, "so many have room");
                let taken = resident_kib().saturating_sub(before) / 1024;
                assert!(taken < 100, "{taken} MiB for bodies, and the budget is 32 MiB");
            }
        });
    });
}
