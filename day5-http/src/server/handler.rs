//! Handlers: the seam between the wire and your code.
//!
//! ```text
//! Message::Call → Request ──▶ Handler::call ──▶ Reply → Message::Reply
//!                  decode()                      request.reply(&value)
//! ```
//!
//! Everything below this line moves bytes; everything above it knows types. All later days build on this
//! one trait: a table of services is a handler, and so is a closure.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use crate::error::{Code, Error, RemoteError, error_chain};
use crate::wire::codec::Codec;
use crate::wire::message::Metadata;

/// One call that arrived: which method, from whom, and its argument, still encoded.
#[derive(Debug)]
pub struct Request {
    pub(super) service_method: String,
    pub(super) seq: u64,
    pub(super) metadata: Metadata,
    pub(super) body: Bytes,
    pub(super) connection: Arc<Context>,
    /// What the body takes of the server's budget, if it is large.
    pub(super) _budget: Option<OwnedSemaphorePermit>,
}

/// What the requests of a connection share. Each of them holds it, so its count is the number of requests that
/// are alive, in a handler or in a job that a handler has left behind.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) codec: Codec,
    pub(super) peer: Option<SocketAddr>,
    pub(super) shutdown: CancellationToken,
}

impl Request {
    /// The method asked for, as the client wrote it: `"Service.method"` by convention. It may hold any
    /// characters.
    pub fn service_method(&self) -> &str {
        &self.service_method
    }

    /// The client's number for this call.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// What the caller says about the call, such as a token or a trace id.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The client's address, if the listener knows it.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.connection.peer
    }

    /// The codec of this connection.
    pub fn codec(&self) -> Codec {
        self.connection.codec
    }

    /// Waits until the server shuts down. A handler that takes long by design, such as a long poll, should end
    /// then: `tokio::select!` it with its work.
    ///
    /// # Cancel safety
    /// Cancellation-safe.
    pub async fn shutting_down(&self) {
        self.connection.shutdown.cancelled().await;
    }

    /// Decodes the argument.
    ///
    /// # Errors
    /// [`Code::INVALID_ARGUMENT`] if the body is not one value of type `T`. Return it with `?`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, RemoteError> {
        self.codec()
            .decode(&self.body)
            .map_err(|error| RemoteError::new(Code::INVALID_ARGUMENT, format!("the argument: {error}")))
    }

    /// Encodes the reply.
    ///
    /// # Errors
    /// [`Code::INTERNAL`] if the value cannot be written in this codec. Return it with `?`.
    pub fn reply<T: Serialize + ?Sized>(&self, value: &T) -> Result<Reply, RemoteError> {
        Reply::encode(self.codec(), value)
    }
}

/// An encoded reply, made by [`Request::reply`]. A clone copies it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub(super) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn encode<T: Serialize + ?Sized>(codec: Codec, value: &T) -> Result<Reply, RemoteError> {
        let unencodable = |error| RemoteError::new(Code::INTERNAL, format!("the reply: {error}"));
        Ok(Reply { body: codec.encode(value).map_err(unencodable)? })
    }
}

/// How a call ended.
pub(super) type Outcome = Result<Reply, RemoteError>;

/// What [`Handler::call`] returns: the reply, or an error.
pub type HandlerFuture = Pin<Box<dyn Future<Output = anyhow::Result<Reply>> + Send>>;

/// Answers requests.
///
/// Async closures are handlers, and so is an `Arc` of a handler. Middleware is a handler that calls another:
///
/// ```
/// use std::sync::Arc;
/// use day5_http::{Handler, Request, Server};
///
/// let add = async |request: Request| {
///     let (a, b): (i32, i32) = request.decode()?;
///     Ok(request.reply(&(a + b))?)
/// };
/// let inner: Arc<dyn Handler> = Arc::new(add);
/// let server = Server::new(move |request: Request| {
///     println!("{:?} calls {:?}", request.peer(), request.service_method());
///     inner.call(request)
/// });
/// ```
///
/// # Errors
/// The client is told the code and the text of the error, and nothing of its causes: they may hold what a
/// stranger must not read. The code is that of the first [`RemoteError`] among the error and its causes, or
/// [`Code::UNKNOWN`]. The causes go to the log (level `info`, with `method`, `peer` and `seq`). So the error of a
/// call to another server can be passed on with `?`: its code and its message stay as they are.
///
/// # What the connection does with the future
/// * It is polled once right away, on the connection's own task. If it is ready by then, no task is spawned; if
///   not, it goes on in a task of its own, beside the other calls of the connection. Blocking the thread, or
///   computing for long without an `await`, holds the others up: use `tokio::task::spawn_blocking` for such
///   work.
/// * It is dropped at an `await` when the caller gives up, when the client has gone, and when its time is over
///   ([`Code::DEADLINE_EXCEEDED`]). What must be undone then belongs in a guard's `Drop`.
/// * A job that was started with `spawn_blocking` goes on after that. Move the [`Request`] into it: a request that
///   is alive counts as a call in flight, so such jobs cannot pile up without limit.
/// * A panic becomes an error reply ([`Code::INTERNAL`]) for this call, and for no other; one in a `Drop`, after the
///   reply was ready, changes nothing. It needs `panic = "unwind"`.
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

