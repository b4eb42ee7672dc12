//! Day 7: the whole system. Without arguments it tells its story in one process and ends; with `registry`,
//! `server`, `call` and `list` it is the real thing, in as many terminals as you like.
//!
//! ```sh
//! day7-registry registry [--addr 127.0.0.1:9999] [--lease 10s] [--host NAME]
//! day7-registry server   [--addr 127.0.0.1:0] [--http] [--registry URL [--service NAME] [--weight N] [--advertise ENDPOINT]]
//! day7-registry call     (--registry URL [--service NAME] [--mode MODE] | --to ENDPOINT) [--timeout 5s]
//!                        Arith.sum '{"num1":1,"num2":2}'   (- reads stdin)
//! day7-registry list     (--registry URL [--service NAME] | --to ENDPOINT) [--timeout 5s]
//! ```

mod cli;
mod story;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use day7_registry::{ServiceMap, service};
use serde::{Deserialize, Serialize};

#[tokio::main]
async fn main() -> ExitCode {
    match cli::run(story::tell()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => ExitCode::from(cli::print_error(&error)),
    }
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Sum {
    num1: i32,
    num2: i32,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Sleep {
    millis: u64,
}

#[derive(Serialize, Deserialize)]
struct Fail {
    message: String,
}

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
        Err(anyhow!(message))
    }
}

/// A map with the service `Arith`.
fn arith() -> anyhow::Result<ServiceMap> {
    let services = ServiceMap::new();
    services.add(service!("Arith", Arith, [sum, sleep, fail])?)?;
    Ok(services)
}
