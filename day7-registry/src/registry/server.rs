//! The registry as a server: HTTP in front of the table of leases.
//!
//! It keeps its list in memory only. A registry that restarts knows no server, and after one round of heartbeats it
//! knows all of them again. Until then its answers say how young it is. So it is after a stop, in which leases ended that no
//! heartbeat could renew. It has no task and no timer of its own: what has ended goes with the next request.

use std::convert::Infallible;
use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::balance::discovery::Instance;
use crate::deadline::{DEFAULT_GRACE_PERIOD, DEFAULT_HANDSHAKE_TIMEOUT};
use crate::error::Error;
use crate::http::connect::MAX_HTTP_HEADER_LEN;
use crate::http::door::{answer, not_allowed, run_http, text};
use crate::registry::leases::Leases;
use crate::registry::request::{self, Refusal};
use crate::registry::{AGE_HEADER, DEFAULT_MAX_SERVERS, LEASE_HEADER, SERVERS_HEADER};
use crate::server::DEFAULT_MAX_CONNECTIONS;
use crate::server::accept::accept_loop;
use crate::server::listener::Listener;

/// Keeps the list of the servers that are alive, and serves it over HTTP.
///
/// A clone is another handle on the same leases.
///
/// ```no_run
/// use day7_registry::RegistryServer;
///
/// # async fn example() -> anyhow::Result<()> {
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:9999").await?;
/// RegistryServer::new().serve(listener).await;
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
pub struct RegistryServer {
    /// Held for one look or change, never across an `await`.
    leases: Arc<Mutex<Leases>>,
    hosts: Vec<String>,
}

impl fmt::Debug for RegistryServer {
    /// Without the leases: the ids in there are not for others.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryServer").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

impl RegistryServer {
    /// A registry with an empty list.
    pub fn new() -> RegistryServer {
        RegistryServer::default()
    }

    /// Grants leases of this length, at least a millisecond. Default: [`DEFAULT_LEASE`](crate::DEFAULT_LEASE).
    pub fn lease(self, lease: Duration) -> RegistryServer {
        self.leases().lease = lease.max(Duration::from_millis(1));
        self
    }

    /// Refuses further servers while so many are alive, under all names together. Default, and the most:
    /// [`DEFAULT_MAX_SERVERS`], as clients refuse a longer list.
    pub fn max_servers(self, servers: usize) -> RegistryServer {
        self.leases().max_servers = servers.min(DEFAULT_MAX_SERVERS);
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
        accept_loop(listener, DEFAULT_MAX_CONNECTIONS, DEFAULT_GRACE_PERIOD, signal, |io, _, shutdown| {
            let registry = self.clone();
            async move { registry.serve_one(io, shutdown).await }
        })
        .await
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
        let mut builder = http1::Builder::new();
        builder.keep_alive(false).max_buf_size(MAX_HTTP_HEADER_LEN).title_case_headers(true);
        let http = pin!(builder.serve_connection(TokioIo::new(io), respond));
        let graceful_shutdown = http1::Connection::graceful_shutdown;
        run_http(http, graceful_shutdown, DEFAULT_HANDSHAKE_TIMEOUT, &shutdown).await
    }

    fn respond(&self, request: &Request<Incoming>) -> Result<Response<Full<Bytes>>, Refusal> {
        request::check_origin(request, &self.hosts)?;
        let name = request::name(request.uri().path())?;
        let mut leases = self.leases();
        let age = leases.note_request();
        match *request.method() {
            Method::GET => {
                let (body, header) = leases.list(name);
                let mut response = with_lease(body, leases.lease);
                response.headers_mut().insert(AGE_HEADER, millis(age).into());
                if let Some(servers) = header {
                    response.headers_mut().insert(SERVERS_HEADER, servers);
                }
                Ok(response)
            }
            Method::POST => {
                leases.register(name, request::server(request.headers())?)?;
                let body = json!({ "lease_ms": millis(leases.lease) });
                Ok(with_lease(body.to_string().into(), leases.lease))
            }
            Method::DELETE => {
                leases.deregister(name, request::server(request.headers())?)?;
                Ok(text(StatusCode::NO_CONTENT, ""))
            }
            _ => Ok(not_allowed("GET, POST, DELETE")),
        }
    }

    fn leases(&self) -> MutexGuard<'_, Leases> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// 200, with the length of a lease as a header.
fn with_lease(body: Bytes, lease: Duration) -> Response<Full<Bytes>> {
    let mut response = answer(StatusCode::OK, "application/json", body);
    response.headers_mut().insert(LEASE_HEADER, millis(lease).into());
    response
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
