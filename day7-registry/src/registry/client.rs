//! The registry over HTTP, from the side of servers and clients: one request, one connection, one answer.
//!
//! ```text
//! Heartbeat ─────────▶ register ─┐
//!                    deregister ─┼─▶ HttpRegistry ── HTTP ──▶ RegistryServer
//! RegistryDiscovery ──▶ servers ─┘
//! ```
//!
//! It sends one request and returns exactly what came of it. Trying again is the business of those on the left.
//! Not every answer is a success: 503 is an answer too, and so is the page of some other program that now listens
//! on that port. Only a 2xx with what was requested is one.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderMap};
use hyper::http::request::Builder;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio_util::task::AbortOnDropHandle;

use crate::balance::discovery::Instance;
use crate::error::error_chain;
use crate::http::connect::{MAX_HTTP_HEADER_LEN, read_refusal};
use crate::http::dial::open_tcp;
use crate::http::endpoint::{Address, Endpoint};
use crate::registry::url::RegistryUrl;
use crate::registry::{
    AGE_HEADER, DEFAULT_MAX_SERVERS, DEFAULT_REGISTRY_TIMEOUT, INSTANCE_HEADER, LEASE_HEADER, Registry,
    RegistryError, SERVER_HEADER, ServerList, WEIGHT_HEADER, in_time,
};

/// The longest answer that is read, in bytes.
pub const MAX_LIST_LEN: usize = 3 * 1024 * 1024;

/// A registry at a URL. Cheap to clone: it holds no connection.
///
/// It makes an id at random for each endpoint that it registers, and sends it along. A server that starts again at the
/// same endpoint has another id, and takes the place of the one before. What that one still sends changes nothing: it is
/// answered 409. Clones have the same ids.
#[derive(Clone, Debug)]
pub struct HttpRegistry {
    url: RegistryUrl,
    timeout: Duration,
    allow_local: bool,
    /// The id of each instance that is registered. A deregistration ends it.
    ids: Arc<Mutex<HashMap<Endpoint, u64>>>,
}

impl HttpRegistry {
    /// The registry there. Nothing is sent yet.
    pub fn new(url: RegistryUrl) -> HttpRegistry {
        HttpRegistry { url, timeout: DEFAULT_REGISTRY_TIMEOUT, allow_local: false, ids: Arc::default() }
    }

    /// Gives up a request after this time. Default: [`DEFAULT_REGISTRY_TIMEOUT`].
    pub fn timeout(mut self, after: Duration) -> HttpRegistry {
        self.timeout = after;
        self
    }

    /// Also takes servers on this machine, `unix@…` and loopback addresses, from a registry on another one. Default:
    /// they are left out. Any peer that can register there could make clients connect to sockets of their own machine.
    ///
    /// Where a registry is, its URL says. With a loopback address or `localhost` it is on this machine and may always list
    /// them, also if that is a forwarded port (`ssh -L`). With any other name it is on another one, wherever the name leads.
    ///
    /// It is the same with servers: one whose name leads to a loopback address is not noticed, except `localhost`.
    pub fn allow_local_servers(mut self) -> HttpRegistry {
        self.allow_local = true;
        self
    }

    /// Where the registry is.
    pub fn url(&self) -> &RegistryUrl {
        &self.url
    }

    /// A request that names one server, and the instance that sends it.
    fn named(&self, method: Method, endpoint: &Endpoint) -> Builder {
        let id = *self.ids().entry(endpoint.clone()).or_insert_with(rand::random);
        let request = Request::builder().method(method).header(SERVER_HEADER, endpoint.to_string());
        request.header(INSTANCE_HEADER, format!("{id:016x}"))
    }

    fn ids(&self) -> MutexGuard<'_, HashMap<Endpoint, u64>> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One exchange, under one limit. It succeeds with a 2xx status only.
    async fn request(&self, request: Builder) -> Result<Response<Bytes>, RegistryError> {
        in_time(self.timeout, self.exchange(request)).await
    }

