//! Hardening, the server: handlers that panic wherever they can, the errors of other servers, clients that flood it,
//! and memory that is kept.
//!
//! Nothing new is to be written. Each of these breaks a server that passes everything before.
//!
//! Chapter: Limits

use super::*;

/// A panic whose payload panics when it is dropped, and the next one too, is an error reply like any other, wherever in
/// the handler it happens: before the future exists, at its first poll, or later.
///
/// What a handler panics with is a value of its own. Such a one lost a reply and a place for good; dropped while
/// another panic is on its way it ends the process.
///
/// Hint: drop the payload where panics are caught; what comes out of that is forgotten. The messages of these panics are on
/// purpose.
#[test]
fn a_payload_that_panics_when_it_is_dropped_is_an_error_reply() {
    struct Rude;
    impl Drop for Rude {
        fn drop(&mut self) {
            std::panic::panic_any(Rude);
        }
    }
    fn panics_at(request: &Request, place: &str) {
        if request.service_method() == place {
            std::panic::panic_any(Rude);
        }
    }

    alone(module_path!(), "a_payload_that_panics_when_it_is_dropped_is_an_error_reply", || {
        run(async || {
            let handler = |request: Request| {
                panics_at(&request, "Panic.early");
                async move {
                    panics_at(&request, "Panic.first_poll");
                    tokio::task::yield_now().await;
                    panics_at(&request, "Panic.late");
                    Ok(request.reply("fine")?)
                }
            };
            let (mut peer, _served) = serve_in_memory(Server::new(handler).max_in_flight(1));
            peer.handshake_json().await;
            for (seq, method) in (1..).zip(["Panic.early", "Panic.first_poll", "Panic.late"]) {
                peer.send(&call(method, seq, json!(null))).await;
                let reply = peer.read_message().await;
                let read = (reply.seq(), reply.code(), reply.is_refused());
                assert_eq!(read, (seq, "internal", false), "{method}");
            }
            peer.send(&call("Panic.not", 9, json!(null))).await;
            assert_eq!(peer.read_message().await.value(), "fine", "and its place is free again");
        });
    });
}

/// A panic while an error is turned into text is a panic of the handler, too.
///
/// An error's `Display` is code of the application as well. It runs late, when the handler has returned.
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
        let (mut peer, _served) = serve_in_memory(Server::new(handler));
        peer.handshake_json().await;
        for (seq, method) in (1..).zip(["Fail.first_poll", "Fail.late"]) {
            peer.send(&call(method, seq, json!(null))).await;
            let reply = peer.read_message().await;
            assert_eq!((reply.seq(), reply.code()), (seq, "internal"), "{method}");
        }
        peer.send(&call("Fail.not", 3, json!(null))).await;
        assert_eq!(peer.read_message().await.value(), "fine");
    });
}

/// A handler whose future panics when it is dropped has its reply sent all the same, and harms no other call; also if
/// it has panicked before. Its place is free again.
///
/// The future is dropped after its last poll, with the guards that it holds. A guard's `Drop` is code of the
/// application, and this panic comes where no one expects it.
///
/// Hint: drop the handler's future where panics are caught, and not while another panic is on its way.
#[test]
fn a_panic_in_the_drop_of_a_handler_harms_no_call() {
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
            assert_ne!(self.request.service_method(), "Rude.panics", "this panic is part of the test");
            Poll::Ready(Ok(self.request.reply("done")?))
        }
    }
    impl Drop for Rude {
        fn drop(&mut self) {
            panic!("this panic is part of the test");
        }
    }

    alone(module_path!(), "a_panic_in_the_drop_of_a_handler_harms_no_call", || {
        run(async || {
            let handler = |request: Request| {
                let is_late = request.service_method() == "Rude.late";
                Rude { request, is_late }
            };
            let (mut peer, _served) = serve_in_memory(Server::new(handler).max_in_flight(1));
            peer.handshake_json().await;
            for (seq, method) in (1..).zip(["Rude.at_once", "Rude.late", "Rude.at_once"]) {
                peer.send(&call(method, seq, json!(null))).await;
                let reply = peer.read_message().await;
                assert_eq!((reply.seq(), reply.value()), (seq, json!("done")), "{method}");
            }
            peer.send(&call("Rude.panics", 4, json!(null))).await;
            let reply = peer.read_message().await;
            assert_eq!((reply.seq(), reply.code()), (4, "internal"));
            peer.send(&call("Rude.at_once", 5, json!(null))).await;
            assert_eq!(peer.read_message().await.value(), "done");
        });
    });
}

