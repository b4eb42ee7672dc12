//! Hardening, shutdown: the grace period is kept, and only calls count.
//!
//! No new function. See `accept_loop` in `src/server/accept.rs`, and what concerns the drain in
//! `src/server/liveness.rs` and `src/server/connection.rs`.
//!
//! Chapter: Limits

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use day4_timeout::{Request, Server};
use serde_json::json;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, timeout};

use crate::support::io::Script;
use crate::support::peer::{Peer, call, client_hello, frame};
use crate::support::timeouts::{
    Connector, SECOND, call_header, cancel, millis, probe, serve_until, settle, timed_out,
};
use crate::support::{eventually, run_paused, run_threads, within};

/// The grace period is kept also if a handler blocks its thread, at its first poll or later.
///
/// A task that blocks cannot be stopped, and must not be waited for. In an earlier version a grace period of 200
/// ms took 3.9 s.
///
/// Hint: a limit around the wait for connections, and another around the wait after they were aborted.
#[test]
fn the_grace_period_is_kept_with_a_handler_that_blocks() {
    run_threads(async || {
        for yields in [0, 1] {
            println!("it blocks after {yields} yields");
            let (release, blocked) = channel::<()>();
            let blocked = Arc::new(Mutex::new(blocked));
            let (starts, mut started) = tokio::sync::mpsc::unbounded_channel();
            let server = Server::new(move |request: Request| {
                let (blocked, starts) = (Arc::clone(&blocked), starts.clone());
                async move {
                    for _ in 0..yields {
                        tokio::task::yield_now().await;
                    }
                    starts.send(()).ok();
                    blocked.lock().unwrap().recv().ok();
                    Ok(request.reply(&())?)
                }
            });
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let addr = listener.local_addr().unwrap();
            let (stop, serving) = serve_until(server.grace_period(millis(200)), listener);
            let mut peer = Peer::connect_json(addr).await;
            peer.send(&call("Test.blocks", 1, json!(null))).await;
            within("the handler starts", started.recv()).await.unwrap();
            stop.send(()).unwrap();
            let result = within("the end of the server, while a handler blocks", serving).await.unwrap();
            assert_eq!(timed_out(result), millis(200));
            drop(release);
        }
    });
}

/// Clients that have no call in flight do not make an orderly shutdown an error, whatever they do or leave
/// undone; and the grace period is kept.
///
/// There are always idle clients, and peers that are slow, broken or not there any more. An error says that
/// work was lost.
///
/// Hint: what a drain waits for is calls. Whatever else times out meanwhile is that connection's own affair.
#[test]
fn clients_without_a_call_do_not_make_a_shutdown_an_error() {
    let hello = || client_hello(&["application/json"]);
    let header = || call_header("Test.echo", 1);
    let states = [
        ("silent before its handshake", vec![], 0),
        ("in the middle of its handshake", hello()[..9].to_vec(), 0),
        ("refused after its time for the handshake", vec![], 10_040),
        ("idle", hello(), 0),
        ("in the middle of a header", [hello(), header()[..9].to_vec()].concat(), 0),
        ("at the end of the time for a header", [hello(), header()[..9].to_vec()].concat(), 10_040),
        ("behind a header", [hello(), header()].concat(), 0),
        ("in the middle of a body", [hello(), header(), frame("null")[..6].to_vec()].concat(), 0),
        ("broken", [hello(), frame("no header")].concat(), 40),
    ];
    run_paused(async move || {
        for grace_period in [millis(100), 30 * SECOND] {
            for (state, bytes, time) in &states {
                println!("a client that is {state}, with {grace_period:?}");
                let (handler, _probe) = probe();
                let (connector, listener) = Connector::new();
                let (stop, serving) = serve_until(Server::new(handler).grace_period(grace_period), listener);
                let mut peer = connector.open(1024);
                peer.send(bytes).await;
                sleep(millis(*time)).await;
                settle().await;
                stop.send(()).unwrap();
                let since = Instant::now();
                let result =
                    timeout(60 * SECOND, serving).await.expect("never happened: the end of the server");
                result.unwrap().unwrap_or_else(|error| panic!("a client that is {state}: {error}"));
                assert!(since.elapsed() <= grace_period + millis(200), "{state}: {:?}", since.elapsed());
                drop(peer);
            }
        }
    });
}

