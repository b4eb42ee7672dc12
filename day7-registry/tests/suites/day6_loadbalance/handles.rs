//! Handles: one client, with a mode, a time limit and metadata for each handle; calls that are started; contracts.
//!
//! In `src/balance/mod.rs`: `with_metadata` and `start`.
//!
//! Works then: all of day 6's core: one client, with a mode, a time limit and metadata for each handle, and contracts
//! over it.
//!
//! Chapter: Handles

use super::*;

/// A handle has its own time limit, for its calls and its broadcasts. The handle that it was made from keeps its own.
///
/// A program has calls that may take a minute and calls that are worth nothing after a second, to the same servers.
///
/// Hint: the limit belongs to the handle, as the mode does, and not to what all handles share.
#[test]
fn a_handle_has_its_own_time_limit() {
    run(async || {
        let site = Site::start("a").await;
        let client = round_robin([&site]);
        name(&client).await;
        let patient = spawn_call(&client, "Site.wait");
        site.a_call_waits().await;
        let hasty = client.with_timeout(Duration::from_millis(50));
        for result in [
            outcome(spawn_call(&hasty, "Site.wait")).await,
            outcome(spawn_broadcast(&hasty)).await,
            outcome(spawn_broadcast_all(&hasty)).await.remove(0).1,
        ] {
            let is_timeout = matches!(result, Err(BalanceError::Call { source: Error::Timeout { .. }, .. }));
            assert!(is_timeout, "after 50 ms it should have timed out, but: {result:?}");
        }
        assert!(!patient.is_finished(), "the other handle has its own limit");
        site.open_gate(1);
        assert_eq!(outcome(patient).await.unwrap(), "a");
    });
}

/// A handle has its own metadata, and all of its calls carry it: those of `call`, of `start` and of both broadcasts, to
/// whichever server.
///
/// Tokens and trace ids are wanted with every call. One way to call that forgets them is found in production.
///
/// Hint: all ways to call end in one function. `Client::with_metadata` does the rest.
#[test]
fn a_handle_has_its_own_metadata() {
    run(async || {
        let tell = async |request: Request| -> anyhow::Result<Reply> {
            let metadata: Vec<_> =
                request.metadata().iter().map(|(key, value)| format!("{key}={value}")).collect();
            Ok(request.reply(&metadata.join(","))?)
        };
        let (a, b) =
            (crate::support::start(Server::new(tell)).await, crate::support::start(Server::new(tell)).await);
        let discovery = MultiServersDiscovery::new([a.addr, b.addr].map(Endpoint::tcp));
        let plain = BalancedClient::new(discovery, SelectMode::RoundRobin, &Options::default());
        let client = plain.with_metadata("token", "1").with_metadata("trace", "2");
        for (client, expected) in [(&client, "token=1,trace=2"), (&plain, "")] {
            for _ in 0..2 {
                assert_eq!(try_call(client).await.unwrap(), expected, "of call");
            }
            let started = within("the reply of a started call", client.start::<_, String>("Site.name", ()));
            assert_eq!(started.await.unwrap(), expected, "of start");
            let broadcast = within("a broadcast", client.broadcast::<_, String>("Site.name", &()));
            assert_eq!(broadcast.await.unwrap(), expected, "of broadcast");
            let all =
                within("a broadcast", client.broadcast_all::<_, String>("Site.name", &())).await.unwrap();
            assert!(all.into_iter().all(|(_, told)| told.unwrap() == expected), "of broadcast_all");
        }
    });
}

/// A started call runs though its caller does not look, also while its server must still be dialed. Dropping it gives
/// the call up and stops the handler.
///
/// A program starts five calls and then awaits them one by one. If each of them begins when it is looked at, they take
/// five times as long.
///
/// Hint: a task of its own, in an `AbortOnDropHandle`.
#[test]
fn a_started_call_runs_by_itself_until_it_is_dropped() {
    run(async || {
        let site = Site::start("a").await;
        let client = round_robin([&site]);
        let first = client.start::<_, String>("Site.wait", ());
        let second = client.start::<_, String>("Site.wait", ());
        site.a_call_waits().await;
        site.a_call_waits().await;
        drop(second);
        eventually("the handler of the call that was dropped is stopped", || site.seen.stopped() == 1).await;
        site.open_gate(1);
        assert_eq!(within("the reply of a started call", first).await.unwrap(), "a");
    });
}

/// The typed client of a contract works over a balanced client, and its error says which server failed.
///
/// A contract is over anything that can call, so a program that has grown to several servers changes one line.
///
/// Hint: implement `Caller`, with `BalanceError` as its error.
#[test]
fn a_contract_works_over_a_balanced_client() {
    run(async || {
        use crate::support::{Fail, Sum, arith};
        let server = || Server::new(arith::services());
        let (a, b) = (crate::support::start(server()).await, crate::support::start(server()).await);
        let list = [a.addr, b.addr].map(Endpoint::tcp);
        let discovery = MultiServersDiscovery::new(list.clone());
        let client = BalancedClient::new(discovery, SelectMode::RoundRobin, &Options::default());
        let arith = arith::ArithClient(client);
        for num1 in 0..4 {
            let sum = within("a sum", arith.sum(&Sum { num1, num2: 1 })).await;
            assert_eq!(sum.unwrap(), num1 + 1);
        }
        let fail = Fail { message: "on purpose".to_owned() };
        match within("a failure", tokio::spawn(async move { arith.fail(&fail).await })).await.unwrap() {
            Err(BalanceError::Call { endpoint, source: Error::Remote(_) }) => {
                assert!(list.contains(&endpoint));
            }
            other => panic!("the method should have failed, but: {other:?}"),
        }
    });
}
