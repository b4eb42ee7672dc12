//! What both sides show, and whom they believe.

use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use tokio_rustls::rustls::{ClientConfig, Error, RootCertStore, ServerConfig};

/// A certificate, with those between it and the root, and its private key.
#[derive(Debug)]
pub struct Identity {
    /// The own certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key of the first certificate.
    pub key: PrivateKeyDer<'static>,
}

impl Clone for Identity {
    fn clone(&self) -> Identity {
        Identity { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

/// A server that shows `identity`, and serves only clients whose certificate comes from one of `roots`.
///
/// # Errors
/// The key does not fit the certificate, or there is no root.
pub fn server_config(identity: Identity, roots: RootCertStore) -> Result<Arc<ServerConfig>, Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
    let verifier = verifier.map_err(|error: VerifierBuilderError| Error::General(error.to_string()))?;
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = config.with_client_cert_verifier(verifier);
    Ok(Arc::new(config.with_single_cert(identity.chain, identity.key)?))
}

/// A client that shows `identity`, and believes only servers whose certificate comes from one of `roots`, and has the
/// host's name or address.
///
/// # Errors
/// The key does not fit the certificate.
pub fn client_config(identity: Identity, roots: RootCertStore) -> Result<Arc<ClientConfig>, Error> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions()?.with_root_certificates(roots);
    Ok(Arc::new(config.with_client_auth_cert(identity.chain, identity.key)?))
}
