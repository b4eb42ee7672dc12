//! `cargo xtask author days`: a course that is in order, and then each thing that can be wrong with it.

mod scratch;

use scratch::{Course, Ran};

const DAYS: [&str; 2] = ["day1-codec", "day2-client"];
const TABLE: &str = "# CRATE\n\n## Files of today\n\n| file | | what for |\n|---|---|---|\n";
const FRAMES: &str = "//! Frames.\n//!\n//! Works then: all.\n//!\n//! Chapter: CRATE\n\nuse CRATE::Frame;\n";
const SUPPORT: &str = "pub fn one() {}\n\npub fn two() {}\n";

/// Two days in order: the second adds `client/mod.rs`, its suite, and a line to `tests/suites/support/mod.rs`.
fn course() -> Course {
    let course = Course::new();
    for day in DAYS {
        course
            .write(&format!("{day}/Cargo.toml"), &format!("[package]\nname = \"{day}\"\n\n[dependencies]\n"));
    }
    course.write_in(&DAYS, "src/main.rs", "fn main() { CRATE::run() }\n");
    course.write_in(&DAYS, "src/wire/codec.rs", "//! As in CRATE.\n");
    course.suite(&DAYS, "day1_codec", &[("frames", FRAMES)]);
    course.write_in(&DAYS, "tests/suites/support/deadline.rs", "pub fn within() {}\n");
    course.write("day1-codec/tests/suites/support/mod.rs", SUPPORT);
    course.write("day1-codec/src/lib.rs", "pub mod wire;\n");
    course.write_in(&DAYS[..1], "README.md", &format!("{TABLE}| `src/wire/codec.rs` | new | frames |\n"));

    course.write(
        "day2-client/tests/suites/support/mod.rs",
        &SUPPORT.replace("\n\n", "\n\npub fn half() {}\n\n"),
    );
    course.write("day2-client/src/lib.rs", "pub mod client;\npub mod wire;\n");
    course.write("day2-client/src/client/mod.rs", "//! The client.\n");
    course.suite(&DAYS[1..], "day2_client", &[("calls", &FRAMES.replace("Frame", "Client"))]);
    course.write_in(&DAYS[1..], "README.md", &format!("{TABLE}| `src/client/mod.rs` | new | calls |\n"));
    course
}

#[track_caller]
fn assert_only_failure(ran: &Ran, words: &[&str]) {
    assert!(!ran.ok, "it passed");
    let failures = ran.text.lines().filter(|line| line.starts_with("FAIL")).count();
    assert!(
        ran.says(&[&["FAIL"], words].concat()) && failures == 1,
        "expected {words:?} only:\n{}",
        ran.text
    );
}

#[test]
fn a_course_in_order_passes_and_days_not_written_yet_are_skipped() {
    let ran = course().xtask(&["author", "days"]);
    assert!(ran.ok, "{}", ran.text);
    // New, changed, same; lines in src/ without main.rs; all lines.
    assert!(ran.says(&["day2-client", " 3 ", " 3 ", " 6 ", "+2     -0", "+13     -0"]), "{}", ran.text);
    let new = "+ src/client/mod.rs tests/suites/day2_client/calls.rs tests/suites/day2_client/mod.rs";
    assert!(ran.says(&[new]), "{}", ran.text);
    assert!(ran.says(&["~ src/lib.rs tests/suites/main.rs tests/suites/support/mod.rs"]), "{}", ran.text);
    assert!(ran.says(&["note", "day3-service", "skipped"]), "{}", ran.text);
}

#[test]
fn one_day_is_shown_alone() {
    let course = course();
    let ran = course.xtask(&["author", "days", "2"]);
    assert!(ran.ok && ran.says(&["day2-client"]) && !ran.says(&["day1-codec"]), "{}", ran.text);
    let ran = course.xtask(&["author", "days", "3"]);
    assert!(!ran.ok && ran.says(&["day 3 cannot be shown", "does not exist"]), "{}", ran.text);
}

#[test]
fn the_diff_is_the_lesson_without_the_name() {
    let ran = course().xtask(&["diff", "2"]);
    assert!(ran.ok, "{}", ran.text);
    assert!(ran.says(&["+pub mod client;"]) && ran.says(&["+//! The client."]), "{}", ran.text);
    for silent in ["frame.rs", "main.rs", "Cargo.toml", "tests/"] {
        assert!(!ran.text.contains(silent), "{silent} is no part of it:\n{}", ran.text);
    }
}

