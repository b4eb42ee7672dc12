//! Time limits: every wait ends.
//!
//! This is the one place for the defaults; [`Options`](crate::Options) and [`Server`](crate::Server) have a
//! setter for each. A limit wraps the whole of what it limits, once: connecting and shaking hands share one
//! deadline, and the deadline of a call covers the wait for a place, the write, the handler and the reply.
//!
//! ```text
//! client  |◀── connect ──▶|      |◀───────────────── call ─────────────────▶|
//! wire     TCP  handshake         request ───▶             ───▶ reply
//! server       |◀handshake▶|                  |◀─ handle ─▶|◀─ write ─▶|
//! ```
//!
//! A limit stops a wait by dropping its future. So nothing is left behind if, and only if, every future
//! cleans up when it is dropped: its tasks, its entry in the in-flight table, its socket.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::error::Error;

/// Client: the default for connecting, the TCP connection and the handshake together.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Client: the default for one call, from `start` to the last byte of the reply.
pub const DEFAULT_CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Client: the default for the silence of a server while calls wait, after which the client sends a ping.
pub const DEFAULT_PING_INTERVAL: Duration = Duration::from_secs(5);
/// Client: the default for the silence after a ping, after which the connection is given up.
pub const DEFAULT_PING_TIMEOUT: Duration = Duration::from_secs(5);
/// Both sides: the default for a write of which the peer takes nothing.
pub const DEFAULT_WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Server: the default for the handshake of a new connection.
pub const DEFAULT_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Server: the default for one handler. A client may ask for less.
pub const DEFAULT_HANDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Server: the default for the next bytes of a message that has begun.
pub const DEFAULT_READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Server: the default for a whole message, from its first byte to its last.
pub const DEFAULT_MESSAGE_TIMEOUT: Duration = Duration::from_secs(60);
/// Server: how long a large body waits for the budget of bytes; then its call is refused. It is less than the silence
/// that a client bears.
pub const BUDGET_TIMEOUT: Duration = Duration::from_secs(2);
/// Server: the default for a connection with no call in flight.
pub const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// Server: the default for the calls in flight to end when it shuts down.
pub const DEFAULT_GRACE_PERIOD: Duration = Duration::from_secs(10);

/// Waits for `future`, but not longer than `after`. Then it is dropped, and `what` names it in the error.
///
/// Any duration will do, [`Duration::MAX`] too: Tokio's timers take "too far to tell" for "never".
pub(crate) async fn limit<T>(
    what: &'static str,
    after: Duration,
    future: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::time::timeout(after, future).await.unwrap_or(Err(Error::Timeout { what, after }))
}

/// The instant `after` from now, or one so far away that it never comes.
pub(crate) fn deadline(after: Duration) -> Instant {
    later(Instant::now(), after)
}

/// The instant `after` from `start`, or one so far away that it never comes.
pub(crate) fn later(start: Instant, after: Duration) -> Instant {
    const THIRTY_YEARS: Duration = Duration::from_secs(1_000_000_000);
    start.checked_add(after).unwrap_or(start + THIRTY_YEARS)
}

/// One timer for many deadlines, most of which move before they come. It rings at the earliest that it was ever
/// set to; the owner then looks at its deadlines, and sets it again. So a deadline that moves costs nothing.
#[derive(Debug)]
pub(crate) struct Alarm {
    sleep: Pin<Box<Sleep>>,
    is_set: bool,
}

impl Alarm {
    pub(crate) fn new() -> Alarm {
        Alarm { sleep: Box::pin(tokio::time::sleep_until(deadline(Duration::MAX))), is_set: false }
    }

    /// Rings at `at`, or earlier.
    pub(crate) fn set(&mut self, at: Instant) {
        if !self.is_set || at < self.sleep.deadline() {
            self.sleep.as_mut().reset(at);
            self.is_set = true;
        }
    }

    /// Waits until it rings, which it does only if it is set. Cancellation-safe.
    pub(crate) async fn ring(&mut self) {
        if !self.is_set {
            std::future::pending::<()>().await;
        }
        self.sleep.as_mut().await;
        self.is_set = false;
    }
}
