//! The handshake: who are you, and which codec do we speak?
//!
//! ```text
//! client → server   {"magic_number":3927900,"codecs":["application/bincode","application/json"]}
//! server → client   {"codec":"application/bincode"}      or  {"error":"…"}, and the server closes
//! ```
//!
//! One frame each way, always JSON, before the first message. The client's list is in order of preference
//! and the server takes the first that it speaks too. Fields and codec names that a side does not know are
//! ignored, so that old and new peers can talk.
//!
//! The answer matters. In GeeRPC, which has none, dialing a server that refuses the codec "succeeds", and
//! the first call fails for a reason that nobody can see.

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::error::{Error, in_short};
use crate::wire::codec::{Codec, UnknownCodec};
use crate::wire::frame::{FrameReader, FrameWriter};

/// The number that every connection starts with: whoever sends another one does not speak this protocol.
pub const MAGIC_NUMBER: u32 = 0x3bef5c;

/// The limit for each of the two handshake frames, in bytes.
pub const MAX_HANDSHAKE_LEN: usize = 4 * 1024;

/// What a client asks for when it connects. It is sent as it is, as JSON.
///
/// ```
/// # use day2_client::{Codec, Options};
/// let any = Options::default();
/// let readable = Options::default().codecs([Codec::Json]);
/// assert_eq!(serde_json::to_string(&readable)?, r#"{"magic_number":3927900,"codecs":["application/json"]}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    magic_number: u32,
    codecs: Vec<String>,
}

impl Default for Options {
    /// Offers [every codec](Codec::ALL), best first.
    fn default() -> Self {
        Options { magic_number: MAGIC_NUMBER, codecs: Vec::new() }.codecs(Codec::ALL)
    }
}

impl Options {
    /// Offers these codecs, best first.
    pub fn codecs(mut self, codecs: impl IntoIterator<Item = Codec>) -> Self {
        self.codecs = codecs.into_iter().map(|codec| codec.name().to_owned()).collect();
        self
    }
}

/// The server's answer: exactly one of the two.
#[derive(Default, Serialize, Deserialize)]
struct Accepted {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    codec: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// The client's side: sends `options`, waits for the answer and returns the codec that the server chose.
///
/// # Errors
/// [`Error::Handshake`] if the server refuses, or its answer makes no sense; [`Error::Io`] if the stream
/// fails.
///
/// # Cancel safety
/// Not cancellation-safe: after a dropped handshake the connection is of no use.
pub async fn offer<R, W>(
    reader: &mut FrameReader<R>,
    writer: &mut FrameWriter<W>,
    options: &Options,
) -> Result<Codec, Error>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    send(writer, options).await?;
    let Some(frame) = reader.read().await.map_err(not_ours)? else {
        return Err(Error::Handshake("the server closed the connection without an answer".to_owned()));
    };
    let accepted: Accepted = Codec::Json.decode(&frame).map_err(not_ours)?;
    if let Some(error) = accepted.error {
        return Err(Error::Handshake(error));
    }
    let name = accepted.codec.unwrap_or_default();
    // Only what was offered: a server that picks something else does not play by the rules.
    if !options.codecs.contains(&name) {
        let offered = options.codecs.join(", ");
        return Err(Error::Handshake(format!(
            "the server chose {name:?}, which was not offered ({offered})"
        )));
    }
    name.parse().map_err(|unknown: UnknownCodec| Error::Handshake(unknown.to_string()))
}

/// The server's side: waits for the client's options, answers, and returns them with the codec chosen from
/// `supported`. Whoever does not make sense is told why; closing the connection is up to the caller.
///
/// # Errors
/// [`Error::Handshake`] if the client cannot be served; [`Error::Io`] if the stream fails.
///
/// # Cancel safety
/// Not cancellation-safe: after a dropped handshake the connection is of no use.
pub async fn accept<R, W>(
    reader: &mut FrameReader<R>,
    writer: &mut FrameWriter<W>,
    supported: &[Codec],
) -> Result<(Codec, Options), Error>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    match read_options(reader, supported).await {
        Ok((codec, options)) => {
            send(writer, &Accepted { codec: Some(codec.name().to_owned()), error: None }).await?;
            Ok((codec, options))
        }
        Err(Error::Handshake(reason)) => {
            // Whether or not it was still there to be told, this is why it is refused.
            refuse(writer, &reason).await.ok();
            Err(Error::Handshake(reason))
        }
        Err(error) => Err(error),
    }
}

/// Answers `{"error":"…"}`.
async fn refuse<W: AsyncWrite + Unpin>(writer: &mut FrameWriter<W>, reason: &str) -> Result<(), Error> {
    send(writer, &Accepted { codec: None, error: Some(in_short(reason)) }).await
}

async fn read_options<R: AsyncRead + Unpin>(
    reader: &mut FrameReader<R>,
    supported: &[Codec],
) -> Result<(Codec, Options), Error> {
    let Some(frame) = reader.read().await.map_err(not_ours)? else {
        return Err(Error::Handshake("the client closed the connection without a handshake".to_owned()));
    };
    let options: Options = Codec::Json.decode(&frame).map_err(not_ours)?;
    if options.magic_number != MAGIC_NUMBER {
        let got = options.magic_number;
        return Err(Error::Handshake(format!("magic number {got} is not {MAGIC_NUMBER}")));
    }
    let known = options.codecs.iter().filter_map(|name| Codec::from_name(name));
    let Some(codec) = known.into_iter().find(|codec| supported.contains(codec)) else {
        let names: Vec<_> = supported.iter().map(|codec| codec.name()).collect();
        return Err(Error::Handshake(format!("no codec in common: this server speaks {}", names.join(", "))));
    };
    Ok((codec, options))
}

async fn send<W: AsyncWrite + Unpin>(
    writer: &mut FrameWriter<W>,
    value: &impl Serialize,
) -> Result<(), Error> {
    writer.queue_with(|out| Codec::Json.encode_into(value, out))?;
    writer.flush().await
}

/// A frame that is too long or no JSON: most likely a peer that speaks another protocol, such as HTTP or TLS.
fn not_ours(error: Error) -> Error {
    match error {
        Error::FrameTooLarge { .. } | Error::Decode { .. } => {
            Error::Handshake(format!("expected a handshake of this protocol: {error}"))
        }
        other => other,
    }
}
