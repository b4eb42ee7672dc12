//! Keys on a ring: the same key, the same server.
//!
//! In `src/balance/ring.rs`: `Ring::new`, `owners` and `hash`.
//!
//! Works then: a key has the same server in every client, and keeps it when others come and go.
//!
//! Chapter: The ring; The wire

use super::*;

/// A key has the same server at every call, in every client, in whatever order they know the list.
///
/// That is what a cache on the server needs.
///
/// Hint: hash the names of the servers, not their positions, and with no seed of the process.
#[test]
fn a_key_has_the_same_server_in_every_client() {
    let one = MultiServersDiscovery::new(servers("abcde"));
    let other = MultiServersDiscovery::new(servers("ecadb"));
    let chosen = servers_of_keys(&one, 500);
    assert_eq!(chosen, servers_of_keys(&other, 500));
    assert_eq!(chosen, servers_of_keys(&one, 500));
}

/// A server that leaves takes only its own keys along, and they go to more than one other server.
///
/// With `hash % len` nearly every key would move, and every cache would be cold at once.
///
/// Hint: a server's points depend on its own name only. If they go, the points of the others are where they
/// were.
#[test]
fn a_server_that_leaves_moves_only_its_own_keys() {
    let discovery = MultiServersDiscovery::new(servers("abcde"));
    let before = servers_of_keys(&discovery, 2000);
    discovery.update(instances("abde"));
    let after = servers_of_keys(&discovery, 2000);
    let mut heirs = String::new();
    for (before, after) in before.chars().zip(after.chars()) {
        match before {
            'c' => heirs.push(after),
            _ => assert_eq!(before, after, "a key of {before} has moved to {after}"),
        }
    }
    assert_eq!(count(&heirs).into_keys().collect::<String>(), "abde", "where the keys of c are now");
}

/// These keys have exactly these servers, in every version.
///
/// Clients of two versions share the same caches, and the standard library's hashers promise no such thing.
/// The values come from a program in another language, written from the text of the README.
///
/// Hint: the README says which hash it is, and where the points are.
#[test]
fn the_servers_of_these_keys_never_change() {
    let list = ["tcp@10.0.0.1:9999", "http@10.0.0.2:9999", "tcp@arith.example.com:80"].map(endpoint);
    let discovery = MultiServersDiscovery::new(list.clone());
    let mut chosen = Vec::new();
    for text in
        ["", "a", "b", "user-1", "user-2", "user-3", "Ünïcödé", "a longer key, with: a colon", "wrap-924"]
    {
        let server = discovery.get(&key(text)).unwrap();
        chosen.push(list.iter().position(|listed| *listed == server).unwrap());
    }
    assert_eq!(chosen, GOLDEN_KEYS);

    // A key that is the text of a point lies on that point, and not before it.
    for server in &list {
        for point in [0, 1, 2, 50, 99] {
            let on_point = key(format_args!("{server}#{point}"));
            let owner = discovery.get(&on_point).unwrap();
            assert_eq!(owner, *server, "the owner of the key {server}#{point}");
        }
    }
}

/// Positions in the list of the test above. The last key lies behind the last point of the ring.
const GOLDEN_KEYS: [usize; 9] = [2, 2, 0, 0, 1, 2, 2, 2, 0];
