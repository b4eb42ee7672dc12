//! What the course claims about its speed: ratios, each taken within one round, because the machine's spells are
//! the same for both sides then.

use crate::compare::Row;
use crate::load::Sample;
use crate::peers::Peer;
use crate::stats::Summary;
use crate::workload::{Placement, Workload};

/// Ours, as a multiple of theirs.
pub(crate) struct Claim {
    pub(crate) ours: Peer,
    pub(crate) theirs: Peer,
    pub(crate) workload: Workload,
    pub(crate) placement: Placement,
    pub(crate) metric: Metric,
    pub(crate) goal: Goal,
}

/// What is compared.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Metric {
    CallsPerSecond,
    CpuPerCall,
    P99,
}

/// When the claim holds.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
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

impl Goal {
    pub(crate) fn holds(self, ratio: f64) -> bool {
        match self {
            Goal::AtLeast(least) => ratio >= least,
            Goal::AtMost(most) => ratio <= most,
        }
    }

    pub(crate) fn text(self) -> String {
        match self {
            Goal::AtLeast(least) => format!("at least {least}"),
            Goal::AtMost(most) => format!("at most {most}"),
        }
    }
}

/// All claims.
pub(crate) fn all() -> Vec<Claim> {
    use Goal::{AtLeast, AtMost};
    use Metric::{CallsPerSecond, CpuPerCall, P99};
    use Peer::{FloorBare, RrpcBincode, RrpcHttp, RrpcJson, TarpcBincode, TarpcJson, Tonic};
    use Placement::{Free, Pinned};
    use Workload::{Echo1M, Sum1, Sum64, Sum1024};

    let mut claims = Vec::new();
    let mut claim = |ours, theirs, metric, placement, goals: &[(Workload, Goal)]| {
        claims.extend(goals.iter().map(|&(workload, goal)| Claim {
            ours,
            theirs,
            workload,
            placement,
            metric,
            goal,
        }));
    };
    let goals = [(Sum1, AtLeast(1.4)), (Sum64, AtLeast(2.0)), (Sum1024, AtLeast(2.5))];
    claim(RrpcBincode, TarpcBincode, CallsPerSecond, Free, &goals);
    let goals = [(Sum1, AtLeast(1.4)), (Sum64, AtLeast(1.8)), (Sum1024, AtLeast(2.0))];
    claim(RrpcJson, TarpcJson, CallsPerSecond, Free, &goals);
    let goals = [(Sum1, AtLeast(6.0)), (Sum64, AtLeast(6.0)), (Sum1024, AtLeast(6.0))];
    claim(RrpcBincode, Tonic, CallsPerSecond, Free, &goals);
    let goals = [(Sum1, AtMost(0.8)), (Sum64, AtMost(0.5)), (Sum1024, AtMost(0.4))];
    claim(RrpcBincode, TarpcBincode, CpuPerCall, Pinned, &goals);
    let goals = [(Sum1, AtMost(1.0)), (Sum64, AtMost(1.0)), (Sum1024, AtMost(1.0))];
    claim(RrpcBincode, TarpcBincode, P99, Free, &goals);
    claim(RrpcBincode, FloorBare, CallsPerSecond, Free, &[(Echo1M, AtLeast(0.6))]);
    claim(RrpcBincode, TarpcBincode, CallsPerSecond, Free, &[(Echo1M, AtLeast(1.5))]);
    let goals =
        [(Sum1, AtLeast(0.95)), (Sum64, AtLeast(0.95)), (Sum1024, AtLeast(0.95)), (Echo1M, AtLeast(0.95))];
    claim(RrpcHttp, RrpcBincode, CallsPerSecond, Free, &goals);
    claims
}

impl Claim {
    /// The ratios of all rounds; `None` if the run did not measure both.
    pub(crate) fn ratio(&self, rows: &[Row]) -> Option<Summary> {
        let find = |peer, round| {
            rows.iter().find(|row| {
                (row.peer, row.round) == (peer, round)
                    && (row.workload, row.placement) == (self.workload, self.placement)
            })
        };
        let rounds = rows.iter().map(|row| row.round + 1).max()?;
        let ratio = |round| {
            let (ours, theirs) = (find(self.ours, round)?, find(self.theirs, round)?);
            Some(self.metric.of(&ours.sample) / self.metric.of(&theirs.sample))
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
        let claim = &all()[0];
        assert_eq!(claim.ratio(&rows), Some(Summary { median: 2.0, least: 2.0, most: 2.5 }));
        assert!(claim.goal.holds(1.4) && !claim.goal.holds(1.39));
        assert_eq!(claim.ratio(&rows[..1]), None);
    }
}
