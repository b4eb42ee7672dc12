//! The list of servers, and who hears of its changes.
//!
//! Complete `MultiServersDiscovery` in `src/balance/discovery.rs`: `get_all`, `subscribe`, `update`.
//!
//! Chapter: Files of today > src/balance/discovery.rs

use super::*;

/// The list is the discovery's own: a list taken from it earlier stays as it was, and a server that is named
/// twice counts once.
///
/// GeeRPC keeps the caller's slice, and whoever sorts it later moves the servers under the balancer's feet.
///
/// Hint: a new `Arc` for each new list; whoever holds the old one keeps it.
#[test]
fn the_list_is_a_copy_and_duplicates_count_once() {
    run(async || {
        let mut mine = servers("abac");
        let discovery = MultiServersDiscovery::new(mine.iter().cloned());
        let old = within("the list", discovery.get_all()).await.unwrap();
        assert_eq!(names_of(&old), "abc", "a server that is named twice counts once");

        mine.clear();
        discovery.update(servers("bbd"));
        assert_eq!(names_of(&old), "abc", "a list that was handed out has changed");
        let new = within("the list", discovery.get_all()).await.unwrap();
        assert_eq!(names_of(&new), "bd", "the list after the update");
        let counts = count(&choices(&discovery, &SelectMode::RoundRobin, 4).await);
        assert_eq!(counts, BTreeMap::from([('b', 2), ('d', 2)]));
    });
}

/// Subscribers are told of every new list, but not of an update that changes nothing.
///
/// Tomorrow a registry sends the same list again and again, and each change makes clients look at their
/// connections.
///
/// Hint: `watch::Sender::send_if_modified`.
#[test]
fn subscribers_hear_of_changes_only() {
    run(async || {
        let discovery = MultiServersDiscovery::new(servers("ab"));
        let mut list = discovery.subscribe();
        assert_eq!(names_of(&list.borrow()), "ab");
        discovery.update(servers("abb"));
        assert!(!list.has_changed().unwrap(), "subscribers were told of an update that changes nothing");
        discovery.update(servers("bc"));
        within("the subscriber hears of the change", list.changed()).await.unwrap();
        assert_eq!(names_of(&list.borrow_and_update()), "bc");
    });
}

/// From an empty list nobody can be chosen, in any mode, also after the last one has left; the list itself is
/// known, and empty.
///
/// Every list may become empty, and a remainder of a division by its length is then a panic.
///
/// Hint: `NoServers` is a variant of its own.
#[test]
fn an_empty_list_has_nobody_to_choose() {
    run(async || {
        let left = MultiServersDiscovery::new(servers("ab"));
        choices(&left, &SelectMode::RoundRobin, 1).await;
        left.update(Vec::new());
        for discovery in [MultiServersDiscovery::new([]), left] {
            for mode in
                [SelectMode::Random, SelectMode::RoundRobin, SelectMode::WeightedRoundRobin, key("user-1")]
            {
                let chosen = within("a choice", discovery.get(&mode)).await;
                assert!(
                    matches!(chosen, Err(DiscoveryError::NoServers)),
                    "{mode} from an empty list should be NoServers, but: {chosen:?}"
                );
            }
            let list = within("the list", discovery.get_all()).await.unwrap();
            assert_eq!(names_of(&list), "", "the list is known, and empty");
        }
    });
}
