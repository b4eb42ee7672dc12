//! The hard cases of a connection: what costs one call, and what costs the connection.
//!
//! Nothing new is to be written, if the functions of the connection are complete: the limit on calls, a panic, a reply
//! that is too long, and the goaway, all in `src/server/connection.rs`.
//!
//! Works then: all of day 1's core: a bad call costs one reply, and a broken rule one connection.
//!
//! Chapter: The wire > Messages; Limits; What goes wrong without it

use super::*;

/// The causes of a handler's error never reach the wire.
///
/// "cannot load user: connection to db=prod password=… refused" is for the log. The client gets the outermost
/// text, which the handler chose for it.
///
/// Hint: `to_string()`. The alternate form `{:#}` and the form for debugging have the causes in them.
#[test]
fn the_causes_of_an_error_stay_on_the_server() {
    run(async || {
        let handler = async |request: Request| -> anyhow::Result<Reply> {
            let refused = anyhow::anyhow!("db=prod password=secret1 refused");
            match request.service_method() {
                "Load.plain" => Err(refused.context("user=secret2").context("cannot load user")),
                _ => {
                    let remote = RemoteError::new(Code::UNAVAILABLE, "10.0.0.7 says secret3");
                    Err(anyhow::Error::new(remote).context("cannot load user"))
                }
            }
        };
        let (mut peer, _served) = serve_in_memory(Server::new(handler));
        peer.handshake_json().await;
        for (seq, (method, code)) in (1..).zip([("Load.plain", "unknown"), ("Load.remote", "unavailable")]) {
            peer.send(&call(method, seq, json!(null))).await;
            let reply = peer.read_message().await;
            assert_eq!((reply.code(), reply.message()), (code, "cannot load user"), "{method}");
            assert!(!reply.header.to_string().contains("secret"), "{method}: {}", reply.header);
        }
    });
}

/// A handler with replies that cannot be sent, and one that waits until it is released.
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

/// A reply that cannot be sent fails its own call, while others in flight go on: one that cannot be encoded
/// (`internal`), and one that is longer than the client takes (`resource_exhausted`).
///
/// JSON has no maps with tuples for keys. In GeeRPC such a reply kills every call of the connection. And the
/// client said in its hello how long a body it takes. If it were sent more, it would have to end the connection.
///
/// Hint: queue all of a message or nothing. Then there is room for an error in its place.
#[test]
fn a_reply_that_cannot_be_sent_fails_its_own_call_only() {
    run(async || {
        let release = Arc::new(Notify::new());
        let server = Server::new(replies_and_waits(Arc::clone(&release))).max_body_len(1000);
        let (mut peer, _served) = serve_in_memory(server);
        peer.handshake_json_with(json!({"max_body_len": 500})).await;
        peer.send(&call("Reply.wait", 1, json!(null))).await;
        let cases = [
            ("Reply.tuple_keys", json!(null), "internal"),
            ("Reply.long", json!(499), "resource_exhausted"), // and two quotes
            ("Reply.long", json!(100_000), "resource_exhausted"),
        ];
        for (seq, (method, argument, code)) in (2..).zip(cases) {
            peer.send(&call(method, seq, argument.clone())).await;
            let failed = peer.read_message().await;
            assert_eq!((failed.seq(), failed.code()), (seq, code), "{method} of {argument}");
            assert!(!failed.is_refused(), "{method} of {argument}: the handler ran");
        }

        peer.send(&call("Reply.long", 8, json!(498))).await;
        let reply = peer.read_message().await;
        assert_eq!((reply.seq(), reply.body.map(|body| body.len())), (8, Some(500)), "exactly the limit");
        release.notify_one();
        let reply = peer.read_message().await;
        assert_eq!((reply.seq(), reply.value()), (1, json!("released")));
    });
}

