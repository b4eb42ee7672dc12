//! The goals: how fast the course should be. Each is a ratio, taken within one round, because the machine's spells are
//! the same for both sides then. A run says which are met; nothing here is a promise.

use crate::compare::Row;
use crate::load::Sample;
use crate::peers::Peer;
use crate::stats::Summary;
use crate::workload::{Placement, Workload};

/// Ours, as a multiple of theirs.
pub(crate) struct Goal {
    pub(crate) ours: Peer,
    pub(crate) theirs: Peer,
    pub(crate) workload: Workload,
    pub(crate) placement: Placement,
    pub(crate) metric: Metric,
    pub(crate) bound: Bound,
}

/// What is compared.
#[derive(Clone, Copy)]
pub(crate) enum Metric {
    CallsPerSecond,
    CpuPerCall,
    P99,
}

/// When a goal is met.
#[derive(Clone, Copy)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Metric {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Metric::CallsPerSecond => "calls/s",
            Metric::CpuPerCall => "CPU per call",
            Metric::P99 => "p99",
        }
    }

    fn of(self, sample: &Sample) -> f64 {
        match self {
            Metric::CallsPerSecond => sample.calls_per_second(),
            Metric::CpuPerCall => sample.cpu_per_call(),
            Metric::P99 => sample.p99,
        }
    }
}

impl Bound {
    pub(crate) fn is_met(self, ratio: f64) -> bool {
        match self {
            Bound::AtLeast(least) => ratio >= least,
            Bound::AtMost(most) => ratio <= most,
        }
    }

    pub(crate) fn text(self) -> String {
        match self {
            Bound::AtLeast(least) => format!("at least {least}"),
            Bound::AtMost(most) => format!("at most {most}"),
        }
    }
}

/// All goals.
pub(crate) fn all() -> Vec<Goal> {
    use Bound::{AtLeast, AtMost};
    use Metric::{CallsPerSecond, CpuPerCall, P99};
    use Peer::{FloorBare, FloorTasksYield, RrpcBincode, RrpcHttp, RrpcJson, TarpcBincode, TarpcJson, Tonic};
    use Placement::{Free, Pinned};
    use Workload::{Echo1M, Sum1, Sum64, Sum1000x1, Sum1000x16, Sum1024};

    let mut all = Vec::new();
    let mut add = |ours, theirs, metric, placement, bounds: &[(Workload, Bound)]| {
        all.extend(bounds.iter().map(|&(workload, bound)| Goal {
            ours,
            theirs,
            workload,
            placement,
            metric,
            bound,
        }));
    };
    let bounds = [(Sum1, AtLeast(1.4)), (Sum64, AtLeast(2.0)), (Sum1024, AtLeast(2.5))];
    add(RrpcBincode, TarpcBincode, CallsPerSecond, Free, &bounds);
    let bounds = [(Sum1, AtLeast(1.4)), (Sum64, AtLeast(1.8)), (Sum1024, AtLeast(2.0))];
    add(RrpcJson, TarpcJson, CallsPerSecond, Free, &bounds);
    let bounds = [(Sum1, AtLeast(6.0)), (Sum64, AtLeast(6.0)), (Sum1024, AtLeast(6.0))];
    add(RrpcBincode, Tonic, CallsPerSecond, Free, &bounds);
    let bounds = [(Sum1000x1, AtLeast(2.0)), (Sum1000x16, AtLeast(2.0))];
    add(RrpcBincode, TarpcBincode, CallsPerSecond, Free, &bounds);
    let bounds = [(Sum1000x1, AtLeast(4.0)), (Sum1000x16, AtLeast(4.0))];
    add(RrpcBincode, Tonic, CallsPerSecond, Free, &bounds);
    let bounds = [(Sum1, AtMost(0.8)), (Sum64, AtMost(0.5)), (Sum1024, AtMost(0.4))];
    add(RrpcBincode, TarpcBincode, CpuPerCall, Pinned, &bounds);
    let bounds = [(Sum1, AtMost(1.0)), (Sum64, AtMost(1.0)), (Sum1024, AtMost(1.0))];
    add(RrpcBincode, TarpcBincode, P99, Free, &bounds);
    let bounds = [(Sum64, AtMost(0.95)), (Sum1024, AtMost(0.8))];
    add(RrpcBincode, FloorTasksYield, CpuPerCall, Pinned, &bounds);
    let bounds = [(Sum1, AtMost(1.15)), (Sum64, AtMost(1.15)), (Sum1024, AtMost(1.15))];
    add(RrpcJson, RrpcBincode, CpuPerCall, Pinned, &bounds);
    add(RrpcBincode, FloorBare, CallsPerSecond, Free, &[(Echo1M, AtLeast(0.85))]);
    add(RrpcBincode, FloorBare, CpuPerCall, Pinned, &[(Echo1M, AtMost(1.11))]);
    add(RrpcBincode, TarpcBincode, CallsPerSecond, Free, &[(Echo1M, AtLeast(1.5))]);
    let bounds =
        [(Sum1, AtLeast(0.95)), (Sum64, AtLeast(0.95)), (Sum1024, AtLeast(0.95)), (Echo1M, AtLeast(0.95))];
    add(RrpcHttp, RrpcBincode, CallsPerSecond, Free, &bounds);
    all
}

