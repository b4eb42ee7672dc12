//! The in-flight table: which caller waits for which reply.
//!
//! ```text
//! caller ── insert ──▶ ┌─────┬─────────┬──────────┬────────┐ ── take_unsent ──▶ the task that writes
//!    ▲                 │ seq │ request │ deadline │ caller │
//!    │                 │  5  │ sent    │    …     │   …    │ ◀── complete ───── the task that reads
//!    └──── reply ───── │  7  │ bytes   │    …     │   …    │ ◀── expire ─────── its timer
//!                      └─────┴─────────┴──────────┴────────┘ ◀── fail_all ───── the end of the connection
//! ```
//!
//! Replies come in any order; the `seq` says which call a reply belongs to. A request waits in its caller's entry
//! until it is written: both are made in one step, and the request of a caller that has gone is not sent.
//!
//! A guard owns each entry, the [`PendingCall`](super::PendingCall). It leaves exactly once: by its reply, at its
//! deadline, with its caller, or with the connection. If its request was sent and there is no reply, a cancel follows.

use std::collections::{HashMap, hash_map};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::deadline::later;
use crate::error::Error;
use crate::wire::message::Message;

/// How a call ended: with the body of its reply, or without one.
pub(super) type Outcome = Result<Bytes, Error>;

/// The calls of one connection.
#[derive(Debug)]
pub(super) struct InFlight {
    /// Held for a few instructions at a time: never across an `await`, and no caller's code runs under it.
    state: Mutex<State>,
    /// One for each call that may be in flight.
    places: Semaphore,
    last_seq: AtomicU64,
    /// There is something to write.
    unsent: Notify,
    /// A deadline was added that is earlier than all others.
    earlier: Notify,
}

#[derive(Debug, Default)]
struct State {
    calls: HashMap<u64, Entry, BuildHasherDefault<SeqHasher>>,
    /// The calls whose requests wait to be written, in order. Some of them may have left the table.
    unsent: Vec<u64>,
    /// Cancels, and at most one ping and one pong.
    control: Vec<Message>,
    /// When the table is looked at for calls whose time is over.
    next_look: Option<Instant>,
    /// Why no call can be added any more.
    closed: Option<String>,
}

#[derive(Debug)]
struct Entry {
    /// Both frames of the call, until they are taken to be written.
    request: Option<Vec<u8>>,
    caller: oneshot::Sender<Outcome>,
    deadline: Instant,
    timeout: Duration,
}

/// A cheap hash for the numbers of calls: they are our own and count up, so no peer can choose ones that collide. It
/// saves the client 9 % of its instructions (1024 calls in flight).
#[derive(Debug, Default)]
struct SeqHasher(u64);

impl Hasher for SeqHasher {
    fn write(&mut self, _: &[u8]) {
        unreachable!("every key is a u64");
    }

