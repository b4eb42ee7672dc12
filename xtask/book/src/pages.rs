//! The pages of a day beside its chapter: its code, its suite, its labs.

use std::fmt::Write as _;

use similar::{ChangeTag, DiffTag, TextDiff};

use crate::course::{Day, File, Lab, Stage, items, module_doc};
use crate::markdown::{code, relative, render};
use crate::site::Site;

/// A page of the book.
pub(crate) struct Page {
    /// Where its Markdown is, from the root of the book.
    pub(crate) path: String,
    /// What the table of contents calls it.
    pub(crate) title: String,
    /// How deep it stands in the table of contents.
    pub(crate) depth: usize,
    pub(crate) text: String,
}

impl Page {
    pub(crate) fn new(path: impl Into<String>, title: impl Into<String>, depth: usize, text: String) -> Page {
        Page { path: path.into(), title: title.into(), depth, text }
    }
}

/// All of them, in the order of the table of contents.
pub(crate) fn of_day(site: &mut Site, day: &Day) -> Vec<Page> {
    let mut pages = Vec::new();
    let mut files: Vec<&File> = day.files.iter().filter(|file| !file.is_same()).collect();
    // In the order in which the chapter speaks of them.
    let place = |file: &&File| day.readme.find(&format!("`{}`", file.path)).unwrap_or(usize::MAX);
    files.sort_by_key(place);
    pages.push(code_list(day, &files));
    pages.extend(files.iter().map(|file| file_page(day, file)));
    if !day.suite.stages.is_empty() {
        pages.push(suite_page(site, day));
        let stages: Vec<_> = day.suite.stages.iter().map(|stage| stage_page(site, day, stage)).collect();
        pages.extend(stages);
    }
    if !day.labs.is_empty() {
        pages.push(labs_page(site, day));
    }
    pages
}

/// What stands at the end of a chapter: where to go from here.
pub(crate) fn list(day: &Day) -> String {
    let files = day.files.iter().filter(|file| !file.is_same()).count();
    let tests: usize = day.suite.stages.iter().map(|stage| stage.tests().count()).sum();
    let mut text = "\n\n## More pages of this day\n\n".to_owned();
    _ = writeln!(text, "* [The code](code.md): {files} files that are new or changed, and the diff of each");
    if tests > 0 {
        let stages = day.suite.stages.len();
        _ = writeln!(text, "* [The suite](suite.md): {tests} tests in {stages} stages");
    }
    if !day.labs.is_empty() {
        _ = writeln!(
            text,
            "* [The labs](labs.md): {} defects to put in, and the test that finds each",
            day.labs.len()
        );
    }
    text
}

fn code_list(day: &Day, files: &[&File]) -> Page {
    let mut text = format!("# Day {}: the code\n\nThe files of [the chapter](index.md).\n\n", day.number);
    for file in files {
        let (path, about) = (&file.path, summary(&module_doc(&file.text)));
        _ = writeln!(text, "* [`{path}`]({path}.md): {}, {}. {about}", fate(file), lines(file));
    }
    let same = day.files.len() - files.len();
    if same > 0 {
        _ = writeln!(text, "\n{same} files are the same as the day before.");
    }
    Page::new(format!("{}/code.md", day.name), format!("Day {}: the code", day.number), 0, text)
}

fn file_page(day: &Day, file: &File) -> Page {
    let path = &file.path;
    let language = if path.ends_with(".rs") { "rust" } else { "toml" };
    let page = format!("{}/{path}.md", day.name);
    let home = relative(&page, &format!("{}/index.md", day.name));
    let mut text =
        format!("# `{path}`\n\n[Day {}]({home}): {}, {} lines.\n\n", day.number, fate(file), lines(file));
    match &file.before {
        Some(before) if is_worth_a_diff(before, &file.text) => {
            text.push_str("## What changed\n\n");
            text.push_str(&side_by_side(before, &file.text));
            text.push_str(&code("diff", &diff(before, &file.text)));
            text.push_str("## The whole file\n\n");
        }
        _ => {}
    }
    text.push_str(&code(language, &file.text));
    Page::new(page, path.strip_prefix("src/").unwrap_or(path), 1, text)
}

