//! The server's side: a listener whose streams shake hands when they are first used.
//!
//! ```text
//! accept ─▶ TCP ─▶ a stream, at once ─▶ its own task ─▶ first read: TLS handshake ─▶ frames
//! ```
//!
//! A handshake inside of `accept` would be simpler, and wrong: the accept loop waits for it, so one client that
//! connects and says nothing would stop all others. Here it is the connection's own task that waits, and the server's
//! limit for its handshake holds for both.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use day7_registry::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{Accept, TlsAcceptor};

use crate::peers::{Connected, Peers};

/// Accepts TCP connections, and speaks TLS on them.
pub struct TlsListener {
    tcp: TcpListener,
    acceptor: TlsAcceptor,
    peers: Peers,
}

impl TlsListener {
    /// Connections come from `tcp`. Who they are is in `peers`, for the handlers.
    pub fn new(tcp: TcpListener, config: Arc<ServerConfig>, peers: Peers) -> TlsListener {
        TlsListener { tcp, acceptor: TlsAcceptor::from(config), peers }
    }
}

impl Listener for TlsListener {
    type Io = TlsServerStream;

    async fn accept(&mut self) -> io::Result<(TlsServerStream, Option<SocketAddr>)> {
        // The one of the library: it sets the socket up.
        let (tcp, peer) = Listener::accept(&mut self.tcp).await?;
        let state = State::Handshake(Box::new(self.acceptor.accept(tcp)));
        Ok((TlsServerStream { state, peers: self.peers.clone(), peer }, peer))
    }
}

/// A stream that shakes hands when it is first read or written.
pub struct TlsServerStream {
    state: State,
    peers: Peers,
    peer: Option<SocketAddr>,
}

enum State {
    Handshake(Box<Accept<TcpStream>>),
    Ready {
        tls: Box<TlsStream<TcpStream>>,
        _connected: Option<Connected>,
    },
    /// The handshake has failed, and said why.
    Failed,
}

impl TlsServerStream {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Pin<&mut TlsStream<TcpStream>>>> {
        if let State::Handshake(accept) = &mut self.state {
            match ready!(Pin::new(accept).poll(cx)) {
                Ok(tls) => {
                    let certificate = tls.get_ref().1.peer_certificates().and_then(<[_]>::first);
                    let connected = self.peer.zip(certificate);
                    let connected = connected.map(|(peer, certificate)| self.peers.insert(peer, certificate));
                    self.state = State::Ready { tls: Box::new(tls), _connected: connected };
                }
                Err(error) => {
                    self.state = State::Failed;
                    return Poll::Ready(Err(error));
                }
            }
        }
        Poll::Ready(match &mut self.state {
            State::Ready { tls, .. } => Ok(Pin::new(tls)),
            _ => Err(io::Error::new(io::ErrorKind::NotConnected, "the TLS handshake has failed")),
        })
    }
}

impl AsyncRead for TlsServerStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.get_mut().poll_ready(cx))?.poll_read(cx, buf)
    }
}

impl AsyncWrite for TlsServerStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.get_mut().poll_ready(cx))?.poll_write(cx, data)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.get_mut().poll_ready(cx))?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.get_mut().poll_ready(cx))?.poll_shutdown(cx)
    }
}
