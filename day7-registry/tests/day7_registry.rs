//! Day 7: servers come and go by themselves.
//!
//! The order is that of the lesson: the registry on the wire, its client, the heartbeat, discovery, and all
//! of them together. Where timing matters, the test plays the registry itself: the arrival of a request is
//! the signal. Where no socket is needed, the clock is paused.

mod support;

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use day7_registry::error::full_text;
use day7_registry::{
    BalancedClient, DEFAULT_HANDSHAKE_TIMEOUT, DEFAULT_MAX_SERVERS, DEFAULT_TTL, Discovery, DiscoveryError,
    Endpoint, Heartbeat, MAX_LIST_LEN, MAX_SERVERS_HEADER_LEN, MultiServersDiscovery, Options, REGISTRY_PATH,
    Registry, RegistryDiscovery, RegistryError, RegistryUrl, SelectMode, Server,
};
use support::io::Script;
use support::registry::{HandRegistry, RunningRegistry, ask, client_of, request};
use support::{
    Running, STEP, Sum, alive_tasks, arith, eventually, run, run_paused, run_threads, start, within,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::TcpListener;
use tokio::time::{Instant, advance, sleep};

// ---- helpers of this suite -------------------------------------------------------------------------------

const LEASE: Duration = Duration::from_secs(9);

fn endpoint(text: &str) -> Endpoint {
    text.parse().unwrap()
}

fn texts(servers: &[Endpoint]) -> Vec<String> {
    servers.iter().map(Endpoint::to_string).collect()
}

async fn listed(discovery: &impl Discovery) -> Vec<String> {
    texts(&within("the list", discovery.get_all()).await.unwrap())
}

fn post(server: &str) -> String {
    request("POST", REGISTRY_PATH, &[&format!("X-Rrpc-Server: {server}")])
}

/// Serves `registry` on streams in memory, for a paused clock.
fn in_memory<const N: usize>(registry: &Registry) -> (tokio::task::JoinHandle<()>, [DuplexStream; N]) {
    let mut script = VecDeque::new();
    let clients = std::array::from_fn(|_| {
        let (client, server) = duplex(64 * 1024);
        script.push_back(Ok(server));
        client
    });
    let registry = registry.clone();
    (tokio::spawn(async move { registry.serve(Script(script)).await }), clients)
}

/// Polls all of them until all are ready.
async fn join_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut outputs: Vec<_> = futures.iter().map(|_| None).collect();
    poll_fn(|cx| {
        for (future, output) in futures.iter_mut().zip(&mut outputs) {
            if output.is_none()
                && let Poll::Ready(ready) = future.as_mut().poll(cx)
            {
                *output = Some(ready);
            }
        }
        if outputs.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    outputs.into_iter().flatten().collect()
}

/// The registry's error, out of the error of discovery.
fn registry_error(error: DiscoveryError) -> RegistryError {
    match error {
        DiscoveryError::Unavailable(source) => *source.downcast::<RegistryError>().unwrap(),
        other => panic!("expected Unavailable, got {other:?}"),
    }
}

fn status<T: std::fmt::Debug>(result: Result<T, RegistryError>) -> u16 {
    match result {
        Err(RegistryError::Status { status, .. }) => status,
        other => panic!("expected an error with a status, got {other:?}"),
    }
}

// ---- the registry on the wire ----------------------------------------------------------------------------
// Chapter: The wire; Files of today > src/registry.rs

/// `POST` answers 200 and says how long the lease is, as a header and in JSON.
///
/// Who renews must know how often; a constant on the server's side is wrong for every other registry.
///
/// Hint: hyper writes header names in lower case, unless it is told `title_case_headers`.
#[test]
fn registering_answers_with_the_lease() {
    run(async || {
        let registry = RunningRegistry::start(&Registry::new()).await;
        let answer = registry.ask(&post("tcp@127.0.0.1:7001")).await;
        assert_eq!(
            answer,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Rrpc-Lease-Ms: 10000\r\n\
             Connection: close\r\nContent-Length: 18\r\n\r\n{\"lease_ms\":10000}"
        );
        assert_eq!(DEFAULT_TTL, Duration::from_secs(10));
    });
}

/// `GET` answers with the list, sorted, in a header and as a JSON array; who registers twice is there once.
///
/// A heartbeat is a registration that is repeated, so repeating must only renew.
///
/// Hint: a map from the endpoint to the end of its lease; a `BTreeMap` is sorted by itself.
#[test]
fn the_list_is_in_a_header_and_in_the_body() {
    run(async || {
        let registry = Registry::new();
        let running = RunningRegistry::start(&registry).await;
        for server in ["unix@/run/a.sock", "tcp@b:7002", "http@b:7001", "tcp@b:7002"] {
            running.ask(&post(server)).await;
        }
        assert_eq!(
            running.ask(&request("GET", REGISTRY_PATH, &[])).await,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Rrpc-Lease-Ms: 10000\r\n\
             X-Rrpc-Servers: http@b:7001,tcp@b:7002,unix@/run/a.sock\r\nConnection: close\r\n\
             Content-Length: 47\r\n\r\n[\"http@b:7001\",\"tcp@b:7002\",\"unix@/run/a.sock\"]"
        );
        assert_eq!(texts(&registry.servers()), ["http@b:7001", "tcp@b:7002", "unix@/run/a.sock"]);
    });
}

/// A server that does not renew its lease is not in the list any more when the lease has ended, and one that
/// does is.
///
/// GeeRPC's tests also pass with a registry that forgets nobody; then every crash leaves a dead server.
///
/// Hint: ask the clock when the list is read. A timer that cleans up may always be late.
#[test]
fn a_server_that_stops_renewing_is_forgotten() {
    run_paused(async || {
        let registry = Registry::new().ttl(LEASE);
        let (_serving, [a, b, again, get]) = in_memory(&registry);
        ask(a, &post("tcp@a:1")).await;
        ask(b, &post("tcp@b:1")).await;
        sleep(Duration::from_secs(8)).await;
        assert_eq!(texts(&registry.servers()), ["tcp@a:1", "tcp@b:1"], "both leases have a second left");
        ask(again, &post("tcp@b:1")).await;
        // To the millisecond: a lease is over when its time is up, not some time after.
        sleep(Duration::from_secs(1)).await;
        assert_eq!(texts(&registry.servers()), ["tcp@b:1"], "only b has renewed its lease");
        let answer = ask(get, &request("GET", REGISTRY_PATH, &[])).await;
        assert!(answer.ends_with("\r\n\r\n[\"tcp@b:1\"]"), "{answer}");
        sleep(Duration::from_secs(8)).await;
        assert_eq!(texts(&registry.servers()), [""; 0], "the renewed lease ends too");
    });
}

/// A full registry refuses a new server and names the limit, goes on renewing those it has, and takes a new
/// one when a lease has ended.
///
/// Anybody may register, so the list must be bounded; but a full list must not kill those in it.
///
/// Hint: first remove what has ended, then look whether the server is there, then count.
#[test]
fn a_full_registry_refuses_new_servers_and_renews_old_ones() {
    run_paused(async || {
        let registry = Registry::new().max_servers(2);
        let (_serving, [a, b, c, again, c2]) = in_memory(&registry);
        ask(a, &post("tcp@a:1")).await;
        ask(b, &post("tcp@b:1")).await;
        let refused = ask(c, &post("tcp@c:1")).await;
        assert!(refused.starts_with("HTTP/1.1 507 "), "{refused}");
        assert!(refused.contains("2 servers are registered"), "{refused}");
        advance(Duration::from_secs(6)).await;
        assert!(ask(again, &post("tcp@a:1")).await.starts_with("HTTP/1.1 200 "), "renewing works");
        advance(Duration::from_secs(6)).await;
        assert!(ask(c2, &post("tcp@c:1")).await.starts_with("HTTP/1.1 200 "), "b has made room");
        assert_eq!(texts(&registry.servers()), ["tcp@a:1", "tcp@c:1"]);
    });
}

/// However much a registry is set to hold, it takes no more servers than its clients take from it; and so many,
/// with the longest endpoints there are, make a list that is not too long for them.
///
/// The limits of the two sides must fit. Else one server more, or one with a long name, and nobody has a list.
///
/// Hint: the smaller of what is asked for and `DEFAULT_MAX_SERVERS`.
#[test]
fn the_fullest_registry_has_a_list_that_clients_take() {
    run_paused(async || {
        let registry = Registry::new().max_servers(usize::MAX);
        let server = |n: usize| format!("tcp@{n:a>194}:1");
        for first in (0..DEFAULT_MAX_SERVERS).step_by(100) {
            let (serving, streams) = in_memory::<100>(&registry);
            for (n, io) in (first..).zip(streams) {
                let answer = ask(io, &post(&server(n))).await;
                assert!(answer.starts_with("HTTP/1.1 200 "), "server {n}: {answer}");
            }
            serving.abort();
        }
        let (_serving, [one_more, get]) = in_memory(&registry);
        let refused = ask(one_more, &post(&server(DEFAULT_MAX_SERVERS))).await;
        assert!(refused.starts_with("HTTP/1.1 507 "), "{refused}");
        assert!(refused.contains("10000"), "{refused}");
        let answer = ask(get, &request("GET", REGISTRY_PATH, &[])).await;
        let (_, list) = answer.split_once("\r\n\r\n").unwrap();
        assert!(list.len() <= MAX_LIST_LEN, "{} bytes", list.len());
        assert_eq!(serde_json::from_str::<Vec<String>>(list).unwrap().len(), DEFAULT_MAX_SERVERS);
    });
}

/// `DELETE` takes a server off the list at once, and is no error if it is not there.
///
/// GeeRPC has no way to deregister; each deploy then means failing calls until the lease ends.
///
/// Hint: 204 either way: what the sender wants is true in both cases.
#[test]
fn deregistering_takes_effect_at_once() {
    run(async || {
        let registry = Registry::new();
        let running = RunningRegistry::start(&registry).await;
        running.ask(&post("tcp@a:1")).await;
        running.ask(&post("tcp@b:1")).await;
        let delete = request("DELETE", REGISTRY_PATH, &["X-Rrpc-Server: tcp@a:1"]);
        for _ in 0..2 {
            let answer = running.ask(&delete).await;
            assert_eq!(answer, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
            assert_eq!(texts(&registry.servers()), ["tcp@b:1"]);
        }
    });
}

/// A `POST` or `DELETE` names exactly one good endpoint. Everything else is 400, and the text says what was
/// wrong and what is accepted.
///
/// In GeeRPC `a,b` registers two servers, one of which the sender may not own; and `[::]:port`, the address
/// that a server listens on, is handed to clients, who cannot connect to it.
///
/// Hint: a header may be there twice. `HeaderMap::get` shows you only the first.
#[test]
fn a_request_must_name_exactly_one_reachable_server() {
    run(async || {
        let registry = Registry::new();
        let running = RunningRegistry::start(&registry).await;
        let long = format!("X-Rrpc-Server: tcp@{}:1", "a".repeat(195));
        let cases: [(&[&str], &str); 9] = [
            (&[], "missing"),
            (&["X-Rrpc-Server: tcp@a:1,tcp@b:1"], "comma"),
            (&["X-Rrpc-Server: unix@/a,unix@/b"], "comma"),
            (&["X-Rrpc-Server: tcp@a:1", "X-Rrpc-Server: tcp@b:1"], "more than once"),
            (&["X-Rrpc-Server: 127.0.0.1:1"], "the protocol is missing"),
            (&["X-Rrpc-Server: tcp@a:0"], "the port is not a number from 1 to 65535"),
            (&["X-Rrpc-Server: tcp@0.0.0.0:1"], "nobody can connect"),
            (&["X-Rrpc-Server: http@[::]:1"], "nobody can connect"),
            (&[&long], "longer than 200 bytes"),
        ];
        for method in ["POST", "DELETE"] {
            for (headers, reason) in cases {
                let answer = running.ask(&request(method, REGISTRY_PATH, headers)).await;
                assert!(answer.starts_with("HTTP/1.1 400 "), "{method} {headers:?}: {answer}");
                assert!(answer.contains(reason), "{method} {headers:?}: {answer}");
                assert!(answer.contains("expected one endpoint"), "{method} {headers:?}: {answer}");
            }
        }
        assert_eq!(registry.servers(), [], "none of them was registered");

        let longest = format!("tcp@{}:1", "a".repeat(194));
        let answer = running.ask(&post(&longest)).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "200 bytes are not too long: {answer}");
    });
}

/// Another path is 404; another method is 405, and says which methods there are.
///
/// A status alone leaves whoever has mistyped a URL guessing; and a registry that takes any path seems to
/// work until something else shares its port.
///
/// Hint: the path first, then the method. `Allow` is a header.
#[test]
fn other_paths_and_methods_are_refused() {
    run(async || {
        let running = RunningRegistry::start(&Registry::new()).await;
        let elsewhere = running.ask(&request("GET", "/elsewhere", &[])).await;
        assert!(elsewhere.starts_with("HTTP/1.1 404 "), "{elsewhere}");
        assert!(elsewhere.contains(REGISTRY_PATH), "{elsewhere}");
        let put = running.ask(&request("PUT", REGISTRY_PATH, &[])).await;
        assert!(put.starts_with("HTTP/1.1 405 "), "{put}");
        assert!(put.contains("\r\nAllow: GET, POST, DELETE\r\n"), "{put}");
    });
}

/// A list that is too long for a header is in the body only, and all of it.
///
/// HTTP clients and proxies limit headers; a list that grows must not one day break them all.
///
/// Hint: leave the header out; half a list is worse than none. Clients read the body.
#[test]
fn a_long_list_is_in_the_body_only() {
    run(async || {
        let running = RunningRegistry::start(&Registry::new()).await;
        let servers: BTreeSet<_> = (1..=25).map(|n| format!("tcp@{}.example:{n}", "a".repeat(180))).collect();
        for server in &servers {
            running.ask(&post(server)).await;
        }
        assert!(servers.iter().map(String::len).sum::<usize>() > MAX_SERVERS_HEADER_LEN);
        let answer = running.ask(&request("GET", REGISTRY_PATH, &[])).await;
        assert!(!answer.contains("X-Rrpc-Servers"), "{answer}");
        assert!(answer.contains("X-Rrpc-Lease-Ms: 10000\r\n"), "{answer}");
        let list = within("the list", running.client().servers()).await.unwrap();
        assert_eq!(BTreeSet::from_iter(texts(&list.servers)), servers);
    });
}

/// A client that connects and says nothing is dropped, and so is one that stops in mid-header.
///
/// Every wait ends; otherwise a few idle sockets fill the registry.
///
/// Hint: one limit for all that comes before the answer. hyper's `header_read_timeout` needs a timer.
#[test]
fn a_silent_client_is_dropped() {
    run_paused(async || {
        let (_serving, [mut silent, mut slow]) = in_memory(&Registry::new());
        slow.write_all(b"GET /_rrpc_/registry HT").await.unwrap();
        let (mut from_silent, mut from_slow) = (Vec::new(), Vec::new());
        let after = DEFAULT_HANDSHAKE_TIMEOUT + Duration::from_secs(1);
        let ended = async {
            silent.read_to_end(&mut from_silent).await.unwrap();
            slow.read_to_end(&mut from_slow).await.unwrap();
        };
        tokio::time::timeout(after, ended).await.expect("both connections end in time");
        assert!(from_silent.is_empty(), "nothing was asked, so nothing is answered");
    });
}

/// A client that asks and then does not read the answer is dropped.
///
/// An answer that nobody takes holds its connection as long as a request that never comes.
///
/// Hint: a limit around the whole connection does it, however it is spent.
#[test]
fn a_client_that_does_not_read_is_dropped() {
    run_paused(async || {
        let (mut deaf, server) = duplex(64);
        let registry = Registry::new();
        let listener = Script(VecDeque::from([Ok(server)]));
        let _serving = tokio::spawn(async move { registry.serve(listener).await });
        let request = request("GET", REGISTRY_PATH, &[]);
        deaf.write_all(request.as_bytes()).await.unwrap();
        tokio::time::sleep(DEFAULT_HANDSHAKE_TIMEOUT + Duration::from_secs(1)).await;
        let mut answer = String::new();
        within("the end of the connection", deaf.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.len() <= 64, "the registry was still there: {answer}");
    });
}

/// Dropping the future of `serve` leaves nothing behind, no timer either.
///
/// Leak-free by construction; whoever starts a registry in a test or a program can also stop it.
///
/// Hint: connections in a `JoinSet` that the future of `serve` owns; the clean-up is one more branch of it,
/// and no task.
#[test]
fn a_registry_that_is_dropped_leaves_nothing_behind() {
    run(async || {
        let before = alive_tasks();
        let running = RunningRegistry::start(&Registry::new()).await;
        running.ask(&post("tcp@a:1")).await;
        let mut open = tokio::net::TcpStream::connect(running.addr).await.unwrap();
        running.kill().await;
        eventually("all tasks are gone", || alive_tasks() == before).await;
        let mut rest = Vec::new();
        // The end of the stream, or a reset; but it does not stay open.
        within("the end of an idle connection", open.read_to_end(&mut rest)).await.ok();
    });
}

/// At the signal the registry closes its port and ends, even if somebody is in the middle of a request.
///
/// Whoever stops a registry wants it stopped, not waiting for the slowest client.
///
/// Hint: there is no call in flight here that anybody would miss. Drop the connections.
#[test]
fn shutdown_does_not_wait_for_a_slow_client() {
    run_paused(async || {
        // A stream that holds eight bytes: when all are written, the registry has read some of them.
        let (mut slow, server) = duplex(8);
        let signal = async { slow.write_all(b"GET /_rrpc_/registry HT").await.unwrap() };
        let listener = Script(VecDeque::from([Ok(server)]));
        let registry = Registry::new();
        let ended = registry.serve_with_shutdown(listener, signal);
        within("the end of the registry", ended).await.unwrap();
    });
}

// ---- the client ------------------------------------------------------------------------------------------
// Chapter: The wire; Files of today > src/registry_client.rs

/// The three requests, to the byte.
///
/// A registry or a proxy that somebody else wrote must understand them.
///
/// Hint: hyper writes what you give it and adds little; `Host` you have to set yourself.
#[test]
fn the_client_sends_plain_http() {
    run(async || {
        let registry = HandRegistry::start().await;
        let client = registry.client();
        let host = client.url().to_string().replace("http://", "").replace(REGISTRY_PATH, "");
        let common = format!("/_rrpc_/registry HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
        let server = endpoint("tcp@127.0.0.1:7001");

        let (lease, ()) = tokio::join!(client.register(&server), async {
            let request = registry.request().await;
            assert_eq!(request.head, format!("POST {common}X-Rrpc-Server: tcp@127.0.0.1:7001\r\n\r\n"));
            request.grant(LEASE).await;
        });
        assert_eq!(lease.unwrap(), LEASE);

        let (list, ()) = tokio::join!(client.servers(), async {
            let request = registry.request().await;
            assert_eq!(request.head, format!("GET {common}\r\n"));
            request.list(LEASE, &["tcp@127.0.0.1:7001"]).await;
        });
        let list = list.unwrap();
        assert_eq!((texts(&list.servers), list.lease), (vec![server.to_string()], LEASE));

        let (deregistered, ()) = tokio::join!(client.deregister(&server), async {
            let request = registry.request().await;
            assert_eq!(request.head, format!("DELETE {common}X-Rrpc-Server: tcp@127.0.0.1:7001\r\n\r\n"));
            request.answer("204 No Content", &[], "").await;
        });
        deregistered.unwrap();
    });
}

/// An answer that is not of the 2xx is an error, with the status and the registry's text, even if the rest of
/// it looks good.
///
/// GeeRPC's heartbeat takes 500 for success, because some answer came.
///
/// Hint: look at the status before you look at anything else.
#[test]
fn only_a_2xx_status_is_a_success() {
    run(async || {
        let registry = HandRegistry::start().await;
        let client = registry.client();
        let server = endpoint("tcp@a:1");
        let lease = &["X-Rrpc-Lease-Ms: 9000"];
        for (line, code) in [("500 Oops", 500), ("503 Busy", 503), ("302 Found", 302), ("404 Nope", 404)] {
            let answering = async { registry.request().await.answer(line, lease, "[]").await };
            assert_eq!(status(tokio::join!(client.register(&server), answering).0), code);
            let answering = async { registry.request().await.answer(line, lease, "[]").await };
            assert_eq!(status(tokio::join!(client.deregister(&server), answering).0), code);
            let answering = async { registry.request().await.answer(line, lease, "[]").await };
            assert_eq!(status(tokio::join!(client.servers(), answering).0), code);
        }
        let answering = async { registry.request().await.answer("500 Oops", &[], "out of memory\n").await };
        match tokio::join!(client.register(&server), answering).0 {
            Err(RegistryError::Status { text, .. }) => assert_eq!(text, "out of memory"),
            other => panic!("expected the registry's text, got {other:?}"),
        }
    });
}

/// A refusal with a text that never comes to its end: the status is known, and is the error, with the text that
/// has come so far.
///
/// A registry is overloaded, says 503 and stalls. "It did not answer" would be wrong, and would take longer.
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
            Err(RegistryError::Status { status, text }) => assert_eq!((status, &*text), (503, "not now")),
            other => panic!("expected the status, got {other:?}"),
        }
    });
}

/// A 200 that is not the answer of a registry is an error too: no JSON array, no lease, a lease of zero, or a
/// list without end.
///
/// The port may belong to another program by now; and a lease of zero would make a heartbeat spin.
///
/// Hint: `http_body_util::Limited` ends a list without end. Check the lease where it is read.
#[test]
fn an_answer_that_makes_no_sense_is_an_error() {
    run(async || {
        let registry = HandRegistry::start().await;
        let client = registry.client();
        let too_long = format!("[\"{}\"]", "a".repeat(MAX_LIST_LEN));
        let lists: [(&[&str], &str); 6] = [
            (&["X-Rrpc-Lease-Ms: 9000"], "<html>"),
            (&["X-Rrpc-Lease-Ms: 9000"], "{\"servers\":[]}"),
            (&["X-Rrpc-Lease-Ms: 9000"], &too_long),
            (&["X-Rrpc-Lease-Ms: 0"], "[]"),
            (&["X-Rrpc-Lease-Ms: soon"], "[]"),
            (&[], "[]"),
        ];
        for (headers, body) in lists {
            let answering = async { registry.request().await.answer("200 OK", headers, body).await };
            let result = tokio::join!(client.servers(), answering).0;
            assert!(matches!(result, Err(RegistryError::BadAnswer(_))), "{headers:?}: {result:?}");
        }
        let longest = format!("[\"tcp@a:1\"{}]", " ".repeat(2 * 1024 * 1024 - 11));
        assert_eq!(longest.len(), MAX_LIST_LEN);
        let answering =
            async { registry.request().await.answer("200 OK", &["X-Rrpc-Lease-Ms: 9000"], &longest).await };
        let list = tokio::join!(client.servers(), answering).0.expect("a list of exactly the limit");
        assert_eq!(texts(&list.servers), ["tcp@a:1"]);

        let server = endpoint("tcp@a:1");
        for headers in [&[][..], &["X-Rrpc-Lease-Ms: 0"]] {
            let answering = async { registry.request().await.answer("200 OK", headers, "{}").await };
            let result = tokio::join!(client.register(&server), answering).0;
            assert!(matches!(result, Err(RegistryError::BadAnswer(_))), "{headers:?}: {result:?}");
        }
    });
}

/// A list of more servers than a registry holds is refused, with both numbers; one of exactly so many is taken.
///
/// Short names make a list of 150,000 in the bytes that are allowed. It would be a burden to everything behind:
/// the ring of `ConsistentHash` has a hundred points for each, and calls wait while it is made.
///
/// Hint: count what is in the array, before you look at each.
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
                Err(RegistryError::BadAnswer(text)) => {
                    assert!(!is_taken && text.contains("10000") && text.contains("10001"), "{text}");
                }
                other => panic!("{servers} servers: {other:?}"),
            }
        }
    });
}

