//! Servers that are down: what surely has not run goes to the next.
//!
//! Write `Shared::connect` and `call_on` in `src/balance/mod.rs`, and `Entry::is_usable` in
//! `src/balance/pool.rs`.
//!
//! Chapter: Reading order > 4. src/balance/mod.rs; What a caller sees

use super::*;

/// A connection that has ended is replaced at the next call, and only then.
///
/// A client that keeps the dead connection fails for ever though the server is back.
///
/// Hint: ask `is_available` before use.
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
        assert!(sites[0].seen.accepted() > 1, "it was its turn, and somebody has tried");
    });
}

/// In place of a server that cannot be dialed, the next one in the list takes the call; after the last comes
/// the first.
///
/// With the first of the list in place of every dead server, it would have all their load.
///
/// Hint: start at the server that was chosen, and go round once.
#[test]
fn the_next_in_the_list_takes_the_call() {
    run(async || {
        let [a, b, c] = [Site::start("a").await, Site::start("b").await, Site::start("c").await];
        let ((_port, gone), (_other_port, also_gone)) = (refusing(), refusing());
        let list = [&a.endpoint, &b.endpoint, &gone, &c.endpoint, &also_gone];
        let client = directed(list, Options::default());
        assert_eq!(name(&to(&client, &gone)).await, "c");
        assert_eq!(name(&to(&client, &also_gone)).await, "a");
        assert_eq!(b.seen.accepted(), 0);
    });
}

/// A server that could not be dialed is tried again, and used when it is back.
///
/// A client that remembers the failure for ever has fewer servers with every restart, until it has none.
///
/// Hint: a failed attempt is no connection; the next call makes a new attempt.
#[test]
fn a_server_that_comes_back_is_used_again() {
    run(async || {
        let (a, b) = (Site::start("a").await, Site::start("b").await);
        let client = directed([&a.endpoint, &b.endpoint], Options::default());
        let to_a = to(&client, &a.endpoint);
        a.order(Order::Kill);
        assert_eq!(name(&to_a).await, "b");
        a.order(Order::Cut);
        // The order takes effect a moment later.
        let back = async { while name(&to_a).await != "a" {} };
        within("the server that came back is used", back).await;
    });
}

