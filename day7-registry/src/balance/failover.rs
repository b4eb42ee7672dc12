//! Fail-over: the servers of one call, one after the other, until one of them takes it.
//!
//! ```text
//! 1. those that the mode chooses, in its order      a server that rests is put off
//! 2. those that rest
//! 3. those of a newer list, if the discovery has one
//! 4. those that have refused the call
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::balance::discovery::{Discovery, DiscoveryError};
use crate::balance::error::BalanceError;
use crate::balance::list::{CurrentList, List};
use crate::balance::pool::{Connector, Pool};
use crate::balance::select::{Candidates, SelectMode, Selector};
use crate::client::Client;
use crate::client::options::Options;
use crate::http::endpoint::Endpoint;

/// After so many servers that rest or cannot be dialed, a call goes to any that is connected: among thousands of servers
/// that are down, it does not search for one that the mode would choose.
const MAX_SKIPPED: usize = 3;

/// What all handles of a client share.
pub(super) struct Shared {
    pub(super) discovery: Arc<dyn Discovery>,
    pub(super) list: Arc<CurrentList>,
    selector: Selector,
    pub(super) pool: Arc<Pool>,
    _follow_list: AbortOnDropHandle<()>,
}

impl Shared {
    pub(super) fn new(
        discovery: Arc<dyn Discovery>,
        options: Options,
        connector: Arc<Connector>,
    ) -> Arc<Shared> {
        let list = Arc::new(CurrentList::new(discovery.servers()));
        let pool = Arc::new(Pool::new(Arc::clone(&list), options, connector));
        let following = Arc::clone(&pool);
        let follow_list = AbortOnDropHandle::new(tokio::spawn(async move { following.follow_list().await }));
        Arc::new(Shared { discovery, list, selector: Selector::default(), pool, _follow_list: follow_list })
    }
}

/// The servers of one call.
pub(super) struct Failover<'a> {
    shared: &'a Shared,
    mode: &'a SelectMode,
    /// When the time of the call is over, and how long it was.
    deadline: Instant,
    timeout: Duration,
    candidates: Candidates<'a>,
    resting: VecDeque<Endpoint>,
    refused: VecDeque<Endpoint>,
    /// How many were put off, or could not be dialed.
    skipped: usize,
    has_refreshed: bool,
    /// Why the last server that was dialed could not be.
    failed: Option<BalanceError>,
}

impl<'a> Failover<'a> {
    /// The servers of a call that begins now. Waits for a list, if none is known yet.
    pub(super) async fn new(
        shared: &'a Shared,
        mode: &'a SelectMode,
        deadline: Instant,
        timeout: Duration,
    ) -> Result<Failover<'a>, BalanceError> {
        let list = shared.list.known(&*shared.discovery, deadline, timeout).await?;
        let candidates = shared.selector.candidates(mode, list);
        let (resting, refused) = (VecDeque::new(), VecDeque::new());
        Ok(Failover {
            shared,
            mode,
            deadline,
            timeout,
            candidates,
            resting,
            refused,
            skipped: 0,
            has_refreshed: false,
            failed: None,
        })
    }

    /// The next server, connected.
    ///
    /// # Errors
    /// There is no further one, or no more time.
    pub(super) async fn next(&mut self) -> Result<(Endpoint, Client), BalanceError> {
        let pool = &self.shared.pool;
        loop {
            if let Some(found) = self.any_connected() {
                return Ok(found);
            }
            let chosen = self.candidates.next();
            if let Some(endpoint) = &chosen
                && pool.leaves_alone(endpoint)
            {
                pool.dial_beside(endpoint);
                self.resting.extend(chosen);
                self.skipped += 1;
                continue;
            }
            let Some(endpoint) = chosen.or_else(|| self.resting.pop_front()) else {
                match self.newer_list().await {
                    Some(list) => self.candidates.renew(list),
                    None if !self.refused.is_empty() => self.resting.append(&mut self.refused),
                    None => return Err(self.failed.take().unwrap_or(DiscoveryError::NoServers.into())),
                }
                continue;
            };
            if let Some(client) = pool.ready(&endpoint) {
                return Ok((endpoint, client));
            }
            match pool.dial(&endpoint, self.attempt_deadline(), self.timeout).await {
                Ok(client) => return Ok((endpoint, client)),
                // Out of time: the error belongs to the server that took the time, and no other may be called.
                Err(error) if Instant::now() >= self.deadline => return Err(error),
                Err(error) => self.failed = Some(error),
            }
            self.skipped += 1;
        }
    }

    /// Notes that a server has not run the call. It is asked again if there is no other.
    pub(super) fn note_refused(&mut self, endpoint: Endpoint) {
        self.refused.push_back(endpoint);
    }

    /// A connected server with few calls, if that is the mode, or the mode has not found one soon. A key stays on its
    /// ring, however long that takes.
    fn any_connected(&mut self) -> Option<(Endpoint, Client)> {
        let pool = &self.shared.pool;
        match self.mode {
            // Load must reach the servers that are not connected, too: one of them is dialed beside this call.
            SelectMode::LeastLoaded => pool.dial_beside(self.candidates.any()?),
            SelectMode::ConsistentHash(_) => return None,
            _ if self.skipped < MAX_SKIPPED => return None,
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

    /// A list that is newer than that of this call. The discovery is asked for it once.
    async fn newer_list(&mut self) -> Option<Arc<List>> {
        if std::mem::replace(&mut self.has_refreshed, true) {
            return None;
        }
        self.shared.list.newer(&*self.shared.discovery, self.candidates.list(), self.deadline).await
    }
}