/// An entry of the list that is no endpoint, or none to connect to, is left out; the others are used.
///
/// A newer registry may list servers in a way that we do not know yet. One of them must not hide all.
///
/// Hint: decode a list of texts first, and parse them one by one.
#[test]
fn entries_that_are_no_endpoints_are_left_out() {
    run(async || {
        let registry = HandRegistry::start().await;
        let body = r#"["tcp@a:1", "quic@b:1", 7, null, "tcp@0.0.0.0:1", "", "tcp@c:1"]"#;
        let answering = async {
            registry.request().await.answer("200 OK", &["X-Rrpc-Lease-Ms: 9000"], body).await;
        };
        let client = registry.client();
        let list = tokio::join!(client.servers(), answering).0.unwrap();
        assert_eq!(texts(&list.servers), ["tcp@a:1", "tcp@c:1"]);
    });
}

/// A registry that says nothing, or stops in the middle of its answer, costs the time limit and no more; one
/// that is not there is a different error.
///
/// GeeRPC asks without a time limit, inside of the call.
///
/// Hint: one limit around connecting, asking and reading all of the answer.
#[test]
fn a_registry_that_hangs_costs_the_time_limit() {
    run(async || {
        let registry = HandRegistry::start().await;
        let after = Duration::from_millis(100);
        let client = registry.client().timeout(after);
        let silent = async { registry.request().await };
        let (result, unanswered) =
            within("the time limit", async { tokio::join!(client.servers(), silent) }).await;
        assert!(matches!(result, Err(RegistryError::Timeout { after: a }) if a == after), "{result:?}");
        drop(unanswered);

        let answer_half = async {
            let mut request = registry.request().await;
            let half = b"HTTP/1.1 200 OK\r\nX-Rrpc-Lease-Ms: 9000\r\nContent-Length: 9\r\n\r\n[";
            request.send(half).await;
            request
        };
        let (result, unfinished) =
            within("the time limit", async { tokio::join!(client.servers(), answer_half) }).await;
        assert!(matches!(result, Err(RegistryError::Timeout { .. })), "{result:?}");
        drop(unfinished);

        drop(registry);
        let result = within("no connection", client.servers()).await;
        assert!(matches!(result, Err(RegistryError::Unreachable(_))), "{result:?}");
    });
}

