//! Builds the suites and runs them: whole, or one test in a process of its own.
//!
//! Its own process, because a panic while another panic unwinds ends the whole process, and with it all
//! other tests; and because a test that hangs can be killed alone. See `suites` for how they are read.

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, PipeReader, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::course::Day;
use crate::course::suites;
use crate::course::term::Paint;

/// One test that takes longer than this hangs, and is killed.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// Of what a process prints, this many bytes are kept from the beginning and as many from the end.
const KEPT: usize = 256 * 1024;

/// Asked again and again: whether to stop now.
pub(crate) type Stop<'a> = &'a (dyn Fn() -> bool + Sync);

/// For who wants it all.
pub(crate) const NEVER: Stop<'static> = &|| false;

/// One test program.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// The crate, such as `day3-service`.
    pub(crate) krate: String,
    /// `suites`, or `unit tests`.
    pub(crate) target: String,
    pub(crate) path: PathBuf,
    /// The crate's directory, where cargo would run it.
    pub(crate) dir: PathBuf,
    /// A variable of its environment.
    pub(crate) env: Option<(&'static str, String)>,
}

/// Why it does not compile: the errors as rustc shows them, each once.
pub(crate) type Errors = Vec<String>;

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    Failed,
    /// It was killed at [`LIMIT`].
    Hung,
}

/// One run of one test.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    /// Both streams. The middle is left out if it is very long.
    pub(crate) output: String,
    pub(crate) time: Duration,
}

/// Builds the test programs of these days in the workspace at `root`: their suites, and with `unit_tests` those of the
/// library, too.
///
/// The inner error is a course that does not compile. `progress` gets what cargo says, line by line.
///
/// # Errors
///
/// Cargo cannot be run, or fails without an error of the compiler: with a bad manifest, for example.
pub(crate) fn build(
    root: &Path,
    days: &[&Day],
    unit_tests: bool,
    mut progress: impl FnMut(&str),
) -> Result<Result<Vec<Program>, Errors>> {
    let mut command = cargo(root);
    command.args(["test", "--no-run", "--message-format"]);
    command.arg(if Paint::stdout().colours { "json-diagnostic-rendered-ansi" } else { "json" });
    command.args(days.iter().flat_map(|day| ["-p", day.name]));
    if !unit_tests {
        command.args(["--test", suites::TARGET]);
    }
    let (reader, mut child) = spawn(&mut command)?;
    let (mut messages, mut said) = (Vec::new(), String::new());
    for line in BufReader::new(reader).lines() {
        let line = line.context("cargo's messages")?;
        if let Ok(message) = serde_json::from_str::<Value>(&line) {
            messages.push(message);
        } else {
            progress(&line);
            said += &format!("{line}\n");
        }
    }
    let status = child.wait()?;
    if !status.success() {
        let mut seen = BTreeSet::new();
        let errors = messages.iter().filter_map(error).filter(|error| seen.insert(error.clone()));
        let errors: Errors = errors.collect();
        if errors.is_empty() {
            bail!("cargo cannot build it:\n{}", said.trim_end());
        }
        return Ok(Err(errors));
    }
    let mut programs: Vec<Program> = messages.iter().filter_map(program).collect();
    programs.sort_by(|a, b| (&a.krate, &a.target).cmp(&(&b.krate, &b.target)));
    Ok(Ok(programs))
}

/// The error that a message of cargo's tells of, if it does. The last of them only counts the others.
fn error(message: &Value) -> Option<String> {
    let message = &message["message"];
    let counts = message["message"].as_str()?.starts_with("aborting due to");
    let is_error = message["level"].as_str()?.starts_with("error");
    (is_error && !counts).then(|| message["rendered"].as_str().unwrap_or_default().to_owned())
}

/// The program that a message of cargo's tells of, if it does. A demo's own test program has no tests in it.
fn program(message: &Value) -> Option<Program> {
    let path = PathBuf::from(message["executable"].as_str()?);
    let is_test = message["reason"] == "compiler-artifact" && message["profile"]["test"] == true;
    let dir = Path::new(message["manifest_path"].as_str()?).parent()?.to_path_buf();
    let target = match message["target"]["kind"][0].as_str()? {
        "test" => message["target"]["name"].as_str()?,
        "lib" => "unit tests",
        _ => return None,
    };
    let (krate, target) = (dir.file_name()?.to_str()?.to_owned(), target.to_owned());
    is_test.then_some(Program { krate, target, path, dir, env: None })
}

impl Outcome {
    /// Whether the test ended its whole process, as a panic while another panic unwinds does. In a process with
    /// other tests it would take them along.
    pub(crate) fn aborted(&self) -> bool {
        self.verdict == Verdict::Failed && !self.output.contains("\ntest result: ")
    }
}

