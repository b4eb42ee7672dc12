//! The heartbeat keeps a lease until it is dropped.
//!
//! Write `Backoff` in `src/registry/backoff.rs`, and `Heartbeat` and `Beats` in `src/registry/heartbeat.rs`.
//!
//! Chapter: Files of today > src/registry/heartbeat.rs; Limits > pause between two beats

use super::*;

/// The first beat comes at once, not after a first pause.
///
/// The usual loop waits and then acts, so a server that is up and ready would get no calls for seconds.
///
/// Hint: act, then wait: the pause is at the end of the loop.
#[test]
fn the_first_beat_comes_at_once() {
    run(async || {
        let registry = HandRegistry::start().await;
        let begin = Instant::now();
        let _heartbeat = Heartbeat::start(registry.client(), endpoint("tcp@a:1"));
        registry.request().await.grant(LEASE).await;
        // Far from 10 s / 3, and far enough from a busy machine.
        assert!(begin.elapsed() < Duration::from_secs(2), "the first beat came after {:?}", begin.elapsed());
    });
}

/// The next beat comes a third of the lease after the last, whatever lease the registry grants.
///
/// An interval of its own, however reasonable, makes servers flap at a registry with shorter leases; and with
/// one beat in a lease, each comes when it is over.
///
/// Hint: the answer to each beat says how long the lease is. A third of it leaves time for two more attempts.
#[test]
fn beats_follow_the_lease() {
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
            assert!(pause >= Duration::from_millis(millis / 3), "{pause:?} after a lease of {millis} ms");
            // Far from 10 s / 3 and from a whole lease, and far enough from a busy machine.
            assert!(pause < Duration::from_secs(2), "{pause:?} after a lease of {millis} ms");
            next.answer("503 Busy", &[], "").await;
        }
    });
}

/// After a failure of whatever kind the heartbeat goes on, and says what went wrong; a 500 does not count as
/// registered.
///
/// GeeRPC's heartbeat ends at its first error, and takes a 500 for success. Either way the server is alive
/// and nobody knows.
///
/// Hint: a loop without a `break` and without a `?`. The outcome goes into a `watch` channel.
#[test]
fn a_failed_beat_is_not_the_last() {
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

/// The pauses between failures grow.
///
/// A registry that is down because it is overloaded must not be asked the more for it.
///
/// Hint: the pause doubles, up to a limit, and starts anew after a success. See `Backoff`.
#[test]
fn failing_beats_come_less_and_less_often() {
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

/// After a success the pauses start anew, and the first one leaves time for more attempts within the lease.
///
/// A failure is mostly a hiccup, and the lease goes on running. A heartbeat that still sits out the pause of
/// an outage long over, or starts with a long one, gives the lease away.
///
/// Hint: a quarter of the longest pause is a good first one. See `Backoff`.
#[test]
fn the_first_pause_after_a_success_is_short() {
    run(async || {
        let registry = HandRegistry::start().await;
        let _heartbeat = Heartbeat::start(registry.client(), endpoint("tcp@a:1"));
        let mut shortest = Duration::MAX;
        // The pause is at most 20 ms here, and 40 ms or more if it is wrong. A busy machine makes some
        // attempts late, but not all of them.
        for _ in 0..20 {
            for _ in 0..3 {
                registry.request().await.answer("503 Busy", &[], "").await;
            }
            registry.request().await.grant(Duration::from_millis(240)).await;
            let beat = registry.request().await;
            let failed = Instant::now();
            beat.answer("503 Busy", &[], "").await;
            let again = registry.request().await;
            shortest = shortest.min(failed.elapsed());
            if shortest < Duration::from_millis(35) {
                return;
            }
            again.answer("503 Busy", &[], "").await;
        }
        panic!("the shortest of 20 first pauses was {shortest:?}, with a lease of 240 ms");
    });
}

/// Each pause after a failure is shortened by chance.
///
/// All servers saw the registry fail at the same moment. Without chance they would all be back at the same
/// moment too, again and again.
///
/// Hint: anything from a half of the pause to all of it.
#[test]
fn pauses_after_failures_are_shortened_by_chance() {
    run(async || {
        let third_pause = async || {
            let registry = HandRegistry::start().await;
            let _heartbeat = Heartbeat::start(registry.client(), endpoint("tcp@a:1"));
            for _ in 0..2 {
                registry.request().await.answer("503 Busy", &[], "").await;
            }
            let third = registry.request().await;
            let failed = Instant::now();
            third.answer("503 Busy", &[], "").await;
            registry.request().await;
            failed.elapsed()
        };
        let pauses = join_all((0..20).map(|_| third_pause()).collect()).await;
        // Each is from 200 to 400 ms. A pause that nobody shortens is never below 400.
        assert!(pauses.iter().any(|pause| *pause < Duration::from_millis(380)), "{pauses:?}");
    });
}

/// A lease counts from when it was asked for, not from when the answer is here.
///
/// The registry's clock started when it read the request. Who counts from the answer believes to be listed
/// when the lease has long ended.
///
/// Hint: take the time before you send the request.
#[test]
fn a_lease_counts_from_when_it_was_asked_for() {
    run(async || {
        let registry = HandRegistry::start().await;
        let heartbeat = Heartbeat::start(registry.client(), endpoint("tcp@a:1"));
        let request = registry.request().await;
        registry.expect_silence(Duration::from_millis(450)).await;
        request.grant(Duration::from_millis(400)).await;
        within("the registration", heartbeat.wait_registered()).await;
        assert!(!heartbeat.is_registered(), "the answer took longer than the lease");
    });
}

/// A beat that is not answered is given up while the lease still has time for another.
///
/// With the client's own time limit of 5 s, one lost packet would cost a server its lease of 600 ms.
///
/// Hint: the time for one beat depends on the lease as well.
#[test]
fn a_beat_that_hangs_does_not_cost_the_lease() {
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

/// Shutdown waits for the beat that is on its way, then deregisters, then beats no more.
///
/// GeeRPC never deregisters. And a farewell that overtakes a beat is worse than none: the dead server is
/// listed for a whole lease.
///
/// Hint: send both from the same loop, one after the other. So there is nothing to overtake.
#[test]
fn shutdown_deregisters_after_the_last_beat() {
    run(async || {
        let registry = HandRegistry::start().await;
        let heartbeat = Heartbeat::start(registry.client(), endpoint("tcp@a:1"));
        let beat = registry.request().await;
        let shutdown = tokio::spawn(heartbeat.shutdown());
        registry.expect_silence(Duration::from_millis(50)).await;
        beat.grant(Duration::from_millis(30)).await;
        let farewell = registry.request().await;
        assert_eq!(farewell.method(), "DELETE");
        farewell.answer("204 No Content", &[], "").await;
        within("the end of the shutdown", shutdown).await.unwrap().unwrap();
        registry.expect_silence(Duration::from_millis(50)).await;
    });
}

/// A heartbeat that is dropped stops, even in the middle of a beat, and leaves no task behind.
///
/// Nothing stops GeeRPC's ticker; a server that is gone is kept alive by its ghost.
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