/// A connection that is reset in the middle of an exchange: the error's text says so, and says it once. That
/// holds for the text of the error itself and for the one with all its causes.
///
/// This text is all that the log of a heartbeat shows. hyper's own is "connection error", with the cause behind.
///
/// Hint: `error::full_text` makes one text of an error and its causes, and leaves out what was said already.
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
        for text in [error.to_string(), full_text(&error.into())] {
            assert!(text.contains("reset"), "{text}");
            let parts: Vec<_> = text.split(": ").collect();
            assert_eq!(parts.iter().collect::<HashSet<_>>().len(), parts.len(), "said twice: {text}");
        }
    });
}

/// A URL may leave out the port and the path; what is no URL of a registry is refused, with a text that says
/// why.
///
/// A mistake in a URL should be found when the program starts, and not at the first heartbeat, in a log.
///
/// Hint: `FromStr`, with an error that holds the text. `http::Uri` takes a URL apart for you, and it takes
/// more than a registry can have.
#[test]
fn urls_are_checked_when_they_are_parsed() {
    let good = [
        ("http://registry", "http://registry:80/_rrpc_/registry"),
        ("http://registry:9999/", "http://registry:9999/_rrpc_/registry"),
        ("http://[::1]", "http://[::1]:80/_rrpc_/registry"),
        ("http://10.0.0.7:9999/my/path", "http://10.0.0.7:9999/my/path"),
    ];
    for (text, full) in good {
        let url: RegistryUrl = text.parse().unwrap();
        assert_eq!(url.to_string(), full);
        assert_eq!(full.parse::<RegistryUrl>().unwrap(), url, "what is shown can be parsed again");
    }
    let bad = [
        ("https://registry", "https is not supported"),
        ("ftp://registry", "the scheme is not http"),
        ("registry:9999", "the scheme is missing"),
        ("http://", "the host is missing"),
        ("http://:9999", "the host is missing"),
        ("http://registry:99999", "the port is not a number from 1 to 65535"),
        ("http://registry:", "the port is not a number from 1 to 65535"),
        ("http://me@registry", "user names"),
        ("http://registry/a?b", "a query or a fragment"),
        ("http://registry/a#b", "a query or a fragment"),
        ("http://registry/a b", "the path has characters"),
    ];
    for (text, reason) in bad {
        let error = text.parse::<RegistryUrl>().unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
        assert!(error.contains(&format!("{text:?}")), "{error}");
        assert!(error.contains("expected http://host:port"), "{error}");
    }
}

