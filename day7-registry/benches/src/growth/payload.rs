//! Larger and larger payloads: one echo after the other.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use day7_registry::{Codec, DEFAULT_MAX_BODY_LEN};

use super::{Order, Series};
use crate::compare;
use crate::machine;
use crate::numbers;
use crate::peers::{Caller, Peer, rrpc};
use crate::stats::Summary;
use crate::workload::Placement;

/// The largest payload is a whole body, but for the length that bincode writes before the bytes.
const LARGEST: usize = DEFAULT_MAX_BODY_LEN - 16;

/// What payloads are measured by.
pub(super) fn measure(quick: bool) -> Result<Vec<Series>> {
    let mut time = Series::new("one echo, us", Order::Linear);
    let (_server, addr) = compare::serve(Peer::RrpcBincode, Placement::Free)?;
    let runtime = machine::runtime()?;
    let client = runtime.block_on(rrpc::connect(addr, Codec::Bincode))?;
    for size in [1, 1024, 16 * 1024, 128 * 1024, 1024 * 1024, LARGEST] {
        // The first calls also make room for what follows.
        let (warm_up, times) = if quick { (2, 5) } else { (20, (100_000_000 / size).clamp(50, 2000)) };
        let median = runtime.block_on(async {
            let original = numbers::payload(size);
            let mut bytes = original.clone();
            let mut took = Vec::new();
            for _ in 0..warm_up + times {
                let start = Instant::now();
                bytes = client.echo(bytes).await?;
                took.push(start.elapsed().as_nanos() as f64 / 1e3);
            }
            ensure!(bytes == original, "other bytes came back than were sent");
            Ok(Summary::of(took.split_off(warm_up)).context("no measurement")?.median)
        })?;
        time.points.push((size, median));
        eprintln!("{size} bytes: {median:.1} us");
    }
    Ok(vec![time])
}
