//! The balanced client: one name, many servers. GeeRPC calls it `XClient`.
//!
//! ```text
//! call ──▶ Discovery::get(mode) ──▶ pool ──▶ Client::call ──▶ reply, or an error that may have run
//!               │                     │           │
//!               │                     │           └─ not sent, or refused? the next server in the list
//!               │                     └─ cannot be dialed? the next server in the list, and this one has a rest
//!               └─ no server at all? an error, never silence
//! ```
//!
//! Only a call that surely has not run is tried elsewhere: see [`Error::may_have_run`]. A call that was lost in
//! flight may have run, and running it twice is the caller's decision.

pub mod broadcast;
pub mod discovery;
mod pool;
pub mod select;
pub mod start;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use crate::balance::discovery::{Discovery, DiscoveryError};
use crate::balance::pool::Pool;
use crate::balance::select::SelectMode;
use crate::client::Client;
use crate::client::options::Options;
use crate::deadline::deadline;
use crate::error::Error;
use crate::http::endpoint::Endpoint;
use crate::service::contract::Caller;
use crate::wire::message::Metadata;

/// How often a call is handed to a connection. The last refusal is its outcome.
const MAX_ATTEMPTS: usize = 3;

/// Why a balanced call failed, and on which server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BalanceError {
    /// There is no server to call.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    /// No server could be dialed, or not in time. Nothing was sent. This is the last one that was tried.
    #[error("cannot connect to {endpoint}: {source}")]
    Dial {
        /// The server.
        endpoint: Endpoint,
        /// What went wrong there.
        source: Arc<Error>,
    },
    /// The call itself failed.
    #[error("{endpoint}: {source}")]
    Call {
        /// The server.
        endpoint: Endpoint,
        /// What went wrong there.
        source: Error,
    },
}

impl BalanceError {
    /// Whether a server may have run the call, or a part of it: [`Error::may_have_run`] of the call itself. While
    /// a server is chosen or dialed, nothing has run.
    pub fn may_have_run(&self) -> bool {
        match self {
            BalanceError::Discovery(_) | BalanceError::Dial { .. } => false,
            BalanceError::Call { source, .. } => source.may_have_run(),
        }
    }
}

/// Calls the servers that a [`Discovery`] knows.
///
/// Clones are cheap and share the connections. They are closed when the last clone is dropped, and those to
/// a server also when it leaves the list. A [contract](crate::contract) works over it, as over a [`Client`].
pub struct BalancedClient<D> {
    shared: Arc<Shared<D>>,
    mode: SelectMode,
    timeout: Duration,
    metadata: Arc<Metadata>,
}

struct Shared<D> {
    discovery: D,
    pool: Arc<Pool>,
    _follow_list: AbortOnDropHandle<()>,
}

impl<D> Clone for BalancedClient<D> {
    fn clone(&self) -> Self {
        let BalancedClient { shared, mode, timeout, metadata } = self;
        BalancedClient {
            shared: Arc::clone(shared),
            mode: mode.clone(),
            timeout: *timeout,
            metadata: Arc::clone(metadata),
        }
    }
}

