//! Day 4: every wait ends, and nothing is left behind.
//!
//! The order is that of the lesson: connecting, calling, giving up, the handler's limit, clients that leave,
//! clients that do not read or do not speak, too many of them, shutdown, and the proof that nothing is left.
//! Most tests run on a paused clock, where a limit of seconds costs no time and can be checked to the
//! millisecond. A [`Probe`] tells when a handler starts and when its drop guard fires.

mod support;

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};
use std::time::Duration;

use day5_http::{
    CANCEL, Client, Codec, DEFAULT_MAX_CONNECTIONS, DEFAULT_MAX_PENDING, Error, Handler, Listener, Options,
    PendingCall, Reply, Request, Server,
};
use serde_json::json;
use support::peer::{Peer, frame, json_message, options};
use support::{alive_tasks, eventually, run, run_paused, start, within};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

// ---- helpers of this suite -------------------------------------------------------------------------------

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

// ---- connecting ------------------------------------------------------------------------------------------
// Chapter: Limits > connecting; Files of today > src/client.rs

/// Connecting to a server that accepts and then says nothing ends with `Error::Timeout`, in time.
///
/// TCP connects although nobody is at home; the system's queue accepts for a process that hangs.
///
/// Hint: `tokio::time::timeout` around all of `connect`, with the limit from the options.
#[test]
fn a_server_that_accepts_and_never_answers_is_given_up() {
    run(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let options = Options::default().connect_timeout(millis(50));
        let connecting = Client::connect(listener.local_addr().unwrap(), &options);
        assert_timeout(within("the end of connecting", connecting).await, millis(50));
    });
}

/// A server that sends its answer byte by byte gets the time of one limit for all of it.
///
/// A limit for each read, or one for each step, is never reached by a peer that moves now and then.
///
/// Hint: the limit wraps the whole handshake, not the reads in it.
#[test]
fn an_answer_that_drips_gets_one_limit_for_all_of_it() {
    run_paused(async || {
        let (ours, theirs) = duplex(1024);
        let dripping = tokio::spawn(async move {
            let mut io = theirs;
            for byte in frame(r#"{"codec":"application/json"}"#) {
                sleep(millis(900)).await;
                if io.write_all(&[byte]).await.is_err() {
                    return; // the client has hung up
                }
            }
        });
        let since = Instant::now();
        let options = readable().connect_timeout(SECOND);
        assert_timeout(within("the end of the handshake", Client::new(ours, &options)).await, SECOND);
        assert_took(since, SECOND);
        within("the client hangs up", dripping).await.unwrap();
    });
}

/// The time that TCP took is not given to the handshake once more.
///
/// "Five seconds" that are five for the connection and five for the handshake are ten.
///
/// Hint: one `timeout` around both steps; `Client::new` has one of its own, so do not call it from there.
#[cfg(target_os = "linux")]
#[test]
fn connecting_has_one_deadline_for_tcp_and_the_handshake() {
    run(async || {
        // A listener whose queue is full: Linux lets the next one wait, and tries again after a second.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let addr = listener.local_addr().unwrap();
        let mut queued = Vec::new();
        while let Ok(connected) = timeout(millis(50), TcpStream::connect(addr)).await {
            queued.push(connected.unwrap());
            assert!(queued.len() < 64, "the queue of the listener is never full");
        }
        let limit = millis(1500);
        let since = std::time::Instant::now();
        let connecting =
            tokio::spawn(
                async move { Client::connect(addr, &Options::default().connect_timeout(limit)).await },
            );
        sleep(millis(100)).await; // not for an event: it is what makes TCP slow
        let _accepted = tokio::spawn(async move {
            let mut accepted = Vec::new();
            while let Ok((io, _)) = listener.accept().await {
                accepted.push(io); // kept open, and never answered
            }
        });
        assert_timeout(within("the end of connecting", connecting).await.unwrap(), limit);
        let took = since.elapsed();
        assert!(took < limit + millis(700), "took {took:?}: more than one limit of {limit:?}");
    });
}

/// After many dials that timed out, no task is left, and the server sees every connection closed.
///
/// A dial in a task of its own, with a timer beside it, leaves that task behind.
///
/// Hint: nothing is spawned before the handshake is done; dropping the future drops the socket.
#[test]
fn dials_that_time_out_leave_nothing_behind() {
    run(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let before = alive_tasks();
        let mut dials = tokio::task::JoinSet::new();
        let mut accepted = Vec::new();
        for _ in 0..100 {
            dials.spawn(async move {
                Client::connect(addr, &Options::default().connect_timeout(millis(50))).await
            });
            accepted.push(within("a connection", listener.accept()).await.unwrap().0);
        }
        while let Some(dialed) = within("the end of a dial", dials.join_next()).await {
            assert_timeout(dialed.unwrap(), millis(50));
        }
        for io in &mut accepted {
            within("the client closes the socket", io.read_to_end(&mut Vec::new())).await.unwrap();
        }
        eventually("all tasks of the dials have ended", || alive_tasks() == before).await;
    });
}

// ---- calling ---------------------------------------------------------------------------------------------
// Chapter: Limits > a call; The wire > A cancel

/// A call without a reply ends with `Error::Timeout`, at its limit, and its entry goes with it.
///
/// An entry that stays in the table is a leak for each timeout.
///
/// Hint: the guard of the entry is inside of the future that `timeout` drops.
#[test]
fn a_call_ends_at_its_limit_and_its_entry_is_gone() {
    run_paused(async || {
        let (client, _peer) = client_and_peer(&readable().call_timeout(2 * SECOND), 1024).await;
        let since = Instant::now();
        assert_timeout(within("the end", client.call::<_, ()>("Test.hang", &())).await, 2 * SECOND);
        assert_took(since, 2 * SECOND);
        assert_eq!(client.in_flight(), 0);

        let since = Instant::now();
        let call = client.call_within::<_, ()>(millis(700), "Test.hang", &());
        assert_timeout(within("the end of a call with a limit of its own", call).await, millis(700));
        assert_took(since, millis(700));
        assert_eq!(client.in_flight(), 0);
    });
}

/// The limit of a call that was started counts from its start, and its entry goes at the limit, not when
/// somebody drops the `PendingCall`.
///
/// A limit that begins with the first poll gives a caller who was busy the whole time again.
///
/// Hint: keep the deadline as an instant, and drop what is inside when it is reached.
#[test]
fn a_started_call_has_its_limit_from_its_start_on() {
    run_paused(async || {
        let (client, _peer) = client_and_peer(&readable().call_timeout(2 * SECOND), 1024).await;
        let since = Instant::now();
        let mut call = client.start::<_, ()>("Test.hang", &()).await.unwrap();
        sleep(millis(1500)).await;
        assert_eq!(client.in_flight(), 1);
        assert_timeout(within("the end of the call", &mut call).await, 2 * SECOND);
        assert_took(since, 2 * SECOND);
        assert_eq!(client.in_flight(), 0, "the entry is gone, though the caller still holds the call");
        drop(call);
    });
}

