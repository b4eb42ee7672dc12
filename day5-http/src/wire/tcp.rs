//! How a TCP connection is made, and how its socket is set up, on both sides.

use std::io;
use std::time::Duration;

use tokio::net::{TcpStream, ToSocketAddrs, lookup_host};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// How many bytes the system takes beyond what it can send now.
///
/// Linux reports a full socket as writable only when a third of its buffer, which may be megabytes, is free
/// again. A peer that reads slowly and evenly would then look, for longer than any write timeout, like one that
/// does not read at all.
#[cfg(target_os = "linux")]
const NOT_SENT_LIMIT: u32 = 128 * 1024;

/// How long an address has to answer before the next one is tried beside it (RFC 8305, "Happy Eyeballs").
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// Connects to the first of these addresses that answers. They are tried in their order, staggered: the next one
/// when the one before has failed, or has not answered for a moment. So one dead address does not cost the whole
/// limit.
pub(crate) async fn connect(addrs: impl ToSocketAddrs) -> io::Result<TcpStream> {
    let mut addrs = lookup_host(addrs).await?.collect::<Vec<_>>().into_iter();
    let mut attempts = JoinSet::new(); // those that have lost end with it
    let mut error = io::Error::new(io::ErrorKind::InvalidInput, "the host has no address");
    loop {
        if let Some(addr) = addrs.next() {
            attempts.spawn(TcpStream::connect(addr));
        }
        tokio::select! {
            Some(ended) = attempts.join_next() => match ended.unwrap_or_else(|stopped| Err(stopped.into())) {
                Ok(io) => {
                    set_up(&io);
                    return Ok(io);
                }
                Err(reason) => error = reason,
            },
            () = sleep(NEXT_ADDRESS), if addrs.len() > 0 => {}
            else => return Err(error),
        }
    }
}

/// Small frames leave at once, and the progress of a slow peer is seen early. A socket that cannot do this is dead
/// already, and its first read will say so.
pub(crate) fn set_up(io: &TcpStream) {
    // Frames leave in batches already; waiting for more (Nagle's algorithm) would only delay them.
    io.set_nodelay(true).ok();
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(io).set_tcp_notsent_lowat(NOT_SENT_LIMIT).ok();
}
