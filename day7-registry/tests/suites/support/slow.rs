//! What the hardening stages of day 4 share: time on a paused clock, a handler that shows when it starts and
//! when it stops, and a listener in memory.

use std::io;
use std::net::SocketAddr;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use day7_registry::{Error, Handler, Listener, Request, Server};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, duplex};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::peer::{Peer, frame};
use super::{Caller, within};

pub const SECOND: Duration = Duration::from_secs(1);

pub fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
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

/// Lets every task go on until all of them wait: on the paused clock, time does not pass before.
pub async fn settle() {
    sleep(millis(1)).await;
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

/// The limit in an `Error::Timeout`, which `result` must be.
#[track_caller]
pub fn timed_out<T: std::fmt::Debug>(result: Result<T, Error>) -> Duration {
    match result {
        Err(Error::Timeout { after, .. }) => after,
        other => panic!("expected Error::Timeout, got {other:?}"),
    }
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

/// What happens inside of the handlers of [`probe`].
pub struct Probe {
    started: mpsc::UnboundedReceiver<u64>,
    stopped: mpsc::UnboundedReceiver<u64>,
    /// How many handlers are alive.
    pub alive: Arc<AtomicUsize>,
    /// The most that were alive at once.
    pub peak: Arc<AtomicUsize>,
    /// One permit lets one call of `Test.gate` go on.
    pub gate: Arc<Semaphore>,
}

impl Probe {
    /// Waits for the next handler to start, and returns its `seq`.
    #[track_caller]
    pub fn started(&mut self) -> impl Future<Output = u64> {
        let started = within("a handler starts", self.started.recv());
        async move { started.await.unwrap() }
    }

    /// Whether no handler has started since the last look.
    pub fn is_quiet(&mut self) -> bool {
        self.started.try_recv().is_err()
    }

    /// Waits for the next handler to go, and returns its `seq`.
    #[track_caller]
    pub fn stopped(&mut self) -> impl Future<Output = u64> {
        let stopped = within("a handler has been dropped", self.stopped.recv());
        async move { stopped.await.unwrap() }
    }
}

struct Alive {
    seq: u64,
    stopped: mpsc::UnboundedSender<u64>,
    alive: Arc<AtomicUsize>,
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, SeqCst);
        self.stopped.send(self.seq).ok();
    }
}

/// A handler with these methods.
///
/// * `Test.now` answers at once with its argument, and `Test.big` with a text of so many bytes.
/// * `Test.hang` never answers, `Test.gate` when the test lets it, `Test.later` after so many milliseconds, and
///   `Test.poll` when the server shuts down. These four tell when they start and when they are dropped.
pub fn probe() -> (impl Handler, Probe) {
    let (starts, started) = mpsc::unbounded_channel();
    let (stops, stopped) = mpsc::unbounded_channel();
    let (alive, peak, gate) = (Arc::default(), Arc::default(), Arc::new(Semaphore::new(0)));
    let probe = Probe { started, stopped, alive, peak, gate };
    let (alive, peak, gate) = (Arc::clone(&probe.alive), Arc::clone(&probe.peak), Arc::clone(&probe.gate));
    let handler = move |request: Request| {
        let (starts, stopped, gate) = (starts.clone(), stops.clone(), Arc::clone(&gate));
        let (alive, peak) = (Arc::clone(&alive), Arc::clone(&peak));
        async move {
            match request.service_method() {
                "Test.now" => return Ok(request.reply(&request.decode::<serde_json::Value>()?)?),
                "Test.big" => return Ok(request.reply(&"x".repeat(request.decode()?))?),
                _ => {}
            }
            let seq = request.seq();
            peak.fetch_max(alive.fetch_add(1, SeqCst) + 1, SeqCst);
            let _alive = Alive { seq, stopped, alive };
            starts.send(seq).ok();
            match request.service_method() {
                "Test.hang" => std::future::pending().await,
                "Test.gate" => gate.acquire().await?.forget(),
                "Test.later" => sleep(millis(request.decode()?)).await,
                "Test.poll" => request.shutting_down().await,
                other => anyhow::bail!("unknown method {other}"),
            }
            Ok(request.reply(&seq)?)
        }
    };
    (handler, probe)
}

/// A raw client of `server` after the handshake, over a stream in memory of so many bytes each way.
pub async fn peer_of(server: &Server, size: usize) -> (Peer<DuplexStream>, JoinHandle<Result<(), Error>>) {
    let (io, other_end) = duplex(size);
    let server = server.clone();
    let served = tokio::spawn(async move { server.serve_connection(other_end).await });
    let mut peer = Peer { io };
    peer.handshake_json().await;
    (peer, served)
}

/// A listener in memory.
pub struct InMemory {
    streams: mpsc::UnboundedReceiver<DuplexStream>,
    accepted: Arc<AtomicUsize>,
}

impl Listener for InMemory {
    type Io = DuplexStream;

    async fn accept(&mut self) -> io::Result<(DuplexStream, Option<SocketAddr>)> {
        let Some(io) = self.streams.recv().await else { return std::future::pending().await };
        self.accepted.fetch_add(1, SeqCst);
        Ok((io, None))
    }
}

/// The other side of an [`InMemory`].
pub struct Network {
    streams: mpsc::UnboundedSender<DuplexStream>,
    /// How many streams the server has accepted.
    pub accepted: Arc<AtomicUsize>,
}

impl Network {
    pub fn new() -> (Network, InMemory) {
        let (sender, streams) = mpsc::unbounded_channel();
        let accepted = Arc::<AtomicUsize>::default();
        (Network { streams: sender, accepted: Arc::clone(&accepted) }, InMemory { streams, accepted })
    }

    /// Connects. The stream holds so many bytes each way.
    pub fn connect(&self, size: usize) -> Peer<DuplexStream> {
        let (io, other_end) = duplex(size);
        self.streams.send(other_end).expect("the listener is there");
        Peer { io }
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
