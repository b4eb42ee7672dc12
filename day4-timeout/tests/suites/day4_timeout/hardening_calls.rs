//! Hardening: calls that are given up by the hundred, at the worst moment, on both sides.
//!
//! Nothing new is to be written. Each of these breaks a client or a server that passes everything before.
//!
//! Chapter: Limits; What goes wrong without it

use super::*;

/// A cancel is a header alone, in bincode too, and comes after the request.
///
/// A server in another language reads these bytes.
///
/// Hint: `Message::Cancel` goes the way of any message.
#[test]
fn a_cancel_in_bincode_is_two_bytes() {
    run_paused(async || {
        let (io, other_end) = duplex(1024);
        let mut peer = Peer { io: other_end };
        let options = Options::default().codecs([Codec::Bincode]).call_timeout(SECOND);
        let both = async {
            tokio::join!(Client::handshake(io, &options), peer.accept_handshake("application/bincode"))
        };
        let client = within("the handshake", both).await.0.unwrap();
        assert_timeout(within("the end of the call", client.call::<_, u8>("T.m", &7_u8)).await, SECOND);
        let header = peer.read_frame().await;
        assert_eq!(header[..5], [0, 3, b'T', b'.', b'm']);
        let seq = header[5];
        assert_eq!(peer.read_frame().await, [7]);
        assert_eq!(peer.read_frame().await, [3, seq]);
    });
}

/// When a client has broken the rules its handlers are stopped at once, though the connection goes on reading for a
/// moment, so that the client gets the reason.
///
/// These calls have no caller any more. A second is long for a handler that moves money.
///
/// Hint: stop the handlers first, then write the last message.
#[test]
fn handlers_do_not_run_on_while_the_connection_ends() {
    run_paused(async || {
        let (handler, mut probe) = probe();
        let (mut peer, served) = peer_of(&Server::new(handler), 1024).await;
        peer.send(&call("Test.hang", 5, Value::Null)).await;
        assert_eq!(probe.started().await, 5);
        let since = Instant::now();
        peer.send(&call("Test.hang", 5, Value::Null)).await; // the number is in flight
        assert_eq!(probe.stopped().await, 5);
        assert!(since.elapsed() < millis(100), "it ran on for {:?}", since.elapsed());
        assert_ne!(peer.expect_goaway().await, "");
        let ended = within("the end of the connection", served).await.unwrap();
        assert!(matches!(ended, Err(Error::Protocol(_))), "{ended:?}");
    });
}

/// Calls that are given up while the server takes no bytes do not pile up: after some of them the next call waits
/// for a place. When the server reads again, each call that it gets is followed by its cancel, and the next call
/// goes on.
///
/// A caller that tries again and again would fill the memory with requests and cancels. And a cancel that is thrown
/// away leaves a handler without a caller.
///
/// Hint: a call that has left the table without a reply keeps its place until its cancel is about to be written.
#[test]
fn calls_that_are_given_up_do_not_pile_up() {
    run_paused(async || {
        let (io, other_end) = duplex(64);
        let (client, mut peer) = connected(io, other_end, &json_only().max_in_flight(4), json!({})).await;
        let calls = [begin_big(&client).await, begin(&client, 1).await, begin(&client, 2).await];
        settle().await; // all three are being written, and cannot be taken back
        drop(calls);
        let mut given_up = 3;
        while let Some(started) = poll_once(client.start::<_, u32>("Test.number", &1)).await {
            settle().await;
            drop(started);
            given_up += 1;
            assert!(given_up < 100, "there are four places, but the next call never waits for one");
        }

        let next = tokio::spawn(async move { client.call::<_, u32>("Test.number", &4711).await });
        let (mut called, mut cancelled, mut last) = (Vec::new(), Vec::new(), None);
        while last.is_none() || called.len() != cancelled.len() {
            let message = peer.read_message().await;
            match message.kind() {
                "cancel" => cancelled.push(message.seq()),
                "call" if message.value() == 4711 => last = Some(message),
                _ => called.push(message.seq()),
            }
        }
        called.sort_unstable();
        cancelled.sort_unstable();
        assert_eq!(called, cancelled);
        answer(&mut peer, &last.unwrap(), json!(4712)).await;
        assert_eq!(within("the reply", next).await.unwrap().unwrap(), 4712);
    });
}

