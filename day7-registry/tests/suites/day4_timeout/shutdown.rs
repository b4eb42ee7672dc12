//! Shutdown: goaway, drain, grace.
//!
//! In `src/server/accept.rs`: `drain`. What is red besides is the part of a shutdown in the loops of the server and of
//! a connection.
//!
//! Works then: a server that shuts down says so, lets calls in flight finish, and keeps its grace period.
//!
//! Chapter: The wire; Limits; What goes wrong without it

use super::*;

/// At shutdown the listener is closed and every client learns of it; calls in flight get their replies, and then
/// `serve_with_shutdown` returns `Ok`.
///
/// Without it each new version of a server costs the calls that are in flight. And a listener that stays open takes
/// connections that no one will serve.
///
/// Hint: drop the listener; tell every connection, by a token; wait for the connections.
#[test]
fn a_shutdown_lets_the_calls_in_flight_finish() {
    run(async || {
        let (handler, mut probe) = probe();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, serving) = serve_until(Server::new(handler), listener);
        let options = Options::default();
        let client = within("the connection", Client::connect(addr, &options)).await.unwrap();
        let call = within("start", client.start::<_, u64>("Test.gate", &())).await.unwrap();
        let seq = probe.started().await;

        stop.send(()).unwrap();
        eventually("the goaway is noticed", || !client.is_available()).await;
        let late = within("connecting, or not", TcpStream::connect(addr)).await;
        assert!(late.is_err(), "the listener is open while the server shuts down");
        not_sent(within("the failure of a new call", client.call::<_, u64>("Test.now", &())).await);
        assert!(!serving.is_finished(), "a call is in flight");

        probe.gate.add_permits(1);
        assert_eq!(within("the reply", call).await.unwrap(), seq);
        within("the end of the server", serving).await.unwrap().unwrap();
    });
}

/// A call that comes after the server's goaway is answered: it is refused, and was not started. The connection waits
/// for the client, also if no call was in flight.
///
/// The client may have sent it before it knew. A call that is not answered is lost, and its caller cannot know whether
/// it has run. One that is refused may go to another server.
///
/// Hint: read on while you drain. A connection without a call stays for a moment after its goaway.
#[test]
fn a_new_call_during_a_shutdown_is_refused() {
    run_paused(async || {
        for is_idle in [false, true] {
            let (handler, mut probe) = probe();
            let (connector, listener) = Connector::new();
            let (stop, serving) = serve_until(Server::new(handler), listener);
            let mut peer = connector.peer().await;
            if !is_idle {
                peer.send(&call("Test.gate", 1, Value::Null)).await;
                assert_eq!(probe.started().await, 1);
            }
            settle().await;
            stop.send(()).unwrap();
            assert_ne!(peer.read_message().await.reason(), "");

            for method in ["Test.now", "Test.hang"] {
                peer.send(&call(method, 2, Value::Null)).await;
                let refused = peer.read_message().await;
                assert_eq!((refused.seq(), refused.is_refused(), refused.code()), (2, true, "unavailable"));
            }
            if !is_idle {
                probe.gate.add_permits(1);
                assert_eq!(peer.read_message().await.value(), 1);
            }
            assert_eq!(probe.handlers.total(), usize::from(!is_idle), "handlers that were started");
            peer.expect_end().await;
            within("the end of the server", serving).await.unwrap().unwrap();
        }
    });
}

/// Clients without a call in flight do not hold up the shutdown, whatever they do: our own closes, one that stays is
/// closed, one that is in its handshake reads an error. All of it takes a moment, and not the grace period.
///
/// There are always idle connections. In an earlier version one of them made an orderly shutdown an `Err`.
///
/// Hint: the drain waits for calls, and for connections only as long as a goaway takes to be noticed.
#[test]
fn idle_clients_do_not_hold_up_a_shutdown() {
    run_paused(async || {
        let (handler, _probe) = probe();
        let (connector, listener) = Connector::new();
        let (stop, serving) = serve_until(Server::new(handler).grace_period(30 * SECOND), listener);
        let client = connector.client(&Options::default()).await;
        within("a reply", client.call::<_, u64>("Test.now", &())).await.unwrap();
        let mut idle = connector.peer().await;
        let mut silent = Peer { io: connector.connect() };
        settle().await;

        let since = Instant::now();
        stop.send(()).unwrap();
        assert_ne!(idle.expect_goaway().await, "");
        assert!(silent.read_json().await["error"].is_string());
        silent.expect_end().await;
        within("the end of the server", serving).await.unwrap().unwrap();
        assert!(since.elapsed() <= 3 * SECOND, "it took {:?}", since.elapsed());
        assert!(!client.is_available());
        assert_eq!(connector.at_server.now(), 0);
    });
}

