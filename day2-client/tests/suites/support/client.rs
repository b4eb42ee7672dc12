//! What the suites from day 2 on share: clients whose server is played by hand, and clients of our own server.
//!
//! A server that is played by hand skips the kinds of messages that day 2 does not know: a client of a later day
//! may send more than this day asks for.

#![allow(clippy::async_yields_async)] // the calls that are started here are awaited by the tests

use std::fmt::Debug;
use std::future::poll_fn;
use std::panic::Location;
use std::pin::Pin;
use std::task::Poll;

use day2_client::{Client, Codec, Error, Options, PendingCall};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};

use super::peer::{Peer, RawMessage, reply};
use super::{Caller, Running, Sum, within};

/// Options with JSON as the only codec, which a server that is played by hand speaks.
pub fn json_only() -> Options {
    Options::default().codecs([Codec::Json])
}

/// A client over `io`, and the peer that plays its server at the other end. `fields` are more fields for the
/// server's hello, such as `{"max_in_flight": 2}`.
pub async fn connected<A, B>(io: A, other_end: B, options: &Options, fields: Value) -> (Client, Peer<B>)
where
    A: AsyncRead + AsyncWrite + Send + 'static,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let mut peer = Peer { io: other_end };
    let both = async {
        tokio::join!(Client::handshake(io, options), peer.accept_handshake_with("application/json", fields))
    };
    let (client, _) = within("both sides of the handshake", both).await;
    (client.unwrap(), peer)
}

/// A client and its server in memory.
pub async fn pair() -> (Client, Peer<DuplexStream>) {
    pair_with(&json_only(), json!({})).await
}

/// The same with these options, and more fields for the server's hello.
pub async fn pair_with(options: &Options, fields: Value) -> (Client, Peer<DuplexStream>) {
    let (io, other_end) = duplex(1 << 20);
    connected(io, other_end, options, fields).await
}

/// A client whose writes wait: the stream to its server holds 64 bytes.
pub async fn narrow_pair() -> (Client, Peer<DuplexStream>) {
    let (io, other_end) = duplex(64);
    connected(io, other_end, &json_only(), json!({})).await
}

/// A client and its server over a socket.
pub async fn tcp_pair() -> (Client, Peer<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let options = json_only();
    let accepted = async {
        let mut peer = Peer { io: listener.accept().await.unwrap().0 };
        peer.accept_handshake("application/json").await;
        peer
    };
    let both = async { tokio::join!(Client::connect(addr, &options), accepted) };
    let (client, peer) = within("both sides of the handshake", both).await;
    (client.unwrap(), peer)
}

/// A client of our own server.
pub async fn connect(server: &Running, options: &Options) -> Client {
    within("the connection to our own server", Client::connect(server.addr, options)).await.unwrap()
}

/// Has our own server add two numbers.
#[track_caller]
pub fn sum(client: &Client, num1: i32, num2: i32) -> impl Future<Output = i32> {
    let client = client.clone();
    let sum = within("the sum", async move { client.call("Arith.sum", &Sum { num1, num2 }).await });
    async move { sum.await.unwrap() }
}

/// The client's next message of a kind that day 2 knows.
pub async fn next_message_at<Io>(caller: Caller, peer: &mut Peer<Io>) -> RawMessage
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let message = peer.read_message_at(caller).await;
        if is_of_day_2(message.kind()) {
            return message;
        }
    }
}

fn is_of_day_2(kind: &str) -> bool {
    matches!(kind, "call" | "reply" | "goaway")
}

/// The next call that the client makes.
#[track_caller]
pub fn next_call<Io>(peer: &mut Peer<Io>) -> impl Future<Output = RawMessage>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let caller = Location::caller();
    async move {
        let message = next_message_at(caller, peer).await;
        assert_eq!(message.kind(), "call", "a call was expected: {} (awaited at {caller})", message.header);
        message
    }
}

