//! `check`: a day's suite as a ladder, and what to do next.
//!
//! ```text
//! suites ──▶ runner ──▶ panics ──▶ ladder
//! the steps  run them   what came  shown, with the place in the chapter (chapter)
//! ```
//!
//! When all steps of a day are passed, the suites of the days before are run on it, too: a day only adds.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, bail};

use crate::chapter::Chapter;
use crate::course::{DAYS, Day};
use crate::done;
use crate::ladder::Ladder;
use crate::panics::{Finding, Step};
use crate::runner::{self, Broken, NEVER, Place, Program, Stop};
use crate::screen::{Paint, Status};
use crate::suites::{self, Suite};
use crate::tree;

/// No more steps are begun when this many hang.
const MAX_HUNG: usize = 3;

/// So many errors of the compiler are shown. The others often follow from them.
const MAX_ERRORS: usize = 2;

/// So many failing tests of an earlier day are named.
const MAX_NAMES: usize = 5;

/// How often `--watch` looks whether a file has been saved.
const LOOK: Duration = Duration::from_millis(250);

/// A suite that has been run.
struct Ran {
    suite: Suite,
    findings: Vec<Finding>,
    time: Duration,
}

/// Checks one day and shows its ladder. `false`: not all of it passed.
///
/// # Errors
///
/// The day does not exist, or cargo cannot be run.
pub(crate) fn day(root: &Path, day: &Day, hint: bool) -> Result<bool> {
    must_exist(root, day)?;
    ladder(root, day, hint, Paint::stdout(), NEVER)
}

/// Checks one day again whenever one of its files has been saved, until it is interrupted.
///
/// # Errors
///
/// The day does not exist. What goes wrong later is shown, as it may be mended by the next save.
pub(crate) fn watch(root: &Path, day: &Day, hint: bool) -> Result<bool> {
    must_exist(root, day)?;
    let paint = Paint::stdout();
    loop {
        let seen = snapshot(root, day);
        let stop = AtomicBool::new(false);
        if paint.colours {
            out!("\x1b[2J\x1b[H"); // an empty screen; what was on it can be scrolled to
        }
        thread::scope(|scope| {
            // What is saved while the suite runs begins it anew.
            let looking = scope.spawn(|| {
                while snapshot(root, day) == seen {
                    thread::sleep(LOOK);
                }
                stop.store(true, Ordering::Relaxed);
            });
            if let Err(error) = ladder(root, day, hint, paint, &|| stop.load(Ordering::Relaxed)) {
                outln!("error: {error:#}");
            }
            if !looking.is_finished() {
                outln!("\n{}", paint.dim(&format!("Watching {}. Ctrl-C ends it.", day.name)));
            }
        });
    }
}

/// All days at a glance. `false`: not all of it passed.
///
/// # Errors
///
/// Cargo cannot be run.
pub(crate) fn all(root: &Path) -> Result<bool> {
    let paint = Paint::stdout();
    let mut passed = true;
    let days: Vec<&Day> = DAYS.iter().filter(|day| day.exists(root)).collect();
    if days.is_empty() {
        bail!("there is no day to check yet");
    }
    for day in days {
        let names = suites::names(root, day)?;
        let own: Vec<&str> = names.last().map(String::as_str).into_iter().collect();
        let name = format!("{:17}", day.name);
        match run(root, day, &own, NEVER)? {
            Err(broken) => {
                passed = false;
                outln!("{name} {}", paint.red(&format!("does not compile: {}", errors(&broken))));
            }
            Ok(ran) => {
                let total: usize = ran.iter().map(|ran| ran.findings.len()).sum();
                let all: Vec<(&str, Step)> = ran.iter().flat_map(Ran::steps).collect();
                let count = all.iter().filter(|(_, step)| *step == Step::Passed).count();
                let score = format!("{count:>3} of {total}");
                match all.iter().find(|(_, step)| *step != Step::Passed) {
                    None => outln!("{name} {}", paint.green(&score)),
                    Some((test, step)) => {
                        passed = false;
                        outln!("{name} {}  {}", paint.bold(&score), word(*step));
                        outln!("{:17}            {test}", "");
                    }
                }
            }
        }
    }
    Ok(passed)
}

