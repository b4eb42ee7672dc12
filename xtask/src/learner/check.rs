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

use anyhow::{Context, Result, bail};

use crate::course::chapter::Chapter;
use crate::course::failures::{Finding, Step};
use crate::course::runner::{self, Errors, NEVER, Program, Stop};
use crate::course::suites::{self, Suite, Test};
use crate::course::term::{self, Paint, Status};
use crate::course::tree::{self, Tree};
use crate::course::{self, Day, functions, stages};
use crate::learner::done;
use crate::learner::report::{self, Ran, Report};

/// When this many hang, no more steps are begun, and those that run are stopped.
const MAX_HUNG: usize = 3;

/// So many errors of the compiler are shown. The others often follow from them.
const MAX_ERRORS: usize = 2;

/// So many failing tests of an earlier day are named.
const MAX_NAMES: usize = 5;

/// How often `--watch` looks whether a file has been saved.
const LOOK: Duration = Duration::from_millis(250);

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
    for day in course::chosen(root, &[])? {
        let name = format!("{:17}", day.name);
        let built = match build(root, day)? {
            Ok(built) => built,
            Err(errors) => {
                passed = false;
                let count = term::plural(errors.len(), "error");
                outln!("{name} {}", paint.red(&format!("does not compile: {count}")));
                continue;
            }
        };
        let ran = run(&built, &day.ident(), None, NEVER)?;
        let score = format!("{:>3} of {}", ran.count(Step::Passed), ran.findings.len());
        match ran.open().next() {
            None => outln!("{name} {}", paint.green(&score)),
            Some((test, finding)) => {
                passed = false;
                outln!("{name} {}  the {}:", paint.bold(&score), report::name_of_first(finding.step));
                outln!("{:17}            {}", "", test.name);
            }
        }
    }
    Ok(passed)
}

/// One round: the report; if all of it is passed, the suites of the days before; and if they are, what is left.
fn report(root: &Path, wanted: Wanted<'_>, paint: Paint, stop: Stop<'_>) -> Result<bool> {
    let Wanted { day, only, hint } = wanted;
    let built = match build(root, day)? {
        Ok(built) => built,
        Err(errors) => {
            print_errors(day, &errors, paint);
            return Ok(false);
        }
    };
    let ran = run(&built, &day.ident(), only, stop)?;
    if stop() {
        return Ok(false);
    }
    let report = Report {
        root,
        day,
        chapter: &Chapter::read(root, day),
        ran: &ran,
        stages: &stages::read(root, day)?,
        unwritten: &functions::unwritten(&built.tree)?,
        paint,
    };
    out!("{}", report.show(hint));
    let passed = report.first().is_none();
    if let Some(only) = only {
        let stage = ran.suite.stages.iter().position(|stage| stage.name == only);
        if let Some(stage) = stage.filter(|_| passed) {
            outln!("{}", report.next(stage));
        }
        return Ok(passed);
    }
    let passed = passed && earlier(root, &built, paint, stop)?;
    if passed {
        done::print(root, day)?;
    }
    Ok(passed)
}

/// The suites of the days before, a line for each. `false`: not all of it passed.
fn earlier(root: &Path, built: &Built<'_>, paint: Paint, stop: Stop<'_>) -> Result<bool> {
    let day = built.day;
    let mut names = suites::names(root, day)?;
    names.pop(); // its own
    if names.is_empty() {
        return Ok(true);
    }
    let ran = names.iter().map(|name| run(built, name, None, stop)).collect::<Result<Vec<Ran>>>()?;
    if stop() {
        return Ok(false);
    }
    outln!("\nThe suites of the days before, on {}:\n", day.name);
    let mut passed = true;
    for (name, ran) in names.iter().zip(&ran) {
        let open: Vec<&Test> = ran.open().map(|(test, _)| test).collect();
        let score = format!("{:>3} of {}", ran.count(Step::Passed), ran.findings.len());
        let score = if open.is_empty() { paint.green(&score) } else { paint.red(&score) };
        outln!("  {name:17} {score}");
        open.iter().take(MAX_NAMES).for_each(|test| outln!("    {}", test.name));
        if open.len() > MAX_NAMES {
            outln!("    … and {} more", open.len() - MAX_NAMES);
        }
        if !open.is_empty() {
            passed = false;
            let command = format!("cargo test -p {} --test suites {name}", day.name);
            outln!("    {}", paint.dim(&command));
        }
    }
    Ok(passed)
}

