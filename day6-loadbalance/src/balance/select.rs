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
use std::iter::repeat_with;
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rand::RngExt;
use rand::seq::IndexedRandom;
use tokio::sync::watch;

use crate::balance::discovery::{Instance, Servers};
use crate::balance::ring::Ring;
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

/// The servers of one list, what is made of them once, so that calls look things up and scan nothing, and their turns.
///
/// By weight each server has turns that are evenly spaced, and that begin anywhere:
///
/// ```text
/// a:4  ──a─────a─────a─────a──│──a─────a─────a─────a──│─
/// b:2  ─────b───────────b─────│─────b───────────b─────│─      the next mark is the next turn: a b a a b a
///      └───────── ROUND ──────┘
/// ```
#[derive(Default)]
pub(super) struct List {
    servers: Arc<[Instance]>,
    positions: HashMap<Endpoint, usize>,
    /// `(when, position in the list)`: the next turn of each server by weight, the earliest first. Held for one
    /// choice, or while the next list takes the turns over.
    turns: Mutex<BinaryHeap<Reverse<(u128, usize)>>>,
    /// Made when it is first needed. No lock is held meanwhile that a call in another mode takes.
    ring: OnceLock<Ring>,
}

/// One round: in it, each server has as many turns as its weight says. In 128 bits there are more rounds than calls.
const ROUND: u128 = 1 << 32;

impl List {
    fn new(servers: Arc<[Instance]>) -> List {
        let endpoints = servers.iter().map(|server| server.endpoint.clone());
        let positions = endpoints.enumerate().map(|(position, endpoint)| (endpoint, position)).collect();
        List { servers, positions, ..List::default() }
    }

    pub(super) fn position(&self, endpoint: &Endpoint) -> Option<usize> {
        self.positions.get(endpoint).copied()
    }

    /// The time between two turns of a server.
    fn period(&self, position: usize) -> u128 {
        ROUND / u128::from(self.servers[position].weight.max(1))
    }

    /// Takes the place of another list. Servers that stay keep their turns, and new ones begin anywhere in their period.
    fn follow(&mut self, before: &List) {
        let turns_before = lock(&before.turns);
        let now = turns_before.peek().map_or(0, |Reverse((turn, _))| *turn);
        let begin = |position| now + rand::rng().random_range(0..self.period(position));
        let mut turns: Vec<_> = (0..self.servers.len()).map(begin).collect();
        for Reverse((turn, position)) in turns_before.iter() {
            if let Some(stays) = self.position(&before.servers[*position].endpoint) {
                turns[stays] = *turn;
            }
        }
        self.turns = Mutex::new(turns.into_iter().zip(0..).map(Reverse).collect());
    }

    /// Chooses the server with the earliest turn among those that were not tried. There is one.
    fn choose_by_weight(&self, tried: &HashSet<usize>) -> usize {
        let mut turns = lock(&self.turns);
        let mut skipped = Vec::new();
        loop {
            let Reverse((turn, position)) = turns.pop().expect("a turn for each server of the list");
            if tried.contains(&position) {
                skipped.push(Reverse((turn, position)));
                continue;
            }
            turns.push(Reverse((turn + self.period(position), position)));
            turns.extend(skipped);
            return position;
        }
    }
}

/// Chooses among the servers of the newest list.
pub(super) struct Selector {
    /// What is known of the servers, as it changes.
    pub(super) servers: watch::Receiver<Servers>,
    /// The newest list that was looked at.
    list: Mutex<Arc<List>>,
    /// The next turn of round robin.
    next: AtomicUsize,
}

impl Selector {
    pub(super) fn new(servers: watch::Receiver<Servers>) -> Selector {
        // Many clients start at the same time. If all began with the first server, it would get a wave. The number is
        // any, as the list may not be known yet; each choice brings it into range.
        let next = rand::random::<u32>() as usize;
        Selector { servers, list: Mutex::default(), next: AtomicUsize::new(next) }
    }

    /// The newest list, which is empty while none is known. All calls need it, so one of them makes it with the lock held,
    /// and the others wait: some 3 ms for 10,000 servers.
    pub(super) fn list(&self) -> Arc<List> {
        let mut list = lock(&self.list);
        let newest = self.servers.borrow().list.clone();
        if let Some(servers) = newest
            && !Arc::ptr_eq(&servers, &list.servers)
        {
            let mut new = List::new(servers);
            new.follow(&list);
            *list = Arc::new(new);
        }
        Arc::clone(&list)
    }

    /// The servers of one call.
    pub(super) fn candidates<'a>(&'a self, mode: &'a SelectMode) -> Candidates<'a> {
        Candidates { selector: self, mode, list: self.list(), tried: HashSet::new(), owners: 0 }
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
    /// Goes on with the newest list: with those of its servers that were not tried. Returns whether there is a newer one.
    pub(super) fn renew(&mut self) -> bool {
        let list = self.selector.list();
        if Arc::ptr_eq(&list, &self.list) {
            return false;
        }
        let tried = self.tried.iter().filter_map(|tried| list.position(&self.list.servers[*tried].endpoint));
        *self = Candidates { tried: tried.collect(), list: Arc::clone(&list), owners: 0, ..*self };
        true
    }

    pub(super) fn tried(&self) -> usize {
        self.tried.len()
    }

    /// How many were not tried.
    pub(super) fn left(&self) -> usize {
        self.list.servers.len() - self.tried.len()
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
        let Candidates { selector, mode, list, tried, owners } = self;
        let servers = list.servers.len();
        if tried.len() == servers {
            return None;
        }
        let is_left = |position: &usize| !tried.contains(position);
        let chosen = match mode {
            SelectMode::Random | SelectMode::LeastLoaded => {
                repeat_with(|| rand::rng().random_range(0..servers)).find(is_left)?
            }
            SelectMode::RoundRobin => {
                // The list may have shrunk since the last turn.
                repeat_with(|| selector.next.fetch_add(1, Relaxed) % servers).find(is_left)?
            }
            SelectMode::WeightedRoundRobin => list.choose_by_weight(tried),
            SelectMode::ConsistentHash(key) => {
                let ring = list.ring.get_or_init(|| Ring::new(&list.servers));
                ring.owners(key, *owners).inspect(|_| *owners += 1).find(is_left)?
            }
        };
        tried.insert(chosen);
        Some(list.servers[chosen].endpoint.clone())
    }
}

/// A panic leaves nothing half done under the locks of this folder.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
