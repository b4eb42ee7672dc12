//! Hardening: everything hangs, a list that never comes, and a list that is very long.
//!
//! No new function. The limits are in `Shared::in_time` and `share` in `src/balance/mod.rs`, in
//! `src/balance/pool.rs`, and in `Broadcast::next` in `src/balance/broadcast.rs`.
//!
//! Chapter: Limits; What goes wrong without it

use super::*;

/// However many servers are left, one that is slow has a third of the time that is left.
///
/// A list of fifty would leave each of them a fiftieth: too little for a handshake with a server that is well
/// and busy.
///
/// Hint: three at most, whatever the length of the list.
#[test]
fn a_long_list_leaves_each_server_a_third() {
    run(async || {
        let sites = [
            Site::hung("a").await,
            Site::hung("b").await,
            Site::start("c").await,
            Site::start("d").await,
            Site::start("e").await,
        ];
        let limit = Duration::from_millis(900);
        let options = Options::default().call_timeout(limit);
        let client = directed(sites.iter().map(|site| &site.endpoint), options);
        let begin = Instant::now();
        let outcome = try_call(&to(&client, &sites[0].endpoint)).await;
        let waited = begin.elapsed();
        // Thirds are 300 and 200 ms. Shares of five and four servers would be 180 ms each.
        assert!(waited >= limit / 2, "two servers that hang had {waited:?} of {limit:?} together");
        match outcome {
            Ok(name) => assert_eq!(name, "c"),
            // On a machine that is very busy, there may be no time left.
            Err(BalanceError::Dial { source, .. }) if matches!(*source, Error::Timeout { .. }) => {}
            Err(BalanceError::Call { source: Error::Timeout { .. }, .. }) => {}
            Err(other) => panic!("the next server should take the call, but: {other:?}"),
        }
    });
}

/// When the time is over and no server could be dialed, the error names one, and says so.
///
/// A caller who hears "timeout" alone looks for the fault in the method, which was never called.
///
/// Hint: every attempt has a part of what is left, and the last one has the rest.
#[test]
fn when_every_server_hangs_the_call_ends_in_time() {
    run(async || {
        let hung = [Site::hung("a").await, Site::hung("b").await, Site::hung("c").await];
        // A third for each. On a busy machine one of them may take longer, but hardly half a second.
        let limit = Duration::from_millis(1_500);
        let options = Options::default().call_timeout(limit);
        let client = directed(hung.iter().map(|site| &site.endpoint), options);
        let begin = Instant::now();
        match try_call(&to(&client, &hung[0].endpoint)).await {
            Err(BalanceError::Dial { endpoint, source }) => {
                assert_eq!(endpoint, hung[2].endpoint, "the last one that was tried");
                assert!(matches!(*source, Error::Timeout { .. }), "{source:?}");
            }
            other => panic!("dialing should have timed out, but: {other:?}"),
        }
        assert!(begin.elapsed() >= limit, "it gave up after {:?} already", begin.elapsed());
    });
}

/// A discovery that does not answer cannot hold a call for ever.
///
/// Another discovery than ours may ask somebody at each call, and that one may be gone.
///
/// Hint: the time limit is for choosing, too. Out of time is `Unavailable`, with `Error::Timeout` as its source.
#[test]
fn a_discovery_that_does_not_answer_times_out() {
    run(async || assert_timed_out_choosing(try_call(&Silent::client()).await));
}

/// A server leaves the list while it is being dialed. The attempt ends, and the call goes to another at once.
///
/// Servers that hang are the ones that are taken out of the list.
///
/// Hint: ending the attempt fails those who wait for it, like any failure of dialing; the call knows what to
/// do then.
#[test]
fn a_server_that_leaves_while_it_is_dialed_is_skipped() {
    run(async || {
        let (hung, good) = (Site::hung("hung").await, Site::start("good").await);
        let client = directed([&hung.endpoint, &good.endpoint], Options::default());
        let call = spawn_call(&to(&client, &hung.endpoint), "Site.name");
        hung.is_being_dialed().await;
        client.discovery().update(vec![good.endpoint.clone()]);
        assert_eq!(outcome(call).await.unwrap(), "good");
    });
}

/// A discovery that does not answer cannot hold a broadcast for ever.
///
/// As with a call: it may ask somebody who is gone.
///
/// Hint: the one deadline begins before the list is asked for.
#[test]
fn a_broadcast_without_a_list_times_out() {
    run(async || {
        let client = Silent::client();
        let broadcast = client.broadcast("Site.name", ());
        assert_timed_out_choosing(within("the end of a broadcast", broadcast).await);
        let all = within("the end of a broadcast", client.broadcast_all("Site.name", ())).await;
        assert_timed_out_choosing(
            all.map(|results: Vec<(Endpoint, Result<String, _>)>| format!("{results:?}")),
        );
    });
}

/// With more servers than [`MAX_BROADCAST`], all are called, but never more than that many at a time.
///
/// A list that came from elsewhere may be of any length, and each of its entries is a socket. (Here all
/// endpoints share one gate, which lets one call pass at a time.)
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
        let broadcast = spawn_broadcast_all(&client);

        let first = within("the first calls begin", seen.entered.acquire_many(MAX_BROADCAST as u32));
        first.await.unwrap().forget();
        for _ in MAX_BROADCAST..all {
            seen.gate.add_permits(1);
            within("one call ends and the next begins", seen.entered.acquire()).await.unwrap().forget();
        }
        seen.gate.add_permits(MAX_BROADCAST);
        let results = outcome(broadcast).await;
        assert!(results.len() == all && results.iter().all(|(_, result)| result.is_ok()));
        let most = now.1.load(SeqCst);
        assert_eq!(most, MAX_BROADCAST, "{most} calls at the same time; at most {MAX_BROADCAST} are allowed");
    });
}