impl<D: Discovery> BalancedClient<D> {
    /// A client of the servers that `discovery` knows. Nothing is dialed before the first call.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn new(discovery: D, mode: SelectMode, options: &Options) -> BalancedClient<D> {
        let pool = Arc::new(Pool::new(discovery.subscribe(), options.clone()));
        let following = Arc::clone(&pool);
        let follow_list = AbortOnDropHandle::new(tokio::spawn(async move { following.follow_list().await }));
        let shared = Shared { discovery, pool, _follow_list: follow_list };
        let timeout = options.call_timeout;
        BalancedClient { shared: Arc::new(shared), mode, timeout, metadata: Arc::default() }
    }

    /// The same client and connections, with another select mode.
    pub fn with_mode(&self, mode: SelectMode) -> BalancedClient<D> {
        BalancedClient { mode, ..self.clone() }
    }

    /// The same client and connections, with another time limit for its calls.
    pub fn with_timeout(&self, timeout: Duration) -> BalancedClient<D> {
        BalancedClient { timeout, ..self.clone() }
    }

    /// The same client and connections, with one more entry in the metadata of its calls: see
    /// [`Client::with_metadata`].
    pub fn with_metadata(&self, key: impl Into<String>, value: impl Into<String>) -> BalancedClient<D> {
        let mut client = self.clone();
        Arc::make_mut(&mut client.metadata).insert(key.into(), value.into());
        client
    }

    /// Where the servers come from.
    pub fn discovery(&self) -> &D {
        &self.shared.discovery
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.shared.pool.open()
    }

    /// Calls a method on one server. Choosing, dialing and calling share the time limit for calls.
    ///
    /// # Errors
    /// [`BalanceError`], which names the server.
    ///
    /// # Cancel safety
    /// Dropping the future gives the call up, and tells the server to stop it.
    pub async fn call<A, R>(&self, service_method: &str, args: &A) -> Result<R, BalanceError>
    where
        A: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        let deadline = deadline(self.timeout);
        let mut first = self.in_time(deadline, self.shared.discovery.get(&self.mode)).await?;
        let mut attempts = 1;
        loop {
            let (endpoint, client) = self.connect(first, deadline).await?;
            let source = match self.call_on(&client, deadline, service_method, args).await {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            if source.may_have_run() || attempts == MAX_ATTEMPTS {
                return Err(BalanceError::Call { endpoint, source });
            }
            attempts += 1;
            // The next one; with one server, the same once more: it may be back.
            let candidates = self.candidates(&endpoint, deadline).await?;
            first = candidates.into_iter().find(|server| *server != endpoint).unwrap_or(endpoint);
        }
    }

    /// Connects to `first` or, if it cannot be dialed, to the next candidate that can.
    async fn connect(&self, first: Endpoint, deadline: Instant) -> Result<(Endpoint, Client), BalanceError> {
        if let Some(client) = self.shared.pool.ready(&first) {
            return Ok((first, client));
        }
        self.shared.pool.retry(&first);
        let candidates = self.candidates(&first, deadline).await?;
        let mut left = candidates.len();
        let mut failed = None;
        for endpoint in candidates {
            // Out of time: the error belongs to the server that took the time, and no other may be called.
            if failed.is_some() && Instant::now() >= deadline {
                break;
            }
            match self.dial(&endpoint, attempt_deadline(deadline, left)).await {
                Ok(client) => return Ok((endpoint, client)),
                Err(error) => failed = Some(error),
            }
            left -= 1;
        }
        Err(failed.unwrap_or(DiscoveryError::NoServers.into()))
    }

    /// This server, then the others: those behind it in the list, and those in front of it. The servers that the
    /// pool leaves alone come last, so they are dialed only if no other server can be.
    async fn candidates(&self, first: &Endpoint, deadline: Instant) -> Result<Vec<Endpoint>, DiscoveryError> {
        let servers = self.in_time(deadline, self.shared.discovery.get_all()).await?;
        let start = servers.iter().position(|server| server == first).unwrap_or(0);
        let around = servers.iter().cycle().skip(start).take(servers.len());
        let others = around.filter(|server| *server != first);
        let mut candidates: Vec<_> = std::iter::once(first).chain(others).cloned().collect();
        candidates.sort_by_cached_key(|server| self.shared.pool.leaves_alone(server));
        Ok(candidates)
    }

    /// Waits for the discovery, but not longer than the call may take. Out of time is
    /// [`DiscoveryError::Unavailable`], with [`Error::Timeout`] as its source.
    async fn in_time<T>(
        &self,
        deadline: Instant,
        answer: impl Future<Output = Result<T, DiscoveryError>>,
    ) -> Result<T, DiscoveryError> {
        let after = self.timeout;
        let too_late = || DiscoveryError::Unavailable(Box::new(Error::Timeout { what: "choosing", after }));
        timeout_at(deadline, answer).await.unwrap_or_else(|_| Err(too_late()))
    }

    /// The connection to one server.
    async fn dial(&self, endpoint: &Endpoint, deadline: Instant) -> Result<Client, BalanceError> {
        let pool = &self.shared.pool;
        let connected = timeout_at(deadline, pool.connect(endpoint)).await.unwrap_or_else(|_| {
            pool.note_slow(endpoint);
            Err(Arc::new(Error::Timeout { what: "the call", after: self.timeout }))
        });
        connected.map_err(|source| BalanceError::Dial { endpoint: endpoint.clone(), source })
    }

    /// Calls on one connection.
    async fn call_on<A, R>(
        &self,
        client: &Client,
        deadline: Instant,
        service_method: &str,
        args: &A,
    ) -> Result<R, Error>
    where
        A: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        let mut client = client.with_timeout(deadline.saturating_duration_since(Instant::now()));
        for (key, value) in self.metadata.iter() {
            client = client.with_metadata(key, value);
        }
        let called = client.call(service_method, args).await;
        called.map_err(|error| match error {
            Error::Timeout { what, .. } => Error::Timeout { what, after: self.timeout },
            other => other,
        })
    }
}

impl<D: Discovery> Caller for BalancedClient<D> {
    type Error = BalanceError;

    async fn call<A, R>(&self, method: &str, args: &A) -> Result<R, BalanceError>
    where
        A: Serialize + Sync + ?Sized,
        R: DeserializeOwned + Send,
    {
        BalancedClient::call(self, method, args).await
    }
}

/// When to turn to the next server. A hung one may have a part of the time that is left: with three servers
/// left or more it is a third, with two a half, and the last has all of it (README, Limits). Its dialing goes
/// on beside the call, for the calls that come next.
fn attempt_deadline(deadline: Instant, servers_left: usize) -> Instant {
    let now = Instant::now();
    now + deadline.saturating_duration_since(now) / servers_left.clamp(1, 3) as u32
}
