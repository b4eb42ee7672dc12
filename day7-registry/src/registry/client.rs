//! The registry's client: one request, one connection, one answer.
//!
//! ```text
//! Heartbeat ─────────▶ register ─┐
//!                    deregister ─┼─▶ RegistryClient ── HTTP ──▶ Registry
//! RegistryDiscovery ──▶ servers ─┘
//! ```
//!
//! It sends one request and returns exactly what came of it. Trying again is the business of those on the left.
//! Not every answer is a success: 503 is an answer too, and so is the page of some other program that now listens
//! on that port. Only a 2xx with what was requested is one.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderValue};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;

use crate::error::{error_chain, truncate};
use crate::http::connect::{MAX_HTTP_HEADER_LEN, read_refusal};
use crate::http::dial::open_tcp;
use crate::http::endpoint::{Address, Endpoint};
use crate::registry::{DEFAULT_MAX_SERVERS, LEASE_HEADER, REGISTRY_PATH, SERVER_HEADER};

/// The default for one request to the registry, from connecting to the last byte of the answer.
pub const DEFAULT_REGISTRY_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest answer that is read, in bytes.
pub const MAX_LIST_LEN: usize = 2 * 1024 * 1024;

/// Where a registry is: `http://host[:port][/path]`.
///
/// Without a port it is 80; without a path it is [`REGISTRY_PATH`].
///
/// ```
/// use day7_registry::RegistryUrl;
///
/// let url: RegistryUrl = "http://localhost:9999".parse()?;
/// assert_eq!(url.to_string(), "http://localhost:9999/_rrpc_/registry");
/// # Ok::<(), day7_registry::RegistryUrlError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RegistryUrl {
    address: Address,
    path: String,
}

/// The text is no URL of a registry. Its `Display` shows what was given, what is wrong, and what is accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad registry URL {text:?}: {reason}; expected http://host:port or http://host:port/path")]
pub struct RegistryUrlError {
    text: String,
    reason: &'static str,
}

impl FromStr for RegistryUrl {
    type Err = RegistryUrlError;

    fn from_str(text: &str) -> Result<RegistryUrl, RegistryUrlError> {
        parse_url(text).map_err(|reason| RegistryUrlError { text: text.to_owned(), reason })
    }
}

fn parse_url(text: &str) -> Result<RegistryUrl, &'static str> {
    let rest = match text.split_once("://") {
        Some(("http", rest)) => rest,
        Some(("https", _)) => return Err("https is not supported"),
        Some(_) => return Err("the scheme is not http"),
        None => return Err("the scheme is missing"),
    };
    if rest.contains(['?', '#']) {
        return Err("a query or a fragment has no meaning here");
    }
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if host.contains('@') {
        return Err("user names and passwords are not supported");
    }
    // The colons of an IPv6 address are inside of its brackets.
    let has_port = host.rsplit(']').next().is_some_and(|after| after.contains(':'));
    let address = match has_port {
        true => Address::parse(host)?,
        false => Address::parse(&format!("{host}:80"))?,
    };
    let path = if matches!(path, "" | "/") { REGISTRY_PATH } else { path };
    path.parse::<Uri>().map_err(|_| "the path has characters that no path has")?;
    Ok(RegistryUrl { address, path: path.to_owned() })
}

impl fmt::Display for RegistryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.address.as_str(), self.path)
    }
}

/// Why a request to the registry failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// There is no connection, or it broke before the answer was complete.
    #[error("the registry cannot be reached: {0}")]
    Unreachable(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// It took longer than allowed.
    #[error("the registry did not answer within {after:?}")]
    Timeout {
        /// The limit that was reached.
        after: Duration,
    },
    /// The registry refused.
    #[error("the registry answered {status}: {text}")]
    Status {
        /// The HTTP status code. It is not of the 2xx.
        status: u16,
        /// The text of the answer, shortened.
        text: String,
    },
    /// The answer has a good status, but it is not the answer of a registry.
    #[error("the registry's answer is invalid: {0}")]
    InvalidResponse(String),
}

impl RegistryError {
    fn unreachable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> RegistryError {
        let mut error = error.into();
        // hyper's own text is short, such as "connection error". What it was is in the causes.
        if error.source().is_some() {
            error = error_chain(&anyhow::Error::from_boxed(error)).into();
        }
        RegistryError::Unreachable(Arc::from(error))
    }
}

/// The servers that a registry lists.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerList {
    /// The servers that are alive. It may be empty.
    pub servers: Vec<Endpoint>,
    /// How long a lease is. More than zero.
    pub lease: Duration,
}

/// Sends requests to a registry. Cheap to clone: it holds no connection.
#[derive(Clone, Debug)]
pub struct RegistryClient {
    url: RegistryUrl,
    timeout: Duration,
}

impl RegistryClient {
    /// A client of the registry there. Nothing is sent yet.
    pub fn new(url: RegistryUrl) -> RegistryClient {
        RegistryClient { url, timeout: DEFAULT_REGISTRY_TIMEOUT }
    }

    /// Gives up a request after this time. Default: [`DEFAULT_REGISTRY_TIMEOUT`].
    pub fn timeout(mut self, after: Duration) -> RegistryClient {
        self.timeout = after;
        self
    }

