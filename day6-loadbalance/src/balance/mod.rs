//! The balanced client: one name, many servers. GeeRPC calls it `XClient`.
//!
//! ```text
//! call ──▶ Discovery::get(mode) ──▶ pool ──▶ Client::call
//!               │                     │
//!               │                     └─ cannot be dialed? nothing was sent: try the next server
//!               └─ no server at all? an error, never silence
//! ```
//!
//! Only a call that surely has not run is tried elsewhere: nothing of it was sent, or the server refused it
//! after its goodbye. A call that was lost in mid-flight may have run, and running it twice is the caller's
//! decision.

pub mod broadcast;
pub mod discovery;
mod pool;
pub mod select;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use crate::balance::discovery::{Discovery, DiscoveryError};
use crate::balance::pool::Pool;
use crate::balance::select::SelectMode;
use crate::client::Client;
use crate::deadline::deadline;
use crate::error::Error;
use crate::http::endpoint::Endpoint;
use crate::wire::handshake::Options;

/// How many connections may turn out to be ending before that is the outcome of a call.
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

/// Calls the servers that a [`Discovery`] knows.
///
/// Clones are cheap and share the connections. They are closed when the last clone is dropped, and those to
/// a server also when it leaves the list.
pub struct BalancedClient<D> {
    pub(crate) shared: Arc<Shared<D>>,
    mode: SelectMode,
}

pub(crate) struct Shared<D> {
    pub(crate) discovery: D,
    pub(crate) call_timeout: Duration,
    pool: Arc<Pool>,
    follow_list: AbortHandle,
}

impl<D> Drop for Shared<D> {
    fn drop(&mut self) {
        self.follow_list.abort();
    }
}

impl<D> Clone for BalancedClient<D> {
    fn clone(&self) -> Self {
        BalancedClient { shared: Arc::clone(&self.shared), mode: self.mode.clone() }
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
        let follow_list = tokio::spawn(async move { following.follow_list().await }).abort_handle();
        let call_timeout = options.call_timeout;
        BalancedClient { shared: Arc::new(Shared { discovery, call_timeout, pool, follow_list }), mode }
    }

    /// The same client and connections, with another select mode.
    pub fn with_mode(&self, mode: SelectMode) -> BalancedClient<D> {
        BalancedClient { mode, ..self.clone() }
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
        let deadline = deadline(self.shared.call_timeout);
        let mut attempts = 1;
        loop {
            let first = self.shared.in_time(deadline, self.shared.discovery.get(&self.mode)).await?;
            let (endpoint, client) = self.connect(first, deadline).await?;
            let called = self.shared.call_on(&client, deadline, service_method, args).await;
            let did_not_run = match &called {
                // The connection has ended between being chosen and being used.
                Err(Error::Disconnected(_)) => true,
                // The call and the server's goodbye have crossed.
                Ok(Err(Error::Refused(_))) => true,
                _ => false,
            };
            if !did_not_run || attempts == MAX_ATTEMPTS {
                return called
                    .and_then(|reply| reply)
                    .map_err(|source| BalanceError::Call { endpoint, source });
            }
            attempts += 1;
        }
    }

    /// Connects to `first` or, if it cannot be dialed, to the next in the list that can.
    async fn connect(&self, first: Endpoint, deadline: Instant) -> Result<(Endpoint, Client), BalanceError> {
        let listed = self.shared.pool.listed();
        let mut failed = match self.shared.connect(&first, share(deadline, listed)).await {
            Ok(client) => return Ok((first, client)),
            Err(failed) => failed,
        };
        let servers = self.shared.in_time(deadline, self.shared.discovery.get_all()).await?;
        let start = servers.iter().position(|server| *server == first).unwrap_or(0);
        let from_start = servers.iter().cycle().skip(start).take(servers.len());
        let others: Vec<_> = from_start.filter(|server| **server != first).collect();
        for (index, endpoint) in others.iter().enumerate() {
            // Out of time: the error belongs to the server that took the time, and no other may be called.
            if Instant::now() >= deadline {
                break;
            }
            match self.shared.connect(endpoint, share(deadline, others.len() - index)).await {
                Ok(client) => return Ok((Endpoint::clone(endpoint), client)),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }
}

impl<D> Shared<D> {
    /// Waits for the discovery, but not longer than the call may take. Out of time is
    /// [`DiscoveryError::Unavailable`], with [`Error::Timeout`] as its source.
    pub(crate) async fn in_time<T>(
        &self,
        deadline: Instant,
        answer: impl Future<Output = Result<T, DiscoveryError>>,
    ) -> Result<T, DiscoveryError> {
        let after = self.call_timeout;
        let too_late = || DiscoveryError::Unavailable(Box::new(Error::Timeout { what: "choosing", after }));
        timeout_at(deadline, answer).await.unwrap_or_else(|_| Err(too_late()))
    }

    pub(crate) async fn connect(
        &self,
        endpoint: &Endpoint,
        deadline: Instant,
    ) -> Result<Client, BalanceError> {
        let connected = timeout_at(deadline, self.pool.connect(endpoint)).await;
        let too_late = |_| Err(Arc::new(Error::Timeout { what: "the call", after: self.call_timeout }));
        let connected = connected.unwrap_or_else(too_late);
        connected.map_err(|source| BalanceError::Dial { endpoint: endpoint.clone(), source })
    }

    /// Calls on one connection. The outer error means that the call surely has not run: nothing of it was
    /// sent. After an inner one it may have run, unless that is the refusal of a server that is leaving.
    pub(crate) async fn call_on<A, R>(
        &self,
        client: &Client,
        deadline: Instant,
        service_method: &str,
        args: &A,
    ) -> Result<Result<R, Error>, Error>
    where
        A: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        let called = async { Ok(client.start(service_method, args).await?.await) };
        let too_late = |_| Ok(Err(Error::Timeout { what: "the call", after: self.call_timeout }));
        timeout_at(deadline, called).await.unwrap_or_else(too_late)
    }
}

/// When to turn to the next server. A hung one may have a part of the time that is left: with three servers
/// left or more it is a third, with two a half, and the last has all of it (README, Limits). Its dialing goes
/// on beside the call, for whoever comes next.
fn share(deadline: Instant, servers_left: usize) -> Instant {
    let now = Instant::now();
    now + deadline.saturating_duration_since(now) / servers_left.clamp(1, 3) as u32
}
