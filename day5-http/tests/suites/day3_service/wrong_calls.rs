//! Calls that cannot be served: each has its own error, and the connection goes on.
//!
//! Write `parse`, `unknown` and `fail` in `src/service/mod.rs`.
//!
//! Chapter: The wire > A call that cannot be served

use super::*;

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
