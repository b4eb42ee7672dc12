//! The story of day 3: a table of typed methods, called well, called wrongly, and changed while it serves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use day3_service::{
    Client, Code, Codec, Error, Handler, Options, RemoteError, Request, Server, Service, ServiceMap,
    contract, service,
};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

#[derive(Debug, Serialize, Deserialize)]
struct Sum {
    num1: i32,
    num2: i32,
}

#[derive(Debug, Serialize, Deserialize)]
struct Sleep {
    millis: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Fail {
    message: String,
}

contract! {
    /// Arithmetic: the server implements this trait, and `ArithClient` calls it.
    trait Arith, client ArithClient {
        /// Adds two numbers.
        async fn sum(Sum) -> i32;
        /// Takes its time.
        async fn sleep(Sleep) -> u64;
        /// Fails with this message.
        async fn fail(Fail) -> ();
        /// Has a bug.
        async fn panic(()) -> ();
    }
}

/// The receiver. Its methods know nothing of frames, codecs or connections.
struct Cpu;

impl Arith for Cpu {
    async fn sum(&self, Sum { num1, num2 }: Sum) -> anyhow::Result<i32> {
        let too_large = || RemoteError::new(Code::OUT_OF_RANGE, format!("{num1} + {num2} is too large"));
        Ok(num1.checked_add(num2).ok_or_else(too_large)?)
    }

    async fn sleep(&self, Sleep { millis }: Sleep) -> anyhow::Result<u64> {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        Ok(millis)
    }

    async fn fail(&self, Fail { message }: Fail) -> anyhow::Result<()> {
        Err(anyhow::Error::msg(message))
    }

