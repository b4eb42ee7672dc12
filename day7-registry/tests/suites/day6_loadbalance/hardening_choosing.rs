//! Hardening: choices under threads, after changes of the list, and by chance that can be repeated.
//!
//! No new function: see `src/balance/select.rs` and `src/balance/discovery.rs`.
//!
//! Chapter: Choosing one of many; The ring

use super::*;

/// Text that is no mode is an error that quotes the text and names all that is accepted.
///
/// The text comes from a command line or a configuration, and its author cannot see the source.
///
/// Hint: the error holds the text, and its `Display` lists the four. A hash without a key is none of them.
#[test]
fn text_that_is_no_select_mode_is_an_error_that_names_what_is_accepted() {
    for text in ["", "Random", "round robin", "round-robin ", "consistent-hash", "consistent-hash:", "7"] {
        let error = match text.parse::<SelectMode>() {
            Ok(mode) => panic!("{text:?} should be no mode, but is {mode:?}"),
            Err(error) => error.to_string(),
        };
        assert!(error.contains(&format!("{text:?}")), "{error} quotes {text:?}");
        for accepted in ["random", "round-robin", "weighted-round-robin", "consistent-hash:KEY"] {
            assert!(error.contains(accepted), "{error} names {accepted}");
        }
    }
}

/// The same seed makes the same choices, another seed makes others, and they do not just take turns.
///
/// A test or a simulation that chooses by chance must be repeatable.
///
/// Hint: all chance comes from the RNG that was given.
#[test]
fn a_seeded_rng_makes_the_same_choices_in_every_run() {
    run(async || {
        let chosen = async |seed| {
            let rng = StdRng::seed_from_u64(seed);
            let discovery = MultiServersDiscovery::with_rng(weighted("abcde", &[1; 5]), rng);
            choices(&discovery, &SelectMode::Random, 50).await
        };
        assert_eq!(chosen(7).await, chosen(7).await);
        assert_ne!(chosen(7).await, chosen(8).await);
        let repeats = chosen(7).await.as_bytes().windows(2).filter(|pair| pair[0] == pair[1]).count();
        assert!(repeats > 0, "fifty choices of five servers, and never the same one twice in a row");
    });
}

/// Clients that start at the same time begin with different servers.
///
/// After a restart of all clients the first server of the list would get all their first calls at once. That
/// holds for a list that is there at the start, and for one that comes later, from a registry.
///
/// Hint: the first turn is chosen by chance, and not from the length of the first list.
#[test]
fn round_robin_starts_anywhere() {
    run(async || {
        for list_comes_later in [false, true] {
            let mut starts = String::new();
            for _ in 0..300 {
                let first = if list_comes_later { Vec::new() } else { servers("abc") };
                let discovery = MultiServersDiscovery::new(first);
                if list_comes_later {
                    discovery.update(servers("abc"));
                }
                starts += &choices(&discovery, &SelectMode::RoundRobin, 1).await;
            }
            let counts = count(&starts);
            // Each comes up 100 times or so; the standard deviation is 8.
            assert!(
                counts.len() == 3 && counts.values().all(|n| *n > 40),
                "who came first in 300 clients; each should about 100 times: {counts:?} \
                 (the list came later: {list_comes_later})"
            );
        }
    });
}

/// Turns are fair after every change of the list.
///
/// The turn may point behind the end of a list that shrank: a panic, or a server that is never chosen. So
/// this test changes the list at every position of the turn.
///
/// Hint: take the remainder when you choose, not when you count.
#[test]
fn round_robin_survives_a_list_that_shrinks_and_grows() {
    run(async || {
        for turns in 0..7 {
            let discovery = MultiServersDiscovery::new(servers("abcdefg"));
            // The first turn may be that of any server; the test begins when it was the turn of "a".
            for _ in 0..7 {
                if choices(&discovery, &SelectMode::RoundRobin, 1).await == "a" {
                    break;
                }
            }
            choices(&discovery, &SelectMode::RoundRobin, turns).await;
            for names in ["ab", "abcde", "a", "xyz", "za", "abcdefgh"] {
                discovery.update(servers(names));
                let chosen = choices(&discovery, &SelectMode::RoundRobin, 3 * names.len()).await;
                let counts = count(&chosen);
                let fair = counts.len() == names.len() && counts.values().all(|n| *n == 3);
                assert!(fair, "with the servers {names:?} the choices are {chosen:?}");
            }
        }
    });
}

/// Many tasks on many threads choose at the same time, and each server still gets exactly the same number.
///
/// Two tasks that read the turn before either writes it get the same server.
///
/// Hint: choose and move on in one step, under one lock.
#[test]
fn concurrent_choices_are_exactly_fair() {
    run_threads(async || {
        let discovery = Arc::new(MultiServersDiscovery::new(servers("abc")));
        let mut tasks = JoinSet::new();
        for _ in 0..8 {
            let discovery = Arc::clone(&discovery);
            tasks.spawn(async move { choices(&discovery, &SelectMode::RoundRobin, 1500).await });
        }
        let chosen: String = within("all choices", tasks.join_all()).await.concat();
        assert_eq!(count(&chosen), BTreeMap::from([('a', 4000), ('b', 4000), ('c', 4000)]));
    });
}

/// After `update`, servers that stay keep their weights, and new ones have 1.
///
/// An update brings endpoints only. A heavy server must not become a light one because another has joined.
///
/// Hint: look each endpoint of the new list up in what was given at the beginning.
#[test]
fn servers_that_stay_keep_their_weights() {
    run(async || {
        let discovery = MultiServersDiscovery::with_weights(weighted("abc", &[1, 4, 1]));
        choices(&discovery, &SelectMode::WeightedRoundRobin, 2).await;
        discovery.update(servers("dba"));
        let chosen = choices(&discovery, &SelectMode::WeightedRoundRobin, 6).await;
        assert_eq!(count(&chosen), BTreeMap::from([('a', 1), ('b', 4), ('d', 1)]));
    });
}

/// A server that was missing from one list, or from all of them for a while, has its weight when it is back.
///
/// A weight is a fact about a machine, set by hand. A restart takes a server out of one list of the registry;
/// if that cost it its weight, sooner or later all would have 1, for no reason that an operator could see.
///
/// Hint: the weights live longer than the list. Keep what was given at the beginning in a map of its own.
#[test]
fn a_server_that_comes_back_has_its_weight_again() {
    run(async || {
        let discovery = MultiServersDiscovery::with_weights(weighted("abc", &[1, 4, 2]));
        for without_b in ["ac", "d", ""] {
            discovery.update(servers(without_b));
            discovery.update(servers("abd"));
            let chosen = choices(&discovery, &SelectMode::WeightedRoundRobin, 6).await;
            let expected = BTreeMap::from([('a', 1), ('b', 4), ('d', 1)]);
            assert_eq!(count(&chosen), expected, "after a list of {without_b:?}");
        }
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

/// From an empty list no server can be chosen, in any mode, also after the last one has left; the list itself is
/// known, and empty.
///
/// Every list may become empty, and a remainder of a division by its length is then a panic.
///
/// Hint: `NoServers` is a variant of its own.
#[test]
fn an_empty_list_has_no_server_to_choose() {
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
