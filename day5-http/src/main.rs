//! The story of day 5: one server with three endpoints, what goes over its HTTP port byte by byte, and the page in a
//! browser.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use day5_http::{Client, DEBUG_PATH, Endpoint, Error, Options, Server, ServiceMap, service};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

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

/// The same service as on the days before. It does not know that there is HTTP now.
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

    async fn total(&self, sums: Vec<Sum>) -> anyhow::Result<i64> {
        Ok(sums.iter().map(|sum| i64::from(sum.num1) + i64::from(sum.num2)).sum())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let services = ServiceMap::new();
    services.add(service!("Arith", Arith, [sum, sleep, fail, total])?)?;
    let server = Server::new(services.clone()).debug_page(services);

    let (stop, stopped) = watch::channel(false);
    let mut serving = JoinSet::new();
    let mut endpoints = serve_tcp_and_http(&server, &mut serving, &stopped).await?;
    #[cfg(unix)]
    let socket = {
        let socket = Socket::new()?;
        endpoints.push(serve_unix(&server, &mut serving, &stopped, &socket)?);
        socket
    };
    println!(
        "1. One server, reached in {} ways. An endpoint is one word that says where and how:\n",
        endpoints.len()
    );
    for endpoint in &endpoints {
        println!("   {endpoint}");
    }
    let Some(Endpoint::Http(address)) = endpoints.iter().find(|one| matches!(one, Endpoint::Http(_))) else {
        bail!("there is an HTTP port");
    };
    let http: SocketAddr = address.as_str().parse()?;

    connect_by_hand(http).await?;
    call_through_each(&endpoints).await?;
    fetch_the_page(http).await?;
    make_mistakes(http, &endpoints).await?;

    println!("\n6. The server shuts down:\n");
    stop.send(true)?;
    while let Some(served) = serving.join_next().await {
        served??;
    }
    println!("   it listens no more, and no call was cut off");
    #[cfg(unix)]
    drop(socket);
    println!("\nThe end. Tomorrow: many servers behind one name.");
    Ok(())
}

/// Resolves when the server shall stop.
async fn stopped_by(mut stopped: watch::Receiver<bool>) {
    stopped.wait_for(|stop| *stop).await.ok();
}

/// The same server, on a TCP port and on an HTTP port.
async fn serve_tcp_and_http(
    server: &Server,
    serving: &mut JoinSet<Result<(), Error>>,
    stopped: &watch::Receiver<bool>,
) -> anyhow::Result<Vec<Endpoint>> {
    let (tcp, http) = (TcpListener::bind("127.0.0.1:0").await?, TcpListener::bind("127.0.0.1:0").await?);
    let endpoints = vec![Endpoint::tcp(tcp.local_addr()?), Endpoint::http(http.local_addr()?)];
    let (one, stop) = (server.clone(), stopped_by(stopped.clone()));
    serving.spawn(async move { one.serve_with_shutdown(tcp, stop).await });
    let (one, stop) = (server.clone(), stopped_by(stopped.clone()));
    serving.spawn(async move { one.serve_http_with_shutdown(http, stop).await });
    Ok(endpoints)
}

/// A path for a Unix socket. The file is removed at the end.
#[cfg(unix)]
struct Socket(std::path::PathBuf);

#[cfg(unix)]
impl Socket {
    fn new() -> anyhow::Result<Socket> {
        let path = std::env::temp_dir().join(format!("rrpc-day5-demo-{}.sock", std::process::id()));
        // What a process with the same number has left behind, if it was killed.
        if path.exists() {
            std::fs::remove_file(&path)?;
        }
        Ok(Socket(path))
    }
}

#[cfg(unix)]
impl Drop for Socket {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

/// And on a Unix socket.
#[cfg(unix)]
fn serve_unix(
    server: &Server,
    serving: &mut JoinSet<Result<(), Error>>,
    stopped: &watch::Receiver<bool>,
    Socket(path): &Socket,
) -> anyhow::Result<Endpoint> {
    let listener = tokio::net::UnixListener::bind(path)?;
    let (one, stop) = (server.clone(), stopped_by(stopped.clone()));
    serving.spawn(async move { one.serve_with_shutdown(listener, stop).await });
    Ok(format!("unix@{}", path.display()).parse()?)
}

/// What `connect_http` does, without the library: HTTP first, and then the frames of day 1.
async fn connect_by_hand(http: SocketAddr) -> anyhow::Result<()> {
    println!("\n2. The HTTP port, by hand. First HTTP; what is sent has \">\" before it:\n");
    let mut io = TcpStream::connect(http).await?;
    let connect = format!("CONNECT /_rrpc_ HTTP/1.1\r\nHost: {http}\r\n\r\n");
    io.write_all(connect.as_bytes()).await?;
    print_head(">", &connect);
    print_head("<", &read_head(&mut io).await?);

    println!(
        "\n   And from here on, on the same connection, frames: four bytes of length, then a payload.\n"
    );
    let hello = br#"{"magic_number":3927900,"codecs":["application/json"]}"#;
    write_frame(&mut io, hello).await?;
    read_frame(&mut io).await?;
    write_frame(&mut io, br#"{"call":{"service_method":"Arith.sum","seq":1}}"#).await?;
    write_frame(&mut io, br#"{"num1":2,"num2":3}"#).await?;
    read_frame(&mut io).await?;
    read_frame(&mut io).await
}

/// Reads up to the empty line that ends an HTTP head.
async fn read_head(io: &mut TcpStream) -> anyhow::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await?);
    }
    Ok(String::from_utf8(head)?)
}

