//! The suites as they are written: the tests in the order of the lesson, with what is said about them.
//!
//! The suites of a day are one test program, `tests/suites/main.rs`. Each suite is a folder in it, and each stage
//! of a suite a module:
//!
//! ```text
//! tests/suites/main.rs              mod day1_codec; mod day2_client; mod support;
//! tests/suites/day1_codec/mod.rs    mod frames; mod codecs; …     the stages in their order, and their helpers
//! tests/suites/day1_codec/frames.rs the tests of a stage
//! ```
//!
//! A stage says what it is, and where the chapter (the day's README) tells of it, see `chapter`; there may be
//! several places:
//!
//! ```text
//! //! Frames: where one piece of data ends and the next begins.
//! //!
//! //! In `src/wire/frame.rs`: first `queue` and `flush`, then `next`, `fill` and `read`.
//! //!
//! //! Works then: bytes that are written as frames arrive as the same frames.
//! //!
//! //! Chapter: The wire > Frames; Limits
//!
//! /// What the test wants, why, and a hint.
//! #[test]
//! fn a_frame_is_its_length_in_four_bytes_and_its_payload() {
//! ```
//!
//! A suite is read line by line, as rustfmt lays it out, so a test inside of a macro such as `proptest!` is one as well.
//! What builds and runs them is `runner`.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};

use crate::course::tree::Tree;
use crate::course::{DAYS, Day, stages};

/// The test target that all suites of a day are in.
pub(crate) const TARGET: &str = "suites";

/// Where the suites are, in a crate's directory.
pub(crate) const DIR: &str = "tests/suites";

/// How the paragraph begins that says what works when the stage is done.
const WORKS: &str = "Works then: ";

/// How the line begins that names the places in the chapter.
const CHAPTER: &str = "Chapter: ";

/// A suite, from its source.
#[derive(Debug)]
pub(crate) struct Suite {
    /// Such as `day3_service`, the name of its module.
    pub(crate) name: String,
    /// In the order of the work.
    pub(crate) stages: Vec<Stage>,
    /// In the order of the stages, and of the source.
    pub(crate) tests: Vec<Test>,
}

/// What a learner writes in one go: a module of a suite.
#[derive(Debug)]
pub(crate) struct Stage {
    /// As `check` takes it, and as the module is called: `calling`.
    pub(crate) name: String,
    /// The first paragraph of its documentation, without the dot.
    pub(crate) title: String,
    /// What it says of itself, all of it.
    pub(crate) doc: String,
    /// What works when it is done. The hardening stages do not say it.
    pub(crate) works: String,
    /// What the line `Chapter: …` says: one or more places.
    pub(crate) chapter: Vec<String>,
    /// Such as `tests/suites/day3_service/calling.rs`.
    pub(crate) file: String,
}

impl Stage {
    /// What a first solution may leave out: floods, slow peers, hostile input.
    pub(crate) fn is_hardening(&self) -> bool {
        stages::is_hardening(&self.name)
    }
}

/// One test, a step of the report.
#[derive(Debug, PartialEq)]
pub(crate) struct Test {
    /// Of the function.
    pub(crate) name: String,
    /// As the test program knows it: `day3_service::calling::name`.
    pub(crate) path: String,
    /// The doc comment, its lines without the slashes.
    pub(crate) doc: String,
    /// An index into [`Suite::stages`].
    pub(crate) stage: usize,
    /// Of its name in the stage's file, counted from 1.
    pub(crate) line: usize,
}

/// The names of the suites that a day has, its own last: `day1_codec`, `day2_client`, ….
///
/// # Errors
///
/// It has no suite of its own.
pub(crate) fn names(root: &Path, day: &Day) -> Result<Vec<String>> {
    let dir = day.dir(root).join(DIR);
    let days = DAYS.iter().filter(|other| other.number <= day.number);
    let mut names: Vec<String> = days.map(Day::ident).collect();
    names.retain(|name| dir.join(name).join("mod.rs").is_file());
    if names.last() != Some(&day.ident()) {
        bail!("{} has no suite of its own: no {DIR}/{}/mod.rs", day.name, day.ident());
    }
    Ok(names)
}

