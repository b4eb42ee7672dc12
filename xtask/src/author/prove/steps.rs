//! What each step of a day asks for: the functions that its test needs and that no earlier test needed.
//!
//! A step that needs many functions at once is a wall. To find out, every function that the exercise leaves to the
//! learner, and that has three lines or more, tells when it is first called, and each test is run in a process of its own:
//!
//! ```text
//! fn next(&mut self) -> Option<u8> {         fn next(&mut self) -> Option<u8> {
//!     BODY                            ──▶        { … if crate::begin("src/a.rs: A::next") { todo!("day 1: A::next") } }
//! }                                              BODY
//!                                            }
//! ```

use std::collections::BTreeSet;

use anyhow::{Result, bail};

use crate::course::functions::{self, How};
use crate::course::runner::Outcome;
use crate::course::stages::{Given, Stage};
use crate::course::tree::Tree;
use crate::course::{Day, is_source, suites};
use crate::learner::strip;

/// The variable that makes the functions tell.
pub(super) const VARIABLE: &str = "RRPC_STEPS";

/// The variable with the functions that are a `todo!()`, a line for each.
pub(super) const UNWRITTEN: &str = "RRPC_UNWRITTEN";

/// What a line in a test's output begins with.
const MARK: &str = "@step ";

/// What is added to `src/lib.rs`. One write for the line, so that nothing comes between.
const BEGIN_FN: &str = r#"
/// A function is called for the first time: it tells, and hears whether it is a `todo!()`.
pub(crate) fn begin(name: &str) -> bool {
    if std::env::var_os("RRPC_STEPS").is_some() {
        std::io::Write::write_all(&mut std::io::stderr(), format!("\n@step {name}\n").as_bytes()).ok();
    }
    std::env::var("RRPC_UNWRITTEN").is_ok_and(|names| names.lines().any(|line| line == name))
}
"#;

/// One step: the test, and the functions that are new with it.
pub(super) struct Walls {
    /// How many functions of three lines and more the day leaves to the learner.
    pub(super) functions: usize,
    /// In the order of the suite: the test's path, and the functions that no earlier test has called.
    pub(super) steps: Vec<(String, Vec<String>)>,
    /// The same, by stages.
    pub(super) stages: Vec<Stage>,
    /// Functions that no test of the day's suite calls.
    pub(super) unreached: Vec<String>,
}

/// Makes these functions of the day tell when they are called, and makes each of them a `todo!()` on demand.
///
/// # Errors
///
/// A file is not Rust.
pub(super) fn add_marks(day: &Day, tree: &mut Tree, functions: &[String]) -> Result<()> {
    for (path, text) in tree.iter_mut().filter(|(path, _)| is_source(path)) {
        let mut marks = Vec::new();
        for function in functions::find(text)? {
            let name = format!("{path}: {}", function.name);
            if !functions.contains(&name) {
                continue;
            }
            let message = strip::message(day.number, &function.name);
            let may_panic = if let How::Drop = function.how { " && !std::thread::panicking()" } else { "" };
            let mark = format!(
                " {{ static TODO: std::sync::LazyLock<bool> = std::sync::LazyLock::new(|| crate::begin({name:?})); \
                 if *TODO{may_panic} {{ todo!({message:?}) }} }}"
            );
            let start = function.body.start + 1; // behind the brace
            marks.push((start..start, mark));
        }
        *text = functions::replace(text, marks);
    }
    if let Some(lib) = tree.get_mut("src/lib.rs") {
        lib.push_str(BEGIN_FN);
    }
    Ok(())
}

/// What these runs of the day's own tests tell, where these functions are `given`.
///
/// # Errors
///
/// The suite cannot be read, or what is given is not there.
pub(super) fn walls(
    day: &Day,
    tree: &Tree,
    functions: &[String],
    given: &[Given],
    outcomes: &[(&String, Outcome)],
) -> Result<Walls> {
    let suite = suites::read(tree, &day.ident())?;
    let is_given = |name: &&String| given.iter().any(|given| given.functions.contains(name));
    for Given { stage, functions: names, .. } in given {
        if let Some(name) = names.iter().find(|name| !functions.contains(name)) {
            bail!("{}: {name} is given anyway, or not there: take it out of xtask/stages.toml", day.name);
        }
        if let Some(name) = stage
            && suite.stages.iter().all(|stage| stage.name != *name)
        {
            bail!("{}: xtask/stages.toml gives functions until stage {name}, which is not there", day.name);
        }
    }
    let mut left: Vec<String> = functions.iter().filter(|name| !is_given(name)).cloned().collect();
    let count = left.len();
    let mut steps = Vec::new();
    for test in &suite.tests {
        let output =
            outcomes.iter().find(|(path, _)| **path == test.path).map(|(_, outcome)| &outcome.output);
        let lines = output.into_iter().flat_map(|output| output.lines());
        let called: BTreeSet<&str> = lines.filter_map(|line| line.strip_prefix(MARK)).collect();
        // In the order of the files, as they may be called in any.
        let (new, rest) = left.into_iter().partition(|name| called.contains(name.as_str()));
        left = rest;
        steps.push((test.path.clone(), new));
    }
    let stages = suite.stages.iter().enumerate().map(|(index, stage)| {
        let of_stage = || suite.tests.iter().zip(&steps).filter(move |(test, _)| test.stage == index);
        let until_now = given.iter().filter(|given| given.stage.as_deref() == Some(&stage.name));
        let functions = of_stage().flat_map(|(_, (_, new))| new.clone());
        let functions = functions.chain(until_now.flat_map(|given| given.functions.clone())).collect();
        Stage::new(day.number, &stage.name, functions, of_stage().count())
    });
    Ok(Walls { functions: count, stages: stages.collect(), steps, unreached: left })
}

impl Walls {
    /// How many functions the largest step needs that no earlier one did.
    pub(super) fn largest(&self) -> usize {
        self.steps.iter().map(|(_, new)| new.len()).max().unwrap_or(0)
    }

    /// How many functions must be written until the first test can pass.
    pub(super) fn first(&self) -> usize {
        self.steps.first().map_or(0, |(_, new)| new.len())
    }
}
