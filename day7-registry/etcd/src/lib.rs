#![doc = include_str!("../README.md")]

mod gateway;
mod registry;
mod watch;

pub use gateway::Member;
pub use registry::EtcdRegistry;
