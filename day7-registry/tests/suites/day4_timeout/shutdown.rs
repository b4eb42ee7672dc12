//! Shutdown: goaway, drain, and the grace period.
//!
//! Write `serve_with_shutdown` and `grace_period` and change `accept_loop` in `src/server/mod.rs`;
//! `Connection::run` in `src/server/connection.rs` drains.
//!
//! Chapter: The wire > At shutdown; Limits > the calls in flight at shutdown

use super::*;

/// At shutdown the listener closes at once, clients hear of it, calls in flight get their replies, and then
/// `serve_with_shutdown` returns `Ok`.
///
/// Without it, each new version of a server costs the calls that were in flight.
///
/// Hint: drop the listener; a message with `seq` 0 to each client; wait for the handlers.
#[test]
fn shutdown_lets_calls_in_flight_finish() {
    run(async || {
        let (handler, mut probe) = probe();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, serving) = serve_until(Server::new(handler), listener);
        let client = within("connecting", Client::connect(addr, &Options::default())).await.unwrap();
        let call = client.start::<_, u64>("Test.gate", &()).await.unwrap();
        assert_eq!(probe.started().await, 1);

        stop.send(()).unwrap();
        eventually("the client hears of the shutdown", || !client.is_available()).await;
        let late = within("connecting, or not", TcpStream::connect(addr)).await;
        assert!(late.is_err(), "the listener is closed while calls are in flight");
        let refused = within("a refusal", client.call::<_, u64>("Test.now", &())).await;
        assert!(matches!(refused, Err(Error::Disconnected(_))), "{refused:?}");
        assert!(!serving.is_finished(), "a call is in flight");

        probe.gate.add_permits(1);
        assert_eq!(within("the reply", call).await.unwrap(), 1);
        within("the end of the server", serving).await.unwrap().unwrap();
    });
}

/// A new call on a connection that drains gets an error reply at once; the one in flight is unharmed.
///
/// The client may have sent it before it heard. Not answering it would be a call that hangs.
///
/// Hint: read on while you drain, and answer.
#[test]
fn a_new_call_during_shutdown_is_refused() {
    run_paused(async || {
        let (handler, mut probe) = probe();
        let (street, door) = Street::new();
        let (stop, serving) = serve_until(Server::new(handler), door);
        let mut peer = Peer { io: street.connect(1024) };
        peer.shake_hands_json().await;
        peer.send(&json_message("Test.gate", 1, json!(null))).await;
        assert_eq!(probe.started().await, 1);
        stop.send(()).unwrap();
        let goodbye = peer.read_message().await;
        assert_eq!((goodbye.seq(), goodbye.error().is_empty()), (0, false));

        peer.send(&json_message("Test.now", 2, json!(null))).await;
        let refused = peer.read_message().await;
        assert_eq!((refused.seq(), refused.error().is_empty()), (2, false), "{refused:?}");
        probe.gate.add_permits(1);
        let reply = peer.read_message().await;
        assert_eq!((reply.seq(), reply.error()), (1, ""));
        peer.expect_end().await;
        drop(peer);
        within("the end of the server", serving).await.unwrap().unwrap();
    });
}

/// A call that crosses the goodbye on its way, to a connection with nothing in flight, is refused like any
/// other, in the words of the goodbye.
///
/// A client that gets no answer cannot know whether the call has run; one that is refused can go elsewhere.
///
/// Hint: an idle connection may end when the client hangs up, or a little later.
#[test]
fn a_call_that_crosses_the_goodbye_is_refused() {
    run_paused(async || {
        let (handler, _probe) = probe();
        let (street, door) = Street::new();
        let (stop, serving) = serve_until(Server::new(handler), door);
        let mut peer = Peer { io: street.connect(1024) };
        peer.shake_hands_json().await;
        settle().await;
        stop.send(()).unwrap();
        let goodbye = peer.read_message().await;
        assert_eq!(goodbye.seq(), 0);

        peer.send(&json_message("Test.now", 1, json!(null))).await;
        let refused = peer.read_message().await;
        assert_eq!((refused.seq(), refused.error()), (1, goodbye.error()));
        assert_eq!(refused.header["service_method"], "$/refused", "{refused:?}");
        drop(peer);
        within("the end of the server", serving).await.unwrap().unwrap();
    });
}

