//! Day 7: servers come and go by themselves.
//!
//! The order is that of the lesson: the registry on the wire, its client, the heartbeat, discovery, and all of
//! them together. Where timing matters, the test plays the registry by hand: the arrival of a request is the
//! signal. Where no socket is needed, the clock is paused.

// The stages, in the order of the work. Empty lines keep rustfmt from sorting them.
mod paths;

mod registering;

mod leases;

mod instances;

mod client;

mod heartbeat;

mod discovery;

mod together;

mod hardening_registry;

mod hardening_client;

mod hardening_heartbeat;

mod hardening_discovery;

mod hardening_listing;

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use day7_registry::error::error_chain;
use day7_registry::{
    BalanceError, BalancedClient, DEFAULT_HANDSHAKE_TIMEOUT, DEFAULT_LEASE, DEFAULT_MAX_SERVERS,
    DEFAULT_REGISTRY_TIMEOUT, Discovery, DiscoveryError, Endpoint, Heartbeat, HttpRegistry, Instance,
    MAX_INSTANCE_ID_LEN, MAX_LIST_LEN, MAX_NAME_LEN, MAX_SERVER_LEN, MAX_SERVERS_HEADER_LEN,
    MIN_REFRESH_INTERVAL, MultiServersDiscovery, Options, REGISTRY_PATH, Registry, RegistryDiscovery,
    RegistryError, RegistryServer, RegistryUrl, SelectMode, Server, ServerList, Servers,
};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, advance, sleep};

use crate::support::io::Script;
use crate::support::registry::{
    Answer, HandRegistry, HandRequest, RunningRegistry, client_of, exchange, listed, request,
};
use crate::support::timeouts::Connector;
use crate::support::{
    Running, STEP, Sum, alive_tasks, alone, arith, eventually, expect_bytes, resident_kib, run, run_paused,
    run_threads, start, within,
};

const LEASE: Duration = Duration::from_secs(9);

fn endpoint(text: &str) -> Endpoint {
    text.parse().unwrap()
}

fn instance(text: &str) -> Instance {
    endpoint(text).into()
}

fn texts(servers: &[Instance]) -> Vec<String> {
    servers.iter().map(|server| server.endpoint.to_string()).collect()
}

/// The servers that a discovery knows, if it knows a list.
fn known(servers: &Servers) -> Vec<String> {
    texts(servers.list.as_deref().unwrap_or_default())
}

/// The same, as of now.
fn list_of(discovery: &impl Discovery) -> Vec<String> {
    known(&discovery.servers().borrow())
}

/// Waits for a list of these servers.
async fn wait_for_list(discovery: &impl Discovery, expected: &[&str]) {
    let mut servers = discovery.servers();
    let listed = servers.wait_for(|servers| servers.list.is_some() && known(servers) == expected);
    if tokio::time::timeout(STEP, listed).await.is_err() {
        panic!("never listed within {STEP:?}: {expected:?}, but {:?}", discovery.servers().borrow());
    }
}

/// Waits for the end of the next attempt that begins, and returns what went wrong.
async fn refreshed(discovery: &impl Discovery) -> Option<RegistryError> {
    let mut servers = discovery.servers();
    let attempts = servers.borrow().attempts;
    discovery.refresh();
    let ended =
        within("the end of an attempt", servers.wait_for(|servers| servers.attempts > attempts)).await;
    ended.unwrap().error.as_ref().map(|error| error.downcast_ref::<RegistryError>().unwrap().clone())
}

/// A client that calls the servers of a discovery in turn.
fn client_over(discovery: impl Discovery) -> BalancedClient {
    BalancedClient::new(discovery, SelectMode::RoundRobin, &Options::default())
}

/// One call.
async fn sum(client: &BalancedClient) -> Result<i32, BalanceError> {
    within("the end of a call", client.call("Arith.sum", &Sum { num1: 1, num2: 2 })).await
}

/// A registry without HTTP, for a paused clock. The test says what it lists.
struct Fake<F>(F);

impl<F> Registry for Fake<F>
where
    F: Fn() -> Result<ServerList, RegistryError> + Send + Sync + 'static,
{
    async fn register(&self, _: &Instance) -> Result<Duration, RegistryError> {
        Ok(LEASE)
    }

    async fn deregister(&self, _: &Instance) -> Result<(), RegistryError> {
        Ok(())
    }

    async fn servers(&self) -> Result<ServerList, RegistryError> {
        self.0()
    }
}

