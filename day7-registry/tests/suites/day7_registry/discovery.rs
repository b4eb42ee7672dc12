//! Discovery: a list that is refreshed beside the calls.
//!
//! Write `RegistryDiscovery` and `Refresher` in `src/registry/discovery.rs`: `start`, `run` and `finish`,
//! then `refresh`, `wait_for_list` and `is_credible`.
//!
//! Chapter: Discovery beside the calls; Limits > time between two refreshes

use super::*;

/// The first call waits for the first list. If there is none it fails with the registry's own error, and a
/// later one gets the list as soon as it is there.
///
/// With no list there is nothing better to do than to wait a moment, but not without limit.
///
/// Hint: a `watch` channel that counts the attempts. A call that finds no list waits for the end of the next one.
#[test]
fn the_first_call_waits_for_the_first_list() {
    run(async || {
        let registry = HandRegistry::start().await;
        let discovery = RegistryDiscovery::start(registry.client());
        let request = registry.request().await;
        let (error, ()) = tokio::join!(discovery.get(&SelectMode::Random), async {
            request.answer("503 Busy", &[], "").await;
        });
        assert_eq!(status::<()>(Err(registry_error(error.unwrap_err()))), 503);

        let answering = async { registry.request().await.list(LEASE, &["tcp@a:1"]).await };
        let (found, ()) = tokio::join!(discovery.get(&SelectMode::Random), answering);
        assert_eq!(found.unwrap(), endpoint("tcp@a:1"));
        assert!(discovery.last_error().is_none());
    });
}

/// While there is no list, a call waits for the registry's time limit and then fails, also when the next
/// attempt is much further away than that.
///
/// The pauses between attempts grow, and a caller's patience does not grow with them.
///
/// Hint: the wait has a limit of its own, whatever the task is doing.
#[test]
fn a_call_without_a_list_fails_in_time() {
    run(async || {
        let registry = HandRegistry::start().await;
        let discovery = RegistryDiscovery::start(registry.client().timeout(Duration::from_millis(50)));
        let _unanswered = registry.request().await;
        let error = within("the time limit", discovery.get_all()).await.unwrap_err();
        assert!(matches!(registry_error(error), RegistryError::Timeout { .. }));

        drop(registry);
        let begin = Instant::now();
        for _ in 0..8 {
            let error = within("the time limit", discovery.get_all()).await.unwrap_err();
            registry_error(error);
        }
        // Eight times 50 ms. The eighth attempt would not come before 5 s.
        assert!(begin.elapsed() < Duration::from_millis(2_500), "it took {:?}", begin.elapsed());
    });
}

/// When the registry answers badly, hangs, or is gone, the last good list stays in use.
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
        let hour = Some(Duration::from_secs(3600)); // so that only this test refreshes
        let discovery = RegistryDiscovery::start_with(client, MultiServersDiscovery::new([]), hour);
        registry.request().await.list(LEASE, &["tcp@a:1", "tcp@b:1"]).await;
        assert_eq!(listed(&discovery).await, ["tcp@a:1", "tcp@b:1"]);

        for (line, body) in [("503 Busy", "[]"), ("200 OK", "<html>"), ("204 No Content", "")] {
            let refreshed = within("the end of the refresh", async {
                tokio::select! {
                    refreshed = discovery.refresh() => refreshed,
                    never = registry.answer_all(line, &["X-Rrpc-Lease-Ms: 9000"], body) => match never {},
                }
            });
            registry_error(refreshed.await.unwrap_err());
            assert_eq!(listed(&discovery).await, ["tcp@a:1", "tcp@b:1"], "after {line} {body:?}");
        }
        let error = within("the time limit", discovery.refresh()).await.unwrap_err();
        assert!(matches!(registry_error(error), RegistryError::Timeout { .. }));
        assert_eq!(listed(&discovery).await, ["tcp@a:1", "tcp@b:1"], "the registry hangs");

        drop(registry);
        let error = within("an error", discovery.refresh()).await.unwrap_err();
        assert!(matches!(registry_error(error), RegistryError::Unreachable(_)));
        assert!(discovery.last_error().is_some());
        assert_eq!(listed(&discovery).await, ["tcp@a:1", "tcp@b:1"], "the registry is gone");
    });
}

/// While a refresh hangs, a call gets its server from the list without any delay.
///
/// GeeRPC refreshes inside of the call and under a lock, without a time limit: a slow registry stops every
/// call of every client.
///
/// Hint: a task talks to the registry. `get` reads what is there.
#[test]
fn a_call_never_waits_for_a_refresh() {
    run(async || {
        let registry = HandRegistry::start().await;
        let discovery = RegistryDiscovery::start(registry.client());
        registry.request().await.list(Duration::from_millis(60), &["tcp@a:1"]).await;
        assert_eq!(listed(&discovery).await, ["tcp@a:1"]);
        let _unanswered = registry.request().await;
        tokio::select! {
            biased;
            found = discovery.get(&SelectMode::RoundRobin) => assert_eq!(found.unwrap(), endpoint("tcp@a:1")),
            () = std::future::ready(()) => panic!("get was not ready at once"),
        }
        tokio::select! {
            biased;
            all = discovery.get_all() => assert_eq!(endpoints(&all.unwrap()), ["tcp@a:1"]),
            () = std::future::ready(()) => panic!("get_all was not ready at once"),
        }
    });
}

