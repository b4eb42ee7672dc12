//! What a server allows and how long it waits, as one value: the accept loop and the connections share it.

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::deadline::{
    DEFAULT_GRACE_PERIOD, DEFAULT_HANDLE_TIMEOUT, DEFAULT_HANDSHAKE_TIMEOUT, DEFAULT_IDLE_TIMEOUT,
    DEFAULT_MESSAGE_TIMEOUT, DEFAULT_READ_TIMEOUT, DEFAULT_WRITE_TIMEOUT,
};
use crate::server::budget::{Budget, DEFAULT_MAX_REQUEST_BYTES};
use crate::wire::handshake::Limits;

/// The default for the connections that are open at once. Further ones wait in the queue of the system.
pub const DEFAULT_MAX_CONNECTIONS: usize = 16 * 1024;

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) limits: Limits,
    pub(crate) max_connections: usize,
    pub(crate) handshake_timeout: Duration,
    pub(crate) handle_timeout: Duration,
    pub(crate) read_timeout: Duration,
    pub(crate) message_timeout: Duration,
    pub(crate) write_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) grace_period: Duration,
    pub(crate) budget: Budget,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            limits: Limits::default(),
            max_connections: DEFAULT_MAX_CONNECTIONS,
            handshake_timeout: DEFAULT_HANDSHAKE_TIMEOUT,
            handle_timeout: DEFAULT_HANDLE_TIMEOUT,
            read_timeout: DEFAULT_READ_TIMEOUT,
            message_timeout: DEFAULT_MESSAGE_TIMEOUT,
            write_timeout: DEFAULT_WRITE_TIMEOUT,
            idle_timeout: DEFAULT_IDLE_TIMEOUT,
            grace_period: DEFAULT_GRACE_PERIOD,
            budget: Budget::new(DEFAULT_MAX_REQUEST_BYTES),
        }
    }
}

impl Settings {
    /// Waits until connections must not linger any more: a shutdown waits for them.
    pub(crate) async fn end_of_lingering(&self, shutdown: &CancellationToken) {
        shutdown.cancelled().await;
        sleep(self.grace_period / 2).await;
    }
}
