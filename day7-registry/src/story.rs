//! The whole story, in one process. Every number that it prints was counted in this run.

mod cast;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use day7_registry::{
    BalancedClient, Client, Discovery, Endpoint, HttpRegistry, Options, Registry, RegistryDiscovery,
    RegistryUrl, SelectMode, Servers,
};

use self::cast::{Member, RunningRegistry, wait_for, wait_until};
use crate::{Sleep, Sum};

pub(crate) async fn tell() -> anyhow::Result<()> {
    let metrics = tokio::runtime::Handle::current().metrics();
    let tasks_before = metrics.num_alive_tasks();

    println!("== A registry, and three servers that find it ==");
    let registry = RunningRegistry::start().await?;
    println!("registry   {}, leases of {:?}", registry.url, cast::LEASE);
    let url = format!("{}/Arith", registry.url).parse()?;
    let a = Member::start("a", &url).await?;
    let b = Member::start("b", &url).await?;
    let c = Member::start("c", &url).await?;
    names(&registry.url).await?;

    let list = Arc::new(RegistryDiscovery::start(HttpRegistry::new(url.clone())));
    let options = Options::default()
        .call_timeout(Duration::from_secs(2))
        .ping_interval(Duration::from_millis(300))
        .ping_timeout(Duration::from_millis(300));
    let client = BalancedClient::new(Arc::clone(&list), SelectMode::RoundRobin, &options);

    calls_spread(&client, [&a, &b, &c]).await?;
    a_server_is_busy(&client, [&a, &b, &c]).await?;
    broadcast_and_timeout(&client, [&a, &b, &c]).await?;
    a_server_is_killed(&client, &list, [&a, &b], c).await?;
    a_server_hangs(&client, &list, &url).await?;
    let registry = the_registry_restarts(&client, registry, &url).await?;
    a_server_leaves(&list, b).await?;

    println!("\n== The end ==");
    drop((client, list, a, registry));
    let left = || metrics.num_alive_tasks() - tasks_before;
    wait_until("all tasks have ended", || left() == 0).await?;
    println!("everything was dropped; {} of our tasks are alive", left());
    Ok(())
}

async fn names(registry: &RegistryUrl) -> anyhow::Result<()> {
    println!("\n== One registry for many services ==");
    let _z = Member::start("z", &format!("{registry}/Clock").parse()?).await?;
    for name in ["Arith", "Clock"] {
        let listed = HttpRegistry::new(format!("{registry}/{name}").parse()?).servers().await?.servers;
        println!("{name}      {} in the list", listed.len());
    }
    Ok(())
}

async fn calls_spread(client: &BalancedClient, servers: [&Member; 3]) -> anyhow::Result<()> {
    for mode in [SelectMode::RoundRobin, SelectMode::Random] {
        println!("\n== 30 calls, {mode} ==");
        print_spread(&client.with_mode(mode), servers).await?;
    }
    Ok(())
}

async fn a_server_is_busy(client: &BalancedClient, servers: [&Member; 3]) -> anyhow::Result<()> {
    println!("\n== 30 calls, least-loaded, while one server is busy ==");
    let to_one = client.with_mode(SelectMode::ConsistentHash("always the same".into()));
    let slow = [(); 10].map(|()| to_one.start::<_, u64>("Arith.sleep", Sleep { millis: 60_000 }));
    let busy = || servers.into_iter().find(|server| server.sleeping() == 10);
    wait_until("one server has all of them", || busy().is_some()).await?;
    println!("server {}   10 slow calls", busy().map_or("?", |server| server.name));
    print_spread(&client.with_mode(SelectMode::LeastLoaded), servers).await?;
    drop(slow);
    wait_until("the slow calls have ended", || servers.iter().all(|server| server.sleeping() == 0)).await?;
    println!("the slow calls were dropped by their caller: the server has stopped them");
    Ok(())
}

/// 30 calls, and how many of them each server got.
async fn print_spread(client: &BalancedClient, servers: [&Member; 3]) -> anyhow::Result<()> {
    let before = servers.map(Member::sums);
    sums(client, 30).await?;
    for (server, before) in servers.iter().zip(before) {
        println!("server {}   {:2} calls", server.name, server.sums() - before);
    }
    Ok(())
}

async fn broadcast_and_timeout(client: &BalancedClient, servers: [&Member; 3]) -> anyhow::Result<()> {
    println!("\n== A broadcast ==");
    let before = servers.map(Member::sums);
    let sum: i32 = client.broadcast("Arith.sum", &Sum { num1: 20, num2: 22 }).await?;
    let asked = servers.iter().zip(before).filter(|(server, before)| server.sums() > *before).count();
    println!("{asked} servers were asked, one reply: 20 + 22 = {sum}");

    println!("\n== A timeout ==");
    let direct = Client::dial(&servers[0].endpoint, &Options::default()).await?;
    let started = Instant::now();
    let limit = Duration::from_millis(100);
    let error = match direct.with_timeout(limit).call("Arith.sleep", &Sleep { millis: 60_000 }).await {
        Ok(millis) => bail!("slept {millis} ms, which should have timed out"),
        Err::<u64, _>(error) => error,
    };
    println!("Arith.sleep for a minute: \"{error}\", after {} ms", started.elapsed().as_millis());
    println!("{} calls are in flight on that connection", direct.in_flight());
    Ok(())
}

