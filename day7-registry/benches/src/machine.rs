//! What is asked of the machine: cores, clocks, counters, limits, and its name.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::time::ClockId;
use nix::unistd::Pid;

#[cfg(not(target_os = "linux"))]
compile_error!("the benchmark reads /proc and pins processes to cores: it runs on Linux only");

/// A machine that works for this share of a look at it has something else to do, and the figures are not worth much.
const BUSY: f64 = 0.15;
/// Open files that a process needs for itself.
const OTHER_FILES: usize = 100;
const LOOK: Duration = Duration::from_millis(500);

/// What the system has counted up to now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    /// CPU time of the server's process, user and system, in seconds.
    pub(crate) server_cpu: f64,
    /// CPU time of this process.
    pub(crate) client_cpu: f64,
    /// TCP segments that the whole machine has sent.
    pub(crate) segments: u64,
}

impl Reading {
    pub(crate) fn take(server_pid: i32) -> Result<Reading> {
        Ok(Reading {
            server_cpu: cpu_seconds(Pid::from_raw(server_pid))?,
            client_cpu: cpu_seconds(Pid::this())?,
            segments: segments(&fs::read_to_string("/proc/net/snmp")?).context("/proc/net/snmp")?,
        })
    }
}

/// The process's own clock. It is exact to the nanosecond, where /proc/PID/stat counts in hundredths of a second.
fn cpu_seconds(pid: Pid) -> Result<f64> {
    let clock = ClockId::pid_cpu_clock_id(pid).with_context(|| format!("the CPU clock of process {pid}"))?;
    let time = clock.now()?;
    Ok(time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9)
}

/// `OutSegs` of the two lines `Tcp:`, the first with the names and the second with the values.
fn segments(snmp: &str) -> Option<u64> {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Tcp:"));
    let (names, values) = (lines.next()?.split_whitespace(), lines.next()?.split_whitespace());
    names.zip(values).find(|(name, _)| *name == "OutSegs")?.1.parse().ok()
}

/// From now on this process uses only so many cores; the last ones, as the first has to serve the devices.
///
/// A core is what Linux calls a CPU. The two with the highest numbers are assumed to be as good as any: on a machine
/// with SMT they may be the two halves of one core, and then share what it can do.
///
/// # Errors
/// This process may not use so many.
pub(crate) fn use_cores(count: usize) -> Result<()> {
    let allowed = sched_getaffinity(Pid::this())?;
    let cores = (0..CpuSet::count()).rev().filter(|core| allowed.is_set(*core).unwrap_or(false));
    let cores: Vec<_> = cores.take(count).collect();
    ensure!(
        cores.len() == count,
        "{count} cores are asked for, but this process may use only {}",
        cores.len()
    );
    let mut chosen = CpuSet::new();
    for core in cores {
        chosen.set(core)?;
    }
    sched_setaffinity(Pid::this(), &chosen).context("cannot choose the cores of this process")
}

/// What `#[tokio::main]` starts: a worker for each core that this process may use.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// Allows this process as many open files as the system does. Returns how many that is.
pub(crate) fn raise_file_limit() -> Result<u64> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    Ok(most)
}

/// Checks, before anything is measured, that so many connections will have enough open files: the server's process needs
/// one for each, and so does the client's.
///
/// # Errors
/// The system allows too few.
pub(crate) fn check_files(connections: usize) -> Result<()> {
    let (needed, allowed) = (connections + OTHER_FILES, raise_file_limit()?);
    ensure!(
        needed as u64 <= allowed,
        "a process needs {needed} open files for {connections} connections, but the system allows it {allowed} \
         (ulimit -Hn)"
    );
    Ok(())
}

/// The machine, the day and the revision of this tree, for a reader of the results.
pub(crate) fn description() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown CPU", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    // "Sun, 06 Nov 1994 08:49:37 GMT"
    let now = httpdate::fmt_http_date(SystemTime::now());
    let date = now.get(5..16).unwrap_or(&now);
    let revision = revision().map(|revision| format!(", revision {revision}")).unwrap_or_default();
    format!("{model}, {cores} cores, Linux {}, {date}{revision}", kernel.trim())
}

/// What is measured: the commit, and whether anything but earlier results is different from it. `None` without git.
fn revision() -> Option<String> {
    let git = |args: &[&str]| {
        let mut git = Command::new("git");
        git.args(args).current_dir(env!("CARGO_MANIFEST_DIR")).stderr(Stdio::null());
        let output = git.output().ok().filter(|output| output.status.success())?;
        String::from_utf8(output.stdout).ok()
    };
    let commit = git(&["rev-parse", "--short", "HEAD"])?;
    let changes = git(&["status", "--porcelain", "--", ":/", ":(exclude)results"])?;
    Some(format!("{}{}", commit.trim(), if changes.is_empty() { "" } else { "+changes" }))
}

/// What to tell a reader if this machine is busy already, before anything is measured; else nothing.
pub(crate) fn busy_notice() -> String {
    let times = || cpu_times(&fs::read_to_string("/proc/stat").unwrap_or_default()).unwrap_or_default();
    let before = times();
    std::thread::sleep(LOOK);
    let after = times();
    let share = (after.0 - before.0) as f64 / (after.1 - before.1).max(1) as f64;
    if share < BUSY {
        return String::new();
    }
    let notice = format!(
        "The machine was busy with something else ({:.0} % of its CPU). Measure again.",
        share * 100.0
    );
    eprintln!("warning: {notice}");
    format!("\n**{notice}**\n")
}

/// The time in which the cores worked, and all time, from the line `cpu  user nice system idle iowait …`.
fn cpu_times(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let times: Vec<u64> = line.split_whitespace().filter_map(|time| time.parse().ok()).collect();
    let (all, idle) = (times.iter().sum::<u64>(), times.get(3)? + times.get(4)?);
    Some((all - idle, all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_column_of_the_segments_is_found_by_its_name() {
        let snmp = "Ip: Forwarding OutSegs\nIp: 1 2\nTcp: RtoMin InSegs OutSegs\nTcp: 200 3 4\nUdp: OutSegs\nUdp: 5\n";
        assert_eq!(segments(snmp), Some(4));
        assert_eq!(segments("Tcp: RtoMin\nTcp: 200\n"), None);
    }

    #[test]
    fn waiting_is_not_work() {
        assert_eq!(cpu_times("cpu  10 1 5 80 4 0 0 0 0 0\ncpu0 1 1 1 1 1\n"), Some((16, 100)));
        assert_eq!(cpu_times("intr 1 2 3\n"), None);
    }

    #[test]
    fn nobody_gets_more_cores_than_there_are() {
        let error = use_cores(100_000).unwrap_err().to_string();
        assert!(error.starts_with("100000 cores are asked for, but"), "{error}");
    }

    #[test]
    fn too_few_open_files_are_an_error_that_says_how_many_are_needed() {
        check_files(1).unwrap();
        let error = check_files(1 << 40).unwrap_err().to_string();
        assert!(error.contains("1099511627876 open files") && error.contains("ulimit -Hn"), "{error}");
    }

    #[test]
    fn this_machine_answers() {
        let first = Reading::take(Pid::this().as_raw()).unwrap();
        let second = Reading::take(Pid::this().as_raw()).unwrap();
        assert!(second.client_cpu >= first.client_cpu && second.segments >= first.segments);
        assert!(raise_file_limit().unwrap() > 0);
        assert!(description().contains("cores"));
    }
}