fn print_head(mark: &str, head: &str) {
    for line in head.split_terminator("\r\n") {
        println!("   {mark} {line}\\r\\n");
    }
}

async fn write_frame(io: &mut TcpStream, payload: &[u8]) -> anyhow::Result<()> {
    let len = u32::try_from(payload.len())?.to_be_bytes();
    io.write_all(&[&len, payload].concat()).await?;
    print_frame(">", len, payload);
    Ok(())
}

async fn read_frame(io: &mut TcpStream) -> anyhow::Result<()> {
    let mut len = [0; 4];
    io.read_exact(&mut len).await?;
    let mut payload = vec![0; u32::from_be_bytes(len) as usize];
    io.read_exact(&mut payload).await?;
    print_frame("<", len, &payload);
    Ok(())
}

fn print_frame(mark: &str, [a, b, c, d]: [u8; 4], payload: &[u8]) {
    println!("   {mark} {a:02x} {b:02x} {c:02x} {d:02x}  {}", String::from_utf8_lossy(payload));
}

/// The library does the same. Behind each endpoint there is the same service.
async fn call_through_each(endpoints: &[Endpoint]) -> anyhow::Result<()> {
    println!("\n3. The same through the library, Client::dial(endpoint):\n");
    for (endpoint, num1) in endpoints.iter().zip(1..) {
        let client = Client::dial(endpoint, &Options::default()).await?;
        let sum: i32 = client.call("Arith.sum", &Sum { num1, num2: 10 }).await?;
        let hurried = client.with_timeout(Duration::from_millis(50));
        let call = hurried.call::<_, u64>("Arith.sleep", &Sleep { millis: 60_000 });
        let Err(Error::Timeout { after, .. }) = call.await else { bail!("the time limit was not kept") };
        println!("   {endpoint}");
        println!(
            "      {num1} + 10 = {sum} in {}, and a minute of sleep is given up after {after:?}",
            client.codec()
        );
    }
    Ok(())
}

/// One request, and its whole answer.
async fn ask(http: SocketAddr, request: &str) -> anyhow::Result<(String, String)> {
    let mut io = TcpStream::connect(http).await?;
    let request = format!("{request} HTTP/1.1\r\nHost: {http}\r\nConnection: close\r\n\r\n");
    io.write_all(request.as_bytes()).await?;
    let head = read_head(&mut io).await?;
    let mut body = String::new();
    io.read_to_string(&mut body).await?;
    Ok((head, body))
}

/// `curl http://…/debug/rrpc`, as text: a line for each row of the tables, without the tags.
async fn fetch_the_page(http: SocketAddr) -> anyhow::Result<()> {
    println!("\n4. The same port has a page. In a browser, http://{http}{DEBUG_PATH} shows:\n");
    let (head, page) = ask(http, &format!("GET {DEBUG_PATH}")).await?;
    let body = page.split_once("<body>").context("a page has a body")?.1;
    let plain = |text: &str| text.trim().replace("&lt;", "<").replace("&gt;", ">");
    for line in body.lines() {
        let cells = line.split('<').filter_map(|tag| tag.split_once('>')).map(|(_, text)| plain(text));
        let row: String = cells.filter(|text| !text.is_empty()).map(|text| format!("{text:<18}")).collect();
        if !row.is_empty() {
            println!("   {}", row.trim_end());
        }
    }
    println!("\n   ({}, {} bytes of HTML)", head.lines().next().unwrap_or_default(), page.len());
    Ok(())
}

/// Mistakes, and the answer to each.
async fn make_mistakes(http: SocketAddr, endpoints: &[Endpoint]) -> anyhow::Result<()> {
    println!("\n5. Mistakes:\n");
    for request in ["GET /favicon.ico", "GET /_rrpc_"] {
        let (head, body) = ask(http, request).await?;
        println!("   {request}\n      {}: {}", head.lines().next().unwrap_or_default(), body.trim());
    }
    let tcp = endpoints.first().context("there is a TCP port")?.to_string();
    let wrong: Endpoint = tcp.replace("tcp@", "http@").parse()?;
    match Client::dial(&wrong, &Options::default()).await {
        Err(error @ Error::Handshake(_)) => {
            println!("   {wrong}, but that is the TCP port\n      {error}");
        }
        other => bail!("the TCP port should not speak HTTP: {other:?}"),
    }
    for text in ["127.0.0.1:9999", "tcp@localhost:99999", "http@::1:80"] {
        match text.parse::<Endpoint>() {
            Err(error) => println!("   {text}\n      {error}"),
            Ok(endpoint) => bail!("{endpoint} should be no endpoint"),
        }
    }
    Ok(())
}
