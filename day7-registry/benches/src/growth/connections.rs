//! More and more connections: idle ones that only take memory, and busy ones.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use day7_registry::Codec;
use tokio::task::JoinSet;

use super::{Order, Series, Subject};
use crate::compare;
use crate::load::{self, Plan, Sample};
use crate::machine;
use crate::peers::{Caller, Peer, rrpc};
use crate::process::Process;
use crate::workload::{Placement, Workload};

/// What an idle connection may take of the server's memory.
const MOST_KIB: f64 = 4.0;
/// How long a call may take beside the most connections that flood, in milliseconds.
const MOST_MILLIS: f64 = 15.0;
/// How many busy connections.
const BUSY_SIZES: [usize; 4] = [1, 10, 100, 1000];
/// How many connections flood the server.
const FLOODS: [usize; 3] = [1, 2, 4];

/// How many idle connections.
fn idle_sizes(quick: bool) -> &'static [usize] {
    if quick { &[1, 10, 100, 1000] } else { &[1, 10, 100, 1000, 10_000] }
}

/// How many connections there are at most.
pub(super) fn most(subjects: &[Subject], quick: bool) -> usize {
    let sizes = subjects.iter().flat_map(|subject| match subject {
        Subject::Idle => idle_sizes(quick),
        Subject::Busy => &BUSY_SIZES,
        Subject::Fairness => &FLOODS,
        Subject::Registry | Subject::Payload => &[],
    });
    sizes.max().copied().unwrap_or(0)
}

/// What the idle connections are measured by.
pub(super) fn idle(quick: bool) -> Result<Vec<Series>> {
    let mut memory = Series::new("server's memory, KiB", Order::Linear);
    let mut each = Series::new("KiB each", Order::Constant).at_most(MOST_KIB);
    let mut latency = Series::new("one call on a busy one, p50 us", Order::Constant);
    for size in idle_sizes(quick) {
        let (server, addr) = compare::serve(Peer::RrpcBincode, Placement::Free)?;
        // The first connection also pays for what all share.
        drop(hold(addr, 1)?);
        let before = rss(server.id())?;
        let _holder = hold(addr, *size)?;
        let used = rss(server.id())?.saturating_sub(before) as f64 / 1024.0;
        let sample = measure(addr, &server, 1, quick)?;
        memory.points.push((*size, used));
        each.points.push((*size, used / *size as f64));
        latency.points.push((*size, sample.p50));
        eprintln!("{size} idle connections: {:.1} KiB each, p50 {:.1} us", used / *size as f64, sample.p50);
    }
    Ok(vec![memory, each, latency])
}

/// What the busy connections are measured by.
pub(super) fn busy(quick: bool) -> Result<Vec<Series>> {
    let mut time = Series::new("time per call, all together, us", Order::Constant);
    let mut cpu = Series::new("CPU per call, us", Order::Constant);
    for size in BUSY_SIZES {
        let (server, addr) = compare::serve(Peer::RrpcBincode, Placement::Free)?;
        let sample = measure(addr, &server, size, quick)?;
        time.points.push((size, 1e6 / sample.calls_per_second()));
        cpu.points.push((size, sample.cpu_per_call()));
        eprintln!(
            "{size} busy connections: {:.0} calls/s, {:.2} us CPU per call",
            sample.calls_per_second(),
            sample.cpu_per_call()
        );
    }
    Ok(vec![time, cpu])
}

/// What fairness is measured by: calls on one connection, one after the other, while others flood the server with
/// calls that its handler answers at once. The server's runtime has one thread; the clients may use two cores.
pub(super) fn fairness(quick: bool) -> Result<Vec<Series>> {
    let mut p99 = Series::new("a call on another one, p99 ms", Order::Any).at_most(MOST_MILLIS);
    for size in FLOODS {
        let (server, addr) = compare::serve(Peer::RrpcBincode, Placement::Pinned)?;
        // It begins at the same time as the other load, has no warm-up, and lasts longer.
        let duration = 3 * duration(quick);
        let plan = Plan { workload: Workload::Sum1024, connections: size, warm_up: Duration::ZERO, duration };
        let flood = || compare::load(Peer::RrpcBincode, addr, &server, Placement::Free, plan);
        let (flood, sample) = thread::scope(|scope| {
            let flood = scope.spawn(flood);
            let sample = measure(addr, &server, 1, quick);
            (flood.join(), sample)
        });
        let flood = flood.map_err(|_| anyhow!("the flood has panicked"))?.context("the flood")?;
        let sample = sample?;
        p99.points.push((size, sample.p99 / 1e3));
        eprintln!(
            "{size} connections flood, {:.0} calls/s: another one has p50 {:.0} us, p99 {:.0} us",
            flood.calls_per_second(),
            sample.p50,
            sample.p99
        );
    }
    Ok(vec![p99])
}

fn duration(quick: bool) -> Duration {
    Duration::from_secs_f64(if quick { 0.1 } else { 1.0 })
}

/// One call in flight on each of some connections.
fn measure(addr: SocketAddr, server: &Process, connections: usize, quick: bool) -> Result<Sample> {
    let duration = duration(quick);
    let plan = Plan { workload: Workload::Sum1, connections, warm_up: duration / 2, duration };
    compare::load(Peer::RrpcBincode, addr, server, Placement::Free, plan)
}

fn hold(addr: SocketAddr, count: usize) -> Result<Process> {
    let mut holder = Process::start(&["hold".to_owned(), addr.to_string(), count.to_string()])?;
    holder.line().context("the process that holds connections")?;
    Ok(holder)
}

/// The process that holds idle connections: says when they are all there, and stays.
///
/// # Errors
/// A connection cannot be made.
pub(crate) fn run_holder(addr: SocketAddr, count: usize) -> Result<()> {
    machine::runtime()?.block_on(async {
        let (mut dialing, mut clients) = (JoinSet::new(), Vec::with_capacity(count));
        for number in 0..count {
            if dialing.len() >= load::AT_ONCE
                && let Some(client) = dialing.join_next().await
            {
                clients.push(client??);
            }
            dialing.spawn(async move {
                let client = rrpc::connect(addr, Codec::Bincode).await?;
                // A connection that has never been used is rare, and might hold less.
                Caller::sum(&client, number as i32, 1).await?;
                anyhow::Ok(client)
            });
        }
        while let Some(client) = dialing.join_next().await {
            clients.push(client??);
        }
        println!("{}", clients.len());
        std::io::stdout().flush()?;
        std::future::pending().await
    })
}

/// Memory of a process that is neither code nor a file, in bytes: what it has allocated and touched.
fn rss(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    Ok(kilobytes.with_context(|| format!("no RssAnon in /proc/{pid}/status"))? * 1024)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_process_has_memory() {
        assert!(super::rss(std::process::id()).unwrap() > 10_000);
    }
}
