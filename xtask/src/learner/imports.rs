//! The imports of an exercise: those that only the solution needs would give it away, so they go.
//!
//! A name goes if the bodies that were taken out have it, and nothing else in the file has it: no code, and no comment.
//! A trait that is only there for its methods has its name nowhere, and stays.

use std::collections::BTreeSet;

use anyhow::Result;
use syn::spanned::Spanned;
use syn::{Item, ItemUse, UseTree, Visibility};

use crate::course::functions::replace;

/// `stripped` without the imports that only the bodies in `source` needed.
///
/// # Errors
///
/// One of them is not Rust.
pub(crate) fn prune(source: &str, stripped: &str) -> Result<String> {
    let (before, after) = (words(source)?, words(stripped)?);
    let goes = |name: &str| before.contains(name) && !after.contains(name);
    let mut text = stripped.to_owned();
    // From the end, so that what is still to be done stays where it is.
    for item in imports(stripped)?.iter().rev() {
        let is_own = item.attrs.is_empty() && matches!(item.vis, Visibility::Inherited);
        let left = left(&item.tree, "", &goes);
        if is_own && left.as_deref() != left_all(&item.tree).as_deref() {
            let mut at = item.span().byte_range();
            let line = left.map(|left| format!("use {left};")).unwrap_or_default();
            if line.is_empty() {
                // With its line, and with the empty line that would be one too many.
                let is_alone = text[..at.start].ends_with("\n\n") && text[at.end..].starts_with("\n\n");
                at.end += if is_alone { 2 } else { 1 };
            }
            text.replace_range(at, &line);
        }
    }
    Ok(text)
}

/// What is left of an import. `parent` is the name that `self` stands for.
fn left(tree: &UseTree, parent: &str, goes: &dyn Fn(&str) -> bool) -> Option<String> {
    match tree {
        UseTree::Path(path) => {
            let name = path.ident.to_string();
            left(&path.tree, &name, goes).map(|rest| match rest.as_str() {
                "{self}" => name,
                rest => format!("{name}::{rest}"),
            })
        }
        UseTree::Name(name) => {
            let name = name.ident.to_string();
            let known = if name == "self" { parent } else { &name };
            (!goes(known)).then_some(name)
        }
        UseTree::Rename(name) => {
            (!goes(&name.rename.to_string())).then(|| format!("{} as {}", name.ident, name.rename))
        }
        UseTree::Glob(_) => Some("*".to_owned()),
        UseTree::Group(group) => {
            let items: Vec<String> = group.items.iter().filter_map(|item| left(item, parent, goes)).collect();
            match &items[..] {
                [] => None,
                [one] if one != "self" => Some(one.clone()),
                items => Some(format!("{{{}}}", items.join(", "))),
            }
        }
    }
}

fn left_all(tree: &UseTree) -> Option<String> {
    left(tree, "", &|_| false)
}

/// The words of a file outside of its imports.
fn words(text: &str) -> Result<BTreeSet<String>> {
    let imports = imports(text)?;
    let rest = replace(text, imports.iter().map(|item| (item.span().byte_range(), String::new())));
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    Ok(rest.split(|c| !is_part(c)).map(str::to_owned).collect())
}

fn imports(text: &str) -> Result<Vec<ItemUse>> {
    let items = syn::parse_file(text)?.items.into_iter();
    Ok(items.filter_map(|item| if let Item::Use(item) = item { Some(item) } else { None }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_the_bodies_needed_goes() {
        let source = "\
//! About [`Doc`].

use std::io::{self, Read};
use std::sync::Arc;

use a::{B, C as D, E, doc::Doc};
use b::*;
pub use c::Public;
use d::{self, Kept};

use e::Gone;

fn f(e: E) -> Kept {
    Arc::new(io::empty()).read(B, D, Doc, Public, Gone, d::x())
}
";
        let stripped = "\
//! About [`Doc`].

use a::{E, doc::Doc};
use b::*;
pub use c::Public;
use d::Kept;

fn f(e: E) -> Kept {
    todo!()
}
";
        let body = "Arc::new(io::empty()).read(B, D, Doc, Public, Gone, d::x())";
        let pruned = prune(source, &source.replace(body, "todo!()")).unwrap();
        assert_eq!(pruned.replace("use std::io::Read;\n\n", ""), stripped);
        assert_eq!(prune(source, source).unwrap(), source);
    }
}
