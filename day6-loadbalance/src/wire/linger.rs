//! The end of a connection, such that the peer gets the last message.
//!
//! A socket that is closed with unread bytes makes TCP take back what was sent last. And a peer in the middle of
//! a long write reads nothing before it is done. So a side that closes first goes on reading for a while, and
//! throws away what arrives.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::wire::frame::{FrameReader, FrameWriter};

/// How long, and how much, a connection that is being closed still reads.
pub(crate) const LINGER_TIME: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 16 * 1024 * 1024;

/// Writes what is queued, ends our side of the stream, and waits for the peer to end its own: at most
/// [`LINGER_TIME`] in all, and not after `stop`.
pub(crate) async fn linger<R, W>(
    reader: &mut FrameReader<R>,
    writer: &mut FrameWriter<W>,
    stop: impl Future<Output = ()>,
) where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    // Both at once: the peer may read only when it has written all it has.
    let both = async { tokio::join!(writer.shutdown(), reader.discard(LINGER_BYTES)) };
    tokio::select! {
        _ = tokio::time::timeout(LINGER_TIME, both) => {}
        () = stop => {}
    }
}
