//! The bare floor: length-prefixed frames back and forth, one loop on each side, writes in batches. There is
//! nothing of an RPC library in it: no names, no table of calls, no tasks, no limits. Faster than this is only a
//! program that uses the system in another way.
//!
//! ```text
//! frame   u32 length | u64 seq | one byte: what is asked | two numbers, or any bytes
//! ```

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::load::Meter;
use crate::numbers::{Numbers, payload};
use crate::workload::{Kind, Workload};

const PREFIX_LEN: usize = 4;
const SEQ_LEN: usize = 8;
/// How much room a read has at least.
const READ_CHUNK: usize = 16 * 1024;
/// Bodies from this size on are not copied.
const COPY_LIMIT: usize = 4 * 1024;
/// A sum, or its reply.
const SUM: u8 = 0;

/// Reads frames.
pub(super) struct Frames<R> {
    io: R,
    buf: BytesMut,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    pub(super) fn new(io: R) -> Self {
        Frames { io, buf: BytesMut::new() }
    }

    /// The next frame that is here already: its seq and its body.
    pub(super) fn next(&mut self) -> Option<(u64, Bytes)> {
        let len = self.len()?;
        if self.buf.len() < PREFIX_LEN + len {
            return None;
        }
        self.buf.advance(PREFIX_LEN);
        let mut frame = self.buf.split_to(len).freeze();
        let seq = frame.get_u64();
        Some((seq, frame))
    }

    /// Reads once. `false`: the stream has ended.
    pub(super) async fn fill(&mut self) -> io::Result<bool> {
        let missing = self.len().map_or(0, |len| (PREFIX_LEN + len).saturating_sub(self.buf.len()));
        self.buf.reserve(missing.max(READ_CHUNK));
        Ok(self.io.read_buf(&mut self.buf).await? > 0)
    }

    fn len(&self) -> Option<usize> {
        self.buf.first_chunk::<PREFIX_LEN>().map(|prefix| u32::from_be_bytes(*prefix) as usize)
    }
}

/// Writes frames in batches.
pub(super) struct Out<W> {
    io: W,
    full: VecDeque<Bytes>,
    tail: BytesMut,
}

impl<W: AsyncWrite + Unpin> Out<W> {
    pub(super) fn new(io: W) -> Self {
        Out { io, full: VecDeque::new(), tail: BytesMut::new() }
    }

    pub(super) fn push(&mut self, seq: u64, body: Bytes) {
        self.tail.put_u32((SEQ_LEN + body.len()) as u32);
        self.tail.put_u64(seq);
        if body.len() < COPY_LIMIT {
            self.tail.put_slice(&body);
        } else {
            self.full.extend([self.tail.split().freeze(), body]);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.full.is_empty() && self.tail.is_empty()
    }

    /// Writes once. A step that is dropped has written nothing.
    pub(super) async fn step(&mut self) -> io::Result<()> {
        let Some(front) = self.full.front_mut() else {
            return self.io.write_buf(&mut self.tail).await.map(drop);
        };
        self.io.write_buf(front).await?;
        if front.is_empty() {
            self.full.pop_front();
        }
        Ok(())
    }
}

/// The body of a request for a sum.
pub(super) fn sum_request(a: i32, b: i32) -> Bytes {
    let mut body = BytesMut::with_capacity(9);
    body.put_u8(SUM);
    body.put_i32(a);
    body.put_i32(b);
    body.freeze()
}

/// The body of a reply with a sum.
pub(super) fn sum_reply(mut body: Bytes) -> Result<i32> {
    ensure!(body.len() == 5, "a reply of {} bytes is no sum", body.len());
    body.advance(1);
    Ok(body.get_i32())
}

/// The whole server: a sum of two numbers, and everything else comes back as it is.
pub(super) fn answer(mut request: Bytes) -> Bytes {
    if request.len() != 9 || request[0] != SUM {
        return request;
    }
    request.advance(1);
    let sum = super::sum(request.get_i32(), request.get_i32());
    let mut body = BytesMut::with_capacity(5);
    body.put_u8(SUM);
    body.put_i32(sum);
    body.freeze()
}

pub(crate) async fn serve(announce: impl FnOnce(SocketAddr)) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    announce(listener.local_addr()?);
    loop {
        let (io, _) = listener.accept().await?;
        io.set_nodelay(true)?;
        tokio::spawn(async move {
            let (read, write) = io.into_split();
            let (mut frames, mut out) = (Frames::new(read), Out::new(write));
            while turn(&mut frames, &mut out).await? {
                while let Some((seq, body)) = frames.next() {
                    out.push(seq, answer(body));
                }
            }
            anyhow::Ok(())
        });
    }
}

/// One read if there is something to read, else one write. Reading comes first: that makes the batches.
async fn turn<R, W>(frames: &mut Frames<R>, out: &mut Out<W>) -> io::Result<bool>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    tokio::select! {
        biased;
        more = frames.fill() => more,
        written = out.step(), if !out.is_empty() => written.map(|()| true),
    }
}

/// The client, and the load as well: there are no callers that could wait.
pub(crate) async fn drive(addr: SocketAddr, workload: Workload, meter: &Meter) -> Result<()> {
    let io = TcpStream::connect(addr).await?;
    io.set_nodelay(true)?;
    let (read, write) = io.into_split();
    let (mut frames, mut out) = (Frames::new(read), Out::new(write));
    out.push(0, sum_request(1, 2));
    while frames.next().is_none() {
        ensure!(turn(&mut frames, &mut out).await?, "the server has closed the connection");
    }
    meter.connected().await;
    let mut numbers = Numbers::new(0);
    let original = match workload.kind() {
        Kind::Sum => Bytes::new(),
        Kind::Echo(len) => Bytes::from(payload(len)),
    };
    // When each call was sent, and its sum. Replies come in the order of the requests.
    let mut waiting = VecDeque::new();
    let mut next = |seq, echo: Bytes, out: &mut Out<_>, waiting: &mut VecDeque<_>| {
        let (a, b) = numbers.next();
        let body = if echo.is_empty() { sum_request(a, b) } else { echo };
        out.push(seq, body);
        waiting.push_back((seq, Instant::now(), super::sum(a, b)));
    };
    for seq in 1..=workload.in_flight() as u64 {
        next(seq, original.clone(), &mut out, &mut waiting);
    }
    while !waiting.is_empty() {
        ensure!(turn(&mut frames, &mut out).await?, "the server has closed the connection");
        while let Some((seq, body)) = frames.next() {
            let (expected_seq, start, sum) = waiting.pop_front().context("a reply to nothing")?;
            ensure!(seq == expected_seq, "reply {seq} instead of {expected_seq}");
            meter.record(start.elapsed());
            let echo = match workload.kind() {
                Kind::Sum => {
                    let got = sum_reply(body)?;
                    ensure!(got == sum, "the sum is {got} instead of {sum}");
                    Bytes::new()
                }
                Kind::Echo(len) => {
                    ensure!(body.len() == len, "{} bytes came back instead of {len}", body.len());
                    body
                }
            };
            if !meter.is_over() {
                next(seq + workload.in_flight() as u64, echo, &mut out, &mut waiting);
            } else if echo != original {
                bail!("other bytes came back than were sent");
            }
        }
    }
    Ok(())
}
