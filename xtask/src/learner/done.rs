//! What `check` says when a day is done: what to clean up, and where to go from there.

use std::fs;
use std::path::Path;

use crate::course::Day;
use crate::course::git;
use crate::learner::{lab, strip};

/// The lines. Of the course's own solution there is only one, about what the day has besides.
pub(crate) fn lines(root: &Path, day: &Day) -> Vec<String> {
    let has_demo = day.dir(root).join("src/main.rs").is_file();
    let demo = has_demo.then(|| (format!("cargo run -p {}", day.name), "the day's demo"));
    let has_labs = lab::load(root, day).is_ok();
    let labs =
        has_labs.then(|| (format!("cargo xtask lab {}", day.number), "small defects, for you to find"));
    let more = demo.into_iter().chain(labs);
    let Some(compare) = comparison(root, day) else {
        let more: Vec<String> = more.map(|(command, what)| format!("{command} ({what})")).collect();
        return if more.is_empty() { more } else { vec![format!("See also {}.", more.join(" and "))] };
    };
    let mut lines = Vec::new();
    let lib = fs::read_to_string(day.dir(root).join("src/lib.rs")).unwrap_or_default();
    if let Some(index) = lib.lines().position(strip::is_allow_unused) {
        let place = format!("{}/src/lib.rs:{}", day.name, index + 1);
        lines.push(format!("{place} still allows what is unused: take that line out."));
    }
    let compare = (compare, "the course's solution: its lines have a +, yours a -");
    let commands: Vec<(String, &str)> = [compare].into_iter().chain(more).collect();
    let width = commands.iter().map(|(command, _)| command.len()).max().unwrap_or(0);
    lines.extend(commands.iter().map(|(command, what)| format!("  {command:width$}    {what}")));
    lines
}

/// The command that shows the course's solution. `None`: it is what is there, or git does not know it.
fn comparison(root: &Path, day: &Day) -> Option<String> {
    let src = format!("{}/src", day.name);
    let differ = |revs: &[&str]| {
        let args = [&["diff", "--quiet"], revs, &["--", &src]].concat();
        // 0: they are the same; more than 1: there is no such revision, or no repository.
        git::output(root, &args).is_ok_and(|output| output.status.code() == Some(1))
    };
    // A learner who has committed finds the solution in what was cloned.
    match git::upstream(root).ok().flatten() {
        Some(upstream) if differ(&[&upstream, "HEAD"]) => {
            differ(&[&upstream]).then(|| git::show_solution(Some(&upstream), &src))
        }
        _ => differ(&["HEAD"]).then(|| git::show_solution(None, &src)),
    }
}
