//! The table of leases: which server is registered under which name, by which instance, and until when.
//!
//! ```text
//! name   endpoint             instance   former instances   renewed
//!        tcp@10.0.0.7:9999    b          a                  12:00:10   b has taken the place of a
//!        tcp@10.0.0.8:9999    -          c                  12:00:07   c has deregistered
//! ```
//!
//! A server that restarts at the same endpoint is another *instance*. Its requests and those of the one before may
//! arrive in any order. So an entry remembers the ids of former instances until its end, and refuses what they send.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::HeaderValue;
use serde::Serialize;
use tokio::time::Instant;

use crate::balance::discovery::Instance;
use crate::registry::request::{Refusal, Registration};
use crate::registry::{DEFAULT_LEASE, DEFAULT_MAX_SERVERS, MAX_SERVERS_HEADER_LEN};

/// A list that is longer, in bytes, is shared by all who ask for it within [`LONG_LIST_AGE`]: clients that read slowly
/// hold on to it, and each that was made is memory. It is too long for a header, too.
const LONG_LIST_LEN: usize = 32 * 1024;
/// How old a long list may be.
const LONG_LIST_AGE: Duration = Duration::from_millis(100);
/// How many former instances of one endpoint are remembered. The oldest is forgotten first.
const MAX_FORMER: usize = 8;

pub(super) struct Leases {
    pub(super) lease: Duration,
    /// The limit for the entries of all names.
    pub(super) max_servers: usize,
    /// By name and the text of the endpoint, so a list is in order. Servers without a name have an empty one.
    entries: BTreeMap<(String, String), Entry>,
    /// No entry was renewed before this. `None`: it is not known.
    oldest: Option<Instant>,
    /// The long lists by name, and when each was made.
    long_lists: HashMap<String, (Bytes, Instant)>,
    /// Since when the registry has been answering, and when it was asked last.
    awake: Option<(Instant, Instant)>,
}

struct Entry {
    /// `None`: deregistered, and only the former instances are remembered.
    server: Option<Instance>,
    /// The instance that registered it, if it gave an id.
    id: Option<String>,
    /// The instances that had this endpoint before, the last one at the end.
    former: Vec<String>,
    /// When the lease was granted, or given back. A lease later, all of this is forgotten.
    renewed: Instant,
}

/// A server as the list shows it.
#[derive(Serialize)]
struct Listed {
    endpoint: String,
    weight: u32,
}

impl Default for Leases {
    fn default() -> Leases {
        Leases {
            lease: DEFAULT_LEASE,
            max_servers: DEFAULT_MAX_SERVERS,
            entries: BTreeMap::new(),
            oldest: None,
            long_lists: HashMap::new(),
            awake: None,
        }
    }
}

impl Leases {
    /// Notes a request, and returns for how long the registry has been answering.
    ///
    /// A silence of half a lease ends that. With a server there is none, as its heartbeats come every third of a lease: so
    /// the registry was stopped, and leases have ended that it could not renew.
    pub(super) fn note_request(&mut self) -> Duration {
        let now = Instant::now();
        let since = match self.awake {
            Some((since, last)) if now - last < self.lease / 2 => since,
            _ => now,
        };
        self.awake = Some((since, now));
        now - since
    }

    /// Registers a server, or renews its lease. A new instance takes the place of the one that is there.
    pub(super) fn register(&mut self, name: &str, new: Registration) -> Result<(), Refusal> {
        let Registration { server, id } = new;
        let Some(entry) = self.entry(name, &server) else {
            let full = format!("the registry is full: {} servers are registered\n", self.max_servers);
            return Err((StatusCode::INSUFFICIENT_STORAGE, full));
        };
        if !entry.admits(id.as_deref()) {
            return Err(replaced());
        }
        if entry.id != id {
            entry.retire();
        }
        entry.server = Some(server);
        entry.id = id;
        entry.renewed = Instant::now();
        Ok(())
    }

