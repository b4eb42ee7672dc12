//! How `check` shows a day: the steps of its suite from the first to the last, and the first one to work on.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::chapter::Chapter;
use crate::course::Day;
use crate::panics::{Finding, Step};
use crate::screen::{Paint, WIDTH, wrap};
use crate::suites::{Stage, Suite, Test};

/// The column in which the facts about a step begin.
const INDENT: usize = 11;

/// A suite that has been run.
pub(crate) struct Ladder<'a> {
    pub(crate) day: &'a Day,
    pub(crate) chapter: &'a Chapter,
    pub(crate) suite: &'a Suite,
    /// One for each test of the suite.
    pub(crate) findings: &'a [Finding],
    pub(crate) time: Duration,
    /// The workspace, which places are told from.
    pub(crate) root: &'a Path,
}

impl Ladder<'_> {
    /// The first step that is not passed.
    pub(crate) fn first(&self) -> Option<(&Test, &Finding)> {
        let mut steps = self.suite.tests.iter().zip(self.findings);
        steps.find(|(_, finding)| finding.step != Step::Passed)
    }

    pub(crate) fn passed(&self) -> usize {
        self.count(Step::Passed)
    }

    fn count(&self, step: Step) -> usize {
        self.findings.iter().filter(|finding| finding.step == step).count()
    }

    /// All of it.
    pub(crate) fn show(&self, paint: Paint, hint: bool) -> String {
        let mut text = String::new();
        let title = self.chapter.title().unwrap_or(self.day.name);
        line(&mut text, &paint.bold(title));
        self.steps(&mut text, paint);
        line(&mut text, "");
        line(&mut text, &self.sum(paint));
        if let Some((test, finding)) = self.first() {
            line(&mut text, "");
            self.detail(&mut text, paint, test, finding, hint);
        }
        text
    }

    fn steps(&self, text: &mut String, paint: Paint) {
        let mut stage = None;
        for (test, finding) in self.suite.tests.iter().zip(self.findings) {
            if stage != Some(test.stage) {
                stage = Some(test.stage);
                line(text, "");
                line(text, &format!("  {}", self.stage(test).title));
            }
            let word = match finding.step {
                Step::Passed => paint.green("ok    "),
                Step::Failed => paint.red("FAILED"),
                Step::Hung => paint.red("HUNG  "),
                Step::NotReached => paint.yellow("todo  "),
                Step::NotRun => paint.dim("not run"),
            };
            let name = if finding.step == Step::Passed { paint.dim(&test.name) } else { test.name.clone() };
            // One space less for the longest of the words.
            let gap = if finding.step == Step::NotRun { " " } else { "  " };
            line(text, &format!("    {word}{gap}{name}"));
        }
    }

    /// `31 of 44 passed, 1 failed, 12 not yet reached (2.3 s)`
    fn sum(&self, paint: Paint) -> String {
        let (passed, all) = (self.passed(), self.findings.len());
        let head = format!("{passed} of {all} passed");
        let mut text = if passed == all { paint.green(&head) } else { paint.bold(&head) };
        for (step, words) in [
            (Step::Failed, "failed"),
            (Step::Hung, "hung"),
            (Step::NotReached, "not yet reached"),
            (Step::NotRun, "not run, as others hang"),
        ] {
            let count = self.count(step);
            if count > 0 {
                text += &format!(", {count} {words}");
            }
        }
        text + &format!(" ({:.1} s)", self.time.as_secs_f64())
    }

    /// The first step that is not passed: what it wants, what came, and where to look.
    fn detail(&self, text: &mut String, paint: Paint, test: &Test, finding: &Finding, hint: bool) {
        let krate = self.day.name;
        let head = match finding.step {
            Step::Passed | Step::NotReached | Step::NotRun => "The next step:",
            Step::Failed => "The first step that fails:",
            Step::Hung => "The first step that hangs:",
        };
        line(text, &format!("{head} {}", paint.bold(&test.name)));
        line(text, "");
        let doc = without_links(&test.doc);
        let (wants, more) = first_sentence(&doc);
        fact(text, paint, "wants", &wrap(wants.split_whitespace(), WIDTH - INDENT));
        for (name, lines) in [("reason", &finding.reason), ("then", &finding.then)] {
            let lines: Vec<String> = lines.iter().flat_map(|line| wrap_values(line)).collect();
            fact(text, paint, name, &lines);
        }
        let source = finding.place.as_deref().and_then(|place| source(self.root, place));
        fact(text, paint, "place", &finding.place.iter().cloned().chain(source).collect::<Vec<_>>());
        let own = format!("{krate}/{}:{}", self.stage(test).file, test.line);
        fact(text, paint, "test", &[own]);
        fact(text, paint, "chapter", &self.places(test));
        if hint {
            line(text, "");
            for paragraph in more.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()) {
                let lines = wrap(paragraph.split_whitespace(), WIDTH - 2);
                lines.iter().for_each(|shown| line(text, &format!("  {shown}")));
                line(text, "");
            }
        } else {
            line(text, "");
            line(text, &paint.dim("Add --hint to read why, and a hint."));
        }
    }

    fn stage(&self, test: &Test) -> &Stage {
        &self.suite.stages[test.stage]
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
    let line = text.lines().nth(line.parse::<usize>().ok()?.checked_sub(1)?)?.trim();
    let mut short: String = line.chars().take(WIDTH - INDENT).collect();
    if short.len() < line.len() {
        short.pop();
        short.push('…');
    }
    Some(short)
}

