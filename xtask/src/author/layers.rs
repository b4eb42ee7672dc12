//! The layers of a day's library: who may import whom.
//!
//! ```text
//! error, deadline, wire  ←  server, client  ←  service  ←  http  ←  balance  ←  registry
//! ```
//!
//! Nothing imports from its right, `server` and `client` do not import each other, and no modules import each
//! other in a circle. An import names the module that has the item (`crate::wire::frame::FrameReader`), never
//! a re-export of the crate's root. The root itself, the demo and the command line are free.
//!
//! Imports are every path in the code that begins with `crate`, `self`, `super` or a module declared in the same
//! file; not only those after `use`. Paths in comments do not count, nor does `$crate` in a macro.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, anyhow};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::course::is_library;
use crate::course::tree::Tree;

/// The layers from the lowest to the highest, each with its modules at the root of the crate.
const LAYERS: [&[&str]; 6] = [
    &["error", "deadline", "wire"],
    &["server", "client"],
    &["service"],
    &["http"],
    &["balance"],
    &["registry"],
];

/// A module's path below the crate's root: `["wire", "frame"]`.
type Module = Vec<String>;

/// To each file the files that it imports.
type Imports<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

/// One line for each import that breaks the rule, and for each circle.
///
/// # Errors
///
/// A file is not Rust.
pub(crate) fn check(tree: &Tree) -> Result<Vec<String>> {
    let sources = tree.iter().filter(|(path, _)| is_library(path));
    let modules: BTreeMap<Module, &str> =
        sources.clone().map(|(path, _)| (module(path), path.as_str())).collect();
    let mut imports = Imports::new();
    let mut failures = Vec::new();
    for (path, text) in sources {
        for target in paths(text, &module(path)).with_context(|| path.clone())? {
            match file(&modules, &target) {
                Some(file) if file == path => {}
                Some(file) => {
                    imports.entry(path).or_default().insert(file);
                }
                None => {
                    let target = target.join("::");
                    failures
                        .push(format!("{path}: crate::{target} is a re-export: name the item's own module"));
                }
            }
        }
    }
    for (from, to) in imports.iter().flat_map(|(from, to)| to.iter().map(move |to| (*from, *to))) {
        failures.extend(against(from, to).map(|why| format!("{from}: it imports {to}, and {why}")));
    }
    failures.extend(circles(&imports).iter().map(|circle| {
        let names: Vec<&str> = circle.iter().chain(circle.first()).copied().collect();
        format!("{}: an import cycle: {}", circle[0], names.join(" → "))
    }));
    Ok(failures)
}

/// The module that a file is: `src/wire/frame.rs` is `wire::frame`, and `src/server/mod.rs` is `server`.
fn module(path: &str) -> Module {
    let path = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    path.split('/').map(str::to_owned).collect()
}

/// The file of the innermost module in this path.
fn file<'a>(modules: &BTreeMap<Module, &'a str>, path: &[String]) -> Option<&'a str> {
    (1..=path.len()).rev().find_map(|len| modules.get(&path[..len]).copied())
}

/// Why the first file may not import the second.
fn against(from: &str, to: &str) -> Option<&'static str> {
    let layer = |path: &str| {
        let room = module(path).swap_remove(0);
        (LAYERS.iter().position(|layer| layer.contains(&room.as_str())), room)
    };
    match (layer(from), layer(to)) {
        ((None, _), _) | (_, (None, _)) => Some("one of them is in no layer"),
        ((Some(below), _), (Some(above), _)) if below < above => Some("that is above it"),
        ((Some(1), room), (Some(1), other)) if room != other => Some("that is beside it"),
        _ => None,
    }
}

/// The paths in a file that name something of the crate, from its root.
///
/// # Errors
///
/// It is not Rust.
fn paths(text: &str, module: &[String]) -> Result<BTreeSet<Module>> {
    let tokens: TokenStream = text.parse().map_err(|error| anyhow!("it is not Rust: {error}"))?;
    let mut paths = BTreeSet::new();
    find_in_module(tokens, module, &mut paths);
    Ok(paths)
}

fn find_in_module(tokens: TokenStream, module: &[String], paths: &mut BTreeSet<Module>) {
    let tokens: Vec<_> = tokens.into_iter().collect();
    let declared =
        tokens.windows(3).filter(|window| is_ident(&window[0], "mod") && is_punct(&window[2], ';'));
    let children: Vec<String> = declared.map(|window| window[1].to_string()).collect();
    find(&tokens, module, &children, paths);
}

