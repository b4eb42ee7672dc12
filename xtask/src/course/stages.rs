//! What each stage of a day asks for: `xtask/stages.toml`, which `cargo xtask author prove --write-stages` writes.
//!
//! A stage of a suite (see `suites`) says what is tested. Which functions that takes is found by running its tests on
//! the solution: a function belongs to the first stage that calls it, so no stage needs a function of a later one.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::course::Day;

const PATH: &str = "xtask/stages.toml";

const HEAD: &str = "\
# The stages of each day: their functions, in the order of the steps, and about how many minutes they take.
# Minutes: 5 for each function, 2 for each test to read, rounded to 5. A function of one or two lines is given.
# Written by `cargo xtask author prove --write-stages`; `cargo xtask author prove` checks it.
";

/// What a stage asks for.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stage {
    pub(crate) day: u8,
    /// Of its module in the suite.
    pub(crate) name: String,
    pub(crate) minutes: usize,
    /// Such as `src/wire/frame.rs: FrameReader::next`.
    pub(crate) functions: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    stage: Vec<Stage>,
}

impl Stage {
    pub(crate) fn new(day: u8, name: &str, functions: Vec<String>, tests: usize) -> Stage {
        let minutes = (5 * functions.len() + 2 * tests + 2) / 5 * 5;
        Stage { day, name: name.to_owned(), minutes, functions }
    }

    /// What a first solution may leave out: floods, slow peers, hostile input.
    pub(crate) fn is_hardening(&self) -> bool {
        self.name.starts_with("hardening")
    }

    /// About how many minutes it takes when only so many of its functions are left.
    pub(crate) fn minutes_for(&self, left: usize) -> usize {
        let all = self.functions.len().max(1);
        (self.minutes * left).div_ceil(all).next_multiple_of(5)
    }

    /// Whether it asks for the same, in any order.
    fn is_like(&self, other: &Stage) -> bool {
        let set = |stage: &Stage| stage.functions.iter().cloned().collect::<BTreeSet<_>>();
        (&self.name, self.minutes, set(self)) == (&other.name, other.minutes, set(other))
    }
}

/// The stages of a day, in the order of its suite. None: it is not in the table yet.
///
/// # Errors
///
/// The table cannot be read.
pub(crate) fn read(root: &Path, day: &Day) -> Result<Vec<Stage>> {
    let mut stages = table(root)?;
    stages.retain(|stage| stage.day == day.number);
    Ok(stages)
}

/// Puts the stages of one day into the table.
///
/// # Errors
///
/// The table cannot be read or written.
pub(crate) fn write(root: &Path, day: &Day, stages: &[Stage]) -> Result<()> {
    let mut table = table(root)?;
    table.retain(|stage| stage.day != day.number);
    table.extend_from_slice(stages);
    table.sort_by_key(|stage| stage.day); // it is stable
    let text: String = table.iter().map(entry).collect();
    fs::create_dir_all(root.join("xtask"))?;
    fs::write(root.join(PATH), format!("{HEAD}{text}")).context(PATH)
}

/// What is wrong with the stages in the table, if these are right.
pub(crate) fn differ(table: &[Stage], right: &[Stage]) -> Option<String> {
    let wrong = |stage: &&Stage| !table.iter().any(|other| other.is_like(stage));
    let why = match right.iter().find(wrong) {
        _ if table.is_empty() => "the day is not in it".to_owned(),
        Some(stage) => {
            format!("stage {} takes {} min and {}", stage.name, stage.minutes, stage.functions.join(", "))
        }
        None if table.len() != right.len() => "it has a stage that the suite does not have".to_owned(),
        None => return None,
    };
    Some(format!("{PATH} is out of date: {why}"))
}

fn table(root: &Path) -> Result<Vec<Stage>> {
    let text = match fs::read_to_string(root.join(PATH)) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context(PATH),
    };
    let table: Table = toml::from_str(&text).context(PATH)?;
    Ok(table.stage)
}

fn entry(Stage { day, name, minutes, functions }: &Stage) -> String {
    let lines: String = functions.iter().map(|name| format!("    \"{name}\",\n")).collect();
    let lines = if lines.is_empty() { lines } else { format!("\n{lines}") };
    format!("\n[[stage]]\nday = {day}\nname = \"{name}\"\nminutes = {minutes}\nfunctions = [{lines}]\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::course::DAYS;

    fn stage(day: u8, name: &str, functions: &[&str]) -> Stage {
        Stage::new(day, name, functions.iter().map(|name| (*name).to_owned()).collect(), 3)
    }

    #[test]
    fn what_is_written_is_read_again_and_other_days_stay() {
        let root = tempfile::tempdir().unwrap();
        let stages = [stage(2, "calls", &["src/a.rs: A::new", "src/b.rs: f"]), stage(2, "hardening", &[])];
        assert!(read(root.path(), &DAYS[1]).unwrap().is_empty());
        write(root.path(), &DAYS[1], &stages).unwrap();
        write(root.path(), &DAYS[0], &[stage(1, "frames", &["src/a.rs: f"])]).unwrap();
        assert_eq!(read(root.path(), &DAYS[1]).unwrap(), stages);
        assert_eq!(table(root.path()).unwrap()[0].name, "frames");
        assert_eq!((stages[0].minutes, stages[1].minutes), (15, 5));
        assert_eq!((stages[0].minutes_for(1), stages[0].minutes_for(2)), (10, 15));
    }

    #[test]
    fn a_table_is_right_in_any_order_of_a_stage_but_not_with_another_stage() {
        let right = [stage(2, "calls", &["f", "g"]), stage(2, "end", &["h"])];
        assert_eq!(differ(&[stage(2, "calls", &["g", "f"]), stage(2, "end", &["h"])], &right), None);
        for (table, why) in [
            (vec![], "not in it"),
            (vec![stage(2, "calls", &["f"]), stage(2, "end", &["g", "h"])], "calls"),
            (vec![right[0].clone(), right[1].clone(), stage(2, "more", &[])], "does not have"),
        ] {
            assert!(differ(&table, &right).unwrap().contains(why), "{table:?}");
        }
    }
}
