//! The story of day 4: every kind of wait runs into its limit, and at the end nothing is left behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use day4_timeout::{Client, Error, Options, Server, ServiceMap, service};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Sleep {
    millis: u64,
}

/// Longer than any caller waits.
const A_YEAR: Sleep = Sleep { millis: 365 * 24 * 60 * 60 * 1000 };

/// How many calls of `Arith.sleep` are going on.
#[derive(Clone, Default)]
struct Sleepers(Arc<AtomicUsize>);

/// Counts down however its handler ends: done, over its limit, cancelled, or without a client.
struct Asleep(Sleepers);

impl Drop for Asleep {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, SeqCst);
    }
}

struct Arith {
    sleepers: Sleepers,
}

impl Arith {
    async fn sleep(&self, Sleep { millis }: Sleep) -> anyhow::Result<u64> {
        self.sleepers.0.fetch_add(1, SeqCst);
        let _asleep = Asleep(self.sleepers.clone());
        tokio::time::sleep(Duration::from_millis(millis)).await;
        Ok(millis)
    }

    async fn repeat(&self, times: usize) -> anyhow::Result<String> {
        Ok("x".repeat(times))
    }
}

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn alive_tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

/// Waits until `condition` holds, and says how long that took. Stopping a handler is asking its task to end.
async fn until(what: &str, condition: impl Fn() -> bool) -> anyhow::Result<Duration> {
    let since = Instant::now();
    while !condition() {
        ensure!(since.elapsed() < Duration::from_secs(5), "never happened: {what}");
        tokio::time::sleep(millis(1)).await;
    }
    Ok(since.elapsed())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let sleepers = Sleepers::default();
    let services = ServiceMap::new();
    services.add(service!("Arith", Arith { sleepers: sleepers.clone() }, [sleep, repeat])?)?;
    let server = Server::new(services)
        .handle_timeout(millis(300))
        .handshake_timeout(millis(200))
        .write_timeout(millis(200))
        .grace_period(millis(500));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let before = alive_tasks();
    println!("Before the server starts, {before} tasks are alive. At the end we count again.");

    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(async move {
        let signal = async { stopped.await.unwrap_or_default() };
        server.serve_with_shutdown(listener, signal).await
    });

    connect_in_vain().await?;
    let client = Client::connect(addr, &Options::default().call_timeout(millis(100))).await?;
    calls_that_are_given_up(&client, &sleepers).await?;
    handlers_over_their_limit(addr).await?;
    peers_that_misbehave(addr).await?;
    a_silent_server().await?;
    thousands(&client, &sleepers).await?;
    shutdown(addr, &sleepers, stop, serving).await?;

    drop(client);
    let took = until("all tasks have ended", || alive_tasks() == before).await?;
    let (now, asleep) = (alive_tasks(), sleepers.0.load(SeqCst));
    println!(
        "\nAfter all that, and {} ms more: {now} tasks are alive, as at the start; {asleep} handlers.",
        took.as_millis()
    );
    println!("The end. Tomorrow: the same bytes over HTTP.");
    Ok(())
}

/// A listener that accepts and never answers: the system answers for it, so TCP connects.
async fn connect_in_vain() -> anyhow::Result<()> {
    println!("\n1. Connecting to a server that accepts and says nothing, with a limit of 100 ms:\n");
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let since = Instant::now();
    let options = Options::default().connect_timeout(millis(100));
    let error = Client::connect(silent.local_addr()?, &options).await.err().context("it has no answer")?;
    println!("   after {} ms: {error}", since.elapsed().as_millis());
    Ok(())
}

/// The caller stops waiting, and the server is told.
async fn calls_that_are_given_up(client: &Client, sleepers: &Sleepers) -> anyhow::Result<()> {
    println!("\n2. Arith.sleep is asked to sleep for a year. The caller waits for 100 ms:\n");
    let since = Instant::now();
    let outcome = client.call::<_, u64>("Arith.sleep", &A_YEAR).await;
    let error = outcome.err().context("a year is over")?;
    println!("   after {} ms: {error}", since.elapsed().as_millis());
    println!("   calls in flight at the client: {}", client.in_flight());
    let took = until("the handler stops", || sleepers.0.load(SeqCst) == 0).await?;
    println!("   the server was told (cancel); its handler was stopped {} ms later", took.as_millis());

    let call = client.start::<_, u64>("Arith.sleep", &A_YEAR).await?;
    until("the handler starts", || sleepers.0.load(SeqCst) == 1).await?;
    drop(call);
    let took = until("the handler stops", || sleepers.0.load(SeqCst) == 0).await?;
    println!("   a second one is started, and dropped: stopped {} ms later", took.as_millis());
    let slept: u64 = client.call("Arith.sleep", &Sleep { millis: 10 }).await?;
    println!("   and on the same connection a call of {slept} ms has its reply");
    Ok(())
}

/// The server's own limit is 300 ms. A client may ask for less, and not for more.
async fn handlers_over_their_limit(addr: std::net::SocketAddr) -> anyhow::Result<()> {
    println!("\n3. Callers that would wait longer. The server's limit for a handler is 300 ms:\n");
    for asked in [50, 60_000] {
        let client = Client::connect(addr, &Options::default().handle_timeout(millis(asked))).await?;
        let since = Instant::now();
        match client.call::<_, u64>("Arith.sleep", &A_YEAR).await {
            Err(Error::Remote(error)) => {
                let after = since.elapsed().as_millis();
                println!("   the client asks for {asked} ms; after {after} ms: {}: {error}", error.code());
            }
            other => anyhow::bail!("expected the server's error, got {other:?}"),
        }
    }
    Ok(())
}