    /// Where the registry is.
    pub fn url(&self) -> &RegistryUrl {
        &self.url
    }

    pub(crate) fn time_limit(&self) -> Duration {
        self.timeout
    }

    /// Registers a server or renews its lease, and returns how long the lease is. Never zero.
    ///
    /// # Errors
    /// [`RegistryError`]. Unless it is `Status`, the server may be registered or not.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection. The server may be registered or not.
    pub async fn register(&self, server: &Endpoint) -> Result<Duration, RegistryError> {
        let (headers, _) = self.request(Method::POST, Some(server)).await?;
        lease(&headers)
    }

    /// Removes a server from the list. It is no error if it is not there.
    ///
    /// # Errors
    /// [`RegistryError`]. Then the server is in the list until its lease ends.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection. The server may be in the list or not.
    pub async fn deregister(&self, server: &Endpoint) -> Result<(), RegistryError> {
        self.request(Method::DELETE, Some(server)).await.map(|_| ())
    }

    /// The list of the servers that are alive.
    ///
    /// An entry that is no endpoint is left out: a newer server may be reachable in ways that this client does not
    /// know.
    ///
    /// # Errors
    /// [`RegistryError`].
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection.
    pub async fn servers(&self) -> Result<ServerList, RegistryError> {
        let (headers, body) = self.request(Method::GET, None).await?;
        let entries: Vec<serde_json::Value> = serde_json::from_slice(&body)
            .map_err(|error| RegistryError::InvalidResponse(format!("the list is no JSON array: {error}")))?;
        // No registry holds more. Whatever is made of the list, such as a ring, grows with it.
        if entries.len() > DEFAULT_MAX_SERVERS {
            let len = entries.len();
            let reason = format!("it lists {len} servers, over the limit of {DEFAULT_MAX_SERVERS}");
            return Err(RegistryError::InvalidResponse(reason));
        }
        let mut servers = Vec::with_capacity(entries.len());
        for entry in entries {
            match entry.as_str().map(Endpoint::from_str) {
                Some(Ok(endpoint)) if !endpoint.is_unspecified() => servers.push(endpoint),
                _ => {
                    tracing::warn!(
                        entry = ?truncate(entry.to_string()),
                        "left out: no endpoint to connect to"
                    );
                }
            }
        }
        Ok(ServerList { servers, lease: lease(&headers)? })
    }

    /// One exchange, under one deadline. It succeeds with a 2xx status only.
    async fn request(
        &self,
        method: Method,
        server: Option<&Endpoint>,
    ) -> Result<(HeaderMap, Bytes), RegistryError> {
        let exchange = tokio::time::timeout(self.timeout, self.exchange(method, server));
        exchange.await.unwrap_or(Err(RegistryError::Timeout { after: self.timeout }))
    }

    async fn exchange(
        &self,
        method: Method,
        server: Option<&Endpoint>,
    ) -> Result<(HeaderMap, Bytes), RegistryError> {
        let mut request = Request::builder().method(&method).uri(&self.url.path);
        request = request.header(HOST, self.url.address.as_str());
        request = request.header(CONNECTION, HeaderValue::from_static("close"));
        if let Some(server) = server {
            request = request.header(SERVER_HEADER, server.to_string());
        }
        if method == Method::POST {
            // RFC 9110, 8.6: some proxies refuse a POST that has no content and does not say so.
            request = request.header(CONTENT_LENGTH, 0);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(RegistryError::unreachable)?;

        let io = open_tcp(&self.url.address).await.map_err(RegistryError::unreachable)?;
        let mut builder = hyper::client::conn::http1::Builder::new();
        builder.max_buf_size(MAX_HTTP_HEADER_LEN).title_case_headers(true);
        let (mut sender, http) =
            builder.handshake(TokioIo::new(io)).await.map_err(RegistryError::unreachable)?;
        // hyper's side of the connection is a task. It ends with this set, so with this exchange.
        let mut driver = JoinSet::new();
        driver.spawn(http);

        let response = sender.send_request(request).await.map_err(RegistryError::unreachable)?;
        let (head, body) = response.into_parts();
        if !head.status.is_success() {
            let text = read_refusal(body).await;
            return Err(RegistryError::Status { status: head.status.as_u16(), text });
        }
        let body = Limited::new(body, MAX_LIST_LEN).collect().await;
        let body = body.map_err(|error| match error.is::<LengthLimitError>() {
            true => RegistryError::InvalidResponse(format!("it is longer than {MAX_LIST_LEN} bytes")),
            false => RegistryError::unreachable(error),
        })?;
        Ok((head.headers, body.to_bytes()))
    }
}

/// The length of a lease, from the registry's answer.
fn lease(headers: &HeaderMap) -> Result<Duration, RegistryError> {
    let millis = headers.get(LEASE_HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
    match millis {
        Some(millis) if millis > 0 => Ok(Duration::from_millis(millis)),
        _ => Err(RegistryError::InvalidResponse(format!(
            "the header {LEASE_HEADER} is not a number above zero"
        ))),
    }
}
