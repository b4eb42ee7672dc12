//! The demo service, as a contract: its server's side is `Cpu`, its client's side is `ArithClient`.

use std::time::Duration;

use day6_loadbalance::{Code, RemoteError, Service, ServiceMap, contract};

use super::{Fail, Sleep, Sum};

contract! {
    /// Adds, sleeps, fails and panics on demand.
    pub trait Arith, client ArithClient {
        /// Adds two numbers.
        async fn sum(Sum) -> i32;
        /// Takes its time.
        async fn sleep(Sleep) -> u64;
        /// Fails with this message.
        async fn fail(Fail) -> ();
        /// Has a bug.
        async fn panic(()) -> ();
    }
}

/// The receiver.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu;

impl Arith for Cpu {
    async fn sum(&self, Sum { num1, num2 }: Sum) -> anyhow::Result<i32> {
        let too_large = || RemoteError::new(Code::OUT_OF_RANGE, format!("{num1} + {num2} is too large"));
        Ok(num1.checked_add(num2).ok_or_else(too_large)?)
    }

    async fn sleep(&self, Sleep { millis }: Sleep) -> anyhow::Result<u64> {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        Ok(millis)
    }

    async fn fail(&self, Fail { message }: Fail) -> anyhow::Result<()> {
        Err(anyhow::Error::msg(message))
    }

    async fn panic(&self, (): ()) -> anyhow::Result<()> {
        panic!("this panic is part of the test")
    }
}

/// `Arith` as a service.
pub fn service() -> Service {
    Cpu.into_service().unwrap()
}

/// A map with `Arith` in it, and nothing else.
pub fn services() -> ServiceMap {
    let services = ServiceMap::new();
    services.add(service()).unwrap();
    services
}
