//! Hardening: odd names, crafted bodies, shadowed names, many threads, and a limit on memory.
//!
//! No new function: what you have must hold. The two macros must work wherever they are used.
//!
//! Chapter: Limits; What goes wrong without it

use super::*;
use crate::support::peer;
#[cfg(target_os = "linux")]
use crate::support::{alone, resident_kib};

/// Names with odd characters, and names as long as a header can be, reach no method, cost one call each, and
/// leave the connection as it was.
///
/// `"Arith.sum "` may be called malformed or unknown: both are true.
///
/// Hint: compare names as they are. Trimming, or ignoring the case, runs a method that was not asked for.
#[test]
fn an_odd_name_reaches_no_method_and_costs_one_call() {
    run(async || {
        let (_server, services, client) = arith_server().await;
        let long = "x".repeat(15_000);
        let names = [
            " Arith.sum",
            "Arith.sum ",
            "Arith .sum",
            "Arith. sum",
            "Arith.sum\n",
            "Arith.\0sum",
            "ARITH.SUM",
            "Arith.sum()",
            "Ａrith.sum",
            "$/cancel",
            "$/cancel.1",
            "{}.{0}",
            &format!("Arith.{long}"),
            &format!("{long}.sum"),
            &"é.".repeat(5_000),
        ];
        for name in names {
            let error = error_of(&client, name, TWO_AND_THREE).await;
            let is_expected = [Code::INVALID_ARGUMENT, Code::UNIMPLEMENTED].contains(error.code());
            let name: String = name.chars().take(20).collect();
            assert!(is_expected, "{name:?} was answered with {error:?}");
        }
        assert_eq!(counts(&services, "Arith.sum"), (0, 0, 0));
        assert_still_serves(&client).await;
    });
}

/// A body that is a whole request itself is never run, whatever was wrong with the call that carries it, and
/// exactly one answer comes for each call.
///
/// In the Go ancestor the body of a call that cannot be served stays in the stream, and is then read as the next
/// header.
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

        let smuggled = peer::call("Counter.add", 99, json!(1000));
        let names = ["Unknown.add", "Counter.nothing", "Counter", "", "Counter.add", "$/unknown"];
        for (name, seq) in names.into_iter().zip(1..) {
            let header = json!({"call": {"service_method": name, "seq": seq}}).to_string();
            let valid = peer::call("Counter.add", seq + 100, json!(1));
            peer.send(&[frame(header), frame(&smuggled), valid].concat()).await;
            let (first, second) = (peer.read_message().await, peer.read_message().await);
            assert_eq!((first.seq(), second.seq()), (seq, seq + 100), "after a call of {name:?}");
            assert!(["invalid_argument", "unimplemented"].contains(&first.code()), "{first:?}");
            assert_eq!(second.value(), seq, "one valid call more, and nothing else, has run");
        }
        assert_eq!(counter.total.load(SeqCst), 6);
    });
}

/// A clone of a map is the same map, and several servers can serve it: what is registered by one handle is
/// there for all, and the counters are shared too.
///
/// Hint: derive `Clone` on a struct that holds one `Arc`.
#[test]
fn clones_of_a_map_and_two_servers_share_its_services() {
    run(async || {
        let services = ServiceMap::new();
        let clone = services.clone();
        let first = start(Server::new(services.clone())).await;
        let second = start(Server::new(clone.clone())).await;
        clone.add(arith::service()).unwrap();
        assert!(services.get("Arith").is_some());
        let duplicate = ServiceError::DuplicateService("Arith".to_owned());
        assert_eq!(services.add(arith::service()), Err(duplicate));

        for server in [&first, &second] {
            assert_still_serves(&connect(server).await).await;
        }
        assert_eq!(counts(&services, "Arith.sum"), (2, 0, 0));
        services.remove("Arith").unwrap();
        let error = error_of(&connect(&second).await, "Arith.sum", TWO_AND_THREE).await;
        assert_eq!(*error.code(), Code::UNIMPLEMENTED);
    });
}

