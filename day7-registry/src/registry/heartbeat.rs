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
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::balance::discovery::Instance;
use crate::deadline::deadline;
use crate::registry::backoff::Backoff;
use crate::registry::{Registry, RegistryError, in_time};

/// The longest time between two heartbeats, however long the lease is. For so long, a registry that was restarted
/// may not know this server.
pub const MAX_HEARTBEAT_INTERVAL: Duration = Duration::from_secs(30);

/// Keeps one server registered, for as long as this value lives.
///
/// Dropping it ends the heartbeats, and the registry forgets the server when its lease ends.
/// [`shutdown`](Heartbeat::shutdown) is better: then it is forgotten at once.
///
/// ```no_run
/// use day7_registry::{Endpoint, Heartbeat, HttpRegistry, Instance};
///
/// # async fn example(addr: std::net::SocketAddr) -> anyhow::Result<()> {
/// let registry = HttpRegistry::new("http://127.0.0.1:9999".parse()?);
/// let heartbeat = Heartbeat::start(registry, Instance::new(Endpoint::tcp(addr)).weight(2));
/// // serve, until a signal to stop; then, before the last calls are drained:
/// heartbeat.shutdown().await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "dropping it stops the heartbeat"]
pub struct Heartbeat {
    instance: Instance,
    time_limit: Duration,
    stop: CancellationToken,
    state: watch::Receiver<State>,
    task: AbortOnDropHandle<Result<(), RegistryError>>,
}

/// What is known after the last heartbeat.
#[derive(Debug, Default)]
struct State {
    /// When the last lease that was granted ends, by our clock. `None` before the first.
    lease_end: Option<Instant>,
    /// What went wrong with the last heartbeat.
    error: Option<RegistryError>,
}

impl Heartbeat {
    /// Registers `instance` now, and then keeps its lease from ending.
    ///
    /// Its endpoint is where clients reach the server, which is not always where it listens: no client can connect
    /// to `0.0.0.0`.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn start(registry: impl Registry, instance: impl Into<Instance>) -> Heartbeat {
        let (sender, state) = watch::channel(State::default());
        let (stop, instance, time_limit) = (CancellationToken::new(), instance.into(), registry.time_limit());
        let running = tokio::spawn(run(registry, instance.clone(), sender, stop.clone()));
        Heartbeat { instance, time_limit, stop, state, task: AbortOnDropHandle::new(running) }
    }

    /// The server that is being registered.
    pub fn instance(&self) -> &Instance {
        &self.instance
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
    /// A heartbeat that is on its way is waited for, and the deregistration comes after it. All of it takes at most
    /// the [time limit](Registry::time_limit) of one request.
    ///
    /// # Errors
    /// [`RegistryError`] if the server could not be deregistered. The registry forgets it when its lease ends.
    ///
    /// # Cancel safety
    /// Dropping the future ends the heartbeats. The server may be deregistered or not.
    pub async fn shutdown(self) -> Result<(), RegistryError> {
        self.stop.cancel();
        in_time(self.time_limit, async {
            let ended = self.task.await;
            ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
        })
        .await
    }
}

/// Registers `instance` until it is stopped, then deregisters it.
async fn run(
    registry: impl Registry,
    instance: Instance,
    state: watch::Sender<State>,
    stop: CancellationToken,
) -> Result<(), RegistryError> {
    let mut backoff = Backoff::new(MAX_HEARTBEAT_INTERVAL);
    while !stop.is_cancelled() {
        // A registry that hangs must not cost the whole lease: there must be time for another attempt.
        let after = backoff.interval.min(registry.time_limit());
        let started = Instant::now();
        let pause = match in_time(after, registry.register(&instance)).await {
            Ok(lease) => {
                // The registry counted from when it read the request, which was after `started`.
                let lease_end = Some(deadline(lease.saturating_sub(started.elapsed())));
                let last = state.send_replace(State { lease_end, error: None });
                if last.lease_end.is_none() || last.error.is_some() {
                    tracing::info!(endpoint = %instance.endpoint, ?lease, "registered");
                }
                backoff.after_success(lease)
            }
            Err(error) => {
                let is_first = state.borrow().error.is_none();
                if is_first {
                    tracing::warn!(endpoint = %instance.endpoint, %error, "cannot register; trying again");
                }
                state.send_modify(|state| state.error = Some(error));
                backoff.after_failure()
            }
        };
        stop.run_until_cancelled(sleep(pause)).await;
    }
    registry.deregister(&instance).await
}
