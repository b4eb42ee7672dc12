//! Day 3: a name on the wire becomes a typed Rust method.
//!
//! The order is that of the lesson: make a service, look at its table, register it, call it, call it wrongly,
//! call it often, and change the map while it serves.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::SeqCst};

use day6_loadbalance::{Client, Codec, Error, Options, Server, Service, ServiceError, ServiceMap, service};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use support::arith::{self, Arith};
use support::peer::{Peer, frame, json_message};
use support::{Fail, Running, Sleep, Sum, run, run_threads, start, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, Semaphore};

// ---- helpers of this suite -------------------------------------------------------------------------------

const TWO_AND_THREE: Sum = Sum { num1: 2, num2: 3 };

/// Numbers that a test can watch: a total that `add` changes, and a gate that `wait` waits at.
struct Counter {
    total: AtomicI64,
    /// How many calls of `wait` are running, and how many there were at most at the same time.
    running: AtomicUsize,
    most: AtomicUsize,
    entered: Semaphore,
    gate: Semaphore,
}

impl Counter {
    fn starting_at(total: i64) -> Arc<Counter> {
        Arc::new(Counter {
            total: AtomicI64::new(total),
            running: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            entered: Semaphore::new(0),
            gate: Semaphore::new(0),
        })
    }

    async fn add(&self, by: i64) -> anyhow::Result<i64> {
        Ok(self.total.fetch_add(by, SeqCst) + by)
    }

    async fn get(&self, (): ()) -> anyhow::Result<i64> {
        Ok(self.total.load(SeqCst))
    }

    /// Waits at the gate, and returns its argument.
    async fn wait(&self, number: u32) -> anyhow::Result<u32> {
        let running = self.running.fetch_add(1, SeqCst) + 1;
        self.most.fetch_max(running, SeqCst);
        self.entered.add_permits(1);
        self.gate.acquire().await?.forget();
        self.running.fetch_sub(1, SeqCst);
        Ok(number)
    }

    async fn panic_at_the_gate(&self, (): ()) -> anyhow::Result<()> {
        self.entered.add_permits(1);
        self.gate.acquire().await?.forget();
        panic!("this panic is part of the test")
    }

    /// Waits until `calls` more calls have come to the gate.
    async fn came_to_the_gate(&self, calls: u32) {
        within("a call comes to the gate", self.entered.acquire_many(calls)).await.unwrap().forget();
    }

    fn service(self: &Arc<Self>, name: &str) -> Service {
        service!(name, Arc::clone(self), [add, get, wait, panic_at_the_gate]).unwrap()
    }
}

async fn connect_with(server: &Running, codec: Codec) -> Client {
    let options = Options::default().codecs([codec]);
    within("connecting to the server", Client::connect(server.addr, &options)).await.unwrap()
}

async fn connect(server: &Running) -> Client {
    connect_with(server, Codec::Json).await
}

/// A running server with `Arith`, its map, and a client.
async fn arith_server() -> (Running, ServiceMap, Client) {
    let services = arith::services();
    let server = start(Server::new(services.clone())).await;
    let client = connect(&server).await;
    (server, services, client)
}

async fn call<A: Serialize, R: DeserializeOwned>(client: &Client, method: &str, argument: A) -> R {
    let reply = within(&format!("the reply of {method}"), client.call(method, &argument)).await;
    reply.unwrap_or_else(|error| panic!("{method} failed: {error}"))
}

/// The text of the error that the server answers.
async fn error_of<A: Serialize>(client: &Client, method: &str, argument: A) -> String {
    match within(&format!("the error of {method:?}"), client.call::<A, ()>(method, &argument)).await {
        Err(Error::Remote(text)) => text,
        other => panic!("{method:?} should be answered with an error, but was with {other:?}"),
    }
}

/// The connection is as good as before: a valid call on it is answered.
async fn assert_still_serves(client: &Client) {
    assert_eq!(call::<_, i32>(client, "Arith.sum", TWO_AND_THREE).await, 5);
}

#[track_caller]
fn assert_says(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "{error:?} should say {part:?}");
    }
}

// ---- make a service --------------------------------------------------------------------------------------
// Chapter: Files of today > src/service.rs; Reading order

/// The day in one test: a method with Rust types on both sides is called by its name. Try it in both codecs:
/// JSON forgives what bincode does not, such as a tuple where a struct should be.
///
/// Hint: the closure in the table decodes the argument, awaits the method and encodes what it returns.
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

