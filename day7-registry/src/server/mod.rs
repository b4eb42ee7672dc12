//! The server: a handler, and the settings of its connections.
//!
//! ```text
//! listener ── accept ──▶ connection ── request ──▶ handler
//!                        connection …
//! ```

pub(crate) mod accept;
mod budget;
pub(crate) mod connection;
pub mod handler;
mod handlers;
pub mod listener;
mod liveness;
pub(crate) mod settings;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use self::accept::accept_loop;
use self::budget::Budget;
pub use self::budget::{DEFAULT_MAX_REQUEST_BYTES, LARGE_BODY_LEN};
pub use self::connection::MAX_QUEUED_BYTES;
use self::handler::Handler;
use self::listener::Listener;
pub use self::settings::DEFAULT_MAX_CONNECTIONS;
use self::settings::Settings;
use crate::error::Error;
use crate::wire::codec::Codec;

/// Answers calls with a [`Handler`], on any number of connections.
///
/// A clone is another handle on the same handler, with the same settings.
///
/// ```no_run
/// use day7_registry::{Request, Server};
///
/// # async fn example() -> anyhow::Result<()> {
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:9999").await?;
/// let echo = async |request: Request| Ok(request.reply(&request.decode::<String>()?)?);
/// Server::new(echo).max_body_len(64 * 1024).serve(listener).await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Server {
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) settings: Settings,
    /// Since when there is this server. Each connection holds a `Weak` of it, so that they can be counted.
    pub(crate) since: Arc<Instant>,
    /// Makes the page for people with a browser.
    pub(crate) page: Option<Arc<dyn Fn() -> String + Send + Sync>>,
}

impl Server {
    /// A server that answers every request with `handler`.
    pub fn new(handler: impl Handler) -> Server {
        let (settings, since) = (Settings::default(), Arc::new(Instant::now()));
        Server { handler: Arc::new(handler), settings, since, page: None }
    }

    /// Speaks only these codecs. Default: [all of them](Codec::ALL).
    pub fn codecs(mut self, codecs: impl IntoIterator<Item = Codec>) -> Server {
        self.settings.limits.codecs = codecs.into_iter().collect();
        self
    }

    /// The longest body that the server takes, in bytes. The client is told; one that sends a longer body all
    /// the same loses its connection. Default: [`DEFAULT_MAX_BODY_LEN`](crate::DEFAULT_MAX_BODY_LEN).
    pub fn max_body_len(mut self, bytes: usize) -> Server {
        self.settings.limits.max_body_len = bytes;
        self
    }

    /// Refuses further calls on a connection with so many in flight. The client is told. Default:
    /// [`DEFAULT_MAX_IN_FLIGHT`](crate::DEFAULT_MAX_IN_FLIGHT).
    pub fn max_in_flight(mut self, calls: usize) -> Server {
        self.settings.limits.max_in_flight = calls;
        self
    }

    /// Serves so many connections at once; further ones wait in the queue of the system. Default:
    /// [`DEFAULT_MAX_CONNECTIONS`].
    pub fn max_connections(mut self, connections: usize) -> Server {
        self.settings.max_connections = connections;
        self
    }

    /// Lets large bodies of requests take so many bytes at once, on all connections together. A body of more
    /// than [`LARGE_BODY_LEN`] is not read before there is room for it, and its request holds the room. One that is
    /// longer than all of the room is served alone. A call that finds no room within
    /// [`BUDGET_TIMEOUT`](crate::BUDGET_TIMEOUT) is refused. Default: [`DEFAULT_MAX_REQUEST_BYTES`].
    pub fn max_request_bytes(mut self, bytes: usize) -> Server {
        self.settings.budget = Budget::new(bytes);
        self
    }

    /// Drops a client that has not finished its handshake by then. Default:
    /// [`DEFAULT_HANDSHAKE_TIMEOUT`](crate::DEFAULT_HANDSHAKE_TIMEOUT).
    pub fn handshake_timeout(mut self, timeout: Duration) -> Server {
        self.settings.handshake_timeout = timeout;
        self
    }