/// The outcome of a cancelled call is not taken for that of the next call with its number, even if both are there
/// at the same time.
///
/// A handler may be done at the very moment of its cancel. Its outcome waits then until the connection looks.
///
/// Hint: the number tells calls apart for the client. For the server, the task does.
#[test]
fn a_cancelled_call_does_not_answer_for_the_next_of_its_number() {
    run_threads(async || {
        for round in 0..30 {
            let (handler, mut probe) = probe();
            let (blocks, mut blocked) = mpsc::unbounded_channel();
            let alive = probe.handlers.clone();
            let server = Server::new(move |request: Request| {
                if request.service_method() == "Test.block" {
                    // The connection does not look before the first call has ended, on another thread.
                    blocks.send(()).ok();
                    let since = std::time::Instant::now();
                    while alive.now() > 0 && since.elapsed() < millis(20) {}
                }
                handler.call(request)
            });
            let (mut peer, _served) = peer_of(&server, 1024).await;
            peer.send(&call("Test.gate", 7, Value::Null)).await;
            assert_eq!(probe.started().await, 7);
            let again = call("Test.hang", 7, Value::Null);
            peer.send(&[call("Test.block", 1, Value::Null), cancel(7), again].concat()).await;
            within("the call that blocks", blocked.recv()).await.unwrap();
            probe.gate.add_permits(1);
            assert_eq!([probe.started().await, probe.started().await], [1, 7], "round {round}");
            // It hangs, and nothing has answered for it: so there is something to cancel.
            settle().await;
            peer.send(&cancel(7)).await;
            let mut stopped = [probe.stopped().await, probe.stopped().await, probe.stopped().await];
            stopped.sort_unstable();
            assert_eq!(stopped, [1, 7, 7], "round {round}");
        }
    });
}

/// A job that a handler has left behind holds the handler's place, as long as it holds the request.
///
/// `spawn_blocking` goes on after a cancel. In the first edition 97,365 such jobs waited, with a limit of 10
/// handlers.
///
/// Hint: count the requests that are alive, too.
#[test]
fn a_job_that_outlives_its_call_keeps_its_place() {
    run_paused(async || {
        let (jobs, mut job) = mpsc::unbounded_channel();
        let handler = move |request: Request| {
            let jobs = jobs.clone();
            async move {
                jobs.send(request).ok(); // the job has it now
                std::future::pending().await
            }
        };
        let (mut peer, _served) = peer_of(&Server::new(handler).max_in_flight(2), 1024).await;
        let mut held = Vec::new();
        for seq in [1, 2] {
            peer.send(&call("Test.job", seq, Value::Null)).await;
            held.push(within("the job of a call", job.recv()).await.unwrap());
            peer.send(&cancel(seq)).await;
        }
        settle().await;
        peer.send(&call("Test.job", 3, Value::Null)).await;
        let refused = peer.read_message().await;
        assert_eq!((refused.seq(), refused.code(), refused.is_refused()), (3, "resource_exhausted", true));
        held.pop();
        peer.send(&call("Test.job", 4, Value::Null)).await;
        assert_eq!(within("the job of a call", job.recv()).await.unwrap().seq(), 4);
    });
}

