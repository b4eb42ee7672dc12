//! The settings of a client.

use std::time::Duration;

use crate::deadline::{
    DEFAULT_CALL_TIMEOUT, DEFAULT_CONNECT_TIMEOUT, DEFAULT_PING_INTERVAL, DEFAULT_PING_TIMEOUT,
    DEFAULT_WRITE_TIMEOUT,
};
use crate::wire::codec::Codec;
use crate::wire::handshake::{ClientHello, DEFAULT_MAX_BODY_LEN, DEFAULT_MAX_IN_FLIGHT};

/// The settings of a [`Client`](crate::Client).
///
/// ```
/// use day5_http::{Codec, Options};
///
/// let options = Options::default().codecs([Codec::Json]).max_in_flight(16);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub(super) codecs: Vec<Codec>,
    pub(super) max_body_len: usize,
    pub(super) max_in_flight: usize,
    pub(crate) connect_timeout: Duration,
    pub(crate) call_timeout: Duration,
    pub(super) write_timeout: Duration,
    pub(super) ping_interval: Duration,
    pub(super) ping_timeout: Duration,
    pub(super) handle_timeout: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            codecs: Codec::ALL.to_vec(),
            max_body_len: DEFAULT_MAX_BODY_LEN,
            max_in_flight: DEFAULT_MAX_IN_FLIGHT,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            call_timeout: DEFAULT_CALL_TIMEOUT,
            write_timeout: DEFAULT_WRITE_TIMEOUT,
            ping_interval: DEFAULT_PING_INTERVAL,
            ping_timeout: DEFAULT_PING_TIMEOUT,
            handle_timeout: None,
        }
    }
}

impl Options {
    /// Offers these codecs, best first. Default: [all of them](Codec::ALL).
    pub fn codecs(mut self, codecs: impl IntoIterator<Item = Codec>) -> Self {
        self.codecs = codecs.into_iter().collect();
        self
    }

    /// The longest reply that the client takes, in bytes. The server is told; one that sends a longer reply all
    /// the same loses the connection. Default: [`DEFAULT_MAX_BODY_LEN`].
    pub fn max_body_len(mut self, bytes: usize) -> Self {
        self.max_body_len = bytes;
        self
    }

    /// How many calls may be in flight, at least 1; further ones wait. The server may allow fewer. Default:
    /// [`DEFAULT_MAX_IN_FLIGHT`].
    pub fn max_in_flight(mut self, calls: usize) -> Self {
        self.max_in_flight = calls;
        self
    }

    /// Gives up connecting after this time. Default: [`DEFAULT_CONNECT_TIMEOUT`].
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Gives up a call after this time. Default: [`DEFAULT_CALL_TIMEOUT`].
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = timeout;
        self
    }

    /// Gives up the connection if the server takes nothing of a write for so long. Default:
    /// [`DEFAULT_WRITE_TIMEOUT`].
    pub fn write_timeout(mut self, timeout: Duration) -> Self {
        self.write_timeout = timeout;
        self
    }

    /// Sends a ping when the server has been silent for so long while calls wait. Default:
    /// [`DEFAULT_PING_INTERVAL`].
    pub fn ping_interval(mut self, interval: Duration) -> Self {
        self.ping_interval = interval;
        self
    }

    /// Gives up the connection when the server has been silent for so long after a ping. Default:
    /// [`DEFAULT_PING_TIMEOUT`].
    pub fn ping_timeout(mut self, timeout: Duration) -> Self {
        self.ping_timeout = timeout;
        self
    }

    /// Asks the server to stop handlers after this time, rounded up to whole milliseconds. The server's own
    /// limit holds as well: the smaller one wins. Default: not asked.
    pub fn handle_timeout(mut self, timeout: Duration) -> Self {
        self.handle_timeout = Some(timeout);
        self
    }

    pub(super) fn hello(&self) -> ClientHello {
        let millis = |after: Duration| after.as_nanos().div_ceil(1_000_000).try_into().unwrap_or(u64::MAX);
        let mut hello = ClientHello::new(self.codecs.iter().copied());
        hello.max_body_len = self.max_body_len;
        hello.handle_timeout_ms = self.handle_timeout.map(millis);
        hello
    }
}
