//! What the suites share: deadlines, a raw peer that knows nothing of the library, faulty streams.
#![allow(dead_code, unreachable_pub)] // every suite uses a part of it

pub mod arith;
pub mod client;
pub mod io;
pub mod peer;
pub mod sink;

use std::future::poll_fn;
use std::panic::Location;
use std::pin::{Pin, pin};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::task::Poll;
use std::time::Duration;

use day3_service::{Code, Error, Handler, Listener, RemoteError, Reply, Request, Server};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, DuplexStream, duplex};
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use self::peer::Peer;

/// The longest that one step of a test may take.
pub const STEP: Duration = Duration::from_secs(5);
/// The longest that a whole test may take, even if it blocks the thread and no timer can fire.
const TEST: Duration = Duration::from_secs(20);

/// Runs a test on a runtime with one thread. See [`run_on`].
pub fn run(test: impl AsyncFnOnce() + Send + 'static) {
    run_on(Builder::new_current_thread(), Box::new(|| Box::pin(test())));
}

/// Runs a test on a runtime with several threads. See [`run_on`].
pub fn run_threads(test: impl AsyncFnOnce() + Send + 'static) {
    let mut runtime = Builder::new_multi_thread();
    runtime.worker_threads(2);
    run_on(runtime, Box::new(|| Box::pin(test())));
}

/// Runs a test on a paused clock: time stands still while anything can run, then jumps to the next timer.
/// Only for tests without sockets: use `tokio::io::duplex`.
pub fn run_paused(test: impl AsyncFnOnce() + Send + 'static) {
    let mut runtime = Builder::new_current_thread();
    runtime.start_paused(true);
    run_on(runtime, Box::new(|| Box::pin(test())));
}

/// One type for all tests: what runs them is compiled once, and not once for each.
type Test = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// Runs a test in a thread of its own, and fails if it is not done in time. A solution that spins without
/// ever awaiting would stop every timer of its runtime; it cannot stop this one.
fn run_on(mut runtime: Builder, test: Test) {
    let (done, waiting) = channel::<()>();
    let thread = std::thread::spawn(move || {
        let _done = done; // dropped at the end, or by a panic
        runtime.enable_all().build().unwrap().block_on(test());
    });
    if waiting.recv_timeout(TEST) == Err(RecvTimeoutError::Timeout) {
        panic!("the test did not end within {TEST:?}: something blocks its thread or waits without end");
    }
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs a test in a process of its own, because it looks at what all tests of a process share: memory, or the log.
/// `module` is the test's `module_path!()`, and `name` is its name.
pub fn alone(module: &str, name: &str, test: impl FnOnce()) {
    const ALONE: &str = "RRPC_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return test();
    }
    // The harness knows a test by its path without the name of the test program.
    let path = module.split_once("::").map_or(name.to_owned(), |(_, module)| format!("{module}::{name}"));
    let program = std::env::current_exe().unwrap();
    let mut command = std::process::Command::new(program);
    let output = command.args(["--exact", &path, "--nocapture"]).env(ALONE, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || !text.contains("test result: ok. 1 passed") {
        eprint!("{}{text}", String::from_utf8_lossy(&output.stderr));
        std::panic::resume_unwind(Box::new("it failed in a process of its own"));
    }
}

/// Waits for `future`, and fails with what never happened if it takes more than [`STEP`]. The message says who
/// waited, as the place of such a panic is here.
#[track_caller]
pub fn within<T>(what: &str, future: impl Future<Output = T>) -> impl Future<Output = T> {
    within_at(Location::caller(), what, future)
}

/// The place in a test that waits.
pub type Caller = &'static Location<'static>;

/// The same for a helper that was called there. Such a helper is `#[track_caller]`, which an `async fn` cannot
/// be, and so returns a future.
pub async fn within_at<T>(caller: Caller, what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(STEP, future).await {
        Ok(value) => value,
        Err(_) => panic!("never happened within {STEP:?}: {what} (awaited at {caller})"),
    }
}

/// Waits until `condition` holds, and fails with what never happened if it takes more than [`STEP`].
/// For what has no signal to wait for, such as the number of [`alive_tasks`].
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let poll = async move {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    within(what, poll)
}

/// Polls a future once, then drops it: what `select!` does to the branch that loses.
pub async fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// Reads and compares as it goes, so that a wrong length fails as a difference and not as a long wait.
#[track_caller]
pub fn expect_bytes<Io: AsyncRead + Unpin>(io: &mut Io, expected: &[u8]) -> impl Future<Output = ()> {
    let caller = Location::caller();
    async move {
        let mut got = Vec::new();
        while got.len() < expected.len() {
            let mut buf = vec![0; expected.len() - got.len()];
            let n = within_at(caller, "the bytes of the answer", io.read(&mut buf)).await.unwrap();
            got.extend_from_slice(&buf[..n]);
            let same = n > 0 && expected.starts_with(&got);
            let (got, expected) = (got.escape_ascii(), expected.escape_ascii());
            assert!(same, "\n     got {got}\nexpected {expected}\n(awaited at {caller})");
        }
    }
}

/// Sends one message when it is dropped.
pub struct OnDrop(pub mpsc::UnboundedSender<()>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.send(()).ok();
    }
}

/// How much memory the process has touched and not given back, in KiB. For a test that runs [`alone`].
#[cfg(target_os = "linux")]
pub fn resident_kib() -> usize {
    status_kib("VmRSS:")
}

/// How much memory the process has asked for and not given back, touched or not, in KiB. For a test that runs [`alone`].
#[cfg(target_os = "linux")]
pub fn allocated_kib() -> usize {
    status_kib("VmSize:")
}

#[cfg(target_os = "linux")]
fn status_kib(field: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// How many tasks of this test's runtime have not ended.
pub fn alive_tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// A server that runs on a free port of the loopback interface until this is dropped.
pub struct Running {
    /// Where it listens.
    pub addr: std::net::SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts `server` on a free port. It listens when this returns.
pub async fn start(server: Server) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    start_on(server, listener, addr)
}

/// Starts `server` on any listener.
pub fn start_on<L: Listener + 'static>(server: Server, listener: L, addr: std::net::SocketAddr) -> Running {
    Running { addr, task: tokio::spawn(async move { server.serve(listener).await }) }
}

/// Serves one connection in memory. The task's outcome is what `serve_connection` returned.
pub fn serve_in_memory(server: Server) -> (Peer<DuplexStream>, JoinHandle<Result<(), Error>>) {
    let (client, io) = duplex(64 * 1024);
    (Peer { io: client }, tokio::spawn(async move { server.serve_connection(io).await }))
}

/// The two numbers that `Arith.sum` adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    pub num1: i32,
    pub num2: i32,
}

/// The argument of `Arith.sleep`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Sleep {
    pub millis: u64,
}

/// The argument of `Arith.fail`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fail {
    pub message: String,
}

/// The demo service as a plain handler: `Arith.sum`, `Arith.sleep`, `Arith.fail`, and `Arith.panic`.
pub fn arith() -> impl Handler {
    async |request: Request| -> anyhow::Result<Reply> {
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
            "Arith.panic" => panic!("this panic is part of the test"),
            other => {
                Err(RemoteError::new(Code::UNIMPLEMENTED, format!("there is no method {other:?}")).into())
            }
        }
    }
}
