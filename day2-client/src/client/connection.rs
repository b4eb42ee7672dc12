//! The client's side of the stream: one task that writes requests and hands out replies.
//!
//! ```text
//! in-flight table ── requests ──▶ write_requests ──▶ socket ──▶ read_replies ── replies ──▶ in-flight table
//! ```
//!
//! It moves bytes only. It knows no types, and it never waits for a caller.

use std::future::poll_fn;
use std::mem;
use std::sync::Arc;
use std::task::Poll;

use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};

use crate::client::in_flight::InFlight;
use crate::error::{Error, truncate};
use crate::wire::codec::Codec;
use crate::wire::frame::FrameWriter;
use crate::wire::message::{Message, MessageReader};

/// The task that owns the stream.
pub(super) struct Connection<Io> {
    pub(super) reader: MessageReader<ReadHalf<Io>>,
    pub(super) writer: FrameWriter<WriteHalf<Io>>,
    pub(super) codec: Codec,
    /// The longest reply that the client takes.
    pub(super) max_body_len: usize,
    pub(super) in_flight: Arc<InFlight>,
}

/// However the task ends, also when it is aborted: no caller waits for a reply that cannot come.
impl<Io> Drop for Connection<Io> {
    fn drop(&mut self) {
        self.in_flight.fail_all("the client was closed");
    }
}

impl<Io: AsyncRead + AsyncWrite> Connection<Io> {
    pub(super) async fn run(&mut self) -> Error {
        // Both directions at once: a client that stopped reading while it writes could wait for a server
        // that does the same. The first to end ends the connection.
        let error = tokio::select! {
            error = read_replies(&mut self.reader, &self.in_flight, self.max_body_len) => error,
            error = write_requests(&mut self.writer, &self.in_flight) => error,
        };
        tracing::debug!(reason = ?error.to_string(), "the connection has ended");
        let reason = match &error {
            Error::Disconnected(reason) => truncate(reason.clone()),
            error => truncate(error.to_string()),
        };
        self.in_flight.fail_all(&reason);
        if let Error::Protocol(_) | Error::FrameTooLarge { .. } = error {
            let goaway = Message::Goaway { reason };
            goaway.queue(&mut self.writer, self.codec, 0).ok();
            self.writer.shutdown().await.ok();
        }
        error
    }
}

/// Hands every reply to its caller. Returns why there are no more.
async fn read_replies<R: AsyncRead + Unpin>(
    reader: &mut MessageReader<R>,
    in_flight: &InFlight,
    max_body_len: usize,
) -> Error {
    let mut replies = Vec::new();
    loop {
        // One read may hold hundreds of replies: complete them together, under one lock.
        let end = take_replies(reader, in_flight, max_body_len, &mut replies);
        in_flight.complete(&mut replies);
        if let Err(error) = end {
            return error;
        }
        if in_flight.is_drained() {
            return drained();
        }
        match reader.fill().await {
            Ok(true) => {}
            Ok(false) => return Error::Disconnected("the server closed the connection".to_owned()),
            Err(error) => return error,
        }
    }
}

/// Takes what has been read already.
fn take_replies<R: AsyncRead + Unpin>(
    reader: &mut MessageReader<R>,
    in_flight: &InFlight,
    max_body_len: usize,
    replies: &mut Vec<(u64, Result<bytes::Bytes, Error>)>,
) -> Result<(), Error> {
    while let Some(message) = reader.next(max_body_len)? {
        match message {
            Message::Reply { seq, result } => replies.push((seq, result.map_err(Error::from))),
            // No new calls; but the replies that are under way still count.
            Message::Goaway { reason } => in_flight.close(&truncate(reason)),
            Message::Call { .. } => return Err(Error::Protocol("a server sends no calls".to_owned())),
        }
    }
    Ok(())
}

/// Writes the requests as they come: all that are there in one write. Returns why it cannot go on.
async fn write_requests<W: AsyncWrite + Unpin>(writer: &mut FrameWriter<W>, in_flight: &InFlight) -> Error {
    loop {
        in_flight.has_unsent().await;
        // Replies come in batches and wake many callers at once, but the first of them to call wakes this task
        // before the others had their turn. Let them call, too, and write once for all. A call that is alone does not
        // wait.
        if in_flight.may_grow() {
            let_others_call().await;
        }
        for request in in_flight.take_requests() {
            writer.queue_encoded(request);
        }
        if let Err(error) = writer.flush().await {
            return error;
        }
        // The last call may have been given up by its caller.
        if in_flight.is_drained() {
            return drained();
        }
    }
}

/// Goes to the end of this thread's queue: as a rule, the tasks that are ready have their turn first.
///
/// On a runtime with threads Tokio's `yield_now` comes back at the front of the queue, once the runtime has looked at its
/// sockets: after 61 tasks at the latest. With 1024 calls in flight and both processes on one core that makes twice the
/// writes, and a call takes 14 % more CPU time. Neither order is promised; this one was measured.
async fn let_others_call() {
    let mut has_yielded = false;
    poll_fn(|cx| {
        if mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref(); // woken while it runs, a task goes to the end of the queue
        Poll::Pending
    })
    .await;
}

/// The end after a goaway: the server waits for nothing but our end of the stream.
fn drained() -> Error {
    Error::Disconnected("the server has closed the connection".to_owned())
}