/// The first paragraph of a text in one line. The brackets around `[`Error`]` are links of rustdoc.
fn summary(doc: &str) -> String {
    let lines: Vec<&str> = doc.lines().take_while(|line| !line.is_empty()).collect();
    lines.join(" ").replace("[`", "`").replace("`]", "`")
}

fn fate(file: &File) -> &'static str {
    match &file.before {
        None => "new",
        Some(before) if is_worth_a_diff(before, &file.text) => "changed",
        Some(_) => "written anew",
    }
}

/// A demo has little in common with that of the day before.
fn is_worth_a_diff(before: &str, after: &str) -> bool {
    TextDiff::from_lines(before, after).ratio() > 0.5
}

/// Such as `+12 −3`.
fn lines(file: &File) -> String {
    let Some(before) = &file.before else { return format!("+{}", file.text.lines().count()) };
    let diff = TextDiff::from_lines(before.as_str(), file.text.as_str());
    let count = |tag| diff.iter_all_changes().filter(|change| change.tag() == tag).count();
    match count(ChangeTag::Delete) {
        0 => format!("+{}", count(ChangeTag::Insert)),
        removed => format!("+{}\u{a0}\u{2212}{removed}", count(ChangeTag::Insert)),
    }
}

/// The lines before and after, each on its side, for wide windows. Empty if no line was removed: then there is no other
/// side to look at.
pub(crate) fn side_by_side(before: &str, after: &str) -> String {
    let diff = TextDiff::from_lines(before, after);
    if diff.ops().iter().all(|op| matches!(op.tag(), DiffTag::Equal | DiffTag::Insert)) {
        return String::new();
    }
    let (before, after) = (diff.old_slices(), diff.new_slices());
    let mut rows = String::new();
    for (number, group) in diff.grouped_ops(CONTEXT).iter().enumerate() {
        if number > 0 {
            rows.push_str("<tr><td>⋯</td><td>⋯</td></tr>\n");
        }
        for op in group {
            let (old, new) = (&before[op.old_range()], &after[op.new_range()]);
            let is_same = op.tag() == DiffTag::Equal;
            for row in 0..old.len().max(new.len()) {
                let cell = |line: Option<&&str>, class| match line {
                    None => "<td></td>".to_owned(),
                    Some(line) if is_same => format!("<td>{}</td>", escape(line)),
                    Some(line) => format!("<td class=\"{class}\">{}</td>", escape(line)),
                };
                let (old, new) = (cell(old.get(row), "hljs-deletion"), cell(new.get(row), "hljs-addition"));
                _ = writeln!(rows, "<tr>{old}{new}</tr>");
            }
        }
    }
    format!("<div class=\"beside\"><table>\n{rows}</table></div>\n\n")
}

