//! Day 6: one name, many servers.
//!
//! The order is that of the lesson: choose one of many, know the list, share one connection per server, go
//! round what hangs and what is dead, follow the list as it changes, and call them all at once.

// The stages, in the order of the work. Empty lines keep rustfmt from sorting them.
mod select_modes;

mod ring;

mod list;

mod calls;

mod hanging;

mod failing_over;

mod changing;

mod broadcast;

mod hardening;

use std::collections::BTreeMap;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use day6_loadbalance::{
    BalanceError, BalancedClient, Codec, Discovery, DiscoveryError, Endpoint, Error, MAX_BROADCAST,
    MultiServersDiscovery, Options, Reply, Request, SelectMode, Server,
};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use crate::support::peer::{Peer, json_error};
use crate::support::{alive_tasks, eventually, run, run_threads, within};

// Choosing, without any server.

fn endpoint(text: &str) -> Endpoint {
    text.parse().unwrap()
}

/// `"abc"` is a list of three servers with these names. Nobody runs them: a choice needs no connection.
fn servers(names: &str) -> Vec<Endpoint> {
    names.chars().map(|name| endpoint(&format!("tcp@{name}:7000"))).collect()
}

fn weighted(names: &str, weights: &[u32]) -> Vec<(Endpoint, u32)> {
    servers(names).into_iter().zip(weights.iter().copied()).collect()
}

/// The next `n` choices, as one text: `"abcabc"`.
#[track_caller]
fn choices(discovery: &MultiServersDiscovery, mode: &SelectMode, n: usize) -> impl Future<Output = String> {
    let chosen = async move {
        let mut names = String::new();
        for _ in 0..n {
            names.push(name_of(&discovery.get(mode).await.unwrap()));
        }
        names
    };
    within("a choice", chosen)
}

/// The reverse of [`servers`].
fn name_of(endpoint: &Endpoint) -> char {
    endpoint.to_string().chars().nth(4).unwrap()
}

fn names_of(list: &[Endpoint]) -> String {
    list.iter().map(name_of).collect()
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
async fn servers_of_keys(discovery: &MultiServersDiscovery, keys: usize) -> String {
    let mut names = String::new();
    for user in 0..keys {
        names += &choices(discovery, &key(format_args!("user-{user}")), 1).await;
    }
    names
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
    /// One permit per call of `wait` that has begun; and the gate that they wait at.
    entered: Semaphore,
    gate: Semaphore,
    /// Connections wait here before anybody talks to them.
    door: Semaphore,
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
            door: Semaphore::new(0),
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

/// Counts one up when it is dropped, unless it was told that all is well.
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
    /// End all connections, and close new ones at once: nobody can connect any more.
    Kill,
    /// End all connections, but serve new ones.
    Cut,
}

/// A server that counts. It has two methods: `Site.name` answers with its name, and `Site.wait` does so after
/// somebody has opened the gate. It keeps its port to its end, so that no other test gets it by chance.
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
        site.open_door();
        site
    }

    /// Accepts connections, but does not answer their handshakes before [`open_door`](Site::open_door).
    async fn hung(name: &'static str) -> Site {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint::tcp(listener.local_addr().unwrap());
        let seen = Seen::new();
        let (orders, received) = mpsc::unbounded_channel();
        let mut task = JoinSet::new();
        task.spawn(run_site(listener, site_server(name, Arc::clone(&seen)), Arc::clone(&seen), received));
        Site { name, endpoint, seen, orders, _task: task }
    }

    fn open_door(&self) {
        self.seen.door.add_permits(1000);
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
                anyhow::ensure!(!seen.broken.load(SeqCst), "{name} is broken");
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
    open.0.door.acquire().await.unwrap().forget();
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

/// A discovery of this suite's own. The key of `ConsistentHash` is the endpoint to call, so that a test can
/// say where a call goes first; any other mode takes the first of the list.
struct Directed(Arc<watch::Sender<Arc<[Endpoint]>>>);

impl Directed {
    fn new<'a>(servers: impl IntoIterator<Item = &'a Endpoint>) -> Directed {
        Directed(Arc::new(watch::Sender::new(servers.into_iter().cloned().collect())))
    }
}

impl Discovery for Directed {
    async fn refresh(&self) -> Result<(), DiscoveryError> {
        Ok(())
    }

    fn update(&self, servers: Vec<Endpoint>) {
        self.0.send_replace(servers.into());
    }

