//! How `check` shows a day: the steps of its suite from the first to the last, and the first one to work on.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::course::Day;
use crate::course::chapter::Chapter;
use crate::course::failures::{Finding, Step};
use crate::course::suites::{Stage, Suite, Test};
use crate::course::term::{Paint, WIDTH, about, cut, plural, wrap};
use crate::course::{git, stages};

/// The column in which the facts about a step begin.
const INDENT: usize = 11;

/// A suite that has been run.
pub(crate) struct Ran {
    pub(crate) suite: Suite,
    /// One for each test of the suite.
    pub(crate) findings: Vec<Finding>,
    pub(crate) time: Duration,
}

impl Ran {
    pub(crate) fn steps(&self) -> impl Iterator<Item = (&Test, &Finding)> {
        self.suite.tests.iter().zip(&self.findings)
    }

    /// The steps that are not passed.
    pub(crate) fn open(&self) -> impl Iterator<Item = (&Test, &Finding)> {
        self.steps().filter(|(_, finding)| finding.step != Step::Passed)
    }

    pub(crate) fn count(&self, step: Step) -> usize {
        self.findings.iter().filter(|finding| finding.step == step).count()
    }
}

/// What is shown of a day.
pub(crate) struct Report<'a> {
    /// The workspace, which places are told from.
    pub(crate) root: &'a Path,
    pub(crate) day: &'a Day,
    pub(crate) chapter: &'a Chapter,
    pub(crate) ran: &'a Ran,
    /// What the stages ask for, as far as it is known.
    pub(crate) stages: &'a [stages::Stage],
    /// The functions that are not written yet.
    pub(crate) unwritten: &'a BTreeSet<String>,
    pub(crate) paint: Paint,
}

/// What the first step is called that is not passed.
pub(crate) fn name_of_first(step: Step) -> &'static str {
    match step {
        Step::Passed | Step::NotReached | Step::NotRun => "next step",
        Step::Failed => "first step that fails",
        Step::Hung => "first step that hangs",
    }
}

