#![doc = include_str!("../README.md")]

mod config;
mod connect;
mod listener;
mod peers;

pub use config::{Identity, client_config, server_config};
pub use connect::{connect, connector};
pub use listener::{TlsListener, TlsServerStream};
pub use peers::Peers;