#[test]
fn it_ends_quietly_when_nobody_reads_on() {
    let course = course();
    for args in [&["author", "days"][..], &["author", "days", "2"], &["diff", "2"]] {
        assert_eq!(course.xtask_unread(args), "", "{args:?}");
    }
}

#[test]
fn a_file_that_the_day_does_not_teach_may_not_differ() {
    let course = course();
    course.write("day2-client/src/wire/codec.rs", "//! As in day2_client, and more.\n");
    assert_only_failure(
        &course.xtask(&["author", "days"]),
        &["day2-client/README.md", "src/wire/codec.rs is changed, but not listed"],
    );
}

#[test]
fn a_file_that_the_readme_does_not_list_may_not_be_new() {
    let course = course();
    course.write("day2-client/src/extra.rs", "");
    assert_only_failure(
        &course.xtask(&["author", "days"]),
        &["day2-client/README.md", "src/extra.rs is new, but not listed"],
    );
}

#[test]
fn a_carried_suite_may_not_differ() {
    let course = course();
    course.write("day2-client/tests/suites/day1_codec/frames.rs", "use day2_client::{Client, Frame};\n");
    assert_only_failure(
        &course.xtask(&["author", "days"]),
        &["day2-client/tests/suites/day1_codec/frames.rs", "carried"],
    );
}

#[test]
fn a_carried_suite_may_not_be_missing() {
    let course = course();
    course.remove("day2-client/tests/suites/day1_codec/frames.rs");
    assert_only_failure(
        &course.xtask(&["author", "days"]),
        &["day2-client/tests/suites/day1_codec/frames.rs", "only add"],
    );
}

#[test]
fn shared_test_helpers_may_not_change() {
    let course = course();
    course.write("day2-client/tests/suites/support/deadline.rs", "pub fn within(_: u8) {}\n");
    assert_only_failure(
        &course.xtask(&["author", "days"]),
        &["day2-client/tests/suites/support/deadline.rs", "carried"],
    );
}

#[test]
fn the_helpers_module_may_only_gain_lines() {
    let course = course();
    course.write("day2-client/tests/suites/support/mod.rs", "pub fn one() {}\n\npub fn three() {}\n");
    assert_only_failure(
        &course.xtask(&["author", "days"]),
        &["day2-client/tests/suites/support/mod.rs", "only gain lines"],
    );
}

#[test]
fn an_excerpt_in_a_chapter_stands_in_the_item_that_it_names() {
    let source = "/// Reads.\nfn read() {\n    one();\n    two();\n}\nfn one() {}\n";
    let cases = [
        ("src/wire/codec.rs, read\n/// Reads.\nfn read() {\n    // …\n    two();", None),
        ("src/wire/codec.rs, read\ntwo();\none();", Some("one();")),
        ("src/wire/codec.rs, read\nthree();", Some("three();")),
        ("src/wire/codec.rs, read\ntwo();\nfn one() {}", Some("fn one() {}")),
        ("src/wire/codec.rs, write\none();", Some("it has no write")),
        ("src/wire/other.rs, read\none();", Some("src/wire/other.rs")),
    ];
    for (excerpt, wrong) in cases {
        let course = course();
        course.write_in(&DAYS, "src/wire/codec.rs", source);
        let rows = "| `src/wire/codec.rs` | new | frames |\n";
        course.write_in(
            &DAYS[..1],
            "README.md",
            &format!("{TABLE}{rows}\n```rust,ignore\n// {excerpt}\n```\n"),
        );
        let days = course.xtask(&["author", "days"]);
        match wrong {
            None => assert!(days.ok, "{excerpt}: {days:?}"),
            Some(wrong) => assert_only_failure(&days, &["day1-codec/README.md", wrong]),
        }
    }
}