/// The list is refreshed about a third of a lease after the last time, with the lease that the registry named.
/// Subscribers see a server that joins or leaves. They do not see a list that is the same.
///
/// Each notice makes every client look at all its connections.
///
/// Hint: the answer to `GET` has the lease, too. `send_if_modified` notifies of changes only. Chance may shorten the
/// time, but not by more than a half.
#[test]
fn the_list_follows_the_registry() {
    run(async || {
        let registry = HandRegistry::start().await;
        let discovery = RegistryDiscovery::start(registry.client());
        let mut list = discovery.servers();
        let mut last: &[&str] = &[];
        let [short, long] = [300, 3_000].map(Duration::from_millis);
        let mut request = registry.request().await;
        let answers = [(&["tcp@a:1"][..], short), (&["tcp@a:1", "tcp@b:1"], long), (&["tcp@b:1"], short)];
        for (servers, lease) in answers {
            let answered = Instant::now();
            request.list(lease, servers).await;
            assert_eq!(next_list(&mut list, last).await, servers);
            last = servers;
            let taken = list.borrow_and_update().list.clone();
            let same = registry.request().await;
            let pause = answered.elapsed();
            assert!(pause >= lease / 6, "refreshed after {pause:?}");
            // Far from a whole lease of 3 s, and far enough from a busy machine.
            assert!(pause < Duration::from_secs(2), "refreshed after {pause:?}");
            same.list(short, servers).await;
            request = registry.request().await; // so the answer before was taken in
            let same = list.borrow_and_update().list.clone();
            assert!(Arc::ptr_eq(&taken.unwrap(), &same.unwrap()), "the list is the same as before");
        }
    });
}

/// An empty list is believed only after all answers have been empty for a whole lease.
///
/// A registry that has just been restarted knows no server until the next heartbeats. If every client believed it,
/// each restart of the registry would be an outage of everything.
///
/// Hint: remember since when the answers have been empty.
#[test]
fn an_empty_list_is_not_believed_at_once() {
    run(async || {
        let registry = HandRegistry::start().await;
        let discovery = RegistryDiscovery::start(registry.client());
        let lease = Duration::from_millis(300);
        let mut list = discovery.servers();
        registry.request().await.list(lease, &["tcp@a:1"]).await;
        assert_eq!(next_list(&mut list, &[]).await, ["tcp@a:1"]);

        // The registry has been restarted, and the server's heartbeat reaches it in time.
        registry.request().await.list(lease, &[]).await;
        registry.request().await.list(lease, &["tcp@a:1"]).await;
        let request = registry.request().await;
        assert_eq!(known(&list.borrow_and_update()), ["tcp@a:1"], "the empty list of a restart was believed");

        // This time all servers have really gone.
        let gone = Instant::now();
        request.list(lease, &[]).await;
        within("the empty list", async {
            tokio::select! {
                empty = list.wait_for(|servers| known(servers).is_empty()) => drop(empty.unwrap()),
                () = async { loop { registry.request().await.list(lease, &[]).await } } => {}
            }
        })
        .await;
        assert!(gone.elapsed() >= lease, "believed after {:?}", gone.elapsed());
        let error = within("no server", discovery.get(&SelectMode::Random)).await.unwrap_err();
        assert!(matches!(error, DiscoveryError::NoServers), "{error:?}");
    });
}

/// Any number of refreshes at the same time are one request, and each of them sees what the registry knew
/// after it was called.
///
/// A refresh is called when something has gone wrong, and then by all callers at once. That must not be what
/// brings the registry down.
///
/// Hint: an answer that was on its way before may be too old. So join the next attempt, not that one.
#[test]
fn refreshes_share_one_request() {
    run(async || {
        let registry = HandRegistry::start().await;
        let discovery = RegistryDiscovery::start(registry.client());
        let on_its_way = registry.request().await;
        let many = async {
            let mut refreshes = Vec::new();
            for _ in 0..10 {
                refreshes.push(discovery.refresh());
            }
            within("the refreshes", join_all(refreshes)).await
        };
        let answering = async {
            tokio::task::yield_now().await;
            on_its_way.list(LEASE, &["tcp@old:1"]).await;
            registry.request().await.list(LEASE, &["tcp@new:1"]).await;
        };
        let (results, ()) = tokio::join!(many, answering);
        assert!(results.iter().all(Result::is_ok), "{results:?}");
        assert_eq!(listed(&discovery).await, ["tcp@new:1"]);
        registry.expect_silence(Duration::from_millis(50)).await;
    });
}

/// A list to begin with is used at once, before the registry has answered. So is one that is set by hand.
///
/// A program that knows some servers, from its last run or its configuration, can start while the registry is
/// down.
///
/// Hint: put it where the answers go, before the first request.
#[test]
fn a_list_to_begin_with_is_used_at_once() {
    run(async || {
        let registry = HandRegistry::start().await;
        let seed = MultiServersDiscovery::new([endpoint("tcp@seed:1")]);
        let discovery = RegistryDiscovery::start_with(registry.client(), seed, None);
        let request = registry.request().await;
        assert_eq!(listed(&discovery).await, ["tcp@seed:1"]);
        discovery.update(vec![endpoint("tcp@hand:1")]);
        assert_eq!(listed(&discovery).await, ["tcp@hand:1"]);
        let mut list = discovery.servers();
        request.list(LEASE, &["tcp@a:1"]).await;
        next_list(&mut list, &["tcp@hand:1"]).await;
        assert_eq!(listed(&discovery).await, ["tcp@a:1"]);
    });
}

/// A discovery that is dropped stops, even in the middle of a request, and leaves no task.
///
/// Whatever is started has an owner. A program that makes a discovery for each job would send more and more requests
/// to the registry.
///
/// Hint: abort the task in `Drop`. The task must not hold what it is owned by.
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