    /// Stops a handler after this time, or earlier if the client asked for less. Default:
    /// [`DEFAULT_HANDLE_TIMEOUT`](crate::DEFAULT_HANDLE_TIMEOUT).
    pub fn handle_timeout(mut self, timeout: Duration) -> Server {
        self.settings.handle_timeout = timeout;
        self
    }

    /// Drops a client that has begun a message and sends nothing more of it for so long. Default:
    /// [`DEFAULT_READ_TIMEOUT`](crate::DEFAULT_READ_TIMEOUT).
    pub fn read_timeout(mut self, timeout: Duration) -> Server {
        self.settings.read_timeout = timeout;
        self
    }

    /// Drops a client that takes longer than this for one message. Default:
    /// [`DEFAULT_MESSAGE_TIMEOUT`](crate::DEFAULT_MESSAGE_TIMEOUT).
    pub fn message_timeout(mut self, timeout: Duration) -> Server {
        self.settings.message_timeout = timeout;
        self
    }

    /// Drops a client that takes nothing of its replies for so long. Default:
    /// [`DEFAULT_WRITE_TIMEOUT`](crate::DEFAULT_WRITE_TIMEOUT).
    pub fn write_timeout(mut self, timeout: Duration) -> Server {
        self.settings.write_timeout = timeout;
        self
    }

    /// Tells a client to go that had no call in flight for so long. Default:
    /// [`DEFAULT_IDLE_TIMEOUT`](crate::DEFAULT_IDLE_TIMEOUT).
    pub fn idle_timeout(mut self, timeout: Duration) -> Server {
        self.settings.idle_timeout = timeout;
        self
    }

    /// Gives calls in flight so much time to end at shutdown. Default:
    /// [`DEFAULT_GRACE_PERIOD`](crate::DEFAULT_GRACE_PERIOD).
    pub fn grace_period(mut self, period: Duration) -> Server {
        self.settings.grace_period = period;
        self
    }

    /// Accepts connections and serves them, until this future is dropped; that ends all of them.
    ///
    /// Failed accepts are logged (level `warn`) and tried again, after a pause that grows from 5 ms to 1 s: a
    /// process that has run out of file descriptors gets some back when a connection ends. A connection that
    /// breaks is logged (`info`, with `peer` and the reason).
    ///
    /// # Cancel safety
    /// Dropping the future is the way to stop the server at once: the listener is closed, and the connections
    /// and their handlers are aborted.
    pub async fn serve<L: Listener>(&self, listener: L) {
        self.serve_with_shutdown(listener, std::future::pending()).await.ok();
    }

    /// As [`serve`](Server::serve), until `signal` is ready. Then it stops accepting, tells every client
    /// (goaway), refuses new calls, and waits for those in flight until the grace period is over. A handler can
    /// learn of it: [`Request::shutting_down`](crate::Request::shutting_down).
    ///
    /// # Errors
    /// [`Error::Timeout`] if a call was still in flight then. Its handler was stopped.
    ///
    /// # Cancel safety
    /// As [`serve`](Server::serve).
    pub async fn serve_with_shutdown<L: Listener>(
        &self,
        listener: L,
        signal: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        let Settings { max_connections, grace_period, .. } = self.settings;
        accept_loop(listener, max_connections, grace_period, signal, |io, peer, shutdown| {
            let (Server { handler, settings, .. }, counted) = (self.clone(), Arc::downgrade(&self.since));
            async move {
                let _counted = counted;
                connection::serve(handler, &settings, io, peer, shutdown).await
            }
        })
        .await
    }

    /// Serves one connection over any stream, until the client ends it.
    ///
    /// # Errors
    /// Why the connection ended, if the client did not end it. Calls that fail are no such reason.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection and aborts its handlers.
    pub async fn serve_connection<Io: AsyncRead + AsyncWrite + Send>(&self, io: Io) -> Result<(), Error> {
        let _counted = Arc::downgrade(&self.since);
        let shutdown = CancellationToken::new(); // of one connection: drop the future to stop it
        connection::serve(Arc::clone(&self.handler), &self.settings, io, None, shutdown).await
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("settings", &self.settings).finish_non_exhaustive()
    }
}
