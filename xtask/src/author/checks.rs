//! What can be wrong with a day. Each function returns one line for each failure, which says where and what.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};
use toml::{Table, Value};

use crate::author::days::{self, Fate, File};
use crate::course::chapter::Chapter;
use crate::course::readme::{self, HEADING};
use crate::course::suites::{self, Suite};
use crate::course::tree::Tree;
use crate::course::{DAYS, Day, functions, is_source, stages};

/// The files of the suites that a later day may add lines to.
const MODS: [&str; 2] = ["tests/suites/main.rs", "tests/suites/support/mod.rs"];

/// Files in `src/` that are every day's own: the module map and the demo.
const EVERY_DAY: [&str; 2] = ["src/lib.rs", "src/main.rs"];

/// The longest that a file in `src/` may be, in lines.
const MAX_LINES: usize = 300;

/// The longest that the core of a day may take, in minutes.
const MAX_CORE: usize = 240;

/// A file over the limit is more than one idea.
pub(crate) fn length(tree: &Tree) -> Vec<String> {
    let lengths = tree.iter().map(|(path, text)| (path, text.lines().count()));
    lengths
        .filter(|(path, lines)| path.starts_with("src/") && *lines > MAX_LINES)
        .map(|(path, lines)| format!("{path}: {lines} lines, more than {MAX_LINES}"))
        .collect()
}

/// A day is a complete snapshot: it stands on no other day, nor on anything else in the workspace.
///
/// # Errors
///
/// The day's manifest or the workspace's is not there or not TOML.
pub(crate) fn dependencies(root: &Path, day: &Day, tree: &Tree) -> Result<Vec<String>> {
    let manifest = tree.get("Cargo.toml").context("Cargo.toml: not there")?;
    let manifest: Table = manifest.parse().with_context(|| format!("{}/Cargo.toml", day.name))?;
    let workspace = std::fs::read_to_string(root.join("Cargo.toml")).context("Cargo.toml")?;
    let workspace: Table = workspace.parse().context("Cargo.toml")?;
    let shared = workspace.get("workspace").and_then(|table| table.get("dependencies"));

    let targets = manifest.get("target").and_then(Value::as_table);
    let places = targets.into_iter().flat_map(Table::values).filter_map(Value::as_table).chain([&manifest]);
    let mut failures = Vec::new();
    for place in places {
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (name, wanted) in place.get(kind).and_then(Value::as_table).into_iter().flatten() {
                let shared = shared.and_then(|shared| shared.get(name)).unwrap_or(wanted);
                let has_path = [wanted, shared].iter().any(|spec| spec.get("path").is_some());
                if has_path || DAYS.iter().any(|other| other.name == name) {
                    failures.push(format!("Cargo.toml: {kind}: {name} is another crate of this workspace"));
                }
            }
        }
    }
    Ok(failures)
}

/// The diff is the lesson: no test differs, and nothing goes away. Which files of `src/` differ, the README says.
pub(crate) fn lesson(before: &Day, files: &[File]) -> Vec<String> {
    let before = before.name;
    let mut failures = Vec::new();
    for File { path, fate, removed, .. } in files {
        let may_grow = MODS.contains(&path.as_str());
        let why = match fate {
            Fate::Removed => format!("{before} has it, and this day does not; days only add"),
            Fate::Changed if may_grow && *removed > 0 => {
                format!("{removed} lines of {before} are gone or changed; it may only gain lines")
            }
            Fate::Changed if !may_grow && path.starts_with("tests/") => {
                format!("differs from {before}; a test is carried as it is")
            }
            _ => continue,
        };
        failures.push(format!("{path}: {why}"));
    }
    failures
}

/// The README's table says what the real diff says: a file that the day does not teach is the same as the day before.
pub(crate) fn readme(root: &Path, day: &Day, files: &[File]) -> Vec<String> {
    let text = day.readme(root);
    let Some(rows) = readme::files_of_today(&text) else {
        return vec![format!("README.md: no table under \"{HEADING}\"")];
    };
    let mut failures = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let path = &row.file;
        let real = files.iter().find(|file| file.path == *path).map_or("not there", |file| file.fate.word());
        if row.word != real {
            failures.push(format!("README.md: {path} is listed as \"{}\", but it is {real}", row.word));
        }
        if rows[..index].iter().any(|other| other.file == *path) {
            failures.push(format!("README.md: {path} is listed twice"));
        }
    }
    for File { path, fate, .. } in files {
        let told = EVERY_DAY.contains(&path.as_str()) || rows.iter().any(|row| row.file == *path);
        if path.starts_with("src/") && matches!(fate, Fate::New | Fate::Changed) && !told {
            let fate = fate.word();
            failures.push(format!("README.md: {path} is {fate}, but not listed under \"{HEADING}\""));
        }
    }
    failures
}

