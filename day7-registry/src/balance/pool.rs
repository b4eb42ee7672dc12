//! The pool: one shared connection per server.
//!
//! ```text
//! tcp@a ─▶ Some(Ok(client))   connected
//! tcp@b ─▶ None               being dialed: all callers of b wait for this one attempt
//! tcp@c ─▶ Some(Err(why))     left alone for a while, which grows with each failure
//! ```
//!
//! GeeRPC holds one lock while it dials, so one hung server stops the calls to all others. Here each server
//! has its own entry; dialing happens in a task that the entry owns, and the lock is held only to look at
//! the entries.
//!
//! A server that cannot be dialed, or that has fallen silent, is left alone for a while: calls prefer other servers. When
//! its rest is over, it is dialed beside the calls, and they use it again when its connection is there.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::RngExt;
use rand::seq::IndexedRandom;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use crate::balance::error::BalanceError;
use crate::balance::select::{Selector, lock};
use crate::client::Client;
use crate::client::options::Options;
use crate::deadline::limit;
use crate::error::Error;
use crate::http::endpoint::Endpoint;

/// How long after its begin the first attempt that fails is followed by another one. Each further failure doubles it.
const FIRST_REST: Duration = Duration::from_millis(100);
/// The longest time between the begin of an attempt and the next one.
const LONGEST_REST: Duration = Duration::from_secs(10);

/// The future that a connector returns: a connection, with its handshake done.
pub type Connecting = Pin<Box<dyn Future<Output = Result<Client, Error>> + Send>>;

/// How a server is dialed.
pub(super) type Connector = dyn Fn(Endpoint, Options) -> Connecting + Send + Sync;

/// A connection, or a failure that all callers share.
type Outcome = Result<Client, Arc<Error>>;

/// The connections of one [`BalancedClient`](crate::BalancedClient).
pub(super) struct Pool {
    selector: Arc<Selector>,
    pub(super) options: Options,
    connector: Arc<Connector>,
    /// Of servers in the list.
    entries: Arc<Mutex<Entries>>,
    /// Those with a connection, in any order.
    connected: Arc<Mutex<Vec<Endpoint>>>,
    _follow_list: AbortOnDropHandle<()>,
}

type Entries = HashMap<Endpoint, Entry>;

/// The last attempt to dial a server. An entry that is removed stops its task, and its connection ends with the last
/// call that uses it.
struct Entry {
    /// `None` while the server is being dialed.
    outcome: watch::Receiver<Option<Outcome>>,
    /// How many attempts in a row had failed before this one; at least 1 when a call has stopped waiting for this one.
    failures: u32,
    /// Until then calls begin no further attempt, unless all servers are left alone.
    rest_until: Instant,
    _task: AbortOnDropHandle<()>,
}

impl Entry {
    /// Whether a call can use this entry, at once or after waiting for it.
    fn is_usable(&self) -> bool {
        match &*self.outcome.borrow() {
            None => self.outcome.has_changed().is_ok(), // the task is alive
            Some(Ok(client)) => client.is_available(),
            Some(Err(_)) => false,
        }
    }

    /// Whether calls should prefer other servers: the last attempt has failed, or this one takes long.
    fn is_left_alone(&self) -> bool {
        match &*self.outcome.borrow() {
            None => self.failures > 0,
            Some(outcome) => outcome.is_err(),
        }
    }

    /// The connection, if the server can be called at once.
    fn client(&self) -> Option<Client> {
        let outcome = self.outcome.borrow().clone();
        outcome?.ok().filter(Client::is_available)
    }
}

impl Pool {
    pub(super) fn new(selector: Arc<Selector>, options: Options, connector: Arc<Connector>) -> Pool {
        let (entries, connected) = (Arc::default(), Arc::default());
        let follow_list = tokio::spawn(follow_list(Arc::clone(&selector), Arc::clone(&entries)));
        let follow_list = AbortOnDropHandle::new(follow_list);
        Pool { selector, options, connector, entries, connected, _follow_list: follow_list }
    }

    /// The connection to a server: the one that is there, or a new one. Any number of callers that come
    /// while it is being dialed share the attempt, and its failure too. A server that is not in the list is not dialed.
    ///
    /// A server that is not connected at `deadline` is slow: later calls prefer others.
    ///
    /// # Cancel safety
    /// Cancellation-safe: the attempt goes on for the others.
    pub(super) async fn dial(&self, endpoint: &Endpoint, deadline: Instant) -> Result<Client, BalanceError> {
        let ready = lock(&self.entries).get(endpoint).and_then(Entry::client);
        if let Some(client) = ready {
            return Ok(client); // most calls end here, and need no timer
        }
        let begin = Instant::now();
        let connected = timeout_at(deadline, self.connect(endpoint)).await.unwrap_or_else(|_| {
            if let Some(entry) = lock(&self.entries).get_mut(endpoint) {
                entry.failures = entry.failures.max(1);
            }
            Err(Arc::new(Error::Timeout { what: "connecting", after: begin.elapsed() }))
        });
        connected.map_err(|source| BalanceError::Dial { endpoint: endpoint.clone(), source })
    }

