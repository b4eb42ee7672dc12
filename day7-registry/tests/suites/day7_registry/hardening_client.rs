//! Hardening: a registry that breaks off, stalls, or lists what it should not, and an instance that comes back.
//!
//! Write `is_local` in `src/registry/client.rs`. The limits are in `exchange` and `servers` there.
//!
//! Chapter: Limits; What goes wrong without it

use super::*;

/// A connection that is reset in the middle of an exchange: the error's text says so, and says it once. That
/// holds for the text of the error itself and for the one with all its causes.
///
/// This text is all that the log of a heartbeat shows. hyper's own is "connection error", with the cause behind.
///
/// Hint: `error::error_chain` makes one text of an error and its causes, and leaves out what was said already. The
/// word that the test looks for, "reset", is the system's.
#[test]
fn an_exchange_that_breaks_names_the_cause() {
    run(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = client_of(listener.local_addr().unwrap());
        let resetting = async {
            let (mut io, _) = listener.accept().await.unwrap();
            io.read_u8().await.unwrap();
            io.set_zero_linger().unwrap();
        };
        let (result, ()) = within("an error", async { tokio::join!(client.servers(), resetting) }).await;
        let error = result.unwrap_err();
        assert!(matches!(error, RegistryError::Unreachable(_)), "{error:?}");
        for text in [error.to_string(), error_chain(&error.into())] {
            assert!(text.contains("reset"), "{text}");
            let parts: Vec<_> = text.split(": ").collect();
            assert_eq!(parts.iter().collect::<HashSet<_>>().len(), parts.len(), "said twice: {text}");
        }
    });
}

/// A refusal with a text that never comes to its end: the error is the status, with the text that has come so far.
///
/// A registry is overloaded, answers 503 and stalls. "It did not answer" would be wrong, and would take longer.
///
/// Hint: day 5 has the same at `CONNECT`: a short limit for reading the text of a refusal.
#[test]
fn a_registry_that_refuses_and_stalls_is_told_with_its_status() {
    run(async || {
        let registry = HandRegistry::start().await;
        let client = registry.client().timeout(Duration::MAX);
        let stalling = async {
            let mut request = registry.request().await;
            request.send(b"HTTP/1.1 503 Busy\r\nContent-Length: 100\r\n\r\nnot now").await;
            request
        };
        let asking = async { tokio::join!(client.servers(), stalling) };
        let (result, _unfinished) = within("the status", asking).await;
        match result {
            Err(RegistryError::Status { status, text }) => {
                assert_eq!((status, text.trim()), (503, "not now"));
            }
            other => panic!("expected the status, got {other:?}"),
        }
    });
}

/// An entry of the list that is no endpoint, or none to connect to, is left out; the others are used.
///
/// A newer registry may list servers in a way that this client does not know. One of them must not hide all.
///
/// Hint: decode a list of texts first, and parse them one by one.
#[test]
fn entries_that_are_no_endpoints_are_left_out() {
    run(async || {
        let registry = HandRegistry::start().await;
        let body = r#"[{"endpoint":"tcp@a:1","weight":3,"zone":"b"}, {"endpoint":"quic@b:1"}, 7, null, "tcp@d:1",
            {"endpoint":"tcp@0.0.0.0:1"}, {"endpoint":""}, {"weight":1}, {"endpoint":7}, {"endpoint":"tcp@e:1","weight":0},
            {"endpoint":"tcp@e:1","weight":65536}, {"endpoint":"tcp@c:1"}]"#;
        let answering = async {
            registry.request().await.answer("200 OK", &["X-Rrpc-Lease-Ms: 9000"], body).await;
        };
        let client = registry.client();
        let list = tokio::join!(client.servers(), answering).0.unwrap();
        assert_eq!(list.servers, [instance("tcp@a:1").weight(3), instance("tcp@c:1")]);
    });
}

