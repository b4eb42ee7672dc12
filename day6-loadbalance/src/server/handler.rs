//! Handlers: the seam between the wire and your code.
//!
//! ```text
//! message → Request ──▶ Handler::call ──▶ Reply → message
//!            decode()                      request.reply(&value)
//! ```
//!
//! Everything below this line moves bytes; everything above it knows types. All later days build on this
//! one trait: a table of services on day 3 is a handler, and so is the closure of today.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, full_text};
use crate::wire::codec::Codec;
use crate::wire::message::Message;

/// One call that arrived: which method, and its argument, still encoded.
#[derive(Debug)]
pub struct Request {
    message: Message,
    codec: Codec,
}

impl Request {
    pub(crate) fn new(message: Message, codec: Codec) -> Request {
        Request { message, codec }
    }

    /// The method asked for, as the client wrote it: `"Service.method"` by convention.
    pub fn service_method(&self) -> &str {
        &self.message.header.service_method
    }

    /// The client's number for this call.
    pub fn seq(&self) -> u64 {
        self.message.header.seq
    }

    /// The codec of this connection.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Decodes the argument.
    ///
    /// # Errors
    /// [`Error::Decode`] if the body is not one value of type `T`. Return it with `?`: it becomes the reply.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, Error> {
        self.codec.decode(&self.message.body)
    }

    /// Encodes the reply.
    ///
    /// # Errors
    /// [`Error::Encode`] if the value cannot be written in this codec. Return it with `?`: it becomes the
    /// reply, and no other call notices.
    pub fn reply<T: Serialize + ?Sized>(&self, value: &T) -> Result<Reply, Error> {
        Reply::encode(self.codec, value)
    }
}

/// An encoded reply, made by [`Request::reply`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn encode<T: Serialize + ?Sized>(codec: Codec, value: &T) -> Result<Reply, Error> {
        Ok(Reply { body: codec.encode(value)?.into() })
    }
}

/// What [`Handler::call`] returns: the reply, or an error whose text the client is told.
///
/// The text is the error's own and, after colons, that of its causes: see [`full_text`].
pub type HandlerFuture = Pin<Box<dyn Future<Output = anyhow::Result<Reply>> + Send>>;

/// Answers requests.
///
/// Async closures are handlers:
///
/// ```
/// use day6_loadbalance::{Request, Server};
///
/// let server = Server::new(async |request: Request| {
///     let (a, b): (i32, i32) = request.decode()?;
///     Ok(request.reply(&(a + b))?)
/// });
/// ```
///
/// # What the connection does with the future
///
/// It is polled once right away, on the connection's own task. If it is ready by then, the reply is queued
/// and no task was spawned; if not, it goes on in a task of its own, beside all others. So:
///
/// * Right: compute briefly, or `await`. Other requests of the same connection go on meanwhile.
/// * Wrong: block the thread, or compute for long without an `await`. Everything else on this connection
///   waits. Use `tokio::task::spawn_blocking` for such work.
/// * The future may be dropped at any `await`, for example when the client has gone. Whatever must be
///   undone then belongs into a guard's `Drop`.
/// * A panic becomes an error reply for this call, and for no other. (It does need `panic = "unwind"`.)
pub trait Handler: Send + Sync + 'static {
    /// Starts to answer one request.
    fn call(&self, request: Request) -> HandlerFuture;
}

impl<F, Fut> Handler for F
where
    F: Fn(Request) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = anyhow::Result<Reply>> + Send + 'static,
{
    fn call(&self, request: Request) -> HandlerFuture {
        Box::pin(self(request))
    }
}

/// A call of a handler, as a future that does not panic: a panic, now or at whichever poll, becomes an error.
/// Its output is what goes on the wire: the reply, or the text of the error.
pub(crate) struct Call(Option<HandlerFuture>);

impl Call {
    pub(crate) fn new(handler: &dyn Handler, request: Request) -> Call {
        Call(catch_unwind(AssertUnwindSafe(|| handler.call(request))).ok())
    }
}

impl Future for Call {
    type Output = Result<Reply, String>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // The handler's future is not polled again after a panic, so nobody sees the state it left behind.
        // An error's `Display` is the handler's code as well, so the text is made here, where panics end.
        let polled = self.0.as_mut().and_then(|future| {
            let poll = || future.as_mut().poll(cx).map_err(|error| full_text(&error));
            catch_unwind(AssertUnwindSafe(poll)).ok()
        });
        polled.unwrap_or_else(|| Poll::Ready(Err("the handler panicked".to_owned())))
    }
}

/// A handler that is stopped may panic as well, in a guard's `Drop`. Its call is answered all the same.
impl Drop for Call {
    fn drop(&mut self) {
        let future = self.0.take();
        catch_unwind(AssertUnwindSafe(|| drop(future))).ok();
    }
}
