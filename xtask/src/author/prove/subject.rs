//! A day's suites in one program for all questions: its labs are variants of its functions (see `variants`), and each
//! function that an exercise may leave to the learner can be a `todo!()` (see `steps`).
//!
//! A lab that cannot be a variant has a program of its own.

use std::collections::BTreeSet;
use std::path::Path;
use std::slice;

use anyhow::{Context, Result};

use super::scratch::Scratch;
use super::variants::{self, Edit};
use super::{Report, Source, Wanted, steps};
use crate::course::runner::{self, Program};
use crate::course::tree::Tree;
use crate::course::{DAYS, Day, is_program, suites};
use crate::learner::lab::{self, Lab};
use crate::learner::strip::Function;

/// A day that has been built.
pub(super) struct Subject<'a> {
    pub(super) source: &'a Source,
    /// The functions that can be a `todo!()`.
    pub(super) functions: Vec<String>,
    pub(super) program: Program,
    /// The labs with their numbers from 1, and the program that each of them is in.
    pub(super) labs: Vec<(usize, Lab, Program)>,
}

/// Builds these days, and tells of those that do not compile.
///
/// # Errors
///
/// A file cannot be read or written, or cargo cannot be run.
pub(super) fn build<'a>(
    root: &Path,
    sources: &'a [Source],
    wanted: Wanted,
    report: &mut Report,
) -> Result<Vec<Subject<'a>>> {
    errln!("building the suites, with all labs at once");
    let scratch = Scratch::new(root, "labs", sources)?;
    let mut parts = Vec::new();
    for source in sources {
        let labs = if wanted.write_stages { Vec::new() } else { fitting(root, source, report) };
        let functions: Vec<_> = source.everything()?.functions.iter().map(Function::key).collect();
        let mut tree = without_program(&source.after);
        if !source.changes_library() {
            tree = with_own_suite(tree, source.day);
        }
        let alone = add_labs(&mut tree, &labs)?;
        steps::add_marks(source.day, &mut tree, &functions)?;
        scratch.put(root, source.day, &tree)?;
        parts.push((source, functions, labs, alone));
    }
    let days: Vec<&Day> = sources.iter().map(|source| source.day).collect();
    let mut programs = match runner::build(&scratch.workspace, &days, false, |_| {})? {
        Ok(programs) => programs,
        Err(_) => build_each(&scratch, &days, report)?,
    };
    let mut subjects = Vec::new();
    for (source, functions, labs, alone) in parts {
        let Some(at) = programs.iter().position(|program| program.krate == source.day.name) else { continue };
        let program = programs.swap_remove(at);
        let mut built = Vec::new();
        for (number, lab) in labs {
            let program = if alone.contains(&number) {
                build_alone(root, source, number, &lab, report)?
            } else {
                Some(program.clone())
            };
            built.extend(program.map(|program| (number, lab, program)));
        }
        subjects.push(Subject { source, functions, program, labs: built });
    }
    Ok(subjects)
}

/// Builds one day after the other, to find out which of them does not compile.
fn build_each(scratch: &Scratch, days: &[&Day], report: &mut Report) -> Result<Vec<Program>> {
    let mut programs = Vec::new();
    for day in days {
        match runner::build(&scratch.workspace, &[*day], false, |_| {})? {
            Ok(built) => programs.extend(built),
            Err(errors) => {
                let why = errors.join("\n");
                report.wrong.push(format!("{}: it does not compile with its labs:\n{why}", day.name));
            }
        }
    }
    Ok(programs)
}

/// Builds a day with this lab and no other. `None`: it does not compile.
fn build_alone(
    root: &Path,
    source: &Source,
    number: usize,
    lab: &Lab,
    report: &mut Report,
) -> Result<Option<Program>> {
    let day = source.day;
    errln!("building day {} with lab {number} alone", day.number);
    let scratch = Scratch::new(root, &format!("day{}-lab{number}", day.number), slice::from_ref(source))?;
    let mut tree = with_own_suite(without_program(&source.after), day);
    if let Some(text) = tree.get_mut(&lab.file) {
        *text = lab.apply(text)?;
    }
    scratch.put(root, day, &tree)?;
    let built = runner::build(&scratch.workspace, &[day], false, |_| {})?;
    match built {
        Ok(mut programs) => Ok(programs.pop()),
        Err(errors) => {
            let why = errors.join("\n");
            report.wrong.push(format!("day {}, lab {number}: it does not compile:\n{why}", day.number));
            Ok(None)
        }
    }
}

/// The labs that fit the day's files; of the others, the report tells.
fn fitting(root: &Path, source: &Source, report: &mut Report) -> Vec<(usize, Lab)> {
    let labs = lab::load(root, source.day).unwrap_or_else(|error| {
        report.wrong.push(format!("{error:#}"));
        Vec::new()
    });
    report.rows.entry(source.day.number).or_default().labs = labs.len();
    let mut fitting = Vec::new();
    for (number, lab) in (1..).zip(labs) {
        let why = match source.after.get(&lab.file).map(|text| lab.edit(text)) {
            Some(Ok(_)) => {
                fitting.push((number, lab));
                continue;
            }
            Some(Err(error)) => format!("{error}"),
            None => format!("the library has no {}", lab.file),
        };
        report.wrong.push(format!("day {}, lab {number} ({}): {why}", source.day.number, lab.title));
    }
    fitting
}

/// Puts the labs into the day's files as variants, and returns the numbers of those that cannot be one.
fn add_labs(tree: &mut Tree, labs: &[(usize, Lab)]) -> Result<Vec<usize>> {
    let mut alone = Vec::new();
    for path in labs.iter().map(|(_, lab)| lab.file.as_str()).collect::<BTreeSet<_>>() {
        let Some(source) = tree.get_mut(path) else { continue };
        let mut edits = Vec::new();
        for (number, lab) in labs.iter().filter(|(_, lab)| lab.file == path) {
            let (at, by) = lab.edit(source)?;
            edits.push(Edit { number: *number, at, by });
        }
        let (text, left_over) = variants::combine(source, &edits).with_context(|| path.to_owned())?;
        alone.extend(left_over);
        *source = text;
    }
    if let Some(lib) = tree.get_mut("src/lib.rs") {
        lib.push_str(variants::LAB_FN);
    }
    Ok(alone)
}

/// A day with a program that does nothing, as none of its suites runs it. It saves building the real one.
fn without_program(tree: &Tree) -> Tree {
    let mut tree = tree.clone();
    tree.retain(|path, _| !is_program(path));
    tree.insert("src/main.rs".to_owned(), "//! Nothing.\n\nfn main() {}\n".to_owned());
    tree
}

/// A day with its own suite only.
fn with_own_suite(mut tree: Tree, day: &Day) -> Tree {
    if let Some(main) = tree.get_mut(&format!("{}/main.rs", suites::DIR)) {
        for earlier in DAYS.iter().filter(|earlier| earlier.number < day.number) {
            *main = main.replace(&format!("mod {};\n", earlier.ident()), "");
        }
    }
    tree
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lab_that_is_alone_is_tried_out_with_the_library_and_the_days_own_suite() {
        let main = "mod day1_codec;\nmod day2_client;\nmod support;\n";
        let files = [("src/lib.rs", ""), ("src/main.rs", ""), ("tests/suites/main.rs", main)];
        let tree = files.map(|(path, text)| (path.to_owned(), text.to_owned())).into();
        let tree = with_own_suite(without_program(&tree), &DAYS[1]);
        assert_eq!(tree["tests/suites/main.rs"], "mod day2_client;\nmod support;\n");
        assert_ne!(tree["src/main.rs"], "");
    }
}
