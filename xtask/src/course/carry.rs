//! What a day's text reads like in another day: the same, but for the crate's name.
//!
//! `day2-client` becomes `day4-timeout`, and `day2_client` becomes `day4_timeout`. A suite keeps its name in
//! every day, and in day 2 that name is the crate's name too; so a name that is plainly a suite's is left
//! alone.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::course::Day;

/// `text`, a file of day `from` at `path`, as day `to` would have it, laid out by rustfmt.
///
/// A longer crate name can push a line over the limit. What rustfmt then does to the line is no change of
/// anyone’s, so it is done here too. Without rustfmt the text is returned as it is.
pub(crate) fn carry(root: &Path, path: &str, text: &str, from: &Day, to: &Day) -> String {
    let translated = translate(text, from, to);
    if translated == text || !path.ends_with(".rs") {
        return translated;
    }
    rustfmt(root, &translated).unwrap_or(translated)
}

/// `text` with the name of one crate in place of the other's.
pub(crate) fn translate(text: &str, from: &Day, to: &Day) -> String {
    let text = replace(text, from.name, to.name);
    replace(&text, &from.ident(), &to.ident())
}

fn replace(text: &str, name: &str, by: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(name) {
        let (before, after) = (&rest[..at], &rest[at + name.len()..]);
        out.push_str(before);
        // A match may begin where the one before it ended, so what stands before is read from `out`.
        let is_crate = !is_suite(&out) && !is_part_of_a_word(&out, after);
        out.push_str(if is_crate { by } else { name });
        rest = after;
    }
    out.push_str(rest);
    out
}

/// `mod day2_client`, `suites/day2_client` and `--test suites day2_client` are the suite, not the crate.
fn is_suite(before: &str) -> bool {
    ["mod ", "suites/", "suites "].iter().any(|lead| before.ends_with(lead))
}

/// An underscore before the name is no part of it: cargo itself writes `CARGO_BIN_EXE_day2-client`.
fn is_part_of_a_word(before: &str, after: &str) -> bool {
    before.ends_with(char::is_alphanumeric) || after.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// `None` if rustfmt is not there or cannot read the text.
fn rustfmt(root: &Path, text: &str) -> Option<String> {
    let mut child = Command::new("rustfmt")
        .args(["--edition", "2024", "--quiet"])
        .current_dir(root) // it looks for rustfmt.toml from here
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    // rustfmt reads all of its input before it writes, so this cannot deadlock.
    let written = child.stdin.take()?.write_all(text.as_bytes());
    let output = child.wait_with_output().ok()?;
    written.ok()?;
    if output.status.success() { String::from_utf8(output.stdout).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::course::DAYS;

    #[track_caller]
    fn assert_day2_in_day4(text: &str, expected: &str) {
        assert_eq!(translate(text, &DAYS[1], &DAYS[3]), expected);
    }

    #[test]
    fn both_spellings_of_the_crate_are_translated() {
        assert_day2_in_day4("use day2_client::Client;", "use day4_timeout::Client;");
        assert_day2_in_day4("name = \"day2-client\"", "name = \"day4-timeout\"");
        assert_day2_in_day4("env!(\"CARGO_BIN_EXE_day2-client\")", "env!(\"CARGO_BIN_EXE_day4-timeout\")");
        assert_day2_in_day4("day2_client=debug,day2_client", "day4_timeout=debug,day4_timeout");
    }

    #[test]
    fn a_suite_keeps_its_name() {
        for text in ["mod day2_client;", "`tests/suites/day2_client/mod.rs`"] {
            assert_day2_in_day4(text, text);
        }
        assert_day2_in_day4(
            "cargo test -p day2-client --test suites day2_client",
            "cargo test -p day4-timeout --test suites day2_client",
        );
    }

    #[test]
    fn other_words_and_other_days_are_left_alone() {
        for text in ["day2_clients", "holiday2-client", "day1-codec", "day3_service::Service"] {
            assert_day2_in_day4(text, text);
        }
    }
}
