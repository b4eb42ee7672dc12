//! Hardening: chance, the limits of the pauses, a registry that hangs, and a server that starts again.
//!
//! No new function. See `src/registry/backoff.rs`, and `run` and `shutdown` in
//! `src/registry/heartbeat.rs`.
//!
//! Chapter: Limits; What goes wrong without it

use super::*;

/// Each pause after a failure is shortened by chance.
///
/// All servers saw the registry fail at the same moment. Without chance they would all try again at the same moment
/// too, again and again.
///
/// Hint: anything from a half of the pause to all of it.
#[test]
fn pauses_after_failures_are_shortened_by_chance() {
    run_paused(async || {
        let mut seen = HashSet::new();
        for _ in 0..20 {
            let (registry, mut times) = Scripted::new([None]);
            let _heartbeat = Heartbeat::start(registry, endpoint("tcp@a:1"));
            let pauses = pauses(&mut times, 3).await;
            expect_pauses(&pauses, &[100, 200, 400]);
            seen.insert(pauses[2]);
        }
        assert!(seen.len() > 5, "twenty pauses of {seen:?}");
    });
}

/// A lease counts from when the request was sent, not from when the answer is here.
///
/// The registry's clock started when it read the request. A server that counts from the answer believes to be
/// listed when the lease has long ended.
///
/// Hint: take the time before you send the request.
#[test]
fn a_lease_counts_from_the_request() {
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

/// Each interval between two heartbeats is shortened by chance.
///
/// A hundred servers that are started by one script would else send their heartbeats in the same moment, round after
/// round.
///
/// Hint: not by so much that the registry has many more requests. A quarter is enough.
#[test]
fn heartbeats_of_many_servers_spread() {
    run_paused(async || {
        let mut seen = HashSet::new();
        for _ in 0..20 {
            let (registry, mut times) = Scripted::new([Some(LEASE)]);
            let _heartbeat = Heartbeat::start(registry, endpoint("tcp@a:1"));
            let interval = pauses(&mut times, 1).await[0];
            expect_pauses(&[interval], &[3_000]);
            seen.insert(interval);
        }
        assert!(seen.len() > 5, "twenty intervals of {seen:?}");
    });
}

/// A shutdown takes no longer than one request to the registry may take, also when the registry hangs in the middle
/// of a heartbeat.
///
/// A process that is to end has seconds for it, and then it is killed, with the calls that it had in flight. Two
/// limits one behind the other are twice as long.
///
/// Hint: one limit around all of it: the heartbeat that is on its way, and the deregistration.
#[test]
fn a_shutdown_keeps_to_one_time_limit() {
    run(async || {
        let registry = HandRegistry::start().await;
        let after = Duration::from_secs(1);
        let heartbeat = Heartbeat::start(registry.client().timeout(after), endpoint("tcp@a:1"));
        let _unanswered = registry.request().await;
        let begin = Instant::now();
        let ended = within("the end of the shutdown", heartbeat.shutdown()).await;
        assert!(ended.is_err(), "the registry has not answered");
        // Two limits would be 2 s.
        assert!(begin.elapsed() < Duration::from_millis(1_800), "it took {:?}", begin.elapsed());
    });
}

/// A server that starts again at the same endpoint is listed at once with its own weight, whatever its predecessor
/// still sends. The predecessor learns that it is not registered.
///
/// With a rolling restart at fixed ports, both processes are there for a moment.
///
/// Hint: each `HttpRegistry` has an id of its own, and the registry goes by that.
#[test]
fn a_server_that_starts_again_wins_at_once() {
    run(async || {
        let registry = RegistryServer::new().lease(Duration::from_secs(2));
        let running = RunningRegistry::start(&registry).await;
        let old = Heartbeat::start(running.client(), endpoint("tcp@a:1"));
        within("the registration", old.wait_registered()).await;
        let new = Heartbeat::start(running.client(), instance("tcp@a:1").weight(2));
        within("the registration", new.wait_registered()).await;
        assert_eq!(registry.servers(), [new.instance().clone()]);
        eventually("the old one is refused", || old.last_error().is_some()).await;
        assert_eq!(status::<()>(Err(old.last_error().unwrap())), 409);
        eventually("the lease of the old one has ended", || !old.is_registered()).await;
        assert_eq!(registry.servers(), [new.instance().clone()]);
        assert_eq!(status(within("the end of the shutdown", old.shutdown()).await), 409);
        assert_eq!(registry.servers(), [new.instance().clone()], "its DELETE changes nothing");
        within("the end of the shutdown", new.shutdown()).await.unwrap();
        assert_eq!(registry.servers(), []);
    });
}

/// Whatever the lease, a server renews every 30 s. After failures it tries again at the latest after 5 s, or after a third
/// of the lease, and after a success the pauses start anew.
///
/// With a lease of an hour, a registry that was restarted would not know the server for twenty minutes. The same holds for
/// one that was down for a night.
///
/// Hint: `MAX_HEARTBEAT_INTERVAL` and `MAX_BACKOFF`.
#[test]
fn the_pauses_of_a_heartbeat_are_bounded() {
    run_paused(async || {
        let hour = Some(Duration::from_secs(3600));
        let script = [hour, None, None, None, None, None, None, None, None, hour, None, hour];
        let (registry, mut times) = Scripted::new(script);
        let _heartbeat = Heartbeat::start(registry, endpoint("tcp@a:1"));
        let pauses = pauses(&mut times, 13).await;
        let outage = [100, 200, 400, 800, 1600, 3200, 5000, 5000];
        expect_pauses(&pauses[..1], &[30_000]);
        expect_pauses(&pauses[1..9], &outage);
        expect_pauses(&pauses[9..], &[30_000, 100, 30_000, 30_000]);

        let (registry, mut times) = Scripted::new([Some(Duration::from_millis(1200)), None]);
        let _heartbeat = Heartbeat::start(registry, endpoint("tcp@a:1"));
        expect_pauses(&super::pauses(&mut times, 5).await, &[400, 100, 200, 400, 400]);
    });
}

/// A shutdown does not wait for the pause until the next heartbeat.
///
/// With a lease of a minute that pause is longer than the limit of the shutdown. The server would then end without a
/// deregistration, and clients would call it until its lease has ended.
///
/// Hint: wait for the pause and for the signal to stop at the same time.
#[test]
fn a_shutdown_cuts_a_long_pause_short() {
    run_paused(async || {
        let (registry, _times) = Scripted::new([Some(Duration::from_secs(3600))]);
        let heartbeat = Heartbeat::start(registry, endpoint("tcp@a:1"));
        within("the registration", heartbeat.wait_registered()).await;
        let begin = Instant::now();
        within("the end of the shutdown", heartbeat.shutdown()).await.unwrap();
        assert!(begin.elapsed() < Duration::from_secs(1), "it took {:?}", begin.elapsed());
    });
}

/// A heartbeat that fails takes nothing of the lease that was granted before, and a lease without end is one, too.
///
/// A server that believes to be gone while it is listed would be restarted for nothing.
///
/// Hint: a failure is one thing to know, the end of the lease another. And `Instant + Duration::MAX` panics.
#[test]
fn a_lease_lasts_as_long_as_it_was_granted() {
    run_paused(async || {
        let (registry, _times) = Scripted::new([Some(Duration::from_secs(9)), None]);
        let heartbeat = Heartbeat::start(registry, endpoint("tcp@a:1"));
        within("the registration", heartbeat.wait_registered()).await;
        sleep(Duration::from_millis(3500)).await;
        assert!(heartbeat.last_error().is_some(), "the second heartbeat has failed");
        assert!(heartbeat.is_registered(), "the lease of the first one goes on");

        let (registry, _times) = Scripted::new([Some(Duration::MAX)]);
        let heartbeat = Heartbeat::start(registry, endpoint("tcp@a:1"));
        within("the registration", heartbeat.wait_registered()).await;
        assert!(heartbeat.is_registered(), "a lease without end");
        within("the end of the shutdown", heartbeat.shutdown()).await.unwrap();
    });
}

/// The first pause after a failure is a quarter of the longest one, if the lease is short.
///
/// With a lease of 600 ms a third of it is 200 ms. A first pause of 100 ms leaves time for one attempt more, 50 ms for two.
///
/// Hint: the smaller of the two.
#[test]
fn a_short_lease_has_a_short_first_pause() {
    run_paused(async || {
        let (registry, mut times) = Scripted::new([Some(Duration::from_millis(600)), None]);
        let _heartbeat = Heartbeat::start(registry, endpoint("tcp@a:1"));
        expect_pauses(&pauses(&mut times, 5).await, &[200, 50, 100, 200, 200]);
    });
}
