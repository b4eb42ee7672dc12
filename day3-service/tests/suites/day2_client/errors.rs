//! Errors: what a caller learns of a lost connection.
//!
//! Complete `Dispatch::run` and `say_goodbye` in `src/client/connection.rs`, and `Pending::fail_all` in
//! `src/client/in_flight.rs`.
//!
//! Chapter: The wire > What a caller sees; The wire > A header with seq 0; The wire > After a header that does not

use super::*;

/// The server's error is an `Error::Remote` with its text, word for word; an empty text is an error too.
///
/// GeeRPC uses the text as a format string, so `100% full` arrives as something else.
///
/// Hint: an error is a header whose `error` is `Some`, whatever the text. Move the text, do not format it.
#[test]
fn the_servers_error_text_arrives_word_for_word() {
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
        for text in texts {
            let both = async {
                tokio::join!(client.call::<_, u32>("Test.fails", &1), async {
                    let call = next_call(&mut peer).await;
                    peer.send(&json_error("Test.fails", call.seq(), text)).await;
                })
            };
            match within("the error", both).await.0 {
                Err(error @ Error::Remote(_)) => assert_eq!(error.to_string(), text),
                other => panic!("expected Error::Remote, got {other:?}"),
            }
        }
        check_it_works(&client, &mut peer).await;

        // The same through our own server, in the other codec.
        let server = start(Server::new(arith())).await;
        let client = connect(&server, &Options::default().codecs([Codec::Bincode])).await;
        for text in texts {
            let fail = Fail { message: text.to_owned() };
            match within("the error", client.call::<_, u32>("Arith.fail", &fail)).await {
                Err(Error::Remote(error)) => assert_eq!(error, text),
                other => panic!("expected Error::Remote, got {other:?}"),
            }
        }
        assert_eq!(sum(&client, 1, 2).await, 3);
    });
}

/// However the connection ends, every call in flight fails with `Error::Disconnected`, `is_available` says
/// no, and new calls fail at once.
///
/// A caller whose entry is forgotten waits for ever; with the wrong type of error he cannot know that another
/// connection may help.
///
/// Hint: whatever ends the loop, the line after it fails everybody.
#[test]
fn a_lost_connection_fails_every_call() {
    run(async || {
        // In mid-frame, between header and body, and neither.
        let reply = json_message("Test.number", 1, json!(1));
        let header = reply.len() - frame("1").len();
        for sent in [0, 1, 20, header, reply.len() - 1] {
            let (client, mut peer) = pair().await;
            let (calls, _) = begin_many(&client, &mut peer, 3).await;
            peer.send(&reply[..sent]).await;
            drop(peer);
            let reason = expect_all_lost(&client, calls).await;
            assert!(!reason.starts_with("disconnected"), "said twice: {}", Error::Disconnected(reason));
        }

        // A reset, which is an error of the socket and not its end.
        let (client, mut peer) = tcp_pair().await;
        let (calls, _) = begin_many(&client, &mut peer, 3).await;
        peer.io.set_zero_linger().unwrap();
        drop(peer);
        expect_all_lost(&client, calls).await;

        // Nobody calls when it happens.
        let (client, peer) = pair().await;
        drop(peer);
        eventually("an idle client notices that the connection has ended", || !client.is_available()).await;
        disconnected(within("the failure of a new call", client.call::<_, u32>("Test.number", &1)).await);
    });
}

/// A server that breaks the rules costs the connection, and is told why, even if it is in the middle of a
/// long write.
///
/// Behind a header that makes no sense nobody knows where the next frame begins, and a length over the limit
/// must not be allocated. An end without a word would send the server's author on a long search.
///
/// Hint: a socket that is closed with unread bytes takes the last word back.
#[test]
fn a_server_that_breaks_the_rules_is_told_so() {
    run(async || {
        let too_long = (DEFAULT_MAX_FRAME_LEN as u32 + 1).to_be_bytes().to_vec();
        let headless = [frame(r#"{"service_method":"Test.number","seq":"one"}"#), frame("1")].concat();
        let without_reason = json_message("", 0, Value::Null);
        for broken in [too_long, headless, without_reason, frame(""), frame(b"\xff\xfe")] {
            let (client, mut peer) = tcp_pair().await;
            let (calls, _) = begin_many(&client, &mut peer, 2).await;
            // More than all buffers on the way hold: it is written only if the client reads it.
            peer.send(&[broken, vec![0; DEFAULT_MAX_FRAME_LEN]].concat()).await;
            let reason = expect_all_lost(&client, calls).await;
            assert_ne!(reason, "");
            assert_ne!(read_goodbye(&mut peer).await, "", "a last word should say why");
            expect_end(&mut peer).await;
        }
    });

    // The same, but the client is in the middle of a long write as well: nobody has read its call yet.
    run_paused(async || {
        let (io, other_end) = duplex(1 << 16);
        let (client, mut peer) = connected(io, other_end).await;
        let big = "x".repeat(1 << 20);
        let started = client.start::<_, u32>("Test.big", &big);
        let call = within("start, which does not wait for the write", started).await.unwrap();
        peer.read_frame().await; // the header
        peer.send(&[frame("no header"), vec![0; 1 << 20]].concat()).await;
        disconnected(within("the failure of the call in flight", call).await);
        assert_eq!(peer.read_frame().await.len(), big.len() + 2, "the rest of the call");
        assert_ne!(read_goodbye(&mut peer).await, "", "a last word should say why");
        expect_end(&mut peer).await;
    });
}

/// After the server's goodbye (number 0 and an error) the client takes no more calls, but those in flight still
/// get their replies. The rest fails when the stream ends, for the reason of the goodbye.
///
/// A server that shuts down, or that is full, finishes what it has begun. To throw its last replies away
/// would fail calls that have succeeded.
///
/// Hint: closing the table and failing its calls are two things.
#[test]
fn a_goodbye_lets_the_calls_in_flight_finish() {
    run(async || {
        let (client, mut peer) = pair().await;
        let (mut calls, seen) = begin_many(&client, &mut peer, 3).await;
        peer.send(&json_error("", 0, "going down for 5% more memory")).await;
        eventually("the goodbye is noticed", || !client.is_available()).await;
        let refused = within("the refusal of a new call", client.call::<_, u32>("Test.number", &1)).await;
        assert_eq!(disconnected(refused), "going down for 5% more memory");

        assert_eq!(client.in_flight(), 3);
        reply(&mut peer, &seen[2], json!(2)).await;
        assert_eq!(within("a reply after the goodbye", calls.pop().unwrap()).await.unwrap(), 2);
        reply(&mut peer, &seen[1], json!(1)).await; // right before the end
        drop(peer);
        assert_eq!(within("the last reply", calls.pop().unwrap()).await.unwrap(), 1);
        assert_eq!(expect_all_lost(&client, calls).await, "going down for 5% more memory");
    });
}
