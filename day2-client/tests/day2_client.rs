//! Day 2: many calls share one connection.
//!
//! The order is that of the lesson: the in-flight table by itself, connecting, sending, replies, calls that
//! are given up, errors, and the end of a connection. Work through it from the top.
//!
//! Most tests play the server by hand. So they see every byte that the client sends, and they can answer
//! as no decent server would. Such a peer skips messages for methods that begin with `$/`: a client may say
//! more to a server than this day asks for.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::io::ErrorKind;
use std::panic::Location;
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering::SeqCst;
use std::task::Poll;
use std::time::Duration;

use day2_client::{
    Client, Codec, DEFAULT_MAX_FRAME_LEN, DEFAULT_MAX_PENDING, Error, Header, InFlight, Message, Options,
    Outcome, Pending, PendingCall, Server,
};
use serde_json::{Value, json};
use support::io::{CountWrites, OneByte};
use support::peer::{Peer, RawMessage, frame, json_error, json_message};
use support::{
    Fail, Running, Sum, alive_tasks, arith, eventually, run, run_paused, run_threads, start, within,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

// ---- helpers of this suite -------------------------------------------------------------------------------

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

// ---- the in-flight table ---------------------------------------------------------------------------------
// Chapter: Files of today > src/pending.rs

/// Each call has a number of its own, from 1, and gets the outcome for that number, once.
///
/// The number is all that ties a reply to its caller. A constant one goes unnoticed while calls come one at a
/// time.
///
/// Hint: count under the lock, and take the entry out when you complete it.
#[test]
fn every_entry_has_a_number_of_its_own_and_is_completed_once() {
    run(async || {
        let pending = Pending::new(10);
        let mut calls = Vec::new();
        for _ in 0..3 {
            calls.push(within("register, with room", pending.register()).await.unwrap());
        }
        assert_eq!(calls.iter().map(InFlight::seq).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(pending.len(), 3);

        assert!(pending.complete(3, outcome("three")));
        assert!(pending.complete(1, outcome("one")));
        assert!(!pending.complete(1, outcome("one again")), "a call can be completed once only");
        assert!(!pending.complete(4, outcome("four")), "nobody has number 4");
        assert_eq!(pending.len(), 1, "a completed call leaves the table");

        let third = within("the outcome of call 3", calls.remove(2)).await.unwrap();
        assert_eq!(third.body, "three");
        let first = within("the outcome of call 1", calls.remove(0)).await.unwrap();
        assert_eq!(first.body, "one");
    });
}

/// Whoever drops his entry is out of the table at once, and his number is never given out again.
///
/// Callers go away all the time, and nobody tidies up after them.
///
/// Hint: what owns an entry removes it in `Drop`. That covers every way to leave, also those that you have
/// not thought of.
#[test]
fn a_dropped_entry_leaves_the_table() {
    run(async || {
        let pending = Pending::new(10);
        let first = within("register, with room", pending.register()).await.unwrap();
        drop(first);
        assert!(pending.is_empty());
        assert!(!pending.complete(1, outcome("too late")));
        let second = within("register, with room", pending.register()).await.unwrap();
        assert_eq!(second.seq(), 2, "a reply to the first call may still come, so its number is used up");
        drop(second);

        let panics = tokio::spawn({
            let pending = pending.clone();
            async move {
                let _entry = pending.register().await.unwrap();
                panic!("this panic is part of the test");
            }
        });
        assert!(within("the end of a caller's task", panics).await.unwrap_err().is_panic());
        assert_eq!(pending.len(), 0, "a caller that panics is out of the table, too");
    });
}

/// `close` refuses new calls and lets the others go on; `fail_all` ends those too. The first reason stays.
///
/// A server that says goodbye still sends the replies that it owes. And what follows the first error is most
/// often only a consequence of it.
///
/// Hint: keep the reason in the table, under the same lock.
#[test]
fn a_closed_table_keeps_its_calls_until_all_are_failed() {
    run(async || {
        let pending = Pending::new(10);
        let lucky = within("register, with room", pending.register()).await.unwrap();
        let unlucky = within("register, with room", pending.register()).await.unwrap();
        assert!(pending.is_open());

        pending.close("the first reason");
        assert!(!pending.is_open());
        assert_eq!(pending.len(), 2, "those in flight stay");
        let refused = within("the refusal of a new call", pending.register()).await;
        assert_eq!(disconnected(refused), "the first reason");
        assert!(pending.complete(1, outcome("in time")));

        pending.fail_all("another reason");
        assert!(pending.is_empty());
        assert_eq!(within("the outcome of call 1", lucky).await.unwrap().body, "in time");
        assert_eq!(disconnected(within("the outcome of call 2", unlucky).await), "the first reason");
    });
}

/// A full table makes the next call wait until there is room, or until the table is closed. A call that has its
/// reply takes no room, even if nobody has looked at the reply yet.
///
/// Without a limit a caller that is faster than the server fills the memory. And whoever waits for room must
/// not wait for ever when the connection ends.
///
/// Hint: a semaphore can be closed; and its permit belongs into the table, not to the caller.
#[test]
fn a_full_table_makes_the_next_call_wait() {
    run(async || {
        let pending = Pending::new(2);
        let first = within("register, with room", pending.register()).await.unwrap();
        let second = within("register, with room", pending.register()).await.unwrap();

        let mut third = pin!(pending.register());
        assert!(waits(third.as_mut()).await, "there is no room for a third");
        drop(first);
        let _third = within("register, as there is room again", third).await.unwrap();
        assert_eq!(pending.len(), 2);

        assert!(pending.complete(second.seq(), outcome("two")));
        let _fourth = within("register, as call 2 has its reply", pending.register()).await.unwrap();

        let mut fifth = pin!(pending.register());
        assert!(waits(fifth.as_mut()).await, "there is no room for a fifth");
        pending.close("the end");
        let refused = within("the refusal of a call that waits for room", fifth).await;
        assert_eq!(disconnected(refused), "the end");
        assert_eq!(within("the outcome of call 2", second).await.unwrap().body, "two");
    });
}

// ---- connecting ------------------------------------------------------------------------------------------
// Chapter: Files of today > src/client.rs; The wire > It sends nothing before it has the server's answer

/// `connect` and `call` work over a real socket, against our own server, in every codec.
///
/// The other tests play the server by hand, this one joins the two halves of the course.
///
/// Hint: `connect` opens a socket and leaves the rest to `Client::new`, which takes any stream.
#[test]
fn a_call_over_a_real_socket_works_in_every_codec() {
    run(async || {
        let server = start(Server::new(arith())).await;
        for codec in Codec::ALL {
            let client = connect(&server, &Options::default().codecs([codec])).await;
            assert_eq!(client.codec(), codec);
            assert!(client.is_available());
            for num1 in [1, -7, i32::MAX - 2] {
                assert_eq!(sum(&client, num1, 2).await, num1 + 2);
            }
            assert_eq!(client.in_flight(), 0);
        }
    });
}

/// The client sends its options, then for each call a header frame and a body frame, exactly these bytes.
///
/// A client and a server that make the same mistake agree with each other, and with nobody else.
///
/// Hint: the bytes are written out in the chapter of day 1.
#[test]
fn the_client_sends_these_bytes() {
    // JSON: two calls. A length is four bytes, the highest first: 0x33 is 51, 0x13 is 19.
    const JSON: [&[u8]; 8] = [
        b"\x00\x00\x00\x33",
        br#"{"service_method":"Arith.sum","seq":1,"error":null}"#,
        b"\x00\x00\x00\x13",
        br#"{"num1":1,"num2":2}"#,
        b"\x00\x00\x00\x33",
        br#"{"service_method":"Arith.sum","seq":2,"error":null}"#,
        b"\x00\x00\x00\x13",
        br#"{"num1":3,"num2":4}"#,
    ];
    // Bincode: a text is its length and its bytes, a small number is one byte, no error is 0. The body's
    // numbers are signed, and so doubled: 2 is 1, and 4 is 2.
    const BINCODE: [&[u8]; 10] = [
        b"\x00\x00\x00\x0c",
        b"\x09Arith.sum",
        b"\x01\x00",
        b"\x00\x00\x00\x02",
        b"\x02\x04",
        b"\x00\x00\x00\x0c",
        b"\x09Arith.sum",
        b"\x02\x00",
        b"\x00\x00\x00\x02",
        b"\x06\x08",
    ];
    // The replies to the calls are 3 and 7.
    const BINCODE_REPLIES: [&[u8]; 2] = [
        b"\x00\x00\x00\x0c\x09Arith.sum\x01\x00\x00\x00\x00\x01\x06",
        b"\x00\x00\x00\x0c\x09Arith.sum\x02\x00\x00\x00\x00\x01\x0e",
    ];
    run(async || {
        let json_replies = [1, 2].map(|seq| json_message("Arith.sum", seq, json!(seq * 4 - 1)));
        let bincode_replies = BINCODE_REPLIES.map(<[u8]>::to_vec);
        let cases =
            [(Codec::Json, JSON.concat(), json_replies), (Codec::Bincode, BINCODE.concat(), bincode_replies)];
        for (codec, expected, replies) in cases {
            let (io, other_end) = duplex(1 << 16);
            let mut peer = Peer { io: other_end };
            let offer = Options::default().codecs([codec]);
            let both = async { tokio::join!(Client::new(io, &offer), peer.accept_handshake(codec.name())) };
            let (client, options) = within("both sides of the handshake", both).await;
            let client = client.unwrap();
            assert_eq!(options["magic_number"], 3_927_900);
            assert_eq!(options["codecs"], json!([codec.name()]));

            let mut calls = Vec::new();
            for sum in [Sum { num1: 1, num2: 2 }, Sum { num1: 3, num2: 4 }] {
                let started = client.start::<_, i32>("Arith.sum", &sum);
                calls.push(within("start, which waits for no reply", started).await.unwrap());
            }
            let mut bytes = vec![0; expected.len()];
            within("as many bytes as expected", peer.io.read_exact(&mut bytes)).await.unwrap();
            assert_eq!(bytes.escape_ascii().to_string(), expected.escape_ascii().to_string());

            peer.send(&replies.concat()).await;
            for (call, expected) in calls.into_iter().zip([3, 7]) {
                assert_eq!(within("the reply", call).await.unwrap(), expected);
            }
        }
    });
}

/// Nothing that follows the handshake's answer is lost, however the bytes are cut.
///
/// GeeRPC's decoder reads ahead and throws away what it has read. A stream has no borders but those that
/// frames give it.
///
/// Hint: keep one reader from the first byte to the last.
#[test]
fn bytes_right_behind_the_handshake_are_not_lost() {
    run(async || {
        let answer = frame(r#"{"codec":"application/json"}"#);
        let goodbye = json_error("", 0, "full");
        // The answer with a part of the first message, then the rest of it.
        for cut in 0..=goodbye.len() {
            let (io, other_end) = duplex(1 << 16);
            let mut peer = Peer { io: other_end };
            peer.send(&[&answer[..], &goodbye[..cut]].concat()).await;
            let client = within("the handshake", Client::new(io, &json_only())).await.unwrap();
            peer.send(&goodbye[cut..]).await;
            eventually("the first message after the handshake is noticed", || !client.is_available()).await;
            let refused = within("the refusal of a call", client.call::<_, u32>("Test.number", &1)).await;
            assert_eq!(disconnected(refused), "full");
        }

        // Everything one byte at a time, in both directions.
        let (io, other_end) = duplex(1);
        let (client, mut peer) = connected(OneByte(io), other_end).await;
        check_it_works(&client, &mut peer).await;
        check_it_works(&client, &mut peer).await;
    });
}

/// Whatever is wrong with the server's answer is an `Error::Handshake` at `connect`, a refusal in the
/// server's own words; and the client hangs up.
///
/// GeeRPC has no answer, so dialing a server that refuses "succeeds", and the first call fails for a reason
/// that nobody can see.
///
/// Hint: check that the codec is one that you offered.
#[test]
fn a_refused_handshake_is_an_error_at_connect() {
    run(async || {
        let refusal = "no codec in common: \"100% full\"\n";
        let answers = [
            (frame(json!({"error": refusal}).to_string()), Some(refusal)),
            (frame(r#"{"codec":"application/bincode"}"#), None), // exists, but was not offered
            (frame(r#"{"codec":"application/gob"}"#), None),
            (frame("{}"), None),
            (frame("not JSON"), None),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), None),
            (Vec::new(), None), // the server closes without an answer
        ];
        for (answer, reason) in answers {
            let (io, other_end) = duplex(1 << 16);
            let mut peer = Peer { io: other_end };
            peer.send(&answer).await;
            within("the end of the peer's half", peer.io.shutdown()).await.unwrap();
            let case = answer.escape_ascii().to_string();
            match within("the end of the handshake", Client::new(io, &json_only())).await {
                Err(Error::Handshake(text)) if reason.is_none_or(|reason| text == reason) => {}
                other => panic!("expected Error::Handshake for the answer {case:?}, got {other:?}"),
            }
            peer.read_json().await;
            peer.expect_end().await;
        }

        // The same with our own server, which says what it speaks.
        let server = start(Server::new(arith()).codecs([Codec::Bincode])).await;
        match within("the end of the handshake", Client::connect(server.addr, &json_only())).await {
            Err(Error::Handshake(text)) => assert!(text.contains("application/bincode"), "{text:?}"),
            other => panic!("expected Error::Handshake, got {other:?}"),
        }
    });
}

/// Connecting twice with the same options sends the same options twice, and changes nothing in them.
///
/// GeeRPC's constructors write into the caller's options.
///
/// Hint: `&Options`, and no interior mutability.
#[test]
fn connecting_leaves_the_options_as_they_were() {
    run(async || {
        let options = Options::default();
        let before = options.clone();
        let mut sent = Vec::new();
        for codec in Codec::ALL {
            let (io, other_end) = duplex(1 << 16);
            let mut peer = Peer { io: other_end };
            let both = async { tokio::join!(Client::new(io, &options), peer.accept_handshake(codec.name())) };
            let (client, received) = within("both sides of the handshake", both).await;
            assert_eq!(client.unwrap().codec(), codec, "the server may choose any codec of the list");
            sent.push(received);
        }
        assert_eq!(options, before, "connecting has changed the options");
        assert_eq!(sent[1], sent[0], "the second connection was offered other options than the first");
        assert_eq!(sent[0]["codecs"], json!(["application/bincode", "application/json"]));
    });
}

/// No server at all is an `Error::Io` with the reason of the operating system.
///
/// "nobody listens there" and "he refuses to talk to me" ask for different actions, so a caller must be able
/// to match on them.
///
/// Hint: `Error` has a `From<std::io::Error>`; so `?` will do.
#[test]
fn a_closed_port_is_an_io_error() {
    run(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        drop(listener);
        match within("the end of connect", Client::connect(addr, &Options::default())).await {
            Err(Error::Io(error)) => assert_eq!(error.kind(), ErrorKind::ConnectionRefused),
            other => panic!("expected Error::Io, got {other:?}"),
        }
    });
}

// ---- many calls, one connection --------------------------------------------------------------------------
// Chapter: Files of today > src/dispatch.rs; The wire > seq counts the calls

/// Replies may come in any order, each caller gets his own.
///
/// This is what the number in the header is for. A client that takes replies in the order of its calls passes
/// every test in which the server is polite.
///
/// Hint: `Pending::complete` with the `seq` of the reply's header.
#[test]
fn replies_in_any_order_reach_their_callers() {
    run(async || {
        let (client, mut peer) = pair().await;
        let (calls, seen) = begin_many(&client, &mut peer, 50).await;
        // 0, 7, 14, … then 1, 8, …: neither the order of the calls nor its reverse.
        for start in 0..7 {
            for call in seen.iter().skip(start).step_by(7) {
                let body = json!(call.value().as_u64().unwrap() * 1000);
                reply(&mut peer, call, body).await;
            }
        }
        for (argument, call) in (0..).zip(calls) {
            assert_eq!(within("the reply", call).await.unwrap(), argument * 1000);
        }
    });
}

/// The numbers on the wire are 1, 2, 3 …, whatever became of the calls before; and when many tasks call at
/// the same time each number still appears once.
///
/// A constant or repeated number goes unnoticed as long as calls come one by one. Then a late reply meets the
/// wrong caller.
///
/// Hint: the table counts. A number that was given out is used up, whatever becomes of its call.
#[test]
fn the_numbers_on_the_wire_count_up_and_never_repeat() {
    run_threads(async || {
        let (client, mut peer) = pair().await;
        for seq in 1..=10 {
            let call = begin(&client, 0).await;
            assert_eq!(call.seq(), seq);
            let seen = next_call(&mut peer).await;
            assert_eq!(seen.seq(), seq);
            match seq % 3 {
                0 => drop(call), // given up
                1 => {
                    reply(&mut peer, &seen, json!(5)).await;
                    assert_eq!(within("the reply", call).await.unwrap(), 5);
                }
                _ => {
                    peer.send(&json_error("Test.number", seq, "no")).await;
                    assert!(matches!(within("the error", call).await, Err(Error::Remote(_))));
                }
            }
        }

        let mut tasks = JoinSet::new();
        for _ in 0..200 {
            let client = client.clone();
            tasks.spawn(async move { vec![begin(&client, 0).await] }); // kept: nobody gives up here
        }
        let mut numbers = BTreeSet::new();
        for _ in 0..200 {
            numbers.insert(next_call(&mut peer).await.seq());
        }
        assert_eq!(numbers, (11..=210).collect());
        within("the end of all tasks", tasks.join_all()).await;
    });
}

/// Hundreds of tasks on several threads share one client and one connection, and each gets the answers to its
/// own questions.
///
/// One connection for everybody is the idea of the day.
///
/// Hint: a clone of the client is a clone of an `Arc`; no lock is held across an `await`.
#[test]
fn hundreds_of_tasks_share_one_client() {
    run_threads(async || {
        let server = start(Server::new(arith())).await;
        let client = connect(&server, &Options::default()).await;
        let mut tasks = JoinSet::new();
        for task in 0..300 {
            let client = client.clone();
            tasks.spawn(async move {
                for round in 0..10 {
                    assert_eq!(sum(&client, task * 100, round).await, task * 100 + round);
                }
            });
        }
        within("3000 answers, each to its own caller", tasks.join_all()).await;
        assert_eq!(client.in_flight(), 0);
    });
}

/// The frames of callers that write at the same time never mix, however little the socket takes.
///
/// A header, a body and then the next header: if two tasks write for themselves, one's header comes between
/// the other's header and body as soon as a write takes only a part.
///
/// Hint: one task does all the writing.
#[test]
fn the_frames_of_two_callers_never_mix() {
    run_threads(async || {
        let (io, other_end) = duplex(16);
        let (client, mut peer) = connected(OneByte(io), other_end).await;
        let mut tasks = JoinSet::new();
        for task in 0..60 {
            let client = client.clone();
            // Every sixth argument is a big one.
            let argument = vec![task; if task % 6 == 0 { 3000 } else { 3 }];
            tasks.spawn(async move {
                let reply = client.call::<_, Vec<u32>>("Test.mix", &argument).await.unwrap();
                assert_eq!(reply, argument);
            });
        }
        let mut calls = Vec::new();
        for _ in 0..60 {
            let call = next_call(&mut peer).await;
            assert_eq!(call.header["service_method"], "Test.mix");
            let argument: Vec<u32> = serde_json::from_slice(&call.body).expect("one argument in one piece");
            assert!(argument.iter().all(|number| *number == argument[0]), "mixed: {argument:?}");
            calls.push(call);
        }
        for call in calls {
            let body = call.value();
            reply(&mut peer, &call, body).await;
        }
        within("the replies", tasks.join_all()).await;
    });
}

/// The client goes on reading while a write of its own does not get ahead.
///
/// The server may be in the same position. If each side reads only when it has written, both wait for ever,
/// and nobody is at fault.
///
/// Hint: both directions in one `select!`.
#[test]
fn the_client_reads_while_it_writes() {
    run(async || {
        let (io, other_end) = duplex(64);
        let (client, mut peer) = connected(io, other_end).await;
        let big = "x".repeat(100_000);
        let started = client.start::<_, u32>("Test.big", &big);
        let call = within("start, which does not wait for the write", started).await.unwrap();
        // The peer reads nothing before all of this is written: the client must take it off its hands.
        peer.send(&json_message("Test.big", 1000, json!(big))).await;
        let seen = next_call(&mut peer).await;
        assert_eq!(seen.value(), json!(big));
        reply(&mut peer, &seen, json!(1)).await;
        assert_eq!(within("the reply", call).await.unwrap(), 1);
    });
}

/// Requests that are there at the same time leave together.
///
/// A write is a system call, and most often a packet. With one or two per call they are most of what a call
/// costs.
///
/// Hint: take everything out of the queue, then write; no timer, no delay.
#[test]
fn requests_that_queue_up_leave_in_few_writes() {
    run(async || {
        let (io, other_end) = duplex(1 << 20);
        let (io, writes) = CountWrites::new(io);
        let (client, mut peer) = connected(io, other_end).await;
        let before = writes.load(SeqCst);
        let mut tasks = JoinSet::new();
        for argument in 0..500 {
            let client = client.clone();
            tasks.spawn(async move { client.call::<_, u32>("Test.number", &argument).await.unwrap() });
        }
        let mut seen = Vec::new();
        for _ in 0..500 {
            seen.push(next_call(&mut peer).await);
        }
        let writes = writes.load(SeqCst) - before;
        assert!(writes <= 25, "{writes} writes for 500 calls that were made at the same time");
        for call in &seen {
            reply(&mut peer, call, call.value()).await;
        }
        within("the replies", tasks.join_all()).await;
    });
}

/// `start` sends the call at once; its reply can be awaited any time later, in any order.
///
/// A future in Rust does nothing before it is polled, and `start` promises otherwise: it is the asynchronous
/// `Go` of the seeds.
///
/// Hint: everything but waiting for the reply happens before it returns.
#[test]
fn a_started_call_is_sent_although_nobody_awaits_it() {
    run(async || {
        let (client, mut peer) = pair().await;
        let (mut calls, seen) = begin_many(&client, &mut peer, 2).await; // the peer has seen both by now
        assert_eq!(client.in_flight(), 2);
        for call in &seen {
            reply(&mut peer, call, call.value()).await;
        }
        check_it_works(&client, &mut peer).await;
        assert_eq!(within("the second reply", calls.pop().unwrap()).await.unwrap(), 1);
        assert_eq!(within("the first reply", calls.pop().unwrap()).await.unwrap(), 0);
    });
}

/// Replies that nobody collects do not stop those of others.
///
/// In GeeRPC the receive loop hands a reply over through a channel of the caller, and waits until it is
/// taken: one careless caller stops all.
///
/// Hint: a `oneshot` sender never waits.
#[test]
fn replies_that_nobody_collects_do_not_stop_the_others() {
    run(async || {
        let (client, mut peer) = pair().await;
        let (calls, seen) = begin_many(&client, &mut peer, 500).await;
        for call in &seen {
            reply(&mut peer, call, call.value()).await;
        }
        for _ in 0..3 {
            check_it_works(&client, &mut peer).await;
        }
        for (argument, call) in (0..).zip(calls) {
            assert_eq!(within("a reply that was there long ago", call).await.unwrap(), argument);
        }
    });
}

/// With [`DEFAULT_MAX_PENDING`] calls in flight the next one waits, is sent as soon as one of them ends, and
/// fails if the connection ends first.
///
/// Without a limit a caller that is faster than the server fills the memory of both. An error instead of the
/// wait would make every caller write the same retry loop.
///
/// Hint: `register` does the waiting; `start` has to register before it queues anything.
#[test]
fn calls_over_the_limit_wait_for_room() {
    run(async || {
        let (client, mut peer) = pair().await;
        let max = u32::try_from(DEFAULT_MAX_PENDING).unwrap();
        let (mut calls, seen) = begin_many(&client, &mut peer, max).await;
        assert_eq!(client.in_flight(), DEFAULT_MAX_PENDING);

        let mut next = pin!(client.start::<_, u32>("Test.number", &4711));
        assert!(waits(next.as_mut()).await, "there is no room for one more call");
        reply(&mut peer, &seen[500], json!(500)).await;
        assert_eq!(within("the reply", calls.remove(500)).await.unwrap(), 500);
        calls.push(within("start, as there is room again", next).await.unwrap());
        assert_eq!(next_call(&mut peer).await.value(), 4711);

        let mut last = pin!(client.call::<_, u32>("Test.number", &1));
        assert!(waits(last.as_mut()).await, "there is no room for one more call");
        drop(peer);
        disconnected(within("the failure of a call that waits for room", last).await);
        expect_all_lost(&client, calls).await;
    });
}

// ---- calls that are given up, replies that make no sense -------------------------------------------------
// Chapter: The wire > A reply belongs to the call with its seq; The wire > What a caller sees

/// A caller that goes away takes his entry with him, from `start` as from `call`; the late reply is ignored,
/// and the room is free for others.
///
/// Callers are dropped all the time, by a `select!`, a timeout or an aborted task. Entries that stay are a
/// leak, and at the limit they stop the client for good.
///
/// Hint: nothing to do, if the future that the caller drops holds the entry's guard.
#[test]
fn a_call_that_is_given_up_leaves_nothing_behind() {
    run(async || {
        let (client, mut peer) = pair().await;
        let started = begin(&client, 1).await;
        let first = next_call(&mut peer).await;
        drop(started);
        assert_eq!(client.in_flight(), 0);

        let task = tokio::spawn({
            let client = client.clone();
            async move { client.call::<_, u32>("Test.number", &2).await }
        });
        let second = next_call(&mut peer).await;
        assert_eq!(client.in_flight(), 1);
        task.abort();
        assert!(within("the end of the caller's task", task).await.unwrap_err().is_cancelled());
        assert_eq!(client.in_flight(), 0);

        reply(&mut peer, &first, json!(1)).await;
        reply(&mut peer, &second, json!(2)).await;
        check_it_works(&client, &mut peer).await;

        // More than would fit at the same time.
        for argument in 0..u32::try_from(DEFAULT_MAX_PENDING).unwrap() + 10 {
            let call = begin(&client, argument).await;
            next_call(&mut peer).await;
            drop(call);
        }
        assert_eq!(client.in_flight(), 0);
        check_it_works(&client, &mut peer).await;
    });
}

/// A reply with a number that nobody waits for is ignored, also when it comes a second time.
///
/// Late replies to calls that were given up are normal, so this must not be an error; and a second reply must
/// not reach anybody else.
///
/// Hint: `Pending::complete` says whether somebody waited. If nobody did, read on.
#[test]
fn a_reply_that_nobody_waits_for_is_ignored() {
    run(async || {
        let (client, mut peer) = pair().await;
        peer.send(&json_message("Test.number", u64::MAX, json!(666))).await;
        peer.send(&json_error("Test.number", 12345, "nobody asked")).await;
        check_it_works(&client, &mut peer).await;

        let (calls, seen) = begin_many(&client, &mut peer, 2).await;
        reply(&mut peer, &seen[0], json!(10)).await;
        reply(&mut peer, &seen[0], json!(666)).await;
        peer.send(&json_error("Test.number", seen[0].seq(), "no, an error")).await;
        reply(&mut peer, &seen[1], json!(20)).await;
        for (call, expected) in calls.into_iter().zip([10, 20]) {
            assert_eq!(within("the reply", call).await.unwrap(), expected);
        }
        check_it_works(&client, &mut peer).await;
    });
}

/// A reply that is not of the type asked for is an `Error::Decode` for its caller, and for nobody else.
///
/// In GeeRPC the receive loop decodes, so a wrong type ends the loop and with it every other call.
///
/// Hint: the body is a frame of its own. Let the caller decode it.
#[test]
fn a_reply_of_the_wrong_type_fails_that_call_only() {
    run(async || {
        let (client, mut peer) = pair().await;
        let (mut calls, seen) = begin_many(&client, &mut peer, 4).await;
        reply(&mut peer, &seen[0], json!("not a number")).await;
        reply(&mut peer, &seen[1], json!(-1)).await;
        let header = json!({"service_method": "Test.number", "seq": seen[2].seq(), "error": null});
        peer.send(&[frame(header.to_string()), frame("")].concat()).await; // no value at all
        let last = calls.pop().unwrap();
        for call in calls {
            let failed = within("the reply", call).await;
            assert!(matches!(failed, Err(Error::Decode { codec: Codec::Json, .. })), "{failed:?}");
        }
        assert!(client.is_available());
        reply(&mut peer, &seen[3], json!(3)).await;
        assert_eq!(within("the reply of the right type", last).await.unwrap(), 3);
        check_it_works(&client, &mut peer).await;
    });
}

/// An argument that cannot be encoded, or that is too long for a frame, fails its own call with
/// `Error::Encode` or `Error::FrameTooLarge`, and not one byte of it is sent. One that just fits is sent.
///
/// A header without its body, or half a value, would break the stream for everybody else on it.
///
/// Hint: encode the body before you touch the connection.
#[test]
fn an_argument_that_cannot_be_sent_fails_that_call_only() {
    run(async || {
        let (client, mut peer) = pair().await;
        let no_json = BTreeMap::from([((1, 2), "JSON wants keys that are text")]);
        let failed = within("the failure", client.call::<_, u32>("Test.key", &no_json)).await;
        assert!(matches!(failed, Err(Error::Encode { codec: Codec::Json, .. })), "{failed:?}");
        assert_eq!(client.in_flight(), 0);

        // In JSON a text has two bytes more than its letters.
        let too_long = "x".repeat(DEFAULT_MAX_FRAME_LEN - 1);
        match within("the failure", client.call::<_, u32>("Test.long", &too_long)).await {
            Err(Error::FrameTooLarge { len, max }) => {
                assert_eq!((len, max), (DEFAULT_MAX_FRAME_LEN + 1, DEFAULT_MAX_FRAME_LEN));
            }
            other => panic!("expected Error::FrameTooLarge, got {other:?}"),
        }
        assert_eq!(client.in_flight(), 0);
        let failed = within("the failure", client.call::<_, u32>(&too_long, &1)).await;
        assert!(matches!(failed, Err(Error::FrameTooLarge { .. })), "{failed:?}");

        check_it_works(&client, &mut peer).await; // and is the first that the peer sees
        let both = async {
            tokio::join!(client.call::<_, usize>("Test.long", &too_long[1..]), async {
                let call = next_call(&mut peer).await;
                reply(&mut peer, &call, json!(call.body.len())).await;
            })
        };
        let (longest, ()) = within("the reply to the longest argument", both).await;
        assert_eq!(longest.unwrap(), DEFAULT_MAX_FRAME_LEN);
    });
}

// ---- errors ----------------------------------------------------------------------------------------------
// Chapter: The wire > What a caller sees; The wire > A header with seq 0; The wire > After a header that does not

/// The server's error is an `Error::Remote` with its text, word for word; an empty text is an error too.
///
/// GeeRPC uses the text as a format string, so `100% full` arrives as something else.
///
/// Hint: an error is a header whose `error` is `Some`, whatever the text. Move the text, do not format it.
#[test]
fn the_servers_error_text_arrives_word_for_word() {
    run(async || {
        let texts = [
            "100% full",
            "%s %d {} {0} {{",
            "\"quotes\" and \\ 'more'",
            "two\nlines\r\n\t",
            "é 世界 🦀\u{0}",
            "",
        ];
        let (client, mut peer) = pair().await;
        for text in texts {
            let both = async {
                tokio::join!(client.call::<_, u32>("Test.fails", &1), async {
                    let call = next_call(&mut peer).await;
                    peer.send(&json_error("Test.fails", call.seq(), text)).await;
                })
            };
            match within("the error", both).await.0 {
                Err(error @ Error::Remote(_)) => assert_eq!(error.to_string(), text),
                other => panic!("expected Error::Remote, got {other:?}"),
            }
        }
        check_it_works(&client, &mut peer).await;

        // The same through our own server, in the other codec.
        let server = start(Server::new(arith())).await;
        let client = connect(&server, &Options::default().codecs([Codec::Bincode])).await;
        for text in texts {
            let fail = Fail { message: text.to_owned() };
            match within("the error", client.call::<_, u32>("Arith.fail", &fail)).await {
                Err(Error::Remote(error)) => assert_eq!(error, text),
                other => panic!("expected Error::Remote, got {other:?}"),
            }
        }
        assert_eq!(sum(&client, 1, 2).await, 3);
    });
}

/// However the connection ends, every call in flight fails with `Error::Disconnected`, `is_available` says
/// no, and new calls fail at once.
///
/// A caller whose entry is forgotten waits for ever; with the wrong type of error he cannot know that another
/// connection may help.
///
/// Hint: whatever ends the loop, the line after it fails everybody.
#[test]
fn a_lost_connection_fails_every_call() {
    run(async || {
        // In mid-frame, between header and body, and neither.
        let reply = json_message("Test.number", 1, json!(1));
        let header = reply.len() - frame("1").len();
        for sent in [0, 1, 20, header, reply.len() - 1] {
            let (client, mut peer) = pair().await;
            let (calls, _) = begin_many(&client, &mut peer, 3).await;
            peer.send(&reply[..sent]).await;
            drop(peer);
            let reason = expect_all_lost(&client, calls).await;
            assert!(!reason.starts_with("disconnected"), "said twice: {}", Error::Disconnected(reason));
        }

        // A reset, which is an error of the socket and not its end.
        let (client, mut peer) = tcp_pair().await;
        let (calls, _) = begin_many(&client, &mut peer, 3).await;
        peer.io.set_zero_linger().unwrap();
        drop(peer);
        expect_all_lost(&client, calls).await;

        // Nobody calls when it happens.
        let (client, peer) = pair().await;
        drop(peer);
        eventually("an idle client notices that the connection has ended", || !client.is_available()).await;
        disconnected(within("the failure of a new call", client.call::<_, u32>("Test.number", &1)).await);
    });
}

/// A server that breaks the rules costs the connection, and is told why, even if it is in the middle of a
/// long write.
///
/// Behind a header that makes no sense nobody knows where the next frame begins, and a length over the limit
/// must not be allocated. An end without a word would send the server's author on a long search.
///
/// Hint: a socket that is closed with unread bytes takes the last word back.
#[test]
fn a_server_that_breaks_the_rules_is_told_so() {
    run(async || {
        let too_long = (DEFAULT_MAX_FRAME_LEN as u32 + 1).to_be_bytes().to_vec();
        let headless = [frame(r#"{"service_method":"Test.number","seq":"one"}"#), frame("1")].concat();
        let without_reason = json_message("", 0, Value::Null);
        for broken in [too_long, headless, without_reason, frame(""), frame(b"\xff\xfe")] {
            let (client, mut peer) = tcp_pair().await;
            let (calls, _) = begin_many(&client, &mut peer, 2).await;
            // More than all buffers on the way hold: it is written only if the client reads it.
            peer.send(&[broken, vec![0; DEFAULT_MAX_FRAME_LEN]].concat()).await;
            let reason = expect_all_lost(&client, calls).await;
            assert_ne!(reason, "");
            assert_ne!(read_goodbye(&mut peer).await, "", "a last word should say why");
            expect_end(&mut peer).await;
        }
    });

    // The same, but the client is in the middle of a long write as well: nobody has read its call yet.
    run_paused(async || {
        let (io, other_end) = duplex(1 << 16);
        let (client, mut peer) = connected(io, other_end).await;
        let big = "x".repeat(1 << 20);
        let started = client.start::<_, u32>("Test.big", &big);
        let call = within("start, which does not wait for the write", started).await.unwrap();
        peer.read_frame().await; // the header
        peer.send(&[frame("no header"), vec![0; 1 << 20]].concat()).await;
        disconnected(within("the failure of the call in flight", call).await);
        assert_eq!(peer.read_frame().await.len(), big.len() + 2, "the rest of the call");
        assert_ne!(read_goodbye(&mut peer).await, "", "a last word should say why");
        expect_end(&mut peer).await;
    });
}

/// A client that gives up on a connection waits a second for a server that goes on being silent, and no longer.
///
/// The client's last word is a courtesy. A server that neither reads nor writes must not keep a task and a
/// socket for it.
///
/// Hint: one limit of time around all of it, the write too.
#[test]
fn a_last_word_does_not_wait_long_for_a_silent_server() {
    run_paused(async || {
        // The last word fits into the first of these; in the second the client is stuck in a write.
        for buffer in [1 << 20, 64] {
            let before = alive_tasks();
            let (io, other_end) = duplex(buffer);
            let (client, mut peer) = connected(io, other_end).await;
            let big = "x".repeat(100_000);
            let started = client.start::<_, u32>("Test.big", &big);
            let call = within("start, which does not wait for the write", started).await.unwrap();
            peer.send(&frame("no header")).await;
            disconnected(within("the failure of the call in flight", call).await);
            let since = Instant::now();
            eventually("the client's task ends", || alive_tasks() == before).await;
            let took = since.elapsed();
            assert!(took < Duration::from_secs(2), "the client listened for {took:?}");
            assert!(!client.is_available());
        }
    });
}

/// After the server's goodbye (number 0 and an error) the client takes no more calls, but those in flight still
/// get their replies. The rest fails when the stream ends, for the reason of the goodbye.
///
/// A server that shuts down, or that is full, finishes what it has begun. To throw its last replies away
/// would fail calls that have succeeded.
///
/// Hint: closing the table and failing its calls are two things.
#[test]
fn a_goodbye_lets_the_calls_in_flight_finish() {
    run(async || {
        let (client, mut peer) = pair().await;
        let (mut calls, seen) = begin_many(&client, &mut peer, 3).await;
        peer.send(&json_error("", 0, "going down for 5% more memory")).await;
        eventually("the goodbye is noticed", || !client.is_available()).await;
        let refused = within("the refusal of a new call", client.call::<_, u32>("Test.number", &1)).await;
        assert_eq!(disconnected(refused), "going down for 5% more memory");

        assert_eq!(client.in_flight(), 3);
        reply(&mut peer, &seen[2], json!(2)).await;
        assert_eq!(within("a reply after the goodbye", calls.pop().unwrap()).await.unwrap(), 2);
        reply(&mut peer, &seen[1], json!(1)).await; // right before the end
        drop(peer);
        assert_eq!(within("the last reply", calls.pop().unwrap()).await.unwrap(), 1);
        assert_eq!(expect_all_lost(&client, calls).await, "going down for 5% more memory");
    });
}

/// A goodbye whose reason is megabytes long costs each caller a few words of it.
///
/// Every call in flight fails with the reason, and so does every later one. A thousand copies of one long text
/// are gigabytes, for one frame.
///
/// Hint: cut it where it is kept, before it is copied. Day 1 cuts the reasons that it sends.
#[test]
fn a_long_reason_is_cut_short_for_every_caller() {
    run(async || {
        let (client, mut peer) = pair().await;
        let (calls, _seen) = begin_many(&client, &mut peer, 3).await;
        let long = format!("going down{}", "!".repeat(1_000_000));
        peer.send(&json_error("", 0, &long)).await;
        eventually("the goodbye is noticed", || !client.is_available()).await;
        let check = |reason: String| {
            assert!(reason.starts_with("going down!"), "{reason:.100}");
            assert!(reason.len() < 10_000, "a reason of {} bytes for each caller", reason.len());
        };
        check(disconnected(within("the refusal", client.call::<_, u32>("Test.number", &1)).await));
        drop(peer);
        check(expect_all_lost(&client, calls).await);
    });
}

// ---- the end of a client ---------------------------------------------------------------------------------
// Chapter: Reading order > A client is cheap to clone; Files of today > src/client.rs

/// `close` ends the connection for all clones, at once: calls in flight fail, new ones too, and the server
/// sees the end of the stream. A second `close` does no harm.
///
/// Whoever closes wants the socket back now, not when the last of some hundred clones is dropped.
///
/// Hint: fail the calls in the table, then abort the task that owns the socket.
#[test]
fn close_ends_the_connection_for_all_clones() {
    run(async || {
        let before = alive_tasks();
        let (client, mut peer) = pair().await;
        let clone = client.clone();
        let (mut calls, _) = begin_many(&client, &mut peer, 2).await;
        calls.push(begin(&clone, 3).await);
        next_call(&mut peer).await;

        client.close();
        assert!(!clone.is_available());
        expect_all_lost(&clone, calls).await;
        disconnected(within("the failure of a new call", client.call::<_, u32>("Test.number", &1)).await);
        expect_end(&mut peer).await;
        clone.close();
        eventually("the client's task ends", || alive_tasks() == before).await;
    });
}

/// When the last clone is dropped the socket is closed and the task has ended, also if there never was a
/// call. One clone less is nothing.
///
/// A task that lives on behind a client that is gone is a leak of memory and of a socket, and the server's
/// too.
///
/// Hint: the task must not own what it waits for to go away.
#[test]
fn dropping_the_last_clone_closes_the_connection() {
    run(async || {
        let before = alive_tasks();
        let (client, mut peer) = pair().await;
        let clone = client.clone();
        drop(client);
        check_it_works(&clone, &mut peer).await;
        drop(clone);
        expect_end(&mut peer).await;

        let (client, mut peer) = tcp_pair().await;
        drop(client);
        expect_end(&mut peer).await;
        eventually("the clients' tasks end", || alive_tasks() == before).await;
    });
}

/// The same holds if the task is in the middle of a write to a server that does not read, and if it is a panic
/// that drops the client.
///
/// A task that only looks for the end of its queue does not look while it writes, so this one would stay for
/// as long as the server is silent.
///
/// Hint: the client owns its task; abort it in `Drop`.
#[test]
fn dropping_the_last_clone_ends_a_write_that_is_stuck() {
    run(async || {
        let before = alive_tasks();
        let (io, other_end) = duplex(64);
        let (client, _silent) = connected(io, other_end).await;
        let big = "x".repeat(100_000);
        let started = client.start::<_, u32>("Test.big", &big);
        drop(within("start, which does not wait for the write", started).await.unwrap());
        let panics = tokio::spawn(async move {
            let _client = client;
            panic!("this panic is part of the test");
        });
        assert!(within("the end of the client's owner", panics).await.unwrap_err().is_panic());
        eventually("the client's task ends", || alive_tasks() == before).await;
    });
}

/// When the runtime that drives a client ends, its calls fail, and new ones too.
///
/// A program may have several runtimes, and a caller can outlive the one in which the client's task was. That
/// task is then dropped where it stands, so no line after its loop runs.
///
/// Hint: what must happen however a task ends belongs into a `Drop`.
#[test]
fn calls_fail_when_the_runtime_of_their_client_ends() {
    run(async || {
        let other =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (client, mut peer) = other.spawn(pair()).await.unwrap();
        let (calls, _) = begin_many(&client, &mut peer, 2).await;
        other.shutdown_background();
        expect_all_lost(&client, calls).await;
    });
}

/// A started call keeps the connection open until it has its reply, or is dropped, even if the client is
/// dropped before.
///
/// A function that starts a call and returns it would have to return the client with it otherwise.
///
/// Hint: a `PendingCall` holds a clone of its client.
#[test]
fn a_started_call_keeps_the_connection_open() {
    run(async || {
        let before = alive_tasks();
        let (client, mut peer) = pair().await;
        let (mut calls, seen) = begin_many(&client, &mut peer, 2).await;
        drop(client);
        reply(&mut peer, &seen[0], json!(42)).await;
        assert_eq!(within("the reply after the client is gone", calls.remove(0)).await.unwrap(), 42);
        reply(&mut peer, &seen[1], json!(43)).await;
        assert_eq!(within("the last reply", calls.remove(0)).await.unwrap(), 43);
        expect_end(&mut peer).await;

        let (client, mut peer) = pair().await;
        let (calls, _) = begin_many(&client, &mut peer, 1).await;
        drop(client);
        drop(calls);
        expect_end(&mut peer).await;
        eventually("the clients' tasks end", || alive_tasks() == before).await;
    });
}
