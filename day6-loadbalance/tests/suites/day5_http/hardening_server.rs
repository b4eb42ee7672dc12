//! Hardening of the server: half a header, garbage, and peers that do not read.
//!
//! No new function. The limits are in `serve`, `respond` and `run_http` in `src/http/door.rs`.
//!
//! Chapter: Limits; What goes wrong without it

use super::*;

/// A `CONNECT` that declares content, in either way of HTTP/1.1, is answered with 400, and the connection ends. It
/// makes no difference what has arrived behind it.
///
/// HTTP says that a `CONNECT` has no content (RFC 9110, 9.3.6). With content there is no telling where the
/// frames begin: its bytes are a part of the request, or the first of the tunnel, as the network happens to
/// cut them. An error in testing is better than calls that fail now and then. And what follows must not be taken for
/// the next request: a peer could have a proxy pass one that the proxy would refuse.
///
/// Hint: the header alone tells. `is_end_stream` of the request's body is true if nothing will come.
#[test]
fn a_connect_with_content_is_refused_and_closed() {
    run(async || {
        let server = start_http(Server::new(arith())).await;
        for (declared, content) in
            [("Content-Length: 5", "hello"), ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n")]
        {
            let targets =
                [(RPC_PATH, ""), (RPC_PATH, content), ("example.com:443", content), ("/nowhere", content)];
            for (target, behind) in targets {
                let mut peer = Peer::connect(server.addr).await;
                let head = format!("CONNECT {target} HTTP/1.1\r\nHost: x\r\n{declared}\r\n\r\n");
                let next = if behind.is_empty() { "" } else { "GET / HTTP/1.1\r\nHost: x\r\n\r\n" };
                peer.send([&head, behind, next].concat().as_bytes()).await;
                let (answer, _) = read_answer(&mut peer.io).await;
                assert_eq!(status(&answer), 400, "{head}{behind}");
                peer.expect_end().await;
            }
        }
    });
}

/// The other extreme to a client in a hurry: every byte comes and goes alone, in the `CONNECT`, the 200 and the
/// frames.
///
/// Hint: nothing to do, if hyper and the frames do the reading. It fails for a parser of one's own.
#[test]
fn the_server_works_with_one_byte_at_a_time() {
    run(async || {
        let (serving, mut peer) = serve_http_in_memory(Server::new(arith()), Watched::one_byte);
        let request = call("Arith.sum", 7, json!({"num1": 2, "num2": 3}));
        peer.send(&[CONNECT, &client_hello(&["application/json"]), &request].concat()).await;
        assert_eq!(status(&read_head(&mut peer.io).await), 200);
        assert_eq!(peer.read_json().await["codec"], "application/json");
        let reply = peer.read_message().await;
        assert_eq!((reply.seq(), reply.value()), (7, json!(5)));
        serving.abort();
    });
}

/// A connection has to be done with its HTTP in `handshake_timeout`: also one that is silent, one that stops in the
/// middle of its header, and one that sends a byte now and then without end. Each holds a place among the
/// connections.
///
/// Hint: one limit around all of the HTTP. A limit for each read never fires for the third. (The clock of this
/// test is paused, so each of them ends just when its time is over.)
#[test]
fn a_client_that_never_finishes_its_header_is_dropped() {
    run_paused(async || {
        let (limit, trickle) = (Duration::from_secs(1), Duration::from_millis(100));
        let server = || Server::new(arith()).handshake_timeout(limit);
        for start in ["", "CONN", "CONNECT /_rrpc_ HTTP/1.1\r\nHost: x\r\n"] {
            let (_serving, mut peer) = serve_http_in_memory(server(), |io| io);
            let begin = Instant::now();
            peer.send(start.as_bytes()).await;
            peer.expect_end().await;
            assert_eq!(begin.elapsed().as_secs(), limit.as_secs(), "after {start:?}");
        }
        let (_serving, mut peer) = serve_http_in_memory(server(), |io| io);
        peer.send(b"CONNECT /_rrpc_ HTTP/1.1\r\nX: ").await;
        let mut sent = 0;
        while peer.io.write_all(b"x").await.is_ok() {
            assert!(sent < 50, "it is still there after five times the limit");
            advance(trickle).await;
            sent += 1;
        }
        assert!(sent >= 10, "it was dropped after {sent} bytes, before its time was over");
    });
}

/// A client may ask for page after page and read none of them. It must not hold its connection without end
/// either: the server would wait to write.
///
/// Hint: a limit for reading headers does not help here.
#[test]
fn a_client_that_does_not_read_its_pages_is_dropped() {
    run_paused(async || {
        let server = Server::new(arith()).debug_page(ServiceMap::new());
        let (_serving, mut peer) = serve_http_in_memory(server, |io| io);
        let requests = format!("GET {DEBUG_PATH} HTTP/1.1\r\nHost: x\r\n\r\n").repeat(1000);
        let begin = Instant::now();
        let flood = async { while peer.io.write_all(requests.as_bytes()).await.is_ok() {} };
        // The default for the handshake is 10 s. They pass at once, as the clock is paused.
        let ended = tokio::time::timeout(Duration::from_secs(60), flood).await;
        assert!(ended.is_ok(), "a connection that does not read is still there after a minute");
        assert_eq!(begin.elapsed().as_secs(), 10);
    });
}

/// After its `CONNECT` a client has to shake hands, as on any port; and the longest of all limits must not
/// overflow a clock.
///
/// Hint: this comes by itself, if the upgraded stream goes where every other stream goes.
#[test]
fn a_client_that_is_silent_after_its_connect_gets_the_reason_and_is_dropped() {
    run_paused(async || {
        let server = Server::new(arith()).handshake_timeout(Duration::from_secs(1));
        let (_serving, mut peer) = serve_http_in_memory(server, |io| io);
        peer.send(CONNECT).await;
        assert_eq!(status(&read_head(&mut peer.io).await), 200);
        let answer = peer.read_json().await;
        assert!(answer["error"].is_string(), "{answer}");
        peer.expect_end().await;

        let patient = Server::new(arith()).handshake_timeout(Duration::MAX);
        let (_serving, mut peer) = serve_http_in_memory(patient, |io| io);
        peer.send(CONNECT).await;
        assert_eq!(status(&read_head(&mut peer.io).await), 200);
        peer.handshake_json().await;
        peer.expect_service().await;
    });
}

/// A header is read into memory, so it has a limit: 16 KiB, and then 431. Something that is no HTTP is 400.
/// Both are answers, and then the connection ends.
///
/// Hint: `max_buf_size`; without it, hyper takes some 400 KiB of each connection.
#[test]
fn a_header_over_the_limit_and_garbage_are_answered_and_closed() {
    run(async || {
        assert_eq!(MAX_HTTP_HEADER_LEN, 16 * 1024);
        let server = start_http(Server::new(arith())).await;
        let long = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(MAX_HTTP_HEADER_LEN));
        // Exactly the limit and no more: bytes that are not read would make TCP drop the answer.
        for (request, code) in [(&long[..MAX_HTTP_HEADER_LEN], 431), ("\0\0\0\x05hello\r\n\r\n", 400)] {
            let mut peer = Peer::connect(server.addr).await;
            peer.send(request.as_bytes()).await;
            let (head, _) = read_answer(&mut peer.io).await;
            assert_eq!(status(&head), code, "{head}");
            peer.expect_end().await;
        }
    });
}

