//! A copy of the course in `target/`, in which a tool may change what it likes.
//!
//! The working tree is only read. A file of the copy is written only if it differs, so that cargo builds again
//! what has changed since the last time and nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::course::{DAYS, Day};
use crate::tree::{self, Tree};

/// Files of the workspace that every crate is built with, as far as they are there.
const SHARED: [&str; 5] =
    ["Cargo.toml", "Cargo.lock", ".cargo/config.toml", "rust-toolchain.toml", "xtask/Cargo.toml"];

/// A copy of the course.
pub(crate) struct Scratch {
    /// Its workspace.
    pub(crate) root: PathBuf,
    /// Where it is built. All copies share it, so their dependencies are built once.
    pub(crate) target_dir: PathBuf,
}

impl Scratch {
    /// The copy of that name: the days as they are, and nothing of the tools but their manifest. The days in
    /// `later` are left as the copy has them, until [`put`](Scratch::put).
    ///
    /// # Errors
    ///
    /// A file cannot be read or written.
    pub(crate) fn new(course: &Path, name: &str, later: &[&Day]) -> Result<Scratch> {
        let prove = target_dir(course)?.join("prove");
        let scratch = Scratch { root: prove.join(name), target_dir: prove.join("target") };
        for path in SHARED {
            match fs::read_to_string(course.join(path)) {
                Ok(text) => write(&scratch.root.join(path), &text)?,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| path.to_owned()),
            }
        }
        // A member of the workspace must have something to build.
        write(&scratch.root.join("xtask/src/main.rs"), "fn main() {}\n")?;
        let is_later = |day: &Day| later.iter().any(|later| later.number == day.number);
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
    pub(crate) fn put(&self, course: &Path, day: &Day, tree: &Tree) -> Result<()> {
        let dir = day.dir(&self.root);
        for (path, text) in tree {
            write(&dir.join(path), text)?;
        }
        // Its text is a part of the crate's documentation, so the crate is not built without it.
        let chapter = fs::read_to_string(day.dir(course).join("README.md")).unwrap_or_default();
        write(&dir.join("README.md"), &chapter)?;
        for path in tree::read(&self.root, day)?.keys().filter(|path| !tree.contains_key(*path)) {
            fs::remove_file(dir.join(path)).with_context(|| path.clone())?;
        }
        Ok(())
    }
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

/// Where cargo builds the course.
fn target_dir(course: &Path) -> Result<PathBuf> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(course)
        .stdin(Stdio::null())
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    metadata["target_directory"].as_str().map(PathBuf::from).context("cargo metadata: no target directory")
}
