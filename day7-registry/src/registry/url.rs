//! Where a registry is, in one word: a checked URL.

use std::fmt;
use std::str::FromStr;

use hyper::Uri;
use hyper::http::uri::Scheme;

use crate::http::endpoint::Address;
use crate::registry::REGISTRY_PATH;

/// Where a registry is: `http://host[:port][/path]`.
///
/// Without a port it is 80; without a path it is [`REGISTRY_PATH`]. The servers of one service are at
/// `http://host:port/_rrpc_/registry/NAME`.
///
/// ```
/// use day7_registry::RegistryUrl;
///
/// let url: RegistryUrl = "http://localhost:9999".parse()?;
/// assert_eq!(url.to_string(), "http://localhost:9999/_rrpc_/registry");
/// # Ok::<(), day7_registry::RegistryUrlError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RegistryUrl {
    pub(super) address: Address,
    pub(super) path: String,
}

/// The text is no URL of a registry. Its `Display` shows what was given, what is wrong, and what is accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad registry URL {text:?}: {reason}; expected http://host:port or http://host:port/path")]
pub struct RegistryUrlError {
    text: String,
    reason: &'static str,
}

impl FromStr for RegistryUrl {
    type Err = RegistryUrlError;

    fn from_str(text: &str) -> Result<RegistryUrl, RegistryUrlError> {
        parse_url(text).map_err(|reason| RegistryUrlError { text: text.to_owned(), reason })
    }
}

fn parse_url(text: &str) -> Result<RegistryUrl, &'static str> {
    let uri: Uri = text.parse().map_err(|_| "it is no URL")?;
    if uri.scheme() != Some(&Scheme::HTTP) {
        return Err("the scheme is not http");
    }
    if text.contains(['?', '#']) {
        return Err("a query or a fragment has no meaning here");
    }
    let authority = uri.authority().ok_or("the host is missing")?.as_str();
    // The colons of an IPv6 address are inside of its brackets.
    let has_port = authority.rsplit(']').next().is_some_and(|after| after.contains(':'));
    let port = if has_port { "" } else { ":80" };
    let address = Address::parse(&format!("{authority}{port}"))?;
    let path = if uri.path() == "/" { REGISTRY_PATH } else { uri.path() };
    Ok(RegistryUrl { address, path: path.to_owned() })
}

impl fmt::Display for RegistryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.address.as_str(), self.path)
    }
}
