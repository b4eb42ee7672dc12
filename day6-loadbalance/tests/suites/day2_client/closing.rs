//! The end of a client.
//!
//! Write `close` and `is_available` in `src/client/mod.rs`. The task that owns the stream ends with the last
//! clone.
//!
//! Chapter: Reading order > A client is cheap to clone; Files of today > src/client/mod.rs

use super::*;

/// `close` ends the connection for all clones, at once: calls in flight fail, new ones too, and the server
/// sees the end of the stream. A second `close` does no harm.
///
/// Whoever closes wants the socket back now, not when the last of some hundred clones is dropped.
///
/// Hint: fail the calls in the table, then abort the task that owns the socket.
#[test]
fn close_ends_the_connection_for_all_clones() {
    run(async || {
        let before = alive_tasks();
        let (client, mut peer) = pair().await;
        let clone = client.clone();
        let (mut calls, _) = begin_many(&client, &mut peer, 2).await;
        calls.push(begin(&clone, 3).await);
        next_call(&mut peer).await;

        client.close();
        assert!(!clone.is_available());
        expect_all_lost(&clone, calls).await;
        disconnected(within("the failure of a new call", client.call::<_, u32>("Test.number", &1)).await);
        expect_end(&mut peer).await;
        clone.close();
        eventually("the client's task ends", || alive_tasks() == before).await;
    });
}

/// When the last clone is dropped the socket is closed and the task has ended, also if there never was a
/// call. One clone less is nothing.
///
/// A task that lives on behind a client that is gone is a leak of memory and of a socket, and the server's
/// too.
///
/// Hint: the task must not own what it waits for to go away.
#[test]
fn dropping_the_last_clone_closes_the_connection() {
    run(async || {
        let before = alive_tasks();
        let (client, mut peer) = pair().await;
        let clone = client.clone();
        drop(client);
        check_it_works(&clone, &mut peer).await;
        drop(clone);
        expect_end(&mut peer).await;

        let (client, mut peer) = tcp_pair().await;
        drop(client);
        expect_end(&mut peer).await;
        eventually("the clients' tasks end", || alive_tasks() == before).await;
    });
}

/// A started call keeps the connection open until it has its reply, or is dropped, even if the client is
/// dropped before.
///
/// A function that starts a call and returns it would have to return the client with it otherwise.
///
/// Hint: a `PendingCall` holds a clone of its client.
#[test]
fn a_started_call_keeps_the_connection_open() {
    run(async || {
        let before = alive_tasks();
        let (client, mut peer) = pair().await;
        let (mut calls, seen) = begin_many(&client, &mut peer, 2).await;
        drop(client);
        reply(&mut peer, &seen[0], json!(42)).await;
        assert_eq!(within("the reply after the client is gone", calls.remove(0)).await.unwrap(), 42);
        reply(&mut peer, &seen[1], json!(43)).await;
        assert_eq!(within("the last reply", calls.remove(0)).await.unwrap(), 43);
        expect_end(&mut peer).await;

        let (client, mut peer) = pair().await;
        let (calls, _) = begin_many(&client, &mut peer, 1).await;
        drop(client);
        drop(calls);
        expect_end(&mut peer).await;
        eventually("the clients' tasks end", || alive_tasks() == before).await;
    });
}
