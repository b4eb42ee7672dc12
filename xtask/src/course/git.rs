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

/// Whether git succeeds in `dir`.
///
/// # Errors
///
/// git cannot be run.
pub(crate) fn succeeds(dir: &Path, args: &[&str]) -> Result<bool> {
    Ok(output(dir, args)?.status.success())
}

/// # Errors
///
/// There is no git, no repository, or no commit in it.
pub(crate) fn require(dir: &Path) -> Result<()> {
    match succeeds(dir, &["rev-parse", "--quiet", "--verify", "HEAD"]) {
        Ok(true) => Ok(()),
        _ => bail!(
            "this needs git, and the course as a git repository with a commit: clone it, as git keeps the solution"
        ),
    }
}
