//! Select modes: random, in turns, and by weight.
//!
//! Write `SelectMode::from_str`, `Selector::select` and `weighted` in `src/balance/select.rs`. The tests
//! choose through `MultiServersDiscovery`: write `new`, `with_weights`, `with_rng`, `update` and `get` in
//! `src/balance/discovery.rs`.
//!
//! Chapter: Files of today > src/balance/select.rs; The four modes

use super::*;

/// Each mode has a text, the text parses to the mode, and the key of a hash keeps its characters.
///
/// A mode is chosen on a command line or in a configuration, and shown in a log. What is shown should be what
/// can be written.
///
/// Hint: `Display` and `FromStr` are each other's reverse. A key may have any characters, colons too.
#[test]
fn a_select_mode_is_parsed_and_displayed() {
    let all = [
        ("random", SelectMode::Random),
        ("round-robin", SelectMode::RoundRobin),
        ("weighted-round-robin", SelectMode::WeightedRoundRobin),
        ("consistent-hash:user-7", key("user-7")),
        ("consistent-hash:a:b c", key("a:b c")),
    ];
    for (text, mode) in all {
        assert_eq!(text.parse().as_ref(), Ok(&mode), "{text:?} parses to {mode:?}");
        assert_eq!(mode.to_string(), text);
    }
}

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

/// With a seeded RNG, every server gets about the same number of calls.
///
/// "Random" that never reaches the last server of the list is a common off-by-one.
///
/// Hint: the range is `0..len`.
#[test]
fn random_reaches_every_server_about_equally_often() {
    run(async || {
        for seed in 0..5 {
            let rng = StdRng::seed_from_u64(seed);
            let discovery = MultiServersDiscovery::with_rng(weighted("abc", &[1, 1, 1]), rng);
            let counts = count(&choices(&discovery, &SelectMode::Random, 3000).await);
            assert_eq!(counts.len(), 3, "seed {seed}: {counts:?}");
            // Six times the standard deviation, which is 26.
            assert!(counts.values().all(|n| n.abs_diff(1000) < 155), "seed {seed}: {counts:?}");
        }
    });
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

/// The servers have their turns in the order of the list, round after round, wherever it starts.
///
/// Round robin that is stuck on one server passes GeeRPC's tests: each call is answered, and nobody looks by
/// whom.
///
/// Hint: a counter that moves on at every choice, and the remainder of a division.
#[test]
fn round_robin_takes_turns_in_list_order() {
    run(async || {
        for names in ["a", "ab", "abc", "abcdefg"] {
            let discovery = MultiServersDiscovery::new(servers(names));
            let chosen = choices(&discovery, &SelectMode::RoundRobin, 4 * names.len()).await;
            let start = names.find(&chosen[..1]).unwrap();
            let from_start = names.chars().cycle().skip(start).take(4 * names.len());
            assert_eq!(chosen, from_start.collect::<String>());
        }
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
            // The first turn may be anybody's; the test begins when it was the turn of "a".
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

/// With the weights 5, 1, 1 it is the golden sequence of smooth weighted round robin, twice.
///
/// `aaaaabc` has the same shares, but hits `a` with five calls in a row.
///
/// Hint: everyone earns its weight, the richest is chosen and pays what all earned together; all start with
/// nothing, and the first of equals wins.
#[test]
fn weighted_round_robin_spreads_the_turns_of_a_heavy_server() {
    run(async || {
        let discovery = MultiServersDiscovery::with_weights(weighted("abc", &[5, 1, 1]));
        let chosen = choices(&discovery, &SelectMode::WeightedRoundRobin, 14).await;
        assert_eq!(chosen, "aabacaaaabacaa");
    });
}

/// Over a full round each server is chosen exactly as often as its weight says; without weights that is once
/// each, and a weight of 0 counts as 1.
///
/// Weights are set by hand, to make use of a machine that can do more. "About five times as much" would be
/// hard to tell from a mistake.
///
/// Hint: a round is the sum of the weights. What each server has earned stays from one choice to the next.
#[test]
fn weighted_round_robin_gives_every_server_exactly_its_weight() {
    run(async || {
        for (names, weights) in [("abcd", &[1, 2, 3, 4][..]), ("ab", &[100, 1]), ("abc", &[1, 1, 1])] {
            let discovery = MultiServersDiscovery::with_weights(weighted(names, weights));
            let round: u32 = weights.iter().sum();
            for _ in 0..3 {
                let chosen = choices(&discovery, &SelectMode::WeightedRoundRobin, round as usize).await;
                let expected: Vec<_> = weights.iter().map(|weight| *weight as usize).collect();
                assert_eq!(count(&chosen).into_values().collect::<Vec<_>>(), expected, "{names} {weights:?}");
            }
        }
        let zero = MultiServersDiscovery::with_weights(weighted("ab", &[0, 2]));
        let chosen = choices(&zero, &SelectMode::WeightedRoundRobin, 3).await;
        assert_eq!(count(&chosen), BTreeMap::from([('a', 1), ('b', 2)]));
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
/// if that cost it its weight, sooner or later all would have 1, and nobody would know why.
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
