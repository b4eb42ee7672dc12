//! Discovery: which servers are there, and which of them is next?
//!
//! ```text
//! BalancedClient ── get(mode) ──▶ Discovery ──▶ one endpoint
//!                ◀── subscribe ──           ──▶ the list, whenever it changes
//! ```
//!
//! Today the list is fixed, or changed by hand. On day 7 it comes from a registry, behind the same trait.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;

use crate::balance::select::{SelectMode, Selector};
use crate::http::endpoint::Endpoint;

/// There is no server to choose.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiscoveryError {
    /// The list is known, and it is empty.
    #[error("no servers are available")]
    NoServers,
    /// The list is not known yet, and cannot be had now. If the time of a call is over before the list is
    /// there, the source is [`Error::Timeout`](crate::Error::Timeout).
    #[error("the list of servers is not available: {0}")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Knows the servers of one service.
///
/// # Contract
/// `get` and `get_all` return without delay while a list is known, however old it is: a call must not wait
/// for news. An endpoint that `get` returns is in the list that `subscribe` shows at that time.
pub trait Discovery: Send + Sync + 'static {
    /// Brings the list up to date from wherever it comes from.
    ///
    /// # Errors
    /// [`DiscoveryError::Unavailable`]; the list stays as it was.
    fn refresh(&self) -> impl Future<Output = Result<(), DiscoveryError>> + Send;

    /// Replaces the list by hand.
    fn update(&self, servers: Vec<Endpoint>);

    /// Chooses a server.
    ///
    /// # Errors
    /// [`DiscoveryError`] if there is none.
    fn get(&self, mode: &SelectMode) -> impl Future<Output = Result<Endpoint, DiscoveryError>> + Send;

    /// All servers, which may be none.
    ///
    /// # Errors
    /// [`DiscoveryError::Unavailable`] if the list is not known.
    fn get_all(&self) -> impl Future<Output = Result<Arc<[Endpoint]>, DiscoveryError>> + Send;

    /// The list as it changes.
    fn subscribe(&self) -> watch::Receiver<Arc<[Endpoint]>>;
}

/// A list of servers that is given, and changed by hand: discovery without a registry.
pub struct MultiServersDiscovery {
    /// Held for the choice alone, never across an `await`.
    selector: Mutex<Selector>,
    /// As given at the beginning. A server that leaves the list and comes back has its weight again.
    weights: HashMap<Endpoint, u32>,
    list: watch::Sender<Arc<[Endpoint]>>,
}

impl MultiServersDiscovery {
    /// Knows these servers. An endpoint that is given twice counts once.
    pub fn new(servers: impl IntoIterator<Item = Endpoint>) -> MultiServersDiscovery {
        MultiServersDiscovery::with_weights(servers.into_iter().map(|endpoint| (endpoint, 1)))
    }

    /// Knows these servers, with their weights for [`SelectMode::WeightedRoundRobin`]. A weight of 0 counts
    /// as 1: a server that should get no calls does not belong into the list.
    pub fn with_weights(servers: impl IntoIterator<Item = (Endpoint, u32)>) -> MultiServersDiscovery {
        MultiServersDiscovery::with_rng(servers, StdRng::from_rng(&mut rand::rng()))
    }

    /// As [`with_weights`](MultiServersDiscovery::with_weights), with your own source of chance. With a
    /// seeded one, every run makes the same choices.
    pub fn with_rng(
        servers: impl IntoIterator<Item = (Endpoint, u32)>,
        rng: impl Rng + Send + 'static,
    ) -> MultiServersDiscovery {
        let servers = without_duplicates(servers);
        let list = watch::Sender::new(endpoints(&servers));
        let weights = servers.iter().cloned().collect();
        MultiServersDiscovery { selector: Mutex::new(Selector::new(servers, rng)), weights, list }
    }

    fn selector(&self) -> MutexGuard<'_, Selector> {
        self.selector.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Discovery for MultiServersDiscovery {
    /// Does nothing: this list has no other source.
    async fn refresh(&self) -> Result<(), DiscoveryError> {
        Ok(())
    }

    /// Replaces the list. Servers that were given a weight at the beginning have that, others have 1.
    fn update(&self, servers: Vec<Endpoint>) {
        let mut selector = self.selector();
        let servers = servers.into_iter().map(|endpoint| {
            let weight = self.weights.get(&endpoint).copied().unwrap_or(1);
            (endpoint, weight)
        });
        let servers = without_duplicates(servers);
        let list = endpoints(&servers);
        self.list.send_if_modified(|old| {
            let changed = *old != list;
            if changed {
                *old = list;
                selector.replace(servers);
            }
            changed
        });
    }

    async fn get(&self, mode: &SelectMode) -> Result<Endpoint, DiscoveryError> {
        self.selector().select(mode).ok_or(DiscoveryError::NoServers)
    }

    async fn get_all(&self) -> Result<Arc<[Endpoint]>, DiscoveryError> {
        Ok(Arc::clone(&self.list.borrow()))
    }

    fn subscribe(&self) -> watch::Receiver<Arc<[Endpoint]>> {
        self.list.subscribe()
    }
}

impl fmt::Debug for MultiServersDiscovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MultiServersDiscovery").field("servers", &*self.list.borrow()).finish_non_exhaustive()
    }
}

fn without_duplicates(servers: impl IntoIterator<Item = (Endpoint, u32)>) -> Vec<(Endpoint, u32)> {
    let mut seen = HashSet::new();
    servers.into_iter().filter(|(endpoint, _)| seen.insert(endpoint.clone())).collect()
}

fn endpoints(servers: &[(Endpoint, u32)]) -> Arc<[Endpoint]> {
    servers.iter().map(|(endpoint, _)| endpoint.clone()).collect()
}
