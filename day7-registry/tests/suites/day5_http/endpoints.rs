//! Endpoints: checked, printed, dialed.
//!
//! Write `Endpoint`, `Address`, `SocketPath` and `Client::dial` in `src/http/endpoint.rs`, and the listener
//! for Unix sockets in `src/server/mod.rs`.
//!
//! Chapter: The wire > Endpoints; Files of today > src/http/endpoint.rs

use super::*;

/// An endpoint is one word, and parses to what it prints.
///
/// It travels as text: in a command line, a configuration, a registry. What changes on the way there and back
/// is two servers to a client that keeps one connection for each.
///
/// Hint: `FromStr` and `Display`, each the other's inverse.
#[test]
fn good_endpoints_parse_and_print_the_same() {
    let longest_host = format!("tcp@{}:1", "h".repeat(253));
    let longest_path = format!("unix@/{}", "p".repeat(106));
    for text in [
        "tcp@127.0.0.1:9999",
        "tcp@localhost:1",
        "tcp@a-host_1.example.com:65535",
        "http@[::1]:80",
        "http@[2001:db8::8:800:200c:417a]:443",
        "tcp@[fe80::1%2]:80",
        "tcp@0.0.0.0:80",
        "tcp@0x0.example.com:80",
        "tcp@7.example.:80",
        "tcp@0xcafe-1:80",
        "unix@/run/arith.sock",
        "unix@/tmp/a@b:c/d",
        &longest_host,
        &longest_path,
    ] {
        let endpoint: Endpoint = text.parse().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(endpoint.to_string(), text);
        assert_eq!(endpoint.to_string().parse(), Ok(endpoint.clone()));
        let right = match &endpoint {
            Endpoint::Tcp(address) => text.strip_prefix("tcp@") == Some(address.as_str()),
            Endpoint::Http(address) => text.strip_prefix("http@") == Some(address.as_str()),
            Endpoint::Unix(path) => text.strip_prefix("unix@") == path.as_path().to_str(),
            other => panic!("{other:?} is of a kind that no text here asks for"),
        };
        assert!(right, "{endpoint:?}");
    }
    for addr in ["127.0.0.1:80", "[::1]:80", "[fe80::1%7]:80"].map(|addr| addr.parse::<SocketAddr>().unwrap())
    {
        for endpoint in [Endpoint::tcp(addr), Endpoint::http(addr)] {
            assert_eq!(endpoint.to_string().parse(), Ok(endpoint.clone()), "{addr}");
        }
    }
}

/// A bad endpoint is refused where it is written, and the error says what was given, what is wrong with it,
/// and what would be right. A comma is bad everywhere: on day 7 endpoints travel in lists. So is a host that
/// the system takes for an IPv4 address and we do not, such as `0x0`: it would pass as a name, and lead to
/// 0.0.0.0.
///
/// Hint: `u16::from_str` takes `+1`. Split at the last colon. No name ends in a number, be it `10` or `0xa`.
#[test]
fn bad_endpoints_say_what_is_wrong_and_what_is_accepted() {
    let long_host = format!("tcp@{}:1", "h".repeat(254));
    let long_path = format!("unix@/{}", "p".repeat(107));
    for (text, wrong) in [
        ("", "protocol is missing"),
        ("127.0.0.1:80", "protocol is missing"),
        ("tcp", "protocol is missing"),
        ("@127.0.0.1:80", "unknown protocol"),
        ("TCP@127.0.0.1:80", "unknown protocol"),
        (" tcp@127.0.0.1:80", "unknown protocol"),
        ("https@127.0.0.1:80", "unknown protocol"),
        ("http://127.0.0.1:80", "protocol is missing"),
        ("tcp@", "port is missing"),
        ("tcp@localhost", "port is missing"),
        ("tcp@[::1]", "port is missing"),
        ("tcp@localhost:", "port"),
        ("tcp@localhost:0", "1 to 65535"),
        ("tcp@localhost:65536", "1 to 65535"),
        ("tcp@localhost:+1", "1 to 65535"),
        ("tcp@localhost:-1", "1 to 65535"),
        ("tcp@localhost:80 ", "1 to 65535"),
        ("tcp@localhost:http", "1 to 65535"),
        ("tcp@:80", "host is missing"),
        ("tcp@::1:80", "brackets"),
        ("tcp@a:b:80", "brackets"),
        ("tcp@[::1:80", "bracket is not closed"),
        ("tcp@[localhost]:80", "IPv6"),
        ("tcp@[]:80", "IPv6"),
        ("tcp@a,tcp@b:80", "characters"),
        ("tcp@a b:80", "characters"),
        ("tcp@user@host:80", "characters"),
        ("tcp@host/path:80", "characters"),
        ("tcp@h\u{f6}st:80", "characters"),
        ("tcp@a\r\nX-Evil: 1:80", "brackets"),
        ("tcp@a\r\nb:80", "characters"),
        (&long_host, "253"),
        ("unix@", "not absolute"),
        ("unix@run/arith.sock", "not absolute"),
        ("unix@/a,b", "comma"),
        ("unix@/a b", "space"),
        ("unix@/a\"b", "quote"),
        ("unix@/a\\b", "backslash"),
        ("unix@/a\0b", "ASCII"),
        ("unix@/\u{e4}", "ASCII"),
        // The system would connect to 0.0.0.0, to 10.0.0.1, to nowhere; and then to the first and to 127.0.0.1
        // in other spellings.
        ("tcp@0:80", "no IPv4 address"),
        ("tcp@10.1:80", "no IPv4 address"),
        ("tcp@256.0.0.1:80", "no IPv4 address"),
        ("tcp@0x0:80", "no IPv4 address"),
        ("http@0X7F000001:80", "no IPv4 address"),
        ("tcp@0x7f.1:80", "no IPv4 address"),
        ("tcp@127.0.0x1:80", "no IPv4 address"),
        ("tcp@0177.0.0.1:80", "no IPv4 address"),
        (&long_path, "107"),
    ] {
        let error =
            text.parse::<Endpoint>().map(|endpoint| panic!("{endpoint:?} is no endpoint")).unwrap_err();
        let message = error.to_string();
        assert!(message.contains(wrong), "{wrong:?} is not in {message:?}");
        assert!(message.contains(&format!("{text:?}")), "what was given is not in {message:?}");
        for accepted in ["tcp@host:port", "http@host:port", "unix@/path"] {
            assert!(message.contains(accepted), "{accepted:?} is not in {message:?}");
        }
    }
}

