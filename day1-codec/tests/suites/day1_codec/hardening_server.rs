//! Hardening of the server: streams that break, errors that are passed on, defaults, memory that is kept.
//!
//! No new function. What must hold is in `src/server/connection.rs`, `src/server/handler.rs` and
//! `src/server/mod.rs`.
//!
//! Chapter: Limits; What goes wrong without it

use super::*;

/// An exchange works when every read and every write of the server moves a single byte.
///
/// Each read and each write is cut, and has to go on where it stopped.
///
/// Hint: nothing to do, if all reading goes through the frame reader and all writing through the frame
/// writer.
#[test]
fn an_exchange_of_one_byte_at_a_time() {
    run(async || {
        let (client, io) = duplex(1);
        let server = Server::new(arith());
        tokio::spawn(async move { server.serve_connection(Watched::one_byte(io)).await });
        let mut peer = Peer { io: client };
        peer.handshake_json().await;
        for seq in 1..=3 {
            peer.send(&call("Arith.sum", seq, json!({"num1": seq, "num2": 2}))).await;
            let reply = peer.read_message().await;
            assert_eq!((reply.seq(), reply.value()), (seq, json!(seq + 2)));
        }
    });
}

/// A reply does not stay in a stream that keeps back what is written until it is flushed.
///
/// TLS does that. The client would get its reply with the next one, if there ever is one.
///
/// Hint: the flush is over when the stream's own flush is.
#[test]
fn a_reply_leaves_a_stream_that_keeps_bytes_back() {
    run(async || {
        let (client, io) = duplex(4096);
        let server = Server::new(arith());
        tokio::spawn(async move { server.serve_connection(tokio::io::BufStream::new(io)).await });
        let mut peer = Peer { io: client };
        peer.handshake_json().await;
        peer.expect_service().await;
        peer.send(&frame("no header")).await;
        peer.expect_goaway().await;
    });
}

