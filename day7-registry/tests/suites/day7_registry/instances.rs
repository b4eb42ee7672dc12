//! Weights, names, and who it is that registers.
//!
//! In `src/registry/leases.rs`: `deregister`, with `retire`.
//!
//! Works then: a server leaves at once, and what an old instance still sends changes nothing.
//!
//! Chapter: Who is it? Instances; The wire; Files of today > src/registry/leases.rs

use super::*;

/// `DELETE` takes a server off the list at once, and is no error if it is not there.
///
/// GeeRPC has no way to deregister. Each deployment then means failing calls until the lease ends.
///
/// Hint: 204 either way. What the sender wants is true in both cases.
#[test]
fn deregistering_takes_effect_at_once() {
    run(async || {
        let registry = RegistryServer::new();
        let running = RunningRegistry::start(&registry).await;
        running.exchange(&post("tcp@a:1")).await;
        running.exchange(&post("tcp@b:1")).await;
        let delete = request("DELETE", REGISTRY_PATH, &["X-Rrpc-Server: tcp@a:1"]);
        for time in ["first", "second"] {
            let answer = running.exchange(&delete).await;
            assert_eq!((answer.status(), &*answer.body), (204, ""), "the {time} time");
            assert_eq!(texts(&registry.servers()), ["tcp@b:1"]);
        }
    });
}

/// A weight is listed with its server, and without one it is 1. A registration with another weight changes it. What
/// is no weight is 400, with what is accepted.
///
/// A server knows best how much it can take. A mistake in its weight must not look like a small weight.
///
/// Hint: a whole number from 1 to 65535. `"+1".parse::<u16>()` is a number too, for Rust.
#[test]
fn a_weight_is_listed_with_its_server() {
    run_paused(async || {
        let registry = RegistryServer::new();
        let wire = InMemory::serve(&registry);
        let post_weight = |weight: &str| {
            let weight = format!("X-Rrpc-Weight: {weight}");
            request("POST", REGISTRY_PATH, &["X-Rrpc-Server: tcp@a:1", &weight])
        };
        for (weight, listed) in [("65535", 65535), ("1", 1), ("7", 7)] {
            assert_eq!(wire.status(&post_weight(weight)).await, 200, "{weight}");
            assert_eq!(wire.list().await, json!([{"endpoint": "tcp@a:1", "weight": listed}]));
            assert_eq!(registry.servers(), [instance("tcp@a:1").weight(listed)]);
        }
        for weight in ["0", "65536", "-1", "+1", "1.5", "", "many"] {
            let answer = wire.exchange(&post_weight(weight)).await;
            assert_eq!(answer.status(), 400, "{weight:?}: {answer:?}");
            assert!(answer.body.contains("65535"), "{weight:?}: what is accepted? {answer:?}");
        }
        assert_eq!(wire.status(&post_weight("1\r\nX-Rrpc-Weight: 1")).await, 400, "two weights");
        assert_eq!(registry.servers(), [instance("tcp@a:1").weight(7)], "a bad weight changes nothing");
        wire.exchange(&post("tcp@a:1")).await;
        assert_eq!(registry.servers(), [instance("tcp@a:1")]);
    });
}

/// The servers of each name are a list of their own. A name is 1 to 64 letters, digits, `-`, `_` and `.`, with no dot in
/// front; another one is 400.
///
/// With one list for all, a program of two services needs two registries, or its calls end at servers that do not know
/// the method.
///
/// Hint: the name is a part of the key. The path without a name is one more list.
#[test]
fn each_name_has_a_list_of_its_own() {
    run_paused(async || {
        let registry = RegistryServer::new();
        let wire = InMemory::serve(&registry);
        let at = |method: &str, name: &str, server: &str| {
            request(method, &format!("{REGISTRY_PATH}/{name}"), &[&format!("X-Rrpc-Server: {server}")])
        };
        let longest = "n".repeat(64);
        assert_eq!(longest.len(), MAX_NAME_LEN);
        assert_eq!(wire.status(&post("tcp@c:1")).await, 200);
        for (name, server) in [("Arith", "tcp@a:1"), ("arith-2_b.c", "tcp@b:1"), (&longest, "tcp@a:1")] {
            assert_eq!(wire.exchange(&get_name(name)).await.json(), listed(&[]), "nothing there yet: {name}");
            assert_eq!(wire.status(&at("POST", name, server)).await, 200, "{name}");
            assert_eq!(wire.exchange(&get_name(name)).await.json(), listed(&[server]), "{name}");
        }
        assert_eq!(wire.list().await, listed(&["tcp@c:1"]), "the list without a name");
        assert_eq!(wire.status(&at("DELETE", "Arith", "tcp@a:1")).await, 204);
        assert_eq!(wire.exchange(&get_name("Arith")).await.json(), listed(&[]));
        assert_eq!(texts(&registry.servers_of(&longest)), ["tcp@a:1"], "the same server, under another name");

        let too_long = "n".repeat(65);
        for name in ["", "a/b", "a%20b", "a,b", "a:b", "%C3%A4", "..", ".a", &too_long] {
            for method in ["GET", "POST", "DELETE"] {
                let answer = wire.exchange(&at(method, name, "tcp@a:1")).await;
                assert_eq!(answer.status(), 400, "{method} {name:?}: {answer:?}");
                assert!(answer.body.contains("64"), "{method} {name:?}: what is accepted? {answer:?}");
            }
        }
    });
}

