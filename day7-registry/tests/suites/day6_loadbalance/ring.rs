//! Keys on a ring: the same key, the same server.
//!
//! Write `Selector::on_ring` and `hash` in `src/balance/select.rs`.
//!
//! Chapter: The wire; The four modes > ConsistentHash(key)

use super::*;

/// A key has the same server at every call, in every client, in whatever order they know the list.
///
/// That is what a cache on the server needs.
///
/// Hint: hash the names of the servers, not their positions, and with no seed of the process.
#[test]
fn a_key_has_the_same_server_in_every_client() {
    run(async || {
        let one = MultiServersDiscovery::new(servers("abcde"));
        let other = MultiServersDiscovery::new(servers("ecadb"));
        let chosen = servers_of_keys(&one, 500).await;
        assert_eq!(chosen, servers_of_keys(&other, 500).await);
        assert_eq!(chosen, servers_of_keys(&one, 500).await);
    });
}

/// Different keys spread over all servers.
///
/// The plain ring, with one point for each server, gives one of them half of all keys and another almost
/// none.
///
/// Hint: many points per server, and a hash whose upper bits depend on the last characters.
#[test]
fn different_keys_spread_over_all_servers() {
    run(async || {
        let discovery = MultiServersDiscovery::new(servers("abcde"));
        let counts = count(&servers_of_keys(&discovery, 5000).await);
        assert!(
            counts.len() == 5 && counts.values().all(|n| (700..1300).contains(n)),
            "each of five should have 700 to 1300 of 5000 keys: {counts:?}"
        );
    });
}

/// A server that leaves takes only its own keys along, and they go to more than one other server.
///
/// With `hash % len` nearly every key would move, and every cache would be cold at once.
///
/// Hint: a server's points depend on its own name only. If they go, the points of the others are where they
/// were.
#[test]
fn a_server_that_leaves_moves_only_its_own_keys() {
    run(async || {
        let discovery = MultiServersDiscovery::new(servers("abcde"));
        let before = servers_of_keys(&discovery, 2000).await;
        discovery.update(servers("abde"));
        let after = servers_of_keys(&discovery, 2000).await;
        let mut heirs = String::new();
        for (before, after) in before.chars().zip(after.chars()) {
            match before {
                'c' => heirs.push(after),
                _ => assert_eq!(before, after, "a key of {before} has moved to {after}"),
            }
        }
        assert_eq!(count(&heirs).into_keys().collect::<String>(), "abde", "where the keys of c are now");
    });
}

/// A server that joins gets its share of the keys, and no key moves between two others.
///
/// As with a server that leaves; and one that joins but gets nothing is of no use.
///
/// Hint: nothing to do, if the points of a server do not depend on how many others there are.
#[test]
fn a_server_that_joins_takes_keys_but_moves_no_others() {
    run(async || {
        let discovery = MultiServersDiscovery::new(servers("abcd"));
        let before = servers_of_keys(&discovery, 2000).await;
        discovery.update(servers("aebcd"));
        let after = servers_of_keys(&discovery, 2000).await;
        for (before, after) in before.chars().zip(after.chars()) {
            assert!(after == before || after == 'e', "a key of {before} has moved to {after}");
        }
        let moved = count(&after)[&'e'];
        assert!((250..600).contains(&moved), "a fifth of 2000 keys should move; it was {moved}");
    });
}

/// These keys have exactly these servers, in every version.
///
/// Clients of two versions share the same caches, and the standard library's hashers promise no such thing.
/// The values come from a program in another language, written from the text of the README.
///
/// Hint: the README says which hash it is, and where the points are.
#[test]
fn the_servers_of_these_keys_never_change() {
    run(async || {
        let list = ["tcp@10.0.0.1:9999", "http@10.0.0.2:9999", "tcp@arith.example.com:80"].map(endpoint);
        let discovery = MultiServersDiscovery::new(list.clone());
        let mut chosen = Vec::new();
        for text in
            ["", "a", "b", "user-1", "user-2", "user-3", "Ünïcödé", "a longer key, with: a colon", "wrap-924"]
        {
            let server = within("a choice", discovery.get(&key(text))).await.unwrap();
            chosen.push(list.iter().position(|listed| *listed == server).unwrap());
        }
        assert_eq!(chosen, GOLDEN_KEYS);

        // A key that is the text of a point lies on that point, and not before it.
        for server in &list {
            for point in [0, 1, 2, 50, 99] {
                let on_point = key(format_args!("{server}#{point}"));
                let owner = within("a choice", discovery.get(&on_point)).await.unwrap();
                assert_eq!(owner, *server, "the owner of the key {server}#{point}");
            }
        }
    });
}

/// Positions in the list of the test above. The last key lies behind the last point of the ring.
const GOLDEN_KEYS: [usize; 9] = [2, 2, 0, 0, 1, 2, 2, 2, 0];