    async fn connect(&self, endpoint: &Endpoint) -> Outcome {
        let mut outcome = {
            let mut entries = lock(&self.entries);
            match entries.get(endpoint).filter(|entry| entry.is_usable()) {
                Some(entry) => entry.outcome.clone(),
                None => self.begin(&mut entries, endpoint)?,
            }
        };
        match outcome.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(outcome)) => outcome.clone(),
            _ => Err(removed()),
        }
    }

    /// Begins an attempt beside the calls, unless the server is connected, is being dialed, or rests. Returns whether calls
    /// should prefer other servers.
    pub(super) fn dial_beside(&self, endpoint: &Endpoint) -> bool {
        let mut entries = lock(&self.entries);
        let rests = |entry: &Entry| Instant::now() < entry.rest_until;
        if !entries.get(endpoint).is_some_and(|entry| entry.is_usable() || rests(entry)) {
            self.begin(&mut entries, endpoint).ok(); // not in the list any more? Then there is nothing to do
        }
        entries.get(endpoint).is_some_and(Entry::is_left_alone)
    }

    /// Begins an attempt, with the lock held: so a server that is removed from the list right now is either not
    /// added here, or removed again by [`follow_list`].
    fn begin(
        &self,
        entries: &mut Entries,
        endpoint: &Endpoint,
    ) -> Result<watch::Receiver<Option<Outcome>>, Arc<Error>> {
        if self.selector.list().position(endpoint).is_none() {
            return Err(removed());
        }
        let failed = entries.get(endpoint).filter(|entry| entry.is_left_alone());
        let failures = failed.map_or(0, |entry| entry.failures.saturating_add(1));
        let rest_until = Instant::now() + rest(failures);
        let (sender, outcome) = watch::channel(None);
        let attempt =
            Attempt { endpoint: endpoint.clone(), outcome: sender, connected: Arc::clone(&self.connected) };
        let task = tokio::spawn(attempt.run(Arc::clone(&self.connector), self.options.clone()));
        let task = AbortOnDropHandle::new(task);
        let entry = Entry { outcome: outcome.clone(), failures, rest_until, _task: task };
        entries.insert(endpoint.clone(), entry);
        Ok(outcome)
    }

    /// Of two connected servers by chance, the one with fewer calls in flight. Only a candidate.
    pub(super) fn less_loaded(&self, is_candidate: impl Fn(&Endpoint) -> bool) -> Option<(Endpoint, Client)> {
        let entries = lock(&self.entries);
        let connected = lock(&self.connected);
        let two = connected.sample(&mut rand::rng(), 2).filter(|endpoint| is_candidate(endpoint));
        let usable = two.filter_map(|endpoint| Some((endpoint.clone(), entries.get(endpoint)?.client()?)));
        usable.min_by_key(|(_, client)| client.in_flight())
    }

    /// How many connections are open.
    pub(super) fn open(&self) -> usize {
        lock(&self.entries).values().filter_map(Entry::client).count()
    }
}

/// Closes the connections to servers that are not in the list any more, whenever it changes. Calls in
/// flight on them still get their replies.
async fn follow_list(selector: Arc<Selector>, entries: Arc<Mutex<Entries>>) {
    let mut servers = selector.servers.clone();
    while servers.changed().await.is_ok() {
        let mut entries = lock(&entries);
        let list = selector.list();
        entries.retain(|endpoint, _| list.position(endpoint).is_some());
    }
}

/// What the task of an entry needs.
struct Attempt {
    endpoint: Endpoint,
    outcome: watch::Sender<Option<Outcome>>,
    connected: Arc<Mutex<Vec<Endpoint>>>,
}

impl Attempt {
    /// Dials the server, and then waits for the end of the connection.
    async fn run(self, connector: Arc<Connector>, options: Options) {
        let connecting = async { connector(self.endpoint.clone(), options.clone()).await };
        let error = match limit("connecting", options.connect_timeout, connecting).await {
            Ok(client) => {
                // Perhaps no caller waits any more; the next call will find the connection.
                self.outcome.send_replace(Some(Ok(client.clone())));
                lock(&self.connected).push(self.endpoint.clone());
                let _listed = Listed(&self);
                let reason = client.closed().await;
                if !matches!(*reason, Error::Timeout { .. }) {
                    return;
                }
                reason // a server that was silent for too long is as good as one that cannot be dialed
            }
            Err(error) => Arc::new(error),
        };
        self.outcome.send_replace(Some(Err(error)));
    }
}

/// The server's place among the connected ones, which ends with the connection, or with the task.
struct Listed<'a>(&'a Attempt);

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        let mut connected = lock(&self.0.connected);
        if let Some(place) = connected.iter().position(|endpoint| *endpoint == self.0.endpoint) {
            connected.swap_remove(place);
        }
    }
}

/// How long after the begin of an attempt the next one begins, if it fails. Many clients lose a server at the same
/// moment, so each adds its own chance.
fn rest(failures: u32) -> Duration {
    let rest = FIRST_REST.saturating_mul(1 << failures.min(10)).min(LONGEST_REST);
    rest.mul_f64(rand::rng().random_range(0.5..1.0))
}

/// The failure for callers of a server that has left the list, also if it leaves while it is dialed.
fn removed() -> Arc<Error> {
    Arc::new(Error::NotSent("the server was removed from the list".to_owned()))
}
