//! A process that this one has started, and what a process uses.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::time::sleep;

/// How long an orderly end may take.
const ORDERLY_END: Duration = Duration::from_secs(15);

/// A process, which ends with this value.
pub(crate) struct Process {
    child: Child,
    /// The first line that it printed.
    pub(crate) says: String,
}

impl Process {
    /// Starts this program in another role, and waits for its first line.
    pub(crate) async fn start(role: &[&str]) -> anyhow::Result<Process> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(role).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start a process")?;
        let stdout = child.stdout.take().context("stdout is a pipe")?;
        let mut process = Process { child, says: String::new() };
        let read = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line).map(|_| line)
        });
        process.says = read.await??.trim().to_owned();
        ensure!(!process.says.is_empty(), "the process {role:?} ended at once");
        Ok(process)
    }

    /// Sends a signal, such as `"STOP"`.
    pub(crate) fn signal(&self, name: &str) -> anyhow::Result<()> {
        // The shell has `kill` built in.
        let kill = format!("kill -{name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &kill]).status()?;
        ensure!(status.success(), "{kill}: {status}");
        Ok(())
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn end(mut self) -> anyhow::Result<()> {
        self.signal("TERM")?;
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "an orderly end is no success: {status}");
                return Ok(());
            }
            ensure!(started.elapsed() < ORDERLY_END, "a process has not ended {ORDERLY_END:?} after SIGTERM");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// How many files and sockets it has open. 0 where the system does not tell.
    pub(crate) fn descriptors(&self) -> usize {
        descriptors(&self.child.id().to_string())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SIGKILL, which ends a stopped process as well.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// What a process uses. All 0 where there is no `/proc`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pub(crate) descriptors: usize,
    pub(crate) mebibytes: usize,
}

impl Usage {
    pub(crate) fn of_this_process() -> Usage {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = resident.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<usize>().ok());
        Usage { descriptors: descriptors("self"), mebibytes: kibibytes.unwrap_or(0) / 1024 }
    }
}

fn descriptors(process: &str) -> usize {
    std::fs::read_dir(format!("/proc/{process}/fd")).map(Iterator::count).unwrap_or(0)
}

/// The first value that is good, or the last one after 5 s.
pub(crate) async fn settled(value: impl Fn() -> usize, is_good: impl Fn(usize) -> bool) -> usize {
    let started = Instant::now();
    loop {
        let now = value();
        if is_good(now) || started.elapsed() > Duration::from_secs(5) {
            return now;
        }
        sleep(Duration::from_millis(20)).await;
    }
}