/// What a client sends never stands on the page: not the name of a method that does not exist, not a path, not a
/// `Host`.
///
/// Hint: count what is there, not what was asked for.
#[test]
fn nothing_that_a_client_sends_stands_on_a_page() {
    run(async || {
        let (services, _watch) = slow_services();
        let server = start_http(Server::new(services.clone()).debug_page(services)).await;
        let client = connect_http(server.addr).await;
        for method in ["<script>alert(1)</script>.x", "Slow.<script>", "Slow.\u{1b}[2J"] {
            match within("a reply", client.call::<_, ()>(method, &())).await {
                Err(Error::Remote(_)) => {}
                other => panic!("{method:?} should be unknown, but got {other:?}"),
            }
        }
        for request in ["GET /<script>", "GET /debug/rrpc?<script>", "PUT /debug/rrpc?<script>"] {
            let mut peer = Peer::connect(server.addr).await;
            peer.send(format!("{request} HTTP/1.1\r\nHost: <script>\r\n\r\n").as_bytes()).await;
            let (head, body) = read_answer(&mut peer.io).await;
            assert!(!head.contains("script") && !body.contains("script"), "{request}: {head}{body}");
        }
        let page = page(server.addr).await;
        assert!(!page.contains("script") && !page.contains('\u{1b}'), "{page}");
    });
}