/// A caller that gives up tells the server, with exactly these bytes, after its request.
///
/// A server that is never told goes on working for nobody.
///
/// Hint: the drop guard of the table's entry knows whether a reply has come.
#[test]
fn a_call_that_times_out_sends_a_cancel() {
    run_paused(async || {
        let (client, mut peer) = client_and_peer(&readable(), 1024).await;
        assert_timeout(client.call_within::<_, ()>(SECOND, "Test.hang", &7).await, SECOND);
        let sent = b"\0\0\0\x33{\"service_method\":\"Test.hang\",\"seq\":1,\"error\":null}\0\0\0\x017";
        let cancel = b"\0\0\0\x32{\"service_method\":\"$/cancel\",\"seq\":1,\"error\":null}\0\0\0\0";
        assert_eq!(CANCEL, "$/cancel");
        for expected in [&sent[..], &cancel[..]] {
            let mut bytes = vec![0; expected.len()];
            within("the request and its cancel", peer.io.read_exact(&mut bytes)).await.unwrap();
            assert_eq!(String::from_utf8_lossy(&bytes), String::from_utf8_lossy(expected));
        }
    });
}

/// The same cancel in bincode.
///
/// The name is text in any codec, and the body is an empty frame in any codec.
///
/// Hint: the header goes through the codec as any other; the body does not.
#[test]
fn a_cancel_in_bincode_is_these_bytes() {
    run_paused(async || {
        let (ours, theirs) = duplex(1024);
        let mut peer = Peer { io: theirs };
        let options = Options::default().codecs([Codec::Bincode]);
        let (client, _) =
            tokio::join!(Client::new(ours, &options), peer.accept_handshake("application/bincode"));
        let client = client.unwrap();
        assert_timeout(client.call_within::<_, ()>(SECOND, "T.m", &7_u8).await, SECOND);
        let expected = [
            &[0, 0, 0, 6, 3, b'T', b'.', b'm', 1, 0, 0, 0, 0, 1, 7][..],
            &[0, 0, 0, 11, 8, b'$', b'/', b'c', b'a', b'n', b'c', b'e', b'l', 1, 0, 0, 0, 0, 0][..],
        ]
        .concat();
        let mut bytes = vec![0; expected.len()];
        within("the request and its cancel", peer.io.read_exact(&mut bytes)).await.unwrap();
        assert_eq!(bytes, expected);
    });
}

/// A reply that comes after the caller has given up reaches nobody, and the next call works.
///
/// In Go the late reply is written into the variable that the caller has back already. Here the caller owns
/// its reply, and there is nothing to write into; but it must not end the connection either.
///
/// Hint: a reply that nobody waits for is ignored.
#[test]
fn a_late_reply_is_ignored_and_the_connection_goes_on() {
    run_paused(async || {
        let (client, mut peer) = client_and_peer(&readable(), 1024).await;
        assert_timeout(client.call_within::<_, i32>(SECOND, "Test.slow", &()).await, SECOND);
        assert_eq!(peer.read_message().await.seq(), 1);
        assert_eq!(peer.read_message().await.header["service_method"], "$/cancel");
        peer.send(&json_message("Test.slow", 1, json!(1))).await;

        let call = tokio::spawn({
            let client = client.clone();
            async move { client.call::<_, i32>("Test.now", &()).await }
        });
        let request = peer.read_message().await;
        assert_eq!((&request.header["service_method"], request.seq()), (&json!("Test.now"), 2));
        peer.send(&json_message("Test.now", 2, json!(2))).await;
        assert_eq!(within("the reply", call).await.unwrap().unwrap(), 2);
        assert!(client.is_available());
    });
}

/// Dropping the future of a call, or a `PendingCall`, sends a cancel, as a timeout does. So does a caller that
/// panics.
///
/// `select!` and `timeout` of the caller's own are the usual ways to give up, and both just drop.
///
/// Hint: one guard for all ways: it does not matter why the entry is dropped.
#[test]
fn dropping_a_call_sends_a_cancel() {
    run_paused(async || {
        let (client, mut peer) = client_and_peer(&readable(), 1024).await;
        let called = timeout(SECOND, client.call::<_, ()>("Test.hang", &())).await;
        assert!(called.is_err(), "nobody answers");
        let started = client.start::<_, ()>("Test.hang", &()).await.unwrap();
        assert_eq!(started.seq(), 2, "the number that its cancel will have");
        drop(started);
        let panics = tokio::spawn({
            let client = client.clone();
            async move {
                let _started = client.start::<_, ()>("Test.hang", &()).await.unwrap();
                panic!("this panic is part of the test");
            }
        });
        assert!(within("the end of a caller's task", panics).await.unwrap_err().is_panic());
        assert_eq!(client.in_flight(), 0);
        for seq in [1, 2, 3] {
            assert_eq!(peer.read_message().await.seq(), seq);
            let mut cancel = vec![0; cancel_bytes(seq).len()];
            within("the cancel", peer.io.read_exact(&mut cancel)).await.unwrap();
            assert_eq!(cancel, cancel_bytes(seq));
        }
    });
}

/// A call that has its reply sends no cancel, whether the reply is good, an error, of a wrong type, or never
/// looked at.
///
/// A cancel for each call doubles the traffic, and may hit a later call of the same number.
///
/// Hint: only an entry that is still in the table when it is dropped was given up.
#[test]
fn a_call_that_has_its_reply_sends_no_cancel() {
    run_paused(async || {
        let (client, mut peer) = client_and_peer(&readable(), 1024).await;
        let replies = [
            json_message("Test.a", 1, json!(1)),
            support::peer::json_error("Test.a", 2, "no"),
            json_message("Test.a", 3, json!("not a number")),
            json_message("Test.a", 4, json!(4)),
        ];
        for (reply, awaited) in replies.into_iter().zip([true, true, true, false]) {
            let call = client.start::<_, i32>("Test.a", &()).await.unwrap();
            assert_eq!(peer.read_message().await.header["service_method"], "Test.a");
            peer.send(&reply).await;
            eventually("the reply has come", || client.in_flight() == 0).await;
            if awaited {
                let _ = within("the reply", call).await; // good or bad, it is here
            }
        }
        let _last = client.start::<_, i32>("Test.last", &()).await.unwrap();
        assert_eq!(peer.read_message().await.header["service_method"], "Test.last", "no cancel before it");
    });
}

/// A call that was never sent sends no cancel: one that waits for room, one that cannot be encoded.
///
/// The server would get a cancel for a call that it does not know, or worse, for a later one.
///
/// Hint: the guard learns of the server only after the request is queued.
#[test]
fn a_call_that_was_never_sent_sends_no_cancel() {
    run_paused(async || {
        let (client, mut peer) = client_and_peer(&readable(), 1 << 20).await;
        let calls = start_all(&client, DEFAULT_MAX_PENDING).await;
        let never = client.call_within::<_, ()>(SECOND, "Test.never", &());
        assert_timeout(within("the limit", never).await, SECOND);
        assert!(timeout(SECOND, client.start::<_, ()>("Test.never", &())).await.is_err(), "there is no room");
        let no_json = HashMap::from([((1, 2), 3)]);
        let unsent = client.call::<_, ()>("Test.never", &no_json).await;
        assert!(matches!(unsent, Err(Error::Encode { .. })), "{unsent:?}");

        for _ in &calls {
            assert_eq!(peer.read_message().await.header["service_method"], "Test.hang");
        }
        peer.send(&json_message("Test.hang", 1, json!(null))).await;
        let _last = within("room for one more", client.start::<_, ()>("Test.last", &())).await.unwrap();
        assert_eq!(peer.read_message().await.header["service_method"], "Test.last");
    });
}

