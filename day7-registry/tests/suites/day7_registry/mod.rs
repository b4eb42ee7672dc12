//! Day 7: servers come and go by themselves.
//!
//! The order is that of the lesson: the registry on the wire, its client, the heartbeat, discovery, and all of
//! them together. Where timing matters, the test plays the registry by hand: the arrival of a request is the
//! signal. Where no socket is needed, the clock is paused.

// The stages, in the order of the work. Empty lines keep rustfmt from sorting them.
mod registry;

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
use std::future::poll_fn;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use day7_registry::error::error_chain;
use day7_registry::{
    BalancedClient, DEFAULT_HANDSHAKE_TIMEOUT, DEFAULT_LEASE, DEFAULT_MAX_SERVERS, Discovery, DiscoveryError,
    Endpoint, Heartbeat, Instance, MAX_LIST_LEN, MAX_SERVER_LEN, MAX_SERVERS_HEADER_LEN,
    MIN_REFRESH_INTERVAL, MultiServersDiscovery, Options, REGISTRY_PATH, Registry, RegistryDiscovery,
    RegistryError, RegistryUrl, SelectMode, Server, Servers,
};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, advance, sleep};

use crate::support::io::Script;
use crate::support::registry::{HandRegistry, HandRequest, RunningRegistry, client_of, exchange, request};
use crate::support::{
    Running, STEP, Sum, alive_tasks, arith, eventually, expect_bytes, run, run_paused, run_threads, start,
    within,
};

const LEASE: Duration = Duration::from_secs(9);

fn endpoint(text: &str) -> Endpoint {
    text.parse().unwrap()
}

fn texts(servers: &[Endpoint]) -> Vec<String> {
    servers.iter().map(Endpoint::to_string).collect()
}

fn endpoints(servers: &[Instance]) -> Vec<String> {
    servers.iter().map(|server| server.endpoint.to_string()).collect()
}

/// The servers that a discovery knows, if it knows a list.
fn known(servers: &Servers) -> Vec<String> {
    endpoints(servers.list.as_deref().unwrap_or_default())
}

/// The list, when it is another one than this.
async fn next_list(servers: &mut watch::Receiver<Servers>, old: &[&str]) -> Vec<String> {
    known(&within("a new list", servers.wait_for(|servers| known(servers) != old)).await.unwrap())
}

async fn listed(discovery: &RegistryDiscovery) -> Vec<String> {
    endpoints(&within("the list", discovery.get_all()).await.unwrap())
}

fn get() -> String {
    request("GET", REGISTRY_PATH, &[])
}

fn post(server: &str) -> String {
    request("POST", REGISTRY_PATH, &[&format!("X-Rrpc-Server: {server}")])
}

/// Serves `registry` on streams in memory, for a paused clock.
fn in_memory<const N: usize>(registry: &Registry) -> (tokio::task::JoinHandle<()>, [DuplexStream; N]) {
    let mut script = VecDeque::new();
    let clients = std::array::from_fn(|_| {
        let (client, server) = duplex(64 * 1024);
        script.push_back(Ok(server));
        client
    });
    let registry = registry.clone();
    (tokio::spawn(async move { registry.serve(Script(script)).await }), clients)
}

/// Polls all of them until all are ready.
async fn join_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut outputs: Vec<_> = futures.iter().map(|_| None).collect();
    poll_fn(|cx| {
        for (future, output) in futures.iter_mut().zip(&mut outputs) {
            if output.is_none()
                && let Poll::Ready(ready) = future.as_mut().poll(cx)
            {
                *output = Some(ready);
            }
        }
        if outputs.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    outputs.into_iter().flatten().collect()
}

/// The registry's error, out of the error of discovery.
fn registry_error(error: DiscoveryError) -> RegistryError {
    match error {
        DiscoveryError::Unavailable(source) => source.downcast_ref::<RegistryError>().unwrap().clone(),
        other => panic!("expected Unavailable, got {other:?}"),
    }
}

fn status<T: std::fmt::Debug>(result: Result<T, RegistryError>) -> u16 {
    match result {
        Err(RegistryError::Status { status, .. }) => status,
        other => panic!("expected an error with a status, got {other:?}"),
    }
}
