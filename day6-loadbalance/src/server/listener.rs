//! Where a server's connections come from: TCP here, and anything else that yields streams.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

use crate::wire::tcp;

/// Where connections come from.
///
/// ```
/// use std::{io, net::SocketAddr};
/// use day6_loadbalance::Listener;
/// use tokio::{io::DuplexStream, sync::mpsc};
///
/// /// Connections in memory. The holder of the sender connects.
/// struct InMemory(mpsc::Receiver<DuplexStream>);
///
/// impl Listener for InMemory {
///     type Io = DuplexStream;
///
///     async fn accept(&mut self) -> io::Result<(DuplexStream, Option<SocketAddr>)> {
///         match self.0.recv().await {
///             Some(io) => Ok((io, None)),
///             None => std::future::pending().await, // no more will come
///         }
///     }
/// }
/// ```
pub trait Listener: Send {
    /// One accepted connection.
    type Io: AsyncRead + AsyncWrite + Send + 'static;

    /// Waits for the next connection, and says who the peer is, if that is known. An error is not the end:
    /// `accept` is called again, after a pause.
    ///
    /// It must not do a handshake of its own, such as TLS's: the accept loop awaits it, and one silent peer
    /// would keep all others waiting.
    ///
    /// # Cancel safety
    /// Must be cancellation-safe: a dropped `accept` loses no connection.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Io, Option<SocketAddr>)>> + Send;
}

#[cfg(unix)]
impl Listener for tokio::net::UnixListener {
    type Io = tokio::net::UnixStream;

    async fn accept(&mut self) -> io::Result<(tokio::net::UnixStream, Option<SocketAddr>)> {
        tokio::net::UnixListener::accept(self).await.map(|(io, _)| (io, None))
    }
}

impl Listener for TcpListener {
    type Io = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, Option<SocketAddr>)> {
        let (io, peer) = TcpListener::accept(self).await?;
        tcp::set_up(&io);
        Ok((io, Some(peer)))
    }
}
