//! Many calls on one connection.
//!
//! Complete `write_requests` and `read_replies` in `src/client/connection.rs`: replies in any order,
//! requests in batches, and reading while a write waits. `Pending::register` in `src/client/in_flight.rs`
//! keeps the limit.
//!
//! Chapter: Files of today > src/client/connection.rs; The wire > seq counts the calls

use super::*;

/// Replies may come in any order, each caller gets his own.
///
/// This is what the number in the header is for. A client that takes replies in the order of its calls passes
/// every test in which the server is polite.
///
/// Hint: `Pending::complete` with the `seq` of the reply's header.
#[test]
fn replies_in_any_order_reach_their_callers() {
    run(async || {
        let (client, mut peer) = pair().await;
        let (calls, seen) = begin_many(&client, &mut peer, 50).await;
        // 0, 7, 14, … then 1, 8, …: neither the order of the calls nor its reverse.
        for start in 0..7 {
            for call in seen.iter().skip(start).step_by(7) {
                let body = json!(call.value().as_u64().unwrap() * 1000);
                reply(&mut peer, call, body).await;
            }
        }
        for (argument, call) in (0..).zip(calls) {
            assert_eq!(within("the reply", call).await.unwrap(), argument * 1000);
        }
    });
}

/// The numbers on the wire are 1, 2, 3 …, whatever became of the calls before; and when many tasks call at
/// the same time each number still appears once.
///
/// A constant or repeated number goes unnoticed as long as calls come one by one. Then a late reply meets the
/// wrong caller.
///
/// Hint: the table counts. A number that was given out is used up, whatever becomes of its call.
#[test]
fn the_numbers_on_the_wire_count_up_and_never_repeat() {
    run_threads(async || {
        let (client, mut peer) = pair().await;
        for seq in 1..=10 {
            let call = begin(&client, 0).await;
            assert_eq!(call.seq(), seq);
            let seen = next_call(&mut peer).await;
            assert_eq!(seen.seq(), seq);
            match seq % 3 {
                0 => drop(call), // given up
                1 => {
                    reply(&mut peer, &seen, json!(5)).await;
                    assert_eq!(within("the reply", call).await.unwrap(), 5);
                }
                _ => {
                    peer.send(&json_error("Test.number", seq, "no")).await;
                    assert!(matches!(within("the error", call).await, Err(Error::Remote(_))));
                }
            }
        }

        let mut tasks = JoinSet::new();
        for _ in 0..200 {
            let client = client.clone();
            tasks.spawn(async move { vec![begin(&client, 0).await] }); // kept: nobody gives up here
        }
        let mut numbers = BTreeSet::new();
        for _ in 0..200 {
            numbers.insert(next_call(&mut peer).await.seq());
        }
        assert_eq!(numbers, (11..=210).collect());
        within("the end of all tasks", tasks.join_all()).await;
    });
}

/// Hundreds of tasks on several threads share one client and one connection, and each gets the answers to its
/// own questions.
///
/// One connection for everybody is the idea of the day.
///
/// Hint: a clone of the client is a clone of an `Arc`; no lock is held across an `await`.
#[test]
fn hundreds_of_tasks_share_one_client() {
    run_threads(async || {
        let server = start(Server::new(arith())).await;
        let client = connect(&server, &Options::default()).await;
        let mut tasks = JoinSet::new();
        for task in 0..300 {
            let client = client.clone();
            tasks.spawn(async move {
                for round in 0..10 {
                    assert_eq!(sum(&client, task * 100, round).await, task * 100 + round);
                }
            });
        }
        within("3000 answers, each to its own caller", tasks.join_all()).await;
        assert_eq!(client.in_flight(), 0);
    });
}

/// The frames of callers that write at the same time never mix, however little the socket takes.
///
/// A header, a body and then the next header: if two tasks write for themselves, one's header comes between
/// the other's header and body as soon as a write takes only a part.
///
/// Hint: one task does all the writing.
#[test]
fn the_frames_of_two_callers_never_mix() {
    run_threads(async || {
        let (io, other_end) = duplex(16);
        let (client, mut peer) = connected(OneByte(io), other_end).await;
        let mut tasks = JoinSet::new();
        for task in 0..60 {
            let client = client.clone();
            // Every sixth argument is a big one.
            let argument = vec![task; if task % 6 == 0 { 3000 } else { 3 }];
            tasks.spawn(async move {
                let reply = client.call::<_, Vec<u32>>("Test.mix", &argument).await.unwrap();
                assert_eq!(reply, argument);
            });
        }
        let mut calls = Vec::new();
        for _ in 0..60 {
            let call = next_call(&mut peer).await;
            assert_eq!(call.header["service_method"], "Test.mix");
            let argument: Vec<u32> = serde_json::from_slice(&call.body).expect("one argument in one piece");
            assert!(argument.iter().all(|number| *number == argument[0]), "mixed: {argument:?}");
            calls.push(call);
        }
        for call in calls {
            let body = call.value();
            reply(&mut peer, &call, body).await;
        }
        within("the replies", tasks.join_all()).await;
    });
}

