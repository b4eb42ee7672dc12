//! The story of day 3: a table of typed methods, called well, called wrongly, and changed while it serves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use day3_service::{Client, Codec, Error, Options, Server, Service, ServiceMap, service};
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

/// The receiver. Its methods know nothing of frames, codecs or connections.
struct Arith;

impl Arith {
    async fn sum(&self, Sum { num1, num2 }: Sum) -> anyhow::Result<i32> {
        num1.checked_add(num2).with_context(|| format!("{num1} + {num2} does not fit into an i32"))
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

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // A panic of a handler is told here, as a part of the story, and not as a backtrace in the middle of it.
    std::panic::set_hook(Box::new(|panic| {
        let text = panic.payload().downcast_ref::<&str>().copied().unwrap_or("a panic");
        println!("   (on the server: {text})");
    }));

    let services = ServiceMap::new();
    services.add(service!("Arith", Arith, [sum, sleep, fail, panic])?)?;
    println!("1. The method table, written by the compiler from service!(\"Arith\", …):\n");
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

    println!("\n5. What the counters say. Calls that failed count; calls to what is not there do not:\n");
    print_counters(&services);

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
            println!("   {:<12} {}", format!("{}.{name}", service.name()), method.calls());
        }
    }
}

/// Typed calls, one after the other and then side by side.
async fn call_well(client: &Client) -> anyhow::Result<()> {
    println!("\n2. Calls. The argument is a struct, and the reply is a number:\n");
    for (num1, num2) in [(2, 3), (40, 2)] {
        let sum: i32 = client.call("Arith.sum", &Sum { num1, num2 }).await?;
        println!("   Arith.sum({num1}, {num2}) = {sum}");
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
    println!("\n3. Mistakes. Each has its own answer:\n");
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
        Err(Error::Remote(text)) => println!("   {method:<14} {text}"),
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

    // Without the macro: this is what it writes.
    let greeter = Service::builder("Greeter", "Hello".to_owned())
        .method(
            "hello",
            |greeting: Arc<String>, name: String| async move { Ok(format!("{greeting}, {name}!")) },
        )
        .build()?;
    services.add(greeter)?;
    let reply: String = client.call("Greeter.hello", hello).await?;
    println!("   added:         {reply}");

    let again = Service::builder("Greeter", ()).build()?;
    match services.add(again) {
        Err(error) => println!("   added again:   {error}"),
        Ok(()) => anyhow::bail!("a second Greeter should have been refused"),
    }

    let removed = services.remove("Greeter").context("the service was there")?;
    let calls = removed.method("hello").map_or(0, day3_service::Method::calls);
    println!("   removed:       calls until then: {calls}");
    show_error(client, "Greeter.hello", hello).await
}
