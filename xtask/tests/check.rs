//! `cargo xtask check`: a small course whose suites are built and run for real.

mod scratch;

use scratch::{Course, Ran};

const DAYS: [&str; 2] = ["day1-codec", "day2-client"];

const LIB: &str = "\
//! A day.

/// Twice the number.
pub fn double(n: u32) -> u32 {
    2 * n
}

/// The number plus one.
pub fn next(n: u32) -> u32 {
    n + 1
}
";

const NUMBERS: &str = "\
//! Numbers.
//!
//! Chapter: Numbers > Twice

/// Twice two is four. That is known.
///
/// Why: a wrong sum
/// is dear.
///
/// Hint: add it to itself.
#[test]
fn two_and_two() {
    assert_eq!(CRATE::double(2), 4, \"twice two\");
}

/// The next number comes next.
///
/// Hint: one more.
#[test]
fn one_more() {
    assert_eq!(CRATE::next(2), 3);
}
";

const THE_END: &str = "\
//! The end.
//!
//! Chapter: The end

/// It goes on.
///
/// Hint: and on.
#[test]
fn the_last_step() {
    assert_eq!(CRATE::double(CRATE::next(1)), 4);
}
";

const README: &str = "\
# Day N: numbers

## Numbers

**Twice** is the number and the number again.

## The end

* **The lost number.** It was lost. `one_more`
";

fn course() -> Course {
    let course = Course::new();
    course
        .write("Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"day1-codec\", \"day2-client\"]\n");
    for day in DAYS {
        let manifest = format!("[package]\nname = \"{day}\"\nedition = \"2024\"\n");
        course.write(&format!("{day}/Cargo.toml"), &manifest);
    }
    course.write_in(&DAYS, "src/lib.rs", LIB);
    course.write_in(&DAYS, "README.md", README);
    course.suite(&DAYS, "day1_codec", &[("numbers", NUMBERS), ("the_end", THE_END)]);
    let four = NUMBERS.replace("two_and_two", "four");
    course.suite(&DAYS[1..], "day2_client", &[("numbers", &four), ("the_end", THE_END)]);
    course
}

/// Checks that these lines stand in the output one after the other, without the spaces at their ends.
#[track_caller]
fn assert_has(ran: &Ran, lines: &str) {
    let text: Vec<&str> = ran.text.lines().map(str::trim_end).collect();
    let lines: Vec<&str> = lines.lines().map(str::trim_end).collect();
    assert!(text.windows(lines.len()).any(|window| window == lines), "not there:\n{lines:#?}\n{}", ran.text);
}

#[test]
fn a_day_that_is_done_is_shown_with_the_days_before() {
    let course = course();
    let ran = course.xtask(&["check", "2"]);
    assert!(ran.ok, "{}", ran.text);
    assert_has(
        &ran,
        "Day N: numbers\n\n  Numbers  (stage 1 of 2, numbers: 2 of 2)\n    ok      four\n    ok      one_more\n\n  The end  (stage 2 of 2, the_end: 1 of 1)",
    );
    assert!(ran.says(&["3 of 3 passed"]) && ran.says(&["day1_codec", "3 of 3"]), "{}", ran.text);
    assert!(!ran.text.contains('\x1b'), "colours are for a terminal");

    let ran = course.xtask(&["check"]);
    assert!(
        ran.ok && ran.says(&["day1-codec", "3 of 3"]) && ran.says(&["day2-client", "3 of 3"]),
        "{}",
        ran.text
    );

    // A day may not break the days before: here with a suite of its own that does not see it.
    course.suite(&DAYS[1..], "day2_client", &[("numbers", "#[test]\nfn nothing() {}\n")]);
    course.write_in(&DAYS[1..], "src/lib.rs", &LIB.replace("n + 1", "n + 2"));
    let ran = course.xtask(&["check", "2"]);
    assert!(!ran.ok && ran.says(&["1 of 1 passed"]), "{}", ran.text);
    assert_has(&ran, "  day1_codec          1 of 3\n    one_more\n    the_last_step");
}

#[test]
fn after_the_last_step_it_says_what_is_left() {
    let course = course();
    course.write("day2-client/src/main.rs", "fn main() {}\n");
    let lab = "title = 't'\nfile = 'src/lib.rs'\nfind = '2'\nreplace = '3'\ntest = 'four'\nwhy = 'w'\n";
    course.write("xtask/labs/day2.toml", &format!("[[lab]]\n{lab}"));
    course.write(".gitignore", "target\n");
    course.commit();

    // The course's own solution leaves nothing to do.
    let ran = course.xtask(&["check", "2"]);
    assert!(ran.ok && !ran.text.contains("git diff"), "{}", ran.text);
    let more = "See also cargo run -p day2-client (the day's demo) and cargo xtask lab 2 (small defects in the course's solution).\n";
    assert!(ran.text.contains(&format!("\n\n{more}")), "{}", ran.text);

    let own = LIB.replace("2 * n", "n + n").replacen('\n', "\n#![allow(unused)] // for the exercise\n", 1);
    course.write("day2-client/src/lib.rs", &own);
    let commit = course.git(&["rev-parse", "--short", "HEAD"]);
    let compare = format!("git diff -R {} day2-client/src", commit.trim());
    // Also when it is committed, with and without what tells that it was an exercise.
    for text in [own.clone(), own.clone(), LIB.replace("2 * n", "n + n")] {
        course.write("day2-client/src/lib.rs", &text);
        let ran = course.xtask(&["check", "2"]);
        let told = ran.says(&["day2-client/src/lib.rs:2", "take that line out"]);
        assert!(ran.ok && told == text.contains("allow"), "{}", ran.text);
        assert!(ran.says(&[&compare, "the course's solution"]), "{}", ran.text);
        assert!(ran.says(&["  cargo run -p day2-client "]), "{}", ran.text);
        assert!(ran.says(&["  cargo xtask lab 2 "]), "{}", ran.text);
        course.commit();
    }
    let diff = course.git(&compare.split(' ').skip(1).collect::<Vec<_>>());
    assert!(diff.contains("\n-    n + n\n+    2 * n\n"), "{diff}");

    // Who has committed only what is done still finds the solution in what was cloned.
    let course = self::course();
    course.write(".gitignore", "target\n");
    course.commit();
    course.git(&["branch", "course"]);
    course.git(&["branch", "--quiet", "--set-upstream-to=course"]);
    course.write("day2-client/src/lib.rs", &LIB.replace("2 * n", "n + n"));
    course.commit();
    let commit = course.git(&["rev-parse", "--short", "course"]);
    let ran = course.xtask(&["check", "2"]);
    assert!(ran.ok && ran.says(&[&format!("git diff -R {} ", commit.trim())]), "{}", ran.text);

    course.write("day2-client/src/lib.rs", &own.replace("n + n", "todo!()"));
    let ran = course.xtask(&["check", "2"]);
    assert!(!ran.ok && !ran.text.contains("git diff") && !ran.text.contains("lab 2"), "{}", ran.text);
}

#[test]
fn steps_fail_or_are_not_reached_and_the_first_is_told_of() {
    let course = course();
    let lib = LIB.replace("2 * n", "n + n + 1").replace("    n + 1\n", "    todo!(\"day 2: next\")\n");
    course.write_in(&DAYS[1..], "src/lib.rs", &lib);
    let ran = course.xtask(&["check", "2"]);
    assert!(!ran.ok);
    assert_has(&ran, "    FAILED  four\n    todo    one_more");
    assert!(ran.says(&["0 of 3 passed, 1 failed, 2 not yet reached"]), "{}", ran.text);
    let facts = "  wants    Twice two is four.\n  reason   twice two\n             came: 5\n           wanted: 4\n  \
                 place    day2-client/tests/suites/day2_client/numbers.rs:13\n           assert_eq!(day2_client::double(2), 4, \"twice two\");\n  \
                 test     day2-client/tests/suites/day2_client/numbers.rs:12\n  chapter  day2-client/README.md:5 Numbers > Twice";
    assert_has(&ran, facts);
    assert!(!ran.says(&["is dear"]), "the rest is for those who ask");

    let ran = course.xtask(&["check", "2", "--hint"]);
    assert_has(&ran, "  Why: a wrong sum is dear.\n\n  Hint: add it to itself.");

    course.write_in(&DAYS[1..], "src/lib.rs", &lib.replace("n + n + 1", "n + n"));
    let ran = course.xtask(&["check", "2"]);
    assert_has(&ran, "The next step: one_more");
    assert_has(&ran, "  wants    The next number comes next.\n  write    next, at day2-client/src/lib.rs:10");
    assert_has(&ran, "  Hint: one more.\n\nAdd --hint to read why.");
    assert!(ran.says(&["day2-client/README.md:9 The lost number."]), "{}", ran.text);

    let ran = course.xtask(&["check"]);
    assert!(!ran.ok && ran.says(&["day1-codec", "3 of 3"]), "{}", ran.text);
    assert_has(&ran, "day2-client         1 of 3  the next step:\n                             one_more");
}

#[test]
fn one_step_or_one_stage_is_run_by_its_name() {
    let course = course();
    course.write_in(&DAYS[1..], "src/lib.rs", &LIB.replace("n + 1", "n + 2"));
    let ran = course.xtask(&["check", "2", "four"]);
    assert!(ran.ok && ran.says(&["1 of 1 passed"]), "{}", ran.text);
    let ran = course.xtask(&["check", "2", "numbers"]);
    assert!(
        !ran.ok && ran.says(&["1 of 2 passed"]) && ran.says(&["step that fails: one_more"]),
        "{}",
        ran.text
    );
    let ran = course.xtask(&["check", "2", "numbrs"]);
    let missing = "day2_client has no step and no stage numbrs; do you mean numbers?";
    assert!(!ran.ok && ran.says(&[missing]) && ran.says(&["numbers, the_end"]), "{}", ran.text);
}

#[test]
fn stages_say_what_is_left_and_what_is_next() {
    let course = course();
    let stage = |name: &str, function: &str| {
        format!(
            "[[stage]]\nday = 2\nname = \"{name}\"\nminutes = 10\nfunctions = [\"src/lib.rs: {function}\"]\n"
        )
    };
    course.write("xtask/stages.toml", &(stage("numbers", "next") + &stage("the_end", "double")));
    let todo = LIB.replace("2 * n", "todo!(\"day 2: double\")");
    course.write_in(&DAYS[1..], "src/lib.rs", &todo.replace("n + 1", "todo!(\"day 2: next\")"));
    let ran = course.xtask(&["check", "2", "numbers"]);
    assert!(ran.says(&["stage 1 of 2, numbers: 0 of 2, 1 function left, about 10 min"]), "{}", ran.text);

    let numbers = NUMBERS.replace("CRATE::double(2)", "CRATE::next(3)").replace("two_and_two", "four");
    course.suite(&DAYS[1..], "day2_client", &[("numbers", &numbers), ("the_end", THE_END)]);
    course.write_in(&DAYS[1..], "src/lib.rs", &todo);
    let next = "Now stage 2 of 2, the_end: 1 function, about 10 min.";
    for args in [&["check", "2"][..], &["check", "2", "numbers"]] {
        let ran = course.xtask(args);
        assert!(
            ran.says(&["Stage 1 of 2, numbers, is done."]) && ran.says(&[next]),
            "{args:?}: {}",
            ran.text
        );
    }
    // A stage that is given may be an exercise, too.
    course.write_in(&DAYS[1..], "src/lib.rs", LIB);
    let ran = course.xtask(&["check", "2", "numbers"]);
    assert!(ran.ok && ran.says(&["numbers, is done"]), "{}", ran.text);
    // What is not committed would be in its way.
    assert!(
        ran.says(&["git commit", "day2-client && cargo xtask exercise 2 --stage the_end"]),
        "{}",
        ran.text
    );
    assert!(course.xtask(&["check", "2", "the_end"]).says(&["Stage 2 of 2, the_end, is done."]));
}

#[test]
fn it_ends_quietly_when_nobody_reads_on() {
    let course = course();
    for args in [&["check"][..], &["check", "2"]] {
        assert_eq!(course.xtask_unread(args), "", "{args:?}");
    }
}

#[test]
fn whatever_a_wrong_solution_does_it_fails_its_own_step_only() {
    let course = course();
    let bomb =
        "struct Bomb;\nimpl Drop for Bomb {\n    fn drop(&mut self) {\n        panic!(\"boom\");\n    }\n}\n";
    let double = "if n > 1 && std::env::args().any(|arg| arg.ends_with(\"::four\")) { let _bomb = Bomb; panic!(\"first\"); }\n    2 * n";
    let next = "if n == 2 { std::process::exit(0); }\n    n + 1";
    let lib = LIB.replace("    n + 1", &format!("    {next}")).replace("2 * n", double);
    course.write_in(&DAYS[1..], "src/lib.rs", &format!("{lib}\n{bomb}"));
    let ran = course.xtask(&["check", "2"]);
    assert_has(
        &ran,
        "    FAILED  four\n    FAILED  one_more\n\n  The end  (stage 2 of 2, the_end: 1 of 1)\n    ok      the_last_step",
    );
    assert!(
        ran.says(&["reason", "first"]) && ran.says(&["place", "day2-client/src/lib.rs:5"]),
        "{}",
        ran.text
    );
}

#[test]
fn a_day_that_does_not_compile_is_shown_as_such() {
    let course = course();
    let lib = LIB
        .replace("2 * n", "let unused = 1;\n    nothing + 2 * n")
        .replace("n + 1", "nobody + nothing_else");
    course.write_in(&DAYS[1..], "src/lib.rs", &lib);
    let ran = course.xtask(&["check", "2"]);
    assert!(!ran.ok && ran.says(&["day2-client does not compile: 3 errors."]), "{}", ran.text);
    assert!(
        ran.says(&["cannot find value `nothing`"]) && ran.says(&["day2-client/src/lib.rs:6"]),
        "{}",
        ran.text
    );
    assert!(ran.says(&["and 1 more", "cargo test -p day2-client"]), "{}", ran.text);
    assert!(!ran.text.contains("unused") && !ran.text.contains("FAILED"), "{}", ran.text);

    let ran = course.xtask(&["check"]);
    assert!(!ran.ok && ran.says(&["day1-codec", "3 of 3"]), "{}", ran.text);
    assert!(ran.says(&["day2-client", "does not compile: 3 errors"]), "{}", ran.text);

    let ran = course.xtask(&["check", "3"]);
    assert!(!ran.ok && ran.says(&["day 3 does not exist"]), "{}", ran.text);
}