/// A registry without HTTP that answers each request by a script, and notes when it came.
struct Scripted {
    /// The lease for each request; `None` is a failure. The last one is for all that follow.
    script: Mutex<VecDeque<Option<Duration>>>,
    begin: Instant,
    times: mpsc::UnboundedSender<Duration>,
}

impl Scripted {
    fn new(
        script: impl IntoIterator<Item = Option<Duration>>,
    ) -> (Scripted, mpsc::UnboundedReceiver<Duration>) {
        let (times, seen) = mpsc::unbounded_channel();
        let script = Mutex::new(script.into_iter().collect());
        (Scripted { script, begin: Instant::now(), times }, seen)
    }

    fn next(&self) -> Result<Duration, RegistryError> {
        self.times.send(self.begin.elapsed()).ok();
        let mut script = self.script.lock().unwrap();
        let next = if script.len() > 1 { script.pop_front() } else { script.front().copied() };
        next.flatten().ok_or_else(|| RegistryError::Unreachable(Arc::new(std::fmt::Error)))
    }
}

impl Registry for Scripted {
    async fn register(&self, _: &Instance) -> Result<Duration, RegistryError> {
        self.next()
    }

    async fn deregister(&self, _: &Instance) -> Result<(), RegistryError> {
        Ok(())
    }

    async fn servers(&self) -> Result<ServerList, RegistryError> {
        Ok(ServerList::new(vec![], self.next()?))
    }
}

/// The pauses between the first requests, of which there are one more.
async fn pauses(times: &mut mpsc::UnboundedReceiver<Duration>, count: usize) -> Vec<Duration> {
    let mut last = within("the first request", times.recv()).await.unwrap();
    let mut pauses = Vec::new();
    while pauses.len() < count {
        let next = tokio::time::timeout(Duration::from_secs(3600), times.recv()).await;
        let next = next.expect("another request within an hour").unwrap();
        pauses.push(next - last);
        last = next;
    }
    pauses
}

/// Checks that a pause was as long, or shortened by chance as far as a half.
fn expect_pauses(pauses: &[Duration], millis: &[u64]) {
    assert_eq!(pauses.len(), millis.len());
    for (n, (pause, millis)) in pauses.iter().zip(millis).enumerate() {
        let longest = Duration::from_millis(*millis);
        let slack = Duration::from_millis(2); // timers count whole milliseconds
        let range = longest / 2..=longest + slack;
        assert!(range.contains(pause), "pause {n} of {pauses:?} is not within {range:?}");
    }
}

fn get() -> String {
    request("GET", REGISTRY_PATH, &[])
}

fn get_name(name: &str) -> String {
    request("GET", &format!("{REGISTRY_PATH}/{name}"), &[])
}

fn post(server: &str) -> String {
    request("POST", REGISTRY_PATH, &[&format!("X-Rrpc-Server: {server}")])
}

/// A request about a server by the instance with this id.
fn by(id: &str, method: &str, server: &str) -> String {
    let (server, id) = (format!("X-Rrpc-Server: {server}"), format!("X-Rrpc-Instance: {id}"));
    request(method, REGISTRY_PATH, &[&server, &id])
}

/// A registry that is served on streams in memory, for a paused clock.
struct InMemory {
    connector: Connector,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for InMemory {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl InMemory {
    fn serve(registry: &RegistryServer) -> InMemory {
        let ((connector, listener), registry) = (Connector::new(), registry.clone());
        InMemory { connector, serving: tokio::spawn(async move { registry.serve(listener).await }) }
    }

    /// Sends a request by hand and returns the whole answer.
    async fn exchange(&self, request: &str) -> Answer {
        exchange(self.connector.connect(), request).await
    }

    /// The same, of which only the status is of interest.
    async fn status(&self, request: &str) -> u16 {
        self.exchange(request).await.status()
    }

    /// The list, as it is on the wire.
    async fn list(&self) -> serde_json::Value {
        self.exchange(&get()).await.json()
    }
}

/// The registry's error, out of that of a call that has found no list.
fn registry_error<T: std::fmt::Debug>(result: Result<T, BalanceError>) -> RegistryError {
    match result {
        Err(BalanceError::Discovery(DiscoveryError::Unavailable(source))) => {
            source.downcast_ref::<RegistryError>().unwrap().clone()
        }
        other => panic!("expected Unavailable, got {other:?}"),
    }
}

fn status<T: std::fmt::Debug>(result: Result<T, RegistryError>) -> u16 {
    match result {
        Err(RegistryError::Status { status, .. }) => status,
        other => panic!("expected an error with a status, got {other:?}"),
    }
}
