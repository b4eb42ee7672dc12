//! Day 5: one port for calls and for a page, and endpoints, which say where a server is.
//!
//! The order is that of the lesson: endpoints as text, the server's half of HTTP, the client's half, dialing, the
//! page, and what must hold on a TCP port and on an HTTP port alike.

// The stages, in the order of the work. Empty lines keep rustfmt from sorting them.
mod endpoints;

mod server;

mod client;

mod dialing;

mod page;

mod both_ports;

mod hardening_server;

mod hardening_client;

mod hardening_both;

use std::collections::{BTreeSet, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use day6_loadbalance::{
    Client, Code, Codec, DEBUG_PATH, Endpoint, Error, MAX_HTTP_HEADER_LEN, Options, RPC_PATH, Request,
    Server, Service, ServiceMap, service,
};
use proptest::prelude::*;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet, yield_now};
use tokio::time::{Instant, advance};

use crate::support::io::{Script, Watched};
use crate::support::peer::{Peer, call, client_hello, reply, server_hello};
use crate::support::{
    Fail, STEP, Sleep, Sum, alive_tasks, arith, eventually, run, run_paused, run_threads, start, within,
};

/// The request of most tests here, byte by byte.
const CONNECT: &[u8] = b"CONNECT /_rrpc_ HTTP/1.1\r\nHost: x\r\n\r\n";

const TWO_AND_THREE: Sum = Sum { num1: 2, num2: 3 };
const YEAR: Sleep = Sleep { millis: 365 * 24 * 60 * 60 * 1000 };

/// A server with an HTTP port, until this is dropped.
struct HttpServer {
    addr: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts `server` on a free HTTP port. It listens when this returns.
async fn start_http(server: Server) -> HttpServer {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    HttpServer { addr, task: tokio::spawn(async move { server.serve_http(listener).await }) }
}

/// Serves HTTP on one stream in memory, for a paused clock or a stream of the test's own kind.
fn serve_http_in_memory<Io>(
    server: Server,
    stream: impl FnOnce(DuplexStream) -> Io,
) -> (JoinHandle<()>, Peer<DuplexStream>)
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (io, server_io) = duplex(64 * 1024);
    let listener = Script([Ok(stream(server_io))].into());
    (tokio::spawn(async move { server.serve_http(listener).await }), Peer { io })
}

/// A server that is played by hand: accepts one connection after another, and leaves each to `answer`.
async fn play_server<F>(answer: impl Fn(TcpStream) -> F + Send + 'static) -> HttpServer
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let serve = async move {
        let mut connections = JoinSet::new();
        while let Ok((io, _)) = listener.accept().await {
            io.set_nodelay(true).unwrap();
            connections.spawn(answer(io));
        }
    };
    HttpServer { addr, task: tokio::spawn(serve) }
}

/// A server that reads the head of a request, answers with these bytes, and then closes or waits.
async fn answering(bytes: impl Into<Vec<u8>>, closes: bool) -> HttpServer {
    let bytes = bytes.into();
    play_server(move |mut io| {
        let bytes = bytes.clone();
        async move {
            read_head(&mut io).await;
            io.write_all(&bytes).await.ok();
            if closes {
                io.shutdown().await.ok();
            } else {
                std::future::pending::<()>().await;
            }
        }
    })
    .await
}

/// Reads an HTTP head, up to and with its empty line, and not one byte more.
async fn read_head<Io: AsyncRead + Unpin>(io: &mut Io) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match within("the next byte of an HTTP head", io.read_u8()).await {
            Ok(byte) => head.push(byte),
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&head)),
        }
    }
    String::from_utf8(head).unwrap()
}

/// Reads an HTTP answer: its head, and as much of a body as `Content-Length` says.
async fn read_answer<Io: AsyncRead + Unpin>(io: &mut Io) -> (String, String) {
    let head = read_head(io).await;
    let len = header(&head, "content-length").map_or(0, |len| len.parse().unwrap());
    let mut body = vec![0; len];
    within("the body of an answer", io.read_exact(&mut body)).await.unwrap();
    (head, String::from_utf8(body).unwrap())
}

/// The value of a header.
fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
}

/// The status code of an answer.
fn status(head: &str) -> u16 {
    let code = head.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5));
    code.and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("this is no HTTP answer: {head:?}"))
}

