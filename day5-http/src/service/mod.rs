//! Services: a name on the wire becomes a typed Rust method.
//!
//! ```text
//! "Arith.sum" ──▶ ServiceMap ── "Arith" ──▶ Service ── "sum" ──▶ decode ─▶ Arith::sum ─▶ encode
//! ```
//!
//! Go finds the methods of a type by reflection, when the program runs; a method with a wrong type is found
//! out at its first call, if at all. Rust has no reflection, so the table is written down when the program
//! is compiled: by hand with [`ServiceBuilder::method`], or by [`service!`](crate::service!) from a list of
//! names. A method that does not fit does not compile.

use std::any::type_name;
use std::collections::BTreeMap;
use std::fmt;
use std::future::ready;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::anyhow;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::server::handler::{Handler, HandlerFuture, Reply, Request};

/// Makes a [`Service`] from a name, a receiver and a list of its methods.
///
/// Each method is an `async fn(&self, argument) -> anyhow::Result<reply>`.
///
/// ```
/// # use std::sync::Arc;
/// # use day5_http::{Service, service};
/// # #[derive(Clone, Copy)]
/// # struct Arith;
/// # impl Arith {
/// #     async fn sum(&self, (a, b): (i32, i32)) -> anyhow::Result<i32> { Ok(a + b) }
/// #     async fn neg(&self, a: i32) -> anyhow::Result<i32> { Ok(-a) }
/// # }
/// let arith = service!("Arith", Arith, [sum, neg])?;
///
/// // The same, written by hand:
/// let arith = Service::builder("Arith", Arith)
///     .method("sum", |arith: Arc<Arith>, argument| async move { arith.sum(argument).await })
///     .method("neg", |arith: Arc<Arith>, argument| async move { arith.neg(argument).await })
///     .build()?;
/// # Ok::<(), day5_http::ServiceError>(())
/// ```
///
/// A method whose argument cannot be decoded, or whose reply cannot be encoded, does not compile:
///
/// ```compile_fail
/// # use day5_http::service;
/// struct Arith;
/// impl Arith {
///     async fn sum(&self, on_done: fn(i32)) -> anyhow::Result<i32> { Ok(0) }
/// }
/// let arith = service!("Arith", Arith, [sum]);
/// ```
#[macro_export]
macro_rules! service {
    ($name:expr, $receiver:expr, [$($method:ident),* $(,)?]) => {
        $crate::Service::builder($name, $receiver)
            $(.method(
                ::core::stringify!($method),
                |receiver: ::std::sync::Arc<_>, argument| async move { receiver.$method(argument).await },
            ))*
            .build()
    };
}

/// A service or a method that cannot be registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// A name that would not survive the way over the wire.
    #[error("bad name {0:?}: expected a letter or '_', then letters, digits or '_'")]
    BadName(String),
    /// Another service with this name is registered.
    #[error("service {0:?} is registered already")]
    DuplicateService(String),
    /// The service has another method with this name.
    #[error("service {service:?} has a method {method:?} already")]
    DuplicateMethod {
        /// The service.
        service: String,
        /// The method that was added twice.
        method: String,
    },
}

type Call = Box<dyn Fn(Request) -> HandlerFuture + Send + Sync>;

/// One method of a service.
pub struct Method {
    call: Call,
    argument: &'static str,
    reply: &'static str,
    calls: AtomicU64,
}

impl Method {
    /// The Rust type of the argument, without its path.
    pub fn argument_type(&self) -> String {
        short_type_name(self.argument)
    }

    /// The Rust type of the reply, without its path.
    pub fn reply_type(&self) -> String {
        short_type_name(self.reply)
    }

    /// How many calls have been handed to this method so far, including those that failed.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fn({}) -> {}", self.argument_type(), self.reply_type())
    }
}

/// A named set of methods. Made by [`service!`](crate::service!) or [`Service::builder`].
#[derive(Debug)]
pub struct Service {
    name: String,
    methods: BTreeMap<String, Method>,
}

impl Service {
    /// Starts a service: a name, and the receiver that all methods share.
    pub fn builder<T: Send + Sync + 'static>(name: impl Into<String>, receiver: T) -> ServiceBuilder<T> {
        let service = Service { name: name.into(), methods: BTreeMap::new() };
        let service = check_name(&service.name).map(|()| service);
        ServiceBuilder { receiver: Arc::new(receiver), service }
    }

    /// The part before the dot in `"Service.method"`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The methods by name, sorted.
    pub fn methods(&self) -> impl Iterator<Item = (&str, &Method)> {
        self.methods.iter().map(|(name, method)| (&**name, method))
    }

    /// The method with this name.
    pub fn method(&self, name: &str) -> Option<&Method> {
        self.methods.get(name)
    }
}

