//! What can be written on the command line.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, value_parser};
use day7_registry::{Endpoint, RegistryUrl, SelectMode};

/// A registry, servers that register there, and calls that find them.
#[derive(Parser)]
#[command(version, about, after_help = AFTER_HELP)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    /// Log more; -vv and -vvv still more.
    #[arg(short, long, action = ArgAction::Count, global = true)]
    pub(super) verbose: u8,
}

const AFTER_HELP: &str = "\
Without a command, all of it runs in one process and tells its story.

The log goes to stderr. RUST_LOG chooses what is logged, in place of -v:
  RUST_LOG=debug
  RUST_LOG=warn,day7_registry::server=debug

Exit codes:
  0  success
  1  any other failure
  2  a mistake on the command line
  3  the server answered with an error
  4  the time was over
  5  the server or the registry cannot be reached";

#[derive(Subcommand)]
pub(super) enum Command {
    /// Run a registry. Prints its URL as soon as it listens.
    Registry(RegistryArgs),
    /// Run a server of the service Arith. Prints its endpoint as soon as it listens.
    Server(ServerArgs),
    /// Call a method, and print its reply as JSON.
    Call(CallArgs),
    /// List the servers of a registry, or the services and methods of a server.
    List(ListArgs),
}

#[derive(Args)]
pub(super) struct RegistryArgs {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:9999", value_parser = address)]
    pub(super) addr: SocketAddr,
    /// How long a server stays registered after its last heartbeat, e.g. 500ms, 10s or 2m.
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub(super) lease: Duration,
    /// A name of this machine by which clients reach the registry, if it is not localhost (may be given again).
    #[arg(long, value_name = "NAME")]
    pub(super) host: Vec<String>,
}

#[derive(Args)]
pub(super) struct ServerArgs {
    /// Where to listen. Port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0", value_parser = address)]
    pub(super) addr: SocketAddr,
    /// The registry to register this server with, e.g. http://127.0.0.1:9999.
    #[arg(long, value_name = "URL")]
    pub(super) registry: Option<RegistryUrl>,
    /// Where clients reach this server, if that is not the address on which it listens.
    #[arg(long, value_name = "ENDPOINT", requires = "registry")]
    pub(super) advertise: Option<Endpoint>,
    /// Register as a server of the service with this name, as one registry may be for many.
    #[arg(long, value_name = "NAME", requires = "registry")]
    pub(super) service: Option<String>,
    /// This server's share of the calls, for clients that go by weight.
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u32).range(1..=65535), requires = "registry")]
    pub(super) weight: u32,
    /// Listen for HTTP CONNECT, and show the debug page at /debug/rrpc.
    #[arg(long)]
    pub(super) http: bool,
}

#[derive(Args)]
pub(super) struct CallArgs {
    #[command(flatten)]
    pub(super) target: Target,
    /// How to choose a server of a registry: random, round-robin, weighted-round-robin, least-loaded or
    /// consistent-hash:KEY. A process makes one call, so a mode that takes turns makes its first choice only.
    #[arg(long, default_value = "random", conflicts_with = "to")]
    pub(super) mode: SelectMode,
    /// The method, e.g. Arith.sum.
    pub(super) method: String,
    /// Its argument as JSON, e.g. '{"num1":1,"num2":2}'; - reads it from stdin. Without it the argument is ().
    #[arg(default_value = "null", allow_negative_numbers = true, hide_default_value = true)]
    pub(super) argument: String,
}

#[derive(Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    pub(super) target: Target,
}

#[derive(Args)]
pub(super) struct Target {
    #[command(flatten)]
    pub(super) place: PlaceArgs,
    /// At the registry, only the servers of the service with this name.
    #[arg(long, value_name = "NAME", conflicts_with = "to")]
    pub(super) service: Option<String>,
    /// Give up after this time, e.g. 500ms, 10s or 2m.
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub(super) timeout: Duration,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
pub(super) struct PlaceArgs {
    /// A registry, e.g. http://127.0.0.1:9999.
    #[arg(long, value_name = "URL")]
    pub(super) registry: Option<RegistryUrl>,
    /// A server, e.g. tcp@127.0.0.1:9000.
    #[arg(long, value_name = "ENDPOINT")]
    pub(super) to: Option<Endpoint>,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "expected an IP address and a port, such as 127.0.0.1:9999 or [::1]:0".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).ok().filter(|duration| !duration.is_zero());
    duration.ok_or_else(|| "expected a duration above zero, such as 500ms, 10s or 2m".to_owned())
}
