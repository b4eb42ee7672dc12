//! Hardening of both sides: what is left behind, and an idle connection at the end.
//!
//! No new function.
//!
//! Chapter: Limits; What goes wrong without it

use super::*;

/// After many HTTP connections of every kind no task is left, neither on the server nor on the client.
///
/// Hint: what polls hyper's connection owns it, and ends with the connection.
#[test]
fn nothing_is_left_after_many_http_connections() {
    run(async || {
        let server = start_http(Server::new(arith()).debug_page(ServiceMap::new())).await;
        // Accepts, and holds what it has, with one task for all of them.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent = listener.local_addr().unwrap();
        let holding = async move {
            let mut held = Vec::new();
            while let Ok(accepted) = listener.accept().await {
                held.push(accepted);
            }
        };
        let holding = tokio::spawn(holding);
        assert_serves(&connect_http(server.addr).await).await;
        eventually("only the two servers' tasks at the start", || alive_tasks() == 2).await;
        let patient = Options::default();
        let impatient = Options::default().connect_timeout(Duration::from_millis(1));
        for round in 0..100 {
            let client = connect_http(server.addr).await;
            assert_serves(&client).await;
            let call = within("sending", client.start::<_, u64>("Arith.sleep", &YEAR)).await.unwrap();
            let mut half = Peer::connect(server.addr).await;
            half.send(&CONNECT[..round % CONNECT.len()]).await;
            let mut upgraded = connect_by_hand(server.addr).await;
            upgraded.send(&client_hello(&["application/json"])[..round % 20]).await;
            page(server.addr).await;
            let error = refusal(silent, &impatient).await;
            assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
            // A connection attempt that is dropped half-way.
            tokio::select! {
                biased;
                _ = Client::connect_http(silent, &patient) => panic!("that server does not answer"),
                () = yield_now() => {}
            }
            drop(call);
        }
        eventually("only the two servers' tasks at the end", || alive_tasks() == 2).await;
        holding.abort();
    });
}

/// A connection that is kept for the next page, with no request on it, has nothing to wait for: at shutdown it
/// ends at once, and so does the server. (The clock stands still here, so "at once" is no time at all.)
///
/// Hint: `graceful_shutdown` of hyper's connection.
#[test]
fn an_idle_http_connection_does_not_hold_up_a_shutdown() {
    run_paused(async || {
        let (io, server_io) = duplex(64 * 1024);
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(async move {
            let listener = Script([Ok(server_io)].into());
            Server::new(arith())
                .serve_http_with_shutdown(listener, async { stopped.await.unwrap_or(()) })
                .await
        });
        let mut peer = Peer { io };
        assert_eq!(status(&ask(&mut peer, "GET /").await.0), 404);
        let begin = Instant::now();
        stop.send(()).unwrap();
        within("the end of the server", serving).await.unwrap().unwrap();
        assert_eq!(begin.elapsed(), Duration::ZERO);
        peer.expect_end().await;
    });
}

/// `max_connections` holds on an HTTP port: one more waits in the queue of the system, before its first byte of HTTP
/// is read, and is served when there is a place.
///
/// Hint: `accept_loop` takes the place first. A connection that asks for pages only holds one as well, and for no
/// longer than the limit for its HTTP.
#[test]
fn a_connection_over_the_limit_waits_for_its_place() {
    run(async || {
        let server = Server::new(arith()).max_connections(2).debug_page(ServiceMap::new());
        let server = start_http(server).await;
        let (first, second) = (connect_http(server.addr).await, connect_http(server.addr).await);
        let mut browser = Peer::connect(server.addr).await;
        browser.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        for _ in 0..3 {
            assert_serves(&first).await;
        }
        let mut byte = [0];
        let early = browser.io.try_read(&mut byte);
        assert!(early.is_err(), "the third connection was answered beside two others");
        drop(second);
        assert_eq!(status(&read_head(&mut browser.io).await), 404);
        assert_serves(&first).await;
    });
}

/// A connection in the middle of its HTTP is cut off at a shutdown, and the shutdown is in order all the same: no
/// call was cut off. That holds, too, if the time for its HTTP is over in these moments.
///
/// Hint: `serve_with_shutdown` reports an `Error::Timeout` of a connection. This one is none.
#[test]
fn half_a_request_does_not_spoil_an_orderly_shutdown() {
    run_paused(async || {
        for after in [Duration::from_millis(100), Duration::from_secs(10), Duration::MAX] {
            let (io, server_io) = duplex(64 * 1024);
            let (stop, stopped) = oneshot::channel::<()>();
            let serving = tokio::spawn(async move {
                let listener = Script([Ok(server_io)].into());
                let server = Server::new(arith()).handshake_timeout(after);
                server.serve_http_with_shutdown(listener, async { stopped.await.unwrap_or(()) }).await
            });
            let mut peer = Peer { io };
            peer.send(b"CONNECT /_rrpc_ HT").await;
            yield_now().await;
            stop.send(()).unwrap();
            within("the end of the server", serving).await.unwrap().expect("no call was cut off");
            peer.expect_end().await;
        }
    });
}
