//! Codecs: how one value becomes bytes, and bytes become the value again.
//!
//! ```text
//! bytes → frame → message → request → handler
//!                    ▲          ▲
//!                    └─ codec ──┘   decodes headers and bodies, each from the bytes of exactly one frame
//! ```
//!
//! The seeds keep a map from a codec's name to a constructor. A Rust `enum` says the same thing, and the
//! compiler checks that every codec in the list really exists.

use std::fmt;
use std::io::Write;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;

/// How values are written on the wire. Both sides agree on one in the [handshake](crate::wire::handshake).
///
/// Bincode is compact and fast, but the bytes do not describe themselves: both sides must have the same
/// types. Serde's `flatten`, `untagged`, `tag` and `skip_serializing_if` attributes, and `serde_json::Value`,
/// need a format that does, so they work with JSON only.
///
/// # What a hostile peer can do
/// An argument must not be a recursive type: a few kilobytes nest deep enough to overflow the stack, in bincode
/// (serde_json stops at 128 levels). It must not be a list of zero-sized values such as `Vec<()>` either: a few
/// bytes keep bincode busy for a long time. And a value may take many times the memory of its bytes, up to
/// some 24 times for a list of empty texts or lists.
///
/// # Numbers in JSON
/// A float that is not finite (`NaN`, infinity) becomes `null`, as in serde_json and JavaScript, without an
/// error. So do `None`, `Some(None)` and `Some(())`, which all arrive as `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// [`bincode`] 2, standard configuration: little-endian, integers of variable length.
    Bincode,
    /// JSON, as [`serde_json`] writes it: readable in a hex dump, and spoken by every language.
    Json,
}

/// How many bytes one bincode value may take up on the wire.
///
/// A length inside a body is only the peer's word. Without this limit a body of nine bytes could make bincode
/// ask for terabytes. It counts the bytes of the wire, not of memory.
pub const BINCODE_DECODE_LIMIT: usize = 64 * 1024 * 1024;

fn bincode_config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<BINCODE_DECODE_LIMIT>()
}

impl Codec {
    /// Every codec there is, best first: what both sides offer unless told otherwise.
    pub const ALL: [Codec; 2] = [Codec::Bincode, Codec::Json];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Codec::Bincode => "application/bincode",
            Codec::Json => "application/json",
        }
    }

    /// The codec with this name on the wire, if there is one.
    pub fn from_name(name: &str) -> Option<Codec> {
        Codec::ALL.into_iter().find(|codec| codec.name() == name)
    }

    /// Encodes one value.
    ///
    /// # Errors
    /// [`Error::Encode`] if the value cannot be written in this codec.
    pub fn encode<T: Serialize + ?Sized>(self, value: &T) -> Result<Vec<u8>, Error> {
        // Most arguments and replies are small: one allocation instead of the three or four of a Vec
        // that grows from nothing.
        let mut bytes = Vec::with_capacity(64);
        self.encode_into(value, &mut bytes)?;
        Ok(bytes)
    }

    /// Encodes one value to the end of `out`. After an error, `out` may hold a part of the value.
    ///
    /// # Errors
    /// [`Error::Encode`] if the value cannot be written in this codec.
    pub fn encode_into<T: Serialize + ?Sized>(self, value: &T, out: &mut impl Write) -> Result<(), Error> {
        match self {
            Codec::Bincode => bincode::serde::encode_into_std_write(value, out, bincode_config())
                .map(drop)
                .map_err(Into::into),
            Codec::Json => serde_json::to_writer(out, value).map_err(Into::into),
        }
        .map_err(|source| Error::Encode { codec: self.name(), source })
    }

    /// Decodes one value, which must take up all of `bytes`.
    ///
    /// # Errors
    /// [`Error::Decode`] if the bytes are not one value of type `T`, or if bytes are left over after it.
    pub fn decode<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T, Error> {
        match self {
            Codec::Bincode => match bincode::serde::decode_from_slice(bytes, bincode_config()) {
                Ok((value, used)) if used == bytes.len() => Ok(value),
                // bincode stops at the end of the value and says nothing about the rest. For us a rest means that
                // the two sides do not agree on the type.
                Ok((_, used)) => {
                    Err(format!("{} bytes are left over after the value", bytes.len() - used).into())
                }
                Err(error) => Err(error.into()),
            },
            Codec::Json => serde_json::from_slice(bytes).map_err(Into::into),
        }
        .map_err(|source| Error::Decode { codec: self.name(), source })
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
