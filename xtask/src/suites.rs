//! The suites as they are written: the tests in the order of the lesson, with what is said about them.
//!
//! A suite is `tests/dayN_*.rs`. It falls into sections, each under a comment:
//!
//! ```text
//! // ---- frames ------------------------------
//! // Chapter: The wire > Frames; Limits
//!
//! /// What the test wants, why, and a hint.
//! #[test]
//! fn a_frame_is_its_length_in_four_bytes_and_its_payload() {
//! ```
//!
//! The second line of the comment says where the chapter (the day's README) tells of it, see `chapter`; there
//! may be several places.
//! Comments are no part of Rust's syntax, so they are found by their lines, and the tests by their tokens:
//! so a test inside of a macro such as `proptest!` is one as well. What builds and runs them is `runner`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use syn::parse::Parser;
use syn::{Attribute, Expr, ExprLit, Lit, Meta};

use crate::course::Day;

/// How a section begins.
const HEADER: &str = "// ---- ";

/// How the line under it begins, which names the place in the chapter.
const CHAPTER: &str = "// Chapter: ";

/// A suite, from its source.
#[derive(Debug)]
pub(crate) struct Suite {
    /// Such as `day3_service`, the name of the test target.
    pub(crate) name: String,
    pub(crate) sections: Vec<Section>,
    /// In the order of the source.
    pub(crate) tests: Vec<Test>,
}

/// What a comment `// ---- title ----` begins.
#[derive(Debug, PartialEq)]
pub(crate) struct Section {
    pub(crate) title: String,
    /// What the line `// Chapter: …` says: one or more places.
    pub(crate) chapter: Vec<String>,
    pub(crate) line: usize,
}

/// One test, a step of the ladder.
#[derive(Debug, PartialEq)]
pub(crate) struct Test {
    /// As the test program knows it.
    pub(crate) name: String,
    /// The doc comment, its lines without the slashes.
    pub(crate) doc: String,
    /// An index into [`Suite::sections`]; `None` above the first of them.
    pub(crate) section: Option<usize>,
    /// Of its name, counted from 1.
    pub(crate) line: usize,
}

/// The names of the suites that day `day` has, its own last: `day1_codec`, `day2_client`, ….
///
/// # Errors
///
/// There is no directory `tests/`, or no suite of the day's own in it.
pub(crate) fn names(root: &Path, day: &Day) -> Result<Vec<String>> {
    let dir = day.dir(root).join("tests");
    let mut names = Vec::new();
    for entry in fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let number = name.strip_prefix("day").and_then(|rest| rest.split('_').next()?.parse().ok());
        if let (Some(name), Some(number)) = (name.strip_suffix(".rs"), number)
            && (1..=day.number).contains(&number)
        {
            names.push((number, name.to_owned()));
        }
    }
    names.sort();
    if names.last().is_none_or(|(number, _)| *number != day.number) {
        bail!("{} has no suite of its own: no tests/day{}_*.rs", day.name, day.number);
    }
    Ok(names.into_iter().map(|(_, name)| name).collect())
}

/// The suite of that name in the crate at `dir`.
///
/// # Errors
///
/// The file cannot be read, or is not Rust.
pub(crate) fn read(dir: &Path, name: &str) -> Result<Suite> {
    let path = dir.join("tests").join(format!("{name}.rs"));
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    parse(name, &text).with_context(|| path.display().to_string())
}

/// The suite of that name from its text.
pub(crate) fn parse(name: &str, text: &str) -> Result<Suite> {
    let tokens: TokenStream = text.parse().map_err(|error| anyhow!("it is not Rust: {error}"))?;
    let sections = sections(text);
    let mut tests = Vec::new();
    find(tokens, "", &mut tests)?;
    for test in &mut tests {
        test.section = sections.iter().rposition(|section| section.line < test.line);
    }
    Ok(Suite { name: name.to_owned(), sections, tests })
}

fn sections(text: &str) -> Vec<Section> {
    let lines: Vec<&str> = text.lines().collect();
    let mut sections = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        if let Some(title) = line.strip_prefix(HEADER) {
            let chapter = lines.get(index + 1).and_then(|line| line.strip_prefix(CHAPTER));
            let title = title.trim_end_matches('-').trim().to_owned();
            let places = chapter.into_iter().flat_map(|chapter| chapter.split(';'));
            let chapter = places.map(|place| place.trim().to_owned()).collect();
            sections.push(Section { title, chapter, line: index + 1 });
        }
    }
    sections
}

