//! `check`: a day's suite as a report, and what to do next.
//!
//! ```text
//! suites ──▶ runner ──▶ failures ──▶ report
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

use crate::course::chapter::Chapter;
use crate::course::failures::{Finding, Step};
use crate::course::runner::{self, Broken, NEVER, Program, Stop};
use crate::course::suites::{self, Stage, Suite};
use crate::course::term::{self, Paint, Status};
use crate::course::{DAYS, Day};
use crate::course::{functions, stages, tree};
use crate::learner::done;
use crate::learner::report::Report;

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

/// What is to be checked and shown.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) day: &'a Day,
    /// Only this step, or only the steps of this stage, by its name.
    pub(crate) only: Option<&'a str>,
    pub(crate) hint: bool,
}

/// Checks one day and shows its report. `false`: not all of it passed.
///
/// # Errors
///
/// The day does not exist, or cargo cannot be run.
pub(crate) fn day(root: &Path, wanted: Wanted<'_>) -> Result<bool> {
    wanted.day.must_exist(root)?;
    report(root, wanted, Paint::stdout(), NEVER)
}

/// Checks one day again whenever one of its files has been saved, until it is interrupted.
///
/// # Errors
///
/// The day does not exist. What goes wrong later is shown, as it may be mended by the next save.
pub(crate) fn watch(root: &Path, wanted: Wanted<'_>) -> Result<bool> {
    let day = wanted.day;
    day.must_exist(root)?;
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
            if let Err(error) = report(root, wanted, paint, &|| stop.load(Ordering::Relaxed)) {
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
        match run(root, day, &own, None, NEVER)? {
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

/// One round: the report; if all of it is passed, the suites of the days before; and if they are, what is left.
fn report(root: &Path, wanted: Wanted<'_>, paint: Paint, stop: Stop<'_>) -> Result<bool> {
    let Wanted { day, only, hint } = wanted;
    let mut names = suites::names(root, day)?;
    let own = names.pop().unwrap_or_default();
    let ran = match run(root, day, &[&own], only, stop)? {
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
    let (stages, unwritten) = (stages::read(root, day)?, functions::unwritten(&tree::read(root, day)?)?);
    let report = Report {
        day,
        chapter: &chapter,
        suite: &suite,
        findings: &findings,
        time,
        stages: &stages,
        unwritten: &unwritten,
        root,
    };
    out!("{}", report.show(paint, hint));
    if let Some(only) = only {
        let passed = report.first().is_none();
        let stage = suite.stages.iter().position(|stage| stage.name() == only);
        if let Some(stage) = stage.filter(|_| passed) {
            outln!("{}", report.next(stage));
        }
        return Ok(passed);
    }
    let passed = report.first().is_none() && earlier(root, day, &names, paint, stop)?;
    if passed {
        done::print(root, day)?;
    }
    Ok(passed)
}

/// The suites of the days before, a line for each. `false`: not all of it passed.
fn earlier(root: &Path, day: &Day, names: &[String], paint: Paint, stop: Stop<'_>) -> Result<bool> {
    if names.is_empty() {
        return Ok(true);
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let ran = match run(root, day, &names, None, stop)? {
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

/// Builds and runs these suites of a day, in this order; or of each only one stage or one step.
fn run(
    root: &Path,
    day: &Day,
    names: &[&str],
    only: Option<&str>,
    stop: Stop<'_>,
) -> Result<Result<Vec<Ran>, Broken>> {
    let mut status = Status::new();
    status.show(&format!("building {}", day.name));
    let colours = Paint::stdout().colours;
    let programs = match runner::build(root, &[day], false, colours, |line| status.show(line))? {
        Ok(programs) => programs,
        Err(broken) => return Ok(Err(broken)),
    };
    let Some(program) = programs.first() else {
        bail!("cargo has built no suites of {}", day.name);
    };
    let tree = tree::read(root, day)?;
    let mut ran = Vec::new();
    for name in names {
        let mut suite = suites::read(&tree, name)?;
        if let Some(only) = only {
            restrict(&mut suite, only)?;
        }
        ran.push(run_suite(day, suite, program, &mut status, stop)?);
    }
    Ok(Ok(ran))
}

/// Leaves only the step of that name, or only the steps of the stage of that name.
fn restrict(suite: &mut Suite, only: &str) -> Result<()> {
    let stage = suite.stages.iter().position(|stage| stage.name() == only);
    if stage.is_none() && suite.tests.iter().all(|test| test.name != only) {
        let stages: Vec<&str> = suite.stages.iter().map(Stage::name).collect();
        let steps = suite.tests.iter().map(|test| test.name.as_str());
        let meant = term::meant(only, &stages.iter().copied().chain(steps).collect::<Vec<_>>());
        bail!("{} has no step and no stage {only}{meant}\nIts stages are {}", suite.name, stages.join(", "));
    }
    suite.tests.retain(|test| test.name == only || Some(test.stage) == stage);
    Ok(())
}

fn run_suite(
    day: &Day,
    mut suite: Suite,
    program: &Program,
    status: &mut Status,
    stop: Stop<'_>,
) -> Result<Ran> {
    // A test for another system is in the source and not in the program.
    let known = program.list()?;
    suite.tests.retain(|test| known.contains(&test.path));
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
        count => term::plural(count, "error"),
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
