//! The list of servers, and its subscribers.
//!
//! Complete `MultiServersDiscovery` in `src/balance/discovery.rs`: `get_all`, `subscribe`, `update`.
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

/// Subscribers see every new list, and no change when an update changes nothing.
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
        assert!(!list.has_changed().unwrap(), "subscribers saw an update that changes nothing");
        discovery.update(servers("bc"));
        within("the subscriber hears of the change", list.changed()).await.unwrap();
        assert_eq!(names_of(&list.borrow_and_update()), "bc");
    });
}
