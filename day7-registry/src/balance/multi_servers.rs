//! A list of servers that is given, and changed by hand: discovery without a registry.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

use crate::balance::discovery::{Discovery, DiscoveryError, Instance, Servers};
use crate::balance::select::{SelectMode, Selector};
use crate::http::endpoint::Endpoint;

/// A list of servers that is given, and changed by hand. Other discoveries may own one and keep it up to date.
pub struct MultiServersDiscovery {
    servers: watch::Sender<Servers>,
    selector: Selector,
}

impl MultiServersDiscovery {
    /// Knows these servers. An endpoint that is given twice counts once.
    pub fn new(servers: impl IntoIterator<Item = Endpoint>) -> MultiServersDiscovery {
        MultiServersDiscovery::with_weights(servers.into_iter().map(|endpoint| (endpoint, 1)))
    }

    /// Knows these servers, with their weights: see [`Instance::weight`].
    pub fn with_weights(servers: impl IntoIterator<Item = (Endpoint, u32)>) -> MultiServersDiscovery {
        let discovery = MultiServersDiscovery::unknown();
        discovery.update(servers.into_iter().map(|(endpoint, weight)| Instance { endpoint, weight }));
        discovery
    }

    /// Does not know its list yet: calls wait for the first [`update`](MultiServersDiscovery::update).
    pub fn unknown() -> MultiServersDiscovery {
        let servers = watch::Sender::new(Servers::default());
        let selector = Selector::new(servers.subscribe());
        MultiServersDiscovery { servers, selector }
    }

    /// Replaces the list. An endpoint that is given twice counts once, with its first weight.
    pub fn update(&self, servers: impl IntoIterator<Item = Instance>) {
        let mut seen = HashSet::new();
        let list: Arc<[_]> =
            servers.into_iter().filter(|server| seen.insert(server.endpoint.clone())).collect();
        self.servers.send_modify(|servers| {
            // The same servers are the same list: what was made of it stays in use.
            if servers.list.as_ref() != Some(&list) {
                servers.list = Some(list);
            }
            servers.error = None;
            servers.attempts += 1;
        });
    }

    /// Notes that an attempt to learn more has failed. The list stays as it was.
    pub fn fail(&self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) {
        let error = error.into().into();
        self.servers.send_modify(|servers| {
            servers.error = Some(error);
            servers.attempts += 1;
        });
    }

    /// Chooses a server. This list knows no connections, so [`SelectMode::LeastLoaded`] is any server.
    ///
    /// # Errors
    /// [`DiscoveryError::NoServers`] if there is none.
    pub fn get(&self, mode: &SelectMode) -> Result<Endpoint, DiscoveryError> {
        self.selector.candidates(mode).next().ok_or(DiscoveryError::NoServers)
    }

    /// All servers, which may be none.
    pub fn get_all(&self) -> Arc<[Instance]> {
        self.servers.borrow().list.clone().unwrap_or_default()
    }
}

impl Discovery for MultiServersDiscovery {
    fn servers(&self) -> watch::Receiver<Servers> {
        self.servers.subscribe()
    }
}

impl fmt::Debug for MultiServersDiscovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MultiServersDiscovery")
            .field("servers", &*self.servers.borrow())
            .finish_non_exhaustive()
    }
}
