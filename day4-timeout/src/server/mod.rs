//! The server: accepts connections and serves each of them in a task of its own.
//!
//! ```text
//! listener ── accept ──▶ connection ── request ──▶ handler
//!    │                   connection …
//!    └─ an error? wait a little, try again: a server does not give up
//! ```

mod connection;
pub mod handler;

pub use connection::MAX_QUEUED_BYTES;

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use self::connection::Admission;
use self::handler::Handler;
use crate::deadline::{
    DEFAULT_GRACE_PERIOD, DEFAULT_HANDLE_TIMEOUT, DEFAULT_HANDSHAKE_TIMEOUT, DEFAULT_WRITE_TIMEOUT, limit,
};
use crate::error::Error;
use crate::wire::codec::Codec;
use crate::wire::frame::DEFAULT_MAX_FRAME_LEN;

/// The default limit for the calls that one connection may have in flight. Any further call is refused with
/// an error reply. A call that is answered at once is never in flight.
pub const DEFAULT_MAX_IN_FLIGHT: usize = 1024;

/// The default limit for the connections that are open at once. One more is told so, and closed.
pub const DEFAULT_MAX_CONNECTIONS: usize = 16 * 1024;

/// How many connections may be in the middle of being refused. After that the server stops accepting
/// until one of them is done.
const MAX_REFUSALS: usize = 64;

/// After a failed accept: the first wait, doubled after every further failure up to the second one.
const ACCEPT_BACKOFF: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// Answers calls with a [`Handler`], on any number of connections.
///
/// A clone is another handle on the same handler, with the same settings.
#[derive(Clone)]
pub struct Server {
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) codecs: Arc<[Codec]>,
    pub(crate) max_frame_len: usize,
    pub(crate) max_in_flight: usize,
    pub(crate) max_connections: usize,
    pub(crate) handshake_timeout: Duration,
    pub(crate) handle_timeout: Duration,
    pub(crate) write_timeout: Duration,
    grace_period: Duration,
}

impl Server {
    /// A server that answers every request with `handler`.
    pub fn new(handler: impl Handler) -> Server {
        Server {
            handler: Arc::new(handler),
            codecs: Arc::new(Codec::ALL),
            max_frame_len: DEFAULT_MAX_FRAME_LEN,
            max_in_flight: DEFAULT_MAX_IN_FLIGHT,
            max_connections: DEFAULT_MAX_CONNECTIONS,
            handshake_timeout: DEFAULT_HANDSHAKE_TIMEOUT,
            handle_timeout: DEFAULT_HANDLE_TIMEOUT,
            write_timeout: DEFAULT_WRITE_TIMEOUT,
            grace_period: DEFAULT_GRACE_PERIOD,
        }
    }

    /// Speaks only these codecs. Default: [all of them](Codec::ALL).
    pub fn codecs(mut self, codecs: impl IntoIterator<Item = Codec>) -> Server {
        self.codecs = codecs.into_iter().collect();
        self
    }

    /// Refuses longer frames, in both directions. Default: [`DEFAULT_MAX_FRAME_LEN`].
    pub fn max_frame_len(mut self, bytes: usize) -> Server {
        self.max_frame_len = bytes;
        self
    }

    /// Refuses further calls on a connection with so many in flight. Default: [`DEFAULT_MAX_IN_FLIGHT`].
    pub fn max_in_flight(mut self, calls: usize) -> Server {
        self.max_in_flight = calls;
        self
    }

    /// Refuses further connections while so many are open. Default: [`DEFAULT_MAX_CONNECTIONS`].
    pub fn max_connections(mut self, connections: usize) -> Server {
        self.max_connections = connections;
        self
    }

    /// Drops a client that has not finished its handshake by then. Default: [`DEFAULT_HANDSHAKE_TIMEOUT`].
    pub fn handshake_timeout(mut self, after: Duration) -> Server {
        self.handshake_timeout = after;
        self
    }

    /// Stops a handler after this time, or earlier if the client asked for less. Default:
    /// [`DEFAULT_HANDLE_TIMEOUT`].
    pub fn handle_timeout(mut self, after: Duration) -> Server {
        self.handle_timeout = after;
        self
    }

    /// Drops a client that takes not one byte of its replies for so long. Default:
    /// [`DEFAULT_WRITE_TIMEOUT`].
    pub fn write_timeout(mut self, after: Duration) -> Server {
        self.write_timeout = after;
        self
    }

    /// Gives calls in flight so much time to end at shutdown. Default: [`DEFAULT_GRACE_PERIOD`].
    pub fn grace_period(mut self, after: Duration) -> Server {
        self.grace_period = after;
        self
    }

