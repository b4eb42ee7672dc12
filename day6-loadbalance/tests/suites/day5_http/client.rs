//! The client's half of HTTP: a `CONNECT`, and which answers to it are a success.
//!
//! In `src/wire/tcp.rs`: `connect`, which may begin with one address. In `src/http/connect.rs`: `connect_http` and
//! `handshake_http`, `connect`, and for other answers `read_refusal` and `from_hyper`.
//!
//! Works then: a client calls through an HTTP port.
//!
//! Chapter: From HTTP to frames; The wire

use super::*;

/// The whole lesson in one call: `Client::connect_http` to `Server::serve_http`, in each codec.
///
/// Hint: open TCP, let hyper's client send the `CONNECT`, take the upgraded stream, and shake hands on it as
/// on any other stream.
#[test]
fn a_call_goes_through_http_in_both_codecs() {
    run(async || {
        let server = start_http(Server::new(arith())).await;
        for codec in Codec::ALL {
            let client = try_connect_http(server.addr, &Options::default().codecs([codec])).await.unwrap();
            assert_eq!(client.codec(), codec);
            assert_serves(&client).await;
        }
    });
}

/// A `CONNECT` works over any stream, such as a TLS stream, a Unix socket, or memory; and with any cutting of
/// its bytes, such as one at a time.
///
/// Hint: hyper asks for a stream, not for a socket. What `connect_http` does after it has opened TCP is a function
/// of its own.
#[test]
fn connect_works_over_any_stream() {
    run(async || {
        let (serving, peer) = serve_http_in_memory(Server::new(arith()), Watched::one_byte);
        let client = handshake_http(Watched::one_byte(peer.io), "any.stream:80").await.unwrap();
        for _ in 0..3 {
            assert_serves(&client).await;
        }
        serving.abort();
    });
}

/// The other direction: the server's first frame comes in one write with the 200, or one byte at a time.
/// (This server does not wait for the client's hello.)
///
/// Hint: read on from hyper's upgraded stream, never from the socket below it.
#[test]
fn bytes_that_arrive_together_with_the_200_are_not_lost() {
    run(async || {
        let script = [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), server_hello("application/json")].concat();
        for chunk in [script.len(), 1] {
            let script = script.clone();
            let server = play_server(move |io| {
                let script = script.clone();
                async move {
                    let mut peer = Peer { io };
                    read_head(&mut peer.io).await;
                    for bytes in script.chunks(chunk) {
                        peer.send(bytes).await;
                        yield_now().await;
                    }
                    assert_eq!(peer.read_json().await["magic_number"], 3_927_900);
                    let call = peer.read_message().await;
                    peer.send(&reply(call.seq(), json!(42))).await;
                    std::future::pending::<()>().await;
                }
            })
            .await;
            let client = connect_http(server.addr).await;
            assert_eq!(within("the reply", client.call::<_, i32>("A.b", &())).await.unwrap(), 42);
        }
    });
}

/// What the client sends: `CONNECT` to the RPC path, and exactly one `Host`, the server's name as the caller has
/// it, as one port may serve many names.
///
/// Hint: `connect_http` knows an address, `handshake_http` is given a name.
#[test]
fn the_client_sends_connect_and_one_host() {
    run(async || {
        let (sender, mut heads) = mpsc::unbounded_channel();
        let server = play_server(move |mut io| {
            let sender = sender.clone();
            async move { sender.send(read_head(&mut io).await).unwrap_or(()) }
        })
        .await;
        refusal(server.addr, &Options::default()).await;
        let io = TcpStream::connect(server.addr).await.unwrap();
        handshake_http(io, "a.name:8080").await.expect_err("this server closes");
        for host in [&*server.addr.to_string(), "a.name:8080"] {
            let head = within("a request", heads.recv()).await.unwrap();
            assert!(head.starts_with("CONNECT /_rrpc_ HTTP/1.1\r\n"), "{head}");
            let is_host = |line: &&str| line.to_ascii_lowercase().starts_with("host:");
            assert_eq!(head.lines().filter(is_host).count(), 1, "{head}");
            assert_eq!(header(&head, "host"), Some(host), "{head}");
        }
    });
}

/// The status code decides. The words behind it are for people, and every server has its own; so has every
/// version of HTTP.
///
/// Hint: compare the code, not the line.
#[test]
fn any_answer_with_a_2xx_code_is_a_success() {
    run(async || {
        for line in [
            "HTTP/1.1 200 OK",
            "HTTP/1.1 200 Connection established",
            "HTTP/1.0 200 Connected to RPC",
            "HTTP/1.1 200 404 Not Found",
            "HTTP/1.1 200 ",
            "HTTP/1.1 200",
            "HTTP/1.1 201 Created\r\nX-Proxy: squid",
            // Of no meaning in the answer to a CONNECT, but some servers send it.
            "HTTP/1.1 200 OK\r\nContent-Length: 0",
        ] {
            let hello = server_hello("application/json");
            let script = [format!("{line}\r\n\r\n").as_bytes(), &hello].concat();
            let server = answering(script, false).await;
            let client = try_connect_http(server.addr, &Options::default()).await;
            let client = client.unwrap_or_else(|error| panic!("{line:?} should be good: {error}"));
            assert_eq!(client.codec(), Codec::Json);
        }
    });
}

/// Any other answer is a handshake error with the status code and the beginning of the text. Most of these servers
/// close at once, so the answer and the end of the stream arrive together.
///
/// Hint: hyper's connection may be done before the answer is looked at. It has not lost it.
#[test]
fn any_other_answer_is_a_handshake_error_with_status_and_text() {
    run(async || {
        for (answer, parts) in [
            ("404 Not Found\r\nContent-Length: 10\r\n\r\nno such page", ["404", "no such pa"]),
            (
                "500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nburn\r\n3\r\nt 3\r\n0\r\n\r\n",
                ["500", "burnt 3"],
            ),
            ("407 Proxy Authentication Required\r\n\r\nwho are you?", ["407", "who are you?"]),
            ("301 Moved\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", ["301", "301"]),
            ("404 200 OK\r\nContent-Length: 0\r\n\r\n", ["404", "404"]),
        ] {
            for _ in 0..5 {
                let server = answering(format!("HTTP/1.1 {answer}"), true).await;
                let text = handshake_text(refusal(server.addr, &Options::default()).await);
                assert!(parts.iter().all(|part| text.contains(part)), "{text:?} should have {parts:?}");
            }
        }
    });
}
