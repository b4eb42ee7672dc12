//! The pool: one shared connection per server.
//!
//! ```text
//! tcp@a ─▶ Ready(client)
//! tcp@b ─▶ Dialing …          all callers of b wait for this one attempt
//! tcp@c ─▶ Failed(why)        the next call dials again
//! ```
//!
//! GeeRPC holds one lock while it dials, so one hung server stops the calls to all others. Here each server
//! has its own entry; dialing happens in a task that the entry owns, and the lock is held only to look at
//! the table.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::client::Client;
use crate::client::options::Options;
use crate::error::Error;
use crate::http::endpoint::Endpoint;

/// The connections of one [`BalancedClient`](crate::BalancedClient).
pub(crate) struct Pool {
    options: Options,
    servers: watch::Receiver<Arc<[Endpoint]>>,
    entries: Mutex<HashMap<Endpoint, Entry>>,
}

struct Entry {
    state: watch::Receiver<State>,
    dialing: AbortHandle,
}

#[derive(Clone)]
enum State {
    Dialing,
    Ready(Client),
    Failed(Arc<Error>),
}

impl Entry {
    fn dial(endpoint: Endpoint, options: Options) -> Entry {
        let (sender, state) = watch::channel(State::Dialing);
        let dialing = tokio::spawn(async move {
            let state = match Client::dial(&endpoint, &options).await {
                Ok(client) => State::Ready(client),
                Err(error) => State::Failed(Arc::new(error)),
            };
            // Perhaps no caller waits any more; the next call will find the connection.
            sender.send_replace(state);
        });
        Entry { state, dialing: dialing.abort_handle() }
    }

    /// Whether a call can use this entry, at once or after waiting for it.
    fn is_usable(&self) -> bool {
        match &*self.state.borrow() {
            State::Dialing => self.state.has_changed().is_ok(), // the task is alive
            State::Ready(client) => client.is_available(),
            State::Failed(_) => false,
        }
    }
}

/// An entry that leaves the table stops its dialing. Its connection ends with the last call that uses it.
impl Drop for Entry {
    fn drop(&mut self) {
        self.dialing.abort();
    }
}

impl Pool {
    pub(crate) fn new(servers: watch::Receiver<Arc<[Endpoint]>>, options: Options) -> Pool {
        Pool { options, servers, entries: Mutex::default() }
    }

    /// The connection to a server: the one that is there, or a new one. Any number of callers that come
    /// while it is being dialed share the attempt, and its failure too.
    ///
    /// A server that is not in the list is not dialed: the failure is [`removed`].
    ///
    /// # Cancel safety
    /// Cancellation-safe: the attempt goes on for the others.
    pub(crate) async fn connect(&self, endpoint: &Endpoint) -> Result<Client, Arc<Error>> {
        let mut state = {
            let mut entries = self.lock();
            match entries.get(endpoint).filter(|entry| entry.is_usable()) {
                Some(entry) => entry.state.clone(),
                None => {
                    // Under the lock, so that a server that is removed from the list right now is either
                    // not added here, or removed again by `follow_list`.
                    if !self.servers.borrow().contains(endpoint) {
                        return Err(removed());
                    }
                    let entry = Entry::dial(endpoint.clone(), self.options.clone());
                    let state = entry.state.clone();
                    entries.insert(endpoint.clone(), entry);
                    state
                }
            }
        };
        let state = state.wait_for(|state| !matches!(state, State::Dialing)).await;
        match state.as_deref() {
            Ok(State::Ready(client)) => Ok(client.clone()),
            Ok(State::Failed(error)) => Err(Arc::clone(error)),
            Ok(State::Dialing) | Err(_) => Err(removed()),
        }
    }

    /// Closes the connections to servers that are not in the list any more, whenever it changes. Calls in
    /// flight on them still get their replies.
    pub(crate) async fn follow_list(&self) {
        let mut servers = self.servers.clone();
        while servers.changed().await.is_ok() {
            let listed: std::collections::HashSet<_> = servers.borrow_and_update().iter().cloned().collect();
            self.lock().retain(|endpoint, _| listed.contains(endpoint));
        }
    }

    /// How many servers are in the list, for the share of the first attempt: the list itself is asked for only
    /// if that fails.
    pub(crate) fn listed(&self) -> usize {
        self.servers.borrow().len()
    }

    /// How many connections are open.
    pub(crate) fn open(&self) -> usize {
        let is_open = |entry: &&Entry| match &*entry.state.borrow() {
            State::Ready(client) => client.is_available(),
            _ => false,
        };
        self.lock().values().filter(is_open).count()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Endpoint, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The failure for callers of a server that has left the list, also if it leaves while it is dialed.
fn removed() -> Arc<Error> {
    Arc::new(Error::NotSent("the server was removed from the list".to_owned()))
}
