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
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio::task::yield_now;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::deadline::limit;
use crate::error::{Code, Error, RemoteError, truncate};
use crate::server::budget::Share;
use crate::server::handler::{Call, Context, Handler, Outcome, Request};
use crate::server::handlers::{Ended, Handlers};
use crate::server::liveness::{Liveness, Over};
use crate::server::settings::Settings;
use crate::wire::codec::Codec;
use crate::wire::frame::{FrameReader, FrameWriter};
use crate::wire::handshake::{self, ClientHello};
use crate::wire::linger::linger;
use crate::wire::message::{Message, MessageReader, queue_reply};

/// Replies are queued up to this many bytes before the connection stops reading and writes first. So a
/// peer that sends without reading is stopped by TCP itself, and memory stays bounded.
pub const MAX_QUEUED_BYTES: usize = 64 * 1024;

/// How long calls are started, of one read or of several, before replies and other connections have their turn.
const SLICE: Duration = Duration::from_millis(1);

const SHUTTING_DOWN: &str = "the server is shutting down";
const NO_MORE_CALLS: &str = "this connection takes no more calls";
const NO_REPLIES: &str = "a client sends no replies";

/// Serves `io` until the client ends the stream or `shutdown` fires (`Ok`), or something breaks it.
pub(crate) async fn serve<Io: AsyncRead + AsyncWrite + Send>(
    handler: Arc<dyn Handler>,
    settings: &Settings,
    io: Io,
    peer: Option<SocketAddr>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let (read, write) = tokio::io::split(io);
    let mut reader = FrameReader::new(read);
    let mut writer = FrameWriter::new(write);
    let accepted = async {
        tokio::select! {
            accepted = handshake::accept(&mut reader, &mut writer, &settings.limits) => accepted,
            () = shutdown.cancelled() => Err(Error::Disconnected(SHUTTING_DOWN.to_owned())),
        }
    };
    // Boxed, as is the end: a connection at work keeps no room for either. Both would be 0.5 KiB.
    let accepted = Box::pin(limit("the handshake", settings.handshake_timeout, accepted)).await;
    let (codec, ClientHello { max_body_len: max_reply_len, handle_timeout_ms, .. }) = match accepted {
        Ok(accepted) => accepted,
        Err(error) => {
            if let Error::Timeout { .. } | Error::Disconnected(_) = error {
                handshake::refuse(&mut writer, &error.to_string());
            }
            Box::pin(linger(&mut reader, &mut writer, settings.end_of_lingering(&shutdown))).await;
            return Err(error);
        }
    };

    let asked = handle_timeout_ms.map_or(Duration::MAX, Duration::from_millis);
    let mut connection = Connection {
        handler,
        settings,
        codec,
        max_reply_len,
        handle_timeout: settings.handle_timeout.min(asked),
        context: Arc::new(Context { codec, peer, shutdown: shutdown.clone() }),
        reader: MessageReader::new(reader, codec),
        writer,
        handlers: Handlers::default(),
        budget: Share::new(&settings.budget),
        busy: Duration::ZERO,
        now: Instant::now(),
        liveness: Liveness::new(),
    };
    let result = connection.run(&shutdown).await;
    Box::pin(connection.close(&result)).await;
    result
}

struct Connection<'a, Io> {
    handler: Arc<dyn Handler>,
    settings: &'a Settings,
    codec: Codec,
    /// The longest body that the client takes.
    max_reply_len: usize,
    handle_timeout: Duration,
    context: Arc<Context>,
    reader: MessageReader<ReadHalf<Io>>,
    writer: FrameWriter<WriteHalf<Io>>,
    /// Those that were not ready at once. Dropping them stops them.
    handlers: Handlers,
    /// Of the server's budget, for large bodies.
    budget: Share,
    /// How long calls were started since all others had a turn.
    busy: Duration,
    /// The time, as of the last message.
    now: Instant,
    liveness: Liveness,
}

