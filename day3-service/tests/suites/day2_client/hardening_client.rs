//! Hardening, the client: hostile servers, broken streams, and callers that go away at the worst moment.
//!
//! Write what a client is told of a handler's error: `About::remote_error` and `as_remote` in
//! `src/server/handler.rs`. Each of the others breaks a client that passes everything before.
//!
//! Chapter: Limits

use super::*;

/// Nothing behind the server's hello is lost, however the bytes are cut.
///
/// GeeRPC's decoder reads ahead, and throws away what it has read. A stream has no borders but those of frames.
///
/// Hint: keep one reader from the first byte to the last.
#[test]
fn bytes_right_behind_the_hello_are_not_lost() {
    run(async || {
        let (hello, last) = (server_hello("application/json"), goaway("full"));
        // The hello with a part of the first message, then the rest of it.
        for cut in 0..=last.len() {
            let (io, other_end) = duplex(1 << 16);
            let mut peer = Peer { io: other_end };
            peer.send(&[&hello[..], &last[..cut]].concat()).await;
            let client = within("the handshake", Client::handshake(io, &json_only())).await.unwrap();
            peer.send(&last[cut..]).await;
            eventually("the first message behind the hello is noticed", || !client.is_available()).await;
            let refused = within("the refusal of a call", client.call::<_, u32>("Test.number", &1)).await;
            assert!(not_sent(refused).contains("full"));
        }

        // Everything one byte at a time, in both directions.
        let (io, other_end) = duplex(1);
        let (client, mut peer) = connected(Watched::one_byte(io), other_end, &json_only(), json!({})).await;
        check_it_works(&client, &mut peer).await;
        check_it_works(&client, &mut peer).await;
    });
}

/// A client that is refused closes the stream, over a socket too; and a port where no server listens is an
/// `Error::Io` with the reason of the operating system.
///
/// "No server" and "a server that refuses" ask for different actions, so a caller must be able to match on them.
///
/// Hint: `?` on the `io::Error` will do. What the function owns is closed when it returns.
#[test]
fn a_connection_that_fails_says_how() {
    run(async || {
        let server = start(Server::new(arith()).codecs([Codec::Bincode])).await;
        match within("the end of the handshake", Client::connect(server.addr, &json_only())).await {
            Err(Error::Handshake(_)) => {}
            other => panic!("expected Error::Handshake, got {other:?}"),
        }
        let (io, other_end) = duplex(1 << 16);
        let mut peer = Peer { io: other_end };
        peer.send(&server_refusal("no")).await;
        let refused = within("the end of the handshake", Client::handshake(io, &json_only())).await;
        assert!(matches!(refused, Err(Error::Handshake(_))), "{refused:?}");
        peer.read_json().await; // the hello
        expect_end(&mut peer).await;

        let socket = TcpSocket::new_v4().unwrap(); // it keeps the port for us, and does not listen
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let addr = socket.local_addr().unwrap();
        match within("the end of connect", Client::connect(addr, &Options::default())).await {
            Err(Error::Io(error)) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused),
            other => panic!("expected Error::Io, got {other:?}"),
        }
    });
}

/// Limits of nothing and of everything are limits like others.
///
/// `usize::MAX` is what a setting of "no limit" looks like, and sums with it overflow. A client with no place at
/// all could never call; one place is the least.
///
/// Hint: `clamp`.
#[test]
fn limits_at_their_ends_do_no_harm() {
    run(async || {
        for (own, servers) in [(0, 5), (5, 0), (usize::MAX, usize::MAX)] {
            let options = json_only().max_in_flight(own).max_body_len(usize::MAX);
            let fields = json!({"max_in_flight": servers, "max_body_len": usize::MAX});
            let (client, mut peer) = pair_with(&options, fields).await;
            for _ in 0..3 {
                check_it_works(&client, &mut peer).await;
            }
        }
        // A server that takes no body, and a client that does not: a value of no bytes passes.
        let options = Options::default().max_body_len(0);
        let (io, other_end) = duplex(1 << 16);
        let server = Server::new(async |request: Request| Ok(request.reply(&())?)).max_body_len(0);
        tokio::spawn(async move { server.serve_connection(other_end).await });
        let client = within("the handshake", Client::handshake(io, &options)).await.unwrap();
        within("a call of nothing", client.call::<_, ()>("Test.nothing", &())).await.unwrap();
        let failed = within("a call of something", client.call::<_, ()>("Test.some", &1)).await;
        assert!(matches!(failed, Err(Error::FrameTooLarge { len: 1, max: 0 })), "{failed:?}");
    });
}

