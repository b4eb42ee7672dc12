//! Messages: a header, and in some of them a body.
//!
//! In `src/wire/message.rs`: `body` and `queue`, which write a message; then `read`, which stands on the reader of
//! frames.
//!
//! Works then: calls, replies and goaways go over a stream in either codec.
//!
//! Chapter: The wire > Messages

use super::*;

fn sum(seq: u64, body: &'static [u8]) -> Message {
    Message::Call {
        service_method: "Arith.sum".to_owned(),
        seq,
        metadata: Metadata::new(),
        body: Bytes::from_static(body),
    }
}

/// Each kind of message, byte for byte, in both codecs.
///
/// A call and a good reply have a body, in a frame of its own. An error and a goaway are a header alone. In
/// bincode the kind is a number, and so are the lengths; a number below 251 is one byte, a larger one `fb` and
/// two bytes, the lowest first; `None` is `00`, and `Some` is `01` and the value.
///
/// Hint: the message is its own header: `codec.encode(self)`. Serde leaves the body out.
#[test]
fn each_message_byte_for_byte() {
    run(async || {
        let failed = RemoteError::new(Code::NOT_FOUND, "100% full");
        let metadata = Metadata::from([("token".to_owned(), "t".to_owned())]);
        let with_metadata =
            Message::Call { service_method: "A.b".to_owned(), seq: 2, metadata, body: Bytes::new() };
        let cases: [(Message, &[u8], &[u8]); 5] = [
            (
                sum(1, b"3"),
                b"\0\0\0\x3d{\"call\":{\"service_method\":\"Arith.sum\",\"seq\":1,\"metadata\":{}}}\0\0\0\x013",
                b"\0\0\0\x0d\x00\x09Arith.sum\x01\x00\0\0\0\x013",
            ),
            (
                with_metadata,
                b"\0\0\0\x42{\"call\":{\"service_method\":\"A.b\",\"seq\":2,\"metadata\":{\"token\":\"t\"}}}\0\0\0\0",
                b"\0\0\0\x0f\x00\x03A.b\x02\x01\x05token\x01t\0\0\0\0",
            ),
            (
                Message::Reply { seq: 300, result: Ok("3".into()) },
                b"\0\0\0\x22{\"reply\":{\"seq\":300,\"error\":null}}\0\0\0\x013",
                b"\0\0\0\x05\x01\xfb\x2c\x01\x00\0\0\0\x013",
            ),
            (
                Message::Reply { seq: 1, result: Err(failed) },
                b"\0\0\0\x56{\"reply\":{\"seq\":1,\"error\":{\"code\":\"not_found\",\"message\":\"100% full\",\"refused\":false}}}",
                b"\0\0\0\x18\x01\x01\x01\x09not_found\x09100% full\x00",
            ),
            (
                Message::Goaway { reason: "bye".to_owned() },
                b"\0\0\0\x1b{\"goaway\":{\"reason\":\"bye\"}}",
                b"\0\0\0\x05\x02\x03bye",
            ),
        ];
        for (message, json, bincode) in cases {
            for (codec, wire) in [(Codec::Json, json), (Codec::Bincode, bincode)] {
                let mut out = Vec::new();
                let mut frames = FrameWriter::new(&mut out);
                message.queue(&mut frames, codec, 1000).unwrap();
                within("the flush", frames.flush()).await.unwrap();
                drop(frames);
                let (out, wire) = (out.escape_ascii().to_string(), wire.escape_ascii().to_string());
                assert_eq!(out, wire, "{message:?} in {codec}");
            }
        }
    });
}

