//! Day 6: one name, many servers.
//!
//! The order is that of the lesson: choose one of many, know the list, share one connection for each server,
//! skip what hangs and what is down, follow the list as it changes, call all servers at once, and have handles of different
//! kinds.

// The stages, in the order of the work. Empty lines keep rustfmt from sorting them.
mod select_modes;

mod ring;

mod list;

mod calls;

mod hanging;

mod failing_over;

mod changing;

mod broadcast;

mod handles;

mod hardening_choosing;

mod hardening_calls;

mod hardening_servers;

mod hardening_broadcast;

use std::collections::BTreeMap;
use std::panic::Location;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use day7_registry::{
    BROADCAST_STEP, BalanceError, BalancedClient, Client, Code, Connecting, Discovery, DiscoveryError,
    Endpoint, Error, Instance, MAX_BROADCAST, MultiServersDiscovery, Options, RemoteError, Reply, Request,
    SelectMode, Server, Servers,
};
use serde_json::json;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use crate::support::client::{answer, json_only, next_call, waits};
use crate::support::peer::{Peer, goaway, reply_refused};
use crate::support::{alive_tasks, eventually, run, run_threads, within};

// Choosing, without any server.

fn endpoint(text: &str) -> Endpoint {
    text.parse().unwrap()
}

/// `"abc"` is a list of three servers with these names. None of them runs: a choice needs no connection.
fn servers(names: &str) -> Vec<Endpoint> {
    names.chars().map(|name| endpoint(&format!("tcp@{name}:7000"))).collect()
}

fn weighted(names: &str, weights: &[u32]) -> Vec<(Endpoint, u32)> {
    servers(names).into_iter().zip(weights.iter().copied()).collect()
}

fn instances(names: &str) -> Vec<Instance> {
    servers(names).into_iter().map(Instance::new).collect()
}

/// The next `n` choices, as one text: `"abcabc"`.
#[track_caller]
fn choices(discovery: &MultiServersDiscovery, mode: &SelectMode, n: usize) -> String {
    (0..n).map(|_| name_of(&discovery.get(mode).unwrap())).collect()
}

/// The reverse of [`servers`].
fn name_of(endpoint: &Endpoint) -> char {
    endpoint.to_string().chars().nth(4).unwrap()
}

fn names_of(list: &[Instance]) -> String {
    list.iter().map(|server| name_of(&server.endpoint)).collect()
}

/// How often each character occurs.
fn count(names: &str) -> BTreeMap<char, usize> {
    let mut counts = BTreeMap::new();
    for name in names.chars() {
        *counts.entry(name).or_default() += 1;
    }
    counts
}

fn key(key: impl std::fmt::Display) -> SelectMode {
    SelectMode::ConsistentHash(key.to_string().into())
}

/// The servers of the keys `user-0`, `user-1`, …, as one text.
fn servers_of_keys(discovery: &MultiServersDiscovery, keys: usize) -> String {
    (0..keys).map(|user| choices(discovery, &key(format_args!("user-{user}")), 1)).collect()
}

// Servers that a test can watch, stop and cut off.

/// What a [`Site`] has seen.
struct Seen {
    /// Connections accepted, and those of them that are open.
    accepted: AtomicUsize,
    open: AtomicUsize,
    /// Calls that have begun, and calls of `wait` that were stopped before their end.
    calls: AtomicUsize,
    stopped: AtomicUsize,
    /// One permit for each call of `wait` that has begun; and the gate that they wait at.
    entered: Semaphore,
    gate: Semaphore,
    /// Connections wait here for the answer to their handshake.
    handshakes: Semaphore,
    /// After the gate, `wait` is an error.
    broken: AtomicBool,
}

impl Seen {
    fn new() -> Arc<Seen> {
        Arc::new(Seen {
            accepted: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
            stopped: AtomicUsize::new(0),
            entered: Semaphore::new(0),
            gate: Semaphore::new(0),
            handshakes: Semaphore::new(0),
            broken: AtomicBool::new(false),
        })
    }

    fn accepted(&self) -> usize {
        self.accepted.load(SeqCst)
    }

    fn open(&self) -> usize {
        self.open.load(SeqCst)
    }

    fn calls(&self) -> usize {
        self.calls.load(SeqCst)
    }

    fn stopped(&self) -> usize {
        self.stopped.load(SeqCst)
    }
}

/// Counts one up when it is dropped, unless it is emptied first.
struct Stopped(Option<Arc<Seen>>);

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.take().inspect(|seen| _ = seen.stopped.fetch_add(1, SeqCst));
    }
}

/// Counts an open connection, until it is dropped.
struct Open(Arc<Seen>);

