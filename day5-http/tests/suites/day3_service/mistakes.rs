//! Calls that go wrong: each kind of mistake has its code, costs one call, and the connection goes on.
//!
//! Nothing to write: run it. What is red here is not complete in `src/service/map.rs`, or in the function inside of
//! `ServiceBuilder::method`: an argument that does not decode, an error, a reply that cannot be encoded.
//!
//! Works then: every kind of mistake has its code, and costs one call.
//!
//! Chapter: The wire > A call that cannot be served

use super::*;

/// A call of a service that does not exist fails with the code `unimplemented`, also if there is no service at
/// all. The message names what was asked for and what there is: most often it is a spelling mistake.
///
/// Hint: `RemoteError::new` makes an error with a code, and `?` or `into()` an `anyhow::Error` of it. Make the
/// list when it is needed, from the keys of the map.
#[test]
fn an_unknown_service_is_unimplemented() {
    run(async || {
        let (_server, services, client) = arith_server().await;
        services.add(Counter::starting_at(0).service("Counter")).unwrap();
        for name in ["Aryth", "arith", "sum", "Arit"] {
            let error = error_of(&client, &format!("{name}.sum"), TWO_AND_THREE).await;
            assert_eq!(*error.code(), Code::UNIMPLEMENTED, "for a call of {name:?}");
            for part in [name, "Arith", "Counter"] {
                assert!(error.message().contains(part), "{:?} should name {part:?}", error.message());
            }
        }
        assert_eq!(counts(&services, "Arith.sum").0, 0, "a spelling mistake ran a method");
        assert_still_serves(&client).await;

        let empty = start(Server::new(ServiceMap::new())).await;
        let error = error_of(&connect(&empty).await, "Arith.sum", TWO_AND_THREE).await;
        assert_eq!(*error.code(), Code::UNIMPLEMENTED);
    });
}

/// A call of a method that the service does not have fails with the code `unimplemented`, also if another
/// service has a method of that name. The message names what was asked for and the methods that this service has.
///
/// Hint: the service has been found by then, so ask it for the method.
#[test]
fn an_unknown_method_is_unimplemented() {
    run(async || {
        let (_server, services, client) = arith_server().await;
        services.add(Counter::starting_at(0).service("Counter")).unwrap();
        for name in ["product", "Sum", "sum_", "Arith", "wait"] {
            let error = error_of(&client, &format!("Arith.{name}"), TWO_AND_THREE).await;
            assert_eq!(*error.code(), Code::UNIMPLEMENTED, "for a call of {name:?}");
            for part in [name, "fail", "panic", "sleep", "sum"] {
                assert!(error.message().contains(part), "{:?} should name {part:?}", error.message());
            }
            assert!(!error.message().contains("add"), "{:?} names another service's", error.message());
        }
        assert_eq!(counts(&services, "Arith.sum").0, 0, "a spelling mistake ran a method");
        assert_still_serves(&client).await;
    });
}

/// A name that is not two names with one dot between them fails with the code `invalid_argument`: no server
/// could ever have such a method. It is not mended by guessing.
///
/// Hint: `split_once` finds the first dot only; what is behind it may have more.
#[test]
fn a_malformed_name_is_an_invalid_argument() {
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
            "Arith/sum",
        ];
        for name in malformed {
            let error = error_of(&client, name, TWO_AND_THREE).await;
            assert_eq!(*error.code(), Code::INVALID_ARGUMENT, "for a call of {name:?}");
        }
        assert_eq!(counts(&services, "Arith.sum").0, 0, "a malformed name ran a method");
        assert_still_serves(&client).await;
    });
}

/// An argument of another type fails with the code `invalid_argument`, in both codecs, and the method is not
/// called. In bincode, where bytes have no names, bytes that are left over are a mistake too.
///
/// Hint: `Request::decode` returns an error with this code: return it as it is, before the method is called.
#[test]
fn an_argument_of_another_type_is_invalid_and_the_method_is_not_called() {
    run(async || {
        let counter = Counter::starting_at(0);
        let services = arith::services();
        services.add(counter.service("Counter")).unwrap();
        let server = start(Server::new(services)).await;

        let json = connect(&server).await;
        for argument in [json!("forty-two"), json!(null), json!([1, 2]), json!(1.5), json!({"by": 1})] {
            let error = error_of(&json, "Counter.add", &argument).await;
            assert_eq!(*error.code(), Code::INVALID_ARGUMENT, "in JSON, for {argument}");
        }
        let error = error_of(&json, "Arith.sum", json!({"num1": 1})).await;
        assert_eq!(*error.code(), Code::INVALID_ARGUMENT, "with a field that is missing");
        assert_still_serves(&json).await;

        let bincode = connect_with(&server, Codec::Bincode).await;
        let error = error_of(&bincode, "Counter.add", (1_i64, 2_i64)).await;
        assert_eq!(*error.code(), Code::INVALID_ARGUMENT, "in bincode, with bytes left over");
        let error = error_of(&bincode, "Counter.add", ()).await;
        assert_eq!(*error.code(), Code::INVALID_ARGUMENT, "in bincode, with no bytes at all");
        assert_still_serves(&bincode).await;
        assert_eq!(counter.total.load(SeqCst), 0, "the method ran with an argument that was not sent");
    });
}