/// `serve_connection` returns when the client ends the stream, and says why if something broke it: a stream cut
/// inside a message, a broken rule, a hello that is none, a goaway of the client with its reason.
///
/// Its caller wants to log what is worth a look, and a client that hangs up between two messages is not.
///
/// Hint: if the peer has gone and cannot be told, the error is the same.
#[test]
fn serve_connection_returns_why_it_ended() {
    run(async || {
        let hello = || client_hello(&["application/json"]);
        let whole = [hello(), call("Arith.sum", 1, json!({"num1": 1, "num2": 2}))].concat();
        let (first_byte_of_call, header) =
            (hello().len() + 1, frame(r#"{"call":{"service_method":"A.b","seq":1}}"#));
        let broken = [hello(), frame("no header")].concat();
        type Wanted = fn(&Result<(), Error>) -> bool;
        let cases: [(&str, Vec<u8>, Wanted); 8] = [
            ("after the hello", hello(), |ended| ended.is_ok()),
            ("after a call", whole.clone(), |ended| ended.is_ok()),
            ("inside a length", whole[..first_byte_of_call].to_vec(), |ended| {
                matches!(ended, Err(Error::Io(_)))
            }),
            ("inside a body", whole[..whole.len() - 1].to_vec(), |ended| matches!(ended, Err(Error::Io(_)))),
            ("between header and body", [hello(), header].concat(), |ended| {
                matches!(ended, Err(Error::Io(_) | Error::Protocol(_)))
            }),
            ("after a broken rule", broken.clone(), |ended| matches!(ended, Err(Error::Protocol(_)))),
            ("after a hello that is none", client_hello(&["none"]), |ended| {
                matches!(ended, Err(Error::Handshake(_)))
            }),
            (
                "after a goaway",
                [hello(), goaway("so long")].concat(),
                |ended| matches!(ended, Err(Error::Disconnected(reason)) if reason.contains("so long")),
            ),
        ];
        for (case, wire, wanted) in cases {
            let (mut peer, served) = serve_in_memory(Server::new(arith()));
            peer.send(&wire).await;
            peer.end().await;
            let ended = within("the end of the connection", served).await.unwrap();
            assert!(wanted(&ended), "the stream ended {case}: {ended:?}");
        }

        // The same reasons from streams that take no more bytes, or no more than the server's hello.
        let refused = |ended: &Result<(), Error>| matches!(ended, Err(Error::Handshake(_)));
        let broke_a_rule = |ended: &Result<(), Error>| matches!(ended, Err(Error::Protocol(_)));
        let cases: [(&str, Vec<u8>, usize, Wanted); 2] = [
            ("a hello that is none", frame("hello"), 0, refused),
            ("a broken rule", broken, 76, broke_a_rule),
        ];
        for (case, wire, room, wanted) in cases {
            let write = std::io::Cursor::new(vec![0; room].into_boxed_slice());
            let io = tokio::io::join(Pieces::new([wire]), write);
            let server = Server::new(arith());
            let ended = within("the end of the connection", server.serve_connection(io)).await;
            assert!(wanted(&ended), "{case}, of a client that cannot be told: {ended:?}");
        }
    });
}

/// After a clean end, and after the client's own goaway, the server has nothing more to say.
///
/// A goaway is for a client that has broken a rule or that may go on elsewhere. One with an empty reason, after
/// an end that was the client's own wish, looks like a failure in the client's log.
///
/// Hint: look at the result before you write a goaway.
#[test]
fn a_clean_end_has_no_goaway() {
    run(async || {
        for last in [Vec::new(), goaway("so long")] {
            let (mut peer, _served) = serve_in_memory(Server::new(arith()));
            peer.handshake_json().await;
            peer.expect_service().await;
            peer.send(&last).await;
            peer.end().await;
            peer.expect_end().await;
        }
    });
}

/// Replies that were queued when the client ended its direction of the stream are still written, all of them. Its
/// handlers are stopped before that.
///
/// The client has asked, and may read what is already there. Calls in flight are another matter: they are given
/// up, and a client that takes its time to read does not keep them alive.
///
/// Hint: stop the handlers, write what is queued, and only then close the stream.
#[test]
fn queued_replies_survive_the_end_of_the_clients_stream() {
    run(async || {
        let (client, io) = duplex(64);
        let (dropped, mut was_dropped) = mpsc::unbounded_channel();
        let server = Server::new(move |request: Request| {
            let never_ends = (request.service_method() == "Never.ends").then(|| OnDrop(dropped.clone()));
            async move {
                match never_ends {
                    Some(_on_drop) => std::future::pending().await,
                    None => Ok(request.reply(&"x".repeat(20_000))?),
                }
            }
        });
        tokio::spawn(async move { server.serve_connection(io).await });
        let mut peer = Peer { io: client };
        peer.handshake_json().await;
        peer.send(&call("Never.ends", 7, json!(null))).await;
        peer.send(&call("Reply.long", 1, json!(null))).await;
        // With its first bytes here, all of the reply is queued: more than the stream holds.
        expect_bytes(&mut peer.io, b"\0\0\0\x20{\"reply\"").await;
        peer.end().await;
        within("the handler stops, though the reply is not read", was_dropped.recv()).await.unwrap();
        expect_bytes(&mut peer.io, b":{\"seq\":1,\"error\":null}}").await;
        assert_eq!(peer.read_frame().await.len(), 20_002, "the body of the reply");
        peer.expect_end().await;
    });
}

/// A handler's error is never marked as refused, also if it passes on the refusal of another server.
///
/// This handler has run. If the client took the mark for ours, it would send the call elsewhere, and the call
/// would run twice. Only the connection knows that it did not start a call.
///
/// Hint: make the error that is sent anew, from the code and the text.
#[test]
fn only_the_connection_marks_a_call_as_refused() {
    run(async || {
        let handler = async |request: Request| -> anyhow::Result<Reply> {
            let refusal = json!({"code": "resource_exhausted", "message": "busy", "refused": true});
            let refusal: RemoteError = serde_json::from_value(refusal)?;
            assert!(refusal.is_refused(), "it came so from another server");
            match request.service_method() {
                "Pass.it_on" => Err(refusal.into()),
                _ => Err(anyhow::Error::new(refusal).context("busy")),
            }
        };
        let (mut peer, _served) = serve_in_memory(Server::new(handler));
        peer.handshake_json().await;
        for (seq, method) in (1..).zip(["Pass.it_on", "Pass.in_context"]) {
            peer.send(&call(method, seq, json!(null))).await;
            let reply = peer.read_message().await;
            let read = (reply.code(), reply.message(), reply.is_refused());
            assert_eq!(read, ("resource_exhausted", "busy", false), "{method}");
        }
    });
}

/// A number may be used again as soon as its call is answered, however the call ended.
///
/// The rule is that a number is not used twice at the same time. A client that counts in 8 bits keeps to it.
///
/// Hint: a call leaves the table in every way in which it can end, a panic included.
#[test]
fn a_number_may_be_used_again_when_its_call_is_answered() {
    run(async || {
        let (mut peer, _served) = serve_in_memory(Server::new(arith()).max_in_flight(1));
        peer.handshake_json().await;
        let sum = json!({"num1": 1, "num2": 2});
        for (method, argument) in [("Arith.sum", &sum), ("Arith.panic", &sum), ("Arith.sum", &json!(1))] {
            peer.send(&call(method, 7, argument.clone())).await;
            assert_eq!(peer.read_message().await.seq(), 7, "{method} with {argument}");
        }
        let waits = call("Arith.sleep", 1, json!({"millis": 3_600_000}));
        let refused = call("Arith.sum", 7, sum.clone());
        peer.send(&[waits, refused.clone(), refused].concat()).await;
        for _ in 0..2 {
            let reply = peer.read_message().await;
            assert_eq!((reply.seq(), reply.is_refused()), (7, true));
        }
    });
}

/// A handler that the runtime stops, as it shuts down, is an error reply, and its place is free again.
///
/// A program may have several runtimes, and give up the one that its handlers run on. Their tasks end without an outcome,
/// and without a panic. Such a call had no reply in an earlier version, and its place was lost.
///
/// Hint: a `JoinError` need not be a panic. Whatever it is, the call has ended.
#[test]
fn a_handler_that_the_runtime_stops_is_an_error_reply() {
    run(async || {
        let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let spawns_on = Arc::new(Mutex::new(None));
        let (client, io) = duplex(4096);
        let server = Server::new(async |request: Request| {
            tokio::task::yield_now().await;
            Ok(request.reply("done")?)
        });
        let mut serving = Box::pin(async move { server.max_in_flight(1).serve_connection(io).await });
        let runtime = Arc::clone(&spawns_on);
        tokio::spawn(poll_fn(move |cx| {
            let handle: Option<tokio::runtime::Handle> = runtime.lock().unwrap().clone();
            let _inside = handle.as_ref().map(|handle| handle.enter());
            serving.as_mut().poll(cx)
        }));
        let mut peer = Peer { io: client };
        peer.handshake_json().await;

        // The handler is spawned on the other runtime, which never runs it.
        *spawns_on.lock().unwrap() = Some(other.handle().clone());
        peer.send(&call("Test.call", 1, json!(null))).await;
        eventually("a task for the handler", || other.metrics().num_alive_tasks() == 1).await;
        *spawns_on.lock().unwrap() = None;
        peer.send(&call("Test.call", 2, json!(null))).await;
        assert!(peer.read_message().await.is_refused(), "the first call is in flight");

        other.shutdown_background();
        let reply = peer.read_message().await;
        assert_eq!((reply.seq(), reply.code(), reply.is_refused()), (1, "internal", false));
        peer.send(&call("Test.call", 3, json!(null))).await;
        assert_eq!(peer.read_message().await.value(), "done");
    });
}

/// A handler's future that panics when it is dropped, with its reply ready, costs its own call at most: that has one
/// reply, and its place is free again.
///
/// What a future holds is dropped after its last poll, and a `Drop` is code of the application as well. Whether the
/// caller gets the value or an error is up to the server.
///
/// Hint: the task catches this panic, too.
#[test]
fn a_panic_in_the_last_drop_of_a_handler_costs_one_call_at_most() {
    struct Rude(Request);
    impl Future for Rude {
        type Output = anyhow::Result<Reply>;

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
            Poll::Ready(Ok(self.0.reply("done")?))
        }
    }
    impl Drop for Rude {
        fn drop(&mut self) {
            assert_ne!(self.0.service_method(), "Rude.drop", "this panic is part of the test");
        }
    }
    run(async || {
        let (mut peer, _served) = serve_in_memory(Server::new(Rude).max_in_flight(1));
        peer.handshake_json().await;
        for seq in [1, 2] {
            peer.send(&call("Rude.drop", seq, json!(null))).await;
            let reply = peer.read_message().await;
            assert_eq!(reply.seq(), seq);
            assert!(
                reply.body.is_some() || !reply.is_refused(),
                "a refusal of a call that has run: {reply:?}"
            );
        }
        peer.send(&call("Rude.not", 3, json!(null))).await;
        assert_eq!(peer.read_message().await.value(), "done");
    });
}

/// The defaults of the limits are those that the docs state: bodies of 8 MiB each way, 1024 calls in flight.
///
/// A default of `usize::MAX` is no limit, and all other tests pass with it.
///
/// Hint: `Limits::default`, and the default of the client's hello.
#[test]
fn the_default_limits_hold() {
    run(async || {
        const MAX: usize = 8 * 1024 * 1024;
        let (mut peer, _served) =
            serve_in_memory(Server::new(async |request: Request| match request.service_method() {
                "Test.len" => Ok(request.reply(&request.decode::<String>()?.len())?),
                "Test.long" => Ok(request.reply(&"x".repeat(request.decode()?))?),
                _ => std::future::pending().await,
            }));
        peer.handshake_json().await;
        peer.send(&call("Test.len", 1, json!("x".repeat(MAX - 2)))).await;
        assert_eq!(peer.read_message().await.value(), MAX - 2, "an argument of 8 MiB");
        peer.send(&call("Test.long", 2, json!(MAX - 2))).await;
        assert_eq!(peer.read_message().await.body.map(|body| body.len()), Some(MAX), "a reply of 8 MiB");
        peer.send(&call("Test.long", 3, json!(MAX - 1))).await;
        assert_eq!(peer.read_message().await.code(), "resource_exhausted", "a reply of a byte more");

        for seq in 1..=1025 {
            peer.send(&call("Test.waits", seq, json!(null))).await;
        }
        let refused = peer.read_message().await;
        assert_eq!((refused.seq(), refused.is_refused()), (1025, true), "the call after 1024 others");

        let header = frame(r#"{"call":{"service_method":"Test.len","seq":2000}}"#);
        peer.send(&[&header[..], b"\0\x80\0\x01"].concat()).await;
        peer.expect_goaway().await;
    });
}

/// Only the client's limit counts for a reply, and only the server's for an argument. A client that takes no
/// bodies at all still gets errors, and empty replies.
///
/// 20 calls of one client failed together, when one reply was over a limit that was not its own.
///
/// Hint: `max_body_len` of the client's hello is the limit of a reply's body.
#[test]
fn each_side_has_its_own_limit_of_a_body() {
    run(async || {
        let handler = async |request: Request| match request.service_method() {
            "Test.unit" => Ok(request.reply(&())?),
            "Test.fail" => anyhow::bail!("no"),
            _ => Ok(request.reply(&"x".repeat(request.decode()?))?),
        };
        let bincode = |max| client_hello_with(&["application/bincode"], json!({ "max_body_len": max }));
        let (mut peer, _served) = serve_in_memory(Server::new(handler).max_body_len(10));
        peer.send(&bincode(9_000_000)).await;
        peer.read_json().await;
        let argument = [&b"\xfc"[..], &8_999_995_u32.to_le_bytes()].concat();
        peer.send(&[frame(b"\x00\x09Test.long\x01\x00"), frame(argument)].concat()).await;
        assert_eq!(&peer.read_frame().await[..], b"\x01\x01\x00");
        assert_eq!(peer.read_frame().await.len(), 9_000_000);

        let (mut peer, _served) = serve_in_memory(Server::new(handler));
        peer.send(&bincode(0)).await;
        peer.read_json().await;
        for (method, answer) in [
            ("Test.unit", &b"\0\0\0\x03\x01\x01\x00\0\0\0\0"[..]),
            ("Test.fail", b"\0\0\0\x0f\x01\x01\x01\x07unknown\x02no\x00"),
        ] {
            let header = [b"\x00\x09", method.as_bytes(), b"\x01\x00"].concat();
            peer.send(&[frame(header), frame("")].concat()).await;
            expect_bytes(&mut peer.io, answer).await;
        }
    });
}

/// A long name costs its own call only, and a long header the connection. Both are told why, however little of
/// it can be repeated.
///
/// A handler that does not know a method names it in its error, and serde names an unknown kind of message. If
/// that text were not cut, the answer would be too long to be sent.
///
/// Hint: every text that quotes a peer goes through `truncate`.
#[test]
fn what_quotes_a_peer_is_cut() {
    run(async || {
        let server = start(Server::new(arith())).await;
        let mut peer = Peer::connect_json(server.addr).await;
        for (seq, text) in (1..).zip(["x", "\u{1}", "\""]) {
            let name = text.repeat(16_000 / json!(text).to_string().len());
            peer.send(&call(&name, seq, json!(null))).await;
            let reply = peer.read_message().await;
            assert_eq!((reply.seq(), reply.code()), (seq, "unimplemented"));
        }
        // With a word of its own about it, the server's goaway would be longer than a header may be.
        let kind = "x".repeat(MAX_HEADER_LEN - r#"{"":{}}"#.len());
        peer.send(&frame(json!({ kind: {} }).to_string())).await;
        peer.expect_goaway().await;

        let mut peer = Peer::connect_json(server.addr).await;
        peer.send(b"\0\0\x40\x01").await;
        peer.expect_goaway().await;
    });
}

/// A handler may stand around another handler, and around one whose type it does not know.
///
/// That is all there is to middleware: to check a token, to count, to log.
///
/// Hint: an `Arc` of a handler is a handler, and so is an `Arc<dyn Handler>`.
#[test]
fn a_handler_may_stand_around_another() {
    run(async || {
        let inner: Arc<dyn Handler> = Arc::new(arith());
        let checked = move |request: Request| {
            let is_known = request.metadata().get("token").is_some_and(|token| token == "t");
            let answer = is_known.then(|| inner.call(request));
            async move {
                match answer {
                    Some(answer) => answer.await,
                    None => Err(RemoteError::new(Code::UNAUTHENTICATED, "no token").into()),
                }
            }
        };
        let (mut peer, _served) = serve_in_memory(Server::new(Arc::new(checked)));
        peer.handshake_json().await;
        let argument = json!({"num1": 1, "num2": 2});
        peer.send(&call("Arith.sum", 1, argument.clone())).await;
        assert_eq!(peer.read_message().await.code(), "unauthenticated");
        peer.send(&call_with("Arith.sum", 2, json!({"token": "t"}), argument)).await;
        assert_eq!(peer.read_message().await.value(), 3);
    });
}

/// Sockets that a TCP listener accepts send small replies at once.
///
/// Nagle's algorithm keeps a small packet back until the one before it is acknowledged. With a peer that delays its
/// acknowledgements, that is 40 ms for a reply that was ready.
///
/// Hint: `TcpStream::set_nodelay`.
#[test]
fn accepted_sockets_have_nodelay() {
    run(async || {
        let mut listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = tokio::net::TcpStream::connect(listener.local_addr().unwrap());
        let both = async { tokio::join!(client, Listener::accept(&mut listener)) };
        let (client, accepted) = within("an accepted connection", both).await;
        let (socket, peer) = accepted.unwrap();
        assert!(socket.nodelay().unwrap(), "NODELAY is not set");
        assert_eq!(peer, Some(client.unwrap().local_addr().unwrap()));
    });
}

/// Connections that have ended leave nothing behind.
///
/// A server accepts for months. If it keeps a little of each connection, it is killed for its memory in the end,
/// and no test of a minute shows that.
///
/// Hint: a finished task stays in a `JoinSet` until its result is taken: `join_next`.
#[test]
#[cfg(target_os = "linux")] // it asks the system how much memory the process has
fn connections_that_have_ended_leave_nothing_behind() {
    /// Connections of clients that leave at once.
    struct Visitors(usize, Arc<AtomicUsize>);
    impl Listener for Visitors {
        type Io = tokio::io::DuplexStream;

        async fn accept(&mut self) -> std::io::Result<(Self::Io, Option<std::net::SocketAddr>)> {
            tokio::task::yield_now().await;
            if self.1.fetch_add(1, SeqCst) < self.0 {
                return Ok((duplex(16).1, None));
            }
            std::future::pending().await
        }
    }
    alone(module_path!(), "connections_that_have_ended_leave_nothing_behind", || {
        run(async || {
            const VISITORS: usize = 10_000;
            let asked = Arc::new(AtomicUsize::new(0));
            let visitors = Visitors(VISITORS, Arc::clone(&asked));
            let _running = start_on(Server::new(arith()), visitors, ([127, 0, 0, 1], 0).into());
            eventually("half of the visitors accepted", || asked.load(SeqCst) > VISITORS / 2).await;
            let before = resident_kib(); // by now there is what connections need while they are there
            eventually("all visitors accepted", || asked.load(SeqCst) > VISITORS).await;
            eventually("all connections ended", || alive_tasks() == 1).await;
            let kept = resident_kib().saturating_sub(before);
            assert!(kept < 1024, "{} connections that have ended hold {kept} KiB", VISITORS / 2);
        });
    });
}

/// Whatever a peer sends, `serve_connection` comes to an end without a panic, allocates no more than a body
/// may have, and everything it says is whole frames.
///
/// Garbage, garbage in good frames, and good messages at the wrong time: chance tries what no author thinks of.
///
/// Hint: if it fails, the message ends with the smallest input that does it. Write a test for that one.
#[test]
fn no_bytes_make_a_connection_panic() {
    const MAX: usize = 20_000;
    let bytes = || prop::collection::vec(any::<u8>(), 0..60);
    let method = prop_oneof![Just("Arith.sum"), Just("Arith.sleep"), Just("Arith.panic"), Just("")];
    let piece = prop_oneof![
        bytes(),
        bytes().prop_map(frame),
        Just(frame(r#"{"num1":1,"num2":2}"#)),
        Just(b"\x00\x00\x4e\x20".to_vec()), // announces a frame of 20,000 bytes
        (method, 0..4_u64).prop_map(|(method, seq)| {
            frame(json!({"call": {"service_method": method, "seq": seq}}).to_string())
        }),
        Just(reply(1, json!(null))),
        Just(goaway("bye")),
    ];
    let hello = prop_oneof![
        1 => Just(Vec::new()),
        2 => Just(client_hello(&["application/json"])),
        2 => Just(client_hello_with(&["application/bincode"], json!({"max_body_len": 0}))),
    ];
    let server = Server::new(arith()).max_body_len(MAX);
    proptest!(proptest_config(), |(hello in hello, pieces in prop::collection::vec(piece, 0..8))| {
        let server = server.clone();
        run(async move || {
            let (mut client, io) = duplex(64 * 1024);
            let (io, seen) = Watched::new(io);
            let served = tokio::spawn(async move { server.serve_connection(io).await.is_ok() });
            within("everything sent", client.write_all(&[hello, pieces.concat()].concat())).await.unwrap();
            within("the end sent", client.shutdown()).await.unwrap();
            let mut said = BytesMut::new();
            while within("the end of the stream", client.read_buf(&mut said)).await.unwrap() > 0 {}
            within("the end of the connection", served).await.expect("no panic");

            while LengthDelimitedCodec::new().decode(&mut said).unwrap().is_some() {}
            assert!(said.is_empty(), "not a whole frame: {said:?}");
            let largest = seen.largest_buffer.load(SeqCst);
            assert!(largest <= MAX + 16 * 1024, "{largest} bytes were allocated");
        });
    });
}
