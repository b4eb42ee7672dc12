//! Limits: how many calls, and how long a body, each side's word being kept.
//!
//! Nothing to write: run it. The table has a number of places, and each side keeps to what the other announced.
//!
//! Works then: a call over the limit waits for a place, and a body that is too long fails its own call.
//!
//! Chapter: Limits

use super::*;

/// The client keeps to its own `max_in_flight` and to the server's, whichever is smaller: the next call waits for
/// a place.
///
/// Without a limit a caller that is faster than the server fills the memory of both. And our own client must never
/// get "busy" from a server that has told it how many calls it takes.
///
/// Hint: a semaphore. Its permit belongs to the entry, not to the caller: a reply that is here takes no place.
#[test]
fn calls_over_the_limit_wait_for_a_place() {
    run(async || {
        for (own, servers) in [(3, 1024), (1024, 3), (3, 3), (usize::MAX, 3)] {
            let options = json_only().max_in_flight(own);
            let (client, mut peer) = pair_with(&options, json!({"max_in_flight": servers})).await;
            let (mut calls, seen) = begin_many(&client, &mut peer, 3).await;
            let mut next = pin!(client.start::<_, u32>("Test.number", &4711));
            assert!(waits(next.as_mut()).await, "{own} and {servers}: there is no place for a fourth call");
            assert_eq!(client.in_flight(), 3);

            answer(&mut peer, &seen[1], json!(1)).await;
            calls.push(within("start, as there is a place again", next).await.unwrap());
            assert_eq!(next_call(&mut peer).await.value(), 4711);
            assert_eq!(client.in_flight(), 3);
            assert_eq!(within("the reply", calls.remove(1)).await.unwrap(), 1);

            let mut last = pin!(client.call::<_, u32>("Test.number", &1));
            assert!(waits(last.as_mut()).await, "{own} and {servers}: there is no place for a fourth call");
            drop(peer);
            not_sent(within("the failure of a call that waits for a place", last).await);
            for call in calls {
                disconnected(within("the failure of a call in flight", call).await);
            }
        }
        // Each side's default, in case that it says nothing and the other one has no limit.
        let (silent, unlimited) = (json_only(), json_only().max_in_flight(usize::MAX));
        for (options, fields) in [(silent, json!({"max_in_flight": usize::MAX})), (unlimited, json!({}))] {
            let (client, mut peer) = pair_with(&options, fields).await;
            let (_calls, _) = begin_many(&client, &mut peer, 1024).await;
            let mut next = pin!(client.start::<_, u32>("Test.number", &1));
            assert!(waits(next.as_mut()).await, "the default is 1024, and not that of {options:?}");
        }
    });
}

/// A caller that gives up frees its place, whether its request was sent or not; and one that gives up while it waits
/// for a place takes none.
///
/// A place that is lost never comes back, and at the last one the client stands still.
///
/// Hint: a request that is not sent keeps its place until the writer has passed it by.
#[test]
fn a_caller_that_gives_up_frees_its_place() {
    run(async || {
        let (client, mut peer) = pair_with(&json_only().max_in_flight(2), json!({})).await;
        for round in 0..10 {
            let (calls, _) = begin_many(&client, &mut peer, 2).await; // sent
            for _ in 0..3 {
                let mut waiting = pin!(client.start::<_, u32>("Test.number", &1));
                assert!(waits(waiting.as_mut()).await, "round {round}: there is no place for a third call");
            }
            drop(calls);
            let unsent = [begin(&client, 1).await, begin(&client, 2).await]; // the task has had no turn yet
            drop(unsent);
            assert_eq!(client.in_flight(), 0, "round {round}");
            check_it_works(&client, &mut peer).await;
        }
    });
}

/// An argument over the server's `max_body_len`, or a header over 16 KiB, fails its own call with
/// `Error::FrameTooLarge`, and nothing of it is sent. One of exactly the limit is.
///
/// In an earlier version it cost the connection: one argument of 100 KiB failed twenty calls of others.
///
/// Hint: the server has told its limit in the handshake. Check the length where the argument is encoded.
#[test]
fn a_call_that_is_too_long_fails_alone() {
    run(async || {
        let (client, mut peer) =
            pair_with(&json_only().max_body_len(10), json!({"max_body_len": 1000})).await;
        let (mut calls, seen) = begin_many(&client, &mut peer, 1).await;
        // In JSON a text has two bytes more than its letters.
        let failed = within("the failure", client.call::<_, u32>("Test.long", &"x".repeat(999))).await;
        assert!(matches!(failed, Err(Error::FrameTooLarge { len: 1001, max: 1000 })), "{failed:?}");

        let long = "x".repeat(MAX_HEADER_LEN);
        let with_metadata = client.with_metadata("token", &long);
        for (case, client, method) in
            [("method", &client, &long[..]), ("metadata", &with_metadata, "Test.long")]
        {
            let failed = within("the failure", client.call::<_, u32>(method, &1)).await;
            assert!(
                matches!(failed, Err(Error::FrameTooLarge { max: MAX_HEADER_LEN, .. })),
                "{case}: {failed:?}"
            );
        }
        assert_eq!(client.in_flight(), 1);

        let longest = within("start", client.start::<_, u32>("Test.long", &"x".repeat(998))).await.unwrap();
        let call = next_call(&mut peer).await; // nothing of the others came before it
        assert_eq!(call.body.as_ref().map(Vec::len), Some(1000));
        answer(&mut peer, &call, json!(3)).await;
        answer(&mut peer, &seen[0], json!(4)).await;
        assert_eq!(within("the reply", longest).await.unwrap(), 3);
        assert_eq!(within("the reply", calls.remove(0)).await.unwrap(), 4);
    });
}

/// A reply over the client's `max_body_len` breaks the rules, as the client has announced it: the server is told
/// why, and loses the connection. One of exactly the limit is fine.
///
/// The length is the server's word. It must not make the client allocate what its caller has forbidden.
///
/// Hint: the limit of the client's own options, when it reads.
#[test]
fn a_reply_longer_than_announced_breaks_the_rules() {
    run(async || {
        let options = json_only().max_body_len(100);
        let (client, mut peer) = pair_with(&options, json!({"max_body_len": 1 << 20})).await;
        let call = tokio::spawn({
            let client = client.clone();
            async move { client.call::<_, String>("Test.number", &1).await }
        });
        let seen = next_call(&mut peer).await;
        answer(&mut peer, &seen, json!("x".repeat(98))).await;
        assert_eq!(within("the longest reply", call).await.unwrap().unwrap().len(), 98);

        let (calls, seen) = begin_many(&client, &mut peer, 2).await;
        answer(&mut peer, &seen[0], json!("x".repeat(99))).await;
        assert_ne!(end::expect_all_lost(&client, calls).await, "");
        assert_ne!(expect_goaway(&mut peer).await, "");
    });
}
