//! Hardening: broadcasts that are slow, that are given up, and that are very large.
//!
//! No new function: see `call_one` in `src/balance/broadcast.rs`.
//!
//! Chapter: Broadcast; Limits

use super::*;

/// A broadcast uses the connections that are there.
///
/// One connection per server is enough for calls and broadcasts together.
///
/// Hint: the calls of a broadcast share the pool with all clones of the client.
#[test]
fn a_broadcast_shares_the_connections() {
    run(async || {
        let site = Site::start("a").await;
        let client = round_robin([&site]);
        name(&client).await;
        for client in [client.clone(), client.with_mode(key("k"))] {
            within("a broadcast", client.broadcast::<_, String>("Site.name", &())).await.unwrap();
            within("a broadcast", client.broadcast_all::<_, String>("Site.name", &())).await.unwrap();
        }
        assert_eq!((site.seen.calls(), site.seen.accepted(), client.connections()), (5, 1, 1));
    });
}

/// A broadcast as a whole has the time limit of a call, dialing included, and who was too slow is named.
///
/// One server of ten that hangs must not hold back the replies of nine.
///
/// Hint: one deadline for all of it. Here the first handshake has no answer, and the second one has its answer
/// when two thirds of the time are gone.
#[test]
fn a_broadcast_has_the_time_limit_of_a_call() {
    run(async || {
        let (hung, slow) = (Site::hung("hung").await, Site::hung("slow").await);
        let limit = Duration::from_millis(600);
        let list = [&hung.endpoint, &slow.endpoint];
        let client = directed(list, Options::default().call_timeout(limit));
        let begin = Instant::now();
        let broadcast = spawn_broadcast_all(&client);
        within("two thirds of the time pass", sleep_until(begin + limit * 2 / 3)).await;
        slow.answer_handshakes();
        let results = tokio::select! {
            biased;
            results = broadcast => results.unwrap(),
            () = well_after(begin + limit * 4 / 3) => {
                panic!("after 800 ms, a broadcast of at most 600 ms goes on");
            }
        };
        for (server, result) in results {
            match result {
                Err(BalanceError::Call { endpoint, source: Error::Timeout { .. } }) if endpoint == server => {
                }
                Err(BalanceError::Dial { endpoint, source })
                    if endpoint == server && matches!(*source, Error::Timeout { .. }) => {}
                other => panic!("{server} should have timed out, but: {other:?}"),
            }
        }
        assert!(begin.elapsed() >= limit, "it gave up after {:?} already", begin.elapsed());
    });
}

/// A broadcast that is given up stops its handlers and its dialing, and a client that is dropped after that
/// leaves nothing behind.
///
/// The calls of a broadcast hold the client's connections. If one of them goes on, so do those.
///
/// Hint: who owns the calls? A future that is dropped gives its call up.
#[test]
fn a_broadcast_that_is_given_up_leaves_nothing_behind() {
    run(async || {
        let (hung, good) = (Site::hung("hung").await, Site::start("good").await);
        let before = alive_tasks();
        let client = directed([&hung.endpoint, &good.endpoint], Options::default());
        let broadcast = spawn_broadcast(&client);
        good.a_call_waits().await;
        hung.is_being_dialed().await;
        broadcast.abort();
        eventually("the handler is stopped", || good.seen.stopped() == 1).await;
        assert_eq!(name(&to(&client, &good.endpoint)).await, "good", "the client works as before");
        drop(client);
        eventually("the client's tasks end, and their peers", || alive_tasks() <= before + 1).await;
        hung.answer_handshakes();
        eventually("all connections are closed", || hung.seen.open() + good.seen.open() == 0).await;
        eventually("all tasks end", || alive_tasks() == before).await;
    });
}

