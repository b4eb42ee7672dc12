//! The clients: calls without a pause, and what became of each.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::Context;
use day7_registry::{
    BalanceError, BalancedClient, DiscoveryError, Error, HttpRegistry, Options, RegistryDiscovery, SelectMode,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::roles::{Job, JobsClient};

const CLIENTS: u64 = 8;
const CALLERS: u64 = 4;

/// What became of the calls.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    /// The ids of those that returned `Ok`.
    pub(crate) ok: Vec<u64>,
    /// The ids of those whose error says that they have not run.
    pub(crate) not_run: Vec<u64>,
    /// How many failed, by kind of error and by whether they may have run.
    pub(crate) failed: BTreeMap<(String, bool), u64>,
    /// `Ok`, but with the reply of another call.
    pub(crate) mixed_up: u64,
    /// How many failed once all faults were over.
    pub(crate) failed_in_calm: u64,
}

/// Callers that go on until they are told to stop.
pub(crate) struct Load {
    callers: JoinSet<Calls>,
    signals: Arc<Signals>,
}

#[derive(Default)]
struct Signals {
    calm: AtomicBool,
    stop: AtomicBool,
}

impl Load {
    pub(crate) fn start(url: &str, seed: u64) -> anyhow::Result<Load> {
        let signals = Arc::new(Signals::default());
        let mut callers = JoinSet::new();
        let options = Options::default()
            .connect_timeout(Duration::from_secs(1))
            .call_timeout(Duration::from_secs(3))
            .ping_interval(Duration::from_millis(500))
            .ping_timeout(Duration::from_millis(500));
        let modes = ["random", "round-robin", "weighted-round-robin", "least-loaded"];
        for client in 0..CLIENTS {
            let mode: SelectMode = match modes.get(client as usize % (modes.len() + 1)) {
                Some(mode) => mode.parse()?,
                None => SelectMode::ConsistentHash(format!("client {client}").into()),
            };
            let registry = HttpRegistry::new(url.parse()?).timeout(Duration::from_secs(1));
            let balanced = BalancedClient::new(RegistryDiscovery::start(registry), mode, &options);
            for caller in client * CALLERS..(client + 1) * CALLERS {
                let random = StdRng::seed_from_u64(seed.wrapping_add(1000 + caller));
                callers.spawn(call(JobsClient(balanced.clone()), caller, random, Arc::clone(&signals)));
            }
        }
        Ok(Load { callers, signals })
    }

    /// From now on, no call should fail.
    pub(crate) fn faults_are_over(&self) {
        self.signals.calm.store(true, Relaxed);
    }

    /// Ends all callers and closes all connections.
    pub(crate) async fn stop(self) -> anyhow::Result<Calls> {
        self.signals.stop.store(true, Relaxed);
        let mut all = Calls::default();
        for calls in self.callers.join_all().await {
            all.ok.extend(calls.ok);
            all.not_run.extend(calls.not_run);
            all.mixed_up += calls.mixed_up;
            all.failed_in_calm += calls.failed_in_calm;
            for (kind, count) in calls.failed {
                *all.failed.entry(kind).or_default() += count;
            }
        }
        Ok(all)
    }
}

async fn call(
    jobs: JobsClient<BalancedClient>,
    caller: u64,
    mut random: StdRng,
    signals: Arc<Signals>,
) -> Calls {
    let mut calls = Calls::default();
    // No two calls have the same id.
    for id in caller << 40.. {
        if signals.stop.load(Relaxed) {
            break;
        }
        let calm = signals.calm.load(Relaxed);
        let job = Job { id, millis: random.random_range(0..40) };
        match jobs.run(&job).await {
            Ok(reply) => {
                calls.ok.push(id);
                calls.mixed_up += u64::from(reply != id);
            }
            Err(error) => {
                let may_have_run = error.may_have_run();
                *calls.failed.entry((kind(&error), may_have_run)).or_default() += 1;
                calls.failed_in_calm += u64::from(calm);
                if !may_have_run {
                    calls.not_run.push(id);
                }
                sleep(Duration::from_millis(20)).await;
            }
        }
    }
    calls
}

fn kind(error: &BalanceError) -> String {
    match error {
        BalanceError::Discovery(DiscoveryError::NoServers) => "the list of servers is empty".to_owned(),
        BalanceError::Discovery(_) => "the list of servers is not known".to_owned(),
        BalanceError::Dial { .. } => "no server can be reached".to_owned(),
        BalanceError::Call { source, .. } => match source {
            Error::Remote(error) => format!("error reply: {}", error.code()),
            Error::Refused(_) => "refused".to_owned(),
            Error::Timeout { .. } => "timeout".to_owned(),
            Error::Disconnected(_) => "disconnected".to_owned(),
            Error::NotSent(_) => "not sent".to_owned(),
            other => format!("{other}"),
        },
        other => format!("{other}"),
    }
}

/// The ids of all calls that a server has run, sorted.
pub(crate) fn read_ledger(ledger: &Path) -> anyhow::Result<Vec<u64>> {
    let bytes = std::fs::read(ledger).context("cannot read the ledger")?;
    let (ids, _) = bytes.as_chunks::<8>();
    let mut ids: Vec<_> = ids.iter().map(|id| u64::from_be_bytes(*id)).collect();
    ids.sort_unstable();
    Ok(ids)
}
