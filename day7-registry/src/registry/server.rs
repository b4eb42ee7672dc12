//! The registry as a server: HTTP in front of the table of leases.
//!
//! It keeps its list in memory only. A registry that restarts knows no server, and after one round of heartbeats it
//! knows all of them again. Until then its answers say how young it is. So it is after a stop, in which leases ended that no
//! heartbeat could renew.

use std::convert::Infallible;
use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use crate::balance::discovery::Instance;
use crate::deadline::{DEFAULT_GRACE_PERIOD, DEFAULT_HANDSHAKE_TIMEOUT, deadline};
use crate::error::Error;
use crate::http::connect::MAX_HTTP_HEADER_LEN;
use crate::http::door::{answer, not_allowed, run_http, text};
use crate::registry::leases::Leases;
use crate::registry::request::{self, Refusal};
use crate::registry::{AGE_HEADER, DEFAULT_LEASE, DEFAULT_MAX_SERVERS, LEASE_HEADER, SERVERS_HEADER};
use crate::server::DEFAULT_MAX_CONNECTIONS;
use crate::server::accept::accept_loop;
use crate::server::listener::Listener;

/// Keeps the list of the servers that are alive, and serves it over HTTP.
///
/// A clone is another handle on the same list.
///
/// ```no_run
/// use day7_registry::RegistryServer;
///
/// # async fn example() -> anyhow::Result<()> {
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:9999").await?;
/// RegistryServer::new().serve(listener).await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct RegistryServer {
    /// Held for one look or change, never across an `await`.
    leases: Arc<Mutex<Leases>>,
    lease: Duration,
    max_servers: usize,
    hosts: Vec<String>,
}

impl fmt::Debug for RegistryServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RegistryServer { lease, max_servers, hosts, .. } = self;
        let mut text = f.debug_struct("RegistryServer");
        text.field("lease", lease)
            .field("max_servers", max_servers)
            .field("hosts", hosts)
            .finish_non_exhaustive()
    }
}

impl Default for RegistryServer {
    fn default() -> RegistryServer {
        RegistryServer::new()
    }
}

impl RegistryServer {
    /// A registry with an empty list.
    pub fn new() -> RegistryServer {
        RegistryServer {
            leases: Arc::default(),
            lease: DEFAULT_LEASE,
            max_servers: DEFAULT_MAX_SERVERS,
            hosts: Vec::new(),
        }
    }

    /// Grants leases of this length, at least a millisecond. Default: [`DEFAULT_LEASE`].
    pub fn lease(mut self, lease: Duration) -> RegistryServer {
        self.lease = lease.max(Duration::from_millis(1));
        self
    }

    /// Refuses further servers while so many are alive, under all names together. Default, and the most:
    /// [`DEFAULT_MAX_SERVERS`], as clients refuse a longer list.
    pub fn max_servers(mut self, servers: usize) -> RegistryServer {
        self.max_servers = servers.min(DEFAULT_MAX_SERVERS);
        self
    }

    /// Answers requests for this host, too. By default it answers only if their `Host` is an IP address or
    /// `localhost`: a page in a browser can make a name of its own lead here, and would read the answer.
    pub fn host(mut self, name: impl Into<String>) -> RegistryServer {
        self.hosts.push(name.into());
        self
    }

    /// The servers that are alive and registered without a name, sorted by their text.
    pub fn servers(&self) -> Vec<Instance> {
        self.leases().servers("")
    }

    /// The servers that are alive and registered under this name, sorted by their text.
    pub fn servers_of(&self, name: &str) -> Vec<Instance> {
        self.leases().servers(name)
    }

    /// Accepts connections and answers them, until this future is dropped; that ends all of them.
    ///
    /// # Cancel safety
    /// Dropping the future is the way to stop the registry. Its list stays as long as there are clones.
    pub async fn serve<L: Listener<Io: Unpin>>(&self, listener: L) {
        self.serve_with_shutdown(listener, std::future::pending()).await.ok();
    }

