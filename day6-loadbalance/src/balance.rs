//! The balanced client: one name, many servers. GeeRPC calls it `XClient`.
//!
//! ```text
//! call ──▶ Discovery::get(mode) ──▶ pool ──▶ Client::call
//!               │                     │
//!               │                     └─ cannot be dialed? nothing was sent: try the next server
//!               └─ no server at all? an error, never silence
//! ```
//!
//! Only a call of which nothing was sent is tried elsewhere. A call that was lost in mid-flight may have run,
//! and running it twice is the caller's decision.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout_at};

use crate::deadline::deadline;
use crate::pool::Pool;
use crate::{Client, Discovery, DiscoveryError, Endpoint, Error, Options, SelectMode};

/// How many servers a broadcast talks to at the same time.
pub const MAX_BROADCAST: usize = 64;

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
    shared: Arc<Shared<D>>,
    mode: SelectMode,
}

struct Shared<D> {
    discovery: D,
    call_timeout: Duration,
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
        let first = self.shared.in_time(deadline, self.shared.discovery.get(&self.mode)).await?;
        let (endpoint, client) = self.connect(first, deadline).await?;
        call_on(endpoint, client, deadline, service_method, args).await
    }

    /// Connects to `first` or, if it cannot be dialed, to the next in the list that can.
    async fn connect(&self, first: Endpoint, deadline: Instant) -> Result<(Endpoint, Client), BalanceError> {
        let mut failed = match self.shared.connect(&first, deadline).await {
            Ok(client) => return Ok((first, client)),
            Err(failed) => failed,
        };
        let servers = self.shared.in_time(deadline, self.shared.discovery.get_all()).await?;
        let start = servers.iter().position(|server| *server == first).map_or(0, |index| index + 1);
        let others =
            servers.iter().cycle().skip(start).take(servers.len()).filter(|server| **server != first);
        for endpoint in others {
            // Out of time: the error belongs to the server that took the time, and no other may be called.
            if Instant::now() >= deadline {
                break;
            }
            match self.shared.connect(endpoint, deadline).await {
                Ok(client) => return Ok((endpoint.clone(), client)),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// Calls a method on every server. All succeed: one of the replies. One fails: its error, at once, and
    /// the other calls are cancelled.
    ///
    /// # Errors
    /// The first failure, which names the server; [`DiscoveryError::NoServers`] if nobody was asked.
    ///
    /// # Cancel safety
    /// Dropping the future gives all calls up.
    pub async fn broadcast<A, R>(&self, service_method: &str, args: A) -> Result<R, BalanceError>
    where
        A: Serialize + Send + Sync + 'static,
        R: DeserializeOwned + Send + 'static,
    {
        let mut broadcast = self.start_broadcast(service_method, args).await?;
        let mut reply = Err(BalanceError::Discovery(DiscoveryError::NoServers));
        while let Some((_, result)) = broadcast.next().await {
            // Dropping `broadcast` on the way out cancels the rest.
            reply = Ok(result?);
        }
        reply
    }

    /// Calls a method on every server, and returns what each of them answered, in the order of the list.
    ///
    /// # Errors
    /// [`BalanceError::Discovery`] if there is no server. Failed calls are in the list.
    ///
    /// # Cancel safety
    /// Dropping the future gives all calls up.
    pub async fn broadcast_all<A, R>(
        &self,
        service_method: &str,
        args: A,
    ) -> Result<Vec<(Endpoint, Result<R, BalanceError>)>, BalanceError>
    where
        A: Serialize + Send + Sync + 'static,
        R: DeserializeOwned + Send + 'static,
    {
        let mut broadcast = self.start_broadcast(service_method, args).await?;
        let servers = Arc::clone(&broadcast.servers);
        let mut results: Vec<_> = servers.iter().map(|_| None).collect();
        while let Some((index, result)) = broadcast.next().await {
            results[index] = Some(result);
        }
        Ok(servers.iter().cloned().zip(results.into_iter().flatten()).collect())
    }

    async fn start_broadcast<A, R>(
        &self,
        service_method: &str,
        args: A,
    ) -> Result<Broadcast<D, A, R>, BalanceError> {
        let deadline = deadline(self.shared.call_timeout);
        let servers = self.shared.in_time(deadline, self.shared.discovery.get_all()).await?;
        if servers.is_empty() {
            return Err(DiscoveryError::NoServers.into());
        }
        let call = Arc::new((service_method.to_owned(), args));
        let shared = Arc::clone(&self.shared);
        Ok(Broadcast { shared, servers, next: 0, call, deadline, calls: JoinSet::new() })
    }
}

impl<D> Shared<D> {
    /// Waits for the discovery, but not longer than the call may take.
    async fn in_time<T>(
        &self,
        deadline: Instant,
        answer: impl Future<Output = Result<T, DiscoveryError>>,
    ) -> Result<T, DiscoveryError> {
        let after = self.call_timeout;
        let too_late = || DiscoveryError::Unavailable(Box::new(Error::Timeout { what: "choosing", after }));
        timeout_at(deadline, answer).await.unwrap_or_else(|_| Err(too_late()))
    }

    async fn connect(&self, endpoint: &Endpoint, deadline: Instant) -> Result<Client, BalanceError> {
        let connected = timeout_at(deadline, self.pool.connect(endpoint)).await;
        let too_late = |_| Err(Arc::new(Error::Timeout { what: "the call", after: self.call_timeout }));
        let connected = connected.unwrap_or_else(too_late);
        connected.map_err(|source| BalanceError::Dial { endpoint: endpoint.clone(), source })
    }
}

/// A call to every server, at most [`MAX_BROADCAST`] at a time. Dropping it cancels those in flight.
struct Broadcast<D, A, R> {
    shared: Arc<Shared<D>>,
    servers: Arc<[Endpoint]>,
    /// The first server that was not called yet.
    next: usize,
    call: Arc<(String, A)>,
    deadline: Instant,
    calls: JoinSet<(usize, Result<R, BalanceError>)>,
}

impl<D, A, R> Broadcast<D, A, R>
where
    D: Discovery,
    A: Serialize + Send + Sync + 'static,
    R: DeserializeOwned + Send + 'static,
{
    /// The next answer that comes in, with the index of its server.
    async fn next(&mut self) -> Option<(usize, Result<R, BalanceError>)> {
        while self.calls.len() < MAX_BROADCAST && self.next < self.servers.len() {
            let (index, endpoint) = (self.next, self.servers[self.next].clone());
            let (shared, call, deadline) = (Arc::clone(&self.shared), Arc::clone(&self.call), self.deadline);
            self.calls.spawn(async move {
                let called = async {
                    let client = shared.connect(&endpoint, deadline).await?;
                    call_on(endpoint, client, deadline, &call.0, &call.1).await
                };
                (index, called.await)
            });
            self.next += 1;
        }
        match self.calls.join_next().await? {
            Ok(answer) => Some(answer),
            // Nobody aborts these tasks; so a value's own code has panicked, and its panic goes on here.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

async fn call_on<A, R>(
    endpoint: Endpoint,
    client: Client,
    deadline: Instant,
    service_method: &str,
    args: &A,
) -> Result<R, BalanceError>
where
    A: Serialize + ?Sized,
    R: DeserializeOwned,
{
    let left = deadline.saturating_duration_since(Instant::now());
    client
        .call_within(left, service_method, args)
        .await
        .map_err(|source| BalanceError::Call { endpoint, source })
}
