//! An etcd cluster of processes on the loopback, for the story and the tests.
//!
//! The program is the one that the variable `ETCD` names, or `target/etcd/usr/bin/etcd` of the course, or `etcd`.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use rrpc_etcd::Member;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// Each cluster has an address of its own for each member: all of 127.0.0.0/8 is this machine.
static CLUSTERS: AtomicU8 = AtomicU8::new(0);

/// Some members. They end, and their data is removed, when this is dropped.
pub(crate) struct Cluster {
    dir: PathBuf,
    addresses: Vec<Ipv4Addr>,
    members: Vec<Option<Child>>,
}

impl Cluster {
    /// Starts members, and waits until they answer.
    pub(crate) async fn start(members: u8) -> anyhow::Result<Cluster> {
        let [high, low] = (std::process::id() as u16).to_be_bytes();
        let number = CLUSTERS.fetch_add(1, Ordering::Relaxed);
        let address = |member| Ipv4Addr::new(127, 16 + 8 * (number % 28) + member, high, low);
        let dir = std::env::temp_dir().join(format!("rrpc-etcd-{}-{number}", std::process::id()));
        let addresses: Vec<_> = (0..members).map(address).collect();
        let mut cluster = Cluster { dir, members: addresses.iter().map(|_| None).collect(), addresses };
        for member in 0..cluster.members.len() {
            cluster.restart(member)?;
        }
        cluster.wait_until_healthy().await?;
        Ok(cluster)
    }

    /// Where the members answer.
    pub(crate) fn members(&self) -> Vec<Member> {
        let uri = |address| format!("http://{address}:2379").parse().expect("an address is a good URI");
        self.addresses.iter().map(uri).collect()
    }

    /// Starts a member, with the data that it had.
    pub(crate) fn restart(&mut self, member: usize) -> anyhow::Result<()> {
        let at = |member: usize, port| format!("http://{}:{port}", self.addresses[member]);
        let peers: Vec<_> =
            (0..self.addresses.len()).map(|peer| format!("m{peer}={}", at(peer, 2380))).collect();
        let (client, peer) = (at(member, 2379), at(member, 2380));
        let program = program();
        let mut etcd = Command::new(&program);
        etcd.arg("--name").arg(format!("m{member}"));
        etcd.arg("--data-dir").arg(self.dir.join(format!("m{member}")));
        etcd.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        etcd.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        etcd.args(["--initial-cluster", &peers.join(",")]);
        etcd.args(["--heartbeat-interval", "50", "--election-timeout", "500"]);
        etcd.args(["--logger", "zap", "--log-level", "error", "--unsafe-no-fsync"]);
        let started = etcd.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn();
        let started = started.with_context(|| format!("cannot start {}: see the README", program.display()));
        self.members[member] = Some(started?);
        Ok(())
    }

    /// Ends a member as a power cut would.
    pub(crate) async fn kill(&mut self, member: usize) -> anyhow::Result<()> {
        if let Some(mut child) = self.members[member].take() {
            child.kill().await?;
        }
        Ok(())
    }

    /// The member that leads now.
    pub(crate) async fn leader(&self) -> anyhow::Result<usize> {
        for member in 0..self.addresses.len() {
            let status = self.post(member, "/v3/maintenance/status", "{}").await?;
            let own = text_field(&status, "member_id").context("a status names its member")?;
            if text_field(&status, "leader") == Some(own) {
                return Ok(member);
            }
        }
        anyhow::bail!("no member leads")
    }

    /// One request to one member, by hand.
    pub(crate) async fn post(&self, member: usize, path: &str, body: &str) -> anyhow::Result<String> {
        let host = self.addresses[member];
        let mut stream = TcpStream::connect((host, 2379)).await?;
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    async fn wait_until_healthy(&self) -> anyhow::Result<()> {
        let read = r#"{"key":"AA=="}"#; // it needs a leader
        for _ in 0..600 {
            let answers = self.post(self.addresses.len() - 1, "/v3/kv/range", read).await;
            if answers.is_ok_and(|answer| answer.contains("200 OK")) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        ensure!(program().exists(), "{} is not there: see the README", program().display());
        anyhow::bail!("the cluster did not come up within 30 s")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.members.clear();
        std::fs::remove_dir_all(&self.dir).ok();
    }
}

/// The text of a field, without a parser: these answers have each name once.
pub(crate) fn text_field<'a>(json: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = json.split_once(&format!("\"{name}\":\""))?;
    rest.split('"').next()
}

fn program() -> PathBuf {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/etcd/usr/bin/etcd");
    match std::env::var_os("ETCD") {
        Some(program) => program.into(),
        None if unpacked.exists() => unpacked,
        None => "etcd".into(),
    }
}
