//! What the suites from day 4 on share: time on a paused clock, handlers that a test can watch, and connections that
//! are counted.

use std::fmt::Debug;
use std::io;
use std::net::SocketAddr;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use day5_http::{Client, Error, Handler, Listener, Options, Request, Server};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, duplex};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::io::Watched;
use super::peer::{Peer, frame};
use super::{Caller, within, within_at};

pub const SECOND: Duration = Duration::from_secs(1);

pub fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Checks a time on the paused clock. Tokio's timers are exact to the millisecond, and round up.
#[track_caller]
pub fn assert_took(since: Instant, expected: Duration) {
    let took = since.elapsed();
    assert!(took >= expected && took <= expected + millis(3), "it took {took:?}, and not {expected:?}");
}

/// Checks that `result` is an `Error::Timeout` that names this limit.
#[track_caller]
pub fn assert_timeout<T: Debug>(result: Result<T, Error>, limit: Duration) {
    assert_eq!(timed_out(result), limit, "the error names the limit");
}

/// The limit in an `Error::Timeout`, which `result` must be.
#[track_caller]
pub fn timed_out<T: Debug>(result: Result<T, Error>) -> Duration {
    match result {
        Err(Error::Timeout { after, .. }) => after,
        other => panic!("expected Error::Timeout, got {other:?}"),
    }
}

/// Waits for `future`, and checks that it takes this time on the paused clock: no more, and no less. It is polled in
/// the last second only, so that the deadlines in it have no say.
#[track_caller]
pub fn takes<T>(time: Duration, what: &str, future: impl Future<Output = T>) -> impl Future<Output = T> {
    takes_at(Location::caller(), time, what, future)
}

async fn takes_at<T>(caller: Caller, time: Duration, what: &str, future: impl Future<Output = T>) -> T {
    let slack = millis(100);
    let since = Instant::now();
    sleep(time.saturating_sub(SECOND)).await;
    let Ok(value) = timeout(time.min(SECOND) + slack, future).await else {
        panic!("never happened, and {time:?} are over: {what} (awaited at {caller})");
    };
    let took = since.elapsed();
    assert!(took + slack >= time, "{what}: after {took:?} already, not {time:?} (awaited at {caller})");
    value
}

/// Waits for the goaway after this time, and then for the end of the stream, which may take a moment more. Returns the
/// reason.
#[track_caller]
pub fn expect_goaway_after<Io: AsyncRead + AsyncWrite + Unpin>(
    time: Duration,
    peer: &mut Peer<Io>,
) -> impl Future<Output = String> {
    let caller = Location::caller();
    async move {
        let goaway = takes_at(caller, time, "a goaway", peer.read_message_at(caller)).await;
        let more = peer.try_read_frame_at(caller).await;
        assert!(more.is_none(), "a goaway is the last message, but then came {more:?} (awaited at {caller})");
        goaway.reason().to_owned()
    }
}

/// Lets all tasks go on until they wait: on the paused clock, no time passes before.
pub async fn settle() {
    sleep(millis(1)).await;
}

/// Counts what is alive, with a guard for each.
#[derive(Clone, Default)]
pub struct Gauge {
    now: Arc<AtomicUsize>,
    peak: Arc<AtomicUsize>,
    total: Arc<AtomicUsize>,
}

impl Gauge {
    pub fn guard(&self) -> GaugeGuard {
        self.peak.fetch_max(self.now.fetch_add(1, SeqCst) + 1, SeqCst);
        self.total.fetch_add(1, SeqCst);
        GaugeGuard(self.clone())
    }

    /// How many are alive.
    pub fn now(&self) -> usize {
        self.now.load(SeqCst)
    }

    /// How many were alive at the same time, at most.
    pub fn peak(&self) -> usize {
        self.peak.load(SeqCst)
    }

    /// How many there have been.
    pub fn total(&self) -> usize {
        self.total.load(SeqCst)
    }
}

pub struct GaugeGuard(Gauge);

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, SeqCst);
    }
}

/// What happens in the handlers of [`probe`].
pub struct Probe {
    pub handlers: Gauge,
    started: mpsc::UnboundedReceiver<u64>,
    stopped: mpsc::UnboundedReceiver<u64>,
    /// One permit lets one call of `Test.gate` go on.
    pub gate: Arc<Semaphore>,
}

impl Probe {
    /// Waits for the next handler to start, and returns its `seq`.
    #[track_caller]
    pub fn started(&mut self) -> impl Future<Output = u64> {
        let started = within("the start of a handler", self.started.recv());
        async move { started.await.unwrap() }
    }

    /// Whether no handler has started since the last look.
    pub fn is_quiet(&mut self) -> bool {
        self.started.try_recv().is_err()
    }

    /// Waits for the next drop guard of a handler to fire, and returns its `seq`.
    #[track_caller]
    pub fn stopped(&mut self) -> impl Future<Output = u64> {
        let stopped = within("the drop guard of a handler", self.stopped.recv());
        async move { stopped.await.unwrap() }
    }
}

struct Guard {
    seq: u64,
    stopped: mpsc::UnboundedSender<u64>,
    _alive: GaugeGuard,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.stopped.send(self.seq).ok();
    }
}

