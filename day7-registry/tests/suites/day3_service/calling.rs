//! The map: a name on the wire finds its method, while services come and go.
//!
//! In `src/service/map.rs`: `add` and `call`. In `src/service/mod.rs`: `Method::call` and `Running::drop`, and what was
//! left of the function in the table, which decodes, calls and encodes.
//!
//! Works then: a name on the wire finds its method, and services come and go while the server runs.
//!
//! Chapter: The wire > service_method; Files of today > src/service/map.rs

use super::*;

/// The day in one test: a method with Rust types on both sides is called by its name. In both codecs: JSON
/// forgives what bincode does not, such as a tuple where a struct should be.
///
/// Hint: the function in the table decodes the argument, awaits the method and encodes what it returns.
#[test]
fn a_typed_method_is_called_by_name_in_both_codecs() {
    run(async || {
        let server = start(Server::new(arith::services())).await;
        for codec in Codec::ALL {
            let client = connect_with(&server, codec).await;
            assert_eq!(client.codec(), codec);
            assert_eq!(call::<_, i32>(&client, "Arith.sum", Sum { num1: -7, num2: 3 }).await, -4);
            assert_eq!(call::<_, u64>(&client, "Arith.sleep", Sleep { millis: 1 }).await, 1);
        }
    });
}

/// A call that is written out by hand in JSON is answered, byte for byte, so a client in another language can
/// make it too. A method without an argument takes `null`.
///
/// Hint: nothing to do: the request knows the connection's codec, and the connection knows the number.
#[test]
fn a_call_is_plain_json_for_other_languages() {
    run(async || {
        let services = arith::services();
        services.add(Counter::starting_at(7).service("Counter")).unwrap();
        let (mut peer, _served) = serve_in_memory(Server::new(services));
        peer.handshake_json().await;
        peer.send(b"\0\0\0\x2f{\"call\":{\"service_method\":\"Arith.sum\",\"seq\":7}}").await;
        peer.send(b"\0\0\0\x15{\"num1\":20,\"num2\":22}").await;
        expect_bytes(&mut peer.io, b"\0\0\0\x20{\"reply\":{\"seq\":7,\"error\":null}}\0\0\0\x0242").await;
        peer.send(b"\0\0\0\x31{\"call\":{\"service_method\":\"Counter.get\",\"seq\":8}}\0\0\0\x04null").await;
        expect_bytes(&mut peer.io, b"\0\0\0\x20{\"reply\":{\"seq\":8,\"error\":null}}\0\0\0\x017").await;
    });
}

/// The name of the service chooses the service: methods of the same name in several services do not mix, and
/// the list of all services is sorted.
///
/// Hint: two look-ups, the service first. A `BTreeMap` is sorted by itself.
#[test]
fn several_services_may_have_methods_of_the_same_name() {
    run(async || {
        let (_server, services, client) = arith_server().await;
        services.add(Counter::starting_at(100).service("Hundred")).unwrap();
        services.add(Counter::starting_at(10).service("Counter")).unwrap();
        let names: Vec<_> = services.services().iter().map(|service| service.name().to_owned()).collect();
        assert_eq!(names, ["Arith", "Counter", "Hundred"]);

        assert_eq!(call::<_, i64>(&client, "Hundred.add", 1).await, 101);
        assert_eq!(call::<_, i64>(&client, "Counter.add", 1).await, 11);
        assert_eq!(call::<_, i64>(&client, "Hundred.get", ()).await, 101);
        assert_still_serves(&client).await;
    });
}

/// All methods of a service work on one receiver, whichever connection the call came from: what `add`
/// changes, `get` reads.
///
/// Hint: one `Arc` of the receiver, cloned for each call.
#[test]
fn the_methods_of_a_service_share_their_receiver() {
    run(async || {
        struct Total(AtomicI64);
        impl Total {
            async fn add(&self, by: i64) -> anyhow::Result<i64> {
                Ok(self.0.fetch_add(by, SeqCst) + by)
            }
            async fn get(&self, (): ()) -> anyhow::Result<i64> {
                Ok(self.0.load(SeqCst))
            }
        }
        let services = ServiceMap::new();
        services.add(service!("Total", Total(AtomicI64::new(40)), [add, get]).unwrap()).unwrap();
        let server = start(Server::new(services)).await;
        let (first, second) = (connect(&server).await, connect(&server).await);
        assert_eq!(call::<_, i64>(&first, "Total.add", 1).await, 41);
        assert_eq!(call::<_, i64>(&second, "Total.add", 1).await, 42);
        assert_eq!(call::<_, i64>(&first, "Total.get", ()).await, 42);
    });
}