/// The course's table says how much the day is: the lines of its diff, and the tests of its own suite. A course
/// without a README promises nothing.
pub(crate) fn promise(root: &Path, day: &Day, after: &Tree, files: &[File]) -> Vec<String> {
    let Ok(text) = std::fs::read_to_string(root.join("README.md")) else { return Vec::new() };
    let Some(promise) = readme::promise(&text, day.name) else {
        return vec![format!("README.md: the table of the days has no row for `{}`", day.name)];
    };
    // A suite that cannot be read is a failure of its own.
    let tests = suites::read(after, &day.ident()).map_or(0, |suite| suite.tests.len());
    let diff = readme::diff(days::lesson(files));
    let mut failures = Vec::new();
    if promise.diff != diff {
        let told = promise.diff;
        failures.push(format!("README.md: the diff of {} is {diff}, not {told}: mend the table", day.name));
    }
    if promise.tests != tests.to_string() {
        let told = promise.tests;
        failures.push(format!(
            "README.md: {} has {tests} tests, not {told}: who changes a suite last mends the table",
            day.name
        ));
    }
    failures
}

/// What `check` shows of the day's own suite is there: each stage names places of the chapter, each test says
/// what it wants and gives a hint, and the tests that the chapter names exist.
pub(crate) fn suite(root: &Path, day: &Day, tree: &Tree) -> Vec<String> {
    let chapter = Chapter::read(root, day);
    let suite = match suites::read(tree, &day.ident()) {
        Ok(suite) => suite,
        Err(error) => return vec![format!("{error:#}")],
    };
    let mut failures = told(&suite, &chapter);
    match stages::read(root, day) {
        Ok(asks) if !asks.is_empty() => {
            let text = day.readme(root);
            failures.extend(stage_table(&text, &suite, &asks));
            failures.extend(hours(&text, &asks));
            failures.extend(named(tree, &suite, &asks));
        }
        Ok(_) => {}
        Err(error) => failures.push(format!("{error:#}")),
    }
    for name in chapter.tests_named() {
        if suite.tests.iter().all(|test| test.name != name) {
            failures.push(format!("README.md: it names a test `{name}`, which {} does not have", suite.name));
        }
    }
    failures
}

/// The failures of one suite, each with its place.
fn told(suite: &Suite, chapter: &Chapter) -> Vec<String> {
    let mut failures = Vec::new();
    for stage in &suite.stages {
        let file = &stage.file;
        if stage.title.is_empty() || stage.chapter.is_empty() {
            failures.push(format!("{file}: say what the stage is, and where it is told of: //! Chapter: …"));
        }
        if stage.works.is_empty() && !stage.is_hardening() {
            failures.push(format!("{file}: say what works when the stage is done: //! Works then: …"));
        }
        for place in stage.chapter.iter().filter(|place| chapter.find(place).is_none()) {
            failures.push(format!("{file}: README.md has no place \"{place}\""));
        }
    }
    for test in &suite.tests {
        let (file, line, name) = (&suite.stages[test.stage].file, test.line, &test.name);
        let mut paragraphs = test.doc.split("\n\n");
        let says = paragraphs.next().is_some_and(|first| !first.is_empty() && !first.starts_with("Hint:"));
        if !says || !paragraphs.any(|paragraph| paragraph.starts_with("Hint:")) {
            failures
                .push(format!("{file}:{line}: {name}: say what it wants, why, and after that \"Hint: …\""));
        }
    }
    failures
}

/// The chapter's table of the stages says what the suite and `xtask/stages.toml` say.
fn stage_table(readme: &str, suite: &Suite, asks: &[stages::Stage]) -> Vec<String> {
    let told = readme::stages(readme);
    let mut failures = Vec::new();
    for (index, stage) in suite.stages.iter().enumerate() {
        let name = stage.name.as_str();
        let tests = suite.tests.iter().filter(|test| test.stage == index).count().to_string();
        let minutes = asks.iter().find(|asks| asks.name == name).map_or(0, |asks| asks.minutes).to_string();
        if !told.is_empty() && told.get(index) != Some(&[name, &tests, &minutes]) {
            failures.push(format!(
                "README.md: row {} of the stages is {name} with {tests} tests and {minutes} min: mend the table",
                index + 1
            ));
        }
    }
    failures
}

/// The core takes at most four hours, and where the chapter says how many hours the day takes, those are the minutes of
/// its stages.
fn hours(readme: &str, asks: &[stages::Stage]) -> Vec<String> {
    let (core, all) = minutes(asks);
    let mut failures = Vec::new();
    if core > MAX_CORE {
        failures.push(format!("README.md: the core takes {core} min, more than {MAX_CORE}"));
    }
    let halves = |minutes: usize| match (minutes + 14) / 30 {
        halves if halves % 2 == 0 => format!("{}", halves / 2),
        halves => format!("{}½", halves / 2),
    };
    let right = format!("the core takes about {} hours, all of it {}", halves(core), halves(all));
    let text = words(readme);
    if text.contains("the core takes about") && !text.contains(&right) {
        failures.push(format!("README.md: {right}: mend its first lines"));
    }
    failures
}

