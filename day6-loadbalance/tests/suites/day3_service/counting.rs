//! Counters: each call counts once, however it ends.
//!
//! Write `Method::calls` in `src/service/mod.rs`, and count in `ServiceMap::call`.
//!
//! Chapter: Limits

use super::*;

/// Each call counts once, at its own method, whether it went well or not: that is what an operator wants to
/// see. A call that no method answers counts nowhere.
///
/// Hint: count where the method has been found, before its argument is decoded.
#[test]
fn a_call_counts_once_at_its_method_also_when_it_fails() {
    run(async || {
        let (_server, services, client) = arith_server().await;
        let calls = || {
            let arith = services.get("Arith").unwrap();
            arith.methods().map(|(name, method)| (name.to_owned(), method.calls())).collect::<Vec<_>>()
        };
        let counts = |fail, panic, sleep, sum| {
            let names = ["fail", "panic", "sleep", "sum"].map(str::to_owned);
            names.into_iter().zip([fail, panic, sleep, sum]).collect::<Vec<_>>()
        };
        assert_eq!(calls(), counts(0, 0, 0, 0));
        for _ in 0..3 {
            assert_still_serves(&client).await;
        }
        assert_eq!(calls(), counts(0, 0, 0, 3));
        error_of(&client, "Arith.fail", Fail { message: "on purpose".to_owned() }).await;
        error_of(&client, "Arith.fail", Fail { message: "on purpose".to_owned() }).await;
        error_of(&client, "Arith.panic", ()).await;
        assert_eq!(calls(), counts(2, 1, 0, 3));
        error_of(&client, "Arith.sleep", "no number").await;
        assert_eq!(calls(), counts(2, 1, 1, 3));
        error_of(&client, "Arith.unknown", ()).await;
        error_of(&client, "Other.sum", TWO_AND_THREE).await;
        error_of(&client, "Arith.sum.", TWO_AND_THREE).await;
        assert_eq!(calls(), counts(2, 1, 1, 3));
    });
}

/// The counters are exact when several connections, on several threads, each bring thousands of calls.
///
/// Hint: one `fetch_add`. A load and a store lose calls when two threads meet.
#[test]
fn the_counters_are_exact_under_concurrency() {
    run_threads(async || {
        const CONNECTIONS: u64 = 4;
        const CALLS: u64 = 8000;
        let counter = Counter::starting_at(0);
        let services = ServiceMap::new();
        services.add(counter.service("Counter")).unwrap();
        let calls: Vec<u8> = (1..=CALLS).flat_map(|seq| json_message("Counter.add", seq, json!(1))).collect();
        let calls = Arc::new(calls);
        let mut peers = tokio::task::JoinSet::new();
        for _ in 0..CONNECTIONS {
            // In memory: the system would do most of the work, and the threads would seldom meet.
            let (near, far) = tokio::io::duplex(64 * 1024);
            let (server, calls) = (Server::new(services.clone()), Arc::clone(&calls));
            peers.spawn(async move { server.serve_connection(far).await.unwrap() });
            let mut peer = Peer { io: near };
            peer.shake_hands_json().await;
            peers.spawn(async move {
                let (mut read, mut write) = tokio::io::split(peer.io);
                let send = async {
                    write.write_all(&calls).await.unwrap();
                    write.shutdown().await.unwrap();
                };
                let mut replies = Vec::new();
                let (_, received) = tokio::join!(send, read.read_to_end(&mut replies));
                received.unwrap();
            });
        }
        while let Some(done) = within("a connection with its calls done", peers.join_next()).await {
            done.unwrap();
        }
        let service = services.get("Counter").unwrap();
        assert_eq!(service.method("add").unwrap().calls(), CONNECTIONS * CALLS);
        assert_eq!(service.method("get").unwrap().calls(), 0);
        assert_eq!(counter.total.load(SeqCst) as u64, CONNECTIONS * CALLS);
    });
}
