//! A copy of the course in `target/`, in which a tool may change what it likes.
//!
//! The working tree is only read. A file of the copy is written only if it differs, so that cargo builds again
//! what has changed since the last time and nothing else.
//!
//! ```text
//! target/prove/labs/                 the workspace of the copy "labs"
//! target/prove/labs/labs/day1-codec  a day of it
//! ```
//!
//! All copies are built where the course is, so their dependencies are built already when the course is.
//!
//! The name is there twice for cargo's sake. It tells two crates of one name apart by their paths in their
//! workspaces, not by those on the disk; else one copy would be given what was built for another.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Source;
use crate::course::tree::{self, Tree};
use crate::course::{DAYS, Day};

/// Files of the workspace that a copy has as they are, as far as they are there.
const SHARED: [&str; 2] = ["Cargo.lock", "xtask/Cargo.toml"];

/// How a copy is built: each time as a whole. What differs from the course's own profile is said of each day, so that
/// the dependencies are those of the course.
const CONFIG: &str = "[build]\nincremental = false\ntarget-dir = \"../..\"\n";

/// A copy of the course.
pub(super) struct Scratch {
    /// Its workspace, where cargo is run.
    pub(super) workspace: PathBuf,
    /// What its days are in.
    root: PathBuf,
}

impl Scratch {
    /// The copy of that name: the days as they are, and nothing of the tools but their manifest. These days are
    /// left as the copy has them, until [`put`](Scratch::put).
    ///
    /// # Errors
    ///
    /// A file cannot be read or written.
    pub(super) fn new(course: &Path, name: &str, later: &[Source]) -> Result<Scratch> {
        let target = course.join(env::var_os("CARGO_TARGET_DIR").unwrap_or("target".into()));
        let workspace = target.join("prove").join(name);
        let scratch = Scratch { root: workspace.join(name), workspace };
        let manifest = fs::read_to_string(course.join("Cargo.toml")).context("Cargo.toml")?;
        write(&scratch.workspace.join("Cargo.toml"), &members(&manifest, name))?;
        for path in SHARED {
            if let Some(text) = tree::read_file(&course.join(path))? {
                write(&scratch.workspace.join(path), &text)?;
            }
        }
        // Without debug information, which saves a third of the time.
        let days = DAYS.iter().filter(|day| day.exists(course));
        let profiles = days.map(|day| format!("\n[profile.dev.package.{}]\ndebug = false\n", day.name));
        let config = CONFIG.to_owned() + &profiles.collect::<String>();
        write(&scratch.workspace.join(".cargo/config.toml"), &config)?;
        // A member of the workspace must have something to build.
        write(&scratch.workspace.join("xtask/src/main.rs"), "fn main() {}\n")?;
        let is_later = |day: &Day| later.iter().any(|later| later.day.number == day.number);
        for day in DAYS.iter().filter(|day| day.exists(course) && !is_later(day)) {
            scratch.put(course, day, &tree::read(course, day)?)?;
        }
        Ok(scratch)
    }

    /// Gives a day these files, and no others.
    ///
    /// # Errors
    ///
    /// A file cannot be read or written.
    pub(super) fn put(&self, course: &Path, day: &Day, tree: &Tree) -> Result<()> {
        let dir = day.dir(&self.root);
        for (path, text) in tree {
            write(&dir.join(path), text)?;
        }
        // Its text is a part of the crate's documentation, so the crate is not built without it.
        write(&dir.join("README.md"), &day.readme(course))?;
        for path in tree::read(&self.root, day)?.keys().filter(|path| !tree.contains_key(*path)) {
            fs::remove_file(dir.join(path)).with_context(|| path.clone())?;
        }
        Ok(())
    }
}

/// The workspace's manifest with its days in a directory of this name.
fn members(manifest: &str, dir: &str) -> String {
    DAYS.iter().fold(manifest.to_owned(), |text, Day { name, .. }| {
        text.replace(&format!("\"{name}\""), &format!("\"{dir}/{name}\""))
    })
}

/// Writes a file, if that is not what is in it.
fn write(path: &Path, text: &str) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == text.as_bytes()) {
        return Ok(());
    }
    let dir = path.parent().unwrap_or(path);
    fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    fs::write(path, text).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_days_of_a_copy_have_paths_of_their_own_in_its_workspace() {
        let manifest =
            "members = [\n    \"day1-codec\",\n    \"xtask\",\n]\ndefault-members = [\"day1-codec\"]\n";
        let expected = "members = [\n    \"labs/day1-codec\",\n    \"xtask\",\n]\ndefault-members = [\"labs/day1-codec\"]\n";
        assert_eq!(members(manifest, "labs"), expected);
    }
}
