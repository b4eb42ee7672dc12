//! Calls, and one shared connection for each server.
//!
//! In `src/balance/failover.rs`: `Failover::new`, `next` and `attempt_deadline`. In `src/balance/pool.rs`: `connect`,
//! `dial` and `begin`; `run` of an attempt, and `drop` of a name that is listed; `is_usable`, `less_loaded` and
//! `follow_list`.
//!
//! Works then: calls go to many servers, over one shared connection to each.
//!
//! Chapter: One connection for each server

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

/// A hundred first calls at the same time make one connection.
///
/// A hundred handshakes with a server that has just started are the last thing it needs.
///
/// Hint: a call that comes while a connection is being made waits for that one ("single flight").
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

/// In the mode least-loaded, a server that is busy with calls gets no further one while another is idle.
///
/// Turns are fair to servers that are equally fast. One that is slow has more and more calls in flight, and its turns come
/// all the same.
///
/// Hint: two connected servers by chance; `Client::in_flight` decides.
#[test]
fn the_less_loaded_of_two_servers_takes_the_call() {
    run(async || {
        let (busy, idle) = (Site::start("busy").await, Site::start("idle").await);
        let client = directed([&busy.endpoint, &idle.endpoint], Options::default());
        let waiting = spawn_call(&to(&client, &busy.endpoint), "Site.wait");
        busy.a_call_waits().await;
        assert_eq!(name(&to(&client, &idle.endpoint)).await, "idle");

        let least_loaded = client.with_mode(SelectMode::LeastLoaded);
        for _ in 0..30 {
            assert_eq!(name(&least_loaded).await, "idle");
        }
        busy.open_gate(1);
        assert_eq!(outcome(waiting).await.unwrap(), "busy");
        let equal = async { while name(&least_loaded).await != "busy" {} };
        within("a server that is not busy any more gets calls again", equal).await;
    });
}
