//! Registries for the suite of day 7: a real one that can be killed, and one that the test plays by hand.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use day7_registry::{Registry, RegistryClient};
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
    pub async fn start(registry: &Registry) -> RunningRegistry {
        RunningRegistry::start_at(registry, SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// Serves `registry` on this address, perhaps one that was in use a moment ago.
    pub async fn start_at(registry: &Registry, addr: SocketAddr) -> RunningRegistry {
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

    pub fn client(&self) -> RegistryClient {
        client_of(self.addr)
    }

    /// Sends a request by hand and returns the whole answer, without the line that tells the time.
    pub async fn ask(&self, request: &str) -> String {
        ask(TcpStream::connect(self.addr).await.unwrap(), request).await
    }
}

/// A client of the registry at `addr`.
pub fn client_of(addr: SocketAddr) -> RegistryClient {
    RegistryClient::new(format!("http://{addr}").parse().unwrap())
}

/// A request as `curl` sends it. `headers` are whole lines.
pub fn request(method: &str, path: &str, headers: &[&str]) -> String {
    let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{headers}\r\n")
}

/// Sends `request` and returns the whole answer, without the line that tells the time.
pub async fn ask(mut io: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> String {
    within("sending the request", io.write_all(request.as_bytes())).await.unwrap();
    let mut answer = String::new();
    within("the end of the answer", io.read_to_string(&mut answer)).await.unwrap();
    answer.split_inclusive("\r\n").filter(|line| !line.starts_with("Date: ")).collect()
}

/// A registry that the test plays by hand. That a request arrives is the signal that a test waits for.
pub struct HandRegistry {
    listener: TcpListener,
}

impl HandRegistry {
    pub async fn start() -> HandRegistry {
        HandRegistry { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    pub fn client(&self) -> RegistryClient {
        client_of(self.listener.local_addr().unwrap())
    }

    /// Waits for the next request.
    pub async fn request(&self) -> HandRequest {
        within("a request to the registry", self.accept()).await
    }

    /// Checks that no request comes in this time. It cannot fail wrongly, only pass wrongly.
    pub async fn expect_silence(&self, time: Duration) {
        if let Ok(request) = tokio::time::timeout(time, self.accept()).await {
            panic!("nobody should ask now, but then came {:?}", request.head);
        }
    }

    /// Answers every request in the same way, for as long as this is polled.
    pub async fn answer_all(&self, status: &str, headers: &[&str], body: &str) -> Infallible {
        loop {
            self.accept().await.answer(status, headers, body).await;
        }
    }

    async fn accept(&self) -> HandRequest {
        let (mut io, _) = self.listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(io.read_u8().await.expect("a whole request"));
        }
        HandRequest { io, head: String::from_utf8(head).unwrap() }
    }
}

/// A request that waits for its answer. Dropping it closes the connection without one.
pub struct HandRequest {
    io: TcpStream,
    /// The request line and the headers.
    pub head: String,
}

impl HandRequest {
    pub fn method(&self) -> &str {
        self.head.split(' ').next().unwrap()
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
        // Whoever asked may have gone, or may have read enough.
        within("sending the answer", self.io.write_all(answer.as_bytes())).await.ok();
    }

    /// Grants a lease.
    pub async fn grant(self, lease: Duration) {
        assert_eq!(self.method(), "POST", "{:?}", self.head);
        self.answer("200 OK", &[&lease_line(lease)], "{}").await;
    }

    /// Answers with a list.
    pub async fn list(self, lease: Duration, servers: &[&str]) {
        assert_eq!(self.method(), "GET", "{:?}", self.head);
        self.answer("200 OK", &[&lease_line(lease)], &serde_json::json!(servers).to_string()).await;
    }
}

fn lease_line(lease: Duration) -> String {
    format!("X-Rrpc-Lease-Ms: {}", lease.as_millis())
}
