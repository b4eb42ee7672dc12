//! The course's own tools, run as `cargo xtask …`.
//!
//! The seven days are seven full copies of a growing program, and the difference between two of them
//! is a lesson. Copies drift; these tools keep them from drifting.
//!
//! * [`course`]: the table of the seven days, their files, suites and chapters, and how they are built and run.
//! * [`learner`]: `check`, `diff`, `exercise` and `lab`, which a learner uses.
//! * [`author`]: `cargo xtask author …`, which keeps the course in order.
//!
//! Read [`course`] first, then [`course::carry`] (what a day's text reads like in another day).
#![warn(clippy::print_stdout, clippy::print_stderr)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, value_parser};

#[macro_use]
mod course; // first, as its macros are known only below

mod author;
mod learner;

use author::{book, chaos, days, demos, forward, prove, soak};
use course::Day;
use learner::exercise::{self, Part};
use learner::{check, diff, lab};

/// The course's own tools.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the suite of day N, and show its steps, how far you are, and the first step to work on
    ///
    /// Without a day, all seven at a glance. A step is `ok`; `FAILED`, if it came to a wrong result; `HUNG`, if it
    /// did not end; and `todo`, if it came to a function that is not written yet. When all steps of a day are
    /// passed, the suites of the days before are run as well. The exit code is 0 if all passed.
    Check {
        /// The day
        #[arg(value_name = "DAY", value_parser = course::parse)]
        day: Option<&'static Day>,
        /// Only this step, or only this stage, by its name
        #[arg(value_name = "STEP")]
        only: Option<String>,
        /// Tell of the first step that is not passed what it wants, why, and a hint
        #[arg(long, requires = "day")]
        hint: bool,
        /// Run again whenever a file of the day is saved, until Ctrl-C
        #[arg(long, requires = "day")]
        watch: bool,
    },
    /// Show what day N adds to the day before: the diff of src/ and Cargo.toml, with the crate's name translated
    Diff {
        /// The day
        #[arg(value_name = "DAY", value_parser = course::parse)]
        day: &'static Day,
    },
    /// Turn day N into an exercise: the bodies of its new and changed functions become `todo!()`
    ///
    /// It is done in place, in the day's crate; docs, signatures and types stay, and functions of one or two lines. The
    /// rest becomes the course's solution. git keeps what was there, so the crate must have no uncommitted work.
    Exercise {
        /// The day to do
        #[arg(value_name = "DAY", value_parser = course::parse)]
        day: &'static Day,
        /// Only this stage, such as frames; all other functions are given
        #[arg(long, value_name = "NAME", conflicts_with = "all")]
        stage: Option<String>,
        /// The hardening stages, too
        #[arg(long)]
        all: bool,
    },
    /// List day N's "break it" labs, or put one into its crate: which test will fail, and why?
    ///
    /// A lab is one small defect in one file of the course's solution, so that is what must be there.
    Lab {
        /// The day
        #[arg(value_name = "DAY", value_parser = course::parse)]
        day: &'static Day,
        /// The lab's number in the list
        #[arg(value_name = "LAB")]
        number: Option<usize>,
        /// Only say which test fails, and why; change nothing
        #[arg(long, requires = "number")]
        answer: bool,
    },
    /// Make a site of the course, in target/book: chapters, code, diffs, suites and labs
    Book,
    /// Put day 7 under random faults: is a call ever lost, does one ever run twice?
    ///
    /// A registry and four servers, each a process, and eight clients that call them all the time. Servers and registry
    /// are killed, stopped (SIGSTOP) and restarted. At the end there is a table, and the exit code is 1 if a promise
    /// was broken.
    Chaos {
        /// How long faults happen
        #[arg(long, default_value_t = 60, value_parser = value_parser!(u64).range(1..=86_400))]
        seconds: u64,
        /// Where the random choices come from; without it, each run has its own
        #[arg(long)]
        seed: Option<u64>,
    },
    /// What keeps the course in order; a learner needs none of it
    #[command(subcommand)]
    Author(Author),
}

