//! Dialing: from an endpoint to a client, whatever it takes.
//!
//! In `src/http/dial.rs`: `dial`, `resolve` and `look_up`. Change `serve_with_shutdown` in `src/server/mod.rs`. What is
//! red besides is that all addresses of a name are tried, in `src/wire/tcp.rs`.
//!
//! Works then: from the text of an endpoint to a client, whichever protocol it names.
//!
//! Chapter: Endpoints; Names and addresses

use super::*;

/// The endpoint alone says how to connect: one `dial` for TCP and HTTP, by address and by name.
///
/// A list of servers may have both, and its user should not have to know. A version that also tries the other
/// protocol hides a wrong configuration, and takes twice the time to fail.
///
/// Hint: a `match`, and the two ways that are there already.
#[test]
fn dial_speaks_the_protocol_that_the_endpoint_names() {
    run(async || {
        let server = Server::new(arith());
        let (tcp, http) = (start(server.clone()).await, start_http(server).await);
        let by_name = |protocol: &str, addr: SocketAddr| format!("{protocol}@localhost:{}", addr.port());
        for endpoint in [
            Endpoint::tcp(tcp.addr),
            Endpoint::http(http.addr),
            by_name("tcp", tcp.addr).parse().unwrap(),
            by_name("http", http.addr).parse().unwrap(),
        ] {
            let client = dial(&endpoint).await.unwrap_or_else(|error| panic!("{endpoint}: {error}"));
            assert_serves(&client).await;
        }
        // The wrong one of the two is an error: it does not try the other.
        for wrong in [Endpoint::tcp(http.addr), Endpoint::http(tcp.addr)] {
            match dial(&wrong).await {
                Err(Error::Handshake(_)) => {}
                other => panic!("{wrong} should fail in its handshake, but got {other:?}"),
            }
        }
    });
}

/// Over HTTP, the `Host` is what the endpoint says, be it a name or an address.
///
/// One port may serve many names, and the `Host` tells which of them is meant. The address behind a name does not.
///
/// Hint: `Address::as_str`.
#[test]
fn dial_sends_the_host_of_the_endpoint() {
    run(async || {
        let (sender, mut heads) = mpsc::unbounded_channel();
        let server = play_server(move |mut io| {
            let sender = sender.clone();
            async move { sender.send(read_head(&mut io).await).unwrap_or(()) }
        })
        .await;
        let named: Endpoint = format!("http@localhost:{}", server.addr.port()).parse().unwrap();
        for endpoint in [named, Endpoint::http(server.addr)] {
            dial(&endpoint).await.expect_err("this server closes");
            let head = within("a request", heads.recv()).await.unwrap();
            assert_eq!(header(&head, "host"), endpoint.to_string().strip_prefix("http@"), "{head}");
        }
    });
}

/// A Unix socket is one more listener and one more stream, for frames and for HTTP. Connecting to it has
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
        assert!(matches!(error, Error::Io(_)), "there is no listener yet: {error:?}");

        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let error = within("a limit", Client::dial(&endpoint, &options)).await.unwrap_err();
        assert!(matches!(error, Error::Timeout { .. }), "the listener does not answer yet: {error:?}");

        let server = Server::new(arith());
        let serving = tokio::spawn(async move { server.serve(listener).await });
        assert_serves(&dial(&endpoint).await.unwrap()).await;
        serving.abort();

        let listener = tokio::net::UnixListener::bind(dir.0.join("http.sock")).unwrap();
        let server = Server::new(arith());
        let serving = tokio::spawn(async move { server.serve_http(listener).await });
        let io = tokio::net::UnixStream::connect(dir.0.join("http.sock")).await.unwrap();
        assert_serves(&handshake_http(io, "localhost:80").await.unwrap()).await;
        serving.abort();
    });
}

/// A host may have several addresses. They are tried in their order, and one that refuses, or does not answer at
/// all, does not keep the next one waiting. As long as the first one answers, no other is asked.
///
/// A dead address takes minutes to fail. A version that waits for it spends the whole limit there, while the next
/// address would have answered at once.
///
/// Hint: start an attempt, and wait for its end or for 250 ms, whichever is first; then start the next one beside
/// it. A `JoinSet` holds the attempts, and drops those that have lost.
#[cfg(target_os = "linux")]
#[test]
fn a_dead_address_does_not_keep_the_next_one_waiting() {
    run(async || {
        let server = Server::new(arith());
        let (tcp, http) = (start(server.clone()).await, start_http(server).await);
        let (silent, _held) = silent_address().await;
        let (refused, _socket) = refused_address();
        let options = Options::default().connect_timeout(Duration::MAX);
        for dead in [&[refused][..], &[silent], &[silent, refused], &[refused, silent, silent]] {
            let addrs = [dead, &[tcp.addr]].concat();
            let connected = within("connecting past dead addresses", Client::connect(&*addrs, &options));
            assert_serves(&connected.await.unwrap()).await;
            let addrs = [dead, &[http.addr]].concat();
            let connected = within("connecting past dead addresses", Client::connect_http(&*addrs, &options));
            assert_serves(&connected.await.unwrap()).await;
        }

        let spare = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let spare_addr = spare.local_addr().unwrap();
        let client = within("connecting", Client::connect(&[tcp.addr, spare_addr][..], &options)).await;
        assert_serves(&client.unwrap()).await;
        // Connections queue in order, so if ours is the first in the queue, there was no other.
        let ours = Peer::connect(spare_addr).await;
        let (_, first) = within("our own connection", spare.accept()).await.unwrap();
        assert_eq!(first, ours.io.local_addr().unwrap(), "the second address was dialed without need");
    });
}
