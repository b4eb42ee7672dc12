//! All of it together.
//!
//! Nothing to write: run it. A registry, its servers and a balanced client in one process.
//!
//! Works then: all of day 7's core: `cargo run` tells the whole story.
//!
//! Chapter: Run it

use super::*;

/// Calls go on while the registry is dead. When it is back, with an empty list, everything heals by itself: old
/// servers are listed again, and new ones get calls.
///
/// This is the failure that GeeRPC does not survive. One error ends its heartbeats.
///
/// Hint: if this fails and all above pass, look at how the heartbeat, the list and the pool meet.
#[test]
fn everything_heals_after_a_restart_of_the_registry() {
    run(async || {
        let lease = Duration::from_millis(300);
        let registry = RunningRegistry::start(&RegistryServer::new().lease(lease)).await;
        let addr = registry.addr;
        let first: Running = start(Server::new(arith())).await;
        let heartbeat = Heartbeat::start(client_of(addr), Endpoint::tcp(first.addr));
        within("the registration", heartbeat.wait_registered()).await;
        let discovery = RegistryDiscovery::start(client_of(addr));
        let mut servers = discovery.servers();
        let client = BalancedClient::new(discovery, SelectMode::RoundRobin, &Options::default());
        let sum = async || -> i32 {
            let args = Sum { num1: 1, num2: 2 };
            within("a call", client.call("Arith.sum", &args)).await.unwrap()
        };
        assert_eq!(sum().await, 3);

        registry.kill().await;
        eventually("the heartbeat fails", || heartbeat.last_error().is_some()).await;
        assert_eq!(sum().await, 3, "the registry is dead, but the server is not");

        let registry = RegistryServer::new().lease(lease); // with an empty list
        let _running = RunningRegistry::start_at(&registry, addr).await;
        let second: Running = start(Server::new(arith())).await;
        let _heartbeat = Heartbeat::start(client_of(addr), Endpoint::tcp(second.addr));
        eventually("both servers are listed", || registry.servers().len() == 2).await;
        let both = servers.wait_for(|servers| known(servers).len() == 2);
        within("both servers in the client's list", both).await.unwrap();
        for _ in 0..4 {
            assert_eq!(sum().await, 3);
        }
        assert_eq!(client.connections(), 2, "both servers get calls");
    });
}