/// Checks that the client says why it goes, and then ends the stream. Returns the reason.
#[track_caller]
pub fn expect_goaway<Io>(peer: &mut Peer<Io>) -> impl Future<Output = String>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let caller = Location::caller();
    async move {
        let reason = next_message_at(caller, peer).await.reason().to_owned();
        expect_end_at(caller, peer).await;
        reason
    }
}

/// Checks that the client ends the stream, and makes no call before it does.
#[track_caller]
pub fn expect_end<Io>(peer: &mut Peer<Io>) -> impl Future<Output = ()>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    expect_end_at(Location::caller(), peer)
}

async fn expect_end_at<Io: AsyncRead + AsyncWrite + Unpin>(caller: Caller, peer: &mut Peer<Io>) {
    while let Some(header) = peer.try_read_frame_at(caller).await {
        let header = serde_json::from_slice(&header).expect("a header in JSON");
        let message = RawMessage { header, body: None };
        let header = &message.header;
        let is_known = is_of_day_2(message.kind());
        assert!(!is_known, "the stream should have ended, but then came {header} (awaited at {caller})");
    }
}

/// Sends a good reply to this call.
pub async fn answer<Io>(peer: &mut Peer<Io>, call: &RawMessage, body: Value)
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    peer.send(&reply(call.seq(), body)).await;
}

/// Checks that the connection works: one call, answered with its own argument.
#[track_caller]
pub fn check_it_works<Io>(client: &Client, peer: &mut Peer<Io>) -> impl Future<Output = ()>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let caller = Location::caller();
    let client = client.clone();
    async move {
        let answered = async {
            let call = next_message_at(caller, peer).await;
            let method = &call.fields("call")["service_method"];
            assert_eq!(method, "Test.works", "an unexpected call (awaited at {caller})");
            peer.send_at(caller, &reply(call.seq(), call.value())).await;
        };
        let both = async { tokio::join!(client.call::<_, u32>("Test.works", &4711), answered) };
        let (value, ()) = super::within_at(caller, "the reply to another call on the connection", both).await;
        assert_eq!(value.unwrap(), 4711, "(awaited at {caller})");
    }
}

/// Starts a call with a number; the server has not seen it yet.
#[track_caller]
pub fn begin(client: &Client, argument: u32) -> impl Future<Output = PendingCall<u32>> {
    let client = client.clone();
    let started =
        within(
            "start, which waits for no reply",
            async move { client.start("Test.number", &argument).await },
        );
    async move { started.await.unwrap() }
}

/// Starts a call with an argument of 100,000 bytes: with a [`narrow_pair`] its write waits for the server.
#[track_caller]
pub fn begin_big(client: &Client) -> impl Future<Output = PendingCall<u32>> {
    let client = client.clone();
    let started = within("start, which does not wait for the write", async move {
        client.start("Test.big", &"x".repeat(100_000)).await
    });
    async move { started.await.unwrap() }
}

/// Starts `count` calls with the numbers from 0, and has the server read all of them.
pub async fn begin_many<Io>(
    client: &Client,
    peer: &mut Peer<Io>,
    count: u32,
) -> (Vec<PendingCall<u32>>, Vec<RawMessage>)
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let (mut calls, mut seen) = (Vec::new(), Vec::new());
    for argument in 0..count {
        calls.push(begin(client, argument).await);
        seen.push(next_call(peer).await);
    }
    (calls, seen)
}

/// The reason in an `Error::Disconnected`, which `result` must be.
#[track_caller]
pub fn disconnected<T: Debug>(result: Result<T, Error>) -> String {
    match result {
        Err(Error::Disconnected(reason)) => reason,
        other => panic!("expected Error::Disconnected, got {other:?}"),
    }
}

/// The reason in an `Error::NotSent`, which `result` must be.
#[track_caller]
pub fn not_sent<T: Debug>(result: Result<T, Error>) -> String {
    match result {
        Err(Error::NotSent(reason)) => reason,
        other => panic!("expected Error::NotSent, got {other:?}"),
    }
}

/// Whether this future is not ready yet. Polls it once.
pub async fn waits(mut future: Pin<&mut impl Future>) -> bool {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}
