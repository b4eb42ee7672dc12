//! The map changes while it serves.
//!
//! Write `ServiceMap::remove`, `get` and `services` in `src/service/mod.rs`.
//!
//! Chapter: Reading order > 1. src/service/mod.rs

use super::*;

/// A service can be added to a map that is being served: a connection that is open already can call it.
///
/// Hint: the map is behind an `Arc` and a lock; look services up at each call, and keep no copy.
#[test]
fn a_service_added_while_serving_can_be_called_at_once() {
    run(async || {
        let (_server, services, client) = arith_server().await;
        assert_says(&error_of(&client, "Counter.get", ()).await, &["unknown service", "\"Counter\""]);
        services.add(Counter::starting_at(7).service("Counter")).unwrap();
        assert_eq!(call::<_, i64>(&client, "Counter.get", ()).await, 7);
        assert_still_serves(&client).await;
    });
}

/// A service that is removed takes no more calls, but those in flight go on to their end, and it is given
/// back with its counters. Its name is free again: what is added under it next is another service.
///
/// Hint: a call in flight holds the receiver by an `Arc` of its own.
#[test]
fn a_removed_service_finishes_its_calls_in_flight_and_takes_no_more() {
    run(async || {
        let (_server, services, client) = arith_server().await;
        let counter = Counter::starting_at(1);
        services.add(counter.service("Counter")).unwrap();
        let in_flight = within("sending a call", client.start::<_, u32>("Counter.wait", &5)).await.unwrap();
        counter.came_to_the_gate(1).await;

        let removed = services.remove("Counter").expect("the service was there");
        assert_eq!(removed.method("wait").unwrap().calls(), 1);
        drop(removed);
        assert!(services.remove("Counter").is_none() && services.get("Counter").is_none());
        assert_says(&error_of(&client, "Counter.get", ()).await, &["unknown service", "\"Counter\""]);

        services.add(Counter::starting_at(2).service("Counter")).unwrap();
        assert_eq!(call::<_, i64>(&client, "Counter.get", ()).await, 2);
        counter.gate.add_permits(1);
        assert_eq!(within("the call on the removed service", in_flight).await.unwrap(), 5);
        assert_eq!(services.get("Counter").unwrap().method("wait").unwrap().calls(), 0);
        assert_still_serves(&client).await;
    });
}

/// A clone of a map is the same map, and several servers can serve it: what is registered by one handle is
/// there for all, and the counters are shared too. Day 5 serves one map over TCP and over HTTP.
///
/// Hint: derive `Clone` on a struct that holds one `Arc`.
#[test]
fn clones_of_a_map_and_two_servers_share_its_services() {
    run(async || {
        let services = ServiceMap::new();
        let clone = services.clone();
        let first = start(Server::new(services.clone())).await;
        let second = start(Server::new(clone.clone())).await;
        clone.add(arith::service().unwrap()).unwrap();
        assert!(services.get("Arith").is_some());
        let duplicate = ServiceError::DuplicateService("Arith".to_owned());
        assert_eq!(services.add(arith::service().unwrap()), Err(duplicate));

        for server in [&first, &second] {
            assert_still_serves(&connect(server).await).await;
        }
        assert_eq!(services.get("Arith").unwrap().method("sum").unwrap().calls(), 2);
        services.remove("Arith").unwrap();
        let error = error_of(&connect(&second).await, "Arith.sum", TWO_AND_THREE).await;
        assert_says(&error, &["unknown service"]);
    });
}
