//! Select modes: which of many servers gets the next call.
//!
//! ```text
//! Random               a c b b a c c …      no memory at all
//! RoundRobin           a b c a b c a …      every server the same share
//! WeightedRoundRobin   a a b a c a a …      a:5 b:1 c:1, and never in clumps
//! ConsistentHash(key)  the same key, the same server; a server that leaves takes only its own keys along
//! ```

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rand::{Rng, RngExt};

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
}

/// The text is no select mode. Its `Display` says what was given and what is accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown select mode {0:?}: expected random, round-robin, weighted-round-robin or consistent-hash:KEY"
)]
pub struct UnknownSelectMode(pub String);

impl FromStr for SelectMode {
    type Err = UnknownSelectMode;

    fn from_str(text: &str) -> Result<SelectMode, UnknownSelectMode> {
        match (text, text.strip_prefix("consistent-hash:")) {
            ("random", _) => Ok(SelectMode::Random),
            ("round-robin", _) => Ok(SelectMode::RoundRobin),
            ("weighted-round-robin", _) => Ok(SelectMode::WeightedRoundRobin),
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
            SelectMode::ConsistentHash(key) => write!(f, "consistent-hash:{key}"),
        }
    }
}

/// How many points each server has on the ring of [`SelectMode::ConsistentHash`]. With 100 the largest share
/// is some 1.3 times the smallest of five servers, and 1.6 times that of fifty. With one point it would be
/// ten times the smallest and more.
const RING_POINTS: u32 = 100;

/// A list of servers, and where each mode stands in it.
pub(crate) struct Selector {
    servers: Vec<Weighted>,
    /// The next turn of round robin.
    turn: usize,
    /// `(point, server)`, sorted. Made when it is first needed.
    ring: Option<Vec<(u64, usize)>>,
    rng: Box<dyn Rng + Send>,
}

struct Weighted {
    endpoint: Endpoint,
    weight: i64,
    /// How much this server is owed; see [`Selector::weighted`].
    credit: i64,
}

impl Selector {
    pub(crate) fn new(servers: Vec<(Endpoint, u32)>, rng: impl Rng + Send + 'static) -> Selector {
        let mut selector = Selector { servers: Vec::new(), turn: 0, ring: None, rng: Box::new(rng) };
        // Many clients start at the same time. If all began with the first server, it would get a wave. The
        // number is any, as the list may still be empty; each choice brings it into range.
        selector.turn = selector.rng.random_range(0..usize::MAX);
        selector.replace(servers);
        selector
    }

    /// Takes over a new list. Credits start afresh; round robin goes on where it was.
    pub(crate) fn replace(&mut self, servers: Vec<(Endpoint, u32)>) {
        let weighted =
            |(endpoint, weight): (_, u32)| Weighted { endpoint, weight: weight.max(1).into(), credit: 0 };
        self.servers = servers.into_iter().map(weighted).collect();
        self.ring = None;
    }

    /// Chooses a server; `None` if there are none.
    pub(crate) fn select(&mut self, mode: &SelectMode) -> Option<Endpoint> {
        if self.servers.is_empty() {
            return None;
        }
        let chosen = match mode {
            SelectMode::Random => self.rng.random_range(0..self.servers.len()),
            SelectMode::RoundRobin => {
                // The list may have shrunk since the last turn.
                let chosen = self.turn % self.servers.len();
                self.turn = chosen + 1;
                chosen
            }
            SelectMode::WeightedRoundRobin => self.weighted(),
            SelectMode::ConsistentHash(key) => self.on_ring(key),
        };
        Some(self.servers[chosen].endpoint.clone())
    }

    /// Smooth weighted round robin, as nginx does it: everyone earns its weight, the richest is chosen and
    /// pays what all earned together. Over a full round, each is chosen as often as its weight says.
    fn weighted(&mut self) -> usize {
        let mut total = 0;
        let mut richest = 0;
        for index in 0..self.servers.len() {
            let server = &mut self.servers[index];
            server.credit += server.weight;
            total += server.weight;
            if self.servers[index].credit > self.servers[richest].credit {
                richest = index;
            }
        }
        self.servers[richest].credit -= total;
        richest
    }

    /// The server with the first point at or after the key's own, around the ring: exactly as in the README of
    /// day 6, The wire.
    fn on_ring(&mut self, key: &str) -> usize {
        let servers = &self.servers;
        let ring = self.ring.get_or_insert_with(|| {
            let points = servers.iter().enumerate().flat_map(|(index, server)| {
                let name = server.endpoint.to_string();
                (0..RING_POINTS).map(move |point| (hash(&format!("{name}#{point}")), index))
            });
            let mut ring: Vec<_> = points.collect();
            ring.sort_unstable();
            ring
        });
        let key = hash(key);
        let after = ring.partition_point(|(point, _)| *point < key);
        ring[after % ring.len()].1
    }
}

/// FNV-1a with a final mix, exactly as in the README of day 6, The wire. All clients must agree on it, in all
/// versions; the standard library's hashers make no such promise.
fn hash(text: &str) -> u64 {
    let fnv = text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    // FNV's upper bits hardly change with the last bytes, and the ring is sorted by the upper bits.
    (fnv ^ (fnv >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd)
}
