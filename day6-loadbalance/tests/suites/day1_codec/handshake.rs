//! The handshake: both sides agree on a codec, and say how much they take.
//!
//! In `src/wire/handshake.rs`: `accept` with `read_hello`, and what a stranger reads, `not_this_protocol`. No server is needed yet: these tests call it on a stream in memory.
//!
//! Works then: a client and the server agree on a codec, and know how much the other takes.
//!
//! Chapter: The wire > Handshake

use super::*;

/// What `accept` returned, and the peer on the other side of its stream.
struct Accepted {
    result: Result<(Codec, ClientHello), Error>,
    peer: Peer<tokio::io::DuplexStream>,
}

/// Sends `bytes` to a server with these limits, and lets it accept.
async fn accept_with(limits: &Limits, bytes: &[u8]) -> Accepted {
    let (client, io) = duplex(64 * 1024);
    let mut peer = Peer { io: client };
    peer.send(bytes).await;
    let (read, write) = tokio::io::split(io);
    let (mut reader, mut writer) = (FrameReader::new(read), FrameWriter::new(write));
    let result = within("the end of the handshake", accept(&mut reader, &mut writer, limits)).await;
    Accepted { result, peer }
}

fn only_json() -> Limits {
    let mut limits = Limits::default();
    limits.codecs = vec![Codec::Json];
    limits
}

/// The hellos, byte for byte; and what the client leaves out has its default.
///
/// A server says how long a body it takes, and how many calls at once, so that a client can keep to it. A client
/// that does not say how long a body it takes is one that takes 8 MiB.
///
/// Hint: serde writes the fields in the order in which they are declared. `#[serde(default = "…")]` names the
/// function that makes a missing one.
#[test]
fn the_hellos_byte_for_byte_and_their_defaults() {
    run(async || {
        assert_eq!((DEFAULT_MAX_BODY_LEN, DEFAULT_MAX_IN_FLIGHT), (8 * 1024 * 1024, 1024));
        let hello = b"\0\0\0\x36{\"magic_number\":3927900,\"codecs\":[\"application/json\"]}";
        let mut accepted = accept_with(&Limits::default(), hello).await;
        let answer =
            b"\0\0\0\x48{\"codec\":\"application/json\",\"max_body_len\":8388608,\"max_in_flight\":1024}";
        expect_bytes(&mut accepted.peer.io, answer).await;
        let (codec, hello) = accepted.result.unwrap();
        assert_eq!((codec, hello.max_body_len), (Codec::Json, 8 * 1024 * 1024));

        let mut limits = only_json();
        (limits.max_body_len, limits.max_in_flight) = (1000, 2);
        let hello = client_hello_with(&["application/json"], json!({"max_body_len": 7}));
        let mut accepted = accept_with(&limits, &hello).await;
        let answer = json!({"codec": "application/json", "max_body_len": 1000, "max_in_flight": 2});
        assert_eq!(accepted.peer.read_json().await, answer);
        assert_eq!(accepted.result.unwrap().1.max_body_len, 7);
    });
}

/// The first codec of the client's list that the server speaks wins. Names and fields that the server does
/// not know are ignored, and the server's own list can be shortened.
///
/// That is what lets old and new peers talk: a client of next year may offer a codec of next year first.
///
/// Hint: the client's order counts, not the server's. And do not deny unknown fields.
#[test]
fn the_first_codec_in_common_wins_and_the_unknown_is_ignored() {
    run(async || {
        let (bincode, json) = ("application/bincode", "application/json");
        let cases = [
            (Limits::default(), vec![bincode, json], Codec::Bincode),
            (Limits::default(), vec![json, bincode], Codec::Json),
            (Limits::default(), vec!["application/gob", "", json, bincode], Codec::Json),
            (only_json(), vec![bincode, json], Codec::Json),
        ];
        for (limits, codecs, chosen) in cases {
            let hello = client_hello_with(&codecs, json!({"of_next_year": {"compression": ["zstd"]}}));
            let mut accepted = accept_with(&limits, &hello).await;
            assert_eq!(accepted.peer.read_json().await["codec"], chosen.name(), "for {codecs:?}");
            assert_eq!(accepted.result.unwrap().0, chosen, "for {codecs:?}");
        }
    });
}

/// A client that cannot be served reads why: another magic number, no codec in common, no JSON, a browser, a
/// TLS client. For the server it is `Error::Handshake`.
///
/// "Connection closed" is the least helpful error there is. An HTTP request and a TLS hello look like frames
/// of 300 megabytes and more; they are refused by their length, and get an answer all the same.
///
/// Hint: the answer must fit a handshake frame whatever the peer sent, so do not repeat all of it.
#[test]
fn a_client_that_cannot_be_served_reads_why() {
    run(async || {
        let magic = json!({"magic_number": 42, "codecs": ["application/json"]}).to_string();
        let http = b"GET / HTTP/1.1\r\nHost: example.org\r\nUser-Agent: curl/8\r\nAccept: */*\r\n\r\n";
        let tls_hello = [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(), &[0xa5; 506]].concat();
        let cases = [
            ("another magic number", frame(magic)),
            ("an unknown codec", client_hello(&["application/gob"])),
            ("a codec that this server does not speak", client_hello(&["application/bincode"])),
            ("no codec", client_hello(&[])),
            ("no JSON", frame("hello")),
            ("an empty frame", frame("")),
            ("no codecs", frame(r#"{"magic_number":3927900}"#)),
            ("a negative limit", client_hello_with(&["application/json"], json!({"max_body_len": -1}))),
            ("a long text", frame(json!("x".repeat(4090)).to_string())),
            ("a long text that grows in JSON", frame(json!("\u{1}".repeat(680)).to_string())),
            ("a frame over the limit of 4 KiB", frame("x".repeat(4097))),
            ("an HTTP request", http.to_vec()),
            ("a TLS hello", tls_hello),
        ];
        for (case, hello) in cases {
            let mut accepted = accept_with(&only_json(), &hello).await;
            let frame = accepted.peer.read_frame().await;
            assert!(frame.len() <= 4096, "{case}: an answer of {} bytes is over the limit", frame.len());
            let answer: Value = serde_json::from_slice(&frame).unwrap();
            let error = answer["error"].as_str().unwrap_or_default();
            assert!(!error.is_empty() && answer["codec"].is_null(), "{case}: the answer is {answer}");
            assert!(matches!(accepted.result, Err(Error::Handshake(_))), "{case}: {:?}", accepted.result);
        }
    });
}

/// What stands behind the hello in the same read is still there after the handshake.
///
/// In GeeRPC a JSON decoder with a buffer of its own reads the handshake, and then the buffer is thrown away
/// with the first request in it. Of 40 first calls that were sent at once, 23 were lost.
///
/// Hint: one reader, with one buffer, for the whole connection.
#[test]
fn a_call_in_one_write_with_the_hello_is_not_lost() {
    run(async || {
        let first = call("Arith.sum", 1, json!({"num1": 1, "num2": 2}));
        let wire = [client_hello(&["application/json"]), first].concat();
        let mut reader = FrameReader::new(Pieces::new([wire]));
        let mut writer = FrameWriter::new(Vec::new());
        let (codec, _) = within("the handshake", accept(&mut reader, &mut writer, &Limits::default()))
            .await
            .expect("this hello is good");
        let message = within("the first call", MessageReader::new(reader, codec).read(1000)).await.unwrap();
        let body = r#"{"num1":1,"num2":2}"#;
        match message {
            Some(Message::Call { seq: 1, body: read, .. }) => assert_eq!(read, body),
            other => panic!("the first call was lost: {other:?}"),
        }
    });
}