/// Finds `#[test] fn name` in `tokens`, in modules, and in the braces of macros.
fn find(tokens: TokenStream, module: &str, tests: &mut Vec<Test>) -> Result<()> {
    let mut attributes = TokenStream::new();
    // The last two tokens, as text, that were not part of an attribute.
    let (mut before, mut last) = (String::new(), String::new());
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match &token {
            TokenTree::Punct(punct) if punct.as_char() == '#' => {
                let is_inner = |token: &TokenTree| matches!(token, TokenTree::Punct(p) if p.as_char() == '!');
                let inner = tokens.next_if(is_inner).is_some();
                if let Some(TokenTree::Group(group)) = tokens.next()
                    && !inner
                {
                    attributes.extend([token, TokenTree::Group(group)]);
                }
                continue;
            }
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                inside(group, module, (&before, &last), tests)?;
                attributes = TokenStream::new();
            }
            TokenTree::Punct(punct) if punct.as_char() == ';' => attributes = TokenStream::new(),
            TokenTree::Ident(name) if last == "fn" => {
                let line = name.span().start().line;
                tests.extend(test(format!("{module}{name}"), line, std::mem::take(&mut attributes))?);
            }
            _ => {}
        }
        before = std::mem::replace(&mut last, token.to_string());
    }
    Ok(())
}

/// What stands in braces is searched if it is a module or a macro's; the body of a function is not.
fn inside(group: &Group, module: &str, (before, last): (&str, &str), tests: &mut Vec<Test>) -> Result<()> {
    match (before, last) {
        (_, "!") => find(group.stream(), module, tests),
        ("mod", name) => find(group.stream(), &format!("{module}{name}::"), tests),
        _ => Ok(()),
    }
}

/// The function with these attributes, if it is a test.
fn test(name: String, line: usize, attributes: TokenStream) -> Result<Option<Test>> {
    let attributes = Attribute::parse_outer.parse2(attributes).with_context(|| format!("line {line}"))?;
    let is_test = attributes.iter().any(|attribute| attribute.path().is_ident("test"));
    let doc: Vec<String> = attributes.iter().filter_map(doc_line).collect();
    Ok(is_test.then(|| Test { name, doc: doc.join("\n").trim().to_owned(), section: None, line }))
}

/// `#[doc = " text"]`, which is what `/// text` is to the compiler.
fn doc_line(attribute: &Attribute) -> Option<String> {
    let Meta::NameValue(meta) = &attribute.meta else { return None };
    let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = &meta.value else { return None };
    let text = text.value();
    meta.path.is_ident("doc").then(|| text.strip_prefix(' ').unwrap_or(&text).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r##"//! A suite.

mod support;

// ---- helpers ----------------

/// Not a test.
#[derive(Debug)]
struct Helper { #[allow(dead_code)] field: u8 }

fn helper() {
    // ---- not a header ----
    fn inner() {}
}

// ---- frames, and "more" ------
// Chapter: The wire > Frames; Limits

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

// ---- the rest ----

mod inner {
    /// Fourth.
    #[test]
    fn fourth() {}
}
"##;

    #[test]
    fn tests_are_found_in_functions_macros_and_modules_in_the_order_of_the_source() {
        let suite = parse("day1_codec", TEXT).unwrap();
        let tests: Vec<_> =
            suite.tests.iter().map(|test| (test.name.as_str(), test.section, test.line)).collect();
        let line = |of: &str| TEXT.lines().position(|line| line.contains(of)).unwrap() + 1;
        assert_eq!(
            tests,
            [
                ("first", Some(1), line("fn first")),
                ("second", Some(1), line("fn second")),
                ("third", Some(1), line("fn third")),
                ("inner::fourth", Some(2), line("fn fourth")),
            ]
        );
    }

    #[test]
    fn a_section_has_a_title_and_may_name_a_place_in_the_chapter() {
        let sections = parse("day1_codec", TEXT).unwrap().sections.into_iter();
        let sections: Vec<_> =
            sections.map(|section| (section.title, section.chapter.join(" and "))).collect();
        let sections: Vec<_> = sections.iter().map(|(title, chapter)| (&title[..], &chapter[..])).collect();
        let frames = ("frames, and \"more\"", "The wire > Frames and Limits");
        assert_eq!(sections, [("helpers", ""), frames, ("the rest", "")]);
    }

    #[test]
    fn doc_comments_are_text_again() {
        let docs: Vec<_> =
            parse("day1_codec", TEXT).unwrap().tests.into_iter().map(|test| test.doc).collect();
        assert_eq!(docs, ["What it wants.\n\nHint: `a \"quoted\" \\ text`.", "", "Any text.", "Fourth."]);
    }

    #[test]
    fn a_file_that_is_not_rust_is_an_error() {
        assert!(parse("day1_codec", "fn f( {").is_err());
    }

    #[test]
    fn the_suites_of_a_day_are_its_own_and_those_before() {
        let root = tempfile::tempdir().unwrap();
        let day = crate::course::day(2).unwrap();
        let tests = day.dir(root.path()).join("tests");
        fs::create_dir_all(tests.join("support")).unwrap();
        for name in ["day2_client.rs", "day1_codec.rs", "day3_service.rs", "day1_codec.rs.orig", "other.rs"] {
            fs::write(tests.join(name), "").unwrap();
        }
        assert_eq!(names(root.path(), day).unwrap(), ["day1_codec", "day2_client"]);
        fs::remove_file(tests.join("day2_client.rs")).unwrap();
        assert!(names(root.path(), day).unwrap_err().to_string().contains("day2"));
    }
}
