//! Day 6: one name, many servers.
//!
//! The order is that of the lesson: choose one of many, know the list, share one connection per server, go
//! round what hangs and what is dead, follow the list as it changes, and call them all at once.

mod support;

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
use support::peer::{Peer, json_error};
use support::{alive_tasks, eventually, run, run_threads, within};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

// ---- helpers of this suite: choosing, without any server -------------------------------------------------

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

// ---- helpers of this suite: servers that a test can watch, stop and cut off ------------------------------

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

// ---- helpers of this suite: clients ----------------------------------------------------------------------

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

// ---- 1. select modes -------------------------------------------------------------------------------------
// Chapter: Files of today > src/select.rs; The four modes

/// Each mode has a text, the text parses to the mode, and the key of a hash keeps its characters.
///
/// A mode is chosen on a command line or in a configuration, and shown in a log. What is shown should be what
/// can be written.
///
/// Hint: `Display` and `FromStr` are each other's reverse. A key may have any characters, colons too.
#[test]
fn a_select_mode_is_parsed_and_displayed() {
    let all = [
        ("random", SelectMode::Random),
        ("round-robin", SelectMode::RoundRobin),
        ("weighted-round-robin", SelectMode::WeightedRoundRobin),
        ("consistent-hash:user-7", key("user-7")),
        ("consistent-hash:a:b c", key("a:b c")),
    ];
    for (text, mode) in all {
        assert_eq!(text.parse().as_ref(), Ok(&mode), "{text:?} parses to {mode:?}");
        assert_eq!(mode.to_string(), text);
    }
}

/// Text that is no mode is an error that quotes the text and names all that is accepted.
///
/// The text comes from a command line or a configuration, and its author cannot see the source.
///
/// Hint: the error holds the text, and its `Display` lists the four. A hash without a key is none of them.
#[test]
fn text_that_is_no_select_mode_is_an_error_that_names_what_is_accepted() {
    for text in ["", "Random", "round robin", "round-robin ", "consistent-hash", "consistent-hash:", "7"] {
        let error = match text.parse::<SelectMode>() {
            Ok(mode) => panic!("{text:?} should be no mode, but is {mode:?}"),
            Err(error) => error.to_string(),
        };
        assert!(error.contains(&format!("{text:?}")), "{error} quotes {text:?}");
        for accepted in ["random", "round-robin", "weighted-round-robin", "consistent-hash:KEY"] {
            assert!(error.contains(accepted), "{error} names {accepted}");
        }
    }
}

/// With a seeded RNG, every server gets about the same number of calls.
///
/// "Random" that never reaches the last server of the list is a common off-by-one.
///
/// Hint: the range is `0..len`.
#[test]
fn random_reaches_every_server_about_equally_often() {
    run(async || {
        for seed in 0..5 {
            let rng = StdRng::seed_from_u64(seed);
            let discovery = MultiServersDiscovery::with_rng(weighted("abc", &[1, 1, 1]), rng);
            let counts = count(&choices(&discovery, &SelectMode::Random, 3000).await);
            assert_eq!(counts.len(), 3, "seed {seed}: {counts:?}");
            // Six times the standard deviation, which is 26.
            assert!(counts.values().all(|n| n.abs_diff(1000) < 155), "seed {seed}: {counts:?}");
        }
    });
}

/// The same seed makes the same choices, another seed makes others, and they do not just take turns.
///
/// A test or a simulation that chooses by chance must be repeatable.
///
/// Hint: all chance comes from the RNG that was given.
#[test]
fn a_seeded_rng_makes_the_same_choices_in_every_run() {
    run(async || {
        let chosen = async |seed| {
            let rng = StdRng::seed_from_u64(seed);
            let discovery = MultiServersDiscovery::with_rng(weighted("abcde", &[1; 5]), rng);
            choices(&discovery, &SelectMode::Random, 50).await
        };
        assert_eq!(chosen(7).await, chosen(7).await);
        assert_ne!(chosen(7).await, chosen(8).await);
        let repeats = chosen(7).await.as_bytes().windows(2).filter(|pair| pair[0] == pair[1]).count();
        assert!(repeats > 0, "fifty choices of five servers, and never the same one twice in a row");
    });
}

/// The servers have their turns in the order of the list, round after round, wherever it starts.
///
/// Round robin that is stuck on one server passes GeeRPC's tests: each call is answered, and nobody looks by
/// whom.
///
/// Hint: a counter that moves on at every choice, and the remainder of a division.
#[test]
fn round_robin_takes_turns_in_list_order() {
    run(async || {
        for names in ["a", "ab", "abc", "abcdefg"] {
            let discovery = MultiServersDiscovery::new(servers(names));
            let chosen = choices(&discovery, &SelectMode::RoundRobin, 4 * names.len()).await;
            let start = names.find(&chosen[..1]).unwrap();
            let from_start = names.chars().cycle().skip(start).take(4 * names.len());
            assert_eq!(chosen, from_start.collect::<String>());
        }
    });
}

/// Clients that start at the same time begin with different servers.
///
/// After a restart of all clients the first server of the list would get all their first calls at once. That
/// holds for a list that is there at the start, and for one that comes later, from a registry.
///
/// Hint: the first turn is chosen by chance, and not from the length of the first list.
#[test]
fn round_robin_starts_anywhere() {
    run(async || {
        for list_comes_later in [false, true] {
            let mut starts = String::new();
            for _ in 0..300 {
                let first = if list_comes_later { Vec::new() } else { servers("abc") };
                let discovery = MultiServersDiscovery::new(first);
                if list_comes_later {
                    discovery.update(servers("abc"));
                }
                starts += &choices(&discovery, &SelectMode::RoundRobin, 1).await;
            }
            let counts = count(&starts);
            // Each comes up 100 times or so; the standard deviation is 8.
            assert!(
                counts.len() == 3 && counts.values().all(|n| *n > 40),
                "who came first in 300 clients; each should about 100 times: {counts:?} \
                 (the list came later: {list_comes_later})"
            );
        }
    });
}

/// Turns are fair after every change of the list.
///
/// The turn may point behind the end of a list that shrank: a panic, or a server that is never chosen. So
/// this test changes the list at every position of the turn.
///
/// Hint: take the remainder when you choose, not when you count.
#[test]
fn round_robin_survives_a_list_that_shrinks_and_grows() {
    run(async || {
        for turns in 0..7 {
            let discovery = MultiServersDiscovery::new(servers("abcdefg"));
            // The first turn may be anybody's; the test begins when it was the turn of "a".
            for _ in 0..7 {
                if choices(&discovery, &SelectMode::RoundRobin, 1).await == "a" {
                    break;
                }
            }
            choices(&discovery, &SelectMode::RoundRobin, turns).await;
            for names in ["ab", "abcde", "a", "xyz", "za", "abcdefgh"] {
                discovery.update(servers(names));
                let chosen = choices(&discovery, &SelectMode::RoundRobin, 3 * names.len()).await;
                let counts = count(&chosen);
                let fair = counts.len() == names.len() && counts.values().all(|n| *n == 3);
                assert!(fair, "with the servers {names:?} the choices are {chosen:?}");
            }
        }
    });
}

/// Many tasks on many threads choose at the same time, and each server still gets exactly the same number.
///
/// Two tasks that read the turn before either writes it get the same server.
///
/// Hint: choose and move on in one step, under one lock.
#[test]
fn concurrent_choices_are_exactly_fair() {
    run_threads(async || {
        let discovery = Arc::new(MultiServersDiscovery::new(servers("abc")));
        let mut tasks = JoinSet::new();
        for _ in 0..8 {
            let discovery = Arc::clone(&discovery);
            tasks.spawn(async move { choices(&discovery, &SelectMode::RoundRobin, 1500).await });
        }
        let chosen: String = within("all choices", tasks.join_all()).await.concat();
        assert_eq!(count(&chosen), BTreeMap::from([('a', 4000), ('b', 4000), ('c', 4000)]));
    });
}