impl<H: Handler + ?Sized> Handler for Arc<H> {
    fn call(&self, request: Request) -> HandlerFuture {
        (**self).call(request)
    }
}

/// A call of a handler, as a future that does not panic: its output is what the client is told.
pub(super) struct Call {
    /// `None` after a panic: it is not polled again, so the state it left behind is never seen.
    future: Option<HandlerFuture>,
    about: About,
}

/// What the log says about a call.
struct About {
    method: String,
    peer: Option<SocketAddr>,
    seq: u64,
}

impl Call {
    pub(super) fn new(handler: &dyn Handler, request: Request) -> Call {
        let about = About { method: request.service_method.clone(), peer: request.peer(), seq: request.seq };
        Call { future: catch(|| handler.call(request)), about }
    }

    /// The outcome, within a time limit.
    pub(super) async fn within(mut self, after: Duration) -> Outcome {
        tokio::time::timeout(after, &mut self).await.unwrap_or_else(|_| {
            let About { method, peer, seq } = &self.about;
            tracing::warn!(?method, ?peer, seq, ?after, "the handler timed out");
            let text = format!("the handler timed out after {after:?}");
            Err(RemoteError::new(Code::DEADLINE_EXCEEDED, text))
        })
    }
}

impl Future for Call {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let Call { future, about } = &mut *self;
        // The text of an error is the handler's code as well, so it is made here, where panics end.
        let polled = future.as_mut().and_then(|future| {
            catch(|| future.as_mut().poll(cx).map_err(|error| about.remote_error(&error)))
        });
        polled.unwrap_or_else(|| {
            let About { method, peer, seq } = about;
            tracing::error!(?method, ?peer, seq, "the handler panicked");
            let future = future.take();
            catch(|| drop(future));
            Poll::Ready(Err(RemoteError::new(Code::INTERNAL, "the handler panicked")))
        })
    }
}

impl About {
    /// What the client is told. The log has the causes.
    fn remote_error(&self, error: &anyhow::Error) -> RemoteError {
        let About { method, peer, seq } = self;
        tracing::info!(?method, ?peer, seq, error = ?error_chain(error), "the handler failed");
        let code = error.chain().find_map(as_remote).map_or(Code::UNKNOWN, |remote| remote.code().clone());
        let outermost = error.chain().next().and_then(as_remote);
        let text = outermost.map_or_else(|| error.to_string(), |remote| remote.message().to_owned());
        // A new error: one that a handler passes on from another server may say that it was refused there.
        RemoteError::new(code, text)
    }
}

/// The `RemoteError` that this error is. Its message can be passed on as it was written; `Display` escapes it.
fn as_remote<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a RemoteError> {
    match error.downcast_ref() {
        Some(Error::Remote(remote) | Error::Refused(remote)) => Some(remote),
        _ => error.downcast_ref(),
    }
}

/// A handler that is stopped may panic as well, in a guard's `Drop`.
impl Drop for Call {
    fn drop(&mut self) {
        let future = self.future.take();
        catch(|| drop(future));
    }
}

/// Runs a handler's code. `None`: it panicked, and even the drop of what it panicked with does no harm.
fn catch<T>(code: impl FnOnce() -> T) -> Option<T> {
    let payload = match catch_unwind(AssertUnwindSafe(code)) {
        Ok(value) => return Some(value),
        Err(payload) => payload,
    };
    // The payload may panic when it is dropped, with another that does the same: that one is leaked.
    if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(another);
    }
    None
}
