//! Hardening of the wire: hostile lengths, memory that is kept, streams that take little, values that no codec likes.
//!
//! No new function. The limits are in `src/wire/frame.rs`, `src/wire/codec.rs`, `src/wire/message.rs` and
//! `src/error.rs`.
//!
//! Chapter: Limits; The wire > In bincode

use super::*;

/// Our frames are those of tokio-util's `LengthDelimitedCodec`, in both directions.
///
/// That one was written by others and read by many, so it finds what we and our tests get wrong alike. It
/// also shows how little there is to write for a client in another language.
///
/// Hint: that codec's defaults are our frame: a length of four bytes, the highest first, which counts the
/// payload and not itself.
#[test]
fn frames_are_those_of_the_length_delimited_codec() {
    let payloads = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9000), 0..8);
    proptest!(proptest_config(), |(payloads in payloads, size in 1..20_000_usize)| {
        run(async move || {
            let mut ours = Vec::new();
            let mut writer = FrameWriter::new(&mut ours);
            let mut theirs = BytesMut::new();
            for payload in &payloads {
                writer.queue(payload.clone().into()).unwrap();
                LengthDelimitedCodec::new().encode(&payload[..], &mut theirs).unwrap();
            }
            within("the flush", writer.flush()).await.unwrap();

            let mut reader = FrameReader::new(Pieces::cut(&theirs, &[size]));
            let mut ours = BytesMut::from(&ours[..]);
            for payload in &payloads {
                let read = within("a frame of theirs", reader.read(DEFAULT_MAX_BODY_LEN)).await.unwrap();
                assert_eq!(read.as_deref(), Some(&payload[..]));
                let read = LengthDelimitedCodec::new().decode(&mut ours).unwrap();
                assert_eq!(read.as_deref(), Some(&payload[..]));
            }
            assert!(ours.is_empty());
        });
    });
}

/// A `flush` that is dropped half-way neither loses a byte nor writes one twice.
///
/// Replies are flushed in a `select!`, beside reading. `write_all` would forget how far it got.
///
/// Hint: take the bytes off the buffer exactly when the stream has taken them.
#[test]
fn a_dropped_flush_loses_nothing() {
    run(async || {
        let (io, mut peer) = duplex(6);
        let mut writer = FrameWriter::new(io);
        let payloads = [vec![1; 3], vec![2; 10_000], vec![], vec![3; 9], vec![4; 5000], vec![5; 1]];
        let mut arrived = Vec::new();
        let mut rounds = 0;
        for payload in &payloads {
            writer.queue(payload.clone().into()).unwrap();
            // More is queued behind a flush that was dropped.
            assert!(poll_once(writer.flush()).await.is_none(), "there is no room for all of it");
        }
        let flush_in_small_steps = async {
            while writer.needs_flush() {
                if let Some(flushed) = poll_once(writer.flush()).await {
                    flushed.unwrap();
                }
                let mut buf = [0; 5];
                let n = peer.read(&mut buf).await.unwrap();
                arrived.extend_from_slice(&buf[..n]);
                rounds += 1;
            }
        };
        within("everything written", flush_in_small_steps).await;
        drop(writer);
        within("the rest", peer.read_to_end(&mut arrived)).await.unwrap();
        let expected: Vec<u8> = payloads.iter().flat_map(frame).collect();
        assert!(arrived == expected, "{} bytes arrived instead of {}", arrived.len(), expected.len());
        assert!(rounds > 100, "it took {rounds} rounds: was a flush ever dropped in the middle?");
    });
}

/// A `read` of a message that is dropped between or inside its frames loses nothing.
///
/// The reader of messages stands on the reader of frames, but that one's cancellation safety is not enough:
/// the header has been read, and the body has not.
///
/// Hint: the message that waits for its body belongs in the reader, too.
#[test]
fn a_dropped_message_read_keeps_the_header() {
    run(async || {
        let (mut client, io) = duplex(64);
        let mut reader = MessageReader::new(FrameReader::new(io), Codec::Json);
        let wire = [call("Arith.sum", 1, json!([1, 2])), goaway("bye"), reply(2, json!(3))].concat();
        let mut messages = Vec::new();
        for byte in wire {
            within("a byte on its way", client.write_all(&[byte])).await.unwrap();
            for _ in 0..3 {
                messages.extend(poll_once(reader.read(1000)).await.map(|read| read.unwrap().unwrap()));
            }
        }
        assert_eq!(
            messages,
            [
                Message::Call {
                    service_method: "Arith.sum".to_owned(),
                    seq: 1,
                    metadata: Metadata::new(),
                    body: "[1,2]".into(),
                },
                Message::Goaway { reason: "bye".to_owned() },
                Message::Reply { seq: 2, result: Ok("3".into()) },
            ]
        );
    });
}