/// A call that is written out by hand in JSON is answered, so a client in another language can make it too. The
/// reply repeats the name and the number of the call.
///
/// Hint: nothing to do: `Request::decode` and `Request::reply` know the connection's codec, the name and the
/// number.
#[test]
fn a_call_is_plain_json_for_other_languages() {
    run(async || {
        let server = start(Server::new(arith::services())).await;
        let mut peer = Peer::connect_json(server.addr).await;
        let header = br#"{"service_method":"Arith.sum","seq":7,"error":null}"#;
        peer.send(&[frame(header), frame(br#"{"num1":20,"num2":22}"#)].concat()).await;
        let reply = peer.read_message().await;
        assert_eq!(reply.header, json!({"service_method": "Arith.sum", "seq": 7, "error": null}));
        assert_eq!(reply.body, b"42");
    });
}

/// The macro has no magic: what it writes can be written by hand, with the same table and the same answers.
///
/// Hint: one `.method(…)` for each name of the list; `stringify!` makes the name a string.
#[test]
fn the_macro_gives_what_the_builder_gives_by_hand() {
    run(async || {
        let by_macro = service!("Macro", Arith, [sum, sleep, fail]).unwrap();
        let by_hand = Service::builder("Hand", Arith)
            .method("sum", |arith: Arc<Arith>, sum: Sum| async move { arith.sum(sum).await })
            .method("sleep", |arith: Arc<Arith>, sleep: Sleep| async move { arith.sleep(sleep).await })
            .method("fail", |arith: Arc<Arith>, fail: Fail| async move { arith.fail(fail).await })
            .build()
            .unwrap();
        let table = |service: &Service| {
            let row = |(name, method): (&str, &day6_loadbalance::Method)| {
                (name.to_owned(), method.argument_type(), method.reply_type())
            };
            service.methods().map(row).collect::<Vec<_>>()
        };
        assert_eq!(table(&by_macro).len(), 3);
        assert_eq!(table(&by_macro), table(&by_hand));

        let services = ServiceMap::new();
        services.add(by_macro).unwrap();
        services.add(by_hand).unwrap();
        let server = start(Server::new(services)).await;
        let client = connect(&server).await;
        for service in ["Macro", "Hand"] {
            assert_eq!(call::<_, i32>(&client, &format!("{service}.sum"), TWO_AND_THREE).await, 5);
            let fail = Fail { message: "the same text".to_owned() };
            assert_eq!(error_of(&client, &format!("{service}.fail"), fail).await, "the same text");
        }
    });
}

/// The table lists every method, sorted by name, with the names of its types as one would write them, not
/// `alloc::vec::Vec<demo::support::Sum>`. Day 5 shows this table on a page.
///
/// Hint: `std::any::type_name` has the full paths, some of them with `{{closure}}` inside. Cut the paths in
/// brackets too, and keep the spaces and commas between them.
#[test]
fn the_table_has_the_types_of_arguments_and_replies_in_short() {
    run(async || {
        #[derive(Serialize, serde::Deserialize)]
        struct Local; // its path goes through the closure of this test
        #[rustfmt::skip]
        let service = Service::builder("Types", ())
            .method("a_struct", |_, _: Sum| async { Ok(1_i32) })
            .method("a_tuple", |_, _: (i32, Sum)| async { Ok((Some(TWO_AND_THREE), String::new(), 1_u8)) })
            .method("generics", |_, _: Vec<Sum>| async { Ok(Some(vec![TWO_AND_THREE])) })
            .method("local", |_, _: Local| async { Ok(Box::new(Local)) })
            .method("more", |_, _: BTreeMap<String, Vec<Option<Sum>>>| async { Ok([[0_u8; 4]; 2]) })
            .method("nothing", |_, (): ()| async { Ok(()) })
            .build()
            .unwrap();
        let rows: Vec<_> = service.methods().map(|(n, m)| (n, m.argument_type(), m.reply_type())).collect();
        let row = |name, argument: &str, reply: &str| (name, argument.to_owned(), reply.to_owned());
        let expected = [
            row("a_struct", "Sum", "i32"),
            row("a_tuple", "(i32, Sum)", "(Option<Sum>, String, u8)"),
            row("generics", "Vec<Sum>", "Option<Vec<Sum>>"),
            row("local", "Local", "Box<Local>"),
            row("more", "BTreeMap<String, Vec<Option<Sum>>>", "[[u8; 4]; 2]"),
            row("nothing", "()", "()"),
        ];
        assert_eq!(rows, expected);
        assert_eq!(service.name(), "Types");
        assert!(service.method("a_struct").is_some() && service.method("struct").is_none());
    });
}

/// A name that could not be called, or that the wire keeps for itself, is refused when it is registered. It
/// is a value to handle: no panic, and no abort of the process, as in the Go ancestor.
///
/// Hint: the name of the service and the names of its methods follow the same rule.
#[test]
fn a_bad_name_is_an_error_and_not_a_panic() {
    run(async || {
        for bad in
            ["", ".", "a.b", "Arith.", "two words", " a", "a\n", "$/cancel", "1st", "a-b", "<b>", "a,b"]
        {
            let error = ServiceError::BadName(bad.to_owned());
            assert_eq!(service!(bad, Arith, [sum]).unwrap_err(), error, "as the name of a service");
            let method = Service::builder("Arith", Arith).method(bad, |_, (): ()| async { Ok(()) });
            assert_eq!(method.build().unwrap_err(), error, "as the name of a method");
        }
        for good in ["Arith", "arith_2", "_", "A", "_1"] {
            let method = Service::builder(good, Arith).method(good, |_, (): ()| async { Ok(()) });
            assert!(method.build().is_ok_and(|service| service.method(good).is_some()), "{good:?} is fine");
        }
    });
}

/// A table with two methods of one name is refused, and the error names both parts. Which one would be called?
///
/// Hint: `HashMap::insert` and `BTreeMap::insert` replace silently.
#[test]
fn a_method_that_is_there_twice_is_an_error() {
    run(async || {
        let error = service!("Arith", Arith, [sum, fail, sum]).unwrap_err();
        let expected =
            ServiceError::DuplicateMethod { service: "Arith".to_owned(), method: "sum".to_owned() };
        assert_eq!(error, expected);
        assert_says(&error.to_string(), &["Arith", "sum"]);
    });
}

/// Two services of one name: the second is refused, and nothing changes for the callers of the first.
///
/// Hint: look and insert under one lock.
#[test]
fn a_service_that_is_there_already_stays_and_the_second_is_an_error() {
    run(async || {
        let (first, second) = (Counter::starting_at(1), Counter::starting_at(2));
        let services = ServiceMap::new();
        services.add(first.service("Counter")).unwrap();
        let server = start(Server::new(services.clone())).await;
        let client = connect(&server).await;
        assert_eq!(call::<_, i64>(&client, "Counter.get", ()).await, 1);

        let error = services.add(second.service("Counter")).unwrap_err();
        assert_eq!(error, ServiceError::DuplicateService("Counter".to_owned()));
        assert_eq!(call::<_, i64>(&client, "Counter.get", ()).await, 1);
        assert_eq!(services.services().len(), 1);
        assert_eq!(services.get("Counter").unwrap().method("get").unwrap().calls(), 2);
    });
}

// ---- call it ---------------------------------------------------------------------------------------------
// Chapter: The wire > service_method is Service.method

/// The name of the service chooses the service: methods of the same name in several services do not mix, and
/// the list of all services is sorted.
///
/// Hint: two look-ups, the service first. A `BTreeMap` is sorted by itself.
#[test]
fn several_services_may_have_methods_of_the_same_name() {
    run(async || {
        let services = arith::services();
        services.add(Counter::starting_at(100).service("Hundred")).unwrap();
        services.add(Counter::starting_at(10).service("Counter")).unwrap();
        let names: Vec<_> = services.services().iter().map(|service| service.name().to_owned()).collect();
        assert_eq!(names, ["Arith", "Counter", "Hundred"]);

        let server = start(Server::new(services)).await;
        let client = connect(&server).await;
        assert_eq!(call::<_, i64>(&client, "Hundred.add", 1).await, 101);
        assert_eq!(call::<_, i64>(&client, "Counter.add", 1).await, 11);
        assert_eq!(call::<_, i64>(&client, "Hundred.get", ()).await, 101);
        assert_still_serves(&client).await;
    });
}

/// All methods of a service work on one receiver, whichever connection the call came from: what `add`
/// changes, `get` sees.
///
/// Hint: one `Arc` of the receiver, cloned for each call. A copy of the receiver for each method would also
/// compile, and fail here.
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

/// A slow method does not hold up the ones after it on the same connection. The second call is what lets the
/// first one go on, so a server that runs one after the other never ends this test.
///
/// Hint: the table returns the method's future; whoever awaits it there holds up the connection.
#[test]
fn calls_of_one_connection_run_concurrently() {
    run(async || {
        struct Meeting(Notify);
        impl Meeting {
            async fn wait(&self, (): ()) -> anyhow::Result<String> {
                self.0.notified().await;
                Ok("we met".to_owned())
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
        let waiting = within("sending a call", client.start::<_, String>("Meeting.wait", &())).await.unwrap();
        call::<_, ()>(&client, "Meeting.come", ()).await;
        assert_eq!(within("the call that waits for the other", waiting).await.unwrap(), "we met");
    });
}

// ---- call it wrongly: each has its own answer, and the connection goes on --------------------------------
// Chapter: The wire > A call that cannot be served

/// The answer to an unknown service names what was asked for and what there is, also if there is nothing.
/// "Unknown service" alone sends the caller searching.
///
/// Hint: make the text when it is needed, from the keys of the map.
#[test]
fn an_unknown_service_is_answered_with_what_there_is() {
    run(async || {
        let (_server, services, client) = arith_server().await;
        services.add(Counter::starting_at(0).service("Counter")).unwrap();
        for name in ["Aryth", "arith", "sum"] {
            let error = error_of(&client, &format!("{name}.sum"), TWO_AND_THREE).await;
            assert_says(&error, &["unknown service", &format!("{name:?}"), "Arith", "Counter"]);
            assert_still_serves(&client).await;
        }

        let empty = start(Server::new(ServiceMap::new())).await;
        let error = error_of(&connect(&empty).await, "Arith.sum", TWO_AND_THREE).await;
        assert_says(&error, &["unknown service", "\"Arith\"", "none"]);
    });
}

/// The answer to an unknown method of a known service names the methods of that service, and of no other.
///
/// Hint: the service has been found by then, so ask it for its methods.
#[test]
fn an_unknown_method_is_answered_with_what_there_is() {
    run(async || {
        let (_server, services, client) = arith_server().await;
        services.add(Counter::starting_at(0).service("Counter")).unwrap();
        for name in ["product", "Sum", "sum_", "Arith"] {
            let error = error_of(&client, &format!("Arith.{name}"), TWO_AND_THREE).await;
            assert_says(&error, &["unknown method", name, "Arith", "fail, panic, sleep, sum"]);
            assert!(!error.contains("wait"), "{error:?} has the methods of another service");
            assert_still_serves(&client).await;
        }
    });
}

/// A name that is not two names with one dot between them is told so, with the form that is expected. None of
/// them may be mended by guessing, and none may end the connection.
///
/// Hint: `split_once` finds the first dot only; what is behind it may have more.
#[test]
fn a_malformed_name_is_answered_with_the_expected_form() {
    run(async || {
        let (_server, services, client) = arith_server().await;
        let malformed = [
            "",
            ".",
            "..",
            "Arith",
            "sum",
            ".sum",
            "Arith.",
            "Arith.sum.",
            ".Arith.sum",
            "Arith..sum",
            "Arith.sum.sum",
            " Arith.sum",
            "Arith.sum ",
            "Arith .sum",
            "Arith. sum",
            "Arith.sum\n",
            "Arith/sum",
            "Arith.\0sum",
        ];
        for name in malformed {
            let error = error_of(&client, name, TWO_AND_THREE).await;
            assert_says(&error, &["malformed", &format!("{name:?}"), "Service.method"]);
        }
        assert_eq!(services.get("Arith").unwrap().method("sum").unwrap().calls(), 0);
        assert_still_serves(&client).await;
    });
}

/// An argument of the wrong type is the caller's mistake: the answer names the method and what does not fit,
/// and the method is not called. In bincode, where bytes have no names, too many bytes are a mistake too.
///
/// Hint: decode before the method is called, and put the codec's own reason into the error.
#[test]
fn an_undecodable_argument_is_answered_with_the_reason_and_the_method_is_not_called() {
    run(async || {
        let counter = Counter::starting_at(0);
        let services = arith::services();
        services.add(counter.service("Counter")).unwrap();
        let server = start(Server::new(services)).await;

        let json = connect(&server).await;
        let error = error_of(&json, "Counter.add", "forty-two").await;
        assert_says(&error, &["Counter.add", "argument", "forty-two", "i64"]);
        let error = error_of(&json, "Arith.sum", json!({"num1": 1})).await;
        assert_says(&error, &["Arith.sum", "argument", "num2"]);
        assert_still_serves(&json).await;

        let bincode = connect_with(&server, Codec::Bincode).await;
        let error = error_of(&bincode, "Counter.add", (1_i64, 2_i64)).await;
        assert_says(&error, &["Counter.add", "argument", "left over"]);
        let error = error_of(&bincode, "Arith.sum", 1_i32).await;
        assert_says(&error, &["Arith.sum", "argument"]);
        assert_still_serves(&bincode).await;
        assert_eq!(counter.total.load(SeqCst), 0, "the method ran with an argument that nobody sent");
    });
}

/// The text of a method's error arrives as it was written: nothing is added, and nothing in it is taken for a
/// format or a field. A method may return any error with `?`; the causes follow after colons.
///
/// Hint: the text is a value, never a format string.
#[test]
fn the_error_of_a_method_arrives_word_for_word() {
    run(async || {
        let (_server, services, client) = arith_server().await;
        for text in
            ["100% full", "{} {0:?} %s \\n", "\"quoted\"\n\tsecond line", "", "für 3 € 🦀", "unknown service"]
        {
            let fail = Fail { message: text.to_owned() };
            assert_eq!(error_of(&client, "Arith.fail", fail).await, text);
        }
        let parse = Service::builder("Parse", ()).method("number", |_, text: String| async move {
            use anyhow::Context;
            text.parse::<i32>().with_context(|| format!("{text:?} is no number"))
        });
        services.add(parse.build().unwrap()).unwrap();
        let error = error_of(&client, "Parse.number", "ten").await;
        assert_eq!(error, "\"ten\" is no number: invalid digit found in string");
        assert_still_serves(&client).await;
    });
}

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

// ---- call it often ---------------------------------------------------------------------------------------
// Chapter: Limits

/// Each call counts once, at its own method, whether it went well or not: that is what an operator wants to
/// see. A call that no method answers counts nowhere.
///
/// Hint: count where the method has been found, before its argument is decoded.
#[test]
fn a_call_counts_once_at_its_method_also_when_it_fails() {
    run(async || {
        let (_server, services, client) = arith_server().await;
        let calls = || {
            let arith = services.get("Arith").unwrap();
            arith.methods().map(|(name, method)| (name.to_owned(), method.calls())).collect::<Vec<_>>()
        };
        let counts = |fail, panic, sleep, sum| {
            let names = ["fail", "panic", "sleep", "sum"].map(str::to_owned);
            names.into_iter().zip([fail, panic, sleep, sum]).collect::<Vec<_>>()
        };
        assert_eq!(calls(), counts(0, 0, 0, 0));
        for _ in 0..3 {
            assert_still_serves(&client).await;
        }
        assert_eq!(calls(), counts(0, 0, 0, 3));
        error_of(&client, "Arith.fail", Fail { message: "on purpose".to_owned() }).await;
        error_of(&client, "Arith.fail", Fail { message: "on purpose".to_owned() }).await;
        error_of(&client, "Arith.panic", ()).await;
        assert_eq!(calls(), counts(2, 1, 0, 3));
        error_of(&client, "Arith.sleep", "no number").await;
        assert_eq!(calls(), counts(2, 1, 1, 3));
        error_of(&client, "Arith.unknown", ()).await;
        error_of(&client, "Other.sum", TWO_AND_THREE).await;
        error_of(&client, "Arith.sum.", TWO_AND_THREE).await;
        assert_eq!(calls(), counts(2, 1, 1, 3));
    });
}

/// The counters are exact when several connections, on several threads, each bring thousands of calls.
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
        let calls: Vec<u8> = (1..=CALLS).flat_map(|seq| json_message("Counter.add", seq, json!(1))).collect();
        let calls = Arc::new(calls);
        let mut peers = tokio::task::JoinSet::new();
        for _ in 0..CONNECTIONS {
            // In memory: the system would do most of the work, and the threads would seldom meet.
            let (near, far) = tokio::io::duplex(64 * 1024);
            let (server, calls) = (Server::new(services.clone()), Arc::clone(&calls));
            peers.spawn(async move { server.serve_connection(far).await.unwrap() });
            let mut peer = Peer { io: near };
            peer.shake_hands_json().await;
            peers.spawn(async move {
                let (mut read, mut write) = tokio::io::split(peer.io);
                let send = async {
                    write.write_all(&calls).await.unwrap();
                    write.shutdown().await.unwrap();
                };
                let mut replies = Vec::new();
                let (_, received) = tokio::join!(send, read.read_to_end(&mut replies));
                received.unwrap();
            });
        }
        while let Some(done) = within("a connection with its calls done", peers.join_next()).await {
            done.unwrap();
        }
        let service = services.get("Counter").unwrap();
        assert_eq!(service.method("add").unwrap().calls(), CONNECTIONS * CALLS);
        assert_eq!(service.method("get").unwrap().calls(), 0);
        assert_eq!(counter.total.load(SeqCst) as u64, CONNECTIONS * CALLS);
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

// ---- change the map while it serves ----------------------------------------------------------------------
// Chapter: Reading order > 1. src/service.rs

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
