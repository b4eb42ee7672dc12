#![doc = include_str!("../README.md")]

pub mod error;

/// Bytes ⇄ messages. This room knows no client and no server.
pub mod wire {
    pub mod codec;
    pub mod frame;
    pub mod handshake;
    pub mod message;
    mod write_buf;
}

pub mod deadline;
pub mod server;

pub mod client;

pub mod service;

/// The same calls on a port that speaks HTTP, and a page about them.
pub mod http {
    pub mod connect;
    pub mod debug;
    pub mod door;
    pub mod endpoint;
}

pub use client::in_flight::{DEFAULT_MAX_PENDING, InFlight, Outcome, Pending};
pub use client::{Client, PendingCall};
pub use deadline::{
    DEFAULT_CALL_TIMEOUT, DEFAULT_CONNECT_TIMEOUT, DEFAULT_GRACE_PERIOD, DEFAULT_HANDLE_TIMEOUT,
    DEFAULT_HANDSHAKE_TIMEOUT, DEFAULT_WRITE_TIMEOUT,
};
pub use error::Error;
pub use http::connect::{MAX_HTTP_HEADER_LEN, RPC_PATH};
pub use http::door::DEBUG_PATH;
pub use http::endpoint::{Address, Endpoint, EndpointError, SocketPath};
pub use server::MAX_QUEUED_BYTES;
pub use server::handler::{Handler, HandlerFuture, Reply, Request};
pub use server::{DEFAULT_MAX_CONNECTIONS, DEFAULT_MAX_IN_FLIGHT, Listener, Server};
pub use service::{Method, Service, ServiceBuilder, ServiceError, ServiceMap};
pub use wire::codec::{Codec, UnknownCodec};
pub use wire::frame::{DEFAULT_MAX_FRAME_LEN, FrameReader, FrameWriter};
pub use wire::handshake::{MAGIC_NUMBER, MAX_HANDSHAKE_LEN, Options};
pub use wire::message::{CANCEL, Header, Message, MessageReader, MessageWriter, REFUSED};
