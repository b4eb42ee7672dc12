//! Hardening: a full registry, a long list, clients that are silent, slow or do not read, and pages in a browser.
//!
//! Write `check_origin` and `is_own` in `src/registry/request.rs`. For the rest see `src/registry/leases.rs`; the
//! limits are in `src/registry/mod.rs`.
//!
//! Chapter: Limits; What goes wrong without it

use super::*;

/// A list that is too long for a header is in the body only, and all of it.
///
/// HTTP clients and proxies limit headers. A list that grows must not one day break them all.
///
/// Hint: leave the header out; half a list is worse than none. Clients read the body.
#[test]
fn a_long_list_is_in_the_body_only() {
    run(async || {
        let running = RunningRegistry::start(&RegistryServer::new()).await;
        let servers: BTreeSet<_> = (1..=25).map(|n| format!("tcp@{}.example:{n}", "a".repeat(180))).collect();
        for server in &servers {
            running.exchange(&post(server)).await;
        }
        assert!(servers.iter().map(String::len).sum::<usize>() > MAX_SERVERS_HEADER_LEN);
        let answer = running.exchange(&get()).await;
        assert_eq!(answer.header("x-rrpc-servers"), None);
        assert_eq!(answer.header("x-rrpc-lease-ms"), Some("10000"));
        let list = within("the list", running.client().servers()).await.unwrap();
        assert_eq!(BTreeSet::from_iter(texts(&list.servers)), servers);
    });
}

/// However much a registry is set to hold, it takes no more servers than its clients take from it. And so many,
/// with the longest endpoints there are, make a list that is not too long for them.
///
/// The limits of the two sides must fit. Else one server more, or one with a long name, and no client has a list.
///
/// Hint: the smaller of the setting and `DEFAULT_MAX_SERVERS`.
#[test]
fn the_fullest_registry_has_a_list_that_clients_take() {
    run_paused(async || {
        let registry = RegistryServer::new().max_servers(usize::MAX);
        let wire = InMemory::serve(&registry);
        let post = |n: usize| {
            let server = format!("X-Rrpc-Server: tcp@{n:a>194}:1");
            request("POST", REGISTRY_PATH, &[&server, "X-Rrpc-Weight: 65535"])
        };
        for n in 0..DEFAULT_MAX_SERVERS {
            assert_eq!(wire.status(&post(n)).await, 200, "server {n}");
        }
        assert_eq!(wire.status(&post(DEFAULT_MAX_SERVERS)).await, 507);
        let answer = wire.exchange(&get()).await;
        assert!(answer.body.len() <= MAX_LIST_LEN, "{} bytes", answer.body.len());
        assert_eq!(answer.json().as_array().unwrap().len(), DEFAULT_MAX_SERVERS);
    });
}

/// The servers of all names together are bounded.
///
/// With a limit for each name, a peer that makes up names fills the memory.
///
/// Hint: count the entries, not those of a name. A name without servers takes nothing.
#[test]
fn all_names_together_are_bounded() {
    run_paused(async || {
        let registry = RegistryServer::new().max_servers(2);
        let wire = InMemory::serve(&registry);
        let post_name =
            |name: &str| request("POST", &format!("{REGISTRY_PATH}/{name}"), &["X-Rrpc-Server: tcp@a:1"]);
        for (name, status) in [("a", 200), ("b", 200), ("c", 507), ("a", 200)] {
            assert_eq!(wire.status(&post_name(name)).await, status, "{name}");
        }
        assert_eq!(wire.status(&post("tcp@a:1")).await, 507);
        assert_eq!(wire.exchange(&get_name("c")).await.json(), listed(&[]));
    });
}

/// What is remembered of former instances takes no server's place, and has an end.
///
/// A peer can make up ids without end, and endpoints as well. Each that is remembered costs memory.
///
/// Hint: the same limit as for servers, but a server comes first.
#[test]
#[cfg(target_os = "linux")]
fn former_instances_are_bounded() {
    alone(module_path!(), "former_instances_are_bounded", || {
        run_paused(async || {
            let registry = RegistryServer::new().max_servers(100);
            let wire = InMemory::serve(&registry);
            let leave = |n: usize| by(&format!("{n:i>60}"), "DELETE", &format!("tcp@{n:a>190}:1"));
            for n in 0..200 {
                assert_eq!(wire.status(&leave(n)).await, 204, "{n}");
            }
            let before = resident_kib();
            for n in 200..10_000 {
                assert_eq!(wire.status(&leave(n)).await, 204, "{n}");
            }
            let grown = resident_kib().saturating_sub(before);
            assert!(grown < 2_500, "{grown} KiB for former instances");
            for n in 0..100 {
                assert_eq!(
                    wire.status(&post(&format!("tcp@b:{}", n + 1))).await,
                    200,
                    "server {n} has a place"
                );
            }
            assert_eq!(wire.status(&leave(0)).await, 204, "a full registry has nothing to remember it in");
            assert_eq!(registry.servers().len(), 100);
        });
    });
}