/// The suite of that name in a day with these files.
///
/// # Errors
///
/// A file is not there, a stage is not Rust, or two tests have the same name.
pub(crate) fn read(tree: &Tree, name: &str) -> Result<Suite> {
    let mut suite = Suite { name: name.to_owned(), stages: Vec::new(), tests: Vec::new() };
    let main = format!("{DIR}/{name}/mod.rs");
    for stage in text(tree, &main)?.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';')) {
        let file = format!("{DIR}/{name}/{stage}.rs");
        add_stage(&mut suite, stage, &file, text(tree, &file)?).with_context(|| file.clone())?;
    }
    let mut seen = BTreeSet::new();
    if let Some(test) = suite.tests.iter().find(|test| !seen.insert(&test.name)) {
        bail!("{DIR}/{name} has two tests of the name {}", test.name);
    }
    Ok(suite)
}

fn text<'a>(tree: &'a Tree, path: &str) -> Result<&'a str> {
    tree.get(path).map(String::as_str).with_context(|| format!("{path} is not there"))
}

fn add_stage(suite: &mut Suite, name: &str, file: &str, text: &str) -> Result<()> {
    syn::parse_file(text).map_err(|error| anyhow!("it is not Rust: {error}"))?;
    let doc: Vec<&str> = text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim).collect();
    let places = doc.iter().filter_map(|line| line.strip_prefix(CHAPTER)).flat_map(|line| line.split(';'));
    let chapter = places.map(|place| place.trim().to_owned()).collect();
    let doc = doc.join("\n");
    let paragraphs: Vec<String> = doc.split("\n\n").map(|lines| lines.replace('\n', " ")).collect();
    let title = paragraphs.first().map_or("", |first| first.trim_end_matches('.')).to_owned();
    let works = paragraphs.iter().find_map(|paragraph| paragraph.strip_prefix(WORKS));
    let works = works.unwrap_or_default().to_owned();
    let path = format!("{}::{name}", suite.name);
    suite.tests.extend(find_tests(text, &path, suite.stages.len()));
    let (name, file) = (name.to_owned(), file.to_owned());
    suite.stages.push(Stage { name, title, doc, works, chapter, file });
    Ok(())
}

/// The tests of a stage: each `fn` that has `#[test]` above it. `module` is the stage's, in the test program.
fn find_tests(text: &str, module: &str, stage: usize) -> Vec<Test> {
    let mut tests = Vec::new();
    // What stands above the line: docs, and whether there is a `#[test]`.
    let (mut doc, mut is_test) = (Vec::new(), false);
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if let Some(words) = line.strip_prefix("///") {
            doc.push(words.strip_prefix(' ').unwrap_or(words));
        } else if line.starts_with("#[") {
            is_test |= line == "#[test]";
        } else {
            if let Some((name, _)) = line.strip_prefix("fn ").and_then(|rest| rest.split_once('('))
                && is_test
            {
                let (name, path) = (name.to_owned(), format!("{module}::{name}"));
                tests.push(Test { name, path, doc: doc.join("\n"), stage, line: number });
            }
            (doc, is_test) = (Vec::new(), false);
        }
    }
    tests
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const MOD: &str = "//! A suite.\n\nmod frames;\n\nmod the_rest;\n\nfn helper() {}\n";

    const FRAMES: &str = r##"//! Frames, and "more".
//!
//! Write `src/a.rs`.
//!
//! Chapter: The wire > Frames; Limits

use super::*;

/// Not a test.
#[derive(Debug)]
struct Helper { #[allow(dead_code)] field: u8 }

fn helper() {
    fn inner() {}
}

/// What it wants.
///
/// Hint: `a "quoted" \ text`.
#[test]
fn first() {
    helper();
}

#[cfg(unix)]
#[test]
fn second() {}

proptest! {
    #![proptest_config(config())]

    /// Any text.
    #[test]
    fn third(text in "[{}]{0,3}", other in any::<u8>()) {
        prop_assert!(text.len() < 4);
    }
}
"##;