async fn a_server_is_killed(
    client: &BalancedClient,
    list: &RegistryDiscovery,
    [a, b]: [&Member; 2],
    c: Member,
) -> anyhow::Result<()> {
    println!("\n== Server c is killed ==");
    let before = [a.sums(), b.sums()];
    let dead = c.kill().await;
    wait_until("the client sees that the connection is gone", || client.connections() == 2).await?;
    let is_listed = has(&list.servers().borrow(), &dead);
    println!("{dead} is {} in the list", if is_listed { "still" } else { "no longer" });
    sums(client, 30).await?;
    println!("30 calls, none lost: a took {}, b took {}", a.sums() - before[0], b.sums() - before[1]);
    let started = Instant::now();
    let mut servers = list.servers();
    wait_for("the lease of c runs out", servers.wait_for(|servers| !has(servers, &dead))).await??;
    println!("its lease ran out {:.1} s later, and it left the list", started.elapsed().as_secs_f64());
    Ok(())
}

async fn a_server_hangs(
    client: &BalancedClient,
    list: &RegistryDiscovery,
    url: &RegistryUrl,
) -> anyhow::Result<()> {
    println!("\n== Server d joins ==");
    let (d, cable) = Member::start_behind_a_cable("d", url).await?;
    let mut servers = list.servers();
    wait_for("the list has d", servers.wait_for(|servers| has(servers, &d.endpoint))).await??;
    sums(client, 30).await?;
    println!("30 calls among 3 servers: d took {}", d.sums());

    println!("\n== The cable to d is cut: it is silent, and still registered ==");
    cable.cut();
    let (mut answered, mut took) = (0, Duration::ZERO);
    for call in 1..=30 {
        let started = Instant::now();
        match client.call::<_, i32>("Arith.sum", &Sum { num1: 1, num2: 2 }).await {
            Ok(_) => (answered, took) = (answered + 1, took + started.elapsed()),
            Err(error) => {
                println!("call {call} was lost after {} ms: {error}", started.elapsed().as_millis());
                println!("may it have run? {}", error.may_have_run());
            }
        }
    }
    println!("the other {answered} took {} ms together", took.as_millis());
    d.kill().await;
    Ok(())
}

async fn the_registry_restarts(
    client: &BalancedClient,
    registry: RunningRegistry,
    url: &RegistryUrl,
) -> anyhow::Result<RunningRegistry> {
    println!("\n== The registry is killed, and comes back with an empty list ==");
    let addr = registry.kill().await;
    sums(client, 30).await?;
    println!("30 calls without a registry, none lost: the last list still serves");
    let registry = RunningRegistry::start_at(addr).await?;
    let started = Instant::now();
    wait_until("it knows both servers again", || registry.servers("Arith") == 2).await?;
    println!("it is back, and after {:.1} s it knows both servers again", started.elapsed().as_secs_f64());
    let age = HttpRegistry::new(url.clone()).servers().await?.age;
    println!(
        "it says that it is {:.1} s old: until it is older than a lease, clients only add to their lists",
        age.as_secs_f64()
    );
    Ok(registry)
}

async fn a_server_leaves(list: &RegistryDiscovery, b: Member) -> anyhow::Result<()> {
    println!("\n== Server b shuts down in an orderly way ==");
    let direct = Client::dial(&b.endpoint, &Options::default()).await?;
    let slow = direct.start::<_, u64>("Arith.sleep", &Sleep { millis: 300 }).await?;
    wait_until("b has the call", || b.sleeping() == 1).await?;
    let endpoint = b.endpoint.clone();
    let (drained, slept) = tokio::join!(b.shut_down(), slow);
    drained?;
    println!("the call in flight on b was answered: it slept {} ms", slept?);
    let mut servers = list.servers();
    wait_for("b leaves the list", servers.wait_for(|servers| !has(servers, &endpoint))).await??;
    println!("b left the list");
    Ok(())
}

/// Calls that have to succeed, one after the other.
async fn sums(client: &BalancedClient, count: i32) -> anyhow::Result<()> {
    for num1 in 0..count {
        let sum: i32 = client.call("Arith.sum", &Sum { num1, num2: 1 }).await?;
        ensure!(sum == num1 + 1, "{num1} + 1 is not {sum}");
    }
    Ok(())
}

/// Whether this server is in the list.
fn has(servers: &Servers, endpoint: &Endpoint) -> bool {
    servers.list.iter().flat_map(|list| list.iter()).any(|server| server.endpoint == *endpoint)
}