/// A client that floods the server with calls which are answered at once does not hold up the calls of another, on
/// the same thread.
///
/// One read holds hundreds of small calls, or some larger ones, and Tokio's budget counts reads. A connection that
/// answers all that it has read, and reads on as long as there is more, does not let the other have a turn: in an
/// earlier version for 95 ms.
///
/// Hint: note how long calls were started since all others had a turn, and after a slice of time yield once.
#[test]
fn a_flood_of_ready_handlers_holds_up_no_other_client() {
    run(async || {
        let flood_calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&flood_calls);
        let server = Server::new(move |request: Request| {
            if request.service_method() == "Flood.call" {
                let started = Instant::now();
                while started.elapsed() < Duration::from_micros(100) {}
                counted.fetch_add(1, SeqCst);
            }
            async move { Ok(request.reply(&1)?) }
        });
        let server = start(server).await;
        for body_len in [1, 1000, 3000] {
            let flood = Peer::connect_json(server.addr).await;
            let (mut replies, mut calls) = flood.io.into_split();
            let flooding = tokio::spawn(async move {
                let body = json!("x".repeat(body_len));
                let batch: Vec<u8> = (0..100).flat_map(|seq| call("Flood.call", seq, body.clone())).collect();
                while calls.write_all(&batch).await.is_ok() {}
            });
            let reading = tokio::spawn(async move {
                let mut buf = vec![0; 1 << 16];
                while replies.read(&mut buf).await.is_ok_and(|count| count > 0) {}
            });
            let before = flood_calls.load(SeqCst);
            eventually("the flood has begun", || flood_calls.load(SeqCst) - before > 1000).await;

            let client = connect(&server, &json_only()).await;
            let mut meanwhile = Vec::new();
            for _ in 0..21 {
                let before = flood_calls.load(SeqCst);
                let call = client.call::<_, u32>("Other.call", &1);
                within("the reply beside the flood", call).await.unwrap();
                meanwhile.push(flood_calls.load(SeqCst) - before);
            }
            flooding.abort();
            reading.abort();
            meanwhile.sort();
            let half = meanwhile[10];
            assert!(
                half < 60,
                "bodies of {body_len} bytes: {half} calls of the flood were answered while one of another client waited"
            );
        }
    });
}

/// A client may end its direction right behind its calls: those that were read together are all answered, also
/// if each takes longer than its slice of time, and the end of the connection is clean.
///
/// Hint: read on only when no whole message is left over from the last read.
#[test]
fn calls_that_were_read_together_are_all_answered_behind_an_end() {
    run(async || {
        const CALLS: u64 = 20;
        let slow = async |request: Request| -> anyhow::Result<Reply> {
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(2) {
                std::hint::spin_loop();
            }
            Ok(request.reply(&request.decode::<u64>()?)?)
        };
        let (mut peer, served) = serve_in_memory(Server::new(slow));
        peer.handshake_json().await;
        let calls: Vec<u8> = (0..CALLS).flat_map(|seq| call("Slow.echo", seq, json!(seq))).collect();
        peer.send(&calls).await;
        peer.end().await;
        for seq in 0..CALLS {
            let answer = peer.read_message().await;
            assert_eq!((answer.seq(), answer.value()), (seq, json!(seq)));
        }
        peer.expect_end().await;
        let ended = within("the end of the connection", served).await.unwrap();
        assert!(ended.is_ok(), "the client ended the stream between two messages, but: {ended:?}");
    });
}

/// A handler that passes on another server's error with `?` passes on its code and its message, as they were written.
/// That the other server refused the call is not passed on.
///
/// `Display` escapes the message, and the escapes would travel. A client behind two such servers reads `\\n` where the
/// error had a new line.
///
/// Hint: look for a `RemoteError` in the error before you ask for its text.
#[test]
fn a_handler_passes_on_the_error_of_another_server() {
    run(async || {
        const TEXT: &str = "line 1:\n\texpected a number";
        let (client, mut other) = pair().await;
        let (mut peer, _served) = serve_in_memory(Server::new(move |request: Request| {
            let client = client.clone();
            async move {
                let number: u32 = client.call("Other.number", &1).await?;
                Ok(request.reply(&number)?)
            }
        }));
        peer.handshake_json().await;
        for (seq, answer) in (1..).zip([reply_error, reply_refused]) {
            peer.send(&call("Test.pass_on", seq, json!(null))).await;
            let asked = next_call(&mut other).await;
            other.send(&answer(asked.seq(), "data_loss", TEXT)).await;
            let reply = peer.read_message().await;
            assert_eq!((reply.code(), reply.message(), reply.is_refused()), ("data_loss", TEXT, false));
        }
    });
}

