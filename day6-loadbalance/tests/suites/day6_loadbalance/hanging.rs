//! Servers that hang delay no call to another.
//!
//! Write `Shared::in_time` and `share` in `src/balance/mod.rs`. `Pool::connect` in `src/balance/pool.rs`
//! holds no lock while it dials.
//!
//! Chapter: Reading order > 3. src/balance/pool.rs; Limits > the time that a call waits for one server

use super::*;

/// While one server is being dialed and does not answer, calls to another are made, by a first connection
/// too.
///
/// GeeRPC dials under the one lock of the client, so one hung server stops the calls to all: two seconds,
/// when it was tried.
///
/// Hint: no lock is held across an `await`.
#[test]
fn a_hung_server_delays_no_call_to_another() {
    run(async || {
        let (hung, good) = (Site::hung("hung").await, Site::start("good").await);
        let client = directed([&hung.endpoint, &good.endpoint], Options::default());
        let stuck = spawn_call(&to(&client, &hung.endpoint), "Site.name");
        hung.is_being_dialed().await;

        let to_good = to(&client, &good.endpoint);
        assert_eq!(name(&to_good).await, "good");
        assert_eq!(name(&to_good).await, "good");
        assert!(!stuck.is_finished(), "the other call should still be waiting for the hung server");
        hung.open_door();
        assert_eq!(outcome(stuck).await.unwrap(), "hung");
    });
}

/// Many callers of a hung server make one attempt, and all get its one failure.
///
/// A server that is overloaded gets worse with every attempt.
///
/// Hint: the failure is an `Arc`, so that it can be shared.
#[test]
fn callers_of_a_hung_server_share_one_attempt_and_one_failure() {
    run(async || {
        let hung = Site::hung("hung").await;
        let options = Options::default().connect_timeout(Duration::from_millis(200));
        let client = directed([&hung.endpoint], options);
        let calls: Vec<_> = (0..20).map(|_| spawn_call(&to(&client, &hung.endpoint), "Site.name")).collect();
        let mut failures = Vec::new();
        for call in calls {
            match outcome(call).await {
                Err(BalanceError::Dial { endpoint, source }) if endpoint == hung.endpoint => {
                    failures.push(source);
                }
                other => panic!("the call should fail at dialing the hung server, but: {other:?}"),
            }
        }
        assert!(matches!(*failures[0], Error::Timeout { what: "connecting", .. }), "{:?}", failures[0]);
        assert!(failures.iter().all(|failure| Arc::ptr_eq(failure, &failures[0])), "one failure for all");
        assert_eq!(hung.seen.accepted(), 1);
    });
}

/// The caller who began an attempt goes away, and the others get the connection of that attempt.
///
/// If the first caller's own future dials, everybody depends on its patience.
///
/// Hint: the attempt is a task that the pool owns.
#[test]
fn a_caller_that_gives_up_does_not_stop_the_attempt() {
    run(async || {
        let slow = Site::hung("slow").await;
        let client = directed([&slow.endpoint], Options::default());
        let first = spawn_call(&client, "Site.name");
        slow.is_being_dialed().await;
        let second = spawn_call(&client, "Site.name");
        first.abort();
        within("the first caller ends", first).await.unwrap_err();
        slow.open_door();
        assert_eq!(outcome(second).await.unwrap(), "slow");
        assert_eq!(slow.seen.accepted(), 1);
    });
}

/// There is one time limit for choosing, dialing and calling together.
///
/// With one for each, a caller who asked for a second waits for three. Here the connection is there when two
/// thirds of the time are gone; then the method does not answer.
///
/// Hint: compute the deadline once, at the beginning.
#[test]
fn dialing_and_calling_share_the_time_limit() {
    run(async || {
        let slow = Site::hung("slow").await;
        let limit = Duration::from_millis(600);
        let client = directed([&slow.endpoint], Options::default().call_timeout(limit));
        let begin = Instant::now();
        let call = spawn_call(&client, "Site.wait");
        within("two thirds of the time pass", sleep_until(begin + limit * 2 / 3)).await;
        slow.open_door();
        let error = tokio::select! {
            biased;
            result = call => result.unwrap().expect_err("nobody has opened the gate"),
            () = well_after(begin + limit * 4 / 3) => {
                panic!("after 800 ms, a call of at most 600 ms goes on");
            }
        };
        match error {
            BalanceError::Call { endpoint, source: Error::Timeout { .. } } if endpoint == slow.endpoint => {}
            // On a machine that is very busy, the connection may come too late.
            BalanceError::Dial { source, .. } if matches!(*source, Error::Timeout { .. }) => {}
            other => panic!("the call should have timed out, but: {other:?}"),
        }
        assert!(begin.elapsed() >= limit, "it gave up after {:?} already", begin.elapsed());
    });
}

/// A server that hangs while it is dialed may take a part of the time of a call, never all of it; the next in
/// the list takes the call.
///
/// Else one hung server of three fails every third call, although two servers are well.
///
/// Hint: divide what is left by the servers left, three at most; see Limits. The attempt goes on beside the
/// call, for whoever comes next.
#[test]
fn a_hung_server_leaves_time_for_the_next() {
    run(async || {
        let (hung, good) = (Site::hung("hung").await, Site::start("good").await);
        let options = Options::default().call_timeout(Duration::from_secs(1));
        let client = directed([&hung.endpoint, &good.endpoint], options);
        // The second one has left the list since it was chosen; then the hung one is the first that is dialed.
        let (_port, gone) = refusing();
        for first in [&hung.endpoint, &gone] {
            let reply = try_call(&to(&client, first)).await;
            assert!(reply.is_ok(), "the next server was not asked: {reply:?}");
        }
        assert_eq!(good.seen.calls(), 2);
        hung.open_door();
        assert_eq!(name(&to(&client, &hung.endpoint)).await, "hung");
        assert_eq!(hung.seen.accepted(), 1, "the attempt has gone on");
    });
}
