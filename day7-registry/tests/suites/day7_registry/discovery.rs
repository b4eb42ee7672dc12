//! Discovery: a list that is refreshed beside the calls.
//!
//! In `src/registry/discovery.rs`: `start_with`, its task `run`, and `update`.
//!
//! Works then: a balanced client follows the registry, and no call waits for a refresh.
//!
//! Chapter: Discovery beside the calls; When is a short list believed?; Limits > time between two refreshes

use super::*;

/// The first call waits for the first list. If there is none it fails with the registry's own error, and a
/// later one gets the list as soon as it is there.
///
/// With no list there is nothing better to do than to wait a moment. And what is wrong with the registry is what the
/// caller wants to know.
///
/// Hint: `MultiServersDiscovery::unknown` is a list that is not there yet, and `fail` says why.
#[test]
fn the_first_call_waits_for_the_first_list() {
    run(async || {
        let server: Running = start(Server::new(arith())).await;
        let registry = HandRegistry::start().await;
        let discovery = Arc::new(RegistryDiscovery::start(registry.client()));
        let client = client_over(Arc::clone(&discovery));
        let (called, ()) = tokio::join!(sum(&client), async {
            registry.request().await.answer("503 Busy", &[], "").await;
        });
        assert_eq!(status::<()>(Err(registry_error(called))), 503);

        let endpoint = Endpoint::tcp(server.addr).to_string();
        let answering = async { registry.request().await.list(LEASE, &[&endpoint]).await };
        let (called, ()) = tokio::join!(sum(&client), answering);
        assert_eq!(called.unwrap(), 3);
        assert!(discovery.servers().borrow().error.is_none());
    });
}

/// When the registry answers badly, hangs, or is gone, the last good list stays in use, and the error is known.
///
/// In GeeRPC a registry that is down fails all calls although the servers are fine, and a 503 wipes the list.
/// The registry is there to help. Without it, everything that works must go on working.
///
/// Hint: only a good answer replaces the list.
#[test]
fn the_last_good_list_survives_a_bad_registry() {
    run(async || {
        let registry = HandRegistry::start().await;
        let client = registry.client().timeout(Duration::from_millis(200));
        let discovery = RegistryDiscovery::start(client);
        let list = ["tcp@a:1", "tcp@b:1"];
        registry.request().await.list(LEASE, &list).await;
        wait_for_list(&discovery, &list).await;

        for (line, body) in [("503 Busy", "[]"), ("200 OK", "<html>"), ("204 No Content", "")] {
            let error = tokio::select! {
                error = refreshed(&discovery) => error,
                never = registry.answer_all(line, &["X-Rrpc-Lease-Ms: 9000"], body) => match never {},
            };
            assert!(error.is_some(), "{line} {body:?} is no list");
            assert_eq!(list_of(&discovery), list, "after {line} {body:?}");
        }
        let error = refreshed(&discovery).await;
        assert!(matches!(error, Some(RegistryError::Timeout { .. })), "{error:?}");
        assert_eq!(list_of(&discovery), list, "the registry hangs");

        drop(registry);
        let error = refreshed(&discovery).await;
        assert!(matches!(error, Some(RegistryError::Unreachable(_))), "{error:?}");
        assert_eq!(list_of(&discovery), list, "the registry is gone");
    });
}

/// While a refresh hangs, a call gets its server from the list without any delay.
///
/// GeeRPC refreshes inside of the call and under a lock, without a time limit: a slow registry stops every
/// call of every client.
///
/// Hint: a task talks to the registry. A call reads what is there.
#[test]
fn a_call_never_waits_for_a_refresh() {
    run(async || {
        let server: Running = start(Server::new(arith())).await;
        let registry = HandRegistry::start().await;
        let client = client_over(RegistryDiscovery::start(registry.client().timeout(Duration::MAX)));
        let endpoint = Endpoint::tcp(server.addr).to_string();
        let answering =
            async { registry.request().await.list(Duration::from_millis(60), &[&endpoint]).await };
        let (called, ()) = tokio::join!(sum(&client), answering);
        assert_eq!(called.unwrap(), 3);
        let _unanswered = registry.request().await;
        assert_eq!(sum(&client).await.unwrap(), 3);
    });
}

