//! The first half of `prove`: a test that needs a function of the exercise fails at its `todo!`, and all others pass.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;

use crate::author::prove::{Report, build, run_all, tail};
use crate::author::prove::{scratch::Scratch, steps};
use crate::course::Day;
use crate::course::failures::{Finding, Step, todos};
use crate::course::runner::{Outcome, Program};
use crate::course::tree;
use crate::learner::exercise::{self, Part};
use crate::learner::strip;

/// Builds the exercises of these days (their core, or all of them), all at once, and runs their suites.
///
/// # Errors
///
/// A file cannot be read or written, or a test program cannot be run.
pub(crate) fn prove(root: &Path, days: &[&'static Day], part: Part<'_>, report: &mut Report) -> Result<()> {
    let scratch = Scratch::new(root, "exercises", days)?;
    for day in days {
        let after = tree::read(root, day)?;
        let before = steps::before(root, day, &after)?;
        let (_, mut exercise) = exercise::plan(root, day, before.as_ref(), &after, part)?;
        // What would only be a warning for the learner is an error here.
        if let Some(lib) = exercise.tree.get_mut("src/lib.rs") {
            *lib = lib.replacen("#![allow(unused)]", "#![deny(warnings)]\n#![allow(unused)]", 1);
        }
        scratch.put(root, day, &exercise.tree)?;
    }
    let built = build(&scratch, days, "the exercises", report)?;
    for (day, why) in built.broken {
        report.wrong.push(format!("{}: its exercise does not compile without warnings:\n{why}", day.name));
    }
    for program in &built.programs {
        for day in days.iter().filter(|day| day.name == program.krate) {
            exercise_of(day, program, report)?;
        }
    }
    Ok(())
}

/// Runs the suites of a day on its exercise.
fn exercise_of(day: &Day, program: &Program, report: &mut Report) -> Result<()> {
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
        let wrong = judge(day, own, outcome);
        report.wrong.extend(wrong.map(|why| format!("{}: {test}: {why}", day.name)));
    }
    report
        .phases
        .push((format!("tests on the exercise of day {}: {}", day.number, tests.len()), start.elapsed()));
    Ok(())
}

/// What is wrong with the outcome of a test on the exercise of a day, if anything is. An earlier day's test may come to
/// a function of the day, too, where the day has changed what it calls.
pub(crate) fn judge(day: &Day, own: bool, outcome: &Outcome) -> Option<String> {
    let mut todos = todos(&outcome.output);
    let comes_to_a_todo = todos.any(|todo| todo.starts_with(&strip::message(day.number, "")));
    let tail = tail(&outcome.output);
    match Finding::of(outcome, day.name).step {
        Step::Passed if own && comes_to_a_todo => {
            Some("it passes although it came to a function that is to be written".to_owned())
        }
        Step::Passed => None,
        Step::Hung => Some("it hangs on the exercise; put what it waits for under a deadline".to_owned()),
        _ if outcome.aborted() => Some(format!(
            "it ends the test program on the exercise, and all tests after it; what panics twice? See:\n{tail}"
        )),
        _ if comes_to_a_todo => None,
        _ => Some(format!("it fails on the exercise, but not at a function that is to be written:\n{tail}")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::course::DAYS;
    use crate::course::runner::Verdict;

    /// What is wrong with a test of day 4's own suite, or of an earlier one, that printed this.
    fn wrong(own: bool, verdict: Verdict, output: &str) -> Option<String> {
        let outcome = Outcome { verdict, output: output.to_owned(), time: Duration::ZERO };
        judge(&DAYS[3], own, &outcome)
    }

    fn failed(words: &str) -> String {
        format!("thread 't' panicked at day4-timeout/src/a.rs:1:1:\n{words}\n\ntest result: FAILED. 0 passed")
    }

    #[track_caller]
    fn assert_wrong(why: Option<String>, word: &str) {
        assert!(why.as_ref().is_some_and(|why| why.contains(word)), "expected {word:?}, got {why:?}");
    }

    #[test]
    fn a_test_passes_or_fails_at_a_function_that_is_to_be_written() {
        let todo = failed("not yet implemented: day 4: Client::call");
        for own in [true, false] {
            assert_eq!(wrong(own, Verdict::Passed, "test result: ok. 1 passed"), None);
            assert_eq!(wrong(own, Verdict::Failed, &todo), None);
            assert_wrong(wrong(own, Verdict::Failed, &failed("no such file")), "no such file");
            let other = failed("not yet implemented: day 3: Service::call");
            assert_wrong(wrong(own, Verdict::Failed, &other), "Service::call");
        }
        assert_wrong(wrong(true, Verdict::Passed, &todo), "it passes");
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
