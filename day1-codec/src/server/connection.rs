//! One connection of a server: from the handshake to the last reply.
//!
//! ```text
//!             ┌───────────────── one task ─────────────────┐
//! socket ───▶ read a call ─▶ spawn its handler             │
//!             │                   │ ends                   │
//!             │                   ▼                        │
//!             │              queue its reply ─▶ flush ─────┼──▶ socket
//!             └────────────────────────────────────────────┘
//! ```
//!
//! One task owns everything: both halves of the stream, the queued replies and the handlers in flight. So
//! there is no lock, and when the task ends, however it ends, all of it ends.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{AbortHandle, JoinError, JoinSet};

use crate::error::{Code, Error, RemoteError, truncate};
use crate::server::handler::{Handler, Reply, Request, answer};
use crate::wire::codec::Codec;
use crate::wire::frame::{FrameReader, FrameWriter};
use crate::wire::handshake::{self, Limits};
use crate::wire::message::{Message, MessageReader};

/// Replies are queued up to this many bytes before the connection stops reading and writes first. So a
/// peer that sends without reading is stopped by TCP itself, and memory stays bounded.
pub const MAX_QUEUED_BYTES: usize = 64 * 1024;

/// What a handler's task returns: the call's number, and how it ended.
type Outcome = (u64, Result<Reply, RemoteError>);

/// Serves `io` until the client ends the stream (`Ok`), or something breaks it.
pub(super) async fn serve<Io>(
    handler: Arc<dyn Handler>,
    limits: &Limits,
    io: Io,
    peer: Option<SocketAddr>,
) -> Result<(), Error>
where
    Io: AsyncRead + AsyncWrite + Send,
{
    let (read, write) = tokio::io::split(io);
    let mut reader = FrameReader::new(read);
    let mut writer = FrameWriter::new(write);
    let (codec, hello) = match handshake::accept(&mut reader, &mut writer, limits).await {
        Ok(accepted) => accepted,
        Err(error) => {
            writer.shutdown().await.ok();
            return Err(error);
        }
    };
    let mut connection = Connection {
        handler,
        limits,
        codec,
        peer,
        max_reply_len: hello.max_body_len,
        reader: MessageReader::new(reader, codec),
        writer,
        handlers: JoinSet::new(),
        in_flight: HashMap::new(),
    };
    let result = connection.run().await;
    connection.close(&result).await;
    result
}

struct Connection<'a, R, W> {
    handler: Arc<dyn Handler>,
    limits: &'a Limits,
    codec: Codec,
    peer: Option<SocketAddr>,
    /// The longest body that the client takes.
    max_reply_len: usize,
    reader: MessageReader<R>,
    writer: FrameWriter<W>,
    /// A task for each call in flight. Dropping the set aborts them.
    handlers: JoinSet<Outcome>,
    /// The calls in flight, by `seq`.
    in_flight: HashMap<u64, AbortHandle>,
}

impl<R, W> Connection<'_, R, W>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    async fn run(&mut self) -> Result<(), Error> {
        loop {
            // First all that has ended: its place is free for the next call, and its reply joins the next write.
            while let Some(ended) = self.handlers.try_join_next() {
                self.finish(ended)?;
            }
            // Whichever is ready first; of several, the uppermost. The next call comes last: handlers may have ended
            // while this waited. It cannot starve, as the two above it are soon done: so many handlers can end,
            // and so many bytes are queued. Each is cancellation-safe: the others lose nothing.
            tokio::select! {
                biased;
                Some(ended) = self.handlers.join_next() => self.finish(ended)?,
                flushed = self.writer.flush(), if self.writer.needs_flush() => flushed?,
                message = self.reader.read(self.limits.max_body_len), if self.has_room() => match message? {
                    Some(message) => self.receive(message)?,
                    None => return Ok(()),
                },
            }
            // One read may hold hundreds of calls. After some of them this lets all others have a turn.
            tokio::task::coop::consume_budget().await;
        }
    }

    /// Whether to read on: only while the client takes its replies.
    fn has_room(&self) -> bool {
        self.writer.queued() < MAX_QUEUED_BYTES
    }

    fn receive(&mut self, message: Message) -> Result<(), Error> {
        match message {
            Message::Call { service_method, seq, metadata, body } => {
                let (codec, peer) = (self.codec, self.peer);
                self.start(Request { service_method, seq, metadata, body, codec, peer })
            }
            Message::Goaway { reason } => Err(Error::Disconnected(reason)),
            Message::Reply { .. } => Err(Error::Protocol("a client sends no replies".to_owned())),
        }
    }

    /// Starts the handler of one call, in a task of its own.
    fn start(&mut self, request: Request) -> Result<(), Error> {
        let seq = request.seq;
        if self.in_flight.contains_key(&seq) {
            return Err(Error::Protocol(format!("seq {seq} is in flight already")));
        }
        let max = self.limits.max_in_flight;
        if self.in_flight.len() >= max {
            let busy = format!("the server is busy: {max} calls of this connection are in flight");
            tracing::info!(method = ?request.service_method, peer = ?self.peer, seq, "refused: {busy}");
            return self.reply(seq, Err(RemoteError::refusal(Code::RESOURCE_EXHAUSTED, busy)));
        }
        let handler = Arc::clone(&self.handler);
        let task = self.handlers.spawn(async move { (seq, answer(handler, request).await) });
        self.in_flight.insert(seq, task);
        Ok(())
    }

    /// Takes a call that has ended out of the table, and queues its reply.
    fn finish(&mut self, ended: Result<Outcome, JoinError>) -> Result<(), Error> {
        let (seq, result) = match ended {
            Ok(outcome) => outcome,
            Err(error) => {
                let Some((&seq, _)) = self.in_flight.iter().find(|(_, task)| task.id() == error.id()) else {
                    return Ok(());
                };
                tracing::error!(peer = ?self.peer, seq, %error, "the handler panicked");
                (seq, Err(RemoteError::new(Code::INTERNAL, "the handler panicked")))
            }
        };
        self.in_flight.remove(&seq);
        self.reply(seq, result.map(|reply| reply.body))
    }

    /// Queues one reply. One that is too long for the client costs its own call only.
    fn reply(&mut self, seq: u64, result: Result<Bytes, RemoteError>) -> Result<(), Error> {
        let reply = Message::Reply { seq, result };
        let Err(error) = reply.queue(&mut self.writer, self.codec, self.max_reply_len) else { return Ok(()) };
        let error = RemoteError::new(Code::RESOURCE_EXHAUSTED, format!("the reply: {error}"));
        Message::Reply { seq, result: Err(error) }.queue(&mut self.writer, self.codec, self.max_reply_len)
    }

    /// Stops the handlers, and writes the replies that are queued. If the client broke the rules, the last
    /// message says why this ends.
    async fn close(&mut self, result: &Result<(), Error>) {
        // The client has left, or its messages cannot be told apart any more: these calls have no caller.
        self.handlers.abort_all();
        if let Err(Error::Protocol(_) | Error::FrameTooLarge { .. }) = result {
            let reason = result.as_ref().err().map(ToString::to_string).unwrap_or_default();
            let goaway = Message::Goaway { reason: truncate(reason) };
            goaway.queue(&mut self.writer, self.codec, 0).ok();
        }
        self.writer.shutdown().await.ok();
    }
}
