//! The client: many calls share one connection.
//!
//! ```text
//! call ─┐                           ┌──────────── one task ────────────┐
//! call ─┼─▶ register ─▶ outgoing ─▶ │ queue all, one write ──▶ socket  │
//! call ─┘      │                    │                            │     │
//!   ▲          ▼                    │                            ▼     │
//!   └─────── pending ◀───────────── │ complete(seq) ◀──────── replies  │
//!                                   └──────────────────────────────────┘
//! ```
//!
//! A caller encodes its argument itself, so a value that cannot be encoded never reaches the connection; and
//! it decodes its reply itself, so a reply that makes no sense never stops it. The task in the middle moves
//! bytes only, and never waits for a caller.

mod connection;
pub mod in_flight;

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, ToSocketAddrs};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::client::connection::{Dispatch, Outgoing};
use crate::client::in_flight::{DEFAULT_MAX_PENDING, InFlight, Pending};
use crate::error::Error;
use crate::wire::codec::Codec;
use crate::wire::frame::{DEFAULT_MAX_FRAME_LEN, FrameReader, FrameWriter};
use crate::wire::handshake;
use crate::wire::handshake::Options;
use crate::wire::message::{Header, MessageReader, MessageWriter};

/// A connection to a server, shared by any number of tasks.
///
/// Clones are cheap and share the connection. It is closed by [`close`](Client::close), or when the last
/// clone and the last [`PendingCall`] are dropped.
///
/// ```no_run
/// use day2_client::{Client, Options};
///
/// # async fn example() -> Result<(), day2_client::Error> {
/// let client = Client::connect("127.0.0.1:9999", &Options::default()).await?;
/// let sum: i32 = client.call("Arith.sum", &(1, 2)).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    codec: Codec,
    pending: Arc<Pending>,
    outgoing: mpsc::Sender<Outgoing>,
    connection: AbortHandle,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Client {
    /// Connects over TCP and shakes hands. Small requests leave at once (`TCP_NODELAY`).
    ///
    /// # Errors
    /// [`Error::Io`] if there is no connection, [`Error::Handshake`] if the server refuses.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection.
    pub async fn connect(addr: impl ToSocketAddrs, options: &Options) -> Result<Client, Error> {
        let io = TcpStream::connect(addr).await?;
        // Requests leave in batches already; waiting for more (Nagle's algorithm) would only delay them.
        io.set_nodelay(true)?;
        Client::new(io, options).await
    }

    /// Shakes hands over any stream.
    ///
    /// # Errors
    /// [`Error::Io`] if the stream fails, [`Error::Handshake`] if the server refuses.
    ///
    /// # Cancel safety
    /// Dropping the future closes the stream.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub async fn new<Io>(io: Io, options: &Options) -> Result<Client, Error>
    where
        Io: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (read, write) = tokio::io::split(io);
        let mut reader = FrameReader::new(read, handshake::MAX_HANDSHAKE_LEN);
        let mut writer = FrameWriter::new(write, handshake::MAX_HANDSHAKE_LEN);
        let codec = handshake::offer(&mut reader, &mut writer, options).await?;
        reader.set_max_len(DEFAULT_MAX_FRAME_LEN);
        writer.set_max_len(DEFAULT_MAX_FRAME_LEN);

        let pending = Pending::new(DEFAULT_MAX_PENDING);
        let (outgoing, requests) = mpsc::channel(DEFAULT_MAX_PENDING);
        let dispatch = Dispatch {
            reader: MessageReader::new(reader, codec),
            writer: MessageWriter::new(writer, codec),
            pending: Arc::clone(&pending),
        };
        let connection = tokio::spawn(dispatch.run(requests)).abort_handle();
        Ok(Client { shared: Arc::new(Shared { codec, pending, outgoing, connection }) })
    }

    /// Calls a method and waits for its reply.
    ///
    /// # Errors
    /// * [`Error::Remote`]: the server's answer is an error; this is its text, word for word.
    /// * [`Error::Encode`], [`Error::FrameTooLarge`]: the argument cannot be sent. Nothing was.
    /// * [`Error::Decode`]: the reply is not an `R`.
    /// * [`Error::Disconnected`]: the connection ended first. The call may or may not have run.
    ///
    /// None but the last concerns any other call.
    ///
    /// # Cancel safety
    /// Dropping the future gives the call up. The server may still run it.
    pub async fn call<A, R>(&self, service_method: &str, args: &A) -> Result<R, Error>
    where
        A: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        self.start(service_method, args).await?.await
    }

    /// Sends a call now, and returns a future of its reply to await later: the asynchronous `Go` of the seeds.
    ///
    /// It waits only if [`DEFAULT_MAX_PENDING`] calls are in flight already, or if as many requests wait to be
    /// written: those of callers that gave up are written all the same.
    ///
    /// # Errors
    /// [`Error::Encode`], [`Error::FrameTooLarge`] and [`Error::Disconnected`] as [`call`](Client::call).
    ///
    /// # Cancel safety
    /// Dropping the future gives the call up. The server may still run it.
    pub async fn start<A, R>(&self, service_method: &str, args: &A) -> Result<PendingCall<R>, Error>
    where
        A: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        let shared = &self.shared;
        let body = Bytes::from(shared.codec.encode(args)?);
        // Register first: the reply may be back before `send` returns.
        let in_flight = shared.pending.register().await?;
        let header = Header { service_method: service_method.to_owned(), seq: in_flight.seq(), error: None };
        // If the queue is closed, the connection has just ended. This entry was made before that, so `fail_all`
        // tells it why.
        shared.outgoing.send((header, body)).await.ok();
        Ok(PendingCall { in_flight, client: self.clone(), reply: PhantomData })
    }

    /// Whether the connection takes new calls: `false` after [`close`](Client::close), when the connection
    /// has ended, and when the server has said that it is going to end it.
    pub fn is_available(&self) -> bool {
        self.shared.pending.is_open()
    }

    /// How many calls wait for their replies.
    pub fn in_flight(&self) -> usize {
        self.shared.pending.len()
    }

    /// The codec that was agreed on.
    pub fn codec(&self) -> Codec {
        self.shared.codec
    }

    /// Closes the connection, for all clones. Calls in flight fail with [`Error::Disconnected`].
    pub fn close(&self) {
        self.shared.pending.fail_all("the client was closed");
        self.shared.connection.abort();
    }
}

/// A call that was sent: await it for the reply, drop it to give the call up.
///
/// # Errors
/// As [`Client::call`].
///
/// # Cancel safety
/// Awaiting it by `&mut` is cancellation-safe.
#[derive(Debug)]
#[must_use = "dropping it gives the call up"]
pub struct PendingCall<R> {
    in_flight: InFlight,
    /// Keeps the connection open until the reply is here.
    client: Client,
    reply: PhantomData<fn() -> R>,
}

impl<R> PendingCall<R> {
    /// The number of this call, unique on its connection.
    pub fn seq(&self) -> u64 {
        self.in_flight.seq()
    }
}

impl<R: DeserializeOwned> Future for PendingCall<R> {
    type Output = Result<R, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let message = ready!(Pin::new(&mut self.in_flight).poll(cx))?;
        Poll::Ready(match message.header.error {
            Some(error) => Err(Error::Remote(error)),
            None => self.client.shared.codec.decode(&message.body),
        })
    }
}
