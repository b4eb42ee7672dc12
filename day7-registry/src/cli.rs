//! The commands of day 7.

mod args;
mod print;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use day7_registry::{
    BalancedClient, Client, Codec, Endpoint, Error, Heartbeat, HttpRegistry, Instance, LIST_METHOD, Options,
    Registry, RegistryDiscovery, RegistryServer, RegistryUrl, Server, ServiceInfo,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::net::TcpListener;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

use self::args::{CallArgs, Cli, Command, ListArgs, RegistryArgs, ServerArgs, Target};
pub(crate) use self::print::print_error;
use self::print::{Mistake, print_json, print_line, print_table};
use crate::arith;

/// Runs the command that was asked for, or `story` if there was none.
pub(crate) async fn run(story: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let Cli { command, verbose } = Cli::parse();
    // What goes wrong with a call is its result, and is printed as such.
    let is_service = matches!(command, Some(Command::Registry(_) | Command::Server(_)));
    start_log(verbose.saturating_add(u8::from(is_service)))?;
    match command {
        Some(Command::Registry(args)) => args.run().await,
        Some(Command::Server(args)) => args.run().await,
        Some(Command::Call(args)) => args.run().await,
        Some(Command::List(args)) => args.run().await,
        None => story.await,
    }
}

/// Sends the log to stderr. `RUST_LOG` chooses what is logged, or else `verbose`.
fn start_log(verbose: u8) -> anyhow::Result<()> {
    let level = match verbose {
        0 => LevelFilter::ERROR,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let targets = match std::env::var("RUST_LOG") {
        Ok(text) if !text.is_empty() => {
            let expected = "expected a level, such as debug, or target=level, with commas between several";
            text.parse().map_err(|_| Mistake(format!("bad RUST_LOG {text:?}: {expected}")))?
        }
        _ => Targets::new().with_default(level),
    };
    // A log that cannot be written, as its reader has gone, is no reason to stop.
    let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).log_internal_errors(false);
    tracing_subscriber::registry().with(log.with_filter(targets)).init();
    Ok(())
}

impl RegistryArgs {
    async fn run(self) -> anyhow::Result<()> {
        let interrupted = interrupted()?;
        let listener = listen(self.addr).await?;
        print_line(format_args!("http://{}{}", listener.local_addr()?, day7_registry::REGISTRY_PATH))?;
        let registry = RegistryServer::new().lease(self.lease);
        let registry = self.host.into_iter().fold(registry, RegistryServer::host);
        Ok(registry.serve_with_shutdown(listener, interrupted).await?)
    }
}

impl ServerArgs {
    async fn run(self) -> anyhow::Result<()> {
        let interrupted = interrupted()?;
        let listener = listen(self.addr).await?;
        let addr = listener.local_addr()?;
        let own = if self.http { Endpoint::http(addr) } else { Endpoint::tcp(addr) };
        let endpoint = self.advertise.unwrap_or(own);
        if self.registry.is_some() && endpoint.is_unspecified() {
            let text = format!(
                "{endpoint} means \"every address of this machine\", and no client can connect to that: \
                 give --advertise an endpoint that clients can reach"
            );
            return Err(Mistake(text).into());
        }
        print_line(&endpoint)?;

        let instance = Instance::new(endpoint).weight(self.weight);
        let registry = self.registry.map(|url| named(url, self.service)).transpose()?;
        let heartbeat = registry.map(|url| Heartbeat::start(HttpRegistry::new(url), instance));
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
        services.add(services.listing())?;
        let server = Server::new(services.clone()).debug_page(services);
        if self.http {
            server.serve_http_with_shutdown(listener, stopped).await?;
        } else {
            server.serve_with_shutdown(listener, stopped).await?;
        }
        Ok(())
    }
}

impl CallArgs {
    async fn run(self) -> anyhow::Result<()> {
        let argument = argument(&self.argument)?;
        let timeout = self.target.timeout;
        let reply: Box<RawValue> = match self.target.place()? {
            Place::Server(endpoint) => call(&endpoint, timeout, &self.method, &argument).await?,
            Place::Registry(registry) => {
                let discovery = RegistryDiscovery::start(registry);
                let client = BalancedClient::new(discovery, self.mode, &options(timeout));
                client.call(&self.method, &argument).await?
            }
        };
        print_json(&reply)
    }
}

impl ListArgs {
    async fn run(self) -> anyhow::Result<()> {
        let timeout = self.target.timeout;
        match self.target.place()? {
            Place::Server(endpoint) => {
                let services: Vec<ServiceInfo> = call(&endpoint, timeout, LIST_METHOD, &()).await?;
                let rows = services.iter().flat_map(|service| {
                    service.methods.iter().map(|method| {
                        let name = format!("{}.{}", service.name, method.name);
                        let counts = [method.calls, method.errors, method.in_flight];
                        let [calls, errors, in_flight] = counts.map(|count| count.to_string());
                        [name, method.argument.clone(), method.reply.clone(), calls, errors, in_flight]
                    })
                });
                print_table(["METHOD", "ARGUMENT", "REPLY", "CALLS", "ERRORS", "IN FLIGHT"], rows.collect())
            }
            Place::Registry(registry) => {
                let list = registry.servers().await?;
                let row = |server: &Instance| [server.endpoint.to_string(), server.weight.to_string()];
                print_table(["ENDPOINT", "WEIGHT"], list.servers.iter().map(row).collect())
            }
        }
    }
}

/// What `--to` or `--registry` leads to.
enum Place {
    Server(Endpoint),
    Registry(HttpRegistry),
}

impl Target {
    fn place(self) -> anyhow::Result<Place> {
        match (self.place.to, self.place.registry) {
            (Some(endpoint), _) => Ok(Place::Server(endpoint)),
            (None, Some(url)) => {
                Ok(Place::Registry(HttpRegistry::new(named(url, self.service)?).timeout(self.timeout)))
            }
            (None, None) => Err(Mistake("expected --registry URL or --to ENDPOINT".to_owned()).into()),
        }
    }
}

/// The registry itself, or its part for the servers of one service.
fn named(url: RegistryUrl, service: Option<String>) -> Result<RegistryUrl, Mistake> {
    match service {
        Some(name) => format!("{url}/{name}").parse().map_err(|error| Mistake(format!("{error}"))),
        None => Ok(url),
    }
}

/// JSON, because a value of a type that is not known here can only be sent in a codec that describes itself.
fn options(timeout: Duration) -> Options {
    let options = Options::default().codecs([Codec::Json]);
    options.connect_timeout(timeout).call_timeout(timeout).handle_timeout(timeout)
}

/// Calls one server, with one limit for connecting and calling.
async fn call<A, R>(endpoint: &Endpoint, timeout: Duration, method: &str, args: &A) -> anyhow::Result<R>
where
    A: Serialize + ?Sized,
    R: DeserializeOwned,
{
    let called = async {
        let client = Client::dial(endpoint, &options(timeout)).await?;
        client.call(method, args).await
    };
    let called = tokio::time::timeout(timeout, called).await;
    let too_late = |_| Err(Error::Timeout { what: "the call", after: timeout });
    called.unwrap_or_else(too_late).with_context(|| endpoint.to_string())
}

async fn listen(addr: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(addr).await.with_context(|| format!("cannot listen on {addr}"))
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

/// The argument of a call: JSON, or - for JSON from stdin. It is sent as it was written.
fn argument(text: &str) -> anyhow::Result<Box<RawValue>> {
    let text = match text {
        "-" => std::io::read_to_string(std::io::stdin()).context("cannot read stdin")?,
        text => text.to_owned(),
    };
    RawValue::from_string(text).map_err(|error| Mistake(format!("the argument is not JSON: {error}")).into())
}
