//! The story of day 6: three servers, one client. Which server gets which call, and what happens when a server
//! hangs, dies, leaves or joins.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use day6_loadbalance::{
    BalanceError, BalancedClient as Client, Endpoint, Error, MultiServersDiscovery, Options, SelectMode,
    Server, ServiceMap, service,
};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

#[derive(Debug, Serialize, Deserialize)]
struct Sum {
    num1: i32,
    num2: i32,
}

#[derive(Debug, Serialize, Deserialize)]
struct Sleep {
    millis: u64,
}

/// The same service on every server; but each knows its own name.
struct Arith {
    name: char,
}

impl Arith {
    async fn sum(&self, Sum { num1, num2 }: Sum) -> anyhow::Result<i32> {
        num1.checked_add(num2).with_context(|| format!("{num1} + {num2} does not fit into an i32"))
    }

    async fn sleep(&self, Sleep { millis }: Sleep) -> anyhow::Result<u64> {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        Ok(millis)
    }

    /// The name of the server that answers.
    async fn name(&self, (): ()) -> anyhow::Result<char> {
        Ok(self.name)
    }

    /// Takes long on server b.
    async fn work(&self, (): ()) -> anyhow::Result<char> {
        tokio::time::sleep(Duration::from_millis(if self.name == 'b' { 30 } else { 2 })).await;
        Ok(self.name)
    }

    /// Works on every server but c.
    async fn check(&self, (): ()) -> anyhow::Result<String> {
        anyhow::ensure!(self.name != 'c', "the disk of {} is full", self.name);
        Ok(format!("{} is well", self.name))
    }
}

/// A running server. Dropping it ends it as `kill -9` would: the listener and all connections are closed.
struct Running {
    endpoint: Endpoint,
    _task: JoinSet<()>,
}

async fn start(name: char) -> anyhow::Result<Running> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = Endpoint::tcp(listener.local_addr()?);
    let services = ServiceMap::new();
    services.add(service!("Arith", Arith { name }, [sum, sleep, name, work, check])?)?;
    let mut task = JoinSet::new();
    task.spawn(async move { Server::new(services).serve(listener).await });
    println!("   server {name} listens on {endpoint}");
    Ok(Running { endpoint, _task: task })
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    println!("1. Three servers with the same service, and one client that knows them all:\n");
    let (a, b, c) = (start('a').await?, start('b').await?, start('c').await?);
    let endpoints = [&a, &b, &c].map(|server| server.endpoint.clone());
    // Weights matter to one of the modes only: there, a gets five calls of seven.
    let list = Arc::new(MultiServersDiscovery::with_weights(endpoints.into_iter().zip([5, 1, 1])));
    let options = Options::default().call_timeout(Duration::from_millis(900));
    let client = Client::new(Arc::clone(&list), SelectMode::RoundRobin, &options);
    let sum: i32 = client.call("Arith.sum", &Sum { num1: 2, num2: 3 }).await?;
    println!("\n   Arith.sum(2, 3) = {sum}, and it does not matter which server has added");

    choose(&client).await?;
    balance(&client).await?;
    hang(&client, &list).await?;
    broadcast(&client).await?;
    let survivors = kill(&client, a, [b, c]).await?;
    leave_and_join(&client, &list, survivors).await?;

    println!("\nThe end. All lists were written by hand. Tomorrow servers put themselves on the list.");
    Ok(())
}

/// The names of the servers that answer the next `n` calls, one after the other.
async fn names(client: &Client, n: usize) -> anyhow::Result<String> {
    let mut names = String::new();
    for _ in 0..n {
        names.push(client.call("Arith.name", &()).await?);
    }
    Ok(names)
}

/// `aab` is `a: 2, b: 1`.
fn counts(names: &str) -> String {
    let mut counts = BTreeMap::new();
    for name in names.chars() {
        *counts.entry(name).or_insert(0) += 1;
    }
    let counts: Vec<_> = counts.iter().map(|(name, n)| format!("{name}: {n}")).collect();
    counts.join(", ")
}

async fn choose(client: &Client) -> anyhow::Result<()> {
    println!(
        "\n2. 21 calls in each mode. Which server answers, and how often? The weights are 5, 1 and 1:\n"
    );
    let key = SelectMode::ConsistentHash("user-7".into());
    for mode in [
        SelectMode::RoundRobin,
        SelectMode::Random,
        SelectMode::WeightedRoundRobin,
        SelectMode::LeastLoaded,
        key,
    ] {
        let names = names(&client.with_mode(mode.clone()), 21).await?;
        println!("   {:<22} {names}   {}", mode.to_string(), counts(&names));
    }
    let mut owners = String::new();
    for user in 0..21 {
        let mode = SelectMode::ConsistentHash(format!("user-{user}").into());
        owners += &names(&client.with_mode(mode), 1).await?;
    }
    println!("   {:<22} {owners}   {}", "  21 different keys", counts(&owners));
    println!("\n   {} connections were enough for all of this.", client.connections());
    Ok(())
}