impl Program {
    /// To run it as cargo would.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.current_dir(&self.dir);
        command.env("CARGO_MANIFEST_DIR", &self.dir); // or it would inherit the one of this tool
        if let Some((name, value)) = &self.env {
            command.env(name, value);
        }
        command
    }

    /// The names of its tests.
    ///
    /// # Errors
    ///
    /// It cannot be run.
    pub(crate) fn list(&self) -> Result<Vec<String>> {
        let (status, output) = watch(self.command().args(["--list", "--format", "terse"]), LIMIT, NEVER)?;
        if !status.is_some_and(|status| status.success()) {
            bail!("{} cannot list its tests:\n{output}", self.path.display());
        }
        Ok(output.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
    }

    /// Runs one test. `None`: `stop` said so before it ended, and it was killed.
    ///
    /// # Errors
    ///
    /// There is no such test, or the program cannot be run.
    fn run(&self, test: &str, stop: Stop<'_>) -> Result<Option<Outcome>> {
        let start = Instant::now();
        let mut command = self.command();
        command.args(["--exact", test, "--nocapture"]);
        command.env("RUST_BACKTRACE", "0"); // the panic message and its place are what is wanted
        let (status, output) = watch(&mut command, LIMIT, stop)?;
        let time = start.elapsed();
        if status.is_none() && stop() {
            return Ok(None);
        }
        let says = |what: &str| output.lines().any(|line| line.starts_with(what));
        let verdict = match status {
            None => Verdict::Hung,
            // Without this, a name that does not exist would pass: no test failed.
            _ if says("running 0 tests") => bail!("{} has no test {test}", self.path.display()),
            // The words are asked for, too: a test that ends its process with 0 has not passed.
            Some(status) if status.success() && output.contains("test result: ok. 1 passed") => {
                Verdict::Passed
            }
            Some(_) => Verdict::Failed,
        };
        Ok(Some(Outcome { verdict, output, time }))
    }
}

/// Runs each of these tests in a process of its own, many of them at the same time: they wait more than they work.
///
/// `done` hears of each as it ends. When it breaks, or when `stop` says so, no more are begun, and those that run are
/// killed. The outcomes are in the order of `tests`; `None` was not run, or not to its end.
///
/// # Errors
///
/// There is no such test, or the program cannot be run.
pub(crate) fn run_all(
    tests: &[(&Program, &str)],
    stop: Stop<'_>,
    mut done: impl FnMut(&Outcome) -> ControlFlow<()>,
) -> Result<Vec<Option<Outcome>>> {
    let (next, enough) = (AtomicUsize::new(0), AtomicBool::new(false));
    let stop = || stop() || enough.load(Ordering::Relaxed);
    let (sender, ended) = mpsc::channel();
    let work = |sender: Sender<_>| {
        while !stop() {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some((program, test)) = tests.get(index) else { return };
            // Who does not receive any more has an error already.
            let _ = sender.send((index, program.run(test, &stop)));
        }
    };
    let mut outcomes = vec![None; tests.len()];
    thread::scope(|scope| {
        for _ in 0..4 * thread::available_parallelism().map_or(1, usize::from) {
            let (work, sender) = (&work, sender.clone());
            scope.spawn(move || work(sender));
        }
        drop(sender); // what is received ends with the last of the workers
        for (index, ran) in ended {
            let outcome = ran.inspect_err(|_| enough.store(true, Ordering::Relaxed))?;
            if outcome.as_ref().is_some_and(|outcome| done(outcome).is_break()) {
                enough.store(true, Ordering::Relaxed);
            }
            outcomes[index] = outcome;
        }
        Ok(outcomes)
    })
}

/// To run cargo in the workspace at `root`.
pub(crate) fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    command.current_dir(root);
    command
}

/// Runs a command to its end, or kills it after `limit`, or as soon as `stop` says so (then there is no status). With
/// what it printed on both streams.
///
/// # Errors
///
/// It cannot be run.
pub(crate) fn watch(
    command: &mut Command,
    limit: Duration,
    stop: Stop<'_>,
) -> Result<(Option<ExitStatus>, String)> {
    let (reader, mut child) = spawn(command)?;
    // Read all the time: a pipe that is not read would stop the process.
    let reading = thread::spawn(move || keep_ends(reader));
    let status = wait(&mut child, limit, stop)?;
    let output = reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    Ok((status, String::from_utf8_lossy(&output).into_owned()))
}

/// Starts a command. What it prints on both streams can be read.
fn spawn(command: &mut Command) -> Result<(PipeReader, Child)> {
    let name = command.get_program().to_string_lossy().into_owned();
    let (reader, writer) = io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let child = command.spawn().with_context(|| name);
    // The command keeps its ends of the pipe; the reader waits for the last of them to be closed.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    Ok((reader, child?))
}