#[test]
fn hours_in_a_text_are_the_minutes_of_the_stages() {
    let stages = |core: usize| {
        let stage = |name: &str, minutes: usize| {
            format!("[[stage]]\nday = 1\nname = \"{name}\"\nminutes = {minutes}\nfunctions = []\n")
        };
        stage("frames", core) + &stage("hardening", 65)
    };
    let course = course();
    let chapter = course.read("day1-codec/README.md");
    let cases = [
        (195, "the core takes about 3 hours, all of it 4½.", None),
        (195, "the core takes about 3 hours, all of it 4.", Some("all of it 4½")),
        (215, "the core takes about 3 hours, all of it 4½.", Some("3½ hours, all of it 4½")),
        (245, "", Some("more than 240")),
    ];
    for (core, told, wrong) in cases {
        course.write("xtask/stages.toml", &stages(core));
        course.write("day1-codec/README.md", &format!("{chapter}\n{told}\n"));
        let days = course.xtask(&["author", "days", "1"]);
        match wrong {
            None => assert!(days.ok, "{days:?}"),
            Some(wrong) => assert_only_failure(&days, &["day1-codec/README.md", wrong]),
        }
    }
}

#[test]
fn a_source_file_may_not_go_away() {
    let course = course();
    course.remove("day2-client/src/wire/codec.rs");
    assert_only_failure(&course.xtask(&["author", "days"]), &["day2-client/src/wire/codec.rs", "only add"]);
}

#[test]
fn a_day_stands_on_no_other_crate() {
    let course = course();
    let manifest = course.read("day2-client/Cargo.toml");
    for dependency in [
        "day1-codec = { path = \"../day1-codec\" }",
        "day1-codec.workspace = true",
        "shared.workspace = true",
        "[target.'cfg(unix)'.dev-dependencies]\nother = { path = \"../other\" }",
    ] {
        course.write("Cargo.toml", "[workspace]\n[workspace.dependencies]\nshared = { path = \"shared\" }\n");
        course.write("day2-client/Cargo.toml", &format!("{manifest}{dependency}\n"));
        assert_only_failure(&course.xtask(&["author", "days"]), &["day2-client/Cargo.toml", "another crate"]);
    }
}

#[test]
fn the_readme_says_what_the_diff_says() {
    let course = course();
    let good = "| `src/client/mod.rs` | new | calls |\n";
    for (rows, words) in [
        ("", ["src/client/mod.rs", "not listed"]),
        ("| `src/client/mod.rs` | changed | calls |\n", ["src/client/mod.rs", "but it is new"]),
        (&format!("{good}| `src/wire/codec.rs` | changed | no |\n"), ["src/wire/codec.rs", "the same as"]),
        (
            &format!("{good}| `src/client/in_flight.rs` | new | no |\n"),
            ["src/client/in_flight.rs", "not there"],
        ),
        (&format!("{good}{good}"), ["src/client/mod.rs", "twice"]),
    ] {
        course.write_in(&DAYS[1..], "README.md", &format!("{TABLE}{rows}"));
        assert_only_failure(
            &course.xtask(&["author", "days"]),
            &[&["day2-client/README.md"][..], &words].concat(),
        );
    }
    course.write_in(&DAYS[1..], "README.md", &format!("{TABLE}{good}| `src/lib.rs` | changed | the map |\n"));
    assert!(course.xtask(&["author", "days"]).ok, "lib.rs may be listed");
    course.write_in(&DAYS[1..], "README.md", "# CRATE\n");
    assert_only_failure(&course.xtask(&["author", "days"]), &["day2-client/README.md", "Files of today"]);
}

#[test]
fn the_course_says_how_much_each_day_is() {
    let course = course();
    let table = "| day | idea | files | lines | tests |\n|---|---|---|---|---|\n\
                 | [1: `day1-codec`](x) | a | b | +2 | 0 |\n| [2: `day2-client`](x) | a | b | +2 | 0 |\n";
    course.write("README.md", table);
    let ran = course.xtask(&["author", "days"]);
    assert!(ran.ok, "{}", ran.text);
    for (from, to, words) in [
        ("| +2 | 0 |\n| [2", "| +3 | 0 |\n| [2", ["day1-codec is +2, not +3", ""]),
        ("| 0 |\n| [2", "| 7 |\n| [2", ["day1-codec has 0 tests, not 7", ""]),
        ("| +2 | 0 |\n", "| +2 |\n", ["no row", "day1-codec"]),
    ] {
        course.write("README.md", &table.replacen(from, to, 1));
        assert_only_failure(&course.xtask(&["author", "days"]), &[&["README.md:"][..], &words].concat());
    }
    let stage = "[[stage]]\nday = 1\nname = \"frames\"\nminutes = 100\nfunctions = []\n";
    course.write("xtask/stages.toml", stage);
    course.write("README.md", &format!("{table}\nSome hours: some 2 in\nall; some 2 hours in all.\n"));
    let ran = course.xtask(&["author", "days"]);
    assert!(ran.ok, "{}", ran.text);
    course.write("README.md", &format!("{table}\nsome 3 in all; some 2 hours in all\n"));
    assert_only_failure(&course.xtask(&["author", "days"]), &["README.md:", "\"some 2 in all\""]);
}

