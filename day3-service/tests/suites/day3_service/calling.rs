//! Calls to several services and methods.
//!
//! Complete `ServiceMap::call` in `src/service/mod.rs`.
//!
//! Chapter: The wire > service_method is Service.method

use super::*;

/// The name of the service chooses the service: methods of the same name in several services do not mix, and
/// the list of all services is sorted.
///
/// Hint: two look-ups, the service first. A `BTreeMap` is sorted by itself.
#[test]
fn several_services_may_have_methods_of_the_same_name() {
    run(async || {
        let services = arith::services();
        services.add(Counter::starting_at(100).service("Hundred")).unwrap();
        services.add(Counter::starting_at(10).service("Counter")).unwrap();
        let names: Vec<_> = services.services().iter().map(|service| service.name().to_owned()).collect();
        assert_eq!(names, ["Arith", "Counter", "Hundred"]);

        let server = start(Server::new(services)).await;
        let client = connect(&server).await;
        assert_eq!(call::<_, i64>(&client, "Hundred.add", 1).await, 101);
        assert_eq!(call::<_, i64>(&client, "Counter.add", 1).await, 11);
        assert_eq!(call::<_, i64>(&client, "Hundred.get", ()).await, 101);
        assert_still_serves(&client).await;
    });
}

/// All methods of a service work on one receiver, whichever connection the call came from: what `add`
/// changes, `get` sees.
///
/// Hint: one `Arc` of the receiver, cloned for each call. A copy of the receiver for each method would also
/// compile, and fail here.
#[test]
fn the_methods_of_a_service_share_their_receiver() {
    run(async || {
        struct Total(AtomicI64);
        impl Total {
            async fn add(&self, by: i64) -> anyhow::Result<i64> {
                Ok(self.0.fetch_add(by, SeqCst) + by)
            }
            async fn get(&self, (): ()) -> anyhow::Result<i64> {
                Ok(self.0.load(SeqCst))
            }
        }
        let services = ServiceMap::new();
        services.add(service!("Total", Total(AtomicI64::new(40)), [add, get]).unwrap()).unwrap();
        let server = start(Server::new(services)).await;
        let (first, second) = (connect(&server).await, connect(&server).await);
        assert_eq!(call::<_, i64>(&first, "Total.add", 1).await, 41);
        assert_eq!(call::<_, i64>(&second, "Total.add", 1).await, 42);
        assert_eq!(call::<_, i64>(&first, "Total.get", ()).await, 42);
    });
}

/// A slow method does not hold up the ones after it on the same connection. The second call is what lets the
/// first one go on, so a server that runs one after the other never ends this test.
///
/// Hint: the table returns the method's future; whoever awaits it there holds up the connection.
#[test]
fn calls_of_one_connection_run_concurrently() {
    run(async || {
        struct Meeting(Notify);
        impl Meeting {
            async fn wait(&self, (): ()) -> anyhow::Result<String> {
                self.0.notified().await;
                Ok("we met".to_owned())
            }
            async fn come(&self, (): ()) -> anyhow::Result<()> {
                self.0.notify_one();
                Ok(())
            }
        }
        let services = ServiceMap::new();
        services.add(service!("Meeting", Meeting(Notify::new()), [wait, come]).unwrap()).unwrap();
        let server = start(Server::new(services)).await;
        let client = connect(&server).await;
        let waiting = within("sending a call", client.start::<_, String>("Meeting.wait", &())).await.unwrap();
        call::<_, ()>(&client, "Meeting.come", ()).await;
        assert_eq!(within("the call that waits for the other", waiting).await.unwrap(), "we met");
    });
}
