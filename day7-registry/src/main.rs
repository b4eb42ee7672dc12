//! Day 7: the whole system. Without arguments it tells its story in one process and ends; with `registry`,
//! `server` and `call` it is the real thing, in as many terminals as you like.
//!
//! ```sh
//! day7-registry registry [--addr 127.0.0.1:9999] [--lease 10s]
//! day7-registry server   [--addr 127.0.0.1:0] [--registry URL] [--http]
//! day7-registry call     (--registry URL | --to ENDPOINT) [--timeout 5s] Arith.sum '{"num1":1,"num2":2}'   (- reads stdin)
//! ```

mod cli;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use day7_registry::{
    BalancedClient, Client, Discovery, Endpoint, Heartbeat, HttpRegistry, Options, Registry,
    RegistryDiscovery, RegistryServer, SelectMode, Server, Servers, ServiceMap, service,
};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

type List = RegistryDiscovery;
const LEASE: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let result = match cli::parse() {
        Some(command) => command.run().await,
        None => story().await,
    };
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => std::process::ExitCode::from(cli::print_error(&error)),
    }
}

/// The whole story. Every number that it prints was counted in this run.
async fn story() -> anyhow::Result<()> {
    let metrics = tokio::runtime::Handle::current().metrics();
    let tasks_before = metrics.num_alive_tasks();

    println!("== A registry, and three servers that find it ==");
    let (url, registry) = start_registry(0).await?;
    println!("registry   {url}, leases of {LEASE:?}");
    let a = Member::start("a", &url).await?;
    let b = Member::start("b", &url).await?;
    let c = Member::start("c", &url).await?;

    let list = Arc::new(RegistryDiscovery::start(HttpRegistry::new(url.parse()?)));
    let options = Options::default().call_timeout(Duration::from_secs(2));
    let client = BalancedClient::new(Arc::clone(&list), SelectMode::RoundRobin, &options);

    calls_spread(&client, [&a, &b, &c]).await?;
    broadcast_and_timeout(&client, [&a, &b, &c]).await?;
    a_server_dies(&client, &list, [&a, &b], c.kill().await).await?;
    let d = a_server_joins(&client, &list, &url).await?;
    a_server_leaves(&list, b).await?;
    let registry = the_registry_restarts(&client, registry, &url).await?;

    println!("\n== The end ==");
    drop((client, list, a, d));
    registry.abort();
    let left = || metrics.num_alive_tasks() - tasks_before;
    wait_until("all tasks have ended", || left() == 0).await?;
    println!("everything was dropped; {} of our tasks are alive", left());
    Ok(())
}

async fn calls_spread(client: &BalancedClient, servers: [&Member; 3]) -> anyhow::Result<()> {
    for mode in [SelectMode::RoundRobin, SelectMode::Random] {
        println!("\n== 30 calls, {mode} ==");
        let before = servers.map(Member::calls);
        let client = client.with_mode(mode);
        thirty_calls(&client).await?;
        for (server, before) in servers.iter().zip(before) {
            println!("server {}   {:2} calls", server.name, server.calls() - before);
        }
    }
    Ok(())
}

async fn thirty_calls(client: &BalancedClient) -> anyhow::Result<()> {
    for num1 in 0..30 {
        let sum: i32 = client.call("Arith.sum", &Sum { num1, num2: 1 }).await?;
        ensure!(sum == num1 + 1, "{num1} + 1 is not {sum}");
    }
    Ok(())
}

async fn broadcast_and_timeout(client: &BalancedClient, servers: [&Member; 3]) -> anyhow::Result<()> {
    println!("\n== A broadcast ==");
    let before = servers.map(Member::calls);
    let sum: i32 = client.broadcast("Arith.sum", &Sum { num1: 20, num2: 22 }).await?;
    let asked = servers.iter().zip(before).filter(|(server, before)| server.calls() > *before).count();
    println!("{asked} servers were asked, one reply: 20 + 22 = {sum}");

    println!("\n== A timeout ==");
    let [a, ..] = servers;
    let direct = Client::dial(&a.endpoint, &Options::default()).await?;
    let started = Instant::now();
    let limit = Duration::from_millis(100);
    let error = match direct.with_timeout(limit).call("Arith.sleep", &Sleep { millis: 60_000 }).await {
        Ok(millis) => anyhow::bail!("slept {millis} ms, which should have timed out"),
        Err::<u64, _>(error) => error,
    };
    println!("Arith.sleep for a minute: \"{error}\", after {} ms", started.elapsed().as_millis());
    println!("{} calls are in flight on that connection", direct.in_flight());
    Ok(())
}

async fn a_server_dies(
    client: &BalancedClient,
    list: &List,
    [a, b]: [&Member; 2],
    dead: Endpoint,
) -> anyhow::Result<()> {
    println!("\n== Server c is killed ==");
    wait_until("the client sees that the connection is gone", || client.connections() == 2).await?;
    let before = [a.calls(), b.calls()];
    println!("{dead} is still in the list: {}", has(&list.servers().borrow(), &dead));
    thirty_calls(client).await?;
    println!("30 calls, none lost: a took {}, b took {}", a.calls() - before[0], b.calls() - before[1]);
    let started = Instant::now();
    let mut servers = list.servers();
    wait_for("the lease of c runs out", servers.wait_for(|servers| !has(servers, &dead))).await??;
    println!("its lease ran out {:.1} s later, and it left the list", started.elapsed().as_secs_f64());
    Ok(())
}

fn has(servers: &Servers, endpoint: &Endpoint) -> bool {
    servers.list.iter().flat_map(|list| list.iter()).any(|server| server.endpoint == *endpoint)
}

