//! What each stage of a day asks for: `xtask/stages.toml`, which `cargo xtask author prove --write-stages` writes.
//!
//! A stage of a suite (see `suites`) says what is tested. Which functions that takes is found by running its tests on
//! the solution: a function belongs to the first stage that calls it, so no stage needs a function of a later one.
//!
//! What teaches nothing is given (see [`Given`]). That part of the table is written by hand.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::course::{Day, tree};

const PATH: &str = "xtask/stages.toml";

/// Whether a stage of that name is what a first solution may leave out: floods, slow peers, hostile input.
pub(crate) fn is_hardening(name: &str) -> bool {
    name.starts_with("hardening")
}

const HEAD: &str = "\
# The stages of each day: their functions, in the order of the steps, and about how many minutes they take.
# Minutes: 5 for each function, 2 for each test to read, rounded to 5. A function or a change of one or two lines is given.
# The stages are written by `cargo xtask author prove --write-stages`, and checked by `cargo xtask author prove`.
# What is `given` is written by hand: what teaches nothing; and what belongs to a hardening stage, but is called before.
# That is given until this `stage` alone is done.
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

/// Functions that no stage asks for, though they are new or changed, and longer than two lines.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Given {
    pub(crate) day: u8,
    /// The hardening stage that asks for them when it alone is the exercise; earlier stages call them, too.
    pub(crate) stage: Option<String>,
    pub(crate) functions: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Table {
    given: Vec<Given>,
    stage: Vec<Stage>,
}

impl Stage {
    pub(crate) fn new(day: u8, name: &str, functions: Vec<String>, tests: usize) -> Stage {
        let minutes = ((5 * functions.len() + 2 * tests + 2) / 5 * 5).max(5);
        Stage { day, name: name.to_owned(), minutes, functions }
    }

    /// About how many minutes it takes when only so many of its functions are left.
    pub(crate) fn minutes_for(&self, left: usize) -> usize {
        let all = self.functions.len().max(1);
        (self.minutes * left).div_ceil(all).next_multiple_of(5)
    }

    /// Does not ask for these functions.
    pub(crate) fn give(&mut self, given: &[Given]) {
        let before = self.functions.len();
        self.functions.retain(|name| !given.iter().any(|given| given.functions.contains(name)));
        self.minutes -= 5 * (before - self.functions.len());
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
    let mut stages = table(root)?.stage;
    stages.retain(|stage| stage.day == day.number);
    Ok(stages)
}

/// What is given of a day.
///
/// # Errors
///
/// The table cannot be read, or a stage is none of hardening: the core needs what is called before.
pub(crate) fn given(root: &Path, day: &Day) -> Result<Vec<Given>> {
    let mut given = table(root)?.given;
    given.retain(|given| given.day == day.number);
    for stage in given.iter().filter_map(|given| given.stage.as_deref()) {
        if !is_hardening(stage) {
            bail!("{PATH}: day {}: {stage} is no hardening stage: nothing is given until then", day.number);
        }
    }
    Ok(given)
}

/// Puts the stages of one day into the table.
///
/// # Errors
///
/// The table cannot be read or written.
pub(crate) fn write(root: &Path, day: &Day, stages: &[Stage]) -> Result<()> {
    let mut table = table(root)?;
    table.stage.retain(|stage| stage.day != day.number);
    table.stage.extend_from_slice(stages);
    table.stage.sort_by_key(|stage| stage.day); // it is stable
    let mut text = HEAD.to_owned();
    for Given { day, stage, functions } in &table.given {
        let stage = stage.as_ref().map(|stage| format!("stage = \"{stage}\"\n")).unwrap_or_default();
        text += &format!("\n[[given]]\nday = {day}\n{stage}{}", list(functions));
    }
    for Stage { day, name, minutes, functions } in &table.stage {
        let functions = list(functions);
        text += &format!("\n[[stage]]\nday = {day}\nname = \"{name}\"\nminutes = {minutes}\n{functions}");
    }
    fs::create_dir_all(root.join("xtask"))?;
    fs::write(root.join(PATH), text).context(PATH)
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

fn table(root: &Path) -> Result<Table> {
    let text = tree::read_file(&root.join(PATH))?.unwrap_or_default();
    toml::from_str(&text).context(PATH)
}

fn list(functions: &[String]) -> String {
    let lines: String = functions.iter().map(|name| format!("    \"{name}\",\n")).collect();
    let lines = if lines.is_empty() { lines } else { format!("\n{lines}") };
    format!("functions = [{lines}]\n")
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
        assert_eq!(table(root.path()).unwrap().stage[0].name, "frames");
        assert_eq!((stages[0].minutes, stages[1].minutes), (15, 5));
        assert_eq!((stages[0].minutes_for(1), stages[0].minutes_for(2)), (10, 15));
    }

    #[test]
    fn what_is_given_stays_when_stages_are_written_and_only_hardening_may_come_back_to_it() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("xtask")).unwrap();
        let one = "[[given]]\nday = 2\nstage = \"hardening_x\"\nfunctions = [\"src/a.rs: f\"]\n";
        fs::write(root.path().join(PATH), one).unwrap();
        let before = given(root.path(), &DAYS[1]).unwrap();
        write(root.path(), &DAYS[1], &[stage(2, "calls", &["src/a.rs: g"])]).unwrap();
        assert_eq!(given(root.path(), &DAYS[1]).unwrap(), before);
        let mut calls = stage(2, "calls", &["src/a.rs: f", "src/a.rs: g"]);
        calls.give(&before);
        assert_eq!((calls.minutes, &calls.functions[..]), (10, &["src/a.rs: g".to_owned()][..]));
        fs::write(root.path().join(PATH), one.replace("hardening_x", "calls")).unwrap();
        assert!(given(root.path(), &DAYS[1]).unwrap_err().to_string().contains("no hardening stage"));
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
