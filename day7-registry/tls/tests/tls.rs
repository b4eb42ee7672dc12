//! TLS holds what plain TCP holds, and lets in whom it should.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use day7_registry::{
    BalancedClient, Client, Endpoint, Error, MultiServersDiscovery, Options, Request, SelectMode, Server,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rrpc_tls::{Identity, Peers, TlsListener, client_config, connect, connector, server_config};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_util::task::AbortOnDropHandle;

/// Waits, but not without limit.
async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(20), future).await {
        Ok(value) => value,
        Err(_) => panic!("never happened: {what}"),
    }
}

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }

    fn issue(&self, name: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        Identity { chain: vec![certificate.der().clone()], key }
    }

    fn client(&self, name: &str) -> Arc<ClientConfig> {
        client_config(self.issue(name), self.roots()).unwrap()
    }
}

/// A server whose handler answers with the names of its caller, or sleeps first, or echoes.
struct TestServer {
    endpoint: Endpoint,
    peers: Peers,
    calls: Arc<AtomicUsize>,
    stop: oneshot::Sender<()>,
    serving: AbortOnDropHandle<Result<(), Error>>,
}

impl TestServer {
    async fn start(authority: &Authority, protocol: &str, set: impl Fn(Server) -> Server) -> TestServer {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("{protocol}@{}", tcp.local_addr().unwrap()).parse().unwrap();
        let peers = Peers::default();
        let config = server_config(authority.issue("127.0.0.1"), authority.roots()).unwrap();
        let listener = TlsListener::new(tcp, config, peers.clone());
        let calls = Arc::new(AtomicUsize::new(0));
        let (counter, names) = (Arc::clone(&calls), peers.clone());
        let server = set(Server::new(move |request: Request| {
            counter.fetch_add(1, Ordering::Relaxed);
            let names = names.names(&request);
            async move {
                match request.service_method() {
                    "sleep" => {
                        tokio::time::sleep(Duration::from_millis(request.decode()?)).await;
                        Ok(request.reply(&())?)
                    }
                    "echo" => Ok(request.reply(&request.decode::<Vec<u8>>()?)?),
                    _ => Ok(request.reply(&*names)?),
                }
            }
        }));
        let (stop, stopped) = oneshot::channel::<()>();
        let is_http = protocol == "http";
        let serving = tokio::spawn(async move {
            let signal = async { drop(stopped.await) };
            match is_http {
                true => server.serve_http_with_shutdown(listener, signal).await,
                false => server.serve_with_shutdown(listener, signal).await,
            }
        });
        TestServer { endpoint, peers, calls, stop, serving: AbortOnDropHandle::new(serving) }
    }

    async fn connect(&self, config: Arc<ClientConfig>) -> Result<Client, Error> {
        within("a connection", connect(&self.endpoint, config, &Options::default())).await
    }

    fn address(&self) -> String {
        self.endpoint.to_string().split_once('@').unwrap().1.to_owned()
    }
}

async fn names(client: &Client) -> Result<Vec<String>, Error> {
    within("a reply", client.call("names", &())).await
}

#[tokio::test]
async fn a_handler_knows_who_calls_over_tcp_and_through_connect() {
    let authority = Authority::new();
    for protocol in ["tcp", "http"] {
        let server = TestServer::start(&authority, protocol, |server| server).await;
        let alice = server.connect(authority.client("alice")).await.unwrap();
        let bob = server.connect(authority.client("bob")).await.unwrap();
        assert_eq!(names(&alice).await.unwrap(), ["alice"], "{protocol}");
        assert_eq!(names(&bob).await.unwrap(), ["bob"], "{protocol}");
        assert_eq!(names(&alice).await.unwrap(), ["alice"], "{protocol}");
    }
}

#[tokio::test]
async fn a_client_of_another_authority_is_not_served() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = TestServer::start(&authority, "tcp", |server| server).await;
    let config = client_config(other.issue("alice"), authority.roots()).unwrap();
    // In TLS 1.3 a client has done its part before the server has judged it. So the error may come with the first call.
    let called = match server.connect(config).await {
        Ok(client) => names(&client).await,
        Err(error) => Err(error),
    };
    assert!(called.is_err(), "{called:?}");
    assert_eq!(server.calls.load(Ordering::Relaxed), 0);
    let alice = server.connect(authority.client("alice")).await.unwrap();
    assert_eq!(names(&alice).await.unwrap(), ["alice"]);
}

