//! What can go wrong: [`Error`] for this side of a connection, [`RemoteError`] for what travels to the other.
//!
//! ```text
//! server                                                       client
//! handler ── anyhow::Error ──▶ RemoteError { code, message } ──▶ the caller matches on the code
//!                 └─ its causes: to the server's log, not over the wire
//! ```

use std::borrow::Cow;
use std::io;

use serde::{Deserialize, Serialize};

/// The longest message of an error that travels, in characters. So an error always fits into a header.
pub const MAX_ERROR_CHARS: usize = 500;

/// An error of this library.
///
/// | variant | what is lost |
/// |---|---|
/// | [`Encode`](Error::Encode), [`Decode`](Error::Decode) | this one call |
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
        /// The name of the codec in use.
        codec: &'static str,
        /// The error of the codec's library.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// The bytes are not one value of the type asked for, in this codec.
    #[error("cannot decode {codec}: {source}")]
    Decode {
        /// The name of the codec in use.
        codec: &'static str,
        /// The error of the codec's library.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// Client and server could not agree to talk. The text is the reason of the side that refused.
    #[error("handshake failed: {0}")]
    Handshake(String),

    /// The peer broke the rules of the wire after the handshake.
    #[error("protocol error: {0}")]
    Protocol(String),

    /// The connection has ended, for this reason.
    #[error("disconnected: {0}")]
    Disconnected(String),
}

/// The error of a call, as it travels: a [`Code`] for programs, and a message for people.
///
/// A handler returns one to choose the code:
///
/// ```
/// # use day1_codec::{Code, RemoteError};
/// fn half(number: i64) -> anyhow::Result<i64> {
///     if number % 2 != 0 {
///         return Err(RemoteError::new(Code::INVALID_ARGUMENT, "the number is odd").into());
///     }
///     Ok(number / 2)
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct RemoteError {
    code: Code,
    message: String,
    #[serde(default)]
    refused: bool,
}

impl RemoteError {
    /// An error with this code. A message of more than [`MAX_ERROR_CHARS`] is cut.
    pub fn new(code: Code, message: impl Into<String>) -> RemoteError {
        RemoteError { code, message: truncate(message.into()), refused: false }
    }

    /// The answer to a call that was not started and never will be. Only a connection may say that: a handler
    /// that passes on the refusal of another server has run itself.
    pub(crate) fn refusal(code: Code, message: impl Into<String>) -> RemoteError {
        RemoteError { refused: true, ..RemoteError::new(code, message) }
    }

    /// What kind of error it is.
    pub fn code(&self) -> &Code {
        &self.code
    }

    /// The text, as the server wrote it. It may hold any characters, such as those that control a terminal.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether the server did not start the call and never will, so that it may be sent elsewhere.
    pub fn is_refused(&self) -> bool {
        self.refused
    }
}

/// The kind of a [`RemoteError`]: gRPC's codes, in the spelling of the Connect protocol.
///
/// A code is text, and a code that this library does not know is kept as it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Code(Cow<'static, str>);

impl Code {
    /// The caller gave up.
    pub const CANCELED: Code = Code(Cow::Borrowed("canceled"));
    /// An error without a code of its own: what a handler's plain error becomes.
    pub const UNKNOWN: Code = Code(Cow::Borrowed("unknown"));
    /// The argument is wrong, or is not a value of the method's type.
    pub const INVALID_ARGUMENT: Code = Code(Cow::Borrowed("invalid_argument"));
    /// The call took longer than it was allowed to.
    pub const DEADLINE_EXCEEDED: Code = Code(Cow::Borrowed("deadline_exceeded"));
    /// What the call is about does not exist.
    pub const NOT_FOUND: Code = Code(Cow::Borrowed("not_found"));
    /// What the call would create exists already.
    pub const ALREADY_EXISTS: Code = Code(Cow::Borrowed("already_exists"));
    /// The caller is known, and must not do this.
    pub const PERMISSION_DENIED: Code = Code(Cow::Borrowed("permission_denied"));
    /// A limit was reached.
    pub const RESOURCE_EXHAUSTED: Code = Code(Cow::Borrowed("resource_exhausted"));
    /// The state of the system does not allow it now.
    pub const FAILED_PRECONDITION: Code = Code(Cow::Borrowed("failed_precondition"));
    /// Another call was in the way; the caller may try the whole again.
    pub const ABORTED: Code = Code(Cow::Borrowed("aborted"));
    /// The argument is past the end of what there is.
    pub const OUT_OF_RANGE: Code = Code(Cow::Borrowed("out_of_range"));
    /// There is no such service or method.
    pub const UNIMPLEMENTED: Code = Code(Cow::Borrowed("unimplemented"));
    /// A defect of the server: a panic, a reply that cannot be encoded.
    pub const INTERNAL: Code = Code(Cow::Borrowed("internal"));
    /// The server cannot answer now, and may later.
    pub const UNAVAILABLE: Code = Code(Cow::Borrowed("unavailable"));
    /// Data is lost.
    pub const DATA_LOSS: Code = Code(Cow::Borrowed("data_loss"));
    /// The caller did not say who it is.
    pub const UNAUTHENTICATED: Code = Code(Cow::Borrowed("unauthenticated"));

    /// A code of your own. One of more than 64 characters is cut.
    pub fn new(text: impl Into<String>) -> Code {
        Code(Cow::Owned(text.into().chars().take(64).collect()))
    }

    /// The code as it stands on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// At most [`MAX_ERROR_CHARS`] of a text that is told to a peer, and may quote what that peer sent.
pub(crate) fn truncate(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MAX_ERROR_CHARS) {
        text.truncate(end);
        text.push('…');
    }
    text
}
