//! A call ends at its limit, and its entry is gone.
//!
//! Write `call_within`, `start` and `PendingCall::poll` in `src/client/mod.rs`, `cancel_through` and `drop`
//! of `InFlight` in `src/client/in_flight.rs`, and `Outgoing` and `write_requests` in
//! `src/client/connection.rs`.
//!
//! Chapter: Limits > a call; The wire > A cancel

use super::*;

/// A call without a reply ends with `Error::Timeout`, at its limit, and its entry goes with it.
///
/// An entry that stays in the table is a leak for each timeout.
///
/// Hint: the guard of the entry is inside of the future that `timeout` drops.
#[test]
fn a_call_ends_at_its_limit_and_its_entry_is_gone() {
    run_paused(async || {
        let (client, _peer) = client_and_peer(&readable().call_timeout(2 * SECOND), 1024).await;
        let since = Instant::now();
        assert_timeout(within("the end", client.call::<_, ()>("Test.hang", &())).await, 2 * SECOND);
        assert_took(since, 2 * SECOND);
        assert_eq!(client.in_flight(), 0);

        let since = Instant::now();
        let call = client.call_within::<_, ()>(millis(700), "Test.hang", &());
        assert_timeout(within("the end of a call with a limit of its own", call).await, millis(700));
        assert_took(since, millis(700));
        assert_eq!(client.in_flight(), 0);
    });
}

/// The limit of a call that was started counts from its start, and its entry goes at the limit, not when
/// somebody drops the `PendingCall`.
///
/// A limit that begins with the first poll gives a caller who was busy the whole time again.
///
/// Hint: keep the deadline as an instant, and drop what is inside when it is reached.
#[test]
fn a_started_call_has_its_limit_from_its_start_on() {
    run_paused(async || {
        let (client, _peer) = client_and_peer(&readable().call_timeout(2 * SECOND), 1024).await;
        let since = Instant::now();
        let mut call = client.start::<_, ()>("Test.hang", &()).await.unwrap();
        sleep(millis(1500)).await;
        assert_eq!(client.in_flight(), 1);
        assert_timeout(within("the end of the call", &mut call).await, 2 * SECOND);
        assert_took(since, 2 * SECOND);
        assert_eq!(client.in_flight(), 0, "the entry is gone, though the caller still holds the call");
        drop(call);
    });
}

/// A caller that gives up tells the server, with exactly these bytes, after its request.
///
/// A server that is never told goes on working for nobody.
///
/// Hint: the drop guard of the table's entry knows whether a reply has come.
#[test]
fn a_call_that_times_out_sends_a_cancel() {
    run_paused(async || {
        let (client, mut peer) = client_and_peer(&readable(), 1024).await;
        assert_timeout(client.call_within::<_, ()>(SECOND, "Test.hang", &7).await, SECOND);
        let sent = b"\0\0\0\x33{\"service_method\":\"Test.hang\",\"seq\":1,\"error\":null}\0\0\0\x017";
        let cancel = b"\0\0\0\x32{\"service_method\":\"$/cancel\",\"seq\":1,\"error\":null}\0\0\0\0";
        assert_eq!(CANCEL, "$/cancel");
        for expected in [&sent[..], &cancel[..]] {
            let mut bytes = vec![0; expected.len()];
            within("the request and its cancel", peer.io.read_exact(&mut bytes)).await.unwrap();
            assert_eq!(String::from_utf8_lossy(&bytes), String::from_utf8_lossy(expected));
        }
    });
}

/// The same cancel in bincode.
///
/// The name is text in any codec, and the body is an empty frame in any codec.
///
/// Hint: the header goes through the codec as any other; the body does not.
#[test]
fn a_cancel_in_bincode_is_these_bytes() {
    run_paused(async || {
        let (ours, theirs) = duplex(1024);
        let mut peer = Peer { io: theirs };
        let options = Options::default().codecs([Codec::Bincode]);
        let (client, _) =
            tokio::join!(Client::new(ours, &options), peer.accept_handshake("application/bincode"));
        let client = client.unwrap();
        assert_timeout(client.call_within::<_, ()>(SECOND, "T.m", &7_u8).await, SECOND);
        let expected = [
            &[0, 0, 0, 6, 3, b'T', b'.', b'm', 1, 0, 0, 0, 0, 1, 7][..],
            &[0, 0, 0, 11, 8, b'$', b'/', b'c', b'a', b'n', b'c', b'e', b'l', 1, 0, 0, 0, 0, 0][..],
        ]
        .concat();
        let mut bytes = vec![0; expected.len()];
        within("the request and its cancel", peer.io.read_exact(&mut bytes)).await.unwrap();
        assert_eq!(bytes, expected);
    });
}

