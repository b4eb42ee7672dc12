//! The floor of a library that gives each call a table entry, a oneshot and a task of its own, and nothing else.
//!
//! ```text
//! caller ─▶ table, queue ─▶ writer ──▶ socket ──▶ reader ─▶ a task a call ─▶ queue ─▶ writer ─┐
//! caller ◀─ oneshot ◀────── reader ◀── socket ◀───────────────────────────────────────────────┘
//! ```
//!
//! A writer takes everything that is queued and writes it in one go. Whether it first yields once to the
//! scheduler, so that whoever is ready joins the batch, makes a floor of its own.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use bytes::Bytes;
use tokio::io::AsyncWrite;
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

/// The calls in flight.
type Pending = Mutex<HashMap<u64, oneshot::Sender<Bytes>>>;

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
    let pending = Arc::<Pending>::default();
    let table = Arc::clone(&pending);
    tokio::spawn(async move {
        let mut frames = Frames::new(read);
        while frames.fill().await? {
            while let Some((seq, body)) = frames.next() {
                let caller = table.lock().unwrap_or_else(PoisonError::into_inner).remove(&seq);
                caller.context("a reply to nothing")?.send(body).ok();
            }
        }
        anyhow::Ok(())
    });
    Ok(Tasks { pending, last_seq: Arc::default(), requests })
}

impl Tasks {
    async fn call(&self, body: Bytes) -> Result<Bytes> {
        let seq = self.last_seq.fetch_add(1, Ordering::Relaxed);
        let (caller, reply) = oneshot::channel();
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).insert(seq, caller);
        self.requests.send((seq, body)).await.context("the connection has ended")?;
        reply.await.context("the connection has ended")
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