/// A request without an id is that of `curl`: it registers, renews and deregisters what has no id, and takes the place
/// of no instance that has one. An instance with an id takes the place of what has none.
///
/// Hint: no id is no instance's id, so it is never a former one.
#[test]
fn requests_without_an_id_work_and_replace_no_instance() {
    run_paused(async || {
        let registry = RegistryServer::new();
        let wire = InMemory::serve(&registry);
        let delete = request("DELETE", REGISTRY_PATH, &["X-Rrpc-Server: tcp@a:1"]);
        for round in 0..2 {
            assert_eq!(wire.status(&post("tcp@a:1")).await, 200, "round {round}");
            assert_eq!(wire.status(&post("tcp@a:1")).await, 200, "round {round}: it renews");
            assert_eq!(wire.status(&by("x", "DELETE", "tcp@a:1")).await, 409, "round {round}: not its own");
            assert_eq!(wire.status(&delete).await, 204, "round {round}");
            assert_eq!(registry.servers(), [], "round {round}");
        }
        assert_eq!(wire.status(&post("tcp@a:1")).await, 200);
        assert_eq!(wire.status(&by("y", "POST", "tcp@a:1")).await, 200, "it takes the place");
        for refused in [&post("tcp@a:1"), &delete] {
            assert_eq!(wire.status(refused).await, 409, "{refused:?}");
        }
        assert_eq!(texts(&registry.servers()), ["tcp@a:1"]);

        let longest = "i".repeat(MAX_INSTANCE_ID_LEN);
        assert_eq!(wire.status(&by(&longest, "POST", "tcp@b:1")).await, 200);
        let too_long = "i".repeat(MAX_INSTANCE_ID_LEN + 1);
        for id in ["", "a b", "\u{e4}", &too_long, "a\r\nX-Rrpc-Instance: a"] {
            for method in ["POST", "DELETE"] {
                let answer = wire.exchange(&by(id, method, "tcp@b:1")).await;
                assert_eq!(answer.status(), 400, "{method} {id:?}: {answer:?}");
            }
        }
    });
}

/// The age counts from the first request, and anew after a silence of half a lease: the registry was not served, or its
/// process was stopped.
///
/// While it did not answer, no server could renew. A list that was kept has lost servers that are well, and if the registry
/// were old, each client would believe that.
///
/// Hint: a registry that has a server hears of it every third of a lease.
#[test]
fn a_registry_that_was_stopped_is_young_again() {
    run_paused(async || {
        let registry = RegistryServer::new().lease(LEASE);
        sleep(Duration::from_secs(3600)).await;
        let wire = InMemory::serve(&registry);
        let age = async |pause: u64| {
            sleep(Duration::from_millis(pause)).await;
            let answer = wire.exchange(&get()).await;
            answer.header("x-rrpc-age-ms").expect("the age").parse::<u64>().unwrap()
        };
        assert_eq!(age(3_000).await, 0, "the first request");
        for n in 1..=5 {
            assert_eq!(age(3_000).await, n * 3_000, "it was asked all the time");
        }
        sleep(Duration::from_secs(3)).await;
        wire.exchange(&post("tcp@a:1")).await;
        assert_eq!(age(3_000).await, 7 * 3_000, "a heartbeat is a request as well");
        assert_eq!(age(4_500).await, 0, "a silence of half a lease");
        assert_eq!(age(3_000).await, 3_000);
    });
}

