//! The server's half of HTTP: `CONNECT`, and then the wire of day 1.
//!
//! In `src/http/door.rs`: `serve_http_with_shutdown`, `serve` and `run_http`; then `respond`, with `answer`,
//! `not_allowed` and `bad_request`. `debug_page` is needed as well; what is on the page is asked for later.
//!
//! Works then: one port speaks HTTP, and after a `CONNECT` the wire of day 1.
//!
//! Chapter: The wire; From HTTP to frames

use super::*;

/// The bytes, written down by hand: a `CONNECT`, a 200 without a body, and from there on frames on the same
/// stream. A 200 with a `Content-Length` would make other clients wait for a body or cut the stream there.
///
/// Hint: hyper leaves the length out by itself, if the answer to the `CONNECT` has an empty body. When hyper is
/// done, `hyper::upgrade::on` gives the stream back: hand it to what serves every other connection.
#[test]
fn after_connect_and_a_200_the_stream_is_the_wire_of_day_1() {
    run(async || {
        let server = start_http(Server::new(arith())).await;
        let mut peer = Peer::connect(server.addr).await;
        peer.send(b"CONNECT /_rrpc_ HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let head = read_head(&mut peer.io).await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert_eq!(header(&head, "content-length"), None, "{head}");
        assert_eq!(header(&head, "transfer-encoding"), None, "{head}");

        peer.handshake_json().await;
        peer.send(&call("Arith.sum", 7, json!({"num1": 2, "num2": 3}))).await;
        let reply = peer.read_message().await;
        assert_eq!((reply.seq(), reply.value()), (7, json!(5)));
    });
}

/// A client that is in a hurry sends the `CONNECT`, the handshake and a first request in one write. In the Go
/// ancestor the HTTP server's buffer has them then, and the RPC server never sees them. The request is longer
/// than any buffer, so it is cut somewhere: some bytes are in the buffer and some are not.
///
/// Hint: hyper's `Upgraded` reads from the buffer first. If you take it apart, keep `read_buf`.
#[test]
fn bytes_that_arrive_together_with_the_connect_are_not_lost() {
    run(async || {
        let echo = async |request: Request| Ok(request.reply(&request.decode::<String>()?.len())?);
        let server = start_http(Server::new(echo)).await;
        for len in [3, 100_000] {
            let mut peer = Peer::connect(server.addr).await;
            let request = call("Echo.len", 1, json!("x".repeat(len)));
            peer.send(&[CONNECT, &client_hello(&["application/json"]), &request].concat()).await;
            assert_eq!(status(&read_head(&mut peer.io).await), 200);
            assert_eq!(peer.read_json().await["codec"], "application/json");
            assert_eq!(peer.read_message().await.value(), len);
        }
    });
}

/// `CONNECT host:port` is what standard tools send, and what a proxy would dial. This server takes it for
/// itself and dials nowhere: else it would be an open proxy, a way into the network behind it.
///
/// Hint: in this form a request has no path. There is nothing else to look at.
#[test]
fn connect_in_authority_form_is_answered_here_and_nothing_is_dialed() {
    run(async || {
        let server = start_http(Server::new(arith())).await;
        let forbidden = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = forbidden.local_addr().unwrap();
        for authority in [target.to_string(), "example.com:443".to_owned()] {
            let mut peer = Peer::connect(server.addr).await;
            let (head, _) = ask(&mut peer, &format!("CONNECT {authority}")).await;
            assert_eq!(status(&head), 200, "for {authority}");
            peer.handshake_json().await;
            peer.expect_service().await;
        }
        // Connections queue in order, so if ours is the first in the queue, there was no other.
        let ours = Peer::connect(target).await;
        let (_, first) = within("our own connection", forbidden.accept()).await.unwrap();
        assert_eq!(first, ours.io.local_addr().unwrap(), "the server has dialed {target}");
    });
}

/// Two more ways to write it: the whole URL, as a client behind a proxy does, and HTTP/1.0, as Go's own RPC
/// client does. In HTTP/1.0 a `Host` may be missing.
///
/// Hint: look at the path of the URL; hyper has taken it apart.
#[test]
fn connect_in_absolute_form_and_in_http_1_0_works_as_well() {
    run(async || {
        let server = start_http(Server::new(arith())).await;
        for request in [
            "CONNECT http://example.com/_rrpc_ HTTP/1.1\r\nHost: example.com\r\n\r\n",
            "CONNECT /_rrpc_ HTTP/1.0\r\n\r\n",
        ] {
            let mut peer = Peer::connect(server.addr).await;
            peer.send(request.as_bytes()).await;
            assert_eq!(status(&read_head(&mut peer.io).await), 200, "for {request:?}");
            peer.handshake_json().await;
            peer.expect_service().await;
        }
    });
}

/// What is not the RPC path or the page is 404; a known path with another method is 405, and `Allow` says
/// which methods it takes. None of it costs the connection: HTTP keeps it for the next request.
///
/// Hint: match on method and path together, the good pairs first.
#[test]
fn other_paths_are_404_and_other_methods_405() {
    run(async || {
        let server = start_http(Server::new(arith()).debug_page(ServiceMap::new())).await;
        let mut peer = Peer::connect(server.addr).await;
        for path in ["/", "/nothing", "/_rrpc_/", "/_rrpc_/x", "/debug", "/debug/rrpc/x"] {
            for method in ["GET", "POST", "CONNECT"] {
                let (head, _) = ask(&mut peer, &format!("{method} {path}")).await;
                assert_eq!(status(&head), 404, "{method} {path}");
            }
        }
        for (path, others, allowed) in [
            (RPC_PATH, ["GET", "POST", "DELETE"], &["CONNECT"][..]),
            (DEBUG_PATH, ["POST", "CONNECT", "DELETE"], &["GET", "HEAD"]),
        ] {
            for method in others {
                let (head, _) = ask(&mut peer, &format!("{method} {path}")).await;
                assert_eq!(status(&head), 405, "{method} {path}");
                let mut allow: Vec<_> = header(&head, "allow").unwrap_or("").split(", ").collect();
                allow.sort_unstable();
                assert_eq!(allow, allowed, "{method} {path}: {head}");
            }
        }
    });
}

/// A request without a `Host`, or with two, is answered with 400, and the connection ends, whatever was asked for.
///
/// HTTP/1.1 asks for exactly one (RFC 9112, 3.2). With two, a proxy in front of the server may look at one of them
/// and the server at the other: a way round the rules of the proxy.
///
/// Hint: `headers().get_all(HOST)`. HTTP/1.0 did not know the field, so there it may be missing.
#[test]
fn a_request_has_exactly_one_host() {
    run(async || {
        let server = start_http(Server::new(arith()).debug_page(ServiceMap::new())).await;
        for request in ["CONNECT /_rrpc_", "CONNECT x:80", "GET /debug/rrpc", "GET /"] {
            for hosts in ["", "Host: x\r\nHost: x\r\n", "Host: x\r\nAccept: */*\r\nhost: y\r\n"] {
                let mut peer = Peer::connect(server.addr).await;
                peer.send(format!("{request} HTTP/1.1\r\n{hosts}\r\n").as_bytes()).await;
                let (head, _) = read_answer(&mut peer.io).await;
                assert_eq!(status(&head), 400, "{request} with {hosts:?}");
                peer.expect_end().await;
            }
        }
    });
}

/// A connection may ask for a page first and for calls later, as a proxy that keeps connections does.
///
/// Hint: one hyper connection answers all of them; only the last, the `CONNECT`, leaves a stream behind.
#[test]
fn a_page_and_then_calls_on_the_same_connection() {
    run(async || {
        let server = start_http(Server::new(arith()).debug_page(ServiceMap::new())).await;
        let mut peer = Peer::connect(server.addr).await;
        for path in ["/", "/nothing", "/"] {
            assert_eq!(status(&ask(&mut peer, &format!("GET {path}")).await.0), 404);
        }
        peer.send(CONNECT).await;
        assert_eq!(status(&read_head(&mut peer.io).await), 200);
        peer.handshake_json().await;
        peer.expect_service().await;
    });
}