/// A connection cannot have any number of methods running. One call more than the limit is refused, and marked
/// as not started, so it counts nowhere. Those in flight are not harmed, another connection has a limit of its
/// own, and when there is room again, calls are taken again.
///
/// Hint: this is `Server::max_in_flight`. A map of services must not go around it, by spawning.
#[test]
fn a_call_over_the_limit_of_a_connection_is_refused_and_no_other_is_harmed() {
    run(async || {
        let counter = Counter::starting_at(0);
        let services = arith::services();
        services.add(counter.service("Counter")).unwrap();
        let server = start(Server::new(services.clone()).max_in_flight(3)).await;
        let mut peer = Peer::connect_json(server.addr).await;
        for seq in 1..=3 {
            peer.send(&peer::call("Counter.wait", seq, json!(seq))).await;
        }
        counter.came_to_the_gate(3).await;

        for seq in 4..=5 {
            peer.send(&peer::call("Counter.wait", seq, json!(seq))).await;
            let refused = peer.read_message().await;
            assert_eq!(
                (refused.seq(), refused.code(), refused.is_refused()),
                (seq, "resource_exhausted", true)
            );
        }
        assert_eq!(counts(&services, "Counter.wait"), (3, 0, 3));
        assert_still_serves(&connect(&server).await).await;

        counter.gate.add_permits(3);
        let mut done = Vec::new();
        for _ in 0..3 {
            done.push(peer.read_message().await.value());
        }
        done.sort_by_key(Value::as_u64);
        assert_eq!(done, [json!(1), json!(2), json!(3)]);
        peer.send(&peer::call("Counter.get", 6, json!(null))).await;
        assert_eq!(peer.read_message().await.value(), 0);
    });
}

/// A panic in the argument's `Deserialize` or in the reply's `Serialize` costs its own call, and leaves nothing
/// in flight.
///
/// Hint: both run where the connection catches panics, and where the guard of the counters is alive.
#[test]
fn a_panic_in_decoding_or_encoding_costs_its_own_call() {
    struct Bomb;
    impl<'de> Deserialize<'de> for Bomb {
        fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Bomb, D::Error> {
            panic!("this panic is part of the test")
        }
    }
    impl Serialize for Bomb {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            panic!("this panic is part of the test")
        }
    }
    run(async || {
        let (_server, services, client) = arith_server().await;
        let bombs = Service::builder("Bombs", ())
            .method("argument", |_, _: Bomb| async { Ok(()) })
            .method("reply", |_, (): ()| async { Ok(Bomb) })
            .method("late_reply", |_, (): ()| async {
                tokio::task::yield_now().await;
                Ok(Bomb)
            });
        services.add(bombs.build().unwrap()).unwrap();
        for method in ["Bombs.argument", "Bombs.reply", "Bombs.late_reply"] {
            assert_eq!(*error_of(&client, method, ()).await.code(), Code::INTERNAL, "of {method}");
            assert_eq!(counts(&services, method), (1, 1, 0), "of {method}");
        }
        assert_still_serves(&client).await;
    });
}

/// A method may use the map that it is in: it adds a service, looks at it, calls it and removes it. No call
/// holds the map's lock.
///
/// Hint: clone the service out of the map, let go of the lock, and call then.
#[test]
fn a_method_may_change_the_map_that_it_is_in() {
    run(async || {
        let (_server, services, client) = arith_server().await;
        let map = services.clone();
        let admin = Service::builder("Admin", map)
            .method("add", |map: Arc<ServiceMap>, total: i64| {
                let added = map.add(Counter::starting_at(total).service("Counter"));
                async move { Ok(added.map(|()| map.services().len())?) }
            })
            .method("remove", |map: Arc<ServiceMap>, name: String| {
                let removed = map.remove(&name).is_some();
                async move { Ok(removed && map.get(&name).is_none()) }
            });
        services.add(admin.build().unwrap()).unwrap();
        assert_eq!(call::<_, usize>(&client, "Admin.add", 5).await, 3);
        assert_eq!(call::<_, i64>(&client, "Counter.get", ()).await, 5);
        assert!(call::<_, bool>(&client, "Admin.remove", "Counter").await);
        assert!(call::<_, bool>(&client, "Admin.remove", "Admin").await, "a method removed its own service");
        assert_eq!(*error_of(&client, "Admin.add", 5).await.code(), Code::UNIMPLEMENTED);
        services.remove("Arith").unwrap(); // the map is in itself no longer, and is dropped
    });
}