/// Finds the paths in some tokens of a module that declares these children.
fn find(tokens: &[TokenTree], module: &[String], children: &[String], paths: &mut BTreeSet<Module>) {
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let before = at.checked_sub(1).map(|before| &tokens[before]);
        // In the middle of a path, in `$crate`, and in `pub(in crate::a)`, no import begins.
        let is_inside = at >= 2 && is_separator(&tokens[at - 2..]);
        let begins =
            !is_inside && before.is_none_or(|before| !is_punct(before, '$') && !is_ident(before, "in"));
        match token {
            TokenTree::Ident(name) if begins && is_separator(&tokens[at + 1..]) => {
                if let Some(start) = start(&name.to_string(), module, children) {
                    at = rest(tokens, at + 1, &start, paths);
                    continue;
                }
            }
            TokenTree::Group(group) if at >= 2 && is_ident(&tokens[at - 2], "mod") => {
                let inner: Module = module.iter().cloned().chain([tokens[at - 1].to_string()]).collect();
                find_in_module(group.stream(), &inner, paths);
            }
            TokenTree::Group(group) => {
                find(&group.stream().into_iter().collect::<Vec<_>>(), module, children, paths);
            }
            _ => {}
        }
        at += 1;
    }
}

/// The module in which a path begins whose first word this is; `None` if it is no path into this crate.
fn start(word: &str, module: &[String], children: &[String]) -> Option<Module> {
    match word {
        "crate" => Some(Module::new()),
        "self" => Some(module.to_vec()),
        "super" => Some(module[..module.len().saturating_sub(1)].to_vec()),
        child if children.iter().any(|name| name == child) => {
            Some(module.iter().cloned().chain([child.to_owned()]).collect())
        }
        _ => None,
    }
}

/// Follows a path whose beginning is known, from the `::` at `at`. Returns where it ends.
fn rest(tokens: &[TokenTree], mut at: usize, start: &[String], paths: &mut BTreeSet<Module>) -> usize {
    let mut path = start.to_vec();
    while is_separator(&tokens[at..]) {
        match tokens.get(at + 2) {
            Some(TokenTree::Ident(name)) if *name == "super" => {
                path.pop();
            }
            Some(TokenTree::Ident(name)) => path.push(name.to_string()),
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let inner: Vec<_> = group.stream().into_iter().collect();
                for part in inner.split(|token| is_punct(token, ',')).filter(|part| !part.is_empty()) {
                    let mut path = path.clone();
                    path.extend(Some(part[0].to_string()).filter(|name| name != "self" && name != "*"));
                    rest(part, 1, &path, paths);
                }
                return at + 3;
            }
            _ => break, // `*`, or the arguments of a generic type
        }
        at += 3;
    }
    // A macro that others may use is at the root, wherever it stands.
    let is_macro = path.len() == 1 && tokens.get(at).is_some_and(|token| is_punct(token, '!'));
    if !is_macro {
        paths.insert(path);
    }
    at
}

fn is_ident(token: &TokenTree, word: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if *ident == word)
}

fn is_punct(token: &TokenTree, c: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == c)
}

/// Whether `::` comes next.
fn is_separator(tokens: &[TokenTree]) -> bool {
    tokens.len() >= 2 && is_punct(&tokens[0], ':') && is_punct(&tokens[1], ':')
}

