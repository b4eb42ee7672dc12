//! Cancels: a caller that gives up tells the server, and the handler stops.
//!
//! The client sends its cancels already. On the server's side: `remove` in `src/server/handlers.rs`, `within` in
//! `src/server/handler.rs`, and in `src/server/connection.rs` change `run`, `receive` and `start`. Of
//! `src/server/liveness.rs` write `first`, which ends a connection; a first version may wait without an end.
//!
//! Works then: a caller that gives up stops its handler, on the other side of the wire.
//!
//! Chapter: The wire; What goes wrong without it

use super::*;

/// A caller that gives up tells the server, whatever way it gives up: its time is over, the future of its call is
/// dropped, its `PendingCall` is, or its task panics.
///
/// `select!` and `timeout` just drop the future that loses. A server that is not told works on without a caller.
///
/// Hint: the guard of the entry. It does not matter why it is dropped.
#[test]
fn giving_up_sends_a_cancel() {
    run_paused(async || {
        let (client, mut peer) = pair_with(&json_only(), json!({})).await;
        for case in ["its time is over", "the call is dropped", "the PendingCall is dropped", "a panic"] {
            match case {
                "its time is over" => {
                    let call = client.with_timeout(SECOND).call::<_, u32>("Test.number", &1).await;
                    assert_timeout(call, SECOND);
                }
                "the call is dropped" => {
                    let called = timeout(SECOND, client.call::<_, u32>("Test.number", &1)).await;
                    assert!(called.is_err(), "no server answers");
                }
                "the PendingCall is dropped" => {
                    let call = begin(&client, 1).await;
                    settle().await;
                    drop(call);
                }
                _ => {
                    let call = begin(&client, 1).await;
                    settle().await;
                    let panics = tokio::spawn(async move {
                        let _call = call;
                        panic!("this panic is part of the test");
                    });
                    assert!(within("the end of the caller's task", panics).await.unwrap_err().is_panic());
                }
            }
            assert_eq!(client.in_flight(), 0, "{case}");
            let seq = peer.read_message().await.seq();
            let cancel = peer.read_message().await;
            assert_eq!(cancel.header, json!({"cancel": {"seq": seq}}), "{case}");
        }
    });
}

/// A call that was not sent, or has ended, sends no cancel. And no call sends two.
///
/// A cancel for each call doubles the messages. And the server does not know such a call, or knows another one of that
/// number.
///
/// Hint: the entry tells whether the request was sent. An entry that has left the table was not given up.
#[test]
fn a_call_that_has_ended_or_was_not_sent_sends_no_cancel() {
    run_paused(async || {
        let (client, mut peer) = pair_with(&json_only().max_in_flight(1), json!({})).await;
        let replies: [fn(u64) -> Vec<u8>; 3] = [
            |seq| reply(seq, json!(1)),
            |seq| reply_error(seq, "unknown", "no"),
            |seq| reply(seq, json!("not a number")),
        ];
        for reply in replies {
            for is_awaited in [true, false] {
                let started = begin(&client, 1).await;
                let seq = next_call(&mut peer).await.seq();
                peer.send(&reply(seq)).await;
                eventually("the reply is here", || client.in_flight() == 0).await;
                if is_awaited {
                    within("the outcome", started).await.ok();
                }
            }
        }
        let ended = begin(&client.with_timeout(SECOND), 1).await;
        let seq = next_call(&mut peer).await.seq();
        assert_eq!(peer.read_message().await.header, json!({"cancel": {"seq": seq}}));
        drop(ended);

        let no_json = HashMap::from([((1, 2), 3)]);
        let unsent = within("the failure", client.call::<_, u32>("Test.number", &no_json)).await;
        assert!(matches!(unsent, Err(Error::Encode { .. })), "{unsent:?}");
        let first = begin(&client, 1).await;
        let first_seen = next_call(&mut peer).await;
        let waits_for_a_place = client.with_timeout(SECOND).call::<_, u32>("Test.number", &1).await;
        assert_timeout(waits_for_a_place, SECOND);
        answer(&mut peer, &first_seen, json!(1)).await;
        assert_eq!(within("the reply", first).await.unwrap(), 1);
        drop(begin(&client, 1).await); // the task has had no turn yet

        let _last = begin(&client, 4711).await;
        assert_eq!(peer.read_message().await.value(), 4711, "and no cancel before it");
    });
}