async fn start_all(client: &Client, count: usize) -> Vec<PendingCall<()>> {
    let mut calls = Vec::new();
    for _ in 0..count {
        calls.push(within("a call starts", client.start("Test.hang", &())).await.unwrap());
    }
    calls
}

/// A call that waits for its turn ends at its limit.
///
/// The queue is a wait like any other; a limit that begins behind it may never begin.
///
/// Hint: the limit wraps `register` too.
#[test]
fn the_limit_covers_waiting_for_room() {
    run_paused(async || {
        let (client, _peer) = client_and_peer(&readable().call_timeout(2 * SECOND), 1 << 20).await;
        let _calls = start_all(&client, DEFAULT_MAX_PENDING).await;
        let since = Instant::now();
        assert_timeout(within("the end", client.call::<_, ()>("Test.now", &())).await, 2 * SECOND);
        assert_took(since, 2 * SECOND);
        let since = Instant::now();
        let started = within("the end of a start", client.start::<_, ()>("Test.now", &())).await;
        assert_timeout(started.map(|_| ()), 2 * SECOND);
        assert_took(since, 2 * SECOND);
        assert_eq!(client.in_flight(), DEFAULT_MAX_PENDING, "those in flight are unharmed");
    });
}

/// A call whose request cannot be written, since the server does not read, ends at its limit.
///
/// A call of 100 ms took two seconds: its limit began when the request was out.
///
/// Hint: the caller does not write. It queues, and waits with its limit.
#[test]
fn the_limit_covers_writing_the_request() {
    run_paused(async || {
        let (client, _peer) = client_and_peer(&readable().call_timeout(2 * SECOND), 64).await;
        for _ in 0..2 {
            let since = Instant::now();
            let large = "x".repeat(100_000);
            assert_timeout(within("the end", client.call::<_, ()>("Test.now", &large)).await, 2 * SECOND);
            assert_took(since, 2 * SECOND);
        }
        assert_eq!(client.in_flight(), 0);
    });
}

/// A server that takes not one byte for the write limit loses its connection, and all callers hear.
///
/// Calls without a limit of their own would wait for it for ever.
///
/// Hint: a limit for each step of a write; every byte that is taken starts it anew.
#[test]
fn a_server_that_does_not_read_loses_the_connection() {
    run_paused(async || {
        let options = readable().write_timeout(2 * SECOND).call_timeout(Duration::MAX);
        let (client, mut peer) = client_and_peer(&options, 64).await;
        let call = client.start::<_, ()>("Test.now", &"x".repeat(1000)).await.unwrap();
        sleep(millis(1900)).await;
        within("room for a byte", peer.io.read_u8()).await.unwrap();
        sleep(millis(1900)).await;
        assert!(client.is_available(), "the server is slow, but it reads");
        let since = Instant::now();
        let outcome = within("the end of the call", call).await;
        assert!(matches!(outcome, Err(Error::Disconnected(_))), "{outcome:?}");
        assert_took(since, millis(100));
        assert!(!client.is_available());
    });
}

/// Calls that are started and dropped while the server does not read stop being accepted at some point; and
/// when it reads again, every request is followed by its cancel.
///
/// A dropped call gives its place back. If its messages were still in the queue, the queue would grow for as
/// long as somebody retries.
///
/// Hint: the cancel keeps the place of its call until it is written.
#[test]
fn calls_that_are_given_up_do_not_pile_up_before_a_stalled_server() {
    run_paused(async || {
        let options = readable().call_timeout(SECOND).write_timeout(Duration::MAX);
        let (client, mut peer) = client_and_peer(&options, 64).await;
        let (mut started, mut held) = (0, Vec::new());
        let ended = loop {
            match within("a call starts, or not", client.start::<_, ()>("Test.hang", &())).await {
                Ok(call) => held.push(call),
                Err(error) => break error,
            }
            started += 1;
            assert!(started < 4 * DEFAULT_MAX_PENDING, "{started} calls were accepted, and nobody reads");
            if held.len() == 100 {
                held.clear();
            }
        };
        drop(held);
        assert_timeout(Err::<(), _>(ended), SECOND);
        assert!(started >= DEFAULT_MAX_PENDING, "only {started} calls were accepted");

        let (mut requests, mut cancels) = (BTreeSet::new(), BTreeSet::new());
        while cancels.len() < started {
            let message = peer.read_message().await;
            if message.header["service_method"] == "$/cancel" {
                assert!(requests.contains(&message.seq()), "a cancel before its request: {message:?}");
                cancels.insert(message.seq());
            } else {
                requests.insert(message.seq());
            }
        }
        assert_eq!(requests.len(), started);
        let _next = within("room for the next call", client.start::<_, ()>("Test.next", &())).await.unwrap();
        assert_eq!(peer.read_message().await.header["service_method"], "Test.next");
    });
}

/// `Duration::MAX` in every setter is a limit that is never reached, and no panic.
///
/// `Instant::now() + Duration::MAX` panics.
///
/// Hint: `Instant::checked_add`, and "too far to tell" is "never".
#[test]
fn the_longest_limits_do_not_panic() {
    run_paused(async || {
        for longest in [Duration::MAX, millis(u64::MAX)] {
            let (handler, _probe) = probe();
            let server = Server::new(handler)
                .handshake_timeout(longest)
                .handle_timeout(longest)
                .write_timeout(longest)
                .grace_period(longest);
            let options = Options::default()
                .connect_timeout(longest)
                .call_timeout(longest)
                .handle_timeout(longest)
                .write_timeout(longest);
            let (street, door) = Street::new();
            let (stop, stopped) = oneshot::channel::<()>();
            let serving = tokio::spawn(async move {
                let signal = async { stopped.await.unwrap() };
                server.serve_with_shutdown(door, signal).await
            });
            let client = street.client(&options).await;
            within("a reply", client.call::<_, u64>("Test.later", &10_u64)).await.unwrap();
            within("a reply", client.call_within::<_, u64>(longest, "Test.later", &10_u64)).await.unwrap();
            within("a reply", client.start::<_, u64>("Test.later", &10_u64).await.unwrap()).await.unwrap();
            within("a large reply", client.call::<_, String>("Test.big", &1_000_000_u64)).await.unwrap();
            stop.send(()).unwrap();
            within("the end of the server", serving).await.unwrap().unwrap();
        }
    });
}

// ---- a caller that gives up, at the server ----------------------------------------------------------------
// Chapter: The wire > A cancel; The wire > A seq that is in flight

/// A cancel stops the handler at its `await`, and has no reply.
///
/// The drop guard in the handler is what a real one undoes its work with.
///
/// Hint: abort the task of the call; the next reply on the wire belongs to the next call.
#[test]
fn a_cancel_stops_the_handler_and_has_no_reply() {
    run_paused(async || {
        let (handler, mut probe) = probe();
        let (mut peer, _served) = peer_of(&Server::new(handler), 1024).await;
        peer.send(&json_message("Test.hang", 1, json!(null))).await;
        assert_eq!(probe.started().await, 1);
        peer.send(&cancel_bytes(1)).await;
        assert_eq!(probe.stopped().await, 1);
        peer.send(&json_message("Test.now", 2, json!(null))).await;
        assert_eq!(peer.read_message().await.seq(), 2);
    });
}

