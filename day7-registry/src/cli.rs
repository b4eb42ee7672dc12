//! The commands of day 7.

use std::fmt::Display;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use clap::{Args, Parser, Subcommand};
use day7_registry::error::{error_chain, printable};
use day7_registry::{
    BalanceError, BalancedClient, Client, Codec, DiscoveryError, Endpoint, Error, Heartbeat, HttpRegistry,
    Options, RegistryDiscovery, RegistryError, RegistryServer, RegistryUrl, SelectMode, Server,
};
use serde_json::Value;
use tokio::net::TcpListener;

use crate::arith;

/// A registry, servers that register there, and calls that find them.
#[derive(Parser)]
#[command(version, about, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

const AFTER_HELP: &str = "\
Without a command, all of it runs in one process and tells its story.

Exit codes:
  0  success
  1  any other failure
  2  a mistake on the command line
  3  the server answered with an error
  4  the time was over
  5  the server or the registry cannot be reached";

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run a registry.
    Registry(RegistryArgs),
    /// Run a server of the service Arith. Prints its endpoint as soon as it listens.
    Server(ServerArgs),
    /// Call a method, and print its reply as JSON.
    Call(CallArgs),
}

#[derive(Args)]
pub(crate) struct RegistryArgs {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:9999", value_parser = address)]
    addr: SocketAddr,
    /// How long a server stays registered after its last heartbeat, e.g. 500ms, 10s or 2m.
    #[arg(long, default_value = "10s", value_parser = duration)]
    lease: Duration,
}

#[derive(Args)]
pub(crate) struct ServerArgs {
    /// Where to listen. Port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0", value_parser = address)]
    addr: SocketAddr,
    /// The registry to register this server with, e.g. http://127.0.0.1:9999.
    #[arg(long, value_name = "URL")]
    registry: Option<RegistryUrl>,
    /// Listen for HTTP CONNECT, and show the debug page at /debug/rrpc.
    #[arg(long)]
    http: bool,
}

#[derive(Args)]
pub(crate) struct CallArgs {
    #[command(flatten)]
    target: Target,
    /// Give up after this time, e.g. 500ms, 10s or 2m.
    #[arg(long, default_value = "5s", value_parser = duration)]
    timeout: Duration,
    /// How to choose a server of a registry: random, round-robin, weighted-round-robin,
    /// least-loaded or consistent-hash:KEY. A process makes one call, so a mode that takes turns makes its first choice only.
    #[arg(long, default_value = "random", conflicts_with = "to")]
    mode: SelectMode,
    /// The method, e.g. Arith.sum.
    method: String,
    /// Its argument as JSON, e.g. '{"num1":1,"num2":2}'; - reads it from stdin. Without it the argument is ().
    #[arg(default_value = "null", allow_negative_numbers = true, hide_default_value = true)]
    argument: String,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Target {
    /// Find a server through this registry.
    #[arg(long, value_name = "URL")]
    registry: Option<RegistryUrl>,
    /// Call this server, e.g. tcp@127.0.0.1:9000.
    #[arg(long, value_name = "ENDPOINT")]
    to: Option<Endpoint>,
}

/// The command that was asked for; `None` for the story.
pub(crate) fn parse() -> Option<Command> {
    Cli::parse().command
}

impl Command {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        // What goes wrong with a call is its result, and is printed as such.
        let level = match self {
            Command::Call(_) => tracing::Level::ERROR,
            Command::Registry(_) | Command::Server(_) => tracing::Level::INFO,
        };
        // A log that cannot be written, as its reader has gone, is no reason to stop.
        let log = tracing_subscriber::fmt().with_writer(std::io::stderr).log_internal_errors(false);
        log.with_max_level(level).init();
        match self {
            Command::Registry(args) => args.run().await,
            Command::Server(args) => args.run().await,
            Command::Call(args) => args.run().await,
        }
    }
}

impl RegistryArgs {
    async fn run(self) -> anyhow::Result<()> {
        let interrupted = interrupted()?;
        let listener = listen(self.addr).await?;
        print_line(format_args!("http://{}{}", listener.local_addr()?, day7_registry::REGISTRY_PATH))?;
        Ok(RegistryServer::new().lease(self.lease).serve_with_shutdown(listener, interrupted).await?)
    }
}

