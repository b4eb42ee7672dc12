//! The comparison: every peer in the same run, in turns.
//!
//! The machine has fast and slow spells that last longer than one measurement and shorter than all of them. So
//! all peers are measured one after the other, and that again and again: a *round* is each of them once. Ratios
//! are taken within a round, and their median is what counts. Each measurement has two new processes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::load::{Plan, Sample};
use crate::machine;
use crate::peers::Peer;
use crate::process::{self, Process};
use crate::workload::{Placement, Workload};

/// What to compare.
pub(crate) struct Settings {
    pub(crate) rounds: usize,
    pub(crate) warm_up: Duration,
    pub(crate) duration: Duration,
    pub(crate) peers: Vec<Peer>,
    pub(crate) workloads: Vec<Workload>,
    pub(crate) placements: Vec<Placement>,
    /// What is measured: the machine, the day, and the revision of this tree, as they are when the run begins.
    pub(crate) machine: String,
    /// What a reader of the results must know about the machine's state.
    pub(crate) notice: String,
}

/// One measurement.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    pub(crate) round: usize,
    pub(crate) placement: Placement,
    pub(crate) workload: Workload,
    pub(crate) peer: Peer,
    pub(crate) sample: Sample,
}

/// Measures everything, and tells stderr how far it is.
///
/// # Errors
/// A peer does not work, or gave a wrong answer; or the system allows too few open files.
pub(crate) fn run(settings: &Settings) -> Result<Vec<Row>> {
    let Settings { rounds, peers, workloads, placements, .. } = settings;
    machine::check_files(workloads.iter().map(|workload| workload.connections()).max().unwrap_or(0))?;
    let total = rounds * peers.len() * workloads.len() * placements.len();
    let start = Instant::now();
    let mut rows: Vec<Row> = Vec::with_capacity(total);
    for round in 0..*rounds {
        for placement in placements.iter().copied() {
            for workload in workloads.iter().copied() {
                for peer in order(peers, round) {
                    let sample = measure(settings, placement, workload, peer)
                        .with_context(|| format!("{peer}, {workload}, {placement}"))?;
                    rows.push(Row { round, placement, workload, peer, sample });
                    let done = rows.len();
                    let left = start.elapsed().mul_f64((total - done) as f64 / done as f64).as_secs();
                    eprintln!(
                        "[{done:3}/{total}, {left:3} s left] round {} of {rounds}  {placement:<6}  {workload:<11}  \
                         {peer:<17} {:>9.0} calls/s  p50 {:>7.1} us  p99 {:>7.1} us  CPU {:>6.2} us",
                        round + 1,
                        sample.calls_per_second(),
                        sample.p50,
                        sample.p99,
                        sample.cpu_per_call(),
                    );
                }
            }
        }
    }
    Ok(rows)
}

/// The peers in the order of a round. Each round begins with another one, and every second round goes backwards:
/// else each peer would always follow the same one, and find the machine as that one leaves it.
fn order(peers: &[Peer], round: usize) -> Vec<Peer> {
    let mut order = peers.to_vec();
    order.rotate_left(round % peers.len());
    if !round.is_multiple_of(2) {
        order.reverse();
    }
    order
}

fn measure(settings: &Settings, placement: Placement, workload: Workload, peer: Peer) -> Result<Sample> {
    let (server, addr) = serve(peer, placement)?;
    let Settings { warm_up, duration, .. } = settings;
    let connections = workload.connections();
    let plan = Plan { workload, connections, warm_up: *warm_up, duration: *duration };
    load(peer, addr, &server, placement, plan)
}

/// Measures a peer with a client in a process of its own.
pub(crate) fn load(
    peer: Peer,
    addr: SocketAddr,
    server: &Process,
    placement: Placement,
    plan: Plan,
) -> Result<Sample> {
    let args = [
        "load".to_owned(),
        peer.to_string(),
        addr.to_string(),
        server.id().to_string(),
        plan.workload.to_string(),
        format!("--connections={}", plan.connections),
        format!("--cores={}", placement.cores()),
        format!("--warm-up={}", plan.warm_up.as_secs_f64()),
        format!("--seconds={}", plan.duration.as_secs_f64()),
    ];
    // A call may take its time at the end; a peer that hangs is told from one that is slow.
    let limit = plan.warm_up + plan.duration + Duration::from_secs(60);
    let output = process::run(&args, limit).context("the client's process")?;
    serde_json::from_str(&output).with_context(|| format!("the client's answer is no sample: {output}"))
}

/// Starts a peer's server in a process of its own.
pub(crate) fn serve(peer: Peer, placement: Placement) -> Result<(Process, SocketAddr)> {
    let args = ["serve".to_owned(), peer.to_string(), format!("--cores={}", placement.cores())];
    let mut server = Process::start(&args)?;
    let addr = server.line().context("the server's process")?;
    let addr = addr.parse().with_context(|| format!("the server's answer is no address: {addr}"))?;
    Ok((server, addr))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_has_all_peers_and_not_always_the_same_one_before_each() {
        let rounds: Vec<_> = (0..5).map(|round| order(&Peer::ALL, round)).collect();
        for peer in Peer::ALL {
            let before = |order: &Vec<Peer>| {
                let place = order.iter().position(|other| *other == peer).unwrap();
                place.checked_sub(1).map(|before| order[before].to_string())
            };
            let before: std::collections::HashSet<_> = rounds.iter().filter_map(before).collect();
            assert!(before.len() > 1, "{peer} comes only after {before:?}");
        }
    }
}