    /// Accepts connections and serves them, until this future is dropped; that ends all of them.
    ///
    /// Failed accepts are retried for ever, with a pause that grows from 5 ms to 1 s: a process that has
    /// run out of file descriptors gets some back when a connection ends.
    ///
    /// # Cancel safety
    /// Dropping the future is the way to stop the server: the listener is closed, and the connections and
    /// their handlers are aborted.
    pub async fn serve<L: Listener>(&self, listener: L) {
        self.serve_with_shutdown(listener, std::future::pending()).await.ok();
    }

    /// As [`serve`](Server::serve), until `signal` is ready. Then it stops accepting, tells every client,
    /// refuses new calls, and waits for those in flight until the grace period is over.
    ///
    /// # Errors
    /// [`Error::Timeout`] if a connection was still open then, most likely for a call in flight. It was
    /// aborted, and its handlers with it.
    ///
    /// # Cancel safety
    /// As [`serve`](Server::serve).
    pub async fn serve_with_shutdown<L: Listener>(
        &self,
        listener: L,
        signal: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        accept_loop(self, listener, signal, |io, admission| {
            let server = self.clone();
            async move { connection::serve(&server, io, admission).await }
        })
        .await
    }

    /// Serves one connection over any stream, until the client ends it.
    ///
    /// # Errors
    /// Why the connection ended, if not by the client's wish. Calls that fail are no such reason.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection and aborts its handlers.
    pub async fn serve_connection<Io>(&self, io: Io) -> Result<(), Error>
    where
        Io: AsyncRead + AsyncWrite + Send,
    {
        connection::serve(self, io, Admission::default()).await
    }
}

/// Where connections come from.
pub trait Listener: Send {
    /// One accepted connection.
    type Io: AsyncRead + AsyncWrite + Send + 'static;

    /// Waits for the next connection. An error is not the end: it is called again, after a pause.
    ///
    /// # Cancel safety
    /// Must be cancellation-safe: a dropped `accept` loses no connection.
    fn accept(&mut self) -> impl Future<Output = io::Result<Self::Io>> + Send;
}

impl Listener for TcpListener {
    type Io = tokio::net::TcpStream;

    async fn accept(&mut self) -> io::Result<Self::Io> {
        let (io, _) = TcpListener::accept(self).await?;
        // Replies leave in batches already; waiting for more (Nagle's algorithm) would only delay them.
        // A socket that cannot do this is dead already, and its first read will say so.
        io.set_nodelay(true).ok();
        Ok(io)
    }
}

/// Accepts connections until `signal`, and runs `serve_one` for each in a task that this future owns.
pub(crate) async fn accept_loop<L, F, Fut>(
    server: &Server,
    mut listener: L,
    signal: impl Future<Output = ()>,
    serve_one: F,
) -> Result<(), Error>
where
    L: Listener,
    F: Fn(L::Io, Admission) -> Fut,
    Fut: Future<Output = Result<(), Error>> + Send + 'static,
{
    let max = server.max_connections;
    let places = Arc::new(Semaphore::new(max.min(Semaphore::MAX_PERMITS)));
    let mut connections = JoinSet::new();
    let shutdown = CancellationToken::new();
    let mut signal = pin!(signal);
    'accepting: loop {
        let mut accepted = pin!(accept(&mut listener));
        let io = loop {
            // A finished task stays in the set until somebody looks at its result, hence the second arm.
            tokio::select! {
                io = &mut accepted, if connections.len() < max.saturating_add(MAX_REFUSALS) => break io,
                Some(ended) = connections.join_next() => report(ended),
                () = &mut signal => break 'accepting,
            }
        };
        // A connection that is refused takes no place: it must not make the server look full.
        let place = Arc::clone(&places).try_acquire_owned().ok().map(Arc::new);
        let refused = place.is_none().then(|| format!("the server is full: {max} connections are open"));
        let admission = Admission { refused, _place: place, shutdown: shutdown.child_token() };
        connections.spawn(serve_one(io, admission));
    }

    // Close the door first: whoever comes now finds another server, instead of waiting in front of this one.
    drop(listener);
    shutdown.cancel();
    let drained = async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
        Ok(())
    };
    let drained = limit("shutting down", server.grace_period, drained).await;
    connections.shutdown().await;
    drained
}

async fn accept<L: Listener>(listener: &mut L) -> L::Io {
    let (mut pause, longest) = ACCEPT_BACKOFF;
    loop {
        match listener.accept().await {
            Ok(io) => return io,
            Err(error) => tracing::warn!(%error, ?pause, "accept failed"),
        }
        tokio::time::sleep(pause).await;
        pause = longest.min(pause * 2);
    }
}

fn report(ended: Result<Result<(), Error>, JoinError>) {
    match ended {
        Ok(Ok(())) => tracing::debug!("connection closed"),
        Ok(Err(reason)) => tracing::debug!(%reason, "connection broken"),
        Err(error) => tracing::error!(%error, "connection task failed"),
    }
}
