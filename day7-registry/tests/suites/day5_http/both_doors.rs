//! The limits, the shutdown and the errors are the same over TCP and over HTTP.
//!
//! Complete `serve_http_with_shutdown`, `serve` and `drive` in `src/http/door.rs`.
//!
//! Chapter: Files of today > src/server/mod.rs; Limits > the HTTP before the handshake

use super::*;

/// In the Go ancestor the HTTP handler is registered in one table for the whole process, and the second
/// server crashes it. Here each server has its own paths and its own page.
///
/// Hint: nothing global.
#[test]
fn two_http_servers_in_one_process_do_not_know_each_other() {
    run(async || {
        let services = two_services();
        let first = open(Server::new(services.clone()).debug_page(services)).await;
        let second = open(Server::new(arith()).debug_page(ServiceMap::new())).await;
        assert_serves(&connect_http(second.addr).await).await;
        let client = connect_http(first.addr).await;
        let error = within("a reply", client.call::<_, i32>("Arith.sum", &TWO_AND_THREE)).await.unwrap_err();
        assert!(matches!(error, Error::Remote(_)), "{error:?}");
        assert!(page(first.addr).await.contains("Zoo"));
        assert!(!page(second.addr).await.contains("Zoo"));
    });
}

/// One server can serve a TCP port and an HTTP port at the same time, and many clients at both.
///
/// Hint: a `Server` is a handle; `serve` and `serve_http` take it by reference.
#[test]
fn one_server_has_both_doors_at_the_same_time() {
    run_threads(async || {
        let server = Server::new(arith());
        let (tcp, http) = (start(server.clone()).await, open(server).await);
        let (tcp_addr, http_addr) = (tcp.addr, http.addr);
        let mut clients = tokio::task::JoinSet::new();
        for number in 0..20 {
            clients.spawn(async move {
                let endpoint =
                    if number % 2 == 0 { Endpoint::tcp(tcp_addr) } else { Endpoint::http(http_addr) };
                let client = dial(&endpoint).await.unwrap();
                for num2 in 0..20 {
                    let sum = Sum { num1: number, num2 };
                    let sum = within("a reply", client.call::<_, i32>("Arith.sum", &sum)).await;
                    assert_eq!(sum.unwrap(), number + num2);
                }
            });
        }
        while let Some(done) = within("a client that is done", clients.join_next()).await {
            done.unwrap();
        }
    });
}

/// Replies in any order, an error's text word for word, a limit of the caller and one of the server: all of
/// it as through TCP.
///
/// Hint: nothing to do. If it fails, the upgraded stream went somewhere else than all others.
#[test]
fn errors_and_timeouts_work_through_http() {
    run(async || {
        let door = open(Server::new(arith()).handle_timeout(Duration::from_millis(100))).await;
        let client = connect_http(door.addr).await;
        let text = "100% \"full\" \u{1F980}";
        let fail = crate::support::Fail { message: text.to_owned() };
        match within("a reply", client.call::<_, ()>("Arith.fail", &fail)).await {
            Err(Error::Remote(got)) => assert_eq!(got, text),
            other => panic!("an error of the server was expected: {other:?}"),
        }
        let year = Sleep { millis: 365 * 24 * 60 * 60 * 1000 };
        let stopped_there = within("sending", client.start::<_, u64>("Arith.sleep", &year)).await.unwrap();
        let after = Duration::from_millis(20);
        let stopped_here = client.call_within::<_, u64>(after, "Arith.sleep", &year);
        match within("the end of a call with a limit", stopped_here).await {
            Err(Error::Timeout { after: limit, .. }) => assert_eq!(limit, after),
            other => panic!("a timeout of the caller was expected: {other:?}"),
        }
        match within("the end of a call that the server stops", stopped_there).await {
            Err(Error::Remote(text)) => assert!(text.contains("timed out"), "{text}"),
            other => panic!("an error of the server was expected: {other:?}"),
        }
        assert_serves(&client).await;
    });
}

/// A caller that gives up stops its handler on the server, and a client that goes away stops all of its
/// handlers: through HTTP, too.
///
/// Hint: dropping the upgraded stream has to close the socket. A task of hyper that is still there keeps it.
#[test]
fn cancel_and_disconnect_stop_handlers_through_http() {
    run(async || {
        let (server, mut watch) = slow_server();
        let door = open(server).await;
        let client = connect_http(door.addr).await;
        let given_up = within("sending a call", client.start::<_, u32>("Slow.wait", &1_u32)).await.unwrap();
        watch.sees("started").await;
        drop(given_up);
        watch.sees("dropped").await;
        assert!(client.is_available());

        let lost = within("sending a call", client.start::<_, u32>("Slow.wait", &2_u32)).await.unwrap();
        watch.sees("started").await;
        client.close();
        watch.sees("dropped").await;
        let error = within("the end of a call that was lost", lost).await.unwrap_err();
        assert!(matches!(error, Error::Disconnected(_)), "{error:?}");
    });
}

/// The server goes away, and with it every HTTP connection, before and after its `CONNECT`, and their handlers.
///
/// Hint: serve HTTP in the connection's own task. A spawned one would outlive the server.
#[test]
fn dropping_serve_http_closes_all_connections() {
    run(async || {
        let (server, mut watch) = slow_server();
        let door = open(server).await;
        let client = connect_http(door.addr).await;
        let lost = within("sending a call", client.start::<_, u32>("Slow.wait", &1_u32)).await.unwrap();
        watch.sees("started").await;
        let mut idle = Peer::connect(door.addr).await;
        let (head, _) = ask(&mut idle, "GET /").await;
        assert!(head.starts_with("HTTP/1.1 404 "), "{head}");

        drop(door);
        watch.sees("dropped").await;
        idle.expect_end().await;
        let error = within("the end of a call that was lost", lost).await.unwrap_err();
        assert!(matches!(error, Error::Disconnected(_)), "{error:?}");
    });
}

