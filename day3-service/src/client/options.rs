//! The settings of a client.

use crate::wire::codec::Codec;
use crate::wire::handshake::{ClientHello, DEFAULT_MAX_BODY_LEN, DEFAULT_MAX_IN_FLIGHT};

/// The settings of a [`Client`](crate::Client).
///
/// ```
/// use day3_service::{Codec, Options};
///
/// let options = Options::default().codecs([Codec::Json]).max_in_flight(16);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub(super) codecs: Vec<Codec>,
    pub(super) max_body_len: usize,
    pub(super) max_in_flight: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            codecs: Codec::ALL.to_vec(),
            max_body_len: DEFAULT_MAX_BODY_LEN,
            max_in_flight: DEFAULT_MAX_IN_FLIGHT,
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

    pub(super) fn hello(&self) -> ClientHello {
        let mut hello = ClientHello::new(self.codecs.iter().copied());
        hello.max_body_len = self.max_body_len;
        hello
    }
}