#[test]
fn a_file_may_not_be_too_long() {
    let course = course();
    course.write_in(&DAYS, "src/wire/codec.rs", &"//\n".repeat(300));
    assert!(course.xtask(&["author", "days"]).ok);
    course.write("day2-client/src/client/mod.rs", &"//\n".repeat(301));
    assert_only_failure(&course.xtask(&["author", "days"]), &["day2-client/src/client/mod.rs", "301 lines"]);
}

#[test]
fn a_suite_says_what_it_wants_and_where_the_chapter_tells_of_it() {
    let course = course();
    let readme =
        format!("{TABLE}| `src/client/mod.rs` | new | calls |\n\n## The wire\n\n**Frames.** Bytes.\n");
    let stage = "//! Calls.\n//!\n//! In `src/client/mod.rs`: `call`.\n//!\n//! Works then: a call.\n//!\n\
                 //! Chapter: The wire > Frames\n\n/// It is called.\n///\n/// Hint: call it.\n#[test]\nfn a_call() {}\n";
    let client = "pub fn call() {}\npub fn wait() {}\n";
    course.write_in(&DAYS[1..], "src/client/mod.rs", client);
    let asks =
        "[[stage]]\nday = 2\nname = \"calls\"\nminutes = 5\nfunctions = [\"src/client/mod.rs: call\"]\n";
    course.write("xtask/stages.toml", asks);
    let table =
        "| stage | tests | what you write | minutes |\n|---|---|---|---|\n| calls | 1 | `call` | 5 |\n";
    let readme = format!("{readme}\n{table}");
    for (text, words) in [
        (stage.to_owned(), None),
        (stage.replace("> Frames", "> Calls"), Some(["calls.rs:", "no place \"The wire > Calls\""])),
        (stage.replace("Chapter", "Charter"), Some(["calls.rs:", "say what the stage is"])),
        (stage.replace("Works", "It works"), Some(["calls.rs:", "say what works"])),
        (stage.replace("`call`", "`wait`"), Some(["calls.rs:", "`wait`, which no stage so far asks for"])),
        (stage.replace("//! Calls.", "//!"), Some(["calls.rs:", "say what the stage is"])),
        (stage.replace("Hint: call", "Call"), Some(["calls.rs:13:", "say what it wants"])),
        (stage.replace("It is called.", ""), Some(["calls.rs:13:", "say what it wants"])),
        ("fn f( {".to_owned(), Some(["calls.rs", "not Rust"])),
    ] {
        course.write_in(&DAYS[1..], "README.md", &readme);
        course.suite(&DAYS[1..], "day2_client", &[("calls", &text)]);
        let ran = course.xtask(&["author", "days"]);
        match words {
            None => assert!(ran.ok, "{}", ran.text),
            Some(words) => assert_only_failure(&ran, &words),
        }
    }
    course.suite(&DAYS[1..], "day2_client", &[("calls", stage)]);
    course.write_in(&DAYS[1..], "README.md", &readme.replace("| 5 |", "| 10 |"));
    assert_only_failure(&course.xtask(&["author", "days"]), &["README.md", "calls with 1 tests and 5 min"]);
    let story = "\n## What goes wrong without it\n\n* **It is deaf.** `a_call` and `a_call_that_is_lost`\n";
    course.write_in(&DAYS[1..], "README.md", &format!("{readme}{story}"));
    assert_only_failure(&course.xtask(&["author", "days"]), &["README.md", "a_call_that_is_lost"]);
}
