//! The handshake, and the first whole call.
//!
//! Write `Options`, `offer` and `accept` in `src/wire/handshake.rs`. For the first call over the wire, also
//! write the server's constructor and `serve_connection` in `src/server/mod.rs`, `Request` and `Call` in
//! `src/server/handler.rs`, and `Connection::run`, `start` and `queue_reply` in `src/server/connection.rs`:
//! enough to answer one request.
//!
//! Chapter: The wire > Handshake; The wire > One call, in both codecs

use super::*;

/// The wire in JSON, byte for byte: the handshake, a request and its reply, a request and its error.
///
/// Whoever writes a client in another language reads this. If it changes, every client out there breaks.
///
/// Hint: serde writes the fields of a struct in the order in which they are declared.
#[test]
fn the_wire_in_json_byte_for_byte() {
    run(async || {
        let server = start(Server::new(arith())).await;
        let mut peer = Peer::connect(server.addr).await;
        peer.send(b"\0\0\0\x36{\"magic_number\":3927900,\"codecs\":[\"application/json\"]}").await;
        expect_bytes(&mut peer.io, b"\0\0\0\x1c{\"codec\":\"application/json\"}").await;

        peer.send(b"\0\0\0\x33{\"service_method\":\"Arith.sum\",\"seq\":1,\"error\":null}").await;
        peer.send(b"\0\0\0\x13{\"num1\":1,\"num2\":2}").await;
        let reply = b"\0\0\0\x33{\"service_method\":\"Arith.sum\",\"seq\":1,\"error\":null}\0\0\0\x013";
        expect_bytes(&mut peer.io, reply).await;

        peer.send(b"\0\0\0\x34{\"service_method\":\"Arith.fail\",\"seq\":2,\"error\":null}").await;
        peer.send(b"\0\0\0\x17{\"message\":\"100% full\"}").await;
        let header = b"\0\0\0\x3b{\"service_method\":\"Arith.fail\",\"seq\":2,\"error\":\"100% full\"}";
        expect_bytes(&mut peer.io, header).await;
        expect_bytes(&mut peer.io, b"\0\0\0\0").await;
    });
}

/// The wire in bincode, byte for byte. The handshake is JSON all the same.
///
/// A length or a number below 251 is one byte, a larger one `fb` and two bytes, the lowest first; a signed
/// number is doubled first (1 is `02`, -1 is `01`); `None` is `00`, `Some` is `01` and the value.
///
/// Hint: `bincode::config::standard()`.
#[test]
fn the_wire_in_bincode_byte_for_byte() {
    run(async || {
        let server = start(Server::new(arith())).await;
        let mut peer = Peer::connect(server.addr).await;
        let options = br#"{"magic_number":3927900,"codecs":["application/bincode","application/json"]}"#;
        peer.send(&[b"\0\0\0\x4c", &options[..]].concat()).await;
        expect_bytes(&mut peer.io, b"\0\0\0\x1f{\"codec\":\"application/bincode\"}").await;

        peer.send(b"\0\0\0\x0c\x09Arith.sum\x01\x00\0\0\0\x02\x02\x04").await;
        expect_bytes(&mut peer.io, b"\0\0\0\x0c\x09Arith.sum\x01\x00\0\0\0\x01\x06").await;

        peer.send(b"\0\0\0\x0f\x0aArith.fail\xfb\x2c\x01\x00\0\0\0\x0a\x09100% full").await;
        let error = b"\0\0\0\x19\x0aArith.fail\xfb\x2c\x01\x01\x09100% full\0\0\0\0";
        expect_bytes(&mut peer.io, error).await;
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
        let any = start(Server::new(arith())).await;
        let only_json = start(Server::new(arith()).codecs([Codec::Json])).await;
        let cases = [
            (&any, vec![bincode, json], bincode),
            (&any, vec![json, bincode], json),
            (&any, vec!["application/gob", "", json, bincode], json),
            (&only_json, vec![bincode, json], json),
        ];
        for (server, codecs, chosen) in cases {
            let options = json!({
                "magic_number": MAGIC_NUMBER,
                "codecs": codecs,
                "of_next_year": {"compression": ["zstd"]},
            });
            let mut peer = Peer::connect(server.addr).await;
            peer.send(&frame(options.to_string())).await;
            assert_eq!(peer.read_json().await, json!({ "codec": chosen }), "for {codecs:?}");
        }
    });
}

