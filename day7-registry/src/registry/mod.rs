//! The registry: the one address that everybody knows.
//!
//! ```text
//! server ── POST, again and again ──▶ ┌──────────┐
//!        ◀─ the lease: 10 s ───────── │ registry │ ── GET ──▶ client
//! a server that stops renewing …      └──────────┘
//!                        … is forgotten when its lease ends
//! ```
//!
//! Servers do not only leave, they die, and the dead do not say goodbye. So an entry is a *lease*: it ends by
//! itself unless it is renewed. The registry speaks plain HTTP, so `curl` is a client of it as well:
//!
//! ```text
//! POST   /_rrpc_/registry   X-Rrpc-Server: tcp@10.0.0.7:9999   registers or renews; 200 and the lease
//! GET    /_rrpc_/registry                                      200 and the list
//! DELETE /_rrpc_/registry   X-Rrpc-Server: tcp@10.0.0.7:9999   deregisters; 204
//! ```
//!
//! It keeps its list in memory only. A registry that restarts knows nobody, and everybody again after one
//! round of heartbeats.

mod backoff;
pub mod client;
pub mod discovery;
pub mod heartbeat;

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until};

use crate::deadline::{deadline, limit};
use crate::error::Error;
use crate::http::connect::MAX_HTTP_HEADER_LEN;
use crate::http::door::{drive, not_allowed, text};
use crate::http::endpoint::{Endpoint, EndpointError};
use crate::server::connection::Admission;
use crate::server::{Listener, Server, accept_loop};
use crate::service::ServiceMap;

/// Where a registry is found on its port.
pub const REGISTRY_PATH: &str = "/_rrpc_/registry";
/// The header of a request that names one server.
pub const SERVER_HEADER: &str = "x-rrpc-server";
/// The header of an answer that lists all servers, with commas between them.
pub const SERVERS_HEADER: &str = "x-rrpc-servers";
/// The header of an answer that says how long a lease is, in milliseconds.
pub const LEASE_HEADER: &str = "x-rrpc-lease-ms";

/// The default for a lease.
pub const DEFAULT_TTL: Duration = Duration::from_secs(10);
/// The limit for the servers in the list, and for those that a client takes from it. One more is refused.
pub const DEFAULT_MAX_SERVERS: usize = 10_000;
/// The longest endpoint that can be registered, in bytes. It has as many in JSON, so a list of
/// [`DEFAULT_MAX_SERVERS`] is never longer than [`MAX_LIST_LEN`](crate::MAX_LIST_LEN).
pub const MAX_SERVER_LEN: usize = 200;
/// The longest list that is sent as a header, in bytes. A longer one is in the body alone.
pub const MAX_SERVERS_HEADER_LEN: usize = 4096;

/// Keeps the list of the servers that are alive, and serves it over HTTP.
///
/// A clone is another handle on the same list.
///
/// ```no_run
/// use day7_registry::Registry;
///
/// # async fn example() -> anyhow::Result<()> {
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:9999").await?;
/// Registry::new().serve(listener).await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Registry {
    /// Every server with the end of its lease. Held for one look or change, never across an `await`.
    leases: Arc<Mutex<HashMap<Endpoint, Instant>>>,
    ttl: Duration,
    max_servers: usize,
    /// Only for its limits: a registry accepts, refuses and drains connections as a server does.
    limits: Server,
}

impl Default for Registry {
    fn default() -> Registry {
        Registry::new()
    }
}

impl Registry {
    /// A registry that knows nobody.
    pub fn new() -> Registry {
        Registry {
            leases: Arc::default(),
            ttl: DEFAULT_TTL,
            max_servers: DEFAULT_MAX_SERVERS,
            limits: Server::new(ServiceMap::new()),
        }
    }

    /// Grants leases of this length, at least a millisecond. Default: [`DEFAULT_TTL`].
    pub fn ttl(mut self, ttl: Duration) -> Registry {
        self.ttl = ttl.max(Duration::from_millis(1));
        self
    }

    /// Refuses further servers while so many are alive. Default, and the most: [`DEFAULT_MAX_SERVERS`], as
    /// clients refuse a longer list.
    pub fn max_servers(mut self, servers: usize) -> Registry {
        self.max_servers = servers.min(DEFAULT_MAX_SERVERS);
        self
    }

    /// The servers that are alive, sorted by their text.
    pub fn servers(&self) -> Vec<Endpoint> {
        let now = Instant::now();
        let alive = |(endpoint, end): (&Endpoint, &Instant)| (*end > now).then(|| endpoint.clone());
        let mut servers: Vec<_> = self.leases().iter().filter_map(alive).collect();
        servers.sort_by_cached_key(Endpoint::to_string);
        servers
    }

    /// Accepts connections and answers them, until this future is dropped; that ends all of them.
    ///
    /// # Cancel safety
    /// Dropping the future is the way to stop the registry. Its list stays as long as there are clones.
    pub async fn serve<L: Listener<Io: Unpin>>(&self, listener: L) {
        self.serve_with_shutdown(listener, std::future::pending()).await.ok();
    }

