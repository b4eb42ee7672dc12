//! A day's files in memory, and the differences between two such trees.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use similar::{ChangeTag, TextDiff};

use crate::course::Day;
use crate::course::{carry, term};

/// Path (such as `src/frame.rs`) to text.
pub(crate) type Tree = BTreeMap<String, String>;

/// The `Cargo.toml`, `src/`, `tests/` and `examples/` of a day.
pub(crate) fn read(root: &Path, day: &Day) -> Result<Tree> {
    let mut tree = Tree::new();
    let dir = day.dir(root);
    for part in ["Cargo.toml", "src", "tests", "examples"] {
        if dir.join(part).exists() {
            add(&mut tree, &dir, part)?;
        }
    }
    Ok(tree)
}

fn add(tree: &mut Tree, dir: &Path, path: &str) -> Result<()> {
    let full = dir.join(path);
    if full.is_dir() {
        for entry in fs::read_dir(&full).with_context(|| full.display().to_string())? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if !is_litter(&name) {
                add(tree, dir, &format!("{path}/{name}"))?;
            }
        }
    } else {
        let bytes = fs::read(&full).with_context(|| full.display().to_string())?;
        tree.insert(path.to_owned(), String::from_utf8_lossy(&bytes).into_owned());
    }
    Ok(())
}

/// The text of a file; `None` if it is not there.
pub(crate) fn read_file(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// What editors and proptest leave behind is not part of the course.
fn is_litter(name: &str) -> bool {
    name.starts_with('.') || [".bk", "~", "proptest-regressions"].iter().any(|end| name.ends_with(end))
}

/// The tree of day `from` as day `to` would have it.
///
/// `actual` is what day `to` has. A file that agrees without rustfmt is not given to it, which saves most of
/// the time.
pub(crate) fn carried(root: &Path, tree: &Tree, from: &Day, to: &Day, actual: &Tree) -> Tree {
    let carry = |(path, text): (&String, &String)| {
        let plain = carry::translate(text, from, to);
        let text =
            if actual.get(path) == Some(&plain) { plain } else { carry::carry(root, path, text, from, to) };
        (path.clone(), text)
    };
    tree.iter().map(carry).collect()
}

/// The lines that were added and removed between two texts.
pub(crate) fn count(before: &str, after: &str) -> (usize, usize) {
    let diff = TextDiff::from_lines(before, after);
    let count = |tag| diff.iter_all_changes().filter(|change| change.tag() == tag).count();
    (count(ChangeTag::Insert), count(ChangeTag::Delete))
}

/// Shows the diff on standard output, in git's colours and pager if that is a terminal.
pub(crate) fn show_diff(before: (&str, &Tree), after: (&str, &Tree)) -> Result<()> {
    let dir = tempfile::tempdir()?;
    for (name, tree) in [before, after] {
        let top = dir.path().join(name);
        for (path, text) in tree {
            let full = top.join(path);
            fs::create_dir_all(full.parent().unwrap_or(&top))?;
            fs::write(full, text)?;
        }
    }
    let status = Command::new("git")
        .args(["diff", "--no-index", "--no-ext-diff", "--no-renames", "--no-prefix", before.0, after.0])
        .current_dir(dir.path())
        .status()
        .context("cannot run git")?;
    match status.code() {
        Some(0 | 1) => Ok(()),
        // It was ended by a signal, and has written all it could: as in `… | head`, the reader has gone.
        None => term::end_without_reader(),
        Some(_) => bail!("git diff: {status}"),
    }
}
