//! Each exercise compiles without warnings: that of the day, and each stage alone.
//!
//! Of every day the library is checked, in rounds: first the exercises of all days, then their first stages, and so on.
//! The suites are not: they use the public API only, and what becomes a `todo!()` is behind that.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result};

use super::scratch::Scratch;
use super::{Report, Source, Wanted};
use crate::course::runner;
use crate::course::stages::{self, Stage};
use crate::learner::exercise::Part;

/// Compiles them.
///
/// # Errors
///
/// A file cannot be read or written, or cargo cannot be run.
pub(super) fn exercises(root: &Path, sources: &[Source], wanted: Wanted, report: &mut Report) -> Result<()> {
    errln!("compiling the exercises, and each stage alone");
    let scratch = Scratch::new(root, "exercises", sources)?;
    let stages = sources.iter().map(|source| stages::read(root, source.day));
    let mut stages = stages.collect::<Result<Vec<Vec<Stage>>>>()?;
    stages.iter_mut().for_each(|stages| stages.retain(|stage| !stage.functions.is_empty()));
    let rounds = 1 + stages.iter().map(Vec::len).max().unwrap_or(0);
    for round in 0..rounds {
        let mut names = Vec::new();
        for (source, stages) in sources.iter().zip(&stages) {
            let part = match round.checked_sub(1).map(|index| stages.get(index)) {
                None => wanted.part(),
                Some(Some(stage)) => Part::Stage(&stage.name),
                Some(None) => continue,
            };
            scratch.put(root, source.day, &source.exercise(root, part)?.tree)?;
            names.push(match part {
                Part::Stage(name) => format!("{}, stage {name} alone", source.day.name),
                _ => source.day.name.to_owned(),
            });
        }
        let mut cargo = runner::cargo(&scratch.workspace);
        cargo.args(["check", "--quiet", "--workspace", "--lib", "--keep-going"]);
        cargo.env("CARGO_INCREMENTAL", "1").stdin(Stdio::null());
        let output = cargo.output().context("cannot run cargo")?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() || !said.trim().is_empty() {
            let names = names.join("; ");
            report
                .wrong
                .push(format!("one of these exercises does not compile without warnings: {names}\n{said}"));
        }
    }
    Ok(())
}
