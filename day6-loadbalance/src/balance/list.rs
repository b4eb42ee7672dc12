//! One list of servers, and what is made of it once: the calls look things up, and scan nothing.
//!
//! ```text
//! watch of Servers ── a new list? ──▶ List { servers, positions, ring }     shared by all calls until the next list
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::balance::discovery::{Discovery, DiscoveryError, Instance, Servers};
use crate::balance::ring::Ring;
use crate::error::Error;
use crate::http::endpoint::Endpoint;

/// How long a call waits for a newer list when no server that it knows can be called.
const MAX_REFRESH_WAIT: Duration = Duration::from_secs(1);

/// A list that never changes.
pub(super) struct List {
    pub(super) servers: Arc<[Instance]>,
    positions: HashMap<Endpoint, usize>,
    /// Made when it is first needed. No lock is held meanwhile that a call in another mode takes.
    ring: OnceLock<Ring>,
}

impl List {
    fn new(servers: Arc<[Instance]>) -> Arc<List> {
        let endpoints = servers.iter().map(|server| server.endpoint.clone());
        let positions = endpoints.enumerate().map(|(position, endpoint)| (endpoint, position)).collect();
        Arc::new(List { servers, positions, ring: OnceLock::new() })
    }

    pub(super) fn position(&self, endpoint: &Endpoint) -> Option<usize> {
        self.positions.get(endpoint).copied()
    }

    pub(super) fn ring(&self) -> &Ring {
        self.ring.get_or_init(|| Ring::new(&self.servers))
    }
}

/// The list that is known now.
pub(super) struct CurrentList {
    servers: watch::Receiver<Servers>,
    list: Mutex<Arc<List>>,
}

impl CurrentList {
    pub(super) fn new(servers: watch::Receiver<Servers>) -> CurrentList {
        CurrentList { servers, list: Mutex::new(List::new(Arc::default())) }
    }

    /// The newest list; `None` if none is known yet.
    pub(super) fn get(&self) -> Option<Arc<List>> {
        let servers = self.servers.borrow().list.clone()?;
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&list.servers, &servers) {
            *list = List::new(servers);
        }
        Some(Arc::clone(&list))
    }

    /// Whether the newest list has this server.
    pub(super) fn contains(&self, endpoint: &Endpoint) -> bool {
        self.get().is_some_and(|list| list.position(endpoint).is_some())
    }

    /// The newest list. If none is known, waits for the end of the discovery's next attempt, until `deadline` at most,
    /// which ends the `timeout` of a call.
    pub(super) async fn known(
        &self,
        discovery: &dyn Discovery,
        deadline: Instant,
        timeout: Duration,
    ) -> Result<Arc<List>, DiscoveryError> {
        if let Some(list) = self.get() {
            return Ok(list);
        }
        let mut servers = self.watch();
        let attempts = servers.borrow().attempts;
        discovery.refresh();
        let known = servers.wait_for(|servers| {
            servers.list.is_some() || (servers.error.is_some() && servers.attempts > attempts)
        });
        let error = match timeout_at(deadline, known).await {
            Ok(Ok(servers)) => servers.error.clone(),
            Ok(Err(gone)) => Some(Arc::new(gone) as _),
            Err(_) => Some(Arc::new(Error::Timeout { what: "choosing", after: timeout }) as _),
        };
        self.get().ok_or_else(|| error.map_or(DiscoveryError::NoServers, DiscoveryError::Unavailable))
    }

    /// A list that is newer than this one. If there is none, the discovery is asked for it.
    pub(super) async fn newer(
        &self,
        discovery: &dyn Discovery,
        old: &Arc<List>,
        deadline: Instant,
    ) -> Option<Arc<List>> {
        let newer = || self.get().filter(|list| !Arc::ptr_eq(list, old));
        if let Some(list) = newer() {
            return Some(list);
        }
        let mut servers = self.watch();
        let attempts = servers.borrow().attempts;
        if discovery.refresh() {
            let wait = deadline.min(Instant::now() + MAX_REFRESH_WAIT);
            timeout_at(wait, servers.wait_for(|servers| servers.attempts > attempts)).await.ok();
        }
        newer()
    }

    /// What is known, as it changes.
    pub(super) fn watch(&self) -> watch::Receiver<Servers> {
        self.servers.clone()
    }
}