/// With the weights 5, 1, 1 it is the golden sequence of smooth weighted round robin, twice.
///
/// `aaaaabc` has the same shares, but hits `a` with five calls in a row.
///
/// Hint: everyone earns its weight, the richest is chosen and pays what all earned together; all start with
/// nothing, and the first of equals wins.
#[test]
fn weighted_round_robin_spreads_the_turns_of_a_heavy_server() {
    run(async || {
        let discovery = MultiServersDiscovery::with_weights(weighted("abc", &[5, 1, 1]));
        let chosen = choices(&discovery, &SelectMode::WeightedRoundRobin, 14).await;
        assert_eq!(chosen, "aabacaaaabacaa");
    });
}

/// Over a full round each server is chosen exactly as often as its weight says; without weights that is once
/// each, and a weight of 0 counts as 1.
///
/// Weights are set by hand, to make use of a machine that can do more. "About five times as much" would be
/// hard to tell from a mistake.
///
/// Hint: a round is the sum of the weights. What each server has earned stays from one choice to the next.
#[test]
fn weighted_round_robin_gives_every_server_exactly_its_weight() {
    run(async || {
        for (names, weights) in [("abcd", &[1, 2, 3, 4][..]), ("ab", &[100, 1]), ("abc", &[1, 1, 1])] {
            let discovery = MultiServersDiscovery::with_weights(weighted(names, weights));
            let round: u32 = weights.iter().sum();
            for _ in 0..3 {
                let chosen = choices(&discovery, &SelectMode::WeightedRoundRobin, round as usize).await;
                let expected: Vec<_> = weights.iter().map(|weight| *weight as usize).collect();
                assert_eq!(count(&chosen).into_values().collect::<Vec<_>>(), expected, "{names} {weights:?}");
            }
        }
        let zero = MultiServersDiscovery::with_weights(weighted("ab", &[0, 2]));
        let chosen = choices(&zero, &SelectMode::WeightedRoundRobin, 3).await;
        assert_eq!(count(&chosen), BTreeMap::from([('a', 1), ('b', 2)]));
    });
}

/// After `update`, servers that stay keep their weights, and new ones have 1.
///
/// An update brings endpoints only. A heavy server must not become a light one because another has joined.
///
/// Hint: look each endpoint of the new list up in what was given at the beginning.
#[test]
fn servers_that_stay_keep_their_weights() {
    run(async || {
        let discovery = MultiServersDiscovery::with_weights(weighted("abc", &[1, 4, 1]));
        choices(&discovery, &SelectMode::WeightedRoundRobin, 2).await;
        discovery.update(servers("dba"));
        let chosen = choices(&discovery, &SelectMode::WeightedRoundRobin, 6).await;
        assert_eq!(count(&chosen), BTreeMap::from([('a', 1), ('b', 4), ('d', 1)]));
    });
}

/// A server that was missing from one list, or from all of them for a while, has its weight when it is back.
///
/// A weight is a fact about a machine, set by hand. A restart takes a server out of one list of the registry;
/// if that cost it its weight, sooner or later all would have 1, and nobody would know why.
///
/// Hint: the weights live longer than the list. Keep what was given at the beginning in a map of its own.
#[test]
fn a_server_that_comes_back_has_its_weight_again() {
    run(async || {
        let discovery = MultiServersDiscovery::with_weights(weighted("abc", &[1, 4, 2]));
        for without_b in ["ac", "d", ""] {
            discovery.update(servers(without_b));
            discovery.update(servers("abd"));
            let chosen = choices(&discovery, &SelectMode::WeightedRoundRobin, 6).await;
            let expected = BTreeMap::from([('a', 1), ('b', 4), ('d', 1)]);
            assert_eq!(count(&chosen), expected, "after a list of {without_b:?}");
        }
    });
}

// ---- 2. keys on a ring -----------------------------------------------------------------------------------
// Chapter: The wire; The four modes > ConsistentHash(key)

/// A key has the same server at every call, in every client, in whatever order they know the list.
///
/// That is what a cache on the server needs.
///
/// Hint: hash the names of the servers, not their positions, and with no seed of the process.
#[test]
fn a_key_has_the_same_server_in_every_client() {
    run(async || {
        let one = MultiServersDiscovery::new(servers("abcde"));
        let other = MultiServersDiscovery::new(servers("ecadb"));
        let chosen = servers_of_keys(&one, 500).await;
        assert_eq!(chosen, servers_of_keys(&other, 500).await);
        assert_eq!(chosen, servers_of_keys(&one, 500).await);
    });
}

/// Different keys spread over all servers.
///
/// The plain ring, with one point for each server, gives one of them half of all keys and another almost
/// none.
///
/// Hint: many points per server, and a hash whose upper bits depend on the last characters.
#[test]
fn different_keys_spread_over_all_servers() {
    run(async || {
        let discovery = MultiServersDiscovery::new(servers("abcde"));
        let counts = count(&servers_of_keys(&discovery, 5000).await);
        assert!(
            counts.len() == 5 && counts.values().all(|n| (700..1300).contains(n)),
            "each of five should have 700 to 1300 of 5000 keys: {counts:?}"
        );
    });
}

/// A server that leaves takes only its own keys along, and they go to more than one other server.
///
/// With `hash % len` nearly every key would move, and every cache would be cold at once.
///
/// Hint: a server's points depend on its own name only. If they go, the points of the others are where they
/// were.
#[test]
fn a_server_that_leaves_moves_only_its_own_keys() {
    run(async || {
        let discovery = MultiServersDiscovery::new(servers("abcde"));
        let before = servers_of_keys(&discovery, 2000).await;
        discovery.update(servers("abde"));
        let after = servers_of_keys(&discovery, 2000).await;
        let mut heirs = String::new();
        for (before, after) in before.chars().zip(after.chars()) {
            match before {
                'c' => heirs.push(after),
                _ => assert_eq!(before, after, "a key of {before} has moved to {after}"),
            }
        }
        assert_eq!(count(&heirs).into_keys().collect::<String>(), "abde", "where the keys of c are now");
    });
}

/// A server that joins gets its share of the keys, and no key moves between two others.
///
/// As with a server that leaves; and one that joins but gets nothing is of no use.
///
/// Hint: nothing to do, if the points of a server do not depend on how many others there are.
#[test]
fn a_server_that_joins_takes_keys_but_moves_no_others() {
    run(async || {
        let discovery = MultiServersDiscovery::new(servers("abcd"));
        let before = servers_of_keys(&discovery, 2000).await;
        discovery.update(servers("aebcd"));
        let after = servers_of_keys(&discovery, 2000).await;
        for (before, after) in before.chars().zip(after.chars()) {
            assert!(after == before || after == 'e', "a key of {before} has moved to {after}");
        }
        let moved = count(&after)[&'e'];
        assert!((250..600).contains(&moved), "a fifth of 2000 keys should move; it was {moved}");
    });
}

