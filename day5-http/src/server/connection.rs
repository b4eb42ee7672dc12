//! One connection of a server: from the handshake to the last reply.
//!
//! ```text
//!             ┌───────────────────── one task ─────────────────────┐
//! socket ───▶ read a request ─▶ poll the handler once ─▶ ready? queue the reply ─▶ flush ───▶ socket
//!                                     │ not ready                  ▲
//!                                     └─▶ spawn it in `in_flight` ─┘ when it ends
//! ```
//!
//! One task owns everything: both halves of the stream, the queue of replies and the handlers in flight.
//! When it ends, however it ends, they end with it.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::deadline::{deadline, limit};
use crate::error::Error;
use crate::server::Server;
use crate::server::handler::{Call, Reply, Request};
use crate::wire::codec::Codec;
use crate::wire::frame::{FrameReader, FrameWriter};
use crate::wire::handshake;
use crate::wire::message::{CANCEL, Header, Message, MessageReader, MessageWriter, REFUSED};

/// Replies are queued up to this many bytes before the connection stops reading and writes first. So a
/// peer that sends without reading is stopped by TCP itself, and memory stays bounded.
pub const MAX_QUEUED_BYTES: usize = 64 * 1024;

/// How much, and for how long, a connection that was closed for an error still listens: the peer may be
/// in the middle of a long write, and should get to read why it was closed.
const LINGER_BYTES: usize = 16 * 1024 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(1);

/// The reason of the goodbye at shutdown, and of the refusals after it.
const SHUTTING_DOWN: &str = "the server is shutting down";

/// What the accept loop says to a connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Admission {
    /// Why this connection is not served.
    pub(crate) refused: Option<String>,
    /// Its place among the connections of the server. It is free again when this is dropped.
    pub(crate) _place: Option<Arc<OwnedSemaphorePermit>>,
    /// Fires when the server shuts down: finish what is in flight, and end.
    pub(crate) shutdown: CancellationToken,
}

/// A handler's outcome, with the header that its reply will have.
type Done = (Header, Result<Reply, String>);

/// Serves `io` until the client ends the stream or the server shuts down (`Ok`), or something breaks it.
pub(crate) async fn serve<Io>(server: &Server, io: Io, admission: Admission) -> Result<(), Error>
where
    Io: AsyncRead + AsyncWrite + Send,
{
    let (read, write) = tokio::io::split(io);
    let mut reader = FrameReader::new(read, handshake::MAX_HANDSHAKE_LEN);
    let mut writer = FrameWriter::new(write, handshake::MAX_HANDSHAKE_LEN);
    let accepted = async {
        if let Some(reason) = admission.refused {
            handshake::refuse(&mut writer, &reason).await?;
            return Err(Error::Handshake(reason));
        }
        tokio::select! {
            accepted = handshake::accept(&mut reader, &mut writer, &server.codecs) => accepted,
            () = admission.shutdown.cancelled() => {
                handshake::refuse(&mut writer, SHUTTING_DOWN).await?;
                Err(Error::Handshake(SHUTTING_DOWN.to_owned()))
            }
        }
    };
    let accepted = limit("the handshake", server.handshake_timeout, accepted).await;
    let (codec, options) = match accepted {
        Ok(accepted) => accepted,
        Err(error) => {
            let last_words = async {
                if matches!(error, Error::Timeout { .. }) {
                    handshake::refuse(&mut writer, &error.to_string()).await.ok();
                }
                writer.shutdown().await.ok();
            };
            let last_words = async { tokio::join!(last_words, reader.discard(LINGER_BYTES)) };
            tokio::time::timeout(LINGER_TIME, last_words).await.ok();
            return Err(error);
        }
    };

    reader.set_max_len(server.max_frame_len);
    writer.set_max_len(server.max_frame_len);
    let mut connection = Connection {
        server,
        codec,
        reader: MessageReader::new(reader, codec),
        writer: MessageWriter::new(writer, codec),
        handle_timeout: options.smaller_handle_timeout(server.handle_timeout),
        in_flight: JoinSet::new(),
        running: HashMap::new(),
        write_by: None,
        draining: false,
    };
    let result = connection.run(&admission.shutdown).await;
    // The client has left, or nothing it says makes sense any more: nobody waits for these replies.
    connection.in_flight.abort_all();
    connection.say_goodbye(&result).await;
    result
}

struct Connection<'a, R, W> {
    server: &'a Server,
    codec: Codec,
    reader: MessageReader<R>,
    writer: MessageWriter<W>,
    /// The handlers that were not ready at once. Dropping the set aborts them.
    in_flight: JoinSet<Done>,
    /// Those of them whose callers still wait, by `seq`.
    running: HashMap<u64, AbortHandle>,
    handle_timeout: Duration,
    /// When the client must have taken the next byte; `None` if it owes us nothing.
    write_by: Option<Instant>,
    /// The server is shutting down: no new calls.
    draining: bool,
}

