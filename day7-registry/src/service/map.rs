//! The services of a server, by name. It is a handler: the one that most servers have.

pub mod listing;

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::{Arc, PoisonError, RwLock};

use crate::error::{Code, RemoteError};
use crate::server::handler::{Handler, HandlerFuture, Request};
use crate::service::{Service, ServiceError};

/// The services of a server, by name. It is a [`Handler`].
///
/// A clone is another handle on the same map: services can be added and removed while it serves.
///
/// A call of a name that is not `Service.method` fails with [`Code::INVALID_ARGUMENT`], one of an unknown service
/// or method with [`Code::UNIMPLEMENTED`] and a message that lists what there is, one with an argument of
/// another type with [`Code::INVALID_ARGUMENT`].
///
/// ```
/// use day7_registry::{Server, ServiceMap, service};
///
/// struct Arith;
/// impl Arith {
///     async fn sum(&self, (a, b): (i32, i32)) -> anyhow::Result<i32> { Ok(a + b) }
/// }
///
/// let services = ServiceMap::new();
/// services.add(service!("Arith", Arith, [sum])?)?;
/// let server = Server::new(services.clone()); // answers "Arith.sum"
/// # Ok::<(), day7_registry::ServiceError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct ServiceMap {
    services: Arc<RwLock<BTreeMap<String, Arc<Service>>>>,
}

impl ServiceMap {
    /// A map without services.
    pub fn new() -> ServiceMap {
        ServiceMap::default()
    }

    /// Adds a service; it can be called from now on.
    ///
    /// # Errors
    /// [`ServiceError::DuplicateService`] if the name is taken; nothing changes then.
    pub fn add(&self, service: Service) -> Result<(), ServiceError> {
        let mut services = self.services.write().unwrap_or_else(PoisonError::into_inner);
        if services.contains_key(service.name()) {
            return Err(ServiceError::DuplicateService(service.name().to_owned()));
        }
        services.insert(service.name().to_owned(), Arc::new(service));
        Ok(())
    }

    /// Removes a service and returns it, if it was there. Calls in flight go on to their end.
    pub fn remove(&self, name: &str) -> Option<Arc<Service>> {
        self.services.write().unwrap_or_else(PoisonError::into_inner).remove(name)
    }

    /// The service with this name.
    pub fn get(&self, name: &str) -> Option<Arc<Service>> {
        self.services.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// All services, sorted by name.
    pub fn services(&self) -> Vec<Arc<Service>> {
        self.services.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

impl Handler for ServiceMap {
    fn call(&self, request: Request) -> HandlerFuture {
        let name = request.service_method();
        let is_well_formed = |(service, method): &(&str, &str)| {
            !service.is_empty() && !method.is_empty() && !method.contains('.')
        };
        let Some((service_name, method_name)) = name.split_once('.').filter(is_well_formed) else {
            let text = format!("malformed method {name:?}: expected \"Service.method\"");
            return fail(Code::INVALID_ARGUMENT, text);
        };
        // The service is cloned out of the map, so that no lock is held while the method runs.
        let Some(service) = self.get(service_name) else {
            let services = self.services();
            let known = list(services.iter().map(|service| service.name()));
            return fail(
                Code::UNIMPLEMENTED,
                format!("unknown service {service_name:?}: this server has {known}"),
            );
        };
        let Some(method) = service.method(method_name) else {
            let known = list(service.methods().map(|(name, _)| name));
            return fail(Code::UNIMPLEMENTED, format!("unknown method {name:?}: this service has {known}"));
        };
        method.call(request)
    }
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn fail(code: Code, text: String) -> HandlerFuture {
    Box::pin(ready(Err(RemoteError::new(code, text).into())))
}
