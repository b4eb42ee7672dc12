//! What `check` says when a day is done: what to clean up, and where to go from there.

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::course::term;
use crate::course::{DAYS, Day};
use crate::learner::{lab, solution, strip};

/// Says it. Of the course's own solution there is only one line, about what the day has besides.
///
/// # Errors
///
/// git cannot be run.
pub(crate) fn print(root: &Path, day: &Day) -> Result<()> {
    let has_demo = day.dir(root).join("src/main.rs").is_file();
    let demo = has_demo.then(|| (format!("cargo run -p {}", day.name), "the day's demo"));
    let has_labs = lab::load(root, day).is_ok();
    let labs = has_labs
        .then(|| (format!("cargo xtask lab {}", day.number), "small defects in the course's solution"));
    let next = DAYS.iter().find(|next| next.number == day.number + 1 && next.exists(root));
    let next = next.map(|next| (format!("cargo xtask exercise {}", next.number), "the next day"));
    let more = demo.into_iter().chain(labs);
    // Without git there is nothing to compare with.
    let commit = solution::find(root, day).ok();
    let commit = match commit {
        Some(commit) if !solution::is_here(root, day, &commit)? => commit,
        _ => {
            let more: Vec<String> = more.map(|(command, what)| format!("{command} ({what})")).collect();
            if !more.is_empty() {
                outln!("\nSee also {}.", more.join(" and "));
            }
            return Ok(());
        }
    };
    outln!();
    let lib = fs::read_to_string(day.dir(root).join("src/lib.rs")).unwrap_or_default();
    if let Some(index) = lib.lines().position(strip::is_allow_unused) {
        let place = format!("{}/src/lib.rs:{}", day.name, index + 1);
        outln!("{place} still allows what is unused: take that line out.");
    }
    let src = format!("{}/src", day.name);
    let [compare, _] = solution::commands(&commit, &src);
    term::print_commands(&[compare].into_iter().chain(more).chain(next).collect::<Vec<_>>());
    Ok(())
}
