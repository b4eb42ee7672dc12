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

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio::task::JoinError;
use tokio_util::task::JoinMap;

use crate::error::{Code, Error, RemoteError, truncate};
use crate::server::handler::{Handler, Outcome, Request, answer};
use crate::wire::codec::Codec;
use crate::wire::frame::{FrameReader, FrameWriter};
use crate::wire::handshake::{self, Limits};
use crate::wire::message::{Message, MessageReader};

/// Replies are queued up to this many bytes before the connection stops reading and writes first. So a
/// peer that sends without reading is stopped by TCP itself, and memory stays bounded.
pub const MAX_QUEUED_BYTES: usize = 64 * 1024;

/// Serves `io` until the client ends the stream (`Ok`), or something breaks it.
pub(super) async fn serve<Io: AsyncRead + AsyncWrite + Send>(
    handler: Arc<dyn Handler>,
    limits: &Limits,
    io: Io,
    peer: Option<SocketAddr>,
) -> Result<(), Error> {
    let (read, write) = tokio::io::split(io);
    let mut reader = FrameReader::new(read);
    let mut writer = FrameWriter::new(write);
    let (codec, hello) = handshake::accept(&mut reader, &mut writer, limits).await?;
    let mut connection = Connection {
        handler,
        limits,
        codec,
        peer,
        max_reply_len: hello.max_body_len,
        reader: MessageReader::new(reader, codec),
        writer,
        handlers: JoinMap::new(),
    };
    let result = connection.run().await;
    connection.close(&result).await;
    result
}

struct Connection<'a, Io> {
    handler: Arc<dyn Handler>,
    limits: &'a Limits,
    codec: Codec,
    peer: Option<SocketAddr>,
    /// The longest body that the client takes.
    max_reply_len: usize,
    reader: MessageReader<ReadHalf<Io>>,
    writer: FrameWriter<WriteHalf<Io>>,
    /// A task for each call in flight, by `seq`. Dropping the map aborts them.
    handlers: JoinMap<u64, Outcome>,
}

impl<Io: AsyncRead + AsyncWrite> Connection<'_, Io> {
    async fn run(&mut self) -> Result<(), Error> {
        loop {
            // Read on only while the client takes its replies.
            let has_room = self.writer.queued() < MAX_QUEUED_BYTES;
            // Whichever is ready first; of several, the uppermost. First all that has ended: its place is free for the
            // next call, and its reply joins the next write. The next call comes last. It cannot starve, as the two
            // above it are soon done: so many handlers can end, and so many bytes are queued. Each is
            // cancellation-safe: the others lose nothing.
            tokio::select! {
                biased;
                Some((seq, ended)) = self.handlers.join_next() => self.finish(seq, ended)?,
                flushed = self.writer.flush(), if self.writer.needs_flush() => flushed?,
                message = self.reader.read(self.limits.max_body_len), if has_room => match message? {
                    Some(message) => self.receive(message)?,
                    None => return Ok(()),
                },
            }
            // One read may hold hundreds of calls. After some of them this lets all others have a turn.
            tokio::task::coop::consume_budget().await;
        }
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
        if self.handlers.contains_key(&seq) {
            return Err(Error::Protocol(format!("seq {seq} is in flight already")));
        }
        let max = self.limits.max_in_flight;
        if self.handlers.len() >= max {
            let busy = format!("the server is busy: {max} calls of this connection are in flight");
            tracing::info!(method = ?request.service_method, peer = ?self.peer, seq, "refused: {busy}");
            return self.reply(seq, Err(RemoteError::refusal(Code::RESOURCE_EXHAUSTED, busy)));
        }
        self.handlers.spawn(seq, answer(Arc::clone(&self.handler), request));
        Ok(())
    }

    /// Queues the reply of a call that has ended. Its task has left the map already, in whatever way it ended.
    fn finish(&mut self, seq: u64, ended: Result<Outcome, JoinError>) -> Result<(), Error> {
        let result = ended.unwrap_or_else(|error| {
            tracing::error!(peer = ?self.peer, seq, %error, "the handler panicked");
            Err(RemoteError::new(Code::INTERNAL, "the handler panicked"))
        });
        self.reply(seq, result)
    }

    /// Queues one reply. One that is too long for the client costs its own call only.
    fn reply(&mut self, seq: u64, result: Outcome) -> Result<(), Error> {
        let reply = Message::Reply { seq, result: result.map(|reply| reply.body.into()) };
        let Err(error) = reply.queue(&mut self.writer, self.codec, self.max_reply_len) else { return Ok(()) };
        let error = RemoteError::new(Code::RESOURCE_EXHAUSTED, format!("the reply: {error}"));
        Message::Reply { seq, result: Err(error) }.queue(&mut self.writer, self.codec, self.max_reply_len)
    }

    /// Stops the handlers, and writes the replies that are queued. If the client broke the rules, the last
    /// message says why this ends.
    async fn close(&mut self, result: &Result<(), Error>) {
        // The client has left, or its messages cannot be told apart any more: these calls have no caller.
        self.handlers.abort_all();
        if let Err(error @ (Error::Protocol(_) | Error::FrameTooLarge { .. })) = result {
            let goaway = Message::Goaway { reason: truncate(error.to_string()) };
            goaway.queue(&mut self.writer, self.codec, 0).ok();
        }
        self.writer.shutdown().await.ok();
    }
}
