//! `cargo xtask book`: the course as a site, in `target/book`.
//!
//! Nothing in it is written twice. Chapters are the README files; the pages of code, suites and labs are made from the
//! files that the course is built and tested with. In the order of the work:
//!
//! * `course`: the days, read from their files.
//! * `site`: which page shows which file, so that links between files become links between pages.
//! * `markdown`: a README becomes a page.
//! * `pages`: the pages of a day beside its chapter.
//! * `check`: after mdbook has made the site, every link in it is followed.

mod check;
mod course;
mod markdown;
mod pages;
mod site;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use mdbook_driver::MDBook;

use course::Day;
use pages::Page;
use site::Site;

const CONFIG: &str = r#"
[book]
title = "rrpc: a remote procedure call framework in seven days"
language = "en"
src = "src"

[build]
build-dir = "../book"
create-missing = false
use-default-preprocessors = false

[output.html]
additional-css = ["book.css"]
default-theme = "light"
preferred-dark-theme = "navy"
smart-punctuation = false
no-section-label = true
hash-files = false
input-404 = ""
fold = { enable = true }
playground = { runnable = false, copy-js = false }
"#;

/// Where the Markdown is written that mdbook reads.
const SOURCE: &str = "target/book-src";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let root = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| ".".to_owned())).canonicalize()?;
    let days = course::load(&root)?;
    let mut site = Site::new(root.clone(), &days);
    let source = root.join(SOURCE);
    if source.exists() {
        fs::remove_dir_all(&source).with_context(|| source.display().to_string())?;
    }
    let parts = parts(&mut site, &days)?;
    write_source(&source, &parts)?;
    build(&source, &parts)?;

    let book = root.join("target/book");
    let (count, wrong) = check::links(&book)?;
    if !wrong.is_empty() {
        bail!("{} of {count} links are wrong:\n{}", wrong.len(), wrong.join("\n"));
    }
    let pages: usize = parts.iter().map(|part| part.pages.len()).sum();
    println!("{}: {pages} pages; {count} links are right", book.join("index.html").display());
    Ok(())
}

/// A heading of the table of contents, and the pages under it.
struct Part {
    title: &'static str,
    pages: Vec<Page>,
    /// Whether it is for reading from front to back, and so on the page to print.
    is_printed: bool,
}

impl Part {
    fn new(title: &'static str, pages: Vec<Page>) -> Part {
        Part { title, pages, is_printed: true }
    }
}

/// The whole book.
fn parts(site: &mut Site, days: &[Day]) -> Result<Vec<Part>> {
    let readme = fs::read_to_string(site.root.join("README.md")).context("README.md")?;
    let introduction = markdown::render(site, &readme, "README.md", "index.md");
    let mut chapters = vec![Page::new("index.md", "Introduction", 0, introduction)];
    chapters.extend(days.iter().map(|day| {
        let (file, page) = (format!("{}/README.md", day.name), format!("{}/index.md", day.name));
        let text = markdown::render(site, &day.readme, &file, &page) + &pages::list(day);
        Page::new(page, day.title(), 0, text)
    }));

    let mut reference = vec![limits(site, days)];
    if let Some(section) = markdown::section(&readme, "Glossary") {
        let text = markdown::render(site, section, "README.md", "glossary.md");
        reference.push(Page::new("glossary.md", "Glossary", 0, format!("# Glossary\n\n{text}")));
    }
    let code = days.iter().flat_map(|day| pages::of_day(site, day)).collect();
    let others = others(site)?;
    let code = Part { is_printed: false, ..Part::new("Code, suites and labs", code) };
    let others = Part { is_printed: false, ..Part::new("Other files", others) };
    let course = Part::new("The seven days", chapters);
    Ok(vec![course, Part::new("To look up", reference), code, others])
}