/// A handler with these methods. All but the first three tell when they start and when they are dropped. What is not
/// said to return something else returns its `seq`.
///
/// * `Test.now` answers at once; `Test.echo` too, with its argument, and `Test.big` with a text of so many bytes.
/// * `Test.hang` never answers; `Test.gate` answers when the test lets it, `Test.later` after so many
///   milliseconds, `Test.shutdown` when the server shuts down.
pub fn probe() -> (impl Handler, Probe) {
    let (starts, started) = mpsc::unbounded_channel();
    let (stops, stopped) = mpsc::unbounded_channel();
    let gate = Arc::new(Semaphore::new(0));
    let handlers = Gauge::default();
    let probe = Probe { handlers: handlers.clone(), started, stopped, gate: Arc::clone(&gate) };
    let handler = move |request: Request| {
        let (starts, stopped, gate, handlers) =
            (starts.clone(), stops.clone(), gate.clone(), handlers.clone());
        async move {
            let seq = request.seq();
            match request.service_method() {
                "Test.now" => return Ok(request.reply(&seq)?),
                "Test.echo" => return Ok(request.reply(&request.decode::<serde_json::Value>()?)?),
                "Test.big" => return Ok(request.reply(&"x".repeat(request.decode()?))?),
                _ => {}
            }
            let _guard = Guard { seq, stopped, _alive: handlers.guard() };
            starts.send(seq).ok();
            match request.service_method() {
                "Test.hang" => std::future::pending().await,
                "Test.gate" => gate.acquire().await?.forget(),
                "Test.later" => sleep(millis(request.decode()?)).await,
                "Test.shutdown" => request.shutting_down().await,
                other => anyhow::bail!("there is no method {other:?}"),
            }
            Ok(request.reply(&seq)?)
        }
    };
    (handler, probe)
}

/// The header of a call alone: the body is still to come.
pub fn call_header(service_method: &str, seq: u64) -> Vec<u8> {
    frame(json!({"call": {"service_method": service_method, "seq": seq, "metadata": {}}}).to_string())
}

/// A cancel in JSON.
pub fn cancel(seq: u64) -> Vec<u8> {
    frame(json!({"cancel": {"seq": seq}}).to_string())
}

/// A ping in JSON.
pub fn ping() -> Vec<u8> {
    frame(json!({"ping": {}}).to_string())
}

/// A pong in JSON.
pub fn pong() -> Vec<u8> {
    frame(json!({"pong": {}}).to_string())
}

/// Serves one stream in memory, which holds `size` bytes each way, after the handshake with the raw client.
#[track_caller]
pub fn peer_of(
    server: &Server,
    size: usize,
) -> impl Future<Output = (Peer<DuplexStream>, JoinHandle<Result<(), Error>>)> {
    let (io, other_end) = duplex(size);
    let server = server.clone();
    let served = tokio::spawn(async move { server.serve_connection(other_end).await });
    let caller = Location::caller();
    async move {
        let mut peer = Peer { io };
        within_at(caller, "the handshake", peer.handshake_json()).await;
        (peer, served)
    }
}

/// A client of `server`, in memory.
pub async fn client_of(server: &Server, options: &Options) -> Client {
    let (io, other_end) = duplex(64 * 1024);
    let server = server.clone();
    tokio::spawn(async move { server.serve_connection(other_end).await });
    within("the handshake", Client::handshake(io, options)).await.unwrap()
}

/// A listener in memory: connections wait in its queue until they are accepted.
pub struct InMemory {
    queue: mpsc::UnboundedReceiver<DuplexStream>,
    at_server: Gauge,
}

impl Listener for InMemory {
    type Io = Watched<DuplexStream>;

    async fn accept(&mut self) -> io::Result<(Self::Io, Option<SocketAddr>)> {
        match self.queue.recv().await {
            Some(io) => Ok((Watched::holding(io, self.at_server.guard()), None)),
            None => std::future::pending().await,
        }
    }
}

/// Makes connections to an [`InMemory`] listener.
pub struct Connector {
    queue: mpsc::UnboundedSender<DuplexStream>,
    /// The streams that the server has accepted, and not closed.
    pub at_server: Gauge,
    /// The streams that clients made with [`Connector::client`] have.
    pub at_clients: Gauge,
}

impl Connector {
    pub fn new() -> (Connector, InMemory) {
        let (sender, queue) = mpsc::unbounded_channel();
        let connector =
            Connector { queue: sender, at_server: Gauge::default(), at_clients: Gauge::default() };
        let listener = InMemory { queue, at_server: connector.at_server.clone() };
        (connector, listener)
    }

    /// A stream to the server, which holds 64 KiB each way.
    pub fn connect(&self) -> DuplexStream {
        self.open(64 * 1024).io
    }

    /// A raw client before the handshake, over a stream that holds `size` bytes each way.
    pub fn open(&self, size: usize) -> Peer<DuplexStream> {
        let (io, other_end) = duplex(size);
        assert!(self.queue.send(other_end).is_ok(), "the listener has gone");
        Peer { io }
    }

    /// A raw client, after the handshake.
    #[track_caller]
    pub fn peer(&self) -> impl Future<Output = Peer<DuplexStream>> + use<> {
        let mut peer = Peer { io: self.connect() };
        let caller = Location::caller();
        async move {
            within_at(caller, "the handshake", peer.handshake_json()).await;
            peer
        }
    }

    /// One of our clients.
    #[track_caller]
    pub fn client(&self, options: &Options) -> impl Future<Output = Client> + use<> {
        let io = Watched::holding(self.connect(), self.at_clients.guard());
        let options = options.clone();
        let client = within("the handshake", async move { Client::handshake(io, &options).await });
        async move { client.await.unwrap() }
    }
}

/// Starts a server that shuts down when the sender is used.
pub fn serve_until<L: Listener + 'static>(
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