/// A cancel of a call that is unknown, or done, or cancelled already changes nothing.
///
/// A cancel and a reply may pass each other on the way; that is no one's fault.
///
/// Hint: if there is nothing to abort, there is nothing to say.
#[test]
fn a_cancel_of_nothing_is_ignored() {
    run_paused(async || {
        let (handler, mut probe) = probe();
        let (mut peer, _served) = peer_of(&Server::new(handler), 1024).await;
        peer.send(&json_message("Test.gate", 1, json!(null))).await;
        peer.send(&json_message("Test.now", 2, json!(null))).await;
        assert_eq!(peer.read_message().await.seq(), 2);
        assert_eq!(probe.started().await, 1);
        for seq in [2, 3, 3, u64::MAX] {
            peer.send(&cancel_bytes(seq)).await; // 2 is done, the others never were
        }
        probe.gate.add_permits(1);
        let reply = peer.read_message().await;
        assert_eq!((reply.seq(), reply.error()), (1, ""), "the call in flight is unharmed");
        peer.send(&json_message("Test.now", 3, json!(null))).await;
        let reply = peer.read_message().await;
        assert_eq!((reply.seq(), reply.error()), (3, ""), "a cancel is not kept for a later call");
    });
}

/// The handler of a client that gives up is stopped, for a timeout and for a dropped future.
///
/// The whole way, both halves of ours together, over a socket.
///
/// Hint: none; if the tests before this one pass, so does this.
#[test]
fn when_a_caller_gives_up_its_handler_stops() {
    run(async || {
        let (handler, mut probe) = probe();
        let server = start(Server::new(handler)).await;
        let client = within("connecting", Client::connect(server.addr, &Options::default())).await.unwrap();
        assert_timeout(client.call_within::<_, ()>(millis(20), "Test.hang", &()).await, millis(20));
        assert_eq!(probe.stopped().await, 1);

        let call = client.start::<_, ()>("Test.hang", &()).await.unwrap();
        assert_eq!((probe.started().await, probe.started().await), (1, 2));
        drop(call);
        assert_eq!(probe.stopped().await, 2);
        assert_eq!(within("a reply", client.call::<_, u64>("Test.now", &())).await.unwrap(), 3);
    });
}

/// A call that is cancelled makes room for another, if `max_in_flight` are in flight.
///
/// Else a client that gives up calls locks itself out.
///
/// Hint: what counts is who still waits.
#[test]
fn a_cancelled_call_makes_room() {
    run_paused(async || {
        let (handler, mut probe) = probe();
        let (mut peer, _served) = peer_of(&Server::new(handler).max_in_flight(1), 1024).await;
        peer.send(&json_message("Test.hang", 1, json!(null))).await;
        peer.send(&json_message("Test.later", 2, json!(1))).await;
        let busy = peer.read_message().await;
        assert_eq!(busy.seq(), 2);
        assert!(!busy.error().is_empty(), "one too many is refused: {busy:?}");
        peer.send(&cancel_bytes(1)).await;
        assert_eq!(probe.stopped().await, 1);
        peer.send(&json_message("Test.later", 3, json!(1))).await;
        let reply = peer.read_message().await;
        assert_eq!((reply.seq(), reply.error()), (3, ""));
    });
}

/// After a cancel the client may use the `seq` again, and the outcome of the old call is not taken for that
/// of the new one, even if both were there at the same time.
///
/// A handler may be done at the moment of its cancel; then its outcome waits for somebody to fetch it.
///
/// Hint: the number tells calls apart for the client; for you, the task does.
#[test]
fn a_cancelled_call_does_not_answer_for_the_next_of_its_number() {
    run_paused(async || {
        let (handler, mut probe) = probe();
        let (mut peer, _served) = peer_of(&Server::new(handler), 1024).await;
        peer.send(&json_message("Test.gate", 7, json!(null))).await;
        assert_eq!(probe.started().await, 7);
        probe.gate.add_permits(1); // the handler ends, and only then the connection reads on
        let again = json_message("Test.hang", 7, json!(null));
        peer.send(&[cancel_bytes(7), again, json_message("Test.later", 8, json!(5))].concat()).await;
        assert_eq!(probe.stopped().await, 7);
        assert_eq!(peer.read_message().await.seq(), 8, "7 hangs");
        peer.send(&cancel_bytes(7)).await;
        assert_eq!((probe.stopped().await, probe.stopped().await), (8, 7));
    });
}

/// "call, cancel, call, cancel, …" as fast as it goes has no more handlers alive than the limit, but for the
/// one that is just being stopped.
///
/// Aborting is asking; the task is there until it has run once more. HTTP/2 servers had to learn this in
/// 2023, under the name of "rapid reset".
///
/// Hint: as long as too many of the cancelled are not gone, do not read on.
#[test]
fn calls_and_cancels_in_a_row_pile_up_nothing() {
    run_paused(async || {
        let (handler, probe) = probe();
        let (mut peer, _served) = peer_of(&Server::new(handler).max_in_flight(8), 1 << 20).await;
        let pairs =
            (1..=2000).flat_map(|seq| [json_message("Test.hang", seq, json!(null)), cancel_bytes(seq)]);
        peer.send(&pairs.flatten().collect::<Vec<_>>()).await;
        peer.send(&json_message("Test.now", 3000, json!(null))).await;
        let reply = peer.read_message().await;
        assert_eq!((reply.seq(), reply.error()), (3000, ""), "none of them was refused");
        eventually("all handlers are gone", || probe.handlers.now() == 0).await;
        let (peak, total) = (probe.handlers.peak.load(SeqCst), probe.handlers.total.load(SeqCst));
        assert!(total > 0, "no handler has run");
        assert!(peak <= 9, "{peak} handlers were alive at once, and the limit is 8");
    });
}

/// A `seq` that is in flight already ends the connection, with the reason.
///
/// Two calls with one number cannot be told apart, neither by their replies nor by a cancel.
///
/// Hint: a message with `seq` 0 and an error, then the end; the handlers go.
#[test]
fn a_seq_that_is_in_flight_already_ends_the_connection() {
    run_paused(async || {
        let (handler, mut probe) = probe();
        let (mut peer, served) = peer_of(&Server::new(handler), 1024).await;
        peer.send(&json_message("Test.hang", 5, json!(null))).await;
        peer.send(&json_message("Test.hang", 5, json!(null))).await;
        let goodbye = peer.read_message().await;
        assert_eq!(goodbye.seq(), 0);
        assert!(goodbye.error().contains('5'), "it says which: {goodbye:?}");
        peer.expect_end().await;
        assert_eq!(probe.stopped().await, 5);
        let ended = within("the end of the connection", served).await.unwrap();
        assert!(matches!(ended, Err(Error::Protocol(_))), "{ended:?}");
    });
}

// ---- the handler's limit ----------------------------------------------------------------------------------
// Chapter: Limits > a handler; The wire > Options

/// A handler over its limit is stopped, its call has an error reply, and the connection goes on.
///
/// The big one. GeeRPC answers, but the handler stays: 20,000 timeouts left 20,003 tasks.
///
/// Hint: put the handler's future inside of `timeout`, not beside it.
#[test]
fn a_handler_over_its_limit_is_stopped_and_its_call_answered() {
    run_paused(async || {
        let (handler, mut probe) = probe();
        let client = client_of(&Server::new(handler).handle_timeout(2 * SECOND), &Options::default()).await;
        let since = Instant::now();
        let outcome = within("an error reply", client.call::<_, ()>("Test.hang", &())).await;
        assert!(matches!(outcome, Err(Error::Remote(_))), "{outcome:?}");
        assert_took(since, 2 * SECOND);
        assert_eq!(probe.stopped().await, 1);
        assert_eq!(probe.handlers.now(), 0);
        assert_eq!(within("a reply", client.call::<_, u64>("Test.later", &1900_u64)).await.unwrap(), 2);
    });
}