/// One peer that says nothing, and one that asks for much and takes none of it.
async fn peers_that_misbehave(addr: std::net::SocketAddr) -> anyhow::Result<()> {
    println!("\n4. Peers that the server would have to wait for:\n");
    let mut silent = TcpStream::connect(addr).await?;
    let since = Instant::now();
    let mut answer = Vec::new();
    silent.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(answer.get(4..).unwrap_or_default()).into_owned();
    println!("   one says nothing; after {} ms: {answer}", since.elapsed().as_millis());

    let mut greedy = TcpStream::connect(addr).await?;
    let frame = |text: &str| [&(text.len() as u32).to_be_bytes()[..], text.as_bytes()].concat();
    greedy.write_all(&frame(r#"{"magic_number":3927900,"codecs":["application/json"]}"#)).await?;
    let since = Instant::now();
    let mut asked = 0;
    // It sends until the server, which cannot write, reads no more; then it waits to be dropped.
    let error = loop {
        asked += 1;
        let header = format!(r#"{{"call":{{"service_method":"Arith.repeat","seq":{asked}}}}}"#);
        let call = [frame(&header), frame("1000000")].concat();
        if let Err(error) = greedy.write_all(&call).await {
            break error;
        }
    };
    println!("   one asks for a megabyte, again and again, and reads none of it;");
    println!("   after {} ms the server has dropped it: {error}", since.elapsed().as_millis());
    Ok(())
}

/// A network that is cut, or a process that is stopped, says nothing: no error, no end of the stream.
async fn a_silent_server() -> anyhow::Result<()> {
    println!(
        "\n5. A server that falls silent while a call waits (ping after 100 ms, given up 100 ms later):\n"
    );
    let (ours, mut theirs) = tokio::io::duplex(4096);
    let options = Options::default().ping_interval(millis(100)).ping_timeout(millis(100));
    let connecting = tokio::spawn(async move { Client::handshake(ours, &options).await });
    let hello = r#"{"codec":"application/json"}"#;
    theirs.write_all(&[&(hello.len() as u32).to_be_bytes()[..], hello.as_bytes()].concat()).await?;
    let client = connecting.await??;
    let since = Instant::now();
    let error = client.call::<_, u64>("Arith.sleep", &A_YEAR).await.err().context("it has no answer")?;
    println!("   after {} ms: {error}", since.elapsed().as_millis());
    println!(
        "   may the call have run? {}. Is the client available? {}.",
        error.may_have_run(),
        client.is_available()
    );
    Ok(())
}

/// One leak is not seen. Thousands are.
async fn thousands(client: &Client, sleepers: &Sleepers) -> anyhow::Result<()> {
    println!(
        "\n6. Three times a thousand calls that sleep for a year, a third of them awaited to the limit:\n"
    );
    // The server, its task for this client, and the client's own; the peers from before are gone by now.
    until("the other connections are closed", || alive_tasks() == 3).await?;
    let tasks = alive_tasks();
    let (mut timed_out, mut most) = (0, 0);
    for round in 1..=3 {
        let mut calls = Vec::new();
        for _ in 0..1000 {
            calls.push(client.start::<_, u64>("Arith.sleep", &A_YEAR).await?);
        }
        most = most.max(alive_tasks());
        if round == 1 {
            for call in calls {
                timed_out += usize::from(matches!(call.await, Err(Error::Timeout { .. })));
            }
        }
    }
    println!("   {timed_out} timed out; at least {most} tasks were alive at once");
    until("all handlers stop", || sleepers.0.load(SeqCst) == 0 && alive_tasks() == tasks).await?;
    println!("   before: {tasks} tasks; now: {}; calls in flight: {}", alive_tasks(), client.in_flight());
    Ok(())
}

/// The call in flight ends as it would have, and nothing new begins.
async fn shutdown(
    addr: std::net::SocketAddr,
    sleepers: &Sleepers,
    stop: oneshot::Sender<()>,
    serving: tokio::task::JoinHandle<Result<(), Error>>,
) -> anyhow::Result<()> {
    println!("\n7. Shutdown, with a call of 200 ms in flight and a grace period of 500 ms:\n");
    let client = Client::connect(addr, &Options::default()).await?;
    let call = client.start::<_, u64>("Arith.sleep", &Sleep { millis: 200 }).await?;
    until("the call is in flight", || sleepers.0.load(SeqCst) == 1).await?;
    let since = Instant::now();
    stop.send(()).ok().context("the server has ended by itself")?;
    until("the client is told", || !client.is_available()).await?;
    let refused = client.call::<_, u64>("Arith.sleep", &A_YEAR).await.err().context("a new call")?;
    println!("   a new call: {refused} (may have run: {})", refused.may_have_run());
    let late = TcpStream::connect(addr).await.err().context("the listener is open")?;
    println!("   a new connection: {late}");
    println!("   the call in flight has its reply: {} ms slept", call.await?);
    serving.await??;
    println!(
        "   and {} ms after the signal the server has ended, with no error",
        since.elapsed().as_millis()
    );
    Ok(())
}
