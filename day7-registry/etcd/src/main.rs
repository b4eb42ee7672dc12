//! The story of this package: three servers, three members of etcd, and what happens when they die.
//!
//! ```sh
//! cargo run --manifest-path day7-registry/etcd/Cargo.toml
//! ```

mod cluster;

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use day7_registry::{
    BalancedClient, Discovery, Endpoint, Heartbeat, Instance, Options, Request, SelectMode, Server,
};
use rrpc_etcd::EtcdRegistry;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::cluster::Cluster;

const LEASE: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    println!("== A cluster of three members, and three servers that find it ==");
    let mut etcd = Cluster::start(3).await?;
    for member in etcd.members() {
        println!("member     {member}");
    }
    let mut servers = Vec::new();
    for name in ["a", "b", "c"] {
        servers.push(Member::start(name, &etcd).await?);
    }
    let (discovery, _watching) = EtcdRegistry::new(etcd.members(), "Arith").lease(LEASE).discovery();
    let client = BalancedClient::new(discovery.clone(), SelectMode::RoundRobin, &Options::default());
    list_has(&*discovery, 3).await?;
    calls(&client).await?;

    println!("\n== The leader is killed ==");
    let leader = etcd.leader().await?;
    etcd.kill(leader).await?;
    println!("m{leader} is gone");
    let elsewhere = Member::start("d", &etcd).await?;
    list_has(&*discovery, 4).await?;
    println!("the others have a new one: server d has joined");
    calls(&client).await?;

    println!("\n== Server c is killed ==");
    let started = Instant::now();
    servers.pop();
    // A call on its way to c at this moment would be lost: it may have run.
    while client.connections() > 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    calls(&client).await?;
    list_has(&*discovery, 3).await?;
    println!(
        "its lease of {LEASE:?} has ended: it left the list {:.1} s later",
        started.elapsed().as_secs_f64()
    );

    println!("\n== All of etcd is killed ==");
    for member in 0..3 {
        etcd.kill(member).await?;
    }
    tokio::time::sleep(2 * LEASE).await;
    println!("{:?} later:", 2 * LEASE);
    calls(&client).await?;
    println!("the last good list still serves");

    println!("\n== It comes back, and server d leaves in an orderly way ==");
    for member in 0..3 {
        etcd.restart(member)?;
    }
    let fresh = EtcdRegistry::new(etcd.members(), "Arith");
    let (fresh, _watching) = fresh.discovery();
    list_has(&*fresh, 3).await?;
    println!("a, b and d have registered again by themselves");
    elsewhere.heartbeat.shutdown().await?;
    list_has(&*fresh, 2).await?;
    println!("d has left, at once");
    Ok(())
}

/// A server, and its heartbeat. Dropping it is a crash.
struct Member {
    heartbeat: Heartbeat,
    _serving: AbortOnDropHandle<()>,
}

impl Member {
    async fn start(name: &'static str, etcd: &Cluster) -> anyhow::Result<Member> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = Endpoint::tcp(listener.local_addr()?);
        let server = Server::new(move |request: Request| async move { Ok(request.reply(name)?) });
        let serving = AbortOnDropHandle::new(tokio::spawn(async move { server.serve(listener).await }));
        let registry = EtcdRegistry::new(etcd.members(), "Arith").lease(LEASE);
        let heartbeat = Heartbeat::start(registry, Instance::new(endpoint.clone()));
        let registered = tokio::time::timeout(Duration::from_secs(20), heartbeat.wait_registered());
        registered.await.context("never happened: the first heartbeat")?;
        println!("server {name}   {endpoint} is registered");
        Ok(Member { heartbeat, _serving: serving })
    }
}

async fn calls(client: &BalancedClient) -> anyhow::Result<()> {
    let mut names = Vec::new();
    for _ in 0..12 {
        names.push(client.call::<_, String>("Arith.name", &()).await?);
    }
    names.sort();
    let count = |name: &&str| names.iter().filter(|other| other == name).count();
    let counts: Vec<_> = ["a", "b", "c", "d"].iter().map(|name| format!("{name} {}", count(name))).collect();
    println!("12 calls, none lost: {}", counts.join(", "));
    ensure!(names.len() == 12, "a call was lost");
    Ok(())
}

async fn list_has(discovery: &impl Discovery, count: usize) -> anyhow::Result<()> {
    let mut servers = discovery.servers();
    let there = servers.wait_for(|servers| servers.list.as_ref().is_some_and(|list| list.len() == count));
    let there = tokio::time::timeout(Duration::from_secs(20), there).await;
    there.with_context(|| format!("never happened: a list of {count} servers"))??;
    Ok(())
}
