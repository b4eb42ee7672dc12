//! Hardening: one byte at a time, many cancels, extreme numbers, panics in clean-ups.
//!
//! No new function. The places are `Connection::run` and `start` in `src/server/connection.rs`,
//! `accept_loop` in `src/server/mod.rs`, `write_requests` in `src/client/connection.rs`, and `deadline` in
//! `src/deadline.rs`.
//!
//! Chapter: Limits; What goes wrong without it

use super::*;

/// A server that sends its answer byte by byte gets the time of one limit for all of it.
///
/// A limit for each read, or one for each step, is never reached by a peer that moves now and then.
///
/// Hint: the limit wraps the whole handshake, not the reads in it.
#[test]
fn an_answer_that_drips_gets_one_limit_for_all_of_it() {
    run_paused(async || {
        let (ours, theirs) = duplex(1024);
        let dripping = tokio::spawn(async move {
            let mut io = theirs;
            for byte in frame(r#"{"codec":"application/json"}"#) {
                sleep(millis(900)).await;
                if io.write_all(&[byte]).await.is_err() {
                    return; // the client has hung up
                }
            }
        });
        let since = Instant::now();
        let options = readable().connect_timeout(SECOND);
        assert_timeout(within("the end of the handshake", Client::new(ours, &options)).await, SECOND);
        assert_took(since, SECOND);
        within("the client hangs up", dripping).await.unwrap();
    });
}

/// Calls that are started and dropped while the server does not read stop being accepted at some point; and
/// when it reads again, every request is followed by its cancel.
///
/// A dropped call gives its place back. If its messages were still in the queue, the queue would grow for as
/// long as somebody retries.
///
/// Hint: the cancel keeps the place of its call until it is written.
#[test]
fn calls_that_are_given_up_do_not_pile_up_before_a_stalled_server() {
    run_paused(async || {
        let options = readable().call_timeout(SECOND).write_timeout(Duration::MAX);
        let (client, mut peer) = client_and_peer(&options, 64).await;
        let (mut started, mut held) = (0, Vec::new());
        let ended = loop {
            match within("a call starts, or not", client.start::<_, ()>("Test.hang", &())).await {
                Ok(call) => held.push(call),
                Err(error) => break error,
            }
            started += 1;
            assert!(started < 4 * DEFAULT_MAX_PENDING, "{started} calls were accepted, and nobody reads");
            if held.len() == 100 {
                held.clear();
            }
        };
        drop(held);
        assert_timeout(Err::<(), _>(ended), SECOND);
        assert!(started >= DEFAULT_MAX_PENDING, "only {started} calls were accepted");

        let (mut requests, mut cancels) = (BTreeSet::new(), BTreeSet::new());
        while cancels.len() < started {
            let message = peer.read_message().await;
            if message.header["service_method"] == "$/cancel" {
                assert!(requests.contains(&message.seq()), "a cancel before its request: {message:?}");
                cancels.insert(message.seq());
            } else {
                requests.insert(message.seq());
            }
        }
        assert_eq!(requests.len(), started);
        let _next = within("room for the next call", client.start::<_, ()>("Test.next", &())).await.unwrap();
        assert_eq!(peer.read_message().await.header["service_method"], "Test.next");
    });
}

/// `Duration::MAX` in every setter is a limit that is never reached, and no panic.
///
/// `Instant::now() + Duration::MAX` panics.
///
/// Hint: `Instant::checked_add`, and "too far to tell" is "never".
#[test]
fn the_longest_limits_do_not_panic() {
    run_paused(async || {
        for longest in [Duration::MAX, millis(u64::MAX)] {
            let (handler, _probe) = probe();
            let server = Server::new(handler)
                .handshake_timeout(longest)
                .handle_timeout(longest)
                .write_timeout(longest)
                .grace_period(longest);
            let options = Options::default()
                .connect_timeout(longest)
                .call_timeout(longest)
                .handle_timeout(longest)
                .write_timeout(longest);
            let (street, door) = Street::new();
            let (stop, stopped) = oneshot::channel::<()>();
            let serving = tokio::spawn(async move {
                let signal = async { stopped.await.unwrap() };
                server.serve_with_shutdown(door, signal).await
            });
            let client = street.client(&options).await;
            within("a reply", client.call::<_, u64>("Test.later", &10_u64)).await.unwrap();
            within("a reply", client.call_within::<_, u64>(longest, "Test.later", &10_u64)).await.unwrap();
            within("a reply", client.start::<_, u64>("Test.later", &10_u64).await.unwrap()).await.unwrap();
            within("a large reply", client.call::<_, String>("Test.big", &1_000_000_u64)).await.unwrap();
            stop.send(()).unwrap();
            within("the end of the server", serving).await.unwrap().unwrap();
        }
    });
}

