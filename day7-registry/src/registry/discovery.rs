//! Discovery through the registry: the list keeps itself up to date.
//!
//! ```text
//! call ── get ──▶ the last good list             never waits for the registry
//!                       ▲
//!                  one task ── GET, every third of a lease ──▶ registry
//! ```
//!
//! The list is refreshed beside the calls, never inside of them. So while the registry is slow, down, or answers
//! badly, calls go on with the list that is there. A server that has died since costs a failed dial, and the
//! balanced client goes to the next one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::balance::discovery::{Discovery, DiscoveryError, Instance, Servers};
use crate::balance::multi_servers::MultiServersDiscovery;
use crate::balance::select::SelectMode;
use crate::http::endpoint::Endpoint;
use crate::registry::DEFAULT_LEASE;
use crate::registry::backoff::{Backoff, SHORTEST_PAUSE, spread};
use crate::registry::client::{RegistryClient, RegistryError, ServerList};

/// The longest time between two refreshes, however long the lease is, unless an interval is given.
pub const MAX_REFRESH_INTERVAL: Duration = Duration::from_secs(30);
/// How long after a refresh the next one may come before its time, however many callers want it.
pub const MIN_REFRESH_INTERVAL: Duration = Duration::from_millis(100);

/// Knows the servers that the registry lists.
///
/// Its task ends when this value is dropped.
///
/// ```no_run
/// use day7_registry::{BalancedClient, Options, RegistryClient, RegistryDiscovery, SelectMode};
///
/// # async fn example() -> anyhow::Result<()> {
/// let registry = RegistryClient::new("http://127.0.0.1:9999".parse()?);
/// let servers = RegistryDiscovery::start(registry);
/// let client = BalancedClient::new(servers, SelectMode::RoundRobin, &Options::default());
/// let sum: i32 = client.call("Arith.sum", &(1, 2)).await?;
/// # Ok(()) }
/// ```
pub struct RegistryDiscovery {
    shared: Arc<Shared>,
    refreshing: AbortHandle,
}

struct Shared {
    registry: RegistryClient,
    list: MultiServersDiscovery,
    progress: watch::Sender<Progress>,
    /// Wakes the task for an attempt before its time. However often that is, it is one attempt.
    wanted: Notify,
}

/// How far the task has come. Attempts are counted from 1.
#[derive(Debug, Default)]
struct Progress {
    started: u64,
    finished: u64,
    /// What went wrong with the last attempt that has finished.
    error: Option<RegistryError>,
    /// Whether there is a list, be it empty or old.
    has_list: bool,
}

impl Drop for RegistryDiscovery {
    fn drop(&mut self) {
        self.refreshing.abort();
    }
}

impl RegistryDiscovery {
    /// Gets the list now, and then every third of a lease, or a little earlier by chance.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn start(registry: RegistryClient) -> RegistryDiscovery {
        RegistryDiscovery::start_with(registry, MultiServersDiscovery::new([]), None)
    }

    /// As [`start`](RegistryDiscovery::start), with a list to begin with, and an interval of your own.
    ///
    /// A list that is not empty is used at once. Its weights and its source of chance stay in use.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn start_with(
        registry: RegistryClient,
        list: MultiServersDiscovery,
        interval: Option<Duration>,
    ) -> RegistryDiscovery {
        let has_list = !list.get_all().is_empty();
        let list = if has_list { list } else { MultiServersDiscovery::unknown() };
        let progress = watch::Sender::new(Progress { has_list, ..Progress::default() });
        let shared = Arc::new(Shared { registry, list, progress, wanted: Notify::new() });
        let refresher = Refresher {
            shared: Arc::clone(&shared),
            interval,
            lease: DEFAULT_LEASE,
            backoff: Backoff::default(),
            empty_since: None,
        };
        RegistryDiscovery { shared, refreshing: tokio::spawn(refresher.run()).abort_handle() }
    }

    /// Why the last refresh failed. `None` if it did not.
    pub fn last_error(&self) -> Option<RegistryError> {
        self.shared.progress.borrow().error.clone()
    }

    /// Returns at once if there is a list. If not, waits for the attempt that is going on, or for the next
    /// one, but never longer than a request to the registry may take.
    async fn wait_for_list(&self) -> Result<(), DiscoveryError> {
        let mut progress = self.shared.progress.subscribe();
        // One guard, and no other while it lives: between two of them a writer may wait, and then all do.
        let (seen, is_idle) = {
            let progress = progress.borrow();
            (progress.finished, !progress.has_list && progress.finished == progress.started)
        };
        // No list, and no attempt on its way: the next one must not wait for the whole pause.
        if is_idle {
            self.shared.wanted.notify_one();
        }
        let news = progress.wait_for(|progress| progress.has_list || progress.finished > seen);
        let after = self.shared.registry.time_limit();
        // Too late, or the task is gone: what is known then decides.
        timeout(after, news).await.ok();
        let progress = self.shared.progress.borrow();
        match &progress.error {
            _ if progress.has_list => Ok(()),
            Some(error) => Err(unavailable(error.clone())),
            None => Err(unavailable(RegistryError::Timeout { after })),
        }
    }
}

impl Discovery for RegistryDiscovery {
    fn servers(&self) -> watch::Receiver<Servers> {
        self.shared.list.servers()
    }

    /// Gets the list now, or [`MIN_REFRESH_INTERVAL`] after the last attempt.
    fn refresh(&self) -> bool {
        self.shared.wanted.notify_one();
        true
    }
}

