//! The course as files: the table of the seven days, and what reads, builds and runs them.
//!
//! Its tables are data, and everything else reads them from here: [`DAYS`], the days' READMEs (see [`readme`]), and
//! `xtask/stages.toml` (see [`stages`]).

#[macro_use]
pub(crate) mod term; // first, as its macros are known only below

pub(crate) mod carry;
pub(crate) mod chapter;
pub(crate) mod failures;
pub(crate) mod functions;
pub(crate) mod git;
pub(crate) mod readme;
pub(crate) mod runner;
pub(crate) mod stages;
pub(crate) mod suites;
pub(crate) mod tree;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// One day of the course.
#[derive(Debug)]
pub(crate) struct Day {
    /// 1 to 7.
    pub(crate) number: u8,
    /// The crate's name, which is also its directory.
    pub(crate) name: &'static str,
}

/// The course. Which files a day adds and changes, its README says, and `days` checks.
pub(crate) const DAYS: [Day; 7] = [
    Day { number: 1, name: "day1-codec" },
    Day { number: 2, name: "day2-client" },
    Day { number: 3, name: "day3-service" },
    Day { number: 4, name: "day4-timeout" },
    Day { number: 5, name: "day5-http" },
    Day { number: 6, name: "day6-loadbalance" },
    Day { number: 7, name: "day7-registry" },
];

/// Whether a file is a part of the day's demo: `src/main.rs`, and what was taken out of it.
pub(crate) fn is_demo(path: &str) -> bool {
    matches!(path, "src/main.rs" | "src/story.rs") || path.starts_with("src/story/")
}

/// Whether a file is a part of the day's program, the demo and the command line, and not of its library.
pub(crate) fn is_program(path: &str) -> bool {
    is_demo(path) || path == "src/cli.rs" || path.starts_with("src/cli/")
}

/// Whether a file is a part of the day's sources.
pub(crate) fn is_source(path: &str) -> bool {
    path.starts_with("src/") && path.ends_with(".rs")
}

/// Whether a file is one of the library's own modules.
pub(crate) fn is_library(path: &str) -> bool {
    is_source(path) && path != "src/lib.rs" && !is_program(path)
}

impl Day {
    /// The crate's name as Rust code spells it.
    pub(crate) fn ident(&self) -> String {
        self.name.replace('-', "_")
    }

    /// The crate's directory.
    pub(crate) fn dir(&self, root: &Path) -> PathBuf {
        root.join(self.name)
    }

    /// The day's README; empty, if there is none.
    pub(crate) fn readme(&self, root: &Path) -> String {
        std::fs::read_to_string(self.dir(root).join("README.md")).unwrap_or_default()
    }

    /// Whether the day has been started. A day without a manifest is not a crate yet.
    pub(crate) fn exists(&self, root: &Path) -> bool {
        self.dir(root).join("Cargo.toml").is_file()
    }

    /// # Errors
    ///
    /// The day has not been started.
    pub(crate) fn must_exist(&self, root: &Path) -> Result<()> {
        if !self.exists(root) {
            bail!("day {} does not exist: there is no {}/Cargo.toml", self.number, self.name);
        }
        Ok(())
    }

    /// The day before, if there is one.
    pub(crate) fn before(&self) -> Option<&'static Day> {
        DAYS.iter().find(|other| other.number + 1 == self.number)
    }
}

/// The day of that number, as it stands on the command line.
///
/// # Errors
///
/// There are seven days.
pub(crate) fn parse(number: &str) -> Result<&'static Day> {
    DAYS.iter().find(|day| day.number.to_string() == number).context("the days are 1 to 7")
}

/// These days; all that exist, if there are none.
///
/// # Errors
///
/// One of them does not exist.
pub(crate) fn chosen(root: &Path, days: &[&'static Day]) -> Result<Vec<&'static Day>> {
    if days.is_empty() {
        return Ok(DAYS.iter().filter(|day| day.exists(root)).collect());
    }
    days.iter().try_for_each(|day| day.must_exist(root))?;
    Ok(days.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_days_are_numbered_in_order_and_named_after_their_number() {
        for (index, day) in DAYS.iter().enumerate() {
            assert_eq!(usize::from(day.number), index + 1);
            assert!(day.name.starts_with(&format!("day{}-", day.number)), "{}", day.name);
        }
    }
}
