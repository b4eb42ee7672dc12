//! Connecting, and the first call.
//!
//! Write `connect`, `new`, `start` and `call` in `src/client/mod.rs`, and in `src/client/connection.rs` the
//! task that owns the stream: `Dispatch::run`, `read_replies` and `write_requests`. This is the largest
//! stage.
//!
//! Chapter: Files of today > src/client/mod.rs; The wire > It sends nothing before it has the server's answer

use super::*;

/// `connect` and `call` work over a real socket, against our own server, in every codec.
///
/// The other tests play the server by hand, this one joins the two halves of the course.
///
/// Hint: `connect` opens a socket and leaves the rest to `Client::new`, which takes any stream.
#[test]
fn a_call_over_a_real_socket_works_in_every_codec() {
    run(async || {
        let server = start(Server::new(arith())).await;
        for codec in Codec::ALL {
            let client = connect(&server, &Options::default().codecs([codec])).await;
            assert_eq!(client.codec(), codec);
            assert!(client.is_available());
            for num1 in [1, -7, i32::MAX - 2] {
                assert_eq!(sum(&client, num1, 2).await, num1 + 2);
            }
            assert_eq!(client.in_flight(), 0);
        }
    });
}

/// The client sends its options, then for each call a header frame and a body frame, exactly these bytes.
///
/// A client and a server that make the same mistake agree with each other, and with nobody else.
///
/// Hint: the bytes are written out in the chapter of day 1.
#[test]
fn the_client_sends_these_bytes() {
    // JSON: two calls. A length is four bytes, the highest first: 0x33 is 51, 0x13 is 19.
    const JSON: [&[u8]; 8] = [
        b"\x00\x00\x00\x33",
        br#"{"service_method":"Arith.sum","seq":1,"error":null}"#,
        b"\x00\x00\x00\x13",
        br#"{"num1":1,"num2":2}"#,
        b"\x00\x00\x00\x33",
        br#"{"service_method":"Arith.sum","seq":2,"error":null}"#,
        b"\x00\x00\x00\x13",
        br#"{"num1":3,"num2":4}"#,
    ];
    // Bincode: a text is its length and its bytes, a small number is one byte, no error is 0. The body's
    // numbers are signed, and so doubled: 2 is 1, and 4 is 2.
    const BINCODE: [&[u8]; 10] = [
        b"\x00\x00\x00\x0c",
        b"\x09Arith.sum",
        b"\x01\x00",
        b"\x00\x00\x00\x02",
        b"\x02\x04",
        b"\x00\x00\x00\x0c",
        b"\x09Arith.sum",
        b"\x02\x00",
        b"\x00\x00\x00\x02",
        b"\x06\x08",
    ];
    // The replies to the calls are 3 and 7.
    const BINCODE_REPLIES: [&[u8]; 2] = [
        b"\x00\x00\x00\x0c\x09Arith.sum\x01\x00\x00\x00\x00\x01\x06",
        b"\x00\x00\x00\x0c\x09Arith.sum\x02\x00\x00\x00\x00\x01\x0e",
    ];
    run(async || {
        let json_replies = [1, 2].map(|seq| json_message("Arith.sum", seq, json!(seq * 4 - 1)));
        let bincode_replies = BINCODE_REPLIES.map(<[u8]>::to_vec);
        let cases =
            [(Codec::Json, JSON.concat(), json_replies), (Codec::Bincode, BINCODE.concat(), bincode_replies)];
        for (codec, expected, replies) in cases {
            let (io, other_end) = duplex(1 << 16);
            let mut peer = Peer { io: other_end };
            let offer = Options::default().codecs([codec]);
            let both = async { tokio::join!(Client::new(io, &offer), peer.accept_handshake(codec.name())) };
            let (client, options) = within("both sides of the handshake", both).await;
            let client = client.unwrap();
            assert_eq!(options["magic_number"], 3_927_900);
            assert_eq!(options["codecs"], json!([codec.name()]));

            let mut calls = Vec::new();
            for sum in [Sum { num1: 1, num2: 2 }, Sum { num1: 3, num2: 4 }] {
                let started = client.start::<_, i32>("Arith.sum", &sum);
                calls.push(within("start, which waits for no reply", started).await.unwrap());
            }
            let mut bytes = vec![0; expected.len()];
            within("as many bytes as expected", peer.io.read_exact(&mut bytes)).await.unwrap();
            assert_eq!(bytes.escape_ascii().to_string(), expected.escape_ascii().to_string());

            peer.send(&replies.concat()).await;
            for (call, expected) in calls.into_iter().zip([3, 7]) {
                assert_eq!(within("the reply", call).await.unwrap(), expected);
            }
        }
    });
}