/// These keys have exactly these servers, in every version.
///
/// Clients of two versions share the same caches, and the standard library's hashers promise no such thing.
/// The values come from a program in another language, written from the text of the README.
///
/// Hint: the README says which hash it is, and where the points are.
#[test]
fn the_servers_of_these_keys_never_change() {
    run(async || {
        let list = ["tcp@10.0.0.1:9999", "http@10.0.0.2:9999", "tcp@arith.example.com:80"].map(endpoint);
        let discovery = MultiServersDiscovery::new(list.clone());
        let mut chosen = Vec::new();
        for text in
            ["", "a", "b", "user-1", "user-2", "user-3", "Ünïcödé", "a longer key, with: a colon", "wrap-924"]
        {
            let server = within("a choice", discovery.get(&key(text))).await.unwrap();
            chosen.push(list.iter().position(|listed| *listed == server).unwrap());
        }
        assert_eq!(chosen, GOLDEN_KEYS);

        // A key that is the text of a point lies on that point, and not before it.
        for server in &list {
            for point in [0, 1, 2, 50, 99] {
                let on_point = key(format_args!("{server}#{point}"));
                let owner = within("a choice", discovery.get(&on_point)).await.unwrap();
                assert_eq!(owner, *server, "the owner of the key {server}#{point}");
            }
        }
    });
}

/// Positions in the list of the test above. The last key lies behind the last point of the ring.
const GOLDEN_KEYS: [usize; 9] = [2, 2, 0, 0, 1, 2, 2, 2, 0];

// ---- 3. the list -----------------------------------------------------------------------------------------
// Chapter: Files of today > src/discovery.rs

/// The list is the discovery's own: a list taken from it earlier stays as it was, and a server that is named
/// twice counts once.
///
/// GeeRPC keeps the caller's slice, and whoever sorts it later moves the servers under the balancer's feet.
///
/// Hint: a new `Arc` for each new list; whoever holds the old one keeps it.
#[test]
fn the_list_is_a_copy_and_duplicates_count_once() {
    run(async || {
        let mut mine = servers("abac");
        let discovery = MultiServersDiscovery::new(mine.iter().cloned());
        let old = within("the list", discovery.get_all()).await.unwrap();
        assert_eq!(names_of(&old), "abc", "a server that is named twice counts once");

        mine.clear();
        discovery.update(servers("bbd"));
        assert_eq!(names_of(&old), "abc", "a list that was handed out has changed");
        let new = within("the list", discovery.get_all()).await.unwrap();
        assert_eq!(names_of(&new), "bd", "the list after the update");
        let counts = count(&choices(&discovery, &SelectMode::RoundRobin, 4).await);
        assert_eq!(counts, BTreeMap::from([('b', 2), ('d', 2)]));
    });
}

/// Subscribers are told of every new list, but not of an update that changes nothing.
///
/// Tomorrow a registry sends the same list again and again, and each change makes clients look at their
/// connections.
///
/// Hint: `watch::Sender::send_if_modified`.
#[test]
fn subscribers_hear_of_changes_only() {
    run(async || {
        let discovery = MultiServersDiscovery::new(servers("ab"));
        let mut list = discovery.subscribe();
        assert_eq!(names_of(&list.borrow()), "ab");
        discovery.update(servers("abb"));
        assert!(!list.has_changed().unwrap(), "subscribers were told of an update that changes nothing");
        discovery.update(servers("bc"));
        within("the subscriber hears of the change", list.changed()).await.unwrap();
        assert_eq!(names_of(&list.borrow_and_update()), "bc");
    });
}

/// From an empty list nobody can be chosen, in any mode, also after the last one has left; the list itself is
/// known, and empty.
///
/// Every list may become empty, and a remainder of a division by its length is then a panic.
///
/// Hint: `NoServers` is a variant of its own.
#[test]
fn an_empty_list_has_nobody_to_choose() {
    run(async || {
        let left = MultiServersDiscovery::new(servers("ab"));
        choices(&left, &SelectMode::RoundRobin, 1).await;
        left.update(Vec::new());
        for discovery in [MultiServersDiscovery::new([]), left] {
            for mode in
                [SelectMode::Random, SelectMode::RoundRobin, SelectMode::WeightedRoundRobin, key("user-1")]
            {
                let chosen = within("a choice", discovery.get(&mode)).await;
                assert!(
                    matches!(chosen, Err(DiscoveryError::NoServers)),
                    "{mode} from an empty list should be NoServers, but: {chosen:?}"
                );
            }
            let list = within("the list", discovery.get_all()).await.unwrap();
            assert_eq!(names_of(&list), "", "the list is known, and empty");
        }
    });
}

// ---- 4. calls and connections ----------------------------------------------------------------------------
// Chapter: Files of today > src/pool.rs; Files of today > src/balance.rs

/// Over the wire too, each server gets exactly its share, in the order of the list.
///
/// The tests above ask the selector alone. A client that asks it twice for each call, or once for each
/// connection, makes something else of its choices.
///
/// Hint: ask for a server once for each call.
#[test]
fn calls_take_turns_between_the_servers() {
    run(async || {
        let sites = [Site::start("a").await, Site::start("b").await, Site::start("c").await];
        let client = round_robin(&sites);
        let mut names = String::new();
        for _ in 0..12 {
            names += &name(&client).await;
        }
        assert!("abcabcabcabcabc".contains(&names), "{names}");
        assert!(sites.iter().all(|site| site.seen.calls() == 4));
    });
}

/// With no server a call is an error, also after the last one has left.
///
/// A client that waits for a server instead may wait for ever, and nobody knows what for.
///
/// Hint: the discovery has said it already; its error is passed on.
#[test]
fn nobody_to_call_is_an_error() {
    run(async || {
        let site = Site::start("a").await;
        let (none, left) = (round_robin([]), round_robin([&site]));
        assert_eq!(name(&left).await, "a");
        left.discovery().update(Vec::new());
        for client in [none, left] {
            let call = try_call(&client).await;
            assert!(
                matches!(call, Err(BalanceError::Discovery(DiscoveryError::NoServers))),
                "a call to nobody should be NoServers, but: {call:?}"
            );
        }
        assert_eq!(site.seen.calls(), 1);
    });
}

/// One list may mix `tcp@`, `http@` and `unix@`.
///
/// Servers move from one door to the other one at a time, and those behind a proxy are no worse.
///
/// Hint: `Client::dial` knows them all.
#[cfg(unix)]
#[test]
fn one_list_may_mix_protocols() {
    run(async || {
        let server = |name| site_server(name, Seen::new());
        let path = std::env::temp_dir().join(format!("rrpc-day6-{}.sock", std::process::id()));
        std::fs::remove_file(&path).ok();
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let unix = tokio::net::UnixListener::bind(&path).unwrap();
        let list = [
            Endpoint::tcp(tcp.local_addr().unwrap()),
            Endpoint::http(http.local_addr().unwrap()),
            endpoint(&format!("unix@{}", path.display())),
        ];
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { server("tcp").serve(tcp).await });
        tasks.spawn(async move { server("http").serve_http(http).await });
        tasks.spawn(async move { server("unix").serve(unix).await });

        let discovery = MultiServersDiscovery::new(list);
        let client = BalancedClient::new(discovery, SelectMode::RoundRobin, &Options::default());
        let mut names = Vec::new();
        for _ in 0..6 {
            names.push(name(&client).await);
        }
        names.sort_unstable();
        assert_eq!(names, ["http", "http", "tcp", "tcp", "unix", "unix"]);
        std::fs::remove_file(&path).unwrap();
    });
}

/// A hundred first calls at the same time make one connection.
///
/// A hundred handshakes with a server that has just started are the last thing it needs.
///
/// Hint: whoever comes while a connection is being made waits for that one ("single flight").
#[test]
fn many_first_calls_share_one_connection() {
    run_threads(async || {
        let sites = [Site::start("a").await, Site::start("b").await];
        let client = round_robin(&sites);
        let calls: Vec<_> = (0..100).map(|_| spawn_call(&client, "Site.name")).collect();
        for call in calls {
            outcome(call).await.unwrap();
        }
        for site in &sites {
            assert_eq!((site.seen.calls(), site.seen.accepted()), (50, 1), "calls and connections");
        }
        assert_eq!(client.connections(), 2);
    });
}

