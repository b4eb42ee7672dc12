//! Messages: what client and server say to each other after the handshake.
//!
//! ```text
//! frame 1   {"call":{"service_method":"Arith.sum","seq":1,"metadata":{}}}      the header
//! frame 2   {"num1":1,"num2":2}                                                the body
//! ```
//!
//! A call and a good reply are two frames rather than one, because the two parts have two readers: the
//! connection reads the header, and only the handler knows the type of the body. The body stays bytes until
//! then, so a body that does not decode costs its own call only. Every other message is a header alone.
//!
//! The layers above see the enum, and nothing of this layout.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncRead;

use crate::error::{Error, RemoteError};
use crate::wire::codec::Codec;
use crate::wire::frame::{FrameReader, FrameWriter};
use crate::wire::write_buf::{encode_frame, frame_len};

/// The longest header frame, in bytes.
pub const MAX_HEADER_LEN: usize = 16 * 1024;

/// What a caller says about a call besides its argument: a token, a trace id. Text to text, sorted.
pub type Metadata = BTreeMap<String, String>;

/// One message. Serde writes it as the header frame; a body follows in a frame of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Message {
    /// To the server: a request for one call.
    Call {
        /// The method, as `"Service.method"` by convention.
        service_method: String,
        /// The number that the client gave to the call. It is not used twice at the same time.
        seq: u64,
        /// The caller's metadata.
        #[serde(default)]
        metadata: Metadata,
        /// The argument: one value in the connection's codec.
        #[serde(skip)]
        body: Bytes,
    },
    /// To the client: how a call ended.
    Reply {
        /// The number of the call.
        seq: u64,
        /// The value in the connection's codec, or the error. There is no body after an error.
        #[serde(rename = "error", with = "error_field", default = "error_field::none")]
        result: Result<Bytes, RemoteError>,
    },
    /// To both: the sender takes no new calls. After a broken rule it closes the connection.
    Goaway {
        /// Why.
        reason: String,
    },
}

impl Message {
    fn body(&self) -> Option<&Bytes> {
        match self {
            Message::Call { body, .. } | Message::Reply { result: Ok(body), .. } => Some(body),
            _ => None,
        }
    }

    /// Queues this message. Its body is encoded already, so this is all or nothing: a value that cannot be
    /// encoded has failed before, and never leaves a header without its body on the wire.
    ///
    /// # Errors
    /// [`Error::FrameTooLarge`] if the body is longer than `max_body_len` or the header longer than
    /// [`MAX_HEADER_LEN`]. Then nothing is queued.
    pub fn queue<W>(
        &self,
        frames: &mut FrameWriter<W>,
        codec: Codec,
        max_body_len: usize,
    ) -> Result<(), Error> {
        frame_len(self.body().map_or(0, Bytes::len), max_body_len)?;
        frames.buf.put_frame_with(MAX_HEADER_LEN, |out| codec.encode_into(self, out))?;
        self.body().map_or(Ok(()), |body| frames.queue(body.clone()))
    }
}

/// The headers of [`Message::Call`] and [`Message::Reply`], of borrowed parts: the same bytes, without a copy of each
/// part. In the order of [`Message`], as bincode writes the position.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Header<'a> {
    Call { service_method: &'a str, seq: u64, metadata: &'a Metadata },
    Reply { seq: u64, error: Option<&'a RemoteError> },
}

/// Encodes a call, both frames side by side, straight from the caller's values.
///
/// # Errors
/// [`Error::Encode`] if the argument cannot be written in this codec, [`Error::FrameTooLarge`] if a frame is
/// over its limit.
pub(crate) fn encode_call<A: Serialize + ?Sized>(
    codec: Codec,
    max_body_len: usize,
    service_method: &str,
    seq: u64,
    metadata: &Metadata,
    args: &A,
) -> Result<Vec<u8>, Error> {
    let mut frames = Vec::with_capacity(128); // most calls fit, and need no second allocation
    let header = Header::Call { service_method, seq, metadata };
    encode_frame(&mut frames, MAX_HEADER_LEN, |out| codec.encode_into(&header, out))?;
    encode_frame(&mut frames, max_body_len, |out| codec.encode_into(args, out))?;
    Ok(frames)
}

