//! Calls: requests leave, and replies come back in any order.
//!
//! In `src/client/mod.rs`: `poll`, which is how a caller waits for its reply, and `with_metadata`.
//!
//! Works then: a whole call: the request leaves, and its reply finds the caller, in whatever order replies come.
//!
//! Chapter: The wire

use super::*;

/// A started call is sent at once, as a header frame and a body frame, and its reply can be awaited later.
///
/// A future does nothing before it is polled, and `start` promises otherwise: it is the asynchronous `Go` of the
/// seeds. A client and a server that make the same mistake agree with each other and with no other program.
///
/// Hint: `insert` wakes the task that writes. In bincode a text is its length and its bytes, a number below
/// 251 is one byte, and a signed one is doubled first.
#[test]
fn a_started_call_is_sent_at_once() {
    run(async || {
        let (client, mut peer) = pair().await;
        let call = within("start", client.start::<_, i32>("Arith.sum", &Sum { num1: 1, num2: 2 }));
        let call = call.await.unwrap();
        let mut seen = next_call(&mut peer).await;
        let metadata = seen.header["call"].as_object_mut().unwrap().remove("metadata");
        assert!(metadata.is_none_or(|metadata| metadata == json!({})), "the caller gave no metadata");
        assert_eq!(seen.header, json!({"call": {"service_method": "Arith.sum", "seq": call.seq()}}));
        assert_eq!(seen.value(), json!({"num1": 1, "num2": 2}));
        answer(&mut peer, &seen, json!(3)).await;
        assert_eq!(within("the reply", call).await.unwrap(), 3);

        let (io, other_end) = duplex(1 << 16);
        let mut peer = Peer { io: other_end };
        let offer = Options::default().codecs([Codec::Bincode]);
        let both = async {
            tokio::join!(Client::handshake(io, &offer), peer.accept_handshake(Codec::Bincode.name()))
        };
        let client = within("both sides of the handshake", both).await.0.unwrap();
        for (sum, body) in [(Sum { num1: 1, num2: 2 }, [2, 4]), (Sum { num1: -1, num2: 4 }, [1, 8])] {
            let call = within("start", client.start::<_, i32>("Arith.sum", &sum)).await.unwrap();
            let seq = u8::try_from(call.seq()).unwrap();
            let header = [b"\x00\x09Arith.sum".as_slice(), &[seq, 0]].concat();
            assert_eq!(peer.read_frame().await.escape_ascii().to_string(), header.escape_ascii().to_string());
            assert_eq!(peer.read_frame().await, body);
            peer.send(&[frame([1, seq, 0]), frame([6])].concat()).await;
            assert_eq!(within("the reply", call).await.unwrap(), 3);
        }
    });
}

/// Replies may come in any order, and each caller gets its own.
///
/// This is what the number in the header is for. A client that takes replies in the order of its calls passes
/// every test in which the server is polite.
///
/// Hint: `complete` finds the entry by the `seq` of the reply.
#[test]
fn replies_in_any_order_reach_their_callers() {
    run(async || {
        let (client, mut peer) = pair().await;
        let (calls, seen) = begin_many(&client, &mut peer, 50).await;
        assert_eq!(client.in_flight(), 50);
        let numbers: BTreeSet<u64> = seen.iter().map(|call| call.seq()).collect();
        assert_eq!(numbers.len(), 50, "each call has a number of its own");
        // 0, 7, 14, … then 1, 8, …: neither the order of the calls nor its reverse.
        for start in 0..7 {
            for call in seen.iter().skip(start).step_by(7) {
                let body = json!(call.value().as_u64().unwrap() * 1000);
                answer(&mut peer, call, body).await;
            }
        }
        for (argument, call) in (0..).zip(calls) {
            assert_eq!(within("the reply", call).await.unwrap(), argument * 1000);
        }
        assert_eq!(client.in_flight(), 0);
    });
}

/// The server's error reaches the caller as it was sent, text and code, and a refusal is told from it.
///
/// GeeRPC uses the text as a format string, so `100% full` arrives as something else. A refused call has not
/// run; one that failed has. A caller that cannot tell them apart must not try again.
///
/// Hint: an error is a header with `error`, whatever its text. Move the text, do not format it.
#[test]
fn the_servers_error_arrives_as_it_was_sent() {
    run(async || {
        let texts = [
            "100% full",
            "%s %d {} {0} {{",
            "\"quotes\" and \\ 'more'",
            "two\nlines\r\n\t",
            "é 世界 🦀\u{0}",
            "",
        ];
        let (client, mut peer) = pair().await;
        for (number, text) in (0..).zip(texts) {
            for is_refused in [false, true] {
                let started = begin(&client, number).await;
                let call = next_call(&mut peer).await;
                let send = if is_refused { reply_refused } else { reply_error };
                peer.send(&send(call.seq(), "of_next_year", text)).await;
                let error = match (within("the error", started).await, is_refused) {
                    (Err(Error::Refused(error)), true) | (Err(Error::Remote(error)), false) => error,
                    (other, _) => panic!("an error with refused: {is_refused} arrived as {other:?}"),
                };
                assert_eq!((error.message(), error.code()), (text, &Code::new("of_next_year")));
            }
        }
        check_it_works(&client, &mut peer).await;
    });
}

