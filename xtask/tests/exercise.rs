//! `cargo xtask exercise`: what a learner gets, and when they get nothing.

mod scratch;

use scratch::{Course, Ran};

const DAYS: [&str; 2] = ["day1-codec", "day2-client"];

const FRAME: &str = "\
//! Frames, as in CRATE.

pub fn read(len: usize) -> usize {
    let twice = 2 * len;
    let half = twice / 2;
    half
}

pub fn same() -> &'static str {
    let name = \"CRATE\";
    let name = name.trim();
    name
}

pub fn short() -> usize {
    // One or two lines are given.
    2
}
";

const CLIENT: &str = "\
//! Calls.

/// Calls.
pub fn call() -> usize {
    let len = crate::frame::read(2);
    let len = len.max(1);
    len
}

/// Calls a hundred times.
pub fn flood() -> usize {
    let calls = (0..100).map(|_| call());
    let sum = calls.sum();
    sum
}
";

const CALL: &str = "    let len = crate::frame::read(2);\n    let len = len.max(1);\n    len\n";
const FLOOD: &str = "    let calls = (0..100).map(|_| call());\n    let sum = calls.sum();\n    sum\n";

const STAGES: &str = r#"
[[stage]]
day = 2
name = "frames"
minutes = 15
functions = ["src/frame.rs: read"]

[[stage]]
day = 2
name = "calls"
minutes = 50
functions = ["src/client.rs: call"]

[[stage]]
day = 2
name = "hardening_floods"
minutes = 30
functions = ["src/client.rs: flood"]
"#;

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
    let today = "    let half = twice / 4;\n    let half = half * 2;\n    let half = half.max(1);\n";
    let frame = FRAME.replace("    let half = twice / 2;\n", today).replace("CRATE", "day2_client");
    // A change of one line is given.
    let frame = frame.replace("name.trim()", "name.trim_end()");
    course.write("day2-client/src/frame.rs", &frame);
    course.write("day2-client/src/client.rs", CLIENT);
    let rows = "| `src/client.rs` | new | |\n| `src/frame.rs` | changed | |\n";
    let table = format!("## Files of today\n\n| file | | |\n|---|---|---|\n{rows}");
    course.write("day2-client/README.md", &table);
    course.write("xtask/stages.toml", STAGES);
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

/// These functions of a text are to be written.
fn without(text: &str, functions: &[(&str, &str)]) -> String {
    functions.iter().fold(text.to_owned(), |text, (body, name)| {
        assert!(text.contains(body), "{body} is not in\n{text}");
        text.replacen(body, &format!("    todo!(\"day 2: {name}\")\n"), 1)
    })
}

#[test]
fn the_core_is_to_be_written_and_the_rest_is_given() {
    let course = course();
    let ran = exercise(&course, &["2"]);
    assert_eq!(course.read("day2-client/src/client.rs"), without(CLIENT, &[(CALL, "call")]));
    let frame = course.read("day2-client/src/frame.rs");
    let read = "\
pub fn read(len: usize) -> usize {
    // Yesterday's body. Today the lines with a `-` are wrong, and about 3 lines are missing:
    //
    //     let twice = 2 * len;
    // -   let half = twice / 2;
    //     half
    todo!(\"day 2: read\")
}

pub fn same() -> &'static str {
    let name";
    assert!(frame.contains(read), "{frame}");
    assert!(frame.contains("are given.\n    2\n"), "{frame}");
    let lib = course.read("day2-client/src/lib.rs");
    assert!(lib.contains("//! Day 2.\n#![allow(unused)] // for the exercise"), "{lib}");
    assert_eq!(
        course.git(&["status", "--porcelain"]),
        " M day2-client/src/client.rs\n M day2-client/src/frame.rs\n M day2-client/src/lib.rs\n"
    );

    // The stages with their functions and minutes, and what comes next.
    assert!(ran.says(&["day2-client", "2 functions", "about 1 h 5 min"]), "{}", ran.text);
    assert!(ran.says(&["Stage 1  frames: 1 function, about 15 min"]), "{}", ran.text);
    assert!(ran.says(&["src/frame.rs", " ~read"]) && ran.says(&["src/client.rs", "  call"]), "{}", ran.text);
    assert!(ran.says(&["cargo xtask check 2 "]) && ran.says(&["exercise 2 --all"]), "{}", ran.text);
    assert!(!ran.text.contains("flood"), "{}", ran.text);
}

#[test]
fn a_day_can_be_done_whole_or_stage_by_stage() {
    let course = course();
    let ran = exercise(&course, &["2", "--all"]);
    assert!(ran.says(&["3 functions"]) && ran.says(&["Stage 3  hardening_floods"]), "{}", ran.text);
    let both = without(CLIENT, &[(CALL, "call"), (FLOOD, "flood")]);
    assert_eq!(course.read("day2-client/src/client.rs"), both);

    // The next one begins from the solution again, whatever the learner has committed.
    course.commit();
    let ran = exercise(&course, &["2", "--stage", "hardening_floods"]);
    assert!(ran.says(&["1 function,"]) && ran.says(&["check 2 hardening_floods"]), "{}", ran.text);
    assert_eq!(course.read("day2-client/src/client.rs"), without(CLIENT, &[(FLOOD, "flood")]));
    assert!(!course.read("day2-client/src/frame.rs").contains("todo!"));

    course.commit();
    assert_refused(&course, &["2", "--stage", "no"], &["stages are frames, calls, hardening_floods"]);
    assert_refused(&course, &["2", "--stage", "cals"], &["no stage cals; do you mean calls?"]);
    assert_refused(&course, &["2", "--stage", "calls", "--all"], &["--stage"]);
}