/// For each file that can be reached from itself and is in no circle yet, the shortest circle through it.
fn circles<'a>(imports: &Imports<'a>) -> Vec<Vec<&'a str>> {
    let mut circles: Vec<Vec<&str>> = Vec::new();
    for start in imports.keys() {
        if circles.iter().any(|circle| circle.contains(start)) {
            continue;
        }
        // Breadth first, so that the first way back is the shortest.
        let mut ways = vec![vec![*start]];
        let mut seen = BTreeSet::new();
        while let Some(way) = (!ways.is_empty()).then(|| ways.remove(0)) {
            let next = way.last().and_then(|last| imports.get(last)).into_iter().flatten();
            if next.clone().any(|next| next == start) {
                circles.push(way);
                break;
            }
            for next in next.filter(|next| seen.insert(**next)) {
                ways.push(way.iter().copied().chain([*next]).collect());
            }
        }
    }
    circles
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong with these files of `src/`.
    fn failures(files: &[(&str, &str)]) -> Vec<String> {
        check(&files.iter().map(|(path, text)| (format!("src/{path}"), (*text).to_owned())).collect())
            .unwrap()
    }

    #[track_caller]
    fn assert_failure(files: &[(&str, &str)], words: &[&str]) {
        let failures = failures(files);
        let has_all = |failure: &String| words.iter().all(|word| failure.contains(word));
        assert!(failures.len() == 1 && has_all(&failures[0]), "expected {words:?}: {failures:?}");
    }

    /// The paths of a file at `a/b.rs`.
    fn found(text: &str) -> String {
        let paths = paths(text, &module("src/a/b.rs")).unwrap();
        paths.iter().map(|path| path.join("::")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn every_path_into_the_crate_is_found() {
        for (text, expected) in [
            ("use crate::wire::codec::Codec;", "wire::codec::Codec"),
            (
                "use crate::{error::Error, wire::{self, codec::{A, B as C}, frame::*}};",
                "error::Error wire wire::codec::A wire::codec::B wire::frame",
            ),
            ("fn f(x: crate::x::Y) -> Vec<crate::z::W> { crate::g::h(1) }", "g::h x::Y z::W"),
            ("use super::c::D; use super::super::e::F; use self::g::H;", "a::b::g::H a::c::D e::F"),
            ("mod child; use child::A; fn f() { child::g(); other::h() }", "a::b::child::A a::b::child::g"),
            ("mod tests { use super::*; use super::super::c; }", "a::b a::c"),
            ("fn f() { debug!(error = %crate::error::text(e)) }", "error::text"),
        ] {
            assert_eq!(found(text), expected, "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_an_import_is_none() {
        for text in [
            "//! crate::wire\n/// [`x`](crate::http::X)\nfn f() {}",
            "macro_rules! m { () => { $crate::service::Service } }",
            "pub(crate) fn f() {} pub(in crate::a) fn g() {}",
            "fn f() { \"crate::x::y\"; std::crate_name::f(); x::self_test::g() }",
        ] {
            assert_eq!(found(text), "", "{text}");
        }
    }

    #[test]
    fn imports_go_down_and_stay_on_their_side() {
        let none: [String; 0] = [];
        let (frame, server) = (("wire/frame.rs", ""), ("server/mod.rs", "use crate::wire::frame::A;"));
        assert_eq!(failures(&[frame, server]), none);
        let up = ("wire/frame.rs", "fn f() { crate::server::g() }");
        assert_failure(&[up, ("server/mod.rs", "")], &["src/wire/frame.rs", "src/server/mod.rs", "above"]);
        let beside = ("client/mod.rs", "use crate::server::handler::Handler;");
        assert_failure(&[beside, ("server/handler.rs", "")], &["src/client/mod.rs", "beside"]);
        let within = ("server/mod.rs", "mod handler; use handler::Handler;");
        assert_eq!(failures(&[within, ("server/handler.rs", "")]), none);
        assert_failure(&[("other.rs", "use crate::error::E;"), ("error.rs", "")], &["in no layer"]);
    }

    #[test]
    fn modules_that_import_each_other_are_told_once() {
        let files = [
            ("wire/a.rs", "use super::b::B;"),
            ("wire/b.rs", "use crate::wire::c::C;"),
            ("wire/c.rs", "use crate::wire::{a::A, d::D};"),
            ("wire/d.rs", "use crate::wire::d;"),
        ];
        assert_failure(&files, &["src/wire/a.rs → src/wire/b.rs → src/wire/c.rs → src/wire/a.rs"]);
        assert_failure(&files[1..], &["src/wire/c.rs", "crate::wire::a::A"]);
    }

    #[test]
    fn a_re_export_of_the_root_is_no_module() {
        assert_failure(&[("server/mod.rs", "use crate::Error;")], &["crate::Error", "re-export"]);
        assert_failure(&[("server/mod.rs", "use crate::*;")], &["re-export"]);
        let free =
            [("lib.rs", "pub use error::E;"), ("main.rs", "use crate::cli;"), ("cli.rs", "use crate::x;")];
        assert!(failures(&free).is_empty(), "the root re-exports, and the program imports what it likes");
        let service = ("service/mod.rs", "fn f() { crate::service!(1) }");
        assert!(failures(&[service]).is_empty(), "a macro is at the root, wherever it stands");
    }
}