/// "call, cancel, call, cancel, …" as fast as it goes has no more handlers alive than the limit, but for the
/// one that is just being stopped.
///
/// Aborting is asking; the task is there until it has run once more. HTTP/2 servers had to learn this in
/// 2023, under the name of "rapid reset".
///
/// Hint: as long as too many of the cancelled are not gone, do not read on.
#[test]
fn calls_and_cancels_in_a_row_pile_up_nothing() {
    run_paused(async || {
        let (handler, probe) = probe();
        let (mut peer, _served) = peer_of(&Server::new(handler).max_in_flight(8), 1 << 20).await;
        let pairs =
            (1..=2000).flat_map(|seq| [json_message("Test.hang", seq, json!(null)), cancel_bytes(seq)]);
        peer.send(&pairs.flatten().collect::<Vec<_>>()).await;
        peer.send(&json_message("Test.now", 3000, json!(null))).await;
        let reply = peer.read_message().await;
        assert_eq!((reply.seq(), reply.error()), (3000, ""), "none of them was refused");
        eventually("all handlers are gone", || probe.handlers.now() == 0).await;
        let (peak, total) = (probe.handlers.peak.load(SeqCst), probe.handlers.total.load(SeqCst));
        assert!(total > 0, "no handler has run");
        assert!(peak <= 9, "{peak} handlers were alive at once, and the limit is 8");
    });
}

/// A wish of 0 and one of 584 million years are served by a server whose own limit is none.
///
/// The number comes from a peer, and `Instant::now() + Duration::from_millis(u64::MAX)` is a panic on some
/// systems; 0 is a wish too, and not "for ever".
///
/// Hint: nobody adds to an `Instant` what a peer sends without checking.
#[test]
fn a_wish_of_nothing_or_of_ages_is_served() {
    run_paused(async || {
        for wish in [0, 1, u64::MAX - 1, u64::MAX] {
            let (handler, mut probe) = probe();
            let (io, _served) = serve_in_memory(&Server::new(handler).handle_timeout(Duration::MAX), 1024);
            let mut peer = Peer { io };
            let options = format!(
                r#"{{"magic_number":3927900,"codecs":["application/json"],"handle_timeout_ms":{wish}}}"#
            );
            peer.send(&frame(options)).await;
            assert_eq!(peer.read_json().await, json!({"codec": "application/json"}));
            peer.send(&json_message("Test.now", 1, json!(null))).await;
            assert_eq!(peer.read_message().await.error(), "", "ready at once is in time, for {wish} ms");
            peer.send(&json_message("Test.later", 2, json!(20))).await;
            let reply = peer.read_message().await;
            assert_eq!(reply.seq(), 2);
            assert_eq!(!reply.error().is_empty(), wish < 20, "{wish} ms: {reply:?}");
            assert_eq!(probe.stopped().await, 2);
        }
    });
}

/// A handler whose clean-up panics when it is stopped costs its own call only, and that is answered.
///
/// A guard's `Drop` is code of the application as well, and it runs where nobody expects a panic.
///
/// Hint: catch it where the future is dropped; else the task is gone, and its place is taken for ever.
#[test]
fn a_panic_in_the_clean_up_costs_its_own_call_only() {
    struct Bad;
    impl Drop for Bad {
        fn drop(&mut self) {
            panic!("this panic is part of the test");
        }
    }
    run_paused(async || {
        let handler = async |request: Request| -> anyhow::Result<Reply> {
            if request.service_method() == "Test.now" {
                return Ok(request.reply(&())?);
            }
            let _bad = Bad;
            std::future::pending().await
        };
        let server = Server::new(handler).handle_timeout(SECOND).max_in_flight(1);
        let (mut peer, _served) = peer_of(&server, 1024).await;
        for seq in [1, 2] {
            peer.send(&json_message("Test.bad", seq, json!(null))).await;
            let reply = peer.read_message().await;
            assert_eq!(reply.seq(), seq);
            assert!(reply.error().contains("timed out"), "not {:?}", reply.error());
        }
        peer.send(&json_message("Test.bad", 3, json!(null))).await;
        peer.send(&cancel_bytes(3)).await;
        peer.send(&json_message("Test.now", 4, json!(null))).await;
        assert_eq!(peer.read_message().await.seq(), 4);
    });
}

/// A peer that sends its handshake byte by byte has the time of one limit for all of it.
///
/// "slow loris": a limit for each read is never reached.
///
/// Hint: the limit wraps the handshake, not the reads in it.
#[test]
fn a_peer_that_drips_its_handshake_is_dropped_too() {
    run_paused(async || {
        let (handler, _probe) = probe();
        let (mut io, served) = serve_in_memory(&Server::new(handler).handshake_timeout(2 * SECOND), 1024);
        let since = Instant::now();
        let dripping = tokio::spawn(async move {
            for byte in options(&["application/json"]) {
                sleep(millis(500)).await;
                if io.write_all(&[byte]).await.is_err() {
                    return since.elapsed();
                }
            }
            panic!("all of the handshake was taken, after {:?}", since.elapsed());
        });
        let ended = timeout(4 * SECOND, served).await.expect("never happened: the end of the connection");
        assert_timeout(ended.unwrap(), 2 * SECOND);
        assert!(since.elapsed() < 4 * SECOND, "{:?}", since.elapsed());
        within("the peer notices", dripping).await.unwrap();
    });
}

