//! Contracts: one list of methods, from which both sides are made.
//!
//! ```text
//!                 ┌──▶ trait Arith { sum, … } ──▶ into_service() ──▶ ServiceMap    the server
//! contract! { … } ┤
//!                 └──▶ struct ArithClient ──▶ client.sum(&…).await                 the client
//! ```
//!
//! A name on the wire is text, and bincode does not notice a wrong type. Where both sides are made from one
//! list, a misspelt method or a wrong type does not compile.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::client::Client;
use crate::error::Error;

/// What can call: a [`Client`], for example, or a double in a test.
///
/// ```
/// # use serde::{Serialize, de::DeserializeOwned};
/// # use day3_service::{Caller, Error};
/// /// Refuses every call.
/// struct Offline;
///
/// impl Caller for Offline {
///     type Error = Error;
///
///     async fn call<A, R>(&self, method: &str, _: &A) -> Result<R, Error>
///     where
///         A: Serialize + Sync + ?Sized,
///         R: DeserializeOwned + Send,
///     {
///         Err(Error::NotSent(format!("{method}: offline")))
///     }
/// }
/// ```
pub trait Caller: Send + Sync {
    /// Why a call fails.
    type Error;

    /// Calls a method and waits for its reply.
    ///
    /// # Cancel safety
    /// Dropping the future gives the call up.
    fn call<A, R>(&self, method: &str, args: &A) -> impl Future<Output = Result<R, Self::Error>> + Send
    where
        A: Serialize + Sync + ?Sized,
        R: DeserializeOwned + Send;
}

impl Caller for Client {
    type Error = Error;

    async fn call<A, R>(&self, method: &str, args: &A) -> Result<R, Error>
    where
        A: Serialize + Sync + ?Sized,
        R: DeserializeOwned + Send,
    {
        Client::call(self, method, args).await
    }
}

/// Makes both sides of a service from one list of methods: a trait for the server to implement, with
/// `into_service`, and a typed client over any [`Caller`].
///
/// The trait's name is the service's name on the wire. Each method has one argument; use a tuple, `()` or a
/// struct of your own.
///
/// ```
/// use day3_service::{Client, Code, Options, RemoteError, Server, ServiceMap, contract};
///
/// contract! {
///     /// Arithmetic.
///     pub trait Arith, client ArithClient {
///         /// Adds two numbers.
///         async fn sum((i32, i32)) -> i32;
///     }
/// }
///
/// struct Cpu;
///
/// impl Arith for Cpu {
///     async fn sum(&self, (a, b): (i32, i32)) -> anyhow::Result<i32> {
///         a.checked_add(b).ok_or_else(|| RemoteError::new(Code::OUT_OF_RANGE, "too large").into())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> anyhow::Result<()> {
/// let services = ServiceMap::new();
/// services.add(Cpu.into_service()?)?;
/// let (ours, theirs) = tokio::io::duplex(4096);
/// tokio::spawn(async move { Server::new(services).serve_connection(theirs).await });
///
/// let arith = ArithClient(Client::handshake(ours, &Options::default()).await?);
/// assert_eq!(arith.sum(&(1, 2)).await?, 3);
/// # Ok(()) }
/// ```
///
/// A method that is not in the list does not compile:
///
/// ```compile_fail
/// # day3_service::contract! { pub trait Arith, client ArithClient { async fn sum((i32, i32)) -> i32; } }
/// async fn misspelt(arith: ArithClient<day3_service::Client>) {
///     arith.summ(&(1, 2)).await.ok();
/// }
/// ```
///
/// Nor does an argument of another type:
///
/// ```compile_fail
/// # day3_service::contract! { pub trait Arith, client ArithClient { async fn sum((i32, i32)) -> i32; } }
/// async fn wrong_type(arith: ArithClient<day3_service::Client>) {
///     arith.sum(&"1 + 2").await.ok();
/// }
/// ```
///
/// Nor does an implementation with another type:
///
/// ```compile_fail
/// # day3_service::contract! { pub trait Arith, client ArithClient { async fn sum((i32, i32)) -> i32; } }
/// struct Cpu;
/// impl Arith for Cpu {
///     async fn sum(&self, (a, b): (i32, i32)) -> anyhow::Result<i64> { Ok(i64::from(a) + i64::from(b)) }
/// }
/// ```
#[macro_export]
macro_rules! contract {
    ($(#[$trait_doc:meta])* $vis:vis trait $name:ident, client $client:ident {
        $($(#[$doc:meta])* async fn $method:ident($argument:ty) -> $reply:ty;)*
    }) => {
        $(#[$trait_doc])*
        $vis trait $name: ::core::marker::Send + ::core::marker::Sync + ::core::marker::Sized + 'static {
            $(
                $(#[$doc])*
                fn $method(
                    &self,
                    argument: $argument,
                ) -> impl ::core::future::Future<Output = ::anyhow::Result<$reply>> + ::core::marker::Send;
            )*

            /// The methods as a service, for a `ServiceMap`.
            fn into_service(self) -> ::core::result::Result<$crate::Service, $crate::ServiceError> {
                $crate::Service::builder(::core::stringify!($name), self)
                    $(.method(
                        ::core::stringify!($method),
                        // By the trait's name: an `Arc` has methods of its own, such as `clone`.
                        |receiver: ::std::sync::Arc<Self>, argument: $argument| async move {
                            $name::$method(&*receiver, argument).await
                        },
                    ))*
                    .build()
            }
        }

        /// Calls the methods of the service.
        // The name of the parameter is not hygienic: it must not be the name of a type in the list.
        #[derive(::core::clone::Clone, ::core::fmt::Debug)]
        $vis struct $client<AnyCaller>($vis AnyCaller);

        impl<AnyCaller: $crate::Caller> $client<AnyCaller> {
            $(
                $(#[$doc])*
                $vis async fn $method(
                    &self,
                    argument: &$argument,
                ) -> ::core::result::Result<$reply, AnyCaller::Error> {
                    $crate::Caller::call(
                        &self.0,
                        ::core::concat!(::core::stringify!($name), ".", ::core::stringify!($method)),
                        argument,
                    )
                    .await
                }
            )*
        }
    };
}