/// Of the client's wish and the server's own limit the smaller one holds, whichever it is.
///
/// In GeeRPC the client alone decides, and its 0 means "for ever".
///
/// Hint: `min`; no wish is not a wish of 0.
#[test]
fn the_smaller_handle_timeout_wins() {
    run_paused(async || {
        let cases = [
            (3 * SECOND, Some(SECOND), SECOND),
            (SECOND, Some(3 * SECOND), SECOND),
            (SECOND, Some(Duration::MAX), SECOND),
            (SECOND, Some(Duration::ZERO), Duration::ZERO),
            (Duration::MAX, Some(SECOND), SECOND),
            (SECOND, None, SECOND),
        ];
        for (own, wish, expected) in cases {
            let (handler, _probe) = probe();
            let mut options = Options::default();
            if let Some(wish) = wish {
                options = options.handle_timeout(wish);
            }
            let client = client_of(&Server::new(handler).handle_timeout(own), &options).await;
            let since = Instant::now();
            let outcome = within("an error reply", client.call::<_, ()>("Test.hang", &())).await;
            assert!(matches!(outcome, Err(Error::Remote(_))), "{own:?} {wish:?}: {outcome:?}");
            assert_took(since, expected);
        }
    });
}

/// The wish is in the client's first frame as `"handle_timeout_ms"`, and only if there is one. The limits
/// that the client keeps by itself are not sent.
///
/// The frame is a contract with clients and servers in other languages.
///
/// Hint: whole milliseconds, rounded up: half a millisecond is not "at once".
#[test]
fn the_wish_for_a_handle_timeout_is_on_the_wire() {
    run_paused(async || {
        let base = readable().connect_timeout(SECOND).call_timeout(SECOND).write_timeout(SECOND);
        let cases = [
            (base.clone(), r#"{"magic_number":3927900,"codecs":["application/json"]}"#),
            (
                base.clone().handle_timeout(millis(1500)),
                r#"{"magic_number":3927900,"codecs":["application/json"],"handle_timeout_ms":1500}"#,
            ),
            (
                base.clone().handle_timeout(Duration::from_micros(500)),
                r#"{"magic_number":3927900,"codecs":["application/json"],"handle_timeout_ms":1}"#,
            ),
            (
                base.clone().handle_timeout(Duration::ZERO),
                r#"{"magic_number":3927900,"codecs":["application/json"],"handle_timeout_ms":0}"#,
            ),
            (
                base.handle_timeout(Duration::MAX),
                r#"{"magic_number":3927900,"codecs":["application/json"],"handle_timeout_ms":18446744073709551615}"#,
            ),
        ];
        for (options, expected) in cases {
            let (ours, theirs) = duplex(1024);
            let _connecting = tokio::spawn(async move { Client::new(ours, &options).await });
            let frame = Peer { io: theirs }.read_frame().await;
            assert_eq!(String::from_utf8_lossy(&frame), expected);
        }
    });
}

/// Options that were read, from a file say, have the default limits for what cannot be in there.
///
/// The default of a duration is zero, and with that nobody connects.
///
/// Hint: serde's `skip` can be told where the default is.
#[test]
fn options_that_were_read_have_the_default_limits() {
    run(async || {
        let written = serde_json::to_string(&Options::default().handle_timeout(SECOND)).unwrap();
        let read: Options = serde_json::from_str(&written).unwrap();
        assert_eq!(read, Options::default().handle_timeout(SECOND));
    });
}

/// A wish of 0 and one of 584 million years are served by a server whose own limit is none.
///
/// The number comes from a peer, and `Instant::now() + Duration::from_millis(u64::MAX)` is a panic on some
/// systems; 0 is a wish too, and not "for ever".
///
/// Hint: nobody adds to an `Instant` what a peer sends without checking.
#[test]
fn a_wish_of_nothing_or_of_ages_is_served() {
    run_paused(async || {
        for wish in [0, 1, u64::MAX - 1, u64::MAX] {
            let (handler, mut probe) = probe();
            let (io, _served) = serve_in_memory(&Server::new(handler).handle_timeout(Duration::MAX), 1024);
            let mut peer = Peer { io };
            let options = format!(
                r#"{{"magic_number":3927900,"codecs":["application/json"],"handle_timeout_ms":{wish}}}"#
            );
            peer.send(&frame(options)).await;
            assert_eq!(peer.read_json().await, json!({"codec": "application/json"}));
            peer.send(&json_message("Test.now", 1, json!(null))).await;
            assert_eq!(peer.read_message().await.error(), "", "ready at once is in time, for {wish} ms");
            peer.send(&json_message("Test.later", 2, json!(20))).await;
            let reply = peer.read_message().await;
            assert_eq!(reply.seq(), 2);
            assert_eq!(!reply.error().is_empty(), wish < 20, "{wish} ms: {reply:?}");
            assert_eq!(probe.stopped().await, 2);
        }
    });
}

/// A handler that is ready when it is asked is answered, however small the limit.
///
/// A limit is for waits, and this is none. Nor does a timer cost such a call anything.
///
/// Hint: poll the handler before you look at the clock.
#[test]
fn a_handler_that_is_ready_at_once_is_always_in_time() {
    run_paused(async || {
        for limit in [Duration::ZERO, Duration::from_nanos(1)] {
            let (handler, _probe) = probe();
            let client = client_of(&Server::new(handler).handle_timeout(limit), &Options::default()).await;
            for seq in 1..=100 {
                assert_eq!(within("a reply", client.call::<_, u64>("Test.now", &())).await.unwrap(), seq);
            }
        }
    });
}

/// A handler whose clean-up panics when it is stopped costs its own call only, and that is answered.
///
/// A guard's `Drop` is code of the application as well, and it runs where nobody expects a panic.
///
/// Hint: catch it where the future is dropped; else the task is gone, and its place is taken for ever.
#[test]
fn a_panic_in_the_clean_up_costs_its_own_call_only() {
    struct Bad;
    impl Drop for Bad {
        fn drop(&mut self) {
            panic!("this panic is part of the test");
        }
    }
    run_paused(async || {
        let handler = async |request: Request| -> anyhow::Result<Reply> {
            if request.service_method() == "Test.now" {
                return Ok(request.reply(&())?);
            }
            let _bad = Bad;
            std::future::pending().await
        };
        let server = Server::new(handler).handle_timeout(SECOND).max_in_flight(1);
        let (mut peer, _served) = peer_of(&server, 1024).await;
        for seq in [1, 2] {
            peer.send(&json_message("Test.bad", seq, json!(null))).await;
            let reply = peer.read_message().await;
            assert_eq!(reply.seq(), seq);
            assert!(reply.error().contains("timed out"), "not {:?}", reply.error());
        }
        peer.send(&json_message("Test.bad", 3, json!(null))).await;
        peer.send(&cancel_bytes(3)).await;
        peer.send(&json_message("Test.now", 4, json!(null))).await;
        assert_eq!(peer.read_message().await.seq(), 4);
    });
}

// ---- clients that leave, that do not speak, that do not read --------------------------------------------------
// Chapter: Limits > a handshake; Limits > a write in which the client takes not one byte

/// The handlers of a client that has gone are stopped, however it went: closed, dropped in the middle of a
/// message, or reset.
///
/// GeeRPC waits for handlers that nobody listens to any more.
///
/// Hint: the connection's task owns its handlers, and it ends when reading ends.
#[test]
fn handlers_of_a_client_that_has_gone_are_stopped() {
    run(async || {
        let (handler, mut probe) = probe();
        let server = start(Server::new(handler)).await;

        let client = within("connecting", Client::connect(server.addr, &Options::default())).await.unwrap();
        let call = client.start::<_, ()>("Test.hang", &()).await.unwrap();
        probe.started().await;
        client.close();
        probe.stopped().await;
        drop(call);

        let client = within("connecting", Client::connect(server.addr, &Options::default())).await.unwrap();
        let call = client.start::<_, ()>("Test.hang", &()).await.unwrap();
        probe.started().await;
        drop((client, call));
        probe.stopped().await;

        let mut peer = Peer::connect_json(server.addr).await;
        peer.send(&json_message("Test.hang", 1, json!(null))).await;
        probe.started().await;
        let next = json_message("Test.hang", 2, json!(null));
        peer.send(&next[..next.len() / 2]).await;
        drop(peer);
        probe.stopped().await;

        let mut peer = Peer::connect_json(server.addr).await;
        peer.send(&json_message("Test.hang", 1, json!(null))).await;
        probe.started().await;
        peer.io.set_zero_linger().unwrap(); // closing sends a reset
        drop(peer);
        probe.stopped().await;
    });
}

/// A peer that connects and says nothing is told so at the limit, and dropped.
///
/// Connections that cost nothing to hold are held for ever.
///
/// Hint: one limit around the handshake; then an answer that says `error`.
#[test]
fn a_silent_peer_is_dropped_and_told_why() {
    run_paused(async || {
        let (handler, _probe) = probe();
        let (io, served) = serve_in_memory(&Server::new(handler).handshake_timeout(2 * SECOND), 1024);
        let since = Instant::now();
        let mut peer = Peer { io };
        let answer = peer.read_json().await;
        assert_took(since, 2 * SECOND);
        assert!(answer["error"].as_str().is_some_and(|error| error.contains("timed out")), "{answer}");
        peer.expect_end().await;
        assert_timeout(within("the end of the connection", served).await.unwrap(), 2 * SECOND);
    });
}

/// A peer that sends its handshake byte by byte has the time of one limit for all of it.
///
/// "slow loris": a limit for each read is never reached.
///
/// Hint: the limit wraps the handshake, not the reads in it.
#[test]
fn a_peer_that_drips_its_handshake_is_dropped_too() {
    run_paused(async || {
        let (handler, _probe) = probe();
        let (mut io, served) = serve_in_memory(&Server::new(handler).handshake_timeout(2 * SECOND), 1024);
        let since = Instant::now();
        let dripping = tokio::spawn(async move {
            for byte in options(&["application/json"]) {
                sleep(millis(500)).await;
                if io.write_all(&[byte]).await.is_err() {
                    return since.elapsed();
                }
            }
            panic!("all of the handshake was taken, after {:?}", since.elapsed());
        });
        let ended = timeout(4 * SECOND, served).await.expect("never happened: the end of the connection");
        assert_timeout(ended.unwrap(), 2 * SECOND);
        assert!(since.elapsed() < 4 * SECOND, "{:?}", since.elapsed());
        within("the peer notices", dripping).await.unwrap();
    });
}

/// A client that takes not one byte of its replies is dropped at the write limit, and its handlers go.
///
/// One peer that does not read holds 65 tasks in GeeRPC, for ever.
///
/// Hint: the write is the wait; the limit is on a step of it.
#[test]
fn a_peer_that_never_reads_is_dropped_with_its_handlers() {
    run_paused(async || {
        let (handler, mut probe) = probe();
        let (mut peer, served) = peer_of(&Server::new(handler).write_timeout(3 * SECOND), 256).await;
        peer.send(&json_message("Test.hang", 1, json!(null))).await;
        assert_eq!(probe.started().await, 1);
        peer.send(&json_message("Test.big", 2, json!(100_000))).await;
        let since = Instant::now();
        assert_timeout(within("the end of the connection", served).await.unwrap(), 3 * SECOND);
        assert_took(since, 3 * SECOND);
        assert_eq!(probe.stopped().await, 1);
    });
}

/// Sending more does not help a client that does not read: its time is up all the same.
///
/// A limit that begins anew with each event, whatever it is, is no limit.
///
/// Hint: keep the instant by which a byte must be taken, across all the turns of the loop.
#[test]
fn a_peer_that_sends_but_never_reads_is_dropped_too() {
    run_paused(async || {
        let (handler, _probe) = probe();
        let (peer, served) = peer_of(&Server::new(handler).write_timeout(3 * SECOND), 256).await;
        let since = Instant::now();
        let (_unread, mut write) = tokio::io::split(peer.io);
        let sending = tokio::spawn(async move {
            for seq in 1.. {
                let request = json_message("Test.big", seq, json!(300));
                if timeout(10 * SECOND, write.write_all(&request)).await.map_or(true, |sent| sent.is_err()) {
                    return;
                }
                sleep(SECOND).await;
            }
        });
        assert_timeout(within("the end of the connection", served).await.unwrap(), 3 * SECOND);
        assert_took(since, 3 * SECOND);
        sending.abort();
    });
}

/// A client that takes a few bytes now and then is slow, and served.
///
/// A limit for a whole reply would forbid large replies to slow networks.
///
/// Hint: every byte that is taken gives new time for the next.
#[test]
fn a_slow_reader_is_not_dropped() {
    run_paused(async || {
        let (handler, _probe) = probe();
        let (mut peer, _served) = peer_of(&Server::new(handler).write_timeout(2 * SECOND), 16).await;
        peer.send(&json_message("Test.big", 1, json!(100))).await;
        let mut reply = Vec::new();
        let since = Instant::now();
        while !reply.ends_with(b"xxx\"") {
            sleep(millis(1900)).await;
            let mut few = [0; 16];
            let n = within("a few bytes", peer.io.read(&mut few)).await.unwrap();
            assert!(n > 0, "dropped after {:?}", since.elapsed());
            reply.extend_from_slice(&few[..n]);
        }
        assert!(since.elapsed() > 8 * SECOND, "this took several limits: {:?}", since.elapsed());
    });
}

// ---- too many ---------------------------------------------------------------------------------------------
// Chapter: Limits > connections of a server; Limits > peers that are being refused

/// One connection too many is told so in the answer to its handshake, and when one leaves there is room
/// again.
///
/// A server that accepts everybody runs out of sockets, and then serves nobody.
///
/// Hint: a connection beyond the limit is accepted, answered and closed; it has no handler.
#[test]
fn one_connection_too_many_is_told_so() {
    run(async || {
        assert_eq!(DEFAULT_MAX_CONNECTIONS, 16 * 1024);
        let (handler, _probe) = probe();
        let server = start(Server::new(handler).max_connections(2)).await;
        let connect =
            || async { within("connecting", Client::connect(server.addr, &Options::default())).await };
        let first = connect().await.unwrap();
        let second = connect().await.unwrap();
        match connect().await {
            Err(Error::Handshake(reason)) => assert!(reason.contains('2'), "it names the limit: {reason:?}"),
            other => panic!("expected Error::Handshake, got {other:?}"),
        }
        assert_eq!(within("a reply", second.call::<_, u64>("Test.now", &())).await.unwrap(), 1);
        drop(first);
        let room = async {
            loop {
                if let Ok(third) = connect().await {
                    return third;
                }
            }
        };
        let third = within("room for a third", room).await;
        assert_eq!(within("a reply", third.call::<_, u64>("Test.now", &())).await.unwrap(), 1);
    });
}

/// Peers that are refused and stay on the line take no place of those that are served.
///
/// Else a few of them keep a server full that is empty.
///
/// Hint: count those that are served, not all that are there.
#[test]
fn a_refused_peer_takes_no_place() {
    run_paused(async || {
        let (handler, _probe) = probe();
        let (street, door) = Street::new();
        let _server = tokio::spawn(async move { Server::new(handler).max_connections(1).serve(door).await });
        let first = street.client(&Options::default()).await;
        let mut refused = Peer { io: street.connect(1024) };
        assert!(refused.read_json().await["error"].is_string());
        drop(first);
        eventually("the first has left", || street.at_server.now() == 1).await;
        let next = street.client(&Options::default()).await;
        assert_eq!(within("a reply", next.call::<_, u64>("Test.now", &())).await.unwrap(), 1);
        drop(refused);
    });
}

// ---- shutdown ---------------------------------------------------------------------------------------------
// Chapter: The wire > At shutdown; Limits > the calls in flight at shutdown

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

/// At shutdown the listener closes at once, clients hear of it, calls in flight get their replies, and then
/// `serve_with_shutdown` returns `Ok`.
///
/// Without it, each new version of a server costs the calls that were in flight.
///
/// Hint: drop the listener; a message with `seq` 0 to each client; wait for the handlers.
#[test]
fn shutdown_lets_calls_in_flight_finish() {
    run(async || {
        let (handler, mut probe) = probe();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, serving) = serve_until(Server::new(handler), listener);
        let client = within("connecting", Client::connect(addr, &Options::default())).await.unwrap();
        let call = client.start::<_, u64>("Test.gate", &()).await.unwrap();
        assert_eq!(probe.started().await, 1);

        stop.send(()).unwrap();
        eventually("the client hears of the shutdown", || !client.is_available()).await;
        let late = within("connecting, or not", TcpStream::connect(addr)).await;
        assert!(late.is_err(), "the listener is closed while calls are in flight");
        let refused = within("a refusal", client.call::<_, u64>("Test.now", &())).await;
        assert!(matches!(refused, Err(Error::Disconnected(_))), "{refused:?}");
        assert!(!serving.is_finished(), "a call is in flight");

        probe.gate.add_permits(1);
        assert_eq!(within("the reply", call).await.unwrap(), 1);
        within("the end of the server", serving).await.unwrap().unwrap();
    });
}

