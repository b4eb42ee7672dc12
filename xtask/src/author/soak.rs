//! `soak`: every suite, many times, on a busy machine.
//!
//! A test that waits for the wrong thing passes on an idle machine and fails one time in fifty on a busy one.
//! This finds it before a reader does. The suites are built once; then each test program is run by itself.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::course::runner::{self, NEVER, Program};
use crate::course::{self, Day};

/// A run that takes longer hangs: it is killed, and counts as a failure.
const LIMIT: Duration = Duration::from_secs(120);

/// Spinning threads for each core, so that a test gets about a third of one.
const LOAD: usize = 2;

/// What the runs of one suite came to.
struct Tally {
    name: String,
    failures: u32,
    /// Of all runs, in seconds.
    times: Vec<f64>,
}

/// Runs every suite of `days` (of all days, if there are none) `runs` times. `false`: a run failed.
///
/// # Errors
///
/// A day does not exist, or the suites do not build.
pub(crate) fn run(root: &Path, runs: u32, days: &[&'static Day], load: bool) -> Result<bool> {
    let days = course::chosen(root, days)?;
    let programs = runner::build(root, &days, true, |line| errln!("{line}"))?;
    let programs = programs.map_err(|errors| anyhow!("the suites do not build\n{}", errors.join("\n")))?;
    let spinning = if load { LOAD * thread::available_parallelism().map_or(1, usize::from) } else { 0 };
    let done = AtomicBool::new(false);
    let tallies = thread::scope(|scope| {
        for _ in 0..spinning {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let tallies = programs.iter().map(|program| soak(program, runs)).collect::<Result<Vec<Tally>>>();
        done.store(true, Ordering::Relaxed);
        tallies
    })?;
    print(&tallies, runs);
    Ok(tallies.iter().all(|tally| tally.failures == 0))
}

fn soak(program: &Program, runs: u32) -> Result<Tally> {
    let name = format!("{} {}", program.krate, program.target);
    errln!("{name}: {runs} runs");
    let mut tally = Tally { name, failures: 0, times: Vec::new() };
    for number in 1..=runs {
        let start = Instant::now();
        let (status, output) = runner::watch(&mut program.command(), LIMIT, NEVER)?;
        tally.times.push(start.elapsed().as_secs_f64());
        let why = match status {
            Some(status) if status.success() => continue,
            Some(status) => status.to_string(),
            None => format!("killed after {} s", LIMIT.as_secs()),
        };
        tally.failures += 1;
        outln!("FAIL {}, run {number}: {why}\n{}\n{output}", tally.name, program.path.display());
    }
    Ok(tally)
}

fn print(tallies: &[Tally], runs: u32) {
    let width = tallies.iter().map(|tally| tally.name.len()).max().unwrap_or(0);
    outln!("{:width$}   runs  failures   fastest    median   slowest", "suite");
    for Tally { name, failures, times } in tallies {
        let mut times = times.clone();
        times.sort_by(f64::total_cmp);
        let at = |index: usize| times.get(index).map(|time| format!("{time:.2} s")).unwrap_or_default();
        let (fastest, median, slowest) = (at(0), at(times.len() / 2), at(times.len().saturating_sub(1)));
        outln!("{name:width$}  {runs:>5}  {failures:>8}  {fastest:>8}  {median:>8}  {slowest:>8}");
    }
}