/// A day whose suites are built.
struct Built<'a> {
    day: &'a Day,
    tree: Tree,
    program: Program,
}

/// Builds the suites of a day.
fn build<'a>(root: &Path, day: &'a Day) -> Result<Result<Built<'a>, Errors>> {
    let status = Status::new();
    status.show(&format!("building {}", day.name));
    let mut programs = match runner::build(root, &[day], false, |line| status.show(line))? {
        Ok(programs) => programs,
        Err(errors) => return Ok(Err(errors)),
    };
    let program = programs.pop().with_context(|| format!("cargo has built no suites of {}", day.name))?;
    Ok(Ok(Built { day, tree: tree::read(root, day)?, program }))
}

/// Runs one of the suites of a day; or only one stage or one step of it.
fn run(built: &Built<'_>, name: &str, only: Option<&str>, stop: Stop<'_>) -> Result<Ran> {
    let Built { day, tree, program } = built;
    let mut suite = suites::read(tree, name)?;
    if let Some(only) = only {
        restrict(&mut suite, only)?;
    }
    // A test for another system is in the source and not in the program.
    let known = program.list()?;
    suite.tests.retain(|test| known.contains(&test.path));
    let start = Instant::now();
    let tests: Vec<_> = suite.tests.iter().map(|test| (program, test.path.as_str())).collect();
    let (mut ended, mut hung, status) = (0, 0, Status::new());
    let outcomes = runner::run_all(&tests, stop, |outcome| {
        ended += 1;
        hung += usize::from(Finding::of(outcome, day.name).step == Step::Hung);
        status.show(&format!("{name}: {ended} of {}", tests.len()));
        if hung >= MAX_HUNG { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    let finding = |outcome: &Option<_>| match outcome {
        Some(outcome) => Finding::of(outcome, day.name),
        None => Finding::bare(Step::NotRun),
    };
    Ok(Ran { findings: outcomes.iter().map(finding).collect(), suite, time: start.elapsed() })
}

/// Leaves only the step of that name, or only the steps of the stage of that name.
fn restrict(suite: &mut Suite, only: &str) -> Result<()> {
    let stage = suite.stages.iter().position(|stage| stage.name == only);
    if stage.is_none() && suite.tests.iter().all(|test| test.name != only) {
        let stages: Vec<&str> = suite.stages.iter().map(|stage| stage.name.as_str()).collect();
        let steps = suite.tests.iter().map(|test| test.name.as_str());
        let meant = term::meant(only, &stages.iter().copied().chain(steps).collect::<Vec<_>>());
        bail!("{} has no step and no stage {only}{meant}\nIts stages are {}", suite.name, stages.join(", "));
    }
    suite.tests.retain(|test| test.name == only || Some(test.stage) == stage);
    Ok(())
}

/// Shows the first errors, as the compiler does.
fn print_errors(day: &Day, errors: &[String], paint: Paint) {
    let count = term::plural(errors.len(), "error");
    outln!("{}", paint.red(&format!("{} does not compile: {count}.", day.name)));
    for error in errors.iter().take(MAX_ERRORS) {
        outln!("\n{}", error.trim_end());
    }
    if errors.len() > MAX_ERRORS {
        let more = errors.len() - MAX_ERRORS;
        outln!("\n… and {more} more. All of them: cargo test -p {} --no-run", day.name);
    }
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
