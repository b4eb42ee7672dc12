//! The course's own tools, run as `cargo xtask …`.
//!
//! The seven days are seven full copies of a growing program, and the difference between two of them
//! is a lesson. Copies drift; these tools keep them from drifting.
//!
//! | command | what it does | in |
//! |---|---|---|
//! | `check [N]` | runs day N's suite and shows what is next | [`check`] |
//! | `forward N` | carries a change made in day N into every later day | [`forward`] |
//! | `days [N]` | shows what each day adds, and fails where a diff is more than its lesson, or an import breaks a layer | [`days`] |
//! | `exercise N` | takes the bodies of day N's functions out, for a learner to write them | [`exercise`] |
//! | `lab N [K]` | puts one small defect into day N, to be found by its suite | [`lab`] |
//! | `prove` | tries out all exercises and labs, in a copy of the course | [`prove`] |
//! | `soak` | runs the suites again and again on a busy machine | [`soak`] |
//!
//! Read [`course`] first (the table of the seven days), then [`carry`] (what a day's text reads like in
//! another day). [`tree`] holds a day's files in memory, [`checks`], [`layers`] and [`readme`] say what is
//! wrong with them. [`suites`] reads the suites, [`runner`] builds and runs them. [`blank`] takes the bodies of functions
//! out, [`variants`] gives them several. [`screen`] writes what people read.
#![warn(clippy::print_stdout, clippy::print_stderr)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, value_parser};

#[macro_use]
mod screen; // first, as its macros are known only below

mod blank;
mod carry;
mod chapter;
mod check;
mod checks;
mod course;
mod days;
mod done;
mod exercise;
mod forward;
mod git;
mod lab;
mod ladder;
mod layers;
mod panics;
mod prove;
mod prove_exercises;
mod prove_labs;
mod readme;
mod runner;
mod scratch;
mod soak;
mod suites;
mod tree;
mod variants;

/// The course's own tools.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Carry a change made in day N into every later day, by a three-way merge
    ///
    /// The change is what differs between REV and the files on disk. Paths stay as they are; the crate's name
    /// in the text becomes the later day's. Conflicts are left in the files with markers, and the exit code
    /// is 1. Each day's README.md and src/main.rs are its own and stay behind.
    Forward {
        /// The day that was changed
        #[arg(value_name = "DAY", value_parser = value_parser!(u8).range(1..=6))]
        day: u8,
        /// What the change is measured against: a commit, or a tree such as `git write-tree` prints
        #[arg(long, value_name = "REV", default_value = "HEAD")]
        base: String,
        /// Carry README.md and src/main.rs too
        #[arg(long)]
        all: bool,
    },
    /// Run the suite of day N, and show its steps, how far you are, and the first step to work on
    ///
    /// Without a day, all seven at a glance. A step is `ok`; `FAILED`, if it came to a wrong result; `HUNG`, if it
    /// did not end; and `todo`, if it came to a function that is not written yet. When all steps of a day are
    /// passed, the suites of the days before are run as well. The exit code is 0 if all passed.
    Check {
        /// The day
        #[arg(value_name = "DAY", value_parser = value_parser!(u8).range(1..=7))]
        day: Option<u8>,
        /// Tell of the first step that is not passed what it wants, why, and a hint
        #[arg(long, requires = "day")]
        hint: bool,
        /// Run again whenever a file of the day is saved, until Ctrl-C
        #[arg(long, requires = "day")]
        watch: bool,
    },
    /// Show each day against the day before, and fail where a diff is more than its lesson, or an import breaks a layer
    Days {
        /// Only this day
        #[arg(value_name = "DAY", value_parser = value_parser!(u8).range(1..=7))]
        day: Option<u8>,
        /// Print the lesson itself: the diff of src/ and Cargo.toml, with the crate's name translated
        #[arg(long, requires = "day")]
        diff: bool,
    },
    /// Turn day N into an exercise: the bodies of its new and changed functions become `todo!()`
    ///
    /// It is done in place, in the day's crate; docs, signatures and types stay. git keeps the solution, so the
    /// crate must have no uncommitted work. The message says how to see the solution, and how to get it back.
    Exercise {
        /// The day to do
        #[arg(value_name = "DAY", value_parser = value_parser!(u8).range(1..=7))]
        day: u8,
        /// Only this file of the day, such as client/mod.rs
        #[arg(long, value_name = "FILE")]
        only: Option<String>,
    },
    /// List day N's "break it" labs, or put one into its crate: which test will fail, and why?
    ///
    /// A lab is one small defect in one file. The file must have no uncommitted work, so that `git restore` heals
    /// it.
    Lab {
        /// The day
        #[arg(value_name = "DAY", value_parser = value_parser!(u8).range(1..=7))]
        day: u8,
        /// The lab's number in the list
        #[arg(value_name = "LAB")]
        number: Option<usize>,
        /// Only say which test fails, and why; change nothing
        #[arg(long, requires = "number")]
        answer: bool,
    },
    /// Prove that every exercise fails its suite, and that every lab is caught
    ///
    /// It works in a copy of the course, in target/prove. Exercises: they compile without warnings; every test of
    /// the day's own suite fails, none hangs; tests of earlier days fail only where the day changes a function.
    /// Labs: with each of them the test that it names fails, and without them it passes.
    Prove {
        /// Only this day (may be given again)
        #[arg(long = "day", value_name = "DAY", value_parser = value_parser!(u8).range(1..=7))]
        days: Vec<u8>,
        /// Only the exercises
        #[arg(long, conflicts_with = "labs")]
        exercises: bool,
        /// Only the labs
        #[arg(long)]
        labs: bool,
        /// With each lab run all of the day's suite, not only the test that the lab names
        #[arg(long, conflicts_with = "exercises")]
        full: bool,
    },
    /// Run every suite many times on a busy machine, and report failures and times
    Soak {
        /// How many times each suite is run
        #[arg(long, default_value_t = 50, value_parser = value_parser!(u32).range(1..))]
        runs: u32,
        /// Only this day's suites (may be given again)
        #[arg(long = "day", value_name = "DAY", value_parser = value_parser!(u8).range(1..=7))]
        days: Vec<u8>,
        /// Keep every core busy with two spinning threads (the default)
        #[arg(long, overrides_with = "no_load")]
        load: bool,
        /// Run on the machine as it is
        #[arg(long, overrides_with = "load")]
        no_load: bool,
    },
}

