//! The course as the book sees it: what each day adds to the day before, its suite, and its labs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// One day.
pub(crate) struct Day {
    pub(crate) number: usize,
    /// The directory of its crate.
    pub(crate) name: String,
    pub(crate) readme: String,
    /// Every file of `src/`, and the manifest.
    pub(crate) files: Vec<File>,
    pub(crate) suite: Suite,
    pub(crate) labs: Vec<Lab>,
}

/// A file of a day.
pub(crate) struct File {
    /// Within the crate.
    pub(crate) path: String,
    pub(crate) text: String,
    /// The file of the day before, with this day's crate name. `None`: the file is new.
    pub(crate) before: Option<String>,
}

/// The tests of a day.
#[derive(Default)]
pub(crate) struct Suite {
    /// What the stages share.
    pub(crate) shared: String,
    pub(crate) stages: Vec<Stage>,
}

/// A module of a suite.
pub(crate) struct Stage {
    pub(crate) name: String,
    pub(crate) text: String,
    /// What a learner writes for it, and about how long that takes. From `xtask/stages.toml`.
    pub(crate) functions: Vec<String>,
    pub(crate) minutes: usize,
}

/// One defect to put into a day. From `xtask/labs`.
#[derive(Deserialize)]
pub(crate) struct Lab {
    pub(crate) title: String,
    pub(crate) file: String,
    pub(crate) find: String,
    pub(crate) replace: String,
    pub(crate) test: String,
    pub(crate) why: String,
}

#[derive(Default, Deserialize)]
struct Labs {
    lab: Vec<Lab>,
}

#[derive(Default, Deserialize)]
struct Stages {
    stage: Vec<StageEntry>,
}

#[derive(Deserialize)]
struct StageEntry {
    day: usize,
    name: String,
    minutes: usize,
    functions: Vec<String>,
}

/// All days, in order.
pub(crate) fn load(root: &Path) -> Result<Vec<Day>> {
    let stages: Stages = read_toml(&root.join("xtask/stages.toml"))?;
    let mut days: Vec<Day> = Vec::new();
    for name in names(root)? {
        let number = days.len() + 1;
        ensure!(name.starts_with(&format!("day{number}-")), "{name} is not the directory of day {number}");
        let dir = root.join(&name);
        let texts = sources(&dir)?;
        let files = texts.into_iter().map(|(path, text)| {
            let before = days.last().and_then(|day| {
                let file = day.files.iter().find(|file| file.path == path)?;
                Some(rename(&file.text, &day.name, &name))
            });
            File { path, text, before }
        });
        let files = files.collect();
        let labs: Labs = read_toml(&root.join(format!("xtask/labs/day{number}.toml")))?;
        let readme = read(&dir.join("README.md"))?;
        let suite = suite(&dir, &stages, number)?;
        days.push(Day { number, files, suite, labs: labs.lab, readme, name });
    }
    ensure!(!days.is_empty(), "there is no day in {}", root.display());
    Ok(days)
}

impl Day {
    /// The first heading of the chapter.
    pub(crate) fn title(&self) -> String {
        title(&self.readme).map_or_else(|| format!("Day {}", self.number), str::to_owned)
    }

    /// The crate's name as Rust code spells it, which is also the name of its suite.
    pub(crate) fn ident(&self) -> String {
        self.name.replace('-', "_")
    }
}

impl File {
    pub(crate) fn is_same(&self) -> bool {
        self.before.as_ref() == Some(&self.text)
    }
}

impl Stage {
    /// The names of the tests in it.
    pub(crate) fn tests(&self) -> impl Iterator<Item = &str> {
        items(&self.text).into_iter().flat_map(|item| item.tests)
    }

    /// What the module says of itself, as Markdown.
    pub(crate) fn doc(&self) -> String {
        module_doc(&self.text)
    }
}

/// The first heading of a text.
pub(crate) fn title(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("# ")).map(str::trim)
}

