//! Select modes: which of many servers gets the next call.
//!
//! ```text
//! Random               a c b b a c c …      no memory at all
//! RoundRobin           a b c a b c a …      every server the same share
//! WeightedRoundRobin   a b a a b a a b …    a:6 b:3, the turns of each evenly spaced
//! ConsistentHash(key)  the same key, the same server; a server that leaves takes only its own keys along
//! LeastLoaded          two by chance, and of these the one with fewer calls in flight
//! ```
//!
//! A `Selector` knows where each mode stands. It gives the servers of a call in order: the first one, and then those
//! to fail over to.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use rand::RngExt;
use rand::seq::IndexedRandom;

use crate::balance::list::List;
use crate::http::endpoint::Endpoint;

/// How a server is chosen for a call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SelectMode {
    /// Any server, each with the same probability.
    Random,
    /// One after the other.
    #[default]
    RoundRobin,
    /// One after the other, each as often as its weight says, spread as evenly as possible.
    WeightedRoundRobin,
    /// The server that this key belongs to: good for servers that cache. Clients that have the same list
    /// choose the same server. In its text, `consistent-hash:KEY`, the key may have any characters, but there
    /// must be one.
    ConsistentHash(Arc<str>),
    /// Of two connected servers by chance, the one with fewer calls of this client in flight: good for servers that are
    /// not equally fast.
    LeastLoaded,
}

/// The text is no select mode. Its `Display` says what was given and what is accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown select mode {0:?}: expected random, round-robin, weighted-round-robin, least-loaded or \
     consistent-hash:KEY"
)]
pub struct UnknownSelectMode(pub String);

impl FromStr for SelectMode {
    type Err = UnknownSelectMode;

    fn from_str(text: &str) -> Result<SelectMode, UnknownSelectMode> {
        match (text, text.strip_prefix("consistent-hash:")) {
            ("random", _) => Ok(SelectMode::Random),
            ("round-robin", _) => Ok(SelectMode::RoundRobin),
            ("weighted-round-robin", _) => Ok(SelectMode::WeightedRoundRobin),
            ("least-loaded", _) => Ok(SelectMode::LeastLoaded),
            (_, Some(key)) if !key.is_empty() => Ok(SelectMode::ConsistentHash(key.into())),
            _ => Err(UnknownSelectMode(text.to_owned())),
        }
    }
}

impl fmt::Display for SelectMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SelectMode::Random => f.write_str("random"),
            SelectMode::RoundRobin => f.write_str("round-robin"),
            SelectMode::WeightedRoundRobin => f.write_str("weighted-round-robin"),
            SelectMode::LeastLoaded => f.write_str("least-loaded"),
            SelectMode::ConsistentHash(key) => write!(f, "consistent-hash:{key}"),
        }
    }
}

/// Where each mode stands.
pub(super) struct Selector {
    /// Held for one choice, never across an `await`.
    turns: Mutex<Turns>,
}

struct Turns {
    /// The next turn of round robin.
    next: usize,
    by_weight: ByWeight,
}

impl Default for Selector {
    fn default() -> Selector {
        // Many clients start at the same time. If all began with the first server, it would get a wave. The number is
        // any, as the list may not be known yet; each choice brings it into range.
        let next = rand::rng().random_range(0..usize::MAX);
        Selector { turns: Mutex::new(Turns { next, by_weight: ByWeight::default() }) }
    }
}

impl Selector {
    /// The servers of one call.
    pub(super) fn candidates<'a>(&'a self, mode: &'a SelectMode, list: Arc<List>) -> Candidates<'a> {
        Candidates { selector: self, mode, list, tried: HashSet::new(), owners: 0 }
    }
}

/// The servers of one call, each once. The mode chooses each of them, among those that were not tried.
pub(super) struct Candidates<'a> {
    selector: &'a Selector,
    mode: &'a SelectMode,
    list: Arc<List>,
    /// Positions in the list.
    tried: HashSet<usize>,
    /// How many owners of the key were looked at.
    owners: usize,
}