impl ServerArgs {
    async fn run(self) -> anyhow::Result<()> {
        let interrupted = interrupted()?;
        let listener = listen(self.addr).await?;
        let addr = listener.local_addr()?;
        let endpoint = if self.http { Endpoint::http(addr) } else { Endpoint::tcp(addr) };
        ensure!(
            self.registry.is_none() || !endpoint.is_unspecified(),
            "{addr} means \"every address of this machine\", and no client can connect to that: \
             give --addr an address that clients can reach"
        );
        print_line(&endpoint)?;

        let heartbeat = self.registry.map(|url| Heartbeat::start(HttpRegistry::new(url), endpoint));
        // First leave the registry, so that no new client comes; then finish what is in flight.
        let stopped = async {
            interrupted.await;
            if let Some(heartbeat) = heartbeat
                && let Err(error) = heartbeat.shutdown().await
            {
                tracing::warn!(%error, "cannot deregister");
            }
        };
        let services = arith()?;
        let server = Server::new(services.clone()).debug_page(services);
        match self.http {
            true => server.serve_http_with_shutdown(listener, stopped).await?,
            false => server.serve_with_shutdown(listener, stopped).await?,
        }
        Ok(())
    }
}

impl CallArgs {
    async fn run(self) -> anyhow::Result<()> {
        let argument = json(&self.argument)?;
        // JSON, because a value of a type that is not known here can only be sent in a codec that
        // describes itself.
        let options = Options::default()
            .codecs([Codec::Json])
            .connect_timeout(self.timeout)
            .call_timeout(self.timeout)
            .handle_timeout(self.timeout);
        let reply: Value = match (self.target.to, self.target.registry) {
            (Some(endpoint), _) => {
                // One limit for connecting and calling.
                let called = async {
                    let client = Client::dial(&endpoint, &options).await?;
                    client.call(&self.method, &argument).await
                };
                let called = tokio::time::timeout(self.timeout, called).await;
                let too_late = |_| Err(Error::Timeout { what: "the call", after: self.timeout });
                called.unwrap_or_else(too_late).with_context(|| endpoint.to_string())?
            }
            (None, Some(url)) => {
                let registry = HttpRegistry::new(url).timeout(self.timeout);
                let client = BalancedClient::new(RegistryDiscovery::start(registry), self.mode, &options);
                client.call(&self.method, &argument).await?
            }
            (None, None) => return Err(anyhow!("expected --registry URL or --to ENDPOINT")),
        };
        print_line(reply)
    }
}

async fn listen(addr: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(addr).await.with_context(|| format!("cannot listen on {addr}"))
}

/// Prints a line at once, whatever stdout is connected to. A reader that has gone is an error, not a panic.
fn print_line(line: impl Display) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    let line = printable(&line.to_string());
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).context("cannot write to stdout")
}

/// Prints an error, if that is possible, and returns the exit code that belongs to it.
pub(crate) fn print_error(error: &anyhow::Error) -> u8 {
    writeln!(std::io::stderr(), "error: {}", printable(&error_chain(error))).ok();
    error.chain().find_map(exit_code).unwrap_or(1)
}

fn exit_code(cause: &(dyn std::error::Error + 'static)) -> Option<u8> {
    let shared = cause.downcast_ref::<Arc<Error>>().map(Arc::as_ref);
    if let Some(error) = cause.downcast_ref::<Error>().or(shared) {
        return match error {
            Error::Remote(_) | Error::Refused(_) => Some(3),
            Error::Timeout { .. } => Some(4),
            Error::Io(_) | Error::Handshake(_) | Error::Disconnected(_) | Error::NotSent(_) => Some(5),
            _ => Some(1),
        };
    }
    if let Some(error) = cause.downcast_ref::<RegistryError>() {
        return match error {
            RegistryError::Timeout { .. } => Some(4),
            RegistryError::Unreachable(_) => Some(5),
            _ => Some(1),
        };
    }
    match cause.downcast_ref::<BalanceError>() {
        Some(BalanceError::Discovery(DiscoveryError::NoServers)) => Some(5),
        _ if cause.is::<serde_json::Error>() => Some(2), // the argument
        _ => None,
    }
}

/// A future of Ctrl-C or SIGTERM. They count from this call on, not from the first poll.
fn interrupted() -> anyhow::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        })
    }
    #[cfg(not(unix))]
    Ok(async { drop(tokio::signal::ctrl_c().await) })
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "expected an IP address and a port, such as 127.0.0.1:9999 or [::1]:0".to_owned())
}

/// The argument of a call: JSON, or - for JSON from stdin.
fn json(text: &str) -> anyhow::Result<Value> {
    let text = if text == "-" { &std::io::read_to_string(std::io::stdin())? } else { text };
    serde_json::from_str(text).with_context(|| format!("the argument {text:?} is not JSON"))
}

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let millis = match &text[digits.len()..] {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" => Some(60_000),
        _ => None,
    };
    let number = digits.parse::<u64>().ok().filter(|number| *number > 0);
    let total = number.zip(millis).and_then(|(number, millis)| number.checked_mul(millis));
    total
        .map(Duration::from_millis)
        .ok_or_else(|| "expected a duration above zero, such as 500ms, 10s or 2m".to_owned())
}