    /// As [`serve`](RegistryServer::serve), until `signal` is ready. Then it stops accepting, and finishes the
    /// answers that it owes, for at most a second.
    ///
    /// # Errors
    /// [`Error::Timeout`] if a connection did not end within the
    /// [grace period](crate::DEFAULT_GRACE_PERIOD) of a server.
    ///
    /// # Cancel safety
    /// As [`serve`](RegistryServer::serve).
    pub async fn serve_with_shutdown<L: Listener<Io: Unpin>>(
        &self,
        listener: L,
        signal: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        let serve_one = |io, _, shutdown| {
            let registry = self.clone();
            async move { registry.serve_one(io, shutdown).await }
        };
        let accepting =
            accept_loop(listener, DEFAULT_MAX_CONNECTIONS, DEFAULT_GRACE_PERIOD, signal, serve_one);
        // Both live in this future: no task is left behind that would go on counting leases.
        tokio::select! {
            ended = accepting => ended,
            never = self.forget_ended() => match never {},
        }
    }

    /// Answers one request. One connection, one request, one time limit for all of it: a client cannot hold a
    /// connection by sending nothing, nor by reading nothing.
    async fn serve_one<Io>(&self, io: Io, shutdown: CancellationToken) -> Result<(), Error>
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let respond = service_fn(async |request| {
            let response = self.respond(&request);
            Ok::<_, Infallible>(response.unwrap_or_else(|(status, reason)| text(status, reason)))
        });
        let after = DEFAULT_HANDSHAKE_TIMEOUT;
        let mut builder = http1::Builder::new();
        builder.keep_alive(false).max_buf_size(MAX_HTTP_HEADER_LEN).title_case_headers(true);
        builder.timer(TokioTimer::new()).header_read_timeout(after);
        let http = pin!(builder.serve_connection(TokioIo::new(io), respond));
        run_http(http, http1::Connection::graceful_shutdown, after, &shutdown).await
    }

    /// Removes what has ended, for as long as the registry is served.
    async fn forget_ended(&self) -> Infallible {
        loop {
            // All leases are equally long: one that is granted while we sleep does not end before this.
            let next = self.leases().next_end();
            sleep_until(next.unwrap_or_else(|| deadline(self.lease))).await;
            self.leases().remove_ended();
        }
    }

    fn respond(&self, request: &Request<Incoming>) -> Result<Response<Full<Bytes>>, Refusal> {
        request::check_origin(request, &self.hosts)?;
        let name = request::name(request.uri().path())?;
        let headers = request.headers();
        let age = self.leases().note_request(self.lease);
        match *request.method() {
            Method::GET => Ok(self.list(name, age)),
            Method::POST => self.register(name, headers),
            Method::DELETE => self.deregister(name, headers),
            _ => Ok(not_allowed("GET, POST, DELETE")),
        }
    }

    fn register(&self, name: &str, headers: &HeaderMap) -> Result<Response<Full<Bytes>>, Refusal> {
        let server = Instance::new(request::server(headers)?).weight(request::weight(headers)?);
        let id = request::instance_id(headers)?;
        let end = deadline(self.lease);
        self.leases().register(name, server, id, end, self.max_servers)?;
        let body = json!({ "lease_ms": millis(self.lease) }).to_string();
        Ok(self.json(body.into()))
    }

    fn deregister(&self, name: &str, headers: &HeaderMap) -> Result<Response<Full<Bytes>>, Refusal> {
        let (server, id) = (request::server(headers)?, request::instance_id(headers)?);
        let end = deadline(self.lease);
        self.leases().deregister(name, &server, id, end, self.max_servers)?;
        Ok(text(StatusCode::NO_CONTENT, ""))
    }

    fn list(&self, name: &str, age: Duration) -> Response<Full<Bytes>> {
        let list = self.leases().list(name);
        let mut response = self.json(list.body);
        let headers = response.headers_mut();
        headers.insert(AGE_HEADER, millis(age).into());
        if let Some(servers) = list.header {
            headers.insert(SERVERS_HEADER, servers);
        }
        response
    }

    /// 200, with the lease as a header.
    fn json(&self, body: Bytes) -> Response<Full<Bytes>> {
        let mut response = answer(StatusCode::OK, "application/json", body);
        response.headers_mut().insert(LEASE_HEADER, millis(self.lease).into());
        response
    }

    fn leases(&self) -> MutexGuard<'_, Leases> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
