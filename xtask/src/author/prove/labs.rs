//! The second half of `prove`: every lab is caught by the test that it names.
//!
//! Most labs of a day are built at once, as variants of its functions (see `variants`). What cannot be one is built
//! alone, in rounds: the first such lab of every day, then the second, and so on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::author::prove::scratch::Scratch;
use crate::author::prove::steps;
use crate::author::prove::variants::{self, Edit};
use crate::author::prove::{Report, Wanted, alone, build, run_all, tail};
use crate::course::failures::{Finding, Step};
use crate::course::runner::{Program, Verdict};
use crate::course::tree::{self, Tree};
use crate::course::{DAYS, Day, is_program};
use crate::course::{stages, suites};
use crate::learner::lab::{self, Lab};

/// One lab of a day.
struct Case<'a> {
    day: &'static Day,
    /// From 1.
    number: usize,
    lab: &'a Lab,
    /// It is built without the day's other labs.
    alone: bool,
}

impl Case<'_> {
    fn name(&self) -> String {
        format!("day {}, lab {} ({})", self.day.number, self.number, self.lab.title)
    }
}

/// Tries out the labs of these days. With `full`, each of them on all of the day's suite; with `write_stages`, none
/// of them, as only the steps are wanted.
///
/// # Errors
///
/// A file cannot be read or written, or a test program cannot be run.
pub(crate) fn prove(root: &Path, days: &[&'static Day], wanted: Wanted, report: &mut Report) -> Result<()> {
    let mut loaded = Vec::new();
    for day in days {
        let labs = if wanted.write_stages { Ok(Vec::new()) } else { lab::load(root, day) };
        match labs {
            Ok(labs) => loaded.push((*day, labs)),
            Err(error) => report.wrong.push(format!("{error:#}")),
        }
    }
    let days: Vec<&'static Day> = loaded.iter().map(|(day, _)| *day).collect();

    let scratch = Scratch::new(root, "labs", &days)?;
    let (mut cases, mut marked) = (Vec::new(), Vec::new());
    for (day, labs) in &loaded {
        report.rows.entry(day.number).or_default().labs = labs.len();
        let tree = bare(tree::read(root, day)?, day);
        let mut of_day = fitting(day, labs, &tree, report);
        let functions = steps::functions(root, day, &tree::read(root, day)?)?;
        let mut combined = at_once(&tree, &mut of_day)?;
        steps::add_marks(day, &mut combined, &functions)?;
        scratch.put(root, day, &combined)?;
        cases.extend(of_day);
        marked.push((*day, tree, functions));
    }
    let built = build(&scratch, &days, "the labs, all at once", report)?;
    // Where they do not compile together, each is built alone, to find out which it is.
    for case in &mut cases {
        case.alone |= built.broken.iter().any(|(day, _)| day.number == case.day.number);
    }
    let (alone, together): (Vec<_>, Vec<_>) = cases.into_iter().partition(|case| case.alone);
    without(root, &built.programs, &marked, report)?;
    for (day, ..) in &marked {
        let Some(walls) = report.rows.get(&day.number).and_then(|row| row.walls.as_ref()) else {
            report.wrong.push(format!(
                "day {}: it does not compile with its labs, so its stages are not known",
                day.number
            ));
            continue;
        };
        if wanted.write_stages {
            stages::write(root, day, &walls.stages)?;
        } else if let Some(why) = stages::differ(&stages::read(root, day)?, &walls.stages) {
            let mend = format!("cargo xtask author prove --write-stages --day {}", day.number);
            report.wrong.push(format!("day {}: {why}; to mend it: {mend}", day.number));
        }
    }
    if wanted.write_stages {
        return Ok(());
    }
    let full = wanted.full;
    for (day, ..) in &marked {
        let stages =
            report.rows.get(&day.number).and_then(|row| row.walls.as_ref()).map(|walls| walls.stages.clone());
        let program = built.programs.iter().find(|program| program.krate == day.name);
        if let (Some(stages), Some(program)) = (stages, program) {
            alone::run(day, program, &stages, full, report)?;
        }
    }
    try_out(&built.programs, &together, full, report)?;

    let rounds = rounds(alone);
    for (number, round) in (1..).zip(&rounds) {
        let days: Vec<&'static Day> = round.iter().map(|case| case.day).collect();
        let scratch = Scratch::new(root, "one-lab", &days)?;
        for Case { day, lab, .. } in round {
            let mut tree = bare(tree::read(root, day)?, day);
            if let Some(text) = tree.get_mut(&lab.file) {
                *text = lab.apply(text)?;
            }
            scratch.put(root, day, &tree)?;
        }
        let what = format!("the labs that must be alone, round {number} of {}", rounds.len());
        let built = build(&scratch, &days, &what, report)?;
        for (day, why) in built.broken {
            let case = round.iter().find(|case| case.day.number == day.number);
            let name = case.map(Case::name).unwrap_or_default();
            report.wrong.push(format!("{name}: it does not compile:\n{why}"));
        }
        try_out(&built.programs, round, full, report)?;
    }
    Ok(())
}

/// The labs that fit the day's files; of the others, the report tells.
fn fitting<'a>(day: &'static Day, labs: &'a [Lab], tree: &Tree, report: &mut Report) -> Vec<Case<'a>> {
    let mut cases = Vec::new();
    for (number, lab) in (1..).zip(labs) {
        let case = Case { day, number, lab, alone: false };
        match tree.get(&lab.file).map(|text| lab.edit(text)) {
            Some(Ok(_)) => cases.push(case),
            Some(Err(error)) => report.wrong.push(format!("{}: {error}", case.name())),
            None => report.wrong.push(format!("{}: the library has no {}", case.name(), lab.file)),
        }
    }
    cases
}

/// A day with its own suite and its library only: what labs are tried out with. It saves building the rest.
fn bare(mut tree: Tree, day: &Day) -> Tree {
    let is_suite = |path: &str| path.starts_with(suites::DIR);
    let uses_program = tree.iter().any(|(path, text)| is_suite(path) && text.contains("CARGO_BIN_EXE"));
    if !uses_program {
        tree.retain(|path, _| !is_program(path));
        tree.insert("src/main.rs".to_owned(), "//! Nothing.\n\nfn main() {}\n".to_owned());
    }
    for earlier in DAYS.iter().filter(|earlier| earlier.number < day.number) {
        if let Some(main) = tree.get_mut(&format!("{}/main.rs", suites::DIR)) {
            *main = main.replace(&format!("mod {};\n", earlier.ident()), "");
        }
    }
    tree
}

/// The day with all of these labs as variants, but for those that it then marks as alone.
fn at_once(tree: &Tree, cases: &mut [Case<'_>]) -> Result<Tree> {
    let mut combined = tree.clone();
    let files: BTreeSet<&str> = cases.iter().map(|case| case.lab.file.as_str()).collect();
    for (path, source) in tree.iter().filter(|(path, _)| files.contains(path.as_str())) {
        let mut edits = Vec::new();
        for case in cases.iter().filter(|case| case.lab.file == *path) {
            let (at, by) = case.lab.edit(source)?;
            edits.push(Edit { number: case.number, at, by });
        }
        let (text, left_over) = variants::combine(source, &edits).with_context(|| path.clone())?;
        combined.insert(path.clone(), text);
        for case in cases.iter_mut().filter(|case| case.lab.file == *path) {
            case.alone = left_over.contains(&case.number);
        }
    }
    if let Some(lib) = combined.get_mut("src/lib.rs") {
        lib.push_str(variants::LAB_FN);
    }
    Ok(combined)
}

/// The name of a test, without the modules that it is in.
fn name(path: &str) -> &str {
    path.rsplit("::").next().unwrap_or(path)
}

/// In each round at most one lab of a day.
fn rounds(cases: Vec<Case<'_>>) -> Vec<Vec<Case<'_>>> {
    let mut rounds: Vec<Vec<Case<'_>>> = Vec::new();
    for case in cases {
        let is_free =
            |round: &&mut Vec<Case<'_>>| round.iter().all(|other| other.day.number != case.day.number);
        match rounds.iter_mut().find(is_free) {
            Some(round) => round.push(case),
            None => rounds.push(vec![case]),
        }
    }
    rounds
}

/// Without a lab, all tests of the days' own suites pass; and they tell which functions each step needs.
fn without(
    root: &Path,
    programs: &[Program],
    days: &[(&'static Day, Tree, Vec<String>)],
    report: &mut Report,
) -> Result<()> {
    let start = Instant::now();
    let mut count = 0;
    for (day, tree, functions) in days {
        let Some(program) = programs.iter().find(|program| program.krate == day.name) else { continue };
        let program = Program { env: Some((steps::VARIABLE, "1".to_owned())), ..program.clone() };
        let names = program.list()?;
        let tests: Vec<_> = names.iter().map(|name| (&program, name.as_str())).collect();
        let outcomes = run_all(&tests)?;
        for (test, outcome) in names.iter().zip(&outcomes) {
            if Finding::of(outcome, day.name).step != Step::Passed {
                let tail = tail(&outcome.output);
                report.wrong.push(format!("{}: {test} fails without a lab:\n{tail}", day.name));
            }
        }
        count += names.len();
        let outcomes: Vec<_> = names.into_iter().zip(outcomes).collect();
        let walls = steps::walls(day, tree, functions, &stages::given(root, day)?, &outcomes)?;
        report.rows.entry(day.number).or_default().walls = Some(walls);
    }
    report.phases.push((format!("tests without a lab: {count}"), start.elapsed()));
    Ok(())
}

/// Runs the test of each lab, or all of the day's suite.
fn try_out(programs: &[Program], cases: &[Case<'_>], full: bool, report: &mut Report) -> Result<()> {
    let start = Instant::now();
    let mut jobs: Vec<(&Case<'_>, Program, String)> = Vec::new();
    for case in cases {
        let Some(program) = programs.iter().find(|program| program.krate == case.day.name) else { continue };
        let names = program.list()?;
        if names.iter().all(|path| name(path) != case.lab.test) {
            let suite = case.day.ident();
            report.wrong.push(format!("{}: {suite} has no test {}", case.name(), case.lab.test));
            continue;
        }
        let env = Some((variants::VARIABLE, case.number.to_string()));
        let program = Program { env, ..program.clone() };
        let wanted = names.into_iter().filter(|path| full || name(path) == case.lab.test);
        jobs.extend(wanted.map(|path| (case, program.clone(), path)));
    }
    let tests: Vec<_> = jobs.iter().map(|(_, program, path)| (program, path.as_str())).collect();
    let outcomes = run_all(&tests)?;
    // To each lab the tests that fail with it, and all that were run.
    let mut failing: BTreeMap<(u8, usize), (usize, usize)> = BTreeMap::new();
    for ((case, _, test), outcome) in jobs.iter().zip(&outcomes) {
        let row = report.rows.entry(case.day.number).or_default();
        let is_named = name(test) == case.lab.test;
        let step = Finding::of(outcome, case.day.name).step;
        row.slowest = row.slowest.max(outcome.time);
        // A test may end at its own deadline only where the defect blocks the thread, and no other one could see it.
        let killed = outcome.verdict == Verdict::Hung;
        row.hung += usize::from(killed);
        let count = failing.entry((case.day.number, case.number)).or_default();
        *count = (count.0 + usize::from(step != Step::Passed), count.1 + 1);
        let why = match step {
            Step::Passed if !is_named => continue,
            Step::Passed => "passes; let it see the difference, or name the one that does".to_owned(),
            _ if killed => "hangs; put what it waits for under a deadline".to_owned(),
            _ if outcome.aborted() => format!("ends the test program:\n{}", tail(&outcome.output)),
            _ => {
                row.caught += usize::from(is_named);
                continue;
            }
        };
        report.wrong.push(format!("{}: {test} {why}", case.name()));
    }
    for case in cases.iter().filter(|_| full) {
        let (failing, all) = failing.get(&(case.day.number, case.number)).copied().unwrap_or_default();
        outln!("{}: {failing} of {all} tests fail", case.name());
    }
    report.phases.push((format!("tests with a lab: {}", tests.len()), start.elapsed()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labs_are_tried_out_with_the_library_and_the_days_own_suite() {
        let tree = |suite: &str| -> Tree {
            let main = "mod day1_codec;\nmod day2_client;\nmod support;\n";
            let files = [("src/lib.rs", ""), ("src/main.rs", ""), ("tests/suites/main.rs", main)];
            let files = files.into_iter().chain([("tests/suites/day2_client/mod.rs", suite)]);
            files.map(|(path, text)| (path.to_owned(), text.to_owned())).collect()
        };
        let bare = |suite: &str| bare(tree(suite), &DAYS[1]);
        assert_eq!(bare("")["tests/suites/main.rs"], "mod day2_client;\nmod support;\n");
        assert_ne!(bare("")["src/main.rs"], "");
        assert_eq!(bare("env!(\"CARGO_BIN_EXE_day2-client\")")["src/main.rs"], "");
    }
}