/// A flush reaches the other side of a stream that keeps back what is written until it is flushed, and a stream
/// that takes nothing any more is an error.
///
/// TLS and compression keep bytes back: a reply would stay there until the next one. And a stream that takes 0
/// bytes, again and again, would keep the loop that writes to it busy without end.
///
/// Hint: `AsyncWriteExt::flush`, after the last byte; 0 bytes are `ErrorKind::WriteZero`.
#[test]
fn a_flush_reaches_the_other_side() {
    run(async || {
        let (io, mut peer) = duplex(1000);
        let mut writer = FrameWriter::new(tokio::io::BufWriter::new(io));
        writer.queue("hello".into()).unwrap();
        within("the flush", writer.flush()).await.unwrap();
        expect_bytes(&mut peer, b"\0\0\0\x05hello").await;

        let mut writer = FrameWriter::new(std::io::Cursor::new(vec![0; 6].into_boxed_slice()));
        writer.queue("hello".into()).unwrap();
        let flushed = within("the end of the flush", writer.flush()).await;
        assert!(matches!(flushed, Err(Error::Io(_))), "{flushed:?}");
        assert!(writer.needs_flush(), "it is not written");
    });
}

/// What has arrived together is taken together: four hundred small frames cost a read or two, and a frame of
/// a megabyte a handful.
///
/// Each read is a call of the system, and costs more than a small frame does. Two of them for each frame (its
/// length, then its payload) make a server as slow as most are.
///
/// Hint: give each read more room than the frame needs, and keep what is left over for the next one.
#[test]
fn frames_that_arrive_together_are_read_together() {
    run(async || {
        let small: Vec<u8> = (0..400).flat_map(|_| frame("ten bytes.")).collect();
        let (io, seen) = Watched::new(&small[..]);
        let mut reader = FrameReader::new(io);
        for number in 0..400 {
            let read = within("a small frame", reader.read(1000)).await.unwrap();
            assert_eq!(read.as_deref(), Some(b"ten bytes.".as_slice()), "frame {number}");
        }
        let reads = seen.reads.load(SeqCst);
        assert!(reads <= 4, "{reads} reads for 400 small frames that were there at once");

        let large = frame(vec![7; 1024 * 1024]);
        let (io, seen) = Watched::new(&large[..]);
        let mut reader = FrameReader::new(io);
        let read = within("a large frame", reader.read(DEFAULT_MAX_BODY_LEN)).await.unwrap();
        assert!(read.as_deref() == Some(&large[4..]));
        let reads = seen.reads.load(SeqCst);
        assert!(reads <= 4, "{reads} reads for a frame of one megabyte that was there at once");
    });
}

/// A length that is announced allocates at most a megabyte; beyond that, memory grows with what has arrived.
///
/// 8 MiB are within the limit. But four bytes that say so must not cost 8 MiB: 250 peers that stop there would
/// hold 2 GB.
///
/// Hint: reserve the smallest of what is missing, what has arrived already, and a megabyte if that is more.
#[test]
#[cfg(target_os = "linux")] // it asks the system how much memory the process has
fn a_length_alone_buys_no_memory() {
    alone(module_path!(), "a_length_alone_buys_no_memory", || {
        run(async || {
            const MIB: usize = 1024 * 1024;
            let before = allocated_kib();
            let mut waiting = Vec::new();
            for _ in 0..100 {
                let (mut client, io) = duplex(64);
                let (io, seen) = Watched::new(io);
                within("the length", client.write_all(&[0, 0x80, 0, 0, b'x'])).await.unwrap();
                let mut reader = FrameReader::new(io);
                assert!(poll_once(reader.read(8 * MIB)).await.is_none(), "the frame is not there yet");
                let largest = seen.largest_buffer.load(SeqCst);
                assert!(largest <= MIB + 64 * 1024, "{largest} bytes of room for a length alone");
                waiting.push((client, reader));
            }
            let grown = allocated_kib().saturating_sub(before) / 1024;
            assert!(grown < 300, "100 peers that have sent a length and one byte cost {grown} MiB");

            // Half a frame may at most double.
            let (io, seen) = Watched::new(Pieces::new([vec![0, 0x80, 0, 0], vec![7; 2 * MIB]]));
            let read = within("the end inside a frame", FrameReader::new(io).read(8 * MIB)).await;
            assert!(matches!(read, Err(Error::Io(_))), "{:?}", read.map(|frame| frame.map(|f| f.len())));
            let largest = seen.largest_buffer.load(SeqCst);
            assert!(largest <= 2 * MIB + 64 * 1024, "{largest} bytes of room when 2 MiB have arrived");
        });
    });
}

