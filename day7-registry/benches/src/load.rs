//! The client's process: keeps calls in flight, checks every answer, and measures.
//!
//! Each caller is a task that makes one call after the other. The clock runs between two moments: after the
//! warm-up, and so many seconds later. What is read from the system at both (CPU time, TCP segments) covers the
//! same calls as the count.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::histogram::Histogram;
use crate::machine::{self, Reading};
use crate::numbers::{Numbers, payload};
use crate::peers::{Caller, Peer};
use crate::workload::{Kind, Workload};

/// A measurement goes on until so many calls were answered, but for no longer than this.
const MIN_CALLS: u64 = 20;
const MAX_WAIT: Duration = Duration::from_secs(20);
/// How many connections are being made at the same time: a listener's queue has 128 places.
pub(crate) const AT_ONCE: usize = 64;
/// How long all of them may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
/// How often the clock's thread looks whether the load goes on. Twenty looks a second take no time from it.
const LOOK: Duration = Duration::from_millis(50);

/// What one measurement found.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// How many calls were answered while the clock ran.
    pub(crate) calls: u64,
    /// How long it ran, in seconds.
    pub(crate) seconds: f64,
    /// Half of the calls took at most so long, in microseconds.
    pub(crate) p50: f64,
    /// 99 of 100 calls took at most so long, in microseconds. Of fewer than 100 calls it is the longest.
    pub(crate) p99: f64,
    /// CPU time of the server's process, user and system, in seconds.
    pub(crate) server_cpu: f64,
    /// CPU time of the client's process.
    pub(crate) client_cpu: f64,
    /// TCP segments that the whole machine has sent.
    pub(crate) segments: u64,
    /// Calls before, during and after: for dividing the instructions of a whole process.
    pub(crate) all_calls: u64,
}

impl Sample {
    pub(crate) fn calls_per_second(&self) -> f64 {
        self.calls as f64 / self.seconds
    }

    /// Server and client together, in microseconds.
    pub(crate) fn cpu_per_call(&self) -> f64 {
        (self.server_cpu + self.client_cpu) / self.calls as f64 * 1e6
    }

    pub(crate) fn segments_per_call(&self) -> f64 {
        self.segments as f64 / self.calls as f64
    }
}

/// What the callers write down.
pub(crate) struct Meter {
    running: AtomicBool,
    over: AtomicBool,
    /// Connections that are there, and where each waits for the others.
    connected: AtomicUsize,
    all_connected: Barrier,
    times: Histogram,
    /// Calls that were answered while the clock did not run.
    others: AtomicU64,
}

impl Meter {
    pub(crate) fn new(connections: usize) -> Meter {
        let (running, over) = (AtomicBool::new(false), AtomicBool::new(false));
        let (connected, others) = (AtomicUsize::new(0), AtomicU64::new(0));
        let all_connected = Barrier::new(connections);
        Meter { running, over, connected, all_connected, times: Histogram::new(), others }
    }

    /// One more connection is there, and its first call was answered. Returns when that is so for all of them.
    pub(crate) async fn connected(&self) {
        self.connected.fetch_add(1, Ordering::Relaxed);
        self.all_connected.wait().await;
    }

    /// A call was answered, with the right answer.
    pub(crate) fn record(&self, took: Duration) {
        if self.running.load(Ordering::Relaxed) {
            self.times.record(took);
        } else {
            self.others.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether to make no further calls.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn stop(&self) {
        self.running.store(false, Ordering::Relaxed);
        self.over.store(true, Ordering::Relaxed);
    }
}

/// What to measure, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) workload: Workload,
    /// How many connections; each has the workload's calls in flight.
    pub(crate) connections: usize,
    pub(crate) warm_up: Duration,
    pub(crate) duration: Duration,
}

/// Measures one peer, whose server is there already. The warm-up begins when all connections are there.
///
/// # Errors
/// A connection cannot be made, a call failed, its answer was wrong, or the load ended too early.
pub(crate) fn measure(peer: Peer, addr: SocketAddr, server_pid: i32, plan: Plan) -> Result<Sample> {
    let runtime = machine::runtime()?;
    let meter = Arc::new(Meter::new(plan.connections));
    let mut load = JoinSet::new();
    let start = Instant::now();
    // The clock is on a thread of its own: the runtime may be too busy to look at it in time.
    let wait_for = |load: &mut JoinSet<_>, wanted| {
        while meter.connected.load(Ordering::Relaxed) < wanted {
            watch(load, Duration::from_millis(1))?;
            ensure!(
                start.elapsed() < CONNECT_LIMIT,
                "connection {wanted} was not there after {CONNECT_LIMIT:?}"
            );
        }
        Ok(())
    };
    for number in 1..=plan.connections {
        wait_for(&mut load, number.saturating_sub(AT_ONCE))?;
        load.spawn_on(peer.drive(addr, plan.workload, Arc::clone(&meter)), runtime.handle());
    }
    wait_for(&mut load, plan.connections)?;
    watch(&mut load, plan.warm_up)?;
    let (before, start) = (Reading::take(server_pid)?, Instant::now());
    meter.running.store(true, Ordering::Relaxed);
    watch(&mut load, plan.duration)?;
    while meter.times.count() < MIN_CALLS && start.elapsed() < MAX_WAIT {
        watch(&mut load, Duration::from_millis(1))?;
    }
    meter.stop();
    let (after, seconds) = (Reading::take(server_pid)?, start.elapsed().as_secs_f64());
    runtime.block_on(async {
        while let Some(ended) = load.join_next().await {
            ended??;
        }
        anyhow::Ok(())
    })?;
    let calls = meter.times.count();
    ensure!(calls > 0, "not one call was answered in {seconds:.2} s");
    let micros = |share| meter.times.quantile(share).as_nanos() as f64 / 1e3;
    Ok(Sample {
        calls,
        seconds,
        p50: micros(0.5),
        p99: micros(0.99),
        server_cpu: after.server_cpu - before.server_cpu,
        client_cpu: after.client_cpu - before.client_cpu,
        segments: after.segments - before.segments,
        all_calls: calls + meter.others.load(Ordering::Relaxed),
    })
}

/// Sleeps for so long, and looks at the load meanwhile: nothing may end while the clock runs, or the figures would
/// be those of less load than the plan says.
///
/// # Errors
/// A part of the load has ended.
fn watch(load: &mut JoinSet<Result<()>>, duration: Duration) -> Result<()> {
    let start = Instant::now();
    loop {
        if let Some(ended) = load.try_join_next() {
            ended??;
            bail!("the load has ended by itself");
        }
        let left = duration.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(LOOK));
    }
}

