//! Hardening: servers that stay silent or talk too long, and a runtime that ends.
//!
//! No new function. The limits are in `src/client/connection.rs`, and `Dispatch` ends its calls in whatever
//! way it ends itself.
//!
//! Chapter: Limits; What goes wrong without it

use super::*;

/// A client that gives up on a connection waits a second for a server that goes on being silent, and no longer.
///
/// The client's last word is a courtesy. A server that neither reads nor writes must not keep a task and a
/// socket for it.
///
/// Hint: one limit of time around all of it, the write too.
#[test]
fn a_last_word_does_not_wait_long_for_a_silent_server() {
    run_paused(async || {
        // The last word fits into the first of these; in the second the client is stuck in a write.
        for buffer in [1 << 20, 64] {
            let before = alive_tasks();
            let (io, other_end) = duplex(buffer);
            let (client, mut peer) = connected(io, other_end).await;
            let big = "x".repeat(100_000);
            let started = client.start::<_, u32>("Test.big", &big);
            let call = within("start, which does not wait for the write", started).await.unwrap();
            peer.send(&frame("no header")).await;
            disconnected(within("the failure of the call in flight", call).await);
            let since = Instant::now();
            eventually("the client's task ends", || alive_tasks() == before).await;
            let took = since.elapsed();
            assert!(took < Duration::from_secs(2), "the client listened for {took:?}");
            assert!(!client.is_available());
        }
    });
}

/// A goodbye whose reason is megabytes long costs each caller a few words of it.
///
/// Every call in flight fails with the reason, and so does every later one. A thousand copies of one long text
/// are gigabytes, for one frame.
///
/// Hint: cut it where it is kept, before it is copied. Day 1 cuts the reasons that it sends.
#[test]
fn a_long_reason_is_cut_short_for_every_caller() {
    run(async || {
        let (client, mut peer) = pair().await;
        let (calls, _seen) = begin_many(&client, &mut peer, 3).await;
        let long = format!("going down{}", "!".repeat(1_000_000));
        peer.send(&json_error("", 0, &long)).await;
        eventually("the goodbye is noticed", || !client.is_available()).await;
        let check = |reason: String| {
            assert!(reason.starts_with("going down!"), "{reason:.100}");
            assert!(reason.len() < 10_000, "a reason of {} bytes for each caller", reason.len());
        };
        check(disconnected(within("the refusal", client.call::<_, u32>("Test.number", &1)).await));
        drop(peer);
        check(expect_all_lost(&client, calls).await);
    });
}

/// The same holds if the task is in the middle of a write to a server that does not read, and if it is a panic
/// that drops the client.
///
/// A task that only looks for the end of its queue does not look while it writes, so this one would stay for
/// as long as the server is silent.
///
/// Hint: the client owns its task; abort it in `Drop`.
#[test]
fn dropping_the_last_clone_ends_a_write_that_is_stuck() {
    run(async || {
        let before = alive_tasks();
        let (io, other_end) = duplex(64);
        let (client, _silent) = connected(io, other_end).await;
        let big = "x".repeat(100_000);
        let started = client.start::<_, u32>("Test.big", &big);
        drop(within("start, which does not wait for the write", started).await.unwrap());
        let panics = tokio::spawn(async move {
            let _client = client;
            panic!("this panic is part of the test");
        });
        assert!(within("the end of the client's owner", panics).await.unwrap_err().is_panic());
        eventually("the client's task ends", || alive_tasks() == before).await;
    });
}

/// When the runtime that drives a client ends, its calls fail, and new ones too.
///
/// A program may have several runtimes, and a caller can outlive the one in which the client's task was. That
/// task is then dropped where it stands, so no line after its loop runs.
///
/// Hint: what must happen however a task ends belongs into a `Drop`.
#[test]
fn calls_fail_when_the_runtime_of_their_client_ends() {
    run(async || {
        let other =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (client, mut peer) = other.spawn(pair()).await.unwrap();
        let (calls, _) = begin_many(&client, &mut peer, 2).await;
        other.shutdown_background();
        expect_all_lost(&client, calls).await;
    });
}
