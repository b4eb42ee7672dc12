//! `prove`: the exercises and the labs do what they are there for.
//!
//! A suite is worth as much as the wrong solutions that it refuses. For every day:
//!
//! * **The exercise.** It compiles without warnings, and so does each stage alone (see `compile`). A test that comes to a
//!   `todo!()` fails there, and all others pass: none of the day's own suite passes by luck, none hangs, or takes other
//!   tests along. The tests of a stage alone come to a `todo!()`, too.
//! * **The steps.** How many functions each test needs that no earlier one did (see `steps`). The table of the stages
//!   (see `course::stages`) says the same.
//! * **The labs.** With each of them, the test that is named fails, by itself. Without them it passes.
//!
//! That everything passes with the solution is what `cargo test` says.
//!
//! Compiling is what takes time. So each day is built once, in a copy of the course (see `scratch`), and the environment
//! says which functions are a `todo!()` and which lab is meant (see `subject`). Then the tests of all days are run side
//! by side (see `trial`).

mod compile;
mod scratch;
mod steps;
mod subject;
mod trial;
mod variants;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::course::tree::{self, Tree};
use crate::course::{self, Day, is_library, term};
use crate::learner::exercise::{self, Exercise, Part};

use steps::Walls;

/// What is to be proved.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    /// The exercises have their hardening stages, and with each stage alone and each lab all of the day's suite is run,
    /// not only the tests of the stage, or the one that the lab names.
    pub(crate) full: bool,
    /// For each step the functions that it needs are listed.
    pub(crate) steps: bool,
    /// The table of the stages is written, and nothing else is done.
    pub(crate) write_stages: bool,
}

/// A day's files, and those of the day before as this day would have them.
struct Source {
    day: &'static Day,
    after: Tree,
    before: Option<Tree>,
}

/// Tests that were run on the exercise of a day.
#[derive(Default)]
struct Count {
    tests: usize,
    failing: usize,
}

/// What is known of one day.
#[derive(Default)]
struct Row {
    own: Count,
    /// Of the days before, where the day changes what they test.
    earlier: Count,
    hung: usize,
    /// The test that took longest.
    slowest: Duration,
    labs: usize,
    caught: usize,
    walls: Option<Walls>,
}

/// What came of it all.
#[derive(Default)]
struct Report {
    rows: BTreeMap<u8, Row>,
    /// What must be put right, and how.
    wrong: Vec<String>,
}

/// Proves these days (all, if there are none), and prints what came of it. `false`: something must be put right.
///
/// # Errors
///
/// A day does not exist, or its files cannot be read or copied.
pub(crate) fn run(root: &Path, days: &[&'static Day], wanted: Wanted) -> Result<bool> {
    let days = course::chosen(root, days)?;
    let mut report = Report::default();
    report.rows.extend(days.iter().map(|day| (day.number, Row::default())));
    let sources = days.iter().map(|day| Source::read(root, day)).collect::<Result<Vec<_>>>()?;
    if !wanted.write_stages {
        compile::exercises(root, &sources, wanted, &mut report)?;
    }
    let subjects = subject::build(root, &sources, wanted, &mut report)?;
    trial::run(root, &subjects, wanted, &mut report)?;
    report.print(wanted);
    Ok(report.wrong.is_empty())
}

impl Wanted {
    /// What is the exercise of a day.
    fn part(self) -> Part<'static> {
        if self.full { Part::All } else { Part::Core }
    }
}

impl Source {
    fn read(root: &Path, day: &'static Day) -> Result<Source> {
        let after = tree::read(root, day)?;
        let before = match day.before().filter(|before| before.exists(root)) {
            Some(before) => Some(tree::carried(root, &tree::read(root, before)?, before, day, &after)),
            None => None,
        };
        Ok(Source { day, after, before })
    }

    fn exercise(&self, root: &Path, part: Part<'_>) -> Result<Exercise> {
        Ok(exercise::plan(root, self.day, self.before.as_ref(), &self.after, part)?.1)
    }

    /// Whether the library of the day before has changed. If it only has new files beside it, no test of the days before
    /// comes to a function of the day.
    fn changes_library(&self) -> bool {
        let mut library = self.before.iter().flatten().filter(|(path, _)| is_library(path));
        library.any(|(path, text)| self.after.get(path) != Some(text))
    }

    /// With all functions that an exercise may leave to the learner.
    fn everything(&self) -> Result<Exercise> {
        exercise::make(self.day, self.before.as_ref(), &self.after, |_| true)
    }
}

impl Report {
    fn print(&self, wanted: Wanted) {
        outln!();
        outln!("           own suite   earlier suites");
        outln!("day  tests   failing  tests   failing  hung  labs  caught   slowest");
        for (day, Row { own, earlier, hung, slowest, labs, caught, .. }) in &self.rows {
            let slowest = slowest.as_secs_f64();
            outln!(
                "{day:>3}  {:>5}  {:>8}  {:>5}  {:>8}  {hung:>4}  {labs:>4}  {caught:>6}  {slowest:>6.1} s",
                own.tests,
                own.failing,
                earlier.tests,
                earlier.failing,
            );
        }
        outln!();
        self.print_walls(wanted.steps);
        for wrong in &self.wrong {
            outln!("FAIL {wrong}");
        }
        match self.wrong.len() {
            0 if wanted.write_stages => outln!("The stages are written."),
            0 => outln!(
                "Every exercise compiles, and what needs its functions fails at a todo; \
                 every lab is caught by the test that it names."
            ),
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
