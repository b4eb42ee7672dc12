//! `lab`: one small defect, put into a day's crate, for the reader to find.
//!
//! A lab is a few lines of data in `xtask/labs/dayN.toml`: a file of the day, a text that occurs in it once,
//! the text to put in its place, and the test of the day's own suite that must fail then. The learner guesses
//! which test that is; `prove` checks that the guess can be right.
//!
//! There is no second copy of anything here: a lab is an edit, and `git restore` takes it back.

use std::fs;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::course::Day;
use crate::course::suites::{self, Suite, Test};
use crate::course::{functions, term, tree};
use crate::learner::solution;

/// One defect that can be put into a day's crate.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lab {
    /// What is done, in one line.
    pub(crate) title: String,
    /// The file, in the crate's directory.
    pub(crate) file: String,
    /// What is taken out. It occurs exactly once in the file.
    find: String,
    /// What comes in its place.
    replace: String,
    /// The test of the day's own suite that shows the defect best.
    pub(crate) test: String,
    /// What goes wrong, and why the test sees it.
    pub(crate) why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Labs {
    lab: Vec<Lab>,
}

/// The labs of a day, in the order of the lesson.
///
/// # Errors
///
/// The day has no file of labs, or it cannot be read.
pub(crate) fn load(root: &Path, day: &Day) -> Result<Vec<Lab>> {
    let path = format!("xtask/labs/day{}.toml", day.number);
    let text = fs::read_to_string(root.join(&path));
    let text = text.with_context(|| format!("day {} has no labs: cannot read {path}", day.number))?;
    let labs: Labs = toml::from_str(&text).with_context(|| path.clone())?;
    if labs.lab.is_empty() {
        bail!("day {} has no labs: {path} is empty", day.number);
    }
    Ok(labs.lab)
}

impl Lab {
    /// The text of the file with the defect in it.
    ///
    /// # Errors
    ///
    /// The text to take out is not there, or is there more than once; or nothing would change.
    pub(crate) fn apply(&self, text: &str) -> Result<String> {
        let (at, by) = self.edit(text)?;
        Ok(functions::replace(text, [(at, by.to_owned())]))
    }

    /// What the lab takes out of the text of the file, and what it puts there.
    ///
    /// # Errors
    ///
    /// As [`apply`](Lab::apply).
    pub(crate) fn edit(&self, text: &str) -> Result<(Range<usize>, &str)> {
        let places: Vec<usize> = text.match_indices(&self.find).map(|(at, _)| at).collect();
        let find = self.find.trim_end_matches('\n');
        match places[..] {
            [_] if self.find == self.replace => bail!("the lab changes nothing"),
            [at] => Ok((at..at + self.find.len(), &self.replace)),
            [] => bail!("this text is not in {}:\n{find}", self.file),
            _ => bail!("this text is {} times in {}:\n{find}", places.len(), self.file),
        }
    }
}

/// Lists the day's labs.
///
/// # Errors
///
/// As [`load`].
pub(crate) fn list(root: &Path, day: &Day) -> Result<bool> {
    let (number, labs) = (day.number, load(root, day)?);
    outln!("Day {number}: each lab breaks {} in one place. Which test will fail, and why?\n", day.name);
    for (index, lab) in labs.iter().enumerate() {
        outln!("{:4}  {}", index + 1, lab.title);
    }
    outln!("\ncargo xtask lab {number} K   breaks it, and says how to heal it");
    Ok(true)
}

/// Puts one lab into the day's crate, and asks the question.
///
/// # Errors
///
/// There is no such lab, the day is not the course's solution, or the lab does not fit it.
pub(crate) fn apply(root: &Path, day: &Day, number: usize) -> Result<bool> {
    let labs = load(root, day)?;
    let lab = pick(&labs, day, number)?;
    let file = format!("{}/{}", day.name, lab.file);
    let commit = solution::find(root, day)?;
    if !solution::is_here(root, day, &commit)? {
        bail!(
            "{0}/src is not the course's solution, which labs are made for (or another lab is in it): commit what is \
             yours, and take the solution with `git restore --source {commit} {0}`",
            day.name
        );
    }
    let healthy = fs::read_to_string(root.join(&file)).with_context(|| file.clone())?;
    let broken = lab.apply(&healthy)?;
    fs::write(root.join(&file), &broken).with_context(|| file.clone())?;

    outln!("Day {}, lab {number}: {}\n", day.number, lab.title);
    print_change(&file, &healthy, &broken);
    let suite = format!("cargo test -p {} --test suites {}", day.name, day.ident());
    let [_, (heal, _)] = solution::commands(&commit, &file);
    outln!("\nWhich test will fail, and why? Decide first, then look:\n");
    term::print_commands(&[
        (format!("cargo xtask check {}", day.number), "the day's suite, step by step"),
        (suite, "the same, as cargo shows it"),
        (format!("cargo xtask lab {} {number} --answer", day.number), "the test, and why"),
        (heal, "undoes it"),
    ]);
    Ok(true)
}

