//! `cargo xtask forward`, in the order in which a change can meet a later day.

mod scratch;

use scratch::Course;

const DAYS: [&str; 3] = ["day1-codec", "day2-client", "day3-service"];
const FRAME: &str = "fn one() {}\n\nfn two() {}\n\nfn three() {}\n\nfn four() {}\n\nfn five() {}\n";

/// Three days with one file that they share, and a suite that all of them carry.
fn course() -> Course {
    let course = Course::new();
    for day in DAYS {
        course.write(&format!("{day}/Cargo.toml"), &format!("[package]\nname = \"{day}\"\n"));
    }
    course.write_in(&DAYS, "README.md", "# CRATE\n");
    course.write_in(&DAYS, "src/main.rs", "fn main() { CRATE::run() }\n");
    course.write_in(&DAYS, "src/frame.rs", FRAME);
    course.write_in(&DAYS, "tests/suites/day1_codec/a.rs", "use CRATE::Frame;\n");
    course.commit();
    course
}

#[test]
fn a_change_is_merged_with_the_later_days_own() {
    let course = course();
    course.write("day3-service/src/frame.rs", &FRAME.replace("five()", "five(day: u8)"));
    course.commit();
    course.write("day1-codec/src/frame.rs", &FRAME.replace("one()", "one(n: u8)"));

    let ran = course.xtask(&["forward", "1"]);
    assert!(ran.ok, "{}", ran.text);
    assert!(ran.says(&["day2-client", "src/frame.rs", "merged"]), "{}", ran.text);
    assert_eq!(course.read("day2-client/src/frame.rs"), course.read("day1-codec/src/frame.rs"));
    let both = FRAME.replace("one()", "one(n: u8)").replace("five()", "five(day: u8)");
    assert_eq!(course.read("day3-service/src/frame.rs"), both);
}

#[test]
fn running_it_twice_changes_nothing() {
    let course = course();
    course.write("day3-service/src/frame.rs", &FRAME.replace("two()", "two(day: u8)"));
    course.commit();
    course.write("day1-codec/src/frame.rs", &FRAME.replace("one()", "one(n: u8)"));
    course.write("day1-codec/src/new.rs", "use day1_codec::New;\n");
    course.remove("day1-codec/tests/suites/day1_codec/a.rs");

    assert!(course.xtask(&["forward", "1"]).ok);
    let merged = course.read("day3-service/src/frame.rs");
    let ran = course.xtask(&["forward", "1"]);
    assert!(ran.ok, "{}", ran.text);
    for file in ["src/frame.rs", "src/new.rs", "tests/suites/day1_codec/a.rs"] {
        assert!(ran.says(&["day3-service", file, "already there"]), "{}", ran.text);
    }
    assert_eq!(course.read("day3-service/src/frame.rs"), merged);
}

/// With lines that are all alike, a plain second merge sees a conflict in one of these and inserts again in
/// the other.
#[test]
fn running_it_twice_is_harmless_where_the_lines_are_alike() {
    for (base, ours, theirs, merged) in [
        ("}\nb\na\n}\n}\n}\n", "}\nb\n}\n}\n", "b\na\n}\n}\nnew\n", "b\n}\nnew\n"),
        ("a\n}\na\n}\n}\nb\n", "a\n}\n}\n}\n}\nb\n", "a\n}\na\n}\n\n}\nb\n", "a\n}\n}\n}\n\n}\nb\n"),
    ] {
        let course = course();
        course.write_in(&DAYS, "src/braces.txt", base);
        course.write("day2-client/src/braces.txt", ours);
        course.commit();
        course.write("day1-codec/src/braces.txt", theirs);
        for _ in 0..2 {
            let ran = course.xtask(&["forward", "1"]);
            assert!(ran.ok, "{}", ran.text);
            assert_eq!(course.read("day2-client/src/braces.txt"), merged);
        }
    }
}

#[test]
fn a_conflict_is_left_with_markers_after_everything_else_is_merged() {
    let course = course();
    course.write("day2-client/src/frame.rs", &FRAME.replace("two()", "two(day: u8)"));
    course.commit();
    course.write("day1-codec/src/frame.rs", &FRAME.replace("two()", "two(n: u8)"));
    course.write("day1-codec/src/zebra.rs", "");

    let ran = course.xtask(&["forward", "1"]);
    assert!(!ran.ok);
    assert!(ran.says(&["CONFLICT", "day2-client/src/frame.rs", "same lines"]), "{}", ran.text);
    assert!(ran.says(&["day2-client", "src/zebra.rs", "new"]), "{}", ran.text);
    assert!(ran.says(&["day3-service", "src/frame.rs", "merged"]), "{}", ran.text);
    let expected = "\
<<<<<<< day2-client
fn two(day: u8) {}
||||||| day1-codec at HEAD
fn two() {}
=======
fn two(n: u8) {}
>>>>>>> day1-codec now
";
    let marked = course.read("day2-client/src/frame.rs");
    assert!(marked.contains(expected), "{marked}");

    // Markers within markers would help nobody.
    let again = course.xtask(&["forward", "1"]);
    assert!(again.says(&["CONFLICT", "day2-client/src/frame.rs", "markers"]), "{}", again.text);
    assert_eq!(course.read("day2-client/src/frame.rs"), marked);
}

