//! The heartbeat: a server renews its lease, again and again.
//!
//! ```text
//! lease       |◀──────────────── 10 s ────────────────▶|
//! heartbeats  ●            ●            ●            ●        every third of the lease, or a little earlier
//! failed      ●            ✗ ✗  ✗       ●                     tried again, sooner and then slower
//! ```
//!
//! Three heartbeats in a lease, so one may be lost. The registry's answer says how long a lease is: with an
//! interval of its own, a server would lose each lease of a registry that grants shorter ones. And a heartbeat
//! never gives up, as a server cannot know when the registry will be back.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::deadline::deadline;
use crate::http::endpoint::Endpoint;
use crate::registry::backoff::{Backoff, SHORTEST_PAUSE, spread};
use crate::registry::client::{RegistryClient, RegistryError};

/// The longest time between two heartbeats, however long the lease is. For so long, a registry that was restarted
/// may not know this server.
pub const MAX_HEARTBEAT_INTERVAL: Duration = Duration::from_secs(30);
/// The longest pause after a failed heartbeat. A third of the lease, if that is shorter.
pub const MAX_HEARTBEAT_BACKOFF: Duration = Duration::from_secs(5);

/// Keeps one server registered, for as long as this value lives.
///
/// Dropping it ends the heartbeats, and the registry forgets the server when its lease ends.
/// [`shutdown`](Heartbeat::shutdown) is better: then it is forgotten at once.
///
/// ```no_run
/// use day7_registry::{Endpoint, Heartbeat, RegistryClient};
///
/// # async fn example(addr: std::net::SocketAddr) -> anyhow::Result<()> {
/// let registry = RegistryClient::new("http://127.0.0.1:9999".parse()?);
/// let heartbeat = Heartbeat::start(registry, Endpoint::tcp(addr));
/// // serve, until a signal to stop; then, before the last calls are drained:
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

/// What is known after the last heartbeat.
#[derive(Debug, Default)]
struct State {
    /// When the last lease that was granted ends, by our clock. `None` before the first.
    lease_end: Option<Instant>,
    /// What went wrong with the last heartbeat.
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
    /// `endpoint` is where clients reach the server, which is not always where it listens: no client can connect
    /// to `0.0.0.0`.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn start(registry: RegistryClient, endpoint: Endpoint) -> Heartbeat {
        let (sender, state) = watch::channel(State::default());
        let stop = CancellationToken::new();
        let task = Task {
            registry: registry.clone(),
            endpoint: endpoint.clone(),
            stop: stop.clone(),
            state: sender,
            lease: None,
            backoff: Backoff::default(),
        };
        Heartbeat { registry, endpoint, stop, state, task: tokio::spawn(task.run()) }
    }

    /// The server that is being registered.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Waits until the registry has accepted the server for the first time. This has no limit: see
    /// [`last_error`](Heartbeat::last_error) for what is wrong.
    ///
    /// # Cancel safety
    /// Cancellation-safe.
    pub async fn wait_registered(&self) {
        let mut state = self.state.clone();
        // An error means that the task is gone, and that happens only together with this value.
        state.wait_for(|state| state.lease_end.is_some()).await.ok();
    }

    /// Whether the registry lists the server, as far as can be known here: a lease was granted, and has not ended.
    pub fn is_registered(&self) -> bool {
        self.state.borrow().lease_end.is_some_and(|end| Instant::now() < end)
    }

    /// Why the last heartbeat failed. `None` if it did not.
    pub fn last_error(&self) -> Option<RegistryError> {
        self.state.borrow().error.clone()
    }

    /// Ends the heartbeats and deregisters the server, so that clients stop calling it before it stops answering.
    ///
    /// A heartbeat that is on its way is waited for. It must not be given up: the registry might read it after the
    /// deregistration, and list a dead server for one more lease. All of it takes at most the
    /// [time limit](RegistryClient::timeout) of one request.
    ///
    /// # Errors
    /// [`RegistryError`] if the server could not be deregistered. The registry forgets it when its lease ends.
    ///
    /// # Cancel safety
    /// Dropping the future ends the heartbeats. The server may be deregistered or not.
    pub async fn shutdown(mut self) -> Result<(), RegistryError> {
        self.stop.cancel();
        let after = self.registry.time_limit();
        let deregistering = async {
            if let Err(error) = (&mut self.task).await {
                tracing::error!(%error, "the heartbeat's task failed");
            }
            self.registry.deregister(&self.endpoint).await
        };
        timeout(after, deregistering).await.unwrap_or(Err(RegistryError::Timeout { after }))
    }
}

/// What the task of a heartbeat owns.
struct Task {
    registry: RegistryClient,
    endpoint: Endpoint,
    stop: CancellationToken,
    state: watch::Sender<State>,
    /// The lease that the registry granted last.
    lease: Option<Duration>,
    backoff: Backoff,
}

impl Task {
    async fn run(mut self) {
        while !self.stop.is_cancelled() {
            let pause = self.attempt().await;
            tokio::select! {
                () = sleep(pause) => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    /// Registers or renews. Returns the pause after it.
    async fn attempt(&mut self) -> Duration {
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
                spread(self.third_of_lease().unwrap_or(SHORTEST_PAUSE))
            }
            Err(error) => {
                let is_first = self.state.borrow().error.is_none();
                if is_first {
                    tracing::warn!(endpoint = %self.endpoint, %error, "cannot register; trying again");
                }
                self.state.send_modify(|state| state.error = Some(error));
                let longest = self.third_of_lease().unwrap_or(Duration::MAX).min(MAX_HEARTBEAT_BACKOFF);
                self.backoff.next(longest)
            }
        }
    }

    fn third_of_lease(&self) -> Option<Duration> {
        self.lease.map(|lease| (lease / 3).clamp(SHORTEST_PAUSE, MAX_HEARTBEAT_INTERVAL))
    }
}
