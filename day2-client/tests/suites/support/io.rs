//! Streams and listeners that behave badly, as real ones do.

use std::any::Any;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use day2_client::Listener;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::peer::{call, client_hello};

/// A stream that delivers exactly these pieces, and is not ready before each of them.
pub struct Pieces {
    pieces: VecDeque<Bytes>,
    is_ready: bool,
}

impl Pieces {
    pub fn new(pieces: impl IntoIterator<Item = impl Into<Bytes>>) -> Pieces {
        let pieces = pieces.into_iter().map(Into::into).filter(|piece: &Bytes| !piece.is_empty()).collect();
        Pieces { pieces, is_ready: false }
    }

    /// Cuts `bytes` into pieces of these sizes, again and again.
    pub fn cut(bytes: &[u8], sizes: &[usize]) -> Pieces {
        let mut sizes = sizes.iter().cycle();
        let mut pieces = Vec::new();
        let mut rest = Bytes::copy_from_slice(bytes);
        while !rest.is_empty() {
            let size = sizes.next().map_or(rest.len(), |size| (*size).clamp(1, rest.len()));
            pieces.push(rest.split_to(size));
        }
        Pieces::new(pieces)
    }
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.is_ready = !self.is_ready;
        if self.is_ready {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(piece) = self.pieces.front_mut() {
            buf.put_slice(&piece.split_to(piece.len().min(buf.remaining())));
            if piece.is_empty() {
                self.pieces.pop_front();
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Any stream, and what a test wants to know of it.
pub struct Watched<Io> {
    io: Io,
    seen: Arc<Seen>,
    /// The most that one read or one write moves, in bytes.
    most: usize,
    /// What is dropped with the stream.
    _held: Box<dyn Any + Send>,
}

/// What a [`Watched`] stream has seen so far.
#[derive(Debug, Default)]
pub struct Seen {
    /// The reads that it has answered.
    pub reads: AtomicUsize,
    /// The writes that have reached it, however many buffers each of them had.
    pub writes: AtomicUsize,
    /// The largest buffer that it was given to fill: that is how much the reader had allocated.
    pub largest_buffer: AtomicUsize,
}

impl<Io> Watched<Io> {
    pub fn new(io: Io) -> (Watched<Io>, Arc<Seen>) {
        let watched = Watched::holding(io, ());
        let seen = Arc::clone(&watched.seen);
        (watched, seen)
    }

    /// Moves one byte at a time: the worst that a network may do to a stream.
    pub fn one_byte(io: Io) -> Watched<Io> {
        Watched { most: 1, ..Watched::holding(io, ()) }
    }

    /// Drops `held` when it is dropped itself.
    pub fn holding(io: Io, held: impl Send + 'static) -> Watched<Io> {
        Watched { io, seen: Arc::default(), most: usize::MAX, _held: Box::new(held) }
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Watched<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.seen.largest_buffer.fetch_max(buf.remaining(), Ordering::SeqCst);
        if self.most < buf.remaining() {
            let mut few = vec![0; self.most];
            let mut few = ReadBuf::new(&mut few);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut few))?;
            buf.put_slice(few.filled());
        } else {
            ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        }
        self.seen.reads.fetch_add(1, Ordering::SeqCst);
        Poll::Ready(Ok(()))
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Watched<Io> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let few = &buf[..buf.len().min(self.most)];
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, few))?;
        self.seen.writes.fetch_add(1, Ordering::SeqCst);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bufs))?;
        self.seen.writes.fetch_add(1, Ordering::SeqCst);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored() && self.most == usize::MAX
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// A listener that plays back a list of results, then waits without end. Nothing is known about its peers.
pub struct Script<Io>(pub VecDeque<io::Result<Io>>);

impl<Io: AsyncRead + AsyncWrite + Send + 'static> Listener for Script<Io> {
    type Io = Io;

    async fn accept(&mut self) -> io::Result<(Io, Option<SocketAddr>)> {
        match self.0.pop_front() {
            Some(result) => result.map(|io| (io, None)),
            None => std::future::pending().await,
        }
    }
}

/// A client that sends calls as fast as they are read, without a pause: a stream that is always ready. It never
/// ends, and takes all that is written to it.
pub struct Flood {
    calls: u64,
    unread: Vec<u8>,
    unparsed: Vec<u8>,
    seen: Arc<FloodSeen>,
}

/// What a [`Flood`] has seen so far.
#[derive(Debug, Default)]
pub struct FloodSeen {
    /// How many calls the server has read.
    pub sent: AtomicUsize,
    /// How many calls the server had read when it wrote the first reply.
    pub sent_before_first_reply: AtomicUsize,
    /// How many calls are answered.
    pub replies: AtomicUsize,
    /// How many of them were refused.
    pub refused: AtomicUsize,
}

impl Flood {
    /// Sends so many calls of `Flood.call`, numbered from 1, with `null` as their argument.
    pub fn new(calls: u64) -> (Flood, Arc<FloodSeen>) {
        let seen = Arc::<FloodSeen>::default();
        let unread = client_hello(&["application/json"]);
        (Flood { calls, unread, unparsed: Vec::new(), seen: Arc::clone(&seen) }, seen)
    }
}

impl AsyncRead for Flood {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.unread.len() < buf.remaining() {
            let seq = self.seen.sent.load(Ordering::SeqCst) as u64 + 1;
            if seq > self.calls {
                break;
            }
            self.unread.extend(call("Flood.call", seq, Value::Null));
            self.seen.sent.fetch_add(1, Ordering::SeqCst);
        }
        if self.unread.is_empty() {
            return Poll::Pending; // without end
        }
        let len = self.unread.len().min(buf.remaining());
        buf.put_slice(&self.unread[..len]);
        self.unread.drain(..len);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Flood {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.unparsed.extend_from_slice(buf);
        let mut parsed = 0;
        while let Some(len) = self.unparsed[parsed..].first_chunk() {
            let end = parsed + 4 + u32::from_be_bytes(*len) as usize;
            let Some(frame) = self.unparsed.get(parsed + 4..end) else { break };
            let frame = String::from_utf8_lossy(frame);
            if frame.starts_with(r#"{"reply""#) {
                if self.seen.replies.fetch_add(1, Ordering::SeqCst) == 0 {
                    let sent = self.seen.sent.load(Ordering::SeqCst);
                    self.seen.sent_before_first_reply.store(sent, Ordering::SeqCst);
                }
                let is_refused = frame.contains(r#""refused":true"#);
                self.seen.refused.fetch_add(usize::from(is_refused), Ordering::SeqCst);
            }
            parsed = end;
        }
        self.unparsed.drain(..parsed);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
