//! A day's source with the bodies of some functions taken out: the core of `exercise`, without files or git.
//!
//! Bodies are found by syntax and replaced in the text, so everything outside of them stays as it is to the
//! byte: docs, comments, signatures, layout.
//!
//! ```text
//! pub fn name(self) -> &'static str {         pub fn name(self) -> &'static str {
//!     match self { … }                  ──▶       todo!("day 1: Codec::name")
//! }                                           }
//! ```

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use similar::{Algorithm, DiffTag, capture_diff_slices};
use syn::spanned::Spanned;

use crate::course::functions::{Found, How, count_code, find, replace};
use crate::course::is_library;
use crate::course::tree::Tree;

/// Whether an exercise leaves this file as it is: what is not the library, and `error.rs`, which is the vocabulary. A
/// panic in the text of an error would hide the panic that matters.
pub(crate) fn is_given(path: &str) -> bool {
    !is_library(path) || path == "src/error.rs"
}

/// One function that is new or changed since the day before, and is to be written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Function {
    /// Such as `src/codec.rs`.
    pub(crate) path: String,
    /// As its `todo!` names it, such as `Codec::encode`.
    pub(crate) name: String,
    /// The day before has one of this name in the same place. Otherwise it is new.
    pub(crate) changed: bool,
    /// How many lines of code there are to write: its body's, or those that yesterday's body does not have.
    pub(crate) lines: usize,
}

impl Function {
    /// As `stages` has it: `src/codec.rs: Codec::encode`.
    pub(crate) fn key(&self) -> String {
        format!("{}: {}", self.path, self.name)
    }
}

/// `source`, the file at `path` in day `day`, with `todo!`s in those new and changed functions that are `wanted`, and
/// these functions, in the order of the file. `before` is the same file as it was the day before, if it was there.
///
/// # Errors
///
/// A file is not Rust.
pub(crate) fn strip(
    day: u8,
    path: &str,
    before: Option<&str>,
    source: &str,
    wanted: impl Fn(&Function) -> bool,
) -> Result<(String, Vec<Function>)> {
    let mut old: BTreeMap<String, Vec<Found>> = BTreeMap::new();
    for function in find(before.unwrap_or_default()).with_context(|| format!("{path}, the day before"))? {
        old.entry(function.key.clone()).or_default().push(function);
    }
    let (mut edits, mut functions) = (Vec::new(), Vec::new());
    for found in find(source).with_context(|| path.to_owned())? {
        let versions = old.get(&found.key).map(Vec::as_slice).unwrap_or_default();
        let is_same = versions.iter().any(|version| version.text == found.text);
        // Two of one name, as for two systems, are not worth the doubt.
        let yesterday = match (versions, before) {
            ([one], Some(before)) => Yesterday::new(one.lines(before), found.lines(source)),
            _ => Yesterday::new([].into_iter(), found.lines(source)),
        };
        let function = Function {
            path: path.to_owned(),
            name: found.name.clone(),
            changed: !versions.is_empty(),
            lines: yesterday.added,
        };
        let is_given = matches!(found.how, How::Given | How::OfGivenTrait);
        if !is_same && !is_given && wanted(&function) {
            let body = replacement(day, &found, source, yesterday.comments());
            edits.push((found.body, body));
            functions.push(function);
        }
    }
    Ok((replace(source, edits), functions))
}

/// The message of the `todo!` in a function: what a failed test prints when it gets there.
pub(crate) fn message(day: u8, name: &str) -> String {
    format!("day {day}: {name}")
}

/// The line that an exercise adds to `src/lib.rs`.
const ALLOW: &str = "#![allow(unused)] // for the exercise only: what is not written yet uses nothing";

/// `lib`, the text of `src/lib.rs`, with a line that keeps the compiler quiet about what a `todo!()` does not
/// use. It stands below the file's own attributes and docs.
pub(crate) fn allow_unused(lib: &str) -> Result<String> {
    if lib.contains(ALLOW) {
        return Ok(lib.to_owned());
    }
    let file = syn::parse_file(lib).context("src/lib.rs")?;
    let end = file.attrs.last().map_or(0, |attribute| attribute.span().byte_range().end);
    let line = if end == 0 { format!("{ALLOW}\n") } else { format!("\n{ALLOW}") };
    Ok(format!("{}{line}{}", &lib[..end], &lib[end..]))
}

/// Whether this line of `src/lib.rs` is the one that [`allow_unused`] puts there, whatever its comment says.
pub(crate) fn is_allow_unused(line: &str) -> bool {
    line.starts_with("#![allow(unused)]")
}

