//! The server: a task for each connection, and an end for all that was started.
//!
//! In `src/server/mod.rs`: `serve`, with its own `accept` and `log_end`; in `src/server/listener.rs` `accept`, for TCP.
//! The handlers of a connection end with it: a `JoinSet` owns them.
//!
//! Works then: a server on a TCP port, with a task for each connection, and `cargo run` shows it.
//!
//! Chapter: Files of today; What goes wrong without it

use super::*;

/// A handler sees all of its request: method, number, metadata and codec. A listener that knows who the peer is
/// tells it, too.
///
/// Metadata is the caller's: a token, a trace id. It may hold any text, and may be missing.
///
/// Hint: the address comes from the listener. A stream that was given to `serve_connection` has none.
#[test]
fn a_handler_sees_all_of_its_request() {
    let tell = async |request: Request| {
        let peer = request.peer().map(|peer| peer.to_string());
        let codec = request.codec().name();
        let method = request.service_method();
        Ok(request.reply(&json!([method, request.seq(), request.metadata(), codec, peer]))?)
    };
    run(async move || {
        let metadata = json!({"token": "\u{1F511} \"x\"", "": ""});
        let (mut peer, _served) = serve_in_memory(Server::new(tell));
        peer.handshake_json().await;
        peer.send(&call_with("No.such method\n", u64::MAX, metadata.clone(), json!(null))).await;
        let seen = peer.read_message().await.value();
        assert_eq!(seen, json!(["No.such method\n", u64::MAX, metadata, "application/json", null]));

        let server = start(Server::new(tell)).await;
        let mut peer = Peer::connect_json(server.addr).await;
        peer.send(&call("A.b", 0, json!(null))).await;
        let addr = peer.io.local_addr().unwrap().to_string();
        assert_eq!(peer.read_message().await.value(), json!(["A.b", 0, {}, "application/json", addr]));
    });
}

/// A failing accept is not the end: the next connection is served.
///
/// A process that has run out of file descriptors fails to accept until one is closed. GeeRPC's server gives
/// up at the first such error, and never serves a client again.
///
/// Hint: `accept` in a loop; an error is logged, and no reason to leave it. Wait a little before the next one:
/// the clock of this test is paused, so the wait costs nothing.
#[test]
fn after_failing_accepts_a_good_one_is_served() {
    run_paused(async || {
        let (client, io) = duplex(4096);
        let error = || Err(std::io::Error::other("too many open files"));
        let script = Script(VecDeque::from([error(), error(), Ok(io), error()]));
        let began = tokio::time::Instant::now();
        let _running = start_on(Server::new(arith()), script, ([127, 0, 0, 1], 0).into());
        let mut peer = Peer { io: client };
        peer.handshake_json().await;
        assert!(began.elapsed() > Duration::ZERO, "the server asked again at once: that uses up a core");
        peer.expect_service().await;
    });
}

/// A handler that says that it has started, never ends, and says when it is dropped.
fn never_ends(started: mpsc::UnboundedSender<()>, dropped: mpsc::UnboundedSender<()>) -> impl Handler {
    move |_request: Request| {
        let (started, on_drop) = (started.clone(), OnDrop(dropped.clone()));
        async move {
            let _on_drop = on_drop;
            tokio::task::yield_now().await;
            started.send(()).ok();
            std::future::pending::<anyhow::Result<Reply>>().await
        }
    }
}

/// Dropping the future of `serve` ends everything it started: connections are closed, handlers aborted.
///
/// What is started has an owner. A task without one goes on after its server, and nothing stops it.
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
            peer.send(&call("Never.ends", 1, json!(null))).await;
            within("a handler that starts", has_started.recv()).await.unwrap();
            peers.push(peer);
        }
        assert!(was_dropped.try_recv().is_err(), "a handler was dropped before its time");

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
/// Their replies have no reader. GeeRPC's server waits for them, however long they take.
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
            peer.send(&call("Never.ends", 1, json!(null))).await;
            peer.send(&call("Never.ends", 2, json!(null))).await;
        }
        for _ in 0..4 {
            within("a handler that starts", has_started.recv()).await.unwrap();
        }
        drop(leaves);
        for _ in 0..2 {
            within("an aborted handler", was_dropped.recv()).await.unwrap();
        }
        // One round trip on the other connection, and its handlers are still there.
        stays.send(&call("Never.ends", 3, json!(null))).await;
        within("a handler that starts", has_started.recv()).await.unwrap();
        assert!(was_dropped.try_recv().is_err(), "a handler of another client was aborted");
    });
}
