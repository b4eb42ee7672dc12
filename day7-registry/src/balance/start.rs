//! A call that is started now and awaited later, as [`Client::start`](crate::Client::start) does for one server.
//!
//! ```text
//! start ──▶ task: choose ──▶ connect ──▶ call ──▶ another server?
//!   └─▶ StartedCall ◀── reply ──┘
//! ```

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::task::AbortOnDropHandle;

use crate::balance::BalancedClient;
use crate::balance::error::BalanceError;

impl BalancedClient {
    /// Starts a call now, and returns a future of its reply to await later. Choosing and dialing are parts of the
    /// call, so it runs in a task of its own. Its time limit begins here.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn start<A, R>(&self, service_method: impl Into<String>, args: A) -> StartedCall<R>
    where
        A: Serialize + Send + Sync + 'static,
        R: DeserializeOwned + Send + 'static,
    {
        let (client, service_method) = (self.clone(), service_method.into());
        let call = tokio::spawn(async move { client.call(&service_method, &args).await });
        StartedCall { task: AbortOnDropHandle::new(call) }
    }
}

/// A call that was started: await it for the reply, drop it to give the call up.
///
/// # Errors
/// As [`BalancedClient::call`].
///
/// # Cancel safety
/// Awaiting it by `&mut` is cancellation-safe.
#[derive(Debug)]
#[must_use = "dropping it gives the call up"]
pub struct StartedCall<R> {
    task: AbortOnDropHandle<Result<R, BalanceError>>,
}

impl<R> Future for StartedCall<R> {
    type Output = Result<R, BalanceError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(Pin::new(&mut self.task).poll(cx));
        // The task is not aborted while this is there. If it has no outcome, the code of a value has panicked.
        Poll::Ready(outcome.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())))
    }
}
