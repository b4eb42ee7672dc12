//! `chaos`: random faults against real processes. The work is done by day 7's example of that name.

use std::path::Path;

use anyhow::{Context, Result};

use crate::course::runner;

/// Runs it for `seconds`, with this seed or one by chance. `false`: a promise was broken, or it did not compile.
///
/// # Errors
///
/// Cargo cannot be started.
pub(crate) fn run(root: &Path, seconds: u64, seed: Option<u64>) -> Result<bool> {
    let mut cargo = runner::cargo(root);
    cargo.args(["run", "--quiet", "--locked", "-p", "day7-registry", "--example", "chaos", "--"]);
    cargo.args(["--seconds", &seconds.to_string()]);
    cargo.args(seed.map(|seed| format!("--seed={seed}")));
    Ok(cargo.status().context("cannot start cargo")?.success())
}