/// A list of more servers than a registry holds is refused. One of exactly so many is taken.
///
/// Short names make a list of 150,000 in the bytes that are allowed. It would be a burden to everything behind:
/// the ring of `ConsistentHash` has a hundred points for each server, and calls wait while it is made.
///
/// Hint: count what is in the array, before you look at each entry.
#[test]
fn a_list_of_too_many_servers_is_refused() {
    run(async || {
        let registry = HandRegistry::start().await;
        let client = registry.client();
        for (servers, is_taken) in [(DEFAULT_MAX_SERVERS, true), (DEFAULT_MAX_SERVERS + 1, false)] {
            let list: Vec<_> = (1..=servers).map(|port| format!("tcp@a:{port}")).collect();
            let list: Vec<_> = list.iter().map(String::as_str).collect();
            let answering = async { registry.request().await.list(LEASE, &list).await };
            match tokio::join!(client.servers(), answering).0 {
                Ok(taken) => assert!(is_taken && taken.servers.len() == servers, "{servers} were taken"),
                Err(RegistryError::InvalidResponse(text)) => assert!(!is_taken, "{servers}: {text}"),
                other => panic!("{servers} servers: {other:?}"),
            }
        }
    });
}

/// The age of the registry is in the list, and a registry that does not tell it knows all servers.
///
/// Hint: a header that is not there is not a zero.
#[test]
fn the_list_has_the_age_of_the_registry() {
    run(async || {
        let registry = HandRegistry::start().await;
        let client = registry.client();
        let lease = "X-Rrpc-Lease-Ms: 9000";
        let cases: [(&[&str], _); 2] =
            [(&[lease, "X-Rrpc-Age-Ms: 1500"], Duration::from_millis(1500)), (&[lease], Duration::MAX)];
        for (headers, age) in cases {
            let answering = async { registry.request().await.answer("200 OK", headers, "[]").await };
            let list = tokio::join!(client.servers(), answering).0.unwrap();
            assert_eq!((list.age, list.lease, list.servers), (age, LEASE, vec![]), "{headers:?}");
        }
    });
}

/// An instance that has left may come back at once, and one that could not leave may try again.
///
/// A deregistration ends the instance, so what is still on its way is refused. If the next registration were by the
/// same one, it would be refused as well.
///
/// Hint: a new id, once the old one has left.
#[test]
fn an_instance_may_leave_and_come_back() {
    run(async || {
        let registry = RegistryServer::new();
        let running = RunningRegistry::start(&registry).await;
        let (client, server) = (running.client(), instance("tcp@a:1"));
        let listed = [server.clone()];
        for round in 0..3 {
            within("the registration", client.register(&server)).await.unwrap();
            assert_eq!(registry.servers(), listed, "round {round}");
            within("leaving", client.deregister(&server)).await.unwrap();
            assert_eq!(registry.servers(), [], "round {round}");
        }

        // One process, two endpoints: each of them is an instance.
        let both = [server.clone(), instance("http@a:2")];
        for server in &both {
            within("the registration", client.register(server)).await.unwrap();
        }
        for server in &both {
            within("leaving", client.deregister(server)).await.unwrap();
        }
        assert_eq!(registry.servers(), []);

        let hand = HandRegistry::start().await;
        let client = hand.client();
        let refusing = async || {
            let request = hand.request().await;
            let id = request.head.header("x-rrpc-instance").map(str::to_owned);
            request.answer("503 Busy", &[], "").await;
            id
        };
        let (_, first) = tokio::join!(client.deregister(&server), refusing());
        let (_, second) = tokio::join!(client.deregister(&server), refusing());
        assert!(first.is_some() && first == second, "{first:?} and {second:?}");
    });
}

/// What a list may have that leads a client to its own machine; and what may look like it.
const LOCAL: [&str; 5] =
    ["unix@/run/a.sock", "tcp@127.0.0.1:1", "http@127.9.9.9:1", "tcp@[::1]:1", "tcp@localhost:1"];
const FOREIGN: [&str; 4] =
    ["tcp@10.0.0.7:1", "tcp@localhost.example:1", "tcp@notlocalhost:1", "http@[fd00::7]:1"];

/// A registry that lists all of them.
async fn with_local_and_foreign() -> RegistryServer {
    let registry = RegistryServer::new();
    let wire = InMemory::serve(&registry);
    for server in LOCAL.iter().chain(&FOREIGN) {
        assert_eq!(wire.status(&post(server)).await, 200, "{server}");
    }
    registry
}

async fn expect_list(client: &HttpRegistry, expected: &[&[&str]]) {
    let list = within("the list", client.servers()).await.unwrap();
    let expected: BTreeSet<_> = expected.concat().into_iter().map(str::to_owned).collect();
    assert_eq!(BTreeSet::from_iter(texts(&list.servers)), expected, "from {}", client.url());
}

