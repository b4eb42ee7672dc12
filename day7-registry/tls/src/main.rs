//! The story of this package, in one process: mutual TLS, and a server that knows who calls.
//!
//! ```sh
//! cargo run --manifest-path day7-registry/tls/Cargo.toml
//! ```

use anyhow::{Context, bail};
use day7_registry::{
    BalancedClient, Code, Endpoint, MultiServersDiscovery, Options, RemoteError, Request, SelectMode, Server,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rrpc_tls::{Identity, Peers, TlsListener, client_config, connector, server_config};
use tokio::net::TcpListener;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    println!("== One authority, and a certificate for each ==");
    let (ours, theirs) = (Authority::new("ours")?, Authority::new("theirs")?);
    println!("servers are \"localhost\", clients are \"alice\" and \"bob\"");

    println!("\n== Two servers that serve clients with a certificate only ==");
    let mut endpoints = Vec::new();
    for _ in 0..2 {
        let peers = Peers::default();
        let config = server_config(ours.issue("localhost")?, ours.roots()?)?;
        let tcp = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint: Endpoint = format!("tcp@localhost:{}", tcp.local_addr()?.port()).parse()?;
        println!("{endpoint} listens");
        let listener = TlsListener::new(tcp, config, peers.clone());
        let server = Server::new(move |request| greet(request, peers.clone()));
        tokio::spawn(async move { server.serve(listener).await });
        endpoints.push(endpoint);
    }

    println!("\n== A balanced client for each ==");
    for name in ["alice", "bob"] {
        let client = balanced(&endpoints, &ours, ours.issue(name)?)?;
        for _ in 0..2 {
            let reply: String = client.call("Door.greet", &()).await?;
            println!("{name} is told: {reply}");
        }
    }

    println!("\n== Who is not let in ==");
    let stranger = balanced(&endpoints, &ours, theirs.issue("alice")?)?;
    match stranger.call::<_, String>("Door.greet", &()).await {
        Ok(reply) => bail!("a stranger was greeted: {reply}"),
        Err(error) => println!("another authority's alice:   {error}"),
    }
    let deceived = balanced(&endpoints, &theirs, ours.issue("alice")?)?;
    match deceived.call::<_, String>("Door.greet", &()).await {
        Ok(reply) => bail!("a client believed a stranger: {reply}"),
        Err(error) => println!("a server without a voucher:  {error}"),
    }
    Ok(())
}

/// A handler that asks who calls.
async fn greet(request: Request, peers: Peers) -> anyhow::Result<day7_registry::Reply> {
    match peers.names(&request).first() {
        Some(name) => Ok(request.reply(&format!("good morning, {name}"))?),
        None => Err(RemoteError::new(Code::UNAUTHENTICATED, "the certificate has no name").into()),
    }
}

fn balanced(
    endpoints: &[Endpoint],
    authority: &Authority,
    identity: Identity,
) -> anyhow::Result<BalancedClient> {
    let config = client_config(identity, authority.roots()?)?;
    let servers = MultiServersDiscovery::new(endpoints.to_vec());
    let client = BalancedClient::new(servers, SelectMode::RoundRobin, &Options::default());
    Ok(client.with_connector(connector(config)))
}

/// Vouches for names. A real one keeps its key away from the machines that it vouches for.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> anyhow::Result<Authority> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(Authority(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    fn roots(&self) -> anyhow::Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).context("the root is no certificate")?;
        Ok(roots)
    }

    fn issue(&self, name: &str) -> anyhow::Result<Identity> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new([name.to_owned()])?.signed_by(&key, &self.0)?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        Ok(Identity { chain: vec![certificate.der().clone()], key })
    }
}