impl<R, W> Connection<'_, R, W>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    async fn run(&mut self, shutdown: &CancellationToken) -> Result<(), Error> {
        let mut shutdown = pin!(shutdown.cancelled());
        let mut linger = pin!(async { sleep(LINGER_TIME).await }); // begins when it is first polled
        loop {
            let is_drained = self.draining && self.running.is_empty() && !self.writer.needs_flush();
            // In this order (`biased`): as long as requests or outcomes are at hand, collect their replies;
            // when nothing is, write them all at once. That makes the batches, with no timer and no delay.
            // Each of them is cancellation-safe, so those that lose lose nothing.
            tokio::select! {
                biased;
                () = &mut shutdown, if !self.draining => {
                    self.draining = true;
                    self.writer.queue(&Header::goodbye(SHUTTING_DOWN), Bytes::new())?;
                }
                message = self.reader.read(), if self.has_room() => match message? {
                    Some(message) => self.start(message).await?,
                    None => return Ok(()),
                },
                Some(ended) = self.in_flight.join_next_with_id(), if !self.in_flight.is_empty() => {
                    // A task does not panic, as its handler's panics are caught; but it may have been
                    // cancelled, even at the moment when it was done. Then nobody waits for the reply.
                    if let Ok((id, done)) = ended
                        && self.running.get(&done.0.seq).is_some_and(|task| task.id() == id)
                    {
                        self.running.remove(&done.0.seq);
                        self.queue_reply(done)?;
                    }
                }
                flushed = write_step(&mut self.writer, &mut self.write_by, self.server.write_timeout),
                    if self.writer.needs_flush() => flushed?,
                // A client that reads the goodbye hangs up. What it sent before is refused, not ignored.
                () = &mut linger, if is_drained => return Ok(()),
            }
        }
    }

    /// Whether to read on: only while the client takes its replies, and only while handlers that it has
    /// cancelled go as fast as new ones come. Else "call, cancel, call, cancel, ..." would pile up tasks.
    fn has_room(&self) -> bool {
        self.writer.queued() < MAX_QUEUED_BYTES && self.in_flight.len() <= self.server.max_in_flight
    }

    /// Starts the handler of one request, and answers at once if it is ready at once.
    async fn start(&mut self, message: Message) -> Result<(), Error> {
        let seq = message.header.seq;
        if seq == 0 {
            return Err(match message.header.error {
                Some(reason) => Error::Disconnected(reason),
                None => Error::Protocol("a call with seq 0".to_owned()),
            });
        }
        if message.header.service_method == CANCEL {
            // Aborting drops the handler at its `await`. A reply that is on its way already goes out.
            self.running.remove(&seq).inspect(AbortHandle::abort);
            return Ok(());
        }
        if self.running.contains_key(&seq) {
            return Err(Error::Protocol(format!("seq {seq} is in flight already")));
        }
        let service_method = message.header.service_method.clone();
        let header = Header { service_method, seq, error: None };
        let max = self.server.max_in_flight;
        if self.draining {
            // The connection answers, not the method. A handler cannot say that, whatever the text of its error.
            let header = Header { service_method: REFUSED.to_owned(), ..header };
            return self.queue_reply((header, Err(SHUTTING_DOWN.to_owned())));
        }
        if self.running.len() >= max {
            let busy = format!("the server is busy: {max} calls of this connection are in flight");
            return self.queue_reply((header, Err(busy)));
        }

        let mut call = Call::new(&*self.server.handler, Request::new(message, self.codec));
        // Most handlers of a real service answer without waiting for anything, and a task costs more than
        // such an answer.
        match poll_fn(|cx| Poll::Ready(Pin::new(&mut call).poll(cx))).await {
            Poll::Ready(outcome) => self.queue_reply((header, outcome)),
            Poll::Pending => {
                let after = self.handle_timeout;
                let task = self.in_flight.spawn(async move {
                    let outcome = timeout(after, call).await;
                    (
                        header,
                        outcome.unwrap_or_else(|_| Err(format!("the handler timed out after {after:?}"))),
                    )
                });
                self.running.insert(seq, task);
                Ok(())
            }
        }
    }

    /// Queues one reply. A reply that cannot be sent costs its own call only.
    fn queue_reply(&mut self, (mut header, outcome): Done) -> Result<(), Error> {
        let error = match outcome {
            Ok(reply) => match self.writer.queue(&header, reply.body) {
                Ok(()) => return Ok(()),
                Err(error) => format!("cannot send the reply: {error}"),
            },
            Err(error) => error,
        };
        header.error = Some(error);
        self.writer.queue(&header, Bytes::new()).or_else(|error| {
            // The name may be what is too long. The client goes by the `seq` alone.
            header.service_method.clear();
            header.error = Some(format!("cannot send the error: {error}"));
            self.writer.queue(&header, Bytes::new())
        })
    }

    /// Writes the replies that are still queued and, if the client broke the rules, why this ends.
    async fn say_goodbye(&mut self, result: &Result<(), Error>) {
        match result {
            Err(Error::Io(_) | Error::Disconnected(_) | Error::Timeout { .. }) => return,
            Err(reason) => {
                self.writer.queue(&Header::goodbye(reason.to_string()), Bytes::new()).ok();
            }
            Ok(()) => {}
        }
        // Both at once: the client may read only when it has written all it has, and then old replies first.
        let last_words = async { tokio::join!(self.writer.shutdown(), self.reader.discard(LINGER_BYTES)) };
        tokio::time::timeout(LINGER_TIME, last_words).await.ok();
    }
}

/// One step of writing: every byte that the client takes gives it new time for the next.
async fn write_step<W: AsyncWrite + Unpin>(
    writer: &mut MessageWriter<W>,
    write_by: &mut Option<Instant>,
    after: Duration,
) -> Result<(), Error> {
    let by = *write_by.get_or_insert_with(|| deadline(after));
    let step = timeout_at(by, writer.flush_step()).await;
    step.unwrap_or(Err(Error::Timeout { what: "writing a reply", after }))?;
    *write_by = None;
    Ok(())
}