/// At shutdown, connections with nothing in flight are closed, and a peer in its handshake is told, at once.
/// Even if they stay on the line, the server is done long before the grace period is over.
///
/// There are always idle connections; waiting for them is waiting for ever.
///
/// Hint: what the drain waits for is calls, not connections.
#[test]
fn idle_connections_do_not_hold_up_a_shutdown() {
    run_paused(async || {
        let (handler, _probe) = probe();
        let (street, door) = Street::new();
        let (stop, serving) = serve_until(Server::new(handler).grace_period(30 * SECOND), door);
        let client = street.client(&Options::default()).await;
        let mut idle = Peer { io: street.connect(1024) };
        idle.shake_hands_json().await;
        let mut silent = Peer { io: street.connect(1024) };
        settle().await;
        let since = Instant::now();
        stop.send(()).unwrap();
        assert_eq!(idle.read_message().await.seq(), 0);
        idle.expect_end().await;
        assert!(silent.read_json().await["error"].is_string());
        silent.expect_end().await;
        within("the end of the server", serving).await.unwrap().unwrap();
        assert!(since.elapsed() <= 2 * SECOND, "took {:?}", since.elapsed());
        assert!(!client.is_available());
        assert_eq!(street.at_server.now(), 0);
    });
}

/// What is still in flight when the grace period is over is aborted, and the result says so.
///
/// A drain without an end is the next endless wait.
///
/// Hint: a limit around the drain, then abort what is left, and wait until it is gone.
#[test]
fn the_grace_period_ends_what_does_not_end() {
    run_paused(async || {
        let (handler, mut probe) = probe();
        let (street, door) = Street::new();
        let (stop, stopped) = oneshot::channel();
        let at_server = street.at_server.clone();
        let serving = tokio::spawn(async move {
            let server = Server::new(handler).grace_period(3 * SECOND);
            let signal = async { stopped.await.unwrap_or_default() };
            let result = server.serve_with_shutdown(door, signal).await;
            (result, at_server.now()) // at once: aborted tasks go as soon as this one waits
        });
        let client = street.client(&Options::default()).await;
        let call = client.start::<_, u64>("Test.hang", &()).await.unwrap();
        assert_eq!(probe.started().await, 1);
        let since = Instant::now();
        stop.send(()).unwrap();
        let (result, open) = within("the end of the server", serving).await.unwrap();
        assert_timeout(result, 3 * SECOND);
        assert_took(since, 3 * SECOND);
        assert_eq!(open, 0, "connections are open when it returns");
        assert_eq!(probe.stopped().await, 1);
        let outcome = within("the end of the call", call).await;
        assert!(matches!(outcome, Err(Error::Disconnected(_))), "{outcome:?}");
    });
}

/// Dropping the future of `serve_with_shutdown` ends everything at once, during the drain as well.
///
/// Whatever is started has an owner, and dropping the owner stops it.
///
/// Hint: a `JoinSet` in the future, and nothing that is spawned beside it.
#[test]
fn dropping_the_server_ends_everything() {
    run_paused(async || {
        let before = alive_tasks();
        for drain_first in [false, true] {
            let (handler, mut probe) = probe();
            let (street, door) = Street::new();
            let (stop, serving) = serve_until(Server::new(handler), door);
            let client = street.client(&Options::default()).await;
            let call = client.start::<_, u64>("Test.hang", &()).await.unwrap();
            assert_eq!(probe.started().await, 1);
            if drain_first {
                stop.send(()).unwrap();
                eventually("the client hears of the shutdown", || !client.is_available()).await;
            }
            serving.abort();
            assert_eq!(probe.stopped().await, 1);
            let outcome = within("the end of the call", call).await;
            assert!(matches!(outcome, Err(Error::Disconnected(_))), "{outcome:?}");
            drop(client);
            eventually("all streams are closed", || street.at_server.now() + street.at_clients.now() == 0)
                .await;
            eventually("all tasks have ended", || alive_tasks() == before).await;
        }
    });
}