    async fn get(&self, mode: &SelectMode) -> Result<Endpoint, DiscoveryError> {
        match mode {
            SelectMode::ConsistentHash(key) => Ok(endpoint(key)),
            _ => self.0.borrow().first().cloned().ok_or(DiscoveryError::NoServers),
        }
    }

    async fn get_all(&self) -> Result<Arc<[Endpoint]>, DiscoveryError> {
        Ok(Arc::clone(&self.0.borrow()))
    }

    fn subscribe(&self) -> watch::Receiver<Arc<[Endpoint]>> {
        self.0.subscribe()
    }
}

/// A client whose calls go where [`to`] says.
fn directed<'a>(
    servers: impl IntoIterator<Item = &'a Endpoint>,
    options: Options,
) -> BalancedClient<Directed> {
    BalancedClient::new(Directed::new(servers), SelectMode::RoundRobin, &options)
}

/// The same client, with its calls going to this endpoint first.
fn to(client: &BalancedClient<Directed>, endpoint: &Endpoint) -> BalancedClient<Directed> {
    client.with_mode(key(endpoint))
}

/// A client that takes turns between these servers.
fn round_robin<'a>(sites: impl IntoIterator<Item = &'a Site>) -> BalancedClient<MultiServersDiscovery> {
    let discovery = MultiServersDiscovery::new(sites.into_iter().map(|site| site.endpoint.clone()));
    BalancedClient::new(discovery, SelectMode::RoundRobin, &Options::default())
}

/// Calls `Site.name`. If that takes too long, the message says who waited, as for all these helpers.
#[track_caller]
fn try_call<D: Discovery>(client: &BalancedClient<D>) -> impl Future<Output = Result<String, BalanceError>> {
    within("the outcome of a call", client.call("Site.name", &()))
}

/// Calls, and returns the name of the server that answered.
#[track_caller]
fn name<D: Discovery>(client: &BalancedClient<D>) -> impl Future<Output = String> {
    let (caller, call) = (Location::caller(), try_call(client));
    async move { call.await.unwrap_or_else(|error| panic!("the call failed: {error} (called at {caller})")) }
}

/// Calls in a task of its own.
fn spawn_call<D: Discovery>(
    client: &BalancedClient<D>,
    method: &'static str,
) -> JoinHandle<Result<String, BalanceError>> {
    let client = client.clone();
    tokio::spawn(async move { client.call(method, &()).await })
}

/// Broadcasts `Site.wait` in a task of its own.
fn spawn_broadcast<D: Discovery>(client: &BalancedClient<D>) -> JoinHandle<Result<String, BalanceError>> {
    let client = client.clone();
    tokio::spawn(async move { client.broadcast("Site.wait", ()).await })
}

/// The same, for the results of all.
fn spawn_broadcast_all<D: Discovery>(
    client: &BalancedClient<D>,
) -> JoinHandle<Vec<(Endpoint, Result<String, BalanceError>)>> {
    let client = client.clone();
    tokio::spawn(async move { client.broadcast_all("Site.wait", ()).await.unwrap() })
}

/// Waits until `time`, and then lets everybody go first whose time has come as well: on a busy machine all of
/// them are late.
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

/// A discovery that never says which servers there are.
struct Silent(Directed);

impl Silent {
    /// A client that has 50 ms for a call.
    fn client() -> BalancedClient<Silent> {
        let options = Options::default().call_timeout(Duration::from_millis(50));
        BalancedClient::new(Silent(Directed::new([])), SelectMode::Random, &options)
    }
}

impl Discovery for Silent {
    async fn refresh(&self) -> Result<(), DiscoveryError> {
        Ok(())
    }

    fn update(&self, _: Vec<Endpoint>) {}

    async fn get(&self, _: &SelectMode) -> Result<Endpoint, DiscoveryError> {
        std::future::pending().await
    }

    async fn get_all(&self) -> Result<Arc<[Endpoint]>, DiscoveryError> {
        std::future::pending().await
    }

    fn subscribe(&self) -> watch::Receiver<Arc<[Endpoint]>> {
        self.0.subscribe()
    }
}

/// What a caller gets whose time was over before a server was chosen.
fn assert_timed_out_choosing(result: Result<String, BalanceError>) {
    match result {
        Err(BalanceError::Discovery(DiscoveryError::Unavailable(source))) => assert!(
            matches!(source.downcast_ref(), Some(Error::Timeout { .. })),
            "out of time is Unavailable with Error::Timeout as its source, but the source is {source:?}"
        ),
        other => panic!("choosing should have timed out, but: {other:?}"),
    }
}