impl Goal {
    /// The ratios of all rounds; `None` if the run did not measure both.
    pub(crate) fn ratio(&self, rows: &[Row]) -> Option<Summary> {
        self.ratio_of(self.ours, rows)
    }

    /// The same ratios of the bare floor: about what is possible with this kernel and this runtime. `None`, too, if
    /// the goal is not about another library.
    pub(crate) fn floor(&self, rows: &[Row]) -> Option<Summary> {
        match self.theirs {
            Peer::TarpcBincode | Peer::TarpcJson | Peer::Tonic => self.ratio_of(Peer::FloorBare, rows),
            _ => None,
        }
    }

    fn ratio_of(&self, peer: Peer, rows: &[Row]) -> Option<Summary> {
        let find = |peer, round| {
            rows.iter().find(|row| {
                (row.peer, row.round) == (peer, round)
                    && (row.workload, row.placement) == (self.workload, self.placement)
            })
        };
        let rounds = rows.iter().map(|row| row.round + 1).max()?;
        let ratio = |round| {
            let (peer, theirs) = (find(peer, round)?, find(self.theirs, round)?);
            Some(self.metric.of(&peer.sample) / self.metric.of(&theirs.sample))
        };
        Summary::of((0..rounds).filter_map(ratio))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(round: usize, peer: Peer, calls: u64) -> Row {
        let sample = Sample { calls, seconds: 1.0, ..Sample::default() };
        Row { round, placement: Placement::Free, workload: Workload::Sum1, peer, sample }
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // The machine is ten times as slow in the second round, and slower still in the third.
        let rows = [
            row(0, Peer::RrpcBincode, 200),
            row(0, Peer::TarpcBincode, 100),
            row(1, Peer::RrpcBincode, 20),
            row(1, Peer::TarpcBincode, 10),
            row(2, Peer::TarpcBincode, 2),
            row(2, Peer::RrpcBincode, 5),
        ];
        let goal = &all()[0];
        assert_eq!(goal.ratio(&rows), Some(Summary { median: 2.0, least: 2.0, most: 2.5 }));
        assert!(goal.bound.is_met(1.4) && !goal.bound.is_met(1.39));
        assert_eq!(goal.ratio(&rows[..1]), None);
    }

    #[test]
    fn the_floor_is_compared_with_libraries_only() {
        let rows =
            [row(0, Peer::RrpcBincode, 200), row(0, Peer::TarpcBincode, 100), row(0, Peer::FloorBare, 300)];
        let median = |goal: &Goal| goal.floor(&rows).map(|ratio| ratio.median);
        assert_eq!(median(&all()[0]), Some(3.0));
        let others = all().into_iter().filter(|goal| !matches!(goal.theirs, Peer::TarpcBincode));
        assert!(others.map(|goal| median(&goal)).all(|ratio| ratio.is_none()));
    }
}