/// A new call on a connection that drains gets an error reply at once; the one in flight is unharmed.
///
/// The client may have sent it before it heard. Not answering it would be a call that hangs.
///
/// Hint: read on while you drain, and answer.
#[test]
fn a_new_call_during_shutdown_is_refused() {
    run_paused(async || {
        let (handler, mut probe) = probe();
        let (street, door) = Street::new();
        let (stop, serving) = serve_until(Server::new(handler), door);
        let mut peer = Peer { io: street.connect(1024) };
        peer.shake_hands_json().await;
        peer.send(&json_message("Test.gate", 1, json!(null))).await;
        assert_eq!(probe.started().await, 1);
        stop.send(()).unwrap();
        let goodbye = peer.read_message().await;
        assert_eq!((goodbye.seq(), goodbye.error().is_empty()), (0, false));

        peer.send(&json_message("Test.now", 2, json!(null))).await;
        let refused = peer.read_message().await;
        assert_eq!((refused.seq(), refused.error().is_empty()), (2, false), "{refused:?}");
        probe.gate.add_permits(1);
        let reply = peer.read_message().await;
        assert_eq!((reply.seq(), reply.error()), (1, ""));
        peer.expect_end().await;
        drop(peer);
        within("the end of the server", serving).await.unwrap().unwrap();
    });
}

