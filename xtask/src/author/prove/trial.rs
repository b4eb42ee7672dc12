//! The tests, with functions unwritten or a lab, and what is wrong with what comes of them.
//!
//! All of them are run side by side: most wait more than they work.

use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, Result};

use super::subject::Subject;
use super::{Report, Wanted, steps, variants};
use crate::course::Day;
use crate::course::failures::{Finding, Step, todos};
use crate::course::runner::{self, NEVER, Outcome, Program, Verdict};
use crate::course::stages;
use crate::learner::lab::Lab;
use crate::learner::strip::{self, Function};

/// Tests of a day that are run in one way.
struct Trial<'a> {
    subject: &'a Subject<'a>,
    with: With<'a>,
    program: Program,
    tests: Vec<String>,
}

enum With<'a> {
    /// The course's solution, and its functions tell when they are called.
    Solution,
    /// The day's exercise.
    Exercise,
    /// The exercise of the stage of this name.
    Stage(String),
    /// The lab of this number.
    Lab(usize, &'a Lab),
}

/// Runs the tests of these days.
///
/// # Errors
///
/// A table cannot be read or written, or a test program cannot be run.
pub(super) fn run(root: &Path, subjects: &[Subject<'_>], wanted: Wanted, report: &mut Report) -> Result<()> {
    let mut trials = Vec::new();
    for subject in subjects {
        trials.extend(of_day(root, subject, wanted)?);
    }
    let tests = trials.iter().flat_map(|trial| trial.tests.iter().map(|test| (&trial.program, &test[..])));
    let tests: Vec<_> = tests.collect();
    errln!("running {} tests", tests.len());
    let outcomes = runner::run_all(&tests, NEVER, |_| ControlFlow::Continue(()))?;
    let mut outcomes = outcomes.into_iter().flatten();
    for trial in &trials {
        let mut ran: Vec<_> = trial.tests.iter().zip(outcomes.by_ref()).collect();
        trial.ask_again(&mut ran)?;
        match &trial.with {
            With::Solution => trial.solution(root, &ran, wanted, report)?,
            With::Exercise => trial.exercise(&ran, report),
            With::Stage(stage) => trial.stage(stage, &ran, report),
            With::Lab(number, lab) => trial.lab(*number, lab, &ran, wanted, report),
        }
    }
    Ok(())
}

/// What is tried out with a day.
fn of_day<'a>(root: &Path, subject: &'a Subject<'a>, wanted: Wanted) -> Result<Vec<Trial<'a>>> {
    let day = subject.source.day;
    let all = subject.program.list()?;
    let own = |is_wanted: &dyn Fn(&str) -> bool| -> Vec<String> {
        all.iter().filter(|test| is_own(day, test) && is_wanted(test)).cloned().collect()
    };
    let trial = |with, program: &Program, env, tests| {
        let program = Program { env: Some(env), ..program.clone() };
        Trial { subject, with, program, tests }
    };
    let tells = (steps::VARIABLE, "1".to_owned());
    let mut trials = vec![trial(With::Solution, &subject.program, tells, own(&|_| true))];
    if wanted.write_stages {
        return Ok(trials);
    }
    let exercise = subject.source.exercise(root, wanted.part())?;
    let functions: Vec<String> = exercise.functions.iter().map(Function::key).collect();
    let unwritten = (steps::UNWRITTEN, functions.join("\n"));
    trials.push(trial(With::Exercise, &subject.program, unwritten, all.clone()));
    for stage in stages::read(root, day)?.into_iter().filter(|stage| !stage.functions.is_empty()) {
        let of_stage = format!("{}::{}::", day.ident(), stage.name);
        let tests = own(&|test| wanted.full || test.starts_with(&of_stage));
        let unwritten = (steps::UNWRITTEN, stage.functions.join("\n"));
        trials.push(trial(With::Stage(stage.name), &subject.program, unwritten, tests));
    }
    for (number, lab, program) in &subject.labs {
        let tests = own(&|test| wanted.full || name(test) == lab.test);
        let meant = (variants::VARIABLE, number.to_string());
        trials.push(trial(With::Lab(*number, lab), program, meant, tests));
    }
    Ok(trials)
}

/// Whether a test is of the day's own suite.
fn is_own(day: &Day, test: &str) -> bool {
    test.split("::").next() == Some(&day.ident())
}

/// The name of a test, without the modules that it is in.
fn name(test: &str) -> &str {
    test.rsplit("::").next().unwrap_or(test)
}

impl Trial<'_> {
    fn day(&self) -> &'static Day {
        self.subject.source.day
    }

    fn step(&self, outcome: &Outcome) -> Step {
        Finding::of(outcome, self.day().name).step
    }

    /// A test that measures time may miss its lab while others run beside it. It is run again, alone.
    fn ask_again(&self, ran: &mut [(&String, Outcome)]) -> Result<()> {
        let With::Lab(_, lab) = &self.with else { return Ok(()) };
        for (test, outcome) in ran {
            if name(test) == lab.test && self.step(outcome) == Step::Passed {
                let alone = [(&self.program, test.as_str())];
                let again = runner::run_all(&alone, NEVER, |_| ControlFlow::Continue(()))?;
                *outcome = again.into_iter().flatten().next().context("the test was not run")?;
            }
        }
        Ok(())
    }

    /// All tests pass; and they tell what each step needs, which the table of the stages has, or is given.
    fn solution(
        &self,
        root: &Path,
        ran: &[(&String, Outcome)],
        wanted: Wanted,
        report: &mut Report,
    ) -> Result<()> {
        let day = self.day();
        for (test, outcome) in ran.iter().filter(|(_, outcome)| self.step(outcome) != Step::Passed) {
            let tail = tail(&outcome.output);
            report.wrong.push(format!("{}: {test} fails without a lab:\n{tail}", day.name));
        }
        let given = stages::given(root, day)?;
        let walls = steps::walls(day, &self.subject.source.after, &self.subject.functions, &given, ran)?;
        if wanted.write_stages {
            stages::write(root, day, &walls.stages)?;
        } else if let Some(why) = stages::differ(&stages::read(root, day)?, &walls.stages) {
            let mend = format!("cargo xtask author prove --write-stages --day {}", day.number);
            report.wrong.push(format!("day {}: {why}; to mend it: {mend}", day.number));
        }
        report.rows.entry(day.number).or_default().walls = Some(walls);
        Ok(())
    }

    /// What needs a function fails at its `todo!`.
    fn exercise(&self, ran: &[(&String, Outcome)], report: &mut Report) {
        let day = self.day();
        let row = report.rows.entry(day.number).or_default();
        for (test, outcome) in ran {
            let (own, step) = (is_own(day, test), self.step(outcome));
            let count = if own { &mut row.own } else { &mut row.earlier };
            count.tests += 1;
            count.failing += usize::from(step != Step::Passed);
            row.hung += usize::from(step == Step::Hung);
            row.slowest = row.slowest.max(outcome.time);
            let wrong = unlike_an_exercise(day, own, outcome);
            report.wrong.extend(wrong.map(|why| format!("{}: {test}: {why}", day.name)));
        }
    }

    /// What needs a function of the stage fails at its `todo!`. A test may pass while a task behind it comes to a
    /// `todo!`; but not all tests of a stage.
    fn stage(&self, stage: &str, ran: &[(&String, Outcome)], report: &mut Report) {
        let day = self.day();
        let alone = format!("{}, stage {stage} alone", day.name);
        let of_stage = format!("{}::{stage}::", day.ident());
        for (test, outcome) in ran {
            let wrong = unlike_an_exercise(day, false, outcome);
            report.wrong.extend(wrong.map(|why| format!("{alone}: {test}: {why}")));
        }
        let mut of_stage = ran.iter().filter(|(test, _)| test.starts_with(&of_stage));
        if of_stage.all(|(_, outcome)| self.step(outcome) == Step::Passed) {
            report.wrong.push(format!("{alone}: all of its tests pass"));
        }
    }

    /// The test that is named fails, by itself.
    fn lab(&self, number: usize, lab: &Lab, ran: &[(&String, Outcome)], wanted: Wanted, report: &mut Report) {
        let lab_name = format!("day {}, lab {number} ({})", self.day().number, lab.title);
        if wanted.full {
            let failing = ran.iter().filter(|(_, outcome)| self.step(outcome) != Step::Passed).count();
            outln!("{lab_name}: {failing} of {} tests fail", ran.len());
        }
        let row = report.rows.entry(self.day().number).or_default();
        if ran.iter().all(|(test, _)| name(test) != lab.test) {
            report.wrong.push(format!("{lab_name}: {} has no test {}", self.day().ident(), lab.test));
        }
        for (test, outcome) in ran {
            let is_named = name(test) == lab.test;
            let step = self.step(outcome);
            row.slowest = row.slowest.max(outcome.time);
            // A test may end at its own deadline only where the defect blocks the thread, and no other one could see it.
            let killed = outcome.verdict == Verdict::Hung;
            row.hung += usize::from(killed);
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
            report.wrong.push(format!("{lab_name}: {test} {why}"));
        }
    }
}

/// What is wrong with the outcome of a test on the exercise of a day, if anything is. An earlier day's test may come to
/// a function of the day, too, where the day has changed what it calls.
fn unlike_an_exercise(day: &Day, own: bool, outcome: &Outcome) -> Option<String> {
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

/// The last lines of what a test printed.
fn tail(output: &str) -> String {
    const LINES: usize = 12;
    let lines: Vec<&str> = output.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LINES)..].iter().map(|line| format!("    | {line}\n")).collect()
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
        unlike_an_exercise(&DAYS[3], own, &outcome)
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