/// With all servers down, the error is one of dialing that names one of them and says why.
///
/// It also says that the call has surely not run. And an address with a reason is where a search begins.
///
/// Hint: the error of the last attempt will do.
#[test]
fn all_servers_down_is_an_error_that_names_one() {
    run(async || {
        let down = [refusing(), refusing(), refusing()];
        let list: Vec<_> = down.iter().map(|(_, endpoint)| endpoint.clone()).collect();
        let discovery = MultiServersDiscovery::new(list.clone());
        let client = BalancedClient::new(discovery, SelectMode::RoundRobin, &Options::default());
        for _ in 0..2 {
            let error = try_call(&client).await.expect_err("nobody is there");
            match &error {
                BalanceError::Dial { endpoint, source } => {
                    assert!(list.contains(endpoint), "{endpoint} is in the list");
                    assert!(matches!(**source, Error::Io(_)), "{source:?}");
                    assert!(error.to_string().contains(&endpoint.to_string()), "{error} names {endpoint}");
                }
                other => panic!("dialing should have failed, but: {other:?}"),
            }
        }
        assert_eq!(client.connections(), 0);
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

/// A server, spoken by hand, that shuts down at the first call: its goodbye and the call have crossed on the
/// way, so it refuses the call. Nobody can connect after that.
async fn refuse_the_first_call(listener: TcpListener, refuses: bool) {
    let mut peer = Peer { io: listener.accept().await.unwrap().0 };
    peer.accept_handshake("application/json").await;
    let seq = peer.read_message().await.seq();
    peer.send(&json_error("", 0, "the server is shutting down")).await;
    // The name makes it a refusal. The text does not matter.
    let method = if refuses { "$/refused" } else { "Site.name" };
    peer.send(&json_error(method, seq, "the server is shutting down")).await;
    loop {
        drop(listener.accept().await.unwrap());
    }
}

/// A server that is shutting down refuses a call that crossed its goodbye, and the call goes to another
/// server. A method that fails at that time, with the very words of the refusal, has run: it is not called again.
///
/// A server that is replaced in good order should cost no call, and no call may run twice.
///
/// Hint: a refusal is an error of its own type, and that alone decides.
#[test]
fn a_call_that_crosses_a_goodbye_goes_to_another_server() {
    run(async || {
        for refuses in [true, false] {
            let good = Site::start("good").await;
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let leaving = Endpoint::tcp(listener.local_addr().unwrap());
            let mut server = JoinSet::new();
            server.spawn(refuse_the_first_call(listener, refuses));
            let options = Options::default().codecs([Codec::Json]);
            let client = directed([&leaving, &good.endpoint], options);
            let outcome = format!("the outcome of a call that crosses a goodbye, refused: {refuses}");
            match (refuses, within(&outcome, client.call::<_, String>("Site.name", &())).await) {
                (true, Ok(name)) => assert_eq!(name, "good"),
                // These are a method's own words, and it has run.
                (false, Err(BalanceError::Call { endpoint, source: Error::Remote(_) })) => {
                    assert_eq!(endpoint, leaving);
                }
                (refuses, other) => panic!("refused: {refuses}, and the outcome was {other:?}"),
            }
            assert_eq!(good.seen.calls(), usize::from(refuses));
        }
    });
}

/// A call that no server takes is tried three times, and then fails with the last refusal.
///
/// Who tries for ever turns a bad minute of all servers into one without end.
///
/// Hint: count the attempts.
#[test]
fn a_call_is_tried_three_times_at_most() {
    run(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let leaving = Endpoint::tcp(listener.local_addr().unwrap());
        let (refusals, mut refused) = watch::channel(0);
        let mut server = JoinSet::new();
        server.spawn(async move {
            loop {
                let mut peer = Peer { io: listener.accept().await.unwrap().0 };
                peer.accept_handshake("application/json").await;
                let seq = peer.read_message().await.seq();
                refusals.send_modify(|n| *n += 1);
                peer.send(&json_error("", 0, "the server is shutting down")).await;
                peer.send(&json_error("$/refused", seq, "the server is shutting down")).await;
            }
        });
        let client = directed([&leaving], Options::default().codecs([Codec::Json]));
        let outcome = tokio::select! {
            outcome = try_call(&client) => outcome,
            n = async { refused.wait_for(|n| *n >= 10).await.map(|n| *n).unwrap() } => {
                panic!("it has been refused {n} times and is still being tried");
            }
        };
        match outcome {
            Err(BalanceError::Call { endpoint, source: Error::Refused(_) }) => assert_eq!(endpoint, leaving),
            other => panic!("the call should have been refused, but: {other:?}"),
        }
        assert_eq!(*refused.borrow(), 3, "how often it was tried");
    });
}

/// Three hundred calls wait for a connection that breaks as soon as it is there. Those that find it broken
/// were not sent, and another server takes them.
///
/// Whether a call was sent is the question that decides. If it was not, nothing speaks against trying again.
///
/// Hint: `Client::start` fails before it sends, the `PendingCall` after that.
#[test]
fn calls_that_find_their_connection_broken_go_elsewhere() {
    run(async || {
        let good = Site::start("good").await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let broken = Endpoint::tcp(listener.local_addr().unwrap());
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut peer = Peer { io: listener.accept().await.unwrap().0 };
            peer.accept_handshake("application/json").await;
        });
        let client = directed([&broken, &good.endpoint], Options::default().codecs([Codec::Json]));
        let calls: Vec<_> = (0..300).map(|_| spawn_call(&to(&client, &broken), "Site.name")).collect();
        let mut answered = 0;
        for call in calls {
            match outcome(call).await {
                Ok(name) => answered += usize::from(name == "good"),
                Err(BalanceError::Call { source: Error::Disconnected(_), .. }) => {} // it may have been sent
                Err(other) => panic!("a call should be answered elsewhere, or be lost, but: {other:?}"),
            }
        }
        assert!(answered > 0, "at least the last of the calls have found the connection broken");
        assert_eq!(good.seen.calls(), answered, "no call may run twice");
    });
}

/// A server that shuts down in good order costs no caller a call, even if it is in a fixed list and calls
/// keep coming.
///
/// A deployment restarts servers all day.
///
/// Hint: after its goodbye a server refuses in the words of the goodbye, and what was refused did not run; so
/// it may go to another server.
#[test]
fn an_orderly_shutdown_loses_no_call() {
    run_threads(async || {
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let leaving = Endpoint::tcp(listener.local_addr().unwrap());
        let serving = tokio::spawn(async move {
            let signal = async { drop(stopped.await) };
            Server::new(crate::support::arith()).serve_with_shutdown(listener, signal).await
        });
        let staying = crate::support::start(Server::new(crate::support::arith())).await;
        let discovery = MultiServersDiscovery::new([leaving, Endpoint::tcp(staying.addr)]);
        let client = BalancedClient::new(discovery, SelectMode::RoundRobin, &Options::default());

        let done = Arc::new(AtomicUsize::new(0));
        let callers: Vec<_> = (0..32)
            .map(|num1| {
                let (client, done) = (client.clone(), Arc::clone(&done));
                tokio::spawn(async move {
                    for num2 in 0..100 {
                        let sum: i32 = client.call("Arith.sum", &crate::support::Sum { num1, num2 }).await?;
                        assert_eq!(sum, num1 + num2);
                        done.fetch_add(1, SeqCst);
                    }
                    Ok::<(), BalanceError>(())
                })
            })
            .collect();
        eventually("a few hundred calls", || done.load(SeqCst) > 300).await;
        stop.send(()).unwrap();
        within("the server has shut down", serving).await.unwrap().unwrap();
        for caller in callers {
            within("a caller is done", caller).await.unwrap().unwrap();
        }
        assert_eq!(done.load(SeqCst), 3200);
    });
}
