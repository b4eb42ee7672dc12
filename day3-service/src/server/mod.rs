//! The server: accepts connections and serves each of them in a task of its own.
//!
//! ```text
//! listener ── accept ──▶ connection ── request ──▶ handler
//!    │                   connection …
//!    └─ an error? wait a little, try again: a server does not give up
//! ```

mod connection;
pub mod handler;
pub mod listener;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{JoinError, JoinSet};

pub use self::connection::MAX_QUEUED_BYTES;
use self::handler::Handler;
use self::listener::Listener;
use crate::error::Error;
use crate::wire::codec::Codec;
use crate::wire::handshake::Limits;

/// The pause after a failed accept. A process that has run out of file descriptors gets some back when a connection
/// ends.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// Answers calls with a [`Handler`], on any number of connections.
///
/// A clone is another handle on the same handler, with the same settings.
///
/// ```no_run
/// use day3_service::{Request, Server};
///
/// # async fn example() -> anyhow::Result<()> {
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:9999").await?;
/// let echo = async |request: Request| Ok(request.reply(&request.decode::<String>()?)?);
/// Server::new(echo).max_body_len(64 * 1024).serve(listener).await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Server {
    handler: Arc<dyn Handler>,
    limits: Limits,
}

impl Server {
    /// A server that answers every request with `handler`.
    pub fn new(handler: impl Handler) -> Server {
        Server { handler: Arc::new(handler), limits: Limits::default() }
    }

    /// Speaks only these codecs. Default: [all of them](Codec::ALL).
    pub fn codecs(mut self, codecs: impl IntoIterator<Item = Codec>) -> Server {
        self.limits.codecs = codecs.into_iter().collect();
        self
    }

    /// The longest body that the server takes, in bytes. The client is told; one that sends a longer body all
    /// the same loses its connection. Default: [`DEFAULT_MAX_BODY_LEN`](crate::DEFAULT_MAX_BODY_LEN).
    pub fn max_body_len(mut self, bytes: usize) -> Server {
        self.limits.max_body_len = bytes;
        self
    }

    /// Refuses further calls on a connection with so many in flight. The client is told. Default:
    /// [`DEFAULT_MAX_IN_FLIGHT`](crate::DEFAULT_MAX_IN_FLIGHT).
    pub fn max_in_flight(mut self, calls: usize) -> Server {
        self.limits.max_in_flight = calls;
        self
    }

    /// Accepts connections and serves them, until this future is dropped; that ends all of them.
    ///
    /// A failed accept is logged (level `warn`) and tried again after a pause. A connection that breaks is
    /// logged (`info`, with `peer` and the reason).
    ///
    /// # Cancel safety
    /// Dropping the future is the way to stop the server: the listener is closed, and the connections and
    /// their handlers are aborted.
    pub async fn serve<L: Listener>(&self, mut listener: L) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((io, peer)) => {
                        let Server { handler, limits } = self.clone();
                        connections
                            .spawn(async move { (peer, connection::serve(handler, &limits, io, peer).await) });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "accept failed");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                // A finished task stays in the set until its result is taken.
                Some(ended) = connections.join_next() => log_end(ended),
            }
        }
    }

    /// Serves one connection over any stream, until the client ends it.
    ///
    /// # Errors
    /// Why the connection ended, if the client did not end it. Calls that fail are no such reason.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection and aborts its handlers.
    pub async fn serve_connection<Io: AsyncRead + AsyncWrite + Send>(&self, io: Io) -> Result<(), Error> {
        connection::serve(Arc::clone(&self.handler), &self.limits, io, None).await
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("limits", &self.limits).finish_non_exhaustive()
    }
}

fn log_end(ended: Result<(Option<SocketAddr>, Result<(), Error>), JoinError>) {
    match ended {
        Ok((peer, Ok(()))) => tracing::debug!(?peer, "connection closed"),
        Ok((peer, Err(reason))) => tracing::info!(?peer, reason = ?reason.to_string(), "connection broken"),
        Err(error) => tracing::error!(%error, "connection task failed"),
    }
}
