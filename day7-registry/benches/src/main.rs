//! rrpc and the libraries you know, side by side.
//!
//! ```sh
//! cargo run --release --manifest-path day7-registry/benches/Cargo.toml              # the comparison
//! cargo run --release --manifest-path day7-registry/benches/Cargo.toml -- growth    # cost against size
//! cargo run --release --manifest-path day7-registry/benches/Cargo.toml -- builds    # the compiler's time
//! cargo run --release --manifest-path day7-registry/benches/Cargo.toml -- all       # all three
//! ```
//!
//! | module | what it is for |
//! |---|---|
//! | [`peers`] | the competitors: a server and a client each |
//! | [`workload`] | what is asked of them, and on which cores |
//! | [`load`] | the client's process: keeps calls in flight, checks answers, measures |
//! | [`histogram`], [`machine`], [`process`] | percentiles; clocks and counters; this program in other roles |
//! | [`compare`] | rounds: all peers, again and again, in turns |
//! | [`growth`] | cost against size |
//! | [`builds`] | how long the course takes to compile and to test |
//! | [`goals`], [`stats`] | ratios within a round, and what they should be |
//! | [`report`], [`svg`] | the tables and the chart |

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

use compare::Settings;
use growth::Subject;
use load::Plan;
use peers::Peer;
use workload::{Placement, Workload};

mod builds;
mod compare;
mod goals;
mod growth;
mod histogram;
mod load;
mod machine;
mod numbers;
mod peers;
mod process;
mod report;
mod stats;
mod svg;
mod workload;

/// rrpc and the libraries you know, side by side
///
/// Server and client are two processes on the loopback, with one TCP connection or a thousand. Every workload is
/// measured with both processes free on two cores, and with both on one core. Progress goes to stderr, the tables to
/// stdout. A full run, one without options, also writes them, and the chart, to the directory of the results.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    compare: CompareArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Args, Default)]
struct CompareArgs {
    /// One round of short measurements: to see that it works, not how fast it is
    #[arg(long)]
    quick: bool,
    /// Only check that every peer works and answers right; print no tables
    #[arg(long, conflicts_with_all = ["quick", "rounds", "seconds", "out"])]
    check: bool,
    /// How often everything is measured [default: 5, or 1 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// How long one measurement takes, without its warm-up [default: 1, or 0.2 with --quick]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    seconds: Option<Duration>,
    /// Only these peers
    #[arg(long, value_name = "NAMES", value_enum, value_delimiter = ',')]
    only: Vec<Peer>,
    /// Only these workloads
    #[arg(long = "workload", value_name = "NAMES", value_enum, value_delimiter = ',')]
    workloads: Vec<Workload>,
    /// Only with these cores
    #[arg(long = "placement", value_name = "NAMES", value_enum, value_delimiter = ',')]
    placements: Vec<Placement>,
    /// Write bench.md and bench.svg there [default: `results` beside Cargo.toml, and nothing after a run with any of
    /// these options]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Cost against size: connections, servers in the registry, payload
    Growth(GrowthArgs),
    /// The compiler's time: day 1 and all suites from nothing, and a changed line on day 7
    Builds(BuildsArgs),
    /// The comparison, `growth` and `builds`: everything that is in the directory of the results
    All(AllArgs),
    /// Serve one peer: prints its address, and serves until it is stopped. For a profiler
    Serve(ServeArgs),
    /// Measure one peer whose server runs already: prints one line of JSON. For a profiler
    Load(LoadArgs),
    /// Hold idle connections; a part of `growth`
    #[command(hide = true)]
    Hold { addr: SocketAddr, count: usize },
    /// Serve a registry; a part of `growth`
    #[command(hide = true)]
    Registry,
}

