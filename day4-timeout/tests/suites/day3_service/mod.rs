//! Day 3: a name on the wire becomes a typed Rust method.
//!
//! The order is that of the lesson: make a service, look at its table, register it, call it, call it wrongly,
//! call it often, and change the map while it serves.

// The stages, in the order of the work. Empty lines keep rustfmt from sorting them.
mod making;

mod calling;

mod wrong_calls;

mod counting;

mod changing;

mod hardening;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::SeqCst};

use day4_timeout::{Client, Codec, Error, Options, Server, Service, ServiceError, ServiceMap, service};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, Semaphore};

use crate::support::arith::{self, Arith};
use crate::support::peer::{Peer, frame, json_message};
use crate::support::{Fail, Running, Sleep, Sum, run, run_threads, start, within};

const TWO_AND_THREE: Sum = Sum { num1: 2, num2: 3 };

/// Numbers that a test can watch: a total that `add` changes, and a gate that `wait` waits at.
struct Counter {
    total: AtomicI64,
    /// How many calls of `wait` are running, and how many there were at most at the same time.
    running: AtomicUsize,
    most: AtomicUsize,
    entered: Semaphore,
    gate: Semaphore,
}

impl Counter {
    fn starting_at(total: i64) -> Arc<Counter> {
        Arc::new(Counter {
            total: AtomicI64::new(total),
            running: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
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
        let running = self.running.fetch_add(1, SeqCst) + 1;
        self.most.fetch_max(running, SeqCst);
        self.entered.add_permits(1);
        self.gate.acquire().await?.forget();
        self.running.fetch_sub(1, SeqCst);
        Ok(number)
    }

    async fn panic_at_the_gate(&self, (): ()) -> anyhow::Result<()> {
        self.entered.add_permits(1);
        self.gate.acquire().await?.forget();
        panic!("this panic is part of the test")
    }

    /// Waits until `calls` more calls have come to the gate.
    async fn came_to_the_gate(&self, calls: u32) {
        within("a call comes to the gate", self.entered.acquire_many(calls)).await.unwrap().forget();
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

/// A running server with `Arith`, its map, and a client.
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

/// The text of the error that the server answers.
async fn error_of<A: Serialize>(client: &Client, method: &str, argument: A) -> String {
    match within(&format!("the error of {method:?}"), client.call::<A, ()>(method, &argument)).await {
        Err(Error::Remote(text)) => text,
        other => panic!("{method:?} should be answered with an error, but was with {other:?}"),
    }
}

/// The connection is as good as before: a valid call on it is answered.
async fn assert_still_serves(client: &Client) {
    assert_eq!(call::<_, i32>(client, "Arith.sum", TWO_AND_THREE).await, 5);
}

#[track_caller]
fn assert_says(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "{error:?} should say {part:?}");
    }
}
