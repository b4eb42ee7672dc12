//! `soak`: every suite, many times, on a busy machine.
//!
//! A test that waits for the wrong thing passes on an idle machine and fails one time in fifty on a busy one.
//! This finds it before a reader does. The suites are built once; then each test program is run by itself.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::course::{self, DAYS, Day};

/// A run that takes longer hangs: it is killed, and counts as a failure.
const LIMIT: Duration = Duration::from_secs(120);

/// Spinning threads for each core, so that a test gets about a third of one.
const LOAD: usize = 2;

/// One test program.
struct Suite {
    name: String,
    program: PathBuf,
    /// The crate's directory, where cargo would run it.
    dir: PathBuf,
}

/// What the runs of one suite came to.
struct Tally {
    name: String,
    failures: u32,
    /// Of all runs, in seconds.
    times: Vec<f64>,
}

/// Runs every suite of `days` (of all days, if there are none) `runs` times. `false`: a run failed.
///
/// # Errors
///
/// A day does not exist, or the suites do not build.
pub(crate) fn run(root: &Path, runs: u32, days: &[u8], load: bool) -> Result<bool> {
    let suites = build(root, &chosen(root, days)?)?;
    let load = load.then(Load::start);
    let mut tallies = Vec::new();
    for suite in &suites {
        eprintln!("{}: {runs} runs", suite.name);
        tallies.push(soak(suite, runs)?);
    }
    drop(load);
    print(&tallies, runs);
    Ok(tallies.iter().all(|tally| tally.failures == 0))
}

fn chosen(root: &Path, days: &[u8]) -> Result<Vec<&'static Day>> {
    if days.is_empty() {
        return Ok(DAYS.iter().filter(|day| day.exists(root)).collect());
    }
    let mut chosen = Vec::new();
    for number in days {
        let day = course::day(*number)?;
        if !day.exists(root) {
            bail!("day {number} does not exist: there is no {}/Cargo.toml", day.name);
        }
        chosen.push(day);
    }
    Ok(chosen)
}

/// Builds the tests and asks cargo where it put them.
fn build(root: &Path, days: &[&Day]) -> Result<Vec<Suite>> {
    if days.is_empty() {
        bail!("there is no day to run yet");
    }
    let output = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(["test", "--no-run", "--message-format=json-render-diagnostics"])
        .args(days.iter().flat_map(|day| ["-p", day.name]))
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!("the suites do not build");
    }
    let messages = String::from_utf8(output.stdout).context("cargo's messages")?;
    let messages = messages.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    let mut suites: Vec<Suite> = messages.iter().filter_map(suite).collect();
    suites.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(suites)
}

/// The suite that a message of cargo's tells of, if it does. A demo's own test program has no tests in it.
fn suite(message: &Value) -> Option<Suite> {
    let program = PathBuf::from(message["executable"].as_str()?);
    let is_test = message["reason"] == "compiler-artifact" && message["profile"]["test"] == true;
    let dir = Path::new(message["manifest_path"].as_str()?).parent()?.to_path_buf();
    let krate = dir.file_name()?.to_str()?;
    let target = match message["target"]["kind"][0].as_str()? {
        "test" => message["target"]["name"].as_str()?,
        "lib" => "unit tests",
        _ => return None,
    };
    let name = format!("{krate} {target}");
    is_test.then_some(Suite { name, program, dir })
}

fn soak(suite: &Suite, runs: u32) -> Result<Tally> {
    let mut tally = Tally { name: suite.name.clone(), failures: 0, times: Vec::new() };
    for number in 1..=runs {
        let start = Instant::now();
        let mut log = tempfile::tempfile()?;
        let status = once(suite, &log).with_context(|| suite.program.display().to_string())?;
        tally.times.push(start.elapsed().as_secs_f64());
        let why = match status {
            Some(status) if status.success() => continue,
            Some(status) => status.to_string(),
            None => format!("killed after {} s", LIMIT.as_secs()),
        };
        tally.failures += 1;
        println!("FAIL {}, run {number}: {why}\n{}", suite.name, suite.program.display());
        println!("{}", contents(&mut log)?);
    }
    Ok(tally)
}

/// One run, with all that it prints in `log` (a file: a pipe that nobody reads would stop it). `None`: it was
/// killed.
fn once(suite: &Suite, log: &File) -> Result<Option<ExitStatus>> {
    let mut child = Command::new(&suite.program)
        .current_dir(&suite.dir)
        .env("CARGO_MANIFEST_DIR", &suite.dir) // or it would inherit the one of this tool
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log.try_clone()?)
        .spawn()?;
    wait(&mut child, LIMIT)
}

/// Waits for at most `limit`, then kills. `None`: it was killed.
fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() >= limit {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn contents(log: &mut File) -> Result<String> {
    let mut bytes = Vec::new();
    log.rewind()?;
    log.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn print(tallies: &[Tally], runs: u32) {
    let width = tallies.iter().map(|tally| tally.name.len()).max().unwrap_or(0);
    println!(
        "{:width$}  {:>5}  {:>8}  {:>8}  {:>8}  {:>8}",
        "suite", "runs", "failures", "fastest", "median", "slowest"
    );
    for Tally { name, failures, times } in tallies {
        let mut times = times.clone();
        times.sort_by(f64::total_cmp);
        let at = |index: usize| times.get(index).map(|time| format!("{time:.2} s")).unwrap_or_default();
        let (fastest, median, slowest) = (at(0), at(times.len() / 2), at(times.len().saturating_sub(1)));
        println!("{name:width$}  {runs:>5}  {failures:>8}  {fastest:>8}  {median:>8}  {slowest:>8}");
    }
}

/// Threads that keep every core busy until this is dropped.
struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    fn start() -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let spin = |stop: Arc<AtomicBool>| {
            move || {
                let mut count = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    count = std::hint::black_box(count.wrapping_add(1));
                }
            }
        };
        let threads = (0..cores * LOAD).map(|_| thread::spawn(spin(Arc::clone(&stop)))).collect();
        Load { stop, threads }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A spinning thread has nothing to panic about, and nothing depends on it.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_over_its_limit_is_killed() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let start = Instant::now();
        assert!(wait(&mut child, Duration::from_millis(50)).unwrap().is_none());
        assert!(start.elapsed() < Duration::from_secs(30), "it was waited for instead");
    }

    #[test]
    fn test_programs_are_told_from_demos_and_from_what_is_no_program() {
        let message = |kind: &str, executable: Value| {
            let target = serde_json::json!({ "kind": [kind], "name": "day1_codec" });
            suite(&serde_json::json!({
                "reason": "compiler-artifact", "manifest_path": "/course/day1-codec/Cargo.toml",
                "target": target, "profile": { "test": true }, "executable": executable,
            }))
        };
        let name = |suite: Option<Suite>| suite.map(|suite| suite.name);
        assert_eq!(name(message("test", "/t/a".into())).as_deref(), Some("day1-codec day1_codec"));
        assert_eq!(name(message("lib", "/t/a".into())).as_deref(), Some("day1-codec unit tests"));
        assert_eq!(name(message("bin", "/t/a".into())), None);
        assert_eq!(name(message("lib", Value::Null)), None);
    }
}
