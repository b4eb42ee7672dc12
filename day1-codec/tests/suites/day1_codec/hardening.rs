//! Hardening: hostile bytes, memory that is kept, panics in odd places.
//!
//! No new function. The limits are in `src/wire/frame.rs`, `src/wire/write_buf.rs`, `src/wire/codec.rs` and
//! `src/server/connection.rs`, and the panics are caught in `src/server/handler.rs`.
//!
//! Chapter: Limits; What goes wrong without it

use super::*;

/// How much memory the process has touched and not given back.
#[cfg(target_os = "linux")]
fn resident_mib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() / 1024
}

/// When a large frame has been read and dropped, its memory goes with it, and what arrived behind it stays.
///
/// A buffer grows to its largest frame. If it is kept, ten thousand idle connections that have once sent a
/// megabyte hold ten gigabytes.
///
/// Hint: a part of a `BytesMut` keeps all of it. What is left behind a large frame can move to a new one.
#[test]
#[cfg(target_os = "linux")] // it asks the system how much memory the process has
fn the_memory_of_a_large_frame_is_not_kept() {
    alone(module_path!(), "the_memory_of_a_large_frame_is_not_kept", || {
        run(async || {
            let large = Bytes::from(frame(vec![7; 8 * 1024 * 1024]));
            let behind = Bytes::from(frame("behind it"));
            let before = resident_mib();
            let mut idle = Vec::new();
            for _ in 0..40 {
                let pieces = [large.clone(), behind.slice(..6), behind.slice(6..)];
                let mut reader = FrameReader::new(Pieces::new(pieces), DEFAULT_MAX_FRAME_LEN);
                let read = within("the large frame", reader.read()).await.unwrap();
                assert!(read.as_deref() == Some(&large[4..]));
                drop(read);
                let read = within("the frame behind it", reader.read()).await.unwrap();
                assert_eq!(read.as_deref(), Some(b"behind it".as_slice()));
                idle.push(reader);
            }
            let kept = resident_mib().saturating_sub(before);
            assert!(kept < 160, "40 readers, idle after a frame of 8 MiB each, hold {kept} MiB");
        });
    });
}