#[derive(Subcommand)]
enum Author {
    /// Show each day against the day before, and fail where a diff is more than its lesson, or an import breaks a layer
    Days {
        /// Only this day
        #[arg(value_name = "DAY", value_parser = course::parse)]
        day: Option<&'static Day>,
    },
    /// Run each day's demo to its end, and fail where a chapter shows what its demo does not print
    Demos {
        /// Only these days
        #[arg(value_name = "DAY", value_parser = course::parse)]
        days: Vec<&'static Day>,
    },
    /// Carry a change made in day N into every later day, by a three-way merge
    ///
    /// The change is what differs between REV and the files on disk. Paths stay as they are; the crate's name
    /// in the text becomes the later day's. Conflicts are left in the files with markers, and the exit code
    /// is 1. Each day's README.md and src/main.rs are its own and stay behind.
    Forward {
        /// The day that was changed
        #[arg(value_name = "DAY", value_parser = course::parse)]
        day: &'static Day,
        /// What the change is measured against: a commit, or a tree such as `git write-tree` prints
        #[arg(long, value_name = "REV", default_value = "HEAD")]
        base: String,
        /// Carry README.md and src/main.rs too
        #[arg(long)]
        all: bool,
    },
    /// Prove that every exercise fails its suite, and that every lab is caught
    ///
    /// It works in a copy of the course, in target/prove. Exercises: they compile without warnings, also each stage alone;
    /// a test that comes to a `todo!()` fails there, and none hangs. Labs: with each of them the test that it names fails, and without
    /// them it passes. What each stage asks for is in xtask/stages.toml.
    Prove {
        /// Only this day (may be given again)
        #[arg(long = "day", value_name = "DAY", value_parser = course::parse)]
        days: Vec<&'static Day>,
        /// Exercises with the hardening stages, and with each stage alone and each lab all of the day's suite
        #[arg(long)]
        full: bool,
        /// List for each step the functions that it needs and no earlier step did
        #[arg(long)]
        steps: bool,
        /// Write what each stage asks for into xtask/stages.toml, and do nothing else
        #[arg(long)]
        write_stages: bool,
    },
    /// Run every suite many times on a busy machine, and report failures and times
    Soak {
        /// How many times each suite is run
        #[arg(long, default_value_t = 50, value_parser = value_parser!(u32).range(1..))]
        runs: u32,
        /// Only this day's suites (may be given again)
        #[arg(long = "day", value_name = "DAY", value_parser = course::parse)]
        days: Vec<&'static Day>,
        /// Run on the machine as it is, and not with two spinning threads a core
        #[arg(long)]
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
        Command::Check { day: Some(day), only, hint, watch } => {
            let wanted = check::Wanted { day, only: only.as_deref(), hint };
            if watch { check::watch(&root, wanted) } else { check::day(&root, wanted) }
        }
        Command::Diff { day } => diff::run(&root, day),
        Command::Exercise { day, stage, all } => {
            let core = if all { Part::All } else { Part::Core };
            exercise::run(&root, day, stage.as_deref().map_or(core, Part::Stage))
        }
        Command::Lab { day, number: None, answer: _ } => lab::list(&root, day),
        Command::Lab { day, number: Some(number), answer: true } => lab::answer(&root, day, number),
        Command::Lab { day, number: Some(number), answer: false } => lab::apply(&root, day, number),
        Command::Book => book::run(&root),
        Command::Chaos { seconds, seed } => chaos::run(&root, seconds, seed),
        Command::Author(Author::Days { day }) => days::run(&root, day),
        Command::Author(Author::Demos { days }) => demos::run(&root, &days),
        Command::Author(Author::Forward { day, base, all }) => forward::run(&root, day, &base, all),
        Command::Author(Author::Prove { days, full, steps, write_stages }) => {
            prove::run(&root, &days, prove::Wanted { full, steps, write_stages })
        }
        Command::Author(Author::Soak { runs, days, no_load }) => soak::run(&root, runs, &days, !no_load),
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