/// An idle client is waited for a moment, not for the whole grace period: also if it stays, and goes on
/// talking.
///
/// A wait that begins anew with every message is a wait for as long as the client likes.
///
/// Hint: one timer for the last moment of the connection, not one for each turn of its loop.
#[test]
fn a_client_that_goes_on_talking_does_not_hold_up_a_shutdown() {
    run_paused(async || {
        let (handler, _probe) = probe();
        let (connector, listener) = Connector::new();
        let (stop, serving) = serve_until(Server::new(handler).grace_period(30 * SECOND), listener);
        let mut idle = connector.open(1024);
        idle.handshake_json().await;
        let mut peer = connector.open(1024);
        peer.handshake_json().await;
        settle().await;
        stop.send(()).unwrap();
        let talking = tokio::spawn(async move {
            use tokio::io::AsyncWriteExt;
            while peer.io.write_all(&cancel(7)).await.is_ok() {
                sleep(millis(300)).await;
            }
        });
        within("the end of the server", serving).await.unwrap().unwrap();
        within("the client hears of it", talking).await.unwrap();
        drop(idle);
    });
}

/// A client that sends cancels as fast as they are read: a stream that is always ready.
struct CancelFlood {
    unread: VecDeque<u8>,
    sent: Arc<AtomicUsize>,
}

impl AsyncRead for CancelFlood {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.unread.len() < buf.remaining() {
            self.unread.extend(cancel(7));
            self.sent.fetch_add(1, SeqCst);
        }
        let len = buf.remaining();
        self.unread.drain(..len).for_each(|byte| buf.put_slice(&[byte]));
        Poll::Ready(Ok(()))
    }
}

/// A flood of cancels does not hold up the shutdown, and does not make it an error.
///
/// What is always ready starves what is looked at after it. In an earlier version such a flood held the shutdown
/// up for its whole grace period.
///
/// Hint: after a slice of time everything else has its turn; and a message that is being read is no call.
#[test]
fn a_flood_of_cancels_does_not_hold_up_the_shutdown() {
    run_threads(async || {
        let (handler, _probe) = probe();
        let sent = Arc::<AtomicUsize>::default();
        let flood =
            CancelFlood { unread: client_hello(&["application/json"]).into(), sent: Arc::clone(&sent) };
        let listener = Script([Ok(tokio::io::join(flood, tokio::io::sink()))].into());
        let (stop, serving) = serve_until(Server::new(handler).grace_period(60 * SECOND), listener);
        eventually("the flood is under way", || sent.load(SeqCst) > 10_000).await;
        stop.send(()).unwrap();
        within("the end of the server", serving).await.unwrap().unwrap();
    });
}

/// A call that is being sent when the server shuts down is waited for, and refused when it is complete.
///
/// Its caller can send it elsewhere then. A connection that is cut instead leaves open whether the call has
/// run.
///
/// Hint: the grace period is for it as well; a header without its body is the begin of a call.
#[test]
fn a_call_that_is_being_sent_is_refused_when_it_is_complete() {
    run_paused(async || {
        let (handler, mut probe) = probe();
        let (connector, listener) = Connector::new();
        let (stop, serving) = serve_until(Server::new(handler), listener);
        let mut peer = connector.open(1024);
        peer.handshake_json().await;
        let bytes = call("Test.hang", 1, json!("a body that takes its time"));
        peer.send(&bytes[..bytes.len() - 10]).await;
        settle().await;
        stop.send(()).unwrap();
        assert_eq!(peer.read_message().await.kind(), "goaway");
        sleep(4 * SECOND).await;
        peer.send(&bytes[bytes.len() - 10..]).await;
        let refused = peer.read_message().await;
        assert!(refused.seq() == 1 && refused.is_refused(), "{refused:?}");
        assert!(probe.is_quiet());
        drop(peer);
        within("the end of the server", serving).await.unwrap().unwrap();
    });
}

/// A reply that a slow client takes its time for is written within the grace period.
///
/// Its call was served, and is not done before the client has the reply.
///
/// Hint: a drain waits for what is queued, too.
#[test]
fn a_slow_client_gets_its_reply_in_the_grace_period() {
    run_paused(async || {
        let (handler, _probe) = probe();
        let (connector, listener) = Connector::new();
        let (stop, serving) = serve_until(Server::new(handler), listener);
        let mut peer = connector.open(256);
        peer.handshake_json().await;
        peer.send(&call("Test.big", 1, json!(1000))).await;
        settle().await;
        stop.send(()).unwrap();
        sleep(4 * SECOND).await;
        assert_eq!(peer.read_message().await.value(), json!("x".repeat(1000)));
        assert_eq!(peer.read_message().await.kind(), "goaway");
        drop(peer);
        within("the end of the server", serving).await.unwrap().unwrap();
    });
}
