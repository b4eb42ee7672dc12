//! The HTTP door: the same bytes, after a `CONNECT`.
//!
//! ```text
//! client → server   CONNECT /_rrpc_ HTTP/1.1
//! server → client   HTTP/1.1 200 OK
//!        ⇄          | Options | …            from here on, the stream is the one of days 1 to 4
//! ```
//!
//! `CONNECT` is HTTP's own way to say "from now on this connection carries something else". Proxies and
//! load balancers know it, and one port can serve calls and a page for people. hyper speaks the HTTP here;
//! its `Upgraded` stream begins with whatever arrived together with the `CONNECT`, so no byte is lost.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::deadline::limit;
use crate::error::Error;
use crate::http::connect::{MAX_HTTP_HEADER_LEN, RPC_PATH, from_hyper};
use crate::http::debug;
use crate::server::connection::{self, Admission};
use crate::server::{Listener, Server, accept_loop};

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
        accept_loop(self, listener, signal, |io, admission| {
            let server = self.clone();
            async move { serve(&server, io, admission).await }
        })
        .await
    }
}

/// Serves HTTP on `io` and, after a `CONNECT`, calls. All in the caller's task: nothing to leak.
async fn serve<Io>(server: &Server, io: Io, admission: Admission) -> Result<(), Error>
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let upgrade = Mutex::new(None);
    let answer = service_fn(async |request| {
        let response = match &admission.refused {
            Some(reason) => text(StatusCode::SERVICE_UNAVAILABLE, reason.clone()),
            None => respond(server, request, &upgrade),
        };
        Ok::<_, Infallible>(response)
    });
    // One limit for all of the HTTP: a client that sends its header byte by byte, one that asks for page
    // after page, and one that does not read them. Whoever is here for calls is done with it in no time.
    limit("the CONNECT", server.handshake_timeout, async {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(MAX_HTTP_HEADER_LEN).keep_alive(admission.refused.is_none());
        let http = pin!(builder.serve_connection(TokioIo::new(io), answer).with_upgrades());
        drive(http, http1::UpgradeableConnection::graceful_shutdown, &admission.shutdown).await
    })
    .await?;
    let upgrade: Option<OnUpgrade> = upgrade.into_inner().unwrap_or_else(PoisonError::into_inner);
    match upgrade {
        Some(upgrade) => {
            let io = upgrade.await.map_err(from_hyper)?;
            connection::serve(server, TokioIo::new(io), admission).await
        }
        None => Ok(()),
    }
}

/// Drives a connection of hyper to its end. At shutdown it is told, and may finish the answer it owes.
pub(crate) async fn drive<C>(
    mut http: Pin<&mut C>,
    graceful_shutdown: fn(Pin<&mut C>),
    shutdown: &CancellationToken,
) -> Result<(), Error>
where
    C: Future<Output = hyper::Result<()>>,
{
    tokio::select! {
        ended = &mut http => ended.map_err(from_hyper),
        () = shutdown.cancelled() => {
            graceful_shutdown(http.as_mut());
            limit("the last answer", LAST_ANSWER_TIME, async { http.await.map_err(from_hyper) }).await
        }
    }
}

/// Answers one request; a `CONNECT` leaves the stream that follows in `upgrade`.
fn respond(
    server: &Server,
    mut request: Request<Incoming>,
    upgrade: &Mutex<Option<OnUpgrade>>,
) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    // In authority form, `CONNECT host:port`, there is no path. We are the host that was meant.
    let is_authority = path.is_empty();
    match (request.method(), path) {
        (&Method::CONNECT, path) if is_authority || path == RPC_PATH => {
            // HTTP allows no content here (RFC 9110, 9.3.6): nobody could tell where the frames begin.
            if !request.body().is_end_stream() {
                let reason = "a CONNECT has no content: leave out Content-Length and Transfer-Encoding\n";
                return text(StatusCode::BAD_REQUEST, reason);
            }
            let stream = hyper::upgrade::on(&mut request);
            *upgrade.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream);
            Response::new(Full::default())
        }
        (&Method::GET, DEBUG_PATH) => match &server.debug {
            Some(services) => html(debug::page(services)),
            None => text(StatusCode::NOT_FOUND, "this server has no debug page\n"),
        },
        (_, RPC_PATH) => not_allowed("CONNECT"),
        (_, DEBUG_PATH) => not_allowed("GET"),
        _ => {
            let accepted = format!("nothing here: expected CONNECT {RPC_PATH} or GET {DEBUG_PATH}\n");
            text(StatusCode::NOT_FOUND, accepted)
        }
    }
}

/// A plain text answer.
pub(crate) fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("text/plain"));
    response
}

fn html(page: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(page.into()));
    let html = hyper::header::HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, html);
    response
}

/// 405, with the method that is allowed.
pub(crate) fn not_allowed(allowed: &'static str) -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, format!("expected {allowed}\n"));
    response.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static(allowed));
    response
}