/// The receiver of a removed service is dropped when its last call has ended, and not before.
///
/// Hint: the map, each method and each call hold an `Arc` of it, and nothing else does.
#[test]
fn the_receiver_of_a_removed_service_is_dropped_with_its_last_call() {
    run(async || {
        struct Holder(Arc<Counter>, OnDrop);
        impl Holder {
            async fn wait(&self, number: u32) -> anyhow::Result<u32> {
                let Holder(counter, _on_drop) = self;
                counter.wait(number).await
            }
        }
        let (_server, services, client) = arith_server().await;
        let counter = Counter::starting_at(0);
        let (dropped, mut was_dropped) = mpsc::unbounded_channel();
        services
            .add(service!("Holder", Holder(Arc::clone(&counter), OnDrop(dropped)), [wait]).unwrap())
            .unwrap();
        let waiting = send(&client, "Holder.wait", 1).await;
        counter.came_to_the_gate(1).await;
        drop(services.remove("Holder").unwrap());
        assert_still_serves(&client).await;
        assert!(was_dropped.try_recv().is_err(), "the receiver was dropped under a call in flight");
        counter.gate.add_permits(1);
        assert_eq!(waiting.await.unwrap(), 1);
        within("the receiver is dropped", was_dropped.recv()).await.unwrap();
    });
}

/// While a method runs, its request is gone: a long body whose value the method has thrown away takes no memory.
///
/// 64 calls of 1 MiB are in flight here. On a server they may be in flight for hours.
///
/// Hint: decode before the future is made, and let the future own the argument and not the request.
#[test]
#[cfg(target_os = "linux")]
fn a_call_in_flight_does_not_hold_its_request() {
    alone(module_path!(), "a_call_in_flight_does_not_hold_its_request", || {
        run(async || {
            let counter = Counter::starting_at(0);
            let services = ServiceMap::new();
            let long = Service::builder("Long", Arc::clone(&counter)).method(
                "wait",
                |counter: Arc<Arc<Counter>>, text: String| {
                    let len = u32::try_from(text.len()).unwrap();
                    async move { counter.wait(len).await }
                },
            );
            services.add(long.build().unwrap()).unwrap();
            let server = start(Server::new(services)).await;
            let client = connect_with(&server, Codec::Bincode).await;
            let text = "x".repeat(1 << 20);
            let mut in_flight = Vec::new();
            let mut before = 0;
            for number in 0..72 {
                in_flight.push(send(&client, "Long.wait", &text).await);
                counter.came_to_the_gate(1).await;
                if number == 7 {
                    before = resident_kib(); // the buffers of both sides have grown by now
                }
            }
            let grown = resident_kib().saturating_sub(before) / 1024;
            assert!(grown < 32, "64 calls of 1 MiB in flight hold {grown} MiB");
            counter.gate.add_permits(72);
            for call in in_flight {
                assert_eq!(call.await.unwrap(), 1 << 20);
            }
        });
    });
}

/// The counters are exact when several connections, on several threads, each bring thousands of calls, a quarter
/// of which fail.
///
/// Hint: one `fetch_add`. A load and a store lose calls when two threads meet.
#[test]
fn the_counters_are_exact_under_concurrency() {
    run_threads(async || {
        const CONNECTIONS: u64 = 4;
        const CALLS: u64 = 8000;
        let counter = Counter::starting_at(0);
        let services = ServiceMap::new();
        services.add(counter.service("Counter")).unwrap();
        let argument = |seq| if seq % 4 == 0 { json!("no number") } else { json!(1) };
        let calls: Vec<u8> =
            (1..=CALLS).flat_map(|seq| peer::call("Counter.add", seq, argument(seq))).collect();
        let calls = Arc::new(calls);
        let mut peers = tokio::task::JoinSet::new();
        for _ in 0..CONNECTIONS {
            // In memory: the system would do most of the work, and the threads would seldom meet.
            let (near, far) = duplex(64 * 1024);
            let (server, calls) = (Server::new(services.clone()), Arc::clone(&calls));
            peers.spawn(async move { server.serve_connection(far).await.unwrap() });
            let mut peer = Peer { io: near };
            peer.handshake_json().await;
            peers.spawn(async move {
                let (mut read, mut write) = tokio::io::split(peer.io);
                let send = async {
                    write.write_all(&calls).await.unwrap();
                    write.shutdown().await.unwrap();
                };
                let mut replies = Vec::new();
                let receive = async {
                    while within("more replies, or the end", read.read_buf(&mut replies)).await.unwrap() > 0 {
                    }
                };
                tokio::join!(send, receive);
            });
        }
        while let Some(done) = peers.join_next().await {
            done.unwrap();
        }
        const ALL: u64 = CONNECTIONS * CALLS;
        assert_eq!(counts(&services, "Counter.add"), (ALL, ALL / 4, 0));
        assert_eq!(counts(&services, "Counter.get"), (0, 0, 0));
        assert_eq!(counter.total.load(SeqCst) as u64, ALL - ALL / 4);
    });
}