impl Open {
    fn new(seen: &Arc<Seen>) -> Open {
        seen.accepted.fetch_add(1, SeqCst);
        seen.open.fetch_add(1, SeqCst);
        Open(Arc::clone(seen))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, SeqCst);
    }
}

/// What a test does to a [`Site`].
#[derive(Clone, Copy, PartialEq)]
enum Order {
    /// End all connections, and close new ones at once, before their handshake.
    Kill,
    /// End all connections, but serve new ones.
    Cut,
}

/// A server that counts. It has two methods: `Site.name` answers with its name, and `Site.wait` does so when the
/// test has opened the gate. It keeps its port to its end, so that no other test gets it by chance.
struct Site {
    name: &'static str,
    endpoint: Endpoint,
    seen: Arc<Seen>,
    orders: mpsc::UnboundedSender<Order>,
    _task: JoinSet<()>,
}

impl Site {
    async fn start(name: &'static str) -> Site {
        let site = Site::hung(name).await;
        site.answer_handshakes();
        site
    }

    /// Accepts connections, but does not answer their handshakes before [`answer_handshakes`](Site::answer_handshakes).
    async fn hung(name: &'static str) -> Site {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint::tcp(listener.local_addr().unwrap());
        let seen = Seen::new();
        let (orders, received) = mpsc::unbounded_channel();
        let mut task = JoinSet::new();
        task.spawn(run_site(listener, site_server(name, Arc::clone(&seen)), Arc::clone(&seen), received));
        Site { name, endpoint, seen, orders, _task: task }
    }

    fn answer_handshakes(&self) {
        self.seen.handshakes.add_permits(1000);
    }

    /// Lets calls of `wait` pass.
    fn open_gate(&self, calls: usize) {
        self.seen.gate.add_permits(calls);
    }

    fn order(&self, order: Order) {
        self.orders.send(order).unwrap();
    }

    #[track_caller]
    fn is_being_dialed(&self) -> impl Future<Output = ()> {
        eventually("the server gets a connection", || self.seen.accepted() > 0)
    }

    #[track_caller]
    fn a_call_waits(&self) -> impl Future<Output = ()> {
        let entered = async { self.seen.entered.acquire().await.unwrap().forget() };
        within("a call comes to the gate", entered)
    }
}

/// What the site answers.
fn site_server(name: &'static str, seen: Arc<Seen>) -> Server {
    Server::new(move |request: Request| {
        let seen = Arc::clone(&seen);
        async move {
            seen.calls.fetch_add(1, SeqCst);
            if request.service_method() == "Site.wait" {
                let mut stopped = Stopped(Some(Arc::clone(&seen)));
                seen.entered.add_permits(1);
                seen.gate.acquire().await?.forget();
                stopped.0 = None;
                if seen.broken.load(SeqCst) {
                    return Err(RemoteError::new(Code::DATA_LOSS, format!("{name} is broken")).into());
                }
            }
            anyhow::Ok::<Reply>(request.reply(name)?)
        }
    })
}

async fn run_site(
    listener: TcpListener,
    server: Server,
    seen: Arc<Seen>,
    mut orders: mpsc::UnboundedReceiver<Order>,
) {
    let mut connections = JoinSet::new();
    let mut order = Order::Cut;
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (io, open) = (accepted.unwrap().0, Open::new(&seen));
                if order == Order::Cut {
                    connections.spawn(serve_one(server.clone(), io, open));
                }
            }
            Some(received) = orders.recv() => {
                order = received;
                connections.shutdown().await;
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve_one(server: Server, io: TcpStream, open: Open) {
    open.0.handshakes.acquire().await.unwrap().forget();
    server.serve_connection(io).await.ok();
}

/// An endpoint where a connection is refused. The socket keeps the port for us; it does not listen.
fn refusing() -> (TcpSocket, Endpoint) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let endpoint = Endpoint::tcp(socket.local_addr().unwrap());
    (socket, endpoint)
}

// Clients.

/// A list of these servers, to be changed later.
fn list_of<'a>(servers: impl IntoIterator<Item = &'a Endpoint>) -> Arc<MultiServersDiscovery> {
    Arc::new(MultiServersDiscovery::new(servers.into_iter().cloned()))
}

/// A client of a list. Its calls take turns, or go where [`to`] says.
fn client_of(list: &Arc<MultiServersDiscovery>, options: Options) -> BalancedClient {
    BalancedClient::new(Arc::clone(list), SelectMode::RoundRobin, &options)
}

/// A client whose calls go where [`to`] says.
fn directed<'a>(servers: impl IntoIterator<Item = &'a Endpoint>, options: Options) -> BalancedClient {
    client_of(&list_of(servers), options)
}

