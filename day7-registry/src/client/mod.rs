//! The client: many calls share one connection.
//!
//! ```text
//! call ─┐                                   ┌────── one task ───────┐
//! call ─┼─ encode ─▶ in-flight table ─────▶ │ one write ──▶ socket  │
//! call ─┘             │        ▲            │                 │     │
//!   ▲                 ▼        └─────────── │ complete ◀── replies  │
//!   └─── decode ◀── reply                   └───────────────────────┘
//! ```
//!
//! A caller encodes its argument itself, so a value that cannot be encoded never reaches the connection; and
//! it decodes its reply itself, so a reply of another type never stops it. The task moves bytes only, and never
//! waits for a caller.

mod connection;
mod in_flight;
pub mod options;

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::ToSocketAddrs;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use self::connection::{Connection, Silence};
use self::in_flight::{InFlight, Outcome};
use self::options::Options;
use crate::deadline::limit;
use crate::error::Error;
use crate::wire::codec::Codec;
use crate::wire::frame::{FrameReader, FrameWriter};
use crate::wire::handshake::{self, Limits};
use crate::wire::message::{MessageReader, Metadata, encode_call};
use crate::wire::tcp;

/// A connection to a server, shared by any number of tasks.
///
/// Clones are cheap and share the connection. It is closed by [`close`](Client::close), or when the last
/// clone and the last [`PendingCall`] are dropped.
///
/// ```no_run
/// use day7_registry::{Client, Options};
///
/// # async fn example() -> Result<(), day7_registry::Error> {
/// let client = Client::connect("127.0.0.1:9999", &Options::default()).await?;
/// let sum: i32 = client.call("Arith.sum", &(1, 2)).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
    metadata: Arc<Metadata>,
    timeout: Duration,
}

#[derive(Debug)]
struct Shared {
    codec: Codec,
    /// The longest argument that the server takes.
    max_body_len: usize,
    in_flight: Arc<InFlight>,
    /// Why the connection has ended, once it has.
    ended: watch::Receiver<Option<Arc<Error>>>,
    connection: AbortOnDropHandle<()>,
}

