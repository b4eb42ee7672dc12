//! Hardening of the client: servers that do not answer, answer without end, or send what steers a terminal; and
//! a resolver that hangs.
//!
//! No new function. The limits are in `connect` and `read_refusal` in `src/http/connect.rs`, and in
//! `src/http/dial.rs`.
//!
//! Chapter: Limits; What goes wrong without it

use super::*;

/// A server that accepts and never answers, one that answers half, and one that says 200 and does not
/// shake hands: all of connecting has one limit. Where there is no server, it is an `Io` error.
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
            let by_hand = Client::handshake_http(
                TcpStream::connect(server.addr).await.unwrap(),
                "localhost:80",
                &options,
            );
            let by_hand = within("the end of connecting", by_hand).await.expect_err("there is no handshake");
            let endpoint = Endpoint::http(server.addr);
            let dialed = within("the end of dialing", Client::dial(&endpoint, &options)).await;
            let dialed = dialed.expect_err("there is no handshake");
            for error in [refusal(server.addr, &options).await, by_hand, dialed] {
                match error {
                    Error::Timeout { after: limit, .. } => assert_eq!(limit, after, "{answer:?}"),
                    other => panic!("{answer:?} should be a timeout: {other:?}"),
                }
            }
        }
        let (refused, _socket) = refused_address();
        let error = refusal(refused, &Options::default()).await;
        assert!(matches!(error, Error::Io(_)), "{error:?}");
    });
}

/// A connection that is reset in the middle of the HTTP: the error's text says so, and says it once. That holds
/// for the text of the error itself and for the one with all its causes.
///
/// hyper's errors have a short text, "connection error", and the cause behind it. A reader of the log would
/// learn that something went wrong, and not what.
///
/// Hint: `error::error_chain` makes one text of an error and its causes, and leaves out what was said already.
#[test]
fn an_error_of_http_names_its_cause() {
    run(async || {
        let server = play_server(|mut io| async move {
            io.read_u8().await.unwrap();
            io.set_zero_linger().unwrap();
        })
        .await;
        let error = refusal(server.addr, &Options::default()).await;
        let text = error.to_string();
        for text in [text, day7_registry::error::error_chain(&error.into())] {
            assert!(text.contains("reset"), "{text}");
            let parts: Vec<_> = text.split(": ").collect();
            assert_eq!(parts.iter().collect::<HashSet<_>>().len(), parts.len(), "said twice: {text}");
        }
    });
}

/// HTTP says yes, and then the server refuses the handshake. The client sees the same as through TCP: the
/// same variant, the same words.
///
/// Hint: this is the handshake of day 1. Do not turn its errors into HTTP's.
#[test]
fn a_refused_handshake_is_the_same_as_through_tcp() {
    run(async || {
        let server = Server::new(arith()).codecs([Codec::Bincode]);
        let (tcp, http) = (start(server.clone()).await, start_http(server).await);
        let options = Options::default().codecs([Codec::Json]);
        let through_tcp = within("a refusal", Client::connect(tcp.addr, &options)).await.unwrap_err();
        let through_http = refusal(http.addr, &options).await;
        assert_eq!(handshake_text(through_http), handshake_text(through_tcp));
    });
}

/// HTTP on the TCP port, and frames on the HTTP port: each peer gets an answer in its own protocol or the server's,
/// and neither waits for a limit to pass.
///
/// Hint: `CONN` is a length of more than a gigabyte; a length is no method. Both sides notice at once.
#[test]
fn the_wrong_protocol_for_a_port_is_an_error_at_once() {
    run(async || {
        let server = Server::new(arith());
        let (tcp, http) = (start(server.clone()).await, start_http(server).await);
        let mut browser = Peer::connect(tcp.addr).await;
        browser.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let answer = browser.read_json().await;
        assert!(answer["error"].is_string(), "{answer}");
        browser.expect_end().await;

        handshake_text(refusal(tcp.addr, &Options::default()).await);
        let error = within("an error", Client::connect(http.addr, &Options::default())).await.unwrap_err();
        handshake_text(error);
    });
}

