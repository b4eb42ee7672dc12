//! The balanced client: one name, many servers. GeeRPC calls it `XClient`.
//!
//! ```text
//! discovery ── which servers are there ──▶ selector ── which is next ──▶ pool ── its connection ──▶ call
//! ```
//!
//! This file has the client and its handles. What they do is in `failover.rs` (`call`: one of the servers) and in
//! `broadcast.rs` (all of them).

pub mod broadcast;
pub mod discovery;
pub mod error;
mod failover;
pub mod multi_servers;
pub mod pool;
mod ring;
pub mod select;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::balance::discovery::Discovery;
use crate::balance::error::BalanceError;
use crate::balance::pool::{Connecting, Pool};
use crate::balance::select::{SelectMode, Selector};
use crate::client::Client;
use crate::client::options::Options;
use crate::http::endpoint::Endpoint;
use crate::service::contract::Caller;
use crate::wire::message::Metadata;

/// Calls the servers that a [`Discovery`] knows.
///
/// Clones are cheap and share the connections. They are closed when the last clone is dropped, and those to
/// a server also when it leaves the list. A [contract](crate::contract) works over it, as over a [`Client`].
#[derive(Clone)]
pub struct BalancedClient {
    discovery: Arc<dyn Discovery>,
    selector: Arc<Selector>,
    pool: Arc<Pool>,
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
        let selector = Arc::new(Selector::new(discovery.servers()));
        let dial = |endpoint: Endpoint, options: Options| -> Connecting {
            Box::pin(async move { Client::dial(&endpoint, &options).await })
        };
        BalancedClient {
            discovery: Arc::new(discovery),
            pool: Arc::new(Pool::new(Arc::clone(&selector), options.clone(), Arc::new(dial))),
            selector,
            mode,
            timeout: options.call_timeout,
            metadata: Arc::default(),
        }
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
        let pool = Pool::new(Arc::clone(&self.selector), self.pool.options.clone(), Arc::new(connect));
        BalancedClient { pool: Arc::new(pool), ..self }
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
        self.pool.open()
    }

    /// Starts a call now, and returns a future of its reply to await later. Choosing and dialing are parts of the
    /// call, so it runs in a task of its own. Its time limit begins here.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn start<A, R>(&self, service_method: impl Into<String>, args: A) -> StartedCall<R>
    where
        A: Serialize + Send + Sync + 'static,
        R: DeserializeOwned + Send + 'static,
    {
        let (client, service_method) = (self.clone(), service_method.into());
        let call = tokio::spawn(async move { client.call(&service_method, &args).await });
        StartedCall { task: AbortOnDropHandle::new(call) }
    }

    /// A connection with the settings of this handle, for what is left of the time of a call.
    fn configure(&self, client: &Client, deadline: Instant) -> Client {
        let left = deadline.saturating_duration_since(Instant::now());
        client.with_timeout(left).with_metadata_map(Arc::clone(&self.metadata))
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

/// A call that was started: await it for the reply, drop it to give the call up.
///
/// # Errors
/// As [`BalancedClient::call`].
///
/// # Cancel safety
/// Awaiting it by `&mut` is cancellation-safe.
#[derive(Debug)]
#[must_use = "dropping it gives the call up"]
pub struct StartedCall<R> {
    task: AbortOnDropHandle<Result<R, BalanceError>>,
}

impl<R> Future for StartedCall<R> {
    type Output = Result<R, BalanceError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(Pin::new(&mut self.task).poll(cx));
        // The task is not aborted while this is there. If it has no outcome, the code of a value has panicked.
        Poll::Ready(outcome.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())))
    }
}
