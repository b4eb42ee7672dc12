//! The client's half of HTTP: a `CONNECT`, and then the same stream as without it.
//!
//! ```text
//! client → server   CONNECT /_rrpc_ HTTP/1.1
//! server → client   HTTP/1.1 200 OK
//!        ⇄          | ClientHello | …        from here on, the stream is that of the plain TCP port
//! ```

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::HOST;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::ToSocketAddrs;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::client::Client;
use crate::client::options::Options;
use crate::deadline::limit;
use crate::error::{Error, error_chain, printable, truncate};
use crate::wire::tcp;

/// Where `CONNECT` leads to calls.
pub const RPC_PATH: &str = "/_rrpc_";

/// The limit for the header of an HTTP request or answer, in bytes.
pub const MAX_HTTP_HEADER_LEN: usize = 16 * 1024;
/// How much of a refusal's text a client reads, in bytes.
const MAX_REFUSAL_LEN: usize = 4 * 1024;
/// How long a client reads a refusal's text. It comes with the status as a rule, and matters less.
const REFUSAL_TIME: Duration = Duration::from_millis(250);

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
        limit("connecting", options.connect_timeout, async {
            let io = tcp::connect(addr).await?;
            let host = io.peer_addr()?.to_string();
            Client::negotiate(connect(io, &host).await?, options).await
        })
        .await
    }

    /// As [`connect_http`](Client::connect_http), over any stream. `host` is what the caller calls the server,
    /// `host:port`: one port may serve many hosts.
    ///
    /// # Errors
    /// As [`connect_http`](Client::connect_http).
    ///
    /// # Cancel safety
    /// Dropping the future closes the stream.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub async fn handshake_http<Io>(io: Io, host: &str, options: &Options) -> Result<Client, Error>
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        limit("connecting", options.connect_timeout, async {
            Client::negotiate(connect(io, host).await?, options).await
        })
        .await
    }
}

/// Asks the HTTP server behind `io` to hand the stream over.
pub(super) async fn connect<Io>(io: Io, host: &str) -> Result<TokioIo<Upgraded>, Error>
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = hyper::client::conn::http1::Builder::new();
    builder.max_buf_size(MAX_HTTP_HEADER_LEN);
    let (mut sender, http) = builder.handshake(TokioIo::new(io)).await.map_err(from_hyper)?;
    // hyper's side of the connection is a task until the stream is handed over. It ends with this set.
    let mut driver = JoinSet::new();
    driver.spawn(http.with_upgrades());

    let request = Request::connect(RPC_PATH).header(HOST, host).body(Empty::<Bytes>::new());
    let request = request.map_err(|error| Error::Protocol(error.to_string()))?;
    let response = sender.send_request(request).await.map_err(from_hyper)?;
    // The status code decides, never the words behind it.
    let status = response.status();
    if !status.is_success() {
        let text = read_refusal(response.into_body()).await;
        return Err(Error::Handshake(format!("the HTTP server answered {status}: {text}")));
    }
    Ok(TokioIo::new(hyper::upgrade::on(response).await.map_err(from_hyper)?))
}

/// What comes of a refusal's text within its limits, cut short and fit to be displayed.
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
    truncate(printable(String::from_utf8_lossy(&text).trim()))
}

/// hyper's own text is short, such as "connection error". What it was is in the causes.
pub(super) fn from_hyper(error: hyper::Error) -> Error {
    let is_not_http = error.is_parse() || error.is_incomplete_message();
    let text = error_chain(&error.into());
    if is_not_http {
        Error::Handshake(format!("expected HTTP: {text}"))
    } else {
        Error::Io(io::Error::other(text))
    }
}
