//! Messages: a header and a body.
//!
//! Write `MessageReader` and `MessageWriter` in `src/wire/message.rs`. Both stand on frames and codecs.
//!
//! Chapter: The wire > Messages; Files of today > src/wire/message.rs

use super::*;

/// A message is two frames, and a `read` that is dropped between or inside them loses nothing.
///
/// The reader of messages stands on the reader of frames, but that one's cancellation safety is not enough:
/// the header has been read, and the body has not.
///
/// Hint: the header that waits for its body belongs into the reader, too.
#[test]
fn a_dropped_message_read_keeps_the_header() {
    run(async || {
        let (mut client, io) = duplex(64);
        let mut reader = MessageReader::new(FrameReader::new(io, 1000), Codec::Json);
        let wire = [json_message("Arith.sum", 1, json!([1, 2])), json_error("Arith.fail", 2, "no")].concat();
        let mut messages = Vec::new();
        for byte in wire {
            within("a byte on its way", client.write_all(&[byte])).await.unwrap();
            for _ in 0..3 {
                messages.extend(poll_once(reader.read()).await.map(|read| read.unwrap().unwrap()));
            }
        }
        let header = |service_method: &str, seq, error: Option<&str>| Header {
            service_method: service_method.to_owned(),
            seq,
            error: error.map(str::to_owned),
        };
        assert_eq!(
            messages,
            [
                Message { header: header("Arith.sum", 1, None), body: "[1,2]".into() },
                Message { header: header("Arith.fail", 2, Some("no")), body: "".into() },
            ]
        );
    });
}

/// The end of the stream between a header and its body is an error, and not the normal end.
///
/// The reader of frames sees nothing wrong: the frame before the end was whole. But half a message is lost,
/// and somebody may wait for it.
///
/// Hint: the `None` of the frame reader means two things; whether a header waits for its body tells them
/// apart.
#[test]
fn the_end_between_a_header_and_its_body_is_an_error() {
    run(async || {
        let header = frame(r#"{"service_method":"Arith.sum","seq":1,"error":null}"#);
        let mut reader = MessageReader::new(FrameReader::new(Pieces::new([header]), 1000), Codec::Json);
        let read = within("the end of the stream", reader.read()).await;
        assert!(matches!(read, Err(Error::Protocol(_))), "{read:?}");
    });
}

/// A message that cannot be sent leaves nothing on the wire, not even its header.
///
/// GeeRPC writes the header and then encodes the body. When that fails, a header without a body is on the
/// wire, and the next message is read as the body.
///
/// Hint: check everything that can fail before the first byte is queued.
#[test]
fn a_message_that_cannot_be_sent_queues_nothing() {
    run(async || {
        let header = Header { service_method: "Arith.sum".to_owned(), seq: 1, error: None };
        let long = Header { service_method: "x".repeat(101), ..header.clone() };
        let mut out = Vec::new();
        let mut writer = MessageWriter::new(FrameWriter::new(&mut out, 100), Codec::Json);
        assert!(is_too_large(writer.queue(&header, vec![b' '; 101].into()), 101, 100));
        writer.queue(&long, Bytes::new()).expect_err("this header is too long");
        assert_eq!((writer.queued(), writer.needs_flush()), (0, false));

        writer.queue(&header, "3".into()).unwrap();
        within("the flush", writer.flush()).await.unwrap();
        let wire = b"\0\0\0\x33{\"service_method\":\"Arith.sum\",\"seq\":1,\"error\":null}\0\0\0\x013";
        assert_eq!(out.escape_ascii().to_string(), wire.escape_ascii().to_string());
    });
}