    /// Takes a server off the list. It is no error if it is not there. For a lease its instance stays refused: a
    /// heartbeat of it may still be on its way.
    pub(super) fn deregister(&mut self, name: &str, old: Registration) -> Result<(), Refusal> {
        let Registration { server, id } = old;
        let Some(entry) = self.entry(name, &server) else {
            return Ok(()); // it is not there, and there is no room to remember its instance
        };
        if entry.server.is_some() && entry.id != id {
            return Err(replaced());
        }
        entry.server = None;
        entry.id = id;
        entry.retire();
        entry.renewed = Instant::now();
        Ok(())
    }

    /// The list of a name as JSON and, if it is short enough, as the text of a header.
    pub(super) fn list(&mut self, name: &str) -> (Bytes, Option<HeaderValue>) {
        let now = Instant::now();
        self.long_lists.retain(|_, (_, made)| now - *made < LONG_LIST_AGE);
        if let Some((body, _)) = self.long_lists.get(name) {
            return (body.clone(), None);
        }
        let listed = |Instance { endpoint, weight }| Listed { endpoint: endpoint.to_string(), weight };
        let servers: Vec<_> = self.servers(name).into_iter().map(listed).collect();
        let body = Bytes::from(serde_json::to_vec(&servers).expect("texts and numbers are JSON"));
        if body.len() > LONG_LIST_LEN {
            self.long_lists.insert(name.to_owned(), (body.clone(), now));
            return (body, None);
        }
        let texts: Vec<_> = servers.into_iter().map(|server| server.endpoint).collect();
        let header = Some(texts.join(",")).filter(|header| header.len() <= MAX_SERVERS_HEADER_LEN);
        (body, header.and_then(|header| HeaderValue::try_from(header).ok()))
    }

    /// The servers of a name that are alive, in the order of their texts.
    pub(super) fn servers(&mut self, name: &str) -> Vec<Instance> {
        self.remove_ended();
        let first = (name.to_owned(), String::new());
        let of_name = self.entries.range(first..).take_while(|((other, _), _)| other == name);
        of_name.filter_map(|(_, entry)| entry.server.clone()).collect()
    }

    /// The entry of a server, or a new one. `None`: there is no room for that.
    fn entry(&mut self, name: &str, server: &Instance) -> Option<&mut Entry> {
        self.remove_ended();
        let key = (name.to_owned(), server.endpoint.to_string());
        if !self.entries.contains_key(&key) && self.entries.len() >= self.max_servers {
            // Former instances are forgotten before a server is refused.
            self.entries.retain(|_, entry| entry.server.is_some());
            if self.entries.len() >= self.max_servers {
                return None;
            }
        }
        let new = || Entry { server: None, id: None, former: Vec::new(), renewed: Instant::now() };
        Some(self.entries.entry(key).or_insert_with(new))
    }

    /// Forgets what has ended. Every look into the table begins with this: a timer could be late.
    fn remove_ended(&mut self) {
        let (now, lease) = (Instant::now(), self.lease);
        let is_alive = |renewed: Instant| now - renewed < lease;
        if !self.oldest.is_some_and(is_alive) {
            self.entries.retain(|_, entry| is_alive(entry.renewed));
            self.oldest = self.entries.values().map(|entry| entry.renewed).min();
        }
    }
}

impl Entry {
    /// Whether an instance may register here: any but a former one. One without an id cannot be told apart from
    /// others, so it takes the place of no instance that has one.
    fn admits(&self, id: Option<&str>) -> bool {
        match id {
            Some(id) => !self.former.iter().any(|former| former == id),
            None => self.id.is_none(),
        }
    }

    /// The instance that is there is a former one from now on.
    fn retire(&mut self) {
        let Some(id) = self.id.take() else { return };
        self.former.retain(|former| *former != id);
        self.former.push(id);
        if self.former.len() > MAX_FORMER {
            self.former.remove(0);
        }
    }
}

fn replaced() -> Refusal {
    (StatusCode::CONFLICT, "another instance is registered, or this one has left\n".to_owned())
}