#[test]
fn the_crates_name_is_translated_and_a_suites_is_not() {
    let course = course();
    course.write_in(&DAYS[1..], "tests/suites/day2_client/a.rs", "use CRATE::Client;\n");
    course.commit();
    course.write(
        "day2-client/tests/suites/day2_client/a.rs",
        "//! tests/suites/day2_client/a.rs\nuse day2_client::{A, Client};\n",
    );

    let ran = course.xtask(&["forward", "2"]);
    assert!(ran.ok, "{}", ran.text);
    let expected = "//! tests/suites/day2_client/a.rs\nuse day3_service::{A, Client};\n";
    assert_eq!(course.read("day3-service/tests/suites/day2_client/a.rs"), expected);
}

#[test]
fn a_line_that_the_longer_name_makes_too_long_is_laid_out_anew() {
    let course = course();
    let days = ["day5-http", "day6-loadbalance"];
    for day in days {
        course.write(&format!("{day}/Cargo.toml"), &format!("[package]\nname = \"{day}\"\n"));
    }
    let names = "Aaaaaaaaaaaaaaaaaa, Bbbbbbbbbbbbbbbbbbbb, Cccccccccccccccc, Dddddddddddddddd, Eeeeeeeee";
    course.commit();
    let line = format!("use day5_http::{{{names}}};\n");
    assert!(line.len() < 110 && line.len() > 103, "{}", line.len());
    course.write("day5-http/tests/suites/day5_http/a.rs", &line);

    assert!(course.xtask(&["forward", "5"]).ok);
    let expected = format!("use day6_loadbalance::{{\n    {names},\n}};\n");
    assert_eq!(course.read("day6-loadbalance/tests/suites/day5_http/a.rs"), expected);
}

#[test]
fn days_that_are_not_laid_out_yet_are_merged_as_they_are() {
    let course = course();
    course.write_in(&DAYS, "src/rough.rs", "fn main(){CRATE::run()}\n");
    course.commit();
    course.write("day1-codec/src/rough.rs", "fn main(){day1_codec::walk()}\n");

    let ran = course.xtask(&["forward", "1"]);
    assert!(ran.ok, "{}", ran.text);
    assert_eq!(course.read("day3-service/src/rough.rs"), "fn main(){day3_service::walk()}\n");
}

#[test]
fn a_new_file_does_not_overwrite_another_one() {
    let course = course();
    course.write("day2-client/src/new.rs", "fn another() {}\n");
    course.write("day3-service/src/new.rs", "fn new() {}\n");
    course.write("day1-codec/src/new.rs", "fn new() {}\n");

    let ran = course.xtask(&["forward", "1"]);
    assert!(!ran.ok);
    assert!(ran.says(&["CONFLICT", "day2-client/src/new.rs", "new in both days"]), "{}", ran.text);
    assert!(ran.says(&["day3-service", "src/new.rs", "already there"]), "{}", ran.text);
    assert!(course.read("day2-client/src/new.rs").contains("fn another() {}\n"));
}

#[test]
fn a_deleted_file_goes_unless_a_later_day_has_changed_it() {
    let course = course();
    course.write("day3-service/src/frame.rs", "fn another() {}\n");
    course.commit();
    course.remove("day1-codec/src/frame.rs");

    let ran = course.xtask(&["forward", "1"]);
    assert!(!ran.ok);
    assert!(ran.says(&["day2-client", "src/frame.rs", "deleted"]), "{}", ran.text);
    assert!(!course.path("day2-client/src/frame.rs").exists());
    assert!(ran.says(&["CONFLICT", "day3-service/src/frame.rs", "deleted"]), "{}", ran.text);
    assert_eq!(course.read("day3-service/src/frame.rs"), "fn another() {}\n");
}

#[test]
fn chapter_and_demo_stay_behind_unless_asked_for() {
    let course = course();
    course.write("day1-codec/src/main.rs", "fn main() { day1_codec::walk() }\n");
    let ran = course.xtask(&["forward", "1"]);
    assert!(ran.ok && ran.says(&["nothing has changed"]), "{}", ran.text);

    assert!(course.xtask(&["forward", "1", "--all"]).ok);
    assert!(course.read("day3-service/src/main.rs").contains("day3_service::walk()"));
}

#[test]
fn a_committed_change_is_carried_from_an_older_base() {
    let course = course();
    course.write("day1-codec/src/frame.rs", &FRAME.replace("one()", "one(n: u8)"));
    course.commit();
    assert!(course.xtask(&["forward", "1"]).says(&["nothing has changed"]));

    assert!(course.xtask(&["forward", "1", "--base", "HEAD~1"]).ok);
    assert!(course.read("day3-service/src/frame.rs").contains("one(n: u8)"));
}

#[test]
fn a_second_change_to_the_same_lines_is_carried_from_a_snapshot_of_the_index() {
    let course = course();
    course.write("day1-codec/src/frame.rs", &FRAME.replace("one()", "one(n: u8)"));
    assert!(course.xtask(&["forward", "1"]).ok);
    course.git(&["add", "--all"]);
    let snapshot = course.git(&["write-tree"]);

    course.write("day1-codec/src/frame.rs", &FRAME.replace("one()", "one(n: u16)"));
    assert!(course.xtask(&["forward", "1", "--base", snapshot.trim()]).ok);
    assert!(course.read("day3-service/src/frame.rs").contains("one(n: u16)"));
}

#[test]
fn what_cannot_be_is_refused_in_words() {
    let course = course();
    for (args, words) in [
        (&["forward", "7"][..], &["7", "1..=6"][..]),
        (&["forward", "0"], &["0", "1..=6"]),
        (&["forward", "5"], &["day 5 does not exist", "day5-http"]),
        (&["forward", "1", "--base", "nowhere"], &["no such revision", "nowhere"]),
    ] {
        let ran = course.xtask(args);
        assert!(!ran.ok && ran.says(words), "{args:?}: {}", ran.text);
    }
}
