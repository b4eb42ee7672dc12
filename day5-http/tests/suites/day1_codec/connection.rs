//! One connection: the first whole call, and many at once.
//!
//! In `src/server/connection.rs`: first `serve`, `run` and `close`; then a whole call, with `receive`, `start`,
//! `finish` and `reply`, and in `src/server/handler.rs` `decode`, `encode` and `answer`. A `todo!` may stay where a
//! limit is reached, a handler panics or a rule is broken: the stage of the hard cases asks for that.
//!
//! Works then: one connection is served: many calls at once, each answered when it is ready.
//!
//! Chapter: The wire > Messages; Files of today

use super::*;

/// A client shakes hands, calls nothing and leaves: the connection ends without an error.
///
/// It is how every connection ends in the end, so it is worth a name of its own: not everything that stops is broken.
///
/// Hint: `serve` accepts, `run` reads until the stream ends. What it does with a message can wait.
#[test]
fn a_client_that_leaves_after_the_handshake_is_no_error() {
    run(async || {
        let (mut peer, served) = serve_in_memory(Server::new(arith()));
        peer.handshake_json().await;
        peer.end().await;
        within("the end of the connection", served).await.unwrap().unwrap();
    });
}

/// A whole exchange in JSON, byte for byte: the handshake, a call and its reply, a call and its error.
///
/// This is what a client in another language reads. If it changes, every client out there breaks.
///
/// Hint: everything that the wire needs stands in `src/wire/` by now. The connection reads a message, lets the
/// handler answer it and queues the reply.
#[test]
fn a_whole_exchange_in_json() {
    run(async || {
        let (mut peer, _served) = serve_in_memory(Server::new(arith()));
        peer.send(b"\0\0\0\x36{\"magic_number\":3927900,\"codecs\":[\"application/json\"]}").await;
        let hello =
            b"\0\0\0\x48{\"codec\":\"application/json\",\"max_body_len\":8388608,\"max_in_flight\":1024}";
        expect_bytes(&mut peer.io, hello).await;

        peer.send(b"\0\0\0\x2f{\"call\":{\"service_method\":\"Arith.sum\",\"seq\":1}}").await;
        peer.send(b"\0\0\0\x13{\"num1\":1,\"num2\":2}").await;
        expect_bytes(&mut peer.io, b"\0\0\0\x20{\"reply\":{\"seq\":1,\"error\":null}}\0\0\0\x013").await;

        peer.send(b"\0\0\0\x30{\"call\":{\"service_method\":\"Arith.fail\",\"seq\":2}}").await;
        peer.send(b"\0\0\0\x17{\"message\":\"100% full\"}").await;
        let failed = b"\0\0\0\x54{\"reply\":{\"seq\":2,\"error\":{\"code\":\"unknown\",\"message\":\"100% full\",\"refused\":false}}}";
        expect_bytes(&mut peer.io, failed).await;

        peer.send(b"\0\0\0\x2f{\"call\":{\"service_method\":\"Arith.sum\",\"seq\":3}}").await;
        peer.send(b"\0\0\0\x15{\"num1\":20,\"num2\":22}").await;
        expect_bytes(&mut peer.io, b"\0\0\0\x20{\"reply\":{\"seq\":3,\"error\":null}}\0\0\0\x0242").await;
    });
}

/// The same exchange in bincode. The handshake is JSON all the same.
///
/// Signed numbers are doubled first: 1 is `02`, -1 is `01`.
///
/// Hint: nothing new, if every header and body goes through the codec that `accept` returned.
#[test]
fn a_whole_exchange_in_bincode() {
    run(async || {
        let (mut peer, _served) = serve_in_memory(Server::new(arith()));
        let hello = br#"{"magic_number":3927900,"codecs":["application/bincode","application/json"]}"#;
        peer.send(&[b"\0\0\0\x4c", &hello[..]].concat()).await;
        let hello =
            b"\0\0\0\x4b{\"codec\":\"application/bincode\",\"max_body_len\":8388608,\"max_in_flight\":1024}";
        expect_bytes(&mut peer.io, hello).await;

        peer.send(b"\0\0\0\x0d\x00\x09Arith.sum\x01\x00\0\0\0\x02\x02\x04").await;
        expect_bytes(&mut peer.io, b"\0\0\0\x03\x01\x01\x00\0\0\0\x01\x06").await;

        peer.send(b"\0\0\0\x10\x00\x0aArith.fail\xfb\x2c\x01\x00\0\0\0\x0a\x09100% full").await;
        expect_bytes(&mut peer.io, b"\0\0\0\x18\x01\xfb\x2c\x01\x01\x07unknown\x09100% full\x00").await;
    });
}