/// Numbers never repeat, when many tasks on several threads call at the same time.
///
/// A number that two calls share goes unnoticed while calls come one by one. Then a reply meets the wrong caller.
///
/// Hint: an atomic counter, or a counter under the lock.
#[test]
fn numbers_never_repeat() {
    run_threads(async || {
        let (client, mut peer) = pair().await;
        let mut tasks = JoinSet::new();
        for _ in 0..200 {
            let client = client.clone();
            // Some give up at once. Their numbers are used up, too.
            tasks.spawn(async move { vec![begin(&client, 0).await, begin(&client, 0).await].split_off(1) });
        }
        let kept = within("the end of all tasks", tasks.join_all()).await;
        let numbers: BTreeSet<u64> = kept.iter().flatten().map(PendingCall::seq).collect();
        assert_eq!(numbers.len(), 200);
        // All 200 that were kept arrive, and perhaps some of the others.
        let mut seen = BTreeSet::new();
        while !numbers.is_subset(&seen) {
            assert!(seen.insert(next_call(&mut peer).await.seq()), "a number came twice");
        }
    });
}

/// The frames of callers that call at the same time never mix, however little the stream takes.
///
/// A header, a body and then the next header: if two tasks write for themselves, one's header comes between the
/// other's header and body as soon as a write takes only a part.
///
/// Hint: one task does all the writing.
#[test]
fn the_frames_of_two_callers_never_mix() {
    run_threads(async || {
        let (io, other_end) = duplex(16);
        let (client, mut peer) = connected(Watched::one_byte(io), other_end, &json_only(), json!({})).await;
        let mut tasks = JoinSet::new();
        for task in 0..60 {
            let client = client.clone();
            // Every twentieth argument is a big one.
            let argument = vec![task; if task % 20 == 0 { 3000 } else { 3 }];
            tasks.spawn(async move {
                let reply = client.call::<_, Vec<u32>>("Test.mix", &argument).await.unwrap();
                assert_eq!(reply, argument);
            });
        }
        let mut calls = Vec::new();
        for _ in 0..60 {
            let call = next_call(&mut peer).await;
            assert_eq!(call.header["call"]["service_method"], "Test.mix");
            let argument: Vec<u32> = serde_json::from_value(call.value()).expect("one argument in one piece");
            assert!(argument.iter().all(|number| *number == argument[0]), "mixed: {argument:?}");
            calls.push(call);
        }
        for call in calls {
            let body = call.value();
            answer(&mut peer, &call, body).await;
        }
        within("the replies", tasks.join_all()).await;
    });
}

/// The client goes on reading while a write of its own does not get ahead.
///
/// The server may be in the same position. If each side reads only when it has written, both wait without end.
///
/// Hint: both directions in one `select!`.
#[test]
fn the_client_reads_while_it_writes() {
    run(async || {
        let (client, mut peer) = narrow_pair().await;
        let call = begin_big(&client).await;
        // The peer reads nothing before all of this is written: the client must take it.
        peer.send(&reply(1000, json!("x".repeat(100_000)))).await;
        let seen = next_call(&mut peer).await;
        answer(&mut peer, &seen, json!(1)).await;
        assert_eq!(within("the reply", call).await.unwrap(), 1);
    });
}

/// A reply with the number of a request that has not left is ignored: it neither reaches the caller nor frees the
/// place.
///
/// A server that does not read, but guesses numbers, would otherwise free a place with each guess. The client
/// would take the next call, and the next, and buffer their requests without end.
///
/// Hint: a place is given back when its request has left, and not before.
#[test]
fn guessed_replies_free_no_places() {
    run(async || {
        let (io, other_end) = duplex(64);
        let options = json_only().max_in_flight(4);
        let (client, mut peer) = connected(io, other_end, &options, json!({})).await;
        let sent = begin_big(&client).await;
        peer.read_json().await; // its header has left, and its body fills the stream
        let unsent = begin(&client, 1).await;
        peer.send(&[reply(unsent.seq(), json!(666)), reply(sent.seq(), json!(5))].concat()).await;
        assert_eq!(within("the reply to the request that has left", sent).await.unwrap(), 5);
        assert_eq!(client.in_flight(), 1, "a reply to a request that has not left was taken for one");

        // As fast as it can: a call more, a guess for each number so far. The peer never reads again.
        let mut calls = Vec::new();
        while calls.len() < 100 {
            let Some(call) = poll_once(client.start::<_, u32>("Test.number", &1)).await else { break };
            calls.push(call.unwrap());
            let guesses: Vec<u8> = (0..200).flat_map(|seq| reply(seq, json!(666))).collect();
            let (writing, yielding) = (peer.send(&guesses), tokio::task::yield_now());
            tokio::join!(writing, yielding);
        }
        assert!(calls.len() <= 8, "{} calls of a limit of 4 are waiting to be written", calls.len());

        // And when the peer reads, everything goes on.
        assert_eq!(peer.read_frame().await.len(), 100_002, "the body of the first call");
        for call in [unsent].into_iter().chain(calls) {
            let seen = next_call(&mut peer).await;
            answer(&mut peer, &seen, json!(7)).await;
            assert_eq!(within("the reply", call).await.unwrap(), 7);
        }
        check_it_works(&client, &mut peer).await;
    });
}