proptest! {
    // Without a file of cases that have failed: the course's tree stays as it is.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Any well-formed endpoint survives the way to text and back.
    ///
    /// The examples above are those that we have thought of. Chance thinks of others.
    ///
    /// Hint: keep the text that was checked.
    #[test]
    fn well_formed_endpoints_round_trip(
        text in "(tcp|http)@([0-9]?[a-z][a-zA-Z0-9_.-]{0,60}[g-wyz]|[12]?[0-9](\\.(1[0-9]{2}|[1-9]?[0-9])){3}|\\[[0-9a-f]{1,4}::[0-9a-f]{1,4}\\]):[1-9][0-9]{0,3}|unix@/[!#-+\\--\\[\\]-~]{0,60}"
    ) {
        let endpoint: Endpoint = text.parse().unwrap();
        prop_assert_eq!(endpoint.to_string(), text);
        prop_assert_eq!(endpoint.to_string().parse(), Ok(endpoint));
    }

    /// Whatever text comes in: never a panic, and what is accepted is fit for a list, for an HTTP header, and
    /// for JSON as it is.
    ///
    /// On day 7 endpoints come from strangers, and stand between commas in a header line. One that has a
    /// comma or a line break in it would be read as two, or as another header. They also stand in JSON, which
    /// writes `"` and `\` as two bytes each: the limit for a list counts on it that an endpoint does not grow.
    ///
    /// Hint: say which characters are good, not which are bad.
    #[test]
    fn whatever_parses_is_fit_for_a_list(
        text in "((tcp|http|unix)@)?[\\PC\\s]{0,40}(:[0-9]{1,6})?|unix@/[ -~]{0,10}"
    ) {
        if let Ok(endpoint) = text.parse::<Endpoint>() {
            prop_assert_eq!(endpoint.to_string(), text.clone());
            prop_assert!(text.bytes().all(|b| b.is_ascii_graphic() && b != b','), "{}", text);
            prop_assert_eq!(json!(text).to_string(), format!("\"{text}\""));
        }
    }
}

/// `0.0.0.0` and `[::]` mean "all my addresses" to a listener, and nothing to a client. Day 7 refuses to tell
/// others of them, so an endpoint can be asked.
///
/// Hint: `IpAddr::is_unspecified`, after `to_canonical`: `[::ffff:0.0.0.0]` is one as well.
#[test]
fn unspecified_addresses_are_recognised() {
    for (text, unspecified) in [
        ("tcp@0.0.0.0:80", true),
        ("http@[::]:80", true),
        ("tcp@[0:0:0:0:0:0:0:0]:80", true),
        ("http@[::ffff:0.0.0.0]:80", true),
        ("tcp@127.0.0.1:80", false),
        ("http@[::1]:80", false),
        ("tcp@localhost:80", false),
        ("tcp@0.0.0.0.example.com:80", false),
        ("unix@/0.0.0.0:80", false),
    ] {
        assert_eq!(text.parse::<Endpoint>().unwrap().is_unspecified(), unspecified, "{text}");
    }
}