    const REST: &str = "//! The rest.\n\n/// Fourth.\n#[test]\nfn fourth() {}\n";

    fn tree(files: [(&str, &str); 3]) -> Tree {
        files
            .map(|(file, text)| (format!("tests/suites/day1_codec/{file}.rs"), text.to_owned()))
            .into_iter()
            .collect()
    }

    fn suite() -> Suite {
        read(&tree([("mod", MOD), ("frames", FRAMES), ("the_rest", REST)]), "day1_codec").unwrap()
    }

    #[test]
    fn tests_are_found_in_stages_and_macros_in_the_order_of_the_source() {
        let suite = suite();
        let tests: Vec<_> =
            suite.tests.iter().map(|test| (test.name.as_str(), test.stage, test.line)).collect();
        let line = |of: &str| FRAMES.lines().position(|line| line.contains(of)).unwrap() + 1;
        assert_eq!(
            tests,
            [
                ("first", 0, line("fn first")),
                ("second", 0, line("fn second")),
                ("third", 0, line("fn third")),
                ("fourth", 1, 5),
            ]
        );
        assert_eq!(suite.tests[3].path, "day1_codec::the_rest::fourth");
    }

    #[test]
    fn a_stage_has_a_title_and_names_places_in_the_chapter() {
        let stages = suite().stages.into_iter();
        let stages: Vec<_> =
            stages.map(|stage| (stage.title, stage.chapter.join(" and "), stage.file)).collect();
        let stages: Vec<_> = stages.iter().map(|(a, b, c)| (&a[..], &b[..], &c[..])).collect();
        let frames = ("Frames, and \"more\"", "The wire > Frames and Limits");
        assert_eq!(
            stages,
            [
                (frames.0, frames.1, "tests/suites/day1_codec/frames.rs"),
                ("The rest", "", "tests/suites/day1_codec/the_rest.rs")
            ]
        );
    }

    #[test]
    fn doc_comments_are_text_again() {
        let docs: Vec<_> = suite().tests.into_iter().map(|test| test.doc).collect();
        assert_eq!(docs, ["What it wants.\n\nHint: `a \"quoted\" \\ text`.", "", "Any text.", "Fourth."]);
    }

    #[test]
    fn what_is_not_rust_is_missing_or_has_a_name_twice_is_an_error() {
        let error = |files| format!("{:#}", read(&tree(files), "day1_codec").unwrap_err());
        let broken = error([("mod", MOD), ("frames", FRAMES), ("the_rest", "fn f( {")]);
        assert!(broken.contains("the_rest.rs") && broken.contains("not Rust"), "{broken}");
        let missing = error([("mod", MOD), ("frames", FRAMES), ("other", REST)]);
        assert!(missing.contains("the_rest.rs is not there"), "{missing}");
        let twice = error([("mod", MOD), ("frames", FRAMES), ("the_rest", FRAMES)]);
        assert!(twice.contains("two tests of the name first"), "{twice}");
    }

    #[test]
    fn the_suites_of_a_day_are_its_own_and_those_before() {
        let root = tempfile::tempdir().unwrap();
        let day = crate::course::parse("2").unwrap();
        let dir = day.dir(root.path()).join(DIR);
        for name in ["day2_client", "day1_codec", "day3_service", "support"] {
            fs::create_dir_all(dir.join(name)).unwrap();
            fs::write(dir.join(name).join("mod.rs"), "").unwrap();
        }
        fs::write(dir.join("day1_codec.rs"), "").unwrap();
        assert_eq!(names(root.path(), day).unwrap(), ["day1_codec", "day2_client"]);
        fs::remove_file(dir.join("day2_client/mod.rs")).unwrap();
        assert!(names(root.path(), day).unwrap_err().to_string().contains("day2"));
    }
}
