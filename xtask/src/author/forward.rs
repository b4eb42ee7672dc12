//! `forward`: a change made in day N, carried into every later day.
//!
//! For each file that differs in day N between a revision and the disk:
//!
//! ```text
//!     base    REV:dayN/file     as the later day would have it (see `carry`)
//!     theirs  dayN/file now     likewise
//!     ours    dayM/file now     → git merge-file → dayM/file
//! ```
//!
//! A later day that already has the change is left as it is, so running the command twice does no harm. Once
//! the change is committed there is nothing left to carry; name an older `--base` to carry it again.
//!
//! Two changes to the same lines, carried one after the other, conflict unless the base moves on in between.
//! A commit moves it. So does a snapshot of the index, which leaves no trace in the history:
//!
//! ```text
//!     git add --all; base=$(git write-tree)
//!     (edit day 1)
//!     cargo xtask author forward 1 --base $base
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::course::carry::{carry, translate};
use crate::course::{DAYS, Day};
use crate::course::{git, tree};
use crate::learner::strip;

/// Each day has its own chapter and its own demo.
const OWN: [&str; 2] = ["README.md", "src/main.rs"];

/// What became of one file in one later day.
#[derive(Clone, Copy, PartialEq)]
enum Outcome {
    Merged,
    AlreadyThere,
    New,
    Deleted,
    /// The reason; the later day's file waits for a human.
    Conflict(&'static str),
}

/// One file of day N: what it was at the revision, and what it is now.
struct Change {
    path: String,
    base: Option<String>,
    theirs: Option<String>,
}

/// Carries the change and prints a line for each file and day. `false`: there were conflicts.
///
/// # Errors
///
/// The day or the revision does not exist, or a file cannot be read or written.
pub(crate) fn run(root: &Path, day: &Day, rev: &str, all: bool) -> Result<bool> {
    if DAYS.iter().all(|later| later.number <= day.number) {
        bail!("day {} is the last: there is no day to carry it into", day.number);
    }
    day.must_exist(root)?;
    git::require(root)?;
    refuse_an_exercise(root)?;
    let tree = format!("{rev}^{{tree}}");
    if !git::succeeds(root, &["rev-parse", "--verify", "--quiet", "--end-of-options", &tree])? {
        bail!("no such revision: {rev}");
    }
    let changes = changes(root, day, rev, all)?;
    if changes.is_empty() {
        outln!("{}: nothing has changed since {rev}", day.name);
        return Ok(true);
    }
    let mut conflicts = Vec::new();
    for later in DAYS.iter().filter(|later| later.number > day.number && later.exists(root)) {
        for change in &changes {
            let outcome = forward(root, day, later, change, rev)
                .with_context(|| format!("{}/{}", later.name, change.path))?;
            outln!("{:<17} {:<32} {}", later.name, change.path, outcome.word());
            if let Outcome::Conflict(why) = outcome {
                conflicts.push(format!("{}/{}: {why}", later.name, change.path));
            }
        }
    }
    for conflict in &conflicts {
        errln!("CONFLICT {conflict}");
    }
    Ok(conflicts.is_empty())
}

/// # Errors
///
/// This is a learner's tree: an exercise has been begun in it, and its `todo!()`s are no change of the course.
fn refuse_an_exercise(root: &Path) -> Result<()> {
    for day in DAYS.iter().filter(|day| day.exists(root)) {
        if let Some(place) = strip::begun(&tree::read(root, day)?) {
            bail!(
                "{}/{place} belongs to an exercise: `forward` is for the course itself, and would carry it into other days",
                day.name
            );
        }
    }
    Ok(())
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Outcome::Merged => "merged",
            Outcome::AlreadyThere => "already there",
            Outcome::New => "new",
            Outcome::Deleted => "deleted",
            Outcome::Conflict(_) => "CONFLICT",
        }
    }
}

/// The files of `day` that differ between `rev` and the disk. What git ignores does not count.
fn changes(root: &Path, day: &Day, rev: &str, all: bool) -> Result<Vec<Change>> {
    let then = git::paths(root, &["ls-tree", "-r", "-z", "--name-only", rev, "--", day.name])?;
    let now =
        git::paths(root, &["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", day.name])?;
    let known: BTreeSet<&String> = then.iter().collect();
    let mut changes = Vec::new();
    for full in then.iter().chain(&now).collect::<BTreeSet<_>>() {
        let path = full.strip_prefix(day.name).unwrap_or(full).trim_start_matches('/');
        if OWN.contains(&path) && !all {
            continue;
        }
        // `./` makes the path relative to the workspace, which may lie below the repository's root.
        let show = || git::text(root, &["show", &format!("{rev}:./{full}")]);
        let base = known.contains(full).then(show).transpose()?;
        let theirs = tree::read_file(&root.join(full))?;
        if base != theirs {
            changes.push(Change { path: path.to_owned(), base, theirs });
        }
    }
    Ok(changes)
}

