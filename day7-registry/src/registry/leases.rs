//! The table of leases: which server is registered under which name, by which instance, and until when.
//!
//! ```text
//! name   endpoint             instance   former instances   end
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
use crate::http::endpoint::Endpoint;
use crate::registry::MAX_SERVERS_HEADER_LEN;
use crate::registry::request::Refusal;

/// A list that is longer, in bytes, is made only so often, whatever changes: clients that read slowly hold on to it, and
/// each that was made is memory.
const LONG_LIST: (usize, Duration) = (64 * 1024, Duration::from_millis(100));
/// How many former instances of one endpoint are remembered. The oldest is forgotten first.
const MAX_FORMER: usize = 8;

#[derive(Default)]
pub(super) struct Leases {
    /// By name and the text of the endpoint, so a list is in order. Servers without a name have an empty one.
    entries: BTreeMap<(String, String), Entry>,
    /// The list of each name, as it was rendered last.
    lists: HashMap<String, List>,
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
    /// When the lease ends, and all of this is forgotten.
    end: Instant,
}

/// The list of one name, rendered once and shared by all answers until it changes.
#[derive(Clone)]
pub(super) struct List {
    /// The JSON.
    pub(super) body: Bytes,
    /// The endpoints with commas between them, if they fit.
    pub(super) header: Option<HeaderValue>,
    /// When it may be wrong.
    until: Instant,
    /// It is not made anew before that.
    not_before: Instant,
}

/// A server as the list shows it.
#[derive(Serialize)]
struct Listed<'a> {
    endpoint: &'a str,
    weight: u32,
}

impl Leases {
    /// Notes a request, and returns for how long the registry has been answering.
    ///
    /// A silence of half a lease ends that. With a server there is none, as its heartbeats come every third of a lease: so
    /// the registry was stopped, and leases have ended that it could not renew.
    pub(super) fn note_request(&mut self, lease: Duration) -> Duration {
        let now = Instant::now();
        let since = match self.awake {
            Some((since, last)) if now - last < lease / 2 => since,
            _ => now,
        };
        self.awake = Some((since, now));
        now - since
    }

    /// Registers a server, or renews its lease. A new instance takes the place of the one that is there.
    pub(super) fn register(
        &mut self,
        name: &str,
        server: Instance,
        id: Option<String>,
        end: Instant,
        max_servers: usize,
    ) -> Result<(), Refusal> {
        let key = self.key(name, &server.endpoint);
        if !self.entries.contains_key(&key) && !self.make_room(max_servers) {
            let full = format!("the registry is full: {max_servers} servers are registered\n");
            return Err((StatusCode::INSUFFICIENT_STORAGE, full));
        }
        let entry = self.entries.entry(key).or_insert(Entry::empty(end));
        if !entry.admits(id.as_deref()) {
            return Err(replaced());
        }
        if entry.server.as_ref() != Some(&server) {
            note_change(&mut self.lists, name);
        }
        if entry.id != id {
            entry.retire();
        }
        entry.server = Some(server);
        entry.id = id;
        entry.end = end;
        Ok(())
    }

    /// Takes a server off the list. It is no error if it is not there. Until `end`, its instance stays refused: a
    /// heartbeat of it may still be on its way.
    pub(super) fn deregister(
        &mut self,
        name: &str,
        endpoint: &Endpoint,
        id: Option<String>,
        end: Instant,
        max_servers: usize,
    ) -> Result<(), Refusal> {
        let key = self.key(name, endpoint);
        if !self.entries.contains_key(&key) && !self.make_room(max_servers) {
            return Ok(());
        }
        let entry = self.entries.entry(key.clone()).or_insert(Entry::empty(end));
        if entry.server.is_some() && entry.id != id {
            return Err(replaced());
        }
        if entry.server.take().is_some() {
            note_change(&mut self.lists, name);
        }
        entry.id = id;
        entry.retire();
        entry.end = end;
        if entry.former.is_empty() {
            self.entries.remove(&key);
        }
        Ok(())
    }