/// A `start` that is dropped while it waits for a place loses its turn, and nothing else: the calls behind it
/// move up.
///
/// A place that was handed to a caller which went away at that moment must go to the next one.
///
/// Hint: a semaphore does it, if nothing is awaited between the permit and the entry.
#[test]
fn a_start_that_is_dropped_in_the_queue_loses_nothing() {
    run(async || {
        let (client, mut peer) = pair_with(&json_only().max_in_flight(1), json!({})).await;
        for number in 0..30 {
            let (mut calls, seen) = begin_many(&client, &mut peer, 1).await;
            let mut first = Box::pin(client.start::<_, u32>("Test.number", &1));
            let mut second = Box::pin(client.start::<_, u32>("Test.number", &2));
            assert!(waits(first.as_mut()).await && waits(second.as_mut()).await);
            let replied = async {
                answer(&mut peer, &seen[0], json!(0)).await;
                within("the reply", calls.remove(0)).await.unwrap();
            };
            match number % 3 {
                0 => {
                    drop(first); // before there is a place
                    replied.await;
                }
                1 => {
                    replied.await;
                    drop(first); // the place is its own by now, and it has not looked
                }
                _ => {
                    replied.await;
                    waits(first.as_mut()).await;
                    drop(first); // it has looked
                }
            }
            let call = within("start, as there is a place", second).await.unwrap();
            let seen = next_call(&mut peer).await;
            assert_eq!(seen.value(), 2, "the call of a caller that had gone was sent");
            answer(&mut peer, &seen, json!(2)).await;
            assert_eq!(within("the reply", call).await.unwrap(), 2);
        }
    });
}

/// A reset of the socket, and the end of the runtime that drives the client, end its calls like any other end.
///
/// The one is an error of the socket and not its end; and in the other the task is dropped where it stands, so that
/// no line behind its loop runs.
///
/// Hint: what must happen however a task ends belongs in a `Drop`.
#[test]
fn calls_fail_however_the_connection_ends() {
    run(async || {
        let (client, mut peer) = tcp_pair().await;
        let (calls, _) = begin_many(&client, &mut peer, 3).await;
        peer.io.set_zero_linger().unwrap();
        drop(peer);
        end::expect_all_lost(&client, calls).await;

        let other =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (client, mut peer) = other.spawn(pair()).await.unwrap();
        let (calls, _) = begin_many(&client, &mut peer, 2).await;
        other.shutdown_background();
        end::expect_all_lost(&client, calls).await;
        within("the end, for a task that waits for it", client.closed()).await;
    });
}

/// The client ends with its last owner also in the middle of a write to a server that does not read, and if it is a
/// panic that drops it.
///
/// A task that only looks for the end of its queue does not look while it writes: it would stay for as long as
/// the server is silent.
///
/// Hint: the client owns its task. `AbortOnDropHandle` aborts it.
#[test]
fn dropping_the_client_ends_a_write_that_is_stuck() {
    run(async || {
        let before = alive_tasks();
        let (client, _silent) = narrow_pair().await;
        drop(begin_big(&client).await);
        tokio::task::yield_now().await;
        let panics = tokio::spawn(async move {
            let _client = client;
            panic!("this panic is part of the test");
        });
        assert!(within("the end of the client's owner", panics).await.unwrap_err().is_panic());
        eventually("the client's task ends", || alive_tasks() == before).await;
    });
}