impl Report<'_> {
    /// The step to work on: the first that came to a wrong result, else the first that is not passed. What is wrong
    /// is to be understood before more is written. But a stage that is not written yet comes before those behind it:
    /// what fails there may be what is missing.
    pub(crate) fn first(&self) -> Option<(&Test, &Finding)> {
        let open = self.ran.open().next()?;
        let wrong = self.ran.open().find(|(_, finding)| matches!(finding.step, Step::Failed | Step::Hung));
        wrong.filter(|(test, _)| test.stage == open.0.stage).or(Some(open))
    }

    /// All of it.
    pub(crate) fn show(&self, hint: bool) -> String {
        let mut lines = vec![self.paint.bold(self.chapter.title().unwrap_or(self.day.name))];
        lines.extend(self.steps());
        lines.extend([String::new(), self.sum()]);
        if let Some(stage) = self.begins() {
            lines.push(self.next(stage - 1));
        }
        if let Some((test, finding)) = self.first() {
            lines.push(String::new());
            lines.extend(self.detail(test, finding, hint));
        }
        lines.join("\n") + "\n"
    }

    fn steps(&self) -> Vec<String> {
        let paint = self.paint;
        let mut lines = Vec::new();
        let mut stage = None;
        for (test, finding) in self.ran.steps() {
            if stage != Some(test.stage) {
                stage = Some(test.stage);
                let progress = paint.dim(&self.progress(test.stage));
                lines.extend([String::new(), format!("  {}  {progress}", self.stage(test).title)]);
            }
            let word = match finding.step {
                Step::Passed => paint.green("ok      "),
                Step::Failed => paint.red("FAILED  "),
                Step::Hung => paint.red("HUNG    "),
                Step::NotReached => paint.yellow("todo    "),
                Step::NotRun => paint.dim("not run "),
            };
            let name = if finding.step == Step::Passed { paint.dim(&test.name) } else { test.name.clone() };
            lines.push(format!("    {word}{name}"));
        }
        lines
    }

    /// `(stage 2 of 6, codecs: 4 of 7, 3 functions left, about 15 min)`
    fn progress(&self, stage: usize) -> String {
        let of_stage = |test: &Test| test.stage == stage;
        let all = self.ran.steps().filter(|(test, _)| of_stage(test)).count();
        let open = self.ran.open().filter(|(test, _)| of_stage(test)).count();
        let work = self.work(stage).map(|(functions, time)| format!(", {functions} left, {time}"));
        format!("(stage {}: {} of {all}{})", self.name(stage), all - open, work.unwrap_or_default())
    }

    /// `2 of 6, codecs`
    fn name(&self, stage: usize) -> String {
        format!("{} of {}, {}", stage + 1, self.ran.suite.stages.len(), self.ran.suite.stages[stage].name)
    }

    /// `3 functions` and `about 15 min`, if anything of the stage is left to write.
    fn work(&self, stage: usize) -> Option<(String, String)> {
        let left = self.left(stage).len();
        let asks = self.asks_for(stage).filter(|_| left > 0)?;
        Some((plural(left, "function"), about(asks.minutes_for(left))))
    }

    /// What works after a stage that is done, and what comes next: the next one, or, if that is given, the exercise that
    /// it can be.
    pub(crate) fn next(&self, done: usize) -> String {
        let day = self.day;
        let Stage { works, .. } = &self.ran.suite.stages[done];
        let mut text = format!("Stage {}, is done.", self.name(done));
        if !works.is_empty() {
            let works = format!("Works now: {works}");
            text += &format!("\n{}", wrap(&works, WIDTH).join("\n"));
        }
        let Some(stage) = self.ran.suite.stages.get(done + 1) else { return text };
        let (next, name) = (self.name(done + 1), &stage.name);
        let is_exercise = self.asks_for(done + 1).is_some_and(|asks| !asks.functions.is_empty());
        text += &match self.work(done + 1) {
            Some((functions, time)) => format!("\nNow stage {next}: {functions}, {time}."),
            None if self.unwritten.is_empty() && is_exercise => {
                let exercise = format!("cargo xtask exercise {} --stage {name}", day.number);
                let commit = format!("git commit -m \"Day {}\" {} && ", day.number, day.name);
                let is_clean = git::succeeds(self.root, &["diff", "--quiet", "HEAD", "--", day.name]);
                let commit = if is_clean.unwrap_or(true) { "" } else { &commit };
                format!("\nNext is stage {next}:\n  {commit}{exercise}")
            }
            None => format!("\nNext is stage {next}:\n  cargo xtask check {} {name}", day.number),
        };
        text
    }

    /// The stage that the learner comes to now: nothing of it is written, and the one before was run, too. All of that
    /// is passed, or the first step would be there.
    fn begins(&self) -> Option<usize> {
        let stage = self.first()?.0.stage;
        let is_later = self.ran.suite.tests.first().is_some_and(|test| test.stage < stage);
        let left = self.left(stage).len();
        let is_new = left > 0 && self.asks_for(stage).is_some_and(|asks| asks.functions.len() == left);
        (is_later && is_new).then_some(stage)
    }

    fn asks_for(&self, stage: usize) -> Option<&stages::Stage> {
        self.stages.iter().find(|asks| asks.name == self.ran.suite.stages[stage].name)
    }

    /// The functions of a stage that are not written yet.
    fn left(&self, stage: usize) -> Vec<&str> {
        let functions = self.asks_for(stage).into_iter().flat_map(|asks| &asks.functions);
        functions.filter(|name| self.unwritten.contains(*name)).map(String::as_str).collect()
    }

    /// `31 of 44 passed, 1 failed, 12 not yet reached (2.3 s)`
    fn sum(&self) -> String {
        let (passed, all) = (self.ran.count(Step::Passed), self.ran.findings.len());
        let head = format!("{passed} of {all} passed");
        let mut text = if passed == all { self.paint.green(&head) } else { self.paint.bold(&head) };
        for (step, words) in [
            (Step::Failed, "failed"),
            (Step::Hung, "hung"),
            (Step::NotReached, "not yet reached"),
            (Step::NotRun, "not run to the end, as others hang"),
        ] {
            let count = self.ran.count(step);
            if count > 0 {
                text += &format!(", {count} {words}");
            }
        }
        text + &format!(" ({:.1} s)", self.ran.time.as_secs_f64())
    }

    /// The first step that is not passed: what it wants, what came, and where to look.
    fn detail(&self, test: &Test, finding: &Finding, hint: bool) -> Vec<String> {
        let head = format!("The {}: {}", name_of_first(finding.step), self.paint.bold(&test.name));
        let mut lines = vec![head, String::new()];
        let mut fact = |name: &str, shown: Vec<String>| {
            for (index, shown) in shown.iter().enumerate() {
                let name = if index == 0 { name } else { "" };
                let name = format!("  {name:width$}", width = INDENT - 2);
                lines.push(format!("{}{shown}", self.paint.dim(&name)));
            }
        };
        // A link of rustdoc is a name in backticks for people.
        let doc = test.doc.replace("[`", "`").replace("`]", "`");
        let (wants, more) = first_sentence(&doc);
        fact("wants", wrap(wants, WIDTH - INDENT));
        let todo = finding.todo(self.day.number);
        if let (Some(name), Some(place)) = (todo, &finding.place) {
            fact("write", vec![format!("{name}, at {place}")]);
            let others = self.left(test.stage).into_iter().filter_map(|other| other.split_once(": "));
            let others: Vec<&str> = others.map(|(_, other)| other).filter(|other| *other != name).collect();
            fact("left", wrap(&others.join(" "), WIDTH - INDENT));
        } else {
            fact("reason", finding.reason.iter().flat_map(|line| wrap_values(line)).collect());
            fact("then", finding.then.iter().flat_map(|line| wrap_values(line)).collect());
            let source = finding.place.as_deref().and_then(|place| source(self.root, place));
            fact("place", finding.place.iter().cloned().chain(source).collect());
        }
        fact("test", vec![format!("{}/{}:{}", self.day.name, self.stage(test).file, test.line)]);
        fact("chapter", self.places(test));
        lines.push(String::new());
        // Who has nothing yet wants the hint; who is wrong may want to find out alone.
        let shown = |paragraph: &&str| hint || (todo.is_some() && paragraph.trim().starts_with("Hint:"));
        for paragraph in more.split("\n\n").filter(|text| !text.trim().is_empty()).filter(shown) {
            lines.extend(wrap(paragraph, WIDTH - 2).iter().map(|shown| format!("  {shown}")));
            lines.push(String::new());
        }
        if !hint {
            let more = if todo.is_some() { "why" } else { "why, and a hint" };
            lines.push(self.paint.dim(&format!("Add --hint to read {more}.")));
        }
        lines
    }

    fn stage(&self, test: &Test) -> &Stage {
        &self.ran.suite.stages[test.stage]
    }

    /// Where the chapter tells of it: the places of its stage, and where it is named.
    fn places(&self, test: &Test) -> Vec<String> {
        let places = self.stage(test).chapter.iter();
        let spots = places.filter_map(|place| self.chapter.find(place)).chain(self.chapter.story(&test.name));
        let shown = spots.map(|spot| format!("{}/README.md:{} {}", self.day.name, spot.line, spot.title));
        shown.collect()
    }
}

