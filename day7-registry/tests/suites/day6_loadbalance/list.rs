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
