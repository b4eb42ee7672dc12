//! Hardening, places: whatever still works for a connection counts, also when its caller has gone.
//!
//! No new function. See `start` and `has_room` in `src/server/connection.rs`, and `src/server/handlers.rs`. A `Request`
//! that is alive holds a place: `src/server/handler.rs`.
//!
//! Chapter: Limits

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Sender, channel};

use day7_registry::{Request, Server};
use serde_json::json;
use tokio::io::DuplexStream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::support::peer::{Peer, call};
use crate::support::timeouts::{cancel, peer_of, probe, settle};
use crate::support::{eventually, run, run_paused, serve_in_memory, within};

/// A handler that leaves its work to a thread, as `Handler` recommends: the job holds the request, and ends
/// when the test lets it.
struct Jobs {
    alive: Arc<AtomicUsize>,
    /// Dropping one lets its job end.
    gates: UnboundedReceiver<Sender<()>>,
}

fn jobs(max_in_flight: usize) -> (Server, Jobs) {
    let alive = Arc::<AtomicUsize>::default();
    let (opened, gates) = unbounded_channel();
    let counted = Arc::clone(&alive);
    let server = Server::new(move |request: Request| {
        let (alive, opened) = (Arc::clone(&counted), opened.clone());
        async move {
            let reply = request.reply(&request.seq())?;
            if request.service_method() == "Test.echo" {
                return Ok(reply);
            }
            alive.fetch_add(1, SeqCst);
            let job = move || {
                let (gate, closed) = channel::<()>();
                opened.send(gate).ok();
                closed.recv().ok();
                alive.fetch_sub(1, SeqCst);
                drop(request);
            };
            tokio::task::spawn_blocking(job).await?;
            Ok(reply)
        }
    });
    (server.max_in_flight(max_in_flight), Jobs { alive, gates })
}

/// Checks that a call is served soon: the thread drops its request a moment after the job says that it ends.
async fn expect_a_place(peer: &mut Peer<DuplexStream>, first_seq: u64) {
    for seq in first_seq.. {
        peer.send(&call("Test.echo", seq, json!(null))).await;
        if peer.read_message().await.body.is_some() {
            return;
        }
        assert!(seq < 100_000, "the place of a job that has ended is not free");
    }
}

/// A job that a cancelled handler has left behind in a thread keeps its place while it holds the request: more
/// calls are refused, and there is room again when it has ended.
///
/// `spawn_blocking` goes on after a cancel. In an earlier version 97,365 jobs waited, with a limit of 10
/// handlers.
///
/// Hint: each request holds an `Arc` of what the connection's requests share: its count is the number of
/// requests.
#[test]
fn a_job_that_holds_its_request_keeps_a_place() {
    run(async || {
        let (server, mut jobs) = jobs(2);
        let (mut peer, _served) = serve_in_memory(server);
        peer.handshake_json().await;
        let mut gates = Vec::new();
        for seq in [1, 2] {
            peer.send(&call("Test.job", seq, json!(null))).await;
            gates.push(within("a job starts", jobs.gates.recv()).await.unwrap());
            peer.send(&cancel(seq)).await;
        }
        for seq in 3..200 {
            peer.send(&[call("Test.job", seq, json!(null)), cancel(seq)].concat()).await;
            let refused = peer.read_message().await;
            assert!(refused.seq() == seq && refused.is_refused(), "{refused:?}");
            assert_eq!(refused.code(), "resource_exhausted");
        }
        assert_eq!(jobs.alive.load(SeqCst), 2);

        gates.pop();
        eventually("a job has ended", || jobs.alive.load(SeqCst) == 1).await;
        expect_a_place(&mut peer, 200).await;
    });
}

/// A job whose handler has timed out keeps its place as well, and its call has its answer.
///
/// The caller learns in time that it failed, and the server does not take more work than it can do.
///
/// Hint: nothing more to write.
#[test]
fn a_job_that_outlives_its_handlers_time_keeps_a_place() {
    run(async || {
        let (server, mut jobs) = jobs(1);
        let (mut peer, _served) =
            serve_in_memory(server.handle_timeout(std::time::Duration::from_millis(10)));
        peer.handshake_json().await;
        peer.send(&call("Test.job", 1, json!(null))).await;
        let gate = within("the job starts", jobs.gates.recv()).await.unwrap();
        assert_eq!(peer.read_message().await.code(), "deadline_exceeded");
        peer.send(&call("Test.echo", 2, json!(null))).await;
        assert!(peer.read_message().await.is_refused());
        drop(gate);
        expect_a_place(&mut peer, 3).await;
    });
}