/// What the first step that is not passed is called, in front of its name.
fn word(step: Step) -> &'static str {
    match step {
        Step::Passed | Step::NotReached | Step::NotRun => "the next step:",
        Step::Failed => "the first that fails:",
        Step::Hung => "the first that hangs:",
    }
}

fn must_exist(root: &Path, day: &Day) -> Result<()> {
    if !day.exists(root) {
        bail!("day {} does not exist: there is no {}/Cargo.toml", day.number, day.name);
    }
    Ok(())
}

/// One round: the ladder; if all of it is passed, the suites of the days before; and if they are, what is left.
fn ladder(root: &Path, day: &Day, hint: bool, paint: Paint, stop: Stop<'_>) -> Result<bool> {
    let mut names = suites::names(root, day)?;
    let own = names.pop().unwrap_or_default();
    let ran = match run(root, day, &[&own], stop)? {
        Err(broken) => {
            outln!("{}", show_broken(day, &broken, paint));
            return Ok(false);
        }
        Ok(ran) => ran,
    };
    let Some(Ran { suite, findings, time }) = ran.into_iter().next().filter(|_| !stop()) else {
        return Ok(false);
    };
    let chapter = Chapter::read(root, day);
    let ladder = Ladder { day, chapter: &chapter, suite: &suite, findings: &findings, time, root };
    out!("{}", ladder.show(paint, hint));
    let passed = ladder.first().is_none() && earlier(root, day, &names, paint, stop)?;
    if passed {
        let lines = done::lines(root, day);
        if !lines.is_empty() {
            outln!("\n{}", lines.join("\n"));
        }
    }
    Ok(passed)
}

