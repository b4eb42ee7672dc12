//! The client's side: TCP, then TLS, then what the endpoint asks for.

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use day7_registry::{Client, DEFAULT_CONNECT_TIMEOUT, Endpoint, Error, Options};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

/// Connects to `tcp@host:port` over TLS, or to `http@host:port` by a `CONNECT` inside of TLS. The server's certificate
/// must have this host. TCP and TLS together have [`DEFAULT_CONNECT_TIMEOUT`], and then the handshake of rrpc what
/// `options` say.
///
/// # Errors
/// [`Error::Io`] if there is no connection, or the server's certificate is not believed. A server that does not believe
/// ours says so when it is first read: [`Error::Io`] or [`Error::Handshake`].
///
/// # Cancel safety
/// Dropping the future closes the connection.
pub async fn connect(
    endpoint: &Endpoint,
    config: Arc<ClientConfig>,
    options: &Options,
) -> Result<Client, Error> {
    match endpoint {
        Endpoint::Tcp(address) => Client::handshake(open(address.as_str(), config).await?, options).await,
        Endpoint::Http(address) => {
            let tls = open(address.as_str(), config).await?;
            Client::handshake_http(tls, address.as_str(), options).await
        }
        other => {
            let reason = format!("{other}: TLS is spoken to tcp@ and http@");
            Err(io::Error::new(io::ErrorKind::InvalidInput, reason).into())
        }
    }
}

/// What [`BalancedClient::with_connector`](day7_registry::BalancedClient::with_connector) takes.
pub fn connector(
    config: Arc<ClientConfig>,
) -> impl Fn(Endpoint, Options) -> Pin<Box<dyn Future<Output = Result<Client, Error>> + Send>> {
    move |endpoint, options| {
        let config = Arc::clone(&config);
        Box::pin(async move { connect(&endpoint, config, &options).await })
    }
}

async fn open(address: &str, config: Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    timeout(DEFAULT_CONNECT_TIMEOUT, shake_hands(address, config)).await?
}

async fn shake_hands(address: &str, config: Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_matches(['[', ']']).to_owned();
    let host =
        ServerName::try_from(host).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    TlsConnector::from(config).connect(host, tcp).await
}
