//! Day 2: many calls share one connection.
//!
//! The order is that of the lesson: the in-flight table by itself, connecting, sending, replies, calls that
//! are given up, errors, and the end of a connection. Work through it from the top.
//!
//! Most tests play the server by hand. So they see every byte that the client sends, and they can answer
//! as no decent server would. Such a peer skips messages for methods that begin with `$/`: a client may say
//! more to a server than this day asks for.

// The stages, in the order of the work. Empty lines keep rustfmt from sorting them.
mod in_flight;

mod connecting;

mod many_calls;

mod giving_up;

mod errors;

mod closing;

mod hardening;

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::io::ErrorKind;
use std::panic::Location;
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering::SeqCst;
use std::task::Poll;
use std::time::Duration;

use day5_http::{
    Client, Codec, DEFAULT_MAX_FRAME_LEN, DEFAULT_MAX_PENDING, Error, Header, InFlight, Message, Options,
    Outcome, Pending, PendingCall, Server,
};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::io::{CountWrites, OneByte};
use crate::support::peer::{Peer, RawMessage, frame, json_error, json_message};
use crate::support::{
    Fail, Running, Sum, alive_tasks, arith, eventually, run, run_paused, run_threads, start, within,
};

fn json_only() -> Options {
    Options::default().codecs([Codec::Json])
}

/// A client that speaks JSON over `io`, and the peer that plays its server at the other end.
async fn connected<A, B>(io: A, other_end: B) -> (Client, Peer<B>)
where
    A: AsyncRead + AsyncWrite + Send + 'static,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let options = json_only();
    let mut peer = Peer { io: other_end };
    let both = async { tokio::join!(Client::new(io, &options), peer.accept_handshake("application/json")) };
    let (client, _) = within("both sides of the handshake", both).await;
    (client.unwrap(), peer)
}

/// The same in memory.
async fn pair() -> (Client, Peer<DuplexStream>) {
    let (io, other_end) = duplex(1 << 20);
    connected(io, other_end).await
}

/// The same over a socket.
async fn tcp_pair() -> (Client, Peer<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (io, accepted) = tokio::join!(TcpStream::connect(addr), listener.accept());
    connected(io.unwrap(), accepted.unwrap().0).await
}

/// A client of our own server.
async fn connect(server: &Running, options: &Options) -> Client {
    within("the connection to our own server", Client::connect(server.addr, options)).await.unwrap()
}

/// Has our own server add two numbers.
async fn sum(client: &Client, num1: i32, num2: i32) -> i32 {
    within("the sum", client.call("Arith.sum", &Sum { num1, num2 })).await.unwrap()
}

/// The next call that the client makes.
#[track_caller]
fn next_call<Io: AsyncRead + AsyncWrite + Unpin>(peer: &mut Peer<Io>) -> impl Future<Output = RawMessage> {
    let caller = Location::caller();
    async move {
        loop {
            let message = peer.read_message_at(caller).await;
            if !is_reserved(&message) {
                return message;
            }
        }
    }
}

/// Checks that the client ends the stream, and calls nothing before it does.
async fn expect_end<Io: AsyncRead + AsyncWrite + Unpin>(peer: &mut Peer<Io>) {
    while let Some(header) = peer.try_read_frame().await {
        let header = serde_json::from_slice(&header).expect("a header in JSON");
        let message = RawMessage { header, body: peer.read_frame().await };
        assert!(is_reserved(&message), "the stream should have ended, but then came {message:?}");
    }
}

fn is_reserved(message: &RawMessage) -> bool {
    message.header["service_method"].as_str().is_some_and(|name| name.starts_with("$/"))
}

async fn reply<Io: AsyncRead + AsyncWrite + Unpin>(peer: &mut Peer<Io>, call: &RawMessage, body: Value) {
    peer.send(&json_message(call.header["service_method"].as_str().unwrap(), call.seq(), body)).await;
}

/// Answers the next call with its own argument.
async fn echo<Io: AsyncRead + AsyncWrite + Unpin>(peer: &mut Peer<Io>) {
    let call = next_call(peer).await;
    let body = call.value();
    reply(peer, &call, body).await;
}

/// Checks that the connection still works: one call, answered.
async fn check_it_works<Io: AsyncRead + AsyncWrite + Unpin>(client: &Client, peer: &mut Peer<Io>) {
    let both = async { tokio::join!(client.call::<_, String>("Test.works", "still there?"), echo(peer)) };
    let (answer, ()) = within("the reply of another call on the same connection", both).await;
    assert_eq!(answer.unwrap(), "still there?");
}

/// Starts a call for a number; the peer has not seen it yet.
async fn begin(client: &Client, argument: u32) -> PendingCall<u32> {
    let started = client.start("Test.number", &argument);
    within("start, which waits for no reply", started).await.unwrap()
}

/// Starts `count` calls, and has the peer read all of them.
async fn begin_many<Io: AsyncRead + AsyncWrite + Unpin>(
    client: &Client,
    peer: &mut Peer<Io>,
    count: u32,
) -> (Vec<PendingCall<u32>>, Vec<RawMessage>) {
    let (mut calls, mut seen) = (Vec::new(), Vec::new());
    for argument in 0..count {
        calls.push(begin(client, argument).await);
        seen.push(next_call(peer).await);
    }
    (calls, seen)
}

/// The reason in an `Error::Disconnected`, which `result` must be.
#[track_caller]
fn disconnected<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    match result {
        Err(Error::Disconnected(reason)) => reason,
        other => panic!("expected Error::Disconnected, got {other:?}"),
    }
}

/// Checks that all these calls fail as the connection has ended, and that the client takes no more.
async fn expect_all_lost(client: &Client, calls: Vec<PendingCall<u32>>) -> String {
    let mut reason = None;
    for call in calls {
        reason = Some(disconnected(within("the failure of a call in flight", call).await));
    }
    assert!(!client.is_available(), "the connection has ended, but the client says that it is available");
    assert_eq!(client.in_flight(), 0);
    disconnected(within("the failure of a new call", client.call::<_, u32>("Test.number", &1)).await);
    reason.expect("at least one call")
}

/// Reads until the client says why it closes the connection, and returns its reason.
#[track_caller]
fn read_goodbye<Io: AsyncRead + AsyncWrite + Unpin>(peer: &mut Peer<Io>) -> impl Future<Output = String> {
    let goodbye = next_call(peer);
    async move {
        let goodbye = goodbye.await;
        assert_eq!(goodbye.seq(), 0, "the last word of a connection has seq 0");
        assert_eq!(goodbye.body, b"", "the body of an error is an empty frame");
        goodbye.error().to_owned()
    }
}

/// Whether this future is not ready yet. Polls it once.
async fn waits(mut future: Pin<&mut impl Future>) -> bool {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}

/// An outcome for the table.
fn outcome(body: &'static str) -> Outcome {
    let header = Header { service_method: "Test.table".to_owned(), seq: 7, error: None };
    Ok(Message { header, body: body.into() })
}
