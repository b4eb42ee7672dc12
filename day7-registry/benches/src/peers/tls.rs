//! This course through mutual TLS, as `day7-registry/tls` does it.
//!
//! Both processes make the same authority, because they have the same key, so nothing has to be sent from one to the
//! other. Each has a certificate of its own from it. The key is no secret: this is for the loopback only.

use std::net::SocketAddr;

use anyhow::{Error, Result};
use day7_registry::{Client, Codec, Endpoint, Options};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rrpc_tls::{Identity, Peers, TlsListener, client_config, server_config};
use tokio::net::TcpListener;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// What stands before the 32 bytes of an Ed25519 key in PKCS #8 (RFC 8410).
const ED25519: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// A certificate for the loopback's address, and the authority that it is from.
fn identity() -> Result<(Identity, RootCertStore)> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::try_from([&ED25519[..], &[7; 32]].concat())?;
    let authority = CertifiedIssuer::self_signed(params, key)?;
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone())?;

    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(["127.0.0.1".to_owned()])?.signed_by(&key, &authority)?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(Error::msg)?;
    Ok((Identity { chain: vec![certificate.der().clone()], key }, roots))
}

pub(crate) async fn serve(announce: impl FnOnce(SocketAddr)) -> Result<()> {
    let (identity, roots) = identity()?;
    let tcp = TcpListener::bind("127.0.0.1:0").await?;
    announce(tcp.local_addr()?);
    let listener = TlsListener::new(tcp, server_config(identity, roots)?, Peers::default());
    super::rrpc::server()?.serve(listener).await;
    Ok(())
}

pub(crate) async fn connect(addr: SocketAddr) -> Result<Client> {
    let (identity, roots) = identity()?;
    let endpoint: Endpoint = format!("tcp@{addr}").parse()?;
    let options = Options::default().codecs([Codec::Bincode]);
    Ok(rrpc_tls::connect(&endpoint, client_config(identity, roots)?, &options).await?)
}