/// A request with an `Origin`, or for a host that the registry does not know, is refused, whatever it asks for. And no
/// answer may be kept, or be taken for something else than it is.
///
/// A page in a browser can give its own name the address of a registry on your machine, and then reads and writes its
/// list. The name is still in the `Host`, and a browser adds the `Origin`. `curl` sends neither.
///
/// Hint: an IP address is a good host, as no name leads there; and so are `localhost` and the names of
/// `RegistryServer::host`. 403 for a page, 421 for the wrong host.
#[test]
fn a_page_in_a_browser_is_refused() {
    run_paused(async || {
        let registry = RegistryServer::new().host("Registry.example");
        let wire = InMemory::serve(&registry);
        let with = |method: &str, target: &str, headers: &str| {
            format!("{method} {target} HTTP/1.1\r\nX-Rrpc-Server: tcp@a:1\r\n{headers}\r\n")
        };
        let path = REGISTRY_PATH;
        let elsewhere = format!("http://page.example{path}");
        let cases: [(u16, &str, &[&str]); 5] = [
            (
                200,
                path,
                &[
                    "Host: 127.0.0.1\r\n",
                    "Host: 127.0.0.1:9999\r\n",
                    "Host: [::1]:9999\r\n",
                    "Host: LocalHost:9999\r\n",
                    "Host: localhost.\r\n",
                    "Host: registry.EXAMPLE:80\r\n",
                    "Host: 10.0.0.7\r\n",
                ],
            ),
            (
                421,
                path,
                &[
                    "Host: page.example\r\n",
                    "Host: 127.0.0.1.page.example\r\n",
                    "Host: localhost.page.example:9999\r\n",
                    "Host: notlocalhost\r\n",
                    "Host: my.registry.example\r\n",
                    "Host: \r\n",
                    "Host: 127.0.0.1/\r\n",
                ],
            ),
            (421, &elsewhere, &["Host: 127.0.0.1\r\n"]),
            (400, path, &["", "Host: 127.0.0.1\r\nHost: 127.0.0.1\r\n"]),
            (
                403,
                path,
                &[
                    "Host: 127.0.0.1\r\nOrigin: http://page.example\r\n",
                    "Host: 127.0.0.1\r\nOrigin: null\r\n",
                    "Host: 127.0.0.1\r\nOrigin: http://127.0.0.1\r\n",
                ],
            ),
        ];
        for (status, target, headers) in cases {
            for method in ["GET", "POST"] {
                for headers in headers {
                    let answer = wire.exchange(&with(method, target, headers)).await;
                    assert_eq!(answer.status(), status, "{method} {target} {headers:?}: {answer:?}");
                    assert!(!answer.body.is_empty(), "{method} {target} {headers:?}: why?");
                }
                let is_registered = registry.servers() == [instance("tcp@a:1")];
                assert_eq!(is_registered, method == "POST" && status == 200, "{status} {method}");
            }
            wire.exchange(&with("DELETE", path, "Host: localhost\r\n")).await;
        }

        let full = InMemory::serve(&RegistryServer::new().max_servers(0));
        let answers = [
            (200, wire.exchange(&post("tcp@a:1")).await),
            (409, wire.exchange(&by("x", "DELETE", "tcp@a:1")).await),
            (204, wire.exchange(&request("DELETE", path, &["X-Rrpc-Server: tcp@a:1"])).await),
            (200, wire.exchange(&get()).await),
            (400, wire.exchange(&post("a")).await),
            (403, wire.exchange(&request("GET", path, &["Origin: null"])).await),
            (404, wire.exchange(&request("GET", "/", &[])).await),
            (405, wire.exchange(&request("PUT", path, &[])).await),
            (421, wire.exchange(&with("GET", path, "Host: x\r\n")).await),
            (507, full.exchange(&post("tcp@a:1")).await),
        ];
        for (status, answer) in answers {
            assert_eq!(answer.status(), status, "{answer:?}");
            assert_eq!(answer.header("cache-control"), Some("no-store"), "{answer:?}");
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{answer:?}");
        }
    });
}

/// All clients that read a list slowly share it, also while it changes all the time.
///
/// The list of a full registry is two megabytes. If each answer has its own, two thousand clients that do not read
/// cost as many gigabytes, and a client that asks again and again keeps the registry busy.
///
/// Hint: make the answer once, keep it until something changes or a lease ends, and give out handles (`Bytes`). A long
/// list may be a tenth of a second old.
#[test]
#[cfg(target_os = "linux")]
fn slow_readers_share_one_list() {
    alone(module_path!(), "slow_readers_share_one_list", || {
        run(async || {
            let registry = RegistryServer::new().lease(Duration::from_secs(3600));
            let running = RunningRegistry::start(&registry).await;
            let wire = InMemory::serve(&registry);
            for n in 0..2_000 {
                assert_eq!(wire.status(&post(&format!("tcp@{n:a>194}:1"))).await, 200, "server {n}");
            }
            let len = wire.exchange(&get()).await.body.len();
            let before = resident_kib();
            let mut readers = Vec::new();
            for round in 0..300 {
                let change = ["X-Rrpc-Server: tcp@change:1", &format!("X-Rrpc-Weight: {}", 1 + round)];
                assert_eq!(wire.status(&request("POST", REGISTRY_PATH, &change)).await, 200);
                let socket = TcpSocket::new_v4().unwrap();
                socket.set_recv_buffer_size(4096).unwrap();
                let mut io = within("connecting", socket.connect(running.addr)).await.unwrap();
                within("sending", io.write_all(get().as_bytes())).await.unwrap();
                expect_bytes(&mut io, b"HTTP/1.1 200 OK\r\n").await;
                readers.push(io);
            }
            let grown = resident_kib().saturating_sub(before);
            let all = 300 * len / 1024;
            assert!(grown < all / 4, "{grown} KiB for 300 answers of together {all} KiB");
            let begin = Instant::now();
            let newest = listed(&["tcp@change:1"]).to_string().replace(":1}", ":300}");
            while !wire.exchange(&get()).await.body.contains(newest.trim_matches(['[', ']'])) {
                assert!(begin.elapsed() < Duration::from_secs(1), "the last change is not listed");
                sleep(Duration::from_millis(10)).await;
            }
        });
    });
}

