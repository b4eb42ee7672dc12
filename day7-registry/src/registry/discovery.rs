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
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use crate::balance::discovery::{Discovery, Servers};
use crate::balance::multi_servers::MultiServersDiscovery;
use crate::registry::backoff::{Backoff, SHORTEST_PAUSE, spread};
use crate::registry::{DEFAULT_LEASE, DEFAULT_MAX_SERVERS, Registry, RegistryError, ServerList, in_time};

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
    list: Arc<MultiServersDiscovery>,
    wanted: Arc<Notify>,
    _refreshing: AbortOnDropHandle<()>,
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
        let (list, wanted) = (Arc::new(list), Arc::<Notify>::default());
        let refresher = Refresher {
            registry,
            list: Arc::clone(&list),
            wanted: Arc::clone(&wanted),
            is_stale: false,
            lease: DEFAULT_LEASE,
            backoff: Backoff::default(),
        };
        RegistryDiscovery { list, wanted, _refreshing: AbortOnDropHandle::new(tokio::spawn(refresher.run())) }
    }
}

impl Discovery for RegistryDiscovery {
    fn servers(&self) -> watch::Receiver<Servers> {
        self.list.servers()
    }

    /// Brings the next attempt forward, to [`MIN_REFRESH_INTERVAL`] after the last one. After a failed attempt, the
    /// next one comes when the back-off is over, and not earlier.
    fn refresh(&self) -> bool {
        self.wanted.notify_one();
        true
    }
}

/// What the task owns.
struct Refresher<R> {
    registry: R,
    list: Arc<MultiServersDiscovery>,
    /// Wakes the task for an attempt before its time. However often that is, it is one attempt.
    wanted: Arc<Notify>,
    /// Whether the last attempt has failed.
    is_stale: bool,
    /// The lease that the registry named last.
    lease: Duration,
    backoff: Backoff,
}

impl<R: Registry> Refresher<R> {
    async fn run(mut self) {
        loop {
            let answer = in_time(self.registry.time_limit(), self.registry.servers()).await;
            let pause = self.finish(answer);
            // A caller may cut the pause short, but not to nothing, and never a back-off.
            let at_least = if self.is_stale { pause } else { pause.min(MIN_REFRESH_INTERVAL) };
            sleep(at_least).await;
            tokio::select! {
                biased; // a hint that came in the meantime is used up by this attempt
                () = self.wanted.notified() => {}
                () = sleep(pause - at_least) => {}
            }
        }
    }

    /// Takes over the registry's answer. Returns the pause until the next attempt.
    fn finish(&mut self, answer: Result<ServerList, RegistryError>) -> Duration {
        let was_stale = std::mem::replace(&mut self.is_stale, answer.is_err());
        match answer {
            Ok(list) => {
                if was_stale {
                    tracing::info!("the list of servers is fresh again");
                }
                self.lease = list.lease;
                self.backoff.reset();
                self.update(list);
                spread(self.interval())
            }
            Err(error) => {
                if !was_stale {
                    tracing::warn!(%error, "the list of servers is not fresh any more");
                }
                self.list.fail(error);
                self.backoff.next(self.interval())
            }
        }
    }

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

    fn interval(&self) -> Duration {
        (self.lease / 3).clamp(SHORTEST_PAUSE, MAX_REFRESH_INTERVAL)
    }
}
