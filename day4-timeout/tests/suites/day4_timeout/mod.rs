//! Day 4: every wait ends, and nothing is left behind.
//!
//! The order is that of the lesson: connecting, calling, giving up, the handler's limit, clients that leave,
//! clients that do not read or do not speak, too many of them, shutdown, and the proof that nothing is left.
//! Most tests run on a paused clock, where a limit of seconds costs no time and can be checked to the
//! millisecond. A [`Probe`] tells when a handler starts and when its drop guard fires.

// The stages, in the order of the work. Empty lines keep rustfmt from sorting them.
mod connecting;

mod calling;

mod cancels;

mod handlers;

mod peers;

mod connections;

mod shutdown;

mod proof;

mod hardening;

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};
use std::time::Duration;

use day4_timeout::{
    CANCEL, Client, Codec, DEFAULT_MAX_CONNECTIONS, DEFAULT_MAX_PENDING, Error, Handler, Listener, Options,
    PendingCall, Reply, Request, Server,
};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::support::peer::{Peer, frame, json_message, options};
use crate::support::{alive_tasks, eventually, run, run_paused, start, within};

const SECOND: Duration = Duration::from_secs(1);

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Options for a codec that can be read by eye.
fn readable() -> Options {
    Options::default().codecs([Codec::Json])
}

/// Checks a time on the paused clock. Timers are exact to the millisecond, and round up.
#[track_caller]
fn assert_took(since: Instant, expected: Duration) {
    let took = since.elapsed();
    assert!(took >= expected && took <= expected + millis(3), "took {took:?}, not {expected:?}");
}

#[track_caller]
fn assert_timeout<T: std::fmt::Debug>(result: Result<T, Error>, limit: Duration) {
    match result {
        Err(Error::Timeout { after, .. }) => assert_eq!(after, limit, "the error names the limit"),
        other => panic!("expected Error::Timeout, got {other:?}"),
    }
}

/// Lets everybody go on until they all wait: on the paused clock, time does not pass before.
async fn settle() {
    sleep(millis(1)).await;
}

/// Counts what is alive, with a guard for each.
#[derive(Clone, Default)]
struct Gauge {
    now: Arc<AtomicUsize>,
    peak: Arc<AtomicUsize>,
    total: Arc<AtomicUsize>,
}

impl Gauge {
    fn guard(&self) -> GaugeGuard {
        self.peak.fetch_max(self.now.fetch_add(1, SeqCst) + 1, SeqCst);
        self.total.fetch_add(1, SeqCst);
        GaugeGuard(self.clone())
    }

    fn now(&self) -> usize {
        self.now.load(SeqCst)
    }
}

struct GaugeGuard(Gauge);

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, SeqCst);
    }
}

/// What happens inside of the handlers of [`probe`].
struct Probe {
    handlers: Gauge,
    started: mpsc::UnboundedReceiver<u64>,
    stopped: mpsc::UnboundedReceiver<u64>,
    /// One permit lets one call of `Test.gate` go on.
    gate: Arc<Semaphore>,
}

impl Probe {
    /// Waits for the next handler to start, and returns its `seq`.
    async fn started(&mut self) -> u64 {
        within("a handler starts", self.started.recv()).await.unwrap()
    }

    /// Waits for the next drop guard of a handler to fire, and returns its `seq`.
    async fn stopped(&mut self) -> u64 {
        within("the drop guard of a handler fires", self.stopped.recv()).await.unwrap()
    }
}

struct Stopped {
    seq: u64,
    signal: mpsc::UnboundedSender<u64>,
    _alive: GaugeGuard,
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.signal.send(self.seq).ok();
    }
}

/// A handler with these methods. All but the first two tell when they start and when they are dropped.
///
/// * `Test.now` answers at once; `Test.big`, too, with a text of so many bytes.
/// * `Test.hang` never answers; `Test.gate` when the test lets it; `Test.later` after so many milliseconds.
fn probe() -> (impl Handler, Probe) {
    let (starts, started) = mpsc::unbounded_channel();
    let (stops, stopped) = mpsc::unbounded_channel();
    let gate = Arc::new(Semaphore::new(0));
    let handlers = Gauge::default();
    let probe = Probe { handlers: handlers.clone(), started, stopped, gate: Arc::clone(&gate) };
    let handler = move |request: Request| {
        let (starts, stops, gate, handlers) = (starts.clone(), stops.clone(), gate.clone(), handlers.clone());
        async move {
            let seq = request.seq();
            match request.service_method() {
                "Test.now" => return Ok(request.reply(&seq)?),
                "Test.big" => return Ok(request.reply(&"x".repeat(request.decode()?))?),
                _ => {}
            }
            let _stopped = Stopped { seq, signal: stops, _alive: handlers.guard() };
            starts.send(seq).ok();
            match request.service_method() {
                "Test.hang" => std::future::pending().await,
                "Test.gate" => gate.acquire().await?.forget(),
                "Test.later" => sleep(millis(request.decode()?)).await,
                other => anyhow::bail!("unknown method {other}"),
            }
            Ok(request.reply(&seq)?)
        }
    };
    (handler, probe)
}