impl Candidates<'_> {
    pub(super) fn list(&self) -> &Arc<List> {
        &self.list
    }

    /// Goes on with a newer list: with those of its servers that were not tried.
    pub(super) fn renew(&mut self, list: Arc<List>) {
        let tried = self.tried.iter().filter_map(|tried| list.position(&self.list.servers[*tried].endpoint));
        *self = Candidates { tried: tried.collect(), list: Arc::clone(&list), owners: 0, ..*self };
    }

    /// How many were not tried.
    pub(super) fn left(&self) -> usize {
        self.list.servers.len().saturating_sub(self.tried.len())
    }

    /// Any server of the list, tried or not; `None` if it has none.
    pub(super) fn any(&self) -> Option<&Endpoint> {
        self.list.servers.choose(&mut rand::rng()).map(|server| &server.endpoint)
    }

    /// Whether a server is in the list and was not tried.
    pub(super) fn has(&self, endpoint: &Endpoint) -> bool {
        self.list.position(endpoint).is_some_and(|position| !self.tried.contains(&position))
    }

    /// Takes a server out that was not chosen here.
    pub(super) fn remove(&mut self, endpoint: &Endpoint) {
        self.tried.extend(self.list.position(endpoint));
    }
}

impl Iterator for Candidates<'_> {
    type Item = Endpoint;

    fn next(&mut self) -> Option<Endpoint> {
        let Candidates { list, tried, owners, .. } = self;
        if tried.len() >= list.servers.len() {
            return None;
        }
        let chosen = if let SelectMode::ConsistentHash(key) = self.mode {
            let mut behind = list.ring().owners(key, *owners);
            behind.find(|owner| {
                *owners += 1;
                !tried.contains(owner)
            })?
        } else {
            self.selector.turns.lock().unwrap_or_else(PoisonError::into_inner).choose(self.mode, list, tried)
        };
        tried.insert(chosen);
        Some(list.servers[chosen].endpoint.clone())
    }
}

impl Turns {
    /// Chooses a position in the list that is not one of those that were tried. There is one.
    fn choose(&mut self, mode: &SelectMode, list: &Arc<List>, tried: &HashSet<usize>) -> usize {
        let servers = list.servers.len();
        match mode {
            SelectMode::WeightedRoundRobin => self.by_weight.choose(list, tried),
            SelectMode::RoundRobin => loop {
                // The list may have shrunk since the last turn.
                let chosen = self.next % servers;
                self.next = chosen + 1;
                if !tried.contains(&chosen) {
                    break chosen;
                }
            },
            _ => loop {
                let chosen = rand::rng().random_range(0..servers);
                if !tried.contains(&chosen) {
                    break chosen;
                }
            },
        }
    }
}

/// One round: in it, each server has as many turns as its weight says. In 128 bits there are more rounds than calls.
const ROUND: u128 = 1 << 32;

/// When each server has its next turn. The turns of one server are evenly spaced, and begin anywhere.
///
/// ```text
/// a:4  ──a─────a─────a─────a──│──a─────a─────a─────a──│─
/// b:2  ─────b───────────b─────│─────b───────────b─────│─      the next mark is the next turn: a b a a b a
///      └───────── ROUND ──────┘
/// ```
#[derive(Default)]
struct ByWeight {
    /// `(when, position in the list)`, the earliest first.
    turns: BinaryHeap<Reverse<(u128, usize)>>,
    /// The list that the positions are of.
    list: Option<Arc<List>>,
}

impl ByWeight {
    fn choose(&mut self, list: &Arc<List>, tried: &HashSet<usize>) -> usize {
        if !self.list.as_ref().is_some_and(|known| Arc::ptr_eq(known, list)) {
            self.follow(list);
        }
        let mut skipped = Vec::new();
        loop {
            let Reverse((turn, position)) = self.turns.pop().expect("a turn for each server of the list");
            if tried.contains(&position) {
                skipped.push(Reverse((turn, position)));
                continue;
            }
            self.turns.push(Reverse((turn + period(list, position), position)));
            self.turns.extend(skipped);
            return position;
        }
    }

    /// Takes over a new list. Servers that stay keep their turns, and new ones begin anywhere in their period.
    fn follow(&mut self, list: &Arc<List>) {
        let now = self.turns.peek().map_or(0, |Reverse((turn, _))| *turn);
        let old = self.list.replace(Arc::clone(list));
        let old = old.iter().flat_map(|old| {
            self.turns.iter().map(|Reverse((turn, position))| (&old.servers[*position].endpoint, *turn))
        });
        let old: HashMap<_, _> = old.collect();
        let turns = list.servers.iter().enumerate().map(|(position, server)| {
            let begin = || now + rand::rng().random_range(0..period(list, position));
            Reverse((old.get(&server.endpoint).copied().unwrap_or_else(begin), position))
        });
        self.turns = turns.collect();
    }
}

/// The time between two turns of a server.
fn period(list: &List, position: usize) -> u128 {
    ROUND / u128::from(list.servers[position].weight.max(1))
}