// ---- the heartbeat ---------------------------------------------------------------------------------------
// Chapter: Files of today > src/heartbeat.rs; Limits > pause between two beats

/// The first beat comes at once, not after a first pause.
///
/// The usual loop waits and then acts, so a server that is up and ready would get no calls for seconds.
///
/// Hint: act, then wait: the pause is at the end of the loop.
#[test]
fn the_first_beat_comes_at_once() {
    run(async || {
        let registry = HandRegistry::start().await;
        let begin = Instant::now();
        let _heartbeat = Heartbeat::start(registry.client(), endpoint("tcp@a:1"));
        registry.request().await.grant(LEASE).await;
        // Far from 10 s / 3, and far enough from a busy machine.
        assert!(begin.elapsed() < Duration::from_secs(2), "the first beat came after {:?}", begin.elapsed());
    });
}

/// The next beat comes a third of the lease after the last, whatever lease the registry grants.
///
/// An interval of its own, however reasonable, makes servers flap at a registry with shorter leases; and with
/// one beat in a lease, each comes when it is over.
///
/// Hint: the answer to each beat says how long the lease is. A third of it leaves time for two more attempts.
#[test]
fn beats_follow_the_lease() {
    run(async || {
        let registry = HandRegistry::start().await;
        let heartbeat = Heartbeat::start(registry.client(), endpoint("tcp@a:1"));
        for millis in [300, 3_000, 300] {
            let request = registry.request().await;
            let granted = Instant::now();
            request.grant(Duration::from_millis(millis)).await;
            within("the registration", heartbeat.wait_registered()).await;
            let next = registry.request().await;
            let pause = granted.elapsed();
            assert!(pause >= Duration::from_millis(millis / 3), "{pause:?} after a lease of {millis} ms");
            // Far from 10 s / 3 and from a whole lease, and far enough from a busy machine.
            assert!(pause < Duration::from_secs(2), "{pause:?} after a lease of {millis} ms");
            next.answer("503 Busy", &[], "").await;
        }
    });
}