/// The list is refreshed about a third of a lease after the last time, with the lease that the registry named. A list
/// that is the same stays the same.
///
/// Whatever a client makes of a list, such as a ring, is made anew for another one.
///
/// Hint: the answer to `GET` has the lease, too. Chance may shorten the time, but not by more than a half.
#[test]
fn the_list_follows_the_registry() {
    run(async || {
        let registry = HandRegistry::start().await;
        let discovery = RegistryDiscovery::start(registry.client());
        let list = || discovery.servers().borrow().list.clone().unwrap();
        let [short, long] = [300, 3_000].map(Duration::from_millis);
        let mut request = registry.request().await;
        let answers = [(&["tcp@a:1"][..], short), (&["tcp@a:1", "tcp@b:1"], long), (&["tcp@b:1"], short)];
        for (servers, lease) in answers {
            let answered = Instant::now();
            request.list(lease, servers).await;
            wait_for_list(&discovery, servers).await;
            let taken = list();
            let same = registry.request().await;
            let pause = answered.elapsed();
            assert!(pause >= lease / 6, "refreshed after {pause:?}");
            // Far from a whole lease of 3 s, and far enough from a busy machine.
            assert!(pause < Duration::from_secs(2), "refreshed after {pause:?}");
            same.list(short, servers).await;
            request = registry.request().await; // so the answer before was taken in
            assert!(Arc::ptr_eq(&taken, &list()), "the list is the same as before");
        }
    });
}

/// While the registry is younger than a lease, its list only adds servers. Then it removes as well, and an empty list
/// is a list.
///
/// A registry that has just been restarted knows no server, and then those whose heartbeats came first. If every client
/// believed it, each restart of the registry would be an outage, or a stampede to one server.
///
/// Hint: the answer says how old the registry is. What it says of a server counts at any age.
#[test]
fn the_list_of_a_young_registry_only_adds() {
    run(async || {
        let registry = HandRegistry::start().await;
        let discovery = RegistryDiscovery::start(registry.client());
        let lease = Duration::from_millis(300);
        let (young, old) = (lease - Duration::from_millis(1), lease);
        let rounds: [(_, &[&str], &[&str]); 6] = [
            (young, &["tcp@a:1"], &["tcp@a:1"]), // nothing is known: so it is all that is known
            (old, &["tcp@a:1", "tcp@b:1", "tcp@c:1"], &["tcp@a:1", "tcp@b:1", "tcp@c:1"]),
            (Duration::ZERO, &[], &["tcp@a:1", "tcp@b:1", "tcp@c:1"]),
            (young, &["tcp@b:1", "tcp@d:1"], &["tcp@a:1", "tcp@b:1", "tcp@c:1", "tcp@d:1"]),
            (old, &["tcp@b:1"], &["tcp@b:1"]),
            (old, &[], &[]),
        ];
        let mut request = registry.request().await;
        for (age, listed, expected) in rounds {
            request.list_at_age(age, lease, listed).await;
            request = registry.request().await; // so the answer before was taken in
            let mut list = list_of(&discovery);
            list.sort();
            assert_eq!(list, expected, "after {listed:?} at the age of {age:?}");
        }
        let error = sum(&client_over(discovery)).await.unwrap_err();
        assert!(matches!(error, BalanceError::Discovery(DiscoveryError::NoServers)), "{error:?}");
    });
}

/// Any number of hints at the same time are one request. It comes soon, but not at once after the last one.
///
/// A client that finds no server working asks for a newer list, and so do all other callers of that moment. That must
/// not be what brings the registry down.
///
/// Hint: `Notify::notify_one` keeps one permit, however often it is called. `MIN_REFRESH_INTERVAL` is the shortest pause.
#[test]
fn hints_share_one_request() {
    run(async || {
        let registry = HandRegistry::start().await;
        let discovery = RegistryDiscovery::start(registry.client());
        let on_its_way = registry.request().await;
        for _ in 0..10 {
            assert!(discovery.refresh());
        }
        let answered = Instant::now();
        on_its_way.list(Duration::from_secs(60), &["tcp@old:1"]).await;
        let next = registry.request().await;
        let pause = answered.elapsed();
        assert!(pause >= MIN_REFRESH_INTERVAL - Duration::from_millis(5), "asked again after {pause:?}");
        assert!(pause < Duration::from_secs(5), "asked again after {pause:?}");
        next.list(Duration::from_secs(60), &["tcp@new:1"]).await;
        wait_for_list(&discovery, &["tcp@new:1"]).await;
        registry.expect_silence(2 * MIN_REFRESH_INTERVAL).await;
    });
}

/// A discovery that is dropped stops, even in the middle of a request, and leaves no task.
///
/// Whatever is started has an owner. A program that makes a discovery for each job would send more and more requests
/// to the registry.
///
/// Hint: `AbortOnDropHandle`. The task must not hold what it is owned by.
#[test]
fn a_discovery_that_is_dropped_stops() {
    run(async || {
        let registry = HandRegistry::start().await;
        let before = alive_tasks();
        let discovery = RegistryDiscovery::start(registry.client());
        registry.request().await.list(Duration::from_millis(30), &[]).await;
        let _unanswered = registry.request().await;
        drop(discovery);
        eventually("all tasks are gone", || alive_tasks() == before).await;
        registry.expect_silence(Duration::from_millis(50)).await;
    });
}
