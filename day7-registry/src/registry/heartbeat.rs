//! The heartbeat: a server says, again and again, that it is alive.
//!
//! ```text
//! lease   |◀──────────────── 10 s ────────────────▶|
//! beats   ●            ●            ●            ●        every third of the lease
//! failed  ●            ✗ ✗  ✗       ●                     tried again, sooner and then slower, for ever
//! ```
//!
//! Three beats in a lease, so one may be lost. How long a lease is, the registry says in each answer; a
//! heartbeat with an interval of its own would flap as soon as somebody configured a shorter lease. And it
//! never gives up: a server cannot know when the registry will be back.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::deadline::deadline;
use crate::http::endpoint::Endpoint;
use crate::registry::backoff::{Backoff, SHORTEST_PAUSE};
use crate::registry::client::{RegistryClient, RegistryError};

/// The longest pause between two beats, however long the lease is: so long may a registry that was restarted
/// not know this server.
pub const MAX_BEAT_PAUSE: Duration = Duration::from_secs(30);
/// The longest pause after a failed beat. A third of the lease, if that is shorter.
pub const MAX_HEARTBEAT_PAUSE: Duration = Duration::from_secs(5);

/// Keeps one server registered, for as long as this value lives.
///
/// Dropping it stops the beats; the registry forgets the server when its lease ends.
/// [`shutdown`](Heartbeat::shutdown) is better: then it is forgotten at once.
///
/// ```no_run
/// use day7_registry::{Endpoint, Heartbeat, RegistryClient};
///
/// # async fn example(addr: std::net::SocketAddr) -> anyhow::Result<()> {
/// let registry = RegistryClient::new("http://127.0.0.1:9999".parse()?);
/// let heartbeat = Heartbeat::start(registry, Endpoint::tcp(addr));
/// // serve, until somebody wants us to stop; then, before the last calls are drained:
/// heartbeat.shutdown().await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "dropping it stops the heartbeat"]
pub struct Heartbeat {
    registry: RegistryClient,
    endpoint: Endpoint,
    stop: CancellationToken,
    state: watch::Receiver<State>,
    task: JoinHandle<()>,
}

/// How it stands after the last beat.
#[derive(Debug, Default)]
struct State {
    /// When the last lease that was granted ends, by our clock. `None` before the first.
    lease_end: Option<Instant>,
    /// What went wrong with the last beat.
    error: Option<RegistryError>,
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Heartbeat {
    /// Registers `endpoint` now, and then keeps its lease from ending.
    ///
    /// `endpoint` is where others reach the server, which is not always where it listens: nobody can connect
    /// to `0.0.0.0`.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn start(registry: RegistryClient, endpoint: Endpoint) -> Heartbeat {
        let (sender, state) = watch::channel(State::default());
        let stop = CancellationToken::new();
        let beats = Beats {
            registry: registry.clone(),
            endpoint: endpoint.clone(),
            stop: stop.clone(),
            state: sender,
            lease: None,
            backoff: Backoff::default(),
        };
        Heartbeat { registry, endpoint, stop, state, task: tokio::spawn(beats.run()) }
    }

    /// The server that is being registered.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Waits until the registry has accepted the server for the first time. That may be for ever: see
    /// [`last_error`](Heartbeat::last_error).
    ///
    /// # Cancel safety
    /// Cancellation-safe.
    pub async fn wait_registered(&self) {
        let mut state = self.state.clone();
        // An error means that the task is gone, and that happens only together with this value.
        state.wait_for(|state| state.lease_end.is_some()).await.ok();
    }

    /// Whether the registry lists the server, as far as we can know: a lease was granted, and has not ended.
    pub fn is_registered(&self) -> bool {
        self.state.borrow().lease_end.is_some_and(|end| Instant::now() < end)
    }

    /// Why the last beat failed; `None` if it did not.
    pub fn last_error(&self) -> Option<RegistryError> {
        self.state.borrow().error.clone()
    }

    /// Stops the beats and deregisters the server, so that clients stop calling it before it stops answering.
    ///
    /// A beat that is on its way is waited for, at most for its time limit. It must not be given up: the
    /// registry might read it after the farewell, and list a dead server for one more lease.
    ///
    /// # Errors
    /// [`RegistryError`] if the farewell failed. The registry forgets the server when its lease ends.
    ///
    /// # Cancel safety
    /// Dropping the future stops the beats. The server may be deregistered or not.
    pub async fn shutdown(mut self) -> Result<(), RegistryError> {
        self.stop.cancel();
        if let Err(error) = (&mut self.task).await {
            tracing::error!(%error, "the heartbeat's task failed");
        }
        self.registry.deregister(&self.endpoint).await
    }
}

/// What the task of a heartbeat owns.
struct Beats {
    registry: RegistryClient,
    endpoint: Endpoint,
    stop: CancellationToken,
    state: watch::Sender<State>,
    /// The lease that the registry granted last.
    lease: Option<Duration>,
    backoff: Backoff,
}

impl Beats {
    async fn run(mut self) {
        while !self.stop.is_cancelled() {
            let pause = self.beat().await;
            tokio::select! {
                () = sleep(pause) => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    /// One beat. Returns the pause after it.
    async fn beat(&mut self) -> Duration {
        // A registry that hangs must not cost the whole lease: there must be time for another attempt.
        let after = self.third_of_lease().unwrap_or(Duration::MAX).min(self.registry.time_limit());
        let started = Instant::now();
        match self.registry.clone().timeout(after).register(&self.endpoint).await {
            Ok(lease) => {
                self.lease = Some(lease);
                self.backoff.reset();
                // The registry counted from when it read the request, which was after `started`.
                let lease_end = deadline(lease.saturating_sub(started.elapsed()));
                let last = self.state.send_replace(State { lease_end: Some(lease_end), error: None });
                if last.lease_end.is_none() || last.error.is_some() {
                    tracing::info!(endpoint = %self.endpoint, ?lease, "registered");
                }
                self.third_of_lease().unwrap_or(SHORTEST_PAUSE)
            }
            Err(error) => {
                let is_first = self.state.borrow().error.is_none();
                if is_first {
                    tracing::warn!(endpoint = %self.endpoint, %error, "cannot register; trying on");
                }
                self.state.send_modify(|state| state.error = Some(error));
                let longest = self.third_of_lease().unwrap_or(Duration::MAX).min(MAX_HEARTBEAT_PAUSE);
                self.backoff.next(longest)
            }
        }
    }

    fn third_of_lease(&self) -> Option<Duration> {
        self.lease.map(|lease| (lease / 3).clamp(SHORTEST_PAUSE, MAX_BEAT_PAUSE))
    }
}