/// Carries one change into one later day.
///
/// Where the text laid out by rustfmt conflicts, the bare translation is tried: the later day may be in the
/// middle of being written, and not laid out yet.
fn forward(root: &Path, day: &Day, later: &Day, change: &Change, rev: &str) -> Result<Outcome> {
    let target = later.dir(root).join(&change.path);
    let ours = tree::read_file(&target)?;
    let labels = [later.name, &format!("{} at {rev}", day.name), &format!("{} now", day.name)];
    let laid_out = |text: &String| carry(root, &change.path, text, day, later);
    let bare = |text: &String| translate(text, day, later);
    let attempt = |carried: &dyn Fn(&String) -> String| {
        let (base, theirs) = (change.base.as_ref().map(carried), change.theirs.as_ref().map(carried));
        merge(ours.as_deref(), base.as_deref(), theirs.as_deref(), labels)
    };
    let mut attempted = attempt(&laid_out)?;
    if let (Outcome::Conflict(_), _) = attempted {
        let second = attempt(&bare)?;
        if !matches!(second.0, Outcome::Conflict(_)) {
            attempted = second;
        }
    }
    let (outcome, text) = attempted;
    match text {
        Some(text) => {
            fs::create_dir_all(target.parent().unwrap_or(root))?;
            fs::write(&target, text)?;
        }
        None if outcome == Outcome::Deleted => fs::remove_file(&target)?,
        None => {}
    }
    Ok(outcome)
}

/// What a change comes to, and the text that is to be written. `None` stands for a file that is not there.
fn merge(
    ours: Option<&str>,
    base: Option<&str>,
    theirs: Option<&str>,
    labels: [&str; 3],
) -> Result<(Outcome, Option<String>)> {
    Ok(match (base, theirs, ours) {
        (_, theirs, ours) if theirs == ours => (Outcome::AlreadyThere, None),
        (None, Some(theirs), None) => (Outcome::New, Some(theirs.to_owned())),
        (Some(base), None, Some(ours)) if base == ours => (Outcome::Deleted, None),
        (_, None, _) => (Outcome::Conflict("deleted, but this day has changed it"), None),
        (Some(_), Some(_), None) => (Outcome::Conflict("changed, but this day does not have it"), None),
        (_, Some(_), Some(ours)) if ours.lines().any(|line| line.starts_with("<<<<<<< ")) => {
            (Outcome::Conflict("still has the markers of an earlier conflict"), None)
        }
        (Some(base), Some(theirs), Some(ours)) if contains(ours, base, theirs)? => {
            (Outcome::AlreadyThere, None)
        }
        (base, Some(theirs), Some(ours)) => {
            let why = if base.is_some() { "both days changed the same lines" } else { "new in both days" };
            match merge_texts(ours, base.unwrap_or_default(), theirs, labels)? {
                (merged, true) if merged == ours => (Outcome::AlreadyThere, None),
                (merged, true) => (Outcome::Merged, Some(merged)),
                (marked, false) => (Outcome::Conflict(why), Some(marked)),
            }
        }
    })
}

/// Whether `ours` has the change from `base` to `theirs` already: it can be taken out, and putting it back
/// gives `ours`.
///
/// Merging a second time is not enough to know. Where an insertion stands next to a change of the later day's
/// own, git may insert it again, or see a conflict.
fn contains(ours: &str, base: &str, theirs: &str) -> Result<bool> {
    let labels = ["ours", "base", "theirs"];
    let (without, clean) = merge_texts(ours, theirs, base, labels)?;
    if !clean || without == ours {
        return Ok(false);
    }
    Ok(merge_texts(&without, base, theirs, labels)? == (ours.to_owned(), true))
}

/// The three-way merge, and whether it is clean. `labels` name ours, base and theirs.
///
/// The markers are in diff3 style, which shows the base as well. That style makes git report a conflict even
/// where both sides made the same change next to another one, so git is first asked without it.
fn merge_texts(ours: &str, base: &str, theirs: &str, labels: [&str; 3]) -> Result<(String, bool)> {
    let dir = tempfile::tempdir()?;
    for (name, text) in [("ours", ours), ("base", base), ("theirs", theirs)] {
        fs::write(dir.path().join(name), text)?;
    }
    let merge_file = |style: &[&str]| -> Result<_> {
        let [a, b, c] = labels;
        let head = ["-c", "merge.conflictStyle=merge", "merge-file", "-p", "-L", a, "-L", b, "-L", c];
        let args = [&head, style, &["ours", "base", "theirs"]].concat();
        let output = git::output(dir.path(), &args)?;
        match output.status.code() {
            // The number of conflicts, up to 127. Anything else is an error of git's.
            Some(conflicts @ 0..=127) => Ok((String::from_utf8(output.stdout)?, conflicts == 0)),
            _ => bail!("git merge-file: {}", String::from_utf8_lossy(&output.stderr).trim()),
        }
    };
    match merge_file(&[])? {
        (merged, true) => Ok((merged, true)),
        (_, false) => Ok((merge_file(&["--diff3"])?.0, false)),
    }
}
