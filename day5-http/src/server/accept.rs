//! The accept loop: how many connections, what happens when an accept fails, and how it all ends.
//!
//! ```text
//! a place is free ─▶ accept ─▶ serve, in a task that holds the place
//!                      │
//!                      └─ an error? wait a little, try again
//! signal ─▶ close the listener ─▶ tell every connection ─▶ wait ─▶ the grace period is over: stop the rest
//! ```

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::deadline::deadline;
use crate::error::Error;
use crate::server::listener::Listener;

/// After a failed accept: the first pause, doubled after every further failure up to the second one.
const ACCEPT_BACKOFF: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// How long tasks that were told to stop have for it. One that blocks its thread is not waited for.
const ABORT_TIME: Duration = Duration::from_millis(100);

/// How an accepted connection ended.
type Ended = Result<(Option<SocketAddr>, Result<(), Error>), JoinError>;

/// Accepts connections until `signal`, at most `max_connections` at once, and runs `serve_one` for each in a task
/// that this future owns. The token that it is given fires at shutdown.
///
/// # Errors
/// [`Error::Timeout`] if a call was in flight when the grace period ended.
pub(crate) async fn accept_loop<L, F, Fut>(
    mut listener: L,
    max_connections: usize,
    grace_period: Duration,
    signal: impl Future<Output = ()>,
    serve_one: F,
) -> Result<(), Error>
where
    L: Listener,
    F: Fn(L::Io, Option<SocketAddr>, CancellationToken) -> Fut,
    Fut: Future<Output = Result<(), Error>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(max_connections.min(Semaphore::MAX_PERMITS)));
    let shutdown = CancellationToken::new();
    let mut connections = JoinSet::new();
    let mut signal = pin!(signal);
    'accepting: loop {
        let mut accepted = pin!(accept(&mut listener, &places));
        let (io, peer, place) = loop {
            tokio::select! {
                accepted = &mut accepted => break accepted,
                // A finished task stays in the set until its result is taken.
                Some(ended) = connections.join_next() => log_end(&ended),
                () = &mut signal => break 'accepting,
            }
        };
        // Boxed, or the task would have room for it twice: 2.4 KiB more for each connection.
        let served = Box::pin(serve_one(io, peer, shutdown.child_token()));
        connections.spawn(async move {
            let _place = place;
            (peer, served.await)
        });
    }

    // The listener first: a client that comes now finds another server, instead of waiting for this one.
    drop(listener);
    shutdown.cancel();
    // Each connection keeps to the grace period by itself, but for one that blocks its thread.
    let over = deadline(grace_period);
    let drained = timeout(grace_period.saturating_add(ABORT_TIME / 2), drain(&mut connections, over)).await;
    timeout(ABORT_TIME / 2, connections.shutdown()).await.ok();
    if drained == Ok(true) {
        return Ok(());
    }
    Err(Error::Timeout { what: "shutting down", after: grace_period })
}

/// Waits for a place first, and only then for a connection. One more than there are places waits in the queue of
/// the system, where it costs nothing and is served in its turn.
async fn accept<L: Listener>(
    listener: &mut L,
    places: &Arc<Semaphore>,
) -> (L::Io, Option<SocketAddr>, Option<OwnedSemaphorePermit>) {
    let place = Arc::clone(places).acquire_owned().await.ok(); // it is never closed
    let (mut pause, longest) = ACCEPT_BACKOFF;
    loop {
        match listener.accept().await {
            Ok((io, peer)) => return (io, peer, place),
            Err(error) => tracing::warn!(%error, ?pause, "accept failed"),
        }
        sleep(pause).await;
        pause = longest.min(pause * 2);
    }
}

/// Waits for the end of all connections. `false`: one of them had to stop a call, as the grace period was over.
async fn drain(connections: &mut JoinSet<(Option<SocketAddr>, Result<(), Error>)>, over: Instant) -> bool {
    let mut is_clean = true;
    while let Some(ended) = connections.join_next().await {
        log_end(&ended);
        // Before that, what timed out was a client that stopped in the middle of a message, for example.
        is_clean &= Instant::now() < over || !matches!(ended, Ok((_, Err(Error::Timeout { .. }))));
    }
    is_clean
}

fn log_end(ended: &Ended) {
    match ended {
        Ok((peer, Ok(()))) => tracing::debug!(?peer, "connection closed"),
        Ok((peer, Err(reason))) => tracing::info!(?peer, reason = ?reason.to_string(), "connection broken"),
        Err(error) => tracing::error!(%error, "connection task failed"),
    }
}
