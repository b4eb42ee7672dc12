//! From an endpoint to a connection: names, addresses, and who waits for the resolver.
//!
//! ```text
//! http@example.com:80 ─▶ resolve ─▶ 2001:db8::7, 192.0.2.7 ─▶ TCP, staggered ─▶ CONNECT ─▶ handshake
//! ```
//!
//! The system's resolver blocks its thread, for as long as it likes. On a thread of Tokio's pool a lookup that
//! hangs would hold up the end of the process, and many of them the rest of the pool's work. So each name has
//! a thread of its own, which all who wait for that name share, and which no one has to wait for.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::client::Client;
use crate::client::options::Options;
use crate::deadline::limit;
use crate::error::Error;
use crate::http::connect::connect;
use crate::http::endpoint::{Address, Endpoint};
use crate::wire::tcp;

/// How many names may wait for the resolver, in the whole process. One more fails at once.
pub const MAX_LOOKUPS: usize = 64;

/// The addresses, once they are known.
type Addresses = Option<Result<Vec<SocketAddr>, Arc<io::Error>>>;

/// The lookups that wait for the resolver, by `host:port`.
static LOOKUPS: Mutex<BTreeMap<String, watch::Receiver<Addresses>>> = Mutex::new(BTreeMap::new());

impl Client {
    /// Connects to an endpoint, whichever protocol it asks for, and shakes hands.
    ///
    /// All addresses of a host's name are tried, staggered. The resolver has a thread of its own: one that hangs
    /// holds up neither the time limit nor the end of the process.
    ///
    /// # Errors
    /// As [`connect`](Client::connect) and [`connect_http`](Client::connect_http).
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection.
    pub async fn dial(endpoint: &Endpoint, options: &Options) -> Result<Client, Error> {
        limit("connecting", options.connect_timeout, async {
            match endpoint {
                Endpoint::Tcp(address) => Client::negotiate(open_tcp(address).await?, options).await,
                Endpoint::Http(address) => {
                    let io = open_tcp(address).await?;
                    Client::negotiate(connect(io, address.as_str()).await?, options).await
                }
                Endpoint::Unix(path) => dial_unix(path.as_path(), options).await,
            }
        })
        .await
    }
}

#[cfg(unix)]
async fn dial_unix(path: &Path, options: &Options) -> Result<Client, Error> {
    Client::negotiate(tokio::net::UnixStream::connect(path).await?, options).await
}

#[cfg(not(unix))]
async fn dial_unix(_: &Path, _: &Options) -> Result<Client, Error> {
    Err(io::Error::from(io::ErrorKind::Unsupported).into())
}

/// Opens a TCP connection. It has no time limit of its own.
pub(crate) async fn open_tcp(address: &Address) -> io::Result<TcpStream> {
    let addrs = resolve(address.as_str()).await?;
    tcp::connect(&addrs[..]).await
}

async fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
    if let Ok(addr) = address.parse() {
        return Ok(vec![addr]); // it is no name
    }
    let mut lookup = look_up(address)?;
    let known = lookup.wait_for(Option::is_some).await.map_err(io::Error::other)?.clone();
    known.unwrap_or(Ok(Vec::new())).map_err(|error| io::Error::new(error.kind(), error))
}

/// Joins the lookup of this name, or begins one.
fn look_up(address: &str) -> io::Result<watch::Receiver<Addresses>> {
    let mut waiting = lookups();
    if let Some(lookup) = waiting.get(address) {
        return Ok(lookup.clone());
    }
    if waiting.len() >= MAX_LOOKUPS {
        return Err(io::Error::other(format!("{MAX_LOOKUPS} names wait for the resolver already")));
    }
    let (sender, lookup) = watch::channel(None);
    let name = address.to_owned();
    thread::Builder::new().name("resolver".to_owned()).spawn(move || {
        let addrs = name.to_socket_addrs().map(Iterator::collect).map_err(Arc::new);
        lookups().remove(&name);
        sender.send_replace(Some(addrs));
    })?;
    waiting.insert(address.to_owned(), lookup.clone());
    Ok(lookup)
}

fn lookups() -> MutexGuard<'static, BTreeMap<String, watch::Receiver<Addresses>>> {
    LOOKUPS.lock().unwrap_or_else(PoisonError::into_inner)
}
