//! `exercise`: day N becomes an exercise, in place.
//!
//! Every function body in the day's `src/` that is new or changed since the day before becomes a `todo!()`.
//! Docs, signatures, types and constants stay: they are the specification, and the suite is what checks it.
//! There is no second copy of anything to keep in step, and git is the answer key; so the command refuses
//! where git could not give the solution back.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::blank::{self, Function, GIVEN_FILES};
use crate::course::Day;
use crate::screen::wrap;
use crate::tree::{self, Tree};
use crate::{git, readme};

/// A day as an exercise.
pub(crate) struct Exercise {
    /// All of the day's files.
    pub(crate) tree: Tree,
    /// What is new or changed in it, file by file.
    pub(crate) functions: Vec<Function>,
}

/// The exercise of a day whose files are `after`. `befores` are the day before as this day would have it (see
/// [`tree::carried`]), in one or several versions; day 1 has none. `only` restricts it to one file.
///
/// # Errors
///
/// A file is not Rust.
pub(crate) fn make(day: u8, befores: &[Tree], after: &Tree, only: Option<&str>) -> Result<Exercise> {
    let mut exercise = Exercise { tree: after.clone(), functions: Vec::new() };
    for (path, text) in after {
        let is_source = path.starts_with("src/") && path.ends_with(".rs");
        if !is_source || GIVEN_FILES.contains(&path.as_str()) || only.is_some_and(|only| only != path) {
            continue;
        }
        let old: Vec<&str> = befores.iter().filter_map(|tree| tree.get(path)).map(String::as_str).collect();
        let (blanked, functions) = blank::blank(day, path, &old, text)?;
        exercise.tree.insert(path.clone(), blanked);
        exercise.functions.extend(functions);
    }
    if let Some(lib) = exercise.tree.get_mut("src/lib.rs") {
        *lib = blank::allow_unused(lib)?;
    }
    Ok(exercise)
}

/// Makes day `day` an exercise, on disk, and says what is to be done now.
///
/// # Errors
///
/// git does not hold the solution, or there is nothing that could become an exercise.
pub(crate) fn run(root: &Path, day: &Day, only: Option<&str>) -> Result<bool> {
    for day in day.before().into_iter().chain([day]) {
        if !day.exists(root) {
            bail!("day {} does not exist: there is no {}/Cargo.toml", day.number, day.name);
        }
    }
    let commit = answer_key(root, day)?;
    let after = tree::read(root, day)?;
    let befores = befores(root, day, &after)?;
    let all = make(day.number, &befores, &after, None)?;
    let order = reading_order(root, day, &all);
    if order.is_empty() {
        bail!("day {} has no function that is new or changed", day.number);
    }
    let only = only.map(|only| chosen(day, only, &after, &order)).transpose()?;
    let exercise = make(day.number, &befores, &after, only.as_deref())?;
    for (path, text) in &exercise.tree {
        if after.get(path) != Some(text) {
            let path = day.dir(root).join(path);
            fs::write(&path, text).with_context(|| path.display().to_string())?;
        }
    }
    print(day, &exercise, &order, &commit);
    Ok(true)
}

impl Exercise {
    /// The functions that are a `todo!()` now.
    pub(crate) fn to_write(&self) -> impl Iterator<Item = &Function> {
        self.functions.iter().filter(|function| function.given.is_none())
    }
}

/// The commit that holds the solution, in short.
///
/// # Errors
///
/// There is none, or the day's files differ from it, so that something would be lost for good.
fn answer_key(root: &Path, day: &Day) -> Result<String> {
    let why = "the solution is kept by git, so this must be a git repository with a commit";
    let head = git::text(root, &["rev-parse", "--short", "--verify", "HEAD"]).context(why)?;
    let args = ["status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--", day.name];
    let dirty = git::paths(root, &args)?;
    if !dirty.is_empty() {
        let dirty: Vec<String> = dirty.iter().map(|line| format!("  {line}")).collect();
        bail!(
            "{0} has uncommitted work, which would be lost:\n{1}\n\
             Commit it (`git add {0} && git commit`), or throw it away (`git restore --staged --worktree {0}`; \
             what git does not know, `??`, is deleted by hand).",
            day.name,
            dirty.join("\n")
        );
    }
    // Nothing to report is also what git says of a directory that it ignores.
    let known = git::paths(root, &["ls-files", "-z", "--", day.name])?;
    let known: BTreeSet<&str> = known.iter().map(String::as_str).collect();
    for path in tree::read(root, day)?.keys() {
        let path = format!("{}/{path}", day.name);
        if !known.contains(path.as_str()) {
            bail!(
                "git does not know {path}, so it could not give the solution back: add and commit it first"
            );
        }
    }
    Ok(head.trim().to_owned())
}

