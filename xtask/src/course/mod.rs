//! The course as files: the table of the seven days, and what reads, builds and runs them.
//!
//! To move a lesson to another file, edit [`DAYS`]. Everything else reads it from here.

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

/// One day of the course, and the files in its `src/` that are its lesson.
#[derive(Debug)]
pub(crate) struct Day {
    /// 1 to 7.
    pub(crate) number: u8,
    /// The crate's name, which is also its directory.
    pub(crate) name: &'static str,
    /// Files that the day may add to `src/`.
    pub(crate) new: &'static [&'static str],
    /// Files of the day before that it may change. [`EVERY_DAY`] may always change.
    pub(crate) changed: &'static [&'static str],
}

/// The course. A day *may* add and change these files; what it really does, its README says and `days`
/// checks.
pub(crate) const DAYS: [Day; 7] = [
    Day {
        number: 1,
        name: "day1-codec",
        new: &[
            "error.rs",
            "server/connection.rs",
            "server/handler.rs",
            "server/listener.rs",
            "server/mod.rs",
            "wire/codec.rs",
            "wire/frame.rs",
            "wire/handshake.rs",
            "wire/message.rs",
        ],
        changed: &[],
    },
    Day {
        number: 2,
        name: "day2-client",
        new: &[
            "client/connection.rs",
            "client/in_flight.rs",
            "client/mod.rs",
            "client/options.rs",
            "wire/write_buf.rs",
        ],
        changed: &[
            "error.rs",
            "server/connection.rs",
            "server/handler.rs",
            "wire/codec.rs",
            "wire/frame.rs",
            "wire/handshake.rs",
            "wire/message.rs",
        ],
    },
    Day {
        number: 3,
        name: "day3-service",
        new: &["service/contract.rs", "service/map.rs", "service/mod.rs"],
        changed: &[],
    },
    Day {
        number: 4,
        name: "day4-timeout",
        new: &[
            "deadline.rs",
            "server/accept.rs",
            "server/budget.rs",
            "server/handlers.rs",
            "server/liveness.rs",
            "server/settings.rs",
            "wire/linger.rs",
            "wire/tcp.rs",
        ],
        changed: &[
            "client/connection.rs",
            "client/in_flight.rs",
            "client/mod.rs",
            "client/options.rs",
            "error.rs",
            "server/connection.rs",
            "server/handler.rs",
            "server/listener.rs",
            "server/mod.rs",
            "wire/frame.rs",
            "wire/handshake.rs",
            "wire/message.rs",
        ],
    },
    Day {
        number: 5,
        name: "day5-http",
        new: &["http/connect.rs", "http/debug.rs", "http/dial.rs", "http/door.rs", "http/endpoint.rs"],
        changed: &["client/mod.rs", "server/listener.rs", "server/mod.rs", "wire/tcp.rs"],
    },
    Day {
        number: 6,
        name: "day6-loadbalance",
        new: &[
            "balance/broadcast.rs",
            "balance/discovery.rs",
            "balance/error.rs",
            "balance/failover.rs",
            "balance/list.rs",
            "balance/mod.rs",
            "balance/multi_servers.rs",
            "balance/pool.rs",
            "balance/ring.rs",
            "balance/select.rs",
            "balance/start.rs",
        ],
        changed: &[],
    },
    Day {
        number: 7,
        name: "day7-registry",
        new: &[
            "cli.rs",
            "cli/args.rs",
            "cli/print.rs",
            "registry/backoff.rs",
            "registry/client.rs",
            "registry/discovery.rs",
            "registry/heartbeat.rs",
            "registry/leases.rs",
            "registry/mod.rs",
            "registry/request.rs",
            "registry/server.rs",
            "registry/url.rs",
            "service/map/listing.rs",
            "story.rs",
            "story/cast.rs",
        ],
        changed: &["service/map.rs"],
    },
];

/// Files in `src/` that are every day's own: the module map and the demo.
pub(crate) const EVERY_DAY: [&str; 2] = ["src/lib.rs", "src/main.rs"];

/// Whether a file is a part of the day's demo: `src/main.rs`, and what was taken out of it.
pub(crate) fn is_demo(path: &str) -> bool {
    matches!(path, "src/main.rs" | "src/story.rs") || path.starts_with("src/story/")
}

/// Whether a file is a part of the day's program, the demo and the command line, and not of its library.
pub(crate) fn is_program(path: &str) -> bool {
    is_demo(path) || path == "src/cli.rs" || path.starts_with("src/cli/")
}

/// The longest that a file in `src/` may be, in lines.
pub(crate) const MAX_LINES: usize = 300;

impl Day {
    /// The crate's name as Rust code spells it.
    pub(crate) fn ident(&self) -> String {
        self.name.replace('-', "_")
    }

    /// The crate's directory.
    pub(crate) fn dir(&self, root: &Path) -> PathBuf {
        root.join(self.name)
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

    /// Whether `path` (such as `src/frame.rs`) may be new in this day.
    pub(crate) fn may_add(&self, path: &str) -> bool {
        EVERY_DAY.contains(&path) || in_src(path, self.new)
    }

    /// Whether `path` (such as `src/frame.rs`) may differ from the day before.
    pub(crate) fn may_change(&self, path: &str) -> bool {
        EVERY_DAY.contains(&path) || in_src(path, self.changed)
    }
}

fn in_src(path: &str, names: &[&str]) -> bool {
    path.strip_prefix("src/").is_some_and(|name| names.contains(&name))
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

    #[test]
    fn a_day_changes_only_files_that_an_earlier_day_added() {
        for day in &DAYS {
            for file in day.changed {
                assert!(DAYS[..usize::from(day.number) - 1].iter().any(|earlier| earlier.new.contains(file)));
            }
        }
    }
}
