//! `cargo xtask author prove`: a course in order, and then each thing that can be wrong with an exercise or a lab.

mod scratch;

use scratch::Course;

const MANIFEST: &str = "[package]\nname = \"CRATE\"\nversion = \"0.1.0\"\nedition = \"2024\"\n";

const FRAME: &str = "\
//! Frames.

/// The longest frame.
pub const LIMIT: usize = 3;

/// Whether a frame of this length is allowed.
pub fn is_allowed(len: usize) -> bool {
    if len <= LIMIT {
        return true;
    }
    false
}
";

const CLIENT: &str = "\
//! Calls.

/// Twice as much.
pub fn double(number: u8) -> u8 {
    let once = number;
    let twice = once.saturating_mul(2);
    twice
}
";

const FRAME_SUITE: &str = "\
use CRATE::frame::is_allowed;

#[test]
fn three_is_allowed() {
    assert!(is_allowed(3));
}

#[test]
fn four_is_not_allowed() {
    assert!(!is_allowed(4));
}
";

const CLIENT_SUITE: &str = "\
use CRATE::client::double;

#[test]
fn two_becomes_four() {
    assert_eq!(double(2), 4);
}
";

/// Two days without dependencies, and a lab or two for each.
fn course() -> Course {
    let course = Course::new();
    let days = ["day1-codec", "day2-client"];
    course
        .write("Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"day1-codec\", \"day2-client\"]\n");
    for day in days {
        course.write(&format!("{day}/Cargo.toml"), &MANIFEST.replace("CRATE", day));
    }
    course.write_in(&days, "src/frame.rs", FRAME);
    course.write_in(&days, "src/main.rs", "fn main() {\n    println!(\"{}\", CRATE::frame::LIMIT);\n}\n");
    course.suite(&days, "day1_codec", &[("frames", FRAME_SUITE)]);
    course.write("day1-codec/src/lib.rs", "//! Day 1.\n\npub mod frame;\n");
    course.write("day2-client/src/lib.rs", "//! Day 2.\n\npub mod client;\npub mod frame;\n");
    course.write("day2-client/src/client.rs", CLIENT);
    course.suite(&days[1..], "day2_client", &[("calls", CLIENT_SUITE)]);
    let limit = lab("src/frame.rs", "usize = 3", "usize = 4", "four_is_not_allowed");
    let less = lab("src/frame.rs", "len <= LIMIT", "len < LIMIT", "three_is_allowed");
    course.write("xtask/labs/day1.toml", &format!("{limit}{less}"));
    course.write("xtask/labs/day2.toml", &lab("src/client.rs", "(2)", "(3)", "two_becomes_four"));
    course
}

fn lab(file: &str, find: &str, replace: &str, test: &str) -> String {
    format!(
        "[[lab]]\ntitle = \"{replace}\"\nfile = \"{file}\"\nfind = \"{find}\"\nreplace = \"{replace}\"\n\
         test = \"{test}\"\nwhy = \"why\"\n"
    )
}