/// Where an exercise has been begun in a day: the first `todo!` of one, or the line of [`allow_unused`].
pub(crate) fn begun(tree: &Tree) -> Option<String> {
    let sources = tree.iter().filter(|(path, _)| path.starts_with("src/"));
    let mut lines = sources.flat_map(|(path, text)| (1..).zip(text.lines()).map(move |line| (path, line)));
    let begun = lines.find(|(_, (_, line))| line.contains("todo!(\"day ") || is_allow_unused(line));
    begun.map(|(path, (number, _))| format!("{path}:{number}"))
}

/// A function's body of yesterday, and what today's has in its place.
struct Yesterday<'a> {
    /// Its lines, and whether today's body has them, too.
    lines: Vec<(&'a str, bool)>,
    /// Lines of code in today's body that it does not have.
    added: usize,
}

impl<'a> Yesterday<'a> {
    fn new(old: impl Iterator<Item = &'a str>, new: impl Iterator<Item = &'a str>) -> Yesterday<'a> {
        let old: Vec<&str> = old.map(str::trim_end).collect();
        // How far a line is indented is no change.
        let (before, after): (Vec<&str>, Vec<&str>) =
            (old.iter().map(|line| line.trim()).collect(), new.map(str::trim).collect());
        let mut lines: Vec<(&str, bool)> = old.into_iter().map(|line| (line, false)).collect();
        let mut added = 0;
        for step in capture_diff_slices(Algorithm::Patience, &before, &after) {
            match step.tag() {
                DiffTag::Equal => lines[step.old_range()].iter_mut().for_each(|(_, stays)| *stays = true),
                _ => added += count_code(after[step.new_range()].iter().copied()),
            }
        }
        Yesterday { lines, added }
    }

    /// The body as comments: to begin with, and to change.
    ///
    /// As code it would have to compile today, and the tests that it fails would stand in front of what is to be
    /// written.
    fn comments(&self) -> Vec<String> {
        let code = || self.lines.iter().filter(|(line, _)| !line.trim().is_empty());
        let Some(common) = code().map(|(line, _)| line.len() - line.trim_start().len()).min() else {
            return Vec::new();
        };
        let are_missing = match self.added {
            1 => "about 1 line is missing".to_owned(),
            added => format!("about {added} lines are missing"),
        };
        let head = match code().filter(|(_, stays)| !stays).count() {
            0 => format!("// Yesterday's body. Today {are_missing}:"),
            _ => format!("// Yesterday's body. Today the lines with a `-` are wrong, and {are_missing}:"),
        };
        let line = |(line, stays): &(&str, bool)| {
            let sign = if *stays || line.is_empty() { ' ' } else { '-' };
            format!("// {sign}   {}", line.get(common..).unwrap_or_default()).trim_end().to_owned()
        };
        [head, "//".to_owned()].into_iter().chain(self.lines.iter().map(line)).collect()
    }
}

