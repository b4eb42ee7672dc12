//! The heartbeat keeps a lease until it is dropped.
//!
//! In `src/registry/backoff.rs` the pauses, and in `src/registry/heartbeat.rs`: `Heartbeat::start`, its task `run`, and
//! `shutdown`.
//!
//! Works then: a lease is kept until its owner is dropped, and ends with it.
//!
//! Chapter: Heartbeat; Limits > time between two heartbeats

use super::*;

/// The first heartbeat is sent at once, not after a first interval.
///
/// The usual loop waits and then acts, so a server that is up and ready would get no calls for seconds.
///
/// Hint: act, then wait: the pause is at the end of the loop.
#[test]
fn the_first_heartbeat_is_sent_at_once() {
    run(async || {
        let registry = HandRegistry::start().await;
        let begin = Instant::now();
        let _heartbeat = Heartbeat::start(registry.client(), endpoint("tcp@a:1"));
        registry.request().await.grant(LEASE).await;
        // Far from 10 s / 3, and far enough from a busy machine.
        assert!(
            begin.elapsed() < Duration::from_secs(2),
            "the first heartbeat came after {:?}",
            begin.elapsed()
        );
    });
}

/// The next heartbeat comes about a third of the lease after the last, whatever lease the registry grants.
///
/// An interval of its own, however reasonable, makes servers flap at a registry with shorter leases. And with one
/// heartbeat in a lease, each comes when it is over.
///
/// Hint: the answer to each heartbeat says how long the lease is. A third of it leaves time for two more attempts.
/// Chance may shorten it, but not by more than a half.
#[test]
fn heartbeats_follow_the_lease() {
    run(async || {
        let registry = HandRegistry::start().await;
        let heartbeat = Heartbeat::start(registry.client(), endpoint("tcp@a:1"));
        for millis in [300, 3_000, 300] {
            let request = registry.request().await;
            let granted = Instant::now();
            request.grant(Duration::from_millis(millis)).await;
            within("the registration", heartbeat.wait_registered()).await;
            let next = registry.request().await;
            let pause = granted.elapsed();
            assert!(pause >= Duration::from_millis(millis / 6), "{pause:?} after a lease of {millis} ms");
            // Far from 10 s / 3 and from a whole lease, and far enough from a busy machine.
            assert!(pause < Duration::from_secs(2), "{pause:?} after a lease of {millis} ms");
            next.answer("503 Busy", &[], "").await;
        }
    });
}

/// After a failure of whatever kind the heartbeat goes on, and says what went wrong. A 500 does not count as
/// registered.
///
/// GeeRPC's heartbeat ends at its first error, and takes a 500 for success. Either way the server is alive, and no
/// client finds it.
///
/// Hint: a loop without a `break` and without a `?`. The outcome goes into a `watch` channel.
#[test]
fn a_failed_heartbeat_is_not_the_last() {
    run(async || {
        let registry = HandRegistry::start().await;
        let heartbeat = Heartbeat::start(registry.client(), endpoint("tcp@a:1"));
        registry.request().await.answer("500 Oops", &["X-Rrpc-Lease-Ms: 9000"], "{}").await;
        eventually("the error is known", || heartbeat.last_error().is_some()).await;
        assert_eq!(status::<()>(Err(heartbeat.last_error().unwrap())), 500);
        assert!(!heartbeat.is_registered());
        drop(registry.request().await); // closes the connection without an answer
        registry.request().await.answer("200 OK", &[], "no lease").await;
        registry.request().await.grant(LEASE).await;
        within("the registration", heartbeat.wait_registered()).await;
        assert!(heartbeat.is_registered());
        assert!(heartbeat.last_error().is_none());
    });
}

/// The pauses between failed attempts grow.
///
/// A registry that is down because it is overloaded must not get more requests for it.
///
/// Hint: the pause doubles, up to a limit, and starts anew after a success. See `Backoff`.
#[test]
fn failing_heartbeats_come_less_and_less_often() {
    run(async || {
        let registry = HandRegistry::start().await;
        let _heartbeat = Heartbeat::start(registry.client(), endpoint("tcp@a:1"));
        let mut request = registry.request().await;
        for at_least in [50, 100, 200] {
            let failed = Instant::now();
            request.answer("503 Busy", &[], "").await;
            request = registry.request().await;
            let pause = failed.elapsed();
            // Half of 100, 200 and 400 ms: that is how much chance may take off.
            assert!(pause >= Duration::from_millis(at_least), "{pause:?}, expected {at_least} ms at least");
        }
    });
}

/// A heartbeat that is not answered is given up while the lease still has time for another.
///
/// With the client's own time limit of 5 s, one lost packet would cost a server its lease of 600 ms.
///
/// Hint: the time for one heartbeat depends on the lease as well.
#[test]
fn a_heartbeat_that_hangs_does_not_cost_the_lease() {
    run(async || {
        let registry = HandRegistry::start().await;
        let _heartbeat = Heartbeat::start(registry.client().timeout(STEP), endpoint("tcp@a:1"));
        registry.request().await.grant(Duration::from_millis(600)).await;
        let _unanswered = registry.request().await;
        let hung = Instant::now();
        registry.request().await.grant(LEASE).await;
        // 250 ms on an idle machine. The client's own limit is twenty times that.
        assert!(hung.elapsed() < STEP / 2, "the next attempt came after {:?}", hung.elapsed());
    });
}

/// Shutdown waits for the heartbeat that is on its way, then deregisters, then sends no more.
///
/// GeeRPC never deregisters. And a deregistration that overtakes a heartbeat is worse than none: the dead server is
/// listed for a whole lease.
///
/// Hint: send both from the same loop, one after the other. So there is nothing to overtake.
#[test]
fn shutdown_deregisters_after_the_last_heartbeat() {
    run(async || {
        let registry = HandRegistry::start().await;
        let heartbeat = Heartbeat::start(registry.client(), endpoint("tcp@a:1"));
        let on_its_way = registry.request().await;
        let shutdown = tokio::spawn(heartbeat.shutdown());
        registry.expect_silence(Duration::from_millis(50)).await;
        on_its_way.grant(Duration::from_millis(30)).await;
        let last = registry.request().await;
        assert_eq!(last.method(), "DELETE");
        last.answer("204 No Content", &[], "").await;
        within("the end of the shutdown", shutdown).await.unwrap().unwrap();
        registry.expect_silence(Duration::from_millis(50)).await;
    });
}

/// A `Heartbeat` that is dropped stops, even in the middle of a request, and leaves no task behind.
///
/// Nothing stops GeeRPC's ticker: a server that is gone is kept in the list by its ticker.
///
/// Hint: abort the task in `Drop`.
#[test]
fn a_heartbeat_that_is_dropped_stops() {
    run(async || {
        let registry = HandRegistry::start().await;
        let before = alive_tasks();
        let heartbeat = Heartbeat::start(registry.client(), endpoint("tcp@a:1"));
        registry.request().await.grant(Duration::from_millis(30)).await;
        let _unanswered = registry.request().await;
        drop(heartbeat);
        eventually("all tasks are gone", || alive_tasks() == before).await;
        registry.expect_silence(Duration::from_millis(50)).await;
    });
}
