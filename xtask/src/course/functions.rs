//! The functions of a source file: where their bodies are, and what may come in a body's place.
//!
//! They are found by syntax and named by their place in the text, so what changes a body leaves everything outside of
//! it as it is to the byte: docs, comments, signatures, layout.

use std::collections::BTreeSet;
use std::ops::Range;

use anyhow::{Context, Result, bail};
use syn::spanned::Spanned;
use syn::visit::Visit;
use syn::{Attribute, Block, ImplItem, Item, ReturnType, Signature, TraitItem, Type, TypeParamBound};

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
    /// Its value can be chosen from several bodies while it runs.
    pub(crate) branches: bool,
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
    /// It is left as it is: a `const fn`, which the compiler itself may call, cannot panic; `todo!()` is no `impl Trait`;
    /// and what `Debug` and `Display` write is the text that a failing test shows.
    Given,
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
    for (path, source) in tree.iter().filter(|(path, _)| path.starts_with("src/") && path.ends_with(".rs")) {
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
    let found = find(source)?.into_iter().filter(|function| function.branches);
    Ok(found.map(|function| function.body).collect())
}

/// `source` with a text behind the opening brace of each function that `text` has one for.
///
/// # Errors
///
/// It is not Rust.
pub(crate) fn begin_with(source: &str, text: impl Fn(&Found) -> Option<String>) -> Result<String> {
    let (mut marked, mut done) = (String::new(), 0);
    for function in find(source)? {
        if let Some(text) = text(&function) {
            marked.push_str(&source[done..=function.body.start]);
            marked.push_str(&text);
            done = function.body.start + 1;
        }
    }
    marked.push_str(&source[done..]);
    Ok(marked)
}

/// Every function with a body, in the order of the file. Functions inside of functions belong to those.
pub(crate) fn find(source: &str) -> Result<Vec<Found>> {
    let file = syn::parse_file(source)?;
    let mut finder = Finder { source, found: Vec::new() };
    finder.items(&file.items, "")?;
    Ok(finder.found)
}

struct Finder<'a> {
    source: &'a str,
    found: Vec<Found>,
}

impl Finder<'_> {
    /// `module` is the path of the module with a `::` at the end, or empty.
    fn items(&mut self, items: &[Item], module: &str) -> Result<()> {
        for item in items {
            match item {
                Item::Fn(item) if !is_for_tests(&item.attrs) => {
                    self.add(&item.sig, Some(&item.block), module, "", How::of(&item.sig))?;
                }
                Item::Impl(item) if !is_for_tests(&item.attrs) => {
                    let owner = self.owner(item);
                    let header = self.header(item)?;
                    let of = item.trait_.as_ref().and_then(|(path, _)| path.segments.last());
                    let of = of.map(|last| last.ident.to_string()).unwrap_or_default();
                    for inner in &item.items {
                        let ImplItem::Fn(inner) = inner else { continue };
                        let how = match How::of(&inner.sig) {
                            How::Todo if of == "Drop" => How::Drop,
                            _ if GIVEN_TRAITS.contains(&of.as_str()) => How::Given,
                            how => how,
                        };
                        let place = format!("{module}{owner}::");
                        self.add(&inner.sig, Some(&inner.block), &place, &header, how)?;
                    }
                }
                Item::Trait(item) if !is_for_tests(&item.attrs) => {
                    for inner in &item.items {
                        let TraitItem::Fn(inner) = inner else { continue };
                        let place = format!("{module}{}::", item.ident);
                        self.add(&inner.sig, inner.default.as_ref(), &place, "trait", How::of(&inner.sig))?;
                    }
                }
                Item::Mod(item) if !is_for_tests(&item.attrs) => {
                    let inner = item.content.as_ref().map(|(_, items)| items.as_slice());
                    self.items(inner.unwrap_or_default(), &format!("{module}{}::", item.ident))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn add(
        &mut self,
        sig: &Signature,
        block: Option<&Block>,
        place: &str,
        header: &str,
        how: How,
    ) -> Result<()> {
        let Some(block) = block else { return Ok(()) };
        let name = format!("{place}{}", sig.ident);
        let start = sig.span().byte_range().start;
        let body =
            block.brace_token.span.open().byte_range().start..block.brace_token.span.close().byte_range().end;
        // Everything below relies on the parser's byte ranges; a byte order mark, say, would shift them.
        match self.source.get(body.clone()) {
            Some(text) if text.starts_with('{') && text.ends_with('}') => {}
            _ => bail!("{name}: its body is not where the parser says it is"),
        }
        let text = self.source[start..body.end].to_owned();
        let branches = matches!(How::of(sig), How::Todo);
        self.found.push(Found { key: format!("{header} {name}"), name, text, body, branches, how });
        Ok(())
    }

    /// What an impl's functions are called after: the type, or the trait where the type has no name of its own.
    fn owner(&self, item: &syn::ItemImpl) -> String {
        let is_parameter = |name: &syn::Ident| item.generics.type_params().any(|param| param.ident == *name);
        let last = |path: &syn::Path| path.segments.last().map(|last| last.ident.clone());
        let of_type = match &*item.self_ty {
            Type::Path(path) => last(&path.path).filter(|name| !is_parameter(name)),
            _ => None,
        };
        let of_trait = || item.trait_.as_ref().and_then(|(path, _)| last(path));
        of_type.or_else(of_trait).map(|name| name.to_string()).unwrap_or_default()
    }

    /// What tells an impl from others for the same type: the trait, and the type with its arguments.
    ///
    /// Generics and where clauses are left out, so that one bound more does not make every function new.
    fn header(&self, item: &syn::ItemImpl) -> Result<String> {
        let text = |span: proc_macro2::Span| self.source.get(span.byte_range()).context("an impl's header");
        let of = match &item.trait_ {
            Some((path, _)) => text(path.span())?,
            None => "",
        };
        Ok(format!("{of} for {}", text(item.self_ty.span())?))
    }
}

impl How {
    fn of(sig: &Signature) -> How {
        if sig.constness.is_some() {
            return How::Given;
        }
        let ReturnType::Type(_, returned) = &sig.output else { return How::Todo };
        if let Type::ImplTrait(of) = &**returned {
            for bound in &of.bounds {
                let TypeParamBound::Trait(bound) = bound else { continue };
                match bound.path.segments.last().map(|last| last.ident.to_string()).as_deref() {
                    Some("Future") => return How::Future,
                    Some("Iterator" | "DoubleEndedIterator" | "ExactSizeIterator") => return How::Iterator,
                    _ => {}
                }
            }
        }
        let mut opaque = Opaque(false);
        opaque.visit_type(returned);
        if opaque.0 { How::Given } else { How::Todo }
    }
}

/// Whether there is an `impl Trait` anywhere in a type.
struct Opaque(bool);

impl<'ast> Visit<'ast> for Opaque {
    fn visit_type_impl_trait(&mut self, _: &'ast syn::TypeImplTrait) {
        self.0 = true;
    }
}

/// `#[test]` and `#[cfg(test)]`: tests are no exercise.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    let is_test = |attribute: &Attribute| {
        let cfg = attribute.path().is_ident("cfg");
        attribute.path().is_ident("test")
            || (cfg && attribute.parse_args::<syn::Path>().is_ok_and(|of| of.is_ident("test")))
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
