//! The floor of a library that gives each call a table entry, a oneshot and a task of its own, and nothing else.
//!
//! ```text
//! caller ─▶ table, queue ─▶ writer ──▶ socket ──▶ reader ─▶ a task a call ─▶ queue ─▶ writer ─┐
//! caller ◀─ oneshot ◀────── reader ◀── socket ◀───────────────────────────────────────────────┘
//! ```
//!
//! A writer takes everything that is queued and writes it in one go. Whether it first yields once to the
//! scheduler, so that others that are ready join the batch, makes a floor of its own.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Error, Result, anyhow};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

use super::Caller;
use super::floor::{Frames, Out, answer, sum_reply, sum_request};

/// How many messages wait for a writer at most.
const QUEUE: usize = 1024;

type Message = (u64, Bytes);

pub(crate) async fn serve(announce: impl FnOnce(SocketAddr), yields: bool) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    announce(listener.local_addr()?);
    loop {
        let (io, _) = listener.accept().await?;
        io.set_nodelay(true)?;
        let (read, write) = io.into_split();
        let (replies, queue) = mpsc::channel(QUEUE);
        tokio::spawn(write_batches(write, queue, yields));
        tokio::spawn(async move {
            let mut frames = Frames::new(read);
            while frames.fill().await? {
                while let Some((seq, body)) = frames.next() {
                    let replies = replies.clone();
                    tokio::spawn(async move { replies.send((seq, answer(body))).await });
                }
            }
            anyhow::Ok(())
        });
    }
}

async fn write_batches(
    io: impl AsyncWrite + Unpin,
    mut queue: mpsc::Receiver<Message>,
    yields: bool,
) -> Result<()> {
    let mut out = Out::new(io);
    let mut batch = Vec::new();
    while queue.recv_many(&mut batch, QUEUE).await > 0 {
        if yields {
            tokio::task::yield_now().await;
            while let Ok(message) = queue.try_recv() {
                batch.push(message);
            }
        }
        for (seq, body) in batch.drain(..) {
            out.push(seq, body);
        }
        while !out.is_empty() {
            out.step().await?;
        }
    }
    Ok(())
}

/// The calls in flight; or, once the reader has ended and they cannot be answered, why it did.
type Table = Result<HashMap<u64, oneshot::Sender<Bytes>>, String>;

/// What callers and the reader share.
struct Pending(Mutex<Table>);

impl Pending {
    /// The table. A caller that has panicked leaves it as it should be.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why a call has no reply.
    fn reason(&self) -> Error {
        let reason = self.lock().as_ref().err().cloned();
        anyhow!(reason.unwrap_or_else(|| "the connection has ended".to_owned()))
    }
}

/// The client.
#[derive(Clone)]
pub(crate) struct Tasks {
    pending: Arc<Pending>,
    last_seq: Arc<AtomicU64>,
    requests: mpsc::Sender<Message>,
}

pub(crate) async fn connect(addr: SocketAddr, yields: bool) -> Result<Tasks> {
    let io = TcpStream::connect(addr).await?;
    io.set_nodelay(true)?;
    let (read, write) = io.into_split();
    let (requests, queue) = mpsc::channel(QUEUE);
    tokio::spawn(write_batches(write, queue, yields));
    let pending = Arc::new(Pending(Mutex::new(Ok(HashMap::new()))));
    let table = Arc::clone(&pending);
    tokio::spawn(async move {
        let reason = match deliver(read, &table).await {
            Ok(()) => "the server has closed the connection".to_owned(),
            Err(error) => format!("{error:#}"),
        };
        // Drops the senders of all calls in flight, which wakes the callers.
        *table.lock() = Err(reason);
    });
    Ok(Tasks { pending, last_seq: Arc::default(), requests })
}

/// The reader: hands replies to their callers until the server closes the connection.
async fn deliver(io: impl AsyncRead + Unpin, pending: &Pending) -> Result<()> {
    let mut frames = Frames::new(io);
    while frames.fill().await? {
        while let Some((seq, body)) = frames.next() {
            let caller = pending.lock().as_mut().ok().and_then(|calls| calls.remove(&seq));
            caller.context("a reply to nothing")?.send(body).ok();
        }
    }
    Ok(())
}

impl Tasks {
    async fn call(&self, body: Bytes) -> Result<Bytes> {
        let seq = self.last_seq.fetch_add(1, Ordering::Relaxed);
        let (caller, reply) = oneshot::channel();
        match &mut *self.pending.lock() {
            Ok(calls) => calls.insert(seq, caller),
            Err(reason) => return Err(anyhow!(reason.clone())),
        };
        self.requests.send((seq, body)).await.map_err(|_| self.pending.reason())?;
        reply.await.map_err(|_| self.pending.reason())
    }
}

impl Caller for Tasks {
    async fn sum(&self, a: i32, b: i32) -> Result<i32> {
        sum_reply(self.call(sum_request(a, b)).await?)
    }

    async fn echo(&self, payload: Vec<u8>) -> Result<Vec<u8>> {
        Ok(self.call(Bytes::from(payload)).await?.into())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// What becomes of a call whose server reads a request, answers with these bytes, and leaves; and of the next one.
    async fn complaints(answer: &'static [u8]) -> [String; 2] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut io, _) = listener.accept().await.unwrap();
            io.read_exact(&mut [0; 21]).await.unwrap();
            io.write_all(answer).await.unwrap();
        });
        let calls = async {
            let client = connect(addr, false).await.unwrap();
            [client.sum(1, 2).await, client.sum(3, 4).await].map(|sum| sum.unwrap_err().to_string())
        };
        tokio::time::timeout(Duration::from_secs(10), calls).await.unwrap()
    }

    #[tokio::test]
    async fn calls_fail_once_the_server_has_left() {
        assert_eq!(complaints(b"").await, ["the server has closed the connection"; 2]);
    }

    #[tokio::test]
    async fn calls_fail_with_what_ended_the_reader() {
        assert_eq!(complaints(b"\0\0\0\x08\0\0\0\0\0\0\0\x07").await, ["a reply to nothing"; 2]);
    }
}
