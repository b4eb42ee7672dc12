//! On a course of two days, made by hand.

use std::path::{Path, PathBuf};

use crate::check;
use crate::course::{Day, File, Stage, Suite, items};
use crate::markdown::{code, render, section};
use crate::pages::side_by_side;
use crate::site::Site;

const STAGE: &str = r##"//! Frames.

use super::*;

const TEXT: &str = "x";

/// One.
#[test]
fn one() {
    fn helper() {}
}

fn helper() {}

proptest! {
    /// Any.
    #[test]
    fn any(x in 0..3) {}
}

struct Last {
    field: u8,
}

impl Last {
    fn new() {}
}

#[cfg(unix)]
#[tokio::test(start_paused = true)]
async fn paused() {
    # not an attribute
}
"##;

fn day(number: usize, name: &str, files: Vec<File>, stage: &str, text: &str) -> Day {
    let stage = Stage { name: stage.to_owned(), text: text.to_owned(), functions: Vec::new(), minutes: 0 };
    let suite = Suite { shared: String::new(), stages: vec![stage] };
    Day { number, name: name.to_owned(), readme: String::new(), files, suite, labs: Vec::new() }
}

fn file(path: &str, text: &str, before: Option<&str>) -> File {
    File { path: path.to_owned(), text: text.to_owned(), before: before.map(str::to_owned) }
}

