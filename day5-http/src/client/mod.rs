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
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, ToSocketAddrs};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Timeout, timeout_at};

use crate::client::connection::{Dispatch, Outgoing};
use crate::client::in_flight::{DEFAULT_MAX_PENDING, InFlight, Pending};
use crate::deadline::{deadline, limit};
use crate::error::Error;
use crate::wire::codec::Codec;
use crate::wire::frame::{DEFAULT_MAX_FRAME_LEN, FrameReader, FrameWriter};
use crate::wire::handshake;
use crate::wire::handshake::Options;
use crate::wire::message::{CANCEL, Header, Message, MessageReader, MessageWriter, REFUSED};

/// A connection to a server, shared by any number of tasks.
///
/// Clones are cheap and share the connection. It is closed by [`close`](Client::close), or when the last
/// clone and the last [`PendingCall`] are dropped.
///
/// ```no_run
/// use day5_http::{Client, Options};
///
/// # async fn example() -> Result<(), day5_http::Error> {
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
    call_timeout: Duration,
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
    /// [`Error::Io`] if there is no connection, [`Error::Handshake`] if the server refuses,
    /// [`Error::Timeout`] if it takes longer than the options allow.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection.
    pub async fn connect(addr: impl ToSocketAddrs, options: &Options) -> Result<Client, Error> {
        // One deadline for both steps: a server that takes long for each does not get twice the time.
        limit("connecting", options.connect_timeout, async {
            let io = open_tcp(addr).await?;
            Client::shake_hands(io, options).await
        })
        .await
    }

    /// Shakes hands over any stream.
    ///
    /// # Errors
    /// [`Error::Io`] if the stream fails, [`Error::Handshake`] if the server refuses,
    /// [`Error::Timeout`] if it takes longer than the options allow.
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
        limit("the handshake", options.connect_timeout, Client::shake_hands(io, options)).await
    }

    pub(crate) async fn shake_hands<Io>(io: Io, options: &Options) -> Result<Client, Error>
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
        let (outgoing, requests) = mpsc::channel(2 * DEFAULT_MAX_PENDING); // a request and a cancel each
        let dispatch = Dispatch {
            reader: MessageReader::new(reader, codec),
            writer: MessageWriter::new(writer, codec),
            pending: Arc::clone(&pending),
            write_timeout: options.write_timeout,
        };
        let connection = tokio::spawn(dispatch.run(requests)).abort_handle();
        let call_timeout = options.call_timeout;
        Ok(Client { shared: Arc::new(Shared { codec, call_timeout, pending, outgoing, connection }) })
    }

    /// Calls a method and waits for its reply.
    ///
    /// # Errors
    /// * [`Error::Remote`]: the server's answer is an error; this is its text, word for word.
    /// * [`Error::Refused`]: the call did not run: the server is shutting down, or the name is reserved.
    /// * [`Error::Encode`], [`Error::FrameTooLarge`]: the argument cannot be sent. Nothing was.
    /// * [`Error::Decode`]: the reply is not an `R`.
    /// * [`Error::Timeout`]: it took longer than the options allow, and was given up.
    /// * [`Error::Disconnected`]: the connection ended first. The call may or may not have run.
    ///
    /// None but the last concerns any other call.
    ///
    /// # Cancel safety
    /// Dropping the future gives the call up, and tells the server to stop it.
    pub async fn call<A, R>(&self, service_method: &str, args: &A) -> Result<R, Error>
    where
        A: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        self.call_within(self.shared.call_timeout, service_method, args).await
    }

    /// As [`call`](Client::call), with a time limit of its own.
    ///
    /// # Errors
    /// As [`call`](Client::call).
    ///
    /// # Cancel safety
    /// As [`call`](Client::call).
    pub async fn call_within<A, R>(&self, after: Duration, service_method: &str, args: &A) -> Result<R, Error>
    where
        A: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        limit("the call", after, async { self.decode(self.send(service_method, args).await?.await?) }).await
    }

    /// Sends a call now, and returns a future of its reply to await later: the asynchronous `Go` of the seeds.
    ///
    /// It waits only if [`DEFAULT_MAX_PENDING`] calls are in flight already, where one that was given up counts
    /// until its cancel is about to be written. The time limit for the call begins here.
    ///
    /// # Errors
    /// [`Error::Encode`], [`Error::FrameTooLarge`], [`Error::Timeout`] and [`Error::Disconnected`] as
    /// [`call`](Client::call).
    ///
    /// # Cancel safety
    /// Dropping the future gives the call up.
    pub async fn start<A, R>(&self, service_method: &str, args: &A) -> Result<PendingCall<R>, Error>
    where
        A: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        let after = self.shared.call_timeout;
        let deadline = deadline(after);
        let in_flight = limit("the call", after, self.send(service_method, args)).await?;
        let seq = in_flight.seq();
        let in_flight = Some(Box::pin(timeout_at(deadline, in_flight)));
        Ok(PendingCall { in_flight, seq, client: self.clone(), reply: PhantomData })
    }

    async fn send<A: Serialize + ?Sized>(&self, service_method: &str, args: &A) -> Result<InFlight, Error> {
        if [CANCEL, REFUSED].contains(&service_method) {
            return Err(Error::Refused(format!("the name {service_method:?} is reserved")));
        }
        let shared = &self.shared;
        let body = Bytes::from(shared.codec.encode(args)?);
        // Register first: the reply may be back before `send` returns.
        let mut in_flight = shared.pending.register().await?;
        let header = Header { service_method: service_method.to_owned(), seq: in_flight.seq(), error: None };
        // If the queue is closed, the connection has just ended. This entry was made before that, so `fail_all`
        // tells it why.
        if shared.outgoing.send(Outgoing::request(header, body)).await.is_ok() {
            in_flight.cancel_through(shared.outgoing.clone());
        }
        Ok(in_flight)
    }

    fn decode<R: DeserializeOwned>(&self, message: Message) -> Result<R, Error> {
        match message.header.error {
            // The server's connection answers, and not a method: the call did not run.
            Some(error) if message.header.service_method == REFUSED => Err(Error::Refused(error)),
            Some(error) => Err(Error::Remote(error)),
            None => self.shared.codec.decode(&message.body),
        }
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

pub(crate) async fn open_tcp(addr: impl ToSocketAddrs) -> Result<TcpStream, Error> {
    let io = TcpStream::connect(addr).await?;
    // Requests leave in batches already; waiting for more (Nagle's algorithm) would only delay them.
    io.set_nodelay(true)?;
    Ok(io)
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
    /// `None` once the outcome is known: a call that has timed out is given up at once, not when its
    /// owner drops this.
    in_flight: Option<Pin<Box<Timeout<InFlight>>>>,
    seq: u64,
    /// Keeps the connection open until the reply is here.
    client: Client,
    reply: PhantomData<fn() -> R>,
}

impl<R> PendingCall<R> {
    /// The number of this call, unique on its connection.
    pub fn seq(&self) -> u64 {
        self.seq
    }
}

impl<R: DeserializeOwned> Future for PendingCall<R> {
    type Output = Result<R, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(in_flight) = &mut self.in_flight else {
            return Poll::Ready(Err(Error::Disconnected("the outcome was taken already".to_owned())));
        };
        let outcome = ready!(in_flight.as_mut().poll(cx));
        self.in_flight = None;
        let after = self.client.shared.call_timeout;
        let message = outcome.unwrap_or(Err(Error::Timeout { what: "the call", after }))?;
        Poll::Ready(self.client.decode(message))
    }
}