#[derive(Args, Default)]
struct GrowthArgs {
    /// Short measurements, and not the largest sizes: to see that it works, not how fast it is
    #[arg(long)]
    quick: bool,
    /// Only these
    #[arg(long, value_name = "NAMES", value_enum, value_delimiter = ',')]
    only: Vec<Subject>,
    /// Write growth.md there [default: `results` beside Cargo.toml, and nothing after a run with any of these options]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Args)]
struct BuildsArgs {
    /// Only day 1: to see that it works
    #[arg(long)]
    quick: bool,
    /// Write builds.md there [default: `results` beside Cargo.toml, and nothing with --quick]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Args)]
struct AllArgs {
    /// To see that it works
    #[arg(long)]
    quick: bool,
    /// Write all files there [default: `results` beside Cargo.toml, and nothing with --quick]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Args)]
struct ServeArgs {
    peer: Peer,
    /// Use only so many cores
    #[arg(long)]
    cores: Option<usize>,
}

#[derive(Args)]
struct LoadArgs {
    peer: Peer,
    /// The server's address
    addr: SocketAddr,
    /// The server's process, for its CPU time
    pid: i32,
    workload: Workload,
    /// Use only so many cores
    #[arg(long)]
    cores: Option<usize>,
    #[arg(long, default_value = "0", value_parser = seconds)]
    warm_up: Duration,
    #[arg(long, default_value = "1", value_parser = seconds)]
    seconds: Duration,
    /// How many connections, each with the workload's calls in flight [default: the workload's]
    #[arg(long)]
    connections: Option<usize>,
}

fn main() -> ExitCode {
    process::end_with_parent();
    let cli = Cli::parse();
    let result = match cli.command {
        None => cli.compare.run(),
        Some(Command::Serve(args)) => args.run(),
        Some(Command::Load(args)) => args.run(),
        Some(Command::Growth(args)) => args.run(),
        Some(Command::Builds(args)) => args.run(),
        Some(Command::All(args)) => args.run(),
        Some(Command::Hold { addr, count }) => hold(addr, count),
        Some(Command::Registry) => growth::servers::run_registry(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl CompareArgs {
    fn run(self) -> Result<()> {
        let is_full = !self.quick && !self.check;
        let default = |full: f64, quick, check| match (self.quick, self.check) {
            (true, _) => Duration::from_secs_f64(quick),
            (_, true) => Duration::from_secs_f64(check),
            _ => Duration::from_secs_f64(full),
        };
        // Results that stay are of a full run: of everything, and for as long as those of the others.
        let chooses = !(self.only.is_empty() && self.workloads.is_empty() && self.placements.is_empty());
        let is_partial = chooses || self.rounds.is_some() || self.seconds.is_some();
        let settings = Settings {
            rounds: self.rounds.map_or(if is_full { 5 } else { 1 }, |rounds| rounds as usize),
            warm_up: default(0.3, 0.1, 0.01),
            duration: self.seconds.unwrap_or(default(1.0, 0.2, 0.05)),
            peers: all_unless(self.only, &Peer::ALL),
            workloads: all_unless(self.workloads, &Workload::ALL),
            placements: all_unless(self.placements, &Placement::ALL),
            machine: machine::description(),
            notice: machine::busy_notice(),
        };
        let rows = compare::run(&settings)?;
        if self.check {
            println!("{} measurements: every peer works, and every answer was right", rows.len());
            return Ok(());
        }
        let markdown = report::markdown(&settings, &rows);
        println!("{markdown}");
        let dir = self.out.or((is_full && !is_partial).then(results));
        write(dir, &[("bench.md", markdown), ("bench.svg", svg::chart(&settings, &rows))])
    }
}

/// Where full runs leave what they found.
fn results() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("results")
}

fn write(dir: Option<PathBuf>, files: &[(&str, String)]) -> Result<()> {
    let Some(dir) = dir else { return Ok(()) };
    std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    for (name, text) in files {
        let path = dir.join(name);
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
        eprintln!("written: {}", path.display());
    }
    Ok(())
}

fn all_unless<T: Copy>(chosen: Vec<T>, all: &[T]) -> Vec<T> {
    if chosen.is_empty() { all.to_vec() } else { chosen }
}

impl GrowthArgs {
    fn run(self) -> Result<()> {
        let is_full = !self.quick && self.only.is_empty();
        let markdown = growth::run(&all_unless(self.only, &Subject::ALL), self.quick)?;
        println!("{markdown}");
        write(self.out.or(is_full.then(results)), &[("growth.md", markdown)])
    }
}

impl BuildsArgs {
    fn run(self) -> Result<()> {
        let markdown = builds::run(self.quick)?;
        println!("{markdown}");
        write(self.out.or((!self.quick).then(results)), &[("builds.md", markdown)])
    }
}

impl AllArgs {
    fn run(self) -> Result<()> {
        let AllArgs { quick, out } = self;
        growth::check_files(&Subject::ALL, quick)?; // now, and not after the comparison
        CompareArgs { quick, out: out.clone(), ..CompareArgs::default() }.run()?;
        GrowthArgs { quick, out: out.clone(), ..GrowthArgs::default() }.run()?;
        BuildsArgs { quick, out }.run()
    }
}

fn hold(addr: SocketAddr, count: usize) -> Result<()> {
    machine::raise_file_limit()?;
    growth::connections::run_holder(addr, count)
}

impl ServeArgs {
    fn run(self) -> Result<()> {
        self.cores.map_or(Ok(()), machine::use_cores)?;
        machine::raise_file_limit()?;
        machine::runtime()?.block_on(self.peer.serve(|addr| {
            println!("{addr}");
            std::io::stdout().flush().ok();
        }))
    }
}

impl LoadArgs {
    fn run(self) -> Result<()> {
        self.cores.map_or(Ok(()), machine::use_cores)?;
        machine::raise_file_limit()?;
        let plan = Plan {
            workload: self.workload,
            connections: self.connections.unwrap_or(self.workload.connections()),
            warm_up: self.warm_up,
            duration: self.seconds,
        };
        let sample = load::measure(self.peer, self.addr, self.pid, plan)?;
        println!("{}", serde_json::to_string(&sample)?);
        Ok(())
    }
}

fn seconds(text: &str) -> Result<Duration> {
    let seconds: f64 = text.parse().with_context(|| format!("expected seconds such as 0.5, not {text:?}"))?;
    Ok(Duration::try_from_secs_f64(seconds)?)
}
