//! A service is made and looked at.
//!
//! Write `Service`, `ServiceBuilder`, `Method` and `short_type_name` in `src/service/mod.rs`, then
//! `ServiceMap::add`, `call` and `parse`, with which the first call reaches its method.
//!
//! Chapter: Files of today > src/service/mod.rs; Reading order

use super::*;

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
            let row = |(name, method): (&str, &day7_registry::Method)| {
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