/// Addresses of this machine that are no loopback addresses. There may be none.
fn own_addresses() -> Vec<std::net::IpAddr> {
    // On Linux, this table has all that are not IPv6. Each is followed by what it is.
    let table = std::fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let lines: Vec<_> = table.lines().map(str::trim).collect();
    let own = lines.windows(2).filter(|lines| lines[1] == "/32 host LOCAL");
    let own = own.filter_map(|lines| lines[0].strip_prefix("|-- ")?.parse().ok());
    // Elsewhere: the way to an address that is no machine's. Nothing is sent: it is UDP, and only looked up.
    let way = std::net::UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        Ok(socket.local_addr()?.ip())
    });
    own.chain(way).filter(|ip| !ip.is_loopback()).collect()
}

/// A registry on a loopback address may list servers on this machine: `unix@…`, a loopback address and `localhost`.
///
/// Client, registry and servers are on one machine while a program is developed.
///
/// Hint: where the registry is, its URL says.
#[test]
fn servers_on_this_machine_are_taken_from_a_registry_on_it() {
    run(async || {
        let registry = with_local_and_foreign().await;
        let here = RunningRegistry::start(&registry).await;
        expect_list(&here.client(), &[&LOCAL, &FOREIGN]).await;
        let by_name = format!("http://localhost:{}", here.addr.port()).parse().unwrap();
        expect_list(&HttpRegistry::new(by_name), &[&LOCAL, &FOREIGN]).await;
    });
}

/// A registry on another machine lists servers on this one: they are left out, unless they are asked for.
///
/// They are sockets of the client's own machine. Any peer that can register there could have clients connect to them.
///
/// Hint: a name is `localhost` only as a whole, or behind a dot. (This test needs an address of this machine that is no loopback
/// address, and says so if there is none. It sends nothing to any other.)
#[test]
fn servers_on_this_machine_are_left_out_of_the_list_of_a_registry_on_another() {
    run(async || {
        let registry = with_local_and_foreign().await;
        let own = own_addresses();
        if own.is_empty() {
            eprintln!("skipped: this machine has loopback addresses only, and no registry can be elsewhere");
        }
        for ip in own {
            let there = RunningRegistry::start_at(&registry, (ip, 0).into()).await;
            expect_list(&there.client(), &[&FOREIGN]).await;
            expect_list(&there.client().allow_local_servers(), &[&LOCAL, &FOREIGN]).await;
        }
    });
}

/// A registry under a name is on another machine, though the name leads to this one.
///
/// Its URL says where it is, and the user has written that. Where a name leads, others may decide.
///
/// Hint: look at the URL, and not at the connection. (This test needs a name for 127.0.0.1 other than `localhost` in
/// `/etc/hosts`, and says so if there is none.)
#[test]
fn a_registry_under_a_name_is_on_another_machine() {
    run(async || {
        let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        let lines = hosts.lines().filter_map(|line| line.trim().strip_prefix("127.0.0.1"));
        let mut names = lines.flat_map(str::split_whitespace).filter(|name| !name.contains("localhost"));
        let Some(name) = names.next() else {
            eprintln!("skipped: this machine has no such name");
            return;
        };
        let registry = with_local_and_foreign().await.host(name);
        let here = RunningRegistry::start(&registry).await;
        let client = HttpRegistry::new(format!("http://{name}:{}", here.addr.port()).parse().unwrap());
        expect_list(&client, &[&FOREIGN]).await;
        expect_list(&client.allow_local_servers(), &[&LOCAL, &FOREIGN]).await;
    });
}

/// A weight of 0 is sent as 1, as it counts.
///
/// A registry takes weights from 1. One that is sent as 0 is refused, and the server is never listed.
///
/// Hint: the largest of the weight and 1.
#[test]
fn a_weight_of_zero_is_registered_as_one() {
    run(async || {
        let registry = RegistryServer::new();
        let running = RunningRegistry::start(&registry).await;
        let client = running.client();
        within("the registration", client.register(&instance("tcp@a:1").weight(0))).await.unwrap();
        assert_eq!(registry.servers(), [instance("tcp@a:1").weight(1)]);
    });
}