impl RegistryDiscovery {
    /// Gets the list now, or [`MIN_REFRESH_INTERVAL`] after the last attempt, and waits for the answer.
    ///
    /// There is one attempt at a time. One that was on its way before may have missed what the caller wants
    /// to see, so this waits for the next. All callers that come in the meantime share that one.
    ///
    /// # Errors
    /// [`DiscoveryError::Unavailable`] with the [`RegistryError`]. The list stays as it was.
    ///
    /// # Cancel safety
    /// Cancellation-safe: the attempt goes on for the others.
    pub async fn refresh(&self) -> Result<(), DiscoveryError> {
        let mut progress = self.shared.progress.subscribe();
        let wanted = progress.borrow().started + 1;
        self.shared.wanted.notify_one();
        match progress.wait_for(|progress| progress.finished >= wanted).await {
            Ok(progress) => progress.error.clone().map_or(Ok(()), |error| Err(unavailable(error))),
            Err(gone) => Err(DiscoveryError::Unavailable(Arc::new(gone))),
        }
    }

    /// Replaces the list by hand, until the next good answer of the registry.
    pub fn update(&self, servers: Vec<Endpoint>) {
        self.shared.list.update(servers.into_iter().map(Instance::new));
        self.shared.progress.send_modify(|progress| progress.has_list = true);
    }

    /// Chooses a server. Waits only before the first list is there, and at most as long as a request to
    /// the registry may take.
    ///
    /// # Errors
    /// [`DiscoveryError`] if there is none.
    pub async fn get(&self, mode: &SelectMode) -> Result<Endpoint, DiscoveryError> {
        self.wait_for_list().await?;
        self.shared.list.get(mode)
    }

    /// All servers, which may be none. Waits as [`get`](RegistryDiscovery::get) does.
    ///
    /// # Errors
    /// [`DiscoveryError::Unavailable`] if the list is not known.
    pub async fn get_all(&self) -> Result<Arc<[Instance]>, DiscoveryError> {
        self.wait_for_list().await?;
        Ok(self.shared.list.get_all())
    }
}

impl fmt::Debug for RegistryDiscovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.shared.registry.url();
        f.debug_struct("RegistryDiscovery").field("url", url).field("list", &self.shared.list).finish()
    }
}

fn unavailable(error: RegistryError) -> DiscoveryError {
    DiscoveryError::Unavailable(Arc::new(error))
}

/// What the task owns.
struct Refresher {
    shared: Arc<Shared>,
    /// The caller's own interval.
    interval: Option<Duration>,
    /// The lease that the registry named last.
    lease: Duration,
    backoff: Backoff,
    /// Since when every answer was empty while this list is not.
    empty_since: Option<Instant>,
}

impl Refresher {
    async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        loop {
            shared.progress.send_modify(|progress| progress.started += 1);
            let answer = shared.registry.servers().await;
            let pause = self.finish(answer);
            // A caller may cut the pause short, but not to nothing.
            let shortest = pause.min(MIN_REFRESH_INTERVAL);
            sleep(shortest).await;
            tokio::select! {
                () = sleep(pause - shortest) => {}
                () = shared.wanted.notified() => {}
            }
        }
    }

    /// Takes over the registry's answer. Returns the pause until the next attempt.
    fn finish(&mut self, answer: Result<ServerList, RegistryError>) -> Duration {
        let error = match answer {
            Ok(ServerList { servers, lease }) => {
                self.lease = lease;
                self.backoff.reset();
                if self.is_credible(&servers) {
                    self.shared.list.update(servers.into_iter().map(Instance::new));
                } else {
                    self.shared.list.update(self.shared.list.get_all().iter().cloned());
                }
                None
            }
            Err(error) => {
                self.empty_since = None;
                self.shared.list.fail(error.clone());
                Some(error)
            }
        };
        let interval =
            self.interval.unwrap_or((self.lease / 3).min(MAX_REFRESH_INTERVAL)).max(SHORTEST_PAUSE);
        let pause = if error.is_some() { self.backoff.next(interval) } else { spread(interval) };
        // The log is written with no lock held: one that blocks must not block the calls.
        let was_stale = self.shared.progress.borrow().error.is_some();
        match &error {
            Some(error) if !was_stale => tracing::warn!(%error, "the list of servers is not fresh any more"),
            None if was_stale => tracing::info!("the list of servers is fresh again"),
            _ => {}
        }
        // The list first, then the news of it: a caller that reads the news will look at the list.
        self.shared.progress.send_modify(|progress| {
            progress.finished = progress.started;
            progress.has_list |= error.is_none();
            progress.error = error;
        });
        pause
    }

    /// Whether to believe this list.
    ///
    /// A registry that has just been restarted knows no server before its next heartbeat. So an answer that all
    /// servers are gone at once is taken for true only after all answers were empty for a whole lease. Until then
    /// the old list does less harm than none.
    fn is_credible(&mut self, servers: &[Endpoint]) -> bool {
        let nothing_to_lose = self.shared.list.get_all().is_empty();
        if !servers.is_empty() || nothing_to_lose {
            self.empty_since = None;
            return true;
        }
        let since = *self.empty_since.get_or_insert_with(Instant::now);
        let is_credible = since.elapsed() >= self.lease;
        if is_credible {
            self.empty_since = None;
        }
        is_credible
    }
}
