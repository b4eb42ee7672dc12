//! Calls that are given up, and replies that do not fit.
//!
//! Complete `PendingCall` and `start` in `src/client/mod.rs`, `InFlight` and its `Drop` in
//! `src/client/in_flight.rs`, and `read_replies` in `src/client/connection.rs`.
//!
//! Chapter: The wire > A reply belongs to the call with its seq; The wire > What a caller sees

use super::*;

/// A caller that goes away takes his entry with him, from `start` as from `call`; the late reply is ignored,
/// and the room is free for others.
///
/// Callers are dropped all the time, by a `select!`, a timeout or an aborted task. Entries that stay are a
/// leak, and at the limit they stop the client for good.
///
/// Hint: nothing to do, if the future that the caller drops holds the entry's guard.
#[test]
fn a_call_that_is_given_up_leaves_nothing_behind() {
    run(async || {
        let (client, mut peer) = pair().await;
        let started = begin(&client, 1).await;
        let first = next_call(&mut peer).await;
        drop(started);
        assert_eq!(client.in_flight(), 0);

        let task = tokio::spawn({
            let client = client.clone();
            async move { client.call::<_, u32>("Test.number", &2).await }
        });
        let second = next_call(&mut peer).await;
        assert_eq!(client.in_flight(), 1);
        task.abort();
        assert!(within("the end of the caller's task", task).await.unwrap_err().is_cancelled());
        assert_eq!(client.in_flight(), 0);

        reply(&mut peer, &first, json!(1)).await;
        reply(&mut peer, &second, json!(2)).await;
        check_it_works(&client, &mut peer).await;

        // More than would fit at the same time.
        for argument in 0..u32::try_from(DEFAULT_MAX_PENDING).unwrap() + 10 {
            let call = begin(&client, argument).await;
            next_call(&mut peer).await;
            drop(call);
        }
        assert_eq!(client.in_flight(), 0);
        check_it_works(&client, &mut peer).await;
    });
}

/// A reply with a number that nobody waits for is ignored, also when it comes a second time.
///
/// Late replies to calls that were given up are normal, so this must not be an error; and a second reply must
/// not reach anybody else.
///
/// Hint: `Pending::complete` says whether somebody waited. If nobody did, read on.
#[test]
fn a_reply_that_nobody_waits_for_is_ignored() {
    run(async || {
        let (client, mut peer) = pair().await;
        peer.send(&json_message("Test.number", u64::MAX, json!(666))).await;
        peer.send(&json_error("Test.number", 12345, "nobody asked")).await;
        check_it_works(&client, &mut peer).await;

        let (calls, seen) = begin_many(&client, &mut peer, 2).await;
        reply(&mut peer, &seen[0], json!(10)).await;
        reply(&mut peer, &seen[0], json!(666)).await;
        peer.send(&json_error("Test.number", seen[0].seq(), "no, an error")).await;
        reply(&mut peer, &seen[1], json!(20)).await;
        for (call, expected) in calls.into_iter().zip([10, 20]) {
            assert_eq!(within("the reply", call).await.unwrap(), expected);
        }
        check_it_works(&client, &mut peer).await;
    });
}

/// A reply that is not of the type asked for is an `Error::Decode` for its caller, and for nobody else.
///
/// In GeeRPC the receive loop decodes, so a wrong type ends the loop and with it every other call.
///
/// Hint: the body is a frame of its own. Let the caller decode it.
#[test]
fn a_reply_of_the_wrong_type_fails_that_call_only() {
    run(async || {
        let (client, mut peer) = pair().await;
        let (mut calls, seen) = begin_many(&client, &mut peer, 4).await;
        reply(&mut peer, &seen[0], json!("not a number")).await;
        reply(&mut peer, &seen[1], json!(-1)).await;
        let header = json!({"service_method": "Test.number", "seq": seen[2].seq(), "error": null});
        peer.send(&[frame(header.to_string()), frame("")].concat()).await; // no value at all
        let last = calls.pop().unwrap();
        for call in calls {
            let failed = within("the reply", call).await;
            assert!(matches!(failed, Err(Error::Decode { codec: Codec::Json, .. })), "{failed:?}");
        }
        assert!(client.is_available());
        reply(&mut peer, &seen[3], json!(3)).await;
        assert_eq!(within("the reply of the right type", last).await.unwrap(), 3);
        check_it_works(&client, &mut peer).await;
    });
}

/// An argument that cannot be encoded, or that is too long for a frame, fails its own call with
/// `Error::Encode` or `Error::FrameTooLarge`, and not one byte of it is sent. One that just fits is sent.
///
/// A header without its body, or half a value, would break the stream for everybody else on it.
///
/// Hint: encode the body before you touch the connection.
#[test]
fn an_argument_that_cannot_be_sent_fails_that_call_only() {
    run(async || {
        let (client, mut peer) = pair().await;
        let no_json = BTreeMap::from([((1, 2), "JSON wants keys that are text")]);
        let failed = within("the failure", client.call::<_, u32>("Test.key", &no_json)).await;
        assert!(matches!(failed, Err(Error::Encode { codec: Codec::Json, .. })), "{failed:?}");
        assert_eq!(client.in_flight(), 0);

        // In JSON a text has two bytes more than its letters.
        let too_long = "x".repeat(DEFAULT_MAX_FRAME_LEN - 1);
        match within("the failure", client.call::<_, u32>("Test.long", &too_long)).await {
            Err(Error::FrameTooLarge { len, max }) => {
                assert_eq!((len, max), (DEFAULT_MAX_FRAME_LEN + 1, DEFAULT_MAX_FRAME_LEN));
            }
            other => panic!("expected Error::FrameTooLarge, got {other:?}"),
        }
        assert_eq!(client.in_flight(), 0);
        let failed = within("the failure", client.call::<_, u32>(&too_long, &1)).await;
        assert!(matches!(failed, Err(Error::FrameTooLarge { .. })), "{failed:?}");

        check_it_works(&client, &mut peer).await; // and is the first that the peer sees
        let both = async {
            tokio::join!(client.call::<_, usize>("Test.long", &too_long[1..]), async {
                let call = next_call(&mut peer).await;
                reply(&mut peer, &call, json!(call.body.len())).await;
            })
        };
        let (longest, ()) = within("the reply to the longest argument", both).await;
        assert_eq!(longest.unwrap(), DEFAULT_MAX_FRAME_LEN);
    });
}