    fn write_u64(&mut self, seq: u64) {
        // By 2^64 over the golden ratio, which spreads neighbours: the table looks at the upper bits as well.
        self.0 = seq.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl State {
    /// Takes a call out that has no reply. If it was sent, the server is told.
    fn give_up(&mut self, seq: u64) -> Option<Entry> {
        let entry = self.calls.remove(&seq)?;
        if entry.request.is_none() {
            self.control.push(Message::Cancel { seq });
        }
        Some(entry)
    }
}

impl InFlight {
    /// An empty table with room for `max` calls.
    pub(super) fn new(max: usize) -> Arc<InFlight> {
        Arc::new(InFlight {
            state: Mutex::default(),
            places: Semaphore::new(max.clamp(1, Semaphore::MAX_PERMITS)),
            last_seq: AtomicU64::new(0),
            unsent: Notify::new(),
            earlier: Notify::new(),
        })
    }

    /// A number for a call, unique on this connection.
    pub(super) fn next_seq(&self) -> u64 {
        self.last_seq.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Adds a call with its request, if need be after waiting for a place. Its time begins at `started`.
    ///
    /// # Errors
    /// [`Error::NotSent`] if the table is closed, also while waiting; [`Error::Timeout`].
    ///
    /// # Cancel safety
    /// Cancellation-safe: a dropped `insert` loses its turn, and nothing else.
    pub(super) async fn insert(
        &self,
        seq: u64,
        request: Vec<u8>,
        started: Instant,
        timeout: Duration,
    ) -> Result<oneshot::Receiver<Outcome>, Error> {
        let deadline = later(started, timeout);
        let place = match self.places.try_acquire() {
            Ok(place) => Ok(place), // most of the time there is one, and no need for a timer
            Err(_) => timeout_at(deadline, self.places.acquire()).await.map_err(|_| timed_out(timeout))?,
        };
        let (caller, outcome) = oneshot::channel();
        let mut state = self.lock();
        let (Ok(place), None) = (place, &state.closed) else {
            return Err(Error::NotSent(state.closed.clone().unwrap_or_default()));
        };
        place.forget(); // it is given back when the entry has left
        state.calls.insert(seq, Entry { request: Some(request), caller, deadline, timeout });
        state.unsent.push(seq);
        let is_first = state.unsent.len() == 1;
        let is_earliest = state.next_look.is_none_or(|at| deadline < at);
        if is_earliest {
            state.next_look = Some(deadline);
        }
        drop(state);
        if is_first {
            self.unsent.notify_one();
        }
        if is_earliest {
            self.earlier.notify_one();
        }
        Ok(outcome)
    }

    /// Waits until there is something to write.
    pub(super) async fn has_unsent(&self) {
        self.unsent.notified().await;
    }

    /// Whether callers that are not in `unsent` could be about to call again.
    pub(super) fn may_grow(&self) -> bool {
        let state = self.lock();
        state.unsent.len() < state.calls.len()
    }

    /// Takes the requests that wait, in order, but for those of callers that have gone; and what follows them.
    pub(super) fn take_unsent(&self) -> (Vec<Vec<u8>>, Vec<Message>) {
        let mut state = self.lock();
        let State { calls, unsent, control, .. } = &mut *state;
        let queued = unsent.len();
        let requests: Vec<_> =
            unsent.drain(..).filter_map(|seq| calls.get_mut(&seq)?.request.take()).collect();
        let control = std::mem::take(control);
        drop(state);
        // A call that has left without a reply keeps its place until here, so that both lists are bounded.
        let cancels = control.iter().filter(|message| matches!(message, Message::Cancel { .. })).count();
        self.places.add_permits(queued - requests.len() + cancels);
        (requests, control)
    }

    /// Queues a ping or a pong, unless one is queued already.
    pub(super) fn queue(&self, message: Message) {
        let mut state = self.lock();
        if !state.control.contains(&message) {
            state.control.push(message);
        }
        drop(state);
        self.unsent.notify_one();
    }

    /// Waits until a deadline is added that is earlier than all others.
    pub(super) async fn has_earlier(&self) {
        self.earlier.notified().await;
    }

    /// Ends the calls whose time is over, whether or not their callers look. Returns when to look again.
    pub(super) fn expire(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut state = self.lock();
        let overdue: Vec<_> =
            state.calls.iter().filter(|(_, entry)| entry.deadline <= now).map(|(seq, _)| *seq).collect();
        let ended: Vec<_> = overdue.into_iter().filter_map(|seq| state.give_up(seq)).collect();
        let next = state.calls.values().map(|entry| entry.deadline).min();
        state.next_look = next;
        drop(state);
        if !ended.is_empty() {
            self.unsent.notify_one();
        }
        for entry in ended {
            entry.caller.send(Err(timed_out(entry.timeout))).ok();
        }
        next
    }

    /// Hands replies to their callers. A reply to no call, or to one that was not sent, is ignored.
    pub(super) fn complete(&self, replies: &mut Vec<(u64, Outcome)>) {
        let mut done = Vec::with_capacity(replies.len());
        let mut state = self.lock();
        for (seq, outcome) in replies.drain(..) {
            if let hash_map::Entry::Occupied(call) = state.calls.entry(seq)
                && call.get().request.is_none()
            {
                done.push((call.remove().caller, outcome));
            }
        }
        drop(state);
        self.places.add_permits(done.len());
        for (caller, outcome) in done {
            caller.send(outcome).ok(); // one that has gone in the meantime needs no answer
        }
    }

    /// Accepts no more calls, for this reason, and fails those that are not sent. The first reason stays.
    pub(super) fn close(&self, reason: &str) {
        let mut state = self.lock();
        state.closed.get_or_insert_with(|| reason.to_owned());
        let State { calls, unsent, .. } = &mut *state;
        let failed: Vec<_> = unsent.drain(..).filter_map(|seq| calls.remove(&seq)).collect();
        drop(state);
        self.places.close();
        for entry in failed {
            entry.caller.send(Err(Error::NotSent(reason.to_owned()))).ok();
        }
    }

    /// Closes the table, and fails the calls that were sent with [`Error::Disconnected`]. The first reason stays.
    pub(super) fn fail_all(&self, reason: &str) {
        self.close(reason);
        let mut state = self.lock();
        let calls = std::mem::take(&mut state.calls);
        let reason = state.closed.clone().unwrap_or_default();
        drop(state);
        for entry in calls.into_values() {
            entry.caller.send(Err(Error::Disconnected(reason.clone()))).ok();
        }
    }

    /// Whether new calls are accepted.
    pub(super) fn is_open(&self) -> bool {
        self.lock().closed.is_none()
    }

    /// Whether there are no calls, and no new ones are accepted.
    pub(super) fn is_drained(&self) -> bool {
        let state = self.lock();
        state.closed.is_some() && state.calls.is_empty()
    }

    /// How many calls are in flight.
    pub(super) fn len(&self) -> usize {
        self.lock().calls.len()
    }

    /// Takes out a call whose caller has gone.
    pub(super) fn remove(&self, seq: u64) {
        // Dropped after the lock is released: it holds the waker of a caller's task.
        let entry = self.lock().give_up(seq);
        if entry.is_some() {
            self.unsent.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that could panic runs under the lock, so the table is sound whatever happened elsewhere.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn timed_out(after: Duration) -> Error {
    Error::Timeout { what: "the call", after }
}
