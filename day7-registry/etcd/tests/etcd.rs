//! Against real members of etcd, as processes on the loopback.

#[path = "../src/cluster.rs"]
mod cluster;

use std::sync::Arc;
use std::time::{Duration, Instant};

use cluster::{Cluster, text_field};
use day7_registry::{
    BalancedClient, Discovery, Endpoint, Heartbeat, Instance, Options, Registry, Request, SelectMode, Server,
};
use rrpc_etcd::EtcdRegistry;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

/// A lease that etcd grants with the election timeout of these clusters. It is longer than an election
/// takes, on a busy machine too.
const LEASE: Duration = Duration::from_secs(3);

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(30), future).await {
        Ok(value) => value,
        Err(_) => panic!("never happened: {what}"),
    }
}

fn registry(etcd: &Cluster) -> EtcdRegistry {
    EtcdRegistry::new(etcd.members(), "Arith").lease(LEASE)
}

fn instance(port: u16) -> Instance {
    Instance::new(format!("tcp@127.0.0.1:{port}").parse().unwrap())
}

async fn servers(registry: &EtcdRegistry) -> Vec<Instance> {
    within("a list", registry.servers()).await.unwrap().servers
}

/// Asks until the list is as it should be.
async fn eventually(registry: &EtcdRegistry, expected: &[Instance]) {
    let what = format!("the list {expected:?}");
    within(&what, async {
        while registry.servers().await.is_ok_and(|list| list.servers != expected) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

async fn registered(etcd: &Cluster, instance: &Instance) -> Heartbeat {
    let heartbeat = Heartbeat::start(registry(etcd), instance.clone());
    within("a registration", heartbeat.wait_registered()).await;
    heartbeat
}

async fn serve() -> (Endpoint, AbortOnDropHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint::tcp(listener.local_addr().unwrap());
    let server = Server::new(|request: Request| async move { Ok(request.reply(&1)?) });
    (endpoint, AbortOnDropHandle::new(tokio::spawn(async move { server.serve(listener).await })))
}

#[tokio::test]
async fn servers_are_listed_with_their_weights() {
    let etcd = Cluster::start(1).await.unwrap();
    let (one, two) = (instance(1), instance(2).weight(7));
    let _first = registered(&etcd, &one).await;
    let _second = registered(&etcd, &two).await;
    assert_eq!(servers(&registry(&etcd)).await, [one, two]);
    // Another service, also one whose name begins alike, has none of them.
    for name in ["Other", "Arit", "Arith2"] {
        assert!(servers(&EtcdRegistry::new(etcd.members(), name)).await.is_empty(), "{name}");
    }
}

#[tokio::test]
async fn a_killed_server_leaves_after_its_lease() {
    let etcd = Cluster::start(1).await.unwrap();
    let heartbeat = registered(&etcd, &instance(1)).await;
    // Alive for longer than a lease: it is renewed.
    tokio::time::sleep(LEASE + LEASE / 2).await;
    assert_eq!(servers(&registry(&etcd)).await, [instance(1)]);
    drop(heartbeat);
    assert_eq!(servers(&registry(&etcd)).await, [instance(1)]);
    eventually(&registry(&etcd), &[]).await;
}

#[tokio::test]
async fn a_shutdown_removes_the_entry_at_once() {
    let etcd = Cluster::start(1).await.unwrap();
    let long = EtcdRegistry::new(etcd.members(), "Arith").lease(Duration::from_secs(600));
    let heartbeat = Heartbeat::start(long.clone(), instance(1));
    within("a registration", heartbeat.wait_registered()).await;
    within("the end of the shutdown", heartbeat.shutdown()).await.unwrap();
    assert_eq!(servers(&long).await, []);
}

/// Ends the only lease that there is, as a stall of the process would.
async fn revoke_by_hand(etcd: &Cluster) {
    let leases = etcd.post(0, "/v3/lease/leases", "{}").await.unwrap();
    let id = text_field(&leases, "ID").expect("a lease");
    etcd.post(0, "/v3/lease/revoke", &format!(r#"{{"ID":"{id}"}}"#)).await.unwrap();
}

#[tokio::test]
async fn a_lost_lease_is_granted_anew() {
    let etcd = Cluster::start(1).await.unwrap();
    let _heartbeat = registered(&etcd, &instance(1)).await;
    revoke_by_hand(&etcd).await;
    eventually(&registry(&etcd), &[]).await;
    eventually(&registry(&etcd), &[instance(1)]).await;
}

#[tokio::test]
async fn of_two_processes_at_one_endpoint_the_newer_counts() {
    let etcd = Cluster::start(1).await.unwrap();
    let (old, new) = (registry(&etcd), registry(&etcd));
    let (before, after) = (instance(1), instance(1).weight(3));
    old.register(&before).await.unwrap();
    new.register(&after).await.unwrap();
    assert_eq!(servers(&new).await, std::slice::from_ref(&after));
    // Late: a heartbeat, and a deregistration.
    old.register(&before).await.unwrap();
    assert_eq!(servers(&new).await, std::slice::from_ref(&after));
    old.deregister(&before).await.unwrap();
    assert_eq!(servers(&new).await, [after]);
}

#[tokio::test]
async fn a_process_that_was_given_up_takes_nothing_along() {
    let etcd = Cluster::start(1).await.unwrap();
    let (old, new) = (registry(&etcd), registry(&etcd));
    old.register(&instance(1)).await.unwrap();
    revoke_by_hand(&etcd).await;
    new.register(&instance(1)).await.unwrap();
    // The old one goes on, finds its lease lost, and registers again. Then it leaves.
    old.register(&instance(1)).await.unwrap();
    old.deregister(&instance(1)).await.unwrap();
    assert_eq!(servers(&new).await, [instance(1)]);
}

#[tokio::test]
async fn a_change_is_seen_at_once() {
    let etcd = Cluster::start(1).await.unwrap();
    // A third of this is ten minutes.
    let slow = EtcdRegistry::new(etcd.members(), "Arith").lease(Duration::from_secs(1800));
    let (discovery, _watching) = slow.discovery();
    let mut list = discovery.servers();
    within("an empty list", list.wait_for(|servers| servers.list.is_some())).await.unwrap();
    let _heartbeat = registered(&etcd, &instance(1)).await;
    let has_one = |list: &[Instance]| list == [instance(1)];
    let seen = list.wait_for(|servers| servers.list.as_deref().is_some_and(has_one));
    within("the news of a server", seen).await.unwrap();
}

#[tokio::test]
async fn a_member_that_hangs_is_passed_over() {
    let etcd = Cluster::start(1).await.unwrap();
    let hanging = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut members = vec![format!("http://{}", hanging.local_addr().unwrap()).parse().unwrap()];
    members.extend(etcd.members());
    let registry = EtcdRegistry::new(members, "Arith").lease(LEASE);
    within("a registration", registry.register(&instance(1))).await.unwrap();
    // The one that answered is asked first from now on.
    let started = Instant::now();
    assert_eq!(servers(&registry).await, [instance(1)]);
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}

#[tokio::test]
async fn the_leader_is_killed_and_calls_go_on() {
    let mut etcd = Cluster::start(3).await.unwrap();
    let (endpoint, _serving) = serve().await;
    let _heartbeat = registered(&etcd, &Instance::new(endpoint.clone())).await;
    let (discovery, _watching) = registry(&etcd).discovery();
    let client = BalancedClient::new(Arc::clone(&discovery), SelectMode::Random, &Options::default());
    let _: i32 = within("a reply", client.call("one", &())).await.unwrap();
    let leader = within("a leader", etcd.leader()).await.unwrap();
    etcd.kill(leader).await.unwrap();
    // Longer than a lease, so the heartbeat has found another member.
    let end = Instant::now() + 3 * LEASE;
    while Instant::now() < end {
        let _: i32 = within("a reply", client.call("one", &())).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    eventually(&registry(&etcd), &[Instance::new(endpoint)]).await;
}

#[tokio::test]
async fn without_any_member_the_last_good_list_serves() {
    // One member is all of them. That the members are asked in turn is the test above.
    let mut etcd = Cluster::start(1).await.unwrap();
    let (endpoint, _serving) = serve().await;
    let _heartbeat = registered(&etcd, &Instance::new(endpoint.clone())).await;
    let (discovery, _watching) = registry(&etcd).discovery();
    let client = BalancedClient::new(Arc::clone(&discovery), SelectMode::Random, &Options::default());
    let _: i32 = within("a reply", client.call("one", &())).await.unwrap();
    etcd.kill(0).await.unwrap();
    let failed = within("news of the failure", async {
        let mut list = discovery.servers();
        list.wait_for(|servers| servers.error.is_some()).await.map(|servers| servers.list.clone())
    });
    assert!(failed.await.unwrap().is_some());
    tokio::time::sleep(2 * LEASE).await;
    let _: i32 = within("a reply", client.call("one", &())).await.unwrap();
    // It comes back, and the server is known again.
    etcd.restart(0).unwrap();
    eventually(&registry(&etcd), &[Instance::new(endpoint)]).await;
}
