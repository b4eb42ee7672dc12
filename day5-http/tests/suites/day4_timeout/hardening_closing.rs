//! Hardening, the end: the last message arrives, and waiting for that has its limits.
//!
//! Change `close` in `src/server/connection.rs`. For the rest see `src/wire/linger.rs`, and `run` in
//! `src/client/connection.rs`, which uses it, too.
//!
//! Chapter: Limits

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};
use std::time::Duration;

use day5_http::{MAX_QUEUED_BYTES, Server};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};

use crate::support::client::{begin, disconnected, next_call, pair, tcp_pair};
use crate::support::peer::{Peer, call, client_hello, frame};
use crate::support::timeouts::{peer_of, probe, takes};
use crate::support::{arith, run, run_paused, serve_in_memory, start, within};

const MIB: usize = 1024 * 1024;

/// The reason for the end reaches a client that is in the middle of a long write, and replies that were due
/// before.
///
/// Such a peer writes all it has and only then reads. If the rest of its bytes are not taken, its write fails,
/// and with it goes the message that says why.
///
/// Hint: after the last message, read and throw away what comes.
#[test]
fn the_last_message_reaches_a_client_in_the_middle_of_a_long_write() {
    run_paused(async || {
        let too_long = frame(vec![b'x'; 8 * MIB + 1]);

        let (mut peer, _served) = serve_in_memory(Server::new(arith()));
        let written = within("a handshake that is far too long", peer.io.write_all(&too_long)).await;
        written.expect("the server must take the rest, or the client never reads the answer");
        let answer = peer.read_json().await;
        assert!(answer["error"].is_string(), "no error in {answer}");

        let (mut peer, _served) = serve_in_memory(Server::new(arith()));
        peer.handshake_json().await;
        let written = within("a frame that is too long", peer.io.write_all(&too_long)).await;
        written.expect("the server must take the rest, or the client never reads the goaway");
        peer.expect_goaway().await;

        // The same, but the server is in the middle of a long write as well.
        let (handler, _probe) = probe();
        let server = Server::new(handler).grace_period(Duration::ZERO); // this is no shutdown
        let (mut peer, _served) = peer_of(&server, 1024).await;
        let len = MAX_QUEUED_BYTES / 2; // not so much that the server stops reading
        peer.send(&[call("Test.big", 1, json!(len)), frame("no header")].concat()).await;
        let written = within("a long write after a broken frame", peer.io.write_all(&too_long)).await;
        written.expect("the server must take the rest, or the client never reads the goaway");
        assert_eq!(peer.read_message().await.value(), json!("x".repeat(len)));
        peer.expect_goaway().await;
    });
}

/// The same on the client's side: a server in the middle of a long write reads why the client goes.
///
/// Both sides may be the one that breaks the rules, and both may be in the middle of a write.
///
/// Hint: one function for both.
#[test]
fn the_last_message_reaches_a_server_in_the_middle_of_a_long_write() {
    run_paused(async || {
        let (client, mut peer) = pair().await;
        let pending = begin(&client, 1).await;
        next_call(&mut peer).await;
        let long = [frame("no header"), frame(vec![b'x'; 8 * MIB])].concat();
        let written = within("a long write after a broken frame", peer.io.write_all(&long)).await;
        written.expect("the client must take the rest, or the server never reads the goaway");
        peer.expect_goaway().await;
        disconnected(within("the end of the call", pending).await);
    });
}

/// Over TCP, the last message is not taken back.
///
/// A socket that is closed while bytes wait in it resets the connection, and the other side loses what it has
/// not read yet.
///
/// Hint: end our side of the stream first, and close when the peer has ended its own.
#[test]
fn the_last_message_is_not_lost_over_tcp() {
    run(async || {
        let server = start(Server::new(arith())).await;
        for round in 0..10 {
            println!("round {round}");
            let mut peer = Peer::connect_json(server.addr).await;
            let long = [frame("no header"), vec![b'x'; 4 * MIB]].concat();
            within("a long write after a broken frame", peer.io.write_all(&long)).await.unwrap();
            peer.expect_goaway().await;

            let (client, mut peer) = tcp_pair().await;
            within("a long write after a broken frame", peer.io.write_all(&long)).await.unwrap();
            peer.expect_goaway().await;
            drop(client);
        }
    });
}

