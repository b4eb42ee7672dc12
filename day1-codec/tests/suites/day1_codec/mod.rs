//! Day 1: from bytes to messages, and a server that answers them.
//!
//! The order is that of the lesson: frames, codecs, messages, the handshake, one connection, the server, and the hard
//! cases. Work through it from the top: each part stands on the one before. What goes over the wire is written out by
//! hand here, so that no test checks our encoder with our own decoder alone.

// The stages, in the order of the work. Empty lines keep rustfmt from sorting them.
mod frames;

mod codecs;

mod messages;

mod handshake;

mod connection;

mod server;

mod hard_cases;

mod hardening_wire;

mod hardening_floods;

mod hardening_server;

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use day1_codec::wire::handshake::accept;
use day1_codec::{
    ClientHello, Code, Codec, DEFAULT_MAX_BODY_LEN, DEFAULT_MAX_IN_FLIGHT, Error, FrameReader, FrameWriter,
    Handler, Limits, Listener, MAX_HEADER_LEN, MAX_QUEUED_BYTES, Message, MessageReader, Metadata,
    RemoteError, Reply, Request, Server,
};
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::sync::{Barrier, Notify, mpsc};
use tokio::time::timeout;
use tokio_util::codec::{Decoder, Encoder, LengthDelimitedCodec};

use crate::support::io::{Flood, Pieces, Script, Watched};
use crate::support::peer::{Peer, call, call_with, client_hello, client_hello_with, frame, goaway, reply};
use crate::support::{
    OnDrop, Sum, alive_tasks, allocated_kib, alone, arith, eventually, expect_bytes, poll_once, resident_kib,
    run, run_paused, run_threads, serve_in_memory, start, start_on, within,
};

fn proptest_config() -> ProptestConfig {
    ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() }
}

fn is_too_large<T>(result: Result<T, Error>, expected_len: usize, expected_max: usize) -> bool {
    matches!(result, Err(Error::FrameTooLarge { len, max }) if (len, max) == (expected_len, expected_max))
}
