//! What happens to the processes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep};

use crate::process::Process;

/// A registry, and four servers in two halves: at most one server of each half is down at a time.
pub(crate) struct Cluster {
    registry: Process,
    halves: [[Process; 2]; 2],
    seed: u64,
    url: String,
    ledger: PathBuf,
}

/// What can happen to a process.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// `kill -9`, and a new one after a while.
    Kill,
    /// SIGSTOP, and SIGCONT after a while.
    Stop,
    /// A new one is started, and then the old one ends in an orderly way.
    Restart,
}

/// How often each of them happened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) kills: u32,
    pub(crate) stops: u32,
    pub(crate) restarts: u32,
}

impl Faults {
    fn count(&mut self, fault: Fault) {
        match fault {
            Fault::Kill => self.kills += 1,
            Fault::Stop => self.stops += 1,
            Fault::Restart => self.restarts += 1,
        }
    }
}

impl Cluster {
    pub(crate) async fn start(seed: u64, ledger: &Path) -> anyhow::Result<Cluster> {
        let registry = Process::start(&["registry", "127.0.0.1:0"]).await?;
        let url = format!("http://{}", registry.says);
        let server = || start_server(&url, ledger);
        let halves = [[server().await?, server().await?], [server().await?, server().await?]];
        Ok(Cluster { registry, halves, seed, url, ledger: ledger.to_owned() })
    }

    /// Where the registry is, whichever process it is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The open files and sockets of all processes together.
    pub(crate) fn descriptors(&self) -> usize {
        let servers = self.halves.as_flattened().iter().map(Process::descriptors);
        self.registry.descriptors() + servers.sum::<usize>()
    }

    /// Restarts one server after the other; each new one is up before the old one ends.
    pub(crate) async fn roll(&mut self) -> anyhow::Result<()> {
        for server in self.halves.as_flattened_mut() {
            let old = std::mem::replace(server, start_server(&self.url, &self.ledger).await?);
            old.end().await?;
        }
        Ok(())
    }

    /// Faults of the servers and of the registry, all at the same time, until `duration` is over. Then all are well.
    pub(crate) async fn suffer(self, duration: Duration) -> anyhow::Result<(Cluster, [Faults; 2])> {
        let Cluster { registry, halves: [one, other], seed, url, ledger } = self;
        let end = Instant::now() + duration;
        let addr = registry.says.clone();
        let server = || start_server(&url, &ledger);
        let new_registry = || async { Process::start(&["registry", &addr]).await };
        let server_faults = [Fault::Kill, Fault::Stop, Fault::Restart];
        let registry_faults = [Fault::Kill, Fault::Stop];
        let random = |salt| StdRng::seed_from_u64(seed.wrapping_add(salt));
        let (one, other, registry) = tokio::try_join!(
            torment(one, &server_faults, random(1), end, server),
            torment(other, &server_faults, random(2), end, server),
            torment([registry], &registry_faults, random(3), end, new_registry),
        )?;
        let servers = Faults {
            kills: one.1.kills + other.1.kills,
            stops: one.1.stops + other.1.stops,
            restarts: one.1.restarts + other.1.restarts,
        };
        let ([registry], registry_faults) = registry;
        let cluster = Cluster { registry, halves: [one.0, other.0], seed, url, ledger };
        Ok((cluster, [servers, registry_faults]))
    }
}

async fn start_server(url: &str, ledger: &Path) -> anyhow::Result<Process> {
    let ledger = ledger.to_str().context("the path of the ledger is not UTF-8")?;
    Process::start(&["server", url, ledger]).await
}

/// One fault after the other, each of which is over before the next.
async fn torment<const N: usize>(
    mut processes: [Process; N],
    possible: &[Fault],
    mut random: StdRng,
    end: Instant,
    start: impl AsyncFn() -> anyhow::Result<Process>,
) -> anyhow::Result<([Process; N], Faults)> {
    let mut faults = Faults::default();
    loop {
        sleep(Duration::from_millis(random.random_range(100..1500))).await;
        if Instant::now() >= end {
            return Ok((processes, faults));
        }
        let fault = *possible.choose(&mut random).context("some fault is possible")?;
        let process = &mut processes[random.random_range(0..N)];
        let pause = Duration::from_millis(random.random_range(100..4000));
        faults.count(fault);
        match fault {
            Fault::Kill => {
                process.signal("KILL")?;
                sleep(pause).await;
                *process = start().await?;
            }
            Fault::Stop => {
                process.signal("STOP")?;
                sleep(pause).await;
                process.signal("CONT")?;
            }
            Fault::Restart => {
                let old = std::mem::replace(process, start().await?);
                old.end().await?;
            }
        }
    }
}
