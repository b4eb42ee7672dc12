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

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;

use crate::error::Error;
use crate::server::Server;
use crate::server::handler::{Call, Reply, Request};
use crate::wire::codec::Codec;
use crate::wire::frame::{FrameReader, FrameWriter};
use crate::wire::handshake;
use crate::wire::message::{Header, Message, MessageReader, MessageWriter};

/// Replies are queued up to this many bytes before the connection stops reading and writes first. So a
/// peer that sends without reading is stopped by TCP itself, and memory stays bounded.
pub const MAX_QUEUED_BYTES: usize = 64 * 1024;

/// How much, and for how long, a connection that was closed for an error still listens: the peer may be
/// in the middle of a long write, and should get to read why it was closed.
const LINGER_BYTES: usize = 16 * 1024 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(1);

/// A handler's outcome, with the header that its reply will have.
type Done = (Header, Result<Reply, String>);

/// Serves `io` until the client ends the stream (`Ok`) or something breaks it.
pub(crate) async fn serve<Io>(server: &Server, io: Io) -> Result<(), Error>
where
    Io: AsyncRead + AsyncWrite + Send,
{
    let (read, write) = tokio::io::split(io);
    let mut reader = FrameReader::new(read, handshake::MAX_HANDSHAKE_LEN);
    let mut writer = FrameWriter::new(write, handshake::MAX_HANDSHAKE_LEN);
    let (codec, _options) = match handshake::accept(&mut reader, &mut writer, &server.codecs).await {
        Ok(accepted) => accepted,
        Err(error) => {
            let last_words = async { tokio::join!(writer.shutdown(), reader.discard(LINGER_BYTES)) };
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
        in_flight: JoinSet::new(),
    };
    let result = connection.run().await;
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
}

impl<R, W> Connection<'_, R, W>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    async fn run(&mut self) -> Result<(), Error> {
        loop {
            // In this order (`biased`): as long as requests or outcomes are at hand, collect their replies;
            // when nothing is, write them all at once. That makes the batches, with no timer and no delay.
            // Each of the three is cancellation-safe, so the two that lose lose nothing.
            tokio::select! {
                biased;
                message = self.reader.read(), if self.writer.queued() < MAX_QUEUED_BYTES => match message? {
                    Some(message) => self.start(message).await?,
                    None => return Ok(()),
                },
                Some(done) = self.in_flight.join_next(), if !self.in_flight.is_empty() => {
                    // A task does not panic, as its handler's panics are caught; and nobody aborts it.
                    if let Ok(done) = done {
                        self.queue_reply(done)?;
                    }
                }
                flushed = self.writer.flush(), if self.writer.needs_flush() => flushed?,
            }
        }
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
        let service_method = message.header.service_method.clone();
        let header = Header { service_method, seq, error: None };
        let max = self.server.max_in_flight;
        if self.in_flight.len() >= max {
            let busy = format!("the server is busy: {max} calls of this connection are in flight");
            return self.queue_reply((header, Err(busy)));
        }

        let mut call = Call::new(&*self.server.handler, Request::new(message, self.codec));
        // Most handlers of a real service answer without waiting for anything, and a task costs more than
        // such an answer.
        match poll_fn(|cx| Poll::Ready(Pin::new(&mut call).poll(cx))).await {
            Poll::Ready(outcome) => self.queue_reply((header, outcome)),
            Poll::Pending => {
                self.in_flight.spawn(async move { (header, call.await) });
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
            Err(Error::Io(_) | Error::Disconnected(_)) => return,
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