/// A server that starts again at the same endpoint is another instance, and takes the place of the one before at once.
/// What the old one still sends is 409, and changes nothing.
///
/// A process is replaced by the next one at the same port. Its last heartbeat and its `DELETE` may be late: the new
/// server would be off the list until its next heartbeat, or on it with the weight of the old one.
///
/// Hint: the header `X-Rrpc-Instance` says who asks. Remember who was there before, as long as the new one is there.
#[test]
fn an_old_instance_changes_nothing() {
    run_paused(async || {
        let registry = RegistryServer::new().lease(LEASE);
        let wire = InMemory::serve(&registry);
        let new = [instance("tcp@a:1")];
        assert_eq!(wire.status(&by("old", "POST", "tcp@a:1")).await, 200);
        assert_eq!(wire.status(&by("new", "POST", "tcp@a:1")).await, 200, "the new one waits for nothing");
        let with_weight = by("old", "POST", "tcp@a:1").replace("\r\n\r\n", "\r\nX-Rrpc-Weight: 9\r\n\r\n");
        for round in 0..5 {
            for late in [&with_weight, &by("old", "DELETE", "tcp@a:1"), &by("other", "DELETE", "tcp@a:1")] {
                let answer = wire.exchange(late).await;
                assert_eq!(answer.status(), 409, "round {round}: {late:?}: {answer:?}");
                assert!(!answer.body.is_empty(), "why?");
                assert_eq!(registry.servers(), new, "round {round}: {late:?}");
            }
            sleep(LEASE / 2).await;
            assert_eq!(wire.status(&by("new", "POST", "tcp@a:1")).await, 200, "round {round}");
        }
        assert_eq!(
            wire.status(&by("old", "POST", "tcp@b:1")).await,
            200,
            "another endpoint is another matter"
        );
        assert_eq!(wire.status(&by("new", "DELETE", "tcp@a:1")).await, 204);
        assert_eq!(texts(&registry.servers()), ["tcp@b:1"]);
    });
}

/// A heartbeat that arrives after the deregistration of its instance does not bring the server back. Another instance
/// may come at once.
///
/// A heartbeat that was given up may still be on its way. A server that has ended would be listed for a whole lease,
/// and calls would go there.
///
/// Hint: remember the instance for a lease. No request is on its way for longer.
#[test]
fn a_late_heartbeat_does_not_bring_a_server_back() {
    run_paused(async || {
        let registry = RegistryServer::new().lease(LEASE);
        let wire = InMemory::serve(&registry);
        assert_eq!(wire.status(&by("a", "POST", "tcp@a:1")).await, 200);
        assert_eq!(wire.status(&by("a", "DELETE", "tcp@a:1")).await, 204);
        assert_eq!(wire.status(&by("b", "DELETE", "tcp@b:1")).await, 204, "it overtakes the heartbeat");
        sleep(LEASE - Duration::from_secs(1)).await;
        for (id, server) in [("a", "tcp@a:1"), ("b", "tcp@b:1")] {
            assert_eq!(wire.status(&by(id, "POST", server)).await, 409, "late: {server}");
            assert_eq!(wire.status(&by(id, "DELETE", server)).await, 204, "is not there: {server}");
        }
        assert_eq!((texts(&registry.servers()), wire.list().await), (vec![], listed(&[])));
        assert_eq!(wire.status(&by("new", "POST", "tcp@a:1")).await, 200, "a new instance");
        sleep(LEASE).await;
        assert_eq!(
            wire.status(&by("b", "POST", "tcp@b:1")).await,
            200,
            "a lease later it is no late heartbeat"
        );
        assert_eq!(texts(&registry.servers()), ["tcp@b:1"]);
    });
}