/// After a failure of whatever kind the heartbeat goes on, and says what went wrong; a 500 does not count as
/// registered.
///
/// GeeRPC's heartbeat ends at its first error, and takes a 500 for success. Either way the server is alive
/// and nobody knows.
///
/// Hint: a loop without a `break` and without a `?`. The outcome goes into a `watch` channel.
#[test]
fn a_failed_beat_is_not_the_last() {
    run(async || {
        let registry = HandRegistry::start().await;
        let heartbeat = Heartbeat::start(registry.client(), endpoint("tcp@a:1"));
        registry.request().await.answer("500 Oops", &["X-Rrpc-Lease-Ms: 9000"], "{}").await;
        eventually("the error is known", || heartbeat.last_error().is_some()).await;
        assert_eq!(status::<()>(Err(heartbeat.last_error().unwrap())), 500);
        assert!(!heartbeat.is_registered());
        drop(registry.request().await); // closes the connection without an answer
        registry.request().await.answer("200 OK", &[], "no lease").await;
        registry.request().await.grant(LEASE).await;
        within("the registration", heartbeat.wait_registered()).await;
        assert!(heartbeat.is_registered());
        assert!(heartbeat.last_error().is_none());
    });
}

/// The pauses between failures grow.
///
/// A registry that is down because it is overloaded must not be asked the more for it.
///
/// Hint: the pause doubles, up to a limit, and starts anew after a success. See `Backoff`.
#[test]
fn failing_beats_come_less_and_less_often() {
    run(async || {
        let registry = HandRegistry::start().await;
        let _heartbeat = Heartbeat::start(registry.client(), endpoint("tcp@a:1"));
        let mut request = registry.request().await;
        for at_least in [50, 100, 200] {
            let failed = Instant::now();
            request.answer("503 Busy", &[], "").await;
            request = registry.request().await;
            let pause = failed.elapsed();
            // Half of 100, 200 and 400 ms: that is how much chance may take off.
            assert!(pause >= Duration::from_millis(at_least), "{pause:?}, expected {at_least} ms at least");
        }
    });
}

/// After a success the pauses start anew, and the first one leaves time for more attempts within the lease.
///
/// A failure is mostly a hiccup, and the lease goes on running. A heartbeat that still sits out the pause of
/// an outage long over, or starts with a long one, gives the lease away.
///
/// Hint: a quarter of the longest pause is a good first one. See `Backoff`.
#[test]
fn the_first_pause_after_a_success_is_short() {
    run(async || {
        let registry = HandRegistry::start().await;
        let _heartbeat = Heartbeat::start(registry.client(), endpoint("tcp@a:1"));
        let mut shortest = Duration::MAX;
        // The pause is at most 20 ms here, and 40 ms or more if it is wrong. A busy machine makes some
        // attempts late, but not all of them.
        for _ in 0..20 {
            for _ in 0..3 {
                registry.request().await.answer("503 Busy", &[], "").await;
            }
            registry.request().await.grant(Duration::from_millis(240)).await;
            let beat = registry.request().await;
            let failed = Instant::now();
            beat.answer("503 Busy", &[], "").await;
            let again = registry.request().await;
            shortest = shortest.min(failed.elapsed());
            if shortest < Duration::from_millis(35) {
                return;
            }
            again.answer("503 Busy", &[], "").await;
        }
        panic!("the shortest of 20 first pauses was {shortest:?}, with a lease of 240 ms");
    });
}