/// The text of a method's plain error arrives as it was written, with the code `unknown`: nothing is added, and
/// nothing in it is taken for a format or a field. Its causes stay on the server: they may hold what a client
/// must not read.
///
/// Hint: return the method's error as it is, with `?`. The connection makes a `RemoteError` of it.
#[test]
fn the_error_of_a_method_arrives_word_for_word() {
    run(async || {
        let (_server, services, client) = arith_server().await;
        for text in ["100% full", "{} {0:?} %s \\n", "\"quoted\"\n\tsecond line", "", "für 3 € 🦀"] {
            let error = error_of(&client, "Arith.fail", Fail { message: text.to_owned() }).await;
            assert_eq!((error.code(), error.message()), (&Code::UNKNOWN, text));
        }
        let load = Service::builder("User", ()).method("load", |_, (): ()| async {
            let cause = anyhow::Error::msg("connection to db=prod password=secret refused");
            Err::<(), _>(cause).context("cannot load the user")
        });
        services.add(load.build().unwrap()).unwrap();
        let error = error_of(&client, "User.load", ()).await;
        assert_eq!((error.code(), error.message()), (&Code::UNKNOWN, "cannot load the user"));
        assert_still_serves(&client).await;
    });
}

/// A method chooses the code of its error by returning a `RemoteError`, also one of its own making. Context that
/// is put around it changes the text and not the code.
///
/// Hint: nothing to do, if the error is passed on as it is, and not as a text.
#[test]
fn a_method_chooses_the_code_of_its_error() {
    run(async || {
        let (_server, services, client) = arith_server().await;
        let overflow = Sum { num1: i32::MAX, num2: 1 };
        assert_eq!(*error_of(&client, "Arith.sum", overflow).await.code(), Code::OUT_OF_RANGE);

        let errors = Service::builder("Errors", ()).method("error", |_, code: String| async {
            let error = RemoteError::new(Code::new(code), "the cause");
            Err::<(), _>(anyhow::Error::from(error).context("the text"))
        });
        services.add(errors.build().unwrap()).unwrap();
        for code in ["not_found", "permission_denied", "teapot"] {
            let error = error_of(&client, "Errors.error", code).await;
            assert_eq!((error.code().as_str(), error.message()), (code, "the text"));
        }
    });
}

/// A panic in a method costs its own call, which fails with the code `internal`, wherever it happens: before
/// the method has returned a future, at its first poll, or after an `await`. Other calls in flight on the same
/// connection, and other connections, do not notice.
///
/// Hint: the connection catches all three, if the method is called inside of `Handler::call` or inside of the
/// future that this returns.
#[test]
fn a_panicking_method_costs_its_own_call_and_nothing_else() {
    run(async || {
        let (server, services, client) = arith_server().await;
        let other = connect(&server).await;
        let counter = Counter::starting_at(0);
        services.add(counter.service("Counter")).unwrap();
        let early = Service::builder("Early", ()).method("panic", |_, stop: bool| {
            assert!(!stop, "this panic is part of the test");
            async { Ok(()) }
        });
        services.add(early.build().unwrap()).unwrap();
        let waiting = send(&client, "Counter.wait", 1).await;
        let other_waiting = send(&other, "Counter.wait", 2).await;
        counter.came_to_the_gate(2).await;

        assert_eq!(*error_of(&client, "Early.panic", true).await.code(), Code::INTERNAL);
        assert_eq!(*error_of(&client, "Arith.panic", ()).await.code(), Code::INTERNAL);
        let late = send(&client, "Counter.panic_at_the_gate", ()).await;
        counter.came_to_the_gate(1).await;
        counter.gate.add_permits(3);
        match late.await {
            Err(Error::Remote(error)) => assert_eq!(*error.code(), Code::INTERNAL),
            other => panic!("a panic should be answered with an error, but was with {other:?}"),
        }
        assert_eq!(waiting.await.unwrap(), 1);
        assert_eq!(other_waiting.await.unwrap(), 2);
        assert_still_serves(&client).await;
        assert_still_serves(&other).await;
    });
}

/// A reply that cannot be written in the connection's codec costs its own call, which fails with the code
/// `internal`: it is a defect of the server.
///
/// JSON has no map whose keys are lists. In bincode the same reply is fine.
///
/// Hint: the reply is encoded before a byte of it is queued. Pass the error of the encoder on.
#[test]
fn a_reply_that_cannot_be_encoded_costs_its_own_call() {
    run(async || {
        let (server, services, client) = arith_server().await;
        let odd = Service::builder("Odd", ())
            .method("map", |_, (): ()| async { Ok(BTreeMap::from([(vec![1_u8], 2_u8)])) });
        services.add(odd.build().unwrap()).unwrap();
        assert_eq!(*error_of(&client, "Odd.map", ()).await.code(), Code::INTERNAL);
        assert_still_serves(&client).await;
        let bincode = connect_with(&server, Codec::Bincode).await;
        let map: BTreeMap<Vec<u8>, u8> = call(&bincode, "Odd.map", ()).await;
        assert_eq!(map, BTreeMap::from([(vec![1], 2)]));
    });
}
