//! Registries for the suite of day 7: a real one that can be killed, and one that the test plays by hand.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use day7_registry::{HttpRegistry, RegistryServer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::within;

/// A registry that is served until this is dropped.
pub struct RunningRegistry {
    pub addr: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for RunningRegistry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl RunningRegistry {
    /// Serves `registry` on a free port. It listens when this returns.
    pub async fn start(registry: &RegistryServer) -> RunningRegistry {
        RunningRegistry::start_at(registry, SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// Serves `registry` on this address, perhaps one that was in use a moment ago.
    pub async fn start_at(registry: &RegistryServer, addr: SocketAddr) -> RunningRegistry {
        let listener = TcpListener::bind(addr).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let registry = registry.clone();
        RunningRegistry { addr, task: tokio::spawn(async move { registry.serve(listener).await }) }
    }

    /// Kills it, and waits until it is dead and its port is free.
    pub async fn kill(mut self) {
        self.task.abort();
        within("the end of the registry", &mut self.task).await.unwrap_err();
    }

    pub fn client(&self) -> HttpRegistry {
        client_of(self.addr)
    }

    /// Sends a request by hand and returns the whole answer.
    pub async fn exchange(&self, request: &str) -> Answer {
        exchange(TcpStream::connect(self.addr).await.unwrap(), request).await
    }
}

/// A client of the registry at `addr`.
pub fn client_of(addr: SocketAddr) -> HttpRegistry {
    HttpRegistry::new(format!("http://{addr}").parse().unwrap())
}

/// A request as `curl` sends it. `headers` are whole lines.
pub fn request(method: &str, path: &str, headers: &[&str]) -> String {
    let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n")
}

/// Sends `request` and returns the whole answer.
pub async fn exchange(mut io: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> Answer {
    within("sending the request", io.write_all(request.as_bytes())).await.unwrap();
    let mut answer = String::new();
    within("the end of the answer", io.read_to_string(&mut answer)).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    Answer { head: Head::parse(head), body: body.to_owned() }
}

/// The first line of a request or an answer, and its headers, in whatever order they came.
#[derive(Debug)]
pub struct Head {
    pub line: String,
    headers: Vec<(String, String)>,
}

impl Head {
    fn parse(text: &str) -> Head {
        let mut lines = text.trim_end().split("\r\n");
        let line = lines.next().unwrap_or_default().to_owned();
        let header = |line: &str| {
            let (name, value) = line.split_once(':').expect("a header line");
            (name.to_ascii_lowercase(), value.trim().to_owned())
        };
        Head { line, headers: lines.map(header).collect() }
    }

    /// The header of this name, which is given in lower case. It is an error if it is there twice.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(own, _)| own == name);
        let value = values.next().map(|(_, value)| &**value);
        assert!(values.next().is_none(), "{name} is there more than once: {self:?}");
        value
    }
}

/// An answer of the registry.
#[derive(Debug)]
pub struct Answer {
    pub head: Head,
    pub body: String,
}

impl Answer {
    pub fn status(&self) -> u16 {
        let code = self.head.line.split(' ').nth(1).and_then(|code| code.parse().ok());
        code.unwrap_or_else(|| panic!("no status: {self:?}"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }
}

/// A registry that the test plays by hand. That a request arrives is the signal that a test waits for.
pub struct HandRegistry {
    listener: TcpListener,
}

impl HandRegistry {
    pub async fn start() -> HandRegistry {
        HandRegistry { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    pub fn client(&self) -> HttpRegistry {
        client_of(self.listener.local_addr().unwrap())
    }

    /// Waits for the next request.
    pub async fn request(&self) -> HandRequest {
        within("a request to the registry", self.accept()).await
    }

    /// Checks that no request comes in this time. It cannot fail wrongly, only pass wrongly.
    pub async fn expect_silence(&self, time: Duration) {
        if let Ok(request) = tokio::time::timeout(time, self.accept()).await {
            panic!("no request was expected, but then came {:?}", request.head);
        }
    }

    /// Answers every request in the same way, for as long as this is polled.
    pub async fn answer_all(&self, status: &str, headers: &[&str], body: &str) -> Infallible {
        loop {
            self.accept().await.answer(status, headers, body).await;
        }
    }

    /// The next request. One that was given up before all of it was here does not count.
    async fn accept(&self) -> HandRequest {
        loop {
            let (io, _) = self.listener.accept().await.unwrap();
            if let Ok(request) = HandRequest::read(io).await {
                return request;
            }
        }
    }
}

/// A request that waits for its answer. Dropping it closes the connection without one.
pub struct HandRequest {
    io: TcpStream,
    pub head: Head,
}

impl HandRequest {
    async fn read(mut io: TcpStream) -> std::io::Result<HandRequest> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(io.read_u8().await?);
        }
        let head = Head::parse(&String::from_utf8(head).unwrap());
        let len = head.header("content-length").map_or(0, |len| len.parse().unwrap());
        io.read_exact(&mut vec![0; len]).await?;
        Ok(HandRequest { io, head })
    }

    pub fn method(&self) -> &str {
        self.head.line.split(' ').next().unwrap()
    }

    /// Sends these bytes, and keeps the connection open.
    pub async fn send(&mut self, bytes: &[u8]) {
        within("sending a part of an answer", self.io.write_all(bytes)).await.unwrap();
    }

    /// Answers with a status, header lines, and a body.
    pub async fn answer(mut self, status: &str, headers: &[&str], body: &str) {
        let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        let len = body.len();
        let answer = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {len}\r\n\r\n{body}");
        // The client may have gone, or may have read enough.
        within("sending the answer", self.io.write_all(answer.as_bytes())).await.ok();
    }

    /// Grants a lease.
    pub async fn grant(self, lease: Duration) {
        assert_eq!(self.method(), "POST", "{:?}", self.head);
        self.answer("200 OK", &[&lease_line(lease)], "{}").await;
    }

    /// Answers with a list, as a registry that has been there for long.
    pub async fn list(self, lease: Duration, servers: &[&str]) {
        self.list_at_age(Duration::from_secs(1_000_000), lease, servers).await;
    }

    /// Answers with a list, as a registry that has been there for so long.
    pub async fn list_at_age(self, age: Duration, lease: Duration, servers: &[&str]) {
        assert_eq!(self.method(), "GET", "{:?}", self.head);
        let age = format!("X-Rrpc-Age-Ms: {}", age.as_millis());
        self.answer("200 OK", &[&lease_line(lease), &age], &listed(servers).to_string()).await;
    }
}

/// The body of a list in which each server has the weight 1.
pub fn listed(servers: &[&str]) -> serde_json::Value {
    servers.iter().map(|server| serde_json::json!({"endpoint": server, "weight": 1})).collect()
}

fn lease_line(lease: Duration) -> String {
    format!("X-Rrpc-Lease-Ms: {}", lease.as_millis())
}