/// Each pause after a failure is shortened by chance.
///
/// All servers saw the registry fail at the same moment. Without chance they would all be back at the same
/// moment too, again and again.
///
/// Hint: anything from a half of the pause to all of it.
#[test]
fn pauses_after_failures_are_shortened_by_chance() {
    run(async || {
        let third_pause = async || {
            let registry = HandRegistry::start().await;
            let _heartbeat = Heartbeat::start(registry.client(), endpoint("tcp@a:1"));
            for _ in 0..2 {
                registry.request().await.answer("503 Busy", &[], "").await;
            }
            let third = registry.request().await;
            let failed = Instant::now();
            third.answer("503 Busy", &[], "").await;
            registry.request().await;
            failed.elapsed()
        };
        let pauses = join_all((0..20).map(|_| third_pause()).collect()).await;
        // Each is from 200 to 400 ms. A pause that nobody shortens is never below 400.
        assert!(pauses.iter().any(|pause| *pause < Duration::from_millis(380)), "{pauses:?}");
    });
}

/// A lease counts from when it was asked for, not from when the answer is here.
///
/// The registry's clock started when it read the request. Who counts from the answer believes to be listed
/// when the lease has long ended.
///
/// Hint: take the time before you send the request.
#[test]
fn a_lease_counts_from_when_it_was_asked_for() {
    run(async || {
        let registry = HandRegistry::start().await;
        let heartbeat = Heartbeat::start(registry.client(), endpoint("tcp@a:1"));
        let request = registry.request().await;
        registry.expect_silence(Duration::from_millis(450)).await;
        request.grant(Duration::from_millis(400)).await;
        within("the registration", heartbeat.wait_registered()).await;
        assert!(!heartbeat.is_registered(), "the answer took longer than the lease");
    });
}

/// A beat that is not answered is given up while the lease still has time for another.
///
/// With the client's own time limit of 5 s, one lost packet would cost a server its lease of 600 ms.
///
/// Hint: the time for one beat depends on the lease as well.
#[test]
fn a_beat_that_hangs_does_not_cost_the_lease() {
    run(async || {
        let registry = HandRegistry::start().await;
        let _heartbeat = Heartbeat::start(registry.client().timeout(STEP), endpoint("tcp@a:1"));
        registry.request().await.grant(Duration::from_millis(600)).await;
        let _unanswered = registry.request().await;
        let hung = Instant::now();
        registry.request().await.grant(LEASE).await;
        // 250 ms on an idle machine. The client's own limit is twenty times that.
        assert!(hung.elapsed() < STEP / 2, "the next attempt came after {:?}", hung.elapsed());
    });
}

/// Shutdown waits for the beat that is on its way, then deregisters, then beats no more.
///
/// GeeRPC never deregisters. And a farewell that overtakes a beat is worse than none: the dead server is
/// listed for a whole lease.
///
/// Hint: send both from the same loop, one after the other. So there is nothing to overtake.
#[test]
fn shutdown_deregisters_after_the_last_beat() {
    run(async || {
        let registry = HandRegistry::start().await;
        let heartbeat = Heartbeat::start(registry.client(), endpoint("tcp@a:1"));
        let beat = registry.request().await;
        let shutdown = tokio::spawn(heartbeat.shutdown());
        registry.expect_silence(Duration::from_millis(50)).await;
        beat.grant(Duration::from_millis(30)).await;
        let farewell = registry.request().await;
        assert_eq!(farewell.method(), "DELETE");
        farewell.answer("204 No Content", &[], "").await;
        within("the end of the shutdown", shutdown).await.unwrap().unwrap();
        registry.expect_silence(Duration::from_millis(50)).await;
    });
}

/// A heartbeat that is dropped stops, even in the middle of a beat, and leaves no task behind.
///
/// Nothing stops GeeRPC's ticker; a server that is gone is kept alive by its ghost.
///
/// Hint: abort the task in `Drop`.
#[test]
fn a_heartbeat_that_is_dropped_stops() {
    run(async || {
        let registry = HandRegistry::start().await;
        let before = alive_tasks();
        let heartbeat = Heartbeat::start(registry.client(), endpoint("tcp@a:1"));
        registry.request().await.grant(Duration::from_millis(30)).await;
        let _unanswered = registry.request().await;
        drop(heartbeat);
        eventually("all tasks are gone", || alive_tasks() == before).await;
        registry.expect_silence(Duration::from_millis(50)).await;
    });
}

// ---- discovery -------------------------------------------------------------------------------------------
// Chapter: Files of today > src/registry_discovery.rs; Limits > pause between two refreshes

/// The first call waits for the first list. If there is none it fails with the registry's own error, and a
/// later one gets the list as soon as it is there.
///
/// With no list there is nothing better to do than to wait a moment; but not for ever.
///
/// Hint: a `watch` channel with a list that may be missing; whoever finds none waits for a change.
#[test]
fn the_first_call_waits_for_the_first_list() {
    run(async || {
        let registry = HandRegistry::start().await;
        let discovery = RegistryDiscovery::start(registry.client());
        let request = registry.request().await;
        let (error, ()) = tokio::join!(discovery.get(&SelectMode::Random), async {
            request.answer("503 Busy", &[], "").await;
        });
        assert_eq!(status::<()>(Err(registry_error(error.unwrap_err()))), 503);

        let answering = async { registry.request().await.list(LEASE, &["tcp@a:1"]).await };
        let (found, ()) = tokio::join!(discovery.get(&SelectMode::Random), answering);
        assert_eq!(found.unwrap(), endpoint("tcp@a:1"));
        assert!(discovery.last_error().is_none());
    });
}

/// While there is no list, a call waits for the registry's time limit and then fails, also when the next
/// attempt is much further away than that.
///
/// The pauses between attempts grow, and a caller's patience does not grow with them.
///
/// Hint: the wait has a limit of its own, whatever the loop that asks is doing.
#[test]
fn a_call_without_a_list_does_not_wait_for_ever() {
    run(async || {
        let registry = HandRegistry::start().await;
        let discovery = RegistryDiscovery::start(registry.client().timeout(Duration::from_millis(50)));
        let _unanswered = registry.request().await;
        let error = within("the time limit", discovery.get_all()).await.unwrap_err();
        assert!(matches!(registry_error(error), RegistryError::Timeout { .. }));

        drop(registry);
        let begin = Instant::now();
        for _ in 0..8 {
            let error = within("the time limit", discovery.get_all()).await.unwrap_err();
            registry_error(error);
        }
        // Eight times 50 ms. The eighth attempt would not come before 5 s.
        assert!(begin.elapsed() < Duration::from_millis(2_500), "it took {:?}", begin.elapsed());
    });
}

