//! One list of servers, and what is made of it once: the calls look things up, and scan nothing.
//!
//! ```text
//! watch of Servers ── a new list? ──▶ List { servers, positions, ring }     shared by all calls until the next list
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::watch;

use crate::balance::discovery::{Instance, Servers};
use crate::balance::ring::Ring;
use crate::http::endpoint::Endpoint;

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

    pub(super) fn watch(&self) -> watch::Receiver<Servers> {
        self.servers.clone()
    }
}