/// Sending more does not help a client that does not read: its time is up all the same.
///
/// A limit that begins anew with each event, whatever it is, is no limit.
///
/// Hint: keep the instant by which a byte must be taken, across all the turns of the loop.
#[test]
fn a_peer_that_sends_but_never_reads_is_dropped_too() {
    run_paused(async || {
        let (handler, _probe) = probe();
        let (peer, served) = peer_of(&Server::new(handler).write_timeout(3 * SECOND), 256).await;
        let since = Instant::now();
        let (_unread, mut write) = tokio::io::split(peer.io);
        let sending = tokio::spawn(async move {
            for seq in 1.. {
                let request = json_message("Test.big", seq, json!(300));
                if timeout(10 * SECOND, write.write_all(&request)).await.map_or(true, |sent| sent.is_err()) {
                    return;
                }
                sleep(SECOND).await;
            }
        });
        assert_timeout(within("the end of the connection", served).await.unwrap(), 3 * SECOND);
        assert_took(since, 3 * SECOND);
        sending.abort();
    });
}

/// Peers that are refused and stay on the line take no place of those that are served.
///
/// Else a few of them keep a server full that is empty.
///
/// Hint: count those that are served, not all that are there.
#[test]
fn a_refused_peer_takes_no_place() {
    run_paused(async || {
        let (handler, _probe) = probe();
        let (street, door) = Street::new();
        let _server = tokio::spawn(async move { Server::new(handler).max_connections(1).serve(door).await });
        let first = street.client(&Options::default()).await;
        let mut refused = Peer { io: street.connect(1024) };
        assert!(refused.read_json().await["error"].is_string());
        drop(first);
        eventually("the first has left", || street.at_server.now() == 1).await;
        let next = street.client(&Options::default()).await;
        assert_eq!(within("a reply", next.call::<_, u64>("Test.now", &())).await.unwrap(), 1);
        drop(refused);
    });
}

/// A client that has nothing in flight and goes on talking does not hold up the shutdown.
///
/// A wait that begins anew with every message is a wait for as long as the client likes.
///
/// Hint: one timer for the last second of the connection, not one for each turn of its loop.
#[test]
fn a_client_that_goes_on_talking_does_not_hold_up_a_shutdown() {
    run_paused(async || {
        let (handler, _probe) = probe();
        let (street, door) = Street::new();
        let (stop, serving) = serve_until(Server::new(handler).grace_period(30 * SECOND), door);
        let mut peer = Peer { io: street.connect(1024) };
        peer.shake_hands_json().await;
        settle().await;
        let since = Instant::now();
        stop.send(()).unwrap();
        let talking = tokio::spawn(async move {
            // Cancels have no replies, so it need not read. It stops when the server hangs up.
            while peer.io.write_all(&cancel_bytes(7)).await.is_ok() {
                sleep(millis(300)).await;
            }
        });
        within("the end of the server", serving).await.unwrap().unwrap();
        assert!(since.elapsed() <= 5 * SECOND, "took {:?}", since.elapsed());
        within("the client hears of it", talking).await.unwrap();
    });
}

/// Peers that never finish their handshake, that never read their replies, that hang up in the middle of a
/// call, and that are refused cost nothing in the end, though they never close.
///
/// These four hold a server's tasks and sockets in GeeRPC for as long as they like.
///
/// Hint: as above.
#[test]
fn peers_that_misbehave_cost_nothing_in_the_end() {
    run_paused(async || {
        let (handler, mut probe) = probe();
        let server = Server::new(handler)
            .handshake_timeout(2 * SECOND)
            .write_timeout(2 * SECOND)
            .handle_timeout(2 * SECOND)
            .max_connections(150);
        let (street, door) = Street::new();
        let _server = tokio::spawn(async move { server.serve(door).await });
        settle().await;
        let before = alive_tasks();

        let mut held = Vec::new();
        for _ in 0..50 {
            held.push(street.connect(1024)); // says nothing
            let mut peer = Peer { io: street.connect(256) };
            peer.shake_hands_json().await;
            peer.send(&json_message("Test.hang", 1, json!(null))).await;
            peer.send(&json_message("Test.big", 2, json!(10_000))).await;
            held.push(peer.io); // does not read
            let mut peer = Peer { io: street.connect(1024) };
            peer.shake_hands_json().await;
            peer.send(&json_message("Test.hang", 1, json!(null))).await;
            peer.io.shutdown().await.unwrap();
            held.push(peer.io); // has hung up
        }
        for _ in 0..100 {
            probe.started().await;
        }
        held.extend((0..50).map(|_| street.connect(1024))); // some of these may find a place again
        eventually("the server has closed all streams", || street.at_server.now() == 0).await;
        eventually("all handlers have stopped", || probe.handlers.now() == 0).await;
        eventually("all tasks have ended", || alive_tasks() == before).await;
        let client = street.client(&Options::default()).await;
        within("a reply", client.call::<_, u64>("Test.now", &())).await.unwrap();
        drop(held);
    });
}
