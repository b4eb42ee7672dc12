//! `diff`: what a day adds to the day before, and nothing else.

use std::path::Path;

use anyhow::{Context, Result};

use crate::course::Day;
use crate::course::tree::{self, Tree};

/// Shows the lesson of one day: the diff of `Cargo.toml` and `src/` against the day before.
///
/// The suites are left out. They are new files, and read better in an editor.
///
/// # Errors
///
/// One of the two days does not exist, or git fails.
pub(crate) fn run(root: &Path, day: &Day) -> Result<bool> {
    let before = day.before().context("day 1 has no day before it: all of it is new")?;
    before.must_exist(root)?;
    day.must_exist(root)?;
    let lesson = |mut tree: Tree| {
        tree.retain(|path, _| !path.starts_with("tests/"));
        tree
    };
    let after = lesson(tree::read(root, day)?);
    let old = tree::carried(root, &lesson(tree::read(root, before)?), before, day, &after);
    tree::show_diff((before.name, &old), (day.name, &after))?;
    Ok(true)
}
