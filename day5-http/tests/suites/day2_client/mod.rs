//! Day 2: many calls share one connection.
//!
//! The order is that of the lesson: the write buffer, the client's half of the handshake, the in-flight table,
//! calls and their replies, the end of a connection, its limits, and what makes it fast. Work through it from
//! the top: each part stands on the one before.
//!
//! Most tests play the server by hand. So they see every message that the client sends, and they can answer
//! as no decent server would.

// The stages, in the order of the work. Empty lines keep rustfmt from sorting them.
mod write_buffer;

mod handshake;

mod in_flight;

mod calls;

mod end;

mod limits;

mod speed;

mod hardening_client;

mod hardening_server;

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use day5_http::wire::handshake::{accept, offer};
use day5_http::{
    Client, ClientHello, Code, Codec, DEFAULT_MAX_BODY_LEN, DEFAULT_MAX_IN_FLIGHT, Error, FrameReader,
    FrameWriter, Limits, MAX_HEADER_LEN, Message, Metadata, Options, PendingCall, RemoteError, Reply,
    Request, Server,
};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::net::TcpSocket;
use tokio::sync::{Barrier, mpsc};
use tokio::task::JoinSet;

use crate::support::client::{
    answer, begin, begin_big, begin_many, check_it_works, connect, connected, disconnected, expect_end,
    expect_goaway, json_only, narrow_pair, next_call, not_sent, pair, pair_with, sum, tcp_pair, waits,
};
use crate::support::io::{Pieces, Watched};
use crate::support::peer::{
    Peer, call, frame, goaway, reply, reply_error, reply_refused, server_hello, server_refusal,
};
use crate::support::sink::Sink;
use crate::support::{
    Sum, alive_tasks, alone, arith, eventually, poll_once, resident_kib, run, run_threads, serve_in_memory,
    start, within,
};

/// An error as a server sends it, with this mark.
fn remote_error(refused: bool) -> RemoteError {
    let wire = json!({"code": "unavailable", "message": "100% full", "refused": refused});
    serde_json::from_value(wire).unwrap()
}
