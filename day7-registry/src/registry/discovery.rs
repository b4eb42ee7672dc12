//! Discovery through the registry: the list keeps itself up to date.
//!
//! ```text
//! BalancedClient ── reads ──▶ the last good list      never waits for the registry
//!                                  ▲
//!                             one task ── GET, every third of a lease ──▶ registry
//! ```
//!
//! The list is refreshed beside the calls, never inside of them. So while the registry is slow, down, or answers
//! badly, calls go on with the list that is there. A server that has died since costs a failed dial, and the
//! balanced client goes to the next one.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::balance::discovery::{Discovery, Servers};
use crate::balance::multi_servers::MultiServersDiscovery;
use crate::registry::backoff::Backoff;
use crate::registry::{DEFAULT_MAX_SERVERS, Registry, ServerList, in_time};

/// The longest time between two refreshes, however long the lease is.
pub const MAX_REFRESH_INTERVAL: Duration = Duration::from_secs(30);
/// How long after a refresh the next one may come before its time, however many callers want it.
pub const MIN_REFRESH_INTERVAL: Duration = Duration::from_millis(100);

/// Knows the servers that a registry lists.
///
/// Its task ends when this value is dropped.
///
/// ```no_run
/// use day7_registry::{BalancedClient, HttpRegistry, Options, RegistryDiscovery, SelectMode};
///
/// # async fn example() -> anyhow::Result<()> {
/// let registry = HttpRegistry::new("http://127.0.0.1:9999".parse()?);
/// let servers = RegistryDiscovery::start(registry);
/// let client = BalancedClient::new(servers, SelectMode::RoundRobin, &Options::default());
/// let sum: i32 = client.call("Arith.sum", &(1, 2)).await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct RegistryDiscovery {
    shared: Arc<Shared>,
    _refreshing: AbortOnDropHandle<()>,
}

/// What the task and the calls have in common.
#[derive(Debug)]
struct Shared {
    list: MultiServersDiscovery,
    /// Wakes the task for an attempt before its time. However often that is, it is one attempt.
    wanted: Notify,
    /// Whether the task waits after a failed attempt. Nothing cuts that short.
    is_resting: AtomicBool,
}

impl RegistryDiscovery {
    /// Gets the list now, and then every third of a lease, or a little earlier by chance.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn start(registry: impl Registry) -> RegistryDiscovery {
        RegistryDiscovery::start_with(registry, MultiServersDiscovery::unknown())
    }

    /// As [`start`](RegistryDiscovery::start), with a list to begin with. It is used until the registry has answered.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn start_with(registry: impl Registry, list: MultiServersDiscovery) -> RegistryDiscovery {
        let shared = Arc::new(Shared { list, wanted: Notify::new(), is_resting: AtomicBool::new(false) });
        let running = tokio::spawn(run(registry, Arc::clone(&shared)));
        RegistryDiscovery { shared, _refreshing: AbortOnDropHandle::new(running) }
    }
}

impl Discovery for RegistryDiscovery {
    fn servers(&self) -> watch::Receiver<Servers> {
        self.shared.list.servers()
    }

    /// Brings the next attempt forward, to [`MIN_REFRESH_INTERVAL`] after the last one. After a failed attempt, the
    /// next one comes when the back-off is over, and not earlier: until then this is `false`.
    fn refresh(&self) -> bool {
        let is_resting = self.shared.is_resting.load(Ordering::Relaxed);
        if !is_resting {
            self.shared.wanted.notify_one();
        }
        !is_resting
    }
}

/// Refreshes the list, again and again.
async fn run(registry: impl Registry, shared: Arc<Shared>) {
    let mut backoff = Backoff::new(MAX_REFRESH_INTERVAL);
    let mut is_stale = false;
    loop {
        match in_time(registry.time_limit(), registry.servers()).await {
            Ok(list) => {
                if is_stale {
                    tracing::info!("the list of servers is fresh again");
                }
                is_stale = false;
                let pause = backoff.after_success(list.lease);
                shared.update(list);
                // A caller may cut the pause short, but not to nothing.
                let at_least = pause.min(MIN_REFRESH_INTERVAL);
                sleep(at_least).await;
                timeout(pause - at_least, shared.wanted.notified()).await.ok();
            }
            Err(error) => {
                if !is_stale {
                    tracing::warn!(%error, "the list of servers is not fresh any more");
                }
                is_stale = true;
                // In this order: a caller that has seen the failure does not wait for the end of another attempt.
                shared.is_resting.store(true, Ordering::Relaxed);
                shared.list.fail(error);
                sleep(backoff.after_failure()).await;
                shared.is_resting.store(false, Ordering::Relaxed);
            }
        }
    }
}

impl Shared {
    /// Takes over a list.
    ///
    /// A registry that has just been restarted knows no server before its next heartbeat. So while it is younger than a
    /// lease, its list only adds to what is known. After that, a server that it does not list is gone.
    fn update(&self, ServerList { mut servers, lease, age }: ServerList) {
        if age < lease {
            let listed: HashSet<_> = servers.iter().map(|server| server.endpoint.clone()).collect();
            let known = self.list.get_all();
            let others = known.iter().filter(|server| !listed.contains(&server.endpoint)).cloned();
            servers.extend(others.take(DEFAULT_MAX_SERVERS.saturating_sub(listed.len())));
        }
        self.list.update(servers);
    }
}