/// A reason of megabytes costs each caller a few words of it.
///
/// Every call in flight fails with the reason, and so does every later one. A thousand copies of one long text
/// are gigabytes, for one frame.
///
/// Hint: `truncate` it where it is kept, before it is copied. A header has 16 KiB, and callers are many.
#[test]
fn a_long_reason_is_cut_for_every_caller() {
    run(async || {
        let (client, mut peer) = pair().await;
        let (calls, _) = begin_many(&client, &mut peer, 3).await;
        peer.send(&goaway(&format!("going down{}", "!".repeat(10_000)))).await;
        eventually("the goaway is noticed", || !client.is_available()).await;
        let check = |reason: String| {
            assert!(reason.contains("going down!"), "{reason:.100}");
            assert!(reason.len() < 2000, "a reason of {} bytes for each caller", reason.len());
        };
        check(not_sent(within("the refusal", client.call::<_, u32>("Test.number", &1)).await));
        drop(peer);
        check(end::expect_all_lost(&client, calls).await);
    });
}

/// What runs when a caller is woken may use the client.
///
/// A waker is code of the runtime, and may be anyone's: it may run the task at once, and a task that is dropped
/// drops its calls. If the table's lock is held meanwhile, the thread waits for itself.
///
/// Hint: collect what is done under the lock, and wake when it is free.
#[test]
fn a_waker_may_use_the_client() {
    struct Uses {
        client: Client,
        woken: mpsc::UnboundedSender<usize>,
        other_call: Mutex<Option<PendingCall<u32>>>,
    }
    impl Wake for Uses {
        fn wake(self: Arc<Self>) {
            drop(self.other_call.lock().unwrap().take());
            self.woken.send(self.client.in_flight()).ok();
        }
    }

    run(async || {
        for ends in [false, true] {
            let (client, mut peer) = pair().await;
            let (mut calls, seen) = begin_many(&client, &mut peer, 2).await;
            let (woken, mut when_woken) = mpsc::unbounded_channel();
            let other_call = Mutex::new(calls.pop());
            let waker = Waker::from(Arc::new(Uses { client: client.clone(), woken, other_call }));
            let mut call = calls.pop().unwrap();
            assert!(Pin::new(&mut call).poll(&mut Context::from_waker(&waker)).is_pending());
            if ends {
                drop(peer);
            } else {
                answer(&mut peer, &seen[0], json!(1)).await;
            }
            within("the waker is called", when_woken.recv()).await.unwrap();
            let result = within("the outcome", poll_fn(|cx| Pin::new(&mut call).poll(cx))).await;
            assert_eq!(result.is_ok(), !ends, "{result:?}");
            assert_eq!(client.in_flight(), 0);
        }
    });
}

/// Small requests leave at once over a real socket (`TCP_NODELAY`).
///
/// With Nagle's algorithm the second of two small requests waits until the peer acknowledges the first, and a peer that
/// has just answered something waits some 40 ms with that, in case that it answers again.
///
/// Hint: `set_nodelay`, in `connect`.
#[test]
fn a_small_request_leaves_at_once() {
    run(async || {
        let (client, mut peer) = tcp_pair().await;
        let mut times = Vec::new();
        for _ in 0..31 {
            check_it_works(&client, &mut peer).await;
            let first = begin(&client, 1).await;
            next_call(&mut peer).await;
            let started = Instant::now();
            let second = begin(&client, 2).await;
            next_call(&mut peer).await;
            times.push(started.elapsed());
            drop((first, second));
        }
        times.sort();
        assert!(times[15] < Duration::from_millis(20), "half of the requests took more than {:?}", times[15]);
    });
}

/// A client at the wrong port reads what that server began with: those four bytes were taken for a length.
///
/// "A frame of 1213486160 bytes" does not tell a reader that this is the port of a web server.
///
/// Hint: the error has the length; its bytes are what the peer sent.
#[test]
fn a_server_of_another_protocol_is_known_by_what_it_began_with() {
    run(async || {
        let (io, mut server) = duplex(4096);
        server.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let client = within("the end of the handshake", Client::handshake(io, &Options::default())).await;
        assert!(matches!(&client, Err(Error::Handshake(text)) if text.contains("HTTP")), "{client:?}");
    });
}

