//! The server's side: `CONNECT`, and then the wire of day 1.
//!
//! Write `serve_http`, `serve` and `respond` in `src/http/door.rs`. The tests dial with the client: write
//! `connect_http` and `connect` in `src/http/connect.rs`, too.
//!
//! Chapter: The wire; Files of today > src/http/door.rs

use super::*;

/// The whole lesson in one call: `Client::connect_http` to `Server::serve_http`, in each codec.
///
/// Hint: open TCP, let hyper's client send the `CONNECT`, take the upgraded stream, and shake hands on it as
/// on any other stream. On the server, hand the upgraded stream to what serves every other connection.
#[test]
fn a_call_goes_through_the_http_door_in_both_codecs() {
    run(async || {
        let door = open(Server::new(arith())).await;
        for codec in Codec::ALL {
            let client = try_connect_http(door.addr, &Options::default().codecs([codec])).await.unwrap();
            assert_eq!(client.codec(), codec);
            assert_serves(&client).await;
        }
    });
}

/// The bytes, written down by hand: a `CONNECT`, a 200 without a body, and from there on frames on the same
/// stream. A 200 with a `Content-Length` would make other clients wait for a body or cut the stream there.
///
/// Hint: hyper leaves the length out by itself, if the answer to the `CONNECT` has an empty body.
#[test]
fn after_connect_and_a_200_the_stream_is_the_wire_of_day_1() {
    run(async || {
        let door = open(Server::new(arith())).await;
        let mut peer = Peer::connect(door.addr).await;
        peer.send(b"CONNECT /_rrpc_ HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let head = read_head(&mut peer.io).await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert_eq!(header(&head, "content-length"), None, "{head}");
        assert_eq!(header(&head, "transfer-encoding"), None, "{head}");

        peer.send(b"\0\0\0\x39{\"magic_number\":3927900,\"codecs\":[\"application/bincode\"]}").await;
        assert_eq!(peer.read_frame().await, b"{\"codec\":\"application/bincode\"}");
        // Header: "Arith.sum", seq 1, no error. Body: 2 and 3. Then the reply: the same header, and 5.
        peer.send(b"\0\0\0\x0c\x09Arith.sum\x01\0\0\0\0\x02\x04\x06").await;
        let mut reply = [0; 21];
        within("the reply", peer.io.read_exact(&mut reply)).await.unwrap();
        assert_eq!(&reply, b"\0\0\0\x0c\x09Arith.sum\x01\0\0\0\0\x01\x0a");
    });
}

/// `CONNECT host:port` is what standard tools send, and what a proxy would dial. This server takes it for
/// itself and dials nowhere: else it would be an open proxy, a way into the network behind it.
///
/// Hint: in this form a request has no path. There is nothing else to look at.
#[test]
fn connect_in_authority_form_is_answered_here_and_nothing_is_dialed() {
    run(async || {
        let door = open(Server::new(arith())).await;
        let forbidden = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = forbidden.local_addr().unwrap();
        for authority in [target.to_string(), "example.com:443".to_owned()] {
            let mut peer = Peer::connect(door.addr).await;
            let (head, _) = ask(&mut peer, &format!("CONNECT {authority}")).await;
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
            peer.shake_hands_json().await;
            peer.expect_service().await;
        }
        // Connections queue in order, so if ours is the first in the queue, there was no other.
        let ours = Peer::connect(target).await;
        let (_, first) = within("our own connection", forbidden.accept()).await.unwrap();
        assert_eq!(first, ours.io.local_addr().unwrap(), "the server has dialed {target}");
    });
}

/// Two more ways to write it: the whole URL, as a client behind a proxy does, and HTTP/1.0, as Go's own RPC
/// client does.
///
/// Hint: look at the path of the URL; hyper has taken it apart.
#[test]
fn connect_in_absolute_form_and_in_http_1_0_works_as_well() {
    run(async || {
        let door = open(Server::new(arith())).await;
        for request in [
            "CONNECT http://example.com/_rrpc_ HTTP/1.1\r\nHost: example.com\r\n\r\n",
            "CONNECT /_rrpc_ HTTP/1.0\r\n\r\n",
        ] {
            let mut peer = Peer::connect(door.addr).await;
            peer.send(request.as_bytes()).await;
            let head = read_head(&mut peer.io).await;
            assert_eq!(head.split(' ').nth(1), Some("200"), "{request:?} was answered with {head:?}");
            peer.shake_hands_json().await;
            peer.expect_service().await;
        }
    });
}

/// A client that is in a hurry sends the `CONNECT`, the handshake and a first request in one write. In the Go
/// ancestor the HTTP server's buffer has them then, and the RPC server never sees them. The request is longer
/// than any buffer, so it is cut somewhere: some bytes are in the buffer and some are not.
///
/// Hint: hyper's `Upgraded` reads from the buffer first. Whoever takes it apart must keep `read_buf`.
#[test]
fn bytes_that_arrive_together_with_the_connect_are_not_lost() {
    run(async || {
        let echo = async |request: day5_http::Request| Ok(request.reply(&request.decode::<String>()?.len())?);
        let door = open(Server::new(echo)).await;
        for len in [3, 100_000] {
            let mut peer = Peer::connect(door.addr).await;
            let request = json_message("Echo.len", 1, json!("x".repeat(len)));
            peer.send(&[CONNECT, &options(&["application/json"]), &request].concat()).await;
            let head = read_head(&mut peer.io).await;
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
            assert_eq!(peer.read_json().await, json!({"codec": "application/json"}));
            assert_eq!(peer.read_message().await.value(), len);
        }
    });
}

/// The other extreme: every byte comes and goes alone, in the `CONNECT`, the 200 and the frames.
///
/// Hint: nothing to do, if hyper and the frames do the reading. It fails for whoever parses by hand.
#[test]
fn the_door_works_with_one_byte_at_a_time() {
    run(async || {
        let (serving, mut peer) = open_in_memory(Server::new(arith()), OneByte);
        let request = json_message("Arith.sum", 7, json!({"num1": 2, "num2": 3}));
        peer.send(&[CONNECT, &options(&["application/json"]), &request].concat()).await;
        let head = read_head(&mut peer.io).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert_eq!(peer.read_json().await, json!({"codec": "application/json"}));
        let reply = peer.read_message().await;
        assert_eq!((reply.seq(), reply.value()), (7, json!(5)));
        serving.abort();
    });
}

/// What is not the RPC path or the page is 404; a known path with another method is 405, and `Allow` says
/// which method it takes. None of it costs the connection: HTTP keeps it for the next request.
///
/// Hint: match on method and path together, the good pairs first.
#[test]
fn other_paths_are_404_and_other_methods_405() {
    run(async || {
        let door = open(Server::new(arith()).debug_page(ServiceMap::new())).await;
        let mut peer = Peer::connect(door.addr).await;
        for path in ["/", "/nothing", "/_rrpc_/", "/_rrpc_/x", "/debug", "/debug/rrpc/x"] {
            for method in ["GET", "POST", "CONNECT"] {
                let (head, body) = ask(&mut peer, &format!("{method} {path}")).await;
                assert!(head.starts_with("HTTP/1.1 404 "), "{method} {path}: {head}");
                assert!(body.contains(RPC_PATH) && body.contains(DEBUG_PATH), "{body}");
            }
        }
        for (path, others, allowed) in [
            (RPC_PATH, ["GET", "POST", "DELETE"], "CONNECT"),
            (DEBUG_PATH, ["POST", "CONNECT", "DELETE"], "GET"),
        ] {
            for method in others {
                let (head, body) = ask(&mut peer, &format!("{method} {path}")).await;
                assert!(head.starts_with("HTTP/1.1 405 "), "{method} {path}: {head}");
                assert_eq!(header(&head, "allow"), Some(allowed), "{method} {path}: {head}");
                assert!(body.contains(allowed), "{body}");
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
        let door = open(Server::new(arith()).debug_page(ServiceMap::new())).await;
        let mut peer = Peer::connect(door.addr).await;
        for _ in 0..2 {
            let (head, _) = ask(&mut peer, &format!("GET {DEBUG_PATH}")).await;
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        }
        peer.send(CONNECT).await;
        assert!(read_head(&mut peer.io).await.starts_with("HTTP/1.1 200 "));
        peer.shake_hands_json().await;
        peer.expect_service().await;
    });
}