/// A hostile length in a bincode body is an error: it neither panics nor allocates what it claims.
///
/// `fd ff ff ff ff ff ff ff ff` says: 18,446,744,073,709,551,615 elements follow. Without a limit, bincode
/// believes it, and the process panics or aborts.
///
/// Hint: `bincode::config::Configuration::with_limit`.
#[test]
fn a_hostile_length_in_bincode_is_an_error() {
    fn refused<T: DeserializeOwned + std::fmt::Debug>(wire: &[u8]) {
        let error = Codec::Bincode.decode::<T>(wire).expect_err("a length that is not there");
        assert!(matches!(error, Error::Decode { .. }), "{error:?}");
    }
    for len in [u64::MAX, 1 << 62, 1 << 40] {
        let wire = [&b"\xfd"[..], &len.to_le_bytes(), b"abc"].concat();
        refused::<Vec<u8>>(&wire);
        refused::<String>(&wire);
        refused::<Vec<u64>>(&wire);
        refused::<Vec<String>>(&wire);
        refused::<Vec<Vec<String>>>(&wire);
        refused::<BTreeMap<u64, u64>>(&wire);
        refused::<Metadata>(&wire);
        refused::<Message>(&[&[0], &wire[..]].concat());
    }
}

/// No bytes make a codec panic.
///
/// They come from the network, from any author. A panic would cost more than the one call that
/// they belong to.
///
/// Hint: `decode` ends with a value or with `Error::Decode`; there is nothing in it to `unwrap`.
#[test]
fn no_bytes_make_a_codec_panic() {
    proptest!(proptest_config(), |(wire in prop::collection::vec(any::<u8>(), 0..200))| {
        for codec in Codec::ALL {
            // If they are a value by chance, then it is one that can be written again.
            if let Ok(value) = codec.decode::<Message>(&wire) {
                prop_assert!(codec.encode(&value).is_ok());
            }
            if let Ok(value) = codec.decode::<(Vec<String>, Option<Vec<u64>>, i128)>(&wire) {
                prop_assert!(codec.encode(&value).is_ok());
            }
            if let Ok(value) = codec.decode::<BTreeMap<String, Vec<char>>>(&wire) {
                prop_assert!(codec.encode(&value).is_ok());
            }
        }
    });
}

/// Every shape of value has these bytes, in JSON and in bincode.
///
/// The page about the wire says so, and clients in other languages are written from it. A new version of serde or
/// bincode, or another setting of one of them, must not change a byte.
///
/// Hint: `bincode::config::standard()`.
#[test]
fn every_shape_of_value_has_these_bytes() {
    use std::net::{IpAddr, SocketAddr};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Pair {
        first: u8,
        second: Option<String>,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Meters(u32);
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Shape {
        Unit,
        Newtype(u8),
        Tuple(u8, bool),
        Struct { x: i8 },
    }
    fn shape<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
        value: T,
        json: &str,
        bincode: &[u8],
    ) {
        for (codec, wire) in [(Codec::Json, json.as_bytes()), (Codec::Bincode, bincode)] {
            let bytes = codec.encode(&value).unwrap();
            let (bytes, expected) = (bytes.escape_ascii().to_string(), wire.escape_ascii().to_string());
            assert_eq!(bytes, expected, "{value:?} in {codec}");
            assert_eq!(codec.decode::<T>(wire).unwrap(), value, "in {codec}");
        }
    }

    shape((), "null", b"");
    shape(true, "true", b"\x01");
    shape(255_u8, "255", b"\xff");
    shape(-1_i8, "-1", b"\xff");
    shape(250_u16, "250", b"\xfa");
    shape(251_u32, "251", b"\xfb\xfb\x00");
    shape(65_536_u32, "65536", b"\xfc\x00\x00\x01\x00");
    shape(1_u64 << 32, "4294967296", b"\xfd\x00\x00\x00\x00\x01\x00\x00\x00");
    shape(1_i32, "1", b"\x02");
    shape(-1_i64, "-1", b"\x01");
    shape(-126_i16, "-126", b"\xfb\xfb\x00");
    let wide = [&b"\xfe"[..], &(1_u128 << 100).to_le_bytes()].concat();
    shape(1_u128 << 100, "1267650600228229401496703205376", &wide);
    shape(-1_i128, "-1", b"\x01");
    shape(1.5_f32, "1.5", b"\x00\x00\xc0\x3f");
    shape(-0.25_f64, "-0.25", b"\x00\x00\x00\x00\x00\x00\xd0\xbf");
    shape('\u{e9}', "\"\u{e9}\"", b"\xc3\xa9");
    shape("\u{e9}\n\"".to_owned(), "\"\u{e9}\\n\\\"\"", b"\x04\xc3\xa9\n\"");
    shape(None::<u8>, "null", b"\x00");
    shape(Some(7_u8), "7", b"\x01\x07");
    shape(vec![1_u8, 2], "[1,2]", b"\x02\x01\x02");
    shape([1_u8, 2], "[1,2]", b"\x01\x02");
    shape((1_u8, "a".to_owned()), "[1,\"a\"]", b"\x01\x01a");
    shape(BTreeMap::from([(2_u8, true)]), "{\"2\":true}", b"\x01\x02\x01");
    shape(Pair { first: 1, second: None }, "{\"first\":1,\"second\":null}", b"\x01\x00");
    shape(Meters(5), "5", b"\x05");
    shape(Shape::Unit, "\"Unit\"", b"\x00");
    shape(Shape::Newtype(9), "{\"Newtype\":9}", b"\x01\x09");
    shape(Shape::Tuple(9, true), "{\"Tuple\":[9,true]}", b"\x02\x09\x01");
    shape(Shape::Struct { x: -1 }, "{\"Struct\":{\"x\":-1}}", b"\x03\xff");
    shape(Ok::<u8, String>(1), "{\"Ok\":1}", b"\x00\x01");
    shape(Err::<u8, String>("no".to_owned()), "{\"Err\":\"no\"}", b"\x01\x02no");
    shape(Duration::from_millis(1500), "{\"secs\":1,\"nanos\":500000000}", b"\x01\xfc\x00\x65\xcd\x1d");
    shape("10.0.0.7".parse::<IpAddr>().unwrap(), "\"10.0.0.7\"", b"\x00\x0a\x00\x00\x07");
    let addr: SocketAddr = "10.0.0.7:80".parse().unwrap();
    shape(addr, "\"10.0.0.7:80\"", b"\x00\x0a\x00\x00\x07\x50");
}