/// Messages are read from the bytes of other programs: in any order of fields, with fields that are not there,
/// and with fields of next year.
///
/// Metadata may be missing, and so may `error`: then there is none, and a body follows. That is what lets old
/// and new peers talk.
///
/// Hint: serde does this, if it is told the defaults.
#[test]
fn a_header_may_lack_optional_fields_and_have_unknown_ones() {
    run(async || {
        let error = RemoteError::new(Code::new("of_next_year"), "no");
        let cases = [
            (r#"{"call":{"seq":1,"service_method":"Arith.sum"}}"#, Some("3"), sum(1, b"3")),
            (
                r#"{"call":{"trace":[1],"metadata":{},"seq":1,"service_method":"Arith.sum","body":"x"}}"#,
                Some("3"),
                sum(1, b"3"),
            ),
            (r#"{"reply":{"seq":7}}"#, Some("3"), Message::Reply { seq: 7, result: Ok("3".into()) }),
            (
                r#"{"reply":{"error":{"message":"no","new":{},"code":"of_next_year"},"took":3,"seq":7}}"#,
                None,
                Message::Reply { seq: 7, result: Err(error) },
            ),
            (r#"{"goaway":{"reason":"x","n":1}}"#, None, Message::Goaway { reason: "x".to_owned() }),
        ];
        for (header, body, message) in cases {
            let wire: Vec<u8> = [Some(header), body].into_iter().flatten().flat_map(frame).collect();
            let mut reader = MessageReader::new(FrameReader::new(Pieces::new([wire])), Codec::Json);
            let read = within("a message", reader.read(1000)).await.unwrap();
            assert_eq!(read.as_ref(), Some(&message), "from {header}");
            assert_eq!(within("the end of the stream", reader.read(1000)).await.unwrap(), None, "{header}");
        }
    });
}

/// A message that is too long leaves nothing on the wire, not even its header. The next one is sent.
///
/// GeeRPC writes the header and then encodes the body. When that fails, a header without a body is on the
/// wire, and the next message is read as the body. A header has its own limit of 16 KiB; `max_body_len` is for
/// the body alone, so that an error always fits.
///
/// Hint: check everything that can fail before the first frame is queued.
#[test]
fn a_message_that_is_too_long_queues_nothing() {
    run(async || {
        let mut frames = FrameWriter::new(tokio::io::sink());
        let long_body = Message::Reply { seq: 1, result: Ok(vec![b' '; 11].into()) };
        assert!(is_too_large(long_body.queue(&mut frames, Codec::Json, 10), 11, 10));
        let long_header = Message::Call {
            service_method: "x".repeat(MAX_HEADER_LEN),
            seq: 1,
            metadata: Metadata::new(),
            body: Bytes::new(),
        };
        let queued = long_header.queue(&mut frames, Codec::Json, 10);
        assert!(matches!(queued, Err(Error::FrameTooLarge { max: MAX_HEADER_LEN, .. })), "{queued:?}");
        assert_eq!((frames.queued(), frames.needs_flush()), (0, false), "nothing of them may be queued");

        Message::Reply { seq: 1, result: Ok(vec![b' '; 10].into()) }
            .queue(&mut frames, Codec::Json, 10)
            .expect("a body of exactly the limit");
        Message::Reply { seq: 2, result: Err(RemoteError::new(Code::INTERNAL, "no")) }
            .queue(&mut frames, Codec::Json, 0)
            .expect("an error is a header alone, whatever the limit of a body is");
    });
}

/// A header that does not decode is an error of the protocol, and so is the end of the stream between a header
/// and its body.
///
/// Behind such a header it is not known where the next message begins: is the frame that follows its body? And
/// half a message is lost, although the reader of frames saw only whole ones.
///
/// Hint: `Error::Protocol`. Whether a header waits for its body tells the two ends of a stream apart.
#[test]
fn a_broken_message_is_an_error() {
    run(async || {
        let cases = [
            ("no JSON", Codec::Json, frame("no header")),
            ("no object", Codec::Json, frame("[1]")),
            ("an unknown kind", Codec::Json, frame(r#"{"of_next_year":{"seq":1}}"#)),
            ("two kinds", Codec::Json, frame(r#"{"reply":{"seq":1},"goaway":{"reason":"x"}}"#)),
            ("a call without a seq", Codec::Json, frame(r#"{"call":{"service_method":"Arith.sum"}}"#)),
            ("a negative seq", Codec::Json, frame(r#"{"call":{"service_method":"Arith.sum","seq":-1}}"#)),
            ("an unknown kind", Codec::Bincode, frame([200, 1])),
            ("bytes behind the header", Codec::Bincode, frame(b"\x02\x03bye\x00")),
            ("an empty frame", Codec::Bincode, frame("")),
        ];
        for (case, codec, wire) in cases {
            let wire = [wire, frame("1")].concat();
            let mut reader = MessageReader::new(FrameReader::new(Pieces::new([wire])), codec);
            let read = within("a refusal", reader.read(1000)).await;
            assert!(matches!(read, Err(Error::Protocol(_))), "{case} in {codec}: {read:?}");
        }

        let header = frame(r#"{"call":{"service_method":"Arith.sum","seq":1}}"#);
        let mut reader = MessageReader::new(FrameReader::new(Pieces::new([header])), Codec::Json);
        let read = within("the end of the stream", reader.read(1000)).await;
        assert!(matches!(read, Err(Error::Protocol(_) | Error::Io(_))), "{read:?}");
    });
}
