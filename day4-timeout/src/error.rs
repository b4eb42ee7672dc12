//! Everything that can go wrong, as one type that a caller can match on.
//!
//! The list is complete from the first day, so that a `match` written today still fits on day 7.
//! Handlers return [`anyhow::Error`] instead: to the other side their errors are text anyway.

use std::io;
use std::time::Duration;

use crate::wire::codec::Codec;

/// An error of this library.
///
/// Whose fault it was, and what is still usable afterwards, is the first thing a caller wants to know:
///
/// | variant | what is lost |
/// |---|---|
/// | [`Encode`](Error::Encode), [`Decode`](Error::Decode), [`Refused`](Error::Refused), [`Remote`](Error::Remote), [`Timeout`](Error::Timeout) | this one call |
/// | [`FrameTooLarge`](Error::FrameTooLarge) | this one call when we were sending, the connection when the peer was |
/// | [`Io`](Error::Io), [`Handshake`](Error::Handshake), [`Protocol`](Error::Protocol), [`Disconnected`](Error::Disconnected) | the connection |
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system reports that the connection, or the attempt to make one, failed.
    #[error("i/o error: {0}")]
    Io(#[from] io::Error),

    /// A frame is longer than the limit. It was neither sent nor read, and nothing was allocated for it.
    #[error("a frame of {len} bytes is over the limit of {max} bytes")]
    FrameTooLarge {
        /// The length that the frame has, or claims to have, in bytes.
        len: usize,
        /// The limit in force, in bytes.
        max: usize,
    },

    /// A value cannot be written in this codec: a map with keys that are not text in JSON, for example.
    #[error("cannot encode as {codec}: {source}")]
    Encode {
        /// The codec in use.
        codec: Codec,
        /// What the codec's library says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// The bytes are not one value of the type asked for, in this codec.
    #[error("cannot decode {type_name} from {codec}: {source}")]
    Decode {
        /// The codec in use.
        codec: Codec,
        /// The Rust type that was asked for.
        type_name: &'static str,
        /// What the codec's library says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// The two sides could not agree to talk; the text says why, in the words of whoever refused.
    #[error("handshake failed: {0}")]
    Handshake(String),

    /// The peer broke the rules of the wire after the handshake.
    #[error("protocol error: {0}")]
    Protocol(String),

    /// The call was refused, and has not run. Nothing on the first three days raises this: day 4 does.
    #[error("refused: {0}")]
    Refused(String),

    /// The call reached the server, and this is the server's answer, word for word.
    #[error("{0}")]
    Remote(String),

    /// The connection ended before the reply came; the text says why. The call may or may not have run.
    #[error("disconnected: {0}")]
    Disconnected(String),

    /// A wait came to its limit. Nothing on the first three days raises this: day 4 does.
    #[error("{what} timed out after {after:?}")]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// The limit that was reached.
        after: Duration,
    },
}

/// A reason, as it is told to a peer. It may quote what that very peer sent, so it is cut short: the answer
/// must fit a frame whatever came in.
pub(crate) fn in_short(reason: &str) -> String {
    const MAX_CHARS: usize = 500;
    reason.char_indices().nth(MAX_CHARS).map_or(reason.to_owned(), |(end, _)| format!("{}…", &reason[..end]))
}

/// The text of an error and of its causes, with colons between them. Many error types repeat their cause in
/// their own text; then it is not said twice, as `{:#}` would.
pub fn full_text(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}
