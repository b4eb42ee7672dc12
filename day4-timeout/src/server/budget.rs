//! The budget of bytes: how much memory the large bodies of requests take, on all connections together.
//!
//! ```text
//! header ─▶ the body's length ─▶ large? wait for the budget ─▶ read the body ─▶ handler, until its Request goes
//!                                           │
//!                                           └─ for too long? refuse the call, throw the body away
//! ```
//!
//! A connection that waits reads nothing, no ping either. So it must not wait until the client gives it up.

use std::future::poll_fn;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::PollSemaphore;

/// The default for the memory that large bodies of requests may take at once, in bytes: 256 MiB.
pub const DEFAULT_MAX_REQUEST_BYTES: usize = 256 * 1024 * 1024;

/// A body longer than this counts against the server's budget, in bytes.
pub const LARGE_BODY_LEN: usize = 64 * 1024;

/// The memory for large bodies. All connections of a server share it.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    /// One for each KiB.
    permits: Arc<Semaphore>,
    max: u32,
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Budget {
        let max = u32::try_from(bytes / 1024).unwrap_or(u32::MAX).max(1);
        let max = max.min(u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        Budget { permits: Arc::new(Semaphore::new(max as usize)), max }
    }

    /// How many permits a body of this length takes. One that is longer than the whole budget takes all of it.
    fn permits_for(&self, body_len: usize) -> u32 {
        u32::try_from(body_len.div_ceil(1024)).unwrap_or(u32::MAX).min(self.max)
    }
}

/// What one connection has of the budget.
#[derive(Debug)]
pub(super) struct Share {
    budget: Budget,
    /// Its turn among the connections that wait.
    turn: PollSemaphore,
    /// For the body that comes next.
    held: Option<OwnedSemaphorePermit>,
}

impl Share {
    pub(super) fn new(budget: &Budget) -> Share {
        let turn = PollSemaphore::new(Arc::clone(&budget.permits));
        Share { budget: budget.clone(), turn, held: None }
    }

    /// How many permits the next body needs, if it is large and has none yet.
    pub(super) fn wanted(&self, next_body_len: Option<usize>) -> Option<u32> {
        let len = next_body_len.filter(|len| *len > LARGE_BODY_LEN)?;
        self.held.is_none().then(|| self.budget.permits_for(len))
    }

    /// Waits for the permits that are wanted. Cancellation-safe: it keeps its turn.
    pub(super) async fn acquire(&mut self, wanted: Option<u32>) {
        self.held = poll_fn(|cx| self.turn.poll_acquire_many(cx, wanted.unwrap_or(1))).await;
    }

    /// Gives up the turn.
    pub(super) fn give_up(&mut self) {
        self.turn = PollSemaphore::new(Arc::clone(&self.budget.permits));
    }

    /// The permits of a body that has been read, for its request to hold.
    pub(super) fn take(&mut self) -> Option<OwnedSemaphorePermit> {
        self.held.take()
    }
}
