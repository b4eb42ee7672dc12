//! A cancel stops its handler at the server.
//!
//! Change `Connection::run` and `start`, and write `has_room`, in `src/server/connection.rs`.
//!
//! Chapter: The wire > A cancel; The wire > A seq that is in flight

use super::*;

/// A cancel stops the handler at its `await`, and has no reply.
///
/// The drop guard in the handler is what a real one undoes its work with.
///
/// Hint: abort the task of the call; the next reply on the wire belongs to the next call.
#[test]
fn a_cancel_stops_the_handler_and_has_no_reply() {
    run_paused(async || {
        let (handler, mut probe) = probe();
        let (mut peer, _served) = peer_of(&Server::new(handler), 1024).await;
        peer.send(&json_message("Test.hang", 1, json!(null))).await;
        assert_eq!(probe.started().await, 1);
        peer.send(&cancel_bytes(1)).await;
        assert_eq!(probe.stopped().await, 1);
        peer.send(&json_message("Test.now", 2, json!(null))).await;
        assert_eq!(peer.read_message().await.seq(), 2);
    });
}

/// A cancel of a call that is unknown, or done, or cancelled already changes nothing.
///
/// A cancel and a reply may pass each other on the way; that is no one's fault.
///
/// Hint: if there is nothing to abort, there is nothing to say.
#[test]
fn a_cancel_of_nothing_is_ignored() {
    run_paused(async || {
        let (handler, mut probe) = probe();
        let (mut peer, _served) = peer_of(&Server::new(handler), 1024).await;
        peer.send(&json_message("Test.gate", 1, json!(null))).await;
        peer.send(&json_message("Test.now", 2, json!(null))).await;
        assert_eq!(peer.read_message().await.seq(), 2);
        assert_eq!(probe.started().await, 1);
        for seq in [2, 3, 3, u64::MAX] {
            peer.send(&cancel_bytes(seq)).await; // 2 is done, the others never were
        }
        probe.gate.add_permits(1);
        let reply = peer.read_message().await;
        assert_eq!((reply.seq(), reply.error()), (1, ""), "the call in flight is unharmed");
        peer.send(&json_message("Test.now", 3, json!(null))).await;
        let reply = peer.read_message().await;
        assert_eq!((reply.seq(), reply.error()), (3, ""), "a cancel is not kept for a later call");
    });
}

/// The handler of a client that gives up is stopped, for a timeout and for a dropped future.
///
/// The whole way, both halves of ours together, over a socket.
///
/// Hint: none; if the tests before this one pass, so does this.
#[test]
fn when_a_caller_gives_up_its_handler_stops() {
    run(async || {
        let (handler, mut probe) = probe();
        let server = start(Server::new(handler)).await;
        let client = within("connecting", Client::connect(server.addr, &Options::default())).await.unwrap();
        assert_timeout(client.call_within::<_, ()>(millis(20), "Test.hang", &()).await, millis(20));
        assert_eq!(probe.stopped().await, 1);

        let call = client.start::<_, ()>("Test.hang", &()).await.unwrap();
        assert_eq!((probe.started().await, probe.started().await), (1, 2));
        drop(call);
        assert_eq!(probe.stopped().await, 2);
        assert_eq!(within("a reply", client.call::<_, u64>("Test.now", &())).await.unwrap(), 3);
    });
}

/// A call that is cancelled makes room for another, if `max_in_flight` are in flight.
///
/// Else a client that gives up calls locks itself out.
///
/// Hint: what counts is who still waits.
#[test]
fn a_cancelled_call_makes_room() {
    run_paused(async || {
        let (handler, mut probe) = probe();
        let (mut peer, _served) = peer_of(&Server::new(handler).max_in_flight(1), 1024).await;
        peer.send(&json_message("Test.hang", 1, json!(null))).await;
        peer.send(&json_message("Test.later", 2, json!(1))).await;
        let busy = peer.read_message().await;
        assert_eq!(busy.seq(), 2);
        assert!(!busy.error().is_empty(), "one too many is refused: {busy:?}");
        peer.send(&cancel_bytes(1)).await;
        assert_eq!(probe.stopped().await, 1);
        peer.send(&json_message("Test.later", 3, json!(1))).await;
        let reply = peer.read_message().await;
        assert_eq!((reply.seq(), reply.error()), (3, ""));
    });
}

/// After a cancel the client may use the `seq` again, and the outcome of the old call is not taken for that
/// of the new one, even if both were there at the same time.
///
/// A handler may be done at the moment of its cancel; then its outcome waits for somebody to fetch it.
///
/// Hint: the number tells calls apart for the client; for you, the task does.
#[test]
fn a_cancelled_call_does_not_answer_for_the_next_of_its_number() {
    run_paused(async || {
        let (handler, mut probe) = probe();
        let (mut peer, _served) = peer_of(&Server::new(handler), 1024).await;
        peer.send(&json_message("Test.gate", 7, json!(null))).await;
        assert_eq!(probe.started().await, 7);
        probe.gate.add_permits(1); // the handler ends, and only then the connection reads on
        let again = json_message("Test.hang", 7, json!(null));
        peer.send(&[cancel_bytes(7), again, json_message("Test.later", 8, json!(5))].concat()).await;
        assert_eq!(probe.stopped().await, 7);
        assert_eq!(peer.read_message().await.seq(), 8, "7 hangs");
        peer.send(&cancel_bytes(7)).await;
        assert_eq!((probe.stopped().await, probe.stopped().await), (8, 7));
    });
}

/// A `seq` that is in flight already ends the connection, with the reason.
///
/// Two calls with one number cannot be told apart, neither by their replies nor by a cancel.
///
/// Hint: a message with `seq` 0 and an error, then the end; the handlers go.
#[test]
fn a_seq_that_is_in_flight_already_ends_the_connection() {
    run_paused(async || {
        let (handler, mut probe) = probe();
        let (mut peer, served) = peer_of(&Server::new(handler), 1024).await;
        peer.send(&json_message("Test.hang", 5, json!(null))).await;
        peer.send(&json_message("Test.hang", 5, json!(null))).await;
        let goodbye = peer.read_message().await;
        assert_eq!(goodbye.seq(), 0);
        assert!(goodbye.error().contains('5'), "it says which: {goodbye:?}");
        peer.expect_end().await;
        assert_eq!(probe.stopped().await, 5);
        let ended = within("the end of the connection", served).await.unwrap();
        assert!(matches!(ended, Err(Error::Protocol(_))), "{ended:?}");
    });
}
