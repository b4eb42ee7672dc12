//! How long a learner waits for the compiler: a copy of the last commit, and an empty target folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::goals::Bound;
use crate::machine;
use crate::report::{Tally, line};

/// The command to measure.
struct Step {
    what: &'static str,
    cargo: &'static str,
    /// What comes before it, and is not measured.
    prepare: fn(&Path) -> Result<()>,
    /// In seconds.
    goal: Bound,
}

const STEPS: [Step; 3] = [
    Step {
        what: "day 1, from nothing",
        cargo: "build -p day1-codec",
        prepare: clean,
        goal: Bound::AtMost(15.0),
    },
    Step { what: "all suites, from nothing", cargo: "test", prepare: clean, goal: Bound::AtMost(120.0) },
    Step {
        what: "a changed line on day 7, to its suite's answer",
        cargo: SUITE,
        prepare: change,
        goal: Bound::AtMost(5.0),
    },
];
const SUITE: &str = "test -p day7-registry --test suites day7_registry";
/// Where the line is added: at the head, so that every function of the file is compiled again.
const CHANGED: &str = "day7-registry/src/registry/heartbeat.rs";

/// Measures, and returns the table. The crates are fetched before.
///
/// # Errors
/// There is no git, or a command failed.
pub(crate) fn run(quick: bool) -> Result<String> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/builds");
    let steps = if quick { &STEPS[..1] } else { &STEPS };
    let text = copy(&dir).and_then(|()| measure(&dir, steps));
    fs::remove_dir_all(&dir).with_context(|| dir.display().to_string())?;
    text
}

fn measure(dir: &Path, steps: &[Step]) -> Result<String> {
    let mut text = format!("# Builds\n\n{}.\n{}", machine::description(), machine::busy_notice());
    text += "\n| what | command | s | goal | |\n|---|---|--:|---|---|\n";
    let mut tally = Tally::default();
    for Step { what, cargo, prepare, goal } in steps {
        prepare(dir)?;
        let start = Instant::now();
        run_cargo(dir, cargo)?;
        let took = start.elapsed().as_secs_f64();
        let verdict = tally.verdict(goal.is_met(took));
        line(
            &mut text,
            format_args!("| {what} | `cargo {cargo}` | {took:.1} | {} | {verdict} |", goal.text()),
        );
        eprintln!("{what}: {took:.1} s");
    }
    Ok(text + &tally.text())
}

/// The files of the last commit, and the crates that they need.
fn copy(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir)?;
    let archive = dir.join("course.tar");
    let mut git = Command::new("git");
    git.args(["archive", "-o"])
        .arg(&archive)
        .arg("HEAD")
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    succeed(&mut git)?;
    succeed(Command::new("tar").arg("-xf").arg(&archive).current_dir(dir))?;
    run_cargo(dir, "fetch")
}

fn clean(dir: &Path) -> Result<()> {
    run_cargo(dir, "clean")
}

fn change(dir: &Path) -> Result<()> {
    run_cargo(dir, SUITE)?;
    let path = dir.join(CHANGED);
    fs::write(&path, format!("\n{}", fs::read_to_string(&path)?))?;
    Ok(())
}

fn run_cargo(dir: &Path, args: &str) -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.args(args.split(' ')).arg("--locked").current_dir(dir);
    // What a learner has, whatever this was built with.
    cargo.env("CARGO_TARGET_DIR", dir.join("target")).env_remove("CARGO_INCREMENTAL");
    succeed(&mut cargo)
}

/// What it writes to stdout is shown if it fails.
fn succeed(command: &mut Command) -> Result<()> {
    let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("{command:?}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{command:?} ended with {}:\n{stdout}", output.status);
    Ok(())
}