#[test]
fn a_course_in_order_is_proved_and_left_as_it_is() {
    let course = course();
    course.write(".gitignore", "target\nCargo.lock\n");
    let ran = course.xtask(&["author", "prove", "--write-stages"]);
    assert!(ran.ok && ran.says(&["The stages are written"]), "{}", ran.text);
    let stages = course.read("xtask/stages.toml");
    let frames = "[[stage]]\nday = 1\nname = \"frames\"\nminutes = 10\nfunctions = [\n    \"src/frame.rs: is_allowed\",\n]\n";
    let calls = "[[stage]]\nday = 2\nname = \"calls\"\nminutes = 5\nfunctions = [\n    \"src/client.rs: double\",\n]\n";
    assert!(stages.starts_with('#') && stages.contains(&format!("\n{frames}\n{calls}")), "{stages}");
    course.commit();
    // Twice, as what the first run has built must not be taken for something else by the second.
    for _ in 0..2 {
        let ran = course.xtask(&["author", "prove"]);
        assert!(ran.ok && ran.says(&["Every exercise", "every lab"]), "{}", ran.text);
        // Own tests, failing; earlier tests, failing; hung; labs, caught.
        let row = |day: &str| {
            let row = ran.text.lines().find(|line| line.trim_start().starts_with(day)).unwrap_or_default();
            row.split_whitespace().take(8).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(row("1 "), "1 2 2 0 0 0 2 2", "{}", ran.text);
        assert_eq!(row("2 "), "2 1 1 0 0 0 1 1", "{}", ran.text);
    }
    assert_eq!(course.git(&["status", "--porcelain"]), "");

    // Where day 2 changes a file of day 1, the suite of day 1 is run on it, too.
    course
        .write("day2-client/src/frame.rs", &format!("{FRAME}\n/// Of day 2.\npub const MORE: usize = 4;\n"));
    let ran = course.xtask(&["author", "prove", "--day", "2"]);
    assert!(ran.ok && ran.says(&["  2      1         1      2         0"]), "{}", ran.text);

    // A day that is not in the table, and one that is wrong there.
    course.write("xtask/stages.toml", &frames.replace("is_allowed", "gone"));
    let ran = course.xtask(&["author", "prove"]);
    assert!(!ran.ok && ran.says(&["FAIL day 1", "out of date: stage frames", "--day 1"]), "{}", ran.text);
    assert!(ran.says(&["FAIL day 2", "not in it", "prove --write-stages --day 2"]), "{}", ran.text);
}

#[test]
fn a_test_may_pass_only_if_it_needs_nothing_that_is_to_be_written() {
    let course = course();
    let lucky = "#[test]\nfn free() {\n    assert_eq!(CRATE::frame::LIMIT, 3);\n}\n\n\
                 #[test]\nfn lucky() {\n    std::panic::catch_unwind(|| CRATE::client::double(2)).ok();\n}\n";
    course.suite(&["day2-client"], "day2_client", &[("calls", lucky)]);
    course.write("xtask/labs/day2.toml", &lab("src/client.rs", "(2)", "(3)", "lucky"));
    assert!(course.xtask(&["author", "prove", "--write-stages"]).ok);
    let ran = course.xtask(&["author", "prove", "--day", "2"]);
    let lucky = "day2_client::calls::lucky";
    assert!(!ran.ok && ran.says(&["FAIL day2-client", lucky, "it passes although"]), "{}", ran.text);
    // Nor may all of a stage, when it alone is the exercise.
    assert!(ran.says(&["FAIL day2-client, stage calls alone: all of its tests pass"]), "{}", ran.text);
    assert!(ran.says(&["FAIL day 2, lab 1", lucky, "passes"]) && ran.says(&["3 failures"]), "{}", ran.text);
}

#[test]
fn an_exercise_that_does_not_compile_is_told_and_the_others_are_proved() {
    let course = course();
    // It needs the import of a trait that only the body names.
    let client = "use std::ops::Mul;\n\n/// Twice as much.\npub fn double(number: u8) -> u8 {\n    let two: u8 = 2;\n    \
                  let by = <u8 as Mul>::mul;\n    by(number, two)\n}\n\n/// So much.\npub fn same(number: u8) -> u8 {\n    number.mul(1)\n}\n";
    course.write("day2-client/src/client.rs", client);
    course.write("xtask/labs/day2.toml", &lab("src/client.rs", "u8 = 2", "u8 = 3", "two_becomes_four"));
    assert!(course.xtask(&["author", "prove", "--write-stages"]).ok);
    let ran = course.xtask(&["author", "prove"]);
    let told = ["FAIL one of these exercises does not compile without warnings", "day2-client"];
    assert!(!ran.ok && ran.says(&told) && ran.says(&["day2-client, stage calls alone"]), "{}", ran.text);
    assert!(ran.says(&["number.mul(1)"]) && ran.says(&["2 failures"]), "{}", ran.text);
}

#[test]
fn a_lab_that_is_not_caught_does_not_fit_or_does_not_compile_is_told() {
    let course = course();
    assert!(course.xtask(&["author", "prove", "--write-stages", "--day", "2"]).ok);
    let labs = [
        lab("src/client.rs", "(2)", "(2 + 0)", "two_becomes_four"),
        lab("src/client.rs", "(9)", "(8)", "two_becomes_four"),
        lab("src/client.rs", "number: u8", "number: u16", "two_becomes_four"),
        lab("src/client.rs", "(2)", "(3)", "no_such_test"),
        lab("src/no.rs", "(2)", "(3)", "two_becomes_four"),
    ];
    course.write("xtask/labs/day2.toml", &labs.concat());
    let ran = course.xtask(&["author", "prove", "--day", "2"]);
    assert!(!ran.ok && ran.says(&["5 failures"]), "{}", ran.text);
    for words in [
        ["FAIL day 2, lab 1", "two_becomes_four passes"],
        ["FAIL day 2, lab 2", "not in src/client.rs"],
        ["FAIL day 2, lab 3", "does not compile"],
        ["FAIL day 2, lab 4", "no test no_such_test"],
        ["FAIL day 2, lab 5", "has no src/no.rs"],
    ] {
        assert!(ran.says(&words), "{words:?}\n{}", ran.text);
    }
    assert!(!ran.says(&["day1"]), "{}", ran.text);

    // One that is built with all others; rustc shows which of them it is.
    course.write("xtask/labs/day2.toml", &lab("src/client.rs", "(2)", "(two)", "two_becomes_four"));
    let ran = course.xtask(&["author", "prove", "--day", "2"]);
    assert!(!ran.ok && ran.says(&["FAIL day2-client", "does not compile with its labs"]), "{}", ran.text);
    assert!(ran.says(&["once.saturating_mul(two)"]) && ran.says(&["1 failure"]), "{}", ran.text);
}

#[test]
fn a_day_without_labs_is_told() {
    let course = course();
    assert!(course.xtask(&["author", "prove", "--write-stages"]).ok);
    course.remove("xtask/labs/day2.toml");
    let ran = course.xtask(&["author", "prove"]);
    assert!(!ran.ok && ran.says(&["FAIL", "day 2 has no labs"]), "{}", ran.text);
    assert!(ran.says(&["1 failure"]), "{}", ran.text);
}
