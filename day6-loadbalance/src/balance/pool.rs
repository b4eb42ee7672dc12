//! The pool: one shared connection per server.
//!
//! ```text
//! tcp@a ─▶ Ready(client)
//! tcp@b ─▶ Dialing …          all callers of b wait for this one attempt
//! tcp@c ─▶ Failed(why)        left alone for a while, which grows with each failure
//! ```
//!
//! GeeRPC holds one lock while it dials, so one hung server stops the calls to all others. Here each server
//! has its own entry; dialing happens in a task that the entry owns, and the lock is held only to look at
//! the table.
//!
//! A server that cannot be dialed is left alone for a while: calls prefer other servers. When its rest is over, it is
//! dialed beside the calls, and they use it again when its connection is there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::RngExt;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::client::Client;
use crate::client::options::Options;
use crate::error::Error;
use crate::http::endpoint::Endpoint;

/// How long a server is left alone after its first failure. Each further one doubles it.
const FIRST_REST: Duration = Duration::from_millis(100);
/// The longest time that a server is left alone.
const LONGEST_REST: Duration = Duration::from_secs(10);

/// The connections of one [`BalancedClient`](crate::BalancedClient).
pub(crate) struct Pool {
    options: Options,
    servers: watch::Receiver<Arc<[Endpoint]>>,
    entries: Mutex<HashMap<Endpoint, Entry>>,
}

/// An entry that leaves the table stops its dialing. Its connection ends with the last call that uses it.
struct Entry {
    state: watch::Receiver<State>,
    /// How many attempts in a row had failed before this one.
    failures: u32,
    /// A call has stopped waiting for this attempt.
    is_slow: bool,
    _dialing: AbortOnDropHandle<()>,
}

#[derive(Clone)]
enum State {
    Dialing,
    Ready(Client),
    Failed { error: Arc<Error>, rest_until: Instant },
}

impl Entry {
    fn dial(endpoint: Endpoint, options: Options, failures: u32) -> Entry {
        let (sender, state) = watch::channel(State::Dialing);
        let dialing = tokio::spawn(async move {
            let state = match Client::dial(&endpoint, &options).await {
                Ok(client) => State::Ready(client),
                Err(error) => {
                    State::Failed { error: Arc::new(error), rest_until: Instant::now() + rest(failures) }
                }
            };
            // Perhaps no caller waits any more; the next call will find the connection.
            sender.send_replace(state);
        });
        Entry { state, failures, is_slow: false, _dialing: AbortOnDropHandle::new(dialing) }
    }

    /// Whether a call can use this entry, at once or after waiting for it.
    fn is_usable(&self) -> bool {
        match &*self.state.borrow() {
            State::Dialing => self.state.has_changed().is_ok(), // the task is alive
            State::Ready(client) => client.is_available(),
            State::Failed { .. } => false,
        }
    }

    /// Whether calls should prefer other servers: the last attempt has failed, or this one takes long.
    fn is_left_alone(&self) -> bool {
        match &*self.state.borrow() {
            State::Dialing => self.is_slow || self.failures > 0,
            State::Ready(_) => false,
            State::Failed { .. } => true,
        }
    }

    /// The connection, if the server can be called at once.
    fn ready(&self) -> Option<Client> {
        match &*self.state.borrow() {
            State::Ready(client) => Some(client.clone()).filter(Client::is_available),
            _ => None,
        }
    }

    /// How long the server is left alone after its last failure.
    fn rest_until(&self) -> Option<Instant> {
        match &*self.state.borrow() {
            State::Failed { rest_until, .. } => Some(*rest_until),
            _ => None,
        }
    }
}

/// How long a server is left alone that has failed now, and so often before. Many clients lose it at the same moment,
/// so each adds its own chance.
fn rest(failures: u32) -> Duration {
    let rest = FIRST_REST.saturating_mul(1 << failures.min(10)).min(LONGEST_REST);
    rest.mul_f64(rand::rng().random_range(0.5..1.0))
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
                None => self.begin(&mut entries, endpoint)?,
            }
        };
        let state = state.wait_for(|state| !matches!(state, State::Dialing)).await;
        match state.as_deref() {
            Ok(State::Ready(client)) => Ok(client.clone()),
            Ok(State::Failed { error, .. }) => Err(Arc::clone(error)),
            Ok(State::Dialing) | Err(_) => Err(removed()),
        }
    }

    /// Begins an attempt, with the lock held: so a server that is removed from the list right now is either not
    /// added here, or removed again by `follow_list`.
    fn begin(
        &self,
        entries: &mut HashMap<Endpoint, Entry>,
        endpoint: &Endpoint,
    ) -> Result<watch::Receiver<State>, Arc<Error>> {
        if !self.servers.borrow().contains(endpoint) {
            return Err(removed());
        }
        let failed = entries.get(endpoint).filter(|entry| entry.rest_until().is_some());
        let failures = failed.map_or(0, |entry| entry.failures.saturating_add(1));
        let entry = Entry::dial(endpoint.clone(), self.options.clone(), failures);
        let state = entry.state.clone();
        entries.insert(endpoint.clone(), entry);
        Ok(state)
    }

    /// The connection to a server, if it is there.
    pub(crate) fn ready(&self, endpoint: &Endpoint) -> Option<Client> {
        self.lock().get(endpoint).and_then(Entry::ready)
    }

    /// Whether calls should prefer other servers.
    pub(crate) fn leaves_alone(&self, endpoint: &Endpoint) -> bool {
        self.lock().get(endpoint).is_some_and(Entry::is_left_alone)
    }

    /// Begins the next attempt beside the calls, if the rest of a server that has failed is over.
    pub(crate) fn retry(&self, endpoint: &Endpoint) {
        let mut entries = self.lock();
        let rest_until = entries.get(endpoint).and_then(Entry::rest_until);
        if rest_until.is_some_and(|rest_until| Instant::now() >= rest_until) {
            self.begin(&mut entries, endpoint).ok(); // not in the list any more? Then there is nothing to do
        }
    }

    /// Notes that a call has stopped waiting for the attempt that is going on.
    pub(crate) fn note_slow(&self, endpoint: &Endpoint) {
        if let Some(entry) = self.lock().get_mut(endpoint) {
            entry.is_slow = true;
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

    /// How many connections are open.
    pub(crate) fn open(&self) -> usize {
        self.lock().values().filter_map(Entry::ready).count()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Endpoint, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The failure for callers of a server that has left the list, also if it leaves while it is dialed.
fn removed() -> Arc<Error> {
    Arc::new(Error::NotSent("the server was removed from the list".to_owned()))
}