/// A clone, and the same client in another mode, use the connections that are there.
///
/// A mode is a property of a call, a connection is not. A program that hashes some of its calls needs no
/// second set of connections.
///
/// Hint: they share the pool; only the mode is their own.
#[test]
fn clones_and_other_modes_share_the_connections() {
    run(async || {
        let site = Site::start("a").await;
        let client = round_robin([&site]);
        assert_eq!(client.connections(), 0, "nothing is dialed before the first call");
        name(&client).await;
        name(&client.clone()).await;
        for mode in [SelectMode::Random, SelectMode::WeightedRoundRobin, key("k")] {
            name(&client.with_mode(mode)).await;
        }
        assert_eq!((site.seen.calls(), site.seen.accepted(), client.connections()), (5, 1, 1));
    });
}

/// Any discovery will do, also one that is written elsewhere.
///
/// Day 7 puts a registry behind the trait, and somebody else's may be a file or a DNS name.
///
/// Hint: the client knows the trait only.
#[test]
fn a_discovery_of_your_own_works() {
    run(async || {
        let (a, b) = (Site::start("a").await, Site::start("b").await);
        let client = directed([&a.endpoint, &b.endpoint], Options::default());
        for site in [&b, &a, &b] {
            assert_eq!(name(&to(&client, &site.endpoint)).await, site.name);
        }
        assert_eq!(name(&client.with_mode(SelectMode::Random)).await, "a");
        client.discovery().update(vec![b.endpoint.clone()]);
        assert_eq!(name(&client.with_mode(SelectMode::Random)).await, "b");
    });
}

// ---- 5. what hangs ---------------------------------------------------------------------------------------
// Chapter: Reading order > 3. src/pool.rs; Limits > the time that a call waits for one server

/// While one server is being dialed and does not answer, calls to another are made, by a first connection
/// too.
///
/// GeeRPC dials under the one lock of the client, so one hung server stops the calls to all: two seconds,
/// when it was tried.
///
/// Hint: no lock is held across an `await`.
#[test]
fn a_hung_server_delays_no_call_to_another() {
    run(async || {
        let (hung, good) = (Site::hung("hung").await, Site::start("good").await);
        let client = directed([&hung.endpoint, &good.endpoint], Options::default());
        let stuck = spawn_call(&to(&client, &hung.endpoint), "Site.name");
        hung.is_being_dialed().await;

        let to_good = to(&client, &good.endpoint);
        assert_eq!(name(&to_good).await, "good");
        assert_eq!(name(&to_good).await, "good");
        assert!(!stuck.is_finished(), "the other call should still be waiting for the hung server");
        hung.open_door();
        assert_eq!(outcome(stuck).await.unwrap(), "hung");
    });
}

/// Many callers of a hung server make one attempt, and all get its one failure.
///
/// A server that is overloaded gets worse with every attempt.
///
/// Hint: the failure is an `Arc`, so that it can be shared.
#[test]
fn callers_of_a_hung_server_share_one_attempt_and_one_failure() {
    run(async || {
        let hung = Site::hung("hung").await;
        let options = Options::default().connect_timeout(Duration::from_millis(200));
        let client = directed([&hung.endpoint], options);
        let calls: Vec<_> = (0..20).map(|_| spawn_call(&to(&client, &hung.endpoint), "Site.name")).collect();
        let mut failures = Vec::new();
        for call in calls {
            match outcome(call).await {
                Err(BalanceError::Dial { endpoint, source }) if endpoint == hung.endpoint => {
                    failures.push(source);
                }
                other => panic!("the call should fail at dialing the hung server, but: {other:?}"),
            }
        }
        assert!(matches!(*failures[0], Error::Timeout { what: "connecting", .. }), "{:?}", failures[0]);
        assert!(failures.iter().all(|failure| Arc::ptr_eq(failure, &failures[0])), "one failure for all");
        assert_eq!(hung.seen.accepted(), 1);
    });
}

/// The caller who began an attempt goes away, and the others get the connection of that attempt.
///
/// If the first caller's own future dials, everybody depends on its patience.
///
/// Hint: the attempt is a task that the pool owns.
#[test]
fn a_caller_that_gives_up_does_not_stop_the_attempt() {
    run(async || {
        let slow = Site::hung("slow").await;
        let client = directed([&slow.endpoint], Options::default());
        let first = spawn_call(&client, "Site.name");
        slow.is_being_dialed().await;
        let second = spawn_call(&client, "Site.name");
        first.abort();
        within("the first caller ends", first).await.unwrap_err();
        slow.open_door();
        assert_eq!(outcome(second).await.unwrap(), "slow");
        assert_eq!(slow.seen.accepted(), 1);
    });
}

/// There is one time limit for choosing, dialing and calling together.
///
/// With one for each, a caller who asked for a second waits for three. Here the connection is there when two
/// thirds of the time are gone; then the method does not answer.
///
/// Hint: compute the deadline once, at the beginning.
#[test]
fn dialing_and_calling_share_the_time_limit() {
    run(async || {
        let slow = Site::hung("slow").await;
        let limit = Duration::from_millis(600);
        let client = directed([&slow.endpoint], Options::default().call_timeout(limit));
        let begin = Instant::now();
        let call = spawn_call(&client, "Site.wait");
        within("two thirds of the time pass", sleep_until(begin + limit * 2 / 3)).await;
        slow.open_door();
        let error = tokio::select! {
            biased;
            result = call => result.unwrap().expect_err("nobody has opened the gate"),
            () = well_after(begin + limit * 4 / 3) => {
                panic!("after 800 ms, a call of at most 600 ms goes on");
            }
        };
        match error {
            BalanceError::Call { endpoint, source: Error::Timeout { .. } } if endpoint == slow.endpoint => {}
            // On a machine that is very busy, the connection may come too late.
            BalanceError::Dial { source, .. } if matches!(*source, Error::Timeout { .. }) => {}
            other => panic!("the call should have timed out, but: {other:?}"),
        }
        assert!(begin.elapsed() >= limit, "it gave up after {:?} already", begin.elapsed());
    });
}

/// A server that hangs while it is dialed may take a part of the time of a call, never all of it; the next in
/// the list takes the call.
///
/// Else one hung server of three fails every third call, although two servers are well.
///
/// Hint: divide what is left by the servers left, three at most; see Limits. The attempt goes on beside the
/// call, for whoever comes next.
#[test]
fn a_hung_server_leaves_time_for_the_next() {
    run(async || {
        let (hung, good) = (Site::hung("hung").await, Site::start("good").await);
        let options = Options::default().call_timeout(Duration::from_secs(1));
        let client = directed([&hung.endpoint, &good.endpoint], options);
        // The second one has left the list since it was chosen; then the hung one is the first that is dialed.
        let (_port, gone) = refusing();
        for first in [&hung.endpoint, &gone] {
            let reply = try_call(&to(&client, first)).await;
            assert!(reply.is_ok(), "the next server was not asked: {reply:?}");
        }
        assert_eq!(good.seen.calls(), 2);
        hung.open_door();
        assert_eq!(name(&to(&client, &hung.endpoint)).await, "hung");
        assert_eq!(hung.seen.accepted(), 1, "the attempt has gone on");
    });
}