/// A server that waits for a place shuts down as any other. The connection that it has not accepted ends with the
/// listener.
///
/// The wait for a place is one more wait: a loop that looks for the signal only while it accepts does not see it on
/// a full server, which is when a server is shut down.
///
/// Hint: `select!` over the signal and the whole of the wait, for the place and for the connection.
#[test]
fn a_full_server_shuts_down_at_once() {
    run_paused(async || {
        let (handler, _probe) = probe();
        let (connector, listener) = Connector::new();
        let server = Server::new(handler).max_connections(1).grace_period(30 * SECOND);
        let (stop, serving) = serve_until(server, listener);
        let mut first = connector.peer().await;
        let mut second = Peer { io: connector.connect() };
        settle().await;
        stop.send(()).unwrap();
        assert_ne!(first.expect_goaway().await, "");
        second.expect_end().await;
        within("the end of the server", serving).await.unwrap().unwrap();
    });
}

/// A call that is in flight when the grace period is over is stopped, and the result says so. Nothing is left when
/// `serve_with_shutdown` returns: the handler's drop guard has fired, and all streams are closed.
///
/// A drain without an end is one more endless wait. Aborting is a request: who ends the process when the future
/// returns may do it in the middle of a handler.
///
/// Hint: a limit for the drain; then abort what is left, and wait for that.
#[test]
fn the_grace_period_ends_what_does_not_end() {
    run_paused(async || {
        let (handler, mut probe) = probe();
        let (connector, listener) = Connector::new();
        let (stop, stopped) = oneshot::channel::<()>();
        let (at_server, handlers) = (connector.at_server.clone(), probe.handlers.clone());
        let serving = tokio::spawn(async move {
            let server = Server::new(handler).grace_period(3 * SECOND);
            let signal = async { stopped.await.unwrap_or_default() };
            let result = server.serve_with_shutdown(listener, signal).await;
            (result, at_server.now(), handlers.now()) // at once, before any other task has a turn
        });
        let client = connector.client(&Options::default()).await;
        let pending = within("start", client.start::<_, u64>("Test.hang", &())).await.unwrap();
        let short = within("start", client.start::<_, u64>("Test.later", &2900_u64)).await.unwrap();
        probe.started().await;
        let since = Instant::now();
        stop.send(()).unwrap();
        let (result, streams, handlers) = within("the end of the server", serving).await.unwrap();
        let took = since.elapsed();
        assert!(took >= 3 * SECOND && took < millis(3300), "it took {took:?}");
        assert_timeout(result, 3 * SECOND);
        assert_eq!((streams, handlers), (0, 0), "streams and handlers that are left when it returns");
        within("the reply to a call that ends in time", short).await.unwrap();
        disconnected(within("the end of the call", pending).await);
    });
}

/// A handler learns of the shutdown, and may end early.
///
/// A long poll waits for minutes by design. Without this it holds up every shutdown until the grace period is over,
/// and then fails.
///
/// Hint: the token that tells the connection is in the request, too.
#[test]
fn a_handler_learns_of_the_shutdown() {
    run_paused(async || {
        let (handler, mut probe) = probe();
        let (connector, listener) = Connector::new();
        let (stop, serving) = serve_until(Server::new(handler).grace_period(30 * SECOND), listener);
        let client = connector.client(&Options::default()).await;
        let pending = within("start", client.start::<_, u64>("Test.shutdown", &())).await.unwrap();
        let seq = probe.started().await;
        sleep(SECOND).await;
        assert_eq!(client.in_flight(), 1, "the server does not shut down");
        let since = Instant::now();
        stop.send(()).unwrap();
        assert_eq!(within("the reply", pending).await.unwrap(), seq);
        within("the end of the server", serving).await.unwrap().unwrap();
        assert!(since.elapsed() <= 2 * SECOND, "it took {:?}", since.elapsed());
    });
}