/// A discovery that does not answer cannot hold a broadcast longer than its time limit.
///
/// As with a call: it may ask a registry that is down.
///
/// Hint: the one deadline begins before the list is asked for.
#[test]
fn a_broadcast_without_a_list_times_out() {
    run(async || {
        let client = without_list();
        let broadcast = client.broadcast("Site.name", &());
        assert_timed_out_choosing(within("the end of a broadcast", broadcast).await);
        let all = within("the end of a broadcast", client.broadcast_all("Site.name", &())).await;
        assert_timed_out_choosing(
            all.map(|results: Vec<(Endpoint, Result<String, _>)>| format!("{results:?}")),
        );
    });
}

/// With more servers than [`MAX_BROADCAST`], all are called, but not all at once: so many begin together, and so many
/// more in each [`BROADCAST_STEP`].
///
/// A list that came from elsewhere may be of any length, and a thousand handshakes in one go are a wave for the network.
/// (Here all servers share one gate, which lets one call pass at a time.)
///
/// Hint: begin the next call when one is done.
#[test]
fn a_large_broadcast_calls_all_but_not_all_at_once() {
    run(async || {
        let all = MAX_BROADCAST + 6;
        let seen = Seen::new();
        let now = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
        let server = {
            let (seen, now) = (Arc::clone(&seen), Arc::clone(&now));
            Server::new(move |request: Request| {
                let (seen, now) = (Arc::clone(&seen), Arc::clone(&now));
                async move {
                    now.1.fetch_max(now.0.fetch_add(1, SeqCst) + 1, SeqCst);
                    seen.entered.add_permits(1);
                    seen.gate.acquire().await?.forget();
                    now.0.fetch_sub(1, SeqCst);
                    anyhow::Ok::<Reply>(request.reply("done")?)
                }
            })
        };
        let (mut endpoints, mut tasks) = (Vec::new(), JoinSet::new());
        for _ in 0..all {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            endpoints.push(Endpoint::tcp(listener.local_addr().unwrap()));
            let server = server.clone();
            tasks.spawn(async move { server.serve(listener).await });
        }
        let client = directed(&endpoints, Options::default());
        let begin = Instant::now();
        let broadcast = spawn_broadcast_all(&client);

        let first = within("the first calls begin", seen.entered.acquire_many(MAX_BROADCAST as u32));
        first.await.unwrap().forget();
        // Calls that have begun with these are there as well when another client has dialed and called.
        let other = Site::start("other").await;
        for _ in 0..3 {
            name(&round_robin([&other])).await;
        }
        let most = now.1.load(SeqCst);
        let steps = begin.elapsed().as_millis() / BROADCAST_STEP.as_millis();
        let allowed = MAX_BROADCAST * (1 + steps as usize);
        assert!(most <= allowed, "{most} calls at the same time; at most {allowed} are allowed");
        for _ in MAX_BROADCAST..all {
            seen.gate.add_permits(1);
            within("one call ends and the next begins", seen.entered.acquire()).await.unwrap().forget();
        }
        seen.gate.add_permits(MAX_BROADCAST);
        let results = outcome(broadcast).await;
        assert!(results.len() == all && results.iter().all(|(_, result)| result.is_ok()));
    });
}

/// Servers that hang take no other server's place: though as many of them as may begin together are in front of it in the
/// list, the last server is called.
///
/// In the first version of this course a place was given back at the end of a call only. With 64 servers that hung, six good
/// ones were not called at all.
///
/// Hint: after [`BROADCAST_STEP`] without an answer, the calls that have begun take no place any more.
#[test]
fn slow_servers_of_a_broadcast_take_no_others_place() {
    run(async || {
        let mut sites = Vec::new();
        for _ in 0..MAX_BROADCAST {
            sites.push(Site::hung("hung").await);
        }
        let good = [Site::start("a").await, Site::start("b").await];
        let list = sites.iter().chain(&good).map(|site| &site.endpoint);
        let client = directed(list, Options::default());
        let broadcast = spawn_broadcast_all(&client);
        for site in &good {
            site.a_call_waits().await;
        }
        assert!(!broadcast.is_finished(), "the others may still answer");
        broadcast.abort();
    });
}