/// However many servers are left, one that is slow has a third of the time that is left.
///
/// A list of fifty would leave each of them a fiftieth: too little for a handshake with a server that is well
/// and busy.
///
/// Hint: three at most, whatever the length of the list.
#[test]
fn a_long_list_leaves_each_server_a_third() {
    run(async || {
        let sites = [
            Site::hung("a").await,
            Site::hung("b").await,
            Site::start("c").await,
            Site::start("d").await,
            Site::start("e").await,
        ];
        let limit = Duration::from_millis(900);
        let options = Options::default().call_timeout(limit);
        let client = directed(sites.iter().map(|site| &site.endpoint), options);
        let begin = Instant::now();
        let outcome = try_call(&to(&client, &sites[0].endpoint)).await;
        let waited = begin.elapsed();
        // Thirds are 300 and 200 ms. Shares of five and four servers would be 180 ms each.
        assert!(waited >= limit / 2, "two servers that hang had {waited:?} of {limit:?} together");
        match outcome {
            Ok(name) => assert_eq!(name, "c"),
            // On a machine that is very busy, there may be no time left.
            Err(BalanceError::Dial { source, .. }) if matches!(*source, Error::Timeout { .. }) => {}
            Err(BalanceError::Call { source: Error::Timeout { .. }, .. }) => {}
            Err(other) => panic!("the next server should take the call, but: {other:?}"),
        }
    });
}

/// When the time is over and no server could be dialed, the error names one, and says so.
///
/// A caller who hears "timeout" alone looks for the fault in the method, which was never called.
///
/// Hint: every attempt has a part of what is left, and the last one has the rest.
#[test]
fn when_every_server_hangs_the_call_ends_in_time() {
    run(async || {
        let hung = [Site::hung("a").await, Site::hung("b").await, Site::hung("c").await];
        // A third for each. On a busy machine one of them may take longer, but hardly half a second.
        let limit = Duration::from_millis(1_500);
        let options = Options::default().call_timeout(limit);
        let client = directed(hung.iter().map(|site| &site.endpoint), options);
        let begin = Instant::now();
        match try_call(&to(&client, &hung[0].endpoint)).await {
            Err(BalanceError::Dial { endpoint, source }) => {
                assert_eq!(endpoint, hung[2].endpoint, "the last one that was tried");
                assert!(matches!(*source, Error::Timeout { .. }), "{source:?}");
            }
            other => panic!("dialing should have timed out, but: {other:?}"),
        }
        assert!(begin.elapsed() >= limit, "it gave up after {:?} already", begin.elapsed());
    });
}

/// A discovery that does not answer cannot hold a call for ever.
///
/// Another discovery than ours may ask somebody at each call, and that one may be gone.
///
/// Hint: the time limit is for choosing, too. Out of time is `Unavailable`, with `Error::Timeout` as its source.
#[test]
fn a_discovery_that_does_not_answer_times_out() {
    run(async || assert_timed_out_choosing(try_call(&Silent::client()).await));
}

// ---- 6. what is dead -------------------------------------------------------------------------------------
// Chapter: Reading order > 4. src/balance.rs; What a caller sees

/// A connection that has ended is replaced at the next call, and only then.
///
/// A client that keeps the dead connection fails for ever though the server is back.
///
/// Hint: ask `is_available` before use.
#[test]
fn a_dead_connection_is_replaced_at_the_next_call() {
    run(async || {
        let site = Site::start("a").await;
        let client = round_robin([&site]);
        name(&client).await;
        site.order(Order::Cut);
        eventually("the client notices the end", || client.connections() == 0).await;
        assert_eq!(name(&client).await, "a");
        assert_eq!((site.seen.accepted(), client.connections()), (2, 1));
    });
}

/// One of three servers is gone, and no call fails: those that were its turn go to another.
///
/// GeeRPC has no fail-over, so every third call fails, although two servers could have taken it.
///
/// Hint: nothing was sent yet when dialing fails, so the next server may be tried.
#[test]
fn a_server_that_cannot_be_dialed_is_skipped() {
    run(async || {
        let sites = [Site::start("a").await, Site::start("b").await, Site::start("c").await];
        let client = round_robin(&sites);
        for _ in 0..3 {
            name(&client).await;
        }
        assert_eq!(client.connections(), 3);
        sites[0].order(Order::Kill);
        eventually("the client notices the end", || client.connections() == 2).await;

        for _ in 0..12 {
            assert_ne!(name(&client).await, "a");
        }
        let calls = sites.each_ref().map(|site| site.seen.calls());
        assert!(calls[1] > 1 && calls[2] > 1 && calls[1] + calls[2] == 14, "{calls:?}");
        assert!(sites[0].seen.accepted() > 1, "it was its turn, and somebody has tried");
    });
}

/// In place of a server that cannot be dialed, the next one in the list takes the call; after the last comes
/// the first.
///
/// With the first of the list in place of every dead server, it would have all their load.
///
/// Hint: start at the server that was chosen, and go round once.
#[test]
fn the_next_in_the_list_takes_the_call() {
    run(async || {
        let [a, b, c] = [Site::start("a").await, Site::start("b").await, Site::start("c").await];
        let ((_port, gone), (_other_port, also_gone)) = (refusing(), refusing());
        let list = [&a.endpoint, &b.endpoint, &gone, &c.endpoint, &also_gone];
        let client = directed(list, Options::default());
        assert_eq!(name(&to(&client, &gone)).await, "c");
        assert_eq!(name(&to(&client, &also_gone)).await, "a");
        assert_eq!(b.seen.accepted(), 0);
    });
}

/// A server that could not be dialed is tried again, and used when it is back.
///
/// A client that remembers the failure for ever has fewer servers with every restart, until it has none.
///
/// Hint: a failed attempt is no connection; the next call makes a new attempt.
#[test]
fn a_server_that_comes_back_is_used_again() {
    run(async || {
        let (a, b) = (Site::start("a").await, Site::start("b").await);
        let client = directed([&a.endpoint, &b.endpoint], Options::default());
        let to_a = to(&client, &a.endpoint);
        a.order(Order::Kill);
        assert_eq!(name(&to_a).await, "b");
        a.order(Order::Cut);
        // The order takes effect a moment later.
        let back = async { while name(&to_a).await != "a" {} };
        within("the server that came back is used", back).await;
    });
}

/// With all servers down, the error is one of dialing that names one of them and says why.
///
/// It also says that the call has surely not run. And an address with a reason is where a search begins.
///
/// Hint: the error of the last attempt will do.
#[test]
fn all_servers_down_is_an_error_that_names_one() {
    run(async || {
        let down = [refusing(), refusing(), refusing()];
        let list: Vec<_> = down.iter().map(|(_, endpoint)| endpoint.clone()).collect();
        let discovery = MultiServersDiscovery::new(list.clone());
        let client = BalancedClient::new(discovery, SelectMode::RoundRobin, &Options::default());
        for _ in 0..2 {
            let error = try_call(&client).await.expect_err("nobody is there");
            match &error {
                BalanceError::Dial { endpoint, source } => {
                    assert!(list.contains(endpoint), "{endpoint} is in the list");
                    assert!(matches!(**source, Error::Io(_)), "{source:?}");
                    assert!(error.to_string().contains(&endpoint.to_string()), "{error} names {endpoint}");
                }
                other => panic!("dialing should have failed, but: {other:?}"),
            }
        }
        assert_eq!(client.connections(), 0);
    });
}

/// A call that is lost in mid-flight is an error that names the server, and runs nowhere else.
///
/// It may have run before the connection broke. If it was a payment, then to run it twice is not the
/// library's decision.
///
/// Hint: only what surely has not run is tried elsewhere.
#[test]
fn a_call_lost_in_mid_flight_is_an_error_and_runs_once() {
    run(async || {
        let (a, b) = (Site::start("a").await, Site::start("b").await);
        let client = directed([&a.endpoint, &b.endpoint], Options::default());
        name(&to(&client, &b.endpoint)).await;
        let call = spawn_call(&to(&client, &a.endpoint), "Site.wait");
        a.a_call_waits().await;
        a.order(Order::Cut);
        let lost = tokio::select! {
            lost = outcome(call) => lost,
            _ = a.seen.entered.acquire() => panic!("the lost call was sent again, to the same server"),
            _ = b.seen.entered.acquire() => panic!("the lost call was sent again, to another server"),
        };
        match lost {
            Err(BalanceError::Call { endpoint, source: Error::Disconnected(_) }) => {
                assert_eq!(endpoint, a.endpoint);
            }
            other => panic!("the call should have been lost, but: {other:?}"),
        }
        // Whatever was sent elsewhere was sent before this call.
        name(&to(&client, &b.endpoint)).await;
        name(&to(&client, &a.endpoint)).await;
        assert_eq!((a.seen.calls(), b.seen.calls()), (2, 2));
    });
}

