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

    let heal = ran.text.lines().find_map(|line| line.split_once("git ")?.1.strip_suffix("    undoes it"));
    course.git(&heal.unwrap_or_else(|| panic!("{}", ran.text)).split(' ').collect::<Vec<_>>());
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
fn only_the_courses_solution_is_broken_and_it_is_said_how_to_get_it() {
    let course = course();
    let first = course.git(&["rev-parse", "--short", "HEAD"]);
    let restore = format!("git restore --source {} day1-codec", first.trim());
    let lib = "pub mod frame;\n#![allow(unused)] // for the exercise\n";
    for (file, text) in [("frame", "// mine\n"), ("lib", lib)] {
        let file = format!("day1-codec/src/{file}.rs");
        course.write(&file, text);
        for _ in ["not committed", "committed"] {
            let ran = course.xtask(&["lab", "1", "1"]);
            assert!(!ran.ok && ran.says(&["not the course's solution", &restore]), "{}", ran.text);
            assert!(!ran.text.contains("u32") && ran.text.lines().count() == 1, "{}", ran.text);
            assert_eq!(course.read(&file), text);
            course.write("day1-codec/src/lib.rs", lib);
            course.commit();
        }
    }
    // As it says; and one lab at a time.
    course.git(&restore.split(' ').skip(1).collect::<Vec<_>>());
    assert!(course.xtask(&["lab", "1", "1"]).ok);
    let ran = course.xtask(&["lab", "1", "2"]);
    assert!(!ran.ok && ran.says(&["another lab", &restore]), "{}", ran.text);
}

#[test]
fn without_git_there_is_one_clear_sentence() {
    let course = course();
    std::fs::remove_dir_all(course.path(".git")).unwrap();
    let ran = course.xtask(&["lab", "1", "1"]);
    assert!(!ran.ok && ran.says(&["this needs git", "clone it"]), "{}", ran.text);
    assert_eq!(ran.text.lines().count(), 1, "{}", ran.text);
}

#[test]
fn a_lab_that_does_not_fit_changes_nothing() {
    let course = course();
    let ran = course.xtask(&["lab", "1", "3"]);
    assert!(!ran.ok && ran.says(&["2 times"]), "{}", ran.text);
    assert_eq!(course.read("day1-codec/src/frame.rs"), FRAME);
}

#[test]
fn it_ends_quietly_when_nobody_reads_on() {
    let course = course();
    for args in [&["lab", "1"][..], &["lab", "1", "1", "--answer"], &["lab", "1", "1"]] {
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
        (&["lab", "8"], "the days are 1 to 7"),
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
