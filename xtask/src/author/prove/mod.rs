//! `prove`: the exercises and the labs do what they are there for.
//!
//! A suite is worth as much as the wrong solutions that it refuses. For every day:
//!
//! * **The exercise.** It compiles without warnings. A test that comes to a `todo!()` fails there, and all others pass:
//!   none of the day's own suite passes by luck, none hangs, or takes other tests along.
//! * **The steps.** How many functions each test needs that no earlier one did (see `steps`). The table of the stages
//!   (see `course::stages`) says the same.
//! * **Each stage alone.** As an exercise it compiles, and its tests come to a `todo!()` (see `alone`).
//! * **The labs.** With each of them, the test that is named fails, by itself. Without them it passes.
//!
//! That everything passes with the solution is what `cargo test` says.
//!
//! All of it happens in copies of the course (see `scratch`), and the days do not depend on each other: so the
//! exercises of all days are built at once (see `exercises`), and so are their labs (see `labs`).

mod alone;
mod exercises;
mod labs;
mod scratch;
mod steps;
mod variants;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::course::runner::{self, Broken, Outcome, Place, Program};
use crate::course::{self, Day, term};
use crate::learner::exercise::Part;

use scratch::Scratch;
use steps::Walls;

/// What is to be proved.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) exercises: bool,
    pub(crate) labs: bool,
    /// The exercises have their hardening stages, and with each lab all of the day's suite is run, not only the test
    /// that is named.
    pub(crate) full: bool,
    /// For each step the functions that it needs are listed.
    pub(crate) steps: bool,
    /// The table of the stages is written, and nothing else is done.
    pub(crate) write_stages: bool,
}

/// What is known of one day.
#[derive(Default)]
pub(crate) struct Row {
    pub(crate) tests: usize,
    pub(crate) failing: usize,
    /// Tests of the days before.
    pub(crate) earlier: usize,
    pub(crate) earlier_failing: usize,
    pub(crate) hung: usize,
    /// The test that took longest.
    pub(crate) slowest: Duration,
    pub(crate) labs: usize,
    pub(crate) caught: usize,
    pub(crate) walls: Option<Walls>,
}

/// What came of it all.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) rows: BTreeMap<u8, Row>,
    /// What must be put right, and how.
    pub(crate) wrong: Vec<String>,
    /// What was done, and the seconds that it took.
    pub(crate) phases: Vec<(String, Duration)>,
}

/// Proves the days of these numbers (all, if there are none), and prints what came of it. `false`: something
/// must be put right.
///
/// # Errors
///
/// A day does not exist, or its files cannot be read or copied.
pub(crate) fn run(root: &Path, days: &[&'static Day], wanted: Wanted) -> Result<bool> {
    let days = course::chosen(root, days)?;
    let mut report = Report::default();
    report.rows.extend(days.iter().map(|day| (day.number, Row::default())));
    if wanted.exercises {
        let part = if wanted.full { Part::All } else { Part::Core };
        exercises::prove(root, &days, part, &mut report)?;
        alone::compile(root, &days, &mut report)?;
    }
    if wanted.labs {
        labs::prove(root, &days, wanted, &mut report)?;
    }
    report.print(wanted);
    Ok(report.wrong.is_empty())
}

/// What has been built.
pub(crate) struct Built<'a> {
    pub(crate) programs: Vec<Program>,
    /// The days that do not compile, and why.
    pub(crate) broken: Vec<(&'a Day, Broken)>,
}

/// Builds the suites of these days.
///
/// # Errors
///
/// Cargo cannot be run.
pub(crate) fn build<'a>(
    scratch: &Scratch,
    days: &[&'a Day],
    what: &str,
    report: &mut Report,
) -> Result<Built<'a>> {
    let start = Instant::now();
    errln!("building {what}");
    let place = Place { root: &scratch.workspace, target_dir: Some(&scratch.target_dir) };
    let (mut programs, mut broken) = (Vec::new(), Vec::new());
    match runner::build(place, days, false, false, |_| {})? {
        Ok(built) => programs = built,
        Err(_) => {
            for day in days {
                match runner::build(place, &[*day], false, false, |_| {})? {
                    Ok(built) => programs.extend(built),
                    Err(why) => broken.push((*day, why)),
                }
            }
        }
    }
    report.phases.push((format!("building {what}"), start.elapsed()));
    Ok(Built { programs, broken })
}