/// What the course's README says of the hours that all days take together. A course without one promises nothing.
///
/// # Errors
///
/// The table of the stages cannot be read.
pub(crate) fn all_hours(root: &Path) -> Result<Vec<String>> {
    let Ok(text) = std::fs::read_to_string(root.join("README.md")) else { return Ok(Vec::new()) };
    let stages = DAYS.iter().map(|day| stages::read(root, day)).collect::<Result<Vec<_>>>()?.concat();
    let (core, all) = minutes(&stages);
    let right =
        [format!("some {} in all", (core + 30) / 60), format!("some {} hours in all", (all + 30) / 60)];
    let text = words(&text);
    let missing = right.iter().filter(|right| !stages.is_empty() && !text.contains(*right));
    Ok(missing.map(|right| format!("README.md: it does not say \"{right}\", as the stages do")).collect())
}

/// The minutes of the core stages, and of all.
fn minutes(asks: &[stages::Stage]) -> (usize, usize) {
    let sum = |core_only: bool| {
        let wanted = asks.iter().filter(|stage| !core_only || !stages::is_hardening(&stage.name));
        wanted.map(|stage| stage.minutes).sum()
    };
    (sum(true), sum(false))
}

/// A text in one line.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The functions that a stage of the core names are its own, or those of the stages before it: what is given, or comes
/// later, is not to be looked for.
fn named(tree: &Tree, suite: &Suite, asks: &[stages::Stage]) -> Vec<String> {
    let last = |name: &str| name.rsplit("::").next().unwrap_or(name).to_owned();
    let sources = tree.iter().filter(|(path, _)| is_source(path));
    let functions = sources.flat_map(|(_, source)| functions::find(source).unwrap_or_default());
    let all: BTreeSet<String> = functions.map(|function| last(&function.name)).collect();
    let (mut asked, mut failures) = (BTreeSet::new(), Vec::new());
    for stage in suite.stages.iter().filter(|stage| !stage.is_hardening()) {
        let Some(asks) = asks.iter().find(|asks| asks.name == stage.name) else { continue };
        asked.extend(asks.functions.iter().map(|name| last(name.rsplit(": ").next().unwrap_or(name))));
        for word in stage.doc.split('`').skip(1).step_by(2).map(last) {
            if all.contains(&word) && !asked.contains(&word) {
                failures.push(format!("{}: it names `{word}`, which no stage so far asks for", stage.file));
            }
        }
    }
    failures
}

/// What a chapter shows of the sources is theirs: below `// src/…, Item` the lines stand in that item of that file, in
/// that order. A line `// …` stands for lines that are left out.
pub(crate) fn excerpts(root: &Path, day: &Day, tree: &Tree) -> Vec<String> {
    let text = day.readme(root);
    let mut failures = Vec::new();
    for block in text.split("\n```rust,ignore\n").skip(1) {
        let mut lines = block.lines().take_while(|line| *line != "```").map(str::trim);
        let head = lines.next().unwrap_or_default();
        let Some((file, item)) = head.strip_prefix("// src/").and_then(|place| place.split_once(", ")) else {
            continue; // no excerpt
        };
        let file = format!("src/{file}");
        let Some(source) = tree.get(&file) else {
            failures.push(format!("README.md: an excerpt of {file}, which is not there"));
            continue;
        };
        // `impl Drop for Entry` has all its words in one line, and so has `fn read` of `FrameReader::read`.
        let words: Vec<_> = item.rsplit("::").next().unwrap_or(item).split([' ', '!']).collect();
        let is_item = |line: &str| {
            let has = |word: &&str| {
                line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|part| part == *word)
            };
            let kinds = ["fn", "struct", "enum", "trait", "impl", "type", "macro_rules"];
            kinds.iter().any(has) && words.iter().filter(|word| !word.is_empty()).all(has)
        };
        let code: Vec<_> = source.lines().collect();
        let found = (0..code.len()).filter(|number| is_item(code[*number]));
        let shown: Vec<_> = lines.filter(|line| !line.is_empty() && *line != "// …").collect();
        // The item may be there twice, such as two functions of one name: one of them has the lines.
        let missing = found.map(|from| {
            let mut lines = item_at(&code, from).iter().map(|line| line.trim());
            shown.iter().find(|shown| !lines.any(|line| line == **shown))
        });
        match missing.min_by_key(Option::is_some) {
            None => failures.push(format!("README.md: an excerpt of {file}: it has no {item}")),
            Some(Some(line)) => failures
                .push(format!("README.md: {file}, {item}: this line is not there, or not there yet: {line}")),
            Some(None) => {}
        }
    }
    failures
}

/// The item that begins in line `from`, as rustfmt lays it out, with its docs and attributes.
fn item_at<'a, 'b>(code: &'b [&'a str], from: usize) -> &'b [&'a str] {
    let above = |line: &&&str| line.trim().starts_with("///") || line.trim().starts_with("#[");
    let start = from - code[..from].iter().rev().take_while(above).count();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let ends = |line: &&str| indent(line) == indent(code[from]) && line.ends_with(['}', ';']);
    let end = code[from..].iter().position(ends).map_or(code.len(), |len| from + len + 1);
    &code[start..end]
}
