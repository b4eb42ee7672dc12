//! The command line, as a shell sees it: what it prints, and the code that it ends with.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use day7_registry::{Request, Server};
use serde_json::value::RawValue;

/// Far more than anything here needs.
const DEADLINE: Duration = Duration::from_secs(30);

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_day7-registry"));
    command.args(args).env_remove("RUST_LOG");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A server or a registry. It ends with this value.
struct Running {
    child: Child,
    /// What it prints when it listens.
    place: String,
}

impl Running {
    fn start(args: &[&str]) -> Running {
        Running::start_with(args, Stdio::null())
    }

    fn start_with(args: &[&str], stderr: Stdio) -> Running {
        let mut child = command(args).stderr(stderr).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, first_line) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            stdout.read_line(&mut line).ok();
            sender.send(line).ok();
        });
        let line = first_line.recv_timeout(DEADLINE);
        let place = line.unwrap_or_else(|_| panic!("never happened: {args:?} prints a line"));
        assert!(!place.is_empty(), "{args:?} has ended at once");
        Running { child, place: place.trim().to_owned() }
    }

    /// The place with another protocol.
    fn as_if(&self, protocol: &str) -> String {
        format!("{protocol}@{}", self.place.split_once('@').unwrap().1)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Runs a command to its end.
fn run(args: &[&str]) -> Output {
    run_with(command(args), b"")
}

fn run_with(mut command: Command, stdin: &[u8]) -> Output {
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin).unwrap();
    ended(&mut child, &format!("{command:?}"));
    child.wait_with_output().unwrap()
}

