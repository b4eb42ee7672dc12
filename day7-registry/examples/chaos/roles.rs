//! The processes that suffer: a registry, and a server that writes down which calls it ran.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use day7_registry::{
    Endpoint, Heartbeat, HttpRegistry, Instance, RegistryServer, Server, ServiceMap, contract,
};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::time::timeout;

const LEASE: Duration = Duration::from_secs(2);

/// One call: its number, which no other call has, and how long it takes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) id: u64,
    pub(crate) millis: u64,
}

contract! {
    /// Runs jobs, and writes down which.
    pub(crate) trait Jobs, client JobsClient {
        /// Returns the id.
        async fn run(Job) -> u64;
    }
}

struct Ledger(File);

impl Jobs for Ledger {
    async fn run(&self, Job { id, millis }: Job) -> anyhow::Result<u64> {
        // One write of eight bytes at the end of the file: it is there as a whole or not at all.
        (&self.0).write_all(&id.to_be_bytes())?;
        tokio::time::sleep(Duration::from_millis(millis)).await;
        Ok(id)
    }
}

pub(crate) async fn registry(addr: &str) -> anyhow::Result<()> {
    end_with_the_parent();
    let listener = TcpListener::bind(addr).await?;
    println!("{}", listener.local_addr()?);
    RegistryServer::new().lease(LEASE).serve(listener).await;
    Ok(())
}

pub(crate) async fn server(registry: &str, ledger: &Path) -> anyhow::Result<()> {
    end_with_the_parent();
    let terminated = terminated()?;
    let ledger =
        OpenOptions::new().append(true).create(true).open(ledger).context("cannot open the ledger")?;
    let services = ServiceMap::new();
    services.add(Ledger(ledger).into_service()?)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = Endpoint::tcp(listener.local_addr()?);
    let instance = Instance::new(endpoint.clone()).weight(rand::random_range(1..=3));
    let heartbeat = Heartbeat::start(HttpRegistry::new(registry.parse()?), instance);
    // It is up when clients can find it; or soon after, if the registry is down.
    timeout(LEASE, heartbeat.wait_registered()).await.ok();
    println!("{endpoint}");
    let stopped = async {
        terminated.await;
        heartbeat.shutdown().await.ok(); // the registry may be stopped: then the lease ends by itself
    };
    Ok(Server::new(services).serve_with_shutdown(listener, stopped).await?)
}

/// A future of SIGTERM, which counts from this call on. Where there is no such signal, faults cannot be made either.
fn terminated() -> anyhow::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminated = signal(SignalKind::terminate())?;
        Ok(async move {
            terminated.recv().await;
        })
    }
    #[cfg(not(unix))]
    Ok(std::future::pending())
}

/// Stdin is a pipe from the process that started this one. It ends when that process does.
fn end_with_the_parent() {
    std::thread::spawn(|| {
        std::io::stdin().read_to_end(&mut Vec::new()).ok();
        std::process::exit(1);
    });
}
