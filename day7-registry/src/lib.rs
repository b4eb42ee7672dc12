#![doc = include_str!("../README.md")]

pub mod error;

pub mod deadline;

/// Bytes ⇄ typed messages. This layer knows no client and no server.
pub mod wire {
    pub mod codec;
    pub mod frame;
    pub mod handshake;
    pub(crate) mod linger;
    pub mod message;
    pub(crate) mod tcp;
    mod write_buf;
}

pub mod server;

pub mod client;

pub mod service;

/// The same calls on a port that speaks HTTP, a page about them, and where servers are.
pub mod http {
    pub mod connect;
    pub mod debug;
    pub mod dial;
    pub mod door;
    pub mod endpoint;
}

pub mod balance;

pub mod registry;

pub use balance::broadcast::{BROADCAST_STEP, MAX_BROADCAST};
pub use balance::discovery::{Discovery, DiscoveryError, Instance, Servers};
pub use balance::error::BalanceError;
pub use balance::multi_servers::MultiServersDiscovery;
pub use balance::pool::Connecting;
pub use balance::select::{SelectMode, UnknownSelectMode};
pub use balance::{BalancedClient, StartedCall};
pub use client::options::Options;
pub use client::{Client, PendingCall};
pub use deadline::{
    BUDGET_TIMEOUT, DEFAULT_CALL_TIMEOUT, DEFAULT_CONNECT_TIMEOUT, DEFAULT_GRACE_PERIOD,
    DEFAULT_HANDLE_TIMEOUT, DEFAULT_HANDSHAKE_TIMEOUT, DEFAULT_IDLE_TIMEOUT, DEFAULT_MESSAGE_TIMEOUT,
    DEFAULT_PING_INTERVAL, DEFAULT_PING_TIMEOUT, DEFAULT_READ_TIMEOUT, DEFAULT_WRITE_TIMEOUT,
};
pub use error::{Code, Error, MAX_ERROR_CHARS, RemoteError};
pub use http::connect::{MAX_HTTP_HEADER_LEN, RPC_PATH};
pub use http::door::DEBUG_PATH;
pub use http::endpoint::{Address, Endpoint, EndpointError, SocketPath};
pub use registry::client::{HttpRegistry, MAX_LIST_LEN};
pub use registry::discovery::{MAX_REFRESH_INTERVAL, MIN_REFRESH_INTERVAL, RegistryDiscovery};
pub use registry::heartbeat::{Heartbeat, MAX_HEARTBEAT_INTERVAL};
pub use registry::server::RegistryServer;
pub use registry::url::{RegistryUrl, RegistryUrlError};
pub use registry::{
    AGE_HEADER, DEFAULT_LEASE, DEFAULT_MAX_SERVERS, DEFAULT_REGISTRY_TIMEOUT, INSTANCE_HEADER, LEASE_HEADER,
    MAX_BACKOFF, MAX_INSTANCE_ID_LEN, MAX_NAME_LEN, MAX_SERVER_LEN, MAX_SERVERS_HEADER_LEN, REGISTRY_PATH,
    Registry, RegistryError, SERVER_HEADER, SERVERS_HEADER, ServerList, WEIGHT_HEADER,
};
pub use server::handler::{Handler, HandlerFuture, Reply, Request};
pub use server::listener::Listener;
pub use server::{
    DEFAULT_MAX_CONNECTIONS, DEFAULT_MAX_REQUEST_BYTES, LARGE_BODY_LEN, MAX_QUEUED_BYTES, Server,
};
pub use service::contract::Caller;
pub use service::map::ServiceMap;
pub use service::map::listing::{LIST_METHOD, MethodInfo, ServiceInfo};
pub use service::{Method, Service, ServiceBuilder, ServiceError};
pub use wire::codec::Codec;
pub use wire::frame::{FrameReader, FrameWriter};
pub use wire::handshake::{
    ClientHello, DEFAULT_MAX_BODY_LEN, DEFAULT_MAX_IN_FLIGHT, Limits, MAGIC_NUMBER, MAX_HANDSHAKE_LEN,
    ServerHello,
};
pub use wire::message::{MAX_HEADER_LEN, Message, MessageReader, Metadata};
