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
//! A server that cannot be dialed, or that has fallen silent, is left alone for a while: calls prefer other servers. When
//! its rest is over, it is dialed beside the calls, and they use it again when its connection is there.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rand::RngExt;
use rand::seq::index::sample;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use crate::balance::error::BalanceError;
use crate::balance::list::CurrentList;
use crate::client::Client;
use crate::client::options::Options;
use crate::deadline::limit;
use crate::error::Error;
use crate::http::endpoint::Endpoint;

/// How long a server is left alone after its first failure. Each further one doubles it.
const FIRST_REST: Duration = Duration::from_millis(100);
/// The longest time that a server is left alone.
const LONGEST_REST: Duration = Duration::from_secs(10);

/// The future that a connector returns: a connection, with its handshake done.
pub type Connecting = Pin<Box<dyn Future<Output = Result<Client, Error>> + Send>>;

/// How a server is dialed.
pub(super) type Connector = dyn Fn(Endpoint, Options) -> Connecting + Send + Sync;

/// The connections of one [`BalancedClient`](crate::BalancedClient).
pub(super) struct Pool {
    connector: Arc<Connector>,
    pub(super) options: Options,
    list: Arc<CurrentList>,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    entries: HashMap<Endpoint, Entry>,
    /// The connections of the entries that are ready, in any order.
    connected: Vec<(Endpoint, Client)>,
}

/// An entry that leaves the table stops its task. Its connection ends with the last call that uses it.
struct Entry {
    state: watch::Receiver<State>,
    /// How many attempts in a row had failed before this one.
    failures: u32,
    /// A call has stopped waiting for this attempt.
    is_slow: bool,
    _task: AbortOnDropHandle<()>,
}

#[derive(Clone)]
enum State {
    Dialing,
    Ready(Client),
    Failed { error: Arc<Error>, rest_until: Instant },
}

impl Entry {
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
    pub(super) fn new(list: Arc<CurrentList>, options: Options, connector: Arc<Connector>) -> Pool {
        Pool { connector, options, list, table: Mutex::default() }
    }

    /// The connection to a server: the one that is there, or a new one. Any number of callers that come
    /// while it is being dialed share the attempt, and its failure too.
    ///
    /// A server that is not in the list is not dialed: the failure is [`removed`].
    ///
    /// # Cancel safety
    /// Cancellation-safe: the attempt goes on for the others.
    async fn connect(self: &Arc<Self>, endpoint: &Endpoint) -> Result<Client, Arc<Error>> {
        let mut state = {
            let mut table = self.lock();
            match table.entries.get(endpoint).filter(|entry| entry.is_usable()) {
                Some(entry) => entry.state.clone(),
                None => self.begin(&mut table, endpoint)?,
            }
        };
        let state = state.wait_for(|state| !matches!(state, State::Dialing)).await;
        match state.as_deref() {
            Ok(State::Ready(client)) => Ok(client.clone()),
            Ok(State::Failed { error, .. }) => Err(Arc::clone(error)),
            Ok(State::Dialing) | Err(_) => Err(removed()),
        }
    }

    /// As [`connect`](Pool::connect), until `deadline` at most, which ends a part of the `timeout` of a call. Then the server
    /// is slow: later calls prefer others.
    pub(super) async fn dial(
        self: &Arc<Self>,
        endpoint: &Endpoint,
        deadline: Instant,
        timeout: Duration,
    ) -> Result<Client, BalanceError> {
        let connected = timeout_at(deadline, self.connect(endpoint)).await.unwrap_or_else(|_| {
            if let Some(entry) = self.lock().entries.get_mut(endpoint) {
                entry.is_slow = true;
            }
            Err(Arc::new(Error::Timeout { what: "the call", after: timeout }))
        });
        connected.map_err(|source| BalanceError::Dial { endpoint: endpoint.clone(), source })
    }

    /// Begins an attempt, with the lock held: so a server that is removed from the list right now is either not
    /// added here, or removed again by `follow_list`.
    fn begin(
        self: &Arc<Self>,
        table: &mut Table,
        endpoint: &Endpoint,
    ) -> Result<watch::Receiver<State>, Arc<Error>> {
        if !self.list.contains(endpoint) {
            return Err(removed());
        }
        let before = table.entries.remove(endpoint);
        let failed = before.as_ref().filter(|entry| entry.rest_until().is_some());
        let failures = failed.map_or(0, |entry| entry.failures.saturating_add(1));
        if before.is_some() {
            table.connected.retain(|(connected, _)| connected != endpoint);
        }
        let (sender, state) = watch::channel(State::Dialing);
        let attempt =
            Attempt { pool: Arc::downgrade(self), endpoint: endpoint.clone(), failures, state: sender };
        let dialing = attempt.run(Arc::clone(&self.connector), self.options.clone());
        let task = AbortOnDropHandle::new(tokio::spawn(dialing));
        let entry = Entry { state: state.clone(), failures, is_slow: false, _task: task };
        table.entries.insert(endpoint.clone(), entry);
        Ok(state)
    }

