//! The in-flight table: which call a reply belongs to.
//!
//! Write `Pending` and `InFlight` in `src/client/in_flight.rs`. They need no connection.
//!
//! Chapter: Files of today > src/client/in_flight.rs

use super::*;

/// Each call has a number of its own, from 1, and gets the outcome for that number, once.
///
/// The number is all that ties a reply to its caller. A constant one goes unnoticed while calls come one at a
/// time.
///
/// Hint: count under the lock, and take the entry out when you complete it.
#[test]
fn every_entry_has_a_number_of_its_own_and_is_completed_once() {
    run(async || {
        let pending = Pending::new(10);
        let mut calls = Vec::new();
        for _ in 0..3 {
            calls.push(within("register, with room", pending.register()).await.unwrap());
        }
        assert_eq!(calls.iter().map(InFlight::seq).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(pending.len(), 3);

        assert!(pending.complete(3, outcome("three")));
        assert!(pending.complete(1, outcome("one")));
        assert!(!pending.complete(1, outcome("one again")), "a call can be completed once only");
        assert!(!pending.complete(4, outcome("four")), "nobody has number 4");
        assert_eq!(pending.len(), 1, "a completed call leaves the table");

        let third = within("the outcome of call 3", calls.remove(2)).await.unwrap();
        assert_eq!(third.body, "three");
        let first = within("the outcome of call 1", calls.remove(0)).await.unwrap();
        assert_eq!(first.body, "one");
    });
}

/// Whoever drops his entry is out of the table at once, and his number is never given out again.
///
/// Callers go away all the time, and nobody tidies up after them.
///
/// Hint: what owns an entry removes it in `Drop`. That covers every way to leave, also those that you have
/// not thought of.
#[test]
fn a_dropped_entry_leaves_the_table() {
    run(async || {
        let pending = Pending::new(10);
        let first = within("register, with room", pending.register()).await.unwrap();
        drop(first);
        assert!(pending.is_empty());
        assert!(!pending.complete(1, outcome("too late")));
        let second = within("register, with room", pending.register()).await.unwrap();
        assert_eq!(second.seq(), 2, "a reply to the first call may still come, so its number is used up");
        drop(second);

        let panics = tokio::spawn({
            let pending = pending.clone();
            async move {
                let _entry = pending.register().await.unwrap();
                panic!("this panic is part of the test");
            }
        });
        assert!(within("the end of a caller's task", panics).await.unwrap_err().is_panic());
        assert_eq!(pending.len(), 0, "a caller that panics is out of the table, too");
    });
}

/// `close` refuses new calls and lets the others go on; `fail_all` ends those too. The first reason stays.
///
/// A server that says goodbye still sends the replies that it owes. And what follows the first error is most
/// often only a consequence of it.
///
/// Hint: keep the reason in the table, under the same lock.
#[test]
fn a_closed_table_keeps_its_calls_until_all_are_failed() {
    run(async || {
        let pending = Pending::new(10);
        let lucky = within("register, with room", pending.register()).await.unwrap();
        let unlucky = within("register, with room", pending.register()).await.unwrap();
        assert!(pending.is_open());

        pending.close("the first reason");
        assert!(!pending.is_open());
        assert_eq!(pending.len(), 2, "those in flight stay");
        let refused = within("the refusal of a new call", pending.register()).await;
        assert_eq!(disconnected(refused), "the first reason");
        assert!(pending.complete(1, outcome("in time")));

        pending.fail_all("another reason");
        assert!(pending.is_empty());
        assert_eq!(within("the outcome of call 1", lucky).await.unwrap().body, "in time");
        assert_eq!(disconnected(within("the outcome of call 2", unlucky).await), "the first reason");
    });
}

/// A full table makes the next call wait until there is room, or until the table is closed. A call that has its
/// reply takes no room, even if nobody has looked at the reply yet.
///
/// Without a limit a caller that is faster than the server fills the memory. And whoever waits for room must
/// not wait for ever when the connection ends.
///
/// Hint: a semaphore can be closed; and its permit belongs into the table, not to the caller.
#[test]
fn a_full_table_makes_the_next_call_wait() {
    run(async || {
        let pending = Pending::new(2);
        let first = within("register, with room", pending.register()).await.unwrap();
        let second = within("register, with room", pending.register()).await.unwrap();

        let mut third = pin!(pending.register());
        assert!(waits(third.as_mut()).await, "there is no room for a third");
        drop(first);
        let _third = within("register, as there is room again", third).await.unwrap();
        assert_eq!(pending.len(), 2);

        assert!(pending.complete(second.seq(), outcome("two")));
        let _fourth = within("register, as call 2 has its reply", pending.register()).await.unwrap();

        let mut fifth = pin!(pending.register());
        assert!(waits(fifth.as_mut()).await, "there is no room for a fifth");
        pending.close("the end");
        let refused = within("the refusal of a call that waits for room", fifth).await;
        assert_eq!(disconnected(refused), "the end");
        assert_eq!(within("the outcome of call 2", second).await.unwrap().body, "two");
    });
}
