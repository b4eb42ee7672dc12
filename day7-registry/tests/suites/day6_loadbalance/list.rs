//! The list of servers, and who watches it.
//!
//! In `src/balance/multi_servers.rs`: `fail`. Then the beginning of a call, which needs no server yet: `known` in
//! `src/balance/discovery.rs`, `Pool::new` in `src/balance/pool.rs`, and `call` in `src/balance/failover.rs`.
//!
//! Works then: a call waits for the list of servers, and learns why there is none.
//!
//! Chapter: Knowing the servers

use super::*;

/// The list is the discovery's own: a list taken from it earlier stays as it was, and a server that is named
/// twice counts once.
///
/// GeeRPC keeps the caller's slice: a caller that sorts it later moves the servers under the balancer's feet.
///
/// Hint: a new `Arc` for each new list; a holder of the old one keeps it.
#[test]
fn the_list_is_a_copy_and_duplicates_count_once() {
    let mut mine = servers("abac");
    let discovery = MultiServersDiscovery::new(mine.iter().cloned());
    let old = discovery.get_all();
    assert_eq!(names_of(&old), "abc", "a server that is named twice counts once");

    mine.clear();
    discovery.update(instances("bbd"));
    assert_eq!(names_of(&old), "abc", "a list that was handed out has changed");
    assert_eq!(names_of(&discovery.get_all()), "bd", "the list after the update");
    let counts = count(&choices(&discovery, &SelectMode::RoundRobin, 4));
    assert_eq!(counts, BTreeMap::from([('b', 2), ('d', 2)]));
}

/// Whoever watches the servers sees every new list, and the same list after an update that changes nothing. Attempts are
/// counted, and an error stays until the next good one.
///
/// Tomorrow a registry sends the same list again and again, and a new one makes clients look at their connections.
///
/// Hint: keep the old `Arc` if the servers are equal.
#[test]
fn an_update_that_changes_nothing_keeps_the_list() {
    run(async || {
        let discovery = MultiServersDiscovery::unknown();
        let mut watch = discovery.servers();
        let seen = watch.borrow_and_update().clone();
        assert!(seen.list.is_none() && seen.error.is_none() && seen.attempts == 0, "{seen:?}");

        let mut lists = Vec::new();
        for (names, attempts) in [("ab", 1), ("abb", 2), ("bc", 3)] {
            discovery.update(instances(names));
            within("the watch changes", watch.changed()).await.unwrap();
            let seen = watch.borrow_and_update().clone();
            assert_eq!(seen.attempts, attempts);
            lists.push(seen.list.unwrap());
        }
        assert!(Arc::ptr_eq(&lists[0], &lists[1]), "an update that changes nothing made a new list");
        assert_eq!((names_of(&lists[1]), names_of(&lists[2])), ("ab".to_owned(), "bc".to_owned()));

        discovery.fail("no answer");
        let seen = watch.borrow_and_update().clone();
        assert_eq!(
            (seen.attempts, seen.error.map(|error| error.to_string()).as_deref()),
            (4, Some("no answer"))
        );
        assert!(Arc::ptr_eq(&lists[2], &seen.list.unwrap()), "a failure has changed the list");
        discovery.update([Instance::new(endpoint("tcp@b:7000")).weight(2), endpoint("tcp@c:7000").into()]);
        let seen = watch.borrow_and_update().clone();
        assert!(seen.error.is_none(), "the attempt was good, but {:?} is still there", seen.error);
        assert!(!Arc::ptr_eq(&lists[2], &seen.list.unwrap()), "a new weight makes a new list");
    });
}

/// A call that finds no list waits. If the attempt to get one fails, the call fails at once, and says why.
///
/// A program starts before its discovery has an answer. A call that fails then would fail at every start; one
/// that waits on after the failure would only use up its time.
///
/// Hint: the watch says how often the discovery has tried. Wait for a list, or for the end of the next attempt.
#[test]
fn a_call_waits_until_no_list_can_be_had() {
    run(async || {
        let list = Arc::new(MultiServersDiscovery::unknown());
        let client = client_of(&list, Options::default());
        let mut call = pin!(try_call(&client));
        assert!(waits(call.as_mut()).await, "the list is not known yet");
        list.fail("no answer");
        match call.await {
            Err(BalanceError::Discovery(DiscoveryError::Unavailable(source))) => {
                assert_eq!(source.to_string(), "no answer");
            }
            other => panic!("without a list a call should be Unavailable, but: {other:?}"),
        }
    });
}