impl Client {
    /// Connects over TCP and shakes hands. Small requests leave at once (`TCP_NODELAY`). Of several addresses
    /// the next is tried when the one before has failed, or has not answered for 250 ms. A name is resolved on
    /// Tokio's pool of blocking threads; [`dial`](Client::dial) does without.
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
            Client::negotiate(tcp::connect(addr).await?, options).await
        })
        .await
    }

    /// Shakes hands over any stream.
    ///
    /// # Errors
    /// [`Error::Io`] if the stream fails, [`Error::Handshake`] if the server refuses, [`Error::Timeout`] if it
    /// takes longer than the options allow.
    ///
    /// # Cancel safety
    /// Dropping the future closes the stream.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub async fn handshake<Io>(io: Io, options: &Options) -> Result<Client, Error>
    where
        Io: AsyncRead + AsyncWrite + Send + 'static,
    {
        limit("the handshake", options.connect_timeout, Client::negotiate(io, options)).await
    }

    pub(crate) async fn negotiate<Io>(io: Io, options: &Options) -> Result<Client, Error>
    where
        Io: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (read, write) = tokio::io::split(io);
        let mut reader = FrameReader::new(read);
        let mut writer = FrameWriter::new(write);
        let (codec, Limits { max_body_len, max_in_flight, .. }) =
            handshake::offer(&mut reader, &mut writer, &options.hello()).await?;

        let in_flight = InFlight::new(options.max_in_flight.min(max_in_flight));
        let mut connection = Connection {
            reader: MessageReader::new(reader, codec),
            writer,
            codec,
            max_body_len: options.max_body_len,
            in_flight: Arc::clone(&in_flight),
            write_timeout: options.write_timeout,
            silence: Silence::new(options.ping_interval, options.ping_timeout),
        };
        let (end, ended) = watch::channel(None);
        let connection = AbortOnDropHandle::new(tokio::spawn(async move {
            let reason = connection.run().await; // by reference: moved, the task would keep room for it twice
            end.send_replace(Some(Arc::new(reason)));
        }));
        let shared = Shared { codec, max_body_len, in_flight, ended, connection };
        Ok(Client { shared: Arc::new(shared), metadata: Arc::default(), timeout: options.call_timeout })
    }

    /// The same connection, with another time limit for its calls.
    pub fn with_timeout(&self, timeout: Duration) -> Client {
        Client { timeout, ..self.clone() }
    }

    /// The same connection, with one more entry in the metadata of its calls. A header must fit into
    /// [`MAX_HEADER_LEN`](crate::MAX_HEADER_LEN), or the call fails.
    pub fn with_metadata(&self, key: impl Into<String>, value: impl Into<String>) -> Client {
        let mut client = self.clone();
        Arc::make_mut(&mut client.metadata).insert(key.into(), value.into());
        client
    }

    /// The same connection, with this metadata in place of its own. The calls share it; none copies it.
    pub fn with_metadata_map(&self, metadata: impl Into<Arc<Metadata>>) -> Client {
        Client { metadata: metadata.into(), ..self.clone() }
    }

    /// Calls a method and waits for its reply.
    ///
    /// # Errors
    /// * [`Error::Remote`]: the server's answer is an error.
    /// * [`Error::Refused`]: the server did not run the call, because it is busy for example.
    /// * [`Error::Encode`], [`Error::FrameTooLarge`], [`Error::NotSent`]: nothing was sent.
    /// * [`Error::Decode`]: the reply is not an `R`.
    /// * [`Error::Timeout`]: it took longer than the options, or [`with_timeout`](Client::with_timeout), allow.
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
        self.start(service_method, args).await?.await
    }

    /// Sends a call now, and returns a future of its reply to await later: the `Go` of Go's net/rpc.
    ///
    /// It waits only while as many calls are in flight as both sides allow. The time limit for the call begins
    /// here. When it is over the call ends, whether or not the future is polled.
    ///
    /// One stream carries all calls, in order: a large argument or reply on a slow line delays what is behind
    /// it. Use another connection for those.
    ///
    /// # Errors
    /// [`Error::Encode`], [`Error::FrameTooLarge`], [`Error::NotSent`] and [`Error::Timeout`] as
    /// [`call`](Client::call).
    ///
    /// # Cancel safety
    /// Dropping the future gives the call up, and nothing was sent.
    pub async fn start<A, R>(&self, service_method: &str, args: &A) -> Result<PendingCall<R>, Error>
    where
        A: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        let Shared { codec, max_body_len, in_flight, .. } = &*self.shared;
        let started = Instant::now();
        let seq = in_flight.next_seq();
        let request = encode_call(*codec, *max_body_len, service_method, seq, &self.metadata, args)?;
        let outcome = in_flight.insert(seq, request, started, self.timeout).await?;
        Ok(PendingCall { seq, outcome, shared: Arc::clone(&self.shared), reply: PhantomData })
    }

    /// Whether the connection takes new calls: `false` after [`close`](Client::close), when the connection
    /// has ended, and when the server has said that it is going to end it.
    pub fn is_available(&self) -> bool {
        self.shared.in_flight.is_open()
    }

    /// How many calls are in flight.
    pub fn in_flight(&self) -> usize {
        self.shared.in_flight.len()
    }

    /// The codec that was agreed on.
    pub fn codec(&self) -> Codec {
        self.shared.codec
    }

    /// Closes the connection, for all clones. Calls in flight fail.
    pub fn close(&self) {
        self.shared.in_flight.fail_all("the client was closed");
        self.shared.connection.abort();
    }

    /// Waits for the end of the connection, and returns the reason: [`Error::Disconnected`], [`Error::Io`],
    /// [`Error::Protocol`] if the server broke the rules, [`Error::Timeout`] if it was silent for too long.
    ///
    /// # Cancel safety
    /// Cancellation-safe.
    pub async fn closed(&self) -> Arc<Error> {
        let mut ended = self.shared.ended.clone();
        let reason = ended.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        reason.unwrap_or_else(|| Arc::new(Error::Disconnected("the client was closed".to_owned())))
    }
}

/// A call that was started: await it for the reply, drop it to give the call up.
///
/// # Errors
/// As [`Client::call`].
///
/// # Cancel safety
/// Awaiting it by `&mut` is cancellation-safe.
#[derive(Debug)]
#[must_use = "dropping it gives the call up"]
pub struct PendingCall<R> {
    seq: u64,
    outcome: oneshot::Receiver<Outcome>,
    /// Keeps the connection open until the reply is here.
    shared: Arc<Shared>,
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
        let outcome = ready!(Pin::new(&mut self.outcome).poll(cx));
        // The table drops no sender unused; were it so, the call would have been sent.
        let body = outcome.unwrap_or_else(|_| Err(Error::Disconnected("no outcome".to_owned())))?;
        Poll::Ready(self.shared.codec.decode(&body))
    }
}

impl<R> Drop for PendingCall<R> {
    fn drop(&mut self) {
        // With its outcome, it has left the table already.
        if !self.outcome.is_terminated() {
            self.shared.in_flight.remove(self.seq);
        }
    }
}
