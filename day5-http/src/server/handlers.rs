//! The handlers in flight of one connection: a task for each that was not ready at once.

use std::collections::HashMap;
use std::time::Duration;

use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

use crate::error::{Code, RemoteError};
use crate::server::handler::{Call, Outcome};

/// A table of calls with room for more than this is not kept: an idle connection would hold it to its end.
const KEPT_CALLS: usize = 64;

/// How a task ended.
pub(super) type Ended = Result<(Id, Outcome), JoinError>;

#[derive(Debug, Default)]
pub(super) struct Handlers {
    /// Dropping the set aborts them.
    tasks: JoinSet<Outcome>,
    /// The tasks of the calls whose callers wait, by `seq`.
    in_flight: HashMap<u64, AbortHandle>,
    /// The `seq` of each of these tasks. That of a cancelled one may be the number of another call by now.
    seqs: HashMap<Id, u64>,
}

impl Handlers {
    /// How many calls have a caller that waits.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// How many tasks there are.
    pub(super) fn alive(&self) -> usize {
        self.tasks.len()
    }

    /// How many of them were cancelled and are not yet gone.
    pub(super) fn leaving(&self) -> usize {
        self.tasks.len() - self.in_flight.len()
    }

    pub(super) fn contains(&self, seq: u64) -> bool {
        self.in_flight.contains_key(&seq)
    }

    /// Lets a handler go on in a task.
    pub(super) fn spawn(&mut self, seq: u64, call: Call, after: Duration) {
        let task = self.tasks.spawn(call.within(after));
        self.seqs.insert(task.id(), seq);
        self.in_flight.insert(seq, task);
    }

    /// Stops a handler at its `await`: aborting drops it there.
    pub(super) fn cancel(&mut self, seq: u64) {
        if let Some(task) = self.in_flight.remove(&seq) {
            self.seqs.remove(&task.id());
            task.abort();
        }
    }

    /// Stops all handlers.
    pub(super) fn abort_all(&mut self) {
        self.tasks.abort_all();
    }

    /// Waits for the next task to end. `None`: there is no task. Cancellation-safe.
    pub(super) async fn next(&mut self) -> Option<Ended> {
        self.tasks.join_next_with_id().await
    }

    /// The next task that has ended already.
    pub(super) fn try_next(&mut self) -> Option<Ended> {
        self.tasks.try_join_next_with_id()
    }

    /// Takes a call that has ended out of the tables. `None`: its caller has cancelled it, and waits for no reply.
    pub(super) fn remove(&mut self, ended: Ended) -> Option<(u64, Outcome)> {
        let (id, result) = ended.unwrap_or_else(|error| {
            // Panics end in `Call`. The runtime stops a task when it shuts down.
            (error.id(), Err(RemoteError::new(Code::INTERNAL, "the handler was stopped")))
        });
        let seq = self.seqs.remove(&id)?;
        self.in_flight.remove(&seq);
        if self.in_flight.is_empty() {
            self.in_flight.shrink_to(KEPT_CALLS);
            self.seqs.shrink_to(KEPT_CALLS);
        }
        Some((seq, result))
    }
}
