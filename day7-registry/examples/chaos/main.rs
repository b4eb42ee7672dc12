//! Real processes and random faults: is a call that returned `Ok` ever missing, and does a call ever run twice?
//!
//! ```text
//! this process: 8 clients ──calls──▶ 4 server processes ──ids of the calls──▶ ledger (a file)
//!                    └────────▶ registry process ◀── heartbeats
//! faults: kill -9, SIGSTOP and SIGCONT, an orderly restart, of servers and of the registry
//! ```
//!
//! A server writes a call's id into the ledger before it answers. A file survives the process that wrote it, so in the
//! end the ledger and the clients' results can be compared. All choices come from a seed; what the operating system
//! makes of them does not, so two runs with one seed are alike and not equal.
//!
//! ```sh
//! cargo xtask chaos --seconds 60 --seed 7
//! ```

mod calls;
mod faults;
mod process;
mod roles;
mod verdict;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand, value_parser};
use tokio::runtime::Handle;
use tokio::time::sleep;

use crate::calls::Load;
use crate::faults::Cluster;
use crate::process::{Usage, settled};
use crate::verdict::Verdict;

/// Without faults: the load at rest, before and after.
const WARM_UP: Duration = Duration::from_secs(2);
/// How long clients may need to find all servers again once the last fault is over. Then every call has to succeed.
const RECOVERY: Duration = Duration::from_secs(4);
/// How long every call has to succeed after a rolling restart, during which every call has to succeed, too.
const CALM: Duration = Duration::from_secs(2);

/// Random faults against a registry and four servers, while eight clients call them.
#[derive(Parser)]
struct Args {
    /// How long faults happen, in seconds.
    #[arg(long, default_value_t = 60, value_parser = value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Where the choices come from. Without it: chance.
    #[arg(long)]
    seed: Option<u64>,
    #[command(subcommand)]
    role: Option<Role>,
}

/// What this program is in the processes that it starts.
#[derive(Subcommand)]
enum Role {
    #[command(hide = true)]
    Registry { addr: String },
    #[command(hide = true)]
    Server { registry: String, ledger: PathBuf },
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let Args { seconds, seed, role } = Args::parse();
    match role {
        Some(Role::Registry { addr }) => roles::registry(&addr).await?,
        Some(Role::Server { registry, ledger }) => roles::server(&registry, &ledger).await?,
        None => return chaos(Duration::from_secs(seconds), seed.unwrap_or_else(rand::random)).await,
    }
    Ok(ExitCode::SUCCESS)
}

async fn chaos(duration: Duration, seed: u64) -> anyhow::Result<ExitCode> {
    println!("4 servers, 8 clients with 4 callers each; faults for {} s, seed {seed}", duration.as_secs());
    let dir = std::env::temp_dir().join(format!("rrpc-chaos-{}", std::process::id()));
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let verdict = run(duration, seed, dir.join("ledger")).await;
    std::fs::remove_dir_all(&dir).ok();
    let verdict = verdict?;
    println!("\n{verdict}");
    Ok(if verdict.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn run(duration: Duration, seed: u64, ledger: PathBuf) -> anyhow::Result<Verdict> {
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let tasks_before = tasks();
    let cluster = Cluster::start(seed, &ledger).await?;
    let servers_idle = cluster.descriptors();

    let load = Load::start(cluster.url(), seed)?;
    sleep(WARM_UP).await;
    let busy_before = Usage::of_this_process();
    let (mut cluster, faults) = cluster.suffer(duration).await?;
    sleep(RECOVERY).await;
    load.faults_are_over();
    cluster.roll().await?;
    sleep(CALM).await;
    let busy_after = Usage::of_this_process();
    let calls = load.stop().await?;

    let idle = settled(|| cluster.descriptors(), |now| now <= servers_idle).await;
    let tasks_left = settled(tasks, |now| now <= tasks_before).await.saturating_sub(tasks_before);
    let ran = calls::read_ledger(&ledger)?;
    let mut verdict = Verdict::new(faults, &calls, ran);
    verdict.usage(busy_before, busy_after);
    verdict.check(
        &format!("descriptors of registry and servers without clients: {servers_idle}, then {idle}"),
        idle <= servers_idle + 2, // heartbeats come and go
    );
    verdict.check(&format!("tasks of the clients that are still there: {tasks_left}"), tasks_left == 0);
    Ok(verdict)
}