/// Serves one stream in memory, with a buffer of `size` bytes each way.
fn serve_in_memory(server: &Server, size: usize) -> (DuplexStream, JoinHandle<Result<(), Error>>) {
    let (ours, theirs) = duplex(size);
    let server = server.clone();
    (ours, tokio::spawn(async move { server.serve_connection(theirs).await }))
}

/// A client of `server`, in memory.
async fn client_of(server: &Server, options: &Options) -> Client {
    let (io, _) = serve_in_memory(server, 64 * 1024);
    within("the handshake", Client::new(io, options)).await.unwrap()
}

/// A raw client of `server`, in memory, after the handshake.
async fn peer_of(server: &Server, size: usize) -> (Peer<DuplexStream>, JoinHandle<Result<(), Error>>) {
    let (io, served) = serve_in_memory(server, size);
    let mut peer = Peer { io };
    peer.shake_hands_json().await;
    (peer, served)
}

/// A client, and the raw server that it has shaken hands with.
async fn client_and_peer(options: &Options, size: usize) -> (Client, Peer<DuplexStream>) {
    let (ours, theirs) = duplex(size);
    let mut peer = Peer { io: theirs };
    let (client, _) = tokio::join!(Client::new(ours, options), peer.accept_handshake("application/json"));
    (client.unwrap(), peer)
}

/// A cancel in JSON, byte by byte.
fn cancel_bytes(seq: u64) -> Vec<u8> {
    let header = format!(r#"{{"service_method":"$/cancel","seq":{seq},"error":null}}"#);
    [&[0, 0, 0, header.len() as u8], header.as_bytes(), &[0, 0, 0, 0]].concat()
}

/// Any stream; a gauge counts how many are open.
struct Counted<Io> {
    io: Io,
    _open: GaugeGuard,
}

impl<Io: AsyncRead + Unpin> AsyncRead for Counted<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Counted<Io> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// A listener in memory. Every stream that it hands out is counted as long as the server has it.
struct Door(mpsc::UnboundedReceiver<Counted<DuplexStream>>);

impl Listener for Door {
    type Io = Counted<DuplexStream>;

    async fn accept(&mut self) -> io::Result<Self::Io> {
        match self.0.recv().await {
            Some(io) => Ok(io),
            None => std::future::pending().await,
        }
    }
}

/// The other side of a [`Door`].
struct Street {
    door: mpsc::UnboundedSender<Counted<DuplexStream>>,
    /// The streams that the server has.
    at_server: Gauge,
    /// The streams that clients made with [`Street::client`] have.
    at_clients: Gauge,
}

impl Street {
    fn new() -> (Street, Door) {
        let (door, streams) = mpsc::unbounded_channel();
        (Street { door, at_server: Gauge::default(), at_clients: Gauge::default() }, Door(streams))
    }

    fn connect(&self, size: usize) -> DuplexStream {
        let (ours, theirs) = duplex(size);
        assert!(self.door.send(Counted { io: theirs, _open: self.at_server.guard() }).is_ok(), "no listener");
        ours
    }

    async fn client(&self, options: &Options) -> Client {
        let io = Counted { io: self.connect(64 * 1024), _open: self.at_clients.guard() };
        within("the handshake", Client::new(io, options)).await.unwrap()
    }
}

async fn start_all(client: &Client, count: usize) -> Vec<PendingCall<()>> {
    let mut calls = Vec::new();
    for _ in 0..count {
        calls.push(within("a call starts", client.start("Test.hang", &())).await.unwrap());
    }
    calls
}

/// Starts a server that shuts down when the sender is used.
fn serve_until<L: Listener + 'static>(
    server: Server,
    listener: L,
) -> (oneshot::Sender<()>, JoinHandle<Result<(), Error>>) {
    let (stop, stopped) = oneshot::channel();
    let serving = tokio::spawn(async move {
        let signal = async { stopped.await.unwrap_or_default() };
        server.serve_with_shutdown(listener, signal).await
    });
    (stop, serving)
}