/// A call that crosses the goodbye on its way, to a connection with nothing in flight, is refused like any
/// other, in the words of the goodbye.
///
/// A client that gets no answer cannot know whether the call has run; one that is refused can go elsewhere.
///
/// Hint: an idle connection may end when the client hangs up, or a little later.
#[test]
fn a_call_that_crosses_the_goodbye_is_refused() {
    run_paused(async || {
        let (handler, _probe) = probe();
        let (street, door) = Street::new();
        let (stop, serving) = serve_until(Server::new(handler), door);
        let mut peer = Peer { io: street.connect(1024) };
        peer.shake_hands_json().await;
        settle().await;
        stop.send(()).unwrap();
        let goodbye = peer.read_message().await;
        assert_eq!(goodbye.seq(), 0);

        peer.send(&json_message("Test.now", 1, json!(null))).await;
        let refused = peer.read_message().await;
        assert_eq!((refused.seq(), refused.error()), (1, goodbye.error()));
        drop(peer);
        within("the end of the server", serving).await.unwrap().unwrap();
    });
}

/// A client that has nothing in flight and goes on talking does not hold up the shutdown.
///
/// A wait that begins anew with every message is a wait for as long as the client likes.
///
/// Hint: one timer for the last second of the connection, not one for each turn of its loop.
#[test]
fn a_client_that_goes_on_talking_does_not_hold_up_a_shutdown() {
    run_paused(async || {
        let (handler, _probe) = probe();
        let (street, door) = Street::new();
        let (stop, serving) = serve_until(Server::new(handler).grace_period(30 * SECOND), door);
        let mut peer = Peer { io: street.connect(1024) };
        peer.shake_hands_json().await;
        settle().await;
        let since = Instant::now();
        stop.send(()).unwrap();
        let talking = tokio::spawn(async move {
            // Cancels have no replies, so it need not read. It stops when the server hangs up.
            while peer.io.write_all(&cancel_bytes(7)).await.is_ok() {
                sleep(millis(300)).await;
            }
        });
        within("the end of the server", serving).await.unwrap().unwrap();
        assert!(since.elapsed() <= 5 * SECOND, "took {:?}", since.elapsed());
        within("the client hears of it", talking).await.unwrap();
    });
}

/// At shutdown, connections with nothing in flight are closed, and a peer in its handshake is told, at once.
/// Even if they stay on the line, the server is done long before the grace period is over.
///
/// There are always idle connections; waiting for them is waiting for ever.
///
/// Hint: what the drain waits for is calls, not connections.
#[test]
fn idle_connections_do_not_hold_up_a_shutdown() {
    run_paused(async || {
        let (handler, _probe) = probe();
        let (street, door) = Street::new();
        let (stop, serving) = serve_until(Server::new(handler).grace_period(30 * SECOND), door);
        let client = street.client(&Options::default()).await;
        let mut idle = Peer { io: street.connect(1024) };
        idle.shake_hands_json().await;
        let mut silent = Peer { io: street.connect(1024) };
        settle().await;
        let since = Instant::now();
        stop.send(()).unwrap();
        assert_eq!(idle.read_message().await.seq(), 0);
        idle.expect_end().await;
        assert!(silent.read_json().await["error"].is_string());
        silent.expect_end().await;
        within("the end of the server", serving).await.unwrap().unwrap();
        assert!(since.elapsed() <= 2 * SECOND, "took {:?}", since.elapsed());
        assert!(!client.is_available());
        assert_eq!(street.at_server.now(), 0);
    });
}

