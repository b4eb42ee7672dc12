//! What a request to the registry says, or what is wrong with it.
//!
//! Any peer that reaches the port can send anything, and a page in a browser is such a peer. So each part of a request is
//! checked before it is used, and the answer to a bad one names what is accepted.

use std::fmt::Debug;
use std::net::IpAddr;
use std::num::NonZeroU16;

use hyper::header::{HOST, HeaderMap, ORIGIN};
use hyper::http::uri::Authority;
use hyper::{Request, StatusCode};

use crate::balance::discovery::Instance;
use crate::http::endpoint::Endpoint;
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
    let accepted = "an IP address, localhost, or a name that the registry was given";
    let host = header(request.headers(), HOST.as_str(), accepted, |host| host.map(str::to_owned))?;
    // RFC 9112, 3.2.2: if the first line names a host, that one counts.
    let host = request.uri().authority().map_or(&*host, Authority::as_str);
    if is_own(host, own_names) {
        return Ok(());
    }
    let refusal = format!("not a host of this registry: {host:?}; expected {accepted}\n");
    Err((StatusCode::MISDIRECTED_REQUEST, refusal))
}

fn is_own(host: &str, own_names: &[String]) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    let host = authority.host();
    let name = host.strip_suffix('.').unwrap_or(host); // the root of the domain name system
    host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || own_names.iter().any(|own| own.eq_ignore_ascii_case(name))
}

/// The name that a path asks for. It is empty if there is none.
pub(super) fn name(path: &str) -> Result<&str, Refusal> {
    if path == REGISTRY_PATH {
        return Ok("");
    }
    match path.strip_prefix(REGISTRY_PATH).and_then(|rest| rest.strip_prefix('/')) {
        Some(name) if is_name(name) => Ok(name),
        Some(name) => {
            let accepted =
                format!("1 to {MAX_NAME_LEN} ASCII letters, digits, -, _ and ., with no dot in front");
            Err(bad("name", name, &accepted))
        }
        None => {
            let accepted = format!("{REGISTRY_PATH} or {REGISTRY_PATH}/NAME");
            Err((StatusCode::NOT_FOUND, format!("nothing here: expected {accepted}\n")))
        }
    }
}

/// Whether this is the name of a service. A dot in front would be a step in a path for some clients.
fn is_name(text: &str) -> bool {
    let is_part = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=MAX_NAME_LEN).contains(&text.len()) && text.bytes().all(is_part) && !text.starts_with('.')
}

/// The one server that a request names, and the id of the instance that sends it.
pub(super) struct Registration {
    pub(super) server: Instance,
    /// `None`: that is `curl`, or an instance that is never replaced.
    pub(super) id: Option<String>,
}

/// Which server a `POST` or a `DELETE` is about.
pub(super) fn server(headers: &HeaderMap) -> Result<Registration, Refusal> {
    let accepted = format!("one endpoint that clients can connect to, of at most {MAX_SERVER_LEN} bytes");
    let endpoint = header(headers, SERVER_HEADER, &accepted, |text| {
        let text = text.filter(|text| text.len() <= MAX_SERVER_LEN)?;
        text.parse().ok().filter(|endpoint: &Endpoint| !endpoint.is_unspecified())
    })?;
    let weight = header(headers, WEIGHT_HEADER, "a whole number from 1 to 65535", |text| {
        let text = text.unwrap_or("1");
        let is_number = text.bytes().all(|b| b.is_ascii_digit()); // for Rust, "+1" is one, too
        text.parse::<NonZeroU16>().ok().filter(|_| is_number)
    })?;
    let accepted = format!("1 to {MAX_INSTANCE_ID_LEN} visible ASCII characters");
    let id = header(headers, INSTANCE_HEADER, &accepted, |text| {
        text.is_none_or(is_id).then(|| text.map(str::to_owned)) // it may be missing
    })?;
    Ok(Registration { server: Instance::new(endpoint).weight(weight.get().into()), id })
}

fn is_id(text: &str) -> bool {
    (1..=MAX_INSTANCE_ID_LEN).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// What `parse` makes of a header, which may be missing, but not be there twice.
fn header<T>(
    headers: &HeaderMap,
    name: &str,
    accepted: &str,
    parse: impl FnOnce(Option<&str>) -> Option<T>,
) -> Result<T, Refusal> {
    let values: Vec<_> = headers.get_all(name).iter().collect();
    let parsed = match values[..] {
        [] => parse(None),
        [value] => value.to_str().ok().and_then(|value| parse(Some(value))),
        _ => None,
    };
    parsed.ok_or_else(|| bad(name, values, accepted))
}

fn bad(what: &str, value: impl Debug, accepted: &str) -> Refusal {
    (StatusCode::BAD_REQUEST, format!("bad {what}: {value:?}; expected {accepted}\n"))
}
