//! Hardening: a panic, a body that looks like a request, a full connection, and changes under load.
//!
//! No new function. `ServiceMap::call` in `src/service/mod.rs` holds no lock while a method runs.
//!
//! Chapter: Limits; What goes wrong without it

use super::*;

/// A panic in a method costs its own call, wherever it happens: before the method has returned a future, at
/// its first poll, or after an `await`. Other calls in flight on the same connection, and other connections,
/// do not notice.
///
/// Hint: the connection of day 1 catches all three, if the table calls the method inside of `Handler::call`
/// or inside of the future that this returns.
#[test]
fn a_panicking_method_costs_its_own_call_and_nothing_else() {
    run(async || {
        let counter = Counter::starting_at(0);
        let services = arith::services();
        services.add(counter.service("Counter")).unwrap();
        let early = Service::builder("Early", ()).method("panic", |_, stop: bool| {
            assert!(!stop, "this panic is part of the test");
            async { Ok(()) }
        });
        services.add(early.build().unwrap()).unwrap();
        let server = start(Server::new(services)).await;
        let (client, other) = (connect(&server).await, connect(&server).await);
        let waiting = client.start::<_, u32>("Counter.wait", &1);
        let waiting = within("sending a call", waiting).await.unwrap();
        let other_waiting =
            within("sending a call", other.start::<_, u32>("Counter.wait", &2)).await.unwrap();
        counter.came_to_the_gate(2).await;

        assert_says(&error_of(&client, "Early.panic", true).await, &["panicked"]);
        assert_says(&error_of(&client, "Arith.panic", ()).await, &["panicked"]);
        let late = within("sending", client.start::<_, ()>("Counter.panic_at_the_gate", &())).await.unwrap();
        counter.came_to_the_gate(1).await;
        counter.gate.add_permits(3);
        match within("the answer of the call that panics late", late).await {
            Err(Error::Remote(text)) => assert_says(&text, &["panicked"]),
            other => panic!("a panic should be answered with an error, but was with {other:?}"),
        }
        assert_eq!(within("the call beside the panics", waiting).await.unwrap(), 1);
        assert_eq!(within("the call of another connection", other_waiting).await.unwrap(), 2);
        assert_still_serves(&client).await;
        assert_still_serves(&other).await;
    });
}

/// A body that is a whole request itself is never run, whatever was wrong with the call that carries it, and
/// exactly one answer comes for each call. In the Go ancestor the body of a call that cannot be served stays in
/// the stream, and is then read as the next header.
///
/// Hint: read a message to its end before looking at its name. It comes by itself if the map is a `Handler`.
#[test]
fn a_body_that_looks_like_a_request_is_never_run() {
    run(async || {
        let counter = Counter::starting_at(0);
        let services = ServiceMap::new();
        services.add(counter.service("Counter")).unwrap();
        let server = start(Server::new(services.clone())).await;
        let mut peer = Peer::connect_json(server.addr).await;

        let smuggled = json_message("Counter.add", 99, json!(1000));
        let names = ["Nobody.add", "Counter.nothing", "Counter", "", "Counter.add", "$/unknown"];
        for (name, seq) in names.into_iter().zip(1..) {
            let header = json!({"service_method": name, "seq": seq, "error": null}).to_string();
            let valid = json_message("Counter.add", seq + 100, json!(1));
            peer.send(&[frame(header), frame(&smuggled), valid].concat()).await;
            let (first, second) = (peer.read_message().await, peer.read_message().await);
            assert_eq!((first.seq(), second.seq()), (seq, seq + 100), "after a call of {name:?}");
            assert_eq!(first.header["service_method"], name);
            assert!(!first.error().is_empty() && first.body.is_empty(), "{first:?}");
            assert_eq!(second.value(), seq, "one valid call more, and nothing else, has run");
        }
        assert_eq!(counter.total.load(SeqCst), 6);
    });
}

/// A connection cannot have any number of handlers running. One more than the limit is refused at once, in
/// words that say so; those in flight are not harmed, another connection has a limit of its own, and when
/// there is room again, calls are taken again.
///
/// Hint: this is `Server::max_in_flight` of day 1. A map of services must not go around it, by spawning.
#[test]
fn a_call_over_the_limit_of_a_connection_is_refused_and_no_other_is_harmed() {
    run(async || {
        let counter = Counter::starting_at(0);
        let services = arith::services();
        services.add(counter.service("Counter")).unwrap();
        let server = start(Server::new(services.clone()).max_in_flight(3)).await;
        let client = connect(&server).await;
        let mut waiting = Vec::new();
        for number in 0..3_u32 {
            let call = within("sending a call", client.start::<_, u32>("Counter.wait", &number)).await;
            waiting.push(call.unwrap());
        }
        counter.came_to_the_gate(3).await;

        for _ in 0..2 {
            let error = error_of(&client, "Counter.wait", 9_u32).await;
            assert_says(&error, &["busy", "3"]);
        }
        assert_eq!(services.get("Counter").unwrap().method("wait").unwrap().calls(), 3);
        assert_still_serves(&connect(&server).await).await;

        counter.gate.add_permits(3);
        for (number, call) in waiting.into_iter().enumerate() {
            assert_eq!(within("a call within the limit", call).await.unwrap() as usize, number);
        }
        assert_eq!(counter.most.load(SeqCst), 3);
        assert_still_serves(&client).await;
    });
}

/// Adding and removing while many calls run, on several threads: each call finds the service or is told that
/// it is unknown, and nothing else happens. No call waits for a lock that another call holds.
///
/// Hint: hold the lock for the look-up only, never across the call.
#[test]
fn adding_and_removing_under_load_harms_no_call() {
    run_threads(async || {
        let (_server, services, client) = arith_server().await;
        let stop = Arc::new(AtomicUsize::new(0));
        let changing = {
            let (services, stop) = (services.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut rounds = 0;
                while stop.load(SeqCst) == 0 || rounds == 0 {
                    services.add(Counter::starting_at(1).service("Counter")).unwrap();
                    tokio::task::yield_now().await;
                    services.remove("Counter").expect("nobody else removes it");
                    tokio::task::yield_now().await;
                    rounds += 1;
                }
            })
        };
        for _ in 0..300 {
            match within("an answer", client.call::<_, i64>("Counter.get", &())).await {
                Ok(total) => assert_eq!(total, 1),
                Err(Error::Remote(text)) => assert_says(&text, &["unknown service", "\"Counter\""]),
                Err(error) => panic!("{error}"),
            }
            assert_still_serves(&client).await;
        }
        stop.store(1, SeqCst);
        within("the end of adding and removing", changing).await.unwrap();
        assert_eq!(services.get("Arith").unwrap().method("sum").unwrap().calls(), 300);
    });
}
