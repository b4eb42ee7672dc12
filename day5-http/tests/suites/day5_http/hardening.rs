//! Hardening: half a header, garbage, peers that do not read, and answers that stall.
//!
//! No new function. The limits are in `serve` in `src/http/door.rs`, and in `connect` and `read_refusal` in
//! `src/http/connect.rs`.
//!
//! Chapter: Limits; What goes wrong without it

use super::*;

/// A `CONNECT` that declares content, in either way of HTTP/1.1, is answered with 400 and the reason. It makes
/// no difference what has arrived behind it.
///
/// HTTP says that a `CONNECT` has no content (RFC 9110, 9.3.6). With content there is no telling where the
/// frames begin: its bytes are a part of the request, or the first of the tunnel, as the network happens to
/// cut them. An error in testing is better than calls that fail now and then.
///
/// Hint: the header alone tells. `is_end_stream` of the request's body is true if nothing will come.
#[test]
fn a_connect_with_content_is_refused() {
    run(async || {
        let door = open(Server::new(arith())).await;
        for (declared, content) in
            [("Content-Length: 5", "hello"), ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n")]
        {
            for (target, behind) in [(RPC_PATH, ""), (RPC_PATH, content), ("example.com:443", content)] {
                let mut peer = Peer::connect(door.addr).await;
                let head = format!("CONNECT {target} HTTP/1.1\r\nHost: x\r\n{declared}\r\n\r\n");
                let frames = if behind.is_empty() { Vec::new() } else { options(&["application/json"]) };
                peer.send(&[head.as_bytes(), behind.as_bytes(), &frames].concat()).await;
                let (answer, text) = read_answer(&mut peer.io).await;
                assert!(answer.starts_with("HTTP/1.1 400 "), "{head}{behind}: {answer}");
                assert!(text.contains("CONNECT") && text.to_lowercase().contains("content"), "{text:?}");
            }
        }
    });
}

/// Whoever is here must say so in `handshake_timeout`: one that is silent, one that stops in the middle of
/// its header, and one that sends a byte now and then for ever. Each holds a place among the connections.
///
/// Hint: one limit around all of the HTTP. A limit for each read never fires for the third. (The clock of this
/// test is paused, so each of them ends just when its time is over.)
#[test]
fn a_client_that_never_finishes_its_header_is_dropped() {
    run_paused(async || {
        let (limit, trickle) = (Duration::from_secs(1), Duration::from_millis(100));
        for start in ["", "CONN", "CONNECT /_rrpc_ HTTP/1.1\r\nHost: x\r\n"] {
            let (_serving, mut peer) = open_in_memory(Server::new(arith()).handshake_timeout(limit), |io| io);
            let begin = tokio::time::Instant::now();
            peer.send(start.as_bytes()).await;
            peer.expect_end().await;
            assert_eq!(begin.elapsed().as_secs(), limit.as_secs(), "after {start:?}");
        }
        let (_serving, mut peer) = open_in_memory(Server::new(arith()).handshake_timeout(limit), |io| io);
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

/// A client may ask for page after page and read none of them. It must not hold its connection for ever
/// either: the server would wait to write.
///
/// Hint: a limit for reading headers does not help here.
#[test]
fn a_client_that_does_not_read_its_pages_is_dropped() {
    run(async || {
        let services = ServiceMap::new();
        let server = Server::new(services.clone()).handshake_timeout(Duration::from_millis(100));
        let door = open(server.debug_page(services)).await;
        let mut peer = Peer::connect(door.addr).await;
        let requests = format!("GET {DEBUG_PATH} HTTP/1.1\r\nHost: x\r\n\r\n").repeat(1000);
        let flood = async { while peer.io.write_all(requests.as_bytes()).await.is_ok() {} };
        within("the end of a connection that does not read", flood).await;
    });
}

/// After its `CONNECT` a client has to shake hands, as everybody has; and the longest of all limits must not
/// overflow a clock.
///
/// Hint: this comes by itself, if the upgraded stream goes where every other stream goes.
#[test]
fn a_client_that_is_silent_after_its_connect_is_told_and_dropped() {
    run(async || {
        // Long enough for the `CONNECT`, also on a busy machine: the same limit holds for it.
        let door = open(Server::new(arith()).handshake_timeout(Duration::from_millis(300))).await;
        let mut peer = knock(door.addr).await;
        let answer = peer.read_json().await;
        assert!(answer["error"].as_str().unwrap().contains("timed out"), "{answer}");
        peer.expect_end().await;

        let patient = open(Server::new(arith()).handshake_timeout(Duration::MAX)).await;
        assert_serves(&connect_http(patient.addr).await).await;
    });
}

/// A header is read into memory, so it has a limit: 16 KiB, and then 431. Something that is no HTTP is 400.
/// Both are answers, and then the connection ends.
///
/// Hint: `max_buf_size`; without it, hyper takes some 400 KiB from everyone.
#[test]
fn a_header_over_the_limit_and_garbage_are_answered_and_closed() {
    run(async || {
        assert_eq!(day5_http::MAX_HTTP_HEADER_LEN, 16 * 1024);
        let door = open(Server::new(arith())).await;
        let long = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(day5_http::MAX_HTTP_HEADER_LEN));
        // Exactly the limit and no more: what nobody reads would make TCP drop the answer.
        for (request, status) in [(&long[..16 * 1024], "431"), ("\0\0\0\x05hello\r\n\r\n", "400")] {
            let mut peer = Peer::connect(door.addr).await;
            peer.send(request.as_bytes()).await;
            let (head, _) = read_answer(&mut peer.io).await;
            assert_eq!(head.split(' ').nth(1), Some(status), "{head}");
            peer.expect_end().await;
        }
    });
}

/// A refusal with a text that never comes to its end: the status is known, and is the error, with the text that
/// has come so far. It does not take all of the time for connecting.
///
/// A proxy says 403 and stalls. A timeout would send you to look at the network, and not at the proxy.
///
/// Hint: a short limit for reading the text, and what was read outlives it.
#[test]
fn a_refusal_that_stalls_is_told_with_its_status() {
    run(async || {
        let patient = Options::default().connect_timeout(Duration::MAX);
        for (answer, words) in [
            ("403 Forbidden\r\nContent-Length: 100\r\n\r\nnot you", ["403 Forbidden", "not you"]),
            ("503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n7\r\nnot now\r\n9\r\n", ["503", "not now"]),
            ("404 Not Found\r\nContent-Length: 1\r\n\r\n", ["404", "404"]),
        ] {
            let server = answering(format!("HTTP/1.1 {answer}"), false).await;
            assert_handshake_error(&refusal(server.addr, &patient).await, &words);
        }
    });
}

/// A peer that is no HTTP server: it hangs up without a word, or in the middle of one, or it says something
/// else, or talks without end. Each is a handshake error, and at once: there is nothing to wait for.
///
/// Hint: hyper tells these errors apart: `is_parse`, `is_incomplete_message`.
#[test]
fn a_peer_that_does_not_speak_http_is_a_handshake_error_at_once() {
    run(async || {
        let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(100_000));
        for (answer, hang_up) in [
            ("", true),
            ("HTTP/1.1 20", true),
            ("HTTP/1.1 200 OK\r\nX: y\r\n", true),
            ("220 mail.example.com ESMTP\r\n", false),
            ("HTTP/9.9 two hundred\r\n\r\n", false),
            ("\0\0\0\x15{\"error\":\"not HTTP\"}", false),
            (&endless, false),
        ] {
            let server = answering(answer, hang_up).await;
            let begin = Instant::now();
            let error = refusal(server.addr, &Options::default()).await;
            let short: String = answer.chars().take(20).collect();
            assert!(matches!(error, Error::Handshake(_)), "{short:?} gave {error:?}");
            assert!(begin.elapsed() < STEP, "{short:?}");
        }
    });
}
