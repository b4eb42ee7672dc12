//! The handshake: who are you, which codec do we speak, and how much do we take?
//!
//! ```text
//! client → server   {"magic_number":3927900,"codecs":["application/bincode","application/json"],"max_body_len":8388608}
//! server → client   {"codec":"application/bincode","max_body_len":8388608,"max_in_flight":1024}
//!                   or {"error":"…"}, and the server closes
//! ```
//!
//! One frame each way, always JSON, before the first message. The client's list is in order of preference
//! and the server takes the first that it speaks too. Each side says how long a body it takes, so that the
//! other can fail one call instead of breaking the connection. Fields and codec names that a side does not
//! know are ignored, so that old and new peers can talk.
//!
//! The client may also say how long a handler may take for it: `"handle_timeout_ms":500`.
//!
//! The answer matters. In GeeRPC, which has none, dialing a server that refuses the codec "succeeds", and
//! the first call fails without a reason.

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::error::{Error, truncate};
use crate::wire::codec::Codec;
use crate::wire::frame::{FrameReader, FrameWriter};

/// The number that every connection starts with: a peer that sends another one speaks another protocol.
pub const MAGIC_NUMBER: u32 = 0x3bef5c;

/// The limit for each of the two handshake frames, in bytes.
pub const MAX_HANDSHAKE_LEN: usize = 4 * 1024;

/// The default for the longest body that a side takes, in bytes: 8 MiB.
pub const DEFAULT_MAX_BODY_LEN: usize = 8 * 1024 * 1024;

/// The default for the calls that a server takes at once from one connection. One more is refused.
pub const DEFAULT_MAX_IN_FLIGHT: usize = 1024;

/// The client's first frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ClientHello {
    /// [`MAGIC_NUMBER`].
    pub magic_number: u32,
    /// The names of the codecs that the client speaks, best first.
    pub codecs: Vec<String>,
    /// The longest body that the client takes, in bytes.
    #[serde(default = "default_max_body_len")]
    pub max_body_len: usize,
    /// How long a handler may take, in milliseconds. The server's own limit holds as well: the smaller one wins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handle_timeout_ms: Option<u64>,
}

impl ClientHello {
    /// Offers these codecs, best first.
    pub fn new(codecs: impl IntoIterator<Item = Codec>) -> ClientHello {
        ClientHello {
            magic_number: MAGIC_NUMBER,
            codecs: codecs.into_iter().map(|codec| codec.name().to_owned()).collect(),
            max_body_len: DEFAULT_MAX_BODY_LEN,
            handle_timeout_ms: None,
        }
    }
}

/// The server's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ServerHello {
    /// The server serves this client.
    Accepted {
        /// The name of the codec for everything that follows.
        codec: String,
        /// The longest body that the server takes, in bytes.
        #[serde(default = "default_max_body_len")]
        max_body_len: usize,
        /// How many calls the server takes at once from this connection.
        #[serde(default = "default_max_in_flight")]
        max_in_flight: usize,
    },
    /// The server does not serve this client, and closes the connection.
    Refused {
        /// Why.
        error: String,
    },
}

fn default_max_body_len() -> usize {
    DEFAULT_MAX_BODY_LEN
}

fn default_max_in_flight() -> usize {
    DEFAULT_MAX_IN_FLIGHT
}

/// What a server grants to each connection. The [`ServerHello`] tells it to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The codecs that the server speaks.
    pub codecs: Vec<Codec>,
    /// The longest body that the server takes, in bytes.
    pub max_body_len: usize,
    /// How many calls of one connection may be in flight.
    pub max_in_flight: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            codecs: Codec::ALL.to_vec(),
            max_body_len: DEFAULT_MAX_BODY_LEN,
            max_in_flight: DEFAULT_MAX_IN_FLIGHT,
        }
    }
}