fn main() -> ExitCode {
    match run(Args::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            errln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `Ok(false)`: the command did its work and found something wrong, which it has already reported.
fn run(command: Command) -> Result<bool> {
    let root = workspace_root(&std::env::current_dir().context("there is no current directory")?)?;
    match command {
        Command::Check { day: None, .. } => check::all(&root),
        Command::Check { day: Some(day), hint, watch: false } => check::day(&root, course::day(day)?, hint),
        Command::Check { day: Some(day), hint, watch: true } => check::watch(&root, course::day(day)?, hint),
        Command::Forward { day, base, all } => forward::run(&root, course::day(day)?, &base, all),
        Command::Days { day: Some(day), diff: true } => days::diff(&root, course::day(day)?),
        Command::Days { day, diff: _ } => days::run(&root, day),
        Command::Exercise { day, only } => exercise::run(&root, course::day(day)?, only.as_deref()),
        Command::Lab { day, number: None, answer: _ } => lab::list(&root, course::day(day)?),
        Command::Lab { day, number: Some(number), answer: true } => {
            lab::answer(&root, course::day(day)?, number)
        }
        Command::Lab { day, number: Some(number), answer: false } => {
            lab::apply(&root, course::day(day)?, number)
        }
        Command::Prove { days, exercises, labs, full } => {
            let wanted = prove::Wanted { exercises: !labs, labs: !exercises, full };
            prove::run(&root, &days, wanted)
        }
        Command::Soak { runs, days, load: _, no_load } => soak::run(&root, runs, &days, !no_load),
    }
}

/// The nearest directory from here upwards with a workspace manifest.
///
/// Asked of the current directory and not of the place where this program was built, so that the tool's tests
/// can run it on a small course of their own; and not of git, so that `days` also works on an unpacked
/// archive.
fn workspace_root(from: &Path) -> Result<PathBuf> {
    let is_root = |dir: &&Path| {
        let manifest = std::fs::read_to_string(dir.join("Cargo.toml")).unwrap_or_default();
        manifest.lines().any(|line| line.trim() == "[workspace]")
    };
    let root = from.ancestors().find(is_root);
    root.map(Path::to_path_buf).with_context(|| {
        format!("no Cargo.toml with a [workspace] in {} or above: run this inside the course", from.display())
    })
}
