//! A call to one of the servers, and to the next one if it has surely not run.
//!
//! ```text
//! call ──▶ candidates ──▶ pool ──▶ Client::call ──▶ reply, or an error that may have run
//!              │            │           │
//!              │            │           └─ not sent, or refused? the next candidate
//!              │            └─ cannot be dialed? the next candidate, and this server has a rest
//!              └─ no candidate is left? ask the discovery for a newer list, once; then it is an error
//! ```
//!
//! Only a call that surely has not run is tried elsewhere: see [`Error::may_have_run`](crate::Error::may_have_run). A call
//! that was lost in flight may have run, and running it twice is the caller's decision.

use std::collections::VecDeque;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::balance::BalancedClient;
use crate::balance::discovery::{self, DiscoveryError};
use crate::balance::error::BalanceError;
use crate::balance::select::{Candidates, SelectMode};
use crate::client::Client;
use crate::deadline::deadline;
use crate::http::endpoint::Endpoint;

/// How often a call is handed to a connection. The last refusal is its outcome.
const MAX_ATTEMPTS: usize = 3;

/// A call that has tried so many servers goes to any that is connected: among thousands of servers that are down, it does
/// not search for one that the mode would choose.
const MAX_CHOSEN: usize = 3;

impl BalancedClient {
    /// Calls a method on one server. Choosing, dialing and calling share the time limit for calls.
    ///
    /// # Errors
    /// [`BalanceError`], which names the server.
    ///
    /// # Cancel safety
    /// Dropping the future gives the call up, and tells the server to stop it.
    pub async fn call<A, R>(&self, service_method: &str, args: &A) -> Result<R, BalanceError>
    where
        A: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        let deadline = deadline(self.timeout);
        discovery::known(&*self.discovery, self.timeout).await?;
        let mut servers = Failover::new(self, deadline);
        let mut attempts = 0;
        loop {
            let (endpoint, client) = servers.next().await?;
            let source = match self.configure(&client, deadline).call(service_method, args).await {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            attempts += 1;
            if source.may_have_run() || attempts == MAX_ATTEMPTS {
                return Err(BalanceError::Call { endpoint, source });
            }
            servers.refused.push_back(endpoint);
        }
    }
}

/// The servers of one call, one after the other, until one of them takes it.
///
/// ```text
/// 1. those that the mode chooses, in its order      a server that rests is put off
/// 2. those that rest
/// 3. those of a newer list, if the discovery has one
/// 4. those that have refused the call
/// ```
struct Failover<'a> {
    client: &'a BalancedClient,
    /// When the time of the call is over.
    deadline: Instant,
    candidates: Candidates<'a>,
    resting: VecDeque<Endpoint>,
    refused: VecDeque<Endpoint>,
    has_refreshed: bool,
    /// Why the last server that was dialed could not be.
    failed: Option<BalanceError>,
}

impl<'a> Failover<'a> {
    fn new(client: &'a BalancedClient, deadline: Instant) -> Failover<'a> {
        Failover {
            client,
            deadline,
            candidates: client.selector.candidates(&client.mode),
            resting: VecDeque::new(),
            refused: VecDeque::new(),
            has_refreshed: false,
            failed: None,
        }
    }

    /// The next server, connected.
    ///
    /// # Errors
    /// There is no further one, or no more time.
    async fn next(&mut self) -> Result<(Endpoint, Client), BalanceError> {
        let pool = &self.client.pool;
        loop {
            if let Some(found) = self.any_connected() {
                return Ok(found);
            }
            let chosen = self.candidates.next();
            if let Some(endpoint) = &chosen
                && pool.dial_beside(endpoint)
            {
                self.resting.extend(chosen);
                continue;
            }
            let Some(endpoint) = chosen.or_else(|| self.resting.pop_front()) else {
                if !self.renewed().await && self.refused.is_empty() {
                    return Err(self.failed.take().unwrap_or(DiscoveryError::NoServers.into()));
                }
                self.resting.append(&mut self.refused);
                continue;
            };
            match pool.dial(&endpoint, self.attempt_deadline()).await {
                Ok(client) => return Ok((endpoint, client)),
                // Out of time: the error belongs to the server that took the time, and no other may be called.
                Err(error) if Instant::now() >= self.deadline => return Err(error),
                Err(error) => self.failed = Some(error),
            }
        }
    }

    /// A connected server with few calls, if that is the mode, or the mode has not found one soon. A key stays on its
    /// ring, however long that takes.
    fn any_connected(&mut self) -> Option<(Endpoint, Client)> {
        let pool = &self.client.pool;
        match self.client.mode {
            // Load must reach the servers that are not connected, too: one of them is dialed beside this call.
            SelectMode::LeastLoaded => _ = pool.dial_beside(self.candidates.any()?),
            SelectMode::ConsistentHash(_) => return None,
            _ if self.candidates.tried() < MAX_CHOSEN => return None,
            _ => {}
        }
        let found = pool.less_loaded(|endpoint| self.candidates.has(endpoint))?;
        self.candidates.remove(&found.0);
        Some(found)
    }

    /// When to turn to the next server. A hung one may have a part of the time that is left: with three servers
    /// left or more it is a third, with two a half, and the last has all of it (README, Limits). Its dialing goes
    /// on beside the call, for the calls that come next.
    fn attempt_deadline(&self) -> Instant {
        let left = 1 + self.candidates.left() + self.resting.len();
        let now = Instant::now();
        now + self.deadline.saturating_duration_since(now) / left.min(3) as u32
    }

    /// Whether there is a newer list than that of this call. The discovery is asked for it once.
    async fn renewed(&mut self) -> bool {
        if self.has_refreshed {
            return false;
        }
        self.has_refreshed = true;
        if self.candidates.renew() {
            return true;
        }
        discovery::refreshed(&*self.client.discovery, self.deadline).await;
        self.candidates.renew()
    }
}