/// A line of code as HTML.
fn escape(line: &str) -> String {
    line.trim_end().replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// How many lines around a change are shown.
const CONTEXT: usize = 4;

/// A unified diff without the names of the files.
fn diff(before: &str, after: &str) -> String {
    TextDiff::from_lines(before, after)
        .unified_diff()
        .context_radius(CONTEXT)
        .missing_newline_hint(false)
        .to_string()
}

fn suite_page(site: &mut Site, day: &Day) -> Page {
    let page = format!("{}/suite.md", day.name);
    let source = format!("{}/tests/suites/{}/mod.rs", day.name, day.ident());
    let doc = module_doc(&day.suite.shared);
    let mut text = format!("# Day {}: the suite\n\n{}", day.number, render(site, &doc, &source, &page));
    text.push_str(
        "\nIts stages, in the order of the work, with about how long each takes as an exercise:\n\n",
    );
    for stage in &day.suite.stages {
        let (name, tests, title) = (&stage.name, stage.tests().count(), summary(&stage.doc()));
        let is_exercise = !stage.functions.is_empty();
        let minutes = if is_exercise { format!(", {} minutes", stage.minutes) } else { String::new() };
        let plural = if tests == 1 { "" } else { "s" };
        _ = writeln!(text, "* [{name}](suite/{name}.md): {tests} test{plural}{minutes}. {title}");
    }
    text.push_str("\n## What the stages share\n\n");
    for item in items(&day.suite.shared) {
        text.push_str(&code("rust", item.text));
    }
    Page::new(page, format!("Day {}: the suite", day.number), 0, text)
}

fn stage_page(site: &mut Site, day: &Day, stage: &Stage) -> Page {
    let page = format!("{}/suite/{}.md", day.name, stage.name);
    let source = format!("{}/tests/suites/{}/{}.rs", day.name, day.ident(), stage.name);
    let up = relative(&page, &format!("{}/suite.md", day.name));
    let mut text = format!("# {}\n\nA stage of [the suite of day {}]({up}).\n\n", stage.name, day.number);
    let (doc, places) = places(&stage.doc());
    text.push_str(&render(site, &doc, &source, &page));
    let chapter = relative(&page, &format!("{}/index.md", day.name));
    let places: Vec<_> = places.iter().map(|place| format!("[{place}]({chapter}#{})", slug(place))).collect();
    if !places.is_empty() {
        _ = write!(text, "\nIn the chapter: {}.\n", places.join(", "));
    }
    if !stage.functions.is_empty() {
        let mut list = String::new();
        let mut last = "";
        for (file, name) in stage.functions.iter().filter_map(|function| function.split_once(": ")) {
            let lead = if file == last { ", ".to_owned() } else { format!("\n* `{file}`: ") };
            _ = write!(list, "{lead}`{name}`");
            last = file;
        }
        _ = write!(text, "\nWhat it asks for:\n{}\n\n", render(site, &list, &source, &page));
    }
    for item in items(&stage.text) {
        for test in &item.tests {
            _ = write!(text, "\n## `{test}`\n\n");
        }
        text.push_str(&code("rust", item.text));
    }
    Page::new(page, &stage.name, 1, text)
}

/// What a stage says of itself, without its last line, `Chapter: The wire > Frames; Limits`, and the headings there.
fn places(doc: &str) -> (String, Vec<String>) {
    let Some((doc, line)) = doc.rsplit_once("\nChapter: ") else { return (doc.to_owned(), Vec::new()) };
    let places = line.split("; ").filter_map(|place| place.split(" > ").next());
    (doc.to_owned(), places.map(|place| place.trim().to_owned()).collect())
}

/// The anchor of a heading.
fn slug(heading: &str) -> String {
    let plain = heading.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    plain.collect::<String>().to_lowercase().replace(' ', "-")
}

fn labs_page(site: &mut Site, day: &Day) -> Page {
    let page = format!("{}/labs.md", day.name);
    let mut text = format!(
        "# Day {0}: the labs\n\nEach lab is a small defect. Which test will fail, and why? Decide first. \
         `cargo xtask lab {0} 1` puts the first one into the code.\n\n",
        day.number
    );
    for (number, lab) in (1..).zip(&day.labs) {
        text.push_str(&lab_text(site, day, number, lab, &page));
    }
    Page::new(page, format!("Day {}: the labs", day.number), 0, text)
}

fn lab_text(site: &mut Site, day: &Day, number: usize, lab: &Lab, page: &str) -> String {
    let Lab { title, file, find, replace, test, why } = lab;
    let from = format!("{}/README.md", day.name);
    let diff = diff(find, replace);
    let lines: String =
        diff.lines().filter(|line| !line.starts_with("@@")).map(|line| format!("{line}\n")).collect();
    let text = format!(
        "## {number}. {title} {{#lab-{number}}}\n\n`{file}`:\n\n{}\
         <details><summary>Answer</summary>\n\n`{test}` fails.\n\n{}\n\n</details>\n\n",
        code("diff", &lines),
        why.trim()
    );
    render(site, &text, &from, page)
}