/// The line of source at a place such as `day2-client/src/client/in_flight.rs:88`, as far as it fits.
fn source(root: &Path, place: &str) -> Option<String> {
    let (path, line) = place.rsplit_once(':')?;
    let text = fs::read_to_string(root.join(path)).ok()?;
    let line = text.lines().nth(line.parse::<usize>().ok()?.checked_sub(1)?)?;
    Some(cut(line.trim(), WIDTH - INDENT))
}

/// A line in as many as it needs; the values of a comparison stay under each other.
fn wrap_values(line: &str) -> Vec<String> {
    let room = WIDTH - INDENT;
    if line.chars().count() <= room {
        return vec![line.to_owned()];
    }
    let lead: String = line.chars().take_while(|c| *c == ' ').collect();
    let mut lines = wrap(line, room - lead.len());
    lines.iter_mut().for_each(|line| line.insert_str(0, &lead));
    lines
}

/// The first sentence of a doc comment, and what follows it.
fn first_sentence(doc: &str) -> (&str, &str) {
    let paragraph = doc.split("\n\n").next().unwrap_or_default();
    let end = paragraph.match_indices(['.', '?', '!']).find(|(index, mark)| {
        let rest = &paragraph[index + mark.len()..];
        let next = rest.trim_start().chars().next();
        rest.is_empty() || (rest.starts_with([' ', '\n']) && next.is_some_and(|c| !c.is_lowercase()))
    });
    doc.split_at(end.map_or(paragraph.len(), |(index, mark)| index + mark.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::course::{self, suites};

    const FRAMES: &str = "\
//! Frames.
//!
//! Works then: what is written
//! is read again.
//!
//! Chapter: The wire > Frames

/// A frame is its length and its payload. Then more.
///
/// Hint: `to_be_bytes`.
#[test]
fn a_frame() {}

/// Frames arrive whole.
#[test]
fn whole_frames() {}
";

    const SERVER: &str = "\
//! The server.
//!
//! Chapter: Limits

/// The server
/// answers.
#[test]
fn an_answer() {}
";

    const README: &str = "\
# Day 1: bytes

## The wire

**Frames.** Everything is a frame.

* **The story.** `a_frame`

## Limits
";

    fn asks(name: &str, functions: &[&str]) -> stages::Stage {
        stages::Stage::new(1, name, functions.iter().map(|name| (*name).to_owned()).collect(), 2)
    }

    fn show(steps: [(Step, &[&str]); 3], hint: bool) -> String {
        let findings = steps.map(|(step, reason)| Finding {
            step,
            reason: reason.iter().map(|line| (*line).to_owned()).collect(),
            place: (!reason.is_empty()).then(|| "day1-codec/src/frame.rs:7".to_owned()),
            then: Vec::new(),
        });
        let root = tempfile::tempdir().unwrap();
        let src = root.path().join("day1-codec/src");
        fs::create_dir_all(&src).unwrap();
        let text = format!("{}    assert_eq!(len, {}); // é\n", "\n".repeat(6), "9".repeat(100));
        fs::write(src.join("frame.rs"), text).unwrap();
        let files = [("mod", "mod frames;\nmod server;\n"), ("frames", FRAMES), ("server", SERVER)];
        let files =
            files.map(|(name, text)| (format!("{}/day1_codec/{name}.rs", suites::DIR), text.to_owned()));
        let report = Report {
            root: root.path(),
            day: course::parse("1").unwrap(),
            chapter: &Chapter::parse(README),
            ran: &Ran {
                suite: suites::read(&files.into(), "day1_codec").unwrap(),
                findings: findings.into(),
                time: Duration::from_millis(1240),
            },
            stages: &[
                asks("frames", &["src/frame.rs: read", "src/frame.rs: write"]),
                asks("server", &["src/server.rs: Server::serve", "src/server.rs: accept"]),
            ],
            unwritten: &["src/frame.rs: write", "src/server.rs: Server::serve", "src/server.rs: accept"]
                .map(str::to_owned)
                .into(),
            paint: Paint { colours: false },
        };
        report.show(hint)
    }

    #[test]
    fn the_steps_stand_under_their_stages_and_the_first_to_work_on_is_told() {
        let text = show(
            [
                (Step::Failed, &["the lengths", " left: 3", "right: 4"]),
                (Step::Passed, &[]),
                (Step::NotReached, &[]),
            ],
            false,
        );
        let expected = "\
Day 1: bytes

  Frames  (stage 1 of 2, frames: 1 of 2, 1 function left, about 10 min)
    FAILED  a_frame
    ok      whole_frames

  The server  (stage 2 of 2, server: 0 of 1, 2 functions left, about 15 min)
    todo    an_answer

1 of 3 passed, 1 failed, 1 not yet reached (1.2 s)

The first step that fails: a_frame

  wants    A frame is its length and its payload.
  reason   the lengths
            left: 3
           right: 4
  place    day1-codec/src/frame.rs:7
           assert_eq!(len, 9999999999999999999999999999999999999999999999999999…
  test     day1-codec/tests/suites/day1_codec/frames.rs:12
  chapter  day1-codec/README.md:5 The wire > Frames
           day1-codec/README.md:7 The story.

Add --hint to read why, and a hint.
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_hint_is_the_rest_of_the_doc_comment() {
        let text = show(
            [(Step::NotReached, &["not yet implemented"]), (Step::Passed, &[]), (Step::NotReached, &[])],
            true,
        );
        assert!(text.contains("1 of 3 passed, 2 not yet reached"));
        assert!(text.contains("The next step: a_frame\n"));
        assert!(text.contains("\n  wants    A frame is its length and its payload.\n  reason "), "{text}");
        assert!(text.ends_with("\n\n  Then more.\n\n  Hint: `to_be_bytes`.\n\n"), "{text}");
    }

    #[test]
    fn for_a_todo_it_says_what_to_write_and_gives_the_hint() {
        let todo = "not yet implemented: day 1: read";
        let text = show([(Step::NotReached, &[todo]), (Step::Passed, &[]), (Step::NotReached, &[])], false);
        let expected = "\
  wants    A frame is its length and its payload.
  write    read, at day1-codec/src/frame.rs:7
  left     write
  test     day1-codec/tests/suites/day1_codec/frames.rs:12
  chapter  day1-codec/README.md:5 The wire > Frames
           day1-codec/README.md:7 The story.

  Hint: `to_be_bytes`.

Add --hint to read why.
";
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn when_a_stage_is_done_it_says_which_is_next() {
        let text = show([(Step::Passed, &[]), (Step::Passed, &[]), (Step::NotReached, &[])], false);
        let now = "\
Stage 1 of 2, frames, is done.
Works now: what is written is read again.
Now stage 2 of 2, server: 2 functions, about 15 min.
";
        assert!(text.contains(now), "{text}");
    }

    #[test]
    fn what_is_wrong_comes_before_what_is_not_written_in_its_stage_or_a_later_one() {
        let text = show(
            [(Step::NotReached, &["not yet implemented"]), (Step::Hung, &[]), (Step::Passed, &[])],
            false,
        );
        assert!(text.contains("1 of 3 passed, 1 hung, 1 not yet reached"));
        assert!(text.contains("The first step that hangs: whole_frames\n"), "{text}");
        let text = show([(Step::Failed, &[]), (Step::Passed, &[]), (Step::NotReached, &[])], false);
        assert!(text.contains("The first step that fails: a_frame\n"), "{text}");
    }

    /// The step behind it may fail for want of what is not written.
    #[test]
    fn a_stage_that_is_not_written_comes_before_what_is_wrong_in_a_later_one() {
        let text = show(
            [(Step::NotReached, &["not yet implemented"]), (Step::Passed, &[]), (Step::Failed, &[])],
            false,
        );
        assert!(text.contains("The next step: a_frame\n"), "{text}");
    }

    #[test]
    fn a_day_that_is_done_has_nothing_more_to_say() {
        let text = show([(Step::Passed, &[]), (Step::Passed, &[]), (Step::Passed, &[])], true);
        assert!(text.ends_with("    ok      an_answer\n\n3 of 3 passed (1.2 s)\n"), "{text}");
    }

    #[test]
    fn a_sentence_ends_where_the_next_one_begins() {
        assert_eq!(first_sentence("It is e.g. this.\nThen that."), ("It is e.g. this.", "\nThen that."));
        assert_eq!(first_sentence("Is `a.b` one? Yes."), ("Is `a.b` one?", " Yes."));
        assert_eq!(first_sentence("One line: 0.5 of it\n\nMore."), ("One line: 0.5 of it", "\n\nMore."));
        assert_eq!(first_sentence(""), ("", ""));
    }

    #[test]
    fn long_lines_are_wrapped_and_keep_their_indent() {
        let lines = wrap_values(&format!(" left: {}", "[1, 2, 3] ".repeat(20)));
        assert!(
            lines.len() > 1 && lines.iter().all(|line| line.starts_with(' ') && line.len() <= WIDTH - INDENT)
        );
    }
}
