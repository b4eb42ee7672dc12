//! Day 4: every wait ends, and nothing is left behind.
//!
//! The order is that of the lesson: a limit, connecting, calls, giving up, the handler's limit, how many connections
//! there are, peers that stand still, shutdown, and the proof that nothing is left.
//!
//! Most tests run on a paused clock, where a limit of seconds costs no time and is checked to the millisecond. A
//! `Probe` tells when a handler starts and when its drop guard fires.

// The stages, in the order of the work. Empty lines keep rustfmt from sorting them.
mod deadlines;

mod connecting;

mod calls;

mod cancels;

mod handlers;

mod connections;

mod peers;

mod shutdown;

mod proof;

mod hardening_calls;

mod hardening_silence;

mod hardening_slow;

mod hardening_budget;

mod hardening_places;

mod hardening_writes;

mod hardening_closing;

mod hardening_accepting;

mod hardening_shutdown;

mod hardening_limits;

use std::collections::HashMap;
use std::pin::pin;
use std::time::Duration;

use day7_registry::{Client, Code, Codec, Error, Handler, Options, PendingCall, Request, Server};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::support::client::{
    answer, begin, begin_big, begin_many, check_it_works, connect, connected, disconnected, json_only,
    next_call, not_sent, pair_with, waits,
};
use crate::support::peer::{Peer, call, client_hello, frame, reply, reply_error, server_refusal};
#[cfg(target_os = "linux")]
use crate::support::resident_kib;
use crate::support::timeouts::{
    Connector, Probe, SECOND, assert_timeout, assert_took, cancel, client_of, millis, peer_of, probe,
    serve_until, settle,
};
use crate::support::{STEP, alive_tasks, alone, eventually, run, run_paused, run_threads, start, within};