/// Endpoints can be compared, hashed and sorted.
///
/// They are keys: tomorrow there is one connection for each of them, and lists that are sorted.
///
/// Hint: derive it all.
#[test]
fn endpoints_can_be_compared_hashed_and_sorted() {
    let parse = |text: &str| text.parse::<Endpoint>().unwrap();
    let all = ["tcp@a:1", "tcp@a:2", "tcp@b:1", "http@a:1", "unix@/a"].map(parse);
    assert_eq!(all.iter().cloned().collect::<HashSet<_>>().len(), all.len());
    let sorted = all.iter().rev().chain(&all).cloned().collect::<BTreeSet<_>>();
    assert_eq!(sorted.into_iter().collect::<Vec<_>>(), all);
    assert!(all.contains(&parse("tcp@b:1")) && !all.contains(&parse("http@b:1")));
}

/// The endpoint alone says how to knock: one `dial` for TCP and HTTP.
///
/// A list of servers may have both, and whoever calls them should not have to know. One that also tries the
/// other door hides a wrong configuration, and takes twice the time to fail.
///
/// Hint: a `match`, and the two ways that are there already.
#[test]
fn dial_goes_to_the_door_that_the_endpoint_names() {
    run(async || {
        let server = Server::new(arith());
        let (tcp, http) = (start(server.clone()).await, open(server).await);
        let by_name = |protocol: &str, addr: SocketAddr| format!("{protocol}@localhost:{}", addr.port());
        for endpoint in [
            Endpoint::tcp(tcp.addr),
            Endpoint::http(http.addr),
            by_name("tcp", tcp.addr).parse().unwrap(),
            by_name("http", http.addr).parse().unwrap(),
        ] {
            assert_serves(&dial(&endpoint).await.unwrap()).await;
        }
        // The wrong one of the two is an error: it does not try the other.
        for wrong in [Endpoint::tcp(http.addr), Endpoint::http(tcp.addr)] {
            let error = dial(&wrong).await.unwrap_err();
            assert!(matches!(error, Error::Handshake(_)), "{wrong}: {error:?}");
        }
    });
}

/// A directory that is removed at the end, also if the test fails.
#[cfg(unix)]
struct TempDir(std::path::PathBuf);

#[cfg(unix)]
impl TempDir {
    fn new() -> TempDir {
        let nanos = std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
        let dir = std::env::temp_dir().join(format!("rrpc-day5-{}-{nanos}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        TempDir(dir)
    }
}

#[cfg(unix)]
impl Drop for TempDir {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// A Unix socket is one more listener and one more stream, and it can have either door. Connecting to it has
/// the same limit and the same errors.
///
/// Hint: `impl Listener for UnixListener`; nothing else knows about it.
#[cfg(unix)]
#[test]
fn unix_sockets_work_through_the_same_dial() {
    run(async || {
        let dir = TempDir::new();
        let path = dir.0.join("arith.sock");
        let endpoint: Endpoint = format!("unix@{}", path.display()).parse().unwrap();
        let options = Options::default().connect_timeout(Duration::from_millis(50));
        let error = within("an error", Client::dial(&endpoint, &options)).await.unwrap_err();
        assert!(matches!(error, Error::Io(_)), "nobody listens yet: {error:?}");

        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let error = within("a limit", Client::dial(&endpoint, &options)).await.unwrap_err();
        assert!(matches!(error, Error::Timeout { .. }), "nobody answers yet: {error:?}");

        let server = Server::new(arith());
        let serving = tokio::spawn(async move { server.serve(listener).await });
        assert_serves(&dial(&endpoint).await.unwrap()).await;
        serving.abort();

        let listener = tokio::net::UnixListener::bind(dir.0.join("http.sock")).unwrap();
        let server = Server::new(arith());
        let serving = tokio::spawn(async move { server.serve_http(listener).await });
        let io = tokio::net::UnixStream::connect(dir.0.join("http.sock")).await.unwrap();
        let mut peer = Peer { io };
        peer.send(CONNECT).await;
        assert!(read_head(&mut peer.io).await.starts_with("HTTP/1.1 200 "));
        peer.shake_hands_json().await;
        serving.abort();
    });
}
