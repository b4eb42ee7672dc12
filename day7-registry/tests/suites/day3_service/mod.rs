//! Day 3: a name on the wire becomes a typed Rust method.
//!
//! The order is that of the lesson: build a service, put it into a map and call it, call it wrongly, make both
//! sides from one contract, count, and wrap the map.

// The stages, in the order of the work. Empty lines keep rustfmt from sorting them.
mod building;

mod calling;

mod mistakes;

mod contracts;

mod counting;

mod middleware;

mod hardening;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use anyhow::Context;
use day7_registry::{
    Caller, Client, Code, Codec, Error, Handler, HandlerFuture, Options, RemoteError, Request, Server,
    Service, ServiceError, ServiceMap, contract, service,
};
use serde::de::{DeserializeOwned, Deserializer};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::sync::{Notify, Semaphore, mpsc};

use crate::support::arith::{self, Arith, ArithClient, Cpu};
use crate::support::peer::{Peer, call_with, frame};
use crate::support::{
    Fail, OnDrop, Running, Sleep, Sum, eventually, expect_bytes, run, run_threads, serve_in_memory, start,
    within,
};

const TWO_AND_THREE: Sum = Sum { num1: 2, num2: 3 };

/// Numbers that a test can watch: a total that `add` changes, and a gate that `wait` waits at.
struct Counter {
    total: AtomicI64,
    entered: Semaphore,
    gate: Semaphore,
}

impl Counter {
    fn starting_at(total: i64) -> Arc<Counter> {
        Arc::new(Counter {
            total: AtomicI64::new(total),
            entered: Semaphore::new(0),
            gate: Semaphore::new(0),
        })
    }

    async fn add(&self, by: i64) -> anyhow::Result<i64> {
        Ok(self.total.fetch_add(by, SeqCst) + by)
    }

    async fn get(&self, (): ()) -> anyhow::Result<i64> {
        Ok(self.total.load(SeqCst))
    }

    /// Waits at the gate, and returns its argument.
    async fn wait(&self, number: u32) -> anyhow::Result<u32> {
        self.entered.add_permits(1);
        self.gate.acquire().await?.forget();
        Ok(number)
    }

    async fn panic_at_the_gate(&self, (): ()) -> anyhow::Result<()> {
        self.entered.add_permits(1);
        self.gate.acquire().await?.forget();
        panic!("this panic is part of the test")
    }

    /// Waits until `calls` more calls have come to the gate.
    async fn came_to_the_gate(&self, calls: u32) {
        within("a call that comes to the gate", self.entered.acquire_many(calls)).await.unwrap().forget();
    }

    fn service(self: &Arc<Self>, name: &str) -> Service {
        service!(name, Arc::clone(self), [add, get, wait, panic_at_the_gate]).unwrap()
    }
}

async fn connect_with(server: &Running, codec: Codec) -> Client {
    let options = Options::default().codecs([codec]);
    within("connecting to the server", Client::connect(server.addr, &options)).await.unwrap()
}

async fn connect(server: &Running) -> Client {
    connect_with(server, Codec::Json).await
}

/// A running server with `Arith` and a counter, its map, and a client.
async fn arith_server() -> (Running, ServiceMap, Client) {
    let services = arith::services();
    let server = start(Server::new(services.clone())).await;
    let client = connect(&server).await;
    (server, services, client)
}

async fn call<A: Serialize, R: DeserializeOwned>(client: &Client, method: &str, argument: A) -> R {
    let reply = within(&format!("the reply of {method}"), client.call(method, &argument)).await;
    reply.unwrap_or_else(|error| panic!("{method} failed: {error}"))
}

/// Sends a call now, to be awaited later.
async fn send(
    client: &Client,
    method: &str,
    argument: impl Serialize,
) -> impl Future<Output = Result<u32, Error>> {
    let sent = within("sending a call", client.start(method, &argument)).await.unwrap();
    within("the reply of a call that was sent before", sent)
}

/// The error that the server answers, which is no refusal: the call was started.
async fn error_of<A: Serialize>(client: &Client, method: &str, argument: A) -> RemoteError {
    match within(&format!("the error of {method:?}"), client.call::<A, ()>(method, &argument)).await {
        Err(Error::Remote(error)) => error,
        other => panic!("{method:?} should be answered with an error, but was with {other:?}"),
    }
}

/// The connection is as good as before: a valid call on it is answered.
async fn assert_still_serves(client: &Client) {
    assert_eq!(call::<_, i32>(client, "Arith.sum", TWO_AND_THREE).await, 5);
}

/// Calls, errors and calls in flight of one method.
#[track_caller]
fn counts(services: &ServiceMap, name: &str) -> (u64, u64, u64) {
    let (service, method) = name.split_once('.').unwrap();
    let service = services.get(service).unwrap_or_else(|| panic!("no service {service}"));
    let method = service.method(method).unwrap_or_else(|| panic!("no method {method}"));
    (method.calls(), method.errors(), method.in_flight())
}
