//! The map of the site: which page shows a file of the course, a test, or a lab.
//!
//! A file is named by its path in the course, such as `day1-codec/src/error.rs`; a page by its path in the book, such
//! as `day1-codec/src/error.rs.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::course::Day;

/// Where everything is.
pub(crate) struct Site {
    pub(crate) root: PathBuf,
    /// The page of a file or a directory.
    pages: BTreeMap<String, String>,
    /// The page and anchor of a test, by the day that knows it and its name.
    tests: BTreeMap<(String, String), String>,
    /// Files that some page links to and no page of a day shows.
    pub(crate) others: BTreeSet<String>,
}

impl Site {
    /// Knows the pages of the days, and that of the README at the root.
    pub(crate) fn new(root: PathBuf, days: &[Day]) -> Site {
        let mut pages = BTreeMap::from([("README.md".to_owned(), "index.md".to_owned())]);
        let mut tests = BTreeMap::new();
        for (index, day) in days.iter().enumerate() {
            let name = &day.name;
            pages.insert(name.clone(), format!("{name}/index.md"));
            pages.insert(format!("{name}/README.md"), format!("{name}/index.md"));
            pages.insert(format!("{name}/tests"), format!("{name}/suite.md"));
            pages.insert(format!("xtask/labs/day{}.toml", day.number), format!("{name}/labs.md"));
            for file in &day.files {
                let path = &file.path;
                // A file that the day did not touch is shown by the last day that did.
                let earlier = index
                    .checked_sub(1)
                    .and_then(|before| pages.get(&format!("{}/{path}", days[before].name)));
                let page = match earlier {
                    Some(page) if file.is_same() => page.clone(),
                    _ => format!("{name}/{path}.md"),
                };
                for dir in Path::new(path).ancestors().skip(1).filter(|dir| *dir != Path::new("")) {
                    pages.insert(format!("{name}/{}", dir.display()), format!("{name}/code.md"));
                }
                pages.insert(format!("{name}/{path}"), page);
            }
            // Later days have the suite, too.
            for later in days[index..].iter().rev() {
                let dir = format!("{}/tests/suites/{}", later.name, day.ident());
                pages.insert(format!("{dir}/mod.rs"), format!("{name}/suite.md"));
                for stage in &day.suite.stages {
                    let page = format!("{name}/suite/{}.md", stage.name);
                    for test in stage.tests() {
                        let key = (later.name.clone(), test.to_owned());
                        tests.insert(key, format!("{page}#{test}"));
                    }
                    pages.insert(format!("{dir}/{}.rs", stage.name), page);
                }
                pages.insert(dir, format!("{name}/suite.md"));
            }
        }
        Site { root, pages, tests, others: BTreeSet::new() }
    }

    /// The page that a link in the file `from` leads to. `None`: the link stays as it is.
    pub(crate) fn resolve(&mut self, from: &str, page: &str, link: &str) -> Option<String> {
        let is_elsewhere = link.contains(':') || link.starts_with('/');
        let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
        if is_elsewhere || path.is_empty() && self.pages.get(from).is_some_and(|shown| shown == page) {
            return None;
        }
        let file = if path.is_empty() { from.to_owned() } else { join(from, path)? };
        let target = match self.pages.get(&file) {
            Some(page) => page.clone(),
            None => self.other(file)?,
        };
        // `#L12` is a line of a file on a forge.
        let is_line =
            anchor.strip_prefix('L').is_some_and(|line| line.starts_with(|c: char| c.is_ascii_digit()));
        Some(if anchor.is_empty() || is_line { target } else { format!("{target}#{anchor}") })
    }

    /// The page of something that a text of the file `from` names: `src/error.rs`, the name of a test, or
    /// `cargo xtask lab 3 2`.
    pub(crate) fn mention(&self, from: &str, code: &str) -> Option<String> {
        let (day, _) = from.split_once('/')?;
        let path = code.trim_end_matches('/');
        let is_path = path.contains('/');
        let names = [format!("{day}/{path}"), format!("{day}/src/{path}"), path.to_owned()];
        let page = names.iter().find_map(|name| self.pages.get(name).filter(|_| is_path));
        if let Some(lab) = code.strip_prefix("cargo xtask lab ") {
            let (day, lab) = lab.split_once(' ').unwrap_or((lab, ""));
            let labs = self.pages.get(&format!("xtask/labs/day{day}.toml"))?;
            let is_number = !lab.is_empty() && lab.chars().all(|c| c.is_ascii_digit());
            return Some(if is_number { format!("{labs}#lab-{lab}") } else { labs.clone() });
        }
        page.or_else(|| self.tests.get(&(day.to_owned(), code.to_owned()))).cloned()
    }

    /// The page of a file that is not part of a day's lesson.
    fn other(&mut self, file: String) -> Option<String> {
        let path = self.root.join(&file);
        if path.is_dir() {
            let readme = format!("{file}/README.md");
            return self.root.join(&readme).is_file().then(|| self.other(readme))?;
        }
        if !path.is_file() {
            return None;
        }
        let page = match path.extension().and_then(|extension| extension.to_str()) {
            Some("md" | "svg" | "png") => file.clone(),
            _ => format!("{file}.md"),
        };
        self.others.insert(file.clone());
        self.pages.insert(file, page.clone());
        Some(page)
    }
}

/// The path of the course that a link in the file `from` leads to. `None`: it leads out of the course.
fn join(from: &str, link: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}