/// The text of an error travels as it is, and is displayed without the characters that control a terminal.
///
/// A peer chooses the text. `\x1b]0;owned\x07` changes the title of the window that shows it, and a line break forges a
/// line of a log.
///
/// Hint: escape in `Display`, not on the wire: a program may want the text as it was.
#[test]
fn the_text_of_a_peer_is_displayed_without_control_characters() {
    const TEXT: &str = "\x1b]0;owned\x07\r\n2026-01-01 all is well\u{9b}31m";
    let remote = RemoteError::new(Code::new(TEXT), TEXT);
    let errors = [
        Error::Handshake(TEXT.to_owned()),
        Error::Protocol(TEXT.to_owned()),
        Error::Disconnected(TEXT.to_owned()),
        Error::NotSent(TEXT.to_owned()),
        Error::Remote(remote.clone()),
        Error::Refused(remote.clone()),
    ];
    assert_eq!((remote.message(), remote.code().as_str()), (TEXT, TEXT), "the text itself");
    let mut shown = vec![remote.to_string(), remote.code().to_string()];
    shown.extend(errors.iter().map(ToString::to_string));
    for shown in shown {
        assert!(!shown.contains(char::is_control), "{shown:?}");
        assert!(shown.contains("all is well"), "the rest is there: {shown:?}");
    }
    run(async || {
        let server = Server::new(async |_| Err(RemoteError::new(Code::ABORTED, TEXT).into()));
        let (mut peer, _served) = serve_in_memory(server);
        peer.handshake_json().await;
        peer.send(&call("Test.fail", 1, json!(null))).await;
        let reply = peer.read_message().await;
        assert_eq!(
            reply.header["reply"]["error"]["message"], TEXT,
            "on the wire it is as the handler wrote it"
        );
    });
}

/// Replies that were read together with a message that breaks the rules reach their callers.
///
/// The calls have run, and their replies are here. An error would say that they may have run.
///
/// Hint: hand out what was taken before you return the error.
#[test]
fn replies_in_front_of_a_broken_message_count() {
    run(async || {
        let (client, mut peer) = pair().await;
        let (mut calls, seen) = begin_many(&client, &mut peer, 2).await;
        peer.send(&[reply(seen[0].seq(), json!(7)), frame("no header")].concat()).await;
        assert_eq!(within("the reply", calls.remove(0)).await.unwrap(), 7);
        disconnected(within("the end of the other call", calls.remove(0)).await);
    });
}

/// Replies that were read together with a goaway reach their callers at once.
///
/// Nothing more may come. A client that stops at the goaway and reads on waits for a byte that is not sent.
///
/// Hint: a goaway is one message among those that were read.
#[test]
fn replies_behind_a_goaway_of_the_same_read_count() {
    run(async || {
        let (client, mut peer) = pair().await;
        let (mut calls, seen) = begin_many(&client, &mut peer, 1).await;
        peer.send(&[goaway("shutting down"), reply(seen[0].seq(), json!(7))].concat()).await;
        assert_eq!(within("the reply", calls.remove(0)).await.unwrap(), 7);
    });
}

/// What lies behind a large payload leaves in the same write.
///
/// Hint: the small frames at the end are a part of the write as well.
#[test]
fn small_frames_behind_a_large_one_leave_with_it() {
    run(async || {
        let (sink, written) = Sink::new(true, usize::MAX);
        let mut writer = FrameWriter::new(sink);
        writer.queue(vec![7; 1 << 20].into()).unwrap();
        writer.queue("behind it".into()).unwrap();
        within("the end of the flush", writer.flush()).await.unwrap();
        assert_eq!(written.lock().unwrap().writes.len(), 1);
    });
}

/// A flush that was dropped half-way is still to be done.
///
/// The stream may keep bytes back until it is flushed. A writer that believes to be done leaves the last reply there.
///
/// Hint: note it before the first write, not after the last.
#[test]
fn a_flush_that_was_dropped_is_still_needed() {
    run(async || {
        let (io, _other) = duplex(8);
        let mut writer = FrameWriter::new(tokio::io::BufWriter::new(io));
        writer.queue(vec![7; 100].into()).unwrap();
        assert!(poll_once(writer.flush()).await.is_none());
        assert!(writer.needs_flush());
    });
}

/// After a goaway the connection ends when the last call has left, also if its caller has given it up.
///
/// The server waits for the end of the stream. A client that looks only when it has read something waits for the server.
///
/// Hint: a call that leaves the table wakes the task that writes.
#[test]
fn a_call_that_is_given_up_can_be_the_last_after_a_goaway() {
    run(async || {
        let (client, mut peer) = pair().await;
        let (calls, _) = begin_many(&client, &mut peer, 2).await;
        peer.send(&goaway("shutting down")).await;
        eventually("the client has read the goaway", || !client.is_available()).await;
        drop(calls);
        let mut rest = Vec::new(); // from day 4 on, two cancels
        within("the end of the stream", peer.io.read_to_end(&mut rest)).await.unwrap();
    });
}