/// Adding and removing while many calls run, on several threads: each call finds the service or fails with
/// the code `unimplemented`, and nothing else happens.
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
                    services.remove("Counter").expect("only this task removes it");
                    tokio::task::yield_now().await;
                    rounds += 1;
                }
            })
        };
        for _ in 0..300 {
            match within("an answer", client.call::<_, i64>("Counter.get", &())).await {
                Ok(total) => assert_eq!(total, 1),
                Err(Error::Remote(error)) => assert_eq!(*error.code(), Code::UNIMPLEMENTED),
                Err(error) => panic!("{error}"),
            }
            assert_still_serves(&client).await;
        }
        stop.store(1, SeqCst);
        within("the end of adding and removing", changing).await.unwrap();
        assert_eq!(counts(&services, "Arith.sum"), (300, 0, 0));
    });
}

/// An argument and reply of the user's, with the name that a macro is likely to use for its own.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct C(i32);

/// A place where most names that the macros could mean are something else.
#[allow(dead_code, unused_macros)]
mod shadowed {
    use super::{C, contract, service};

    struct Result;
    struct Option;
    struct Arc;
    struct Box;
    struct String;
    struct Service;
    struct ServiceMap;
    struct Error;
    trait Send {}
    trait Sync {}
    trait Sized {}
    trait Clone {}
    trait Debug {}
    trait Future {}
    trait Caller {}
    trait Handler {}
    mod anyhow {}
    mod std {}
    mod core {}
    mod day3_service {}
    macro_rules! stringify {
        ($($any:tt)*) => {
            "shadowed"
        };
    }
    macro_rules! concat {
        ($($any:tt)*) => {
            "shadowed"
        };
    }

    contract! {
        pub(super) trait Shadowed, client ShadowedClient {
            async fn negate(C) -> C;
            async fn result((C, C)) -> bool;
        }
    }

    pub(super) struct Receiver;

    impl Shadowed for Receiver {
        async fn negate(&self, C(number): C) -> ::anyhow::Result<C> {
            Ok(C(-number))
        }

        async fn result(&self, (a, b): (C, C)) -> ::anyhow::Result<bool> {
            Ok(a == b)
        }
    }

    impl Receiver {
        pub(super) async fn double(&self, C(number): C) -> ::anyhow::Result<C> {
            Ok(C(2 * number))
        }
    }

    pub(super) fn by_list() -> ::day4_timeout::Service {
        service!("List", Receiver, [negate, double]).unwrap()
    }
}

/// Both macros work where the names of the prelude, of the standard library and of this library mean something
/// else, and with a type of the user's that has the name of a macro's own type parameter.
///
/// Hint: a macro names what it means by its whole path, `::core::result::Result` or `$crate::Service`.
#[test]
fn the_macros_work_where_common_names_mean_something_else() {
    use shadowed::{Receiver, Shadowed, ShadowedClient};
    run(async || {
        let (_server, services, client) = arith_server().await;
        services.add(Receiver.into_service().unwrap()).unwrap();
        services.add(shadowed::by_list()).unwrap();
        let typed = ShadowedClient(client.clone());
        assert_eq!(within("the reply", typed.negate(&C(4))).await.unwrap(), C(-4));
        assert!(within("the reply", typed.result(&(C(4), C(4)))).await.unwrap());
        assert_eq!(call::<_, C>(&client, "List.double", C(4)).await, C(8));
        assert_eq!(call::<_, C>(&client, "List.negate", C(4)).await, C(-4));
    });
}

contract! {
    /// Methods with the names of methods that an `Arc` has, or any value.
    trait Repository, client RepositoryClient {
        async fn clone(String) -> u32;
        async fn as_ref(()) -> u32;
        async fn type_id(()) -> u32;
    }
}