/// Builds a [`Service`], method by method.
pub struct ServiceBuilder<T> {
    receiver: Arc<T>,
    /// The first thing that went wrong is what [`build`](ServiceBuilder::build) reports.
    service: Result<Service, ServiceError>,
}

impl<T: Send + Sync + 'static> ServiceBuilder<T> {
    /// Adds a method: a function of the receiver and a decoded argument.
    pub fn method<A, R, F, Fut>(mut self, name: &str, function: F) -> Self
    where
        A: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
        F: Fn(Arc<T>, A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = anyhow::Result<R>> + Send + 'static,
    {
        let receiver = Arc::clone(&self.receiver);
        let call: Call = Box::new(move |request| match request.decode() {
            Ok(argument) => {
                let (codec, reply) = (request.codec(), function(Arc::clone(&receiver), argument));
                // The request stays behind: its body may be long, and so may the method take.
                Box::pin(async move { Ok(Reply::encode(codec, &reply.await?)?) })
            }
            Err(error) => fail(anyhow!("bad argument of {}: {error}", request.service_method())),
        });
        let method =
            Method { call, argument: type_name::<A>(), reply: type_name::<R>(), calls: AtomicU64::new(0) };
        self.service = self.service.and_then(|service| add_method(service, name, method));
        self
    }

    /// The finished service.
    ///
    /// # Errors
    /// [`ServiceError::BadName`] or [`ServiceError::DuplicateMethod`], whichever came first.
    pub fn build(self) -> Result<Service, ServiceError> {
        self.service
    }
}

fn add_method(mut service: Service, name: &str, method: Method) -> Result<Service, ServiceError> {
    check_name(name)?;
    if service.methods.contains_key(name) {
        return Err(ServiceError::DuplicateMethod { service: service.name, method: name.to_owned() });
    }
    service.methods.insert(name.to_owned(), method);
    Ok(service)
}

/// The services of a server. It is a [`Handler`].
///
/// A clone is another handle on the same map: services can be added and removed while it serves.
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
        if services.contains_key(&service.name) {
            return Err(ServiceError::DuplicateService(service.name));
        }
        services.insert(service.name.clone(), Arc::new(service));
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
        let (service_name, method_name) = match parse(request.service_method()) {
            Ok(names) => names,
            Err(error) => return fail(error),
        };
        let Some(service) = self.get(service_name) else {
            let services = self.services();
            let known = services.iter().map(|service| service.name());
            return fail(unknown("service", service_name, "this server has", known));
        };
        let Some(method) = service.method(method_name) else {
            let known = service.methods().map(|(name, _)| name);
            return fail(unknown("method", request.service_method(), "this service has", known));
        };
        method.calls.fetch_add(1, Ordering::Relaxed);
        (method.call)(request)
    }
}

/// Splits `"Service.method"`.
fn parse(service_method: &str) -> anyhow::Result<(&str, &str)> {
    service_method
        .split_once('.')
        .filter(|(service, method)| check_name(service).and(check_name(method)).is_ok())
        .ok_or_else(|| anyhow!("malformed method {service_method:?}: expected \"Service.method\""))
}

fn unknown<'a>(what: &str, name: &str, has: &str, known: impl Iterator<Item = &'a str>) -> anyhow::Error {
    let known: Vec<_> = known.collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    anyhow!("unknown {what} {name:?}: {has} {known}")
}

fn fail(error: anyhow::Error) -> HandlerFuture {
    Box::pin(ready(Err(error)))
}

fn check_name(name: &str) -> Result<(), ServiceError> {
    let starts_well = name.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic());
    if starts_well && name.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric()) {
        return Ok(());
    }
    Err(ServiceError::BadName(name.to_owned()))
}

/// `alloc::vec::Vec<demo::Sum>` → `Vec<Sum>`.
fn short_type_name(full: &str) -> String {
    // The braces: a type inside of an async block has a path such as `main::{{closure}}::Sum`.
    let is_path = |c: char| c.is_alphanumeric() || "_:{}".contains(c);
    let parts = full.split_inclusive(|c| !is_path(c));
    parts.map(|part| part.rsplit("::").next().unwrap_or(part)).collect()
}
