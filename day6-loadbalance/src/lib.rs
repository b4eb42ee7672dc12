#![doc = include_str!("../README.md")]

pub mod balance;
pub mod broadcast;
pub mod client;
pub mod codec;
mod connection;
pub mod deadline;
pub mod debug;
pub mod discovery;
mod dispatch;
pub mod endpoint;
pub mod error;
pub mod frame;
pub mod handler;
pub mod handshake;
pub mod http;
pub mod message;
pub mod pending;
mod pool;
mod queue;
pub mod select;
pub mod server;
pub mod service;

pub use balance::{BalanceError, BalancedClient};
pub use broadcast::MAX_BROADCAST;
pub use client::{Client, PendingCall};
pub use codec::{Codec, UnknownCodec};
pub use connection::{CANCEL, MAX_QUEUED_BYTES};
pub use deadline::{
    DEFAULT_CALL_TIMEOUT, DEFAULT_CONNECT_TIMEOUT, DEFAULT_GRACE_PERIOD, DEFAULT_HANDLE_TIMEOUT,
    DEFAULT_HANDSHAKE_TIMEOUT, DEFAULT_WRITE_TIMEOUT,
};
pub use discovery::{Discovery, DiscoveryError, MultiServersDiscovery};
pub use endpoint::{Address, Endpoint, EndpointError, SocketPath};
pub use error::Error;
pub use frame::{DEFAULT_MAX_FRAME_LEN, FrameReader, FrameWriter};
pub use handler::{Handler, HandlerFuture, Reply, Request};
pub use handshake::{MAGIC_NUMBER, MAX_HANDSHAKE_LEN, Options};
pub use http::{DEBUG_PATH, MAX_HTTP_HEADER_LEN, RPC_PATH};
pub use message::{Header, Message, MessageReader, MessageWriter};
pub use pending::{DEFAULT_MAX_PENDING, InFlight, Outcome, Pending};
pub use select::{SelectMode, UnknownSelectMode};
pub use server::{DEFAULT_MAX_CONNECTIONS, DEFAULT_MAX_IN_FLIGHT, Listener, Server};
pub use service::{Method, Service, ServiceBuilder, ServiceError, ServiceMap};