/// A refusal with a text that never comes to its end, or that is longer than a client wants: the status is known,
/// and is the error, with the text that has come so far. It does not take all of the time for connecting.
///
/// A proxy says 403 and stalls. A timeout would send you to look at the network, and not at the proxy.
///
/// Hint: a short limit for reading the text, a limit for its length, and what was read outlives both.
#[test]
fn a_refusal_that_stalls_or_never_ends_keeps_its_status() {
    run(async || {
        let patient = Options::default().connect_timeout(Duration::MAX);
        let endless = format!("404 Not Found\r\n\r\n{}", "waffle ".repeat(10_000));
        for (answer, parts) in [
            ("403 Forbidden\r\nContent-Length: 100\r\n\r\nnot you", ["403", "not you"]),
            ("503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n7\r\nnot now\r\n9\r\n", ["503", "not now"]),
            ("404 Not Found\r\nContent-Length: 1\r\n\r\n", ["404", "404"]),
            (&endless, ["404", "waffle waffle"]),
        ] {
            let server = answering(format!("HTTP/1.1 {answer}"), false).await;
            let text = handshake_text(refusal(server.addr, &patient).await);
            assert!(parts.iter().all(|part| text.contains(part)), "{text:?} should have {parts:?}");
            assert!(text.len() < 5000, "{} bytes", text.len());
        }
    });
}

/// The text of a refusal is displayed with its control characters escaped.
///
/// It comes from a stranger, and ends in a terminal or in a log: an escape sequence would set the title of the
/// window or clear the screen, and a line break would forge a line of the log.
///
/// Hint: `char::is_control`.
#[test]
fn control_characters_in_a_refusal_are_escaped() {
    run(async || {
        let body = "\x1b]0;owned\x07no\r\n2026-01-01 INFO all is well\u{9b}2J\x7f";
        let answer = format!("HTTP/1.1 403 Forbidden\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let server = answering(answer, true).await;
        let error = refusal(server.addr, &Options::default()).await;
        let text = error.to_string();
        assert!(!text.contains(char::is_control), "{text:?}");
        assert!(text.contains("403") && text.contains("all is well"), "{text:?}");
    });
}

/// A peer that is no HTTP server: it closes without a word, or in the middle of one, or it says something
/// else, or talks without end. Each is a handshake error, and at once: there is nothing to wait for.
///
/// Hint: hyper tells these errors apart: `is_parse`, `is_incomplete_message`.
#[test]
fn a_peer_that_does_not_speak_http_is_a_handshake_error_at_once() {
    run(async || {
        let patient = Options::default().connect_timeout(Duration::MAX);
        let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(100_000));
        for (answer, closes) in [
            ("", true),
            ("HTTP/1.1 20", true),
            ("HTTP/1.1 200 OK\r\nX: y\r\n", true),
            ("220 mail.example.com ESMTP\r\n", false),
            ("HTTP/9.9 two hundred\r\n\r\n", false),
            ("\0\0\0\x15{\"error\":\"not HTTP\"}", false),
            (&endless, false),
        ] {
            let server = answering(answer, closes).await;
            let error = refusal(server.addr, &patient).await;
            let short: String = answer.chars().take(20).collect();
            assert!(matches!(error, Error::Handshake(_)), "{short:?} gave {error:?}");
        }
    });
}

/// When all addresses of a host are dead, the limit holds for all of them together, and an error that is no timeout
/// is that of an address.
///
/// Hint: the limit is around the whole. The attempts end with the set that holds them.
#[cfg(target_os = "linux")]
#[test]
fn a_host_with_dead_addresses_only_is_an_error_within_the_limit() {
    run(async || {
        let (silent, _held) = silent_address().await;
        let (refused, _socket) = refused_address();
        let tasks = alive_tasks();
        let options = Options::default().connect_timeout(Duration::from_millis(400));
        for addrs in [&[silent][..], &[silent, silent], &[refused, silent], &[silent, refused]] {
            let error = within("a timeout", Client::connect(addrs, &options)).await.unwrap_err();
            assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
        }
        eventually("the end of the attempts", || alive_tasks() == tasks).await;
        for addrs in [&[refused][..], &[refused, refused, refused], &[]] {
            let error = within("an error", Client::connect(addrs, &options)).await.unwrap_err();
            assert!(matches!(error, Error::Io(_)), "{error:?}");
        }
    });
}

