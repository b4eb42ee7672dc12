//! The competitors. Each has a server and a client, written as its own documentation writes them, with its
//! defaults.
//!
//! | module | what it is |
//! |---|---|
//! | [`rrpc`] | this course: bincode, JSON, and bincode through HTTP `CONNECT` |
//! | [`tls`] | this course through mutual TLS |
//! | [`tarpc`] | tarpc over TCP: bincode and JSON |
//! | [`tonic`] | gRPC: protobuf over HTTP/2 |
//! | [`floor`] | no library at all: what the system and the runtime cost by themselves |

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use clap::ValueEnum;
use day7_registry::Codec;

use crate::load::{self, Meter};
use crate::workload::Workload;

pub(crate) mod floor;
pub(crate) mod floor_tasks;
pub(crate) mod rrpc;
pub(crate) mod tarpc;
pub(crate) mod tls;
pub(crate) mod tonic;

/// One competitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// This course, bincode over TCP
    RrpcBincode,
    /// This course, JSON over TCP
    RrpcJson,
    /// This course, bincode after an HTTP CONNECT
    RrpcHttp,
    /// This course, bincode over mutual TLS
    RrpcTls,
    /// tarpc 0.38, bincode over TCP
    TarpcBincode,
    /// tarpc 0.38, JSON over TCP
    TarpcJson,
    /// tonic 0.14, protobuf over HTTP/2
    Tonic,
    /// Frames back and forth: no table, no tasks, one loop on each side
    FloorBare,
    /// Frames back and forth, with a table entry, a oneshot and a spawned task a call
    FloorTasks,
    /// The same, and each writer yields once to the scheduler before it writes a batch
    FloorTasksYield,
}

impl Peer {
    pub(crate) const ALL: [Peer; 10] = [
        Peer::RrpcBincode,
        Peer::RrpcJson,
        Peer::RrpcHttp,
        Peer::RrpcTls,
        Peer::TarpcBincode,
        Peer::TarpcJson,
        Peer::Tonic,
        Peer::FloorBare,
        Peer::FloorTasks,
        Peer::FloorTasksYield,
    ];

    /// Whether this is what remains without a library.
    pub(crate) fn is_floor(self) -> bool {
        matches!(self, Peer::FloorBare | Peer::FloorTasks | Peer::FloorTasksYield)
    }

    /// Listens on a free port of the loopback, says where, and serves until it is stopped.
    pub(crate) async fn serve(self, announce: impl FnOnce(SocketAddr)) -> Result<()> {
        match self {
            Peer::RrpcBincode | Peer::RrpcJson => rrpc::serve(announce).await,
            Peer::RrpcHttp => rrpc::serve_http(announce).await,
            Peer::RrpcTls => tls::serve(announce).await,
            Peer::TarpcBincode => tarpc::serve_bincode(announce).await,
            Peer::TarpcJson => tarpc::serve_json(announce).await,
            Peer::Tonic => tonic::serve(announce).await,
            Peer::FloorBare => floor::serve(announce).await,
            Peer::FloorTasks => floor_tasks::serve(announce, false).await,
            Peer::FloorTasksYield => floor_tasks::serve(announce, true).await,
        }
    }

    /// Connects once, and keeps the workload's calls in flight until the meter says that it is over.
    ///
    /// # Errors
    /// A call failed, or its answer was wrong.
    pub(crate) async fn drive(self, addr: SocketAddr, workload: Workload, meter: Arc<Meter>) -> Result<()> {
        match self {
            Peer::RrpcBincode => {
                load::drive(rrpc::connect(addr, Codec::Bincode).await?, workload, meter).await
            }
            Peer::RrpcJson => load::drive(rrpc::connect(addr, Codec::Json).await?, workload, meter).await,
            Peer::RrpcHttp => load::drive(rrpc::connect_http(addr).await?, workload, meter).await,
            Peer::RrpcTls => load::drive(tls::connect(addr).await?, workload, meter).await,
            Peer::TarpcBincode => load::drive(tarpc::connect_bincode(addr).await?, workload, meter).await,
            Peer::TarpcJson => load::drive(tarpc::connect_json(addr).await?, workload, meter).await,
            Peer::Tonic => load::drive(tonic::connect(addr).await?, workload, meter).await,
            Peer::FloorBare => floor::drive(addr, workload, &meter).await,
            Peer::FloorTasks => load::drive(floor_tasks::connect(addr, false).await?, workload, meter).await,
            Peer::FloorTasksYield => {
                load::drive(floor_tasks::connect(addr, true).await?, workload, meter).await
            }
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&crate::workload::name(*self))
    }
}

/// What the load needs of a client. A clone is another handle on the same connection.
pub(crate) trait Caller: Clone + Send + Sync + 'static {
    /// Asks for `a + b`.
    fn sum(&self, a: i32, b: i32) -> impl Future<Output = Result<i32>> + Send;

    /// Asks for the same bytes.
    ///
    /// The argument is handed over and comes back as the reply, so that a library that takes it by value
    /// needs no copy, and one that takes it by reference has no advantage.
    fn echo(&self, payload: Vec<u8>) -> impl Future<Output = Result<Vec<u8>>> + Send;
}

/// The sum, as every server computes it.
pub(crate) fn sum(a: i32, b: i32) -> i32 {
    a.wrapping_add(b)
}
