//! Messages: a header frame that says which call this is, and a body frame with the value.
//!
//! ```text
//! frame 1   {"service_method":"Arith.sum","seq":1,"error":null}
//! frame 2   {"num1":1,"num2":2}
//! ```
//!
//! Requests and replies have the same form. Two frames rather than one, because the two parts have two
//! readers: the connection reads the header, and only the handler knows the type of the body. The body
//! stays bytes until then, and a body that makes no sense costs its own call only.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::error::{Error, in_short};
use crate::wire::codec::Codec;
use crate::wire::frame::{FrameReader, FrameWriter};

/// The method that is none: "the caller of `seq` has gone". Its body is empty, and it has no reply.
pub const CANCEL: &str = "$/cancel";

/// The method in the reply to a call that the server has not run, and never will; the error says why.
pub const REFUSED: &str = "$/refused";

/// Which call a message belongs to, and how it went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The method asked for, as `"Service.method"`. A reply repeats it.
    pub service_method: String,
    /// The number that the client gave to the call, from 1. A reply repeats it: that is how the client finds
    /// out which call is answered. A header with `seq` 0 is never a call: with an error, it says why its
    /// sender is closing the connection.
    pub seq: u64,
    /// In a reply: what went wrong, if anything did. The body is an empty frame then.
    pub error: Option<String>,
}

impl Header {
    /// The header of the last message before a connection is closed. A long reason is cut short.
    pub fn goodbye(reason: impl AsRef<str>) -> Header {
        Header { service_method: String::new(), seq: 0, error: Some(in_short(reason.as_ref())) }
    }
}

/// One request or one reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Which call this is.
    pub header: Header,
    /// One value in the connection's codec.
    pub body: Bytes,
}

/// Reads messages.
#[derive(Debug)]
pub struct MessageReader<R> {
    frames: FrameReader<R>,
    codec: Codec,
    /// A header whose body has not arrived yet.
    header: Option<Header>,
}

impl<R: AsyncRead + Unpin> MessageReader<R> {
    /// Reads messages from `frames`, their headers in `codec`.
    pub fn new(frames: FrameReader<R>, codec: Codec) -> Self {
        MessageReader { frames, codec, header: None }
    }

    /// Waits for the next message. `None` means that the peer ended the stream between two messages.
    ///
    /// # Errors
    /// * [`Error::Protocol`] if a header does not decode: nobody knows where the stream is then.
    /// * [`Error::FrameTooLarge`] and [`Error::Io`] as [`FrameReader::read`].
    ///
    /// # Cancel safety
    /// Cancellation-safe: the header of a half-read message is kept for the next `read`.
    pub async fn read(&mut self) -> Result<Option<Message>, Error> {
        if self.header.is_none() {
            let Some(frame) = self.frames.read().await? else { return Ok(None) };
            let header = self.codec.decode(&frame);
            self.header = Some(header.map_err(|error| Error::Protocol(format!("bad header: {error}")))?);
        }
        let body = self.frames.read().await?;
        match (self.header.take(), body) {
            (Some(header), Some(body)) => Ok(Some(Message { header, body })),
            _ => Err(Error::Protocol("the stream ended between a header and its body".to_owned())),
        }
    }

    /// Throws away what still arrives; see [`FrameReader::discard`].
    pub async fn discard(&mut self, limit: usize) {
        self.frames.discard(limit).await;
    }
}

/// Writes messages: [`queue`](MessageWriter::queue) any number of them, then
/// [`flush`](MessageWriter::flush) them in one go.
#[derive(Debug)]
pub struct MessageWriter<W> {
    frames: FrameWriter<W>,
    codec: Codec,
}

impl<W: AsyncWrite + Unpin> MessageWriter<W> {
    /// Writes messages to `frames`, their headers in `codec`.
    pub fn new(frames: FrameWriter<W>, codec: Codec) -> Self {
        MessageWriter { frames, codec }
    }

    /// Queues one message. Its body is encoded already, so this is all or nothing: a value that cannot be
    /// encoded has failed before, and never leaves a header without its body on the wire.
    ///
    /// # Errors
    /// [`Error::FrameTooLarge`] or [`Error::Encode`], and then nothing is queued.
    pub fn queue(&mut self, header: &Header, body: Bytes) -> Result<(), Error> {
        self.frames.check(body.len())?;
        self.frames.queue_with(|out| self.codec.encode_into(header, out))?;
        self.frames.queue(body)
    }

    /// How many bytes are queued and not yet written.
    pub fn queued(&self) -> usize {
        self.frames.queued()
    }

    /// Whether there is anything for [`flush`](MessageWriter::flush) to do.
    pub fn needs_flush(&self) -> bool {
        self.frames.needs_flush()
    }

    /// Writes everything that is queued; see [`FrameWriter::flush`].
    ///
    /// # Errors
    /// [`Error::Io`] if the stream fails.
    ///
    /// # Cancel safety
    /// Cancellation-safe.
    pub async fn flush(&mut self) -> Result<(), Error> {
        self.frames.flush().await
    }

    /// One step of [`flush`](MessageWriter::flush); see [`FrameWriter::flush_step`].
    ///
    /// # Errors
    /// [`Error::Io`] if the stream fails.
    ///
    /// # Cancel safety
    /// Cancellation-safe.
    pub async fn flush_step(&mut self) -> Result<(), Error> {
        self.frames.flush_step().await
    }

    /// Writes everything that is queued, then tells the peer that nothing more will come.
    ///
    /// # Errors
    /// [`Error::Io`] if the stream fails.
    pub async fn shutdown(&mut self) -> Result<(), Error> {
        self.frames.shutdown().await
    }
}