/// When a long header has been written, or was too long to be sent, its memory goes with it.
///
/// A header is encoded into the buffer that goes to the system, and a reply's header repeats the name that the
/// client asked for. One name of megabytes, sent once, must not make an idle connection that large for ever.
///
/// Hint: a `BytesMut` that was emptied still has its room.
#[test]
#[cfg(target_os = "linux")] // it asks the system how much memory the process has
fn the_memory_of_a_long_header_is_not_kept() {
    alone(module_path!(), "the_memory_of_a_long_header_is_not_kept", || {
        run(async || {
            let header = Header { service_method: "x".repeat(7 * 1024 * 1024), seq: 1, error: None };
            let before = resident_mib();
            let mut idle = Vec::new();
            for number in 0..100 {
                let is_too_long = number % 2 == 1;
                let limit = if is_too_long { 1024 * 1024 } else { DEFAULT_MAX_FRAME_LEN };
                let mut writer =
                    MessageWriter::new(FrameWriter::new(tokio::io::sink(), limit), Codec::Bincode);
                assert_eq!(writer.queue(&header, Bytes::new()).is_err(), is_too_long);
                within("the flush", writer.flush()).await.unwrap();
                if number < 50 {
                    let short = Header { service_method: "Arith.sum".into(), seq: 2, error: None };
                    writer.queue(&short, Bytes::new()).unwrap();
                    within("the flush of a short one", writer.flush()).await.unwrap();
                }
                idle.push(writer);
            }
            let kept = resident_mib().saturating_sub(before);
            assert!(kept < 120, "100 writers, idle after a header of 7 MiB each, hold {kept} MiB");
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
    fn refused<T: serde::de::DeserializeOwned + std::fmt::Debug>(wire: &[u8]) {
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
        refused::<Header>(&wire);
    }
}

/// No bytes make a codec panic.
///
/// They come from the network: anybody may have written them. A panic would cost more than the one call that
/// they belong to.
///
/// Hint: `decode` ends with a value or with `Error::Decode`; there is nothing in it to `unwrap`.
#[test]
fn no_bytes_make_a_codec_panic() {
    proptest!(proptest_config(), |(wire in prop::collection::vec(any::<u8>(), 0..200))| {
        for codec in Codec::ALL {
            // If they are a value by chance, then it is one that can be written again.
            if let Ok(value) = codec.decode::<Header>(&wire) {
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

/// The reason for a disconnection reaches a peer that is in the middle of a long write, too.
///
/// The peer writes all it has and only then reads. If nobody takes the rest of its bytes, the write fails, and
/// with it goes the answer that says why.
///
/// Hint: after the last word, `FrameReader::discard`, with a limit of bytes and of time.
#[test]
fn a_last_word_reaches_a_peer_in_the_middle_of_a_long_write() {
    run_paused(async || {
        let too_long = frame(vec![b'x'; 8 * 1024 * 1024 + 1]);

        let (mut peer, _served) = serve_in_memory(Server::new(arith()));
        let written = within("a handshake that is far too long", peer.io.write_all(&too_long)).await;
        written.expect("the server must take the rest, or the peer never reads the answer");
        let answer = peer.read_json().await;
        assert!(answer["error"].is_string(), "no error in {answer}");

        let (mut peer, _served) = serve_in_memory(Server::new(arith()));
        peer.shake_hands_json().await;
        let written = within("a frame that is too long", peer.io.write_all(&too_long)).await;
        written.expect("the server must take the rest, or the peer never reads the goodbye");
        let goodbye = peer.read_message().await;
        assert_eq!(goodbye.seq(), 0);
        assert!(goodbye.error().contains("8388608"), "the limit is missing in {:?}", goodbye.error());

        // The same, but the server is in the middle of a long write as well: nobody has read its reply yet.
        let (client, io) = duplex(1024);
        let text = "x".repeat(MAX_QUEUED_BYTES / 2); // not so much that the server stops reading
        let answer = text.clone();
        let server = Server::new(move |request: Request| {
            std::future::ready(request.reply(&answer).map_err(anyhow::Error::from))
        });
        let _served = tokio::spawn(async move { server.serve_connection(io).await });
        let mut peer = Peer { io: client };
        peer.shake_hands_json().await;
        peer.send(&json_message("Test.long", 1, json!(null))).await;
        peer.send(&frame("no header")).await;
        let written = within("a long write after a broken frame", peer.io.write_all(&too_long)).await;
        written.expect("the server must take the rest, or the peer never reads the goodbye");
        assert!(peer.read_message().await.value() == text, "the reply is another one");
        assert_eq!(peer.read_message().await.seq(), 0, "the goodbye follows what was owed");
        peer.expect_end().await;
    });
}

/// A name that is too long to be repeated in the reply costs its own call only.
///
/// An error reply repeats the name, and adds its text: with a name that just fits a frame, neither the reply
/// nor the error fits. Closing the connection for that would cost the calls of others.
///
/// Hint: the client finds its call by the `seq`; the last thing to leave out is the name.
#[test]
fn a_name_that_is_too_long_to_repeat_fails_its_own_call_only() {
    run(async || {
        let server = start(Server::new(arith()).max_frame_len(200)).await;
        let mut peer = Peer::connect_json(server.addr).await;
        let too_long = json_message(&"x".repeat(150), 1, json!(null));
        peer.send(&[too_long, json_message("Arith.sum", 2, json!({"num1": 1, "num2": 2}))].concat()).await;
        let reply = peer.read_message().await;
        assert_eq!(reply.seq(), 1);
        assert_ne!(reply.error(), "");
        assert_eq!(peer.read_message().await.value(), 3);
    });
}

/// A panic while an error is turned into text is a panic of the handler, too.
///
/// An error's `Display` is code of the application as well. It runs late, when the handler has returned and
/// nobody expects a panic any more.
///
/// Hint: make the text where panics are caught, not where the reply is sent.
#[test]
fn a_panic_in_the_text_of_an_error_is_an_error_reply() {
    #[derive(Debug)]
    struct Unspeakable;
    impl std::fmt::Display for Unspeakable {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("this panic is part of the test")
        }
    }
    impl std::error::Error for Unspeakable {}

    run(async || {
        let handler = async |request: Request| {
            if request.service_method() == "Fail.late" {
                tokio::task::yield_now().await;
            }
            if request.service_method() == "Fail.not" {
                return Ok(request.reply("fine")?);
            }
            Err::<Reply, _>(Unspeakable.into())
        };
        let server = start(Server::new(handler)).await;
        let mut peer = Peer::connect_json(server.addr).await;
        for (seq, method) in (1..).zip(["Fail.first_poll", "Fail.late"]) {
            peer.send(&json_message(method, seq, json!(null))).await;
            let reply = peer.read_message().await;
            assert_eq!(reply.seq(), seq);
            assert!(reply.error().contains("panicked"), "{method}: {:?}", reply.error());
        }
        peer.send(&json_message("Fail.not", 3, json!(null))).await;
        assert_eq!(peer.read_message().await.value(), "fine");
    });
}

/// A handler whose future panics when it is dropped has its reply sent all the same, and harms nobody else.
///
/// The future is dropped after its last poll, with the guards that it holds; a guard's `Drop` is code of the
/// application, and this panic comes where nobody expects one.
///
/// Hint: drop the handler's future where panics are caught.
#[test]
fn a_panic_in_the_drop_of_a_handler_harms_nobody() {
    struct Rude {
        request: Request,
        is_late: bool,
    }
    impl Future for Rude {
        type Output = anyhow::Result<Reply>;

        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
            if std::mem::take(&mut self.is_late) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(Ok(self.request.reply("done")?))
        }
    }
    impl Drop for Rude {
        fn drop(&mut self) {
            panic!("this panic is part of the test");
        }
    }

    run(async || {
        let handler = |request: Request| {
            let is_late = request.service_method() == "Rude.late";
            Rude { request, is_late }
        };
        let server = start(Server::new(handler)).await;
        let mut peer = Peer::connect_json(server.addr).await;
        for (seq, method) in (1..).zip(["Rude.at_once", "Rude.late", "Rude.at_once"]) {
            peer.send(&json_message(method, seq, json!(null))).await;
            let reply = peer.read_message().await;
            assert_eq!((reply.seq(), reply.error()), (seq, ""), "{method}");
            assert_eq!(reply.value(), "done", "{method}");
        }
    });
}

/// A peer that sends without reading is stopped, so the server's memory does not grow; and when it reads
/// again it gets every reply.
///
/// Replies that nobody reads pile up somewhere. A server that goes on reading piles them up in its memory.
///
/// Hint: do not read further requests while many bytes are queued. TCP stops the peer then.
#[test]
fn a_peer_that_does_not_read_is_stopped_and_loses_nothing() {
    run_paused(async || {
        const CALLS: u64 = 2000;
        let served = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&served);
        let server = Server::new(move |request: Request| {
            counter.fetch_add(1, SeqCst);
            async move { Ok(request.reply(&request.decode::<String>()?)?) }
        });
        let (client, io) = duplex(4096);
        tokio::spawn(async move { server.serve_connection(io).await });
        let mut peer = Peer { io: client };
        peer.shake_hands_json().await;

        let text = "x".repeat(1000);
        let requests: Vec<u8> =
            (1..=CALLS).flat_map(|seq| json_message("Echo.text", seq, json!(text))).collect();
        let mut sent = 0;
        // The clock is paused: it moves only when nothing else does, that is when the server has stopped.
        while let Ok(n) =
            tokio::time::timeout(Duration::from_millis(100), peer.io.write(&requests[sent..])).await
        {
            sent += n.unwrap();
            assert!(sent < requests.len() / 2, "the server takes {sent} bytes and nobody reads its replies");
        }
        let bound = MAX_QUEUED_BYTES + 64 * 1024;
        assert!(sent <= bound, "the server took {sent} bytes although nobody reads its replies");
        assert!(served.load(SeqCst) * 1000 <= bound);

        let (mut read, mut write) = tokio::io::split(peer.io);
        let rest = tokio::spawn(async move { write.write_all(&requests[sent..]).await });
        let mut replies = FrameReader::new(&mut read, DEFAULT_MAX_FRAME_LEN);
        for seq in 1..=CALLS {
            let header = within("a reply", replies.read()).await.unwrap().unwrap();
            assert_eq!(Codec::Json.decode::<Header>(&header).unwrap().seq, seq);
            let body = within("a reply's body", replies.read()).await.unwrap().unwrap();
            assert!(Codec::Json.decode::<String>(&body).unwrap() == text);
        }
        within("the rest of the requests", rest).await.unwrap().unwrap();
    });
}

/// Whatever a peer sends, `serve_connection` comes to an end without a panic, allocates no more than a frame
/// may have, and everything it says is whole frames.
///
/// Garbage, garbage in good frames, and good messages at the wrong time: chance tries what nobody thinks of.
///
/// Hint: if it fails, the message ends with the smallest input that does it. Write a test for that one.
#[test]
fn no_bytes_make_a_connection_panic() {
    const MAX: usize = 20_000;
    let bytes = || prop::collection::vec(any::<u8>(), 0..60);
    let method = prop_oneof![Just("Arith.sum"), Just("Arith.sleep"), Just(""), Just("$/cancel")];
    let piece = prop_oneof![
        bytes(),
        bytes().prop_map(frame),
        Just(frame(r#"{"num1":1,"num2":2}"#)),
        Just(b"\x00\x00\x4e\x20".to_vec()), // announces a frame of 20,000 bytes
        (method, 0..4_u64).prop_map(|(method, seq)| {
            frame(json!({"service_method": method, "seq": seq, "error": null}).to_string())
        }),
    ];
    let hello = prop_oneof![
        1 => Just(Vec::new()),
        2 => Just(options(&["application/json"])),
        2 => Just(options(&["application/bincode"])),
    ];
    let server = Server::new(arith()).max_frame_len(MAX);
    proptest!(proptest_config(), |(hello in hello, pieces in prop::collection::vec(piece, 0..8))| {
        let server = server.clone();
        run(async move || {
            let (mut client, io) = duplex(64 * 1024);
            let largest_buffer = Arc::new(AtomicUsize::new(0));
            let io = Watched { io, largest_buffer: Arc::clone(&largest_buffer) };
            let served = tokio::spawn(async move { server.serve_connection(io).await.is_ok() });
            within("everything sent", client.write_all(&[hello, pieces.concat()].concat())).await.unwrap();
            within("the end sent", client.shutdown()).await.unwrap();
            let mut said = BytesMut::new();
            while within("the end of the stream", client.read_buf(&mut said)).await.unwrap() > 0 {}
            within("the end of the connection", served).await.expect("no panic");

            while LengthDelimitedCodec::new().decode(&mut said).unwrap().is_some() {}
            assert!(said.is_empty(), "not a whole frame: {said:?}");
            let largest = largest_buffer.load(SeqCst);
            assert!(largest <= MAX + 16 * 1024, "{largest} bytes were allocated");
        });
    });
}