/// The `//!` lines of a file, as Markdown.
pub(crate) fn module_doc(text: &str) -> String {
    let lines = text.lines().map_while(|line| line.strip_prefix("//!"));
    lines.map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line))).collect()
}

/// Some lines of a file: up to the end of an item at the left margin.
pub(crate) struct Item<'a> {
    pub(crate) text: &'a str,
    /// The tests in it: none, one, or those in a `proptest!`.
    pub(crate) tests: Vec<&'a str>,
}

/// A file in pieces, each with the tests in it. All pieces together are the file, without the lines of `//!`.
pub(crate) fn items(text: &str) -> Vec<Item<'_>> {
    let body = text.split_inclusive('\n').take_while(|line| line.starts_with("//!")).map(str::len).sum();
    let text = &text[body..];
    let mut items: Vec<Item<'_>> = Vec::new();
    let (mut start, mut at) = (0, 0);
    while at < text.len() {
        let end = text[at..].find("\n}\n").map_or(text.len(), |found| at + found + 3);
        let tests = tests(&text[at..end]);
        match items.last_mut() {
            // What stands between two tests stays in one piece.
            Some(last) if tests.is_empty() && last.tests.is_empty() => last.text = &text[start..end],
            _ => {
                start = at;
                items.push(Item { text: &text[start..end], tests });
            }
        }
        at = end;
    }
    items
}

/// The functions under an attribute such as `#[test]` and `#[tokio::test(start_paused = true)]`.
fn tests(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim_start) {
        let attribute = line.strip_prefix("#[").and_then(|line| line.split(['(', ']', ' ']).next());
        is_test |= attribute.is_some_and(|path| path == "test" || path.ends_with("::test"));
        let function = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
        if let Some(name) = function.and_then(|rest| rest.split(['(', '<']).next())
            && std::mem::take(&mut is_test)
        {
            found.push(name);
        }
    }
    found
}

/// The directories of the days.
fn names(root: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root).with_context(|| root.display().to_string())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let number = name.strip_prefix("day").and_then(|rest| rest.split_once('-')).map(|(number, _)| number);
        if number.is_some_and(|number| number.parse::<u8>().is_ok())
            && root.join(&name).join("Cargo.toml").is_file()
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// The manifest and all of `src/`, by path within the crate.
fn sources(dir: &Path) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::from([("Cargo.toml".to_owned(), read(&dir.join("Cargo.toml"))?)]);
    let mut folders = vec!["src".to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(dir.join(&folder)).with_context(|| format!("{}/{folder}", dir.display()))? {
            let entry = entry?;
            let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else if path.ends_with(".rs") {
                found.insert(path, read(&entry.path())?);
            }
        }
    }
    Ok(found)
}

fn suite(dir: &Path, table: &Stages, day: usize) -> Result<Suite> {
    let ident = dir.file_name().unwrap_or_default().to_string_lossy().replace('-', "_");
    let dir = dir.join("tests/suites").join(ident);
    if !dir.join("mod.rs").exists() {
        return Ok(Suite::default());
    }
    let shared = read(&dir.join("mod.rs"))?;
    let names = shared.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'));
    let stages = names.map(|name| {
        let entry = table.stage.iter().find(|stage| stage.day == day && stage.name == name);
        Ok(Stage {
            name: name.to_owned(),
            text: read(&dir.join(format!("{name}.rs")))?,
            functions: entry.map(|entry| entry.functions.clone()).unwrap_or_default(),
            minutes: entry.map_or(0, |entry| entry.minutes),
        })
    });
    let stages = stages.collect::<Result<_>>()?;
    Ok(Suite { shared, stages })
}

/// A text of one day with the crate's name of another.
fn rename(text: &str, from: &str, to: &str) -> String {
    text.replace(from, to).replace(&from.replace('-', "_"), &to.replace('-', "_"))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// A file that is not there is empty.
fn read_toml<T: Default + DeserializeOwned>(path: &Path) -> Result<T> {
    if !path.exists() {
        return Ok(T::default());
    }
    toml::from_str(&read(path)?).with_context(|| path.display().to_string())
}