/// A client that connects and sends nothing is dropped, and so is one that stops in mid-header.
///
/// Every wait ends. Otherwise a few idle sockets fill the registry.
///
/// Hint: one limit for all that comes before the answer. hyper's `header_read_timeout` needs a timer.
#[test]
fn a_silent_client_is_dropped() {
    run_paused(async || {
        let wire = InMemory::serve(&RegistryServer::new());
        let (mut silent, mut slow) = (wire.connector.connect(), wire.connector.connect());
        slow.write_all(b"GET /_rrpc_/registry HT").await.unwrap();
        let (mut from_silent, mut from_slow) = (Vec::new(), Vec::new());
        let second = Duration::from_secs(1);
        let ended = async {
            silent.read_to_end(&mut from_silent).await.unwrap();
            slow.read_to_end(&mut from_slow).await.unwrap();
        };
        let mut ended = std::pin::pin!(ended);
        let early = tokio::time::timeout(DEFAULT_HANDSHAKE_TIMEOUT - second, &mut ended).await;
        assert!(early.is_err(), "both connections have ended before their time");
        tokio::time::timeout(2 * second, ended).await.expect("both connections end in time");
        assert!(from_silent.is_empty(), "an answer without a request");
    });
}

/// A client that sends a request and then does not read the answer is dropped.
///
/// An answer that is not read holds its connection as long as a request that never comes.
///
/// Hint: a limit around the whole connection does it, however it is spent.
#[test]
fn a_client_that_does_not_read_is_dropped() {
    run_paused(async || {
        let (mut deaf, server) = duplex(64);
        let registry = RegistryServer::new();
        let listener = Script(VecDeque::from([Ok(server)]));
        let _serving = tokio::spawn(async move { registry.serve(listener).await });
        within("sending", deaf.write_all(get().as_bytes())).await.unwrap();
        expect_bytes(&mut deaf, b"HTTP/1.1 ").await;
        sleep(DEFAULT_HANDSHAKE_TIMEOUT + Duration::from_secs(1)).await;
        let mut answer = String::new();
        within("the end of the connection", deaf.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.len() <= 64, "the registry was still there: {answer}");
    });
}

/// At the signal the registry closes its port and ends well, even if a client is in the middle of a request.
///
/// A registry that is to stop must not wait for its slowest client, nor report half a request as a failure: no call
/// is lost with it.
///
/// Hint: `run_http` gives an answer that is on its way a moment, and drops the rest.
#[test]
fn shutdown_does_not_wait_for_a_slow_client() {
    run_paused(async || {
        // A stream that holds eight bytes: when all are written, the registry has read some of them.
        let (mut slow, server) = duplex(8);
        let signal = async { slow.write_all(b"GET /_rrpc_/registry HT").await.unwrap() };
        let listener = Script(VecDeque::from([Ok(server)]));
        let registry = RegistryServer::new();
        let ended = registry.serve_with_shutdown(listener, signal);
        within("the end of the registry", ended).await.unwrap();
    });
}

/// An instance that has left is remembered for a whole lease from then on.
///
/// Its last heartbeat may be on its way for as long as a request may take, however old its lease was when it left.
///
/// Hint: a deregistration moves the end of the entry.
#[test]
fn an_instance_that_has_left_is_remembered_for_a_lease() {
    run_paused(async || {
        let registry = RegistryServer::new().lease(LEASE);
        let wire = InMemory::serve(&registry);
        assert_eq!(wire.status(&by("a", "POST", "tcp@a:1")).await, 200);
        sleep(LEASE - Duration::from_secs(1)).await;
        assert_eq!(wire.status(&by("a", "DELETE", "tcp@a:1")).await, 204);
        sleep(LEASE - Duration::from_secs(1)).await;
        assert_eq!(wire.status(&by("a", "POST", "tcp@a:1")).await, 409);
    });
}

/// Of many former instances of an endpoint the oldest is forgotten first.
///
/// The one that was replaced last is the one whose heartbeat may still be on its way.
///
/// Hint: which end of the list is the oldest?
#[test]
fn the_oldest_former_instance_is_forgotten_first() {
    run_paused(async || {
        let registry = RegistryServer::new().lease(LEASE);
        let wire = InMemory::serve(&registry);
        for number in 0..12 {
            assert_eq!(wire.status(&by(&format!("i{number}"), "POST", "tcp@a:1")).await, 200, "{number}");
        }
        for recent in ["i10", "i9", "i8"] {
            assert_eq!(wire.status(&by(recent, "POST", "tcp@a:1")).await, 409, "{recent}");
        }
    });
}
