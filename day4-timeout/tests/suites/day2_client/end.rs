//! The end of a connection: whichever side ends it, each call learns how it ended.
//!
//! In `src/client/mod.rs`: `closed`. The rest is written: what ends the task, and what it tells the table. These tests
//! show whether each call learns the right thing.
//!
//! Works then: whoever ends the connection, each call knows whether it may have run.
//!
//! Chapter: The wire

use super::*;

/// Checks that these calls, which were sent, fail as the connection has ended, and that the client takes no more.
pub(super) async fn expect_all_lost(client: &Client, calls: Vec<PendingCall<u32>>) -> String {
    let mut reason = None;
    for call in calls {
        reason = Some(disconnected(within("the failure of a call in flight", call).await));
    }
    assert!(!client.is_available(), "the connection has ended, but the client says that it is available");
    assert_eq!(client.in_flight(), 0);
    not_sent(within("the failure of a new call", client.call::<_, u32>("Test.number", &1)).await);
    reason.expect("at least one call")
}

/// Checks that the reason has the server's own words in it.
#[track_caller]
fn assert_says(reason: String, words: &str) {
    assert!(reason.contains(words), "a reason without {words:?}: {reason:?}");
}

/// However the connection ends, every call in flight fails with `Error::Disconnected`, and later ones with
/// `Error::NotSent`.
///
/// A caller whose entry is forgotten waits for a reply that cannot come. And with the wrong type of error it
/// sends a call again that has run.
///
/// Hint: whatever ends the two loops, the line after them fails every call.
#[test]
fn a_lost_connection_fails_every_call() {
    run(async || {
        // In mid-frame, between header and body, and neither.
        let wire = reply(1, json!(1));
        let header = wire.len() - frame("1").len();
        for sent in [0, 1, 20, header, wire.len() - 1] {
            let (client, mut peer) = pair().await;
            let (calls, _) = begin_many(&client, &mut peer, 3).await;
            let closed = tokio::spawn({
                let client = client.clone();
                async move { client.closed().await }
            });
            peer.send(&wire[..sent]).await;
            drop(peer);
            let reason = expect_all_lost(&client, calls).await;
            assert!(!reason.starts_with("disconnected"), "said twice: {}", Error::Disconnected(reason));

            let ended =
                within("the end of the connection, for a task that waits for it", closed).await.unwrap();
            assert!(
                matches!(*ended, Error::Disconnected(_) | Error::Io(_) | Error::Protocol(_)),
                "{ended:?}"
            );
            let later = within("the same when it is over", client.closed()).await;
            assert_eq!(later.to_string(), ended.to_string());
            assert_eq!(ended.to_string().matches("disconnected").count().max(1), 1, "said twice: {ended}");
        }

        // No call is in flight when it happens.
        let (client, peer) = pair().await;
        drop(peer);
        eventually("an idle client notices that the connection has ended", || !client.is_available()).await;
        not_sent(within("the failure of a new call", client.call::<_, u32>("Test.number", &1)).await);
    });
}

/// A request that was still waiting to be written when the connection ended is `NotSent`; one that was on its
/// way is `Disconnected`.
///
/// Only the connection knows which is which, and only then. What is not sent may go to another server at once.
///
/// Hint: an entry that still has its request has not been sent.
#[test]
fn a_request_that_was_not_sent_is_told_from_one_that_was() {
    run(async || {
        for ends_with_goaway in [false, true] {
            let (client, mut peer) = narrow_pair().await;
            let sent = begin_big(&client).await;
            peer.read_json().await; // its header has left, and its body fills the stream
            let unsent = begin(&client, 1).await;
            if ends_with_goaway {
                peer.send(&goaway("going down")).await;
                let reason = not_sent(within("the failure of what is not sent", unsent).await);
                assert_says(reason, "going down");
                assert_eq!(client.in_flight(), 1, "the call that was sent may still have a reply");
                drop(peer);
            } else {
                drop(peer);
                not_sent(within("the failure of what is not sent", unsent).await);
            }
            disconnected(within("the failure of a call in flight", sent).await);
        }
    });
}

