//! The registry: the one address that servers and clients know.
//!
//! ```text
//! server ── POST, again and again ──▶ ┌──────────┐
//!        ◀─ the lease: 10 s ───────── │ registry │ ── GET ──▶ client
//! a server that stops renewing …      └──────────┘
//!                        … is forgotten when its lease ends
//! ```
//!
//! A server that crashes cannot deregister. So an entry is a *lease*: it ends by itself unless it is renewed. The
//! registry speaks plain HTTP, so `curl` is a client of it as well:
//!
//! ```text
//! POST   /_rrpc_/registry   X-Rrpc-Server: tcp@10.0.0.7:9999   registers or renews; 200 and the lease
//! GET    /_rrpc_/registry                                      200 and the list
//! DELETE /_rrpc_/registry   X-Rrpc-Server: tcp@10.0.0.7:9999   deregisters; 204
//! ```
//!
//! `/_rrpc_/registry/NAME` is the same for the servers of one service.
//!
//! What servers and clients need of a registry is the trait [`Registry`]. [`HttpRegistry`](client::HttpRegistry)
//! sends it to a [`RegistryServer`](server::RegistryServer); another implementation may use etcd.

mod backoff;
pub mod client;
pub mod discovery;
pub mod heartbeat;
mod leases;
mod request;
pub mod server;
pub mod url;

use std::sync::Arc;
use std::time::Duration;

use crate::balance::discovery::Instance;

/// Where a registry is found on its port. A slash and a name behind it are the servers of that name alone.
pub const REGISTRY_PATH: &str = "/_rrpc_/registry";
/// The header of a request that names one server.
pub const SERVER_HEADER: &str = "x-rrpc-server";
/// The header of a request with the weight of that server, from 1 to 65535. Without it, the weight is 1.
pub const WEIGHT_HEADER: &str = "x-rrpc-weight";
/// The header of a request with the id of the instance that sends it.
pub const INSTANCE_HEADER: &str = "x-rrpc-instance";
/// The header of an answer that lists all servers, with commas between them.
pub const SERVERS_HEADER: &str = "x-rrpc-servers";
/// The header of an answer that says how long a lease is, in milliseconds.
pub const LEASE_HEADER: &str = "x-rrpc-lease-ms";
/// The header of an answer that says for how long the registry has been answering, in milliseconds.
pub const AGE_HEADER: &str = "x-rrpc-age-ms";

/// The default for a lease.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(10);
/// The limit for the servers in the list, and for those that a client takes from it. One more is refused.
pub const DEFAULT_MAX_SERVERS: usize = 10_000;
/// The longest endpoint that can be registered, in bytes. It has as many in JSON, so a list of
/// [`DEFAULT_MAX_SERVERS`] is never longer than [`MAX_LIST_LEN`](crate::MAX_LIST_LEN).
pub const MAX_SERVER_LEN: usize = 200;
/// The longest name of a service at a registry, in bytes.
pub const MAX_NAME_LEN: usize = 64;
/// The longest id of an instance, in bytes.
pub const MAX_INSTANCE_ID_LEN: usize = 64;
/// The longest list that is sent as a header, in bytes. A longer one is in the body alone.
pub const MAX_SERVERS_HEADER_LEN: usize = 4096;
/// The default for one request to the registry, from connecting to the last byte of the answer.
pub const DEFAULT_REGISTRY_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest pause after a failed heartbeat or refresh. A third of the lease, if that is shorter.
pub const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// A registry, as its users see it: [`Heartbeat`](heartbeat::Heartbeat) registers a server, and
/// [`RegistryDiscovery`](discovery::RegistryDiscovery) lists the servers. One value is for the servers of one service.
///
/// ```
/// use std::time::Duration;
/// use day7_registry::{Instance, Registry, RegistryError, ServerList};
///
/// /// A list that never changes.
/// struct Fixed(Vec<Instance>);
///
/// impl Registry for Fixed {
///     async fn register(&self, _: &Instance) -> Result<Duration, RegistryError> {
///         Ok(Duration::from_secs(60))
///     }
///
///     async fn deregister(&self, _: &Instance) -> Result<(), RegistryError> {
///         Ok(())
///     }
///
///     async fn servers(&self) -> Result<ServerList, RegistryError> {
///         Ok(ServerList::new(self.0.clone(), Duration::from_secs(60)))
///     }
/// }
/// ```
///
/// # Contract
/// A dropped future gives its request up. A `register` that was given up must not take effect after a `deregister`
/// that came later, or a dead server is listed for one more lease.
pub trait Registry: Send + Sync + 'static {
    /// Registers an instance or renews its lease, and returns how long the lease is. Never zero.
    ///
    /// # Errors
    /// [`RegistryError`]. The instance may be registered or not.
    fn register(&self, instance: &Instance) -> impl Future<Output = Result<Duration, RegistryError>> + Send;

    /// Takes an instance off the list. It is no error if it is not there.
    ///
    /// # Errors
    /// [`RegistryError`]. The instance may be in the list until its lease ends.
    fn deregister(&self, instance: &Instance) -> impl Future<Output = Result<(), RegistryError>> + Send;

    /// The servers that are alive.
    ///
    /// # Errors
    /// [`RegistryError`].
    fn servers(&self) -> impl Future<Output = Result<ServerList, RegistryError>> + Send;

    /// How long one request may take. A heartbeat and a discovery give up one that takes longer. Default:
    /// [`DEFAULT_REGISTRY_TIMEOUT`].
    fn time_limit(&self) -> Duration {
        DEFAULT_REGISTRY_TIMEOUT
    }
}

/// The servers that a registry lists.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerList {
    /// The servers that are alive. It may be empty.
    pub servers: Vec<Instance>,
    /// How long a lease is. More than zero.
    pub lease: Duration,
    /// For how long the registry has been answering. While this is less than a lease, it may not know all servers yet.
    pub age: Duration,
}

impl ServerList {
    /// The list of a registry that knows all servers.
    pub fn new(servers: Vec<Instance>, lease: Duration) -> ServerList {
        ServerList { servers, lease, age: Duration::MAX }
    }

    /// The same list, of a registry that has been answering for so long.
    pub fn age(self, age: Duration) -> ServerList {
        ServerList { age, ..self }
    }
}

/// Why a request to the registry failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// There is no connection, or it broke before the answer was complete.
    #[error("the registry cannot be reached: {0}")]
    Unreachable(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// It took longer than allowed.
    #[error("the registry did not answer within {after:?}")]
    Timeout {
        /// The limit that was reached.
        after: Duration,
    },
    /// The registry refused.
    #[error("the registry answered {status}: {text}")]
    Status {
        /// The HTTP status code. It is not of the 2xx.
        status: u16,
        /// The text of the answer, shortened.
        text: String,
    },
    /// The answer has a good status, but it is not the answer of a registry.
    #[error("the registry's answer is invalid: {0}")]
    InvalidResponse(String),
}

/// Runs one request to a registry, under a limit.
async fn in_time<T>(
    after: Duration,
    request: impl Future<Output = Result<T, RegistryError>>,
) -> Result<T, RegistryError> {
    tokio::time::timeout(after, request).await.unwrap_or(Err(RegistryError::Timeout { after }))
}
