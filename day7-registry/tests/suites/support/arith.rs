//! The demo service, as a type with methods.

use std::time::Duration;

use day7_registry::{Service, ServiceError, ServiceMap, service};

use super::{Fail, Sleep, Sum};

/// Adds, sleeps, fails and panics on demand.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arith;

impl Arith {
    pub async fn sum(&self, Sum { num1, num2 }: Sum) -> anyhow::Result<i32> {
        Ok(num1 + num2)
    }

    pub async fn sleep(&self, Sleep { millis }: Sleep) -> anyhow::Result<u64> {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        Ok(millis)
    }

    pub async fn fail(&self, Fail { message }: Fail) -> anyhow::Result<()> {
        Err(anyhow::Error::msg(message))
    }

    pub async fn panic(&self, (): ()) -> anyhow::Result<()> {
        panic!("this panic is part of the test")
    }
}

/// `Arith` as a service.
pub fn service() -> Result<Service, ServiceError> {
    service!("Arith", Arith, [sum, sleep, fail, panic])
}

/// A map with `Arith` in it, and nothing else.
pub fn services() -> ServiceMap {
    let services = ServiceMap::new();
    services.add(service().unwrap()).unwrap();
    services
}
