//! Hardening, calls: given up at the worst moment, or by the thousand.
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
