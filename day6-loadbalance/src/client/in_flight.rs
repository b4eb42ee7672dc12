//! The in-flight table: who waits for which reply.
//!
//! ```text
//! caller ── register ──▶ seq 7 ─▶ ┌─────┬─────────┐
//!    ▲                            │ seq │ waiting │
//!    └───────── reply 7 ◀──────── │  5  │ …       │ ◀── complete(7) ── a reply arrives
//!                                 │  7  │ caller  │
//!                                 └─────┴─────────┘ ◀── fail_all ── the connection has ended
//! ```
//!
//! Many calls share one connection, and replies come in any order; the `seq` in the header says which call
//! a reply belongs to. Every entry leaves the table exactly once: with its reply, because its caller went
//! away, or because the connection ended. GeeRPC's client keeps a map too, but its entries can stay for
//! ever. Here a guard owns the entry, so that cannot happen.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::client::connection::Outgoing;
use crate::error::{Error, in_short};
use crate::wire::message::Message;

/// The default limit for the calls that one client may have in flight. Further calls wait for their turn.
pub const DEFAULT_MAX_PENDING: usize = 1024;

/// How a call ended: with a message from the server, or without one. A reply with an error is a message, too:
/// `Ok`.
pub type Outcome = Result<Message, Error>;

/// The calls of one connection that wait for their replies.
#[derive(Debug)]
pub struct Pending {
    /// Held for a few instructions at a time, never across an `await`.
    state: Mutex<State>,
    /// One permit per call that may be in flight: each entry has one. Closed together with the table.
    slots: Arc<Semaphore>,
}

/// The caller, and its place in the table. The place is free again when the entry is taken out, even if
/// the caller looks at the outcome much later.
type Waiting = (oneshot::Sender<Outcome>, OwnedSemaphorePermit);

#[derive(Debug, Default)]
struct State {
    waiting: HashMap<u64, Waiting>,
    last_seq: u64,
    /// Why no call can be registered any more.
    closed: Option<String>,
}

impl Pending {
    /// An empty table with room for `max` calls.
    pub fn new(max: usize) -> Arc<Pending> {
        Arc::new(Pending { state: Mutex::default(), slots: Arc::new(Semaphore::new(max)) })
    }

    /// Adds a call, if need be after waiting for room. Register before you send: the reply may come back
    /// before `send` returns.
    ///
    /// # Errors
    /// [`Error::Disconnected`] if the table is closed, also while waiting.
    ///
    /// # Cancel safety
    /// Cancellation-safe: a dropped `register` loses its place in the queue, and nothing else.
    pub async fn register(self: &Arc<Self>) -> Result<InFlight, Error> {
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        let mut state = self.lock();
        match (slot, &state.closed) {
            (Ok(slot), None) => {
                let (sender, outcome) = oneshot::channel();
                state.last_seq += 1;
                let seq = state.last_seq;
                state.waiting.insert(seq, (sender, slot));
                drop(state);
                Ok(InFlight { pending: Arc::clone(self), seq, outcome, cancel: None })
            }
            (_, reason) => Err(Error::Disconnected(reason.clone().unwrap_or_default())),
        }
    }

    /// Hands the outcome of call `seq` to its caller. `false` if nobody waits for it (any more).
    pub fn complete(&self, seq: u64, outcome: Outcome) -> bool {
        let waiting = self.lock().waiting.remove(&seq);
        waiting.is_some_and(|(caller, _)| caller.send(outcome).is_ok())
    }

    /// Accepts no more calls, for this reason; those in flight go on. The first reason stays. A long one is cut
    /// short: it may be the peer's, and every caller gets a copy.
    pub fn close(&self, reason: &str) {
        self.lock().closed.get_or_insert_with(|| in_short(reason));
        self.slots.close();
    }

    /// Closes the table, and fails every call in it with [`Error::Disconnected`]. The first reason stays.
    pub fn fail_all(&self, reason: &str) {
        self.close(reason);
        let mut state = self.lock();
        let waiting = std::mem::take(&mut state.waiting);
        let reason = state.closed.clone().unwrap_or_default();
        drop(state);
        for (caller, _) in waiting.into_values() {
            // A caller that has gone in the meantime needs no answer.
            caller.send(Err(Error::Disconnected(reason.clone()))).ok();
        }
    }

    /// Whether new calls are accepted.
    pub fn is_open(&self) -> bool {
        self.lock().closed.is_none()
    }

    /// How many calls are in flight.
    pub fn len(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Whether no call is in flight.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that could panic runs under the lock, so the table is sound whatever happened elsewhere.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One call in the table: await it for its outcome, drop it to take it out.
///
/// # Cancel safety
/// Awaiting it by `&mut` is cancellation-safe. Dropping it removes the entry.
#[derive(Debug)]
#[must_use = "dropping it gives the call up"]
pub struct InFlight {
    pending: Arc<Pending>,
    seq: u64,
    outcome: oneshot::Receiver<Outcome>,
    /// Where to tell the server that the caller has gone. `None` until the request is queued.
    cancel: Option<mpsc::Sender<Outgoing>>,
}

impl InFlight {
    /// The number of this call, unique on its connection.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// From now on, dropping this before the outcome is here sends `$/cancel`.
    pub(crate) fn cancel_through(&mut self, outgoing: mpsc::Sender<Outgoing>) {
        self.cancel = Some(outgoing);
    }
}

impl Future for InFlight {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let received = ready!(Pin::new(&mut self.outcome).poll(cx));
        // The table never forgets a sender: it takes one out only to use it.
        Poll::Ready(
            received.unwrap_or_else(|_| Err(Error::Disconnected("the call was forgotten".to_owned()))),
        )
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.outcome.is_terminated() {
            return; // with its outcome, it has left the table already
        }
        let waiting = self.pending.lock().waiting.remove(&self.seq);
        if let (Some((_, slot)), Some(outgoing)) = (waiting, self.cancel.take()) {
            // The slot goes with the cancel. So there are never more than two messages per slot in the
            // queue, the request and its cancel, and that is the room it has: this does not fail unless
            // the connection has ended.
            outgoing.try_send(Outgoing::cancel(self.seq, slot)).ok();
        }
    }
}