fn line(text: &mut String, line: &str) {
    // Writing to a String does not fail.
    let _ = writeln!(text, "{line}");
}

/// A name in the first column, and the lines beside it.
fn fact(text: &mut String, paint: Paint, name: &str, lines: &[String]) {
    for (index, shown) in lines.iter().enumerate() {
        let name = if index == 0 { name } else { "" };
        let name = format!("  {name:width$}", width = INDENT - 2);
        line(text, &format!("{}{shown}", paint.dim(&name)));
    }
}

/// A line in as many as it needs; the values of a comparison stay under each other.
fn wrap_values(line: &str) -> Vec<String> {
    let room = WIDTH - INDENT;
    if line.chars().count() <= room {
        return vec![line.to_owned()];
    }
    let lead: String = line.chars().take_while(|c| *c == ' ').collect();
    let mut lines = wrap(line.split_whitespace(), room - lead.len());
    lines.iter_mut().for_each(|line| line.insert_str(0, &lead));
    lines
}

/// A doc comment as people read it: `` [`name`] `` is a link for rustdoc, and a name in backticks for them.
fn without_links(doc: &str) -> String {
    let mut text = String::new();
    let mut rest = doc;
    while let Some((before, after)) = rest.split_once("[`") {
        let (name, behind) = after.split_once('`').unwrap_or((after, ""));
        let Some(behind) = behind.strip_prefix(']') else {
            // Only a bracket before code, as in a list.
            text += before;
            text += "[`";
            rest = after;
            continue;
        };
        // The address, if it has one.
        let address = behind.strip_prefix('(').and_then(|address| address.split_once(')'));
        text += &format!("{before}`{name}`");
        rest = address.map_or(behind, |(_, behind)| behind);
    }
    text + rest
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
    use crate::{course, suites};

    const FRAMES: &str = "\
//! Frames.
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
        let ladder = Ladder {
            root: root.path(),
            day: course::day(1).unwrap(),
            chapter: &Chapter::parse(README),
            suite: &suites::read(&files.into(), "day1_codec").unwrap(),
            findings: &findings,
            time: Duration::from_millis(1240),
        };
        ladder.show(Paint { colours: false }, hint)
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

  Frames
    FAILED  a_frame
    ok      whole_frames

  The server
    todo    an_answer

1 of 3 passed, 1 failed, 1 not yet reached (1.2 s)

The first step that fails: a_frame

  wants    A frame is its length and its payload.
  reason   the lengths
            left: 3
           right: 4
  place    day1-codec/src/frame.rs:7
           assert_eq!(len, 9999999999999999999999999999999999999999999999999999…
  test     day1-codec/tests/suites/day1_codec/frames.rs:9
  chapter  day1-codec/README.md:5 The wire > Frames
           day1-codec/README.md:7 The story.

Add --hint to read why, and a hint.
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_hint_is_the_rest_of_the_doc_comment() {
        let text = show(
            [(Step::NotReached, &["not yet implemented"]), (Step::Passed, &[]), (Step::Hung, &[])],
            true,
        );
        assert!(text.contains("1 of 3 passed, 1 hung, 1 not yet reached"));
        assert!(text.contains("The next step: a_frame\n"));
        assert!(text.contains("\n  wants    A frame is its length and its payload.\n  reason "), "{text}");
        assert!(text.ends_with("\n\n  Then more.\n\n  Hint: `to_be_bytes`.\n\n"), "{text}");
    }

    #[test]
    fn a_ladder_that_is_climbed_has_nothing_more_to_say() {
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
    fn a_link_of_rustdoc_is_read_as_a_name() {
        for (doc, text) in [
            ("At most [`MAX_BROADCAST`] calls, see [`Pool`].", "At most `MAX_BROADCAST` calls, see `Pool`."),
            ("As [`call`](Client::call) does.", "As `call` does."),
            ("A list: [`a`, `b`], `[1, 2]`, and [`", "A list: [`a`, `b`], `[1, 2]`, and [`"),
        ] {
            assert_eq!(without_links(doc), text);
        }
    }

    #[test]
    fn long_lines_are_wrapped_and_keep_their_indent() {
        let lines = wrap_values(&format!(" left: {}", "[1, 2, 3] ".repeat(20)));
        assert!(
            lines.len() > 1 && lines.iter().all(|line| line.starts_with(' ') && line.len() <= WIDTH - INDENT)
        );
    }
}