/// A name that the resolver does not answer costs its callers their time limit, and nothing more: no thread for each
/// call, no thread of Tokio's pool, no other server's calls, and not the end of the process.
///
/// The system's resolver blocks its thread, sometimes for minutes. On Tokio's pool 512 such calls are the end of all
/// other work there, and a runtime that is dropped waits for all of them.
///
/// Hint: one `std::thread` for a name, shared by all callers that wait for this name, and a limit for their number.
/// (glibc reads the file in `HOSTALIASES` before it asks a name server. Here it is a FIFO to which no one writes, and
/// the test runs in a process of its own.)
#[cfg(target_os = "linux")]
#[test]
fn a_resolver_that_hangs_holds_up_nothing() {
    if std::env::var_os("HOSTALIASES").is_none_or(|path| !path.to_string_lossy().contains("rrpc-day5")) {
        let dir = TempDir::new();
        let fifo = dir.0.join("aliases");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let (_, module) = module_path!().split_once("::").unwrap();
        let path = format!("{module}::a_resolver_that_hangs_holds_up_nothing");
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        let output = command.args(["--exact", &path, "--nocapture"]).env("HOSTALIASES", fifo).output();
        let output = output.unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let is_good = output.status.success() && text.contains("1 passed");
        assert!(is_good, "{text}{}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    run(async move || {
        let server = start(Server::new(arith())).await;
        let options = Options::default().connect_timeout(Duration::from_millis(200));
        let hurried = async |name: String| {
            let endpoint: Endpoint = format!("tcp@{name}:80").parse().unwrap();
            Client::dial(&endpoint, &options).await
        };
        // `Io`: a resolver that does not read the file, and says that there is no such name.
        let is_expected = |error: &Error| matches!(error, Error::Timeout { .. } | Error::Io(_));
        let dials = futures_of(1000, |_| hurried("hangs".to_owned()));
        for result in within("the end of a thousand dials of one name", dials).await {
            let error = result.unwrap_err();
            assert!(is_expected(&error), "{error:?}");
        }
        assert!(threads() < 50, "{} threads wait for one name", threads());
        // The resolver reads the local file of names first, so this name is known.
        let local: Endpoint = format!("tcp@localhost:{}", server.addr.port()).parse().unwrap();
        assert_serves(&dial(&local).await.unwrap()).await;

        let dials = futures_of(1000, |number| hurried(format!("hangs{number}")));
        for result in within("the end of dials of a thousand names", dials).await {
            let error = result.unwrap_err();
            assert!(is_expected(&error), "{error:?}");
        }
        assert!(threads() < 300, "{} threads wait for the resolver", threads());
        within("a job on Tokio's pool", tokio::task::spawn_blocking(|| ())).await.unwrap();
        assert_serves(&dial(&Endpoint::tcp(server.addr)).await.unwrap()).await;
        // The end of the test is the end of the runtime: it must not wait for the lookups.
    });
}

/// The outcomes of many futures that run at once.
#[cfg(target_os = "linux")]
async fn futures_of<F: Future>(count: usize, make: impl Fn(usize) -> F) -> Vec<F::Output> {
    let mut futures: Vec<_> = (0..count).map(|number| Box::pin(make(number))).collect();
    let mut done = Vec::new();
    std::future::poll_fn(|cx| {
        futures.retain_mut(|future| match future.as_mut().poll(cx) {
            std::task::Poll::Ready(value) => {
                done.push(value);
                false
            }
            std::task::Poll::Pending => true,
        });
        if futures.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done
}
