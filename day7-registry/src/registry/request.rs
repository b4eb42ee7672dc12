//! What a request to the registry says, or what is wrong with it.
//!
//! Any peer that reaches the port can send anything, and a page in a browser is such a peer. So each part of a request is
//! checked before it is used, and the answer to a bad one names what is accepted.

use std::net::IpAddr;
use std::num::NonZeroU16;

use hyper::header::{HOST, HeaderMap, ORIGIN};
use hyper::http::uri::Authority;
use hyper::{Request, StatusCode};

use crate::http::endpoint::{Endpoint, EndpointError};
use crate::registry::{
    INSTANCE_HEADER, MAX_INSTANCE_ID_LEN, MAX_NAME_LEN, MAX_SERVER_LEN, REGISTRY_PATH, SERVER_HEADER,
    WEIGHT_HEADER,
};

/// A request that is refused: the status, and why.
pub(super) type Refusal = (StatusCode, String);

/// Refuses what a page in a browser may have sent.
///
/// A browser lets a page read the answers of the host that the page came from. That host may get this registry's
/// address after the page is there, so the address proves nothing. The `Host` does: it is still the page's.
pub(super) fn check_origin<B>(request: &Request<B>, own_names: &[String]) -> Result<(), Refusal> {
    if request.headers().contains_key(ORIGIN) {
        return Err((StatusCode::FORBIDDEN, "a request of a page, with an Origin, is refused\n".to_owned()));
    }
    let host = header(request.headers(), HOST.as_str())?;
    let host = host.ok_or_else(|| bad_header(HOST.as_str(), "it is missing", "exactly one"))?;
    // RFC 9112, 3.2.2: if the first line names a host, that one counts.
    let host = request.uri().authority().map_or(host, Authority::as_str);
    if is_own(host, own_names) {
        return Ok(());
    }
    let accepted = "an IP address, localhost, or a name that the registry was given";
    Err((
        StatusCode::MISDIRECTED_REQUEST,
        format!("not a host of this registry: {host:?}; expected {accepted}\n"),
    ))
}

fn is_own(host: &str, own_names: &[String]) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    let host = authority.host();
    let name = host.strip_suffix('.').unwrap_or(host); // the root of the domain name system
    let mut own_names = own_names.iter().map(String::as_str).chain(["localhost"]);
    host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
        || own_names.any(|own| own.eq_ignore_ascii_case(name))
}

/// The name that a path asks for. It is empty if there is none.
pub(super) fn name(path: &str) -> Result<&str, Refusal> {
    if path == REGISTRY_PATH {
        return Ok("");
    }
    let name = path.strip_prefix(REGISTRY_PATH).and_then(|rest| rest.strip_prefix('/'));
    let name = name.ok_or_else(|| {
        let accepted = format!("nothing here: expected {REGISTRY_PATH} or {REGISTRY_PATH}/NAME\n");
        (StatusCode::NOT_FOUND, accepted)
    })?;
    if is_name(name) {
        return Ok(name);
    }
    let accepted = format!("1 to {MAX_NAME_LEN} ASCII letters, digits, -, _ and ., with no dot in front");
    Err((StatusCode::BAD_REQUEST, format!("bad name {name:?}: expected {accepted}\n")))
}

/// Whether this is the name of a service. A dot in front would be a step in a path for some clients.
fn is_name(text: &str) -> bool {
    let is_part = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=MAX_NAME_LEN).contains(&text.len()) && text.bytes().all(is_part) && !text.starts_with('.')
}

/// The one server that a request names.
pub(super) fn server(headers: &HeaderMap) -> Result<Endpoint, Refusal> {
    let bad = |reason: &str| {
        bad_header(SERVER_HEADER, reason, "one endpoint, such as X-Rrpc-Server: tcp@10.0.0.7:9999")
    };
    let value = header(headers, SERVER_HEADER)?.ok_or_else(|| bad("it is missing"))?;
    if value.len() > MAX_SERVER_LEN {
        return Err(bad(&format!("it is longer than {MAX_SERVER_LEN} bytes")));
    }
    if value.contains(',') {
        return Err(bad(&format!("{value:?} has a comma, but a server registers itself alone")));
    }
    let endpoint: Endpoint = value.parse().map_err(|error: EndpointError| bad(&error.to_string()))?;
    if endpoint.is_unspecified() {
        return Err(bad(&format!(
            "no client can connect to {endpoint}: register an address that clients reach"
        )));
    }
    Ok(endpoint)
}

pub(super) fn weight(headers: &HeaderMap) -> Result<u32, Refusal> {
    let Some(value) = header(headers, WEIGHT_HEADER)? else {
        return Ok(1);
    };
    let is_number = value.bytes().all(|b| b.is_ascii_digit());
    let weight = value.parse::<NonZeroU16>().ok().filter(|_| is_number);
    let bad = || bad_header(WEIGHT_HEADER, &format!("{value:?}"), "a whole number from 1 to 65535");
    weight.map(|weight| weight.get().into()).ok_or_else(bad)
}

/// The id of the instance that sends a request. Without one, it is `curl`, or an instance that is never replaced.
pub(super) fn instance_id(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let Some(value) = header(headers, INSTANCE_HEADER)? else {
        return Ok(None);
    };
    let is_id =
        (1..=MAX_INSTANCE_ID_LEN).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_graphic());
    if is_id {
        return Ok(Some(value.to_owned()));
    }
    let accepted = format!("1 to {MAX_INSTANCE_ID_LEN} visible ASCII characters");
    Err(bad_header(INSTANCE_HEADER, &format!("{value:?}"), &accepted))
}

/// The value of a header that may be there once.
fn header<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value
            .to_str()
            .map(Some)
            .map_err(|_| bad_header(name, "it is no plain text", "visible ASCII characters")),
        (Some(_), Some(_)) => Err(bad_header(name, "it is there more than once", "it once")),
    }
}

fn bad_header(name: &str, reason: &str, accepted: &str) -> Refusal {
    (StatusCode::BAD_REQUEST, format!("bad header {name}: {reason}; expected {accepted}\n"))
}