/// A slow method does not hold up the calls after it on the same connection. The second call is what lets the
/// first one go on, so a server that runs one after the other never ends this test.
///
/// Hint: the function in the table returns a future, and does not wait for it.
#[test]
fn calls_of_one_connection_run_concurrently() {
    run(async || {
        struct Meeting(Notify);
        impl Meeting {
            async fn wait(&self, (): ()) -> anyhow::Result<u32> {
                self.0.notified().await;
                Ok(2)
            }
            async fn come(&self, (): ()) -> anyhow::Result<()> {
                self.0.notify_one();
                Ok(())
            }
        }
        let services = ServiceMap::new();
        services.add(service!("Meeting", Meeting(Notify::new()), [wait, come]).unwrap()).unwrap();
        let server = start(Server::new(services)).await;
        let client = connect(&server).await;
        let waiting = send(&client, "Meeting.wait", ()).await;
        call::<_, ()>(&client, "Meeting.come", ()).await;
        assert_eq!(waiting.await.unwrap(), 2);
    });
}

/// Two services of one name: the second is refused, and nothing changes for the callers of the first.
///
/// Hint: look and insert under one lock. `BTreeMap::insert` has replaced the first before it says so.
#[test]
fn a_service_that_is_there_already_stays_and_the_second_is_an_error() {
    run(async || {
        let (_server, services, client) = arith_server().await;
        services.add(Counter::starting_at(1).service("Counter")).unwrap();
        assert_eq!(call::<_, i64>(&client, "Counter.get", ()).await, 1);

        let error = services.add(Counter::starting_at(2).service("Counter")).unwrap_err();
        assert_eq!(error, ServiceError::DuplicateService("Counter".to_owned()));
        assert_eq!(call::<_, i64>(&client, "Counter.get", ()).await, 1);
        assert_eq!(services.services().len(), 2);
    });
}

/// A service can be added to a map that is being served: a connection that is open already can call it.
///
/// Hint: a clone of the map is the same map: it is behind an `Arc` and a lock. Look services up at each call.
#[test]
fn a_service_added_while_serving_can_be_called_at_once() {
    run(async || {
        let (_server, services, client) = arith_server().await;
        assert_eq!(*error_of(&client, "Counter.get", ()).await.code(), Code::UNIMPLEMENTED);
        services.add(Counter::starting_at(7).service("Counter")).unwrap();
        assert_eq!(call::<_, i64>(&client, "Counter.get", ()).await, 7);
        assert_still_serves(&client).await;
    });
}

/// A service that is removed takes no more calls, but those in flight go on to their end. Its name is free
/// again: what is added under it next is another service.
///
/// Hint: a call in flight holds the receiver by an `Arc` of its own.
#[test]
fn a_removed_service_finishes_its_calls_in_flight_and_takes_no_more() {
    run(async || {
        let (_server, services, client) = arith_server().await;
        let counter = Counter::starting_at(1);
        services.add(counter.service("Counter")).unwrap();
        let in_flight = send(&client, "Counter.wait", 5).await;
        counter.came_to_the_gate(1).await;

        let removed = services.remove("Counter").expect("the service was there");
        assert_eq!(removed.name(), "Counter");
        drop(removed);
        assert!(services.remove("Counter").is_none() && services.get("Counter").is_none());
        assert_eq!(*error_of(&client, "Counter.get", ()).await.code(), Code::UNIMPLEMENTED);

        services.add(Counter::starting_at(2).service("Counter")).unwrap();
        assert_eq!(call::<_, i64>(&client, "Counter.get", ()).await, 2);
        counter.gate.add_permits(1);
        assert_eq!(in_flight.await.unwrap(), 5);
        assert_still_serves(&client).await;
    });
}
