//! A server lists its services, if it wants to.
//!
//! Write `ServiceMap::listing` in `src/service/map/listing.rs`.
//!
//! Chapter: A server lists its services

use day7_registry::{
    Client, Code, Codec, Error, LIST_METHOD, Method, MethodInfo, ServiceInfo, ServiceMap, service,
};

use super::*;
use crate::support::client::connect;

fn shown(list: &[ServiceInfo]) -> Vec<String> {
    let line = |service: &ServiceInfo, method: &MethodInfo| {
        let MethodInfo { name, argument, reply, calls, errors, in_flight, .. } = method;
        format!("{}.{name}({argument}) -> {reply}: {calls} {errors} {in_flight}", service.name)
    };
    list.iter().flat_map(|service| service.methods.iter().map(move |method| line(service, method))).collect()
}

async fn list(client: &Client) -> Vec<String> {
    let list: Result<Vec<ServiceInfo>, _> = within("the list", client.call(LIST_METHOD, &())).await;
    shown(&list.unwrap())
}

/// The list has the names, types and counters of the moment, in both codecs, and the list itself.
///
/// A list that was made when the server started knows neither the calls nor what was added later.
///
/// Hint: the service needs the map itself, and not a copy of what is in it.
#[test]
fn a_server_lists_its_services_as_they_are_now() {
    run(async || {
        let services = crate::support::arith::services();
        services.add(services.listing()).unwrap();
        let server: Running = start(Server::new(services.clone())).await;
        let json = connect(&server, &Options::default().codecs([Codec::Json])).await;
        let bincode = connect(&server, &Options::default().codecs([Codec::Bincode])).await;
        assert_eq!(
            list(&json).await,
            [
                "Arith.fail(Fail) -> (): 0 0 0",
                "Arith.panic(()) -> (): 0 0 0",
                "Arith.sleep(Sleep) -> u64: 0 0 0",
                "Arith.sum(Sum) -> i32: 0 0 0",
                "Services.list(()) -> Vec<ServiceInfo>: 1 0 1",
            ]
        );

        struct Zoo;
        impl Zoo {
            async fn feed(&self, (): ()) -> anyhow::Result<()> {
                Ok(())
            }
        }
        services.add(service!("Zoo", Zoo, [feed]).unwrap()).unwrap();
        let sum = json.call::<_, i32>("Arith.sum", &Sum { num1: 1, num2: 2 });
        assert_eq!(within("the sum", sum).await.unwrap(), 3);
        let failed = json.call::<_, i32>("Arith.sum", &Sum { num1: i32::MAX, num2: 1 });
        assert!(within("the error", failed).await.is_err());
        let after = list(&bincode).await;
        assert_eq!(
            after[3..],
            [
                "Arith.sum(Sum) -> i32: 2 1 0",
                "Services.list(()) -> Vec<ServiceInfo>: 2 0 1",
                "Zoo.feed(()) -> (): 0 0 0"
            ]
        );

        services.remove("Arith");
        services.remove("Zoo");
        assert_eq!(list(&json).await, ["Services.list(()) -> Vec<ServiceInfo>: 3 0 1"]);
        let counted = services.get("Services").unwrap().method("list").map(Method::calls);
        assert_eq!(counted, Some(3));
    });
}

/// A server that does not add the list does not tell what it has to a caller of that method.
///
/// Names and types are of use to an attacker.
///
/// Hint: a service like any other, and not a name that the connection knows.
#[test]
fn a_server_without_the_list_answers_unimplemented() {
    run(async || {
        let server: Running = start(Server::new(arith())).await;
        let client = connect(&server, &Options::default()).await;
        match within("the answer", client.call::<_, Vec<ServiceInfo>>(LIST_METHOD, &())).await {
            Err(Error::Remote(error)) => assert_eq!(error.code(), &Code::UNIMPLEMENTED),
            other => panic!("expected unimplemented, got {other:?}"),
        }
    });
}

/// A map with its own list in it ends with its last handle, and so do its services.
///
/// The map owns the service, and the service needs the map. If each owns the other, neither ever ends.
///
/// Hint: `Weak`.
#[test]
fn a_map_that_lists_itself_is_freed() {
    let receiver = Arc::new(());
    let held = Arc::clone(&receiver);
    let services = ServiceMap::new();
    let service = day7_registry::Service::builder("Held", held).method("get", |_, (): ()| async { Ok(()) });
    services.add(service.build().unwrap()).unwrap();
    services.add(services.listing()).unwrap();
    assert!(Arc::strong_count(&receiver) > 1);
    drop(services);
    assert_eq!(Arc::strong_count(&receiver), 1, "the services live on, and nothing can reach them");
}
