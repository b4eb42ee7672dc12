//! Hardening: a full registry, a long list, and clients that are silent, slow or do not read.
//!
//! No new function. The limits are in `src/registry/mod.rs`.
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
        let server = |n: usize| format!("tcp@{n:a>194}:1");
        for first in (0..DEFAULT_MAX_SERVERS).step_by(100) {
            let (serving, streams) = in_memory::<100>(&registry);
            for (n, io) in (first..).zip(streams) {
                assert_eq!(exchange(io, &post(&server(n))).await.status(), 200, "server {n}");
            }
            serving.abort();
        }
        let (_serving, [one_more, list]) = in_memory(&registry);
        assert_eq!(exchange(one_more, &post(&server(DEFAULT_MAX_SERVERS))).await.status(), 507);
        let answer = exchange(list, &get()).await;
        assert!(answer.body.len() <= MAX_LIST_LEN, "{} bytes", answer.body.len());
        assert_eq!(answer.json().as_array().unwrap().len(), DEFAULT_MAX_SERVERS);
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
        let (_serving, [mut silent, mut slow]) = in_memory(&RegistryServer::new());
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
