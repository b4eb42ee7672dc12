//! Where git keeps the course's solution of a day.
//!
//! A learner commits, so the last commit may be theirs. The course's solution is at the tag `course`, or where this
//! branch leaves the one that it was cloned from; else in the commit before the first one that has an exercise in it.

use std::path::Path;

use anyhow::{Result, bail};

use crate::course::tree::Tree;
use crate::course::{Day, git};

/// What an exercise leaves in a day's sources, as a regular expression: see [`strip`](super::strip).
const BEGUN: &str = "todo!\\(\"day [0-9]|^#!\\[allow\\(unused\\)]";

/// The commit with the course's solution of a day, in short.
///
/// # Errors
///
/// This is no git repository, or no commit has it.
pub(crate) fn find(root: &Path, day: &Day) -> Result<String> {
    git::require(root)?;
    let src = format!("{}/src", day.name);
    let tag = ["rev-parse", "--quiet", "--verify", "refs/tags/course^{commit}"];
    let upstream = ["merge-base", "HEAD", "@{upstream}"];
    let begun = git::text(root, &["log", "--format=%H", "-G", BEGUN, "--", &src])?;
    let before = begun.lines().last().map_or("HEAD".to_owned(), |first| format!("{first}^"));
    let told = [&tag[..], &upstream].map(|args| git::text(root, args).unwrap_or_default().trim().to_owned());
    for commit in told.into_iter().filter(|commit| !commit.is_empty()).chain([before]) {
        let has_day =
            git::succeeds(root, &["cat-file", "-e", &format!("{commit}:./{}/Cargo.toml", day.name)])?;
        if has_day && !git::succeeds(root, &["grep", "--quiet", "-E", BEGUN, &commit, "--", &src])? {
            return Ok(git::text(root, &["rev-parse", "--short", &commit])?.trim().to_owned());
        }
    }
    bail!(
        "git has no commit with the course's solution of day {}: clone the course again, or fetch it",
        day.number
    )
}

/// The `src/` of a day at a commit.
///
/// # Errors
///
/// git does not have it.
pub(crate) fn read(root: &Path, day: &Day, commit: &str) -> Result<Tree> {
    let src = format!("{}/src", day.name);
    let mut tree = Tree::new();
    for full in git::paths(root, &["ls-tree", "-r", "-z", "--name-only", commit, "--", &src])? {
        let path = full.strip_prefix(day.name).unwrap_or(&full).trim_start_matches('/').to_owned();
        tree.insert(path, git::text(root, &["show", &format!("{commit}:./{full}")])?);
    }
    Ok(tree)
}

/// Whether what is on disk is the solution in that commit.
///
/// # Errors
///
/// git cannot be run.
pub(crate) fn is_here(root: &Path, day: &Day, commit: &str) -> Result<bool> {
    git::succeeds(root, &["diff", "--quiet", commit, "--", &format!("{}/src", day.name)])
}

/// The commands that show the solution, and that give it back; `path` is a day, or a file of it.
pub(crate) fn commands(commit: &str, path: &str) -> [(String, &'static str); 2] {
    [
        (format!("git diff -R {commit} {path}"), "the course's solution: its lines have a +, yours a -"),
        (format!("git restore --source {commit} {path}"), "the solution back"),
    ]
}
