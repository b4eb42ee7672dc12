//! Who is connected: the names in the certificates, by address.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use day7_registry::Request;
use tokio_rustls::rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// The names of the clients that are connected to a [`TlsListener`](crate::TlsListener).
///
/// A handler knows a peer by its address, and two connections that live have two addresses. So one table is enough: an
/// entry comes with the handshake, and goes with the stream.
#[derive(Clone, Debug, Default)]
pub struct Peers {
    names: Arc<Mutex<HashMap<SocketAddr, Arc<[String]>>>>,
}

impl Peers {
    /// The names in the certificate of the client that sent this request. They were checked by the handshake.
    pub fn names(&self, request: &Request) -> Arc<[String]> {
        let names = request.peer().and_then(|peer| self.table().get(&peer).cloned());
        names.unwrap_or_default()
    }

    /// How many clients are connected.
    pub fn len(&self) -> usize {
        self.table().len()
    }

    /// Whether no client is connected.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn insert(&self, peer: SocketAddr, certificate: &CertificateDer<'_>) -> Connected {
        let parsed = EndEntityCert::try_from(certificate);
        let names =
            parsed.iter().flat_map(|certificate| certificate.valid_dns_names()).map(str::to_owned).collect();
        self.table().insert(peer, names);
        Connected { peers: self.clone(), peer }
    }

    fn table(&self) -> MutexGuard<'_, HashMap<SocketAddr, Arc<[String]>>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Owns one entry.
#[derive(Debug)]
pub(crate) struct Connected {
    peers: Peers,
    peer: SocketAddr,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.peers.table().remove(&self.peer);
    }
}
