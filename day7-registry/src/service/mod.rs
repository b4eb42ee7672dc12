//! Services: a name on the wire becomes a typed Rust method.
//!
//! ```text
//! "Arith.sum" ──▶ ServiceMap ── "Arith" ──▶ Service ── "sum" ──▶ decode ─▶ Arith::sum ─▶ encode
//! ```
//!
//! Go finds the methods of a type by reflection, when the program runs; a method with a wrong type is found
//! out at its first call, if at all. Rust has no reflection, so the table is written down when the program
//! is compiled: by [`contract!`](crate::contract!) from a trait, by [`service!`](crate::service!) from a list of
//! names, or by hand with [`ServiceBuilder::method`]. A method that does not fit does not compile.

pub mod contract;
pub mod map;

use std::any::type_name;
use std::collections::BTreeMap;
use std::fmt;
use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::server::handler::{HandlerFuture, Reply, Request};

/// Makes a [`Service`] from a name, a receiver and a list of its methods: what Go does by reflection.
///
/// Each method is an `async fn(&self, argument) -> anyhow::Result<reply>`.
///
/// ```
/// # use std::sync::Arc;
/// # use day7_registry::{Service, service};
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
/// # Ok::<(), day7_registry::ServiceError>(())
/// ```
///
/// A method whose argument cannot be decoded, or whose reply cannot be encoded, does not compile:
///
/// ```compile_fail
/// # use day7_registry::service;
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
                // What is in the `Arc`: it has methods of its own, such as `clone`.
                |receiver: ::std::sync::Arc<_>, argument| async move { (*receiver).$method(argument).await },
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

/// One method of a service.
pub struct Method {
    function: Box<dyn Fn(Request, Running) -> HandlerFuture + Send + Sync>,
    argument: &'static str,
    reply: &'static str,
    counters: Arc<Counters>,
}

/// Counts that many threads change at once: each is exact, and no two are read at the same instant.
#[derive(Debug, Default)]
struct Counters {
    calls: AtomicU64,
    errors: AtomicU64,
    in_flight: AtomicU64,
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

    /// How many calls have been handed to this method so far.
    pub fn calls(&self) -> u64 {
        self.counters.calls.load(Relaxed)
    }

    /// How many calls have ended without a value: with an error, by a panic, or because they were stopped.
    pub fn errors(&self) -> u64 {
        self.counters.errors.load(Relaxed)
    }

    /// How many calls are running now.
    pub fn in_flight(&self) -> u64 {
        self.counters.in_flight.load(Relaxed)
    }

    fn call(&self, request: Request) -> HandlerFuture {
        self.counters.calls.fetch_add(1, Relaxed);
        self.counters.in_flight.fetch_add(1, Relaxed);
        let running = Running { counters: Arc::clone(&self.counters), succeeded: false };
        (self.function)(request, running)
    }
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fn({}) -> {}", self.argument_type(), self.reply_type())
    }
}

/// A call that is counted as in flight until this is dropped, however it ends.
struct Running {
    counters: Arc<Counters>,
    succeeded: bool,
}

impl Running {
    fn succeed(mut self) {
        self.succeeded = true;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.counters.in_flight.fetch_sub(1, Relaxed);
        if !self.succeeded {
            self.counters.errors.fetch_add(1, Relaxed);
        }
    }
}

/// A named set of methods. Made by [`contract!`](crate::contract!), [`service!`](crate::service!) or
/// [`Service::builder`].
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
#[derive(Debug)]
pub struct ServiceBuilder<T> {
    receiver: Arc<T>,
    /// The first thing that went wrong is what [`build`](ServiceBuilder::build) reports.
    service: Result<Service, ServiceError>,
}

impl<T: Send + Sync + 'static> ServiceBuilder<T> {
    /// Adds a method: a function of the receiver and a decoded argument.
    ///
    /// Its future may move to another thread at any `await`. One that holds an `Rc` there does not compile:
    ///
    /// ```compile_fail
    /// # use day7_registry::Service;
    /// Service::builder("Clock", ()).method("tick", |_, (): ()| async {
    ///     let ticks = std::rc::Rc::new(1);
    ///     tokio::task::yield_now().await;
    ///     Ok(*ticks)
    /// });
    /// ```
    pub fn method<A, R, F, Fut>(mut self, name: &str, function: F) -> Self
    where
        A: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
        F: Fn(Arc<T>, A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = anyhow::Result<R>> + Send + 'static,
    {
        let receiver = Arc::clone(&self.receiver);
        let function = move |request: Request, running: Running| -> HandlerFuture {
            let argument = match request.decode() {
                Ok(argument) => argument,
                Err(error) => return Box::pin(ready(Err(error.into()))),
            };
            // The request stays behind: its body may be long, and so may the method take.
            let (codec, reply) = (request.codec(), function(Arc::clone(&receiver), argument));
            Box::pin(async move {
                let reply = Reply::encode(codec, &reply.await?)?;
                running.succeed();
                Ok(reply)
            })
        };
        let method = Method {
            function: Box::new(function),
            argument: type_name::<A>(),
            reply: type_name::<R>(),
            counters: Arc::default(),
        };
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