/// Says which test fails, and why. Nothing is changed.
///
/// # Errors
///
/// There is no such lab.
pub(crate) fn answer(root: &Path, day: &Day, number: usize) -> Result<bool> {
    let labs = load(root, day)?;
    let lab = pick(&labs, day, number)?;
    let suite = suites::read(&tree::read(root, day)?, &day.ident())?;
    let test = named(&suite, lab)?;
    let (name, file) = (day.name, &suite.stages[test.stage].file);
    outln!("Day {}, lab {number}: {}\n", day.number, lab.title);
    outln!("{} fails.\n{}\n", lab.test, lab.why.trim());
    outln!("  {name}/{file}:{} says what it wants, and why", test.line);
    outln!("  cargo test -p {name} --test suites -- --exact {}", test.path);
    Ok(true)
}

/// The test of the day's own suite that must fail.
///
/// # Errors
///
/// The suite does not have it.
pub(crate) fn named<'a>(suite: &'a Suite, lab: &Lab) -> Result<&'a Test> {
    let test = suite.tests.iter().find(|test| test.name == lab.test);
    test.with_context(|| format!("{} has no test {}", suite.name, lab.test))
}

/// Labs are counted from 1.
fn pick<'a>(labs: &'a [Lab], day: &Day, number: usize) -> Result<&'a Lab> {
    let lab = number.checked_sub(1).and_then(|index| labs.get(index));
    lab.with_context(|| format!("day {} has no lab {number}: there are 1 to {}", day.number, labs.len()))
}

/// The lines that differ, from the first to the last, and where they begin.
fn print_change(file: &str, before: &str, after: &str) {
    let (before, after): (Vec<_>, Vec<_>) = (before.lines().collect(), after.lines().collect());
    let start = before.iter().zip(&after).take_while(|(old, new)| old == new).count();
    let rest = (&before[start..], &after[start..]);
    let same_end = rest.0.iter().rev().zip(rest.1.iter().rev()).take_while(|(old, new)| old == new).count();
    outln!("{file}:{}", start + 1);
    for (sign, lines) in [("-", rest.0), ("+", rest.1)] {
        for line in &lines[..lines.len() - same_end] {
            outln!("{}", format!("  {sign} {line}").trim_end());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::course::DAYS;

    const LABS_A_DAY: usize = 6;

    fn lab(find: &str, replace: &str) -> Lab {
        let [title, file, test, why] = ["t", "src/a.rs", "test", "why"].map(str::to_owned);
        Lab { title, file, find: find.to_owned(), replace: replace.to_owned(), test, why }
    }

    #[test]
    fn a_lab_fits_in_exactly_one_place() {
        assert_eq!(lab("be", "le").apply("to_be_bytes").unwrap(), "to_le_bytes");
        let error = |lab: Lab| lab.apply("to_be_be").unwrap_err().to_string();
        assert!(error(lab("le", "be")).contains("not in src/a.rs"));
        assert!(error(lab("be", "le")).contains("2 times in src/a.rs"));
        assert!(error(lab("to", "to")).contains("changes nothing"));
    }

    /// All the data of the course, without running anything: `prove` does that.
    #[test]
    fn every_lab_fits_its_day() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for day in &DAYS {
            let labs = load(root, day).unwrap();
            assert!(labs.len() >= LABS_A_DAY, "day {} has {} labs", day.number, labs.len());
            let suite = suites::read(&tree::read(root, day).unwrap(), &day.ident()).unwrap();
            let titles: BTreeSet<_> = labs.iter().map(|lab| &lab.title).collect();
            assert_eq!(titles.len(), labs.len(), "day {}: two labs have the same title", day.number);

            for (number, lab) in (1..).zip(&labs) {
                let at = format!("day {}, lab {number}", day.number);
                // Also a file of an earlier day, if this day's suite sees the defect from where it stands.
                assert!(lab.file.starts_with("src/"), "{at}: {} is no source", lab.file);
                let text = fs::read_to_string(day.dir(root).join(&lab.file)).unwrap();
                lab.apply(&text).unwrap_or_else(|error| panic!("{at}: {error}"));
                named(&suite, lab).unwrap_or_else(|error| panic!("{at}: {error}"));
                for text in [&lab.title, &lab.why] {
                    assert!(!text.trim().is_empty() && !text.contains(&lab.test), "{at}: {text:?}");
                }
                assert!(!lab.title.contains('\n') && !lab.title.ends_with('.'), "{at}: {:?}", lab.title);
            }
        }
    }
}
