//! One connection: many requests at once, and errors that cost one call.
//!
//! Complete `src/server/connection.rs`: limits, replies in batches, the goaway message, and the end of a
//! connection. In `src/server/handler.rs` a panic becomes an error reply.
//!
//! Chapter: Files of today > src/server/connection.rs; Limits

use super::*;

/// Who breaks the rules of the wire is told why, with `seq` 0, and is disconnected. Nobody else notices.
///
/// After a header that makes no sense nobody knows which call to answer, nor what comes next. The rules: a
/// header that decodes, a `seq` that is not 0, a body after each header, no frame over the limit.
///
/// Hint: `Header::goodbye`; flush it before closing.
#[test]
fn who_breaks_the_rules_is_told_why_and_nobody_else_notices() {
    run(async || {
        let server = start(Server::new(arith()).max_frame_len(1000)).await;
        let mut neighbour = Peer::connect_json(server.addr).await;
        let cases = [
            ([frame("no header"), frame("1")].concat(), "bad header"),
            (frame(r#"{"service_method":"Arith.sum","seq":-1,"error":null}"#), "bad header"),
            (frame(json!("x".repeat(990)).to_string()), "bad header"),
            (json_message("Arith.sum", 0, json!({"num1": 1, "num2": 2})), "seq 0"),
            (frame("x".repeat(1001)), "1000"),
            (b"\xff\xff\xff\xff".to_vec(), "1000"),
        ];
        for (broken, word) in cases {
            let mut peer = Peer::connect_json(server.addr).await;
            peer.send(&broken).await;
            let goodbye = peer.read_message().await;
            assert_eq!((goodbye.seq(), goodbye.body.len()), (0, 0));
            assert!(goodbye.error().contains(word), "{word:?} is missing in {:?}", goodbye.error());
            peer.expect_end().await;

            neighbour.expect_service().await;
        }
    });
}

/// `serve_connection` returns when the client ends the stream, and says why if it was not the client's wish.
///
/// Whoever calls it wants to log what is worth a look, and a client that hangs up between two messages is
/// not.
///
/// Hint: tell the peer why before you return the error; but if the peer has gone and cannot be told, return
/// the same error all the same.
#[test]
fn serve_connection_returns_why_it_ended() {
    run(async || {
        let (mut peer, served) = serve_in_memory(Server::new(arith()));
        peer.shake_hands_json().await;
        drop(peer);
        within("the end of the connection", served).await.unwrap().unwrap();

        let (mut peer, served) = serve_in_memory(Server::new(arith()));
        peer.shake_hands_json().await;
        peer.send(&frame("no header")).await;
        drop(peer);
        let ended = within("the end of the connection", served).await.unwrap();
        assert!(matches!(ended, Err(Error::Protocol(_))), "{ended:?}");

        let (mut peer, served) = serve_in_memory(Server::new(arith()));
        peer.send(&options(&["application/none"])).await;
        drop(peer); // without waiting for the answer
        let ended = within("the end of the connection", served).await.unwrap();
        assert!(matches!(ended, Err(Error::Handshake(_))), "{ended:?}");
    });
}

/// A body that does not decode is an error reply; the handler goes no further, and the connection goes on.
///
/// GeeRPC's first day logs the error, and then serves the call with an argument that nobody sent.
///
/// Hint: `request.decode()?`
#[test]
fn a_body_that_does_not_decode_is_an_error_reply() {
    run(async || {
        let ran = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&ran);
        let server = start(Server::new(move |request: Request| {
            let counter = Arc::clone(&counter);
            async move {
                let Sum { num1, num2 } = request.decode()?;
                counter.fetch_add(1, SeqCst);
                Ok(request.reply(&(num1 + num2))?)
            }
        }))
        .await;
        let mut peer = Peer::connect_json(server.addr).await;
        let wrong = [json!("text"), json!({"num1": 1}), json!({"num1": 1, "num2": 3_000_000_000_u32})];
        for (seq, body) in (1..).zip(wrong) {
            peer.send(&json_message("Arith.sum", seq, body)).await;
            let reply = peer.read_message().await;
            assert_eq!((reply.seq(), reply.body.len()), (seq, 0));
            assert!(reply.error().contains("cannot decode"), "{:?}", reply.error());
        }
        assert_eq!(ran.load(SeqCst), 0, "the handler worked with an argument that nobody sent");

        peer.send(&json_message("Arith.sum", 9, json!({"num1": 1, "num2": 2}))).await;
        assert_eq!(peer.read_message().await.value(), 3);
        assert_eq!(ran.load(SeqCst), 1);
    });
}

/// A handler with a reply that cannot be sent, and one that waits to be let go.
fn replies_and_waits(release: Arc<Notify>) -> impl Handler {
    move |request: Request| {
        let release = Arc::clone(&release);
        async move {
            match request.service_method() {
                "Reply.tuple_keys" => Ok(request.reply(&BTreeMap::from([((1, 2), 3)]))?),
                "Reply.long" => Ok(request.reply(&"x".repeat(request.decode()?))?),
                _ => {
                    release.notified().await;
                    Ok(request.reply("released")?)
                }
            }
        }
    }
}

/// A reply that cannot be encoded fails its own call, while others in flight go on.
///
/// JSON has no maps with tuples for keys. In GeeRPC such a reply kills every call of the connection.
///
/// Hint: encode the body before anything of the reply is queued.
#[test]
fn a_reply_that_cannot_be_encoded_fails_its_own_call_only() {
    run(async || {
        let release = Arc::new(Notify::new());
        let server = start(Server::new(replies_and_waits(Arc::clone(&release)))).await;
        let mut peer = Peer::connect_json(server.addr).await;
        peer.send(&json_message("Reply.wait", 1, json!(null))).await;
        peer.send(&json_message("Reply.tuple_keys", 2, json!(null))).await;
        let failed = peer.read_message().await;
        assert_eq!((failed.seq(), failed.body.len()), (2, 0));
        assert!(failed.error().contains("cannot encode"), "{:?}", failed.error());

        release.notify_one();
        let reply = peer.read_message().await;
        assert_eq!((reply.seq(), reply.error(), reply.value()), (1, "", json!("released")));
    });
}

/// A reply over the frame limit fails its own call, while others in flight go on. One of exactly the limit is
/// sent.
///
/// The limit is for what we send, too, or the client would end the connection. A reply that is too long is
/// one method's mistake, and no other call may pay for it.
///
/// Hint: the writer refuses such a frame before it queues any of it. So there is room for an error reply in
/// its place.
#[test]
fn a_reply_over_the_frame_limit_fails_its_own_call_only() {
    run(async || {
        let release = Arc::new(Notify::new());
        let server = Server::new(replies_and_waits(Arc::clone(&release))).max_frame_len(500);
        let server = start(server).await;
        let mut peer = Peer::connect_json(server.addr).await;
        peer.send(&json_message("Reply.wait", 1, json!(null))).await;
        peer.send(&json_message("Reply.long", 2, json!(499))).await;
        let failed = peer.read_message().await;
        assert_eq!((failed.seq(), failed.body.len()), (2, 0));
        assert!(failed.error().contains("500"), "the limit is missing in {:?}", failed.error());

        peer.send(&json_message("Reply.long", 3, json!(498))).await;
        let reply = peer.read_message().await;
        assert_eq!((reply.seq(), reply.error(), reply.body.len()), (3, "", 500));
        release.notify_one();
        assert_eq!(peer.read_message().await.seq(), 1);
    });
}

/// The requests of one connection run at the same time.
///
/// Each of these three waits until all three have arrived. One after the other they would wait for ever.
///
/// Hint: give each handler that is not ready a task of its own, in a `JoinSet`, and read on.
#[test]
fn requests_of_one_connection_run_concurrently() {
    run(async || {
        let barrier = Arc::new(Barrier::new(3));
        let server = start(Server::new(move |request: Request| {
            let barrier = Arc::clone(&barrier);
            async move {
                barrier.wait().await;
                Ok(request.reply(&request.seq())?)
            }
        }))
        .await;
        let mut peer = Peer::connect_json(server.addr).await;
        let mut seqs = Vec::new();
        for seq in 1..=3 {
            peer.send(&json_message("Meet.up", seq, json!(null))).await;
        }
        for _ in 1..=3 {
            seqs.push(peer.read_message().await.seq());
        }
        seqs.sort_unstable();
        assert_eq!(seqs, [1, 2, 3]);
    });
}

/// Replies leave in the order of completion: a slow call does not delay a fast one.
///
/// A server that keeps the order of the requests makes everybody wait for the slowest.
///
/// Hint: `seq` tells the client which call is answered, so there is no order to keep.
#[test]
fn replies_leave_in_the_order_of_completion() {
    run(async || {
        let gates: Arc<[Notify]> = (0..4).map(|_| Notify::new()).collect();
        let handler_gates = Arc::clone(&gates);
        let server = start(Server::new(move |request: Request| {
            let gates = Arc::clone(&handler_gates);
            async move {
                gates[request.seq() as usize].notified().await;
                Ok(request.reply(&request.seq())?)
            }
        }))
        .await;
        let mut peer = Peer::connect_json(server.addr).await;
        for seq in 1..=3 {
            peer.send(&json_message("Wait.here", seq, json!(null))).await;
        }
        for seq in [3, 1, 2] {
            gates[seq].notify_one();
            let reply = peer.read_message().await;
            assert_eq!((reply.seq(), reply.value()), (seq as u64, json!(seq)));
        }
    });
}

/// The replies to a batch of requests leave in one write.
///
/// A write is a system call, and with TCP often a packet. One for each header, body or reply is what makes a
/// server slow.
///
/// Hint: queue replies as long as there are requests to read, and flush when there are none.
#[test]
fn the_replies_to_a_batch_leave_in_one_write() {
    run(async || {
        let (client, io) = duplex(64 * 1024);
        let (io, writes) = CountWrites::new(io);
        let server = Server::new(arith());
        tokio::spawn(async move { server.serve_connection(io).await });
        let mut peer = Peer { io: client };
        peer.shake_hands_json().await;
        let before = writes.load(SeqCst);
        let batch: Vec<u8> = (1..=50)
            .flat_map(|seq| json_message("Arith.sum", seq, json!({"num1": seq, "num2": 1})))
            .collect();
        peer.send(&batch).await;
        for seq in 1..=50 {
            assert_eq!(peer.read_message().await.value(), seq + 1);
        }
        assert_eq!(writes.load(SeqCst) - before, 1, "writes for 50 replies");
    });
}

/// A handler that is ready at its first poll is answered without a task of its own.
///
/// Most handlers of a real service wait for nothing, and a task costs more than such an answer.
///
/// Hint: poll the handler's future once yourself, and spawn it if it is not ready.
#[test]
fn a_handler_that_is_ready_at_once_needs_no_task() {
    run(async || {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let handler_seen = Arc::clone(&seen);
        let (mut peer, _served) = serve_in_memory(Server::new(move |request: Request| {
            let seen = Arc::clone(&handler_seen);
            async move {
                if request.service_method() == "Tasks.wait" {
                    tokio::task::yield_now().await;
                }
                seen.lock().unwrap().push(alive_tasks());
                Ok(request.reply(&())?)
            }
        }));
        peer.shake_hands_json().await;
        let before = alive_tasks();
        let batch: Vec<u8> = (1..=50).flat_map(|seq| json_message("Tasks.count", seq, json!(null))).collect();
        peer.send(&batch).await;
        for _ in 1..=50 {
            peer.read_message().await;
        }
        assert_eq!(std::mem::take(&mut *seen.lock().unwrap()), [before; 50]);

        // And this is what a task looks like: the count can tell.
        peer.send(&json_message("Tasks.wait", 51, json!(null))).await;
        peer.read_message().await;
        assert_eq!(*seen.lock().unwrap(), [before + 1]);
    });
}

/// A panic is an error reply for its own call, wherever in the handler it happens.
///
/// Before the future exists, at its first poll, or after it has waited, in a task of its own: three places,
/// and each is caught in another way.
///
/// Hint: `std::panic::catch_unwind`. The panic messages in the output of this test are on purpose.
#[test]
fn a_panic_is_an_error_reply() {
    run(async || {
        let handler = |request: Request| {
            assert_ne!(request.service_method(), "Panic.early", "this panic is part of the test");
            async move {
                assert_ne!(request.service_method(), "Panic.first_poll", "this panic is part of the test");
                tokio::task::yield_now().await;
                assert_ne!(request.service_method(), "Panic.late", "this panic is part of the test");
                Ok(request.reply("fine")?)
            }
        };
        let server = start(Server::new(handler)).await;
        let mut peer = Peer::connect_json(server.addr).await;
        for (seq, method) in (1..).zip(["Panic.early", "Panic.first_poll", "Panic.late"]) {
            peer.send(&json_message(method, seq, json!(null))).await;
            let reply = peer.read_message().await;
            assert_eq!((reply.seq(), reply.body.len()), (seq, 0), "{method}");
            assert!(reply.error().contains("panicked"), "{method}: {:?}", reply.error());
        }
        peer.send(&json_message("Panic.not", 9, json!(null))).await;
        assert_eq!(peer.read_message().await.value(), "fine");
    });
}

/// The client is told the error's text and that of its causes, each once.
///
/// Many error types, and those of this library too, repeat their cause in their own text. "bad: bad: bad"
/// helps nobody.
///
/// Hint: walk along `anyhow::Error::chain`, and leave out what the text already ends with.
#[test]
fn the_causes_of_an_error_are_told_once() {
    run(async || {
        let handler = async |request: Request| match request.service_method() {
            "Fail.chain" => Err(anyhow::anyhow!("disk full").context("cannot save").context("100% lost")),
            _ => Ok(request.reply(&request.decode::<Sum>()?)?),
        };
        let server = start(Server::new(handler)).await;
        let mut peer = Peer::connect_json(server.addr).await;
        peer.send(&json_message("Fail.chain", 1, json!(null))).await;
        assert_eq!(peer.read_message().await.error(), "100% lost: cannot save: disk full");
        peer.send(&json_message("Fail.decode", 2, json!({"num1": 1}))).await;
        let reply = peer.read_message().await;
        assert_eq!(reply.error().matches("missing field `num2`").count(), 1, "{:?}", reply.error());
    });
}

/// A call more than `max_in_flight` is refused with an error reply, and when one has ended there is room
/// again.
///
/// Without a limit, one client that only sends makes the server start handlers without end. A refusal at once
/// is better than a wait of unknown length: the client can go elsewhere.
///
/// Hint: count the handlers that run before you start one more.
#[test]
fn one_call_more_than_max_in_flight_is_refused() {
    run(async || {
        let release = Arc::new(Notify::new());
        let server = Server::new(replies_and_waits(Arc::clone(&release))).max_in_flight(2);
        let server = start(server).await;
        let mut peer = Peer::connect_json(server.addr).await;
        for seq in 1..=3 {
            peer.send(&json_message("Reply.wait", seq, json!(null))).await;
        }
        let refused = peer.read_message().await;
        assert_eq!((refused.seq(), refused.body.len()), (3, 0));
        assert!(refused.error().contains('2'), "the limit is missing in {:?}", refused.error());

        for seq in 4..=6 {
            release.notify_one();
            let reply = peer.read_message().await;
            assert_eq!((reply.error(), reply.value()), ("", json!("released")));
            peer.send(&json_message("Reply.wait", seq, json!(null))).await;
        }
        peer.send(&json_message("Reply.wait", 7, json!(null))).await;
        let refused = peer.read_message().await;
        assert_eq!(refused.seq(), 7);
        assert_ne!(refused.error(), "");
    });
}
