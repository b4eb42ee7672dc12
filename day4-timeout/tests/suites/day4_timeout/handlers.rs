//! A handler has a limit: the smaller of the client's and the server's.
//!
//! Write `Server::handle_timeout` in `src/server/mod.rs` and `smaller_handle_timeout` in
//! `src/wire/handshake.rs`, and apply the limit in `Connection::start` in `src/server/connection.rs`.
//!
//! Chapter: Limits > a handler; The wire > Options

use super::*;

/// A handler over its limit is stopped, its call has an error reply, and the connection goes on.
///
/// The big one. GeeRPC answers, but the handler stays: 20,000 timeouts left 20,003 tasks.
///
/// Hint: put the handler's future inside of `timeout`, not beside it.
#[test]
fn a_handler_over_its_limit_is_stopped_and_its_call_answered() {
    run_paused(async || {
        let (handler, mut probe) = probe();
        let client = client_of(&Server::new(handler).handle_timeout(2 * SECOND), &Options::default()).await;
        let since = Instant::now();
        let outcome = within("an error reply", client.call::<_, ()>("Test.hang", &())).await;
        assert!(matches!(outcome, Err(Error::Remote(_))), "{outcome:?}");
        assert_took(since, 2 * SECOND);
        assert_eq!(probe.stopped().await, 1);
        assert_eq!(probe.handlers.now(), 0);
        assert_eq!(within("a reply", client.call::<_, u64>("Test.later", &1900_u64)).await.unwrap(), 2);
    });
}

/// Of the client's wish and the server's own limit the smaller one holds, whichever it is.
///
/// In GeeRPC the client alone decides, and its 0 means "for ever".
///
/// Hint: `min`; no wish is not a wish of 0.
#[test]
fn the_smaller_handle_timeout_wins() {
    run_paused(async || {
        let cases = [
            (3 * SECOND, Some(SECOND), SECOND),
            (SECOND, Some(3 * SECOND), SECOND),
            (SECOND, Some(Duration::MAX), SECOND),
            (SECOND, Some(Duration::ZERO), Duration::ZERO),
            (Duration::MAX, Some(SECOND), SECOND),
            (SECOND, None, SECOND),
        ];
        for (own, wish, expected) in cases {
            let (handler, _probe) = probe();
            let mut options = Options::default();
            if let Some(wish) = wish {
                options = options.handle_timeout(wish);
            }
            let client = client_of(&Server::new(handler).handle_timeout(own), &options).await;
            let since = Instant::now();
            let outcome = within("an error reply", client.call::<_, ()>("Test.hang", &())).await;
            assert!(matches!(outcome, Err(Error::Remote(_))), "{own:?} {wish:?}: {outcome:?}");
            assert_took(since, expected);
        }
    });
}

/// The wish is in the client's first frame as `"handle_timeout_ms"`, and only if there is one. The limits
/// that the client keeps by itself are not sent.
///
/// The frame is a contract with clients and servers in other languages.
///
/// Hint: whole milliseconds, rounded up: half a millisecond is not "at once".
#[test]
fn the_wish_for_a_handle_timeout_is_on_the_wire() {
    run_paused(async || {
        let base = readable().connect_timeout(SECOND).call_timeout(SECOND).write_timeout(SECOND);
        let cases = [
            (base.clone(), r#"{"magic_number":3927900,"codecs":["application/json"]}"#),
            (
                base.clone().handle_timeout(millis(1500)),
                r#"{"magic_number":3927900,"codecs":["application/json"],"handle_timeout_ms":1500}"#,
            ),
            (
                base.clone().handle_timeout(Duration::from_micros(500)),
                r#"{"magic_number":3927900,"codecs":["application/json"],"handle_timeout_ms":1}"#,
            ),
            (
                base.clone().handle_timeout(Duration::ZERO),
                r#"{"magic_number":3927900,"codecs":["application/json"],"handle_timeout_ms":0}"#,
            ),
            (
                base.handle_timeout(Duration::MAX),
                r#"{"magic_number":3927900,"codecs":["application/json"],"handle_timeout_ms":18446744073709551615}"#,
            ),
        ];
        for (options, expected) in cases {
            let (ours, theirs) = duplex(1024);
            let _connecting = tokio::spawn(async move { Client::new(ours, &options).await });
            let frame = Peer { io: theirs }.read_frame().await;
            assert_eq!(String::from_utf8_lossy(&frame), expected);
        }
    });
}

/// Options that were read, from a file say, have the default limits for what cannot be in there.
///
/// The default of a duration is zero, and with that nobody connects.
///
/// Hint: serde's `skip` can be told where the default is.
#[test]
fn options_that_were_read_have_the_default_limits() {
    run(async || {
        let written = serde_json::to_string(&Options::default().handle_timeout(SECOND)).unwrap();
        let read: Options = serde_json::from_str(&written).unwrap();
        assert_eq!(read, Options::default().handle_timeout(SECOND));
    });
}

/// A handler that is ready when it is asked is answered, however small the limit.
///
/// A limit is for waits, and this is none. Nor does a timer cost such a call anything.
///
/// Hint: poll the handler before you look at the clock.
#[test]
fn a_handler_that_is_ready_at_once_is_always_in_time() {
    run_paused(async || {
        for limit in [Duration::ZERO, Duration::from_nanos(1)] {
            let (handler, _probe) = probe();
            let client = client_of(&Server::new(handler).handle_timeout(limit), &Options::default()).await;
            for seq in 1..=100 {
                assert_eq!(within("a reply", client.call::<_, u64>("Test.now", &())).await.unwrap(), seq);
            }
        }
    });
}