/// Nothing that follows the handshake's answer is lost, however the bytes are cut.
///
/// GeeRPC's decoder reads ahead and throws away what it has read. A stream has no borders but those that
/// frames give it.
///
/// Hint: keep one reader from the first byte to the last.
#[test]
fn bytes_right_behind_the_handshake_are_not_lost() {
    run(async || {
        let answer = frame(r#"{"codec":"application/json"}"#);
        let goodbye = json_error("", 0, "full");
        // The answer with a part of the first message, then the rest of it.
        for cut in 0..=goodbye.len() {
            let (io, other_end) = duplex(1 << 16);
            let mut peer = Peer { io: other_end };
            peer.send(&[&answer[..], &goodbye[..cut]].concat()).await;
            let client = within("the handshake", Client::new(io, &json_only())).await.unwrap();
            peer.send(&goodbye[cut..]).await;
            eventually("the first message after the handshake is noticed", || !client.is_available()).await;
            let refused = within("the refusal of a call", client.call::<_, u32>("Test.number", &1)).await;
            assert_eq!(disconnected(refused), "full");
        }

        // Everything one byte at a time, in both directions.
        let (io, other_end) = duplex(1);
        let (client, mut peer) = connected(OneByte(io), other_end).await;
        check_it_works(&client, &mut peer).await;
        check_it_works(&client, &mut peer).await;
    });
}

/// Whatever is wrong with the server's answer is an `Error::Handshake` at `connect`, a refusal in the
/// server's own words; and the client hangs up.
///
/// GeeRPC has no answer, so dialing a server that refuses "succeeds", and the first call fails for a reason
/// that nobody can see.
///
/// Hint: check that the codec is one that you offered.
#[test]
fn a_refused_handshake_is_an_error_at_connect() {
    run(async || {
        let refusal = "no codec in common: \"100% full\"\n";
        let answers = [
            (frame(json!({"error": refusal}).to_string()), Some(refusal)),
            (frame(r#"{"codec":"application/bincode"}"#), None), // exists, but was not offered
            (frame(r#"{"codec":"application/gob"}"#), None),
            (frame("{}"), None),
            (frame("not JSON"), None),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), None),
            (Vec::new(), None), // the server closes without an answer
        ];
        for (answer, reason) in answers {
            let (io, other_end) = duplex(1 << 16);
            let mut peer = Peer { io: other_end };
            peer.send(&answer).await;
            within("the end of the peer's half", peer.io.shutdown()).await.unwrap();
            let case = answer.escape_ascii().to_string();
            match within("the end of the handshake", Client::new(io, &json_only())).await {
                Err(Error::Handshake(text)) if reason.is_none_or(|reason| text == reason) => {}
                other => panic!("expected Error::Handshake for the answer {case:?}, got {other:?}"),
            }
            peer.read_json().await;
            peer.expect_end().await;
        }

        // The same with our own server, which says what it speaks.
        let server = start(Server::new(arith()).codecs([Codec::Bincode])).await;
        match within("the end of the handshake", Client::connect(server.addr, &json_only())).await {
            Err(Error::Handshake(text)) => assert!(text.contains("application/bincode"), "{text:?}"),
            other => panic!("expected Error::Handshake, got {other:?}"),
        }
    });
}

/// Connecting twice with the same options sends the same options twice, and changes nothing in them.
///
/// GeeRPC's constructors write into the caller's options.
///
/// Hint: `&Options`, and no interior mutability.
#[test]
fn connecting_leaves_the_options_as_they_were() {
    run(async || {
        let options = Options::default();
        let before = options.clone();
        let mut sent = Vec::new();
        for codec in Codec::ALL {
            let (io, other_end) = duplex(1 << 16);
            let mut peer = Peer { io: other_end };
            let both = async { tokio::join!(Client::new(io, &options), peer.accept_handshake(codec.name())) };
            let (client, received) = within("both sides of the handshake", both).await;
            assert_eq!(client.unwrap().codec(), codec, "the server may choose any codec of the list");
            sent.push(received);
        }
        assert_eq!(options, before, "connecting has changed the options");
        assert_eq!(sent[1], sent[0], "the second connection was offered other options than the first");
        assert_eq!(sent[0]["codecs"], json!(["application/bincode", "application/json"]));
    });
}

/// No server at all is an `Error::Io` with the reason of the operating system.
///
/// "nobody listens there" and "he refuses to talk to me" ask for different actions, so a caller must be able
/// to match on them.
///
/// Hint: `Error` has a `From<std::io::Error>`; so `?` will do.
#[test]
fn a_closed_port_is_an_io_error() {
    run(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        drop(listener);
        match within("the end of connect", Client::connect(addr, &Options::default())).await {
            Err(Error::Io(error)) => assert_eq!(error.kind(), ErrorKind::ConnectionRefused),
            other => panic!("expected Error::Io, got {other:?}"),
        }
    });
}
