//! The client's side: which answers to a `CONNECT` are a success, and what the others say.
//!
//! Complete `connect`, `read_refusal` and `from_hyper` in `src/http/connect.rs`.
//!
//! Chapter: The wire > What a caller of connect_http sees; Files of today > src/http/connect.rs

use super::*;

/// The other direction: the server's first frame comes in one write with the 200, or one byte at a time.
/// (This server does not wait for the options. It may: they cannot say anything that it does not take.)
///
/// Hint: read on from hyper's upgraded stream, never from the socket below it.
#[test]
fn bytes_that_arrive_together_with_the_200_are_not_lost() {
    run(async || {
        let accepted = frame(r#"{"codec":"application/json"}"#);
        let script = [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), accepted].concat();
        let len = script.len();
        for chunk in [len, 1] {
            let script = script.clone();
            let server = raw_server(move |io| {
                let script = script.clone();
                async move {
                    let mut peer = Peer { io };
                    read_head(&mut peer.io).await;
                    for bytes in script.chunks(chunk) {
                        peer.send(bytes).await;
                        tokio::task::yield_now().await;
                    }
                    assert_eq!(peer.read_json().await["magic_number"], 3_927_900);
                    let call = peer.read_message().await;
                    let header = json!({"service_method": "A.b", "seq": call.seq(), "error": null});
                    peer.send(&[frame(header.to_string()), frame("42")].concat()).await;
                    std::future::pending::<()>().await;
                }
            })
            .await;
            let client = connect_http(server.addr).await;
            assert_eq!(within("the reply", client.call::<_, i32>("A.b", &())).await.unwrap(), 42);
        }
    });
}

/// The whole of it through a network that delivers one byte at a time, both ways: `CONNECT`, 200, handshake
/// and calls.
///
/// Hint: nothing to do here either, if no layer counts on what one read brings.
#[test]
fn client_and_server_get_along_over_a_network_of_single_bytes() {
    run(async || {
        let door = open(Server::new(arith())).await;
        let target = door.addr;
        let network = raw_server(move |io| async move {
            let server = TcpStream::connect(target).await.unwrap();
            tokio::io::copy_bidirectional(&mut OneByte(io), &mut OneByte(server)).await.ok();
        })
        .await;
        let client = connect_http(network.addr).await;
        for _ in 0..3 {
            assert_serves(&client).await;
        }
    });
}

/// What the client sends: `CONNECT` to the RPC path, and as `Host` the name that the endpoint has, as one port
/// may serve many names. Then nothing before the 200: an HTTP server between the two would not know what it is.
///
/// Hint: `Host` is the text that the user wrote, not the address that it resolves to.
#[test]
fn the_client_sends_connect_with_the_host_it_was_given() {
    run(async || {
        let (sender, mut heads) = mpsc::unbounded_channel();
        let server = raw_server(move |mut io| {
            let sender = sender.clone();
            async move { sender.send(read_head(&mut io).await).unwrap_or(()) }
        })
        .await;
        let named: Endpoint = format!("http@localhost:{}", server.addr.port()).parse().unwrap();
        for endpoint in [named, Endpoint::http(server.addr)] {
            dial(&endpoint).await.expect_err("this server hangs up");
            let head = within("a request", heads.recv()).await.unwrap();
            assert!(head.starts_with("CONNECT /_rrpc_ HTTP/1.1\r\n"), "{head}");
            assert_eq!(header(&head, "host"), endpoint.to_string().strip_prefix("http@"), "{head}");
        }
    });
}

/// The status code decides. The words behind it are for people, and every server has its own; so has every
/// version of HTTP.
///
/// Hint: compare the code, not the line.
#[test]
fn any_answer_with_a_2xx_code_opens_the_door() {
    run(async || {
        let accepted = frame(r#"{"codec":"application/json"}"#);
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
            let script = [format!("{line}\r\n\r\n").as_bytes(), &accepted].concat();
            let server = answering(script, false).await;
            let client = try_connect_http(server.addr, &Options::default()).await;
            let client = client.unwrap_or_else(|error| panic!("{line:?} should be good: {error}"));
            assert_eq!(client.codec(), Codec::Json);
        }
    });
}

