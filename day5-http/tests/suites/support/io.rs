//! Streams and listeners that behave badly, as real ones do.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use day5_http::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Reads and writes one byte at a time: the worst that a network may do to a stream.
pub struct OneByte<Io>(pub Io);

impl<Io: AsyncRead + Unpin> AsyncRead for OneByte<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut byte = [0];
        let mut one = ReadBuf::new(&mut byte);
        ready!(Pin::new(&mut self.0).poll_read(cx, &mut one))?;
        buf.put_slice(one.filled());
        Poll::Ready(Ok(()))
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for OneByte<Io> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, &buf[..buf.len().min(1)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Counts the reads that the stream answers.
pub struct CountReads<Io> {
    io: Io,
    reads: Arc<AtomicUsize>,
}

impl<Io> CountReads<Io> {
    pub fn new(io: Io) -> (Self, Arc<AtomicUsize>) {
        let reads = Arc::new(AtomicUsize::new(0));
        (CountReads { io, reads: Arc::clone(&reads) }, reads)
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for CountReads<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        self.reads.fetch_add(1, Ordering::SeqCst);
        Poll::Ready(Ok(()))
    }
}

/// Counts the writes that reach the stream, however many buffers each of them has.
pub struct CountWrites<Io> {
    pub io: Io,
    pub writes: Arc<AtomicUsize>,
}

impl<Io> CountWrites<Io> {
    pub fn new(io: Io) -> (Self, Arc<AtomicUsize>) {
        let writes = Arc::new(AtomicUsize::new(0));
        (CountWrites { io, writes: Arc::clone(&writes) }, writes)
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for CountWrites<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for CountWrites<Io> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf))?;
        self.writes.fetch_add(1, Ordering::SeqCst);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bufs))?;
        self.writes.fetch_add(1, Ordering::SeqCst);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// A listener that plays back a list of results, then waits for ever.
pub struct Script<Io>(pub VecDeque<io::Result<Io>>);

impl<Io: AsyncRead + AsyncWrite + Send + 'static> Listener for Script<Io> {
    type Io = Io;

    async fn accept(&mut self) -> io::Result<Io> {
        match self.0.pop_front() {
            Some(result) => result,
            None => std::future::pending().await,
        }
    }
}
