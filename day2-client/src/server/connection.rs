//! One connection of a server: from the handshake to the last reply.
//!
//! ```text
//!             ┌─────────────────────── one task ───────────────────────┐
//! socket ───▶ read calls ─▶ poll the handler once ─▶ ready? queue its reply ─▶ flush ───▶ socket
//!             │                    │ not ready                 ▲           │
//!             │                    └─▶ spawn it ── ends ───────┘           │
//!             └────────────────────────────────────────────────────────┘
//! ```
//!
//! One task owns everything: both halves of the stream, the queued replies and the handlers in flight. So
//! there is no lock, and when the task ends, however it ends, all of it ends.

use std::future::{poll_fn, ready};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio::task::{JoinError, yield_now};
use tokio::time::Instant;
use tokio_util::task::JoinMap;

use crate::error::{Code, Error, RemoteError, truncate};
use crate::server::handler::{Call, Handler, Outcome, Request};
use crate::wire::codec::Codec;
use crate::wire::frame::{FrameReader, FrameWriter};
use crate::wire::handshake::{self, Limits};
use crate::wire::message::{Message, MessageReader, queue_reply};

/// Replies are queued up to this many bytes before the connection stops reading and writes first. So a
/// peer that sends without reading is stopped by TCP itself, and memory stays bounded.
pub const MAX_QUEUED_BYTES: usize = 64 * 1024;

/// A table of calls with room for more than this is not kept: an idle connection would hold it to its end.
const KEPT_CALLS: usize = 64;

/// How long calls are started, of one read or of several, before replies and other connections have their turn.
const SLICE: Duration = Duration::from_millis(1);

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
        busy: Duration::ZERO,
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
    /// A task for each call in flight, by `seq`: those that were not ready at once. Dropping the map aborts them.
    handlers: JoinMap<u64, Outcome>,
    /// How long calls were started since all others had a turn.
    busy: Duration,
}

impl<Io: AsyncRead + AsyncWrite> Connection<'_, Io> {
    async fn run(&mut self) -> Result<(), Error> {
        loop {
            // First what has ended: its place is free for the next call, and its reply joins the next write.
            while let Some((seq, ended)) = self.handlers.try_join_next() {
                self.finish(seq, ended)?;
            }
            let is_cut = poll_fn(|cx| Poll::Ready(self.receive_slice(cx))).await?;
            if is_cut {
                yield_now().await;
            }
            // Not while calls are left over: more would be kept than fits into a read, and an end would cut them off.
            let is_reading = self.has_room() && !is_cut;
            // Whichever is ready first; of several, any. Each is cancellation-safe: the others lose nothing.
            tokio::select! {
                has_more = self.reader.fill(), if is_reading => if !has_more? { return Ok(()) },
                Some((seq, ended)) = self.handlers.join_next() => self.finish(seq, ended)?,
                flushed = self.writer.flush(), if self.writer.needs_flush() => flushed?,
                () = ready(()), if is_cut => {}
            }
            tokio::task::coop::consume_budget().await;
        }
    }

    /// Receives the messages that have been read. One read may hold hundreds of calls: their replies leave in
    /// one write, but after a slice of time all others have a turn first, and the result is `true`.
    fn receive_slice(&mut self, cx: &mut task::Context) -> Result<bool, Error> {
        let mut since = Instant::now();
        while self.has_room()
            && let Some(message) = self.reader.next(self.limits.max_body_len)?
        {
            self.receive(message, cx)?;
            let now = Instant::now();
            self.busy += now - since;
            since = now;
            if self.busy > SLICE {
                self.busy = Duration::ZERO;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether to read on: only while the client takes its replies.
    fn has_room(&self) -> bool {
        self.writer.queued() < MAX_QUEUED_BYTES
    }

    fn receive(&mut self, message: Message, cx: &mut task::Context) -> Result<(), Error> {
        match message {
            Message::Call { service_method, seq, metadata, body } => {
                let (codec, peer) = (self.codec, self.peer);
                self.start(Request { service_method, seq, metadata, body, codec, peer }, cx)
            }
            Message::Goaway { reason } => Err(Error::Disconnected(reason)),
            Message::Reply { .. } => Err(Error::Protocol("a client sends no replies".to_owned())),
        }
    }

    /// Starts the handler of one call, and answers at once if it is ready at once.
    fn start(&mut self, request: Request, cx: &mut task::Context) -> Result<(), Error> {
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
        let mut call = Call::new(&*self.handler, request);
        // Most handlers answer without waiting for anything, and a task costs more than such an answer.
        match Pin::new(&mut call).poll(cx) {
            Poll::Ready(result) => self.reply(seq, result),
            Poll::Pending => {
                self.handlers.spawn(seq, call);
                Ok(())
            }
        }
    }

    /// Queues the reply of a call that has ended. Its task has left the map already, in whatever way it ended.
    fn finish(&mut self, seq: u64, ended: Result<Outcome, JoinError>) -> Result<(), Error> {
        if self.handlers.is_empty() {
            self.handlers.shrink_to(KEPT_CALLS);
        }
        // Panics end in `Call`. The runtime stops a task when it shuts down.
        let stopped = |_| Err(RemoteError::new(Code::INTERNAL, "the handler was stopped"));
        self.reply(seq, ended.unwrap_or_else(stopped))
    }

    /// Queues one reply. One that is too long for the client costs its own call only.
    fn reply(&mut self, seq: u64, result: Outcome) -> Result<(), Error> {
        let mut queue = |result| queue_reply(&mut self.writer, self.codec, self.max_reply_len, seq, result);
        let Err(error) = queue(result.map(|reply| reply.body)) else { return Ok(()) };
        queue(Err(RemoteError::new(Code::RESOURCE_EXHAUSTED, format!("the reply: {error}"))))
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