/// Its root is that of the real course, where other files are looked for.
fn site() -> Site {
    let first = vec![file("src/a.rs", "a", None), file("src/wire/b.rs", "b", None)];
    let second = vec![file("src/a.rs", "a", Some("a")), file("src/wire/b.rs", "c", Some("b"))];
    let days = [
        day(1, "day1-codec", first, "frames", STAGE),
        day(2, "day2-client", second, "calls", "#[test]\nfn two() {}\n"),
    ];
    Site::new(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../.."), &days)
}

#[test]
fn a_link_to_a_file_leads_to_the_page_that_shows_it() {
    let mut site = site();
    for (link, target) in [
        ("../day1-codec/README.md", "../day1-codec/index.md"),
        ("../day1-codec/README.md#the-wire", "../day1-codec/index.md#the-wire"),
        ("../README.md", "../index.md"),
        ("src/wire/b.rs#L3", "../day2-client/src/wire/b.rs.md"),
        ("src/a.rs", "../day1-codec/src/a.rs.md"), // the day before has the same
        ("src/wire/", "../day2-client/code.md"),
        ("tests/suites/day1_codec", "../day1-codec/suite.md"),
        ("tests/suites/day1_codec/frames.rs", "../day1-codec/suite/frames.md"),
        ("../LICENSE", "../LICENSE.md"),
        ("../xtask/labs/day2.toml", "../day2-client/labs.md"),
        ("#limits", "#limits"),
        ("https://example.org/src/a.rs", "https://example.org/src/a.rs"),
        ("no/such/file.md", "no/such/file.md"), // which the check will report
        ("../../outside.md", "../../outside.md"),
    ] {
        for text in ["[text](<>)", "![`<>`](<> \"title\")", "[text][x]\n\n[x]: <>\n"] {
            let given = text.replace("<>", link);
            let page = render(&mut site, &given, "day2-client/README.md", "day2-client/index.md");
            assert!(
                page.contains(&text.replace("`<>`", &format!("`{link}`")).replace("<>", target)),
                "{page}"
            );
        }
    }
    let item = "[`Client`](day2_client::Client) is an item";
    let page = render(&mut site, item, "day2-client/README.md", "day2-client/index.md");
    assert_eq!(page, "`Client` is an item");
    assert_eq!(site.others.pop_first().as_deref(), Some("LICENSE"));
}

#[test]
fn a_section_on_another_page_links_back_to_its_chapter() {
    let page = render(&mut site(), "[a](#the-wire) [b](src/a.rs)", "day1-codec/README.md", "limits.md");
    assert_eq!(page, "[a](day1-codec/index.md#the-wire) [b](day1-codec/src/a.rs.md)");
}

#[test]
fn names_of_files_tests_and_labs_become_links_but_not_in_headings_links_and_code() {
    let text = "# `src/a.rs`\n\n`src/a.rs`, `wire/b.rs`, `one`, `two`, `cargo xtask lab 2 3`, `three`, `a`\n\n\
                [`two`](#x)\n\n```rust\n// `two`\n```\n";
    let page = render(&mut site(), text, "day2-client/README.md", "day2-client/index.md");
    let wanted = text.replace(
        "`src/a.rs`, `wire/b.rs`, `one`, `two`, `cargo xtask lab 2 3`",
        "[`src/a.rs`](../day1-codec/src/a.rs.md), [`wire/b.rs`](../day2-client/src/wire/b.rs.md), \
         [`one`](../day1-codec/suite/frames.md#one), [`two`](../day2-client/suite/calls.md#two), \
         [`cargo xtask lab 2 3`](../day2-client/labs.md#lab-3)",
    );
    assert_eq!(page, wanted);
}

#[test]
fn what_only_a_compiler_needs_is_left_out_of_a_block() {
    let render = |text| render(&mut site(), text, "day1-codec/README.md", "day1-codec/index.md");
    assert_eq!(
        render("```rust,no_run\n# use x;\n#[a]\n#\n    # y\n## z\n```\n"),
        "```rust\n#[a]\n## z\n```\n"
    );
    assert_eq!(
        render("* a\n\n  ```compile_fail\n  # x\n  y\n  ```\n"),
        "* a\n\n  ```rust,compile_fail\n    y\n  ```\n"
    );
    assert_eq!(render("```sh\n# a comment\n```\n"), "```sh\n# a comment\n```\n");
    let excerpt = "\n```rust,ignore\n// src/a.rs, A::new\nlet x;\n```\n";
    let source = "\n\n*From [`src/a.rs`](../day1-codec/src/a.rs.md)*\n";
    assert_eq!(render(excerpt), excerpt.replace(",ignore", "").trim_end().to_owned() + source + "\n");
}

#[test]
fn code_is_shown_as_it_is() {
    assert_eq!(code("rust", "\n#[a]\n# b\n  #\n## c\n"), "``````rust\n#[a]\n## b\n  ##\n### c\n``````\n\n");
    assert_eq!(code("toml", "# b"), "``````toml\n# b\n``````\n\n");
}

#[test]
fn a_section_ends_at_the_next_heading_of_its_level() {
    let text = "# A\n\n## B\n\none\n\n### C\n\n```sh\n## D\n```\n\n## E\n\ntwo\n";
    assert_eq!(section(text, "B").map(str::trim), Some("one\n\n### C\n\n```sh\n## D\n```"));
    assert_eq!(section(text, "E").map(str::trim), Some("two"));
    assert_eq!(section(text, "D"), None);
}

#[test]
fn a_stage_is_cut_at_its_tests_and_nothing_is_lost() {
    let items = items(STAGE);
    let tests: Vec<_> = items.iter().map(|item| item.tests.join(" ")).collect();
    assert_eq!(tests, ["one", "any", "", "paused"]);
    let text: String = items.iter().map(|item| item.text).collect();
    assert_eq!(text, STAGE.strip_prefix("//! Frames.\n").unwrap());
}

#[test]
fn a_link_to_what_is_not_there_is_found() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-links");
    std::fs::create_dir_all(dir.join("a")).unwrap();
    let links = [
        "../index.html",
        "../index.html#top",
        "../index.html?x#top",
        "../",
        "#here",
        "style.css",
        "https://a.b/c",
        "no.html",
        "../index.html#no",
        "#no",
        "../../index.html",
        "mailto:a@b",
    ];
    let links: String =
        links.iter().map(|link| format!("<a id=\"here\" href=\"{link}\"> href=\"text.html\"")).collect();
    std::fs::write(dir.join("index.html"), "<h1 id=\"top\">").unwrap();
    std::fs::write(dir.join("a/b.html"), links).unwrap();
    std::fs::write(dir.join("a/style.css"), "").unwrap();
    let (count, wrong) = check::links(&dir).unwrap();
    assert_eq!(count, 10);
    assert_eq!(
        wrong,
        [
            "a/b.html: the link #no leads to a/b.html, which has no #no",
            "a/b.html: the link ../../index.html leads to a place outside of the book",
            "a/b.html: the link ../index.html#no leads to index.html, which has no #no",
            "a/b.html: the link no.html leads to a/no.html, which is not there",
        ]
    );
}

#[test]
fn lines_that_were_removed_stand_beside_those_that_came() {
    let rows = side_by_side("a\nb\n\nc\n", "a\nx < y\nz\n\nc\n");
    let expected = "<tr><td>a</td><td>a</td></tr>\n\
        <tr><td class=\"hljs-deletion\">b</td><td class=\"hljs-addition\">x &lt; y</td></tr>\n\
        <tr><td></td><td class=\"hljs-addition\">z</td></tr>\n\
        <tr><td></td><td></td></tr>\n\
        <tr><td>c</td><td>c</td></tr>\n";
    assert!(rows.contains(expected), "{rows}");
    assert!(!rows.trim_end().contains("\n\n"), "a blank line ends the HTML");
    assert_eq!(side_by_side("a\n", "a\nb\n"), "", "nothing was removed");
}