/// Runs these tests, each in a process of its own.
///
/// # Errors
///
/// There is no such test, or its program cannot be run.
pub(crate) fn run_all(tests: &[(&Program, &str)]) -> Result<Vec<Outcome>> {
    let outcomes = runner::run_all(tests, runner::jobs(), runner::NEVER, |_, _| ControlFlow::Continue(()))?;
    Ok(outcomes.into_iter().flatten().collect())
}

/// The last lines of what a test printed.
pub(crate) fn tail(output: &str) -> String {
    const LINES: usize = 12;
    let lines: Vec<&str> = output.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LINES)..].iter().map(|line| format!("    | {line}\n")).collect()
}

impl Report {
    fn print(&self, wanted: Wanted) {
        outln!();
        for (what, time) in &self.phases {
            outln!("{:>7.1} s  {what}", time.as_secs_f64());
        }
        outln!();
        outln!("{:>3}  {:>15}  {:>15}  {:>4}  {:>12}  {:>8}", "", "own suite", "earlier suites", "", "", "");
        outln!(
            "{:>3}  {:>5}  {:>8}  {:>5}  {:>8}  {:>4}  {:>4}  {:>6}  {:>8}",
            "day",
            "tests",
            "failing",
            "tests",
            "failing",
            "hung",
            "labs",
            "caught",
            "slowest"
        );
        for (day, row) in &self.rows {
            outln!(
                "{day:>3}  {:>5}  {:>8}  {:>5}  {:>8}  {:>4}  {:>4}  {:>6}  {:>6.1} s",
                row.tests,
                row.failing,
                row.earlier,
                row.earlier_failing,
                row.hung,
                row.labs,
                row.caught,
                row.slowest.as_secs_f64()
            );
        }
        outln!();
        self.print_walls(wanted.steps);
        for wrong in &self.wrong {
            outln!("FAIL {wrong}");
        }
        match self.wrong.len() {
            0 => outln!("{}", wanted.proved()),
            count => outln!("{}", term::plural(count, "failure")),
        }
    }

    /// For each day how large its steps are; with `all`, which functions each step needs.
    fn print_walls(&self, all: bool) {
        for (day, row) in &self.rows {
            let Some(walls) = &row.walls else { continue };
            let functions = term::plural(walls.functions, "function");
            let (first, largest) = (walls.first(), walls.largest());
            outln!(
                "day {day}: {functions} of three lines and more, {first} until the first test, at most {largest} new ones in a step"
            );
            for (test, new) in walls.steps.iter().filter(|(_, new)| all && !new.is_empty()) {
                outln!("    {:>2}  {test}", new.len());
                for name in new {
                    outln!("            {name}");
                }
            }
            for name in walls.unreached.iter().filter(|_| all) {
                outln!("     -  no test: {name}");
            }
        }
        if self.rows.values().any(|row| row.walls.is_some()) {
            outln!();
        }
    }
}

impl Wanted {
    /// What has been proved, if nothing is wrong.
    fn proved(self) -> String {
        let exercises = "Every exercise compiles, and what needs its functions fails at a todo";
        let labs = "every lab is caught by the test that it names";
        match (self.exercises, self.labs) {
            _ if self.write_stages => "The stages are written.".to_owned(),
            (true, true) => format!("{exercises}, and {labs}."),
            (true, false) => format!("{exercises}."),
            _ => "Every lab is caught by the test that it names.".to_owned(),
        }
    }
}
