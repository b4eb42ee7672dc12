//! Day 5: the same bytes through an HTTP door.
//!
//! In the order of the lesson: the door and what may go wrong at it, the client's side, the page for people,
//! what holds on both doors, and endpoints.

// The stages, in the order of the work. Empty lines keep rustfmt from sorting them.
mod door;

mod connect;

mod page;

mod both_doors;

mod endpoints;

mod hardening;

use std::collections::{BTreeSet, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use day5_http::{
    Client, Codec, DEBUG_PATH, Endpoint, Error, Options, RPC_PATH, Server, Service, ServiceMap, service,
};
use proptest::prelude::*;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::advance;

use crate::support::io::{OneByte, Script};
use crate::support::peer::{Peer, frame, json_message, options};
use crate::support::{
    STEP, Sleep, Sum, alive_tasks, arith, eventually, run, run_paused, run_threads, start, within,
};

/// The request of most tests here, byte by byte.
const CONNECT: &[u8] = b"CONNECT /_rrpc_ HTTP/1.1\r\nHost: x\r\n\r\n";

const TWO_AND_THREE: Sum = Sum { num1: 2, num2: 3 };

/// An HTTP door that is open until this is dropped.
struct Door {
    addr: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Opens an HTTP door for `server` on a free port. It listens when this returns.
async fn open(server: Server) -> Door {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    Door { addr, task: tokio::spawn(async move { server.serve_http(listener).await }) }
}

/// Opens an HTTP door with one stream in memory, for a paused clock or a stream of the test's own kind.
fn open_in_memory<Io>(
    server: Server,
    stream: impl FnOnce(DuplexStream) -> Io,
) -> (JoinHandle<()>, Peer<DuplexStream>)
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (io, server_io) = tokio::io::duplex(64 * 1024);
    let listener = Script([Ok(stream(server_io))].into());
    (tokio::spawn(async move { server.serve_http(listener).await }), Peer { io })
}

/// A server written by hand: accepts one connection after another and leaves each to `answer`.
async fn raw_server<F>(answer: impl Fn(TcpStream) -> F + Send + 'static) -> Door
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let serve = async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((io, _)) = listener.accept().await {
            io.set_nodelay(true).unwrap();
            connections.spawn(answer(io));
        }
    };
    Door { addr, task: tokio::spawn(serve) }
}

/// A raw server that reads the head of a request, answers with these bytes, and then hangs up or waits.
async fn answering(bytes: impl Into<Vec<u8>>, hang_up: bool) -> Door {
    let bytes = bytes.into();
    raw_server(move |mut io| {
        let bytes = bytes.clone();
        async move {
            read_head(&mut io).await;
            io.write_all(&bytes).await.ok();
            match hang_up {
                true => io.shutdown().await.unwrap_or(()),
                false => std::future::pending().await,
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

/// Sends one request by hand, and reads the answer.
async fn ask<Io: AsyncRead + AsyncWrite + Unpin>(io: &mut Peer<Io>, request: &str) -> (String, String) {
    io.send(format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await;
    read_answer(&mut io.io).await
}

/// Sends `CONNECT` by hand, and reads the 200.
async fn knock(addr: SocketAddr) -> Peer<TcpStream> {
    let mut peer = Peer::connect(addr).await;
    peer.send(CONNECT).await;
    let head = read_head(&mut peer.io).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    peer
}

/// The debug page, fetched on a connection of its own.
async fn page(addr: SocketAddr) -> String {
    let (head, body) = ask(&mut Peer::connect(addr).await, &format!("GET {DEBUG_PATH}")).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(header(&head, "content-type").unwrap().starts_with("text/html"), "{head}");
    body
}

/// What a reader sees of a page: the texts between its tags, one after the other.
fn texts(page: &str) -> Vec<String> {
    let plain = |text: &str| text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    let texts = page.split('<').filter_map(|tag| tag.split_once('>')).map(|(_, text)| plain(text.trim()));
    texts.filter(|text| !text.is_empty()).collect()
}

/// Checks that a row with these cells is on the page.
fn assert_row(page: &str, row: [&str; 4]) {
    assert!(texts(page).windows(4).any(|cells| cells == row), "no row {row:?} in {:#?}", texts(page));
}

async fn connect_http(addr: SocketAddr) -> Client {
    try_connect_http(addr, &Options::default()).await.unwrap()
}

async fn try_connect_http(addr: SocketAddr, options: &Options) -> Result<Client, Error> {
    within("the end of connecting through HTTP", Client::connect_http(addr, options)).await
}

async fn dial(endpoint: &Endpoint) -> Result<Client, Error> {
    within("the end of dialing", Client::dial(endpoint, &Options::default())).await
}

async fn refusal(addr: SocketAddr, options: &Options) -> Error {
    try_connect_http(addr, options).await.expect_err("it should fail")
}

/// Checks that this is a handshake error, and that its text has all of these words.
fn assert_handshake_error(error: &Error, words: &[&str]) {
    let Error::Handshake(text) = error else { panic!("this should be a handshake error: {error:?}") };
    for word in words {
        assert!(text.contains(word), "no {word:?} in {text:?}");
    }
}

async fn assert_serves(client: &Client) {
    let sum = within("the answer of Arith.sum", client.call::<_, i32>("Arith.sum", &TWO_AND_THREE)).await;
    assert_eq!(sum.unwrap(), 5);
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

fn slow() -> (Service, Watch) {
    let (sender, events) = mpsc::unbounded_channel();
    let go = Arc::new(Notify::new());
    let slow = Slow { events: sender, go: Arc::clone(&go) };
    (service!("Slow", slow, [wait]).unwrap(), Watch { events, go })
}

/// A server with `Slow.wait` only.
fn slow_server() -> (Server, Watch) {
    let (service, watch) = slow();
    let services = ServiceMap::new();
    services.add(service).unwrap();
    (Server::new(services), watch)
}

/// A handler with a type that would be a tag, if it were not escaped.
async fn total(_: Arc<()>, sums: Vec<Sum>) -> anyhow::Result<Option<i64>> {
    Ok(sums.iter().map(|sum| i64::from(sum.num1) + i64::from(sum.num2)).reduce(|a, b| a + b))
}

async fn ping(_: Arc<()>, (): ()) -> anyhow::Result<()> {
    anyhow::bail!("no pong")
}

/// Two services, registered in an order that is not the alphabet's.
fn two_services() -> ServiceMap {
    let services = ServiceMap::new();
    let zoo = Service::builder("Zoo", ()).method("ping", ping).method("feed", ping).method("total", total);
    services.add(zoo.build().unwrap()).unwrap();
    services.add(Service::builder("Bank", ()).method("total", total).build().unwrap()).unwrap();
    services
}
