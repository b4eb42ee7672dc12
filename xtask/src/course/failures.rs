//! What the output of one test says: how far it came, why it stopped, and where.
//!
//! A test prints every panic of its process: its own, those of tasks that it started, and those that it wants to
//! see caught. So the one that explains a failure has to be found.

use crate::course::runner::{Outcome, Verdict};
use crate::course::term;

/// What `todo!("day 2: …")` says before its own words.
const TODO: &str = "not yet implemented";

/// How the message begins of a test that was not done in time (see `tests/suites/support/mod.rs`).
const TOO_LATE: &str = "the test did not end within";

/// The most lines of a message that are shown, and the most characters of a line.
const MAX_LINES: usize = 8;
const MAX_CHARS: usize = 240;

/// Two values that differ are cut so that the first difference is seen after at most this many characters.
const MAX_SAME: usize = 24;

/// How far a step came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Passed,
    Failed,
    /// It did not end by itself.
    Hung,
    /// It came to a function that is not written yet.
    NotReached,
    /// It was not begun, or not run to its end, as others hang.
    NotRun,
}

/// What came of a step.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Finding {
    pub(crate) step: Step,
    /// The reason, in one line; with two values that differ, or a longer message, in a few.
    pub(crate) reason: Vec<String>,
    /// Such as `day2-client/src/client/in_flight.rs:88`. `None`: in the test itself, or nowhere in particular.
    pub(crate) place: Option<String>,
    /// What the test said after that, if the reason was a panic in the crate's own code.
    pub(crate) then: Vec<String>,
}

#[derive(Debug, PartialEq)]
struct Panic {
    /// `path:line`
    place: String,
    message: String,
}

/// What the `todo!`s say that a test has come to, such as `day 2: Pending::register`.
pub(crate) fn todos(output: &str) -> impl Iterator<Item = &str> {
    output.lines().filter_map(|line| line.strip_prefix(TODO)?.strip_prefix(": "))
}

impl Finding {
    /// There is nothing to say but how far the step came.
    pub(crate) fn bare(step: Step) -> Finding {
        Finding { step, reason: Vec::new(), place: None, then: Vec::new() }
    }

    /// The function whose `todo!` was come to, if it is one of an exercise.
    pub(crate) fn todo(&self, day: u8) -> Option<&str> {
        let words = self.reason.first()?.strip_prefix(TODO)?;
        words.strip_prefix(&format!(": day {day}: ")).filter(|_| self.step == Step::NotReached)
    }

    /// What the outcome of a test of this crate says.
    pub(crate) fn of(outcome: &Outcome, krate: &str) -> Finding {
        if outcome.verdict == Verdict::Passed {
            return Finding::bare(Step::Passed);
        }
        let hung = outcome.verdict == Verdict::Hung || outcome.output.contains(TOO_LATE);
        let panics = panics(&outcome.output);
        if let Some(todo) = panics.iter().find(|panic| panic.message.starts_with(TODO)) {
            let step = if hung { Step::Hung } else { Step::NotReached };
            let reason = vec![todo.message.lines().next().unwrap_or(TODO).to_owned()];
            return Finding { reason, place: Some(todo.place.clone()), ..Finding::bare(step) };
        }
        let step = if hung { Step::Hung } else { Step::Failed };
        let seconds = outcome.time.as_secs();
        // A panic of the library is the cause of what the test says later. Of those in the suite, the last
        // is the test's own: others may be wanted.
        let own = panics.iter().find(|panic| panic.place.starts_with(&format!("{krate}/src/")));
        let in_tests = |panic: &&Panic| panic.place.starts_with(&format!("{krate}/tests/"));
        let last = panics.iter().rev().find(in_tests).or(panics.iter().rev().find(|panic| !panic.is_std()));
        let (reason, place) = match own.or(last) {
            // What stands under this message is what the test goes on printing.
            Some(panic) if panic.message.starts_with(TOO_LATE) => {
                (readable(panic.message.lines().next().unwrap_or_default(), PLAIN), None)
            }
            Some(panic) => (panic.readable(krate), panic.shown_place(krate)),
            None if hung => (vec![format!("it was still running after {seconds} s, and was ended")], None),
            None => (vec![without_panic(&outcome.output)], None),
        };
        let then = own.and(last).filter(|last| Some(*last) != own);
        let then = match then {
            Some(panic) => panic.readable(krate),
            None if own.is_some() && hung => vec![format!("it was still running after {seconds} s")],
            None => Vec::new(),
        };
        Finding { step, reason, place, then }
    }
}

