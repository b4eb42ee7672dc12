//! Endpoints: where a server is, and how to connect to it, in one word.
//!
//! ```text
//! tcp@127.0.0.1:9999     frames over TCP
//! http@127.0.0.1:9999    the same frames, after an HTTP CONNECT
//! unix@/run/arith.sock   the same frames over a Unix socket
//! ```
//!
//! Servers come in lists, and a registry sends such lists around. So an endpoint is checked when it is parsed: a
//! value of this type is a good one.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

/// The limit for the name of a host, in bytes, as in the domain name system.
pub const MAX_HOST_LEN: usize = 253;
/// The limit for the path of a Unix socket, in bytes, as on Linux.
pub const MAX_SOCKET_PATH_LEN: usize = 107;

/// Where a server can be reached.
///
/// One address is one endpoint, however it is spelt: letters of the protocol and of a host are lower case, numbers
/// have no leading zeros, an IPv6 address has its short form, and a path has no superfluous slashes.
///
/// ```
/// use day5_http::Endpoint;
///
/// let endpoint: Endpoint = "tcp@localhost:9999".parse()?;
/// assert_eq!(endpoint.to_string(), "tcp@localhost:9999");
/// assert_eq!(endpoint, "TCP@LocalHost:09999".parse()?);
/// # Ok::<(), day5_http::EndpointError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Endpoint {
    /// `tcp@host:port`: a plain TCP connection.
    Tcp(Address),
    /// `http@host:port`: a TCP connection that begins with an HTTP `CONNECT`.
    Http(Address),
    /// `unix@/path`: a Unix domain socket.
    Unix(SocketPath),
}

/// A checked `host:port`. The host is a name, an IPv4 address, or an IPv6 address in brackets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(String);

/// A checked absolute path. It is printable ASCII without comma, space, double quote and backslash.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketPath(PathBuf);

/// The text is not an endpoint. Its `Display` says what was given, what is wrong, and what is accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad endpoint {text:?}: {reason}; expected tcp@host:port, http@host:port or unix@/path")]
pub struct EndpointError {
    text: String,
    reason: &'static str,
}

impl Address {
    /// The text, `host:port`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is `0.0.0.0` or `[::]`: a good address to listen on, but none to connect to.
    pub fn is_unspecified(&self) -> bool {
        self.0.parse().is_ok_and(|addr: SocketAddr| addr.ip().to_canonical().is_unspecified())
    }

    pub(crate) fn parse(text: &str) -> Result<Address, &'static str> {
        let (host, port) =
            text.rsplit_once(':').filter(|_| !text.ends_with(']')).ok_or("the port is missing")?;
        let is_number = port.bytes().all(|b| b.is_ascii_digit());
        let port = port.parse::<u16>().ok().filter(|port| is_number && *port > 0);
        let port = port.ok_or("the port is not a number from 1 to 65535")?;
        let host = host.strip_suffix('.').unwrap_or(host); // the root of the domain name system
        let is_name_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if host.len() > MAX_HOST_LEN {
            return Err("the host is longer than 253 characters");
        } else if host.starts_with('[') {
            if !host.ends_with(']') {
                return Err("the bracket is not closed");
            }
            // With the port: this type knows the scope of a link-local address, as in `[fe80::1%2]:80`.
            let addr = format!("{host}:{port}").parse::<SocketAddrV6>();
            let addr = addr.map_err(|_| "not an IPv6 address in the brackets")?;
            return Ok(Address::from(SocketAddr::V6(addr)));
        } else if host.is_empty() {
            return Err("the host is missing");
        } else if host.split('.').any(str::is_empty) {
            return Err("the host has two dots in a row, or one in front");
        } else if host.contains(':') {
            return Err("an IPv6 address needs brackets");
        } else if ends_in_number(host) && host.parse::<Ipv4Addr>().is_err() {
            // The system would take "0" and "0x0" for 0.0.0.0, and "10.1" for 10.0.0.1.
            return Err("the host ends in a number, but it is not an IPv4 address");
        } else if !host.chars().all(is_name_part) {
            return Err("the host has characters that no host has");
        }
        Ok(Address(format!("{}:{port}", host.to_ascii_lowercase())))
    }
}

impl From<SocketAddr> for Address {
    fn from(addr: SocketAddr) -> Address {
        match addr.ip().to_canonical() {
            // Also one in the form of an IPv6 address.
            IpAddr::V4(ip) => Address(format!("{ip}:{}", addr.port())),
            IpAddr::V6(_) => Address(addr.to_string()),
        }
    }
}

/// Whether the last part of a host is a number, decimal or hexadecimal. No name in the domain name system is
/// like that.
fn ends_in_number(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or_default();
    match last.strip_prefix("0x").or_else(|| last.strip_prefix("0X")) {
        Some(hex) => hex.bytes().all(|b| b.is_ascii_hexdigit()),
        None => last.bytes().all(|b| b.is_ascii_digit()),
    }
}

impl SocketPath {
    /// The path.
    pub fn as_path(&self) -> &Path {
        &self.0
    }

    fn parse(text: &str) -> Result<SocketPath, &'static str> {
        if !text.starts_with('/') {
            return Err("the path is not absolute");
        }
        if text.len() > MAX_SOCKET_PATH_LEN {
            return Err("the path is longer than 107 bytes");
        }
        // Endpoints travel in HTTP headers, in lists with commas between them, and in JSON, which would double
        // quotes and backslashes: a list must not grow there.
        if !text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b',' | b'"' | b'\\')) {
            return Err("the path may be printable ASCII, but no comma, space, double quote or backslash");
        }
        // The components leave out "." and what stands between two slashes.
        let path: PathBuf = Path::new(text).components().collect();
        if path.components().any(|part| part == Component::ParentDir) {
            return Err("the path leads up, with \"..\"");
        }
        Ok(SocketPath(path))
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Endpoint, EndpointError> {
        let parsed = match text.split_once('@') {
            Some((protocol, place)) => match protocol.to_ascii_lowercase().as_str() {
                "tcp" => Address::parse(place).map(Endpoint::Tcp),
                "http" => Address::parse(place).map(Endpoint::Http),
                "unix" => SocketPath::parse(place).map(Endpoint::Unix),
                _ => Err("unknown protocol"),
            },
            None => Err("the protocol is missing"),
        };
        parsed.map_err(|reason| EndpointError { text: text.to_owned(), reason })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp(address) => write!(f, "tcp@{}", address.0),
            Endpoint::Http(address) => write!(f, "http@{}", address.0),
            Endpoint::Unix(path) => write!(f, "unix@{}", path.0.display()),
        }
    }
}

impl Endpoint {
    /// `tcp@…` for an address that a listener is bound to.
    pub fn tcp(addr: SocketAddr) -> Endpoint {
        Endpoint::Tcp(addr.into())
    }

    /// `http@…` for an address that a listener is bound to.
    pub fn http(addr: SocketAddr) -> Endpoint {
        Endpoint::Http(addr.into())
    }

    /// Whether this is an address to listen on, but none to connect to: `0.0.0.0` or `[::]`.
    pub fn is_unspecified(&self) -> bool {
        match self {
            Endpoint::Tcp(address) | Endpoint::Http(address) => address.is_unspecified(),
            Endpoint::Unix(_) => false,
        }
    }
}