    async fn panic(&self, (): ()) -> anyhow::Result<()> {
        panic!("a bug in Arith.panic")
    }
}

/// Middleware: a handler around a handler. It asks for a token, and says who calls.
fn with_token(inner: ServiceMap) -> impl Handler {
    move |request: Request| -> day3_service::HandlerFuture {
        let token = request.metadata().get("token").map(String::as_str);
        if token != Some("open sesame") {
            println!("   (on the server: {:?} has no token)", request.service_method());
            let error = RemoteError::new(Code::UNAUTHENTICATED, "this server asks for a token");
            return Box::pin(std::future::ready(Err(error.into())));
        }
        inner.call(request)
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // A panic of a handler is told here, as a part of the story, and not as a backtrace in the middle of it.
    std::panic::set_hook(Box::new(|panic| {
        let text = panic.payload().downcast_ref::<&str>().copied().unwrap_or("a panic");
        println!("   (on the server: {text})");
    }));

    let services = ServiceMap::new();
    services.add(Cpu.into_service()?)?;
    println!("1. The method table, written by the compiler from the contract Arith:\n");
    print_methods(&services);

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    // The map is a handler. This clone of it is the same map, so we can change it while it serves.
    let server = Server::new(services.clone());
    let serving = tokio::spawn(async move { server.serve(listener).await });
    let client = Client::connect(addr, &Options::default().codecs([Codec::Json])).await?;
    println!("\nIt serves on {addr}. One client is connected, and speaks {}.", client.codec());

    call_well(&client).await?;
    call_wrongly(&client).await?;
    change_while_serving(&services, &client).await?;

    println!("\n5. What the counters say. Calls of methods that do not exist are not counted:\n");
    print_counters(&services);
    ask_for_a_token(services).await?;

    client.close();
    serving.abort();
    println!("\nThe end. Tomorrow: what if Arith.sleep sleeps for a year?");
    Ok(())
}

fn print_methods(services: &ServiceMap) {
    for service in services.services() {
        for (name, method) in service.methods() {
            let full_name = format!("{}.{name}", service.name());
            println!("   {full_name:<12} fn({}) -> {}", method.argument_type(), method.reply_type());
        }
    }
}

fn print_counters(services: &ServiceMap) {
    for service in services.services() {
        for (name, method) in service.methods() {
            let full_name = format!("{}.{name}", service.name());
            println!("   {full_name:<12} {} calls, {} errors", method.calls(), method.errors());
        }
    }
}

/// Typed calls, one after the other and then side by side.
async fn call_well(client: &Client) -> anyhow::Result<()> {
    println!("\n2. Calls through the typed client. A misspelt method or a wrong type does not compile:\n");
    let arith = ArithClient(client.clone());
    for (num1, num2) in [(2, 3), (40, 2)] {
        let sum = arith.sum(&Sum { num1, num2 }).await?;
        println!("   arith.sum({num1}, {num2}) = {sum}");
    }

    let begin = Instant::now();
    let mut sleeping = Vec::new();
    for millis in [100, 200, 300] {
        sleeping.push(client.start::<_, u64>("Arith.sleep", &Sleep { millis }).await?);
    }
    let mut slept = 0;
    for call in sleeping {
        slept += call.await?;
    }
    println!(
        "   three calls of Arith.sleep slept {slept} ms together, in {} ms",
        begin.elapsed().as_millis()
    );
    Ok(())
}

/// Every kind of mistake is one error reply. The connection stays the same throughout.
async fn call_wrongly(client: &Client) -> anyhow::Result<()> {
    println!("\n3. Mistakes, made without the typed client. Each is answered with a code:\n");
    let sum = Sum { num1: 2, num2: 3 };
    show_error(client, "Aryth.sum", &sum).await?;
    show_error(client, "Arith.product", &sum).await?;
    show_error(client, "Arith", &sum).await?;
    show_error(client, "Arith.sum", &"two and three").await?;
    show_error(client, "Arith.sum", &Sum { num1: i32::MAX, num2: 1 }).await?;
    show_error(client, "Arith.fail", &Fail { message: "the disk is 100% full".to_owned() }).await?;
    show_error(client, "Arith.panic", &()).await?;

    let sum: i32 = client.call("Arith.sum", &sum).await?;
    println!("\n   and on the same connection: Arith.sum(2, 3) = {sum}");
    Ok(())
}

async fn show_error(client: &Client, method: &str, argument: &impl Serialize) -> anyhow::Result<()> {
    match client.call::<_, ()>(method, argument).await {
        Err(Error::Remote(error)) => {
            println!("   {method:<14} {}: {}", error.code(), error.message());
        }
        Err(error) => return Err(error).with_context(|| format!("{method} was not answered")),
        Ok(()) => anyhow::bail!("{method} should have failed"),
    }
    Ok(())
}

/// The map can change under a running server.
async fn change_while_serving(services: &ServiceMap, client: &Client) -> anyhow::Result<()> {
    println!("\n4. A service comes and goes while the server runs:\n");
    let hello = &"Ada".to_owned();
    show_error(client, "Greeter.hello", hello).await?;

    // Without a contract, from a list of methods: service!("Greeter", …, [hello]). Written out, that is:
    let greeter = Service::builder("Greeter", Greeter("Hello"))
        .method("hello", |greeter: Arc<Greeter>, name: String| async move { greeter.hello(name).await })
        .build()?;
    services.add(greeter)?;
    let reply: String = client.call("Greeter.hello", hello).await?;
    println!("   added:         {reply}");

    match services.add(service!("Greeter", Greeter("Hi"), [hello])?) {
        Err(error) => println!("   added again:   {error}"),
        Ok(()) => anyhow::bail!("a second Greeter should have been refused"),
    }

    let removed = services.remove("Greeter").context("the service was there")?;
    let calls = removed.method("hello").map_or(0, day3_service::Method::calls);
    println!("   removed:       calls until then: {calls}");
    show_error(client, "Greeter.hello", hello).await
}

struct Greeter(&'static str);

impl Greeter {
    async fn hello(&self, name: String) -> anyhow::Result<String> {
        Ok(format!("{}, {name}!", self.0))
    }
}

/// The same services behind a handler that looks at the metadata first.
async fn ask_for_a_token(services: ServiceMap) -> anyhow::Result<()> {
    println!("\n6. Middleware: a handler around the service map\n");
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let serving = tokio::spawn(async move { Server::new(with_token(services)).serve(listener).await });
    let client = Client::connect(addr, &Options::default()).await?;
    show_error(&client, "Arith.sum", &Sum { num1: 2, num2: 3 }).await?;
    let arith = ArithClient(client.with_metadata("token", "open sesame"));
    println!("   with a token: arith.sum(2, 3) = {}", arith.sum(&Sum { num1: 2, num2: 3 }).await?);
    serving.abort();
    Ok(())
}
