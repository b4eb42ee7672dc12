//! `cargo xtask exercise`: what a learner gets, and when they get nothing.

mod scratch;

use scratch::{Course, Ran};

const DAYS: [&str; 2] = ["day1-codec", "day2-client"];

const FRAME: &str = "\
//! Frames, as in CRATE.

pub fn read(len: usize) -> usize {
    len // yesterday's
}

pub fn same() -> &'static str {
    \"CRATE\"
}
";

const CLIENT: &str = "\
//! Calls.

/// Calls.
pub fn call() -> usize {
    crate::frame::read(2)
}
";

/// Two days. The second adds `client.rs`, whose chapter comes first, and changes one function in `frame.rs`.
fn course() -> Course {
    let course = Course::new();
    for day in DAYS {
        course.write(&format!("{day}/Cargo.toml"), &format!("[package]\nname = \"{day}\"\n"));
        course.write(&format!("{day}/src/main.rs"), "fn main() {\n    println!();\n}\n");
    }
    course.write_in(&DAYS, "src/frame.rs", FRAME);
    course.write("day1-codec/src/lib.rs", "//! Day 1.\n\npub mod frame;\n");
    course.write("day2-client/src/lib.rs", "//! Day 2.\n\npub mod client;\npub mod frame;\n");
    let frame = FRAME.replace("yesterday's", "today's").replace("CRATE", "day2_client");
    course.write("day2-client/src/frame.rs", &frame);
    course.write("day2-client/src/client.rs", CLIENT);
    let rows = "| `src/client.rs` | new | |\n| `src/frame.rs` | changed | |\n";
    let table = format!("## Files of today\n\n| file | | |\n|---|---|---|\n{rows}");
    course.write("day2-client/README.md", &table);
    course.commit();
    course
}

#[track_caller]
fn assert_refused(course: &Course, args: &[&str], words: &[&str]) {
    let before = course.git(&["status", "--porcelain"]);
    let ran = course.xtask(&[&["exercise"], args].concat());
    assert!(!ran.ok && ran.says(words), "expected {words:?}:\n{}", ran.text);
    assert_eq!(course.git(&["status", "--porcelain"]), before, "it changed something");
}

fn exercise(course: &Course, args: &[&str]) -> Ran {
    let ran = course.xtask(&[&["exercise"], args].concat());
    assert!(ran.ok, "{}", ran.text);
    ran
}

#[test]
fn what_is_new_or_changed_is_to_be_written_and_the_rest_stays() {
    let course = course();
    let ran = exercise(&course, &["2"]);
    let client = CLIENT.replace("crate::frame::read(2)", "todo!(\"day 2: call\")");
    assert_eq!(course.read("day2-client/src/client.rs"), client);
    let frame = FRAME.replace("len // yesterday's", "todo!(\"day 2: read\")");
    assert_eq!(course.read("day2-client/src/frame.rs"), frame.replace("CRATE", "day2_client"));
    assert!(
        course.read("day2-client/src/lib.rs").contains("//! Day 2.\n#![allow(unused)] // for the exercise")
    );
    assert_eq!(
        course.git(&["status", "--porcelain"]),
        " M day2-client/src/client.rs\n M day2-client/src/frame.rs\n M day2-client/src/lib.rs\n"
    );

    // The files in the order of the chapter, and what comes next.
    assert!(ran.says(&["day2-client", "2 functions", "2 files"]), "{}", ran.text);
    let (client, frame) =
        (ran.text.find("src/client.rs: 1\n    call\n"), ran.text.find("src/frame.rs: 1\n    ~read\n"));
    assert!(client.is_some() && client < frame, "{}", ran.text);
    assert!(ran.says(&["~", "day1-codec/src"]) && ran.says(&["cargo xtask check 2"]), "{}", ran.text);
}

#[test]
fn on_the_first_day_everything_is_new() {
    let course = course();
    let ran = exercise(&course, &["1"]);
    assert!(ran.says(&["2 functions", "1 file."]) && ran.says(&["read same"]), "{}", ran.text);
    assert!(!ran.says(&["~"]), "{}", ran.text);
}

