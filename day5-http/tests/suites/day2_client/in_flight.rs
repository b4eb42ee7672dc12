//! Calls in flight: a client, its calls, and who waits for which reply.
//!
//! Write `Options` in `src/client/options.rs` and `Client::handshake` in `src/client/mod.rs`, then `Client::start`
//! with `encode_call` in `src/wire/message.rs`, then the table in `src/client/in_flight.rs`: `next_seq`, `insert`,
//! `len` and `remove`, and the `Drop` of `PendingCall`. The task that moves the bytes comes in the next stage: nothing
//! is sent here.
//!
//! Chapter: The wire

use super::*;

/// A client offers what its options say, and connecting leaves the options as they were.
///
/// GeeRPC's constructors write into the options of their caller, so that the second connection is offered
/// something else than the first.
///
/// Hint: `Options::hello` is what is sent, and `handshake` takes `&Options`.
#[test]
fn a_client_offers_its_options_and_leaves_them_as_they_were() {
    run(async || {
        let all = Options::default();
        let some = Options::default().codecs([Codec::Json, Codec::Bincode]).max_body_len(1000);
        let cases = [
            (all, ["application/bincode", "application/json"], DEFAULT_MAX_BODY_LEN),
            (some, ["application/json", "application/bincode"], 1000),
        ];
        for (options, codecs, max_body_len) in cases {
            let before = options.clone();
            for codec in Codec::ALL {
                let (io, other_end) = duplex(1 << 16);
                let mut peer = Peer { io: other_end };
                let both = async {
                    tokio::join!(Client::handshake(io, &options), peer.accept_handshake(codec.name()))
                };
                let (client, hello) = within("both sides of the handshake", both).await;
                assert_eq!(client.unwrap().codec(), codec, "the server may choose any codec of the list");
                assert_eq!(hello["magic_number"], 3_927_900, "for {options:?}");
                assert_eq!(hello["codecs"], json!(codecs), "for {options:?}");
                assert_eq!(hello["max_body_len"], json!(max_body_len), "for {options:?}");
                assert_eq!(options, before, "connecting has changed the options");
            }
        }
    });
}

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
