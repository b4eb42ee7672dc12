//! What waits to be written, and how all of it leaves in one write.
//!
//! ```text
//! full: [ small small small ][ one large body ]      tail: small small …
//!         └────────────────── one write ──────────────────┘
//! ```
//!
//! A write costs the system more than a small frame costs us. So small frames are copied next to each other.
//! Large ones would cost more to copy, and are handed over where they are.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::error::Error;

/// A buffer that held more than this is not kept: an idle connection would be that large to its end.
pub(super) const KEPT_LEN: usize = 64 * 1024;

/// Parts from this size on are not copied.
const COPY_LIMIT: usize = 4 * 1024;

/// Bytes on their way out, in order.
#[derive(Debug, Default)]
pub(super) struct WriteBuf {
    full: VecDeque<Bytes>,
    full_len: usize,
    /// What comes after `full`. Its first `written` bytes have left already.
    tail: Vec<u8>,
    written: usize,
}

/// Appends one frame to `out`: its length, then what `encode` writes.
///
/// # Errors
/// What `encode` returns, or [`Error::FrameTooLarge`]. After an error, `out` is as before.
pub(super) fn encode_frame(
    out: &mut Vec<u8>,
    max_len: usize,
    encode: impl FnOnce(&mut Vec<u8>) -> Result<(), Error>,
) -> Result<(), Error> {
    let start = out.len();
    out.extend([0; 4]);
    let result = encode(out).and_then(|()| {
        let payload_len = out.len() - start - 4;
        let len = frame_len(payload_len, max_len)?;
        out[start..start + 4].copy_from_slice(&len.to_be_bytes());
        Ok(())
    });
    if result.is_err() {
        out.truncate(start);
    }
    result
}

/// The length as it stands in front of a frame.
///
/// # Errors
/// [`Error::FrameTooLarge`].
pub(super) fn frame_len(len: usize, max_len: usize) -> Result<u32, Error> {
    let max = max_len.min(u32::MAX as usize);
    if len > max { Err(Error::FrameTooLarge { len, max }) } else { Ok(len as u32) }
}

impl WriteBuf {
    /// How many bytes wait.
    pub(super) fn len(&self) -> usize {
        self.full_len + self.tail.len() - self.written
    }

    /// Adds a frame with this payload.
    ///
    /// # Errors
    /// [`Error::FrameTooLarge`], and then nothing is added.
    pub(super) fn put_frame(&mut self, payload: impl AsRef<[u8]> + Into<Bytes>) -> Result<(), Error> {
        let len = frame_len(payload.as_ref().len(), usize::MAX)?;
        self.tail.extend(len.to_be_bytes());
        self.put(payload);
        Ok(())
    }

    /// Adds a frame that `encode` writes, with no copy. See [`encode_frame`].
    pub(super) fn put_frame_with(
        &mut self,
        max_len: usize,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        encode_frame(&mut self.tail, max_len, encode)
    }

    /// Adds bytes as they are.
    pub(super) fn put(&mut self, bytes: impl AsRef<[u8]> + Into<Bytes>) {
        if bytes.as_ref().len() < COPY_LIMIT {
            return self.tail.extend_from_slice(bytes.as_ref());
        }
        let tail = Bytes::from(std::mem::take(&mut self.tail)).slice(std::mem::take(&mut self.written)..);
        // No empty part: a stream that takes one buffer is given the first, and would seem to take nothing.
        for part in [tail, bytes.into()].into_iter().filter(|part| !part.is_empty()) {
            self.full_len += part.len();
            self.full.push_back(part);
        }
    }

    /// Writes once, as much as `io` takes. Cancellation-safe.
    ///
    /// # Errors
    /// Those of the stream; one that takes nothing is one, too.
    pub(super) async fn write_to<W: AsyncWrite + Unpin>(&mut self, io: &mut W) -> io::Result<()> {
        // All in one piece, as most writes are: then a plain write does what a vectored one does, for less.
        let count = if self.full.is_empty() {
            let count = io.write(&self.tail[self.written..]).await?;
            self.advance(count);
            count
        } else {
            io.write_buf(self).await?
        };
        if count == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(()) }
    }
}

impl Buf for WriteBuf {
    fn remaining(&self) -> usize {
        self.len()
    }

    fn chunk(&self) -> &[u8] {
        self.full.front().map_or(&self.tail[self.written..], |front| &front[..])
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let parts = self.full.iter().map(|part| &part[..]).chain([&self.tail[self.written..]]);
        let parts = parts.filter(|part| !part.is_empty());
        slices.iter_mut().zip(parts).map(|(slice, part)| *slice = IoSlice::new(part)).count()
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(front) = self.full.front_mut() {
            let taken = count.min(front.len());
            front.advance(taken);
            self.full_len -= taken;
            count -= taken;
            if !front.is_empty() {
                return;
            }
            self.full.pop_front();
        }
        self.written += count;
        if self.written == self.tail.len() {
            self.written = 0;
            self.tail.clear();
            if self.tail.capacity() > KEPT_LEN {
                self.tail = Vec::new();
            }
        }
    }
}
