//! A handler has a limit: the smaller one of the client's and the server's.
//!
//! Nothing to write: run it. The limit itself is a part of the stage before. These tests show whether the smaller one
//! wins.
//!
//! Works then: a handler ends at the smaller one of the client's limit and the server's.
//!
//! Chapter: Limits; The wire

use super::*;

/// The code of the server's error, for a call that was started.
#[track_caller]
fn code_of<T: std::fmt::Debug>(result: Result<T, Error>) -> Code {
    match result {
        Err(Error::Remote(error)) => error.code().clone(),
        other => panic!("expected Error::Remote, got {other:?}"),
    }
}

/// A handler whose time is over is stopped, and its call is answered with `deadline_exceeded`. The connection and the
/// other calls go on.
///
/// The pitfall of the day. GeeRPC answers, and the handler stays: 20,000 timeouts left 20,003 tasks and 190 MB.
///
/// Hint: the handler's future inside `timeout`, and not a task that is spawned beside it. Dropping a `JoinHandle`
/// stops nothing.
#[test]
fn a_handler_whose_time_is_over_is_stopped() {
    run_paused(async || {
        let (handler, mut probe) = probe();
        let client = client_of(&Server::new(handler).handle_timeout(2 * SECOND), &Options::default()).await;
        let since = Instant::now();
        let other = within("start", client.start::<_, u64>("Test.later", &1900_u64)).await.unwrap();
        let call = within("start", client.start::<_, u64>("Test.hang", &())).await.unwrap();
        let seqs = [other.seq(), call.seq()];
        assert_eq!(code_of(within("an error reply", call).await), Code::DEADLINE_EXCEEDED);
        assert_took(since, 2 * SECOND);
        assert_eq!([probe.stopped().await, probe.stopped().await], seqs);
        assert_eq!(probe.handlers.now(), 0);
        assert_eq!(within("the reply to the other call", other).await.unwrap(), seqs[0]);
        within("a reply", client.call::<_, u64>("Test.later", &1900_u64)).await.unwrap();
    });
}

/// Of the client's limit for handlers and the server's own the smaller one holds. A limit of 0 is one like any other,
/// and a client that asks for nothing has the server's. A handler that is ready when it is first polled is in time,
/// whatever the limit.
///
/// In GeeRPC the client alone decides, and its 0 means "none". The number comes from a peer: a sum with it may be a
/// panic.
///
/// Hint: `min`. No limit asked for is not a limit of 0.
#[test]
fn the_smaller_handle_timeout_wins() {
    run_paused(async || {
        let cases = [
            (3 * SECOND, Some(1000), SECOND),
            (SECOND, Some(3000), SECOND),
            (SECOND, Some(u64::MAX), SECOND),
            (SECOND, Some(0), Duration::ZERO),
            (Duration::ZERO, Some(1000), Duration::ZERO),
            (Duration::MAX, Some(1000), SECOND),
            (SECOND, None, SECOND),
        ];
        for (own, asked, expected) in cases {
            let case = format!("the server's limit is {own:?}, and the client asks for {asked:?}");
            let (handler, _probe) = probe();
            let (io, other_end) = duplex(1024);
            let server = Server::new(handler).handle_timeout(own);
            let _served = tokio::spawn(async move { server.serve_connection(other_end).await });
            let mut peer = Peer { io };
            let fields = asked.map_or(json!({}), |millis| json!({"handle_timeout_ms": millis}));
            peer.handshake_json_with(fields).await;

            let since = Instant::now();
            peer.send(&call("Test.hang", 1, Value::Null)).await;
            assert_eq!(peer.read_message().await.code(), "deadline_exceeded", "{case}");
            let took = since.elapsed();
            assert!(took >= expected && took <= expected + millis(3), "{case}: it took {took:?}");
            peer.send(&call("Test.now", 2, Value::Null)).await;
            assert_eq!(peer.read_message().await.value(), 2, "{case}");
        }
    });
}

/// The client's limit for handlers is in its hello, in whole milliseconds, rounded up; and not in it if it has none.
///
/// A server in another language reads it. And half a millisecond that becomes 0 fails every call.
///
/// Hint: `Option`, and serde's `skip_serializing_if`.
#[test]
fn the_client_asks_for_its_handle_timeout_in_the_hello() {
    run_paused(async || {
        let cases = [
            (None, None),
            (Some(millis(1500)), Some(json!(1500))),
            (Some(Duration::from_micros(500)), Some(json!(1))),
            (Some(Duration::from_micros(1_000_001)), Some(json!(1001))),
            (Some(Duration::ZERO), Some(json!(0))),
            (Some(Duration::MAX), Some(json!(u64::MAX))),
        ];
        for (asked, expected) in cases {
            let options = json_only().connect_timeout(SECOND).call_timeout(SECOND);
            let options = asked.map_or(options.clone(), |after| options.handle_timeout(after));
            let (io, other_end) = duplex(1024);
            let _connecting = tokio::spawn(async move { Client::handshake(io, &options).await });
            let hello = Peer { io: other_end }.read_json().await;
            assert_eq!(hello.get("handle_timeout_ms"), expected.as_ref(), "{asked:?}: {hello}");
        }
    });
}
