//! What holds on a TCP port holds on an HTTP port: the same limits, the same shutdown, the same errors.
//!
//! Nothing to write: run it. What is red here is the shutdown, in `src/http/door.rs`.
//!
//! Works then: all of day 5's core: what holds on a TCP port holds on an HTTP port.
//!
//! Chapter: From HTTP to frames; Limits

use super::*;

/// In the Go ancestor the HTTP handler is registered in one table for the whole process, and the second
/// server crashes it. Here each server has its own paths and its own page.
///
/// Hint: nothing global.
#[test]
fn two_http_servers_in_one_process_do_not_know_each_other() {
    run(async || {
        let (services, _watch) = slow_services();
        let first = start_http(Server::new(services.clone()).debug_page(services)).await;
        let second = start_http(Server::new(arith()).debug_page(ServiceMap::new())).await;
        assert_serves(&connect_http(second.addr).await).await;
        let client = connect_http(first.addr).await;
        match within("a reply", client.call::<_, i32>("Arith.sum", &TWO_AND_THREE)).await {
            Err(Error::Remote(error)) => assert_eq!(*error.code(), Code::UNIMPLEMENTED),
            other => panic!("the first server has no Arith, but answered {other:?}"),
        }
        assert!(page(first.addr).await.contains("Slow"));
        assert!(!page(second.addr).await.contains("Slow"));
    });
}

/// One server can serve a TCP port and an HTTP port at the same time, and many clients at both.
///
/// Hint: a `Server` is a handle; `serve` and `serve_http` take it by reference.
#[test]
fn one_server_has_both_ports_at_the_same_time() {
    run_threads(async || {
        let server = Server::new(arith());
        let (tcp, http) = (start(server.clone()).await, start_http(server).await);
        let (tcp_addr, http_addr) = (tcp.addr, http.addr);
        let mut clients = JoinSet::new();
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

/// An error's text word for word, a limit of the caller and one of the server, and who the peer is: all of it as
/// through TCP.
///
/// Hint: nothing to do, but to hand on the peer's address. If it fails, the upgraded stream went somewhere else than
/// all others.
#[test]
fn errors_timeouts_and_the_peer_are_the_same_through_http() {
    run(async || {
        let server = Server::new(arith()).handle_timeout(Duration::from_millis(100));
        let server = start_http(server).await;
        let client = connect_http(server.addr).await;
        let text = "100% \"full\" \u{1F980}";
        let fail = Fail { message: text.to_owned() };
        match within("a reply", client.call::<_, ()>("Arith.fail", &fail)).await {
            Err(Error::Remote(error)) => assert_eq!((error.code(), error.message()), (&Code::UNKNOWN, text)),
            other => panic!("an error of the server was expected: {other:?}"),
        }
        let stopped_there = within("sending", client.start::<_, u64>("Arith.sleep", &YEAR)).await.unwrap();
        let after = Duration::from_millis(20);
        let hurried = client.with_timeout(after);
        match within("the end of a call", hurried.call::<_, u64>("Arith.sleep", &YEAR)).await {
            Err(Error::Timeout { after: limit, .. }) => assert_eq!(limit, after),
            other => panic!("a timeout of the caller was expected: {other:?}"),
        }
        match within("the end of a call that the server stops", stopped_there).await {
            Err(Error::Remote(error)) => assert_eq!(*error.code(), Code::DEADLINE_EXCEEDED),
            other => panic!("an error of the server was expected: {other:?}"),
        }
        assert_serves(&client).await;

        let who = async |request: Request| Ok(request.reply(&request.peer())?);
        let server = start_http(Server::new(who)).await;
        let io = TcpStream::connect(server.addr).await.unwrap();
        let ours = io.local_addr().unwrap();
        let client = handshake_http(io, "localhost:80").await.unwrap();
        let peer: Option<SocketAddr> = within("a reply", client.call("Who.am_i", &())).await.unwrap();
        assert_eq!(peer, Some(ours));
    });
}

/// A caller that gives up stops its handler on the server, and a client that goes away stops all of its
/// handlers: through HTTP, too. So does the end of the server, for connections before and after their `CONNECT`.
///
/// Hint: serve HTTP in the connection's own task, and no other. Dropping the upgraded stream has to close the socket.
#[test]
fn cancel_disconnect_and_the_end_of_the_server_stop_handlers_through_http() {
    run(async || {
        let (services, mut watch) = slow_services();
        let server = start_http(Server::new(services)).await;
        let client = connect_http(server.addr).await;
        let given_up = start_slow(&client, 1).await;
        watch.sees("started").await;
        drop(given_up);
        watch.sees("dropped").await;
        assert!(client.is_available());

        let lost = start_slow(&client, 2).await;
        watch.sees("started").await;
        client.close();
        watch.sees("dropped").await;
        let error = lost.await.unwrap_err();
        assert!(matches!(error, Error::Disconnected(_)), "{error:?}");

        let client = connect_http(server.addr).await;
        let lost = start_slow(&client, 3).await;
        watch.sees("started").await;
        let mut idle = Peer::connect(server.addr).await;
        assert_eq!(status(&ask(&mut idle, "GET /").await.0), 404);
        drop(server);
        watch.sees("dropped").await;
        idle.expect_end().await;
        let error = lost.await.unwrap_err();
        assert!(matches!(error, Error::Disconnected(_)), "{error:?}");
    });
}

/// Shutdown: the call in flight is answered, new connections are not accepted, and those that are in the middle of
/// their HTTP do not hold it up. The grace period is for calls.
///
/// Hint: tell hyper (`graceful_shutdown`), and wait no longer than a moment for what is left of the HTTP.
#[test]
fn shutdown_drains_calls_and_does_not_wait_for_half_a_connect() {
    run(async || {
        let (services, mut watch) = slow_services();
        let server = Server::new(services).grace_period(STEP * 10).handshake_timeout(STEP * 10);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(async move {
            server.serve_http_with_shutdown(listener, async { stopped.await.unwrap_or(()) }).await
        });
        let client = connect_http(addr).await;
        let call = start_slow(&client, 7).await;
        watch.sees("started").await;
        let mut half = Peer::connect(addr).await;
        half.send(b"CONNECT /_rrpc_ HT").await;
        let mut idle = Peer::connect(addr).await;
        ask(&mut idle, "GET /").await;

        stop.send(()).unwrap();
        idle.expect_end().await;
        eventually("the client learns of the shutdown", || !client.is_available()).await;
        let error = refusal(addr, &Options::default()).await;
        assert!(matches!(error, Error::Io(_)), "{error:?}");
        watch.go.notify_one();
        assert_eq!(call.await.unwrap(), 7);
        drop(client);
        within("the end of the server", serving).await.unwrap().expect("no call was cut off");
        half.expect_end().await;
    });
}
