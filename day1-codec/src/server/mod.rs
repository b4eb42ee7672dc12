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
use tokio::task::JoinSet;

use self::handler::Handler;
use crate::error::Error;
use crate::wire::codec::Codec;
use crate::wire::frame::DEFAULT_MAX_FRAME_LEN;

/// The default limit for the calls that one connection may have in flight. Any further call is refused with
/// an error reply. A call that is answered at once is never in flight.
pub const DEFAULT_MAX_IN_FLIGHT: usize = 1024;

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
}

impl Server {
    /// A server that answers every request with `handler`.
    pub fn new(handler: impl Handler) -> Server {
        Server {
            handler: Arc::new(handler),
            codecs: Arc::new(Codec::ALL),
            max_frame_len: DEFAULT_MAX_FRAME_LEN,
            max_in_flight: DEFAULT_MAX_IN_FLIGHT,
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

    /// Accepts connections and serves them, until this future is dropped; that ends all of them.
    ///
    /// Failed accepts are retried for ever, with a pause that grows from 5 ms to 1 s: a process that has
    /// run out of file descriptors gets some back when a connection ends.
    ///
    /// # Cancel safety
    /// Dropping the future is the way to stop the server: the listener is closed, and the connections and
    /// their handlers are aborted.
    pub async fn serve<L: Listener>(&self, listener: L) {
        accept_loop(listener, |io| {
            let server = self.clone();
            async move { server.serve_connection(io).await }
        })
        .await;
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
        connection::serve(self, io).await
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

/// Accepts connections for ever, and runs `serve_one` for each in a task that this future owns.
pub(crate) async fn accept_loop<L, F, Fut>(mut listener: L, serve_one: F)
where
    L: Listener,
    F: Fn(L::Io) -> Fut,
    Fut: Future<Output = Result<(), Error>> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        let mut accepted = pin!(accept(&mut listener));
        let io = loop {
            // A finished task stays in the set until somebody looks at its result, hence the second arm.
            tokio::select! {
                io = &mut accepted => break io,
                Some(ended) = connections.join_next() => report(ended),
            }
        };
        connections.spawn(serve_one(io));
    }
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

fn report(ended: Result<Result<(), Error>, tokio::task::JoinError>) {
    match ended {
        Ok(Ok(())) => tracing::debug!("connection closed"),
        Ok(Err(reason)) => tracing::debug!(%reason, "connection broken"),
        Err(error) => tracing::error!(%error, "connection task failed"),
    }
}