#[tokio::test]
async fn a_server_of_another_authority_or_name_is_not_called() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = TestServer::start(&authority, "tcp", |server| server).await;
    let config = client_config(authority.issue("alice"), other.roots()).unwrap();
    assert!(matches!(server.connect(config).await, Err(Error::Io(_))));
    // Its certificate has the address, but not this name.
    let port = server.address().rsplit_once(':').unwrap().1.to_owned();
    let by_name: Endpoint = format!("tcp@localhost:{port}").parse().unwrap();
    let options = Options::default();
    let connected = within("an answer", connect(&by_name, authority.client("alice"), &options)).await;
    assert!(matches!(connected, Err(Error::Io(_))), "{connected:?}");
    assert_eq!(server.calls.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_silent_client_stops_no_other() {
    let authority = Authority::new();
    let server = TestServer::start(&authority, "tcp", |server| server).await;
    let _silent = TcpStream::connect(server.address()).await.unwrap();
    let alice = server.connect(authority.client("alice")).await.unwrap();
    assert_eq!(names(&alice).await.unwrap(), ["alice"]);
}

#[tokio::test]
async fn the_limit_of_the_handshake_holds_for_tls() {
    let authority = Authority::new();
    let limit = Duration::from_millis(100);
    let server = TestServer::start(&authority, "tcp", |server| server.handshake_timeout(limit)).await;
    let mut silent = TcpStream::connect(server.address()).await.unwrap();
    let mut rest = Vec::new();
    within("the end of a silent connection", silent.read_to_end(&mut rest)).await.ok();
}

#[tokio::test]
async fn nothing_is_left_of_clients_that_have_gone() {
    let authority = Authority::new();
    let server = TestServer::start(&authority, "tcp", |server| server).await;
    for _ in 0..20 {
        let client = server.connect(authority.client("alice")).await.unwrap();
        assert_eq!(names(&client).await.unwrap(), ["alice"]);
    }
    within("an empty table", async {
        while !server.peers.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_large_body_goes_both_ways() {
    let authority = Authority::new();
    let server = TestServer::start(&authority, "tcp", |server| server).await;
    let client = server.connect(authority.client("alice")).await.unwrap();
    let body: Vec<u8> = (0..1_000_000_u32).map(|number| (number % 251) as u8).collect();
    let echo: Vec<u8> = within("an echo", client.call("echo", &body)).await.unwrap();
    assert!(echo == body);
}

#[tokio::test]
async fn a_shutdown_lets_the_calls_in_flight_finish() {
    let authority = Authority::new();
    for protocol in ["tcp", "http"] {
        let server = TestServer::start(&authority, protocol, |server| server).await;
        let client = server.connect(authority.client("alice")).await.unwrap();
        let slow = client.start::<_, ()>("sleep", &100_u64).await.unwrap();
        within("a call", async {
            while server.calls.load(Ordering::Relaxed) == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        server.stop.send(()).unwrap();
        within("the reply", slow).await.unwrap();
        within("the end of the server", server.serving).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_balanced_client_goes_on_with_the_server_that_is_left() {
    let authority = Authority::new();
    let tcp = TestServer::start(&authority, "tcp", |server| server).await;
    let http = TestServer::start(&authority, "http", |server| server).await;
    let servers = MultiServersDiscovery::new([tcp.endpoint.clone(), http.endpoint.clone()]);
    let client = BalancedClient::new(servers, SelectMode::RoundRobin, &Options::default())
        .with_connector(connector(authority.client("alice")));
    let call = async || within("a reply", client.call::<_, Vec<String>>("names", &())).await;
    for _ in 0..10 {
        assert_eq!(call().await.unwrap(), ["alice"]);
    }
    assert_eq!([&tcp, &http].map(|server| server.calls.load(Ordering::Relaxed)), [5, 5]);
    drop(tcp);
    // A call that was in flight when the server died is the caller's to repeat; there is none here.
    within("the end of a connection", async {
        while client.connections() > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    for _ in 0..10 {
        assert_eq!(call().await.unwrap(), ["alice"]);
    }
    assert_eq!(http.calls.load(Ordering::Relaxed), 15);
}
