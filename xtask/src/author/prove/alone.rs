//! Each stage of a day as an exercise of its own.
//!
//! It compiles, which is tried out in rounds: the first stage of every day, then the second, and so on. And its tests
//! come to a `todo!()`, without one that hangs or takes others along. For that nothing is built: the functions of the
//! stage are unwritten by a variable, in the programs that the labs are tried out with (see `steps`).

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::author::prove::exercises::judge;
use crate::author::prove::scratch::Scratch;
use crate::author::prove::{Report, run_all, steps};
use crate::course::failures::{Finding, Step};
use crate::course::runner::{Outcome, Program};
use crate::course::stages::{self, Stage};
use crate::course::{Day, tree};
use crate::learner::exercise::{self, Part};

/// Compiles the library of each stage's exercise.
///
/// # Errors
///
/// A file cannot be read or written, or cargo cannot be run.
pub(crate) fn compile(root: &Path, days: &[&'static Day], report: &mut Report) -> Result<()> {
    let start = Instant::now();
    let scratch = Scratch::new(root, "stages", days)?;
    let mut to_do: Vec<(&Day, Vec<Stage>)> = Vec::new();
    for day in days {
        let mut stages = stages::read(root, day)?;
        stages.retain(|stage| !stage.functions.is_empty());
        to_do.push((day, stages));
    }
    let rounds = to_do.iter().map(|(_, stages)| stages.len()).max().unwrap_or(0);
    errln!("compiling each stage alone");
    for round in 0..rounds {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        cargo.args(["check", "--quiet", "--lib", "--keep-going"]);
        let mut names = Vec::new();
        for (day, stages) in &to_do {
            let Some(stage) = stages.get(round) else { continue };
            let after = tree::read(root, day)?;
            let before = steps::before(root, day, &after)?;
            let part = Part::Stage(&stage.name);
            let (_, exercise) = exercise::plan(root, day, before.as_ref(), &after, part)?;
            scratch.put(root, day, &exercise.tree)?;
            cargo.args(["--package", day.name]);
            names.push(format!("{} {}", day.name, stage.name));
        }
        let target = scratch.target_dir.as_os_str();
        let output = cargo
            .current_dir(&scratch.workspace)
            .env("CARGO_TARGET_DIR", target)
            .env("CARGO_INCREMENTAL", "1")
            .stdin(Stdio::null());
        let output = output.output().context("cannot run cargo")?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() || !said.trim().is_empty() {
            report.wrong.push(format!("one of these stages alone: {}:\n{said}", names.join(", ")));
        }
    }
    report.phases.push((format!("compiling each stage alone, in {rounds} rounds"), start.elapsed()));
    Ok(())
}

/// Runs the tests of each of these stages without its functions; with `full`, all tests of the day's suite.
///
/// # Errors
///
/// A test program cannot be run.
pub(crate) fn run(
    day: &Day,
    program: &Program,
    stages: &[Stage],
    full: bool,
    report: &mut Report,
) -> Result<()> {
    let start = Instant::now();
    let names = program.list()?;
    let mut jobs: Vec<(&Stage, Program, &str, bool)> = Vec::new();
    for stage in stages.iter().filter(|stage| !stage.functions.is_empty()) {
        let env = Some((steps::UNWRITTEN, stage.functions.join("\n")));
        let own = format!("{}::{}::", day.ident(), stage.name);
        for name in names.iter().filter(|name| full || name.starts_with(&own)) {
            let program = Program { env: env.clone(), ..program.clone() };
            jobs.push((stage, program, name, name.starts_with(&own)));
        }
    }
    let tests: Vec<_> = jobs.iter().map(|(_, program, name, _)| (program, *name)).collect();
    let outcomes = run_all(&tests)?;
    let failed = |outcome: &Outcome| Finding::of(outcome, day.name).step != Step::Passed;
    let mut unnoticed: Vec<&Stage> = stages.iter().filter(|stage| !stage.functions.is_empty()).collect();
    for ((stage, _, name, own), outcome) in jobs.iter().zip(&outcomes) {
        unnoticed.retain(|other| other.name != stage.name || !own || !failed(outcome));
        // A test may pass while a task behind it comes to a `todo!`; but not all tests of a stage.
        let wrong = judge(day, false, outcome);
        report
            .wrong
            .extend(wrong.map(|why| format!("{}, stage {} alone: {name}: {why}", day.name, stage.name)));
    }
    for stage in unnoticed {
        report.wrong.push(format!("{}, stage {} alone: all of its tests pass", day.name, stage.name));
    }
    report
        .phases
        .push((format!("tests on each stage of day {} alone: {}", day.number, jobs.len()), start.elapsed()));
    Ok(())
}
