//! This program, started again in another role. Such a child ends when its parent does; a server that is started by
//! hand stays.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Tells a child that it was started by [`Process`].
const IS_CHILD: &str = "RRPC_BENCH_IS_CHILD";

/// A child that serves until this is dropped.
pub(crate) struct Process {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Process {
    /// Starts this program with other arguments.
    pub(crate) fn start(args: &[String]) -> Result<Process> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(args)
            .env(IS_CHILD, "1")
            .stdin(Stdio::piped()) // it ends when this does: see `end_with_parent`
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start this program again")?;
        let stdout = child.stdout.take().context("a child without stdout")?;
        Ok(Process { child, stdout: BufReader::new(stdout) })
    }

    /// The next line that it prints.
    pub(crate) fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        if line.is_empty() {
            bail!("the child has ended without an answer: {}", self.child.wait()?);
        }
        Ok(line.trim().to_owned())
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Runs this program with other arguments to its end, and returns what it prints.
///
/// # Errors
/// It fails, or takes longer than `limit`.
pub(crate) fn run(args: &[String], limit: Duration) -> Result<String> {
    let mut process = Process::start(args)?;
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = process.child.try_wait()? {
            break status;
        }
        if Instant::now() > deadline {
            bail!("it has not ended within {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    // One line: it fits the pipe, so the parent did not have to read it before.
    let mut output = String::new();
    process.stdout.read_to_string(&mut output)?;
    if !status.success() {
        bail!("it ended with {status}");
    }
    Ok(output)
}

/// In a child: ends this process as soon as its parent has ended, however that came. A process that was started by
/// hand is no child: its stdin may be at its end from the beginning, as it is in a script.
pub(crate) fn end_with_parent() {
    if std::env::var_os(IS_CHILD).is_none() {
        return;
    }
    std::thread::spawn(|| {
        // Nobody writes: this returns at the end of the pipe.
        std::io::stdin().read_to_end(&mut Vec::new()).ok();
        std::process::exit(0);
    });
}