    /// The connection to a server, if it is there.
    pub(super) fn ready(&self, endpoint: &Endpoint) -> Option<Client> {
        self.lock().entries.get(endpoint).and_then(Entry::ready)
    }

    /// Of two connected servers by chance, the one with fewer calls in flight. Only a candidate.
    pub(super) fn less_loaded(&self, is_candidate: impl Fn(&Endpoint) -> bool) -> Option<(Endpoint, Client)> {
        let table = self.lock();
        let connected = &table.connected;
        let two = sample(&mut rand::rng(), connected.len(), connected.len().min(2));
        let two = two.into_iter().map(|index| &connected[index]);
        let usable = two.filter(|(endpoint, client)| client.is_available() && is_candidate(endpoint));
        usable.min_by_key(|(_, client)| client.in_flight()).cloned()
    }

    /// Whether calls should prefer other servers.
    pub(super) fn leaves_alone(&self, endpoint: &Endpoint) -> bool {
        self.lock().entries.get(endpoint).is_some_and(Entry::is_left_alone)
    }

    /// Begins an attempt beside the calls, if the server has no connection and does not rest.
    pub(super) fn dial_beside(self: &Arc<Self>, endpoint: &Endpoint) {
        let mut table = self.lock();
        let rests = |entry: &Entry| entry.rest_until().is_some_and(|rest_until| Instant::now() < rest_until);
        if !table.entries.get(endpoint).is_some_and(|entry| entry.is_usable() || rests(entry)) {
            self.begin(&mut table, endpoint).ok(); // not in the list any more? Then there is nothing to do
        }
    }

    /// Closes the connections to servers that are not in the list any more, whenever it changes. Calls in
    /// flight on them still get their replies.
    pub(super) async fn follow_list(&self) {
        let mut servers = self.list.watch();
        let mut followed = None;
        while servers.changed().await.is_ok() {
            let Some(list) = self.list.get() else { continue };
            if followed.as_ref().is_some_and(|followed| Arc::ptr_eq(followed, &list)) {
                continue; // an attempt to learn more has found nothing new
            }
            let mut table = self.lock();
            table.entries.retain(|endpoint, _| list.position(endpoint).is_some());
            table.connected.retain(|(endpoint, _)| list.position(endpoint).is_some());
            drop(table);
            followed = Some(list);
        }
    }

    /// How many connections are open.
    pub(super) fn open(&self) -> usize {
        self.lock().entries.values().filter_map(Entry::ready).count()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the task of an entry needs. It does not keep the pool alive.
struct Attempt {
    pool: Weak<Pool>,
    endpoint: Endpoint,
    failures: u32,
    state: watch::Sender<State>,
}

impl Attempt {
    /// Dials the server, and then waits for the end of the connection.
    async fn run(self, connector: Arc<Connector>, options: Options) {
        let connecting = async { connector(self.endpoint.clone(), options.clone()).await };
        let (error, rests) = match limit("connecting", options.connect_timeout, connecting).await {
            Ok(client) => {
                self.connected(&client);
                let reason = client.closed().await;
                if let Some(pool) = self.pool.upgrade() {
                    pool.lock().connected.retain(|(_, client)| client.is_available());
                }
                // A server that was silent for too long is as good as one that cannot be dialed.
                let was_silent = matches!(*reason, Error::Timeout { .. });
                (reason, was_silent)
            }
            Err(error) => (Arc::new(error), true),
        };
        if rests {
            let rest_until = Instant::now() + rest(self.failures);
            self.state.send_replace(State::Failed { error, rest_until });
        }
    }

    fn connected(&self, client: &Client) {
        if let Some(pool) = self.pool.upgrade() {
            let mut table = pool.lock();
            let entry = table.entries.get(&self.endpoint);
            // If not, the server has left the list in this moment.
            if entry.is_some_and(|entry| entry.state.same_channel(&self.state.subscribe())) {
                table.connected.push((self.endpoint.clone(), client.clone()));
            }
        }
        // Perhaps no caller waits any more; the next call will find the connection.
        self.state.send_replace(State::Ready(client.clone()));
    }
}

/// The failure for callers of a server that has left the list, also if it leaves while it is dialed.
fn removed() -> Arc<Error> {
    Arc::new(Error::NotSent("the server was removed from the list".to_owned()))
}