/// The same client, with its calls going to this endpoint first: the text of a point of the ring belongs to its server.
fn to(client: &BalancedClient, endpoint: &Endpoint) -> BalancedClient {
    client.with_mode(key(format_args!("{endpoint}#0")))
}

/// The servers in the order in which a key wants them: its owner, the owner when that is gone, and so on.
fn in_ring_order<'a>(sites: &'a [Site], key: &SelectMode) -> Vec<&'a Site> {
    let list = list_of(sites.iter().map(|site| &site.endpoint));
    let mut order = Vec::new();
    while let Ok(owner) = list.get(key) {
        list.update(list.get_all().iter().filter(|server| server.endpoint != owner).cloned());
        order.push(sites.iter().find(|site| site.endpoint == owner).unwrap());
    }
    order
}

/// A client that takes turns between these servers.
fn round_robin<'a>(sites: impl IntoIterator<Item = &'a Site>) -> BalancedClient {
    directed(sites.into_iter().map(|site| &site.endpoint), Options::default())
}

/// Calls `Site.name`. If that takes too long, the message names the caller, as with all these helpers.
#[track_caller]
fn try_call(client: &BalancedClient) -> impl Future<Output = Result<String, BalanceError>> {
    within("the outcome of a call", client.call("Site.name", &()))
}

/// Calls, and returns the name of the server that answered.
#[track_caller]
fn name(client: &BalancedClient) -> impl Future<Output = String> {
    let (caller, call) = (Location::caller(), try_call(client));
    async move { call.await.unwrap_or_else(|error| panic!("the call failed: {error} (called at {caller})")) }
}

/// Calls in a task of its own.
fn spawn_call(client: &BalancedClient, method: &'static str) -> JoinHandle<Result<String, BalanceError>> {
    let client = client.clone();
    tokio::spawn(async move { client.call(method, &()).await })
}

/// Broadcasts `Site.wait` in a task of its own.
fn spawn_broadcast(client: &BalancedClient) -> JoinHandle<Result<String, BalanceError>> {
    let client = client.clone();
    tokio::spawn(async move { client.broadcast("Site.wait", &()).await })
}

/// The same, for the results of all.
fn spawn_broadcast_all(client: &BalancedClient) -> JoinHandle<Vec<(Endpoint, Result<String, BalanceError>)>> {
    let client = client.clone();
    tokio::spawn(async move { client.broadcast_all("Site.wait", &()).await.unwrap() })
}

/// Waits until `time`, and then lets all other tasks go first whose time has come as well: on a busy machine all
/// of them are late.
async fn well_after(time: Instant) {
    sleep_until(time).await;
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[track_caller]
fn outcome<T>(task: JoinHandle<T>) -> impl Future<Output = T> {
    within("the outcome of a call", async move { task.await.unwrap() })
}

/// A client of a list that is never known, with 50 ms for a call.
fn without_list() -> BalancedClient {
    let options = Options::default().call_timeout(Duration::from_millis(50));
    BalancedClient::new(MultiServersDiscovery::unknown(), SelectMode::Random, &options)
}

/// The outcome of a call whose time was over before a server was chosen.
fn assert_timed_out_choosing(result: Result<String, BalanceError>) {
    match result {
        Err(BalanceError::Discovery(DiscoveryError::Unavailable(source))) => assert!(
            matches!(source.downcast_ref(), Some(Error::Timeout { .. })),
            "out of time is Unavailable with Error::Timeout as its source, but the source is {source:?}"
        ),
        other => panic!("choosing should have timed out, but: {other:?}"),
    }
}

/// A listener whose server is played by hand, and its endpoint.
async fn by_hand() -> (TcpListener, Endpoint) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint::tcp(listener.local_addr().unwrap());
    (listener, endpoint)
}

/// The next client of a server that is played by hand, after the handshake.
#[track_caller]
fn next_client(listener: &TcpListener) -> impl Future<Output = Peer<TcpStream>> {
    next_client_with(listener, json!({}))
}

/// The same with more fields for the server's hello.
#[track_caller]
fn next_client_with(
    listener: &TcpListener,
    fields: serde_json::Value,
) -> impl Future<Output = Peer<TcpStream>> {
    within("a client and its handshake", async move {
        let mut peer = Peer { io: listener.accept().await.unwrap().0 };
        peer.accept_handshake_with("application/json", fields).await;
        peer
    })
}

/// From now on, this server closes each new connection before its handshake.
async fn close_all(listener: TcpListener) {
    loop {
        drop(listener.accept().await.unwrap());
    }
}
