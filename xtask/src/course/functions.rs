//! The functions of a source file: where their bodies are, and what may come in a body's place.
//!
//! They are found by syntax and named by their place in the text, so what changes a body leaves everything outside of
//! it as it is to the byte: docs, comments, signatures, layout.

use std::collections::BTreeSet;
use std::ops::Range;

use anyhow::{Context, Result, bail};
use syn::spanned::Spanned;
use syn::{Attribute, Block, ImplItem, Item, ReturnType, Signature, TraitItem, TraitItemFn, Type};

use crate::course::is_source;
use crate::course::tree::Tree;

/// An implementation of one of these is given. The first two are called while a panic is being reported, and a
/// second panic then ends the whole process. What `Default` returns is a part of the specification, as constants are.
const GIVEN_TRAITS: [&str; 3] = ["Debug", "Display", "Default"];

/// A function as it stands in a file.
pub(crate) struct Found {
    /// Its module, its impl's or trait's header, and its name.
    pub(crate) key: String,
    pub(crate) name: String,
    /// From the signature to the end of the body.
    pub(crate) text: String,
    /// The body, with its braces.
    pub(crate) body: Range<usize>,
    pub(crate) how: How,
}

/// What a body is replaced by.
#[derive(Clone, Copy)]
pub(crate) enum How {
    /// `todo!(…)`, which has every type.
    Todo,
    /// The value must be a future, and `todo!(…)` alone is none.
    Future,
    /// The value must be an iterator.
    Iterator,
    /// A destructor may run because of a panic, and a second one then would abort all tests of the program.
    Drop,
    /// It is left as it is: a `const fn`, which the compiler itself may call, cannot panic; and `todo!()` is no
    /// `impl Trait`.
    Given,
    /// It is left as it is, too, as one of [`GIVEN_TRAITS`].
    OfGivenTrait,
}

impl Found {
    /// The lines of its body, without the braces, in a `source` that it was found in.
    pub(crate) fn lines<'a>(&self, source: &'a str) -> impl Iterator<Item = &'a str> {
        let body = &source[self.body.start + 1..self.body.end - 1];
        let lines = body.trim_end().lines();
        lines.skip_while(|line| line.trim().is_empty())
    }
}

/// Lines that are neither empty nor a comment.
pub(crate) fn count_code<'a>(lines: impl Iterator<Item = &'a str>) -> usize {
    lines.map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).count()
}

/// The functions of a day that are not written yet, as `stages` names them: they have a `todo!` in their body.
///
/// # Errors
///
/// A file is not Rust.
pub(crate) fn unwritten(tree: &Tree) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for (path, source) in tree.iter().filter(|(path, _)| is_source(path)) {
        let is_code = |line: &&str| !line.trim_start().starts_with("//");
        let found = find(source).with_context(|| path.clone())?.into_iter();
        let todos = found
            .filter(|function| function.lines(source).filter(is_code).any(|line| line.contains("todo!(")));
        names.extend(todos.map(|function| format!("{path}: {}", function.name)));
    }
    Ok(names)
}

/// The bodies in `source`, with their braces, that may become a choice between several. A `const fn` cannot
/// choose while the program runs, and the choices of an `impl Trait` would be of different types.
///
/// # Errors
///
/// It is not Rust.
pub(crate) fn branching_bodies(source: &str) -> Result<Vec<Range<usize>>> {
    let branches = |function: &Found| matches!(function.how, How::Todo | How::Drop | How::OfGivenTrait);
    Ok(find(source)?.into_iter().filter(branches).map(|function| function.body).collect())
}

/// `source` with other texts in some places. They stand in the order of the source, and apart from each other.
pub(crate) fn replace(source: &str, edits: impl IntoIterator<Item = (Range<usize>, String)>) -> String {
    let (mut text, mut done) = (String::new(), 0);
    for (at, by) in edits {
        text += &source[done..at.start];
        text += &by;
        done = at.end;
    }
    text + &source[done..]
}

/// Every function with a body, in the order of the file. Functions inside of functions belong to those.
///
/// # Errors
///
/// It is not Rust.
pub(crate) fn find(source: &str) -> Result<Vec<Found>> {
    if source.starts_with('\u{feff}') {
        bail!("its functions are not where the parser says: it begins with a byte order mark");
    }
    let file = syn::parse_file(source)?;
    let mut finder = Finder { source, found: Vec::new() };
    finder.items(&file.items, "");
    Ok(finder.found)
}

