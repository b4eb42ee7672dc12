//! `days`: each day against the day before.
//!
//! The course promises that the difference between two days is the lesson and nothing else. This shows the
//! difference, in files and lines, and fails where the promise is broken (see `checks` and `layers`). The crate's name is
//! translated first. Days that are not written yet are skipped, so that it can be used from the first day
//! on.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};

use crate::author::{checks, layers};
use crate::course::term;
use crate::course::tree::{self, Tree};
use crate::course::{DAYS, Day, is_demo};

/// What became of a file from one day to the next.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Fate {
    New,
    Changed,
    Same,
    Removed,
}

/// A file against the day before.
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) fate: Fate,
    /// Lines.
    pub(crate) added: usize,
    pub(crate) removed: usize,
}

/// Lines added to and removed from `src/` without the demo.
pub(crate) fn lesson(files: &[File]) -> (usize, usize) {
    lines(files, |path| path.starts_with("src/") && !is_demo(path))
}

fn lines(files: &[File], wanted: impl Fn(&str) -> bool) -> (usize, usize) {
    let wanted = || files.iter().filter(|file| wanted(&file.path));
    (wanted().map(|file| file.added).sum(), wanted().map(|file| file.removed).sum())
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
    if let Some(day) = only {
        day.must_exist(root).with_context(|| format!("day {} cannot be shown", day.number))?;
    }
    let mut failures = Vec::new();
    outln!("                           files                   src/       everything");
    outln!("                    new  changed  same      but main.rs");
    for day in DAYS.iter().filter(|day| only.is_none_or(|only| only.number == day.number)) {
        if !day.exists(root) {
            outln!("note: {} is skipped: it does not exist yet", day.name);
            continue;
        }
        let after = tree::read(root, day)?;
        let mut wrong = checks::dependencies(root, day, &after)?;
        wrong.extend(checks::length(&after));
        match layers::check(&after) {
            Ok(found) => wrong.extend(found),
            Err(error) => wrong.push(format!("{error:#}")),
        }
        wrong.extend(checks::suite(root, day, &after));
        wrong.extend(checks::excerpts(root, day, &after));
        match day.before() {
            Some(before) if !before.exists(root) => {
                outln!("note: {} is not compared: {} does not exist yet", day.name, before.name);
            }
            before => {
                let files = compare(root, before, day, &after)?;
                print(day, &files);
                wrong.extend(before.into_iter().flat_map(|before| checks::lesson(before, &files)));
                wrong.extend(checks::readme(root, day, &files));
                failures.extend(checks::promise(root, day, &after, &files));
            }
        }
        failures.extend(wrong.into_iter().map(|why| format!("{}/{why}", day.name)));
    }
    if only.is_none() {
        failures.extend(checks::all_hours(root)?);
    }
    outln!();
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
fn compare(root: &Path, before: Option<&Day>, day: &Day, after: &Tree) -> Result<Vec<File>> {
    let before = match before {
        Some(before) => tree::carried(root, &tree::read(root, before)?, before, day, after),
        None => Tree::new(),
    };
    let paths: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let files = paths.into_iter().map(|path| {
        let [old, new] = [&before, after].map(|tree| tree.get(path).map(String::as_str));
        let fate = match (old, new) {
            (None, _) => Fate::New,
            (_, None) => Fate::Removed,
            _ if old == new => Fate::Same,
            _ => Fate::Changed,
        };
        let (added, removed) = tree::count(old.unwrap_or_default(), new.unwrap_or_default());
        File { path: path.clone(), fate, added, removed }
    });
    Ok(files.collect())
}

/// A line of numbers, and under it the names behind them.
fn print(day: &Day, files: &[File]) {
    let of = |wanted: Fate| -> Vec<&str> {
        files.iter().filter(|file| file.fate == wanted).map(|file| file.path.as_str()).collect()
    };
    let (new, changed) = (of(Fate::New), of(Fate::Changed));
    outln!(
        "{:17} {:>5} {:>8} {:>5}   {}   {}",
        day.name,
        new.len(),
        changed.len(),
        of(Fate::Same).len(),
        columns(lesson(files)),
        columns(lines(files, |_| true)),
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