/// The sections of all chapters that list the limits.
fn limits(site: &mut Site, days: &[Day]) -> Page {
    let mut text = "# The limits of all days\n\n".to_owned();
    for day in days {
        let Some(section) = markdown::section(&day.readme, "Limits") else { continue };
        let file = format!("{}/README.md", day.name);
        let section = markdown::render(site, section, &file, "limits.md");
        let (title, name) = (day.title(), &day.name);
        text.push_str(&format!("## {title}\n\nFrom [its chapter]({name}/index.md#limits).\n\n{section}\n\n"));
    }
    Page::new("limits.md", "The limits of all days", 0, text)
}

/// Files that some page links to, and those that these link to.
fn others(site: &mut Site) -> Result<Vec<Page>> {
    let mut pages = Vec::new();
    while let Some(file) = site.others.pop_first() {
        if file.ends_with(".svg") || file.ends_with(".png") {
            let copy = site.root.join(SOURCE).join("src").join(&file);
            fs::create_dir_all(copy.parent().unwrap_or(&site.root))?;
            fs::copy(site.root.join(&file), copy).with_context(|| file.clone())?;
            continue;
        }
        let text = fs::read_to_string(site.root.join(&file)).with_context(|| file.clone())?;
        if file.ends_with(".md") {
            let title = course::title(&text).unwrap_or(&file).to_owned();
            let text = markdown::render(site, &text, &file, &file);
            pages.push(Page::new(&file, title, 0, text));
        } else {
            let (_, extension) = file.rsplit_once('.').unwrap_or(("", "text"));
            let language = if extension == "rs" { "rust" } else { extension };
            let text = format!("# `{file}`\n\n{}", markdown::code(language, &text));
            pages.push(Page::new(format!("{file}.md"), &file, 0, text));
        }
    }
    pages.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(pages)
}

/// Everything that mdbook reads, but the table of contents and the pictures.
fn write_source(source: &Path, parts: &[Part]) -> Result<()> {
    let pages = parts.iter().flat_map(|part| &part.pages);
    let pages = pages.map(|page| (source.join("src").join(&page.path), page.text.as_str()));
    for (path, text) in pages.chain([(source.join("book.css"), include_str!("book.css"))]) {
        fs::create_dir_all(path.parent().unwrap_or(source))?;
        fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// Two runs of mdbook. Its page to print has every page of the book, and code and tests would be most of it. So the
/// first run makes that page, without them.
fn build(source: &Path, parts: &[Part]) -> Result<()> {
    let print = source.join("../book/print.html");
    mdbook(source, parts, |part| part.is_printed)?;
    let printed = fs::read(&print).context("print.html")?;
    mdbook(source, parts, |_| true)?;
    fs::write(&print, printed).context("print.html")
}

fn mdbook(source: &Path, parts: &[Part], wanted: impl Fn(&Part) -> bool) -> Result<()> {
    let parts: Vec<&Part> = parts.iter().filter(|part| wanted(part) && !part.pages.is_empty()).collect();
    let mut summary = "# Summary\n".to_owned();
    for part in &parts {
        summary.push_str(&format!("\n# {}\n\n", part.title));
        for page in &part.pages {
            let title = page.title.replace('[', "\\[").replace(']', "\\]").replace('_', "\\_");
            summary.push_str(&format!("{}* [{title}]({})\n", "  ".repeat(page.depth), page.path));
        }
    }
    fs::write(source.join("src/SUMMARY.md"), summary).context("SUMMARY.md")?;
    let config = format!("{CONFIG}{}", unsearched(&parts)).parse().context("the configuration of mdbook")?;
    MDBook::load_with_config(source, config)?.build()
}

/// The suites are half of the course's text, and most words are in them. A search finds the chapters, the code and the
/// labs.
fn unsearched(parts: &[&Part]) -> String {
    let pages = parts.iter().flat_map(|part| &part.pages).map(|page| &page.path);
    let suites = pages.filter_map(|path| path.strip_suffix("/suite.md"));
    suites.map(|day| format!("[output.html.search.chapter.'{day}/suite']\nenable = false\n")).collect()
}