/// The client's side: sends `hello`, waits for the answer, and returns the codec that the server chose and
/// what it grants.
///
/// # Errors
/// [`Error::Handshake`] if the server refuses, or its answer is invalid; [`Error::Io`] if the stream fails.
///
/// # Cancel safety
/// Not cancellation-safe: after a dropped handshake the connection is of no use.
pub async fn offer<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    reader: &mut FrameReader<R>,
    writer: &mut FrameWriter<W>,
    hello: &ClientHello,
) -> Result<(Codec, Limits), Error> {
    writer.queue(Codec::Json.encode(hello)?.into())?;
    writer.flush().await?;
    let Some(frame) = reader.read(MAX_HANDSHAKE_LEN).await.map_err(not_this_protocol)? else {
        return Err(Error::Handshake("the server closed the connection without an answer".to_owned()));
    };
    match Codec::Json.decode(&frame).map_err(not_this_protocol)? {
        ServerHello::Refused { error } => Err(Error::Handshake(error)),
        ServerHello::Accepted { codec: name, max_body_len, max_in_flight } => {
            // Only what was offered: a server that picks something else breaks the rules.
            let codec = Codec::from_name(&name).filter(|_| hello.codecs.contains(&name));
            let not_offered =
                || Error::Handshake(format!("the server chose {name:?}, which was not offered"));
            let codec = codec.ok_or_else(not_offered)?;
            Ok((codec, Limits { codecs: vec![codec], max_body_len, max_in_flight }))
        }
    }
}

/// The server's side: waits for the client's hello, answers it, and returns it with the codec chosen. A client
/// that cannot be served is told why; closing the connection is up to the caller.
///
/// # Errors
/// [`Error::Handshake`] if the client cannot be served; [`Error::Io`] if the stream fails.
///
/// # Cancel safety
/// Not cancellation-safe: after a dropped handshake the connection is of no use.
pub async fn accept<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    reader: &mut FrameReader<R>,
    writer: &mut FrameWriter<W>,
    limits: &Limits,
) -> Result<(Codec, ClientHello), Error> {
    let chosen = read_hello(reader, limits).await;
    let answer = match &chosen {
        Ok((codec, _)) => ServerHello::Accepted {
            codec: codec.name().to_owned(),
            max_body_len: limits.max_body_len,
            max_in_flight: limits.max_in_flight,
        },
        Err(Error::Handshake(reason)) => ServerHello::Refused { error: truncate(reason.clone()) },
        Err(_) => return chosen,
    };
    writer.queue(Codec::Json.encode(&answer)?.into())?;
    let sent = writer.flush().await;
    // A refusal is the reason, whether or not the client was still there to read it.
    chosen.and_then(|chosen| sent.map(|()| chosen))
}

/// Queues the answer to a client that is not served, unless an answer is under way already.
pub(crate) fn refuse<W>(writer: &mut FrameWriter<W>, reason: &str) {
    if !writer.needs_flush() {
        let refused = ServerHello::Refused { error: truncate(reason.to_owned()) };
        // It is short, and always fits.
        Codec::Json.encode(&refused).and_then(|frame| writer.queue(frame.into())).ok();
    }
}

async fn read_hello<R: AsyncRead + Unpin>(
    reader: &mut FrameReader<R>,
    limits: &Limits,
) -> Result<(Codec, ClientHello), Error> {
    let Some(frame) = reader.read(MAX_HANDSHAKE_LEN).await.map_err(not_this_protocol)? else {
        return Err(Error::Handshake("the client closed the connection without a handshake".to_owned()));
    };
    let hello: ClientHello = Codec::Json.decode(&frame).map_err(not_this_protocol)?;
    if hello.magic_number != MAGIC_NUMBER {
        return Err(Error::Handshake(format!("magic number {} is not {MAGIC_NUMBER}", hello.magic_number)));
    }
    let mut known = hello.codecs.iter().filter_map(|name| Codec::from_name(name));
    let Some(codec) = known.find(|codec| limits.codecs.contains(codec)) else {
        let names: Vec<_> = limits.codecs.iter().map(|codec| codec.name()).collect();
        return Err(Error::Handshake(format!("no codec in common: this server speaks {}", names.join(", "))));
    };
    Ok((codec, hello))
}

/// A frame that is too long or not JSON: most likely a peer that speaks another protocol, such as HTTP or TLS.
fn not_this_protocol(error: Error) -> Error {
    match error {
        Error::FrameTooLarge { len, .. } => {
            // What was read as a length: "HTTP" or "GET " from HTTP, \x16\x03\x01 from TLS.
            let first = (len as u32).to_be_bytes();
            let first = first.escape_ascii();
            Error::Handshake(format!("expected a handshake of this protocol, got \"{first}\": {error}"))
        }
        Error::Io(_) => error,
        _ => Error::Handshake(format!("expected a handshake of this protocol: {error}")),
    }
}