/// After the server's goaway the client makes no new calls, but those in flight still get their replies. When
/// the last has its reply, the client ends the stream.
///
/// A server that shuts down finishes what it has begun. To throw its last replies away would fail calls that have
/// succeeded. And then it waits for the client's end only.
///
/// Hint: closing the table and failing its calls are two things. The first reason stays.
#[test]
fn a_goaway_lets_the_calls_in_flight_finish() {
    run(async || {
        let (client, mut peer) = pair().await;
        let (mut calls, seen) = begin_many(&client, &mut peer, 3).await;
        peer.send(&goaway("5% more memory")).await;
        eventually("the goaway is noticed", || !client.is_available()).await;
        let refused = within("the refusal of a new call", client.call::<_, u32>("Test.number", &1)).await;
        assert_says(not_sent(refused), "5% more memory");
        assert_eq!(client.in_flight(), 3);

        answer(&mut peer, &seen[2], json!(2)).await;
        assert_eq!(within("a reply after the goaway", calls.pop().unwrap()).await.unwrap(), 2);
        peer.send(
            &[reply(seen[0].seq(), json!(0)), reply_refused(seen[1].seq(), "unavailable", "")].concat(),
        )
        .await;
        let refused = within("a refusal after the goaway", calls.pop().unwrap()).await;
        assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
        assert_eq!(within("the last reply", calls.pop().unwrap()).await.unwrap(), 0);
        expect_end(&mut peer).await;

        // A call that has no reply when the server closes is lost, for the reason of the goaway.
        let (client, mut peer) = pair().await;
        let (calls, _) = begin_many(&client, &mut peer, 2).await;
        peer.send(&goaway("5% more memory")).await;
        drop(peer);
        assert_says(expect_all_lost(&client, calls).await, "5% more memory");
    });
}

/// A server that breaks the rules costs the connection, and is told why.
///
/// Behind a header that does not decode no one can say where the next message begins. A server sends no calls. An
/// end without a word would send the server's author on a long search.
///
/// Hint: queue a `Message::Goaway`, and shut the writer down: that flushes first.
#[test]
fn a_server_that_breaks_the_rules_is_told_why() {
    run(async || {
        let cases = [
            ("no header", frame("no header")),
            ("an empty frame", frame("")),
            ("a header without a seq", [frame(r#"{"reply":{"error":null}}"#), frame("1")].concat()),
            ("a seq that is text", [frame(r#"{"reply":{"seq":"one"}}"#), frame("1")].concat()),
            ("a call", call("Arith.sum", 1, json!(1))),
            ("a header of 16 KiB and more", frame(vec![b' '; MAX_HEADER_LEN + 1])),
        ];
        for (case, wire) in cases {
            let (client, mut peer) = pair().await;
            let (calls, _) = begin_many(&client, &mut peer, 2).await;
            peer.send(&wire).await;
            assert_ne!(expect_all_lost(&client, calls).await, "", "{case}");
            assert_ne!(expect_goaway(&mut peer).await, "", "{case}");
            drop(peer);
            let ended = within("the end, for a task that waits for it", client.closed()).await;
            let is_broken_rule = matches!(*ended, Error::Protocol(_) | Error::FrameTooLarge { .. });
            assert!(is_broken_rule, "{case}: {ended:?}");
        }
    });
}

/// `close` ends the connection for all clones at once: calls in flight fail, new ones are not sent, and the server
/// sees the end of the stream. A second `close` does no harm.
///
/// Who closes wants the socket back now, and not when the last of a hundred clones is dropped.
///
/// Hint: fail the calls in the table, then abort the task that owns the stream.
#[test]
fn close_ends_the_connection_for_all_clones() {
    run(async || {
        let before = alive_tasks();
        let (client, mut peer) = pair().await;
        let clone = client.clone();
        let (mut calls, _) = begin_many(&client, &mut peer, 2).await;
        calls.push(begin(&clone, 3).await);
        next_call(&mut peer).await;

        client.close();
        assert!(!clone.is_available());
        expect_all_lost(&clone, calls).await;
        expect_end(&mut peer).await;
        let ended = within("the end, for a task that waits for it", clone.closed()).await;
        assert!(matches!(*ended, Error::Disconnected(_)), "{ended:?}");
        clone.close();
        eventually("the client's task ends", || alive_tasks() == before).await;
    });
}

/// The connection lasts as long as a client or a call of it: when the last is dropped, the stream is closed and the
/// task has ended.
///
/// A function may start a call, drop its client and return the call. And a task that lives on behind a client
/// that has gone is a leak, of a socket on both sides.
///
/// Hint: the task must not own what it waits for to go away. A `PendingCall` shares what a `Client` shares.
#[test]
fn the_connection_lasts_as_long_as_a_client_or_a_call() {
    run(async || {
        let before = alive_tasks();
        let (client, mut peer) = pair().await;
        let clone = client.clone();
        drop(client);
        check_it_works(&clone, &mut peer).await;
        drop(clone);
        expect_end(&mut peer).await;

        let (client, mut peer) = pair().await;
        let (mut calls, seen) = begin_many(&client, &mut peer, 2).await;
        drop(client);
        answer(&mut peer, &seen[0], json!(42)).await;
        assert_eq!(within("a reply after the client has gone", calls.remove(0)).await.unwrap(), 42);
        answer(&mut peer, &seen[1], json!(43)).await;
        assert_eq!(within("the last reply", calls.remove(0)).await.unwrap(), 43);
        expect_end(&mut peer).await;

        let (client, mut peer) = pair().await;
        let (calls, _) = begin_many(&client, &mut peer, 1).await;
        drop(client);
        drop(calls);
        expect_end(&mut peer).await;
        eventually("the clients' tasks end", || alive_tasks() == before).await;
    });
}