/// The calls of one connection run at the same time.
///
/// Each of these three waits until all three have arrived. One after the other they would never end.
///
/// Hint: give each handler a task, in a `JoinSet`, and read on.
#[test]
fn calls_of_one_connection_run_concurrently() {
    run(async || {
        let barrier = Arc::new(Barrier::new(3));
        let (mut peer, _served) = serve_in_memory(Server::new(move |request: Request| {
            let barrier = Arc::clone(&barrier);
            async move {
                barrier.wait().await;
                Ok(request.reply(&request.seq())?)
            }
        }));
        peer.handshake_json().await;
        for seq in 1..=3 {
            peer.send(&call("Meet.up", seq, json!(null))).await;
        }
        let mut seqs = Vec::new();
        for _ in 1..=3 {
            seqs.push(peer.read_message().await.seq());
        }
        seqs.sort_unstable();
        assert_eq!(seqs, [1, 2, 3]);
    });
}

/// Replies leave in the order of completion: a slow call does not delay a fast one.
///
/// A server that keeps the order of the calls makes all of them wait for the slowest.
///
/// Hint: `seq` tells the client which call is answered, so there is no order to keep.
#[test]
fn replies_leave_in_the_order_of_completion() {
    run(async || {
        let gates: Arc<[Notify]> = (0..4).map(|_| Notify::new()).collect();
        let handler_gates = Arc::clone(&gates);
        let (mut peer, _served) = serve_in_memory(Server::new(move |request: Request| {
            let gates = Arc::clone(&handler_gates);
            async move {
                gates[request.seq() as usize].notified().await;
                Ok(request.reply(&request.seq())?)
            }
        }));
        peer.handshake_json().await;
        for seq in 1..=3 {
            peer.send(&call("Wait.here", seq, json!(null))).await;
        }
        for seq in [3, 1, 2] {
            gates[seq].notify_one();
            let reply = peer.read_message().await;
            assert_eq!((reply.seq(), reply.value()), (seq as u64, json!(seq)));
        }
    });
}

/// Every failed call has a code, for programs: that of the handler's error if it has one, `invalid_argument` for
/// an argument that does not decode, `unknown` for a plain error.
///
/// If all that the client gets is text, its program decides by text, until the text changes. A `RemoteError` may
/// stand anywhere among the causes of an error, as `?` and `context` put them together.
///
/// Hint: `anyhow::Error::chain` and `downcast_ref`. `Request::decode` returns the right error already.
#[test]
fn a_failed_call_has_a_code() {
    #[derive(Debug, thiserror::Error)]
    #[error("outermost")]
    struct Wrapped(#[source] RemoteError);

    let handler = async |request: Request| {
        let own = RemoteError::new(Code::new("of_our_own"), "the text");
        match request.service_method() {
            "Fail.plain" => anyhow::bail!("outermost"),
            "Fail.code" => Err(RemoteError::new(Code::PERMISSION_DENIED, "outermost").into()),
            "Fail.context" => Err(anyhow::Error::new(own).context("inner").context("outermost")),
            "Fail.source" => Err(Wrapped(own).into()),
            _ => Ok(request.reply(&request.decode::<Sum>()?)?),
        }
    };
    run(async move || {
        let (mut peer, _served) = serve_in_memory(Server::new(handler));
        peer.handshake_json().await;
        let cases = [
            ("Fail.plain", json!(null), "unknown", Some("outermost")),
            ("Fail.code", json!(null), "permission_denied", Some("outermost")),
            ("Fail.context", json!(null), "of_our_own", Some("outermost")),
            ("Fail.source", json!(null), "of_our_own", Some("outermost")),
            ("Fail.argument", json!({"num1": 1}), "invalid_argument", None),
            ("Fail.argument", json!({"num1": 1, "num2": 3_000_000_000_u32}), "invalid_argument", None),
        ];
        for (seq, (method, argument, code, message)) in (1..).zip(cases) {
            peer.send(&call(method, seq, argument.clone())).await;
            let reply = peer.read_message().await;
            assert_eq!((reply.seq(), reply.code()), (seq, code), "{method} with {argument}");
            assert!(!reply.is_refused(), "{method} with {argument}: the handler ran");
            if let Some(message) = message {
                assert_eq!(reply.message(), message, "{method} with {argument}");
            }
        }
        peer.send(&call("No.failure", 9, json!({"num1": 1, "num2": 2}))).await;
        assert_eq!(peer.read_message().await.value(), json!({"num1": 1, "num2": 2}));
    });
}
