//! `book`: the course as a site, in `target/book`.
//!
//! The work is that of a package of its own, `xtask/book`, so that a learner does not compile mdbook.

use std::path::Path;

use anyhow::{Context, Result};

use crate::course::runner;

/// Compiles that package, and runs it. `false`: it has told what is wrong.
///
/// # Errors
///
/// There is no cargo to run.
pub(crate) fn run(root: &Path) -> Result<bool> {
    let mut cargo = runner::cargo(root);
    cargo.args(["run", "--locked", "--manifest-path", "xtask/book/Cargo.toml", "--"]).arg(root);
    Ok(cargo.status().context("cannot run cargo")?.success())
}