    async fn exchange(&self, request: Builder) -> Result<Response<Bytes>, RegistryError> {
        let request = request
            .uri(&self.url.path)
            .header(HOST, self.url.address.as_str())
            .header(CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .map_err(unreachable)?;
        let io = open_tcp(&self.url.address).await.map_err(unreachable)?;
        let mut http = hyper::client::conn::http1::Builder::new();
        http.max_buf_size(MAX_HTTP_HEADER_LEN).title_case_headers(true);
        let (mut sender, http) = http.handshake(TokioIo::new(io)).await.map_err(unreachable)?;
        // hyper's side of the connection is a task. It ends with this handle, so with this exchange.
        let _driver = AbortOnDropHandle::new(tokio::spawn(http));

        let (head, body) = sender.send_request(request).await.map_err(unreachable)?.into_parts();
        if !head.status.is_success() {
            let text = read_refusal(body).await;
            return Err(RegistryError::Status { status: head.status.as_u16(), text });
        }
        match Limited::new(body, MAX_LIST_LEN).collect().await {
            Ok(body) => Ok(Response::from_parts(head, body.to_bytes())),
            Err(error) if error.is::<LengthLimitError>() => {
                Err(invalid(format!("it is longer than {MAX_LIST_LEN} bytes")))
            }
            Err(error) => Err(unreachable(error)),
        }
    }
}

impl Registry for HttpRegistry {
    /// As the trait says.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection. The server may be registered or not.
    async fn register(&self, instance: &Instance) -> Result<Duration, RegistryError> {
        let request = self
            .named(Method::POST, &instance.endpoint)
            .header(WEIGHT_HEADER, instance.weight.max(1))
            // RFC 9110, 8.6: some proxies refuse a POST that has no content and does not say so.
            .header(CONTENT_LENGTH, 0);
        lease(self.request(request).await?.headers())
    }

    /// As the trait says. A later registration is that of a new instance.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection. The server may be in the list or not.
    async fn deregister(&self, instance: &Instance) -> Result<(), RegistryError> {
        self.request(self.named(Method::DELETE, &instance.endpoint)).await?;
        self.ids().remove(&instance.endpoint);
        Ok(())
    }

    /// As the trait says.
    ///
    /// An entry that is no server is left out: a newer server may be reachable in ways that are not known here.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection.
    async fn servers(&self) -> Result<ServerList, RegistryError> {
        let response = self.request(Request::builder()).await?;
        let entries: Vec<serde_json::Value> = serde_json::from_slice(response.body())
            .map_err(|error| invalid(format!("the list is no JSON array: {error}")))?;
        let len = entries.len();
        // No registry holds more. Whatever is made of the list, such as a ring, grows with it.
        if len > DEFAULT_MAX_SERVERS {
            return Err(invalid(format!("it lists {len} servers, over the limit of {DEFAULT_MAX_SERVERS}")));
        }
        let takes_local = self.allow_local || is_loopback(&self.url.address);
        let mut servers: Vec<_> = entries.iter().filter_map(instance).collect();
        servers.retain(|server| takes_local || !is_local(&server.endpoint));
        let left_out = len - servers.len();
        if left_out > 0 {
            tracing::warn!(left_out, "entries are no servers, or on this machine and the registry is not");
        }
        let age = millis(response.headers(), AGE_HEADER).unwrap_or(Duration::MAX);
        Ok(ServerList::new(servers, lease(response.headers())?).age(age))
    }

    fn time_limit(&self) -> Duration {
        self.timeout
    }
}

/// A server as the list shows it.
#[derive(Deserialize)]
struct Listed {
    endpoint: String,
    weight: Option<NonZeroU16>,
}

fn instance(entry: &serde_json::Value) -> Option<Instance> {
    let Listed { endpoint, weight } = Listed::deserialize(entry).ok()?;
    let endpoint: Endpoint = endpoint.parse().ok()?;
    let weight = weight.map_or(1, |weight| weight.get().into());
    (!endpoint.is_unspecified()).then(|| Instance::new(endpoint).weight(weight))
}

/// Whether a client that connects to this server connects to its own machine.
fn is_local(endpoint: &Endpoint) -> bool {
    match endpoint {
        Endpoint::Tcp(address) | Endpoint::Http(address) => is_loopback(address),
        Endpoint::Unix(_) => true,
    }
}

fn is_loopback(address: &Address) -> bool {
    match address.as_str().parse::<SocketAddr>() {
        Ok(addr) => addr.ip().to_canonical().is_loopback(),
        Err(_) => address.as_str().starts_with("localhost:") || address.as_str().contains(".localhost:"),
    }
}

/// The length of a lease, from the registry's answer.
fn lease(headers: &HeaderMap) -> Result<Duration, RegistryError> {
    let lease = millis(headers, LEASE_HEADER).filter(|lease| !lease.is_zero());
    lease.ok_or_else(|| invalid(format!("the header {LEASE_HEADER} is not a number above zero")))
}

fn millis(headers: &HeaderMap, name: &str) -> Option<Duration> {
    headers.get(name)?.to_str().ok()?.parse().ok().map(Duration::from_millis)
}

fn invalid(reason: String) -> RegistryError {
    RegistryError::InvalidResponse(reason)
}

fn unreachable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> RegistryError {
    let mut error = error.into();
    // hyper's own text is short, such as "connection error". What it was is in the causes.
    if error.source().is_some() {
        error = error_chain(&anyhow::Error::from_boxed(error)).into();
    }
    RegistryError::Unreachable(Arc::from(error))
}