/// A method may have the name of one that an `Arc` has, or any value: `clone`, `as_ref`.
///
/// Hint: `receiver.clone(argument)` on an `Arc` is the `clone` of the `Arc`. Name the trait, or the type behind the
/// `Arc`.
#[test]
fn a_method_may_have_the_name_of_a_method_of_the_receiver() {
    struct Git;
    impl Repository for Git {
        async fn clone(&self, url: String) -> anyhow::Result<u32> {
            Ok(u32::try_from(url.len())?)
        }
        async fn as_ref(&self, (): ()) -> anyhow::Result<u32> {
            Ok(3)
        }
        async fn type_id(&self, (): ()) -> anyhow::Result<u32> {
            Ok(4)
        }
    }
    struct Plain;
    impl Plain {
        async fn clone(&self, url: String) -> anyhow::Result<u32> {
            Ok(u32::try_from(url.len())?)
        }
    }
    run(async || {
        let (_server, services, client) = arith_server().await;
        services.add(Git.into_service().unwrap()).unwrap();
        services.add(service!("Plain", Plain, [clone]).unwrap()).unwrap();
        let typed = RepositoryClient(client.clone());
        assert_eq!(within("the reply", typed.clone(&"git".to_owned())).await.unwrap(), 3);
        assert_eq!(within("the reply", typed.as_ref(&())).await.unwrap(), 3);
        assert_eq!(within("the reply", typed.type_id(&())).await.unwrap(), 4);
        assert_eq!(call::<_, u32>(&client, "Plain.clone", "url").await, 3);
    });
}

/// The types in the table are short wherever they stand: in an array, in a slice, behind a reference.
///
/// A page of full paths is hard to read, and half a path is wrong.
///
/// Hint: a path has letters, digits, `_` and `::`. Brackets and `&` belong to no path.
#[test]
fn types_in_brackets_are_short() {
    let service = Service::builder("Types", ())
        .method("array", |_, (): ()| async { Ok([TWO_AND_THREE; 2]) })
        .method("boxed", |_, _: Box<[Sum]>| async { Ok("static") })
        .build()
        .unwrap();
    assert_eq!(service.method("array").unwrap().reply_type(), "[Sum; 2]");
    let boxed = service.method("boxed").unwrap();
    assert_eq!((boxed.argument_type(), boxed.reply_type()), ("Box<[Sum]>".into(), "&str".into()));
}

/// Names that differ in upper and lower case are two names.
///
/// A method `get` and a method `Get` may both be there, and so may two such services.
///
/// Hint: compare names as they are, also for a duplicate.
#[test]
fn upper_and_lower_case_differ() {
    let two = Service::builder("S", ())
        .method("get", |_, (): ()| async { Ok(1) })
        .method("Get", |_, (): ()| async { Ok(2) });
    assert!(two.build().is_ok_and(|service| service.methods().count() == 2));
    let services = ServiceMap::new();
    for name in ["Arith", "arith"] {
        services.add(Service::builder(name, ()).build().unwrap()).unwrap();
    }
}

/// A method whose argument is `()` takes `()` only.
///
/// A value of no size needs no bytes, so it is tempting not to decode it. Then a client that sends a number to the
/// wrong method gets an answer.
///
/// Hint: decode every argument.
#[test]
fn a_method_without_an_argument_takes_none() {
    run(async || {
        let services = ServiceMap::new();
        services.add(Counter::starting_at(7).service("Counter")).unwrap();
        let server = start(Server::new(services.clone())).await;
        for codec in Codec::ALL {
            let client = connect_with(&server, codec).await;
            let error = error_of(&client, "Counter.get", 5).await;
            assert_eq!(*error.code(), Code::INVALID_ARGUMENT, "{codec:?}");
        }
    });
}

/// A call that is stopped is in flight until what its method holds has been dropped.
///
/// A caller that waits for `in_flight` to be 0 wants to know that nothing of a call is left.
///
/// Hint: drop the method's future before the guard that counts.
#[test]
fn a_call_is_in_flight_until_its_method_is_dropped() {
    struct Guard(ServiceMap, mpsc::UnboundedSender<u64>);
    impl Drop for Guard {
        fn drop(&mut self) {
            self.1.send(counts(&self.0, "Slow.wait").2).ok();
        }
    }
    run(async || {
        let (server, services, _client) = arith_server().await;
        let leaves = connect(&server).await;
        let (dropped, mut was_dropped) = mpsc::unbounded_channel();
        let (entered, mut has_entered) = mpsc::unbounded_channel();
        let map = services.clone();
        let slow = Service::builder("Slow", ()).method("wait", move |_, (): ()| {
            let (map, dropped, entered) = (map.clone(), dropped.clone(), entered.clone());
            async move {
                let _guard = Guard(map, dropped);
                entered.send(()).ok();
                std::future::pending::<()>().await;
                Ok(1)
            }
        });
        services.add(slow.build().unwrap()).unwrap();
        let call = send(&leaves, "Slow.wait", ()).await;
        within("the call has begun", has_entered.recv()).await;
        leaves.close();
        assert!(within("the end of the call", call).await.is_err());
        assert_eq!(within("the guard is dropped", was_dropped.recv()).await, Some(1));
        services.remove("Slow"); // the map is in itself no longer
    });
}
