//! `exercise`: day N, or one stage of it, becomes an exercise, in place.
//!
//! The bodies of the stage's functions become `todo!()`s (see `course::stages`); all others are the course's solution.
//! Docs, signatures, types and constants stay: they are the specification, and the suite is what checks it.
//! There is no second copy of anything to keep in step, and git is the answer key; so the command refuses
//! where git could not give back what it writes over.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::course::stages::{self, Stage};
use crate::course::tree::{self, Tree};
use crate::course::{Day, git, term};
use crate::learner::strip::{self, Function, is_given};
use crate::learner::{imports, solution};

/// A function or a change of so few lines of code is given: it is no work, and often a part of the specification.
const SHORT: usize = 2;

/// A day as an exercise.
pub(crate) struct Exercise {
    /// All of the day's files.
    pub(crate) tree: Tree,
    /// What is a `todo!()` in it, file by file.
    pub(crate) functions: Vec<Function>,
}

/// What of a day is wanted as an exercise.
#[derive(Clone, Copy)]
pub(crate) enum Part<'a> {
    /// All stages but those of hardening.
    Core,
    All,
    Stage(&'a str),
}

/// The exercise of a day whose files are `after`, with those of its new and changed functions that are `wanted`.
/// `before` is the day before as this day would have it (see [`tree::carried`]); day 1 has none.
///
/// # Errors
///
/// A file is not Rust.
pub(crate) fn make(
    day: &Day,
    before: Option<&Tree>,
    after: &Tree,
    wanted: impl Fn(&Function) -> bool,
) -> Result<Exercise> {
    let mut exercise = Exercise { tree: after.clone(), functions: Vec::new() };
    let wanted = |function: &Function| function.lines > SHORT && wanted(function);
    for (path, text) in after {
        let old = before.and_then(|tree| tree.get(path));
        if is_given(path) || old == Some(text) {
            continue;
        }
        let (blanked, functions) = strip::strip(day.number, path, old.map(String::as_str), text, wanted)?;
        if !functions.is_empty() {
            exercise.tree.insert(path.clone(), imports::prune(text, &blanked)?);
            exercise.functions.extend(functions);
        }
    }
    if let Some(lib) = exercise.tree.get_mut("src/lib.rs") {
        *lib = strip::allow_unused(lib)?;
    }
    Ok(exercise)
}

/// The stages of a part, with their numbers from 1, and the exercise. A day that has no stages in the table yet is one
/// stage without a name.
///
/// # Errors
///
/// There is no such stage, or a file is not Rust.
pub(crate) fn plan(
    root: &Path,
    day: &Day,
    before: Option<&Tree>,
    after: &Tree,
    part: Part<'_>,
) -> Result<(Vec<(usize, Stage)>, Exercise)> {
    let mut all = stages::read(root, day)?;
    if all.is_empty() {
        let functions = make(day, before, after, |_| true)?.functions;
        all.push(Stage::new(day.number, "", functions.iter().map(Function::key).collect(), 0));
    }
    let is_chosen = |stage: &Stage| match part {
        Part::Core => !stages::is_hardening(&stage.name),
        Part::All => true,
        Part::Stage(name) => stage.name == name && !name.is_empty(),
    };
    let names: Vec<&str> = all.iter().map(|stage| stage.name.as_str()).collect();
    if let Part::Stage(name) = part
        && !all.iter().any(is_chosen)
    {
        let meant = term::meant(name, &names);
        bail!("day {} has no stage {name}{meant}\nIts stages are {}", day.number, names.join(", "));
    }
    let mut chosen: Vec<(usize, Stage)> = (1..).zip(all).filter(|(_, stage)| is_chosen(stage)).collect();
    if let Part::All = part {
        let given = stages::given(root, day)?;
        chosen.iter_mut().for_each(|(_, stage)| stage.give(&given));
    }
    let exercise = make(day, before, after, |function| {
        chosen.iter().any(|(_, stage)| stage.functions.contains(&function.key()))
    })?;
    Ok((chosen, exercise))
}