/// Sends one request by hand, such as `"GET /"`, and reads the answer.
async fn ask<Io: AsyncRead + AsyncWrite + Unpin>(io: &mut Peer<Io>, request: &str) -> (String, String) {
    io.send(format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await;
    read_answer(&mut io.io).await
}

/// Sends a `CONNECT` by hand, and reads the 200.
async fn connect_by_hand(addr: SocketAddr) -> Peer<TcpStream> {
    let mut peer = Peer::connect(addr).await;
    peer.send(CONNECT).await;
    assert_eq!(status(&read_head(&mut peer.io).await), 200);
    peer
}

/// The debug page, fetched on a connection of its own, which is closed when this returns.
async fn page(addr: SocketAddr) -> String {
    let (head, body) = ask(&mut Peer::connect(addr).await, &format!("GET {DEBUG_PATH}")).await;
    assert_eq!(status(&head), 200, "{head}");
    assert!(header(&head, "content-type").is_some_and(|value| value.starts_with("text/html")), "{head}");
    body
}

/// What a reader sees of a page: the texts between its tags, one after the other.
fn texts(page: &str) -> Vec<String> {
    let plain = |text: &str| text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    let body = page.split_once("<body").map_or(page, |(_, body)| body);
    let texts = body.split('<').filter_map(|tag| tag.split_once('>')).map(|(_, text)| plain(text.trim()));
    texts.filter(|text| !text.is_empty()).collect()
}

/// Checks that a row with these cells is on the page: method, argument, reply, calls, errors, in flight.
#[track_caller]
fn assert_row(page: &str, row: [&str; 6]) {
    assert!(texts(page).windows(6).any(|cells| cells == row), "no row {row:?} in {:#?}", texts(page));
}

async fn try_connect_http(addr: SocketAddr, options: &Options) -> Result<Client, Error> {
    within("the end of connecting through HTTP", Client::connect_http(addr, options)).await
}

async fn connect_http(addr: SocketAddr) -> Client {
    try_connect_http(addr, &Options::default()).await.unwrap()
}

async fn handshake_http<Io>(io: Io, host: &str) -> Result<Client, Error>
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let options = Options::default();
    within("the end of connecting through HTTP", Client::handshake_http(io, host, &options)).await
}

async fn refusal(addr: SocketAddr, options: &Options) -> Error {
    try_connect_http(addr, options).await.expect_err("connecting should fail")
}

async fn dial(endpoint: &Endpoint) -> Result<Client, Error> {
    within("the end of dialing", Client::dial(endpoint, &Options::default())).await
}

/// The text of an `Error::Handshake`, which `error` must be.
#[track_caller]
fn handshake_text(error: Error) -> String {
    match error {
        Error::Handshake(text) => text,
        other => panic!("expected Error::Handshake, got {other:?}"),
    }
}

async fn assert_serves(client: &Client) {
    let sum = within("the reply of Arith.sum", client.call::<_, i32>("Arith.sum", &TWO_AND_THREE)).await;
    assert_eq!(sum.unwrap(), 5);
}

/// Starts a call that waits on the server.
async fn start_slow(client: &Client, number: u32) -> impl Future<Output = Result<u32, Error>> {
    let sent = within("sending a call", client.start("Slow.wait", &number)).await.unwrap();
    within("the end of a call that was sent before", sent)
}

/// A service that tells the test when its handler starts and when it ends, and that ends when told to.
struct Slow {
    events: mpsc::UnboundedSender<&'static str>,
    go: Arc<Notify>,
}

/// Tells when it is dropped.
struct Guard(mpsc::UnboundedSender<&'static str>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.send("dropped").ok();
    }
}

impl Slow {
    async fn wait(&self, number: u32) -> anyhow::Result<u32> {
        let _guard = Guard(self.events.clone());
        self.events.send("started")?;
        self.go.notified().await;
        Ok(number)
    }
}

/// The test's end of a [`Slow`].
struct Watch {
    events: mpsc::UnboundedReceiver<&'static str>,
    go: Arc<Notify>,
}

impl Watch {
    async fn sees(&mut self, event: &str) {
        assert_eq!(within(event, self.events.recv()).await, Some(event));
    }
}

/// A map with `Slow.wait` in it, and nothing else.
fn slow_services() -> (ServiceMap, Watch) {
    let (sender, events) = mpsc::unbounded_channel();
    let go = Arc::new(Notify::new());
    let slow = Slow { events: sender, go: Arc::clone(&go) };
    let services = ServiceMap::new();
    services.add(service!("Slow", slow, [wait]).unwrap()).unwrap();
    (services, Watch { events, go })
}

/// An address that refuses every connection. The socket keeps the port for us; it does not listen.
fn refused_address() -> (SocketAddr, TcpSocket) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    (socket.local_addr().unwrap(), socket)
}

/// An address that does not answer at all, as long as what is returned with it is there: the queue of its listener
/// is full, and Linux drops what comes then.
#[cfg(target_os = "linux")]
async fn silent_address() -> (SocketAddr, (TcpListener, Vec<TcpStream>)) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let addr = listener.local_addr().unwrap();
    let mut held = Vec::new();
    // On the same machine a connection is there at once or never.
    while let Ok(io) = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(addr)).await {
        held.push(io.unwrap());
    }
    (addr, (listener, held))
}

/// A directory that is removed at the end, also if the test fails.
#[cfg(unix)]
struct TempDir(std::path::PathBuf);

#[cfg(unix)]
impl TempDir {
    fn new() -> TempDir {
        let nanos = std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
        let dir = std::env::temp_dir().join(format!("rrpc-day5-{}-{nanos}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        TempDir(dir)
    }
}

#[cfg(unix)]
impl Drop for TempDir {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}
