//! The client's half of the handshake, and what a caller must know about an error.
//!
//! In `src/wire/frame.rs` change `fill`; then `offer` in `src/wire/handshake.rs`. A client begins with it: `handshake`
//! in `src/client/mod.rs`, and of its table in `src/client/in_flight.rs` the beginning and the end, `new`, `close` and
//! `fail_all`.
//!
//! Works then: a client connects, and knows the codec and the limits of its server.
//!
//! Chapter: The wire

use super::*;

/// Sends the hello of a client that speaks JSON to a server whose answer is these bytes, and then the end.
async fn answered_with(answer: &[u8]) -> Result<(Codec, Limits), Error> {
    let (io, other_end) = duplex(1 << 16);
    let mut peer = Peer { io: other_end };
    peer.send(answer).await;
    peer.end().await;
    let (read, write) = tokio::io::split(io);
    let hello = ClientHello::new([Codec::Json]);
    let (mut reader, mut writer) = (FrameReader::new(read), FrameWriter::new(write));
    within("the end of the handshake", offer(&mut reader, &mut writer, &hello)).await
}

/// After each kind of error a caller can tell whether the call may have run.
///
/// It decides whether the call may be sent again, to another server. A call that runs twice is worse than one
/// that fails. So the question is answered by the type, and never by the text.
///
/// Hint: only what comes back from a server, or is lost behind a request that was sent, may have run.
#[test]
fn each_error_says_whether_the_call_may_have_run() {
    let text = || "100% full".to_owned();
    let cases = [
        (Error::Io(std::io::ErrorKind::ConnectionRefused.into()), false),
        (Error::Handshake(text()), false),
        (Error::Protocol(text()), false),
        (Error::FrameTooLarge { len: 2, max: 1 }, false),
        (Error::Encode { codec: "application/json", source: text().into() }, false),
        (Error::NotSent(text()), false),
        (Error::Refused(remote_error(true)), false),
        (Error::Remote(remote_error(false)), true),
        (Error::Disconnected(text()), true),
        (Error::Decode { codec: "application/json", source: text().into() }, true),
    ];
    for (error, may_have_run) in cases {
        assert_eq!(error.may_have_run(), may_have_run, "{error:?}");
    }
    for is_refused in [true, false] {
        match (Error::from(remote_error(is_refused)), is_refused) {
            (Error::Refused(error), true) | (Error::Remote(error), false) => {
                assert_eq!((error.code(), error.message()), (&Code::UNAVAILABLE, "100% full"));
            }
            (other, _) => panic!("a reply with the mark {is_refused} became {other:?}"),
        }
    }
    run(async || {
        let refused = answered_with(&server_refusal("100% full")).await.unwrap_err();
        assert!(!refused.may_have_run(), "{refused:?}, and no call can have been sent");
    });
}

/// The client sends its hello, and learns the codec and what the server takes. What the answer does not
/// say has its default, and what the client does not know is ignored.
///
/// The numbers are what lets the client fail one call by itself, instead of breaking the connection.
///
/// Hint: queue, flush, read one frame. `ServerHello` knows the defaults.
#[test]
fn the_client_learns_what_the_server_takes() {
    run(async || {
        let answers = [
            (json!({"codec": "application/json"}), DEFAULT_MAX_BODY_LEN, DEFAULT_MAX_IN_FLIGHT),
            (json!({"codec": "application/json", "max_body_len": 7}), 7, DEFAULT_MAX_IN_FLIGHT),
            (json!({"max_in_flight": 3, "new": [1], "max_body_len": 7, "codec": "application/json"}), 7, 3),
        ];
        for (answer, max_body_len, max_in_flight) in answers {
            let (codec, limits) = answered_with(&frame(answer.to_string())).await.unwrap();
            assert_eq!(codec, Codec::Json, "after {answer}");
            let learnt = (limits.max_body_len, limits.max_in_flight);
            assert_eq!(learnt, (max_body_len, max_in_flight), "after {answer}");
        }

        let (io, other_end) = duplex(1 << 16);
        let mut peer = Peer { io: other_end };
        let (read, write) = tokio::io::split(io);
        let (mut reader, mut writer) = (FrameReader::new(read), FrameWriter::new(write));
        let mut hello = ClientHello::new([Codec::Bincode]);
        assert_eq!(hello.max_body_len, DEFAULT_MAX_BODY_LEN, "the default");
        hello.codecs.insert(0, "application/of_next_year".to_owned());
        hello.max_body_len = 4711;
        let both = async {
            tokio::join!(
                offer(&mut reader, &mut writer, &hello),
                peer.accept_handshake("application/bincode")
            )
        };
        let (offered, sent) = within("both sides of the handshake", both).await;
        assert_eq!(offered.unwrap().0, Codec::Bincode);
        assert_eq!(sent["magic_number"], 3_927_900);
        assert_eq!(sent["codecs"], json!(["application/of_next_year", "application/bincode"]));
        assert_eq!(sent["max_body_len"], 4711);
    });
}

/// Whatever is wrong with the server's answer is an `Error::Handshake`; a refusal is one in the server's words.
///
/// In GeeRPC, which has no answer, dialing a server that refuses the codec succeeds, and the first call fails
/// without a reason. A server that chooses a codec that was not offered is no better.
///
/// Hint: a frame that is too long, or is not a hello, comes from another protocol: `not_this_protocol`.
#[test]
fn a_refusal_or_a_wrong_answer_is_a_handshake_error() {
    run(async || {
        let refusal = "no codec in common: \"100% full\"\n";
        match answered_with(&server_refusal(refusal)).await {
            Err(Error::Handshake(reason)) => assert_eq!(reason, refusal, "the server's words"),
            other => panic!("expected Error::Handshake, got {other:?}"),
        }
        let answers = [
            ("a codec that was not offered", server_hello("application/bincode")),
            ("a codec that does not exist", server_hello("application/gob")),
            ("neither a codec nor an error", frame("{}")),
            ("no object", frame("[]")),
            ("no JSON", frame("hello")),
            ("an empty frame", frame("")),
            ("an answer of 5000 bytes", frame(vec![b' '; 5000])),
            ("another protocol", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
            ("no answer", Vec::new()),
        ];
        for (case, answer) in answers {
            let result = answered_with(&answer).await;
            assert!(matches!(result, Err(Error::Handshake(_))), "{case}: {result:?}");
        }
    });
}

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
