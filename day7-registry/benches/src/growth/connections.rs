//! More and more connections: idle ones that only take memory, and busy ones.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use day7_registry::Codec;
use tokio::task::JoinSet;

use super::{Order, Series, Subject};
use crate::compare;
use crate::load::{Plan, Sample};
use crate::machine;
use crate::peers::{Caller, Peer, rrpc};
use crate::process::Process;
use crate::report::thousands;
use crate::workload::{Placement, Workload};

/// Open files that a process needs for itself.
const OTHER_FILES: usize = 100;
/// How many connections are being made at the same time.
const AT_ONCE: usize = 64;

/// What an idle connection may take of the server's memory.
const MOST_KIB: f64 = 12.0;
/// How many busy connections.
const BUSY_SIZES: [usize; 4] = [1, 10, 100, 1000];

/// How many idle connections.
fn idle_sizes(quick: bool) -> &'static [usize] {
    if quick { &[1, 10, 100, 1000] } else { &[1, 10, 100, 1000, 10_000] }
}

/// Checks, before anything is measured, that the largest size will have enough open files: the server needs one for
/// each connection, and so does the client.
///
/// # Errors
/// The system allows too few.
pub(super) fn check_files(subjects: &[Subject], quick: bool) -> Result<()> {
    let needed = |quick| {
        let sizes = subjects.iter().flat_map(|subject| match subject {
            Subject::Idle => idle_sizes(quick),
            Subject::Busy => &BUSY_SIZES,
            Subject::Registry | Subject::Payload => &[],
        });
        sizes.max().map_or(0, |largest| largest + OTHER_FILES)
    };
    let (needed, with_quick, allowed) = (needed(quick), needed(true), machine::raise_file_limit()?);
    let mut hint = String::new();
    if with_quick < needed {
        hint = format!("; with --quick, {} suffice", thousands(with_quick as f64));
    }
    ensure!(
        needed as u64 <= allowed,
        "a process needs {} open files, as each connection is one, but the system allows it {} (ulimit -Hn){hint}",
        thousands(needed as f64),
        thousands(allowed as f64),
    );
    Ok(())
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

/// One call in flight on each of some connections.
fn measure(addr: SocketAddr, server: &Process, connections: usize, quick: bool) -> Result<Sample> {
    let duration = Duration::from_secs_f64(if quick { 0.1 } else { 1.0 });
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
            if dialing.len() >= AT_ONCE
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
