//! `cargo xtask lab`: one defect goes in, is explained, and comes out again.

mod scratch;

use scratch::Course;

const FRAME: &str = "fn write() {\n    put_u32(len);\n}\n\nfn read() {\n    get_u32();\n}\n";
const LABS: &str = r#"
[[lab]]
title = "The length is sent lowest byte first"
file = "src/frame.rs"
find = '''
    put_u32(len);
'''
replace = '''
    put_u32_le(len);
'''
test = "a_frame_is_its_length"
why = """
It begins with its lowest byte."""

[[lab]]
title = "The length is not read"
file = "src/frame.rs"
find = "get_u32()"
replace = "()"
test = "frames_arrive_whole"
why = "The length is taken for the payload."

[[lab]]
title = "This one has come loose"
file = "src/frame.rs"
find = "u32"
replace = "u64"
test = "frames_arrive_whole"
why = "-"
"#;

/// Day 1 with one file, committed, and three labs.
fn course() -> Course {
    let course = Course::new();
    course.write("day1-codec/Cargo.toml", "[package]\nname = \"day1-codec\"\n");
    course.write("day1-codec/src/frame.rs", FRAME);
    course.write("day1-codec/src/lib.rs", "pub mod frame;\n");
    course.suite(&["day1-codec"], "day1_codec", &[("frames", "#[test]\nfn a_frame_is_its_length() {}\n")]);
    course.write("xtask/labs/day1.toml", LABS);
    course.commit();
    course
}

#[test]
fn the_list_does_not_give_the_answer_away() {
    let course = course();
    let ran = course.xtask(&["lab", "1"]);
    assert!(ran.ok && ran.says(&["1", "The length is sent lowest byte first"]), "{}", ran.text);
    assert!(ran.says(&["2", "The length is not read"]), "{}", ran.text);
    assert!(!ran.text.contains("a_frame_is_its_length"), "{}", ran.text);
    assert_eq!(course.read("day1-codec/src/frame.rs"), FRAME);
}

#[test]
fn a_lab_is_put_in_and_asks_and_git_takes_it_out() {
    let course = course();
    let ran = course.xtask(&["lab", "1", "1"]);
    assert!(ran.ok && ran.says(&["day1-codec/src/frame.rs:2"]), "{}", ran.text);
    assert!(
        ran.says(&["-", "    put_u32(len);"]) && ran.says(&["+", "    put_u32_le(len);"]),
        "{}",
        ran.text
    );
    assert!(!ran.text.contains("get_u32"), "only what has changed:\n{}", ran.text);
    assert!(ran.says(&["Which test will fail, and why?"]), "{}", ran.text);
    assert!(ran.says(&["cargo test -p day1-codec --test suites day1_codec"]), "{}", ran.text);
    assert!(!ran.text.contains("a_frame_is_its_length") && !ran.text.contains("note:"), "{}", ran.text);
    assert_eq!(course.read("day1-codec/src/frame.rs"), FRAME.replace("put_u32", "put_u32_le"));

    assert!(ran.says(&["git restore day1-codec/src/frame.rs"]), "{}", ran.text);
    course.git(&["restore", "day1-codec/src/frame.rs"]);
    assert_eq!(course.read("day1-codec/src/frame.rs"), FRAME);
}

#[test]
fn the_answer_names_the_test_and_the_reason_and_changes_nothing() {
    let course = course();
    let ran = course.xtask(&["lab", "1", "1", "--answer"]);
    assert!(ran.ok && ran.says(&["a_frame_is_its_length fails"]), "{}", ran.text);
    assert!(ran.says(&["day1-codec/tests/suites/day1_codec/frames.rs:2"]), "{}", ran.text);
    assert!(
        ran.says(&["--test suites -- --exact day1_codec::frames::a_frame_is_its_length"]),
        "{}",
        ran.text
    );
    assert!(ran.says(&["It begins with its lowest byte."]), "{}", ran.text);
    assert_eq!(course.read("day1-codec/src/frame.rs"), FRAME);
}

#[test]
fn work_that_is_not_committed_is_not_touched() {
    let course = course();
    course.write("day1-codec/src/frame.rs", "// mine\n");
    let ran = course.xtask(&["lab", "1", "1"]);
    assert!(!ran.ok && ran.says(&["day1-codec/src/frame.rs", "not committed"]), "{}", ran.text);
    assert!(ran.says(&["git restore day1-codec/src/frame.rs"]), "{}", ran.text);
    assert_eq!(course.read("day1-codec/src/frame.rs"), "// mine\n");

    course.git(&["restore", "."]);
    course.write("day1-codec/src/lib.rs", "");
    let ran = course.xtask(&["lab", "1", "1"]);
    assert!(
        ran.ok && ran.says(&["note:", "not committed"]) && ran.says(&["M", "src/lib.rs"]),
        "{}",
        ran.text
    );
}

#[test]
fn a_lab_that_does_not_fit_changes_nothing() {
    let course = course();
    let ran = course.xtask(&["lab", "1", "3"]);
    assert!(
        !ran.ok && ran.says(&["lab 3 of day 1", "does not fit"]) && ran.says(&["2 times"]),
        "{}",
        ran.text
    );
    assert_eq!(course.read("day1-codec/src/frame.rs"), FRAME);

    course.write("day1-codec/src/frame.rs", "");
    course.commit();
    let ran = course.xtask(&["lab", "1", "1"]);
    assert!(!ran.ok && ran.says(&["lab 1 of day 1", "not the course's solution"]), "{}", ran.text);
    assert!(ran.says(&["git log --oneline -- day1-codec"]), "{}", ran.text);

    // As it says.
    let first = course.git(&["rev-list", "--max-parents=0", "HEAD"]);
    course.git(&["restore", "--source", first.trim(), "day1-codec"]);
    course.commit();
    assert!(course.xtask(&["lab", "1", "1"]).ok);
}

#[test]
fn it_ends_quietly_when_nobody_reads_on() {
    let course = course();
    for args in [&["lab", "1"][..], &["lab", "1", "1"], &["lab", "1", "1", "--answer"]] {
        assert_eq!(course.xtask_unread(args), "", "{args:?}");
    }
}

#[test]
fn a_bad_number_is_told_what_is_accepted() {
    let course = course();
    for (args, words) in [
        (&["lab", "1", "4"][..], "there are 1 to 3"),
        (&["lab", "1", "0"], "there are 1 to 3"),
        (&["lab", "1", "4", "--answer"], "there are 1 to 3"),
        (&["lab", "8"], "1..=7"),
        (&["lab", "2"], "xtask/labs/day2.toml"),
        (&["lab", "1", "--answer"], "<LAB>"),
    ] {
        let ran = course.xtask(args);
        assert!(!ran.ok && ran.text.contains(words), "{args:?}: {}", ran.text);
    }
}

#[test]
fn data_with_a_typing_error_is_told_where() {
    let course = course();
    course.write("xtask/labs/day1.toml", &LABS.replacen("replace", "replaced", 1));
    let ran = course.xtask(&["lab", "1"]);
    assert!(!ran.ok && ran.says(&["xtask/labs/day1.toml"]) && ran.text.contains("replaced"), "{}", ran.text);
}
