//! The table at the end.

use std::fmt;

use crate::calls::Calls;
use crate::faults::Faults;
use crate::process::Usage;

/// What happened, and whether it is what was promised.
pub(crate) struct Verdict {
    faults: [Faults; 2],
    calls: Vec<(u64, String)>,
    checks: Vec<(bool, String)>,
}

impl Verdict {
    /// `ran`: the sorted ids of the calls that a server has run.
    pub(crate) fn new(faults: [Faults; 2], calls: &Calls, ran: Vec<u64>) -> Verdict {
        let mut table = vec![(calls.ok.len() as u64, "ok".to_owned())];
        for ((kind, may_have_run), count) in &calls.failed {
            let may_have_run = if *may_have_run { "may have run" } else { "has not run" };
            table.push((*count, format!("{kind} ({may_have_run})")));
        }
        let mut verdict = Verdict { faults, calls: table, checks: Vec::new() };
        let has_run = |id: &&u64| ran.binary_search(id).is_ok();
        let missing = calls.ok.len() - calls.ok.iter().filter(has_run).count();
        let twice = ran.windows(2).filter(|pair| pair[0] == pair[1]).count();
        let denied = calls.not_run.iter().filter(has_run).count();
        verdict.check("some calls have succeeded", !calls.ok.is_empty());
        verdict.none("calls returned Ok and were not run", missing as u64);
        verdict.none("calls ran twice", twice as u64);
        verdict.none("calls ran, and their error says that they did not", denied as u64);
        verdict.none("calls got the reply of another call", calls.mixed_up);
        verdict.none("calls failed once the faults were over, in a rolling restart", calls.failed_in_calm);
        verdict
    }

    /// The clients at rest, before and after the faults, with the same load.
    pub(crate) fn usage(&mut self, before: Usage, after: Usage) {
        let Usage { descriptors, mebibytes } = before;
        self.check(
            &format!("descriptors of the clients under load: {descriptors}, then {}", after.descriptors),
            after.descriptors <= descriptors + 16,
        );
        self.check(
            &format!("memory of the clients under load: {mebibytes} MiB, then {} MiB", after.mebibytes),
            after.mebibytes <= mebibytes + 32,
        );
    }

    fn none(&mut self, what: &str, count: u64) {
        self.check(&format!("{count} {what}"), count == 0);
    }

    pub(crate) fn check(&mut self, what: &str, is_good: bool) {
        self.checks.push((is_good, what.to_owned()));
    }

    pub(crate) fn is_good(&self) -> bool {
        self.checks.iter().all(|(is_good, _)| *is_good)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "   faults  killed  stopped  restarted in an orderly way")?;
        for (who, faults) in ["servers", "registry"].iter().zip(self.faults) {
            let Faults { kills, stops, restarts } = faults;
            writeln!(f, "{who:>9}  {kills:>6}  {stops:>7}  {restarts:>9}")?;
        }
        writeln!(f, "\n    calls")?;
        for (count, outcome) in &self.calls {
            writeln!(f, "{count:>9}  {outcome}")?;
        }
        writeln!(f, "\n   checks")?;
        for (is_good, what) in &self.checks {
            writeln!(f, "{:>9}  {what}", if *is_good { "ok" } else { "FAILED" })?;
        }
        Ok(())
    }
}
