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

pub mod server;

pub use error::Error;
pub use server::MAX_QUEUED_BYTES;
pub use server::handler::{Handler, HandlerFuture, Reply, Request};
pub use server::{DEFAULT_MAX_IN_FLIGHT, Listener, Server};
pub use wire::codec::{Codec, UnknownCodec};
pub use wire::frame::{DEFAULT_MAX_FRAME_LEN, FrameReader, FrameWriter};
pub use wire::handshake::{MAGIC_NUMBER, MAX_HANDSHAKE_LEN, Options};
pub use wire::message::{Header, Message, MessageReader, MessageWriter};