/// A cancel stops the handler at its `await`: its drop guard fires. There is no reply, and the other calls go on.
///
/// A real handler undoes its work in such a guard. GeeRPC's server is not told at all.
///
/// Hint: abort the task of the call, and forget the call.
#[test]
fn a_cancel_stops_the_handler_and_has_no_reply() {
    run_paused(async || {
        let (handler, mut probe) = probe();
        let (mut peer, _served) = peer_of(&Server::new(handler), 1024).await;
        for seq in [1, 2, 3] {
            peer.send(&call("Test.gate", seq, Value::Null)).await;
            assert_eq!(probe.started().await, seq);
        }
        peer.send(&cancel(2)).await;
        assert_eq!(probe.stopped().await, 2);
        probe.gate.add_permits(2);
        let replies = [peer.read_message().await.value(), peer.read_message().await.value()];
        assert!(replies == [json!(1), json!(3)] || replies == [json!(3), json!(1)], "{replies:?}");
        peer.send(&call("Test.now", 4, Value::Null)).await;
        assert_eq!(peer.read_message().await.value(), 4, "and no reply to 2 before it");
    });
}

/// A cancel of a call that is unknown, or has its reply, or is cancelled already changes nothing, now or later.
///
/// A cancel and a reply may pass each other on the way. Neither side has done anything wrong then.
///
/// Hint: if there is nothing to stop, there is nothing to do.
#[test]
fn a_cancel_of_no_call_is_ignored() {
    run_paused(async || {
        let (handler, mut probe) = probe();
        let (mut peer, _served) = peer_of(&Server::new(handler), 1024).await;
        peer.send(&call("Test.gate", 1, Value::Null)).await;
        peer.send(&call("Test.now", 2, Value::Null)).await;
        assert_eq!(peer.read_message().await.value(), 2);
        assert_eq!(probe.started().await, 1);
        for seq in [2, 3, 3, 0, u64::MAX] {
            peer.send(&cancel(seq)).await; // 2 has its reply, the others are unknown
        }
        probe.gate.add_permits(1);
        assert_eq!(peer.read_message().await.value(), 1, "the call in flight");
        peer.send(&call("Test.later", 3, json!(1))).await;
        assert_eq!(peer.read_message().await.value(), 3, "a cancel is not kept for a later call");
    });
}

/// A cancelled call gives its place back at once, and its number may be used again.
///
/// Else a client that gives up calls locks itself out, or gets "busy" for a call that it has a place for.
///
/// Hint: the calls in flight are those whose callers wait. A task that was aborted is there until it has run once more:
/// if all places are taken, read on when it has gone.
#[test]
fn a_cancelled_call_gives_its_place_back() {
    run_paused(async || {
        let (handler, mut probe) = probe();
        let (mut peer, _served) = peer_of(&Server::new(handler).max_in_flight(1), 1024).await;
        for seq in [1, 2, 2] {
            peer.send(&call("Test.hang", seq, Value::Null)).await;
            assert_eq!(probe.started().await, seq);
            peer.send(&call("Test.now", 9, Value::Null)).await;
            assert!(peer.read_message().await.is_refused(), "there is one place");
            peer.send(&cancel(seq)).await;
            assert_eq!(probe.stopped().await, seq);
        }
        // The place is free for what comes right behind the cancel, though the handler has not gone yet.
        peer.send(&call("Test.hang", 3, Value::Null)).await;
        assert_eq!(probe.started().await, 3);
        peer.send(&[cancel(3), call("Test.later", 4, json!(1))].concat()).await;
        assert_eq!(peer.read_message().await.value(), 4);
    });
}

/// When a caller gives up, its handler stops: for a timeout, and for a future that is dropped.
///
/// Both halves together. This is what the caller's `timeout` is worth.
///
/// Hint: if the tests before this one pass, this one does.
#[test]
fn when_a_caller_gives_up_its_handler_stops() {
    run_paused(async || {
        let (handler, mut probe) = probe();
        let client = client_of(&Server::new(handler), &Options::default()).await;
        let call = client.with_timeout(SECOND).call::<_, u64>("Test.hang", &()).await;
        assert_timeout(call, SECOND);
        assert_eq!(probe.stopped().await, probe.started().await);

        let call = within("start", client.start::<_, u64>("Test.hang", &())).await.unwrap();
        let seq = probe.started().await;
        assert_eq!(seq, call.seq());
        drop(call);
        assert_eq!(probe.stopped().await, seq);
        within("a reply on the same connection", client.call::<_, u64>("Test.now", &())).await.unwrap();
    });
}