/// A server, spoken by hand, that shuts down at the first call: its goodbye and the call have crossed on the
/// way, so it refuses the call. Nobody can connect after that.
async fn refuse_the_first_call(listener: TcpListener, goodbye: bool) {
    let mut peer = Peer { io: listener.accept().await.unwrap().0 };
    peer.accept_handshake("application/json").await;
    let seq = peer.read_message().await.seq();
    if goodbye {
        peer.send(&json_error("", 0, "the server is shutting down")).await;
    }
    peer.send(&json_error("Site.name", seq, "the server is shutting down")).await;
    loop {
        drop(listener.accept().await.unwrap());
    }
}

/// A server that is shutting down refuses a call that crossed its goodbye, and the call goes to another
/// server.
///
/// It did not run, so it need not fail; a server that is replaced in good order should cost no call.
///
/// Hint: after the goodbye, and only then, this refusal means that nothing runs any more.
#[test]
fn a_call_that_crosses_a_goodbye_goes_to_another_server() {
    run(async || {
        for goodbye in [true, false] {
            let good = Site::start("good").await;
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let leaving = Endpoint::tcp(listener.local_addr().unwrap());
            let mut server = JoinSet::new();
            server.spawn(refuse_the_first_call(listener, goodbye));
            let options = Options::default().codecs([Codec::Json]);
            let client = directed([&leaving, &good.endpoint], options);
            let outcome = format!("the outcome of a call that is refused, with goodbye: {goodbye}");
            match (goodbye, within(&outcome, client.call::<_, String>("Site.name", &())).await) {
                (true, Ok(name)) => assert_eq!(name, "good"),
                // Without a goodbye these are a method's own words, and it has run.
                (false, Err(BalanceError::Call { endpoint, source: Error::Remote(_) })) => {
                    assert_eq!(endpoint, leaving);
                }
                (goodbye, other) => panic!("with goodbye: {goodbye}, the outcome was {other:?}"),
            }
            assert_eq!(good.seen.calls(), usize::from(goodbye));
        }
    });
}

/// A call that no server takes is tried three times, and then fails with the last refusal.
///
/// Who tries for ever turns a bad minute of all servers into one without end.
///
/// Hint: count the attempts.
#[test]
fn a_call_is_tried_three_times_at_most() {
    run(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let leaving = Endpoint::tcp(listener.local_addr().unwrap());
        let (refusals, mut refused) = watch::channel(0);
        let mut server = JoinSet::new();
        server.spawn(async move {
            loop {
                let mut peer = Peer { io: listener.accept().await.unwrap().0 };
                peer.accept_handshake("application/json").await;
                let seq = peer.read_message().await.seq();
                refusals.send_modify(|n| *n += 1);
                peer.send(&json_error("", 0, "the server is shutting down")).await;
                peer.send(&json_error("Site.name", seq, "the server is shutting down")).await;
            }
        });
        let client = directed([&leaving], Options::default().codecs([Codec::Json]));
        let outcome = tokio::select! {
            outcome = try_call(&client) => outcome,
            n = async { refused.wait_for(|n| *n >= 10).await.map(|n| *n).unwrap() } => {
                panic!("it has been refused {n} times and is still being tried");
            }
        };
        match outcome {
            Err(BalanceError::Call { endpoint, source: Error::Remote(_) }) => assert_eq!(endpoint, leaving),
            other => panic!("the call should have been refused, but: {other:?}"),
        }
        assert_eq!(*refused.borrow(), 3, "how often it was tried");
    });
}

/// Three hundred calls wait for a connection that breaks as soon as it is there. Those that find it broken
/// were not sent, and another server takes them.
///
/// Whether a call was sent is the question that decides. If it was not, nothing speaks against trying again.
///
/// Hint: `Client::start` fails before it sends, the `PendingCall` after that.
#[test]
fn calls_that_find_their_connection_broken_go_elsewhere() {
    run(async || {
        let good = Site::start("good").await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let broken = Endpoint::tcp(listener.local_addr().unwrap());
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut peer = Peer { io: listener.accept().await.unwrap().0 };
            peer.accept_handshake("application/json").await;
        });
        let client = directed([&broken, &good.endpoint], Options::default().codecs([Codec::Json]));
        let calls: Vec<_> = (0..300).map(|_| spawn_call(&to(&client, &broken), "Site.name")).collect();
        let mut answered = 0;
        for call in calls {
            match outcome(call).await {
                Ok(name) => answered += usize::from(name == "good"),
                Err(BalanceError::Call { source: Error::Disconnected(_), .. }) => {} // it may have been sent
                Err(other) => panic!("a call should be answered elsewhere, or be lost, but: {other:?}"),
            }
        }
        assert!(answered > 0, "at least the last of the calls have found the connection broken");
        assert_eq!(good.seen.calls(), answered, "no call may run twice");
    });
}

/// A server that shuts down in good order costs no caller a call, even if it is in a fixed list and calls
/// keep coming.
///
/// A deployment restarts servers all day.
///
/// Hint: after its goodbye a server refuses in the words of the goodbye, and what was refused did not run; so
/// it may go to another server.
#[test]
fn an_orderly_shutdown_loses_no_call() {
    run_threads(async || {
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let leaving = Endpoint::tcp(listener.local_addr().unwrap());
        let serving = tokio::spawn(async move {
            let signal = async { drop(stopped.await) };
            Server::new(support::arith()).serve_with_shutdown(listener, signal).await
        });
        let staying = support::start(Server::new(support::arith())).await;
        let discovery = MultiServersDiscovery::new([leaving, Endpoint::tcp(staying.addr)]);
        let client = BalancedClient::new(discovery, SelectMode::RoundRobin, &Options::default());

        let done = Arc::new(AtomicUsize::new(0));
        let callers: Vec<_> = (0..32)
            .map(|num1| {
                let (client, done) = (client.clone(), Arc::clone(&done));
                tokio::spawn(async move {
                    for num2 in 0..100 {
                        let sum: i32 = client.call("Arith.sum", &support::Sum { num1, num2 }).await?;
                        assert_eq!(sum, num1 + num2);
                        done.fetch_add(1, SeqCst);
                    }
                    Ok::<(), BalanceError>(())
                })
            })
            .collect();
        eventually("a few hundred calls", || done.load(SeqCst) > 300).await;
        stop.send(()).unwrap();
        within("the server has shut down", serving).await.unwrap().unwrap();
        for caller in callers {
            within("a caller is done", caller).await.unwrap().unwrap();
        }
        assert_eq!(done.load(SeqCst), 3200);
    });
}

// ---- 7. servers come and go ------------------------------------------------------------------------------
// Chapter: Limits > connections of a balanced client

