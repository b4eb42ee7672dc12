//! More and more servers in a registry: a heartbeat, the list, a refresh, and a choice in each mode.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use day7_registry::{
    Endpoint, HttpRegistry, Instance, MultiServersDiscovery, Registry, RegistryServer, SelectMode,
};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::{Order, Series};
use crate::machine;
use crate::process::Process;
use crate::stats::Summary;

/// How many servers register at the same time.
const AT_ONCE: usize = 32;
/// A lease that outlives the measurement.
const LEASE: Duration = Duration::from_secs(3600);

/// The registry's process: prints its URL, and serves until it is stopped.
pub(crate) fn run_registry() -> Result<()> {
    machine::runtime()?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("http://{}", listener.local_addr()?);
        std::io::stdout().flush()?;
        RegistryServer::new().lease(LEASE).serve(listener).await;
        Ok(())
    })
}

/// What the servers are measured by.
pub(super) fn measure(quick: bool) -> Result<Vec<Series>> {
    let sizes: &[usize] = if quick { &[10, 100, 1000] } else { &[10, 100, 1000, 10_000] };
    let mut series = vec![
        Series::new("renewing a lease (POST), us", Order::Constant),
        Series::new("the list (GET), us", Order::Linear),
        Series::new("a refresh that finds nothing new, us", Order::Linear),
        Series::new("a refresh that finds one server gone, us", Order::Linear),
        Series::new("choosing at random, ns", Order::Constant),
        Series::new("choosing in turn, ns", Order::Constant),
        Series::new("choosing by weight, ns", Order::Constant),
        Series::new("choosing by key, ns", Order::Constant),
        Series::new("the first choice by key, which makes the ring, us", Order::Linear),
    ];
    for size in sizes {
        let costs = machine::runtime()?.block_on(costs(*size, if quick { 3 } else { 9 }))?;
        for (series, cost) in series.iter_mut().zip(costs) {
            series.points.push((*size, cost));
        }
        eprintln!("{size} servers: GET {:.0} us, refresh {:.0} us", costs[1], costs[2]);
    }
    Ok(series)
}

async fn costs(size: usize, times: usize) -> Result<[f64; 9]> {
    let mut process = Process::start(&["registry".to_owned()])?;
    let registry = HttpRegistry::new(process.line()?.parse()?);
    let endpoints: Vec<_> = (0..size).map(endpoint).collect::<Result<_>>()?;
    let servers: Vec<_> = endpoints.iter().cloned().map(Instance::new).collect();
    register(&registry, &servers).await?;

    let post = median_micros(times, async || Ok(registry.register(&servers[0]).await.map(drop)?)).await?;
    let get = median_micros(times, async || {
        let list = registry.servers().await?;
        ensure!(list.servers.len() == size, "{} servers instead of {size}", list.servers.len());
        Ok(())
    })
    .await?;
    // What the task of a discovery does, without its pauses.
    let known = MultiServersDiscovery::unknown();
    let refresh = async || -> Result<()> {
        known.update(registry.servers().await?.servers);
        Ok(())
    };
    refresh().await?;
    let same = median_micros(times, refresh).await?;
    let mut gone = Vec::new();
    for server in servers.iter().cycle().take(times) {
        registry.deregister(server).await?;
        gone.push(median_micros(1, refresh).await?);
        registry.register(server).await?;
        refresh().await?;
    }
    let gone = Summary::of(gone).context("no measurement")?.median;

    let list = MultiServersDiscovery::new(endpoints);
    let key = SelectMode::ConsistentHash("a key".into());
    let (mut chosen, mut first) = ([0.0; 4], 0.0);
    let modes = [SelectMode::Random, SelectMode::RoundRobin, SelectMode::WeightedRoundRobin, key];
    for (cost, mode) in chosen.iter_mut().zip(modes) {
        // Of the last mode, by key, this is the choice that makes the ring.
        first = median_micros(1, async || Ok(list.get(&mode).map(drop)?)).await?;
        let choices = (1_000_000 / size).clamp(1000, 10_000);
        let all = median_micros(times, async || {
            for _ in 0..choices {
                std::hint::black_box(list.get(&mode)?);
            }
            Ok(())
        });
        *cost = all.await? * 1000.0 / choices as f64;
    }
    let [random, in_turn, by_weight, by_key] = chosen;
    Ok([post, get, same, gone, random, in_turn, by_weight, by_key, first])
}

async fn register(registry: &HttpRegistry, servers: &[Instance]) -> Result<()> {
    let mut registering = JoinSet::new();
    for server in servers {
        if registering.len() >= AT_ONCE
            && let Some(registered) = registering.join_next().await
        {
            registered??;
        }
        let (registry, server) = (registry.clone(), server.clone());
        registering.spawn(async move { registry.register(&server).await });
    }
    while let Some(registered) = registering.join_next().await {
        registered??;
    }
    Ok(())
}

fn endpoint(number: usize) -> Result<Endpoint> {
    let [_, _, high, low] = (number as u32).to_be_bytes();
    Ok(format!("tcp@10.0.{high}.{low}:9999").parse()?)
}

async fn median_micros(times: usize, mut work: impl AsyncFnMut() -> Result<()>) -> Result<f64> {
    let mut took = Vec::with_capacity(times);
    for _ in 0..times {
        let start = Instant::now();
        work().await?;
        took.push(start.elapsed().as_nanos() as f64 / 1e3);
    }
    Ok(Summary::of(took).context("no measurement")?.median)
}
