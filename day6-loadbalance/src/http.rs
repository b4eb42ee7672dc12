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
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HOST};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::ToSocketAddrs;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::client::open_tcp;
use crate::connection::{self, Admission};
use crate::deadline::limit;
use crate::error::{full_text, in_short};
use crate::server::accept_loop;
use crate::{Client, Error, Listener, Options, Server, debug};

/// Where `CONNECT` leads to calls.
pub const RPC_PATH: &str = "/_rrpc_";
/// Where `GET` leads to the [debug page](crate::debug).
pub const DEBUG_PATH: &str = "/debug/rrpc";

/// The limit for the header of an HTTP request or answer, in bytes.
pub const MAX_HTTP_HEADER_LEN: usize = 16 * 1024;
/// How much of a refusal's text a client reads, in bytes.
const MAX_REFUSAL_LEN: usize = 4 * 1024;
/// How long a client reads a refusal's text. It comes with the status as a rule, and matters less.
const REFUSAL_TIME: Duration = Duration::from_millis(250);
/// How long an answer that is on its way may take once the server shuts down.
const LAST_ANSWER_TIME: Duration = Duration::from_secs(1);

impl Client {
    /// Connects to a server's HTTP port and shakes hands.
    ///
    /// # Errors
    /// As [`connect`](Client::connect), and [`Error::Handshake`] if the answer to the `CONNECT` has no 2xx
    /// status, or is no HTTP at all.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection.
    pub async fn connect_http(addr: impl ToSocketAddrs, options: &Options) -> Result<Client, Error> {
        Client::connect_http_host(addr, None, options).await
    }

    /// `host` is what the caller calls the server: one port may serve many hosts.
    pub(crate) async fn connect_http_host(
        addr: impl ToSocketAddrs,
        host: Option<&str>,
        options: &Options,
    ) -> Result<Client, Error> {
        limit("connecting", options.connect_timeout, async {
            let io = open_tcp(addr).await?;
            let host = host.map_or(io.peer_addr()?.to_string(), str::to_owned);
            Client::shake_hands(connect(io, &host).await?, options).await
        })
        .await
    }
}

/// Asks the HTTP server behind `io` to hand the stream over.
async fn connect<Io>(io: Io, host: &str) -> Result<TokioIo<Upgraded>, Error>
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = hyper::client::conn::http1::Builder::new();
    builder.max_buf_size(MAX_HTTP_HEADER_LEN);
    let (mut sender, http) = builder.handshake(TokioIo::new(io)).await.map_err(broken)?;
    // hyper's side of the connection is a task until the stream is handed over. It ends with this set.
    let mut driver = JoinSet::new();
    driver.spawn(http.with_upgrades());

    let request = Request::connect(RPC_PATH).header(HOST, host).body(Empty::<Bytes>::new());
    let request = request.map_err(|error| Error::Protocol(error.to_string()))?;
    let response = sender.send_request(request).await.map_err(broken)?;
    // The status code decides, never the words behind it.
    let status = response.status();
    if !status.is_success() {
        let text = read_refusal(response.into_body()).await;
        return Err(Error::Handshake(format!("the HTTP server answered {status}: {text}")));
    }
    Ok(TokioIo::new(hyper::upgrade::on(response).await.map_err(broken)?))
}

/// What comes of a refusal's text within its limits, in short.
pub(crate) async fn read_refusal(mut body: Incoming) -> String {
    let mut text = Vec::new();
    let read = async {
        while text.len() < MAX_REFUSAL_LEN
            && let Some(Ok(frame)) = body.frame().await
        {
            text.extend(frame.into_data().unwrap_or_default());
        }
    };
    // Too late or not: the status is known, and what has come of the text will do.
    timeout(REFUSAL_TIME, read).await.ok();
    in_short(String::from_utf8_lossy(&text).trim())
}

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
            let io = upgrade.await.map_err(broken)?;
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
        ended = &mut http => ended.map_err(broken),
        () = shutdown.cancelled() => {
            graceful_shutdown(http.as_mut());
            limit("the last answer", LAST_ANSWER_TIME, async { http.await.map_err(broken) }).await
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

/// hyper's own text is short, such as "connection error". What it was is in the causes.
fn broken(error: hyper::Error) -> Error {
    let is_no_http = error.is_parse() || error.is_incomplete_message();
    let text = full_text(&error.into());
    match is_no_http {
        true => Error::Handshake(format!("expected HTTP: {text}")),
        false => Error::Io(io::Error::other(text)),
    }
}
