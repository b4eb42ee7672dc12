//! Frames: where one piece of data ends and the next begins.
//!
//! A TCP stream has no borders: what one side writes in one go may arrive in ten pieces, or glued to what
//! follows. So everything on our wire is a frame:
//!
//! ```text
//! ┌──────────────┬───────────────────┐
//! │ u32, big end │ that many bytes   │   00 00 00 05  68 65 6c 6c 6f   is "hello"
//! └──────────────┴───────────────────┘
//! ```
//!
//! This is the lowest layer on the way from bytes to handler, and the only one that touches the stream.

use std::io;

use bytes::buf::Writer;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::error::Error;
use crate::wire::write_buf::Queue;

/// The default limit for the length of one frame, in bytes: 8 MiB.
pub const DEFAULT_MAX_FRAME_LEN: usize = 8 * 1024 * 1024;

const PREFIX_LEN: usize = 4;
/// How much room a read has at least. It fits hundreds of small messages, and it is what an idle
/// connection holds.
const READ_CHUNK: usize = 8 * 1024;
/// A buffer that held more than this is not kept: an idle connection would be that large for ever.
pub(crate) const KEPT_LEN: usize = 64 * 1024;
/// How much a length that the peer merely announces may allocate ahead of the bytes themselves.
const READ_AHEAD: usize = 1024 * 1024;

/// Reads frames from a stream.
#[derive(Debug)]
pub struct FrameReader<R> {
    io: R,
    /// What has arrived and was not yet returned. It outlives every call of [`read`](FrameReader::read):
    /// that makes reading cancellation-safe, and no byte behind a frame is ever lost.
    buf: BytesMut,
    max_len: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// A reader that refuses frames of more than `max_len` bytes.
    pub fn new(io: R, max_len: usize) -> Self {
        FrameReader { io, buf: BytesMut::new(), max_len }
    }

    /// Changes the limit for the frames that follow.
    pub fn set_max_len(&mut self, max_len: usize) {
        self.max_len = max_len;
    }

    /// Waits for the next frame. `None` means that the peer ended the stream between two frames.
    ///
    /// # Errors
    /// * [`Error::FrameTooLarge`] as soon as the length is known, before anything is allocated for it.
    /// * [`Error::Io`] if the stream fails, or ends inside a frame (`UnexpectedEof`).
    ///
    /// After an error the stream has lost its borders and is of no further use.
    ///
    /// # Cancel safety
    /// Cancellation-safe: a dropped `read` loses nothing, the next one goes on where it was.
    pub async fn read(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let missing = match self.parse()? {
                Parsed::Frame(frame) => return Ok(Some(frame)),
                Parsed::Missing(missing) => missing,
            };
            // A peer's word alone buys at most READ_AHEAD: beyond that, memory grows with what has arrived.
            let room = missing.min(self.buf.len().max(READ_AHEAD)).max(READ_CHUNK);
            self.buf.reserve(room);
            // Not more than that, whatever room there is: what is behind a large frame would be moved and kept.
            if self.io.read_buf(&mut (&mut self.buf).limit(room)).await? == 0 {
                return if self.buf.is_empty() {
                    Ok(None)
                } else {
                    let inside = "the stream ended inside a frame";
                    Err(io::Error::new(io::ErrorKind::UnexpectedEof, inside).into())
                };
            }
        }
    }

    /// Throws away everything that arrives until the peer ends the stream, up to `limit` bytes.
    ///
    /// Closing a socket that still has unread bytes makes TCP drop what we sent last, so whoever wants
    /// the peer to read a last word must let it finish its own sentence first.
    ///
    /// # Cancel safety
    /// Cancellation-safe.
    pub async fn discard(&mut self, limit: usize) {
        let mut discarded = 0;
        while discarded < limit {
            self.buf.clear();
            self.buf.reserve(READ_CHUNK);
            match self.io.read_buf(&mut self.buf).await {
                Ok(0) | Err(_) => return,
                Ok(n) => discarded += n,
            }
        }
    }

    fn parse(&mut self) -> Result<Parsed, Error> {
        let Some(prefix) = self.buf.first_chunk::<PREFIX_LEN>() else {
            return Ok(Parsed::Missing(PREFIX_LEN - self.buf.len()));
        };
        let len = u32::from_be_bytes(*prefix) as usize;
        if len > self.max_len {
            return Err(Error::FrameTooLarge { len, max: self.max_len });
        }
        if let Some(missing) = (PREFIX_LEN + len).checked_sub(self.buf.len()).filter(|missing| *missing > 0) {
            return Ok(Parsed::Missing(missing));
        }
        self.buf.advance(PREFIX_LEN);
        // Not a copy: the frame and the rest of the buffer share one allocation.
        let frame = self.buf.split_to(len).freeze();
        if len > KEPT_LEN {
            self.buf = BytesMut::from(&self.buf[..]); // that allocation goes with the frame
        }
        Ok(Parsed::Frame(frame))
    }
}