/// A call more than `max_in_flight` is refused, as one that did not run, and when one has ended there is room
/// again.
///
/// Without a limit, one client that only sends makes the server start handlers without end. A refusal at once
/// is better than a wait of unknown length, and `refused` says that the call may be sent to another server.
///
/// Hint: count the handlers in flight before you start one more.
#[test]
fn one_call_more_than_max_in_flight_is_refused() {
    run(async || {
        let release = Arc::new(Notify::new());
        let server = Server::new(replies_and_waits(Arc::clone(&release))).max_in_flight(2);
        let (mut peer, _served) = serve_in_memory(server);
        assert_eq!(peer.handshake_json().await["max_in_flight"], 2, "the client is told");
        for seq in 1..=3 {
            peer.send(&call("Reply.wait", seq, json!(null))).await;
        }
        let refused = peer.read_message().await;
        let read = (refused.seq(), refused.code(), refused.is_refused());
        assert_eq!(read, (3, "resource_exhausted", true));

        for seq in 4..=6 {
            release.notify_one();
            assert_eq!(peer.read_message().await.value(), "released");
            peer.send(&call("Reply.wait", seq, json!(null))).await;
        }
        peer.send(&call("Reply.wait", 7, json!(null))).await;
        let refused = peer.read_message().await;
        assert_eq!((refused.seq(), refused.is_refused()), (7, true));
    });
}

/// A panic is an error for its own call (`internal`), wherever in the handler it happens, and its place is free
/// again.
///
/// Before the future exists, at its first poll, or after it has waited. The connection and the other calls go on.
///
/// Hint: a task catches the panic: its `JoinError` says which task it was, and the table which call. The panic
/// messages in the output of this test are on purpose.
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
        let (mut peer, _served) = serve_in_memory(Server::new(handler).max_in_flight(1));
        peer.handshake_json().await;
        for (seq, method) in (1..).zip(["Panic.early", "Panic.first_poll", "Panic.late"]) {
            peer.send(&call(method, seq, json!(null))).await;
            let reply = peer.read_message().await;
            let read = (reply.seq(), reply.code(), reply.is_refused());
            assert_eq!(read, (seq, "internal", false), "{method}");
        }
        peer.send(&call("Panic.not", 9, json!(null))).await;
        assert_eq!(peer.read_message().await.value(), "fine");
    });
}

/// A client that breaks the rules of the wire is told why, with a goaway, and is disconnected. Others go on.
///
/// The rules: a header that decodes and belongs to a client, a `seq` that is not in flight, no body longer than
/// the server said that it takes. What comes after a broken one cannot be read.
///
/// Hint: queue the goaway behind the replies that are queued already, and write all of it before you close.
#[test]
fn a_client_that_breaks_the_rules_is_told_why() {
    run(async || {
        let server = start(Server::new(replies_and_waits(Arc::default())).max_body_len(1000)).await;
        let mut neighbour = Peer::connect_json(server.addr).await;
        let header = frame(r#"{"call":{"service_method":"Reply.wait","seq":1}}"#);
        let in_flight = call("Reply.wait", 1, json!(null));
        let cases = [
            ("no header", frame("no header")),
            ("an unknown kind", frame(r#"{"of_next_year":{"seq":1}}"#)),
            ("a seq that is no number", frame(r#"{"call":{"service_method":"Reply.wait","seq":-1}}"#)),
            ("a reply, which only a server sends", reply(1, json!(3))),
            ("a seq that is in flight", [&in_flight[..], &in_flight[..]].concat()),
            ("a body over the limit", [&header[..], b"\0\0\x03\xe9"].concat()),
            ("a body of 4 GiB", [&header[..], b"\xff\xff\xff\xff"].concat()),
            ("a header of 4 GiB", b"\xff\xff\xff\xff".to_vec()),
        ];
        for (case, broken) in cases {
            let mut peer = Peer::connect_json(server.addr).await;
            peer.send(&broken).await;
            let message = peer.read_message().await;
            assert_eq!(message.kind(), "goaway", "{case}");
            assert_ne!(message.reason(), "", "{case}");
            peer.expect_end().await;

            neighbour.send(&call("Reply.long", 1, json!(1))).await;
            assert_eq!(neighbour.read_message().await.value(), "x", "another connection, after {case}");
        }
    });
}
