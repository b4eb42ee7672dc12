//! A README becomes a page: its links lead to pages, and what only `cargo test` needs is left out.
//!
//! The text itself stays as it is. The parser says where a link or a block of code stands in it, and these places are
//! edited.

use std::ops::Range;

use mdbook_markdown::pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, LinkType, Tag, TagEnd};
use mdbook_markdown::{MarkdownOptions, new_cmark_parser};

use crate::site::Site;

/// Words after the backticks of a block that rustdoc takes for Rust.
const RUST: [&str; 6] = ["rust", "no_run", "ignore", "should_panic", "compile_fail", "standalone_crate"];

type Edits = Vec<(Range<usize>, String)>;

/// Those of the renderer, see `CONFIG` in `main`.
fn options() -> MarkdownOptions {
    let mut options = MarkdownOptions::default();
    options.smart_punctuation = false;
    options
}

/// Markdown of the file `from` of the course, as it reads on the page `page`.
pub(crate) fn render(site: &mut Site, text: &str, from: &str, page: &str) -> String {
    let mut edits = Edits::new();
    let mut is_rust = false;
    // How many headings and links this is in. A link has no link in it, and a heading needs none.
    let mut inside = 0;
    let parser = new_cmark_parser(text, &options());
    for (_, definition) in parser.reference_definitions().iter() {
        let span = definition.span.clone();
        edits.extend(link(site, text, span, &definition.dest, (from, page)));
    }
    for (event, range) in parser.into_offset_iter() {
        match event {
            Event::Start(Tag::Heading { .. }) => inside += 1,
            Event::Start(Tag::Link { link_type, dest_url, .. } | Tag::Image { link_type, dest_url, .. }) => {
                inside += 1;
                if link_type == LinkType::Inline {
                    edits.extend(link(site, text, range, &dest_url, (from, page)));
                }
            }
            Event::End(TagEnd::Heading(_) | TagEnd::Link | TagEnd::Image) => inside -= 1,
            Event::Code(code) if inside == 0 => {
                if let Some(target) = site.mention(from, &code) {
                    let target = relative(page, &target);
                    edits.push((range.clone(), format!("[{}]({target})", &text[range])));
                }
            }
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) => {
                is_rust =
                    info.split([',', ' ']).all(|word| RUST.contains(&word) || word.starts_with("edition"));
                edits.extend(is_rust.then(|| language(text, range.clone(), &info)));
                edits.extend(source(site, text, range, (from, page)));
            }
            Event::End(TagEnd::CodeBlock) => is_rust = false,
            Event::Text(_) if is_rust => edits.extend(hidden_lines(text, range)),
            _ => {}
        }
    }
    apply(text, edits)
}

/// The text under a heading of level 2. `None`: there is no such heading.
pub(crate) fn section<'a>(text: &'a str, title: &str) -> Option<&'a str> {
    let mut start = None;
    for (event, range) in new_cmark_parser(text, &options()).into_offset_iter() {
        let Event::Start(Tag::Heading { level, .. }) = event else { continue };
        if let Some(start) = start
            && level <= HeadingLevel::H2
        {
            return Some(&text[start..range.start]);
        }
        let heading = text[range.clone()].trim_matches(['#', ' ', '\n']);
        if level == HeadingLevel::H2 && heading == title {
            start = Some(range.end);
        }
    }
    start.map(|start| &text[start..])
}

/// A block of code that no text in it can end.
pub(crate) fn code(language: &str, text: &str) -> String {
    let mut body = String::with_capacity(text.len());
    for line in text.trim_matches('\n').lines() {
        // To the renderer `# …` is a hidden line, and `##` is how to write a `#`.
        let start = line.trim_start();
        if language == "rust" && (start == "#" || start.starts_with("# ") || start.starts_with("##")) {
            body.push_str(&line[..line.len() - start.len()]);
            body.push('#');
            body.push_str(start);
        } else {
            body.push_str(line);
        }
        body.push('\n');
    }
    format!("``````{language}\n{body}``````\n\n")
}

/// How the page `from` links to the page `to`, which may have an anchor. Pages are paths from the root of the book.
pub(crate) fn relative(from: &str, to: &str) -> String {
    let up = "../".repeat(from.matches('/').count());
    format!("{up}{to}")
}

fn link(
    site: &mut Site,
    text: &str,
    range: Range<usize>,
    to: &str,
    (from, page): (&str, &str),
) -> Option<(Range<usize>, String)> {
    if to.contains("::") {
        // An item of the crate's documentation, which is not in the book. Its name stays.
        let name = text[range.clone()].strip_prefix('[')?.split_once("](")?.0;
        return Some((range, name.to_owned()));
    }
    let target = site.resolve(from, page, to)?;
    let at = range.start + text[range].rfind(to)?;
    Some((at..at + to.len(), relative(page, &target)))
}

/// The first line of a block of Rust, in the words of the renderer.
fn language(text: &str, block: Range<usize>, info: &str) -> (Range<usize>, String) {
    let line = text[block.clone()].lines().next().unwrap_or_default();
    let fence = line.len() - line.trim_start_matches(['`', '~']).len();
    let fails = info.split([',', ' ']).find(|word| ["compile_fail", "should_panic"].contains(word));
    let language = fails.map_or_else(|| "rust".to_owned(), |fails| format!("rust,{fails}"));
    (block.start + fence..block.start + line.len(), language)
}

/// Under an excerpt, whose first line is such as `// src/wire/frame.rs, FrameReader::read`: a link to the file.
fn source(
    site: &Site,
    text: &str,
    block: Range<usize>,
    (from, page): (&str, &str),
) -> Option<(Range<usize>, String)> {
    let file = text[block.clone()].lines().nth(1)?.strip_prefix("// ")?.split([',', ' ']).next()?;
    let target = site.mention(from, file)?;
    let is_in_a_list = !text[..block.start].ends_with('\n');
    let link = format!("\n\n*From [`{file}`]({})*\n", relative(page, &target));
    (!is_in_a_list).then_some((block.end..block.end, link))
}

/// Lines such as `# use std::io;`, which a reader does not see.
fn hidden_lines(text: &str, range: Range<usize>) -> Edits {
    let mut edits = Edits::new();
    let mut at = range.start;
    for line in text[range].split_inclusive('\n') {
        if line.trim() == "#" || line.trim_start().starts_with("# ") {
            edits.push((at..at + line.len(), String::new()));
        }
        at += line.len();
    }
    edits
}

fn apply(text: &str, mut edits: Edits) -> String {
    edits.sort_by_key(|(range, _)| range.start);
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for (range, by) in edits {
        out.push_str(&text[done..range.start]);
        out.push_str(&by);
        done = range.end;
    }
    out.push_str(&text[done..]);
    out
}
