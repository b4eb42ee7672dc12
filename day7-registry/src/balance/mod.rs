//! The balanced client: one name, many servers. GeeRPC calls it `XClient`.
//!
//! ```text
//! call ──▶ candidates ──▶ pool ──▶ Client::call ──▶ reply, or an error that may have run
//!              │            │           │
//!              │            │           └─ not sent, or refused? the next candidate
//!              │            └─ cannot be dialed? the next candidate, and this server has a rest
//!              └─ no candidate is left? ask the discovery for a newer list, once; then it is an error
//! ```
//!
//! Only a call that surely has not run is tried elsewhere: see [`Error::may_have_run`]. A call that was lost in
//! flight may have run, and running it twice is the caller's decision.

pub mod broadcast;
pub mod discovery;
pub mod error;
mod failover;
mod list;
pub mod multi_servers;
pub mod pool;
mod ring;
pub mod select;
pub mod start;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::balance::discovery::Discovery;
use crate::balance::error::BalanceError;
use crate::balance::failover::{Failover, Shared};
use crate::balance::pool::Connecting;
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

/// Calls the servers that a [`Discovery`] knows.
///
/// Clones are cheap and share the connections. They are closed when the last clone is dropped, and those to
/// a server also when it leaves the list. A [contract](crate::contract) works over it, as over a [`Client`].
#[derive(Clone)]
pub struct BalancedClient {
    shared: Arc<Shared>,
    mode: SelectMode,
    timeout: Duration,
    metadata: Arc<Metadata>,
}

impl BalancedClient {
    /// A client of the servers that `discovery` knows. Nothing is dialed before the first call. To change the list
    /// later, keep an `Arc` of the discovery.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn new(discovery: impl Discovery, mode: SelectMode, options: &Options) -> BalancedClient {
        let dial = |endpoint: Endpoint, options: Options| -> Connecting {
            Box::pin(async move { Client::dial(&endpoint, &options).await })
        };
        let shared = Shared::new(Arc::new(discovery), options.clone(), Arc::new(dial));
        BalancedClient { shared, mode, timeout: options.call_timeout, metadata: Arc::default() }
    }

    /// A client of the same servers that dials them with `connect`: TLS, a proxy, a stream in memory. The time limit for
    /// connecting holds for it, too. It begins without connections.
    ///
    /// ```
    /// use day7_registry::{BalancedClient, Client, MultiServersDiscovery, Options, SelectMode, Server};
    ///
    /// # async fn example(server: Server) -> anyhow::Result<()> {
    /// let servers = MultiServersDiscovery::new(["tcp@a:1".parse()?, "tcp@b:1".parse()?]);
    /// let client = BalancedClient::new(servers, SelectMode::Random, &Options::default());
    /// // Both are one server in this process, over a stream in memory.
    /// let client = client.with_connector(move |_endpoint, options| {
    ///     let server = server.clone();
    ///     Box::pin(async move {
    ///         let (ours, theirs) = tokio::io::duplex(64 * 1024);
    ///         tokio::spawn(async move { server.serve_connection(theirs).await });
    ///         Client::handshake(ours, &options).await
    ///     })
    /// });
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn with_connector(
        self,
        connect: impl Fn(Endpoint, Options) -> Connecting + Send + Sync + 'static,
    ) -> BalancedClient {
        let (discovery, options) = (Arc::clone(&self.shared.discovery), self.shared.pool.options.clone());
        BalancedClient { shared: Shared::new(discovery, options, Arc::new(connect)), ..self }
    }

    /// The same client and connections, with another select mode.
    pub fn with_mode(&self, mode: SelectMode) -> BalancedClient {
        BalancedClient { mode, ..self.clone() }
    }

    /// The same client and connections, with another time limit for its calls.
    pub fn with_timeout(&self, timeout: Duration) -> BalancedClient {
        BalancedClient { timeout, ..self.clone() }
    }

    /// The same client and connections, with one more entry in the metadata of its calls: see
    /// [`Client::with_metadata`].
    pub fn with_metadata(&self, key: impl Into<String>, value: impl Into<String>) -> BalancedClient {
        let mut client = self.clone();
        Arc::make_mut(&mut client.metadata).insert(key.into(), value.into());
        client
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
        let mut servers = Failover::new(&self.shared, &self.mode, deadline, self.timeout).await?;
        let mut attempts = 0;
        loop {
            let (endpoint, client) = servers.next().await?;
            let source = match self.call_on(&client, deadline, service_method, args).await {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            attempts += 1;
            if source.may_have_run() || attempts == MAX_ATTEMPTS {
                return Err(BalanceError::Call { endpoint, source });
            }
            servers.note_refused(endpoint);
        }
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
        let client = client.with_timeout(deadline.saturating_duration_since(Instant::now()));
        let client = client.with_metadata_map(Arc::clone(&self.metadata));
        let called = client.call(service_method, args).await;
        called.map_err(|error| match error {
            Error::Timeout { what, .. } => Error::Timeout { what, after: self.timeout },
            other => other,
        })
    }
}

impl fmt::Debug for BalancedClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BalancedClient").field("mode", &self.mode).finish_non_exhaustive()
    }
}

impl Caller for BalancedClient {
    type Error = BalanceError;

    async fn call<A, R>(&self, method: &str, args: &A) -> Result<R, BalanceError>
    where
        A: Serialize + Sync + ?Sized,
        R: DeserializeOwned + Send,
    {
        BalancedClient::call(self, method, args).await
    }
}
