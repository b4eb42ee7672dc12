//! Frames: where one piece of data ends and the next begins.
//!
//! A TCP stream has no borders: what one side writes in one go may arrive in ten pieces, or glued to what
//! follows. So everything on the wire is a frame:
//!
//! ```text
//! ┌─────────────────┬───────────────────┐
//! │ u32, big-endian │ that many bytes   │   00 00 00 05  68 65 6c 6c 6f   is "hello"
//! └─────────────────┴───────────────────┘
//! ```
//!
//! This is the lowest layer on the way from bytes to handler, and the only one that touches the stream.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::error::Error;
use crate::wire::write_buf::{KEPT_LEN, WriteBuf};

const PREFIX_LEN: usize = 4;
/// How much room a read has at least: little for an idle connection, which keeps it while it waits …
const SMALL_READ: usize = 512;
/// … and more once a read has filled that. It fits hundreds of small messages.
const LARGE_READ: usize = 8 * 1024;
/// How much a length that the peer merely announces may allocate ahead of the bytes themselves.
const READ_AHEAD: usize = 1024 * 1024;

/// Reads frames from a stream.
#[derive(Debug)]
pub struct FrameReader<R> {
    io: R,
    /// What has arrived and was not yet returned. It outlives every call of [`read`](FrameReader::read):
    /// that makes reading cancellation-safe, and no byte behind a frame is ever lost.
    buf: BytesMut,
    /// How many bytes the last read took.
    last_read: usize,
    /// How many of the bytes that come next are thrown away.
    to_skip: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// A reader of this stream.
    pub fn new(io: R) -> Self {
        FrameReader { io, buf: BytesMut::new(), last_read: 0, to_skip: 0 }
    }

    /// Waits for the next frame, of at most `max_len` bytes. `None` means that the peer ended the stream
    /// between two frames.
    ///
    /// # Errors
    /// * [`Error::FrameTooLarge`] as soon as the length is known, before anything is allocated for it.
    /// * [`Error::Io`] if the stream fails, or ends inside a frame (`UnexpectedEof`).
    ///
    /// After an error the stream has lost its borders and is of no further use.
    ///
    /// # Cancel safety
    /// Cancellation-safe: a dropped `read` loses nothing, the next one goes on where it was.
    pub async fn read(&mut self, max_len: usize) -> Result<Option<Bytes>, Error> {
        loop {
            if let Some(frame) = self.next(max_len)? {
                return Ok(Some(frame));
            }
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }

    /// The first frame where it lies in the buffer, if all of it is there. Reads nothing.
    pub(super) fn peek(&mut self, max_len: usize) -> Result<Option<&[u8]>, Error> {
        self.drop_skipped();
        let Some(len) = self.announced_len() else { return Ok(None) };
        if len > max_len {
            return Err(Error::FrameTooLarge { len, max: max_len });
        }
        Ok(self.buf.get(PREFIX_LEN..PREFIX_LEN + len))
    }

    /// Takes the first frame out of the buffer, if all of it is there. Reads nothing.
    pub(super) fn next(&mut self, max_len: usize) -> Result<Option<Bytes>, Error> {
        let Some(len) = self.peek(max_len)?.map(<[u8]>::len) else { return Ok(None) };
        self.buf.advance(PREFIX_LEN);
        // Not a copy: the frame and the rest of the buffer share one allocation.
        let frame = self.buf.split_to(len).freeze();
        if len > KEPT_LEN {
            self.buf = BytesMut::from(&self.buf[..]); // that allocation goes with the frame
        }
        Ok(Some(frame))
    }

    /// Reads once. `false`: the peer has ended the stream between two frames. Cancellation-safe.
    pub(super) async fn fill(&mut self) -> Result<bool, Error> {
        let frame_len = PREFIX_LEN + self.announced_len().unwrap_or(0);
        let missing = frame_len.saturating_sub(self.buf.len());
        // A peer's word alone buys at most READ_AHEAD: beyond that, memory grows with what has arrived.
        let at_least = if self.last_read < SMALL_READ { SMALL_READ } else { LARGE_READ };
        let room = missing.min(self.buf.len().max(READ_AHEAD)).max(at_least);
        if self.buf.is_empty() && self.buf.capacity() > room {
            self.buf = BytesMut::new(); // an idle connection does not keep what a busy one needed
        }
        self.buf.reserve(room);
        // Not more than that, whatever room there is: what is behind a large frame would be moved and kept.
        self.last_read = self.io.read_buf(&mut (&mut self.buf).limit(room)).await?;
        if self.last_read > 0 {
            return Ok(true);
        }
        if self.is_empty() { Ok(false) } else { Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()) }
    }