impl<Io: AsyncRead + AsyncWrite> Connection<'_, Io> {
    async fn run(&mut self, shutdown: &CancellationToken) -> Result<(), Error> {
        let mut shutdown = pin!(shutdown.cancelled());
        loop {
            // First what has ended: its place is free for the next call, and its reply joins the next write.
            while let Some(ended) = self.handlers.try_next() {
                self.finish(ended)?;
            }
            let is_cut = poll_fn(|cx| Poll::Ready(self.receive_slice(cx))).await?;
            if is_cut {
                yield_now().await;
            }
            let wanted = self.budget.wanted(self.reader.next_body_len());
            // Not while calls are left over: more would be kept than fits into a read, and an end would cut them off.
            let is_reading = self.has_room() && wanted.is_none() && !is_cut;
            let is_inside = self.reader.is_inside();
            self.liveness.is_busy = self.handlers.in_flight() > 0;
            self.liveness.is_half = self.reader.is_half();
            self.liveness.set_reading(is_reading && is_inside);
            self.liveness.set_waiting(wanted.is_some());
            self.liveness.set_writing(self.writer.needs_flush());
            // Whichever is ready first; of several, any. Each is cancellation-safe: the others lose nothing.
            tokio::select! {
                has_more = self.reader.fill(), if is_reading => {
                    if !has_more? {
                        return Ok(());
                    }
                    self.liveness.has_read();
                }
                Some(ended) = self.handlers.next() => self.finish(ended)?,
                flushed = self.writer.flush_step(), if self.writer.needs_flush() => {
                    flushed?;
                    self.liveness.has_written();
                }
                () = self.budget.acquire(wanted), if wanted.is_some() => {}
                () = &mut shutdown, if !self.liveness.is_draining() => self.drain(SHUTTING_DOWN)?,
                over = self.liveness.over(self.settings) => match over {
                    Over::Budget => self.refuse_body()?,
                    Over::Idle => self.drain("the connection was idle for too long")?,
                    Over::Drained => return Ok(()),
                    Over::TimedOut(what, after) => return Err(Error::Timeout { what, after }),
                },
                () = ready(()), if is_cut => {}
            }
            tokio::task::coop::consume_budget().await;
        }
    }

    /// Receives the messages that have been read. One read may hold hundreds of calls: their replies leave in
    /// one write, but after a slice of time all others have a turn first, and the result is `true`.
    fn receive_slice(&mut self, cx: &mut task::Context) -> Result<bool, Error> {
        self.now = Instant::now();
        while self.has_room()
            && let Some(message) = self.reader.next(self.settings.limits.max_body_len)?
        {
            self.liveness.has_message();
            self.receive(message, cx)?;
            let now = Instant::now();
            self.busy += now - self.now;
            self.now = now;
            if self.busy > SLICE {
                self.busy = Duration::ZERO;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether to read on: only while the client takes its replies, and only while handlers that it has cancelled
    /// go as fast as new ones come. Otherwise a call would be refused for the sake of one that is on its way out.
    fn has_room(&self) -> bool {
        let has_place = self.handlers.alive() < self.settings.limits.max_in_flight;
        self.writer.queued() < MAX_QUEUED_BYTES && (has_place || self.handlers.leaving() == 0)
    }

    fn receive(&mut self, message: Message, cx: &mut task::Context) -> Result<(), Error> {
        match message {
            Message::Call { service_method, seq, metadata, body } => {
                let (connection, _budget) = (Arc::clone(&self.context), self.budget.take());
                self.start(Request { service_method, seq, metadata, body, connection, _budget }, cx)
            }
            Message::Cancel { seq } => {
                self.handlers.cancel(seq);
                Ok(())
            }
            Message::Ping {} => Message::Pong {}.queue(&mut self.writer, self.codec, 0),
            Message::Pong {} => Ok(()),
            Message::Goaway { reason } => Err(Error::Disconnected(reason)),
            Message::Reply { .. } => Err(Error::Protocol(NO_REPLIES.to_owned())),
        }
    }

    /// Refuses the call whose body has waited for the budget for too long, and throws the body away.
    fn refuse_body(&mut self) -> Result<(), Error> {
        self.budget.give_up();
        match self.reader.skip_body() {
            Some(Message::Call { service_method, seq, .. }) => {
                let no_room = "the server is busy: too many large arguments".to_owned();
                self.refuse(&service_method, seq, Code::RESOURCE_EXHAUSTED, no_room)
            }
            Some(_) => Err(Error::Protocol(NO_REPLIES.to_owned())),
            None => Ok(()),
        }
    }

    /// Starts the handler of one call, and answers at once if it is ready at once.
    fn start(&mut self, request: Request, cx: &mut task::Context) -> Result<(), Error> {
        let seq = request.seq;
        if self.handlers.contains(seq) {
            return Err(Error::Protocol(format!("seq {seq} is in flight already")));
        }
        if self.liveness.is_draining() {
            return self.refuse(&request.service_method, seq, Code::UNAVAILABLE, NO_MORE_CALLS.to_owned());
        }
        let max = self.settings.limits.max_in_flight;
        // Requests that are alive count, too: a handler that was stopped may have left a job behind with one.
        let alive = Arc::strong_count(&self.context) - 2; // but for our own count and this request's
        if self.handlers.in_flight().max(alive) >= max {
            let busy = format!("the server is busy: {max} calls of this connection are in flight");
            return self.refuse(&request.service_method, seq, Code::RESOURCE_EXHAUSTED, busy);
        }
        self.liveness.has_called(self.now);
        let mut call = Call::new(&*self.handler, request);
        // Most handlers answer without waiting for anything, and a task costs more than such an answer.
        match Pin::new(&mut call).poll(cx) {
            Poll::Ready(result) => self.reply(seq, result),
            Poll::Pending => {
                self.handlers.spawn(seq, call, self.handle_timeout);
                Ok(())
            }
        }
    }

    fn refuse(&mut self, method: &str, seq: u64, code: Code, reason: String) -> Result<(), Error> {
        let peer = self.context.peer;
        tracing::info!(?method, ?peer, seq, "refused: {reason}");
        self.reply(seq, Err(RemoteError::refusal(code, reason)))
    }

    /// Queues the reply of a call that has ended, unless its caller has cancelled it.
    fn finish(&mut self, ended: Ended) -> Result<(), Error> {
        let Some((seq, result)) = self.handlers.remove(ended) else { return Ok(()) };
        self.liveness.has_called(Instant::now());
        self.reply(seq, result)
    }

    /// Queues one reply. One that is too long for the client costs its own call only.
    fn reply(&mut self, seq: u64, result: Outcome) -> Result<(), Error> {
        let mut queue = |result| queue_reply(&mut self.writer, self.codec, self.max_reply_len, seq, result);
        let Err(error) = queue(result.map(|reply| reply.body)) else { return Ok(()) };
        queue(Err(RemoteError::new(Code::RESOURCE_EXHAUSTED, format!("the reply: {error}"))))
    }

    /// Takes no more calls. Those in flight still get their replies.
    fn drain(&mut self, reason: &str) -> Result<(), Error> {
        self.liveness.drain();
        Message::Goaway { reason: reason.to_owned() }.queue(&mut self.writer, self.codec, 0)
    }

    /// Stops the handlers, and writes the replies that are queued. If the client broke the rules or sent too slowly,
    /// the last message says why this ends. A client that has taken nothing for its time is not waited for.
    async fn close(&mut self, result: &Result<(), Error>) {
        // The client has left, or its messages cannot be told apart any more: these calls have no caller.
        self.handlers.abort_all();
        if self.liveness.is_spent(self.settings) {
            timeout(Duration::ZERO, self.writer.shutdown()).await.ok();
            return;
        }
        if let Err(error @ (Error::Protocol(_) | Error::FrameTooLarge { .. } | Error::Timeout { .. })) =
            result
        {
            let goaway = Message::Goaway { reason: truncate(error.to_string()) };
            goaway.queue(&mut self.writer, self.codec, 0).ok();
        }
        let end = self.settings.end_of_lingering(&self.context.shutdown);
        linger(self.reader.frames_mut(), &mut self.writer, end).await;
    }
}
