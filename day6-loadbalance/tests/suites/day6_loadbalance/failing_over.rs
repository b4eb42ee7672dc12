//! Fail-over: what surely has not run goes to the next server, and nothing else does.
//!
//! Nothing to write: run it. What is red here is the order of the candidates, or which errors go elsewhere, both in
//! `src/balance/failover.rs`.
//!
//! Works then: what surely has not run goes to the next server, and nothing else does.
//!
//! Chapter: May it have run?

use super::*;

/// A connection that has ended is replaced at the next call, and only then.
///
/// A client that keeps the dead connection fails each call though the server is back.
///
/// Hint: ask `Client::is_available` before use.
#[test]
fn a_dead_connection_is_replaced_at_the_next_call() {
    run(async || {
        let site = Site::start("a").await;
        let client = round_robin([&site]);
        name(&client).await;
        site.order(Order::Cut);
        eventually("the client notices the end", || client.connections() == 0).await;
        assert_eq!(name(&client).await, "a");
        assert_eq!((site.seen.accepted(), client.connections()), (2, 1));
    });
}

/// One of three servers is gone, and no call fails: those that were its turn go to another.
///
/// GeeRPC has no fail-over, so every third call fails, although two servers could have taken it.
///
/// Hint: nothing was sent yet when dialing fails, so the next server may be tried.
#[test]
fn a_server_that_cannot_be_dialed_is_skipped() {
    run(async || {
        let sites = [Site::start("a").await, Site::start("b").await, Site::start("c").await];
        let client = round_robin(&sites);
        for _ in 0..3 {
            name(&client).await;
        }
        assert_eq!(client.connections(), 3);
        sites[0].order(Order::Kill);
        eventually("the client notices the end", || client.connections() == 2).await;

        for _ in 0..12 {
            assert_ne!(name(&client).await, "a");
        }
        let calls = sites.each_ref().map(|site| site.seen.calls());
        assert!(calls[1] > 1 && calls[2] > 1 && calls[1] + calls[2] == 14, "{calls:?}");
        assert!(sites[0].seen.accepted() > 1, "it was its turn, and no call tried to dial it");
    });
}

/// A call that was not sent, as its connection takes no new calls, goes to another server. The call that was sent
/// before on the same connection gets its reply.
///
/// Nothing was sent, so the call has surely not run. Here the server takes one call at a time and then says that it
/// goes away, so the second call is still in the client.
///
/// Hint: ask `Error::may_have_run`; if it has not run, go on with the next candidate.
#[test]
fn a_call_that_was_not_sent_goes_to_another_server() {
    run(async || {
        let good = Site::start("good").await;
        let (listener, leaving) = by_hand().await;
        let client = directed([&leaving, &good.endpoint], json_only());
        let client = to(&client, &leaving);
        let first = spawn_call(&client, "Site.name");
        let mut peer = next_client_with(&listener, json!({"max_in_flight": 1})).await;
        let sent = next_call(&mut peer).await;
        let mut second = pin!(client.call::<_, String>("Site.name", &()));
        for _ in 0..10 {
            assert!(waits(second.as_mut()).await, "the server has taken one call, and takes no second one");
            tokio::task::yield_now().await;
        }
        let mut closing = JoinSet::new();
        closing.spawn(close_all(listener));
        peer.send(&goaway("the server is shutting down")).await;
        let answered = within("another server answers the call that was not sent", second).await;
        assert_eq!(answered.unwrap(), "good");
        answer(&mut peer, &sent, json!("leaving")).await;
        assert_eq!(outcome(first).await.unwrap(), "leaving");
        assert_eq!(good.seen.calls(), 1);
    });
}

