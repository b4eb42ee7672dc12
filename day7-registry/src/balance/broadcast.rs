//! Broadcast: one call to every server, at the same time.
//!
//! ```text
//!               ┌─▶ a ─▶ 42
//! broadcast ────┼─▶ b ─▶ error      its error, at once, with its name; a and c are cancelled
//!               └─▶ c ─▶ …
//! ```

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::balance::BalancedClient;
use crate::balance::discovery::{self, DiscoveryError, Instance};
use crate::balance::error::BalanceError;
use crate::deadline::deadline;
use crate::http::endpoint::Endpoint;

/// How many calls of a broadcast begin at the same time. A further one begins when one has ended.
pub const MAX_BROADCAST: usize = 64;

/// After this time a call without an answer gives its place to a further one, as if it had ended: a slow server takes no
/// other's place.
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
        let list = discovery::known(&*self.discovery, self.timeout).await?;
        let places = Semaphore::new(MAX_BROADCAST);
        let call = |server| self.call_one(server, &places, deadline, service_method, args);
        let mut calls: FuturesUnordered<_> = list.iter().map(call).collect();
        let mut reply = Err(DiscoveryError::NoServers.into());
        while let Some((_, result)) = calls.next().await {
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
        args: &A,
    ) -> Result<Vec<(Endpoint, Result<R, BalanceError>)>, BalanceError>
    where
        A: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        let deadline = deadline(self.timeout);
        let list = discovery::known(&*self.discovery, self.timeout).await?;
        if list.is_empty() {
            return Err(DiscoveryError::NoServers.into());
        }
        let places = Semaphore::new(MAX_BROADCAST);
        let call = |server| self.call_one(server, &places, deadline, service_method, args);
        Ok(join_all(list.iter().map(call)).await)
    }

    /// Calls one server, when there is a place for the call.
    async fn call_one<A, R>(
        &self,
        server: &Instance,
        places: &Semaphore,
        deadline: Instant,
        service_method: &str,
        args: &A,
    ) -> (Endpoint, Result<R, BalanceError>)
    where
        A: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        let endpoint = &server.endpoint;
        let place = places.acquire().await;
        let mut call = pin!(async {
            let client = self.pool.dial(endpoint, deadline).await?;
            let called = self.configure(&client, deadline).call(service_method, args).await;
            called.map_err(|source| BalanceError::Call { endpoint: endpoint.clone(), source })
        });
        let result = match timeout(BROADCAST_STEP, call.as_mut()).await {
            Ok(result) => result,
            Err(_) => {
                drop(place); // it is slow
                call.await
            }
        };
        (endpoint.clone(), result)
    }
}
