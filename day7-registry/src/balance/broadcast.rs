//! Broadcast: one call to every server, at the same time.
//!
//! ```text
//!               ┌─▶ a ─▶ 42
//! broadcast ────┼─▶ b ─▶ error      its error, at once, with its name; a and c are cancelled
//!               └─▶ c ─▶ …
//! ```

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::balance::discovery::{DiscoveryError, Instance};
use crate::balance::start::finished;
use crate::balance::{BalanceError, BalancedClient};
use crate::deadline::deadline;
use crate::http::endpoint::Endpoint;

/// How many calls of a broadcast begin at the same time. A further one begins when one has ended.
pub const MAX_BROADCAST: usize = 64;

/// After this time without an answer so many more begin, as if those before had ended: a slow server takes no other's
/// place.
pub const BROADCAST_STEP: Duration = Duration::from_millis(250);

impl BalancedClient {
    /// Calls a method on every server. All succeed: one of the replies. One fails: its error, at once, and
    /// the other calls are cancelled.
    ///
    /// # Errors
    /// The first failure, which names the server; [`DiscoveryError::NoServers`] if there is no server.
    ///
    /// # Cancel safety
    /// Dropping the future gives all calls up.
    pub async fn broadcast<A, R>(&self, service_method: &str, args: A) -> Result<R, BalanceError>
    where
        A: Serialize + Send + Sync + 'static,
        R: DeserializeOwned + Send + 'static,
    {
        let mut broadcast = self.start_broadcast(service_method, args).await?;
        let mut reply = Err(BalanceError::Discovery(DiscoveryError::NoServers));
        while let Some((_, result)) = broadcast.next().await {
            // Dropping `broadcast` on the way out cancels the rest.
            reply = Ok(result?);
        }
        reply
    }

    /// Calls a method on every server, and returns what each of them answered, in the order of the list.
    ///
    /// # Errors
    /// [`BalanceError::Discovery`] if there is no server. Failed calls are in the list.
    ///
    /// # Cancel safety
    /// Dropping the future gives all calls up.
    pub async fn broadcast_all<A, R>(
        &self,
        service_method: &str,
        args: A,
    ) -> Result<Vec<(Endpoint, Result<R, BalanceError>)>, BalanceError>
    where
        A: Serialize + Send + Sync + 'static,
        R: DeserializeOwned + Send + 'static,
    {
        let mut broadcast = self.start_broadcast(service_method, args).await?;
        let servers = Arc::clone(&broadcast.servers);
        let mut results: Vec<_> = servers.iter().map(|_| None).collect();
        while let Some((index, result)) = broadcast.next().await {
            results[index] = Some(result);
        }
        let endpoints = servers.iter().map(|server| server.endpoint.clone());
        Ok(endpoints.zip(results.into_iter().flatten()).collect())
    }

    async fn start_broadcast<A, R>(
        &self,
        service_method: &str,
        args: A,
    ) -> Result<Broadcast<A, R>, BalanceError> {
        let deadline = deadline(self.timeout);
        let servers = Arc::clone(&self.list(deadline).await?.servers);
        if servers.is_empty() {
            return Err(DiscoveryError::NoServers.into());
        }
        let call = Arc::new((service_method.to_owned(), args));
        Ok(Broadcast {
            client: self.clone(),
            servers,
            next: 0,
            call,
            deadline,
            calls: JoinSet::new(),
            slow: 0,
        })
    }
}

/// A call to every server. Dropping it cancels those in flight.
struct Broadcast<A, R> {
    client: BalancedClient,
    servers: Arc<[Instance]>,
    /// The first server that was not called yet.
    next: usize,
    call: Arc<(String, A)>,
    deadline: Instant,
    calls: JoinSet<(usize, Result<R, BalanceError>)>,
    /// How many of the calls take no place any more.
    slow: usize,
}

impl<A, R> Broadcast<A, R>
where
    A: Serialize + Send + Sync + 'static,
    R: DeserializeOwned + Send + 'static,
{
    /// The next answer that comes in, with the index of its server.
    async fn next(&mut self) -> Option<(usize, Result<R, BalanceError>)> {
        loop {
            while self.next < self.servers.len() && self.calls.len() < self.slow + MAX_BROADCAST {
                self.begin_next();
            }
            tokio::select! {
                answer = self.calls.join_next() => return answer.map(finished),
                () = sleep(BROADCAST_STEP), if self.next < self.servers.len() => self.slow = self.calls.len(),
            }
        }
    }

    fn begin_next(&mut self) {
        let (index, endpoint) = (self.next, self.servers[self.next].endpoint.clone());
        let (client, call, deadline) = (self.client.clone(), Arc::clone(&self.call), self.deadline);
        self.calls.spawn(async move {
            let called = async {
                let connection = client.dial(&endpoint, deadline).await?;
                let called = client.call_on(&connection, deadline, &call.0, &call.1).await;
                called.map_err(|source| BalanceError::Call { endpoint, source })
            };
            (index, called.await)
        });
        self.next += 1;
    }
}
