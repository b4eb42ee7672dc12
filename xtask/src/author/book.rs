//! `book`: the course as a site, in `target/book`.
//!
//! The work is that of a package of its own, `xtask/book`, so that a learner does not compile mdbook.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

/// Compiles that package, and runs it. `false`: it has told what is wrong.
///
/// # Errors
///
/// There is no cargo to run.
pub(crate) fn run(root: &Path) -> Result<bool> {
    let manifest = root.join("xtask/book/Cargo.toml");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(["run", "--locked", "--manifest-path"]).arg(manifest).arg("--").arg(root);
    Ok(cargo.status().context("cannot run cargo")?.success())
}
