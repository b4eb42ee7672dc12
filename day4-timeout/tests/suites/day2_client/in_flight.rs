//! Calls in flight: a client, its calls, and who waits for which reply.
//!
//! In `src/client/mod.rs`: `start`, with `encode_call` in `src/wire/message.rs`. Then the table in
//! `src/client/in_flight.rs`: `insert` and `remove`, and the `drop` of a call. Then the task that moves the bytes, in
//! `src/client/connection.rs`: `run`, `write_requests` with `take_requests` of the table, and `read_replies` and
//! `take_replies` with its `complete`. What these three tests see is the table; the next stage tests what is sent.
//!
//! Works then: calls are in flight, each with a number and an owner, and leave the table exactly once.
//!
//! Chapter: The wire

use super::*;

/// An argument that cannot be encoded fails its call with `Error::Encode`, and the call is not in flight.
///
/// The caller encodes for itself. So a value of its own can break nothing but its own call.
///
/// Hint: encode before you touch the table.
#[test]
fn an_argument_that_cannot_be_encoded_never_is_in_flight() {
    run(async || {
        let (client, _peer) = pair().await;
        let no_json = BTreeMap::from([((1, 2), "JSON wants keys that are text")]);
        let failed = within("the failure", client.start::<_, u32>("Test.key", &no_json)).await;
        assert!(matches!(failed, Err(Error::Encode { codec: "application/json", .. })), "{failed:?}");
        assert_eq!(client.in_flight(), 0);
    });
}

/// A started call is in flight until its caller drops it, however the caller does that. Each has a number of its
/// own.
///
/// Callers go away all the time: a `select!`, a timeout, an aborted task, a panic. An entry that stays behind
/// is a leak, and at the limit of calls it stops the client for good.
///
/// Hint: what owns the entry removes it in `Drop`. That covers every way to leave, also those that you have not
/// thought of.
#[test]
fn a_started_call_is_in_flight_until_its_caller_drops_it() {
    run(async || {
        let (client, _peer) = pair().await;
        let first = begin(&client, 1).await;
        let second = begin(&client.clone(), 2).await;
        assert_eq!(client.in_flight(), 2, "clones share one table");
        let first_seq = first.seq();
        drop(first);
        assert_eq!(client.in_flight(), 1);

        let used_up = [first_seq, second.seq()];
        let panics = tokio::spawn(async move {
            let _call = second;
            panic!("this panic is part of the test");
        });
        assert!(within("the end of a caller's task", panics).await.unwrap_err().is_panic());
        assert_eq!(client.in_flight(), 0, "a caller that panics is out of the table, too");

        let third = begin(&client, 3).await;
        assert!(
            !used_up.contains(&third.seq()),
            "a reply to the first call may still come: its number is used up"
        );
    });
}
