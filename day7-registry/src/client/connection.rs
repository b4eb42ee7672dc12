//! The client's side of the stream: one task that writes requests and hands out replies.
//!
//! ```text
//! outgoing ──▶ write_requests ──▶ socket ──▶ read_replies ──▶ pending
//! ```
//!
//! It moves bytes only. It knows no types, and it never waits for a caller.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::client::in_flight::{DEFAULT_MAX_PENDING, Pending};
use crate::deadline::limit;
use crate::error::Error;
use crate::wire::frame::DEFAULT_MAX_FRAME_LEN;
use crate::wire::message::{CANCEL, Header, MessageReader, MessageWriter};

/// How long a client that gives up on a connection tries to tell the server why, and how much it reads and
/// throws away meanwhile: closing a socket with unread bytes takes back what was sent last.
const GOODBYE_TIME: Duration = Duration::from_secs(1);
const GOODBYE_BYTES: usize = 2 * DEFAULT_MAX_FRAME_LEN;

/// A message on its way to the task. The queue has room for a request and a cancel of each call that may be in
/// flight.
#[derive(Debug)]
pub(crate) struct Outgoing {
    header: Header,
    body: Bytes,
    /// A cancel keeps the place of its call until it is about to be written.
    _slot: Option<OwnedSemaphorePermit>,
}

impl Outgoing {
    pub(crate) fn request(header: Header, body: Bytes) -> Outgoing {
        Outgoing { header, body, _slot: None }
    }

    pub(crate) fn cancel(seq: u64, slot: OwnedSemaphorePermit) -> Outgoing {
        let header = Header { service_method: CANCEL.to_owned(), seq, error: None };
        Outgoing { header, body: Bytes::new(), _slot: Some(slot) }
    }
}

/// The task that owns the stream.
pub(crate) struct Dispatch<Io> {
    pub(crate) reader: MessageReader<ReadHalf<Io>>,
    pub(crate) writer: MessageWriter<WriteHalf<Io>>,
    pub(crate) pending: Arc<Pending>,
    pub(crate) write_timeout: Duration,
}

/// However the task ends, also when it is aborted: nobody waits for a reply that cannot come.
impl<Io> Drop for Dispatch<Io> {
    fn drop(&mut self) {
        self.pending.fail_all("the connection has ended");
    }
}

impl<Io: AsyncRead + AsyncWrite> Dispatch<Io> {
    pub(crate) async fn run(mut self, requests: mpsc::Receiver<Outgoing>) {
        // Both directions at once: a client that stopped reading while it writes could wait for a server
        // that does the same. Whichever ends first ends the connection.
        let error = tokio::select! {
            error = read_replies(&mut self.reader, &self.pending) => error,
            error = write_requests(&mut self.writer, &self.pending, self.write_timeout, requests) => error,
        };
        tracing::debug!(%error, "connection ended");
        let reason = match &error {
            Error::Disconnected(reason) => reason.clone(),
            error => error.to_string(),
        };
        self.pending.fail_all(&reason);
        if matches!(error, Error::Protocol(_) | Error::FrameTooLarge { .. }) {
            self.say_goodbye(reason).await;
        }
    }

    /// Tells the server why this ends. It may be in the middle of a long write, and read only after that, our
    /// requests first: so listen on meanwhile.
    async fn say_goodbye(&mut self, reason: String) {
        self.writer.queue(&Header::goodbye(reason), Bytes::new()).ok();
        let last_words = async { tokio::join!(self.writer.shutdown(), self.reader.discard(GOODBYE_BYTES)) };
        tokio::time::timeout(GOODBYE_TIME, last_words).await.ok();
    }
}

/// Hands every reply to its caller. Returns why there are no more.
async fn read_replies<R: AsyncRead + Unpin>(reader: &mut MessageReader<R>, pending: &Pending) -> Error {
    loop {
        let message = match reader.read().await {
            Ok(Some(message)) => message,
            Ok(None) => return Error::Disconnected("the server closed the connection".to_owned()),
            Err(error) => return error,
        };
        match (message.header.seq, &message.header.error) {
            // The server is about to close: no new calls, but the replies that are under way still count.
            (0, Some(reason)) => pending.close(reason),
            (0, None) => return Error::Protocol("a reply with seq 0".to_owned()),
            (seq, _) => {
                if !pending.complete(seq, Ok(message)) {
                    tracing::debug!(seq, "a reply that nobody waits for");
                }
            }
        }
        if !pending.is_open() && pending.is_empty() {
            // The server waits for nothing but our end of the stream.
            return Error::Disconnected("the server has said goodbye".to_owned());
        }
    }
}

/// Writes the requests as they come: all that are there in one go. A request that cannot be queued fails its
/// own call. Returns why it cannot go on.
async fn write_requests<W: AsyncWrite + Unpin>(
    writer: &mut MessageWriter<W>,
    pending: &Pending,
    write_timeout: Duration,
    mut requests: mpsc::Receiver<Outgoing>,
) -> Error {
    let mut batch = Vec::new();
    while requests.recv_many(&mut batch, DEFAULT_MAX_PENDING).await > 0 {
        // Replies come in batches and wake many callers at once, but the first of them to call wakes this task
        // before the others had their turn. Let them call, too, and write once for all: with 64 calls in flight
        // that is a third of the CPU time for each. Whoever is alone does not wait.
        if batch.len() < pending.len() {
            tokio::task::yield_now().await;
            while batch.len() < DEFAULT_MAX_PENDING
                && let Ok(request) = requests.try_recv()
            {
                batch.push(request);
            }
        }
        for Outgoing { header, body, .. } in batch.drain(..) {
            if let Err(error) = writer.queue(&header, body) {
                pending.complete(header.seq, Err(error));
            }
        }
        while writer.needs_flush() {
            // One step at a time: a slow server may take as long as it likes, one that does not read may not.
            if let Err(error) = limit("writing to the server", write_timeout, writer.flush_step()).await {
                return error;
            }
        }
    }
    Error::Disconnected("the client was closed".to_owned())
}
