//! Day 2's story: many calls share one connection.
//!
//! A server and a client in one process, joined by a real socket. Everything that is printed was measured
//! or received while the program ran.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use day2_client::{
    Client, Code, Error, Handler, Listener, Options, PendingCall, RemoteError, Reply, Request, Server,
};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

#[derive(Serialize, Deserialize)]
struct Sum {
    num1: i32,
    num2: i32,
}

#[derive(Serialize, Deserialize)]
struct Sleep {
    millis: u64,
}

#[derive(Serialize, Deserialize)]
struct Fail {
    message: String,
}

/// What the server can do. On day 3 a table of services takes the place of this `match`.
fn arith() -> impl Handler {
    async |request: Request| -> Result<Reply> {
        match request.service_method() {
            "Arith.sum" => {
                let Sum { num1, num2 } = request.decode()?;
                Ok(request.reply(&(num1 + num2))?)
            }
            "Arith.sleep" => {
                let Sleep { millis } = request.decode()?;
                tokio::time::sleep(Duration::from_millis(millis)).await;
                Ok(request.reply(&millis)?)
            }
            "Arith.fail" => Err(anyhow::Error::msg(request.decode::<Fail>()?.message)),
            other => {
                let text = format!("there is no method {other:?}");
                Err(RemoteError::new(Code::UNIMPLEMENTED, text).into())
            }
        }
    }
}

/// A listener that counts the connections it accepts.
struct Counting {
    listener: TcpListener,
    accepted: Arc<AtomicUsize>,
}

impl Listener for Counting {
    type Io = TcpStream;

