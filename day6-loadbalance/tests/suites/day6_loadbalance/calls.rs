//! Calls, and one shared connection for each server.
//!
//! Write `Pool::connect`, `Entry::dial` and `open` in `src/balance/pool.rs`, and `BalancedClient::new`,
//! `call` and `connect` in `src/balance/mod.rs`.
//!
//! Chapter: Files of today > src/balance/pool.rs; Files of today > src/balance/mod.rs

use super::*;

/// Over the wire too, each server gets exactly its share, in the order of the list.
///
/// The tests above ask the selector alone. A client that asks it twice for each call, or once for each
/// connection, makes something else of its choices.
///
/// Hint: ask for a server once for each call.
#[test]
fn calls_take_turns_between_the_servers() {
    run(async || {
        let sites = [Site::start("a").await, Site::start("b").await, Site::start("c").await];
        let client = round_robin(&sites);
        let mut names = String::new();
        for _ in 0..12 {
            names += &name(&client).await;
        }
        assert!("abcabcabcabcabc".contains(&names), "{names}");
        assert!(sites.iter().all(|site| site.seen.calls() == 4));
    });
}

/// With no server a call is an error, also after the last one has left.
///
/// A client that waits for a server instead may wait for ever, and nobody knows what for.
///
/// Hint: the discovery has said it already; its error is passed on.
#[test]
fn nobody_to_call_is_an_error() {
    run(async || {
        let site = Site::start("a").await;
        let (none, left) = (round_robin([]), round_robin([&site]));
        assert_eq!(name(&left).await, "a");
        left.discovery().update(Vec::new());
        for client in [none, left] {
            let call = try_call(&client).await;
            assert!(
                matches!(call, Err(BalanceError::Discovery(DiscoveryError::NoServers))),
                "a call to nobody should be NoServers, but: {call:?}"
            );
        }
        assert_eq!(site.seen.calls(), 1);
    });
}

/// One list may mix `tcp@`, `http@` and `unix@`.
///
/// Servers move from one door to the other one at a time, and those behind a proxy are no worse.
///
/// Hint: `Client::dial` knows them all.
#[cfg(unix)]
#[test]
fn one_list_may_mix_protocols() {
    run(async || {
        let server = |name| site_server(name, Seen::new());
        let path = std::env::temp_dir().join(format!("rrpc-day6-{}.sock", std::process::id()));
        std::fs::remove_file(&path).ok();
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let unix = tokio::net::UnixListener::bind(&path).unwrap();
        let list = [
            Endpoint::tcp(tcp.local_addr().unwrap()),
            Endpoint::http(http.local_addr().unwrap()),
            endpoint(&format!("unix@{}", path.display())),
        ];
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { server("tcp").serve(tcp).await });
        tasks.spawn(async move { server("http").serve_http(http).await });
        tasks.spawn(async move { server("unix").serve(unix).await });

        let discovery = MultiServersDiscovery::new(list);
        let client = BalancedClient::new(discovery, SelectMode::RoundRobin, &Options::default());
        let mut names = Vec::new();
        for _ in 0..6 {
            names.push(name(&client).await);
        }
        names.sort_unstable();
        assert_eq!(names, ["http", "http", "tcp", "tcp", "unix", "unix"]);
        std::fs::remove_file(&path).unwrap();
    });
}

/// A hundred first calls at the same time make one connection.
///
/// A hundred handshakes with a server that has just started are the last thing it needs.
///
/// Hint: whoever comes while a connection is being made waits for that one ("single flight").
#[test]
fn many_first_calls_share_one_connection() {
    run_threads(async || {
        let sites = [Site::start("a").await, Site::start("b").await];
        let client = round_robin(&sites);
        let calls: Vec<_> = (0..100).map(|_| spawn_call(&client, "Site.name")).collect();
        for call in calls {
            outcome(call).await.unwrap();
        }
        for site in &sites {
            assert_eq!((site.seen.calls(), site.seen.accepted()), (50, 1), "calls and connections");
        }
        assert_eq!(client.connections(), 2);
    });
}

/// A clone, and the same client in another mode, use the connections that are there.
///
/// A mode is a property of a call, a connection is not. A program that hashes some of its calls needs no
/// second set of connections.
///
/// Hint: they share the pool; only the mode is their own.
#[test]
fn clones_and_other_modes_share_the_connections() {
    run(async || {
        let site = Site::start("a").await;
        let client = round_robin([&site]);
        assert_eq!(client.connections(), 0, "nothing is dialed before the first call");
        name(&client).await;
        name(&client.clone()).await;
        for mode in [SelectMode::Random, SelectMode::WeightedRoundRobin, key("k")] {
            name(&client.with_mode(mode)).await;
        }
        assert_eq!((site.seen.calls(), site.seen.accepted(), client.connections()), (5, 1, 1));
    });
}

/// Any discovery will do, also one that is written elsewhere.
///
/// Day 7 puts a registry behind the trait, and somebody else's may be a file or a DNS name.
///
/// Hint: the client knows the trait only.
#[test]
fn a_discovery_of_your_own_works() {
    run(async || {
        let (a, b) = (Site::start("a").await, Site::start("b").await);
        let client = directed([&a.endpoint, &b.endpoint], Options::default());
        for site in [&b, &a, &b] {
            assert_eq!(name(&to(&client, &site.endpoint)).await, site.name);
        }
        assert_eq!(name(&client.with_mode(SelectMode::Random)).await, "a");
        client.discovery().update(vec![b.endpoint.clone()]);
        assert_eq!(name(&client.with_mode(SelectMode::Random)).await, "b");
    });
}