impl Panic {
    /// The message for people. The suites compare what came with what is wanted, in this order; who writes a
    /// comparison elsewhere may do as they like.
    fn readable(&self, krate: &str) -> Vec<String> {
        let in_tests = self.place.starts_with(&format!("{krate}/tests/"));
        let names = if in_tests && self.message.starts_with(EQUAL) { SUITES } else { PLAIN };
        readable(&self.message, names)
    }

    /// The standard library only reports such a panic, as `panic in a destructor during cleanup`.
    fn is_std(&self) -> bool {
        self.place.contains("/library/")
    }

    /// A place in the shared helpers says nothing; the one that they name does.
    fn shown_place(&self, krate: &str) -> Option<String> {
        if !self.place.starts_with(&format!("{krate}/tests/suites/support/")) {
            return Some(self.place.clone());
        }
        let (_, caller) = self.message.lines().next()?.rsplit_once(AWAITED)?;
        Some(without_column(caller.trim_end_matches(')')).to_owned())
    }
}

/// How `within` says who waited.
const AWAITED: &str = " (awaited at ";

/// All panics in the output, in their order.
fn panics(output: &str) -> Vec<Panic> {
    let mut panics = Vec::new();
    let mut lines = output.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(start) = place(line) else { continue };
        let mut message = Vec::new();
        while let Some(line) = lines.next_if(|line| place(line).is_none() && !is_end(line)) {
            message.push(line);
        }
        let message = message.join("\n").trim().to_owned();
        panics.push(Panic { place: without_column(start).to_owned(), message });
    }
    panics
}

/// `thread 'name' (7) panicked at src/client/in_flight.rs:88:9:`
fn place(line: &str) -> Option<&str> {
    let (_, place) = line.strip_prefix("thread '")?.split_once(" panicked at ")?;
    place.strip_suffix(':')
}

/// What follows a panic's message.
fn is_end(line: &str) -> bool {
    let ends = ["note: run with `RUST_BACKTRACE", "stack backtrace:", "failures:", "\tsuccesses: "];
    let is_result = line.starts_with("test ") && line.contains(" ... ");
    is_result
        || line.starts_with("thread caused non-unwinding panic")
        || ends.iter().any(|end| line.starts_with(end))
}

fn without_column(place: &str) -> &str {
    place.rsplit_once(':').map_or(place, |(place, _)| place)
}

/// How the message of `assert_eq!` begins.
const EQUAL: &str = "assertion `left == right` failed";

/// What the two values of a comparison are called, of one width: by the compiler, and in a suite.
const PLAIN: [&str; 2] = [" left", "right"];
const SUITES: [&str; 2] = ["  came", "wanted"];

/// A panic's message for people, with these names for two values.
fn readable(message: &str, names: [&str; 2]) -> Vec<String> {
    let mut lines = message.lines().map(|line| line.split_once(AWAITED).map_or(line, |(what, _)| what));
    let first = lines.next().unwrap_or_default();
    let rest: Vec<&str> = lines.collect();
    if let Some(compared) = first.strip_prefix("assertion `left ") {
        let (operator, words) = compared.split_once(" right` failed").unwrap_or((compared, ""));
        let words = words.trim_start_matches(':').trim();
        let plain = match operator {
            "==" => "these should be equal",
            "!=" => "these should not be equal",
            _ => "these do not match",
        };
        let words = if words.is_empty() { plain } else { words };
        return [cut(words)].into_iter().chain(values(&rest, names)).collect();
    }
    let mut shown: Vec<String> = [first].into_iter().chain(rest).map(cut).collect();
    shown.retain(|line| !line.trim().is_empty());
    if shown.len() > MAX_LINES {
        shown.truncate(MAX_LINES);
        shown.push("…".to_owned());
    }
    if shown.is_empty() { vec!["a panic without a message".to_owned()] } else { shown }
}