    /// The list of a name. It is rendered only if it has changed since the last time.
    pub(super) fn list(&mut self, name: &str) -> List {
        let now = Instant::now();
        if let Some(list) = self.lists.get(name).filter(|list| list.until > now) {
            return list.clone();
        }
        let alive = self.alive(name, now);
        let servers: Vec<_> =
            alive.map(|(endpoint, server, _)| Listed { endpoint, weight: server.weight }).collect();
        let body = Bytes::from(serde_json::to_vec(&servers).expect("texts and numbers are JSON"));
        let texts: Vec<_> = servers.iter().map(|server| server.endpoint).collect();
        let len: usize = texts.iter().map(|text| text.len() + 1).sum();
        let header = (len <= MAX_SERVERS_HEADER_LEN + 1).then(|| texts.join(","));
        let header = header.and_then(|header| HeaderValue::try_from(header).ok());
        let first_end = self.alive(name, now).map(|(_, _, end)| end).min();
        let not_before = if body.len() > LONG_LIST.0 { now + LONG_LIST.1 } else { now };
        let until = first_end.unwrap_or(now).max(not_before);
        let list = List { body, header, until, not_before };
        // A name without servers takes no memory.
        if first_end.is_some() {
            self.lists.insert(name.to_owned(), list.clone());
        }
        list
    }

    /// The servers of a name that are alive, in the order of their texts.
    pub(super) fn servers(&self, name: &str) -> Vec<Instance> {
        self.alive(name, Instant::now()).map(|(_, server, _)| server.clone()).collect()
    }

    /// When the first entry ends.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.entries.values().map(|entry| entry.end).min()
    }

    /// Forgets what has ended. This only frees memory: what reads an entry looks at the clock.
    pub(super) fn remove_ended(&mut self) {
        let now = Instant::now();
        self.entries.retain(|_, entry| entry.end > now);
        self.lists.retain(|_, list| list.until > now);
    }

    fn alive(&self, name: &str, now: Instant) -> impl Iterator<Item = (&str, &Instance, Instant)> {
        let from = (name.to_owned(), String::new());
        let of_name = self.entries.range(from..).take_while(move |((other, _), _)| other == name);
        of_name
            .filter(move |(_, entry)| entry.end > now)
            .filter_map(|((_, endpoint), entry)| Some((&**endpoint, entry.server.as_ref()?, entry.end)))
    }

    /// The key of an entry. If that one has ended, it is forgotten now.
    fn key(&mut self, name: &str, endpoint: &Endpoint) -> (String, String) {
        let key = (name.to_owned(), endpoint.to_string());
        if self.entries.get(&key).is_some_and(|entry| entry.end <= Instant::now()) {
            self.entries.remove(&key);
        }
        key
    }

    /// Whether there is room for one more entry. A former instance is forgotten before a server is refused.
    fn make_room(&mut self, max_servers: usize) -> bool {
        if self.entries.len() >= max_servers {
            self.remove_ended();
        }
        if self.entries.len() >= max_servers {
            self.entries.retain(|_, entry| entry.server.is_some());
        }
        self.entries.len() < max_servers
    }
}

impl Entry {
    fn empty(end: Instant) -> Entry {
        Entry { server: None, id: None, former: Vec::new(), end }
    }

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
        if let Some(id) = self.id.take()
            && !self.former.contains(&id)
        {
            if self.former.len() == MAX_FORMER {
                self.former.remove(0);
            }
            self.former.push(id);
        }
    }
}

fn note_change(lists: &mut HashMap<String, List>, name: &str) {
    if let Some(list) = lists.get_mut(name) {
        list.until = list.not_before;
    }
}

fn replaced() -> Refusal {
    (
        StatusCode::CONFLICT,
        "another instance is registered at this endpoint, or this one has left\n".to_owned(),
    )
}
