//! Day 1: from bytes to messages, and a server that answers them.
//!
//! The order is that of the lesson: frames, codecs, messages, the handshake, one connection, the server.
//! Work through it from the top: each part stands on the one before. What goes over the wire is written
//! out by hand here, so that no test checks our encoder with our own decoder alone.

// The stages, in the order of the work. Empty lines keep rustfmt from sorting them.
mod frames;

mod codecs;

mod messages;

mod handshake;

mod connection;

mod server;

mod hardening;

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use day7_registry::wire::handshake::{accept, offer};
use day7_registry::{
    Codec, DEFAULT_MAX_FRAME_LEN, Error, FrameReader, FrameWriter, Handler, Header, Listener, MAGIC_NUMBER,
    MAX_HANDSHAKE_LEN, MAX_QUEUED_BYTES, Message, MessageReader, MessageWriter, Options, Reply, Request,
    Server,
};
use proptest::prelude::*;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use tokio::sync::{Barrier, Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::codec::{Decoder, Encoder, LengthDelimitedCodec};

use crate::support::io::{CountReads, CountWrites, OneByte, Script};
use crate::support::peer::{Peer, frame, json_error, json_message, options};
use crate::support::{
    STEP, Sum, alive_tasks, alone, arith, run, run_paused, run_threads, start, start_on, within,
};

/// A stream that delivers exactly these pieces, and is not ready before each of them. It notes the largest
/// buffer that it was given to fill: that is how much the reader had allocated.
struct Pieces {
    pieces: VecDeque<Bytes>,
    is_ready: bool,
    largest_buffer: Arc<AtomicUsize>,
}

impl Pieces {
    fn new(pieces: impl IntoIterator<Item = impl Into<Bytes>>) -> Pieces {
        let pieces = pieces.into_iter().map(Into::into).filter(|piece: &Bytes| !piece.is_empty()).collect();
        Pieces { pieces, is_ready: false, largest_buffer: Arc::default() }
    }

    /// Cuts `bytes` into pieces of these sizes, again and again.
    fn cut(bytes: &[u8], sizes: &[usize]) -> Pieces {
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
    ) -> Poll<std::io::Result<()>> {
        self.largest_buffer.fetch_max(buf.remaining(), SeqCst);
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

/// Any stream; notes the largest buffer that it was given to fill.
struct Watched<Io> {
    io: Io,
    largest_buffer: Arc<AtomicUsize>,
}

impl<Io: AsyncRead + Unpin> AsyncRead for Watched<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.largest_buffer.fetch_max(buf.remaining(), SeqCst);
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Watched<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// A listener that tells when it was asked for a connection.
struct Timed<L> {
    listener: L,
    asked: mpsc::UnboundedSender<Instant>,
}

impl<L: Listener> Listener for Timed<L> {
    type Io = L::Io;

    async fn accept(&mut self) -> std::io::Result<L::Io> {
        self.asked.send(Instant::now()).ok();
        self.listener.accept().await
    }
}

/// Sends one message when it is dropped.
struct OnDrop(mpsc::UnboundedSender<()>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.send(()).ok();
    }
}

/// Polls a future once, then drops it: what `select!` does to the branch that loses.
async fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        Poll::Ready(if let Poll::Ready(value) = future.as_mut().poll(cx) { Some(value) } else { None })
    })
    .await
}

/// Serves one connection in memory. The task's outcome is what `serve_connection` returned.
fn serve_in_memory(server: Server) -> (Peer<DuplexStream>, JoinHandle<Result<(), Error>>) {
    let (client, io) = duplex(64 * 1024);
    (Peer { io: client }, tokio::spawn(async move { server.serve_connection(io).await }))
}

/// Reads and compares as it goes, so that a wrong length fails as a difference and not as a long wait.
async fn expect_bytes<Io: AsyncRead + Unpin>(io: &mut Io, expected: &[u8]) {
    let mut got = Vec::new();
    while got.len() < expected.len() {
        let mut buf = vec![0; expected.len() - got.len()];
        let n = within("the bytes of the answer", io.read(&mut buf)).await.unwrap();
        got.extend_from_slice(&buf[..n]);
        let same = n > 0 && expected.starts_with(&got);
        assert!(same, "\n     got {}\nexpected {}", got.escape_ascii(), expected.escape_ascii());
    }
}

fn proptest_config() -> ProptestConfig {
    ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() }
}

fn is_too_large<T>(result: Result<T, Error>, expected_len: usize, expected_max: usize) -> bool {
    matches!(result, Err(Error::FrameTooLarge { len, max }) if (len, max) == (expected_len, expected_max))
}