/// JSON has no number that is not finite, and one `null` for everything that is not there: such values arrive as
/// `None`, without an error. bincode keeps them apart.
///
/// It is what serde_json and JavaScript do. To refuse them would cost a second pass over every value, so it is
/// documented, and pinned here: a change of it is a change of the wire.
///
/// Hint: nothing to do. Send an enum where the difference matters.
#[test]
fn json_writes_what_it_cannot_express_as_null() {
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(Codec::Json.encode(&number).unwrap(), b"null", "{number}");
        assert_eq!(Codec::Json.encode(&(number as f32)).unwrap(), b"null", "{number}");
        assert_eq!(Codec::Json.encode(&[Some(number)]).unwrap(), b"[null]", "{number}");
        let kept: f64 = Codec::Bincode.decode(&Codec::Bincode.encode(&number).unwrap()).unwrap();
        assert!(kept == number || kept.is_nan() && number.is_nan(), "{number} became {kept} in bincode");
    }
    assert!(Codec::Json.decode::<f64>(b"null").is_err(), "a number that must be there is not made up");

    let (no_number, no_unit): (Option<Option<i32>>, Option<()>) = (Some(None), Some(()));
    assert_eq!(Codec::Json.encode(&(no_number, no_unit)).unwrap(), b"[null,null]");
    let read: (Option<Option<i32>>, Option<()>) = Codec::Json.decode(b"[null,null]").unwrap();
    assert_eq!(read, (None, None));
    let bytes = Codec::Bincode.encode(&(no_number, no_unit)).unwrap();
    let read: (Option<Option<i32>>, Option<()>) = Codec::Bincode.decode(&bytes).unwrap();
    assert_eq!(read, (no_number, no_unit), "in bincode");
}

/// An error always fits into a header: its message is cut after 500 characters, and so is a long code.
///
/// A message may quote what a peer sent, and JSON writes one character as up to six. If an error did not fit, the
/// caller would never learn that its call failed.
///
/// Hint: cut between two characters, not between two bytes. Serde has a way into a `RemoteError` besides `new`.
#[test]
fn an_error_always_fits_into_a_header() {
    run(async || {
        let texts = ["x", "\u{1}", "\"", "\u{e9}", "\u{1F600}"];
        for text in texts.map(|text| text.repeat(100_000)) {
            let error = RemoteError::new(Code::new(text.clone()), text.clone());
            let len = error.message().chars().count();
            assert!(len <= 501, "{len} characters of a message were kept");
            assert!(text.starts_with(error.message().trim_end_matches('…')), "{:?}", error.message());
            for codec in Codec::ALL {
                let mut frames = FrameWriter::new(tokio::io::sink());
                let reply = Message::Reply { seq: u64::MAX, result: Err(error.clone()) };
                reply.queue(&mut frames, codec, 0).unwrap_or_else(|error| panic!("{error} in {codec}"));
            }
        }
        let short = "x".repeat(500);
        assert_eq!(RemoteError::new(Code::UNKNOWN, short.clone()).message(), short);
    });
}

