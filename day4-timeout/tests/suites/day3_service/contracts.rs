//! One list of methods: `service!` makes the table of it, and `contract!` both sides.
//!
//! Nothing to write: run it. Both macros are given, and so is `Caller` for `Client`. Read what they expand to, in
//! `src/service/mod.rs` and `src/service/contract.rs`, until none of these tests surprises.
//!
//! Works then: a trait is the service and its typed client, and a misspelt method does not compile.
//!
//! Chapter: One contract for both sides

use super::*;

/// `service!` has no magic: what it writes can be written by hand, with the same table and the same answers.
///
/// Hint: one `.method(…)` for each name of the list; `stringify!` makes the name a string.
#[test]
fn the_macro_gives_what_the_builder_gives_by_hand() {
    run(async || {
        let by_macro = service!("Macro", Cpu, [sum, sleep, fail]).unwrap();
        let by_hand = Service::builder("Hand", Cpu)
            .method("sum", |cpu: Arc<Cpu>, sum: Sum| async move { cpu.sum(sum).await })
            .method("sleep", |cpu: Arc<Cpu>, sleep: Sleep| async move { cpu.sleep(sleep).await })
            .method("fail", |cpu: Arc<Cpu>, fail: Fail| async move { cpu.fail(fail).await })
            .build()
            .unwrap();
        assert_eq!(table(&by_macro).len(), 3);
        assert_eq!(table(&by_macro), table(&by_hand));

        let (_server, services, client) = arith_server().await;
        services.add(by_macro).unwrap();
        services.add(by_hand).unwrap();
        for service in ["Macro", "Hand"] {
            assert_eq!(call::<_, i32>(&client, &format!("{service}.sum"), TWO_AND_THREE).await, 5);
            let fail = Fail { message: "the same text".to_owned() };
            assert_eq!(error_of(&client, &format!("{service}.fail"), fail).await.message(), "the same text");
        }
    });
}

/// Name, argument's type and reply's type of each method.
fn table(service: &Service) -> Vec<(String, String, String)> {
    let row = |(name, method): (&str, &day4_timeout::Method)| {
        (name.to_owned(), method.argument_type(), method.reply_type())
    };
    service.methods().map(row).collect()
}

/// The server's side: whatever implements the trait becomes a service with the trait's name, and all methods of
/// the contract with their types.
///
/// Hint: `into_service` is a provided method of the trait: a builder, and `.method(…)` for each line.
#[test]
fn a_contract_makes_the_service_of_an_implementation() {
    let service = Cpu.into_service().unwrap();
    assert_eq!(service.name(), "Arith");
    let row =
        |name: &str, argument: &str, reply: &str| (name.to_owned(), argument.to_owned(), reply.to_owned());
    let expected = [
        row("fail", "Fail", "()"),
        row("panic", "()", "()"),
        row("sleep", "Sleep", "u64"),
        row("sum", "Sum", "i32"),
    ];
    assert_eq!(table(&service), expected);
}

/// The client's side: each method is a method of the typed client, calls what the server's side made, and
/// returns what the client returns, errors included. In both codecs, and on clones of the typed client.
///
/// Hint: `Client::call` does all of it. Inside of the `impl`, `self.call(…)` is that method and not the trait's;
/// `Client::call(self, …)` shows it to the reader.
#[test]
fn the_typed_client_calls_the_service() {
    run(async || {
        let server = start(Server::new(arith::services())).await;
        for codec in Codec::ALL {
            let arith = ArithClient(connect_with(&server, codec).await);
            let sum = within("the reply of sum", arith.sum(&TWO_AND_THREE)).await;
            assert_eq!(sum.unwrap(), 5, "in {codec}");
            let arith = arith.clone();
            let slept = within("the reply of sleep", arith.sleep(&Sleep { millis: 1 })).await;
            assert_eq!(slept.unwrap(), 1, "in {codec}");

            let overflow = Sum { num1: i32::MAX, num2: 1 };
            match within("the error of sum", arith.sum(&overflow)).await {
                Err(Error::Remote(error)) => assert_eq!(*error.code(), Code::OUT_OF_RANGE, "in {codec}"),
                other => panic!("sum should have failed in {codec}, but returned {other:?}"),
            }
            arith.0.close();
            let error = within("the error of a closed client", arith.sum(&TWO_AND_THREE)).await.unwrap_err();
            assert!(!error.may_have_run(), "a call on a closed connection was not sent: {error:?}");
        }
    });
}

/// A double, as a test of one's own application would have: it notes what is called, and answers from a list.
struct Double {
    called: Mutex<Vec<(String, Value)>>,
    answers: Mutex<Vec<Result<Value, NoAnswer>>>,
}

#[derive(Debug, PartialEq)]
struct NoAnswer;

impl Caller for Double {
    type Error = NoAnswer;

    async fn call<A, R>(&self, method: &str, args: &A) -> Result<R, NoAnswer>
    where
        A: Serialize + Sync + ?Sized,
        R: DeserializeOwned + Send,
    {
        self.called.lock().unwrap().push((method.to_owned(), serde_json::to_value(args).unwrap()));
        let answer = self.answers.lock().unwrap().pop().unwrap_or(Err(NoAnswer));
        answer.map(|value| serde_json::from_value(value).unwrap())
    }
}

/// The typed client works over anything that implements `Caller`, with an error type of its own: code that uses
/// the typed client can be tested without a server. What is called is `Service.method`.
///
/// Hint: the typed client is generic, and knows the trait only.
#[test]
fn the_typed_client_calls_through_any_caller() {
    run(async || {
        let answers = vec![Err(NoAnswer), Ok(json!(null)), Ok(json!(5))];
        let arith = ArithClient(Double { called: Mutex::default(), answers: Mutex::new(answers) });
        assert_eq!(arith.sum(&TWO_AND_THREE).await, Ok(5));
        assert_eq!(arith.fail(&Fail { message: "on purpose".to_owned() }).await, Ok(()));
        assert_eq!(arith.sleep(&Sleep { millis: 9 }).await, Err(NoAnswer));
        let expected = [
            ("Arith.sum".to_owned(), json!({"num1": 2, "num2": 3})),
            ("Arith.fail".to_owned(), json!({"message": "on purpose"})),
            ("Arith.sleep".to_owned(), json!({"millis": 9})),
        ];
        assert_eq!(*arith.0.called.lock().unwrap(), expected);

        let service = arith::service(); // of the same contract
        for (called, _) in &expected {
            let method = called.strip_prefix("Arith.").unwrap();
            assert!(service.method(method).is_some(), "the service has no {called}");
        }
    });
}

/// A typed call can be spawned, on a runtime with several threads, whatever the caller is: its future is `Send`,
/// and the compiler knows it without knowing the caller.
///
/// Hint: the trait says so where it declares `call`: `impl Future<…> + Send`.
#[test]
fn a_typed_call_can_be_spawned_whatever_the_caller_is() {
    async fn spawned<C: Caller + 'static>(arith: ArithClient<C>, sum: Sum) -> Option<i32> {
        let call = tokio::spawn(async move { arith.sum(&sum).await.ok() });
        within("the end of the spawned call", call).await.unwrap()
    }
    run_threads(async || {
        let (_server, _services, client) = arith_server().await;
        assert_eq!(spawned(ArithClient(client), TWO_AND_THREE).await, Some(5));
        let double = Double { called: Mutex::default(), answers: Mutex::new(vec![Ok(json!(6))]) };
        assert_eq!(spawned(ArithClient(double), TWO_AND_THREE).await, Some(6));
    });
}