/// A handshake and the first request in one write are both read: the bytes behind the handshake are not lost.
///
/// In GeeRPC a JSON decoder with a buffer of its own reads the handshake, and then the buffer is thrown away
/// with the first request in it. Of 40 first calls that were sent at once, 23 were lost.
///
/// Hint: one reader, with one buffer, for the whole connection.
#[test]
fn a_request_in_one_write_with_the_handshake_is_not_lost() {
    run(async || {
        let server = start(Server::new(arith())).await;
        let mut peer = Peer::connect(server.addr).await;
        let request = json_message("Arith.sum", 1, json!({"num1": 1, "num2": 2}));
        peer.send(&[options(&["application/json"]), request].concat()).await;
        assert_eq!(peer.read_json().await, json!({"codec": "application/json"}));
        let reply = peer.read_message().await;
        assert_eq!((reply.seq(), reply.error(), reply.value()), (1, "", json!(3)));
    });
}

/// The same exchange works when every read and every write of the server moves a single byte.
///
/// The other extreme: the test before brings everything at once, and this one next to nothing. Each read and
/// each write is cut, and has to go on where it stopped.
///
/// Hint: nothing to do, if all reading goes through the frame reader and all writing through the frame
/// writer.
#[test]
fn a_handshake_and_a_request_one_byte_at_a_time() {
    run(async || {
        let (client, io) = duplex(1);
        let server = Server::new(arith());
        tokio::spawn(async move { server.serve_connection(OneByte(io)).await });
        let mut peer = Peer { io: client };
        peer.shake_hands_json().await;
        for seq in 1..=3 {
            peer.send(&json_message("Arith.sum", seq, json!({"num1": seq, "num2": 2}))).await;
            let reply = peer.read_message().await;
            assert_eq!((reply.seq(), reply.error(), reply.value()), (seq, "", json!(seq + 2)));
        }
    });
}