/// A call that the server refuses has not run, and goes to another server, whatever the code of the refusal.
///
/// A server refuses while it shuts down, which may cross a call on its way, and when it has too much to do. Neither
/// should cost a call, as long as another server is there.
///
/// Hint: go on with the next candidate. A choice that forgets what was tried may be the same one again: a hash always is.
#[test]
fn a_refused_call_goes_to_another_server() {
    run(async || {
        for (code, leaves) in [("unavailable", true), ("resource_exhausted", false), ("data_loss", false)] {
            let good = Site::start("good").await;
            let (listener, busy) = by_hand().await;
            let client = directed([&busy, &good.endpoint], json_only());
            let call = spawn_call(&to(&client, &busy), "Site.name");
            let mut peer = next_client(&listener).await;
            let mut server = JoinSet::new();
            server.spawn(close_all(listener));
            server.spawn(async move {
                loop {
                    let seq = next_call(&mut peer).await.seq();
                    if leaves {
                        peer.send(&goaway("the server is shutting down")).await;
                    }
                    peer.send(&reply_refused(seq, code, "not now")).await;
                }
            });
            match outcome(call).await {
                Ok(name) => assert_eq!(name, "good", "after {code:?}"),
                Err(error) => {
                    panic!("after {code:?} another server should have run the call, but: {error:?}")
                }
            }
            assert_eq!(good.seen.calls(), 1, "after {code:?}");
        }
    });
}

/// An error of the handler is the outcome of the call, whatever its code and its words: the handler has run, and runs
/// nowhere else.
///
/// A handler may fail with the very words and the code of a refusal, or pass on the refusal of a server behind it. If
/// one of these is taken for a refusal, an order is paid twice. It happened to the first version of this course.
///
/// Hint: `Error::Refused` and `Error::Remote` are two variants, and the connection alone decides which it is.
#[test]
fn an_error_of_the_handler_runs_nothing_twice() {
    run(async || {
        let runs = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&runs);
        let server = Server::new(move |request: Request| {
            counter.fetch_add(1, SeqCst);
            async move { Err::<Reply, _>(request.decode::<RemoteError>()?.into()) }
        });
        let (a, b) = (crate::support::start(server.clone()).await, crate::support::start(server).await);
        let discovery = MultiServersDiscovery::new([a.addr, b.addr].map(Endpoint::tcp));
        let client = BalancedClient::new(discovery, SelectMode::RoundRobin, &json_only());
        let cases = [
            ("unavailable", "the server is shutting down", false),
            ("unavailable", "the server is shutting down", true),
            ("resource_exhausted", "too many calls are in flight", true),
            ("canceled", "not sent", false),
            ("deadline_exceeded", "the call timed out", false),
            ("aborted", "refused", true),
            ("unknown", "disconnected", false),
        ];
        for (code, message, refused) in cases {
            let case = format!("{code} {message:?}, refused: {refused}");
            let before = runs.load(SeqCst);
            let error = json!({"code": code, "message": message, "refused": refused});
            match within(&case, client.call::<_, ()>("Test.fail", &error)).await {
                Err(BalanceError::Call { source: Error::Remote(error), .. }) => {
                    assert_eq!(error.code().as_str(), code, "{case}");
                }
                other => panic!("the error should be the handler's, but: {other:?} ({case})"),
            }
            assert_eq!(runs.load(SeqCst) - before, 1, "how often the handler ran: {case}");
        }
    });
}

/// A call that is lost in mid-flight is an error that names the server, and runs nowhere else.
///
/// It may have run before the connection broke. If it was a payment, then to run it twice is not the
/// library's decision.
///
/// Hint: only what surely has not run is tried elsewhere.
#[test]
fn a_call_lost_in_mid_flight_is_an_error_and_runs_once() {
    run(async || {
        let (a, b) = (Site::start("a").await, Site::start("b").await);
        let client = directed([&a.endpoint, &b.endpoint], Options::default());
        name(&to(&client, &b.endpoint)).await;
        let call = spawn_call(&to(&client, &a.endpoint), "Site.wait");
        a.a_call_waits().await;
        a.order(Order::Cut);
        let lost = tokio::select! {
            lost = outcome(call) => lost,
            _ = a.seen.entered.acquire() => panic!("the lost call was sent again, to the same server"),
            _ = b.seen.entered.acquire() => panic!("the lost call was sent again, to another server"),
        };
        match lost {
            Err(BalanceError::Call { endpoint, source: Error::Disconnected(_) }) => {
                assert_eq!(endpoint, a.endpoint);
            }
            other => panic!("the call should have been lost, but: {other:?}"),
        }
        // Whatever was sent elsewhere was sent before this call.
        name(&to(&client, &b.endpoint)).await;
        name(&to(&client, &a.endpoint)).await;
        assert_eq!((a.seen.calls(), b.seen.calls()), (2, 2));
    });
}