fn ended(child: &mut Child, what: &str) -> Option<i32> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if started.elapsed() > DEADLINE {
            child.kill().ok();
            panic!("never happened: the end of {what}");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A server that answers each call with its argument, as it was written.
async fn echo() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("tcp@{}", listener.local_addr().unwrap());
    let server = Server::new(async |request: Request| {
        let argument: Box<RawValue> = request.decode()?;
        Ok(request.reply(&argument)?)
    });
    tokio::spawn(async move { server.serve(listener).await });
    endpoint
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_sent_and_printed_as_they_were_written() {
    let endpoint = echo().await;
    let values =
        ["12345678901234567890123456789", "-5", "-0.10", "1e400", r#"{"b":1,"a":[2]}"#, r#""\u001b""#];
    for value in values {
        let output = run(&["call", "--to", &endpoint, "A.b", value]);
        assert_eq!(stdout(&output).trim_end(), value);
    }
    assert_eq!(stdout(&run(&["call", "--to", &endpoint, "A.b"])), "null\n", "no argument is ()");
    let output = run_with(command(&["call", "--to", &endpoint, "A.b", "-"]), b"[1,\n\t2]\n");
    assert_eq!(stdout(&output), "[1,  2]\n", "- is stdin, and the reply is one line");
    // A control character that JSON allows in a text must not reach the terminal.
    let output = run(&["call", "--to", &endpoint, "A.b", "\"\u{9b}31m\""]);
    assert_eq!(stdout(&output), "\"\\u009b31m\"\n");
}

#[test]
fn each_kind_of_failure_has_its_exit_code() {
    let (plain, http) = (Running::start(&["server"]), Running::start(&["server", "--http"]));
    let to = plain.place.as_str();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (dead, dead_registry) = (format!("tcp@{nobody}"), format!("http://{nobody}"));
    let (wrong, wrong_too) = (plain.as_if("http"), http.as_if("tcp"));
    let cases: &[(i32, &[&str])] = &[
        (2, &["call", "--to", to]),
        (2, &["call", "Arith.sum"]),
        (2, &["call", "--to", "localhost", "Arith.sum"]),
        (2, &["call", "--to", to, "--registry", "http://localhost", "Arith.sum"]),
        (2, &["call", "--to", to, "--timeout", "0s", "Arith.sum"]),
        (2, &["call", "--to", to, "Arith.sum", "{"]),
        (2, &["call", "--to", to, "Arith.sum", "1 2"]),
        (2, &["server", "--weight", "2"]),
        (2, &["server", "--addr", "0.0.0.0:0", "--registry", &dead_registry]),
        (3, &["call", "--to", to, "Arith.sum", "{}"]),
        (3, &["call", "--to", to, "Arith.nope"]),
        (3, &["call", "--to", to, "Arith.fail", r#"{"message":"x"}"#]),
        (4, &["call", "--to", to, "--timeout", "100ms", "Arith.sleep", r#"{"millis":60000}"#]),
        (5, &["call", "--to", &dead, "Arith.sum"]),
        (5, &["call", "--registry", &dead_registry, "Arith.sum"]),
        (5, &["list", "--registry", &dead_registry]),
        (5, &["call", "--to", &wrong, "Arith.sum"]),
        (5, &["call", "--to", &wrong_too, "Arith.sum"]),
    ];
    for (code, args) in cases {
        let output = run(args);
        assert_eq!(output.status.code(), Some(*code), "{args:?}: {output:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{args:?}: {output:?}");
    }
    let mut bad_log = command(&["call", "--to", to, "Arith.sum"]);
    bad_log.env("RUST_LOG", "day7_registry=loud");
    assert_eq!(run_with(bad_log, b"").status.code(), Some(2), "RUST_LOG is not ignored");
}

#[test]
fn text_of_a_peer_is_escaped() {
    let server = Running::start(&["server"]);
    let message = r#"{"message":"\u001b]0;owned\u0007\nforged"}"#;
    let output = run(&["call", "--to", &server.place, "Arith.fail", message]);
    let lines = output.stderr.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
    assert!(!output.stderr.contains(&0x1b) && lines == 1, "{output:?}");
}

#[test]
fn list_shows_servers_of_a_registry_and_methods_of_a_server() {
    let registry = Running::start(&["registry", "--addr", "127.0.0.1:0"]);
    let url = registry.place.as_str();
    let away = "tcp@192.0.2.1:9";
    let server = Running::start(&["server", "--registry", url, "--service", "Arith", "--weight", "3"]);
    let _advertised = Running::start(&["server", "--registry", url, "--advertise", away]);
    let servers = |args: &[&str]| -> Vec<String> {
        let table = stdout(&run(&[&["list", "--registry", url], args].concat()));
        table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    };
    let eventually = |args: &[&str], expected: &[String]| {
        let started = Instant::now();
        while servers(args) != expected {
            assert!(started.elapsed() < DEADLINE, "never happened: {expected:?}, but {:?}", servers(args));
        }
    };
    eventually(&["--service", "Arith"], &[format!("{} 3", server.place)]);
    eventually(&[], &[format!("{away} 1")]);

    let sum = ["call", "--registry", url, "--service", "Arith", "Arith.sum", r#"{"num1":1,"num2":2}"#];
    assert_eq!(stdout(&run(&sum)), "3\n");
    let methods = stdout(&run(&["list", "--to", &server.place]));
    let sum = methods.lines().find(|line| line.starts_with("Arith.sum ")).expect("a line for Arith.sum");
    assert_eq!(sum.split_whitespace().collect::<Vec<_>>(), ["Arith.sum", "Sum", "i32", "1", "0", "0"]);
}

#[cfg(unix)]
#[test]
fn a_server_that_is_terminated_leaves_the_registry_and_ends_well() {
    let registry = Running::start(&["registry", "--addr", "127.0.0.1:0"]);
    let url = registry.place.as_str();
    let mut server = Running::start(&["server", "--registry", url]);
    let started = Instant::now();
    while !stdout(&run(&["list", "--registry", url])).contains(&server.place) {
        assert!(started.elapsed() < DEADLINE, "never happened: the server is listed");
    }
    terminate(&mut server);
    assert!(!stdout(&run(&["list", "--registry", url])).contains(&server.place));
}

/// The reader of the log has gone, as in `server 2>&1 | head`. Each line that is written fails.
#[cfg(unix)]
#[test]
fn a_log_that_cannot_be_written_stops_nothing() {
    let (reader, stderr) = std::io::pipe().unwrap();
    let mut server = Running::start_with(&["server", "-vv"], stderr.into());
    drop(reader);
    for _ in 0..3 {
        let failed = run(&["call", "--to", &server.place, "Arith.fail", r#"{"message":"for the log"}"#]);
        let text = String::from_utf8_lossy(&failed.stderr);
        assert!(failed.status.code() == Some(3) && text.contains("for the log"), "{failed:?}");
    }
    let sum = run(&["call", "--to", &server.place, "Arith.sum", r#"{"num1":1,"num2":2}"#]);
    assert_eq!(stdout(&sum), "3\n");
    terminate(&mut server);
}

#[cfg(unix)]
fn terminate(server: &mut Running) {
    let kill = format!("kill -TERM {}", server.child.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    assert_eq!(ended(&mut server.child, "the server"), Some(0));
}
