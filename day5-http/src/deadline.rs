//! Time limits: every wait ends.
//!
//! This is the one place for the defaults; [`Options`](crate::Options) and [`Server`](crate::Server) have a
//! setter for each. A limit wraps the whole of what it limits, once: connecting and shaking hands share one
//! deadline, and the deadline of a call covers the queue, the write, the handler and the reply.
//!
//! ```text
//! client  |◀── connect ──▶|      |◀───────────────── call ─────────────────▶|
//! wire     TCP  handshake         request ───▶             ───▶ reply
//! server       |◀handshake▶|                  |◀─ handle ─▶|◀─ write ─▶|
//! ```
//!
//! A limit stops a wait by dropping its future. So nothing is left behind if, and only if, every future
//! cleans up when it is dropped: its tasks, its entry in the in-flight table, its socket.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::Error;

/// Client: the default for connecting, the TCP connection and the handshake together.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Client: the default for one call, from the first byte queued to the last byte of the reply.
pub const DEFAULT_CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Server: the default for one handler. A client may ask for less.
pub const DEFAULT_HANDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Server: the default for the handshake of a new connection.
pub const DEFAULT_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Both sides: the default for a write in which the peer takes not one byte.
pub const DEFAULT_WRITE_TIMEOUT: Duration = Duration::from_secs(10);
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

/// The instant `after` from now, or one so far away that nobody will see it.
pub(crate) fn deadline(after: Duration) -> Instant {
    const THIRTY_YEARS: Duration = Duration::from_secs(1_000_000_000);
    let now = Instant::now();
    now.checked_add(after).unwrap_or(now + THIRTY_YEARS)
}
