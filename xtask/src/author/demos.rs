//! `demos`: each day's demo, run to its end; and what the chapter shows of it is what it prints.
//!
//! The chapter shows a demo in the section that names its command, in blocks of `text`. Of their lines only the shape
//! counts: numbers, the names `a` to `d` and blanks differ from run to run.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::course::runner::{self, NEVER};
use crate::course::{self, Day};

/// A demo that takes longer hangs, and is killed.
const LIMIT: Duration = Duration::from_secs(60);

/// What races decide, such as a last digit or a cancel on its way, comes out as shown in one of this many runs.
const RUNS: usize = 3;

/// Runs the demos of these days (of all, if there are none), and prints what they print. `false`: one has failed.
///
/// # Errors
///
/// A day does not exist, or a demo does not build or cannot be run.
pub(crate) fn run(root: &Path, days: &[&'static Day]) -> Result<bool> {
    let days = course::chosen(root, days)?;
    let mut build = runner::cargo(root);
    build.args(["build", "--quiet", "--bins"]).args(days.iter().flat_map(|day| ["-p", day.name]));
    if !build.status().context("cannot run cargo")?.success() {
        bail!("the demos do not build");
    }
    let mut failures = Vec::new();
    for day in days {
        let chapter = day.readme(root);
        let shown = shown(&chapter, day.name);
        if shown.is_empty() {
            failures.push(format!("{}/README.md: it shows nothing of the demo", day.name));
        }
        for run in 1.. {
            // On Unix cargo becomes the demo, so it is the demo that is killed.
            let demo = &mut runner::cargo(root);
            demo.args(["run", "--quiet", "-p", day.name]);
            let (status, output) = runner::watch(demo, LIMIT, NEVER)?;
            outln!("{output}");
            if !status.is_some_and(|status| status.success()) {
                let how =
                    status.map_or(format!("killed after {} s", LIMIT.as_secs()), |status| status.to_string());
                failures.push(format!("{}: its demo ended with {how}", day.name));
                break;
            }
            let Some(line) = shown.iter().find_map(|block| missing(block, &output)) else { break };
            if run == RUNS {
                failures
                    .push(format!("{}/README.md: the demo does not print, in this order: {line}", day.name));
                break;
            }
        }
    }
    for failure in &failures {
        outln!("FAIL {failure}");
    }
    Ok(failures.is_empty())
}

/// The blocks that show the demo of this crate.
fn shown<'a>(chapter: &'a str, name: &str) -> Vec<&'a str> {
    let command = format!("cargo run -p {name}");
    let sections = chapter.split("\n## ").filter(|section| section.contains(&command));
    let blocks = sections.flat_map(|section| section.split("\n```text\n").skip(1));
    blocks.map(|block| block.split("\n```").next().unwrap_or(block)).collect()
}

/// The first line of the block that the output does not have, behind those before it. A line `…` stands for any.
fn missing<'a>(block: &'a str, output: &str) -> Option<&'a str> {
    let mut printed = output.lines().map(shape);
    let lines = block.lines().map(str::trim).filter(|line| !line.is_empty() && *line != "…");
    lines.into_iter().find(|line| !printed.any(|other| other == shape(line)))
}

/// What stays of a line from run to run.
fn shape(line: &str) -> String {
    let mut shape = Vec::new();
    for word in line.split_whitespace() {
        let bare = word.trim_matches([',', ':', '.']);
        if ["ns", "µs", "ms", "s"].contains(&bare)
            && shape.last().is_some_and(|last: &String| last.ends_with('#'))
        {
            continue; // the unit of the number before it
        }
        if !bare.is_empty() && bare.chars().all(|c| ('a'..='d').contains(&c)) {
            shape.push("a".to_owned());
            continue;
        }
        let mut masked = String::new();
        for c in word.chars() {
            let is_number = c.is_ascii_digit() || (masked.ends_with('#') && ".,".contains(c));
            if !is_number {
                masked.push(c);
            } else if !masked.ends_with('#') {
                masked.push('#');
            }
        }
        shape.push(masked);
    }
    shape.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAPTER: &str = "# Day 1\n\n```text\nno demo\n```\n\n## Run it\n\n```sh\ncargo run -p day1-codec   # the demo\n\
        ```\n\n```text\none\n\n two\n```\n\nAnd:\n\n```text\nthree\n```\n\n## The end\n\n```text\nno demo\n```\n";

    #[test]
    fn the_section_with_the_command_shows_the_demo() {
        assert_eq!(shown(CHAPTER, "day1-codec"), ["one\n\n two", "three"]);
        assert!(shown(CHAPTER, "day2-client").is_empty());
    }

    #[test]
    fn each_line_has_to_come_and_in_this_order() {
        let printed = "zero\none\n  two\nthree\n";
        assert_eq!(missing("one\n\n…\nthree", printed), None);
        assert_eq!(missing("three\none", printed), Some("one"));
        assert_eq!(missing("one\none", printed), Some("one"));
        assert_eq!(missing("one\nfour", printed), Some("four"));
    }

    #[test]
    fn numbers_their_units_and_the_names_of_servers_do_not_count() {
        let same = [
            ("after 195 µs: done", "after  1.2 ms: done"),
            ("b took 15, d took 9 in 0.9 s", "a took 3, c took 10 in 1,200 s"),
            ("tcp@127.0.0.1:4000 is up", "tcp@127.0.0.1:51234 is up"),
            ("random  abcab   a: 2, b: 2, c: 1", "random  ccaab   a: 2, b: 1, c: 2"),
        ];
        for (one, other) in same {
            assert_eq!(shape(one), shape(other));
        }
        for (one, other) in [("3 calls", "3 errors"), ("a bad call", "a call"), ("no call", "3 call")] {
            assert_ne!(shape(one), shape(other));
        }
    }
}
