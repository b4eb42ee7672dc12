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

use std::collections::HashMap;
use std::future::{poll_fn, ready};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet, yield_now};
use tokio::time::{Instant, timeout};
use tokio_util::sync::{CancellationToken, PollSemaphore};

use crate::deadline::limit;
use crate::error::{Code, Error, RemoteError, truncate};
use crate::server::handler::{Call, Context, Handler, Reply, Request};
use crate::server::liveness::{Liveness, Over};
use crate::server::settings::{LARGE_BODY_LEN, Settings};
use crate::wire::codec::Codec;
use crate::wire::frame::{FrameReader, FrameWriter};
use crate::wire::handshake;
use crate::wire::linger::linger;
use crate::wire::message::{Message, MessageReader};

/// Replies are queued up to this many bytes before the connection stops reading and writes first. So a
/// peer that sends without reading is stopped by TCP itself, and memory stays bounded.
pub const MAX_QUEUED_BYTES: usize = 64 * 1024;

/// How long calls that were read together are started before replies and other connections have their turn.
const SLICE: Duration = Duration::from_millis(1);

const SHUTTING_DOWN: &str = "the server is shutting down";

/// What a handler's task returns: the call's number, and how it ended.
type Outcome = (u64, Result<Reply, RemoteError>);

/// Serves `io` until the client ends the stream or `shutdown` fires (`Ok`), or something breaks it.
pub(crate) async fn serve<Io>(
    handler: Arc<dyn Handler>,
    settings: &Settings,
    io: Io,
    peer: Option<SocketAddr>,
    shutdown: CancellationToken,
) -> Result<(), Error>
where
    Io: AsyncRead + AsyncWrite + Send,
{
    let (read, write) = tokio::io::split(io);
    let mut reader = FrameReader::new(read);
    let mut writer = FrameWriter::new(write);
    let accepted = async {
        tokio::select! {
            accepted = handshake::accept(&mut reader, &mut writer, &settings.limits) => accepted,
            () = shutdown.cancelled() => Err(Error::Disconnected(SHUTTING_DOWN.to_owned())),
        }
    };
    let (codec, hello) = match limit("the handshake", settings.handshake_timeout, accepted).await {
        Ok(accepted) => accepted,
        Err(error) => {
            let end = async {
                if let Error::Timeout { .. } | Error::Disconnected(_) = error {
                    handshake::refuse(&mut writer, &error.to_string()).await.ok();
                }
                linger(&mut reader, &mut writer).await;
            };
            timeout(settings.grace_period / 2, end).await.ok();
            return Err(error);
        }
    };

    let own = settings.handle_timeout;
    let mut connection = Connection {
        handler,
        settings,
        codec,
        max_reply_len: hello.max_body_len,
        handle_timeout: hello.handle_timeout_ms.map_or(own, |asked| own.min(Duration::from_millis(asked))),
        context: Arc::new(Context { codec, peer, shutdown: shutdown.clone() }),
        reader: MessageReader::new(reader, codec),
        writer,
        handlers: JoinSet::new(),
        in_flight: HashMap::new(),
        budget: PollSemaphore::new(Arc::clone(&settings.budget.permits)),
        held_budget: None,
        liveness: Liveness::new(),
    };
    let result = connection.run(&shutdown).await;
    connection.close(&result).await;
    result
}

struct Connection<'a, R, W> {
    handler: Arc<dyn Handler>,
    settings: &'a Settings,
    codec: Codec,
    /// The longest body that the client takes.
    max_reply_len: usize,
    handle_timeout: Duration,
    context: Arc<Context>,
    reader: MessageReader<R>,
    writer: FrameWriter<W>,
    /// A task for each handler that was not ready at once. Dropping the set aborts them.
    handlers: JoinSet<Outcome>,
    /// The calls in flight whose callers wait, by `seq`.
    in_flight: HashMap<u64, AbortHandle>,
    /// The server's, for large bodies.
    budget: PollSemaphore,
    /// For the body that comes next.
    held_budget: Option<OwnedSemaphorePermit>,
    liveness: Liveness,
}

