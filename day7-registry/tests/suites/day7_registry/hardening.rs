//! Hardening: a full registry, lists that are too long, and peers that are silent, stall or do not read.
//!
//! No new function. The limits are in `src/registry/mod.rs` and in `exchange` in `src/registry/client.rs`.
//!
//! Chapter: Limits; What goes wrong without it

use super::*;

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
