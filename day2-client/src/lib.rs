#![doc = include_str!("../README.md")]

pub mod client;
pub mod codec;
mod connection;
mod dispatch;
pub mod error;
pub mod frame;
pub mod handler;
pub mod handshake;
pub mod message;
pub mod pending;
mod queue;
pub mod server;

pub use client::{Client, PendingCall};
pub use codec::{Codec, UnknownCodec};
pub use connection::MAX_QUEUED_BYTES;
pub use error::Error;
pub use frame::{DEFAULT_MAX_FRAME_LEN, FrameReader, FrameWriter};
pub use handler::{Handler, HandlerFuture, Reply, Request};
pub use handshake::{MAGIC_NUMBER, MAX_HANDSHAKE_LEN, Options};
pub use message::{Header, Message, MessageReader, MessageWriter};
pub use pending::{DEFAULT_MAX_PENDING, InFlight, Outcome, Pending};
pub use server::{DEFAULT_MAX_IN_FLIGHT, Listener, Server};
