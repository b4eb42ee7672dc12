//! `days`: each day against the day before.
//!
//! The course promises that the difference between two days is the lesson and nothing else. This shows the
//! difference, in files and lines, and fails where the promise is broken (see `checks` and `layers`). The crate's name is
//! translated first. Days that are not written yet are skipped, so that it can be used from the first day
//! on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Result, bail};

use crate::author::{checks, layers};
use crate::course::term;
use crate::course::tree::{self, Counts, Tree};
use crate::course::{DAYS, Day, is_demo};

/// What became of a file from one day to the next.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Fate {
    New,
    Changed,
    Same,
    Removed,
}

/// One day against the day before.
pub(crate) struct Comparison {
    pub(crate) files: BTreeMap<String, Fate>,
    pub(crate) counts: Counts,
}

impl Comparison {
    /// Lines added to and removed from `src/` without the demo.
    pub(crate) fn lesson(&self) -> (usize, usize) {
        self.lines(|path| path.starts_with("src/") && !is_demo(path))
    }

    fn lines(&self, wanted: impl Fn(&str) -> bool) -> (usize, usize) {
        let counts = self.counts.iter().filter(|(path, _)| wanted(path)).map(|(_, count)| count);
        counts.fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1))
    }
}

impl Fate {
    /// The word that a README uses for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Fate::New => "new",
            Fate::Changed => "changed",
            Fate::Same => "the same as the day before",
            Fate::Removed => "removed",
        }
    }
}

/// Prints the table and the failures, for one day or for all. `false`: there were failures.
///
/// # Errors
///
/// The one day asked for does not exist, or a file cannot be read.
pub(crate) fn run(root: &Path, only: Option<&Day>) -> Result<bool> {
    let mut notes = Vec::new();
    let mut failures = Vec::new();
    outln!("{:17} {:>5} {:>8} {:>5}   {:>14}   {:>14}", "", "", "files", "", "src/", "everything");
    outln!("{:17} {:>5} {:>8} {:>5}   {:>14}   {:>14}", "", "new", "changed", "same", "but main.rs", "");
    for day in DAYS.iter().filter(|day| only.is_none_or(|only| only.number == day.number)) {
        if !day.exists(root) {
            notes.push(format!("{} is skipped: it does not exist yet", day.name));
            continue;
        }
        let after = tree::read(root, day)?;
        let mut wrong = checks::dependencies(root, day, &after)?;
        wrong.extend(checks::length(&after));
        wrong.extend(layers::check(&after));
        wrong.extend(checks::suite(root, day, &after));
        wrong.extend(checks::excerpts(root, day, &after));
        match day.before() {
            Some(before) if !before.exists(root) => {
                notes.push(format!("{} is not compared: {} does not exist yet", day.name, before.name));
            }
            before => {
                let comparison = compare(root, before, day, &after)?;
                print(day, &comparison);
                wrong.extend(before.into_iter().flat_map(|before| checks::lesson(before, &comparison)));
                wrong.extend(checks::readme(root, day, &comparison));
                failures.extend(checks::promise(root, day, &after, &comparison));
            }
        }
        failures.extend(wrong.into_iter().map(|why| format!("{}/{why}", day.name)));
    }
    if only.is_none() {
        failures.extend(checks::all_hours(root)?);
    }
    if let (Some(only), [note]) = (only, &notes[..]) {
        bail!("day {} cannot be shown: {note}", only.number);
    }
    outln!();
    for note in notes {
        outln!("note: {note}");
    }
    for failure in &failures {
        outln!("FAIL {failure}");
    }
    match failures.len() {
        0 => outln!("Each day differs from the day before by its lesson only."),
        count => outln!("{}", term::plural(count, "failure")),
    }
    Ok(failures.is_empty())
}

/// Without a day before, every file is new.
fn compare(root: &Path, before: Option<&Day>, day: &Day, after: &Tree) -> Result<Comparison> {
    let old = match before {
        Some(before) => tree::carried(root, &tree::read(root, before)?, before, day, after),
        None => Tree::new(),
    };
    let paths: BTreeSet<&String> = old.keys().chain(after.keys()).collect();
    let fate = |path: &String| match (old.get(path), after.get(path)) {
        (None, _) => Fate::New,
        (_, None) => Fate::Removed,
        (old, new) if old == new => Fate::Same,
        _ => Fate::Changed,
    };
    let files = paths.into_iter().map(|path| (path.clone(), fate(path))).collect();
    Ok(Comparison { files, counts: tree::count(&old, after)? })
}

/// A line of numbers, and under it the names behind them.
fn print(day: &Day, comparison: &Comparison) {
    let of = |wanted: Fate| -> Vec<&str> {
        let files = comparison.files.iter().filter(|(_, fate)| **fate == wanted);
        files.map(|(path, _)| path.as_str()).collect()
    };
    let (new, changed) = (of(Fate::New), of(Fate::Changed));
    outln!(
        "{:17} {:>5} {:>8} {:>5}   {}   {}",
        day.name,
        new.len(),
        changed.len(),
        of(Fate::Same).len(),
        columns(comparison.lesson()),
        columns(comparison.lines(|_| true)),
    );
    for (sign, paths) in [("+", new), ("~", changed), ("-", of(Fate::Removed))] {
        for line in term::wrap(&paths.join(" "), 88) {
            outln!("    {sign} {line}");
        }
    }
}

/// Lines added and removed, one under the other.
fn columns((added, removed): (usize, usize)) -> String {
    format!("{:>7} {:>6}", format!("+{added}"), format!("-{removed}"))
}