    /// Whether nothing has arrived that was not yet returned.
    pub(super) fn is_empty(&self) -> bool {
        self.buf.is_empty() && self.to_skip == 0
    }

    /// Throws away the next frame, whose length is known, as it arrives.
    pub(super) fn skip(&mut self) {
        self.to_skip = PREFIX_LEN + self.announced_len().unwrap_or(0);
        self.drop_skipped();
    }

    fn drop_skipped(&mut self) {
        let skipped = self.to_skip.min(self.buf.len());
        self.buf.advance(skipped);
        self.to_skip -= skipped;
    }

    /// Reads and throws away what still arrives, until the peer ends the stream or `max` bytes have come.
    pub(super) async fn discard(&mut self, max: usize) {
        let mut discarded = 0;
        while discarded < max {
            self.buf.clear();
            self.buf.reserve(LARGE_READ);
            match self.io.read_buf(&mut self.buf).await {
                Ok(0) | Err(_) => return,
                Ok(count) => discarded += count,
            }
        }
    }

    /// The length of the next frame, if it has been read.
    pub(super) fn announced_len(&self) -> Option<usize> {
        if self.to_skip > 0 {
            return None;
        }
        self.buf.first_chunk::<PREFIX_LEN>().map(|prefix| u32::from_be_bytes(*prefix) as usize)
    }
}

/// Writes frames to a stream: [`queue`](FrameWriter::queue) any number of them, then
/// [`flush`](FrameWriter::flush) them in one go.
#[derive(Debug)]
pub struct FrameWriter<W> {
    io: W,
    /// What is queued and not yet written. It outlives every call of `flush`, as the reader's buffer does.
    pub(super) buf: WriteBuf,
    /// Something may have been written to `io` and not yet flushed.
    unflushed: bool,
}

impl<W> FrameWriter<W> {
    /// A writer to this stream.
    pub fn new(io: W) -> Self {
        FrameWriter { io, buf: WriteBuf::default(), unflushed: false }
    }

    /// Queues one frame. Nothing is written before [`flush`](FrameWriter::flush).
    ///
    /// # Errors
    /// [`Error::FrameTooLarge`] if the length does not fit into four bytes, and then nothing is queued.
    pub fn queue(&mut self, payload: Bytes) -> Result<(), Error> {
        self.buf.put_frame(payload)
    }

    /// Queues frames that are encoded already, their lengths included.
    pub(crate) fn queue_encoded(&mut self, frames: Vec<u8>) {
        self.buf.put(frames);
    }

    /// How many bytes are queued and not yet written.
    pub fn queued(&self) -> usize {
        self.buf.len()
    }

    /// Whether there is anything for [`flush`](FrameWriter::flush) to do.
    pub fn needs_flush(&self) -> bool {
        self.unflushed || self.buf.len() > 0
    }
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// Writes everything that is queued, in as few writes as the system allows.
    ///
    /// # Errors
    /// [`Error::Io`] if the stream fails.
    ///
    /// # Cancel safety
    /// Cancellation-safe: what a dropped `flush` has not yet written stays queued, in order.
    pub async fn flush(&mut self) -> Result<(), Error> {
        while self.needs_flush() {
            self.flush_step().await?;
        }
        Ok(())
    }

    /// One step of [`flush`](FrameWriter::flush): returns when the stream has taken something, or when
    /// everything is written. It tells a slow peer from one that does not read at all.
    ///
    /// # Errors
    /// [`Error::Io`] if the stream fails.
    ///
    /// # Cancel safety
    /// Cancellation-safe.
    pub async fn flush_step(&mut self) -> Result<(), Error> {
        if self.buf.len() > 0 {
            self.unflushed = true;
            self.buf.write_to(&mut self.io).await?;
        }
        if self.buf.len() == 0 {
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
}