/// While there is no list, each call asks the registry at once, however long the pause to the next attempt is.
///
/// After a few failures that pause is seconds. The registry may be back, and then a call that waits for its turn
/// fails for nothing.
///
/// Hint: who needs a list now can wake the task that asks.
#[test]
fn a_call_without_a_list_does_not_sit_out_the_pause() {
    run(async || {
        let registry = HandRegistry::start().await;
        let discovery = RegistryDiscovery::start(registry.client());
        let begin = Instant::now();
        for _ in 0..8 {
            let refusing = async { registry.request().await.answer("503 Busy", &[], "").await };
            let (error, ()) = tokio::join!(discovery.get_all(), refusing);
            assert_eq!(status::<()>(Err(registry_error(error.unwrap_err()))), 503);
            // The eight pauses together are at least 4 s.
            assert!(begin.elapsed() < Duration::from_secs(2), "it took {:?}", begin.elapsed());
        }
        let answering = async { registry.request().await.list(LEASE, &["tcp@a:1"]).await };
        let (list, ()) = tokio::join!(discovery.get_all(), answering);
        assert_eq!(texts(&list.unwrap()), ["tcp@a:1"]);
    });
}

/// Many calls without a list, while the registry cannot be reached: each of them fails, and none stops the others.
///
/// A `watch` has a lock. Two of its guards that are alive in one expression wait for each other as soon as a
/// writer comes in between, and with them every thread that wants to read.
///
/// Hint: read all that you need through one guard, and end it before the next.
#[test]
fn calls_without_a_list_do_not_lock_each_other_out() {
    run_threads(async || {
        let nowhere = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let discovery = std::sync::Arc::new(RegistryDiscovery::start(client_of(nowhere)));
        let callers: Vec<_> = (0..32)
            .map(|_| {
                let discovery = std::sync::Arc::clone(&discovery);
                tokio::spawn(async move {
                    for _ in 0..100 {
                        registry_error(discovery.get_all().await.unwrap_err());
                    }
                })
            })
            .collect();
        for caller in callers {
            within("the end of every caller: do they hold a lock?", caller).await.unwrap();
        }
    });
}

/// When the registry answers badly, hangs, or is gone, the last good list stays in use.
///
/// In GeeRPC a registry that is down fails all calls although the servers are fine, and a 503 wipes the list.
/// The registry is there to help; without it, everything that works must go on working.
///
/// Hint: only a good answer replaces the list.
#[test]
fn the_last_good_list_survives_a_bad_registry() {
    run(async || {
        let registry = HandRegistry::start().await;
        let client = registry.client().timeout(Duration::from_millis(200));
        let hour = Some(Duration::from_secs(3600)); // so that only this test asks
        let discovery = RegistryDiscovery::start_with(client, MultiServersDiscovery::new([]), hour);
        registry.request().await.list(LEASE, &["tcp@a:1", "tcp@b:1"]).await;
        assert_eq!(listed(&discovery).await, ["tcp@a:1", "tcp@b:1"]);

        for (line, body) in [("503 Busy", "[]"), ("200 OK", "<html>"), ("204 No Content", "")] {
            let refreshed = within("the end of the refresh", async {
                tokio::select! {
                    refreshed = discovery.refresh() => refreshed,
                    never = registry.answer_all(line, &["X-Rrpc-Lease-Ms: 9000"], body) => match never {},
                }
            });
            registry_error(refreshed.await.unwrap_err());
            assert_eq!(listed(&discovery).await, ["tcp@a:1", "tcp@b:1"], "after {line} {body:?}");
        }
        let error = within("the time limit", discovery.refresh()).await.unwrap_err();
        assert!(matches!(registry_error(error), RegistryError::Timeout { .. }));
        assert_eq!(listed(&discovery).await, ["tcp@a:1", "tcp@b:1"], "the registry hangs");

        drop(registry);
        let error = within("an error", discovery.refresh()).await.unwrap_err();
        assert!(matches!(registry_error(error), RegistryError::Unreachable(_)));
        assert!(discovery.last_error().is_some());
        assert_eq!(listed(&discovery).await, ["tcp@a:1", "tcp@b:1"], "the registry is gone");
    });
}

/// While a refresh hangs, a call gets its server from the list without any delay.
///
/// GeeRPC refreshes inside of the call and under a lock, without a time limit: a slow registry stops every
/// call of every client.
///
/// Hint: a task asks the registry; `get` reads what is there, and never asks.
#[test]
fn a_call_never_waits_for_a_refresh() {
    run(async || {
        let registry = HandRegistry::start().await;
        let discovery = RegistryDiscovery::start(registry.client());
        registry.request().await.list(Duration::from_millis(60), &["tcp@a:1"]).await;
        assert_eq!(listed(&discovery).await, ["tcp@a:1"]);
        let _unanswered = registry.request().await;
        tokio::select! {
            biased;
            found = discovery.get(&SelectMode::RoundRobin) => assert_eq!(found.unwrap(), endpoint("tcp@a:1")),
            () = std::future::ready(()) => panic!("get was not ready at once"),
        }
        tokio::select! {
            biased;
            all = discovery.get_all() => assert_eq!(texts(&all.unwrap()), ["tcp@a:1"]),
            () = std::future::ready(()) => panic!("get_all was not ready at once"),
        }
    });
}

/// The registry is asked again after a third of the lease that it named, and a server that joins or leaves
/// reaches those who subscribed; a list that is the same does not.
///
/// Each notice makes every client look at all its connections.
///
/// Hint: the answer to `GET` has the lease, too. `send_if_modified` tells of changes only.
#[test]
fn the_list_follows_the_registry() {
    run(async || {
        let registry = HandRegistry::start().await;
        let discovery = RegistryDiscovery::start(registry.client());
        let mut list = discovery.subscribe();
        let [short, long] = [300, 3_000].map(Duration::from_millis);
        let mut request = registry.request().await;
        let answers = [(&["tcp@a:1"][..], short), (&["tcp@a:1", "tcp@b:1"], long), (&["tcp@b:1"], short)];
        for (servers, lease) in answers {
            let answered = Instant::now();
            request.list(lease, servers).await;
            within("a new list", list.changed()).await.unwrap();
            assert_eq!(texts(&list.borrow_and_update()), servers);
            let same = registry.request().await;
            let pause = answered.elapsed();
            assert!(pause >= lease / 3, "asked again after {pause:?}");
            // Far from a whole lease of 3 s, and far enough from a busy machine.
            assert!(pause < Duration::from_secs(2), "asked again after {pause:?}");
            same.list(short, servers).await;
            request = registry.request().await; // so the answer before was taken in
            assert!(!list.has_changed().unwrap(), "the list is the same as before");
        }
    });
}