enum Parsed {
    Frame(Bytes),
    /// At least this many bytes must still arrive.
    Missing(usize),
}

/// Writes frames to a stream: [`queue`](FrameWriter::queue) any number of them, then
/// [`flush`](FrameWriter::flush) them in one go.
#[derive(Debug)]
pub struct FrameWriter<W> {
    io: W,
    queue: Queue,
    /// Something was queued since the stream was last flushed to its end.
    unflushed: bool,
    max_len: usize,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// A writer that refuses frames of more than `max_len` bytes.
    pub fn new(io: W, max_len: usize) -> Self {
        FrameWriter { io, queue: Queue::default(), unflushed: false, max_len: max_len.min(u32::MAX as usize) }
    }

    /// Changes the limit for the frames that follow.
    pub fn set_max_len(&mut self, max_len: usize) {
        self.max_len = max_len.min(u32::MAX as usize);
    }

    /// Queues one frame. Nothing is written before [`flush`](FrameWriter::flush).
    ///
    /// # Errors
    /// [`Error::FrameTooLarge`], and then nothing is queued.
    pub fn queue(&mut self, frame: impl Into<Bytes>) -> Result<(), Error> {
        let frame = frame.into();
        self.check(frame.len())?;
        self.queue.tail.put_u32(frame.len() as u32);
        self.queue.push(frame);
        self.unflushed = true;
        Ok(())
    }

    /// Queues one frame that `encode` writes, straight into the buffer that goes to the system.
    ///
    /// # Errors
    /// What `encode` returns, or [`Error::FrameTooLarge`]. After an error nothing is queued.
    pub fn queue_with(
        &mut self,
        encode: impl FnOnce(&mut Writer<&mut BytesMut>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let start = self.queue.tail.len();
        self.queue.tail.put_u32(0);
        let result = encode(&mut (&mut self.queue.tail).writer()).and_then(|()| {
            let len = self.queue.tail.len() - start - PREFIX_LEN;
            self.check(len)?;
            self.queue.tail[start..start + PREFIX_LEN].copy_from_slice(&(len as u32).to_be_bytes());
            Ok(())
        });
        match result {
            Ok(()) => self.unflushed = true,
            Err(_) => self.queue.tail.truncate(start),
        }
        self.queue.give_back();
        result
    }

    /// How many bytes are queued and not yet written.
    pub fn queued(&self) -> usize {
        self.queue.remaining()
    }

    /// Whether there is anything for [`flush`](FrameWriter::flush) to do.
    pub fn needs_flush(&self) -> bool {
        self.unflushed
    }

    /// Writes everything that is queued, in as few writes as the system allows.
    ///
    /// # Errors
    /// [`Error::Io`] if the stream fails.
    ///
    /// # Cancel safety
    /// Cancellation-safe: what a dropped `flush` has not yet written stays queued, in order.
    pub async fn flush(&mut self) -> Result<(), Error> {
        while self.unflushed {
            self.flush_step().await?;
        }
        Ok(())
    }

    /// One step of [`flush`](FrameWriter::flush): returns when the stream has taken at least one byte, or
    /// when everything is written. It lets a caller tell a slow peer from one that does not read at all.
    ///
    /// # Errors
    /// [`Error::Io`] if the stream fails.
    ///
    /// # Cancel safety
    /// Cancellation-safe.
    pub async fn flush_step(&mut self) -> Result<(), Error> {
        if self.queue.has_remaining() && self.queue.write_to(&mut self.io).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::WriteZero).into());
        }
        if !self.queue.has_remaining() {
            self.io.flush().await?;
            self.unflushed = false;
        }
        Ok(())
    }

    /// Writes everything that is queued, then tells the peer that nothing more will come.
    ///
    /// # Errors
    /// [`Error::Io`] if the stream fails.
    pub async fn shutdown(&mut self) -> Result<(), Error> {
        self.flush().await?;
        Ok(self.io.shutdown().await?)
    }

    pub(crate) fn check(&self, len: usize) -> Result<(), Error> {
        if len > self.max_len { Err(Error::FrameTooLarge { len, max: self.max_len }) } else { Ok(()) }
    }
}