/// One server is slower than the others. Turns do not see it, and calls in flight do.
async fn balance(client: &Client) -> anyhow::Result<()> {
    println!("\n3. Server b is slow: 30 ms for a call, and not 2. 120 calls, 12 at a time:\n");
    for mode in [SelectMode::RoundRobin, SelectMode::LeastLoaded] {
        let begin = Instant::now();
        let (mut callers, calls) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
        for _ in 0..12 {
            let (client, calls) = (client.with_mode(mode.clone()), Arc::clone(&calls));
            callers.spawn(async move {
                let mut names = String::new();
                while calls.fetch_add(1, SeqCst) < 120 {
                    names.push(client.call("Arith.work", &()).await?);
                }
                Ok::<_, BalanceError>(names)
            });
        }
        let names: String = callers.join_all().await.into_iter().collect::<Result<_, _>>()?;
        let (mode, took) = (mode.to_string(), begin.elapsed().as_millis());
        println!("   {mode:<22} {}   all done after {took} ms", counts(&names));
    }
    Ok(())
}

/// A server that accepts connections and never answers. It is worse than one that is down: it does not say no.
async fn hang(client: &Client, list: &MultiServersDiscovery) -> anyhow::Result<()> {
    println!("\n4. A server that hangs joins the list. 8 calls at the same time, round robin:\n");
    let hung = TcpListener::bind("127.0.0.1:0").await?;
    let servers = list.get_all();
    list.update(servers.iter().cloned().chain([Endpoint::tcp(hung.local_addr()?).into()]));

    let begin = Instant::now();
    let mut calls = JoinSet::new();
    for _ in 0..8 {
        let client = client.clone();
        calls.spawn(async move {
            let name: Result<char, _> = client.call("Arith.name", &()).await;
            (name, begin.elapsed())
        });
    }
    let mut late = 0;
    while let Some(call) = calls.join_next().await {
        let (name, after) = call?;
        println!("   after {:>3} ms: {} has answered", after.as_millis(), name?);
        late += usize::from(after >= Duration::from_millis(300));
    }
    println!(
        "\n   {late} calls came to the hung server first. It had a third of their 900 ms to answer; then another"
    );
    println!("   server took them. The other calls have not waited for it.");
    list.update(servers.iter().cloned());
    Ok(())
}

async fn broadcast(client: &Client) -> anyhow::Result<()> {
    println!("\n5. Broadcast: all servers at once.\n");
    let begin = Instant::now();
    let slept: u64 = client.broadcast("Arith.sleep", &Sleep { millis: 200 }).await?;
    println!("   all of them have slept {slept} ms, and it took {} ms together", begin.elapsed().as_millis());
    match client.broadcast::<_, String>("Arith.check", &()).await {
        Err(error) => println!("   Arith.check fails if it fails on one:  {error}"),
        Ok(reply) => bail!("c should have failed, but the reply was {reply:?}"),
    }
    println!("   broadcast_all returns what each of them says:");
    let results = client.broadcast_all::<_, String>("Arith.check", &()).await?;
    for (name, (endpoint, result)) in ('a'..).zip(results) {
        match result {
            Ok(text) => println!("      {name} {endpoint}  {text}"),
            Err(BalanceError::Call { source: Error::Remote(error), .. }) => {
                println!("      {name} {endpoint}  {}: {error}", error.code());
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Kills server a while a call is in flight there.
async fn kill(client: &Client, a: Running, others: [Running; 2]) -> anyhow::Result<[Running; 2]> {
    println!("\n6. Server a is killed, while every server has a call in flight:\n");
    let calls = tokio::spawn({
        let client = client.clone();
        async move { client.broadcast_all::<_, u64>("Arith.sleep", &Sleep { millis: 300 }).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(a);
    for (name, (endpoint, result)) in ('a'..).zip(calls.await??) {
        match result {
            Ok(slept) => println!("   {name} {endpoint}  slept {slept} ms"),
            Err(error) => {
                let may_have_run = if error.may_have_run() { "may have run" } else { "has not run" };
                println!("   {name} {error} ({may_have_run})");
            }
        }
    }
    println!(
        "\n   A call that was lost may have run, so it is an error, and the caller decides. The next 12 calls"
    );
    println!("   cannot be sent to a, so they surely have not run there, and the others share them:");
    let names = names(client, 12).await?;
    println!("   {names}   {}", counts(&names));
    Ok(others)
}

async fn leave_and_join(
    client: &Client,
    list: &MultiServersDiscovery,
    [b, c]: [Running; 2],
) -> anyhow::Result<()> {
    println!("\n7. The list changes: a and b leave, d joins.\n");
    println!("   {} connections are open", client.connections());
    let d = start('d').await?;
    list.update([&c, &d].map(|server| server.endpoint.clone().into()));
    while client.connections() > 1 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    println!("   without a call, {} connection is left: that to c", client.connections());
    let names = names(client, 12).await?;
    println!("   12 calls: {names}   {}", counts(&names));
    println!(
        "   now {} connections are open. Server b still runs, and has nothing to do.",
        client.connections()
    );
    list.update([]);
    match client.call::<_, char>("Arith.name", &()).await {
        Err(error) => println!("   and when all have left: {error}"),
        Ok(name) => bail!("no server is left, but {name} has answered"),
    }
    drop(b);
    Ok(())
}
