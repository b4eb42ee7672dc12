//! A stream that shows how it was written to.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

/// What was written to a [`Sink`].
#[derive(Debug, Default)]
pub struct Written {
    pub bytes: Vec<u8>,
    /// For each write, where in memory its parts were. A part that was not copied is where it was before.
    pub writes: Vec<Vec<usize>>,
}

/// A stream that keeps what is written to it, and takes at most so many bytes in one write.
pub struct Sink {
    pub written: Arc<Mutex<Written>>,
    /// Whether it takes several buffers in one write.
    pub is_vectored: bool,
    pub max: usize,
}

impl Sink {
    pub fn new(is_vectored: bool, max: usize) -> (Sink, Arc<Mutex<Written>>) {
        let written = Arc::<Mutex<Written>>::default();
        (Sink { written: Arc::clone(&written), is_vectored, max }, written)
    }

    fn take(&self, bufs: &[&[u8]]) -> Poll<io::Result<usize>> {
        let mut written = self.written.lock().unwrap();
        written.writes.push(bufs.iter().map(|buf| buf.as_ptr() as usize).collect());
        let before = written.bytes.len();
        for buf in bufs {
            let room = self.max - (written.bytes.len() - before);
            written.bytes.extend_from_slice(&buf[..room.min(buf.len())]);
        }
        Poll::Ready(Ok(written.bytes.len() - before))
    }
}

impl AsyncWrite for Sink {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.take(&[buf])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        assert!(self.is_vectored, "this stream said that it takes one buffer only");
        self.take(&bufs.iter().map(|buf| &buf[..]).collect::<Vec<_>>())
    }

    fn is_write_vectored(&self) -> bool {
        self.is_vectored
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