/// The new body of a function, laid out as rustfmt would have it, below these comments.
fn replacement(day: u8, function: &Found, source: &str, comments: Vec<String>) -> String {
    let line = source[..function.body.end].rfind('\n').map_or(0, |newline| newline + 1);
    let line = &source[line..];
    let indent = &line[..line.len() - line.trim_start().len()];
    let todo = format!("todo!({:?})", message(day, &function.name));
    let lines = match function.how {
        How::Future => vec![format!("async {{ {todo} }}")],
        How::Iterator => vec![format!("{todo};"), "std::iter::empty() // for its type only".to_owned()],
        How::Drop => vec![
            "// The `if` is for the exercise only: a second panic would end the whole test program."
                .to_owned(),
            "// Take it out with the `todo!`. A real `drop` has its work to do during a panic, too."
                .to_owned(),
            "if !std::thread::panicking() {".to_owned(),
            format!("    {todo}"),
            "}".to_owned(),
        ],
        How::Todo | How::Given | How::OfGivenTrait => vec![todo],
    };
    let lines = comments.iter().chain(&lines);
    let lines: String = lines.map(|line| format!("{indent}    {line}\n")).collect();
    format!("{{\n{lines}{indent}}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_blank(source: &str, expected: &str) {
        let (blanked, _) = strip(1, "src/a.rs", None, source, |_| true).unwrap();
        assert_eq!(blanked, expected);
        syn::parse_file(&blanked).unwrap();
        let (again, _) = strip(1, "src/a.rs", None, &blanked, |_| true).unwrap();
        assert_eq!(again, blanked, "not the same when done twice");
    }

    /// The functions that are new (`+`) and changed (`~`) since the day before.
    fn told(before: Option<&str>, source: &str) -> String {
        let (_, functions) = strip(2, "src/a.rs", before, source, |_| true).unwrap();
        let word =
            |function: &Function| format!("{}{}", if function.changed { "~" } else { "+" }, function.name);
        functions.iter().map(word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn bodies_go_and_everything_else_stays_to_the_byte() {
        assert_blank(
            r##"//! Module docs: fn f() { … }

use std::fmt; // `use` stays, even if nothing uses it

/// Docs with "quotes", ünïcödé 🦀 and a body: `fn g() {}`.
pub   fn odd_layout ( text : &str )->usize // a comment before the body
{
    let raw = r#"} not the end "# ; /* nor { this */
    let inner = |x: usize| { x + 1 };
    fn nested() -> usize { 1 }
    inner(text.len()) + nested() + raw.len() + 'ß'.len_utf8() // é
}

const LIMIT: usize = { 1 + 1 };

fn empty() {}
fn one_line() -> char { '}' }
"##,
            r##"//! Module docs: fn f() { … }

use std::fmt; // `use` stays, even if nothing uses it

/// Docs with "quotes", ünïcödé 🦀 and a body: `fn g() {}`.
pub   fn odd_layout ( text : &str )->usize // a comment before the body
{
    todo!("day 1: odd_layout")
}

const LIMIT: usize = { 1 + 1 };

fn empty() {
    todo!("day 1: empty")
}
fn one_line() -> char {
    todo!("day 1: one_line")
}
"##,
        );
    }

    #[test]
    fn functions_are_found_in_impls_traits_and_modules() {
        let source = "\
impl<R: Read, const N: usize> Reader<R, N>
where
    R: Send,
{
    const SIZE: usize = N;

    pub(crate) async fn read<'a, T>(&'a mut self) -> Result<T, Error>
    where
        T: From<&'a [u8]>,
    {
        self.io.read().await
    }
}

impl<F, Fut> Handler for F
where
    F: Fn() -> Fut,
{
    fn call(&self) {
        self()
    }
}

trait Shape {
    fn area(&self) -> f64;

    fn is_large(&self) -> bool {
        self.area() > 1.0
    }
}

mod outer {
    mod inner {
        fn deep() {
            1;
        }
    }
}

#[cfg(test)]
mod tests {
    fn helper() {
        1;
    }
}

macro_rules! given {
    () => {
        fn given() {
            1;
        }
    };
}
";
        let (blanked, functions) = strip(1, "src/a.rs", None, source, |_| true).unwrap();
        let names: Vec<_> = functions.iter().map(|function| function.name.as_str()).collect();
        assert_eq!(names, ["Reader::read", "Handler::call", "Shape::is_large", "outer::inner::deep"]);
        let expected = source
            .replace("self.io.read().await", "todo!(\"day 1: Reader::read\")")
            .replace("        self()", "        todo!(\"day 1: Handler::call\")")
            .replace("self.area() > 1.0", "todo!(\"day 1: Shape::is_large\")")
            .replacen("            1;", "            todo!(\"day 1: outer::inner::deep\")", 1);
        assert_eq!(blanked, expected);
    }

    #[test]
    fn what_a_todo_cannot_be_is_a_future_an_iterator_or_given() {
        assert_blank(
            "\
fn wait(&self) -> impl Future<Output = u8> + Send {
    self.later()
}
fn names(&self) -> impl Iterator<Item = &str> {
    self.names.iter()
}
",
            "\
fn wait(&self) -> impl Future<Output = u8> + Send {
    async { todo!(\"day 1: wait\") }
}
fn names(&self) -> impl Iterator<Item = &str> {
    todo!(\"day 1: names\");
    std::iter::empty() // for its type only
}
",
        );
        for given in [
            "fn config() -> impl Config {\n    standard()\n}\n",
            "fn config() -> Result<Box<impl Config>, Error> {\n    standard()\n}\n",
            "const fn size() -> usize {\n    4\n}\n",
            "impl fmt::Display for Codec {\n    fn fmt(&self) {\n        1;\n    }\n}\n",
        ] {
            assert_blank(given, given);
            assert_eq!(told(None, given), "");
        }
    }

    #[test]
    fn a_destructor_does_not_panic_while_another_panic_is_on_its_way() {
        assert_blank(
            "impl Drop for Guard {\n    fn drop(&mut self) {\n        self.end();\n    }\n}\n",
            "\
impl Drop for Guard {
    fn drop(&mut self) {
        // The `if` is for the exercise only: a second panic would end the whole test program.
        // Take it out with the `todo!`. A real `drop` has its work to do during a panic, too.
        if !std::thread::panicking() {
            todo!(\"day 1: Guard::drop\")
        }
    }
}
",
        );
    }

    #[test]
    fn only_what_is_new_or_changed_is_blank() {
        let before = "\
impl Client<Tcp> {
    fn same() { 1; }
    fn body() { 1; }
    fn signature() { 1; }
    fn docs() { 1; }
    fn gone() { 1; }
}
impl Client<Unix> {
    fn of_unix() { 1; }
}
impl Clone for Client<Tcp> {
    fn twice() { 1; }
}
";
        let after = "\
impl<T> Client<Tcp> where T: Send {
    fn new() { 1; }
    fn same() { 1; }
    fn body() { 2; }
    fn signature(self) { 1; }
    /// Now with docs.
    pub fn docs() { 1; }
    fn of_unix() { 1; }
}
impl Clone for Client<Tcp> {
    fn twice() { 1; }
}
impl Clone for Client<Unix> {
    fn twice() { 1; }
}
fn same() { 1; }
";
        assert_eq!(
            told(Some(before), after),
            "+Client::new ~Client::body ~Client::signature +Client::of_unix +Client::twice +same"
        );
        assert_eq!(told(Some(after), after), "");
    }

    #[test]
    fn what_is_changed_has_yesterdays_body_above_it() {
        let before = "impl A {\n    fn f() -> u8 {\n        if x {\n\n            1\n        } // é\n    }\n    fn g() { 1 }\n}\n";
        let after = "impl A {\n    fn f() -> u8 {\n        loop {\n          if x {\n 2\n            } // é\n        }\n    }\n    fn g() {\n        2;\n        1\n    }\n}\n";
        let (blanked, _) = strip(2, "src/a.rs", Some(before), after, |_| true).unwrap();
        let expected = "\
impl A {
    fn f() -> u8 {
        // Yesterday's body. Today the lines with a `-` are wrong, and about 3 lines are missing:
        //
        //     if x {
        //
        // -       1
        //     } // é
        todo!(\"day 2: A::f\")
    }
    fn g() {
        // Yesterday's body. Today about 1 line is missing:
        //
        //     1
        todo!(\"day 2: A::g\")
    }
}
";
        assert_eq!(blanked, expected);
    }

    #[test]
    fn two_of_one_name_are_told_apart_by_their_text() {
        let (unix, other) = ("#[cfg(unix)]\nfn dial() { 1; }\n", "#[cfg(not(unix))]\nfn dial() { 2; }\n");
        let both = format!("{unix}{other}");
        assert_eq!(told(Some(&both), &both), "");
        assert_eq!(told(Some(unix), &both), "~dial");
        assert_eq!(told(None, &both), "+dial +dial");
    }

    #[test]
    fn the_compiler_is_kept_quiet_by_one_line_below_the_docs() {
        let lib = "#![doc = include_str!(\"../README.md\")]\n\npub mod codec;\n";
        let allowed = format!("#![doc = include_str!(\"../README.md\")]\n{ALLOW}\n\npub mod codec;\n");
        assert_eq!(allow_unused(lib).unwrap(), allowed);
        assert_eq!(allow_unused(&allowed).unwrap(), allowed);
        assert_eq!(allowed.lines().filter(|line| is_allow_unused(line)).count(), 1);
        let docs = "//! One.\n//! Two.\npub mod codec;\n";
        assert_eq!(allow_unused(docs).unwrap(), format!("//! One.\n//! Two.\n{ALLOW}\npub mod codec;\n"));
        assert_eq!(allow_unused("pub mod codec;\n").unwrap(), format!("{ALLOW}\npub mod codec;\n"));
    }

    #[test]
    fn a_file_that_is_not_rust_is_an_error_that_names_it() {
        let error =
            |before, source| format!("{:#}", strip(2, "src/a.rs", before, source, |_| true).unwrap_err());
        assert!(error(None, "fn f( {").starts_with("src/a.rs: "));
        assert!(error(Some("fn f( {"), "").starts_with("src/a.rs, the day before: "));
        assert!(error(None, "\u{feff}fn f() {}").contains("not where the parser says"));
    }
}