/// Whoever knocks with something else gets an answer that says why, and then the end of the stream: another
/// magic number, no codec in common, no JSON, a browser, a TLS client.
///
/// "Connection closed" is the least helpful error there is. An HTTP request and a TLS hello look like frames
/// of a gigabyte and more; they are refused by their length, and read an answer all the same.
///
/// Hint: the answer must fit a handshake frame whatever the peer sent, so do not repeat all of it.
#[test]
fn whoever_cannot_be_served_is_told_why() {
    run(async || {
        let server = start(Server::new(arith()).codecs([Codec::Json])).await;
        let magic = json!({"magic_number": 42, "codecs": ["application/json"]}).to_string();
        let http = b"GET / HTTP/1.1\r\nHost: example.org\r\nUser-Agent: curl/8\r\nAccept: */*\r\n\r\n";
        let tls_hello = [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(), &[0xa5; 506]].concat();
        let cases = [
            (frame(magic), ["42", "3927900"]),
            (options(&["application/gob"]), ["no codec", "application/json"]),
            (options(&["application/bincode"]), ["no codec", "application/json"]),
            (options(&[]), ["no codec", "application/json"]),
            (frame("hello"), ["handshake", "json"]),
            (frame(""), ["handshake", "json"]),
            (frame(r#"{"magic_number":3927900}"#), ["handshake", "codecs"]),
            (frame(json!("x".repeat(4090)).to_string()), ["handshake", "string"]),
            (frame(json!("\u{1}".repeat(680)).to_string()), ["handshake", "string"]),
            (http.to_vec(), ["handshake", "4096"]),
            (tls_hello, ["handshake", "4096"]),
        ];
        for (knock, words) in cases {
            let mut peer = Peer::connect(server.addr).await;
            peer.send(&knock).await;
            let answer = peer.read_json().await;
            let text = answer["error"].as_str().unwrap_or_else(|| panic!("no error in {answer}"));
            for word in words {
                assert!(text.contains(word), "{word:?} is missing in {text:?}");
            }
            assert_eq!(answer["codec"], json!(null));
            peer.expect_end().await;
        }
    });
}

/// On the client's side a refusal is a typed error, in the server's words; so is a server that chooses what
/// was not offered.
///
/// In GeeRPC dialing a server that refuses the codec succeeds, and the first call fails with an EOF.
///
/// Hint: whatever is wrong with the answer is `Error::Handshake`. Check that the codec is one that you
/// offered.
#[test]
fn a_refused_handshake_is_a_typed_error_for_the_client() {
    async fn answered_with(answer: &str) -> Result<Codec, Error> {
        let (io, server) = duplex(4096);
        let (read, write) = tokio::io::split(io);
        let mut reader = FrameReader::new(read, MAX_HANDSHAKE_LEN);
        let mut writer = FrameWriter::new(write, MAX_HANDSHAKE_LEN);
        let mut peer = Peer { io: server };
        peer.send(&frame(answer)).await;
        let options = Options::default().codecs([Codec::Json]);
        within("the end of the handshake", offer(&mut reader, &mut writer, &options)).await
    }
    run(async || {
        assert_eq!(answered_with(r#"{"codec":"application/json","new":1}"#).await.unwrap(), Codec::Json);
        match answered_with(r#"{"error":"we are closed"}"#).await {
            Err(Error::Handshake(reason)) => assert_eq!(reason, "we are closed"),
            other => panic!("{other:?}"),
        }
        for nonsense in [r#"{"codec":"application/bincode"}"#, r#"{"codec":"x"}"#, "{}", "hello", "[]"] {
            let result = answered_with(nonsense).await;
            assert!(matches!(result, Err(Error::Handshake(_))), "{nonsense}: {result:?}");
        }
    });
}

/// Both sides of the library's own handshake agree, and the server learns the options that were sent.
///
/// The other tests play one of the two sides by hand. Here they meet.
///
/// Hint: `offer` sends a frame and then reads one, `accept` reads one and then sends one.
#[test]
fn offer_and_accept_agree() {
    run(async || {
        let (client, server) = duplex(4096);
        let (read, write) = tokio::io::split(client);
        let mut reader = FrameReader::new(read, MAX_HANDSHAKE_LEN);
        let mut writer = FrameWriter::new(write, MAX_HANDSHAKE_LEN);
        let options = Options::default();
        let offered = offer(&mut reader, &mut writer, &options);

        let (read, write) = tokio::io::split(server);
        let mut reader = FrameReader::new(read, MAX_HANDSHAKE_LEN);
        let mut writer = FrameWriter::new(write, MAX_HANDSHAKE_LEN);
        let accepted = accept(&mut reader, &mut writer, &[Codec::Json]);

        let (offered, accepted) = within("the handshake", async { tokio::join!(offered, accepted) }).await;
        let (codec, seen) = accepted.unwrap();
        assert_eq!((offered.unwrap(), codec), (Codec::Json, Codec::Json));
        let sent = |options: &Options| serde_json::to_value(options).unwrap();
        assert_eq!(sent(&seen), sent(&options));
    });
}

/// Every codec that the server says it speaks works, from the handshake to the reply.
///
/// GeeRPC names `application/json` among its codecs, and there is no such codec behind the name.
///
/// Hint: the names on the wire come from the list of the codecs, so there can be no name without a codec.
#[test]
fn every_codec_that_the_server_offers_works() {
    run(async || {
        let server = start(Server::new(arith())).await;
        let mut peer = Peer::connect(server.addr).await;
        peer.send(&options(&["application/none"])).await;
        let refusal = peer.read_json().await["error"].as_str().unwrap().to_owned();
        let names: Vec<&str> =
            refusal.split([' ', ',']).filter(|word| word.starts_with("application/")).collect();
        assert_eq!(names, ["application/bincode", "application/json"]);

        for name in names {
            let mut peer = Peer::connect(server.addr).await;
            peer.send(&options(&[name])).await;
            assert_eq!(peer.read_json().await, json!({ "codec": name }));
            let codec = Codec::from_str(name).unwrap();
            let header = Header { service_method: "Arith.sum".to_owned(), seq: 1, error: None };
            peer.send(&frame(codec.encode(&header).unwrap())).await;
            peer.send(&frame(codec.encode(&Sum { num1: 20, num2: 22 }).unwrap())).await;
            assert_eq!(codec.decode::<Header>(&peer.read_frame().await).unwrap(), header, "{name}");
            assert_eq!(codec.decode::<i32>(&peer.read_frame().await).unwrap(), 42, "{name}");
        }
    });
}
