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
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Code, RemoteError};
use crate::wire::codec::Codec;
use crate::wire::message::Metadata;

/// One call that arrived: which method, from whom, and its argument, still encoded.
#[derive(Debug)]
pub struct Request {
    pub(super) service_method: String,
    pub(super) seq: u64,
    pub(super) metadata: Metadata,
    pub(super) body: Bytes,
    pub(super) codec: Codec,
    pub(super) peer: Option<SocketAddr>,
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
        self.peer
    }

    /// The codec of this connection.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Decodes the argument.
    ///
    /// # Errors
    /// [`Code::INVALID_ARGUMENT`] if the body is not one value of type `T`. Return it with `?`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, RemoteError> {
        self.codec
            .decode(&self.body)
            .map_err(|error| RemoteError::new(Code::INVALID_ARGUMENT, format!("the argument: {error}")))
    }

    /// Encodes the reply.
    ///
    /// # Errors
    /// [`Code::INTERNAL`] if the value cannot be written in this codec. Return it with `?`.
    pub fn reply<T: Serialize + ?Sized>(&self, value: &T) -> Result<Reply, RemoteError> {
        Reply::encode(self.codec, value)
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
/// use day1_codec::{Handler, Request, Server};
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
/// [`Code::UNKNOWN`]. The causes go to the log (level `info`, with `method`, `peer` and `seq`).
///
/// # What the connection does with the future
/// * It runs beside the other calls of the connection. Blocking the thread, or computing for long without an
///   `await`, holds the others up: use `tokio::task::spawn_blocking` for such work.
/// * It may be dropped at any `await`, for example when the client has gone. What must be undone then belongs
///   into a guard's `Drop`.
/// * A panic becomes an error reply ([`Code::INTERNAL`]) for this call, and for no other. It needs
///   `panic = "unwind"`.
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

/// Runs a handler to its end. The error is what the client is told; the log has the rest.
pub(super) async fn answer(handler: Arc<dyn Handler>, request: Request) -> Outcome {
    let (method, seq, peer) = (request.service_method.clone(), request.seq, request.peer);
    handler.call(request).await.map_err(|error| {
        tracing::info!(?method, ?peer, seq, error = ?format!("{error:#}"), "the handler failed");
        let code = error.chain().find_map(|cause| cause.downcast_ref::<RemoteError>().map(RemoteError::code));
        // A new error: one that a handler passes on from another server may say that it was refused there.
        RemoteError::new(code.cloned().unwrap_or(Code::UNKNOWN), error.to_string())
    })
}