/// When a server leaves the list, its connection is closed, without any further call; a call that is in
/// flight there still gets its reply.
///
/// GeeRPC keeps the clients of removed servers for ever.
///
/// Hint: something must watch the list; and whoever makes a call holds a clone of the connection.
#[test]
fn a_server_that_leaves_is_disconnected_after_its_last_call() {
    run(async || {
        let sites = [Site::start("a").await, Site::start("b").await, Site::start("c").await];
        let [a, b, c] = &sites;
        let client = directed(sites.iter().map(|site| &site.endpoint), Options::default());
        for site in &sites {
            name(&to(&client, &site.endpoint)).await;
        }
        let call = spawn_call(&to(&client, &a.endpoint), "Site.wait");
        a.a_call_waits().await;

        client.discovery().update(vec![c.endpoint.clone()]);
        eventually("the idle connection is closed", || b.seen.open() == 0).await;
        assert_eq!((client.connections(), a.seen.open(), c.seen.open()), (1, 1, 1));
        a.open_gate(1);
        assert_eq!(outcome(call).await.unwrap(), "a");
        eventually("the connection is closed after its call", || a.seen.open() == 0).await;
        assert_eq!((name(&client).await.as_str(), c.seen.accepted()), ("c", 1));
    });
}

/// A server leaves the list while it is being dialed. The attempt ends, and the call goes to another at once.
///
/// Servers that hang are the ones that are taken out of the list.
///
/// Hint: ending the attempt fails those who wait for it, like any failure of dialing; the call knows what to
/// do then.
#[test]
fn a_server_that_leaves_while_it_is_dialed_is_skipped() {
    run(async || {
        let (hung, good) = (Site::hung("hung").await, Site::start("good").await);
        let client = directed([&hung.endpoint, &good.endpoint], Options::default());
        let call = spawn_call(&to(&client, &hung.endpoint), "Site.name");
        hung.is_being_dialed().await;
        client.discovery().update(vec![good.endpoint.clone()]);
        assert_eq!(outcome(call).await.unwrap(), "good");
    });
}

/// A server that is not in the list is not dialed, though it was chosen: the call goes to another at once.
///
/// The choice may have been made a moment before the server left. Its connection would belong to nobody: it is
/// closed when a server leaves the list, and this one has left already.
///
/// Hint: the pool looks into the list before it dials, and `removed` is the failure.
#[test]
fn a_server_that_has_left_is_not_dialed() {
    run(async || {
        let (left, good) = (Site::start("left").await, Site::start("good").await);
        let client = directed([&left.endpoint, &good.endpoint], Options::default());
        assert_eq!(name(&to(&client, &left.endpoint)).await, "left");
        client.discovery().update(vec![good.endpoint.clone()]);
        // From here on, nobody would close a new connection to it.
        eventually("the client notices the change", || client.connections() == 0).await;
        let answered = name(&to(&client, &left.endpoint)).await;
        assert_eq!(answered, "good", "a server that is not in the list was called");
        assert_eq!(left.seen.accepted(), 1, "a server that is not in the list was dialed");
    });
}

/// With its last clone, a client takes its connections, its attempts and its tasks along.
///
/// Whatever is started has an owner, and ends with it; else a program that makes a client for each job runs
/// out of sockets.
///
/// Hint: who owns the task that dials, and the one that follows the list?
#[test]
fn a_dropped_client_leaves_nothing_behind() {
    run(async || {
        let (hung, good) = (Site::hung("hung").await, Site::start("good").await);
        let before = alive_tasks();
        for _ in 0..5 {
            let client = directed([&hung.endpoint, &good.endpoint], Options::default());
            let clone = client.clone();
            // Whoever provides the list may live longer than the client.
            let _list = Arc::clone(&client.discovery().0);
            name(&to(&client, &good.endpoint)).await;
            let stuck = spawn_call(&to(&client, &hung.endpoint), "Site.name");
            let waiting = spawn_call(&to(&clone, &good.endpoint), "Site.wait");
            good.a_call_waits().await;
            eventually("the hung server is dialed", || hung.seen.open() == 1).await;
            drop(client);
            stuck.abort();
            assert_eq!(name(&to(&clone, &good.endpoint)).await, "good", "a clone is left, and works");
            waiting.abort();
            drop(clone);
            eventually("the client's tasks end, and their peers", || alive_tasks() <= before + 1).await;
            hung.open_door();
            eventually("all connections are closed", || hung.seen.open() + good.seen.open() == 0).await;
            eventually("all tasks end", || alive_tasks() == before).await;
            hung.seen.door.forget_permits(usize::MAX);
        }
    });
}

// ---- 8. calling them all ---------------------------------------------------------------------------------
// Chapter: Files of today > src/broadcast.rs; Limits > servers that a broadcast talks to

/// A broadcast calls every server once, all at the same time, and one of the replies is its own.
///
/// It is for what all must know, such as a cache to empty. One after the other it would take as long as all
/// of them together.
///
/// Hint: one task per server.
#[test]
fn a_broadcast_calls_every_server_once() {
    run(async || {
        let sites = [Site::start("a").await, Site::start("b").await, Site::start("c").await];
        let client = round_robin(&sites);
        let broadcast = spawn_broadcast(&client);
        for site in &sites {
            site.a_call_waits().await;
        }
        for site in &sites {
            assert!(!broadcast.is_finished(), "it should wait for all servers");
            site.open_gate(1);
            eventually("the server is done", || site.seen.gate.available_permits() == 0).await;
        }
        let reply = outcome(broadcast).await.unwrap();
        assert!(["a", "b", "c"].contains(&reply.as_str()), "{reply}");
        for site in &sites {
            assert_eq!((site.seen.calls(), site.seen.stopped()), (1, 0));
        }
    });
}

/// A broadcast to nobody is an error, also after the last server has left.
///
/// In GeeRPC it reports success: no server failed, as there was none.
///
/// Hint: look at the list before anybody is called.
#[test]
fn a_broadcast_to_nobody_is_an_error() {
    run(async || {
        let site = Site::start("a").await;
        let (none, left) = (round_robin([]), round_robin([&site]));
        left.discovery().update(Vec::new());
        for client in [none, left] {
            let one = within("a broadcast", client.broadcast::<_, String>("Site.name", ())).await;
            assert!(
                matches!(one, Err(BalanceError::Discovery(DiscoveryError::NoServers))),
                "broadcast to nobody should be NoServers, but: {one:?}"
            );
            let all = within("a broadcast", client.broadcast_all::<_, String>("Site.name", ())).await;
            assert!(
                matches!(all, Err(BalanceError::Discovery(DiscoveryError::NoServers))),
                "broadcast_all to nobody should be NoServers, but: {all:?}"
            );
        }
        assert_eq!(site.seen.accepted(), 0, "a server that has left is not dialed");
    });
}

/// A broadcast uses the connections that are there.
///
/// One connection per server is enough for calls and broadcasts together.
///
/// Hint: the tasks of a broadcast share the pool with all clones of the client.
#[test]
fn a_broadcast_shares_the_connections() {
    run(async || {
        let site = Site::start("a").await;
        let client = round_robin([&site]);
        name(&client).await;
        for client in [client.clone(), client.with_mode(key("k"))] {
            within("a broadcast", client.broadcast::<_, String>("Site.name", ())).await.unwrap();
            within("a broadcast", client.broadcast_all::<_, String>("Site.name", ())).await.unwrap();
        }
        assert_eq!((site.seen.calls(), site.seen.accepted(), client.connections()), (5, 1, 1));
    });
}

/// One server fails, and the broadcast is over at once, with the server's name and its error; the calls on
/// the others are cancelled there, too.
///
/// GeeRPC throws away which server it was, and nobody can do anything about "one of them failed".
///
/// Hint: dropping a call tells its server (day 4).
#[test]
fn a_broadcast_ends_with_the_first_failure_and_cancels_the_rest() {
    run(async || {
        let sites = [Site::start("a").await, Site::start("b").await, Site::start("c").await];
        let client = round_robin(&sites);
        let broadcast = spawn_broadcast(&client);
        for site in &sites {
            site.a_call_waits().await;
        }
        sites[1].seen.broken.store(true, SeqCst);
        sites[1].open_gate(1);
        match outcome(broadcast).await {
            Err(BalanceError::Call { endpoint, source: Error::Remote(text) }) => {
                assert_eq!((endpoint, text.as_str()), (sites[1].endpoint.clone(), "b is broken"));
            }
            other => panic!("the broadcast should have failed, but: {other:?}"),
        }
        eventually("the other handlers are stopped", || {
            sites[0].seen.stopped() == 1 && sites[2].seen.stopped() == 1
        })
        .await;
        assert_eq!(client.connections(), 3, "the connections are as good as before");
    });
}

