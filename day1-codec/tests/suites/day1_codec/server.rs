//! The server: a task for each connection.
//!
//! Write `serve`, `accept_loop` and `accept` in `src/server/mod.rs`.
//!
//! Chapter: Files of today > src/server/mod.rs; Limits > pause after a failed accept

use super::*;

/// A failing accept is not the end: the next connection is served.
///
/// A process that has run out of file descriptors fails to accept until one is closed. GeeRPC's server gives
/// up at the first such error, and never serves anybody again.
///
/// Hint: `accept` in a loop; an error is logged, and no reason to leave it.
#[test]
fn after_failing_accepts_a_good_one_is_served() {
    run_paused(async || {
        let (client, io) = duplex(4096);
        let error = || Err(std::io::Error::other("too many open files"));
        let script = Script(VecDeque::from([error(), error(), Ok(io), error()]));
        let _running = start_on(Server::new(arith()), script, ([127, 0, 0, 1], 0).into());
        let mut peer = Peer { io: client };
        peer.shake_hands_json().await;
        peer.expect_service().await;
    });
}

/// Accepting is tried again after a pause that grows from 5 ms and stops growing at one second.
///
/// Without a pause, a server that has run out of file descriptors uses up a core to find that out again and
/// again; with one that grows for ever it is gone for hours.
///
/// Hint: the clock of this test is paused, so the waits cost nothing.
#[test]
fn the_pause_between_failing_accepts_grows_and_is_capped() {
    run_paused(async || {
        const FAILURES: usize = 20;
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let failures = (0..FAILURES).map(|_| Err(std::io::Error::other("too many open files")));
        let listener: Script<DuplexStream> = Script(failures.collect());
        let listener = Timed { listener, asked: sender };
        let _running = start_on(Server::new(arith()), listener, ([127, 0, 0, 1], 0).into());
        let mut asked = Vec::new();
        for _ in 0..=FAILURES {
            asked.push(within("the server asks for the next connection", receiver.recv()).await.unwrap());
        }
        let again = timeout(STEP, receiver.recv()).await;
        assert!(again.is_err(), "it asked again, though the listener has not answered yet");

        let pauses: Vec<Duration> = asked.windows(2).map(|two| two[1] - two[0]).collect();
        assert!(pauses.is_sorted(), "{pauses:?}");
        assert!(
            pauses[0] >= Duration::from_millis(1) && pauses[0] <= Duration::from_millis(50),
            "{pauses:?}"
        );
        let longest = pauses[FAILURES - 1];
        assert!(
            longest >= Duration::from_millis(500) && longest <= Duration::from_millis(1100),
            "{pauses:?}"
        );
        assert!(pauses[FAILURES - 3] * 2 > longest, "still growing: {pauses:?}");
    });
}

/// A handler that says that it has started, never ends, and says when it is dropped.
fn never_ends(started: mpsc::UnboundedSender<()>, dropped: mpsc::UnboundedSender<()>) -> impl Handler {
    move |_request: Request| {
        let (started, on_drop) = (started.clone(), OnDrop(dropped.clone()));
        async move {
            let _on_drop = on_drop;
            tokio::task::yield_now().await; // from here on in a task of its own
            started.send(()).ok();
            std::future::pending::<anyhow::Result<Reply>>().await
        }
    }
}

/// Dropping the future of `serve` ends everything it started: connections are closed, handlers aborted.
///
/// What is started has an owner. A task that nobody owns goes on after its server, and nothing stops it.
///
/// Hint: `JoinSet` aborts its tasks when it is dropped; a bare `tokio::spawn` does not.
#[test]
fn dropping_serve_closes_connections_and_aborts_handlers() {
    run_threads(async || {
        let (started, mut has_started) = mpsc::unbounded_channel();
        let (dropped, mut was_dropped) = mpsc::unbounded_channel();
        let server = start(Server::new(never_ends(started, dropped))).await;
        let mut peers = Vec::new();
        for _ in 0..2 {
            let mut peer = Peer::connect_json(server.addr).await;
            peer.send(&json_message("Never.ends", 1, json!(null))).await;
            within("a handler that starts", has_started.recv()).await.unwrap();
            peers.push(peer);
        }
        assert!(was_dropped.try_recv().is_err(), "a handler is gone before its time");

        let addr = server.addr;
        drop(server);
        for mut peer in peers {
            within("an aborted handler", was_dropped.recv()).await.unwrap();
            peer.expect_end().await;
        }
        let refused = within("an answer of the system", tokio::net::TcpStream::connect(addr)).await;
        assert!(refused.is_err(), "the listener is still open");
    });
}

/// When the client goes away, its handlers are aborted, and those of others are not.
///
/// Nobody is left to read their replies. GeeRPC's server waits for them, however long they take.
///
/// Hint: a `JoinSet` that the connection's task owns ends with it.
#[test]
fn when_the_client_goes_away_its_handlers_are_aborted() {
    run(async || {
        let (started, mut has_started) = mpsc::unbounded_channel();
        let (dropped, mut was_dropped) = mpsc::unbounded_channel();
        let server = start(Server::new(never_ends(started, dropped))).await;
        let mut leaves = Peer::connect_json(server.addr).await;
        let mut stays = Peer::connect_json(server.addr).await;
        for peer in [&mut leaves, &mut stays] {
            peer.send(&json_message("Never.ends", 1, json!(null))).await;
            peer.send(&json_message("Never.ends", 2, json!(null))).await;
        }
        for _ in 0..4 {
            within("a handler that starts", has_started.recv()).await.unwrap();
        }
        drop(leaves);
        for _ in 0..2 {
            within("an aborted handler", was_dropped.recv()).await.unwrap();
        }
        // One round trip on the other connection, and its handlers are still there.
        stays.send(&json_message("Never.ends", 3, json!(null))).await;
        within("a handler that starts", has_started.recv()).await.unwrap();
        assert!(was_dropped.try_recv().is_err(), "a handler of another client was aborted");
    });
}
