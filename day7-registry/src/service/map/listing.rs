//! What a server offers, for programs: a service that lists the services of a map.
//!
//! The debug page shows the same to people. A server offers the list only if it adds that service to its map.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::service::map::ServiceMap;
use crate::service::{Method, Service};

/// The method that lists the services of a server: its argument is `()`, its reply a list of [`ServiceInfo`].
pub const LIST_METHOD: &str = "Services.list";

/// A service of a server, as [`LIST_METHOD`] describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ServiceInfo {
    /// The part before the dot in `"Service.method"`.
    pub name: String,
    /// The methods, sorted by name.
    pub methods: Vec<MethodInfo>,
}

/// A method of a service, as [`LIST_METHOD`] describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MethodInfo {
    /// The part behind the dot in `"Service.method"`.
    pub name: String,
    /// The Rust type of the argument: see [`Method::argument_type`].
    pub argument: String,
    /// The Rust type of the reply: see [`Method::reply_type`].
    pub reply: String,
    /// See [`Method::calls`].
    pub calls: u64,
    /// See [`Method::errors`].
    pub errors: u64,
    /// See [`Method::in_flight`].
    pub in_flight: u64,
}

impl ServiceMap {
    /// A service that answers [`LIST_METHOD`] with what is in this map at the time of the call. Any client of the
    /// server can then read the names, the types and the counters.
    ///
    /// ```
    /// # use day7_registry::{Client, Options, Server, ServiceInfo, ServiceMap, LIST_METHOD};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> anyhow::Result<()> {
    /// let services = ServiceMap::new();
    /// services.add(services.listing())?;
    /// # let (ours, theirs) = tokio::io::duplex(4096);
    /// # tokio::spawn(async move { Server::new(services).serve_connection(theirs).await });
    /// # let client = Client::handshake(ours, &Options::default()).await?;
    ///
    /// let list: Vec<ServiceInfo> = client.call(LIST_METHOD, &()).await?;
    /// assert_eq!(list[0].name, "Services");
    /// # Ok(()) }
    /// ```
    pub fn listing(&self) -> Service {
        // Weak: the map is going to own this service, and must not be owned by it.
        Service::builder("Services", Arc::downgrade(&self.services))
            .method("list", |services, (): ()| async move {
                let map = services.upgrade().map(|services| ServiceMap { services }).unwrap_or_default();
                Ok(map.services().iter().map(|service| ServiceInfo::of(service)).collect::<Vec<_>>())
            })
            .build()
            .expect("both names are good")
    }
}

impl ServiceInfo {
    fn of(service: &Service) -> ServiceInfo {
        let methods = service.methods().map(|(name, method)| MethodInfo::of(name, method)).collect();
        ServiceInfo { name: service.name().to_owned(), methods }
    }
}

impl MethodInfo {
    fn of(name: &str, method: &Method) -> MethodInfo {
        MethodInfo {
            name: name.to_owned(),
            argument: method.argument_type(),
            reply: method.reply_type(),
            calls: method.calls(),
            errors: method.errors(),
            in_flight: method.in_flight(),
        }
    }
}
