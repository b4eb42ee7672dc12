//! Places in a day's chapter, which is its README.
//!
//! A stage of a suite names its place as `Chapter: The wire > Frames`: a heading, and, if more than one
//! thing stands under it, how a line there begins: a smaller heading, a bold lead (`**Frames.** Everything
//! is …`), a bullet or a row of a table (`src/frame.rs`). What is said twice is not written twice: stars and
//! backticks do not count.
//!
//! Where the chapter names a test, as the section "What goes wrong without it" does, that is a second place to
//! read about it.

use std::path::Path;

use crate::course::Day;

/// The section of a chapter that tells what happened elsewhere, and which test keeps it out here.
const STORIES: &str = "What goes wrong without it";

/// A day's README.
pub(crate) struct Chapter {
    /// Without the lines of code blocks, which are empty here.
    lines: Vec<String>,
}

/// A place in the chapter.
#[derive(Debug, PartialEq)]
pub(crate) struct Spot {
    /// Counted from 1.
    pub(crate) line: usize,
    /// The heading, or the words in bold that begin it.
    pub(crate) title: String,
}

impl Chapter {
    /// The chapter of that day. If there is none, nothing is found in it.
    pub(crate) fn read(root: &Path, day: &Day) -> Chapter {
        Chapter::parse(&day.readme(root))
    }

    pub(crate) fn parse(text: &str) -> Chapter {
        let mut is_code = false;
        let line = |line: &str| {
            let is_fence = line.trim_start().starts_with("```");
            is_code ^= is_fence;
            if is_code || is_fence { String::new() } else { line.to_owned() }
        };
        Chapter { lines: text.lines().map(line).collect() }
    }

    /// The first heading: `Day 2: many calls share one connection`.
    pub(crate) fn title(&self) -> Option<&str> {
        self.lines.iter().find_map(|line| heading(line)).map(|(_, text)| text)
    }

    /// The place that a stage of a suite names.
    pub(crate) fn find(&self, place: &str) -> Option<Spot> {
        let (top, part) = match place.split_once(" > ") {
            Some((top, part)) => (top, Some(part)),
            None => (place, None),
        };
        let is_top = |line: &String| heading(line).is_some_and(|(_, text)| text == top);
        let start = self.lines.iter().position(is_top)?;
        let (level, _) = heading(&self.lines[start])?;
        let line = match part {
            None => start,
            Some(part) => {
                let below = self.lines[start + 1..].iter();
                let ends = |line: &&String| heading(line).is_some_and(|(other, _)| other <= level);
                let index = below.take_while(|line| !ends(line)).position(|line| begins(line, part))?;
                start + 1 + index
            }
        };
        Some(Spot { line: line + 1, title: place.to_owned() })
    }

    /// Where the chapter tells of that test by its name.
    pub(crate) fn story(&self, test: &str) -> Option<Spot> {
        let name = format!("`{test}`");
        let named = self.lines.iter().position(|line| line.contains(&name))?;
        let is_start = |line: &String| line.starts_with("* ") || line.starts_with('#');
        let start = self.lines[..=named].iter().rposition(is_start)?;
        let text = self.lines[start..=named].join(" ");
        let title = text.split("**").nth(1).map(str::to_owned);
        let title = title.or_else(|| heading(&self.lines[start]).map(|(_, text)| text.to_owned()))?;
        Some(Spot { line: start + 1, title: title.split_whitespace().collect::<Vec<_>>().join(" ") })
    }

    /// The tests that the section [`STORIES`] names: every name in backticks that is as long as a test's.
    pub(crate) fn tests_named(&self) -> Vec<&str> {
        let is_here = |line: &&String| heading(line).is_none_or(|(_, text)| text != STORIES);
        let below = self.lines.iter().skip_while(is_here).skip(1);
        let section = below.take_while(|line| heading(line).is_none_or(|(level, _)| level > 2));
        let words = section.flat_map(|line| line.split('`').skip(1).step_by(2));
        let is_name = |word: &&str| {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            word.matches('_').count() >= 3 && word.chars().all(plain)
        };
        words.filter(is_name).collect()
    }
}

/// The level and the text of a heading.
fn heading(line: &str) -> Option<(usize, &str)> {
    let text = line.trim_start_matches('#');
    let level = line.len() - text.len();
    (level > 0 && text.starts_with(' ')).then_some((level, text.trim()))
}

/// Whether the line begins with these words, if what only marks it up is taken away.
fn begins(line: &str, words: &str) -> bool {
    let plain = |text: &str| text.replace(['*', '`'], "");
    let line = plain(line);
    let rest = line.trim_start_matches(['#', '|', '-', ' ']).strip_prefix(&plain(words));
    !words.is_empty()
        && rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_alphanumeric() || next == '_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const README: &str = "\
# Day 2: many calls

```rust
# The wire
```

## Files of today

| file | | what for |
|---|---|---|
| `src/client/in_flight.rs` | new | the calls in flight |

## The wire

**Frames.** Everything is a frame.

**Framework** is another word.

### In `bincode`

* **Numbers** are short.

## What goes wrong without it

* **Entries of callers that
  went away stay.** They do. `a_dropped_entry_leaves_the_table`,
  `a_call_that_is_given_up_leaves_nothing_behind`
* No lead: `another_test`

## The end

See `the_last_test`.
";

    #[test]
    fn a_place_is_a_heading_or_the_beginning_of_a_line_under_it() {
        let chapter = Chapter::parse(README);
        let line = |place: &str| chapter.find(place).map(|spot| spot.line);
        let real = |of: &str| README.lines().position(|line| line.starts_with(of)).map(|index| index + 1);
        assert_eq!(line("The wire"), real("## The wire"));
        assert_eq!(line("The wire > Frames"), real("**Frames.**"));
        assert_eq!(line("The wire > In bincode"), real("### In"));
        assert_eq!(line("The wire > Numbers"), real("* **Numbers**"));
        assert_eq!(line("Files of today > src/client/in_flight.rs"), real("| `src/client/in_flight.rs`"));
        for nowhere in ["the wire", "The wire > Frame", "Files of today > Frames", "Frames", "The wire > "] {
            assert_eq!(line(nowhere), None, "{nowhere}");
        }
        assert_eq!(chapter.title(), Some("Day 2: many calls"));
    }

    #[test]
    fn a_test_is_told_of_where_its_name_stands() {
        let chapter = Chapter::parse(README);
        let title = |test: &str| chapter.story(test).map(|spot| spot.title);
        let entries = "Entries of callers that went away stay.";
        assert_eq!(title("a_dropped_entry_leaves_the_table").as_deref(), Some(entries));
        assert_eq!(title("a_call_that_is_given_up_leaves_nothing_behind").as_deref(), Some(entries));
        assert_eq!(title("the_last_test").as_deref(), Some("The end"));
        assert_eq!(title("a_dropped_entry"), None);
        let named = ["a_dropped_entry_leaves_the_table", "a_call_that_is_given_up_leaves_nothing_behind"];
        assert_eq!(chapter.tests_named(), named);
    }
}