/// `broadcast_all` returns every endpoint's own result, in the order of the list, whoever answers first; a
/// server that cannot be dialed is one result among the others.
///
/// Sometimes one failure is no reason to stop, and then each server's own answer is wanted.
///
/// Hint: a task returns its position with its result.
#[test]
fn broadcast_all_returns_every_result_in_list_order() {
    run(async || {
        let (a, b, c) = (Site::start("a").await, Site::start("b").await, Site::start("c").await);
        let (_port, down) = refusing();
        let list = [&a.endpoint, &down, &b.endpoint, &c.endpoint];
        let client = directed(list, Options::default());
        let broadcast = spawn_broadcast_all(&client);
        b.seen.broken.store(true, SeqCst);
        // The last of the list is the first to answer.
        for site in [&c, &b, &a] {
            site.a_call_waits().await;
            site.open_gate(1);
            eventually("the server is done", || site.seen.gate.available_permits() == 0).await;
        }
        let results = outcome(broadcast).await;
        assert_eq!(results.iter().map(|(endpoint, _)| endpoint).collect::<Vec<_>>(), list);
        let [(_, first), (_, second), (_, third), (_, fourth)] = &results[..] else {
            panic!("four results, not {results:?}");
        };
        assert_eq!(first.as_ref().unwrap(), "a");
        assert!(
            matches!(second, Err(BalanceError::Dial { endpoint, .. }) if *endpoint == down),
            "{second:?}"
        );
        let is_broken = |source: &Error| matches!(source, Error::Remote(text) if text == "b is broken");
        assert!(
            matches!(third, Err(BalanceError::Call { endpoint, source })
                if *endpoint == b.endpoint && is_broken(source)),
            "{third:?}"
        );
        assert_eq!(fourth.as_ref().unwrap(), "c");
    });
}

/// A broadcast as a whole has the time limit of a call, dialing included, and who was too slow is named.
///
/// One server of ten that hangs must not hold back the replies of nine.
///
/// Hint: one deadline for all of it. Here nobody talks to the first connection, and the second one is there
/// when two thirds of the time are gone.
#[test]
fn a_broadcast_has_the_time_limit_of_a_call() {
    run(async || {
        let (hung, slow) = (Site::hung("hung").await, Site::hung("slow").await);
        let limit = Duration::from_millis(600);
        let list = [&hung.endpoint, &slow.endpoint];
        let client = directed(list, Options::default().call_timeout(limit));
        let begin = Instant::now();
        let broadcast = spawn_broadcast_all(&client);
        within("two thirds of the time pass", sleep_until(begin + limit * 2 / 3)).await;
        slow.open_door();
        let results = tokio::select! {
            biased;
            results = broadcast => results.unwrap(),
            () = well_after(begin + limit * 4 / 3) => {
                panic!("after 800 ms, a broadcast of at most 600 ms goes on");
            }
        };
        for (server, result) in results {
            match result {
                Err(BalanceError::Call { endpoint, source: Error::Timeout { .. } }) if endpoint == server => {
                }
                Err(BalanceError::Dial { endpoint, source })
                    if endpoint == server && matches!(*source, Error::Timeout { .. }) => {}
                other => panic!("{server} should have timed out, but: {other:?}"),
            }
        }
        assert!(begin.elapsed() >= limit, "it gave up after {:?} already", begin.elapsed());
    });
}

/// A discovery that does not answer cannot hold a broadcast for ever.
///
/// As with a call: it may ask somebody who is gone.
///
/// Hint: the one deadline begins before the list is asked for.
#[test]
fn a_broadcast_without_a_list_times_out() {
    run(async || {
        let client = Silent::client();
        let broadcast = client.broadcast("Site.name", ());
        assert_timed_out_choosing(within("the end of a broadcast", broadcast).await);
        let all = within("the end of a broadcast", client.broadcast_all("Site.name", ())).await;
        assert_timed_out_choosing(
            all.map(|results: Vec<(Endpoint, Result<String, _>)>| format!("{results:?}")),
        );
    });
}

/// A broadcast that is given up stops its handlers and its dialing, and a client that is dropped after that
/// leaves nothing behind.
///
/// The tasks of a broadcast hold the client's connections. If one of them goes on, so do those.
///
/// Hint: who owns the tasks? Dropping a `JoinSet` aborts what is in it.
#[test]
fn a_broadcast_that_is_given_up_leaves_nothing_behind() {
    run(async || {
        let (hung, good) = (Site::hung("hung").await, Site::start("good").await);
        let before = alive_tasks();
        let client = directed([&hung.endpoint, &good.endpoint], Options::default());
        let broadcast = spawn_broadcast(&client);
        good.a_call_waits().await;
        hung.is_being_dialed().await;
        broadcast.abort();
        eventually("the handler is stopped", || good.seen.stopped() == 1).await;
        assert_eq!(name(&to(&client, &good.endpoint)).await, "good", "the client works as before");
        drop(client);
        eventually("the client's tasks end, and their peers", || alive_tasks() <= before + 1).await;
        hung.open_door();
        eventually("all connections are closed", || hung.seen.open() + good.seen.open() == 0).await;
        eventually("all tasks end", || alive_tasks() == before).await;
    });
}

/// With more servers than [`MAX_BROADCAST`], all are called, but never more than that many at a time.
///
/// A list that came from elsewhere may be of any length, and each of its entries is a socket. (Here all
/// endpoints share one gate, which lets one call pass at a time.)
///
/// Hint: begin the next call when one is done.
#[test]
fn a_large_broadcast_calls_all_but_not_all_at_once() {
    run(async || {
        let all = MAX_BROADCAST + 6;
        let seen = Seen::new();
        let now = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
        let server = {
            let (seen, now) = (Arc::clone(&seen), Arc::clone(&now));
            Server::new(move |request: Request| {
                let (seen, now) = (Arc::clone(&seen), Arc::clone(&now));
                async move {
                    now.1.fetch_max(now.0.fetch_add(1, SeqCst) + 1, SeqCst);
                    seen.entered.add_permits(1);
                    seen.gate.acquire().await?.forget();
                    now.0.fetch_sub(1, SeqCst);
                    anyhow::Ok::<Reply>(request.reply("done")?)
                }
            })
        };
        let (mut endpoints, mut tasks) = (Vec::new(), JoinSet::new());
        for _ in 0..all {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            endpoints.push(Endpoint::tcp(listener.local_addr().unwrap()));
            let server = server.clone();
            tasks.spawn(async move { server.serve(listener).await });
        }
        let client = directed(&endpoints, Options::default());
        let broadcast = spawn_broadcast_all(&client);

        let first = within("the first calls begin", seen.entered.acquire_many(MAX_BROADCAST as u32));
        first.await.unwrap().forget();
        for _ in MAX_BROADCAST..all {
            seen.gate.add_permits(1);
            within("one call ends and the next begins", seen.entered.acquire()).await.unwrap().forget();
        }
        seen.gate.add_permits(MAX_BROADCAST);
        let results = outcome(broadcast).await;
        assert!(results.len() == all && results.iter().all(|(_, result)| result.is_ok()));
        let most = now.1.load(SeqCst);
        assert_eq!(most, MAX_BROADCAST, "{most} calls at the same time; at most {MAX_BROADCAST} are allowed");
    });
}
