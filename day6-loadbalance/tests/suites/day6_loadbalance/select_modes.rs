//! Select modes: random, in turns, and by weight.
//!
//! In `src/balance/select.rs`: `from_str`; then `List::new`, `Selector::list` and `Candidates::next`. The
//! tests choose through a list that is given by hand: `update` in `src/balance/multi_servers.rs`. Last come the weights,
//! `choose_by_weight` and `follow`.
//!
//! Works then: one of many is chosen: by chance, in turns, and by weight.
//!
//! Chapter: Choosing one of many

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
        ("least-loaded", SelectMode::LeastLoaded),
        ("consistent-hash:user-7", key("user-7")),
        ("consistent-hash:a:b c", key("a:b c")),
    ];
    for (text, mode) in all {
        assert_eq!(text.parse().as_ref(), Ok(&mode), "{text:?} parses to {mode:?}");
        assert_eq!(mode.to_string(), text);
    }
}

/// Every server gets about the same number of calls, by chance: the same one twice in a row is nothing special.
///
/// "Random" that never reaches the last server of the list is a common off-by-one.
///
/// Hint: the range is `0..len`.
#[test]
fn random_reaches_every_server_about_equally_often() {
    let discovery = MultiServersDiscovery::new(servers("abc"));
    let chosen = choices(&discovery, &SelectMode::Random, 3000);
    let counts = count(&chosen);
    // Six times the standard deviation, which is 26.
    assert!(counts.len() == 3 && counts.values().all(|n| n.abs_diff(1000) < 155), "{counts:?}");
    let repeats = chosen.as_bytes().windows(2).filter(|pair| pair[0] == pair[1]).count();
    assert!(
        repeats.abs_diff(1000) < 155,
        "one choice of three should be that before it, but {repeats} of 3000 are"
    );
}

/// The servers have their turns in the order of the list, round after round, wherever it starts.
///
/// Round robin that is stuck on one server passes GeeRPC's tests: each call is answered, and they do not
/// look at which server did it.
///
/// Hint: a counter that moves on at every choice, and the remainder of a division.
#[test]
fn round_robin_takes_turns_in_list_order() {
    for names in ["a", "ab", "abc", "abcdefg"] {
        let discovery = MultiServersDiscovery::new(servers(names));
        let chosen = choices(&discovery, &SelectMode::RoundRobin, 4 * names.len());
        let start = names.find(&chosen[..1]).unwrap();
        let from_start = names.chars().cycle().skip(start).take(4 * names.len());
        assert_eq!(chosen, from_start.collect::<String>());
    }
}

/// The turns of a heavy server are spread evenly: with the weights 6 and 3, any three choices in a row are two and one.
///
/// `aaaaaabbb` has the same shares, but hits `a` with six calls in a row.
///
/// Hint: a server of weight 6 has a turn after each sixth of a round. Choose the server whose turn is the earliest.
#[test]
fn weighted_round_robin_spreads_the_turns_of_a_heavy_server() {
    for (names, weights, window) in [("ab", &[6, 3][..], 3), ("abc", &[4, 4, 4], 3)] {
        let discovery = MultiServersDiscovery::with_weights(weighted(names, weights));
        let chosen = choices(&discovery, &SelectMode::WeightedRoundRobin, 60);
        for choices in chosen.as_bytes().windows(window) {
            let a = choices.iter().filter(|choice| **choice == b'a').count();
            let expected = if names == "ab" { 2..=2 } else { 0..=1 };
            assert!(expected.contains(&a), "weights {weights:?}: {chosen}");
        }
    }
}

/// Over a full round each server is chosen exactly as often as its weight says; without weights that is once
/// each, and a weight of 0 counts as 1.
///
/// Weights are set by hand, to make use of a machine that can do more. "About five times as much" would be
/// hard to tell from a mistake.
///
/// Hint: in one round, each server has as many turns as its weight says.
#[test]
fn weighted_round_robin_gives_every_server_exactly_its_weight() {
    for (names, weights) in [("abcd", &[1, 2, 3, 4][..]), ("ab", &[100, 1]), ("abc", &[1, 1, 1])] {
        let discovery = MultiServersDiscovery::with_weights(weighted(names, weights));
        let round: u32 = weights.iter().sum();
        for _ in 0..3 {
            let chosen = choices(&discovery, &SelectMode::WeightedRoundRobin, round as usize);
            let expected: Vec<_> = weights.iter().map(|weight| *weight as usize).collect();
            assert_eq!(count(&chosen).into_values().collect::<Vec<_>>(), expected, "{names} {weights:?}");
        }
    }
    let zero = MultiServersDiscovery::with_weights(weighted("ab", &[0, 2]));
    let chosen = choices(&zero, &SelectMode::WeightedRoundRobin, 3);
    assert_eq!(count(&chosen), BTreeMap::from([('a', 1), ('b', 2)]));
}