/// At this door as well: after many connections of every kind no task is left, neither here nor there.
///
/// Hint: whoever polls hyper's connection owns it, and ends with the connection.
#[test]
fn nothing_is_left_after_many_http_connections() {
    run(async || {
        let door = open(Server::new(arith()).debug_page(ServiceMap::new())).await;
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
        assert_serves(&connect_http(door.addr).await).await;
        eventually("only the two servers' tasks at the start", || alive_tasks() == 2).await;
        let patient = Options::default();
        let impatient = Options::default().connect_timeout(Duration::from_millis(1));
        for round in 0..100 {
            let client = connect_http(door.addr).await;
            assert_serves(&client).await;
            let year = Sleep { millis: 365 * 24 * 60 * 60 * 1000 };
            let call = within("sending", client.start::<_, u64>("Arith.sleep", &year)).await.unwrap();
            let mut half = Peer::connect(door.addr).await;
            half.send(&CONNECT[..round % CONNECT.len()]).await;
            let mut upgraded = knock(door.addr).await;
            upgraded.send(&options(&["application/json"])[..round % 20]).await;
            page(door.addr).await;
            let error = refusal(silent, &impatient).await;
            assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
            // A connection attempt that is dropped half-way.
            tokio::select! {
                biased;
                _ = Client::connect_http(silent, &patient) => panic!("nobody answers there"),
                () = tokio::task::yield_now() => {}
            }
            drop(call);
        }
        eventually("only the two servers' tasks at the end", || alive_tasks() == 2).await;
        holding.abort();
    });
}

/// One connection more than the limit is refused in HTTP's own words, 503, and the text names the limit.
/// Then it is closed: who is refused must not stay. When there is room again, the next one is served.
///
/// Hint: `Admission::refused` says why. No keep-alive for such a connection.
#[test]
fn a_connection_over_the_limit_is_a_503_that_names_the_limit() {
    run(async || {
        let server = Server::new(arith()).max_connections(2);
        let door = open(server.debug_page(ServiceMap::new())).await;
        let (first, second) = (connect_http(door.addr).await, connect_http(door.addr).await);
        let error = refusal(door.addr, &Options::default()).await;
        assert_handshake_error(&error, &["503", "full", "2 connections"]);
        let mut browser = Peer::connect(door.addr).await;
        let (head, body) = ask(&mut browser, &format!("GET {DEBUG_PATH}")).await;
        assert!(head.starts_with("HTTP/1.1 503 ") && body.contains("2 connections"), "{head}{body}");
        browser.expect_end().await;
        assert_serves(&first).await;

        drop(second);
        let retry = async {
            loop {
                match Client::connect_http(door.addr, &Options::default()).await {
                    Ok(client) => break client,
                    Err(error) => assert_handshake_error(&error, &["503"]),
                }
            }
        };
        assert_serves(&within("a place for the next client", retry).await).await;
    });
}

/// Shutdown: the call in flight is answered, a new call on its connection is refused, nobody else gets in,
/// and connections that are only half-way in do not hold it up. The grace period is for calls.
///
/// Hint: tell hyper (`graceful_shutdown`), and wait no longer than a moment for what is left of the HTTP.
#[test]
fn shutdown_drains_calls_and_does_not_wait_for_half_a_connect() {
    run(async || {
        let (server, mut watch) = slow_server();
        let server = server.grace_period(STEP * 10).handshake_timeout(STEP * 10);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(async move {
            server.serve_http_with_shutdown(listener, async { stopped.await.unwrap_or(()) }).await
        });
        let client = connect_http(addr).await;
        let call = within("sending a call", client.start::<_, u32>("Slow.wait", &7_u32)).await.unwrap();
        watch.sees("started").await;
        let mut half = Peer::connect(addr).await;
        half.send(b"CONNECT /_rrpc_ HT").await;
        let mut idle = Peer::connect(addr).await;
        ask(&mut idle, "GET /").await;
        let mut upgraded = knock(addr).await;

        stop.send(()).unwrap();
        idle.expect_end().await;
        let answer = upgraded.read_json().await;
        assert!(answer["error"].as_str().unwrap().contains("shutting down"), "{answer}");
        drop(upgraded);
        eventually("the client is told", || !client.is_available()).await;
        let error = refusal(addr, &Options::default()).await;
        assert!(matches!(error, Error::Io(_)), "{error:?}");
        watch.go.notify_one();
        assert_eq!(within("the call in flight", call).await.unwrap(), 7);
        within("the end of the server", serving).await.unwrap().expect("nothing was cut off");
        half.expect_end().await;
    });
}

/// A connection that is kept for the next page, with no request on it, has nothing to wait for: at shutdown it
/// ends at once, and so does the server. (The clock stands still here, so "at once" is no time at all.)
///
/// Hint: `graceful_shutdown` of hyper's connection.
#[test]
fn an_idle_http_connection_does_not_hold_up_a_shutdown() {
    run_paused(async || {
        let (io, server_io) = tokio::io::duplex(64 * 1024);
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(async move {
            let listener = Script([Ok(server_io)].into());
            Server::new(arith())
                .serve_http_with_shutdown(listener, async { stopped.await.unwrap_or(()) })
                .await
        });
        let mut peer = Peer { io };
        let (head, _) = ask(&mut peer, "GET /").await;
        assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
        let begin = tokio::time::Instant::now();
        stop.send(()).unwrap();
        within("the end of the server", serving).await.unwrap().unwrap();
        assert_eq!(begin.elapsed(), Duration::ZERO);
        peer.expect_end().await;
    });
}