/// Any other answer is a handshake error that says what the HTTP server said: the code, and its text. Most of
/// these servers hang up at once, so the answer and the end of the stream arrive together.
///
/// Hint: hyper's connection may be done before anybody has looked at the answer. It has not lost it.
#[test]
fn any_other_answer_is_a_handshake_error_with_status_and_text() {
    run(async || {
        for (answer, words) in [
            ("404 Not Found\r\nContent-Length: 10\r\n\r\nno such page", ["404 Not Found", "no such pa"]),
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
                assert_handshake_error(&refusal(server.addr, &Options::default()).await, &words);
            }
        }
        // An answer that never ends: the beginning of it has to do.
        let endless = format!("HTTP/1.1 404 Not Found\r\n\r\n{}", "waffle ".repeat(10_000));
        let server = answering(endless, false).await;
        let error = refusal(server.addr, &Options::default()).await;
        assert_handshake_error(&error, &["404", "waffle waffle"]);
        assert!(error.to_string().len() < 5000, "{} bytes", error.to_string().len());
    });
}

/// A server that accepts and never answers, one that answers half, and one that opens the door and does not
/// shake hands: all of connecting has one limit. Nobody there at all is an `Io` error.
///
/// Hint: one `timeout` around TCP, HTTP and handshake.
#[test]
fn a_server_that_never_answers_is_a_timeout() {
    run(async || {
        let after = Duration::from_millis(50);
        let options = Options::default().connect_timeout(after);
        for answer in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n\0\0\0"]
        {
            let server = answering(answer, false).await;
            match refusal(server.addr, &options).await {
                Error::Timeout { after: limit, .. } => assert_eq!(limit, after, "{answer:?}"),
                other => panic!("{answer:?} should be a timeout: {other:?}"),
            }
        }
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let error = refusal(free, &Options::default()).await;
        assert!(matches!(error, Error::Io(_)), "{error:?}");
    });
}

/// A connection that is reset in the middle of the HTTP: the error's text says so, and says it once. That holds
/// for the text of the error itself and for the one with all its causes.
///
/// hyper's errors have a short text, "connection error", and the cause behind it. Whoever reads the log would
/// learn that something went wrong, and not what.
///
/// Hint: `error::full_text` makes one text of an error and its causes, and leaves out what was said already.
#[test]
fn an_error_of_http_names_its_cause() {
    run(async || {
        let server = raw_server(|mut io| async move {
            io.read_u8().await.unwrap();
            io.set_zero_linger().unwrap();
        })
        .await;
        let error = refusal(server.addr, &Options::default()).await;
        let text = error.to_string();
        for text in [text, day6_loadbalance::error::full_text(&error.into())] {
            assert!(text.contains("reset"), "{text}");
            let parts: Vec<_> = text.split(": ").collect();
            assert_eq!(parts.iter().collect::<HashSet<_>>().len(), parts.len(), "said twice: {text}");
        }
    });
}

/// HTTP says yes, and then the server refuses the handshake. The client learns of it as through TCP: the
/// same variant, the same words.
///
/// Hint: this is the handshake of day 1. Do not turn its errors into HTTP's.
#[test]
fn a_refused_handshake_says_the_same_as_through_tcp() {
    run(async || {
        let server = Server::new(arith()).codecs([Codec::Bincode]);
        let (tcp, http) = (start(server.clone()).await, open(server).await);
        let options = Options::default().codecs([Codec::Json]);
        let through_tcp = within("a refusal", Client::connect(tcp.addr, &options)).await.unwrap_err();
        let through_http = refusal(http.addr, &options).await;
        assert_handshake_error(&through_http, &["no codec in common", "application/bincode"]);
        assert_eq!(through_http.to_string(), through_tcp.to_string());
    });
}

/// The wrong door: HTTP on the TCP port and frames on the HTTP port. Each is told so, in its own language or
/// the server's, and neither waits for a limit to pass.
///
/// Hint: `CONN` is a length of more than a gigabyte; a length is no method. Both sides notice at once.
#[test]
fn whoever_knocks_at_the_wrong_door_gets_an_answer() {
    run(async || {
        let server = Server::new(arith());
        let (tcp, http) = (start(server.clone()).await, open(server).await);
        let mut browser = Peer::connect(tcp.addr).await;
        browser.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let answer = browser.read_json().await;
        assert!(answer["error"].as_str().is_some_and(|error| error.contains("handshake")), "{answer}");
        browser.expect_end().await;

        assert_handshake_error(&refusal(tcp.addr, &Options::default()).await, &["HTTP"]);
        let error = within("an error", Client::connect(http.addr, &Options::default())).await.unwrap_err();
        assert_handshake_error(&error, &["handshake"]);
    });
}
