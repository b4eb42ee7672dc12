//! Hardening against floods: many calls at once, many that never stop, and a peer that does not read.
//!
//! No new function: it is the loop of `run` in `src/server/connection.rs`, and the order of what it does.
//!
//! Chapter: Limits; What goes wrong without it

use super::*;

/// Replies that are ready together leave in one write.
///
/// A write is a system call, and with TCP often a packet. One for each header, body or reply is what makes a
/// server slow.
///
/// Hint: first collect all handlers that have ended, then flush.
#[test]
fn replies_that_are_ready_leave_in_one_write() {
    run(async || {
        let (client, io) = duplex(64 * 1024);
        let (io, seen) = Watched::new(io);
        let gate = Arc::new(Notify::new());
        let handler_gate = Arc::clone(&gate);
        let (started, mut has_started) = mpsc::unbounded_channel();
        let server = Server::new(move |request: Request| {
            let (gate, started) = (Arc::clone(&handler_gate), started.clone());
            async move {
                let opened = gate.notified();
                started.send(()).ok();
                opened.await;
                Ok(request.reply(&request.seq())?)
            }
        });
        tokio::spawn(async move { server.serve_connection(io).await });
        let mut peer = Peer { io: client };
        peer.handshake_json().await;
        let before = seen.writes.load(SeqCst);
        for seq in 1..=50 {
            peer.send(&call("Gate.wait", seq, json!(null))).await;
            within("a handler that starts", has_started.recv()).await.unwrap();
        }
        gate.notify_waiters();
        for _ in 1..=50 {
            peer.read_message().await;
        }
        let writes = seen.writes.load(SeqCst) - before;
        assert!(writes <= 3, "{writes} writes for 50 replies that were ready at the same time");
    });
}

/// Handlers that have ended make room at once, whether or not their replies have left.
///
/// A hundred handlers have ended and a hundred calls arrive. If the calls are looked at first, they are refused as
/// "busy" by a server in which nothing runs.
///
/// Hint: collect what has ended before you read the next message: `JoinSet::try_join_next`.
#[test]
fn handlers_that_have_ended_make_room_at_once() {
    run(async || {
        const CALLS: u64 = 100;
        let gate = Arc::new(Notify::new());
        let handler_gate = Arc::clone(&gate);
        let (started, mut has_started) = mpsc::unbounded_channel();
        let server = Server::new(move |request: Request| {
            let (gate, started) = (Arc::clone(&handler_gate), started.clone());
            async move {
                let opened = gate.notified();
                started.send(()).ok();
                if request.service_method() == "Gate.wait" {
                    opened.await;
                }
                Ok(request.reply(&request.seq())?)
            }
        });
        let (mut peer, _served) = serve_in_memory(server.max_in_flight(CALLS as usize));
        peer.handshake_json().await;
        for seq in 1..=CALLS {
            peer.send(&call("Gate.wait", seq, json!(null))).await;
            within("a handler that starts", has_started.recv()).await.unwrap();
        }
        // The connection may have a turn to come that those calls asked for. After it, it waits for the next bytes.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        // On this thread nothing runs between these two lines: the handlers wake first, then the connection.
        gate.notify_waiters();
        let more: Vec<u8> = (1..=CALLS).flat_map(|seq| call("Gate.pass", CALLS + seq, json!(null))).collect();
        let written = poll_once(peer.io.write_all(&more)).await;
        written.expect("the stream has room for all of it").unwrap();
        for _ in 1..=2 * CALLS {
            let reply = peer.read_message().await;
            assert_eq!(reply.header["reply"]["error"], json!(null), "{}", reply.header);
        }
    });
}