/// The suites of the days before, a line for each. `false`: not all of it passed.
fn earlier(root: &Path, day: &Day, names: &[String], paint: Paint, stop: Stop<'_>) -> Result<bool> {
    if names.is_empty() {
        return Ok(true);
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let ran = match run(root, day, &names, stop)? {
        Err(broken) => {
            outln!("{}", show_broken(day, &broken, paint));
            return Ok(false);
        }
        Ok(ran) => ran,
    };
    if stop() {
        return Ok(false);
    }
    outln!("\nThe suites of the days before, on {}:\n", day.name);
    let mut passed = true;
    for ran in &ran {
        let steps: Vec<(&str, Step)> = ran.steps().collect();
        let broken: Vec<&str> =
            steps.iter().filter(|(_, step)| *step != Step::Passed).map(|(test, _)| *test).collect();
        let score = format!("{:>3} of {}", steps.len() - broken.len(), steps.len());
        let score = if broken.is_empty() { paint.green(&score) } else { paint.red(&score) };
        outln!("  {:17} {score}", ran.suite.name);
        broken.iter().take(MAX_NAMES).for_each(|test| outln!("    {test}"));
        if broken.len() > MAX_NAMES {
            outln!("    … and {} more", broken.len() - MAX_NAMES);
        }
        if !broken.is_empty() {
            outln!(
                "    {}",
                paint.dim(&format!("cargo test -p {} --test suites {}", day.name, ran.suite.name))
            );
        }
        passed &= broken.is_empty();
    }
    Ok(passed)
}

impl Ran {
    fn steps(&self) -> impl Iterator<Item = (&str, Step)> {
        let names = self.suite.tests.iter().map(|test| test.name.as_str());
        names.zip(self.findings.iter().map(|finding| finding.step))
    }
}

/// Builds and runs these suites of a day, in this order.
fn run(root: &Path, day: &Day, names: &[&str], stop: Stop<'_>) -> Result<Result<Vec<Ran>, Broken>> {
    let mut status = Status::new();
    status.show(&format!("building {}", day.name));
    let place = Place { root, target_dir: None };
    let colours = Paint::stdout().colours;
    let programs = match runner::build(place, &[day], false, colours, |line| status.show(line))? {
        Ok(programs) => programs,
        Err(broken) => return Ok(Err(broken)),
    };
    let Some(program) = programs.first() else {
        bail!("cargo has built no suites of {}", day.name);
    };
    let tree = tree::read(root, day)?;
    let mut ran = Vec::new();
    for name in names {
        let suite = suites::read(&tree, name)?;
        ran.push(run_suite(day, suite, program, &mut status, stop)?);
    }
    Ok(Ok(ran))
}

fn run_suite(
    day: &Day,
    mut suite: Suite,
    program: &Program,
    status: &mut Status,
    stop: Stop<'_>,
) -> Result<Ran> {
    // A test for another system is in the source and not in the program.
    let mut known = program.list()?;
    known.retain(|name| name.starts_with(&format!("{}::", suite.name)));
    suite.tests.retain(|test| known.contains(&test.path));
    if let Some(name) = known.iter().find(|name| suite.tests.iter().all(|test| test.path != **name)) {
        bail!("{} has a test {name} that cannot be found in its source", suite.name);
    }
    let start = Instant::now();
    let tests: Vec<_> = suite.tests.iter().map(|test| (program, test.path.as_str())).collect();
    let (mut ended, mut hung) = (0, 0);
    let outcomes = runner::run_all(&tests, runner::jobs(), stop, |_, outcome| {
        ended += 1;
        hung += usize::from(Finding::of(outcome, day.name).step == Step::Hung);
        status.show(&format!("{}: {ended} of {}", suite.name, tests.len()));
        if hung >= MAX_HUNG { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    status.clear();
    let finding = |outcome: &Option<_>| match outcome {
        Some(outcome) => Finding::of(outcome, day.name),
        None => Finding::not_run(),
    };
    Ok(Ran { findings: outcomes.iter().map(finding).collect(), suite, time: start.elapsed() })
}

/// `1 error`, `3 errors`.
fn errors(broken: &Broken) -> String {
    match broken.errors.len() {
        0 => "cargo says why".to_owned(),
        1 => "1 error".to_owned(),
        n => format!("{n} errors"),
    }
}

/// The first errors, as the compiler shows them.
fn show_broken(day: &Day, broken: &Broken, paint: Paint) -> String {
    let head = format!("{} does not compile: {}.", day.name, errors(broken));
    let mut text = format!("{}\n\n", paint.red(&head));
    if broken.errors.is_empty() {
        return text + broken.cargo.trim_end();
    }
    for error in broken.errors.iter().take(MAX_ERRORS) {
        text += error.trim_end();
        text += "\n\n";
    }
    let more = broken.errors.len().saturating_sub(MAX_ERRORS);
    if more > 0 {
        text += &format!("… and {more} more. All of them: cargo test -p {} --no-run", day.name);
    }
    text.trim_end().to_owned()
}

/// When each file of a day was saved, and how long it is.
fn snapshot(root: &Path, day: &Day) -> BTreeMap<PathBuf, (Option<SystemTime>, u64)> {
    let mut files = BTreeMap::new();
    let mut open: Vec<PathBuf> =
        ["Cargo.toml", "src", "tests"].iter().map(|part| day.dir(root).join(part)).collect();
    open.push(root.join("Cargo.toml"));
    while let Some(path) = open.pop() {
        // A file that is being replaced may be missing for a moment; it is there at the next look.
        if let Ok(entries) = fs::read_dir(&path) {
            open.extend(entries.flatten().map(|entry| entry.path()));
        } else if let Ok(data) = fs::metadata(&path) {
            files.insert(path, (data.modified().ok(), data.len()));
        }
    }
    files
}