/// When a large frame has been read or written and dropped, its memory goes with it, and what arrived behind it
/// stays.
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
            const LEN: usize = 8 * 1024 * 1024;
            let large = Bytes::from(frame(vec![7; LEN]));
            let behind = Bytes::from(frame("behind it"));
            let before = resident_kib();
            let mut idle = Vec::new();
            for _ in 0..40 {
                let end = [&large[4 + LEN - 100..], &behind[..6]].concat().into();
                let pieces = [large.slice(..4 + LEN - 100), end, behind.slice(6..)];
                let mut reader = FrameReader::new(Pieces::new(pieces));
                let read = within("the large frame", reader.read(LEN)).await.unwrap();
                assert!(read.as_deref() == Some(&large[4..]));
                drop(read);
                let read = within("the frame behind it", reader.read(LEN)).await.unwrap();
                assert_eq!(read.as_deref(), Some(b"behind it".as_slice()));

                let mut writer = FrameWriter::new(tokio::io::sink());
                writer.queue(large.clone()).unwrap();
                within("the flush", writer.flush()).await.unwrap();
                writer.queue(behind.clone()).unwrap();
                within("the flush of a small one", writer.flush()).await.unwrap();
                idle.push((reader, writer));
            }
            let kept = resident_kib().saturating_sub(before) / 1024;
            assert!(kept < 160, "40 connections, idle after a frame of 8 MiB each way, hold {kept} MiB");
        });
    });
}

/// A connection that is idle after a burst of calls gives the memory of the burst back.
///
/// Buffers and tables grow to the largest burst. 5,000 idle connections once held 250 KiB each.
///
/// Hint: what is empty and large can be replaced, or told to shrink.
#[test]
#[cfg(target_os = "linux")] // it asks the system how much memory the process has
fn an_idle_connection_gives_the_memory_of_a_burst_back() {
    alone(module_path!(), "an_idle_connection_gives_the_memory_of_a_burst_back", || {
        run(async || {
            const CALLS: u64 = 1000;
            const PEERS: usize = 40;
            let all_in_flight = Arc::new(Barrier::new(CALLS as usize));
            let server = Server::new(move |request: Request| {
                let all_in_flight = Arc::clone(&all_in_flight);
                async move {
                    all_in_flight.wait().await;
                    Ok(request.reply(&"x".repeat(200))?)
                }
            });
            let burst: Vec<u8> = (1..=CALLS).flat_map(|seq| call("Burst.call", seq, json!(null))).collect();
            let mut idle = Vec::new();
            let mut before = 0;
            for number in 0..PEERS {
                if number == 10 {
                    before = resident_kib(); // by now everything that is shared has its size
                }
                let (client, io) = duplex(1024);
                let server = server.clone();
                tokio::spawn(async move { server.serve_connection(io).await });
                let mut peer = Peer { io: client };
                peer.handshake_json().await;
                let (mut read, mut write) = tokio::io::split(peer.io);
                let replies = async {
                    let mut replies = FrameReader::new(&mut read);
                    for _ in 0..2 * CALLS {
                        replies.read(1000).await.unwrap();
                    }
                };
                let both = async { tokio::join!(replies, write.write_all(&burst)) };
                within("a reply to each call", both).await.1.unwrap();
                idle.push((read, write));
            }
            let kept = resident_kib().saturating_sub(before) / (PEERS - 10);
            assert!(kept < 32, "an idle connection holds {kept} KiB");
        });
    });
}

/// A client of another protocol reads what it began with: those four bytes were taken for a length.
///
/// "A frame of 1195725856 bytes" does not tell an operator that a browser opened the port.
///
/// Hint: the error has the length; its bytes are what the peer sent.
#[test]
fn a_peer_of_another_protocol_reads_what_it_began_with() {
    run(async || {
        for (request, first) in
            [("GET / HTTP/1.1\r\n\r\n", "GET "), ("CONNECT /_rrpc_ HTTP/1.1\r\n\r\n", "CONN")]
        {
            let (io, mut answer) = duplex(4096);
            let (mut reader, mut writer) = (FrameReader::new(request.as_bytes()), FrameWriter::new(io));
            let limits = Limits::default();
            let accepted = accept(&mut reader, &mut writer, &limits);
            let error = within("the end of the handshake", accepted).await.unwrap_err();
            assert!(
                matches!(&error, Error::Handshake(text) if text.contains(first)),
                "{request:?}: {error:?}"
            );
            drop(writer);
            let mut refusal = String::new();
            within("the refusal", answer.read_to_string(&mut refusal)).await.unwrap();
            assert!(refusal.contains(first), "{request:?}: {refusal:?}");
        }
    });
}