/// A reply that comes after the caller has given up reaches nobody, and the next call works.
///
/// In Go the late reply is written into the variable that the caller has back already. Here the caller owns
/// its reply, and there is nothing to write into; but it must not end the connection either.
///
/// Hint: a reply that nobody waits for is ignored.
#[test]
fn a_late_reply_is_ignored_and_the_connection_goes_on() {
    run_paused(async || {
        let (client, mut peer) = client_and_peer(&readable(), 1024).await;
        assert_timeout(client.call_within::<_, i32>(SECOND, "Test.slow", &()).await, SECOND);
        assert_eq!(peer.read_message().await.seq(), 1);
        assert_eq!(peer.read_message().await.header["service_method"], "$/cancel");
        peer.send(&json_message("Test.slow", 1, json!(1))).await;

        let call = tokio::spawn({
            let client = client.clone();
            async move { client.call::<_, i32>("Test.now", &()).await }
        });
        let request = peer.read_message().await;
        assert_eq!((&request.header["service_method"], request.seq()), (&json!("Test.now"), 2));
        peer.send(&json_message("Test.now", 2, json!(2))).await;
        assert_eq!(within("the reply", call).await.unwrap().unwrap(), 2);
        assert!(client.is_available());
    });
}

/// Dropping the future of a call, or a `PendingCall`, sends a cancel, as a timeout does. So does a caller that
/// panics.
///
/// `select!` and `timeout` of the caller's own are the usual ways to give up, and both just drop.
///
/// Hint: one guard for all ways: it does not matter why the entry is dropped.
#[test]
fn dropping_a_call_sends_a_cancel() {
    run_paused(async || {
        let (client, mut peer) = client_and_peer(&readable(), 1024).await;
        let called = timeout(SECOND, client.call::<_, ()>("Test.hang", &())).await;
        assert!(called.is_err(), "nobody answers");
        let started = client.start::<_, ()>("Test.hang", &()).await.unwrap();
        assert_eq!(started.seq(), 2, "the number that its cancel will have");
        drop(started);
        let panics = tokio::spawn({
            let client = client.clone();
            async move {
                let _started = client.start::<_, ()>("Test.hang", &()).await.unwrap();
                panic!("this panic is part of the test");
            }
        });
        assert!(within("the end of a caller's task", panics).await.unwrap_err().is_panic());
        assert_eq!(client.in_flight(), 0);
        for seq in [1, 2, 3] {
            assert_eq!(peer.read_message().await.seq(), seq);
            let mut cancel = vec![0; cancel_bytes(seq).len()];
            within("the cancel", peer.io.read_exact(&mut cancel)).await.unwrap();
            assert_eq!(cancel, cancel_bytes(seq));
        }
    });
}

/// A call that has its reply sends no cancel, whether the reply is good, an error, of a wrong type, or never
/// looked at.
///
/// A cancel for each call doubles the traffic, and may hit a later call of the same number.
///
/// Hint: only an entry that is still in the table when it is dropped was given up.
#[test]
fn a_call_that_has_its_reply_sends_no_cancel() {
    run_paused(async || {
        let (client, mut peer) = client_and_peer(&readable(), 1024).await;
        let replies = [
            json_message("Test.a", 1, json!(1)),
            crate::support::peer::json_error("Test.a", 2, "no"),
            json_message("Test.a", 3, json!("not a number")),
            json_message("Test.a", 4, json!(4)),
        ];
        for (reply, awaited) in replies.into_iter().zip([true, true, true, false]) {
            let call = client.start::<_, i32>("Test.a", &()).await.unwrap();
            assert_eq!(peer.read_message().await.header["service_method"], "Test.a");
            peer.send(&reply).await;
            eventually("the reply has come", || client.in_flight() == 0).await;
            if awaited {
                let _ = within("the reply", call).await; // good or bad, it is here
            }
        }
        let _last = client.start::<_, i32>("Test.last", &()).await.unwrap();
        assert_eq!(peer.read_message().await.header["service_method"], "Test.last", "no cancel before it");
    });
}

/// A call that was never sent sends no cancel: one that waits for room, one that cannot be encoded.
///
/// The server would get a cancel for a call that it does not know, or worse, for a later one.
///
/// Hint: the guard learns of the server only after the request is queued.
#[test]
fn a_call_that_was_never_sent_sends_no_cancel() {
    run_paused(async || {
        let (client, mut peer) = client_and_peer(&readable(), 1 << 20).await;
        let calls = start_all(&client, DEFAULT_MAX_PENDING).await;
        let never = client.call_within::<_, ()>(SECOND, "Test.never", &());
        assert_timeout(within("the limit", never).await, SECOND);
        assert!(timeout(SECOND, client.start::<_, ()>("Test.never", &())).await.is_err(), "there is no room");
        let no_json = HashMap::from([((1, 2), 3)]);
        let unsent = client.call::<_, ()>("Test.never", &no_json).await;
        assert!(matches!(unsent, Err(Error::Encode { .. })), "{unsent:?}");

        for _ in &calls {
            assert_eq!(peer.read_message().await.header["service_method"], "Test.hang");
        }
        peer.send(&json_message("Test.hang", 1, json!(null))).await;
        let _last = within("room for one more", client.start::<_, ()>("Test.last", &())).await.unwrap();
        assert_eq!(peer.read_message().await.header["service_method"], "Test.last");
    });
}