/// A peer that does not end its stream is waited for a second or so, and not longer.
///
/// The wait for a peer that breaks the rules must not be the next wait without an end.
///
/// Hint: one limit for all of the end.
#[test]
fn a_peer_that_stays_is_not_waited_for() {
    run_paused(async || {
        let (handler, _probe) = probe();
        let (mut peer, served) = peer_of(&Server::new(handler), 1024).await;
        peer.send(&frame("no header")).await;
        peer.expect_goaway().await;
        within("the end of the connection, with a client that stays", served).await.unwrap().unwrap_err();

        // It reads nothing either.
        let (handler, _probe) = probe();
        let (mut peer, served) = peer_of(&Server::new(handler), 256).await;
        peer.send(&[call("Test.big", 1, json!(10_000)), frame("no header")].concat()).await;
        within("the end of the connection, with a client that stays", served).await.unwrap().unwrap_err();

        let (client, mut peer) = pair().await;
        peer.send(&frame("no header")).await;
        within("the end of the connection, with a server that stays", client.closed()).await;
    });
}

/// A stream of bytes without an end, which is always ready.
struct Endless {
    hello: Vec<u8>,
    count: Arc<AtomicUsize>,
}

impl AsyncRead for Endless {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let len = self.hello.len().min(buf.remaining());
        buf.put_slice(&self.hello[..len]);
        self.hello.drain(..len);
        if len == 0 {
            self.count.fetch_add(buf.remaining(), SeqCst);
            buf.initialize_unfilled();
            buf.advance(buf.remaining());
        }
        Poll::Ready(Ok(()))
    }
}

/// A peer that goes on sending is read for some megabytes, and not longer.
///
/// A second is long on a fast line: gigabytes of work for a peer that has broken the rules.
///
/// Hint: count what is thrown away.
#[test]
fn what_is_thrown_away_is_bounded_in_bytes() {
    run_paused(async || {
        for hello in [client_hello(&["application/json"]), frame("no hello")] {
            let (handler, _probe) = probe();
            let count = Arc::<AtomicUsize>::default();
            let hello = [hello, frame("no header")].concat();
            let io = tokio::io::join(Endless { hello, count: Arc::clone(&count) }, tokio::io::sink());
            let served = tokio::spawn(async move { Server::new(handler).serve_connection(io).await });
            within("the end of the connection", served).await.unwrap().unwrap_err();
            let read = count.load(SeqCst) / MIB;
            assert!(read <= 64, "{read} MiB were read from a peer that has broken the rules");
        }
    });
}

/// The handlers of a broken connection stop at once, and its calls fail at once: neither waits for the peer.
///
/// Work without a caller is wasted, and a caller that waits a second more than it must does so for nothing.
///
/// Hint: first stop the handlers, or fail the calls; then linger.
#[test]
fn handlers_and_calls_do_not_wait_for_the_end() {
    run_paused(async || {
        let (handler, mut probe) = probe();
        let (mut peer, _served) = peer_of(&Server::new(handler), 1024).await;
        peer.send(&call("Test.hang", 1, json!(null))).await;
        assert_eq!(probe.started().await, 1);
        peer.send(&frame("no header")).await;
        takes(Duration::ZERO, "the end of the handler", probe.stopped()).await;

        let (client, mut peer) = pair().await;
        let pending = begin(&client, 1).await;
        next_call(&mut peer).await;
        peer.send(&frame("no header")).await;
        disconnected(takes(Duration::ZERO, "the end of the call", pending).await);
        assert!(!client.is_available());
    });
}

/// A client that ends its stream gives up its calls, and still gets the replies that were ready.
///
/// A half-close says: no more calls. What was answered before is on its way.
///
/// Hint: write what is queued before you close.
#[test]
fn replies_that_are_ready_are_written_before_the_end() {
    run_paused(async || {
        let (handler, mut probe) = probe();
        let (mut peer, served) = peer_of(&Server::new(handler), 1024).await;
        peer.send(&call("Test.hang", 1, json!(null))).await;
        assert_eq!(probe.started().await, 1);
        peer.send(&call("Test.big", 2, json!(20_000))).await;
        peer.end().await;
        takes(Duration::ZERO, "the end of the handler", probe.stopped()).await;
        assert_eq!(peer.read_message().await.value(), json!("x".repeat(20_000)));
        peer.expect_end().await;
        takes(Duration::ZERO, "the end of the connection", served).await.unwrap().unwrap();
    });
}
