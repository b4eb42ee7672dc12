//! Counters of each method: calls, errors, and calls in flight.
//!
//! Nothing to write: run it. What is red here is what the guard `Running` counts, in `src/service/mod.rs`.
//!
//! Works then: each method knows its calls, its errors, and what is in flight.
//!
//! Chapter: Counters

use super::*;

/// Each call counts once, at its own method, whether it went well or not. A call that reaches no method counts
/// nowhere.
///
/// Hint: count where the method has been found, before its argument is decoded.
#[test]
fn a_call_counts_once_at_its_own_method() {
    run(async || {
        let (_server, services, client) = arith_server().await;
        let calls = || {
            let arith = services.get("Arith").unwrap();
            arith.methods().map(|(_, method)| method.calls()).collect::<Vec<_>>()
        };
        assert_eq!(calls(), [0, 0, 0, 0]); // fail, panic, sleep, sum
        for _ in 0..3 {
            assert_still_serves(&client).await;
        }
        assert_eq!(calls(), [0, 0, 0, 3]);
        error_of(&client, "Arith.fail", Fail { message: "on purpose".to_owned() }).await;
        error_of(&client, "Arith.fail", Fail { message: "on purpose".to_owned() }).await;
        error_of(&client, "Arith.panic", ()).await;
        error_of(&client, "Arith.sleep", "no number").await;
        assert_eq!(calls(), [2, 1, 1, 3]);
        error_of(&client, "Arith.unknown", ()).await;
        error_of(&client, "Other.sum", TWO_AND_THREE).await;
        error_of(&client, "Arith.sum.", TWO_AND_THREE).await;
        assert_eq!(calls(), [2, 1, 1, 3]);
    });
}

/// A call that ends without a value is an error, however that happens, and leaves nothing in flight: by an
/// error of the method, an argument or a reply that does not fit, or a panic, early or late. A call that goes
/// well is none.
///
/// Hint: a guard counts an error when it is dropped, unless success was reported to it before. A panic
/// drops it too, and so does a `return` in the middle.
#[test]
fn a_call_that_ends_without_a_value_is_an_error_however_it_ends() {
    run(async || {
        let (_server, services, client) = arith_server().await;
        let counter = Counter::starting_at(0);
        services.add(counter.service("Counter")).unwrap();
        let odd = Service::builder("Odd", ())
            .method("map", |_, (): ()| async { Ok(BTreeMap::from([(vec![1_u8], 2_u8)])) })
            .method("early_panic", |_, stop: bool| {
                assert!(!stop, "this panic is part of the test");
                async { Ok(()) }
            });
        services.add(odd.build().unwrap()).unwrap();

        assert_still_serves(&client).await;
        assert_eq!(counts(&services, "Arith.sum"), (1, 0, 0), "after a call that went well");
        let cases = [
            ("an error", "Arith.fail", json!({"message": "on purpose"})),
            ("an argument of another type", "Arith.sleep", json!("no number")),
            ("a reply that cannot be encoded", "Odd.map", json!(null)),
            ("a panic before the future is there", "Odd.early_panic", json!(true)),
            ("a panic at the first poll", "Arith.panic", json!(null)),
        ];
        for (what, method, argument) in cases {
            error_of(&client, method, argument).await;
            assert_eq!(counts(&services, method), (1, 1, 0), "after {what}");
        }
        counter.gate.add_permits(1);
        error_of(&client, "Counter.panic_at_the_gate", ()).await;
        let (calls, errors, in_flight) = counts(&services, "Counter.panic_at_the_gate");
        assert_eq!((calls, errors, in_flight), (1, 1, 0), "after a panic");
    });
}

/// A call is in flight from its start until it has ended, and not after its reply has arrived.
///
/// A number that stays up for every call that failed is worse than none.
///
/// Hint: count up before the method is called, and down in the guard.
#[test]
fn a_call_is_in_flight_until_it_has_ended() {
    run(async || {
        let (_server, services, client) = arith_server().await;
        let counter = Counter::starting_at(0);
        services.add(counter.service("Counter")).unwrap();
        let first = send(&client, "Counter.wait", 1).await;
        let second = send(&client, "Counter.wait", 2).await;
        let panics = send(&client, "Counter.panic_at_the_gate", ()).await;
        counter.came_to_the_gate(3).await;
        assert_eq!(counts(&services, "Counter.wait"), (2, 0, 2));
        assert_eq!(counts(&services, "Counter.panic_at_the_gate"), (1, 0, 1));
        assert_eq!(counts(&services, "Counter.get"), (0, 0, 0));

        counter.gate.add_permits(3);
        assert_eq!((first.await.unwrap(), second.await.unwrap()), (1, 2));
        assert!(panics.await.is_err());
        assert_eq!(counts(&services, "Counter.wait"), (2, 0, 0));
        assert_eq!(counts(&services, "Counter.panic_at_the_gate"), (1, 1, 0), "a panic late in the call");
    });
}

/// When a client leaves, the server stops its calls: they are in flight no longer, and count as errors. The
/// calls of other clients go on.
///
/// Hint: a call that is stopped is a future that is dropped. Whatever stands after an `await` never runs then.
#[test]
fn a_call_that_is_stopped_because_its_client_left_is_counted_down() {
    run(async || {
        let (server, services, leaves) = arith_server().await;
        let stays = connect(&server).await;
        let counter = Counter::starting_at(0);
        services.add(counter.service("Counter")).unwrap();
        let first = send(&leaves, "Counter.wait", 1).await;
        let second = send(&leaves, "Counter.wait", 2).await;
        let other = send(&stays, "Counter.wait", 3).await;
        counter.came_to_the_gate(3).await;
        assert_eq!(counts(&services, "Counter.wait"), (3, 0, 3));

        leaves.close();
        assert!(first.await.is_err() && second.await.is_err());
        let stopped = || counts(&services, "Counter.wait") == (3, 2, 1);
        eventually("the calls of the client that left are counted down, as errors", stopped).await;
        counter.gate.add_permits(1);
        assert_eq!(other.await.unwrap(), 3);
        assert_eq!(counts(&services, "Counter.wait"), (3, 2, 0));
    });
}