/// A reply that is not of the type asked for is an `Error::Decode` for its caller, and for no other.
///
/// In GeeRPC the receive loop decodes, so a wrong type ends the loop, and every other call with it.
///
/// Hint: the body is a frame of its own. The caller decodes it.
#[test]
fn a_reply_of_the_wrong_type_fails_its_call_only() {
    run(async || {
        let (client, mut peer) = pair().await;
        let (mut calls, seen) = begin_many(&client, &mut peer, 4).await;
        answer(&mut peer, &seen[0], json!("not a number")).await;
        answer(&mut peer, &seen[1], json!(-1)).await;
        let header = json!({"reply": {"seq": seen[2].seq(), "error": null}});
        peer.send(&[frame(header.to_string()), frame("")].concat()).await; // no value at all
        let last = calls.pop().unwrap();
        for call in calls {
            let failed = within("the reply", call).await;
            assert!(matches!(failed, Err(Error::Decode { codec: "application/json", .. })), "{failed:?}");
        }
        assert!(client.is_available());
        answer(&mut peer, &seen[3], json!(3)).await;
        assert_eq!(within("the reply of the right type", last).await.unwrap(), 3);
        check_it_works(&client, &mut peer).await;
    });
}

/// A reply that comes late, or twice, or to no call, is ignored.
///
/// Callers give up all the time, and their replies come all the same. If that were an error, each of them would
/// cost the connection, and every other caller its call. And it must not reach another call.
///
/// Hint: `complete` that finds no entry does nothing.
#[test]
fn a_reply_that_no_call_waits_for_is_ignored() {
    run(async || {
        let (client, mut peer) = pair().await;
        for seq in [12345, u64::MAX] {
            peer.send(&reply(seq, json!(666))).await;
            peer.send(&reply_error(seq, "internal", "to no call")).await;
        }
        check_it_works(&client, &mut peer).await;

        let given_up = begin(&client, 1).await;
        let late = next_call(&mut peer).await;
        drop(given_up);
        answer(&mut peer, &late, json!(666)).await;

        let (calls, seen) = begin_many(&client, &mut peer, 2).await;
        answer(&mut peer, &seen[0], json!(10)).await;
        answer(&mut peer, &seen[0], json!(666)).await;
        peer.send(&reply_error(seen[0].seq(), "internal", "no, an error")).await;
        answer(&mut peer, &late, json!(666)).await;
        answer(&mut peer, &seen[1], json!(20)).await;
        for (call, expected) in calls.into_iter().zip([10, 20]) {
            assert_eq!(within("the reply", call).await.unwrap(), expected);
        }
        check_it_works(&client, &mut peer).await;
    });
}

/// Replies that their callers do not collect stop no other call.
///
/// In GeeRPC the receive loop hands a reply over through a channel of the caller, and waits until it is taken: one
/// careless caller stops all.
///
/// Hint: a `oneshot` sender never waits.
#[test]
fn a_caller_that_does_not_collect_its_reply_stops_no_other() {
    run(async || {
        let (client, mut peer) = pair().await;
        let (calls, seen) = begin_many(&client, &mut peer, 500).await;
        for call in &seen {
            answer(&mut peer, call, call.value()).await;
        }
        for _ in 0..3 {
            check_it_works(&client, &mut peer).await;
        }
        assert_eq!(client.in_flight(), 0, "a call that has its reply is not in flight");
        for (argument, call) in (0..).zip(calls) {
            assert_eq!(within("a reply that was there long ago", call).await.unwrap(), argument);
        }
    });
}

/// The request of a caller that has gone is not written.
///
/// In an overload the requests of callers that gave up long ago would go first, and the server would work
/// for no one: after 12 seconds of it an earlier version needed 12 more to recover.
///
/// Hint: a request waits in its caller's entry. When the entry has gone, so has the request.
#[test]
fn the_request_of_a_caller_that_has_gone_is_not_written() {
    run(async || {
        let (client, mut peer) = narrow_pair().await;
        let first = begin_big(&client).await;
        peer.read_json().await; // its header has left, and its body fills the stream
        let mut calls = Vec::new();
        for number in 0..10 {
            calls.push(begin(&client, number).await);
        }
        for gone in [8, 5, 2, 0] {
            drop(calls.remove(gone));
        }
        assert_eq!(client.in_flight(), 7);

        let body = peer.read_frame().await;
        assert_eq!(body.len(), 100_002, "the body of the first call");
        for (call, number) in calls.into_iter().zip([1, 3, 4, 6, 7, 9]) {
            let seen = next_call(&mut peer).await;
            assert_eq!(seen.value(), number, "the calls that have a caller, in their order");
            answer(&mut peer, &seen, json!(number)).await;
            assert_eq!(within("the reply", call).await.unwrap(), number);
        }
        drop(first);
        check_it_works(&client, &mut peer).await; // and nothing came before it
    });
}

/// Metadata goes with the calls of the handle that has it. Other handles of the connection are unchanged.
///
/// A token belongs to one caller, and the connection is shared. A handle that changed all others would hand the
/// token of one user to the calls of the next.
///
/// Hint: `Arc::make_mut` copies the map when another handle has it, too.
#[test]
fn metadata_goes_with_the_calls_of_its_handle() {
    run(async || {
        let (client, mut peer) = pair().await;
        let token = client.with_metadata("token", "100% é\n");
        let both = token.with_metadata("trace", "7");
        let other = token.with_metadata("token", "another");
        let whole = both.with_metadata_map(Metadata::from([("user".to_owned(), "ada".to_owned())]));
        let cases = [
            (&client, json!({})),
            (&token, json!({"token": "100% é\n"})),
            (&both, json!({"token": "100% é\n", "trace": "7"})),
            (&other, json!({"token": "another"})),
            (&whole, json!({"user": "ada"})),
            (&token.clone(), json!({"token": "100% é\n"})),
            (&client, json!({})),
        ];
        for (handle, expected) in cases {
            let _call = begin(handle, 1).await;
            let call = next_call(&mut peer).await;
            let metadata = call.fields("call").get("metadata").cloned();
            assert_eq!(metadata.unwrap_or(json!({})), expected);
        }
        drop(client);
        check_it_works(&both, &mut peer).await; // it is the same connection
    });
}
