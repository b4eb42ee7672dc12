//! What a server allows and how long it waits, as one value: the accept loop and the connections share it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::deadline::{
    DEFAULT_GRACE_PERIOD, DEFAULT_HANDLE_TIMEOUT, DEFAULT_HANDSHAKE_TIMEOUT, DEFAULT_IDLE_TIMEOUT,
    DEFAULT_MESSAGE_TIMEOUT, DEFAULT_READ_TIMEOUT, DEFAULT_WRITE_TIMEOUT,
};
use crate::wire::handshake::Limits;

/// The default for the connections that are open at once. Further ones wait in the queue of the system.
pub const DEFAULT_MAX_CONNECTIONS: usize = 16 * 1024;

/// The default for the memory that large bodies of requests may take at once, in bytes: 256 MiB.
pub const DEFAULT_MAX_REQUEST_BYTES: usize = 256 * 1024 * 1024;

/// A body longer than this counts against the server's budget, in bytes.
pub const LARGE_BODY_LEN: usize = 64 * 1024;

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

/// The memory for large bodies. All connections of a server share it.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    /// One for each KiB.
    pub(crate) permits: Arc<Semaphore>,
    max: u32,
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Budget {
        let max = u32::try_from(bytes / 1024).unwrap_or(u32::MAX).max(1);
        let max = max.min(u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        Budget { permits: Arc::new(Semaphore::new(max as usize)), max }
    }

    /// How many permits a body of this length takes. One that is longer than the whole budget takes all of it.
    pub(crate) fn permits_for(&self, body_len: usize) -> u32 {
        u32::try_from(body_len.div_ceil(1024)).unwrap_or(u32::MAX).min(self.max)
    }
}