/// Makes a part of a day an exercise, on disk, and says what is to be done now.
///
/// # Errors
///
/// git does not hold the solution, or there is nothing that could become an exercise.
pub(crate) fn run(root: &Path, day: &Day, part: Part<'_>) -> Result<bool> {
    day.before().into_iter().chain([day]).try_for_each(|day| day.must_exist(root))?;
    let commit = solution::find(root, day)?;
    refuse_to_lose_work(root, day, part)?;
    let after = solution::read(root, day, &commit)?;
    let before = day.before().map(|before| -> Result<Tree> {
        let tree = solution::read(root, before, &solution::find(root, before)?)?;
        Ok(tree::carried(root, &tree, before, day, &after))
    });
    let (stages, exercise) = plan(root, day, before.transpose()?.as_ref(), &after, part)?;
    if exercise.functions.is_empty() {
        let Part::Stage(name) = part else { bail!("day {} has no function to write", day.number) };
        bail!(
            "stage {name} has nothing to write: its tests check what the stages before have made.\n\
             Run it: cargo xtask check {} {name}",
            day.number
        );
    }
    for (path, text) in &exercise.tree {
        let path = day.dir(root).join(path);
        if fs::read_to_string(&path).ok().as_ref() != Some(text) {
            fs::write(&path, text).with_context(|| path.display().to_string())?;
        }
    }
    print(day, &stages, &exercise, part, &commit);
    Ok(true)
}

/// # Errors
///
/// The day's files have work that is in no commit, and would be lost for good.
fn refuse_to_lose_work(root: &Path, day: &Day, part: Part<'_>) -> Result<()> {
    let args = ["status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--", day.name];
    let dirty = git::paths(root, &args)?;
    if !dirty.is_empty() {
        let dirty: Vec<String> = dirty.iter().map(|line| format!("  {line}")).collect();
        let again = match part {
            Part::Core => String::new(),
            Part::All => " --all".to_owned(),
            Part::Stage(name) => format!(" --stage {name}"),
        };
        bail!(
            "{0} has uncommitted work, and the exercise would write over it:\n{1}\n\n\
             To keep it, commit it, and give the command again:\n  \
             git add {0} && git commit -m \"My {0}\" && cargo xtask exercise {2}{again}\n\
             Or throw it away: git restore --staged --worktree {0}\n\
             (what git does not know, `??`, is deleted by hand)",
            day.name,
            dirty.join("\n"),
            day.number
        );
    }
    // Nothing to report is also what git says of a directory that it ignores.
    let known = git::paths(root, &["ls-files", "-z", "--", day.name])?;
    let known: BTreeSet<&str> = known.iter().map(String::as_str).collect();
    for path in tree::read(root, day)?.keys() {
        let path = format!("{}/{path}", day.name);
        if !known.contains(path.as_str()) {
            bail!("git does not know {path}, so it could not give it back: add and commit it first");
        }
    }
    Ok(())
}

fn print(day: &Day, stages: &[(usize, Stage)], exercise: &Exercise, part: Part<'_>, commit: &str) {
    let (name, count) = (day.name, exercise.functions.len());
    let minutes: usize = stages.iter().map(|(_, stage)| stage.minutes).sum();
    outln!("{name} is an exercise now: {}, {}.", term::plural(count, "function"), term::about(minutes));
    for (number, stage) in stages {
        let find = |key: &String| exercise.functions.iter().find(|function| function.key() == *key);
        let of_stage: Vec<&Function> = stage.functions.iter().filter_map(find).collect();
        let functions = match of_stage.len() {
            0 => "nothing to write, its tests must be green: run it".to_owned(),
            count => term::plural(count, "function"),
        };
        if !stage.name.is_empty() {
            outln!("\nStage {number}  {}: {functions}, {}", stage.name, term::about(stage.minutes));
        }
        let mut shown = "";
        for function in of_stage {
            let path = if function.path == shown { "" } else { &function.path };
            let mark = if function.changed { '~' } else { ' ' };
            outln!("    {path:28} {mark}{}", function.name);
            shown = &function.path;
        }
    }
    outln!();
    if exercise.functions.iter().any(|function| function.changed) {
        outln!("~ is changed: yesterday's body stands above its todo!().");
    }
    outln!(
        "All else is the course's solution. Docs and signatures say what is wanted; the suite checks it.\n"
    );
    let only = if let Part::Stage(stage) = part { format!(" {stage}") } else { String::new() };
    let check = (format!("cargo xtask check {}{only}", day.number), "step by step: what to write next");
    let all = (format!("cargo xtask exercise {} --all", day.number), "the same with the hardening stages");
    let all = matches!(part, Part::Core).then_some(all);
    let commands: Vec<_> = [check].into_iter().chain(solution::commands(commit, name)).chain(all).collect();
    term::print_commands(&commands);
}
