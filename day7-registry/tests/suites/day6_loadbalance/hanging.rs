//! Servers that hang delay no call to another.
//!
//! Nothing to write: run it. What is red here is the limit of one attempt, in `src/balance/failover.rs`, or a lock that
//! is held while `src/balance/pool.rs` dials.
//!
//! Works then: a server that hangs delays no call to another.
//!
//! Chapter: A server that hangs; Limits > dialing one server of a call

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
        hung.answer_handshakes();
        assert_eq!(outcome(stuck).await.unwrap(), "hung");
    });
}

/// A server that hangs while it is dialed may take a part of the time of a call, never all of it; the next one
/// takes the call.
///
/// Else one hung server of three fails every third call, although two servers are well.
///
/// Hint: divide what is left by the servers left, three at most; see Limits. The attempt goes on beside the
/// call, for the calls that come next.
#[test]
fn a_hung_server_leaves_time_for_the_next() {
    run(async || {
        let (hung, good) = (Site::hung("hung").await, Site::start("good").await);
        let options = Options::default().call_timeout(Duration::from_secs(1));
        let client = directed([&hung.endpoint, &good.endpoint], options);
        let reply = try_call(&to(&client, &hung.endpoint)).await;
        assert!(reply.is_ok(), "the next server was not asked: {reply:?}");
        assert_eq!(good.seen.calls(), 1);
        hung.answer_handshakes();
        let to_hung = to(&client, &hung.endpoint);
        let used = async { while name(&to_hung).await != "hung" {} };
        within("the server is used when its connection is there", used).await;
        assert_eq!(hung.seen.accepted(), 1, "the attempt has gone on");
    });
}