/// Keeps the workload's calls in flight: one task for each.
///
/// # Errors
/// A call failed, or its answer was wrong.
pub(crate) async fn drive<C: Caller>(client: C, workload: Workload, meter: Arc<Meter>) -> Result<()> {
    // Until then, the connection may wait in the listener's queue.
    ensure!(client.sum(1, 2).await? == 3, "1 + 2 is not 3");
    meter.connected().await;
    let mut callers = JoinSet::new();
    for number in 0..workload.in_flight() {
        let (client, meter) = (client.clone(), Arc::clone(&meter));
        match workload.kind() {
            Kind::Sum => callers.spawn(async move { ask_sums(client, number, &meter).await }),
            Kind::Echo(len) => callers.spawn(async move { ask_echoes(client, len, &meter).await }),
        };
    }
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    Ok(())
}

async fn ask_sums<C: Caller>(client: C, number: usize, meter: &Meter) -> Result<()> {
    let mut numbers = Numbers::new(number);
    while !meter.is_over() {
        let (a, b) = numbers.next();
        let start = Instant::now();
        let sum = client.sum(a, b).await?;
        meter.record(start.elapsed());
        ensure!(i64::from(sum) == i64::from(a) + i64::from(b), "{a} + {b} is not {sum}");
    }
    Ok(())
}

async fn ask_echoes<C: Caller>(client: C, len: usize, meter: &Meter) -> Result<()> {
    let original = payload(len);
    let mut bytes = original.clone();
    while !meter.is_over() {
        let start = Instant::now();
        bytes = client.echo(bytes).await?;
        meter.record(start.elapsed());
        ensure!(bytes.len() == len, "{} bytes came back instead of {len}", bytes.len());
    }
    // Each reply was the next argument, so whatever was changed on the way is still changed.
    ensure!(bytes == original, "other bytes came back than were sent");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Longer than any of these tests takes.
    const DEADLINE: Duration = Duration::from_secs(10);

    /// Adds and echoes, makes one mistake, and ends the load after 200 calls, whether that was noticed or not.
    #[derive(Clone)]
    struct Wrong(Arc<Meter>);

    impl Caller for Wrong {
        async fn sum(&self, a: i32, b: i32) -> Result<i32> {
            Ok(a + b + i32::from(self.mistake().await))
        }

        async fn echo(&self, mut payload: Vec<u8>) -> Result<Vec<u8>> {
            payload[7] ^= u8::from(self.mistake().await);
            Ok(payload)
        }
    }

    impl Wrong {
        /// Whether to make the mistake now.
        async fn mistake(&self) -> bool {
            tokio::task::yield_now().await;
            let calls = self.0.others.load(Ordering::Relaxed);
            if calls >= 200 {
                self.0.stop();
            }
            calls == 100
        }
    }

    async fn complaint(workload: Workload) -> String {
        let meter = Arc::new(Meter::new(1));
        let load = drive(Wrong(Arc::clone(&meter)), workload, meter);
        tokio::time::timeout(DEADLINE, load).await.unwrap().unwrap_err().to_string()
    }

    #[tokio::test]
    async fn one_wrong_sum_among_many_is_an_error() {
        let error = complaint(Workload::Sum64).await;
        assert!(error.contains("is not"), "{error}");
    }

    #[tokio::test]
    async fn one_wrong_bit_in_an_echo_is_an_error() {
        let error = complaint(Workload::Echo1M).await;
        assert!(error.contains("other bytes"), "{error}");
    }

    #[test]
    fn a_load_that_fails_or_ends_is_noticed_before_the_time_is_up() {
        let runtime = machine::runtime().unwrap();
        let start = Instant::now();
        let complaint = |end: Result<()>| {
            let mut load = JoinSet::new();
            load.spawn_on(std::future::pending(), runtime.handle());
            load.spawn_on(async { end }, runtime.handle());
            watch(&mut load, 2 * DEADLINE).unwrap_err().to_string()
        };
        assert_eq!(complaint(Err(anyhow::anyhow!("refused"))), "refused");
        assert_eq!(complaint(Ok(())), "the load has ended by itself");
        assert!(start.elapsed() < DEADLINE);
    }

    #[test]
    fn a_load_that_goes_on_is_watched_to_the_end() {
        let runtime = machine::runtime().unwrap();
        let mut load = JoinSet::new();
        load.spawn_on(std::future::pending(), runtime.handle());
        let (start, duration) = (Instant::now(), 2 * LOOK);
        watch(&mut load, duration).unwrap();
        assert!(start.elapsed() >= duration);
    }
}
