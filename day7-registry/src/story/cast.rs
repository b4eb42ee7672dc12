//! Who plays a part in the story: a registry, servers, and a cable that can be cut.

use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use day7_registry::{
    Endpoint, Heartbeat, HttpRegistry, Method, RegistryServer, RegistryUrl, Server, ServiceMap,
};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::arith;

pub(super) const LEASE: Duration = Duration::from_secs(1);

/// A registry, which ends with this value.
pub(super) struct RunningRegistry {
    pub(super) url: RegistryUrl,
    addr: SocketAddr,
    registry: RegistryServer,
    serving: AbortOnDropHandle<()>,
}

impl RunningRegistry {
    pub(super) async fn start() -> anyhow::Result<RunningRegistry> {
        RunningRegistry::start_at(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    pub(super) async fn start_at(addr: SocketAddr) -> anyhow::Result<RunningRegistry> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let registry = RegistryServer::new().lease(LEASE);
        let serving = registry.clone();
        let serving = AbortOnDropHandle::new(tokio::spawn(async move { serving.serve(listener).await }));
        Ok(RunningRegistry { url: format!("http://{addr}").parse()?, addr, registry, serving })
    }

    /// How many servers it lists for this service.
    pub(super) fn servers(&self, service: &str) -> usize {
        self.registry.servers_of(service).len()
    }

    /// Ends it, and forgets all that it knew.
    pub(super) async fn kill(self) -> SocketAddr {
        self.serving.abort();
        self.serving.await.ok();
        self.addr
    }
}

/// One server: its own port, its own counters, its own heartbeat.
pub(super) struct Member {
    pub(super) name: &'static str,
    /// Where clients reach it.
    pub(super) endpoint: Endpoint,
    services: ServiceMap,
    heartbeat: Heartbeat,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), day7_registry::Error>>,
}

impl Member {
    pub(super) async fn start(name: &'static str, registry: &RegistryUrl) -> anyhow::Result<Member> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = Endpoint::tcp(listener.local_addr()?);
        Member::serve(name, registry, listener, endpoint).await
    }

    /// Clients reach it through a cable. Its heartbeats go to the registry without one.
    pub(super) async fn start_behind_a_cable(
        name: &'static str,
        registry: &RegistryUrl,
    ) -> anyhow::Result<(Member, Cable)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let cable = Cable::to(listener.local_addr()?).await?;
        let member = Member::serve(name, registry, listener, cable.endpoint.clone()).await?;
        Ok((member, cable))
    }

    async fn serve(
        name: &'static str,
        registry: &RegistryUrl,
        listener: TcpListener,
        endpoint: Endpoint,
    ) -> anyhow::Result<Member> {
        let services = arith()?;
        let server = Server::new(services.clone());
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            // A sender that is dropped is a signal as well.
            server.serve_with_shutdown(listener, async { drop(stopped.await) }).await
        });
        let heartbeat = Heartbeat::start(HttpRegistry::new(registry.clone()), endpoint.clone());
        wait_for("the first heartbeat", heartbeat.wait_registered()).await?;
        println!("server {name}   {endpoint} is registered");
        Ok(Member { name, endpoint, services, heartbeat, stop, task })
    }

    /// How many calls of `Arith.sum` it got so far.
    pub(super) fn sums(&self) -> u64 {
        self.count("sum", Method::calls)
    }

    /// How many calls of `Arith.sleep` it runs now.
    pub(super) fn sleeping(&self) -> u64 {
        self.count("sleep", Method::in_flight)
    }

    fn count(&self, method: &str, counter: impl Fn(&Method) -> u64) -> u64 {
        let arith = self.services.get("Arith");
        arith.as_ref().and_then(|arith| arith.method(method)).map_or(0, counter)
    }

    /// Ends it as a crash would: no goaway, no deregistration.
    pub(super) async fn kill(self) -> Endpoint {
        drop(self.heartbeat);
        self.task.abort();
        self.task.await.ok();
        self.endpoint
    }

    /// Leaves the registry first, so that no new calls come; then finishes those in flight.
    pub(super) async fn shut_down(self) -> anyhow::Result<()> {
        self.heartbeat.shutdown().await?;
        drop(self.stop);
        Ok(self.task.await??)
    }
}

/// What lies between clients and a server. Once it is cut, no byte arrives, and no connection is closed.
pub(super) struct Cable {
    endpoint: Endpoint,
    cut: CancellationToken,
    _forwarding: AbortOnDropHandle<()>,
}

impl Cable {
    async fn to(server: SocketAddr) -> anyhow::Result<Cable> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = Endpoint::tcp(listener.local_addr()?);
        let cut = CancellationToken::new();
        let is_cut = cut.clone();
        let forwarding = AbortOnDropHandle::new(tokio::spawn(async move {
            let mut streams = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                streams.spawn(forward(stream, server, is_cut.clone()));
            }
        }));
        Ok(Cable { endpoint, cut, _forwarding: forwarding })
    }

    pub(super) fn cut(&self) {
        self.cut.cancel();
    }
}

async fn forward(mut client: TcpStream, server: SocketAddr, cut: CancellationToken) {
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => {}
        () = cut.cancelled() => pending().await, // both streams stay open
    }
}

/// Waits for something to happen, but not without limit.
pub(super) async fn wait_for<T>(what: &str, event: impl Future<Output = T>) -> anyhow::Result<T> {
    tokio::time::timeout(Duration::from_secs(5), event)
        .await
        .with_context(|| format!("never happened: {what}"))
}

/// Waits for something that sends no signal.
pub(super) async fn wait_until(what: &str, mut condition: impl FnMut() -> bool) -> anyhow::Result<()> {
    wait_for(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}