/// A header of 16 KiB is read, and one byte more is refused before it is, however long a body may be.
///
/// A method's name of 8 MiB once cost 280 ms of CPU and 120 MiB, for one error.
///
/// Hint: the reader's two frames have a limit each.
#[test]
fn a_header_has_a_limit_of_its_own() {
    run(async || {
        const MAX_BODY: usize = 8 * 1024 * 1024;
        assert_eq!(MAX_HEADER_LEN, 16 * 1024);
        let header = |len| {
            let empty = r#"{"goaway":{"reason":""}}"#;
            frame(json!({"goaway": {"reason": "x".repeat(len - empty.len())}}).to_string())
        };
        let mut reader =
            MessageReader::new(FrameReader::new(Pieces::new([header(MAX_HEADER_LEN)])), Codec::Json);
        let read = within("a header of exactly the limit", reader.read(0)).await.unwrap();
        assert!(matches!(read, Some(Message::Goaway { .. })), "{read:?}");

        let (len, max) = (MAX_HEADER_LEN + 1, MAX_HEADER_LEN);
        let mut reader = MessageReader::new(FrameReader::new(Pieces::new([header(len)])), Codec::Json);
        let read = within("a refusal", reader.read(MAX_BODY)).await;
        assert!(is_too_large(read, len, max), "a header of {len} bytes");
    });
}

/// A hello of exactly 4 KiB is read, and one of a byte more is refused. Unknown fields are ignored, however long
/// they are.
///
/// The limit is part of the wire: a client in another language must know what it may send.
///
/// Hint: `MAX_HANDSHAKE_LEN` is the longest frame, and not the first one that is too long.
#[test]
fn a_hello_of_exactly_the_limit_is_read() {
    run(async || {
        let hello = |len| client_hello_with(&["application/json"], json!({ "x": "x".repeat(len) }));
        let shortest = hello(0).len() - 4;
        for (len, is_read) in [(4096, true), (4097, false)] {
            let mut reader = FrameReader::new(Pieces::new([hello(len - shortest)]));
            let mut writer = FrameWriter::new(Vec::new());
            let limits = Limits::default();
            match within("the handshake", accept(&mut reader, &mut writer, &limits)).await {
                Ok((Codec::Json, _)) => assert!(is_read, "a hello of {len} bytes was read"),
                Err(Error::Handshake(reason)) => assert!(!is_read, "a hello of {len} bytes: {reason}"),
                other => panic!("a hello of {len} bytes: {other:?}"),
            }
        }
    });
}

/// No error text names a path of Rust code, of ours or of a library.
///
/// Such texts reach the peer: in the reply to an argument that does not decode, in a goaway, in a refused hello.
/// They would tell a stranger how the server is built, and nothing that helps the caller.
///
/// Hint: `type_name` and `{:?}` of an error are for developers.
#[test]
fn no_error_text_names_a_rust_path() {
    fn text<T: DeserializeOwned + std::fmt::Debug>(codec: Codec, wire: &[u8]) -> String {
        codec.decode::<T>(wire).expect_err("these bytes are no such value").to_string()
    }
    let texts = [
        text::<Message>(Codec::Json, b"3"),
        text::<Message>(Codec::Json, b"{\"x\":{}}"),
        text::<Message>(Codec::Bincode, b"\xc8"),
        text::<Message>(Codec::Bincode, b""),
        text::<Sum>(Codec::Json, b"{}"),
        text::<Sum>(Codec::Bincode, b"\x02"),
        text::<bool>(Codec::Bincode, b"\x07"),
        text::<char>(Codec::Bincode, b"\xff"),
        text::<String>(Codec::Bincode, b"\x01\xff"),
        text::<Option<Sum>>(Codec::Bincode, b"\x07"),
        text::<Result<Sum, String>>(Codec::Bincode, b"\x07"),
        text::<Vec<Sum>>(Codec::Bincode, b"\xfd\xff\xff\xff\xff\xff\xff\xff\xff"),
        text::<u8>(Codec::Bincode, b"\x01\x02"),
    ];
    for text in texts {
        assert!(!text.contains("::"), "{text}");
    }
}