    async fn accept(&mut self) -> std::io::Result<(TcpStream, Option<SocketAddr>)> {
        let accepted = Listener::accept(&mut self.listener).await?;
        self.accepted.fetch_add(1, Ordering::Relaxed);
        Ok(accepted)
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let accepted = Arc::new(AtomicUsize::new(0));
    let listener = Counting { listener, accepted: Arc::clone(&accepted) };
    let server = tokio::spawn(async move { Server::new(arith()).serve(listener).await });
    println!("A server listens on {addr}.");

    let client = Client::connect(addr, &Options::default()).await?;
    println!("A client is connected. Both agreed to speak {}.", client.codec());

    out_of_order(&client).await?;
    many_callers(&client).await?;
    send_now_await_later(&client).await?;
    errors_are_answers(&client).await?;
    let connections = accepted.load(Ordering::Relaxed);
    println!("\nConnections that the server has accepted up to here: {connections}.");
    close(&client).await?;

    // The server is this future, and nothing else: aborting it closes every connection.
    server.abort();
    Ok(())
}

/// Calls that take different times, sent together: their replies come in the order in which they are done.
async fn out_of_order(client: &Client) -> Result<()> {
    title("1. Replies come in any order");
    let begin = Instant::now();
    let mut waiting = JoinSet::new();
    for millis in [300, 100, 200] {
        let call: PendingCall<u64> = client.start("Arith.sleep", &Sleep { millis }).await?;
        println!("   → call {}: sleep {millis} ms", call.seq());
        waiting.spawn(async move { (call.seq(), call.await) });
    }
    while let Some(done) = waiting.join_next().await {
        let (seq, slept) = done?;
        println!("   ← reply {seq}: slept {} ms, here after {} ms", slept?, begin.elapsed().as_millis());
    }
    println!("   The number in the header says whose reply it is, so no caller waits for another.");
    Ok(())
}

/// A thousand tasks with one client between them.
async fn many_callers(client: &Client) -> Result<()> {
    title("2. A thousand tasks, one connection");
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for num1 in 0..1000 {
        let client = client.clone(); // another handle on the same connection
        tasks.spawn(async move {
            let sum: i32 = client.call("Arith.sum", &Sum { num1, num2: 1 }).await?;
            Ok::<bool, Error>(sum == num1 + 1)
        });
    }
    let mut right = 0;
    while let Some(done) = tasks.join_next().await {
        right += usize::from(done??);
    }
    println!("   {right} tasks have their own answer, after {} ms.", begin.elapsed().as_millis());
    println!("   Calls in flight now: {}.", client.in_flight());
    Ok(())
}

/// `start` sends at once; the reply can be fetched whenever it suits.
async fn send_now_await_later(client: &Client) -> Result<()> {
    title("3. Send now, await later");
    let begin = Instant::now();
    let slow: PendingCall<u64> = client.start("Arith.sleep", &Sleep { millis: 200 }).await?;
    println!("   Call {} is on its way after {} µs.", slow.seq(), begin.elapsed().as_micros());
    let mut sum = 0;
    for num2 in 1..=100 {
        sum = client.call("Arith.sum", &Sum { num1: sum, num2 }).await?;
    }
    println!("   Meanwhile 100 calls, one after the other: 1 + 2 + … + 100 = {sum}.");
    let seq = slow.seq();
    let slept = slow.await?;
    println!("   Call {seq} slept {slept} ms; its reply is here after {} ms.", begin.elapsed().as_millis());

    let given_up: PendingCall<u64> = client.start("Arith.sleep", &Sleep { millis: 50 }).await?;
    println!("   Another call, in flight: {}.", client.in_flight());
    drop(given_up);
    println!("   We gave it up, in flight: {}. Its late reply will be ignored.", client.in_flight());
    Ok(())
}

/// An error costs its own call, and the connection goes on. The type tells whether the call may have run.
async fn errors_are_answers(client: &Client) -> Result<()> {
    title("4. Errors are answers");
    let message = "100% full, says the \"disk\"".to_owned();
    show("the method fails", client.call::<_, i32>("Arith.fail", &Fail { message }).await);
    show("no such method", client.call::<_, i32>("Arith.divide", &Sum { num1: 1, num2: 0 }).await);
    let sum = Sum { num1: 1, num2: 2 };
    show("a reply of another type", client.call::<_, String>("Arith.sum", &sum).await);
    show("9 MB in one argument", client.call::<_, i32>("Arith.sum", &vec![7_u8; 9_000_000]).await);
    show("and a good one", client.call::<_, i32>("Arith.sum", &sum).await);
    Ok(())
}

/// The end of a connection is the end of every call on it.
async fn close(client: &Client) -> Result<()> {
    title("5. What happens to calls in flight at the end");
    let mut calls: Vec<PendingCall<u64>> = Vec::new();
    for _ in 0..3 {
        calls.push(client.start("Arith.sleep", &Sleep { millis: 60_000 }).await?);
    }
    // Requests leave in order: with the reply to this one, the three were sent.
    client.call::<_, i32>("Arith.sum", &Sum { num1: 1, num2: 2 }).await?;
    println!("   In flight: {} calls that sleep for a minute. Now we close the client.", client.in_flight());
    let begin = Instant::now();
    client.close();
    for call in calls {
        let seq = call.seq();
        show(&format!("call {seq}"), call.await);
    }
    show("a new call", client.call::<_, i32>("Arith.sum", &Sum { num1: 1, num2: 2 }).await);
    println!(
        "   All of them knew within {} µs. No caller waits for a reply that cannot come.",
        begin.elapsed().as_micros()
    );
    println!("   In flight: {}. Available: {}.", client.in_flight(), client.is_available());
    Ok(())
}

/// Prints an outcome, with the kind of error that a caller could match on.
fn show<T: std::fmt::Debug>(what: &str, outcome: Result<T, Error>) {
    let error = match outcome {
        Ok(value) => return println!("   {:<26}Ok: {value:?}", format!("{what}:")),
        Err(error) => error,
    };
    let kind = match &error {
        Error::Remote(remote) => format!("Remote ({})", remote.code()),
        Error::Disconnected(_) => "Disconnected".to_owned(),
        Error::NotSent(_) => "NotSent".to_owned(),
        Error::Decode { .. } => "Decode".to_owned(),
        Error::FrameTooLarge { .. } => "FrameTooLarge".to_owned(),
        _ => "another error".to_owned(),
    };
    let may_have_run = if error.may_have_run() { "may have run" } else { "has not run" };
    println!("   {:<26}{kind}, {may_have_run}: {error}", format!("{what}:"));
}

fn title(text: &str) {
    println!("\n{text}\n{}", "=".repeat(text.chars().count()));
}