/// The day before as this day would have it: as it is on disk, in the last commit, and in the course as it was
/// cloned. A learner's own solution of yesterday is no news of today.
fn befores(root: &Path, day: &Day, after: &Tree) -> Result<Vec<Tree>> {
    let Some(before) = day.before() else { return Ok(Vec::new()) };
    let mut trees = vec![tree::read(root, before)?];
    let upstream = git::upstream(root)?;
    for rev in ["HEAD"].into_iter().chain(upstream.as_deref()) {
        let same = git::output(root, &["diff", "--quiet", rev, "--", before.name])?.status.success();
        if !same {
            trees.push(at(root, before, rev)?);
        }
    }
    Ok(trees.iter().map(|tree| tree::carried(root, tree, before, day, after)).collect())
}

/// The `src/` of a day at a revision.
fn at(root: &Path, day: &Day, rev: &str) -> Result<Tree> {
    let src = format!("{}/src", day.name);
    let mut tree = Tree::new();
    for full in git::paths(root, &["ls-tree", "-r", "-z", "--name-only", rev, "--", &src])? {
        let path = full.strip_prefix(day.name).unwrap_or(&full).trim_start_matches('/').to_owned();
        tree.insert(path, git::text(root, &["show", &format!("{rev}:./{full}")])?);
    }
    Ok(tree)
}

/// The files that have something to write, in the order in which the chapter wants them read. A file that the
/// chapter forgets comes last.
fn reading_order(root: &Path, day: &Day, exercise: &Exercise) -> Vec<String> {
    let chapter = fs::read_to_string(day.dir(root).join("README.md")).unwrap_or_default();
    let rows = readme::files_of_today(&chapter).unwrap_or_default();
    let has = |path: &String| exercise.to_write().any(|function| function.path == *path);
    let mut order: Vec<String> = rows.into_iter().map(|row| row.file).filter(has).collect();
    for function in exercise.to_write() {
        if !order.contains(&function.path) {
            order.push(function.path.clone());
        }
    }
    order
}

/// The path that `--only` names: `client/mod.rs`, or `src/client/mod.rs`.
fn chosen(day: &Day, only: &str, after: &Tree, order: &[String]) -> Result<String> {
    let path = format!("src/{}", only.strip_prefix("src/").unwrap_or(only));
    if order.contains(&path) {
        return Ok(path);
    }
    let why = match after.contains_key(&path) {
        false => "is not there",
        true if GIVEN_FILES.contains(&path.as_str()) => "is given",
        true => "has no function that is new or changed",
    };
    let names: Vec<&str> = order.iter().map(|path| path.trim_start_matches("src/")).collect();
    bail!("{}/{path} {why}: on day {} it is one of {}", day.name, day.number, names.join(", "))
}

fn print(day: &Day, exercise: &Exercise, order: &[String], commit: &str) {
    let of = |path: &str| exercise.to_write().filter(|function| function.path == path).collect::<Vec<_>>();
    let files: Vec<(&String, Vec<&Function>)> =
        order.iter().map(|path| (path, of(path))).filter(|(_, functions)| !functions.is_empty()).collect();
    let plural = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    let (count, name) = (exercise.to_write().count(), day.name);
    outln!(
        "{name} is an exercise now: {} to write, in {}.\n",
        plural(count, "function"),
        plural(files.len(), "file")
    );
    let mut changed = false;
    for (path, functions) in &files {
        outln!("{path}: {}", functions.len());
        let mark = |function: &&Function| if function.changed { "~" } else { "" };
        let names: Vec<String> =
            functions.iter().map(|function| format!("{}{}", mark(function), function.name)).collect();
        changed |= functions.iter().any(|function| function.changed);
        for line in wrap(names.iter().map(String::as_str), 100) {
            outln!("    {line}");
        }
    }
    outln!();
    if let Some(before) = day.before().filter(|_| changed) {
        outln!("~ is changed; what it was yesterday is in {}/src.", before.name);
    }
    for function in &exercise.functions {
        if let Some(why) = function.given {
            outln!("Given: {} in {}; {why}.", function.name, function.path);
        }
    }
    outln!("Docs and signatures say what is wanted, in this order of files; the suite checks it.\n");

    let first = files.first().map(|(path, _)| format!("{name}/{path}")).unwrap_or_default();
    let commands = [
        (format!("cargo xtask check {}", day.number), "the suite as a ladder: what to write next"),
        (git::show_solution(None, &first), "the solution of a file: its lines have a +, yours a -"),
        (format!("git restore {first}"), "the solution back, for a file"),
        (format!("git restore {name}"), "the solution back, for all of the day"),
    ];
    let width = commands.iter().map(|(command, _)| command.len()).max().unwrap_or(0);
    for (command, what) in commands {
        outln!("  {command:width$}    {what}");
    }
    outln!(
        "\nIf you commit on the way, say where the solution is: {}",
        git::show_solution(Some(commit), &first)
    );
    outln!("and git restore --source {commit} {name}");
}