/// The client goes on reading while a write of its own does not get ahead.
///
/// The server may be in the same position. If each side reads only when it has written, both wait for ever,
/// and nobody is at fault.
///
/// Hint: both directions in one `select!`.
#[test]
fn the_client_reads_while_it_writes() {
    run(async || {
        let (io, other_end) = duplex(64);
        let (client, mut peer) = connected(io, other_end).await;
        let big = "x".repeat(100_000);
        let started = client.start::<_, u32>("Test.big", &big);
        let call = within("start, which does not wait for the write", started).await.unwrap();
        // The peer reads nothing before all of this is written: the client must take it off its hands.
        peer.send(&json_message("Test.big", 1000, json!(big))).await;
        let seen = next_call(&mut peer).await;
        assert_eq!(seen.value(), json!(big));
        reply(&mut peer, &seen, json!(1)).await;
        assert_eq!(within("the reply", call).await.unwrap(), 1);
    });
}

/// Requests that are there at the same time leave together.
///
/// A write is a system call, and most often a packet. With one or two per call they are most of what a call
/// costs.
///
/// Hint: take everything out of the queue, then write; no timer, no delay.
#[test]
fn requests_that_queue_up_leave_in_few_writes() {
    run(async || {
        let (io, other_end) = duplex(1 << 20);
        let (io, writes) = CountWrites::new(io);
        let (client, mut peer) = connected(io, other_end).await;
        let before = writes.load(SeqCst);
        let mut tasks = JoinSet::new();
        for argument in 0..500 {
            let client = client.clone();
            tasks.spawn(async move { client.call::<_, u32>("Test.number", &argument).await.unwrap() });
        }
        let mut seen = Vec::new();
        for _ in 0..500 {
            seen.push(next_call(&mut peer).await);
        }
        let writes = writes.load(SeqCst) - before;
        assert!(writes <= 25, "{writes} writes for 500 calls that were made at the same time");
        for call in &seen {
            reply(&mut peer, call, call.value()).await;
        }
        within("the replies", tasks.join_all()).await;
    });
}

/// `start` sends the call at once; its reply can be awaited any time later, in any order.
///
/// A future in Rust does nothing before it is polled, and `start` promises otherwise: it is the asynchronous
/// `Go` of the seeds.
///
/// Hint: everything but waiting for the reply happens before it returns.
#[test]
fn a_started_call_is_sent_although_nobody_awaits_it() {
    run(async || {
        let (client, mut peer) = pair().await;
        let (mut calls, seen) = begin_many(&client, &mut peer, 2).await; // the peer has seen both by now
        assert_eq!(client.in_flight(), 2);
        for call in &seen {
            reply(&mut peer, call, call.value()).await;
        }
        check_it_works(&client, &mut peer).await;
        assert_eq!(within("the second reply", calls.pop().unwrap()).await.unwrap(), 1);
        assert_eq!(within("the first reply", calls.pop().unwrap()).await.unwrap(), 0);
    });
}

/// Replies that nobody collects do not stop those of others.
///
/// In GeeRPC the receive loop hands a reply over through a channel of the caller, and waits until it is
/// taken: one careless caller stops all.
///
/// Hint: a `oneshot` sender never waits.
#[test]
fn replies_that_nobody_collects_do_not_stop_the_others() {
    run(async || {
        let (client, mut peer) = pair().await;
        let (calls, seen) = begin_many(&client, &mut peer, 500).await;
        for call in &seen {
            reply(&mut peer, call, call.value()).await;
        }
        for _ in 0..3 {
            check_it_works(&client, &mut peer).await;
        }
        for (argument, call) in (0..).zip(calls) {
            assert_eq!(within("a reply that was there long ago", call).await.unwrap(), argument);
        }
    });
}

/// With [`DEFAULT_MAX_PENDING`] calls in flight the next one waits, is sent as soon as one of them ends, and
/// fails if the connection ends first.
///
/// Without a limit a caller that is faster than the server fills the memory of both. An error instead of the
/// wait would make every caller write the same retry loop.
///
/// Hint: `register` does the waiting; `start` has to register before it queues anything.
#[test]
fn calls_over_the_limit_wait_for_room() {
    run(async || {
        let (client, mut peer) = pair().await;
        let max = u32::try_from(DEFAULT_MAX_PENDING).unwrap();
        let (mut calls, seen) = begin_many(&client, &mut peer, max).await;
        assert_eq!(client.in_flight(), DEFAULT_MAX_PENDING);

        let mut next = pin!(client.start::<_, u32>("Test.number", &4711));
        assert!(waits(next.as_mut()).await, "there is no room for one more call");
        reply(&mut peer, &seen[500], json!(500)).await;
        assert_eq!(within("the reply", calls.remove(500)).await.unwrap(), 500);
        calls.push(within("start, as there is room again", next).await.unwrap());
        assert_eq!(next_call(&mut peer).await.value(), 4711);

        let mut last = pin!(client.call::<_, u32>("Test.number", &1));
        assert!(waits(last.as_mut()).await, "there is no room for one more call");
        drop(peer);
        disconnected(within("the failure of a call that waits for room", last).await);
        expect_all_lost(&client, calls).await;
    });
}