    /// As [`serve`](Registry::serve), until `signal` is ready. Then it stops accepting, and finishes the
    /// answers that it owes.
    ///
    /// # Errors
    /// [`Error::Timeout`] if some were not finished within the
    /// [grace period](crate::DEFAULT_GRACE_PERIOD) of a server.
    ///
    /// # Cancel safety
    /// As [`serve`](Registry::serve).
    pub async fn serve_with_shutdown<L: Listener<Io: Unpin>>(
        &self,
        listener: L,
        signal: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        let accepting = accept_loop(&self.limits, listener, signal, |io, admission| {
            let registry = self.clone();
            async move { registry.serve_one(io, admission).await }
        });
        // Both live in this future: no task is left behind that would go on counting leases.
        tokio::select! {
            ended = accepting => ended,
            never = self.forget_the_dead() => match never {},
        }
    }

    /// Answers one request. One connection, one request, one time limit for all of it: a client can neither
    /// hold a connection by saying nothing nor by reading nothing.
    async fn serve_one<Io>(&self, io: Io, admission: Admission) -> Result<(), Error>
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let answer = service_fn(async |request| {
            let response = match &admission.refused {
                Some(reason) => text(StatusCode::SERVICE_UNAVAILABLE, reason.clone()),
                None => self.respond(&request),
            };
            Ok::<_, Infallible>(response)
        });
        let after = self.limits.handshake_timeout;
        let mut builder = http1::Builder::new();
        builder.keep_alive(false).max_buf_size(MAX_HTTP_HEADER_LEN).title_case_headers(true);
        builder.timer(TokioTimer::new()).header_read_timeout(after);
        let http = pin!(builder.serve_connection(TokioIo::new(io), answer));
        let answered = drive(http, http1::Connection::graceful_shutdown, &admission.shutdown);
        limit("a registry request", after, answered).await
    }

    /// Removes what has ended, for as long as the registry is served. `servers` looks at the clock itself, so
    /// this is not about being right, only about memory.
    async fn forget_the_dead(&self) -> Infallible {
        loop {
            // All leases are equally long: one that is granted while we sleep does not end before this.
            let next = self.leases().values().min().copied();
            sleep_until(next.unwrap_or_else(|| deadline(self.ttl))).await;
            remove_ended(&mut self.leases());
        }
    }

    fn respond(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if request.uri().path() != REGISTRY_PATH {
            return text(StatusCode::NOT_FOUND, format!("nothing here: expected {REGISTRY_PATH}\n"));
        }
        match *request.method() {
            Method::GET => self.list(),
            Method::POST => named_server(request).map_or_else(bad_request, |server| self.register(server)),
            Method::DELETE => named_server(request).map_or_else(bad_request, |server| {
                self.leases().remove(&server);
                let mut response = Response::new(Full::default());
                *response.status_mut() = StatusCode::NO_CONTENT;
                response
            }),
            _ => not_allowed("GET, POST, DELETE"),
        }
    }

    fn register(&self, server: Endpoint) -> Response<Full<Bytes>> {
        let mut leases = self.leases();
        if leases.len() >= self.max_servers && !leases.contains_key(&server) {
            remove_ended(&mut leases);
            if leases.len() >= self.max_servers {
                let full = format!("the registry is full: {} servers are registered\n", self.max_servers);
                return text(StatusCode::INSUFFICIENT_STORAGE, full);
            }
        }
        leases.insert(server, deadline(self.ttl));
        self.json(&json!({ "lease_ms": self.lease_ms() }))
    }

    fn list(&self) -> Response<Full<Bytes>> {
        let servers: Vec<_> = self.servers().iter().map(Endpoint::to_string).collect();
        let mut response = self.json(&json!(servers));
        let list = servers.join(",");
        if list.len() <= MAX_SERVERS_HEADER_LEN
            && let Ok(list) = HeaderValue::from_str(&list)
        {
            response.headers_mut().insert(SERVERS_HEADER, list);
        }
        response
    }

    /// 200, with the lease as a header.
    fn json(&self, value: &serde_json::Value) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(value.to_string().into()));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(LEASE_HEADER, self.lease_ms().into());
        response
    }

    fn lease_ms(&self) -> u64 {
        u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX)
    }

    fn leases(&self) -> MutexGuard<'_, HashMap<Endpoint, Instant>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn remove_ended(leases: &mut HashMap<Endpoint, Instant>) {
    let now = Instant::now();
    leases.retain(|_, end| *end > now);
}

/// The one server that a request names, or what is wrong with it.
fn named_server(request: &Request<Incoming>) -> Result<Endpoint, String> {
    let mut values = request.headers().get_all(SERVER_HEADER).iter();
    let value = match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().map_err(|_| "it is no plain ASCII text".to_owned())?,
        (None, _) => return Err("it is missing".to_owned()),
        (Some(_), Some(_)) => return Err("it is there more than once".to_owned()),
    };
    if value.len() > MAX_SERVER_LEN {
        return Err(format!("it is longer than {MAX_SERVER_LEN} bytes"));
    }
    if value.contains(',') {
        return Err(format!("{value:?} has a comma, but a server registers itself alone"));
    }
    let endpoint: Endpoint = value.parse().map_err(|error: EndpointError| error.to_string())?;
    match endpoint.is_unspecified() {
        true => Err(format!("nobody can connect to {endpoint}: register an address that others can reach")),
        false => Ok(endpoint),
    }
}

fn bad_request(reason: String) -> Response<Full<Bytes>> {
    let accepted = "expected one endpoint, such as X-Rrpc-Server: tcp@10.0.0.7:9999";
    text(StatusCode::BAD_REQUEST, format!("bad header X-Rrpc-Server: {reason}\n{accepted}\n"))
}
