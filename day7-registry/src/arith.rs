//! The service that the demo's servers offer.

use std::time::Duration;

use anyhow::{Context, anyhow};
use day7_registry::{ServiceMap, service};
use serde::{Deserialize, Serialize};

/// The argument of `Arith.sum`.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Sum {
    pub(crate) num1: i32,
    pub(crate) num2: i32,
}

/// The argument of `Arith.sleep`.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Sleep {
    pub(crate) millis: u64,
}

/// The argument of `Arith.fail`.
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
pub(crate) fn arith() -> anyhow::Result<ServiceMap> {
    let services = ServiceMap::new();
    services.add(service!("Arith", Arith, [sum, sleep, fail])?)?;
    Ok(services)
}
