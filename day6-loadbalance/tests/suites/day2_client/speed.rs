//! Speed: one write for many, and an answer without a task.
//!
//! On the server's side, in `src/server/connection.rs`: `receive_slice`, and change `run`, `start` and `finish`, so
//! that a handler is polled once before it is spawned; in `src/server/handler.rs` `poll` and `catch`. `connect` in
//! `src/client/mod.rs` brings both halves together.
//!
//! Works then: all of day 2's core: hundreds of tasks share one connection, in few writes and without a task for each
//! call.
//!
//! Chapter: The wire

use super::*;

/// The replies to a batch of requests leave in one write.
///
/// A write is a system call, and with TCP often a packet. One for each header, body or reply is what makes a server
/// slow.
///
/// Hint: receive what was read together before you flush.
#[test]
fn the_replies_to_a_batch_leave_in_one_write() {
    run(async || {
        let (client, io) = duplex(64 * 1024);
        let (io, seen) = Watched::new(io);
        let server = Server::new(arith());
        tokio::spawn(async move { server.serve_connection(io).await });
        let mut peer = Peer { io: client };
        peer.handshake_json().await;
        let before = seen.writes.load(SeqCst);
        let batch: Vec<u8> =
            (1..=50).flat_map(|seq| call("Arith.sum", seq, json!({"num1": seq, "num2": 1}))).collect();
        peer.send(&batch).await;
        for seq in 1..=50 {
            assert_eq!(peer.read_message().await.value(), seq + 1);
        }
        let writes = seen.writes.load(SeqCst) - before;
        // A server that is fair to others may write more than once while it receives the batch.
        assert!(writes <= 10, "{writes} writes for 50 replies");
    });
}

/// A handler that is ready at its first poll is answered without a task of its own.
///
/// Most handlers of a real service wait for nothing, and a task costs more than such an answer.
///
/// Hint: poll the handler's future once yourself, and spawn it if it is not ready.
#[test]
fn a_handler_that_is_ready_at_once_needs_no_task() {
    run(async || {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let handler_seen = Arc::clone(&seen);
        let (mut peer, _served) = serve_in_memory(Server::new(move |request: Request| {
            let seen = Arc::clone(&handler_seen);
            async move {
                if request.service_method() == "Tasks.wait" {
                    tokio::task::yield_now().await;
                }
                seen.lock().unwrap().push(alive_tasks());
                Ok(request.reply(&())?)
            }
        }));
        peer.handshake_json().await;
        let before = alive_tasks();
        let batch: Vec<u8> = (1..=50).flat_map(|seq| call("Tasks.count", seq, json!(null))).collect();
        peer.send(&batch).await;
        for _ in 1..=50 {
            peer.read_message().await;
        }
        assert_eq!(std::mem::take(&mut *seen.lock().unwrap()), [before; 50]);

        // And this is what a task looks like: the count can tell.
        peer.send(&call("Tasks.wait", 51, json!(null))).await;
        peer.read_message().await;
        assert_eq!(*seen.lock().unwrap(), [before + 1]);
    });
}

/// Requests that are made at the same time leave together.
///
/// Replies come in batches and wake many callers at once. On a runtime with threads the first of them to call wakes
/// the writer, which has its turn before the other callers: it writes one request at a time, each in a system call.
///
/// Hint: take all the requests, then write. Before that, let the other callers have their turn: yield once. No timer,
/// no delay.
#[test]
fn requests_that_are_made_together_leave_in_few_writes() {
    async fn count_writes() {
        let (io, other_end) = duplex(1 << 20);
        let (io, seen) = Watched::new(io);
        let (client, mut peer) = connected(io, other_end, &json_only(), json!({})).await;
        let mut tasks = JoinSet::new();
        for argument in 0..500 {
            let client = client.clone();
            // Two calls each: the replies to the first ones come together, and make the second ones.
            tasks.spawn(async move {
                for round in 0..2 {
                    let value = client.call::<_, u32>("Test.number", &(argument + round)).await;
                    assert_eq!(value.unwrap(), argument + round);
                }
            });
        }
        for round in 1..=2 {
            let before = seen.writes.load(SeqCst);
            let mut replies = Vec::new();
            for _ in 0..500 {
                let call = next_call(&mut peer).await;
                replies.extend(reply(call.seq(), call.value()));
            }
            let writes = seen.writes.load(SeqCst) - before;
            assert!(writes <= 50, "round {round}: {writes} writes for 500 calls that were made together");
            peer.send(&replies).await;
        }
        within("the replies", tasks.join_all()).await;
    }

    run(async || {
        // One worker, so that which task has its turn next is the scheduler's choice and not chance.
        let threads =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        within("the end of all calls", threads.spawn(count_writes())).await.unwrap();
        threads.shutdown_background();
    });
}

/// Hundreds of tasks on several threads share one connection to our own server, in every codec, and each gets
/// the answers to its own calls. Our own server is never too busy for our own client.
///
/// The other tests play one of the two sides by hand. This one brings them together.
///
/// Hint: `connect` opens a socket and leaves the rest to `handshake`. No lock is held across an `await`.
#[test]
fn hundreds_of_tasks_share_one_connection() {
    run_threads(async || {
        let server = start(Server::new(arith()).max_in_flight(20)).await;
        for codec in Codec::ALL {
            let client = connect(&server, &Options::default().codecs([codec])).await;
            assert_eq!(client.codec(), codec);
            let mut tasks = JoinSet::new();
            for task in 0..200 {
                let client = client.clone();
                tasks.spawn(async move {
                    for round in 0..10 {
                        assert_eq!(sum(&client, task * 100, round).await, task * 100 + round);
                    }
                });
            }
            within("2000 answers, each to its own caller", tasks.join_all()).await;
            assert_eq!(client.in_flight(), 0);
        }
    });
}