impl<R, W> Connection<'_, R, W>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    async fn run(&mut self, shutdown: &CancellationToken) -> Result<(), Error> {
        let mut shutdown = pin!(shutdown.cancelled());
        loop {
            // First what has ended: its place is free for the next call, and its reply joins the next write.
            while let Some(ended) = self.handlers.try_join_next_with_id() {
                self.finish(ended)?;
            }
            let is_cut = self.receive_slice().await?;
            let wanted_budget = self.wanted_budget();
            // Not while calls are left over: more would be kept than fits into a read, and an end would cut them off.
            let is_reading = self.has_room() && wanted_budget.is_none() && !is_cut;
            let is_inside = self.reader.is_inside();
            self.liveness.is_idle = self.in_flight.is_empty() && !is_inside;
            self.liveness.set_reading(is_reading && is_inside);
            self.liveness.set_writing(self.writer.needs_flush());
            // Whichever is ready first; of several, any. Each is cancellation-safe: the others lose nothing.
            tokio::select! {
                has_more = self.reader.fill(), if is_reading => {
                    if !has_more? {
                        return Ok(());
                    }
                    self.liveness.has_read();
                }
                Some(ended) = self.handlers.join_next_with_id() => self.finish(ended)?,
                flushed = self.writer.flush_step(), if self.writer.needs_flush() => {
                    flushed?;
                    self.liveness.has_written();
                }
                permit = poll_fn(|cx| self.budget.poll_acquire_many(cx, wanted_budget.unwrap_or(1))),
                    if wanted_budget.is_some() => {
                    self.held_budget = permit;
                }
                () = &mut shutdown, if !self.liveness.is_draining() => self.drain(SHUTTING_DOWN)?,
                over = self.liveness.over(self.settings) => match over {
                    Over::Idle => self.drain("the connection was idle for too long")?,
                    Over::Drained => return Ok(()),
                    Over::Failed(error) => return Err(error),
                },
                () = ready(()), if is_cut => {}
            }
            tokio::task::coop::consume_budget().await;
        }
    }

    /// Receives the messages that have been read. One read may hold hundreds of calls: their replies leave in
    /// one write, but after a slice of time everybody else has a turn first, and the result is `true`.
    async fn receive_slice(&mut self) -> Result<bool, Error> {
        let started = Instant::now();
        while self.has_room()
            && let Some(message) = self.reader.next(self.settings.limits.max_body_len)?
        {
            self.liveness.has_message();
            self.receive(message).await?;
            if started.elapsed() > SLICE {
                yield_now().await;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether to read on: only while the client takes its replies, and only while handlers that it has cancelled
    /// go as fast as new ones come.
    fn has_room(&self) -> bool {
        self.writer.queued() < MAX_QUEUED_BYTES && self.handlers.len() <= self.settings.limits.max_in_flight
    }

    /// How much of the budget the next body needs, if it is large and has none yet.
    fn wanted_budget(&self) -> Option<u32> {
        let len = self.reader.next_body_len().filter(|len| *len > LARGE_BODY_LEN)?;
        self.held_budget.is_none().then(|| self.settings.budget.permits_for(len))
    }

    async fn receive(&mut self, message: Message) -> Result<(), Error> {
        match message {
            Message::Call { service_method, seq, metadata, body } => {
                let (connection, _budget) = (Arc::clone(&self.context), self.held_budget.take());
                self.start(Request { service_method, seq, metadata, body, connection, _budget }).await
            }
            Message::Cancel { seq } => {
                // Aborting drops the handler at its `await`.
                self.in_flight.remove(&seq).inspect(AbortHandle::abort);
                Ok(())
            }
            Message::Ping {} => Message::Pong {}.queue(&mut self.writer, self.codec, 0),
            Message::Pong {} => Ok(()),
            Message::Goaway { reason } => Err(Error::Disconnected(reason)),
            Message::Reply { .. } => Err(Error::Protocol("a client sends no replies".to_owned())),
        }
    }

    /// Starts the handler of one call, and answers at once if it is ready at once.
    async fn start(&mut self, request: Request) -> Result<(), Error> {
        let seq = request.seq;
        if self.in_flight.contains_key(&seq) {
            return Err(Error::Protocol(format!("seq {seq} is in flight already")));
        }
        if self.liveness.is_draining() {
            return self.refuse(&request, Code::UNAVAILABLE, SHUTTING_DOWN.to_owned());
        }
        let max = self.settings.limits.max_in_flight;
        // Requests that are alive count, too: a handler that was stopped may have left a job behind with one.
        let alive = Arc::strong_count(&self.context) - 2; // but for our own count and this request's
        if self.in_flight.len().max(alive) >= max {
            let busy = format!("the server is busy: {max} calls of this connection are in flight");
            return self.refuse(&request, Code::RESOURCE_EXHAUSTED, busy);
        }
        self.liveness.has_called();
        let mut call = Call::new(&*self.handler, request);
        // Most handlers answer without waiting for anything, and a task costs more than such an answer.
        match poll_fn(|cx| Poll::Ready(Pin::new(&mut call).poll(cx))).await {
            Poll::Ready(result) => self.reply(seq, result.map(|reply| reply.body)),
            Poll::Pending => {
                let after = self.handle_timeout;
                let task = self.handlers.spawn(async move { (seq, call.within(after).await) });
                self.in_flight.insert(seq, task);
                Ok(())
            }
        }
    }

    fn refuse(&mut self, request: &Request, code: Code, reason: String) -> Result<(), Error> {
        let (method, peer, seq) = (request.service_method(), request.peer(), request.seq);
        tracing::info!(?method, ?peer, seq, "refused: {reason}");
        self.reply(seq, Err(RemoteError::refusal(code, reason)))
    }

    /// Takes a call that has ended out of the table, and queues its reply.
    fn finish(&mut self, ended: Result<(Id, Outcome), JoinError>) -> Result<(), Error> {
        let (id, seq, result) = match ended {
            Ok((id, (seq, result))) => (id, Some(seq), result),
            Err(error) => {
                // Panics end in `Call`, so the runtime has stopped this task, or a cancel has.
                let of_task = self.in_flight.iter().find(|(_, task)| task.id() == error.id());
                let stopped = RemoteError::new(Code::INTERNAL, "the handler was stopped");
                (error.id(), of_task.map(|(seq, _)| *seq), Err(stopped))
            }
        };
        // Of another task, or of none: the caller has cancelled this one, and waits for no reply.
        let Some(seq) = seq.filter(|seq| self.in_flight.get(seq).is_some_and(|task| task.id() == id)) else {
            return Ok(());
        };
        self.in_flight.remove(&seq);
        self.liveness.has_called();
        self.reply(seq, result.map(|reply| reply.body))
    }

    /// Queues one reply. One that is too long for the client costs its own call only.
    fn reply(&mut self, seq: u64, result: Result<Bytes, RemoteError>) -> Result<(), Error> {
        let reply = Message::Reply { seq, result };
        let Err(error) = reply.queue(&mut self.writer, self.codec, self.max_reply_len) else { return Ok(()) };
        let error = RemoteError::new(Code::RESOURCE_EXHAUSTED, format!("the reply: {error}"));
        Message::Reply { seq, result: Err(error) }.queue(&mut self.writer, self.codec, self.max_reply_len)
    }

    /// Takes no more calls. Those in flight still get their replies.
    fn drain(&mut self, reason: &str) -> Result<(), Error> {
        self.liveness.drain();
        Message::Goaway { reason: reason.to_owned() }.queue(&mut self.writer, self.codec, 0)
    }

    /// Stops the handlers, and writes the replies that are queued. If the client broke the rules or was too slow,
    /// the last message says why this ends.
    async fn close(&mut self, result: &Result<(), Error>) {
        // The client has left, or its messages cannot be told apart any more: these calls have no caller.
        self.handlers.abort_all();
        if self.liveness.is_draining() {
            timeout(Duration::ZERO, self.writer.shutdown()).await.ok(); // it had its time
            return;
        }
        if let Err(error @ (Error::Protocol(_) | Error::FrameTooLarge { .. } | Error::Timeout { .. })) =
            result
        {
            let goaway = Message::Goaway { reason: truncate(error.to_string()) };
            goaway.queue(&mut self.writer, self.codec, 0).ok();
        }
        linger(self.reader.frames_mut(), &mut self.writer).await;
    }
}