/// Queues a reply. Its body stays the `Vec` that the handler has made: to make `Bytes` of each takes 2 % of the CPU time
/// of a call (1024 in flight).
///
/// # Errors
/// As [`Message::queue`].
pub(crate) fn queue_reply<W>(
    frames: &mut FrameWriter<W>,
    codec: Codec,
    max_body_len: usize,
    seq: u64,
    result: Result<Vec<u8>, RemoteError>,
) -> Result<(), Error> {
    frame_len(result.as_ref().map_or(0, Vec::len), max_body_len)?;
    let header = Header::Reply { seq, error: result.as_ref().err() };
    frames.buf.put_frame_with(MAX_HEADER_LEN, |out| codec.encode_into(&header, out))?;
    result.map_or(Ok(()), |body| frames.buf.put_frame(body))
}

/// A reply's result as it stands in the header: `"error": null`, or the error.
mod error_field {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::error::RemoteError;

    type BodyOrError = Result<Bytes, RemoteError>;

    pub(super) fn none() -> BodyOrError {
        Ok(Bytes::new())
    }

    pub(super) fn serialize<S: Serializer>(result: &BodyOrError, serializer: S) -> Result<S::Ok, S::Error> {
        result.as_ref().err().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BodyOrError, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or_else(none, Err))
    }
}

/// Reads messages.
#[derive(Debug)]
pub struct MessageReader<R> {
    frames: FrameReader<R>,
    codec: Codec,
    /// A message whose body has not arrived yet.
    half: Option<Message>,
}

impl<R: AsyncRead + Unpin> MessageReader<R> {
    /// Reads messages from `frames`, their headers in `codec`.
    pub fn new(frames: FrameReader<R>, codec: Codec) -> Self {
        MessageReader { frames, codec, half: None }
    }

    /// Waits for the next message, with a body of at most `max_body_len` bytes. `None` means that the peer
    /// ended the stream between two messages.
    ///
    /// # Errors
    /// * [`Error::Protocol`] if a header does not decode: the borders between messages are lost then.
    /// * [`Error::FrameTooLarge`] and [`Error::Io`] as [`FrameReader::read`]. A stream that ends between a
    ///   header and its body is such an error, too.
    ///
    /// # Cancel safety
    /// Cancellation-safe: the header of a half-read message is kept for the next `read`.
    pub async fn read(&mut self, max_body_len: usize) -> Result<Option<Message>, Error> {
        loop {
            if let Some(message) = self.next(max_body_len)? {
                return Ok(Some(message));
            }
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }

    /// Reads once, hundreds of small messages perhaps. `false`: the peer has ended the stream between two
    /// messages. Cancellation-safe.
    ///
    /// # Errors
    /// As [`read`](MessageReader::read).
    pub(crate) async fn fill(&mut self) -> Result<bool, Error> {
        let has_more = self.frames.fill().await?;
        if !has_more && self.half.is_some() {
            return Err(Error::Protocol("the stream ended between a header and its body".to_owned()));
        }
        Ok(has_more)
    }

    /// The next message, if all of it has been read. Reads nothing.
    ///
    /// # Errors
    /// As [`read`](MessageReader::read).
    pub(crate) fn next(&mut self, max_body_len: usize) -> Result<Option<Message>, Error> {
        if self.half.is_none() {
            let Some(header) = self.frames.peek(MAX_HEADER_LEN)? else { return Ok(None) };
            let message: Message = self
                .codec
                .decode(header)
                .map_err(|error| Error::Protocol(format!("not a header: {error}")))?;
            self.frames.skip();
            if message.body().is_none() {
                return Ok(Some(message));
            }
            self.half = Some(message);
        }
        let Some(frame) = self.frames.next(max_body_len)? else { return Ok(None) };
        let mut message = self.half.take();
        if let Some(Message::Call { body, .. } | Message::Reply { result: Ok(body), .. }) = &mut message {
            *body = frame;
        }
        Ok(message)
    }
}
