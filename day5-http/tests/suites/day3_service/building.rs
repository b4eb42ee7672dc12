//! A service is built: a name, a receiver, and a table of methods with their types.
//!
//! In `src/service/mod.rs`: `builder` and `method`, `add_method`, `check_name` and `short_type_name`. What the function
//! in the table does, inside of `ServiceBuilder::method`, may stay a `todo!`: the next stage asks for it.
//!
//! Works then: a service is a table of methods, with the types of their arguments and replies.
//!
//! Chapter: Files of today > src/service/mod.rs; Reading order

use super::*;

/// The table lists every method, sorted by name, with the names of its types as one would write them: `Vec<Sum>`
/// and not `alloc::vec::Vec<demo::Sum>`.
///
/// A page or a command that shows a server's methods shows this table.
///
/// Hint: `std::any::type_name` has the full paths, some of them with `{{closure}}` inside. Cut the paths in
/// brackets too, and keep the spaces and commas between them. A `BTreeMap` is sorted by itself.
#[test]
fn the_table_is_sorted_and_has_the_types_in_short() {
    #[derive(Serialize, Deserialize)]
    struct Local;
    let in_a_closure = || {
        #[derive(Serialize, Deserialize)]
        struct Deep; // its path goes through this closure
        Service::builder("Types", ()).method("local", |_, _: Deep| async { Ok(Box::new(Local)) })
    };
    #[rustfmt::skip]
    let service = in_a_closure()
        .method("nothing", |_, (): ()| async { Ok(()) })
        .method("more", |_, _: BTreeMap<String, Vec<Option<Sum>>>| async { Ok([[0_u8; 4]; 2]) })
        .method("generics", |_, _: Vec<Sum>| async { Ok(Some(vec![TWO_AND_THREE])) })
        .method("a_tuple", |_, _: (i32, Sum)| async { Ok((Some(TWO_AND_THREE), String::new(), 1_u8)) })
        .method("a_struct", |_, _: Sum| async { Ok(1_i32) })
        .build()
        .unwrap();
    let rows: Vec<_> = service.methods().map(|(n, m)| (n, m.argument_type(), m.reply_type())).collect();
    let row = |name, argument: &str, reply: &str| (name, argument.to_owned(), reply.to_owned());
    let expected = [
        row("a_struct", "Sum", "i32"),
        row("a_tuple", "(i32, Sum)", "(Option<Sum>, String, u8)"),
        row("generics", "Vec<Sum>", "Option<Vec<Sum>>"),
        row("local", "Deep", "Box<Local>"),
        row("more", "BTreeMap<String, Vec<Option<Sum>>>", "[[u8; 4]; 2]"),
        row("nothing", "()", "()"),
    ];
    assert_eq!(rows, expected);
    assert_eq!(service.name(), "Types");
    assert!(service.method("a_struct").is_some() && service.method("struct").is_none());
}

/// A name that could not be called is refused when the service is built. It is a value to handle: no panic, and
/// no end of the process, as in the Go ancestor.
///
/// A name is an ASCII letter or `_`, then ASCII letters, digits or `_`.
///
/// Hint: the name of the service and the names of its methods follow the same rule.
#[test]
fn a_bad_name_is_an_error_and_not_a_panic() {
    for bad in
        ["", ".", "a.b", "Arith.", "two words", " a", "a\n", "1st", "a-b", "<b>", "a,b", "größe", "a\0"]
    {
        let error = ServiceError::BadName(bad.to_owned());
        let service = Service::builder(bad, ()).method("fine", |_, (): ()| async { Ok(()) });
        assert_eq!(service.build().unwrap_err(), error, "as the name of a service");
        let method = Service::builder("Fine", ()).method(bad, |_, (): ()| async { Ok(()) });
        assert_eq!(method.build().unwrap_err(), error, "as the name of a method");
    }
    for good in ["Arith", "arith_2", "_", "A", "_1"] {
        let method = Service::builder(good, ()).method(good, |_, (): ()| async { Ok(()) });
        assert!(method.build().is_ok_and(|service| service.method(good).is_some()), "{good:?} is fine");
    }
}

/// A table with two methods of one name is refused, and the error names both parts: only one of the two could be
/// called.
///
/// Hint: `BTreeMap::insert` replaces, and reports no error.
#[test]
fn a_method_that_is_there_twice_is_an_error() {
    let builder = Service::builder("Numbers", ())
        .method("one", |_, (): ()| async { Ok(1) })
        .method("two", |_, (): ()| async { Ok(2) })
        .method("one", |_, (): ()| async { Ok(11) });
    let (service, method) = ("Numbers".to_owned(), "one".to_owned());
    assert_eq!(builder.build().unwrap_err(), ServiceError::DuplicateMethod { service, method });
}

/// Of several mistakes, `build` reports the first: what follows may be its consequence.
///
/// Hint: the builder keeps a `Result<Service, ServiceError>`, and adds a method only while it is `Ok`.
#[test]
fn the_first_of_several_mistakes_is_reported() {
    let builder = Service::builder("Numbers", ())
        .method("one", |_, (): ()| async { Ok(1) })
        .method("the second", |_, (): ()| async { Ok(2) })
        .method("one", |_, (): ()| async { Ok(11) })
        .method("the fourth", |_, (): ()| async { Ok(4) });
    assert_eq!(builder.build().unwrap_err(), ServiceError::BadName("the second".to_owned()));
    let builder = Service::builder("bad name", ()).method("bad, too", |_, (): ()| async { Ok(1) });
    assert_eq!(builder.build().unwrap_err(), ServiceError::BadName("bad name".to_owned()));
}