#[test]
fn what_is_given_is_an_exercise_only_in_the_stage_that_it_is_given_until() {
    let course = course();
    let given = "[[given]]\nday = 2\nstage = \"hardening_floods\"\nfunctions = [\"src/client.rs: flood\"]\n";
    course.write("xtask/stages.toml", &format!("{given}{STAGES}"));
    course.commit();
    let ran = exercise(&course, &["2", "--all"]);
    assert!(ran.says(&["2 functions"]) && ran.says(&["hardening_floods: nothing to write"]), "{}", ran.text);
    course.commit();
    let ran = exercise(&course, &["2", "--stage", "hardening_floods"]);
    assert!(ran.says(&["1 function,"]), "{}", ran.text);
    assert_eq!(course.read("day2-client/src/client.rs"), without(CLIENT, &[(FLOOD, "flood")]));
}

#[test]
fn a_day_that_is_not_in_the_table_is_one_stage() {
    let course = course();
    let ran = exercise(&course, &["1"]);
    assert!(ran.says(&["2 functions", "about 10 min"]) && ran.says(&["  same"]), "{}", ran.text);
    assert!(!ran.says(&["~"]), "{}", ran.text);
    course.commit();
    assert_refused(&course, &["1", "--stage", "frames"], &["no stage frames"]);
}

#[test]
fn git_shows_the_solution_and_gives_it_back_also_after_commits() {
    let course = course();
    let first = course.git(&["rev-parse", "--short", "HEAD"]);
    let first = first.trim();
    let ran = exercise(&course, &["2"]);
    let compare = format!("git diff -R {first} day2-client");
    assert!(ran.says(&[&compare]), "{}", ran.text);
    let diff = course.git(&["diff", "-R", first, "day2-client/src/client.rs"]);
    assert!(diff.contains("\n-    todo!(\"day 2: call\")\n+    let len ="), "{diff}");

    // A commit of the exercise, and one of the learner's solution, in which nothing reminds of an exercise.
    course.commit();
    for (name, text) in [("client", CLIENT.replace("2", "1 + 1")), ("lib", "//! Day 2.\n".to_owned())] {
        course.write(&format!("day2-client/src/{name}.rs"), &text);
    }
    course.commit();
    let ran = exercise(&course, &["2"]);
    let restore = format!("git restore --source {first} day2-client");
    assert!(ran.says(&[&restore]), "{}", ran.text);
    course.git(&restore.split(' ').skip(1).collect::<Vec<_>>());
    assert_eq!(course.read("day2-client/src/client.rs"), CLIENT);
    course.commit();

    // A tag says it, if it is none of an exercise.
    course.git(&["tag", "course", "HEAD~2"]);
    assert!(exercise(&course, &["2"]).says(&[&compare]), "the tag is on a learner's commit");
    course.git(&["restore", "."]);
    course.git(&["tag", "--force", "course", first]);
    assert!(exercise(&course, &["2"]).says(&[&compare]));
}

#[test]
fn a_learners_own_yesterday_is_no_news_of_today() {
    let course = course();
    exercise(&course, &["1"]);
    course.commit();
    let ran = exercise(&course, &["2", "--all"]);
    assert!(ran.says(&[" ~read"]) && !ran.text.contains("same"), "{}", ran.text);
}

#[test]
fn work_that_git_does_not_hold_is_never_overwritten() {
    let course = course();
    course.write("day2-client/src/client.rs", "// mine\n");
    assert_refused(&course, &["2"], &[" M day2-client/src/client.rs"]);
    course.git(&["add", "--all"]);
    assert_refused(&course, &["2"], &["M  day2-client/src/client.rs"]);
    assert_refused(
        &course,
        &["2", "--stage", "frames"],
        &["git commit", "cargo xtask exercise 2 --stage frames"],
    );
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
    assert!(!ran.ok && ran.says(&["this needs git", "clone it"]), "{}", ran.text);
    course.git(&["init", "--quiet"]);
    let ran = course.xtask(&["exercise", "2"]);
    assert!(!ran.ok && ran.says(&["this needs git", "with a commit"]), "{}", ran.text);
    assert_eq!(course.read("day2-client/src/client.rs"), CLIENT);
}

#[test]
fn a_day_that_is_not_there_or_is_done_is_no_exercise() {
    let course = course();
    assert_refused(&course, &["3"], &["day 3 does not exist"]);
    assert_refused(&course, &["8"], &["8"]);
    let frame = FRAME.replace("CRATE", "day2_client");
    course.write("day2-client/src/frame.rs", &frame);
    course.commit();
    assert_refused(&course, &["2", "--stage", "frames"], &["Run it: cargo xtask check 2 frames"]);
}