/// "Call, cancel, call, cancel" as fast as it goes has no more handlers alive than the limit, and none of the
/// calls is refused: a cancel gives its place back.
///
/// Aborting is asking; the task is there until it has run once more. HTTP/2 servers had to learn this in 2023,
/// under the name of "rapid reset". And a client that keeps to the limit, as ours does, must not be refused for
/// it.
///
/// Hint: while handlers that are cancelled take the places, do not read on.
#[test]
fn calls_and_cancels_in_a_row_pile_up_nothing() {
    run_paused(async || {
        let (handler, probe) = probe();
        let (mut peer, _served) = peer_of(&Server::new(handler).max_in_flight(8), 1 << 20).await;
        let hang = |seq| call("Test.hang", seq, json!(null));
        let pairs: Vec<u8> = (1..=2000).flat_map(|seq| [hang(seq), cancel(seq)]).flatten().collect();
        peer.send(&pairs).await;
        // As our client does when all of its calls time out at once: all the cancels, then as many calls.
        let mut seqs = 3000..;
        for _ in 0..20 {
            let eight: Vec<u64> = seqs.by_ref().take(8).collect();
            let calls = eight.iter().flat_map(|seq| hang(*seq)).collect::<Vec<_>>();
            let cancels = eight.iter().flat_map(|seq| cancel(*seq)).collect::<Vec<_>>();
            peer.send(&[calls, cancels].concat()).await;
        }
        peer.send(&call("Test.echo", 9999, json!("the last"))).await;
        let reply = peer.read_message().await;
        assert_eq!((reply.seq(), reply.header["reply"]["error"].is_null()), (9999, true), "{reply:?}");
        eventually("all handlers have gone", || probe.handlers.now() == 0).await;
        let peak = probe.handlers.peak();
        assert!((1..=8).contains(&peak), "{peak} handlers were alive at once, and the limit is 8");
    });
}

/// A client that cancels and goes on in the next moment finds its place, however many handlers are slow to go.
///
/// A guard's `Drop` may take its time. While it does, the connection reads nothing; it does not refuse.
///
/// Hint: a refusal is for calls in flight over the limit, not for those that are on their way out.
#[test]
fn one_call_too_many_is_refused_only_while_the_others_are_wanted() {
    run_paused(async || {
        let (handler, mut probe) = probe();
        let (mut peer, _served) = peer_of(&Server::new(handler).max_in_flight(2), 1 << 16).await;
        let hang = |seq| call("Test.hang", seq, json!(null));
        peer.send(&[hang(1), hang(2), hang(3)].concat()).await;
        let refused = peer.read_message().await;
        assert!(refused.seq() == 3 && refused.is_refused(), "{refused:?}");
        peer.send(&[cancel(1), hang(4), hang(5)].concat()).await;
        let refused = peer.read_message().await;
        assert!(refused.seq() == 5 && refused.is_refused(), "{refused:?}");
        let mut started = Vec::new();
        for _ in 0..3 {
            started.push(probe.started().await);
        }
        assert_eq!(started, [1, 2, 4]);
    });
}

/// A cancel of a call that is not there, or not any more, changes nothing; nor does a second one.
///
/// A reply may cross the cancel on its way.
///
/// Hint: what is not in the table is not in flight.
#[test]
fn a_cancel_of_no_call_changes_nothing() {
    run_paused(async || {
        let (handler, mut probe) = probe();
        let (mut peer, _served) = peer_of(&Server::new(handler).max_in_flight(1), 1 << 16).await;
        peer.send(&[cancel(7), call("Test.echo", 1, json!(1)), cancel(1), cancel(1)].concat()).await;
        assert_eq!(peer.read_message().await.seq(), 1);
        peer.send(&[call("Test.hang", 2, json!(null)), cancel(2), cancel(2)].concat()).await;
        assert_eq!(probe.stopped().await, 2);
        settle().await;
        // The number is free again, and the handler that was stopped does not answer for it.
        peer.send(&[call("Test.gate", 2, json!(null)), cancel(1)].concat()).await;
        assert_eq!([probe.started().await, probe.started().await], [2, 2]);
        probe.gate.add_permits(1);
        assert_eq!(peer.read_message().await.value(), 2);
    });
}