/// The lines `  left: …` and ` right: …`, cut so that the difference is seen. A value may have several lines.
fn values(lines: &[&str], [first, second]: [&str; 2]) -> Vec<String> {
    let right = lines.iter().position(|line| line.starts_with(" right: ")).unwrap_or(lines.len());
    let join = |lines: &[&str]| lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
    let (left, right) = (join(&lines[..right]), join(&lines[right..]));
    let (left, right) = (left.trim_start_matches("left: "), right.trim_start_matches("right: "));
    let same = left.chars().zip(right.chars()).take_while(|(a, b)| a == b).count();
    let skip = if same > MAX_SAME { same - MAX_SAME / 2 } else { 0 };
    let value = |name: &str, text: &str| {
        let dots = if skip > 0 { "…" } else { "" };
        let text: String = text.chars().skip(skip).collect();
        cut(&format!("{name}: {dots}{text}"))
    };
    vec![value(first, left), value(second, right)]
}

fn cut(line: &str) -> String {
    term::cut(line.trim_end(), MAX_CHARS)
}

/// Why a process ended that has not said so by a panic.
fn without_panic(output: &str) -> String {
    let says = |words: &str| output.lines().find(|line| line.contains(words));
    if says("has overflowed its stack").is_some() {
        return "the stack overflowed: a function calls itself without end".to_owned();
    }
    let last = says("fatal runtime error").or(says("memory allocation"));
    last.map_or("the process of the test ended, without a panic".to_owned(), cut)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn finding(verdict: Verdict, output: &str) -> Finding {
        let outcome = Outcome { verdict, output: output.to_owned(), time: Duration::from_secs(30) };
        Finding::of(&outcome, "day2-client")
    }

    fn failed(output: &str) -> Finding {
        finding(Verdict::Failed, output)
    }

    const UNEQUAL: &str = "\nrunning 1 test\n
thread '<unnamed>' (30470) panicked at day2-client/tests/suites/day2_client/a.rs:185:37:
assertion `left == right` failed: the queue 3
  left: \"abc\\nd\"
 right: \"abd\"
note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace
test zz_eq ... FAILED

failures:
";

    #[test]
    fn values_that_differ_stand_under_each_other() {
        let found = failed(UNEQUAL);
        assert_eq!(found.step, Step::Failed);
        assert_eq!(found.reason, ["the queue 3", "  came: \"abc\\nd\"", "wanted: \"abd\""]);
        assert_eq!(found.place.as_deref(), Some("day2-client/tests/suites/day2_client/a.rs:185"));

        // It is not known which of the two is wanted, or the one is wanted not to be the other.
        let plain = ["the queue 3", " left: \"abc\\nd\"", "right: \"abd\""];
        assert_eq!(failed(&UNEQUAL.replace("/tests/suites/day2_client/a", "/src/pending")).reason, plain);
        assert_eq!(failed(&UNEQUAL.replace("left ==", "left !=")).reason, plain);

        let long = "x".repeat(100);
        let message = format!("assertion `left == right` failed\n  left: {long}a\n right: {long}b");
        let dots = format!("…{}", "x".repeat(12));
        let expected = ["these should be equal", &format!(" left: {dots}a"), &format!("right: {dots}b")];
        assert_eq!(readable(&message, PLAIN), expected);
    }

    #[test]
    fn a_todo_is_not_yet_reached_whatever_follows_it() {
        let found = failed(
            "thread 'tokio' (1) panicked at day2-client/src/client/in_flight.rs:88:9:\n\
             not yet implemented: day 2: insert\n\n\
             thread '<unnamed>' (2) panicked at day2-client/tests/suites/day2_client/a.rs:9:1:\n\
             called `Result::unwrap()` on an `Err` value: Closed\n",
        );
        assert_eq!(found.step, Step::NotReached);
        assert_eq!(found.reason, ["not yet implemented: day 2: insert"]);
        assert_eq!(found.place.as_deref(), Some("day2-client/src/client/in_flight.rs:88"));
    }

    #[test]
    fn a_panic_of_the_crate_comes_before_what_the_test_says_of_it() {
        let found = failed(
            "thread 't' (1) panicked at day2-client/tests/suites/day2_client/a.rs:7:1:\nthis panic is wanted\n\n\
             thread 't' (1) panicked at day2-client/src/client.rs:5:1:\nindex out of bounds\n\n\
             thread 't' (1) panicked at day2-client/tests/suites/support/mod.rs:62:19:\n\
             never happened within 5s: a reply (awaited at day2-client/tests/suites/day2_client/a.rs:9:5)\n",
        );
        assert_eq!(found.reason, ["index out of bounds"]);
        assert_eq!(found.place.as_deref(), Some("day2-client/src/client.rs:5"));
        assert_eq!(found.then, ["never happened within 5s: a reply"]);
    }

    #[test]
    fn the_last_panic_of_the_test_counts_and_who_waited_is_the_place() {
        let found = failed(
            "thread 't' (1) panicked at day2-client/tests/suites/day2_client/a.rs:7:1:\nthis panic is wanted\n\n\
             thread 't' (1) panicked at day2-client/tests/suites/support/mod.rs:62:19:\n\
             never happened within 5s: a reply (awaited at day2-client/tests/suites/day2_client/a.rs:9:5)\n\n\
             thread 't' (1) panicked at /rustc/59807616/library/core/src/panicking.rs:233:5:\n\
             panic in a destructor during cleanup\n\
             thread caused non-unwinding panic. aborting.\n",
        );
        assert_eq!(found.reason, ["never happened within 5s: a reply"]);
        assert_eq!(found.place.as_deref(), Some("day2-client/tests/suites/day2_client/a.rs:9"));
        assert!(found.then.is_empty());
    }

    #[test]
    fn of_a_property_the_smallest_case_is_shown() {
        let found = failed(
            "thread 't' (1) panicked at day2-client/tests/suites/day2_client/a.rs:7:1:\nx is 908\n\n\
             thread 't' (1) panicked at day2-client/tests/suites/day2_client/a.rs:4:1:\n\
             Test failed: x is 500.\nminimal failing input: x = 500\n\tsuccesses: 0\n\tlocal rejects: 0\n",
        );
        assert_eq!(found.reason, ["Test failed: x is 500.", "minimal failing input: x = 500"]);
    }

    #[test]
    fn what_does_not_end_hangs() {
        let found = finding(Verdict::Hung, "\nrunning 1 test\n");
        assert_eq!(found.step, Step::Hung);
        assert_eq!(found.reason, ["it was still running after 30 s, and was ended"]);
        let found = failed(
            "thread 't' (1) panicked at day2-client/tests/suites/support/mod.rs:55:9:\n\
             the test did not end within 20s: something blocks its thread or waits without end\nmore\n",
        );
        assert_eq!((found.step, found.reason.len(), found.place), (Step::Hung, 1, None));
    }

    #[test]
    fn a_process_may_end_without_a_panic() {
        let overflow =
            "thread 'f' (3) has overflowed its stack\nfatal runtime error: stack overflow, aborting\n";
        assert!(failed(overflow).reason[0].contains("calls itself"));
        assert!(failed("\nrunning 1 test\n").reason[0].contains("without a panic"));
    }

    #[test]
    fn long_messages_are_cut() {
        let shown = readable(&format!("{}\n{}", "word ".repeat(100), "line\n\n".repeat(50)), PLAIN);
        assert_eq!(shown.len(), MAX_LINES + 1);
        assert!(shown.iter().all(|line| line.chars().count() <= MAX_CHARS + 1));
    }
}