/// An empty list is believed only after the registry has said so for a whole lease.
///
/// A registry that has just been restarted knows nobody until the next heartbeats. If every client believed
/// it, each restart of the registry would be an outage of everything.
///
/// Hint: remember since when the answers have been empty.
#[test]
fn an_empty_list_is_not_believed_at_once() {
    run(async || {
        let registry = HandRegistry::start().await;
        let discovery = RegistryDiscovery::start(registry.client());
        let lease = Duration::from_millis(300);
        let mut list = discovery.subscribe();
        registry.request().await.list(lease, &["tcp@a:1"]).await;
        within("the first list", list.changed()).await.unwrap();
        list.borrow_and_update();

        // The registry has been restarted, and the server's heartbeat reaches it in time.
        registry.request().await.list(lease, &[]).await;
        registry.request().await.list(lease, &["tcp@a:1"]).await;
        let request = registry.request().await;
        assert!(!list.has_changed().unwrap(), "the restart was not noticed");

        // This time all servers have really gone.
        let gone = Instant::now();
        request.list(lease, &[]).await;
        within("the empty list", async {
            tokio::select! {
                changed = list.changed() => changed.unwrap(),
                () = async { loop { registry.request().await.list(lease, &[]).await } } => {}
            }
        })
        .await;
        assert!(gone.elapsed() >= lease, "believed after {:?}", gone.elapsed());
        assert_eq!(texts(&list.borrow_and_update()), [""; 0]);
        let error = within("no server", discovery.get(&SelectMode::Random)).await.unwrap_err();
        assert!(matches!(error, DiscoveryError::NoServers), "{error:?}");
    });
}

/// Any number of refreshes at the same time are one request, and each of them sees what the registry knew
/// when it was asked for.
///
/// A refresh is asked for when something has gone wrong, and then by everybody at once. That must not be what
/// brings the registry down.
///
/// Hint: an answer that was on its way before may be too old. So join the next attempt, not that one.
#[test]
fn refreshes_share_one_request() {
    run(async || {
        let registry = HandRegistry::start().await;
        let discovery = RegistryDiscovery::start(registry.client());
        let on_its_way = registry.request().await;
        let many = async {
            let mut refreshes = Vec::new();
            for _ in 0..10 {
                refreshes.push(discovery.refresh());
            }
            within("the refreshes", join_all(refreshes)).await
        };
        let answering = async {
            tokio::task::yield_now().await;
            on_its_way.list(LEASE, &["tcp@old:1"]).await;
            registry.request().await.list(LEASE, &["tcp@new:1"]).await;
        };
        let (results, ()) = tokio::join!(many, answering);
        assert!(results.iter().all(Result::is_ok), "{results:?}");
        assert_eq!(listed(&discovery).await, ["tcp@new:1"]);
        registry.expect_silence(Duration::from_millis(50)).await;
    });
}

/// A list to begin with is used at once, before the registry has said anything; one that is set by hand as
/// well.
///
/// A program that knows some servers, from its last run or its configuration, can start while the registry is
/// down.
///
/// Hint: put it where the answers go, before the first question.
#[test]
fn a_list_to_begin_with_is_used_at_once() {
    run(async || {
        let registry = HandRegistry::start().await;
        let seed = MultiServersDiscovery::new([endpoint("tcp@seed:1")]);
        let discovery = RegistryDiscovery::start_with(registry.client(), seed, None);
        let request = registry.request().await;
        assert_eq!(listed(&discovery).await, ["tcp@seed:1"]);
        discovery.update(vec![endpoint("tcp@hand:1")]);
        assert_eq!(listed(&discovery).await, ["tcp@hand:1"]);
        let mut list = discovery.subscribe();
        request.list(LEASE, &["tcp@a:1"]).await;
        within("the registry's list", list.changed()).await.unwrap();
        assert_eq!(listed(&discovery).await, ["tcp@a:1"]);
    });
}

/// A discovery that is dropped asks no more, even in the middle of a question, and leaves no task.
///
/// Whatever is started has an owner. A program that makes a discovery for each job would ask the registry
/// more and more often.
///
/// Hint: abort the task in `Drop`. The task must not hold what it is owned by.
#[test]
fn a_discovery_that_is_dropped_stops() {
    run(async || {
        let registry = HandRegistry::start().await;
        let before = alive_tasks();
        let discovery = RegistryDiscovery::start(registry.client());
        registry.request().await.list(Duration::from_millis(30), &[]).await;
        let _unanswered = registry.request().await;
        drop(discovery);
        eventually("all tasks are gone", || alive_tasks() == before).await;
        registry.expect_silence(Duration::from_millis(50)).await;
    });
}

// ---- all of it -------------------------------------------------------------------------------------------
// Chapter: The system in one process

/// Calls go on while the registry is dead, and when it is back, knowing nobody, everything heals by itself:
/// old servers are listed again, and new ones get calls.
///
/// This is the failure that GeeRPC does not survive. One error stops its heartbeats for ever.
///
/// Hint: if this fails and all above pass, look at how the heartbeat, the list and the pool meet.
#[test]
fn everything_heals_after_a_restart_of_the_registry() {
    run(async || {
        let lease = Duration::from_millis(300);
        let registry = RunningRegistry::start(&Registry::new().ttl(lease)).await;
        let addr = registry.addr;
        let first: Running = start(Server::new(arith())).await;
        let beats = Heartbeat::start(client_of(addr), Endpoint::tcp(first.addr));
        within("the registration", beats.wait_registered()).await;
        let discovery = RegistryDiscovery::start(client_of(addr));
        let mut list = discovery.subscribe();
        let client = BalancedClient::new(discovery, SelectMode::RoundRobin, &Options::default());
        let sum = async || -> i32 {
            let args = Sum { num1: 1, num2: 2 };
            within("a call", client.call("Arith.sum", &args)).await.unwrap()
        };
        assert_eq!(sum().await, 3);

        registry.kill().await;
        eventually("the heartbeat fails", || beats.last_error().is_some()).await;
        assert_eq!(sum().await, 3, "the registry is dead, but the server is not");

        let registry = Registry::new().ttl(lease); // knows nobody
        let _running = RunningRegistry::start_at(&registry, addr).await;
        let second: Running = start(Server::new(arith())).await;
        let _beats = Heartbeat::start(client_of(addr), Endpoint::tcp(second.addr));
        eventually("both servers are listed", || registry.servers().len() == 2).await;
        within("both servers in the client's list", list.wait_for(|list| list.len() == 2)).await.unwrap();
        for _ in 0..4 {
            assert_eq!(sum().await, 3);
        }
        assert_eq!(client.connections(), 2, "both servers get calls");
    });
}