struct Finder<'a> {
    source: &'a str,
    found: Vec<Found>,
}

impl Finder<'_> {
    /// `module` is the path of the module with a `::` at the end, or empty.
    fn items(&mut self, items: &[Item], module: &str) {
        for item in items {
            match item {
                Item::Fn(item) => self.add(&item.sig, &item.block, module, "", ""),
                Item::Impl(item) => {
                    let last = |path: &syn::Path| path.segments.last().map(|last| last.ident.to_string());
                    let of = item.trait_.as_ref().and_then(|(path, _)| last(path)).unwrap_or_default();
                    let is_parameter =
                        |name: &str| item.generics.type_params().any(|param| param.ident == name);
                    let of_type = match &*item.self_ty {
                        Type::Path(path) => last(&path.path).filter(|name| !is_parameter(name)),
                        _ => None,
                    };
                    // The trait, where the type has no name of its own.
                    let place = format!("{module}{}::", of_type.unwrap_or_else(|| of.clone()));
                    let header = self.header(item);
                    for inner in &item.items {
                        if let ImplItem::Fn(inner) = inner {
                            self.add(&inner.sig, &inner.block, &place, &header, &of);
                        }
                    }
                }
                Item::Trait(item) => {
                    let place = format!("{module}{}::", item.ident);
                    for inner in &item.items {
                        if let TraitItem::Fn(TraitItemFn { sig, default: Some(block), .. }) = inner {
                            self.add(sig, block, &place, "trait", "");
                        }
                    }
                }
                Item::Mod(item) if !is_for_tests(&item.attrs) => {
                    let inner = item.content.as_ref().map(|(_, items)| items.as_slice());
                    self.items(inner.unwrap_or_default(), &format!("{module}{}::", item.ident));
                }
                _ => {}
            }
        }
    }

    /// `of` is the trait that an impl is of, if it is.
    fn add(&mut self, sig: &Signature, block: &Block, place: &str, header: &str, of: &str) {
        let name = format!("{place}{}", sig.ident);
        let body = block.span().byte_range();
        let text = self.source[sig.span().byte_range().start..body.end].to_owned();
        let how = match self.how(sig) {
            How::Todo if of == "Drop" => How::Drop,
            _ if GIVEN_TRAITS.contains(&of) => How::OfGivenTrait,
            how => how,
        };
        self.found.push(Found { key: format!("{header} {name}"), name, text, body, how });
    }

    /// What tells an impl from others for the same type: the trait, and the type with its arguments.
    ///
    /// Generics and where clauses are left out, so that one bound more does not make every function new.
    fn header(&self, item: &syn::ItemImpl) -> String {
        let of = item.trait_.as_ref().map(|(path, _)| &self.source[path.span().byte_range()]);
        format!("{} for {}", of.unwrap_or_default(), &self.source[item.self_ty.span().byte_range()])
    }

    /// What can be in the place of a body, as far as the signature says.
    fn how(&self, sig: &Signature) -> How {
        if sig.constness.is_some() {
            return How::Given;
        }
        let ReturnType::Type(_, returned) = &sig.output else { return How::Todo };
        let returned = &self.source[returned.span().byte_range()];
        let mut words = returned.split(|c: char| !c.is_alphanumeric());
        if words.all(|word| word != "impl") {
            return How::Todo;
        }
        // The first bound of `impl path::Trait<…> + …`.
        let bound = returned.trim_start_matches("impl ").split(['<', ' ']).next().unwrap_or_default();
        match bound.rsplit("::").next() {
            Some("Future") => How::Future,
            Some("Iterator" | "DoubleEndedIterator" | "ExactSizeIterator") => How::Iterator,
            _ => How::Given,
        }
    }
}

/// `#[cfg(test)]`: tests are no exercise.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    let is_test = |attribute: &Attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|of| of.is_ident("test"))
    };
    attributes.iter().any(is_test)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_with_a_todo_is_not_written() {
        let source = "\
impl A {
    fn new() { todo!(\"day 1: A::new\") }
    fn half(&self) { self.1; todo!() }
    fn done(&self) {
        // todo!()
        self.2
    }
}
";
        let tree = [("src/a.rs", source), ("tests/a.rs", "fn f() { todo!() }")];
        let tree = tree.map(|(path, text)| (path.to_owned(), text.to_owned())).into();
        let names: Vec<String> = unwritten(&tree).unwrap().into_iter().collect();
        assert_eq!(names, ["src/a.rs: A::half", "src/a.rs: A::new"]);
    }
}