#[test]
fn git_shows_the_solution_and_gives_it_back() {
    let course = course();
    let ran = exercise(&course, &["2"]);
    assert!(ran.says(&["git diff -R day2-client/src/client.rs"]), "{}", ran.text);
    let diff = course.git(&["diff", "-R", "day2-client/src/client.rs"]);
    assert!(diff.contains("\n-    todo!(\"day 2: call\")\n+    crate::frame::read(2)\n"), "{diff}");

    assert!(ran.says(&["git restore day2-client"]), "{}", ran.text);
    course.git(&["restore", "day2-client"]);
    assert_eq!(course.git(&["status", "--porcelain"]), "");

    // Also after a commit, with the revision that was told.
    let ran = exercise(&course, &["2"]);
    let told = ran.text.split("git restore --source ").nth(1).unwrap().lines().next().unwrap();
    course.commit();
    course.git(&[&["restore", "--source"], &told.split(' ').collect::<Vec<_>>()[..]].concat());
    assert_eq!(course.read("day2-client/src/client.rs"), CLIENT);
}

#[test]
fn a_day_can_be_done_file_by_file() {
    for name in ["client.rs", "src/client.rs"] {
        let course = course();
        let ran = exercise(&course, &["2", "--only", name]);
        assert!(ran.says(&["1 function ", "1 file."]) && !ran.says(&["frame.rs"]), "{}", ran.text);
        assert!(course.read("day2-client/src/client.rs").contains("todo!"));
        assert!(!course.read("day2-client/src/frame.rs").contains("todo!"));
    }
    let all = "client.rs, frame.rs";
    assert_refused(&course(), &["2", "--only", "no.rs"], &["day2-client/src/no.rs is not there", all]);
    assert_refused(&course(), &["2", "--only", "lib.rs"], &["is given", all]);
}

#[test]
fn a_learners_own_yesterday_is_no_news_of_today() {
    let course = course();
    exercise(&course, &["1"]);
    let of_course = |ran: &Ran| ran.says(&["    ~read"]) && !ran.text.contains("same");
    let ran = exercise(&course, &["2"]);
    assert!(of_course(&ran), "uncommitted:\n{}", ran.text);
    course.git(&["restore", "day2-client"]);

    // Committed, in a branch of what was cloned.
    course.git(&["branch", "course"]);
    course.git(&["branch", "--quiet", "--set-upstream-to=course"]);
    course.commit();
    let ran = exercise(&course, &["2"]);
    assert!(of_course(&ran), "committed:\n{}", ran.text);
}

#[test]
fn work_that_git_does_not_hold_is_never_overwritten() {
    let course = course();
    course.write("day2-client/src/client.rs", "// mine\n");
    assert_refused(&course, &["2"], &[" M day2-client/src/client.rs"]);
    course.git(&["add", "--all"]);
    assert_refused(&course, &["2"], &["M  day2-client/src/client.rs"]);
    assert_refused(&course, &["2", "--only", "frame.rs"], &["uncommitted work"]);
    course.git(&["restore", "--staged", "--worktree", "day2-client"]);
    course.write("day2-client/src/mine.rs", "// mine\n");
    assert_refused(&course, &["2"], &["?? day2-client/src/mine.rs"]);
    // Another day's is no hindrance.
    exercise(&course, &["1"]);

    course.remove("day2-client/src/mine.rs");
    course.write(".gitignore", "mine.rs\n");
    course.write("day2-client/src/mine.rs", "// mine\n");
    assert_refused(&course, &["2"], &["git does not know day2-client/src/mine.rs"]);
}

#[test]
fn without_git_or_a_commit_there_is_no_answer_key() {
    let course = course();
    std::fs::remove_dir_all(course.path(".git")).unwrap();
    let ran = course.xtask(&["exercise", "2"]);
    assert!(!ran.ok && ran.says(&["must be a git repository"]), "{}", ran.text);
    course.git(&["init", "--quiet"]);
    let ran = course.xtask(&["exercise", "2"]);
    assert!(!ran.ok && ran.says(&["must be a git repository", "with a commit"]), "{}", ran.text);
    assert_eq!(course.read("day2-client/src/client.rs"), CLIENT);
}

#[test]
fn a_day_that_is_not_there_or_is_done_is_no_exercise() {
    let course = course();
    assert_refused(&course, &["3"], &["day 3 does not exist"]);
    assert_refused(&course, &["8"], &["8"]);
    course.remove("day2-client/src/client.rs");
    course.write("day2-client/src/frame.rs", &FRAME.replace("CRATE", "day2_client"));
    course.commit();
    assert_refused(&course, &["2"], &["day 2", "no function that is new or changed"]);
}
