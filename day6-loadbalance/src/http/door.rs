//! The server's half of HTTP: one port for calls and for a page.
//!
//! ```text
//! CONNECT /_rrpc_     200, and from here on the stream is that of the plain TCP port
//! GET /debug/rrpc     the page
//! anything else       404 or 405
//! ```
//!
//! hyper speaks the HTTP here. Its `Upgraded` stream begins with whatever arrived together with the `CONNECT`, so
//! no byte is lost.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HOST, HeaderValue, X_CONTENT_TYPE_OPTIONS,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::deadline::limit;
use crate::error::Error;
use crate::http::connect::{MAX_HTTP_HEADER_LEN, RPC_PATH, from_hyper};
use crate::http::debug;
use crate::server::Server;
use crate::server::accept::accept_loop;
use crate::server::connection;
use crate::server::listener::Listener;
use crate::server::settings::Settings;
use crate::service::map::ServiceMap;

/// Where `GET` leads to the [debug page](crate::http::debug).
pub const DEBUG_PATH: &str = "/debug/rrpc";

/// How long an answer that is on its way may take once the server shuts down.
const LAST_ANSWER_TIME: Duration = Duration::from_secs(1);

impl Server {
    /// As [`serve`](Server::serve), for clients that come through HTTP.
    ///
    /// `CONNECT` to [`RPC_PATH`], or to any `host:port` as standard tools send it, leads to this server's
    /// handler; it never dials anywhere. `GET` of [`DEBUG_PATH`] answers with the debug page, if
    /// [there is one](Server::debug_page).
    ///
    /// # Cancel safety
    /// As [`serve`](Server::serve).
    pub async fn serve_http<L: Listener<Io: Unpin>>(&self, listener: L) {
        self.serve_http_with_shutdown(listener, std::future::pending()).await.ok();
    }

    /// As [`serve_with_shutdown`](Server::serve_with_shutdown), for clients that come through HTTP.
    ///
    /// # Errors
    /// As [`serve_with_shutdown`](Server::serve_with_shutdown).
    ///
    /// # Cancel safety
    /// As [`serve`](Server::serve).
    pub async fn serve_http_with_shutdown<L: Listener<Io: Unpin>>(
        &self,
        listener: L,
        signal: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        let Settings { max_connections, grace_period, .. } = self.settings;
        accept_loop(listener, max_connections, grace_period, signal, |io, peer, shutdown| {
            let (server, counted) = (self.clone(), Arc::downgrade(&self.since));
            async move {
                let _counted = counted;
                serve(server, io, peer, shutdown).await
            }
        })
        .await
    }

    /// Shows these services on a page for people with a browser, at [`DEBUG_PATH`] of
    /// [`serve_http`](Server::serve_http). Default: no page.
    pub fn debug_page(mut self, services: ServiceMap) -> Server {
        let since = Arc::clone(&self.since);
        self.page = Some(Arc::new(move || debug::page(&services, since.elapsed(), Arc::weak_count(&since))));
        self
    }
}

/// Serves HTTP on `io` and, after a `CONNECT`, calls. All in the caller's task: nothing to leak.
async fn serve<Io>(
    server: Server,
    io: Io,
    peer: Option<SocketAddr>,
    shutdown: CancellationToken,
) -> Result<(), Error>
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Server { handler, settings, page, .. } = server;
    let upgrade = Mutex::new(None);
    let answer = service_fn(async |request| Ok::<_, Infallible>(respond(page.as_deref(), request, &upgrade)));
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HTTP_HEADER_LEN);
    let http = pin!(builder.serve_connection(TokioIo::new(io), answer).with_upgrades());
    let graceful_shutdown = http1::UpgradeableConnection::graceful_shutdown;
    run_http(http, graceful_shutdown, settings.handshake_timeout, &shutdown).await?;
    let upgrade: Option<OnUpgrade> = upgrade.into_inner().unwrap_or_else(PoisonError::into_inner);
    match upgrade {
        Some(upgrade) => {
            let io = upgrade.await.map_err(from_hyper)?;
            connection::serve(handler, &settings, TokioIo::new(io), peer, shutdown).await
        }
        None => Ok(()),
    }
}

/// Drives a connection of hyper to its end, which must come within `after`. That is one limit for all of the HTTP: for
/// a client that sends its header byte by byte, one that asks for page after page, and one that does not read them.
///
/// At shutdown hyper is told, and may finish the answer that it owes. If it does not, the error is no
/// [`Error::Timeout`]: no call was cut off.
pub(crate) async fn run_http<C>(
    mut http: Pin<&mut C>,
    graceful_shutdown: fn(Pin<&mut C>),
    after: Duration,
    shutdown: &CancellationToken,
) -> Result<(), Error>
where
    C: Future<Output = hyper::Result<()>>,
{
    tokio::select! {
        ended = limit("HTTP", after, async { http.as_mut().await.map_err(from_hyper) }) => return ended,
        () = shutdown.cancelled() => graceful_shutdown(http.as_mut()),
    }
    let ended = timeout(LAST_ANSWER_TIME, http).await;
    ended.map_err(|_| Error::Disconnected("the server is shutting down".to_owned()))?.map_err(from_hyper)
}

/// Answers one request; a `CONNECT` leaves the stream that follows in `upgrade`.
fn respond(
    page: Option<&(dyn Fn() -> String + Send + Sync)>,
    mut request: Request<Incoming>,
    upgrade: &Mutex<Option<OnUpgrade>>,
) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    // RFC 9112, 3.2: without exactly one, it is not clear which server is meant.
    let hosts = request.headers().get_all(HOST).iter().count();
    if hosts != 1 && (request.version() == Version::HTTP_11 || hosts > 1) {
        return bad_request("expected exactly one Host\n");
    }
    // HTTP allows no content there (RFC 9110, 9.3.6): it would not be clear where the frames begin, nor, after a
    // refusal, the next request.
    if request.method() == Method::CONNECT && !request.body().is_end_stream() {
        return bad_request("a CONNECT has no content: leave out Content-Length and Transfer-Encoding\n");
    }
    // In authority form, `CONNECT host:port`, there is no path. We are the host that was meant.
    let is_authority = path.is_empty();
    match (request.method(), path) {
        (&Method::CONNECT, path) if is_authority || path == RPC_PATH => {
            let stream = hyper::upgrade::on(&mut request);
            *upgrade.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream);
            Response::new(Full::default())
        }
        (&Method::GET | &Method::HEAD, DEBUG_PATH) => match page {
            Some(page) => answer(StatusCode::OK, "text/html; charset=utf-8", page().into()),
            None => text(StatusCode::NOT_FOUND, "this server has no debug page\n"),
        },
        (_, RPC_PATH) => not_allowed("CONNECT"),
        (_, DEBUG_PATH) => not_allowed("GET, HEAD"),
        _ => {
            let accepted = format!("nothing here: expected CONNECT {RPC_PATH} or GET {DEBUG_PATH}\n");
            text(StatusCode::NOT_FOUND, accepted)
        }
    }
}

/// A plain text answer.
pub(crate) fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    answer(status, "text/plain; charset=utf-8", text.into())
}

/// 400, and the end of the connection: it is not clear where the next request would begin.
fn bad_request(reason: &'static str) -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::BAD_REQUEST, reason);
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// What all answers have in common: a browser must neither keep them nor guess what they are.
pub(crate) fn answer(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// 405, with the method that is allowed.
pub(crate) fn not_allowed(allowed: &'static str) -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, format!("expected {allowed}\n"));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}
