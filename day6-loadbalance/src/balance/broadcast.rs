//! Broadcast: one call to every server, at the same time.
//!
//! ```text
//!               ┌─▶ a ─▶ 42
//! broadcast ────┼─▶ b ─▶ error      its error, at once, with its name; a and c are cancelled
//!               └─▶ c ─▶ …
//! ```

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep};

use crate::balance::BalancedClient;
use crate::balance::discovery::{DiscoveryError, Instance};
use crate::balance::error::BalanceError;
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
    pub async fn broadcast<A, R>(&self, service_method: &str, args: &A) -> Result<R, BalanceError>
    where
        A: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        let deadline = deadline(self.timeout);
        let list = self.shared.list.known(&*self.shared.discovery, deadline, self.timeout).await?;
        let mut reply = Err(DiscoveryError::NoServers.into());
        self.call_each(&list.servers, deadline, service_method, args, |_, result| {
            reply = Ok(result?);
            Ok(())
        })
        .await?;
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
        args: &A,
    ) -> Result<Vec<(Endpoint, Result<R, BalanceError>)>, BalanceError>
    where
        A: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        let deadline = deadline(self.timeout);
        let list = self.shared.list.known(&*self.shared.discovery, deadline, self.timeout).await?;
        if list.servers.is_empty() {
            return Err(DiscoveryError::NoServers.into());
        }
        let mut results: Vec<_> = list.servers.iter().map(|_| None).collect();
        self.call_each(&list.servers, deadline, service_method, args, |position, result| {
            results[position] = Some(result);
            Ok(())
        })
        .await?;
        let endpoints = list.servers.iter().map(|server| server.endpoint.clone());
        Ok(endpoints.zip(results.into_iter().flatten()).collect())
    }

    /// Calls each server, and hands its answer to `take` as it comes, with the server's position in the list. An error of
    /// `take` is the end. The calls that are left are dropped, and so cancelled.
    async fn call_each<A, R>(
        &self,
        servers: &[Instance],
        deadline: Instant,
        service_method: &str,
        args: &A,
        mut take: impl FnMut(usize, Result<R, BalanceError>) -> Result<(), BalanceError>,
    ) -> Result<(), BalanceError>
    where
        A: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        let call = |(position, server): (usize, &Instance)| {
            let endpoint = server.endpoint.clone();
            async move {
                let called = async {
                    let client = self.shared.pool.dial(&endpoint, deadline, self.timeout).await?;
                    let called = self.call_on(&client, deadline, service_method, args).await;
                    called.map_err(|source| BalanceError::Call { endpoint, source })
                };
                (position, called.await)
            }
        };
        let mut waiting = servers.iter().enumerate().map(call);
        let mut calls = FuturesUnordered::new();
        // How many of the calls take no place any more.
        let mut slow = 0;
        loop {
            let places = (slow + MAX_BROADCAST).saturating_sub(calls.len());
            calls.extend(waiting.by_ref().take(places));
            tokio::select! {
                answer = calls.next() => match answer {
                    Some((position, result)) => take(position, result)?,
                    None => return Ok(()),
                },
                () = sleep(BROADCAST_STEP), if waiting.len() > 0 => slow = calls.len(),
            }
        }
    }
}
