//! The first half of `prove`: every exercise fails its own suite, and nothing else is broken by it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

use anyhow::Result;

use crate::course::Day;
use crate::panics::{Finding, Step, todos};
use crate::prove::{Report, build, run_all, tail};
use crate::runner::{Outcome, Program};
use crate::scratch::Scratch;
use crate::tree::{self, Tree};
use crate::{blank, exercise};

/// Builds the exercises of these days, all at once, and runs their suites.
///
/// # Errors
///
/// A file cannot be read or written, or a test program cannot be run.
pub(crate) fn prove(root: &Path, days: &[&'static Day], report: &mut Report) -> Result<()> {
    let scratch = Scratch::new(root, "exercises", days)?;
    // To each day the functions that it has changed, as their `todo!` names them.
    let mut changed: BTreeMap<u8, BTreeSet<String>> = BTreeMap::new();
    for day in days {
        let after = tree::read(root, day)?;
        let before = day.before().filter(|before| before.exists(root));
        let befores = before.map(|before| -> Result<Tree> {
            Ok(tree::carried(root, &tree::read(root, before)?, before, day, &after))
        });
        let befores: Vec<Tree> = befores.into_iter().collect::<Result<_>>()?;
        let mut exercise = exercise::make(day.number, &befores, &after, None)?;
        // What would only be a warning for the learner is an error here.
        if let Some(lib) = exercise.tree.get_mut("src/lib.rs") {
            *lib = lib.replacen("#![allow(unused)]", "#![deny(warnings)]\n#![allow(unused)]", 1);
        }
        scratch.put(root, day, &exercise.tree)?;
        let of_day = exercise.to_write().filter(|function| function.changed);
        changed
            .insert(day.number, of_day.map(|function| blank::message(day.number, &function.name)).collect());
    }
    let built = build(&scratch, days, "the exercises", report)?;
    for (day, why) in built.broken {
        report.wrong.push(format!("{}: its exercise does not compile without warnings:\n{why}", day.name));
    }
    for program in &built.programs {
        for day in days.iter().filter(|day| day.name == program.krate) {
            exercise_of(day, program, &changed[&day.number], report)?;
        }
    }
    Ok(())
}

/// Runs the suites of a day on its exercise.
fn exercise_of(day: &Day, program: &Program, changed: &BTreeSet<String>, report: &mut Report) -> Result<()> {
    let start = Instant::now();
    let own_suite = format!("{}::", day.ident());
    let mut names = program.list()?;
    names.sort_by_key(|name| !name.starts_with(&own_suite));
    let tests: Vec<_> = names.iter().map(|name| (program, name.as_str())).collect();
    let outcomes = run_all(&tests)?;
    let row = report.rows.entry(day.number).or_default();
    for (test, outcome) in names.iter().zip(&outcomes) {
        let own = test.starts_with(&own_suite);
        let failed = Finding::of(outcome, day.name).step != Step::Passed;
        *(if own { &mut row.tests } else { &mut row.earlier }) += 1;
        *(if own { &mut row.failing } else { &mut row.earlier_failing }) += usize::from(failed);
        row.hung += usize::from(Finding::of(outcome, day.name).step == Step::Hung);
        row.slowest = row.slowest.max(outcome.time);
        let wrong = judge(day, own, changed, outcome);
        report.wrong.extend(wrong.map(|why| format!("{}: {test}: {why}", day.name)));
    }
    report
        .phases
        .push((format!("tests on the exercise of day {}: {}", day.number, tests.len()), start.elapsed()));
    Ok(())
}

/// What is wrong with the outcome of a test on the exercise of a day, if anything is.
fn judge(day: &Day, own: bool, changed: &BTreeSet<String>, outcome: &Outcome) -> Option<String> {
    let number = day.number;
    let step = Finding::of(outcome, day.name).step;
    let mut todos = todos(&outcome.output);
    let why = match step {
        Step::Passed if own => {
            format!("it passes although day {number} is not written; let it touch what the day adds")
        }
        Step::Passed => return None,
        Step::Hung => "it hangs on the exercise; put what it waits for under a deadline".to_owned(),
        _ if outcome.aborted() => format!(
            "it ends the test program on the exercise, and all tests after it; what panics twice? See:\n{}",
            tail(&outcome.output)
        ),
        _ if own && todos.next().is_some() => return None,
        _ if own => format!(
            "it fails on the exercise, but not at a function that is to be written:\n{}",
            tail(&outcome.output)
        ),
        _ if todos.any(|todo| changed.contains(todo)) => return None,
        _ => format!(
            "it fails on the exercise of day {number}, but not at a function that the day changes:\n{}",
            tail(&outcome.output)
        ),
    };
    Some(why)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::course::DAYS;
    use crate::runner::Verdict;

    /// What is wrong with a test of day 4's own suite, or of an earlier one, that printed this.
    fn wrong(own: bool, verdict: Verdict, output: &str) -> Option<String> {
        let changed = BTreeSet::from(["day 4: Client::call".to_owned()]);
        let outcome = Outcome { verdict, output: output.to_owned(), time: Duration::ZERO };
        judge(&DAYS[3], own, &changed, &outcome)
    }

    fn failed(words: &str) -> String {
        format!("thread 't' panicked at day4-timeout/src/a.rs:1:1:\n{words}\n\ntest result: FAILED. 0 passed")
    }

    #[track_caller]
    fn assert_wrong(why: Option<String>, word: &str) {
        assert!(why.as_ref().is_some_and(|why| why.contains(word)), "expected {word:?}, got {why:?}");
    }

    #[test]
    fn a_test_of_the_day_must_fail_at_a_function_that_is_to_be_written() {
        let new = failed("not yet implemented: day 4: Server::grace_period");
        assert_eq!(wrong(true, Verdict::Failed, &new), None);
        assert_wrong(wrong(true, Verdict::Passed, "test result: ok. 1 passed"), "it passes");
        assert_wrong(wrong(true, Verdict::Failed, &failed("no such file")), "no such file");
    }

    #[test]
    fn an_earlier_test_may_fail_only_at_a_function_that_the_day_changes() {
        let changed = failed("not yet implemented: day 4: Client::call");
        assert_eq!(wrong(false, Verdict::Failed, &changed), None);
        assert_eq!(wrong(false, Verdict::Passed, "test result: ok. 1 passed"), None);
        let new = failed("not yet implemented: day 4: Server::grace_period");
        assert_wrong(wrong(false, Verdict::Failed, &new), "Server::grace_period");
        assert_wrong(wrong(false, Verdict::Failed, &failed("left == right")), "left == right");
    }

    #[test]
    fn no_test_may_hang_or_take_others_along() {
        let todo = "not yet implemented: day 4: Client::call";
        for own in [true, false] {
            assert_wrong(wrong(own, Verdict::Hung, todo), "hangs");
            let late = failed(&format!("{todo}\n\nthe test did not end within 20s"));
            assert_wrong(wrong(own, Verdict::Failed, &late), "hangs");
            let aborted = format!("{todo}\nthread caused non-unwinding panic. aborting.");
            assert_wrong(wrong(own, Verdict::Failed, &aborted), "aborting");
        }
    }
}
