//! Discovery: which servers are there?
//!
//! ```text
//! a list by hand, a registry, DNS ──▶ Discovery ── watch of Servers ──▶ BalancedClient chooses, dials, calls
//!                                         ▲                                  │
//!                                         └──────────── refresh ─────────────┘ no server has worked
//! ```
//!
//! A discovery knows the servers. It does not choose: that is [`select`](crate::balance::select)'s.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::deadline::limit;
use crate::error::Error;
use crate::http::endpoint::Endpoint;

/// How long a call waits for a newer list when no server that it knows can be called.
const MAX_REFRESH_WAIT: Duration = Duration::from_secs(1);

/// An error that many may hold.
type SharedError = Arc<dyn std::error::Error + Send + Sync>;

/// A server, and how much of the load it should get.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Instance {
    /// Where the server is.
    pub endpoint: Endpoint,
    /// Its share of the calls in [`SelectMode::WeightedRoundRobin`](crate::SelectMode::WeightedRoundRobin), compared to the others'. 0 counts as 1: a server
    /// that should get no calls does not belong into the list.
    pub weight: u32,
}

impl Instance {
    /// A server with the weight 1.
    pub fn new(endpoint: Endpoint) -> Instance {
        Instance { endpoint, weight: 1 }
    }

    /// The same server with this weight.
    pub fn weight(self, weight: u32) -> Instance {
        Instance { weight, ..self }
    }
}

impl From<Endpoint> for Instance {
    fn from(endpoint: Endpoint) -> Instance {
        Instance::new(endpoint)
    }
}

/// What is known of the servers.
#[derive(Clone, Debug, Default)]
pub struct Servers {
    /// The servers, which may be none. `None`: not known yet. A list never changes; a new one takes its place.
    pub list: Option<Arc<[Instance]>>,
    /// Why the last attempt to learn more has failed. `None` if it has not.
    pub error: Option<SharedError>,
    /// How many attempts to learn more have ended, well or not.
    pub attempts: u64,
}

/// There is no server to choose.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum DiscoveryError {
    /// The list is known, and it is empty.
    NoServers,
    /// The list is not known yet, and cannot be had now. If the time of a call is over before the list is
    /// there, the source is [`Error::Timeout`].
    Unavailable(SharedError),
}

impl fmt::Display for DiscoveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DiscoveryError::NoServers => f.write_str("no servers are available"),
            DiscoveryError::Unavailable(why) => write!(f, "the list of servers is not available: {why}"),
        }
    }
}

// By hand: the source is what is in the `Arc`, so that it can be told by its type.
impl std::error::Error for DiscoveryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            DiscoveryError::NoServers => None,
            DiscoveryError::Unavailable(why) => Some(&**why),
        }
    }
}

/// Knows the servers of one service.
///
/// The simplest way to write one is to own a [`MultiServersDiscovery`](crate::MultiServersDiscovery), and to `update` it:
///
/// ```
/// use day7_registry::{Discovery, MultiServersDiscovery, Servers};
/// use tokio::sync::watch;
///
/// /// Owns a task that looks into a file now and then.
/// struct FileDiscovery { list: MultiServersDiscovery }
///
/// impl Discovery for FileDiscovery {
///     fn servers(&self) -> watch::Receiver<Servers> {
///         self.list.servers()
///     }
/// }
/// ```
pub trait Discovery: Send + Sync + 'static {
    /// What is known, now and as it changes. Every call gives a receiver of the same channel.
    fn servers(&self) -> watch::Receiver<Servers>;

    /// A hint that the list seems old. Returns whether an attempt to learn more is on its way; if so,
    /// [`Servers::attempts`] grows when it has ended. It does not block, and keeps to the pauses between attempts:
    /// any number of callers may ask at the same time.
    fn refresh(&self) -> bool {
        false
    }
}

impl<D: Discovery + ?Sized> Discovery for Arc<D> {
    fn servers(&self) -> watch::Receiver<Servers> {
        D::servers(self)
    }

    fn refresh(&self) -> bool {
        D::refresh(self)
    }
}

/// The list that is known. If none is, waits for the end of the next attempt to learn it, for `timeout` at most.
pub(super) async fn known(
    discovery: &dyn Discovery,
    timeout: Duration,
) -> Result<Arc<[Instance]>, DiscoveryError> {
    let mut servers = discovery.servers();
    let Servers { list, attempts, .. } = servers.borrow().clone();
    if let Some(list) = list {
        return Ok(list);
    }
    discovery.refresh();
    let attempt = async {
        let ended = servers.wait_for(|servers| servers.list.is_some() || servers.attempts > attempts).await;
        ended.map(|servers| servers.clone()).map_err(|gone| Error::NotSent(gone.to_string()))
    };
    let servers = limit("choosing", timeout, attempt).await;
    let Servers { list, error, .. } =
        servers.map_err(|error| DiscoveryError::Unavailable(Arc::new(error)))?;
    list.ok_or_else(|| error.map_or(DiscoveryError::NoServers, DiscoveryError::Unavailable))
}

/// Asks for a newer list, and waits for the end of that attempt: a second at most, and not longer than `deadline`.
pub(super) async fn refreshed(discovery: &dyn Discovery, deadline: Instant) {
    let mut servers = discovery.servers();
    let attempts = servers.borrow().attempts;
    if discovery.refresh() {
        let deadline = deadline.min(Instant::now() + MAX_REFRESH_WAIT);
        timeout_at(deadline, servers.wait_for(|servers| servers.attempts > attempts)).await.ok();
    }
}