/// A call that waits for its turn ends at its limit.
///
/// The queue is a wait like any other; a limit that begins behind it may never begin.
///
/// Hint: the limit wraps `register` too.
#[test]
fn the_limit_covers_waiting_for_room() {
    run_paused(async || {
        let (client, _peer) = client_and_peer(&readable().call_timeout(2 * SECOND), 1 << 20).await;
        let _calls = start_all(&client, DEFAULT_MAX_PENDING).await;
        let since = Instant::now();
        assert_timeout(within("the end", client.call::<_, ()>("Test.now", &())).await, 2 * SECOND);
        assert_took(since, 2 * SECOND);
        let since = Instant::now();
        let started = within("the end of a start", client.start::<_, ()>("Test.now", &())).await;
        assert_timeout(started.map(|_| ()), 2 * SECOND);
        assert_took(since, 2 * SECOND);
        assert_eq!(client.in_flight(), DEFAULT_MAX_PENDING, "those in flight are unharmed");
    });
}

/// A call whose request cannot be written, since the server does not read, ends at its limit.
///
/// A call of 100 ms took two seconds: its limit began when the request was out.
///
/// Hint: the caller does not write. It queues, and waits with its limit.
#[test]
fn the_limit_covers_writing_the_request() {
    run_paused(async || {
        let (client, _peer) = client_and_peer(&readable().call_timeout(2 * SECOND), 64).await;
        for _ in 0..2 {
            let since = Instant::now();
            let large = "x".repeat(100_000);
            assert_timeout(within("the end", client.call::<_, ()>("Test.now", &large)).await, 2 * SECOND);
            assert_took(since, 2 * SECOND);
        }
        assert_eq!(client.in_flight(), 0);
    });
}

/// A server that takes not one byte for the write limit loses its connection, and all callers hear.
///
/// Calls without a limit of their own would wait for it for ever.
///
/// Hint: a limit for each step of a write; every byte that is taken starts it anew.
#[test]
fn a_server_that_does_not_read_loses_the_connection() {
    run_paused(async || {
        let options = readable().write_timeout(2 * SECOND).call_timeout(Duration::MAX);
        let (client, mut peer) = client_and_peer(&options, 64).await;
        let call = client.start::<_, ()>("Test.now", &"x".repeat(1000)).await.unwrap();
        sleep(millis(1900)).await;
        within("room for a byte", peer.io.read_u8()).await.unwrap();
        sleep(millis(1900)).await;
        assert!(client.is_available(), "the server is slow, but it reads");
        let since = Instant::now();
        let outcome = within("the end of the call", call).await;
        assert!(matches!(outcome, Err(Error::Disconnected(_))), "{outcome:?}");
        assert_took(since, millis(100));
        assert!(!client.is_available());
    });
}

/// The two reserved names cannot be called: the call fails at once, and nothing is sent.
///
/// A call of `$/cancel` has no reply, so its caller would wait to the limit. The reply to a call of `$/refused` would
/// look as if the call had not run, whatever the handler did, and a balanced client would run it again.
///
/// Hint: the client knows both names before it sends anything.
#[test]
fn reserved_names_cannot_be_called() {
    run(async || {
        let (seen, handler) = counting();
        let server = start(Server::new(handler)).await;
        let client = within("connecting", Client::connect(server.addr, &Options::default())).await.unwrap();
        for name in ["$/cancel", "$/refused"] {
            let outcome = within(name, client.call::<_, ()>(name, &())).await;
            assert!(matches!(outcome, Err(Error::Refused(_))), "{name}: {outcome:?}");
        }
        within("a call of another name", client.call::<_, ()>("Test.other", &())).await.unwrap();
        assert_eq!(seen.load(SeqCst), 1, "only the last call was sent");
    });
}

/// A handler that answers whatever it is called, and counts.
fn counting() -> (Arc<AtomicUsize>, impl Handler) {
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&seen);
    let handler = move |request: Request| {
        counter.fetch_add(1, SeqCst);
        std::future::ready(request.reply(&()).map_err(anyhow::Error::from))
    };
    (seen, handler)
}