/// What is still in flight when the grace period is over is aborted, and the result says so.
///
/// A drain without an end is the next endless wait.
///
/// Hint: a limit around the drain, then abort what is left, and wait until it is gone.
#[test]
fn the_grace_period_ends_what_does_not_end() {
    run_paused(async || {
        let (handler, mut probe) = probe();
        let (street, door) = Street::new();
        let (stop, stopped) = oneshot::channel();
        let at_server = street.at_server.clone();
        let serving = tokio::spawn(async move {
            let server = Server::new(handler).grace_period(3 * SECOND);
            let signal = async { stopped.await.unwrap_or_default() };
            let result = server.serve_with_shutdown(door, signal).await;
            (result, at_server.now()) // at once: aborted tasks go as soon as this one waits
        });
        let client = street.client(&Options::default()).await;
        let call = client.start::<_, u64>("Test.hang", &()).await.unwrap();
        assert_eq!(probe.started().await, 1);
        let since = Instant::now();
        stop.send(()).unwrap();
        let (result, open) = within("the end of the server", serving).await.unwrap();
        assert_timeout(result, 3 * SECOND);
        assert_took(since, 3 * SECOND);
        assert_eq!(open, 0, "connections are open when it returns");
        assert_eq!(probe.stopped().await, 1);
        let outcome = within("the end of the call", call).await;
        assert!(matches!(outcome, Err(Error::Disconnected(_))), "{outcome:?}");
    });
}

/// Dropping the future of `serve_with_shutdown` ends everything at once, during the drain as well.
///
/// Whatever is started has an owner, and dropping the owner stops it.
///
/// Hint: a `JoinSet` in the future, and nothing that is spawned beside it.
#[test]
fn dropping_the_server_ends_everything() {
    run_paused(async || {
        let before = alive_tasks();
        for drain_first in [false, true] {
            let (handler, mut probe) = probe();
            let (street, door) = Street::new();
            let (stop, serving) = serve_until(Server::new(handler), door);
            let client = street.client(&Options::default()).await;
            let call = client.start::<_, u64>("Test.hang", &()).await.unwrap();
            assert_eq!(probe.started().await, 1);
            if drain_first {
                stop.send(()).unwrap();
                eventually("the client hears of the shutdown", || !client.is_available()).await;
            }
            serving.abort();
            assert_eq!(probe.stopped().await, 1);
            let outcome = within("the end of the call", call).await;
            assert!(matches!(outcome, Err(Error::Disconnected(_))), "{outcome:?}");
            drop(client);
            eventually("all streams are closed", || street.at_server.now() + street.at_clients.now() == 0)
                .await;
            eventually("all tasks have ended", || alive_tasks() == before).await;
        }
    });
}

// ---- the proof --------------------------------------------------------------------------------------------
// Chapter: What goes wrong without it; Reading order

/// After 2000 calls that timed out, 2000 that were dropped, and 2000 that lost their connection, there are as
/// many tasks, handlers, entries and streams as before.
///
/// Each of the pitfalls above leaks one of these per call. One is not seen; thousands are.
///
/// Hint: if this fails and all before it pass, look at what is spawned, and who owns it.
#[test]
fn after_thousands_of_calls_that_were_given_up_nothing_is_left() {
    run_paused(async || {
        let (handler, probe) = probe();
        let (street, door) = Street::new();
        let _server = tokio::spawn(async move { Server::new(handler).serve(door).await });
        let client = street.client(&Options::default().call_timeout(SECOND)).await;
        within("a reply", client.call::<_, u64>("Test.now", &())).await.unwrap();
        let started = |count| move |probe: &Probe| probe.handlers.total.load(SeqCst) == count;
        let before = (alive_tasks(), street.at_server.now(), street.at_clients.now());

        for round in 1..=4 {
            let calls = start_all(&client, 500).await;
            for call in calls {
                assert_timeout(within("the end of a call", call).await, SECOND);
            }
            assert!(started(round * 500)(&probe), "each of them had a handler");
        }
        for round in 5..=8 {
            let calls = start_all(&client, 500).await;
            eventually("all handlers have started", || started(round * 500)(&probe)).await;
            drop(calls);
        }
        for round in 1..=100 {
            let other = street.client(&Options::default()).await;
            let calls = start_all(&other, 20).await;
            eventually("all handlers have started", || started(4000 + round * 20)(&probe)).await;
            if round % 2 == 0 {
                other.close();
            }
            drop((other, calls));
        }

        assert_eq!(client.in_flight(), 0);
        eventually("all handlers have stopped", || probe.handlers.now() == 0).await;
        eventually("tasks and streams are what they were", || {
            (alive_tasks(), street.at_server.now(), street.at_clients.now()) == before
        })
        .await;
        assert_eq!(probe.handlers.total.load(SeqCst), 6000);
        within("a reply", client.call::<_, u64>("Test.now", &())).await.unwrap();
    });
}

/// Peers that never finish their handshake, that never read their replies, that hang up in the middle of a
/// call, and that are refused cost nothing in the end, though they never close.
///
/// These four hold a server's tasks and sockets in GeeRPC for as long as they like.
///
/// Hint: as above.
#[test]
fn peers_that_misbehave_cost_nothing_in_the_end() {
    run_paused(async || {
        let (handler, mut probe) = probe();
        let server = Server::new(handler)
            .handshake_timeout(2 * SECOND)
            .write_timeout(2 * SECOND)
            .handle_timeout(2 * SECOND)
            .max_connections(150);
        let (street, door) = Street::new();
        let _server = tokio::spawn(async move { server.serve(door).await });
        settle().await;
        let before = alive_tasks();

        let mut held = Vec::new();
        for _ in 0..50 {
            held.push(street.connect(1024)); // says nothing
            let mut peer = Peer { io: street.connect(256) };
            peer.shake_hands_json().await;
            peer.send(&json_message("Test.hang", 1, json!(null))).await;
            peer.send(&json_message("Test.big", 2, json!(10_000))).await;
            held.push(peer.io); // does not read
            let mut peer = Peer { io: street.connect(1024) };
            peer.shake_hands_json().await;
            peer.send(&json_message("Test.hang", 1, json!(null))).await;
            peer.io.shutdown().await.unwrap();
            held.push(peer.io); // has hung up
        }
        for _ in 0..100 {
            probe.started().await;
        }
        held.extend((0..50).map(|_| street.connect(1024))); // some of these may find a place again
        eventually("the server has closed all streams", || street.at_server.now() == 0).await;
        eventually("all handlers have stopped", || probe.handlers.now() == 0).await;
        eventually("all tasks have ended", || alive_tasks() == before).await;
        let client = street.client(&Options::default()).await;
        within("a reply", client.call::<_, u64>("Test.now", &())).await.unwrap();
        drop(held);
    });
}