/// Reads to the end, and keeps [`KEPT`] bytes of the beginning and of the end.
fn keep_ends(mut reader: impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    reader.by_ref().take(KEPT as u64).read_to_end(&mut head)?;
    let (mut tail, mut dropped) = (Vec::new(), 0);
    while reader.by_ref().take(KEPT as u64).read_to_end(&mut tail)? > 0 {
        let over = tail.len().saturating_sub(KEPT);
        tail.drain(..over);
        dropped += over;
    }
    if dropped > 0 {
        head.extend_from_slice(format!("\n… {dropped} bytes are left out …\n").as_bytes());
    }
    head.append(&mut tail);
    Ok(head)
}

/// Waits for at most `limit`, or until `stop` says so, then kills. `None`: it was killed.
fn wait(child: &mut Child, limit: Duration, stop: Stop<'_>) -> Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() >= limit || stop() {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A command, or a test program, that does as the shell is told.
    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_run_over_its_limit_is_killed() {
        let start = Instant::now();
        let (status, output) =
            watch(&mut shell("echo begun; exec sleep 60"), Duration::from_millis(300), NEVER).unwrap();
        assert!(status.is_none());
        assert_eq!(output, "begun\n");
        assert!(start.elapsed() < Duration::from_secs(30), "it was waited for instead");
    }

    #[test]
    fn a_run_that_is_stopped_is_killed() {
        let (status, _) = watch(&mut shell("exec sleep 60"), LIMIT, &|| true).unwrap();
        assert!(status.is_none());
    }

    /// The test program is this one.
    #[test]
    fn tests_are_run_in_their_order_until_one_is_not_there_or_it_is_stopped() {
        let path = std::env::current_exe().unwrap();
        let name = String::new;
        let program = Program { krate: name(), target: name(), path, dir: ".".into(), env: None };
        let run = |names: &[&str], stop| {
            let tests: Vec<_> = names.iter().map(|name| (&program, *name)).collect();
            run_all(&tests, stop, |_| ControlFlow::Continue(()))
        };
        let test = "course::runner::tests::little_output_is_kept_whole";
        let verdicts = |outcomes: Vec<Option<Outcome>>| -> Vec<Option<Verdict>> {
            outcomes.into_iter().map(|outcome| outcome.map(|outcome| outcome.verdict)).collect()
        };
        assert_eq!(verdicts(run(&[test; 20], NEVER).unwrap()), [Some(Verdict::Passed); 20]);
        assert_eq!(verdicts(run(&[test; 2], &|| true).unwrap()), [None; 2]);
        let error = run(&[test, "no_such_test"], NEVER).unwrap_err();
        assert!(error.to_string().contains("has no test no_such_test"), "{error}");
    }

    #[test]
    fn of_much_output_both_ends_are_kept() {
        let much = "echo first; yes 0123456789 | head -c 3300000; echo last >&2; exit 3";
        let (status, output) = watch(&mut shell(much), LIMIT, NEVER).unwrap();
        assert_eq!(status.unwrap().code(), Some(3));
        assert!(output.starts_with("first\n0123456789\n") && output.ends_with("\nlast\n"));
        assert!(output.len() < 3 * KEPT && output.contains("bytes are left out"));
    }

    #[test]
    fn little_output_is_kept_whole() {
        let text: Vec<u8> = (0..KEPT + 1000).map(|n| n as u8).collect();
        assert_eq!(keep_ends(&text[..]).unwrap(), text);
        assert_eq!(keep_ends(&b""[..]).unwrap(), b"");
    }

    #[test]
    fn test_programs_are_told_from_demos_and_from_what_is_no_program() {
        let message = |kind: &str, executable: Value| {
            let target = serde_json::json!({ "kind": [kind], "name": "suites" });
            program(&serde_json::json!({
                "reason": "compiler-artifact", "manifest_path": "/course/day1-codec/Cargo.toml",
                "target": target, "profile": { "test": true }, "executable": executable,
            }))
        };
        let name = |program: Option<Program>| program.map(|program| (program.krate, program.target));
        let day1 = |target: &str| Some(("day1-codec".to_owned(), target.to_owned()));
        assert_eq!(name(message("test", "/t/a".into())), day1("suites"));
        assert_eq!(name(message("lib", "/t/a".into())), day1("unit tests"));
        assert_eq!(name(message("bin", "/t/a".into())), None);
        assert_eq!(name(message("lib", Value::Null)), None);
    }

    #[test]
    fn of_the_compilers_messages_only_errors_count() {
        let message = |level: &str, text: &str| {
            let rendered = format!("{level}: {text}\n");
            error(&serde_json::json!({
                "reason": "compiler-message",
                "message": { "level": level, "message": text, "rendered": rendered },
            }))
        };
        assert_eq!(message("error", "mismatched types").as_deref(), Some("error: mismatched types\n"));
        assert_eq!(message("warning", "unused variable"), None);
        assert_eq!(message("error", "aborting due to 2 previous errors"), None);
        assert_eq!(message("failure-note", "For more information"), None);
    }
}
