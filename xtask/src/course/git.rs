//! The few things that git is asked for.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, bail};

/// Runs git in `dir`, whatever its exit code.
pub(crate) fn output(dir: &Path, args: &[&str]) -> Result<Output> {
    Command::new("git").args(args).current_dir(dir).output().context("cannot run git")
}

/// What git prints in `dir`.
///
/// # Errors
///
/// git failed, or printed something other than UTF-8.
pub(crate) fn text(dir: &Path, args: &[&str]) -> Result<String> {
    let output = output(dir, args)?;
    let command = args.join(" ");
    if !output.status.success() {
        bail!("git {command}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("git {command}: not UTF-8"))
}

/// The paths that git lists with `-z`, relative to `dir`.
pub(crate) fn paths(dir: &Path, args: &[&str]) -> Result<Vec<String>> {
    let listed = text(dir, args)?;
    Ok(listed.split_terminator('\0').map(String::from).collect())
}

/// The last commit that this branch shares with the one that it was cloned from, in short. `None`: there is none.
pub(crate) fn upstream(dir: &Path) -> Result<Option<String>> {
    let base = output(dir, &["merge-base", "HEAD", "@{upstream}"])?;
    let base = String::from_utf8_lossy(&base.stdout).trim().to_owned();
    if base.is_empty() {
        return Ok(None);
    }
    Ok(Some(text(dir, &["rev-parse", "--short", &base])?.trim().to_owned()))
}

/// The command that shows what has to be done to `path` to make it the solution, which is the last commit if it is
/// in no other.
pub(crate) fn show_solution(commit: Option<&str>, path: &str) -> String {
    let commit = commit.map(|commit| format!("{commit} ")).unwrap_or_default();
    format!("git diff -R {commit}{path}")
}