async fn a_server_joins(client: &BalancedClient, list: &List, url: &str) -> anyhow::Result<Member> {
    println!("\n== A new server joins ==");
    let d = Member::start("d", url).await?;
    let mut servers = list.servers();
    wait_for("the list has d", servers.wait_for(|servers| has(servers, &d.endpoint))).await??;
    thirty_calls(client).await?;
    println!("30 calls among 3 servers: d took {}", d.calls());
    Ok(d)
}

async fn a_server_leaves(list: &List, b: Member) -> anyhow::Result<()> {
    println!("\n== Server b shuts down in an orderly way ==");
    let direct = Client::dial(&b.endpoint, &Options::default()).await?;
    let before = b.calls();
    let slow = direct.start::<_, u64>("Arith.sleep", &Sleep { millis: 300 }).await?;
    wait_until("b has the call", || b.calls() > before).await?;
    let (endpoint, name) = (b.endpoint.clone(), b.name);
    let (drained, slept) = tokio::join!(b.shut_down(), slow);
    drained?;
    println!("the call in flight on {name} was answered: it slept {} ms", slept?);
    let mut servers = list.servers();
    wait_for("b leaves the list", servers.wait_for(|servers| !has(servers, &endpoint))).await??;
    println!("{name} left the list");
    Ok(())
}

async fn the_registry_restarts(
    client: &BalancedClient,
    registry: JoinHandle<()>,
    url: &str,
) -> anyhow::Result<JoinHandle<()>> {
    println!("\n== The registry is killed, and comes back with an empty list ==");
    let port = url.rsplit(':').next().context("a URL with a port")?.split('/').next().unwrap_or_default();
    registry.abort();
    registry.await.ok();
    thirty_calls(client).await?;
    println!("30 calls without a registry, none lost: the last list still serves");
    let (_, registry) = start_registry(port.parse()?).await?;
    let fresh = HttpRegistry::new(url.parse()?);
    let started = Instant::now();
    loop {
        ensure!(started.elapsed() < Duration::from_secs(5), "the servers did not come back");
        let known = fresh.servers().await.map(|list| list.servers.len()).unwrap_or(0);
        if known == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("it is back, and after {:.1} s it knows both servers again", started.elapsed().as_secs_f64());
    Ok(registry)
}

/// One server of the story: its own port, its own counters, its own heartbeat.
struct Member {
    name: &'static str,
    endpoint: Endpoint,
    services: ServiceMap,
    heartbeat: Heartbeat,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), day7_registry::Error>>,
}

impl Member {
    async fn start(name: &'static str, url: &str) -> anyhow::Result<Member> {
        let services = arith()?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = Endpoint::tcp(listener.local_addr()?);
        let server = Server::new(services.clone());
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            // A sender that is dropped is a signal as well.
            server.serve_with_shutdown(listener, async { drop(stopped.await) }).await
        });
        let heartbeat = Heartbeat::start(HttpRegistry::new(url.parse()?), endpoint.clone());
        wait_for("the first heartbeat", heartbeat.wait_registered()).await?;
        println!("server {name}   {endpoint} is registered");
        Ok(Member { name, endpoint, services, heartbeat, stop, task })
    }

    /// How many calls its methods got so far.
    fn calls(&self) -> u64 {
        let services = self.services.services();
        services.iter().flat_map(|service| service.methods()).map(|(_, method)| method.calls()).sum()
    }

    /// Ends it as a crash would: no goaway, no deregistration.
    async fn kill(self) -> Endpoint {
        drop(self.heartbeat);
        self.task.abort();
        self.task.await.ok();
        self.endpoint
    }

    /// Leaves the registry first, so that no new calls come; then finishes those in flight.
    async fn shut_down(self) -> anyhow::Result<()> {
        self.heartbeat.shutdown().await?;
        drop(self.stop);
        Ok(self.task.await??)
    }
}

async fn start_registry(port: u16) -> anyhow::Result<(String, JoinHandle<()>)> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let url = format!("http://{}/_rrpc_/registry", listener.local_addr()?);
    let registry = RegistryServer::new().lease(LEASE);
    Ok((url, tokio::spawn(async move { registry.serve(listener).await })))
}

/// Waits for something to happen, but not without limit.
async fn wait_for<T>(what: &str, event: impl Future<Output = T>) -> anyhow::Result<T> {
    tokio::time::timeout(Duration::from_secs(5), event)
        .await
        .with_context(|| format!("never happened: {what}"))
}

/// Waits for something that sends no signal.
async fn wait_until(what: &str, mut condition: impl FnMut() -> bool) -> anyhow::Result<()> {
    wait_for(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Sum {
    num1: i32,
    num2: i32,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Sleep {
    millis: u64,
}

#[derive(Serialize, Deserialize)]
struct Fail {
    message: String,
}

struct Arith;

impl Arith {
    async fn sum(&self, Sum { num1, num2 }: Sum) -> anyhow::Result<i32> {
        num1.checked_add(num2).with_context(|| format!("{num1} + {num2} does not fit into an i32"))
    }

    async fn sleep(&self, Sleep { millis }: Sleep) -> anyhow::Result<u64> {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        Ok(millis)
    }

    async fn fail(&self, Fail { message }: Fail) -> anyhow::Result<()> {
        Err(anyhow!(message))
    }
}

/// A map with the service `Arith`.
fn arith() -> anyhow::Result<ServiceMap> {
    let services = ServiceMap::new();
    services.add(service!("Arith", Arith, [sum, sleep, fail])?)?;
    Ok(services)
}
