//! Hardening, accepting: what goes wrong before there is a connection, and how many there are.
//!
//! No new function. See `src/server/accept.rs`.
//!
//! Chapter: Limits

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use day6_loadbalance::{DEFAULT_MAX_CONNECTIONS, Listener, Server};
use serde_json::json;
use tokio::time::sleep;

use crate::support::client::{begin, next_call, tcp_pair};
use crate::support::peer::{Peer, call, client_hello, frame, reply};
use crate::support::timeouts::{Connector, InMemory, SECOND, millis, probe, serve_until, settle, takes};
use crate::support::{arith, eventually, run, run_paused, start, within};

/// A listener whose accepts fail as long as the test likes.
struct Failing {
    streams: InMemory,
    fails: Arc<AtomicBool>,
    failures: Arc<AtomicUsize>,
}

impl Failing {
    fn new() -> (Connector, Failing) {
        let (connector, streams) = Connector::new();
        (connector, Failing { streams, fails: Arc::new(AtomicBool::new(true)), failures: Arc::default() })
    }
}

impl Listener for Failing {
    type Io = <InMemory as Listener>::Io;

    async fn accept(&mut self) -> io::Result<(Self::Io, Option<SocketAddr>)> {
        if self.fails.load(SeqCst) {
            self.failures.fetch_add(1, SeqCst);
            return Err(io::Error::other("too many open files"));
        }
        self.streams.accept().await
    }
}

/// When accepting fails, the server tries again and again, soon at first and then once a second or so; the
/// connections that it has go on meanwhile, and it serves new ones once accepting works.
///
/// A process that has run out of file descriptors gets some back when a connection ends. A loop without a pause
/// keeps a core busy until then, and one that gives up never serves again.
///
/// Hint: a pause that doubles, up to a limit, and is short again after a success.
#[test]
fn accepting_that_fails_is_tried_again_with_pauses() {
    run_paused(async || {
        let (connector, listener) = Failing::new();
        let (fails, failures) = (Arc::clone(&listener.fails), Arc::clone(&listener.failures));
        fails.store(false, SeqCst);
        let _server = tokio::spawn(async move { Server::new(arith()).serve(listener).await });
        let mut first = connector.open(1024);
        first.handshake_json().await;
        for round in 0..2 {
            fails.store(true, SeqCst);
            let mut next = connector.open(1024); // the accept that waits now succeeds, and those after it fail
            next.handshake_json().await;
            let before = failures.load(SeqCst);
            sleep(millis(200)).await;
            let soon = failures.load(SeqCst) - before;
            assert!(soon >= 3, "round {round}: tried {soon} times in the first 200 ms");
            sleep(60 * SECOND).await;
            let later = failures.load(SeqCst) - before - soon;
            assert!((20..=200).contains(&later), "round {round}: tried {later} times in a minute");
            first.expect_service().await;

            let mut waiting = connector.open(1024);
            fails.store(false, SeqCst);
            waiting.handshake_json().await; // within some seconds
            waiting.expect_service().await;
        }
    });
}

/// A server that cannot accept stops at once when it is told to.
///
/// A pause is a wait like any other.
///
/// Hint: the accept, with its pauses, is one future among others.
#[test]
fn a_shutdown_does_not_wait_for_a_pause_of_the_accept_loop() {
    run_paused(async || {
        let (_connector, listener) = Failing::new();
        let (stop, serving) = serve_until(Server::new(arith()), listener);
        sleep(millis(10_050)).await;
        stop.send(()).unwrap();
        takes(Duration::ZERO, "the end of the server", serving).await.unwrap().unwrap();
    });
}

/// A connection that never says anything, or breaks the rules and stays, gives its place back in time.
///
/// Otherwise a few silent peers close a server for all others.
///
/// Hint: the place goes with the task of the connection, and every connection ends.
#[test]
fn silent_and_broken_connections_give_their_places_back() {
    run_paused(async || {
        let (connector, listener) = Connector::new();
        let server = Server::new(arith()).max_connections(1);
        let _server = tokio::spawn(async move { server.serve(listener).await });
        let _silent = connector.open(1024);
        let mut broken = connector.open(1024);
        let mut good = connector.open(1024);
        broken.send(&[client_hello(&["application/json"]), frame("no header")].concat()).await;
        good.send(&client_hello(&["application/json"])).await;
        sleep(30 * SECOND).await;
        good.read_json().await;
        good.expect_service().await;
    });
}

/// The default is 16384 connections.
///
/// A default that is not in force is no limit.
///
/// Hint: `DEFAULT_MAX_CONNECTIONS`.
#[test]
fn a_server_has_a_limit_for_connections_by_default() {
    run_paused(async || {
        assert_eq!(DEFAULT_MAX_CONNECTIONS, 16 * 1024);
        let (connector, listener) = Connector::new();
        let server = Server::new(arith()).handshake_timeout(Duration::MAX);
        let _server = tokio::spawn(async move { server.serve(listener).await });
        let mut peers: Vec<_> = (0..DEFAULT_MAX_CONNECTIONS + 10).map(|_| connector.open(16)).collect();
        settle().await;
        assert_eq!(connector.at_server.total(), DEFAULT_MAX_CONNECTIONS);
        peers.truncate(DEFAULT_MAX_CONNECTIONS + 5);
        peers.drain(..3);
        settle().await;
        assert_eq!(connector.at_server.total(), DEFAULT_MAX_CONNECTIONS + 3);
    });
}

/// The median of some times.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// A small message leaves at once, though the one before it is not acknowledged yet: on both sides.
///
/// Nagle's algorithm keeps a small write back while another is under way, and the other side delays its
/// acknowledgement by 40 ms, as it hopes to send it with an answer. Together they make a call 40 ms slower.
///
/// Hint: `TCP_NODELAY`, for what is connected and for what is accepted.
#[test]
fn small_messages_leave_at_once_on_both_sides() {
    run(async || {
        let (client, mut peer) = tcp_pair().await;
        let mut times = Vec::new();
        for number in 0..30 {
            let first = begin(&client, number).await;
            let first_seq = next_call(&mut peer).await.seq();
            let since = Instant::now();
            let second = begin(&client, number).await;
            let second_seq = next_call(&mut peer).await.seq();
            times.push(since.elapsed());
            peer.send(&[reply(first_seq, json!(1)), reply(second_seq, json!(2))].concat()).await;
            within("both replies", async { (first.await.unwrap(), second.await.unwrap()) }).await;
        }
        let median_of_calls = median(times);

        let (handler, mut probe) = probe();
        let server = start(Server::new(handler)).await;
        let mut peer = Peer::connect_json(server.addr).await;
        let mut times = Vec::new();
        for _ in 0..30 {
            peer.send(&[call("Test.gate", 1, json!(null)), call("Test.gate", 2, json!(null))].concat()).await;
            probe.started().await;
            probe.started().await;
            probe.gate.add_permits(1);
            peer.read_message().await;
            let since = Instant::now();
            probe.gate.add_permits(1);
            peer.read_message().await;
            times.push(since.elapsed());
        }
        let median_of_replies = median(times);
        assert!(median_of_calls < millis(20), "a second call takes {median_of_calls:?} to the server");
        assert!(median_of_replies < millis(20), "a second reply takes {median_of_replies:?} to the client");
        eventually("all handlers have gone", || probe.handlers.now() == 0).await;
    });
}