/// A flood of calls that are answered at once gets replies and no refusals, and the first reply leaves long before the
/// flood ends.
///
/// Reading what has arrived costs no time that the runtime would notice, so a loop over it starts thousands of
/// handlers before the first of them runs: 20,000 calls once got 6,702 refusals with 239 handlers alive. And 200 calls of
/// 5 ms once had their first reply after 383 ms, as reading always came first. (A server may leave to chance which of the
/// two comes first. So of five floods the one with the earliest reply counts.)
///
/// Hint: writing must have its turn, however much there is to read; and ask the coop budget at the end of each turn:
/// `tokio::task::coop::consume_budget`.
#[test]
fn a_flood_of_short_calls_is_answered_while_it_lasts() {
    run(async || {
        const CALLS: usize = 4_000;
        let mut earliest = CALLS;
        for _ in 0..5 {
            let (io, seen) = Flood::new(CALLS as u64);
            let server = Server::new(async |request: Request| Ok(request.reply(&())?));
            tokio::spawn(async move { server.serve_connection(io).await });
            eventually("a reply to each call", || seen.replies.load(SeqCst) == CALLS).await;
            assert_eq!(seen.refused.load(SeqCst), 0, "refusals, though no handler waits for anything");
            earliest = earliest.min(seen.sent_before_first_reply.load(SeqCst));
        }
        assert!(earliest < 1000, "the first reply was written when {earliest} calls had been read");
    });
}

/// A flood on one connection does not hold up another one.
///
/// A task that is never pending keeps its thread. The 99th percentile of all other clients was once 95 ms, beside
/// four connections that flood.
///
/// Hint: the coop budget again. It makes the task pending after a while, and others have their turn.
#[test]
fn a_flood_does_not_hold_up_another_connection() {
    run(async || {
        const CALLS: usize = 40_000;
        let server = Server::new(async |request: Request| Ok(request.reply(&())?));
        let (mut peer, _served) = serve_in_memory(server.clone());
        peer.handshake_json().await;
        let (io, seen) = Flood::new(CALLS as u64);
        tokio::spawn(async move { server.serve_connection(io).await });
        eventually("the flood begins", || seen.sent.load(SeqCst) > 0).await;
        peer.send(&call("Another.call", 1, json!(null))).await;
        peer.read_message().await;
        let sent = seen.sent.load(SeqCst);
        assert!(sent < CALLS / 4, "the other connection waited for {sent} calls of the flood");
    });
}

/// A peer that sends without reading is stopped, so the server's memory does not grow; and when it reads
/// again it gets every reply.
///
/// Replies that are not read pile up somewhere. A server that goes on reading piles them up in its memory.
///
/// Hint: do not read further calls while many bytes are queued. TCP stops the peer then.
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
        peer.handshake_json().await;

        let text = "x".repeat(1000);
        let calls: Vec<u8> = (1..=CALLS).flat_map(|seq| call("Echo.text", seq, json!(text))).collect();
        let mut sent = 0;
        // The clock is paused: it moves only when nothing else does, that is when the server has stopped.
        while let Ok(n) = timeout(Duration::from_millis(100), peer.io.write(&calls[sent..])).await {
            sent += n.unwrap();
            assert!(sent < calls.len() / 2, "the server has read {sent} bytes without a reply being read");
        }
        // What is queued, what was read with it, and what was in flight.
        let bound = MAX_QUEUED_BYTES + 256 * 1024;
        assert!(sent <= bound, "the server has read {sent} bytes without a reply being read");
        assert!(served.load(SeqCst) * 1000 <= bound);

        let (mut read, mut write) = tokio::io::split(peer.io);
        let rest = tokio::spawn(async move { write.write_all(&calls[sent..]).await });
        let mut replies = FrameReader::new(&mut read);
        let mut seqs = Vec::new();
        for _ in 1..=CALLS {
            let header = within("a reply", replies.read(1000)).await.unwrap().unwrap();
            let header: Value = serde_json::from_slice(&header).unwrap();
            assert_eq!(header["reply"]["error"], json!(null), "{header}");
            seqs.push(header["reply"]["seq"].as_u64().unwrap());
            let body = within("a reply's body", replies.read(2000)).await.unwrap().unwrap();
            assert!(body[1..1001] == *text.as_bytes(), "the reply is another one");
        }
        within("the rest of the calls", rest).await.unwrap().unwrap();
        seqs.sort_unstable();
        assert!(seqs.into_iter().eq(1..=CALLS), "each call has one reply");
    });
}