/// A handler that panics while it is stopped, in a guard's `Drop`, costs its own call only, and its place is free
/// again.
///
/// A guard is the application's code as well, and it runs where no one expects a panic. In a draft of ours the
/// place was lost, and a call whose time was over had no reply.
///
/// Hint: catch the panic where the handler's future is dropped.
#[test]
fn a_panic_of_a_handler_that_is_stopped_harms_no_call() {
    struct Panics;

    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("this panic is part of the test");
        }
    }

    run_paused(async || {
        let handler = async |request: Request| match request.service_method() {
            "Test.panics" => {
                let _guard = Panics;
                std::future::pending().await
            }
            _ => Ok(request.reply(&request.seq())?),
        };
        let server = Server::new(handler).max_in_flight(1).handle_timeout(SECOND);
        let (mut peer, _served) = peer_of(&server, 1024).await;
        for seq in [1, 3] {
            peer.send(&call("Test.panics", seq, Value::Null)).await;
            if seq == 1 {
                settle().await;
                peer.send(&cancel(seq)).await;
                settle().await;
            } else {
                let reply = peer.read_message().await;
                assert!(["deadline_exceeded", "internal"].contains(&reply.code()), "{reply:?}");
            }
            peer.send(&call("Test.now", seq + 1, Value::Null)).await;
            assert_eq!(peer.read_message().await.value(), seq + 1);
        }
    });
}

/// A client that has no call in flight and goes on calling does not hold up the shutdown.
///
/// A wait that begins anew with each message is as long as the client likes.
///
/// Hint: a call that is refused gives the connection no new time.
#[test]
fn a_client_that_goes_on_calling_does_not_hold_up_a_shutdown() {
    run_paused(async || {
        let (handler, _probe) = probe();
        let (connector, listener) = Connector::new();
        let (stop, serving) = serve_until(Server::new(handler).grace_period(30 * SECOND), listener);
        let mut peer = connector.peer().await;
        settle().await;
        stop.send(()).unwrap();
        let _calling = tokio::spawn(async move {
            for seq in 1.. {
                sleep(millis(300)).await;
                if peer.io.write_all(&call("Test.now", seq, Value::Null)).await.is_err() {
                    break; // the server has closed the stream
                }
            }
        });
        within("the end of the server", serving).await.unwrap().unwrap();
    });
}

/// Dropping the future of `serve_with_shutdown` ends everything at once, while it drains too.
///
/// What is started has an owner, and dropping the owner stops it.
///
/// Hint: a `JoinSet` in the future, and nothing that is spawned beside it.
#[test]
fn dropping_a_server_that_drains_ends_everything() {
    run_paused(async || {
        let before = alive_tasks();
        for drains in [false, true] {
            let (handler, mut probe) = probe();
            let (connector, listener) = Connector::new();
            let (stop, serving) = serve_until(Server::new(handler), listener);
            let client = connector.client(&Options::default()).await;
            let pending = within("start", client.start::<_, u64>("Test.hang", &())).await.unwrap();
            probe.started().await;
            if drains {
                stop.send(()).unwrap();
                eventually("the goaway is noticed", || !client.is_available()).await;
            }
            serving.abort();
            probe.stopped().await;
            disconnected(within("the end of the call", pending).await);
            drop(client);
            eventually("all streams are closed", || {
                connector.at_server.now() + connector.at_clients.now() == 0
            })
            .await;
            eventually("the end of all tasks", || alive_tasks() == before).await;
        }
    });
}

/// After 20,000 calls that timed out, the process takes as much memory as before, on both sides of the connection.
///
/// GeeRPC took 190 MB. Tasks, entries and streams can be counted; a buffer or a table that only grows can not.
///
/// Hint: if the proof passes, look for a list that is added to and not taken from.
#[cfg(target_os = "linux")]
#[test]
fn calls_that_time_out_cost_no_memory() {
    alone(module_path!(), "calls_that_time_out_cost_no_memory", || {
        run_paused(async || {
            let (handler, _probe) = probe();
            let client = client_of(&Server::new(handler), &Options::default()).await;
            let mut before = 0;
            for round in 0..45 {
                if round == 5 {
                    before = resident_kib();
                }
                let hurried = client.with_timeout(SECOND);
                let mut calls = Vec::new();
                for _ in 0..500 {
                    calls.push(within("start", hurried.start::<_, u64>("Test.hang", &())).await.unwrap());
                }
                for call in calls {
                    assert_timeout(within("the end of a call", call).await, SECOND);
                }
            }
            let grown = resident_kib().saturating_sub(before);
            assert!(grown < 4096, "the process has grown by {grown} KiB");
        });
    });
}
