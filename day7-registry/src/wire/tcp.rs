//! How a TCP socket is set up, on both sides.

use tokio::net::TcpStream;

/// How many bytes the system takes beyond what it can send now.
///
/// Linux reports a full socket as writable only when a third of its buffer, which may be megabytes, is free
/// again. A peer that reads slowly and evenly would then look, for longer than any write timeout, like one that
/// does not read at all.
#[cfg(target_os = "linux")]
const NOT_SENT_LIMIT: u32 = 128 * 1024;

/// Small frames leave at once, and the progress of a slow peer is seen early. A socket that cannot do this is dead
/// already, and its first read will say so.
pub(crate) fn set_up(io: &TcpStream) {
    // Frames leave in batches already; waiting for more (Nagle's algorithm) would only delay them.
    io.set_nodelay(true).ok();
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(io).set_tcp_notsent_lowat(NOT_SENT_LIMIT).ok();
}
