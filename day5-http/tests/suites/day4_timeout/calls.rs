//! Calls end in time, whether or not the server answers and the caller looks.
//!
//! `set` and `ring` of the alarm, in `src/deadline.rs`. In `src/client/in_flight.rs`: `expire`, `give_up` and
//! `take_unsent`, and change `insert`. In `src/client/connection.rs`: `expire_calls`, and change `run`, `take_replies`
//! and `write_requests`.
//!
//! Works then: every call ends at its limit, whether or not the server answers or its caller looks.
//!
//! Chapter: Limits; What goes wrong without it

use super::*;

/// A call without a reply ends with `Error::Timeout` at its limit, and its entry leaves the table. `with_timeout`
/// returns a handle with another limit, and leaves this one as it was.
///
/// An entry that stays is a leak for each timeout. And one limit for all calls fits none of them.
///
/// Hint: the handle has the limit, the shared part has not. A `Client` is cheap to clone.
#[test]
fn a_call_ends_at_its_limit() {
    run_paused(async || {
        let (client, _peer) = pair_with(&json_only().call_timeout(2 * SECOND), json!({})).await;
        let quick = client.with_timeout(millis(700));
        for (client, limit) in [(&quick, millis(700)), (&client, 2 * SECOND)] {
            let since = Instant::now();
            let mut ended = pin!(client.call::<_, u32>("Test.number", &1));
            assert!(waits(ended.as_mut()).await);
            assert_eq!(client.in_flight(), 1);
            assert_timeout(within("the end of the call", ended).await, limit);
            assert_took(since, limit);
            assert_eq!(client.in_flight(), 0);
        }
    });
}

/// Each call ends at its own limit, whatever other calls are in flight, and disturbs none of them. A reply that
/// comes later is ignored.
///
/// One timer serves all calls. If it is set for the first of them only, a short limit behind a long one comes late.
/// In Go the late reply is written into a variable that the caller has back already: here there is none.
///
/// Hint: a deadline that is earlier than all others must wake the task that waits for the earliest.
#[test]
fn a_call_that_ends_disturbs_no_other() {
    run_paused(async || {
        let (client, mut peer) = pair_with(&json_only(), json!({})).await;
        let (mut long, long_seen) = begin_many(&client, &mut peer, 1).await;
        let mut calls = JoinSet::new();
        let mut seen = Vec::new();
        for limit in [3, 1, 4, 2, 1].map(|seconds| seconds * SECOND) {
            let since = Instant::now();
            let started = begin(&client.with_timeout(limit), 1).await;
            calls.spawn(async move {
                assert_timeout(started.await, limit);
                assert_took(since, limit);
            });
            seen.push(next_call(&mut peer).await);
            sleep(millis(1)).await; // the task has set its timer
        }
        while let Some(ended) = within("the end of the next call", calls.join_next()).await {
            ended.unwrap();
        }
        assert_eq!(client.in_flight(), 1);
        for call in &seen {
            answer(&mut peer, call, json!(4711)).await; // too late
        }
        answer(&mut peer, &long_seen[0], json!(42)).await;
        assert_eq!(within("the reply", long.remove(0)).await.unwrap(), 42);
        check_it_works(&client, &mut peer).await;
    });
}

/// A call's time begins when it is made: the wait for a place is a part of it. Calls that wait for a place end at
/// their limits, and those that get one have the rest of their time.
///
/// When a server is slow, most of the time of a call is this wait. A limit that begins behind it may never begin, and
/// a call of 2 s takes 4 s.
///
/// Hint: take the time first of all, and count the deadline from there.
#[test]
fn a_calls_time_begins_before_its_wait_for_a_place() {
    run_paused(async || {
        let options = json_only().max_in_flight(2).call_timeout(2 * SECOND);
        let (client, mut peer) = pair_with(&options, json!({})).await;
        let (_calls, seen) = begin_many(&client.with_timeout(60 * SECOND), &mut peer, 2).await;

        let since = Instant::now();
        let both = async {
            tokio::join!(client.call::<_, u32>("Test.number", &1), client.start::<_, u32>("Test.number", &2))
        };
        let (called, started) = within("the end of calls that wait for a place", both).await;
        assert_timeout(called, 2 * SECOND);
        assert_timeout(started.map(drop), 2 * SECOND);
        assert_took(since, 2 * SECOND);
        assert_eq!(client.in_flight(), 2, "those that have a place are in flight");

        let since = Instant::now();
        let mut starting = pin!(client.start::<_, u32>("Test.number", &3));
        assert!(waits(starting.as_mut()).await, "there is no place");
        sleep(millis(1500)).await;
        answer(&mut peer, &seen[0], json!(1)).await;
        let started = within("start, as there is a place", starting).await.unwrap();
        assert_eq!(next_call(&mut peer).await.value(), 3);
        assert_timeout(within("the end of the call", started).await, 2 * SECOND);
        assert_took(since, 2 * SECOND);
    });
}

/// A started call ends at its limit though no task polls it: its entry and its place are free again. Whenever its
/// caller looks, it finds how the call ended, and a reply that came in time is still a reply.
///
/// A caller may start a thousand calls and then wait for something else. In an earlier version such calls never ended,
/// and every other call waited for a place.
///
/// Hint: the task of the connection ends calls, not the caller's poll.
#[test]
fn a_call_ends_though_its_caller_does_not_look() {
    run_paused(async || {
        let options = json_only().max_in_flight(2).call_timeout(2 * SECOND);
        let (client, mut peer) = pair_with(&options, json!({})).await;
        let (mut calls, seen) = begin_many(&client, &mut peer, 2).await;
        let since = Instant::now();
        answer(&mut peer, &seen[0], json!(42)).await;
        eventually("the reply is here", || client.in_flight() == 1).await;
        let (more, _) = begin_many(&client, &mut peer, 1).await;
        calls.extend(more);

        let next = begin(&client, 4711).await; // there is a place when the time of the others is over
        assert_took(since, 2 * SECOND);
        assert!(client.in_flight() <= 2);
        let call = next_call(&mut peer).await;
        assert_eq!(call.value(), 4711);
        answer(&mut peer, &call, json!(4712)).await;
        assert_eq!(within("the reply", next).await.unwrap(), 4712);

        sleep(2 * SECOND).await;
        assert_eq!(client.in_flight(), 0);
        let mut outcomes = Vec::new();
        for call in calls {
            outcomes.push(within("the outcome, which is here", call).await);
        }
        assert!(matches!(outcomes.remove(0), Ok(42)), "the first one had its reply");
        for outcome in outcomes {
            assert_timeout(outcome, 2 * SECOND);
        }
    });
}

/// While the server takes no bytes, calls end at their limits, the one that is being written too. A request whose
/// time is over before it was written is not sent.
///
/// In GeeRPC a call of 100 ms took 2 s, as its limit began behind the write. And a server that was overloaded for
/// 12 s needed 12 more for requests without a caller.
///
/// Hint: the caller does not write. Its request waits in its entry, and goes when the entry goes.
#[test]
fn a_request_whose_time_is_over_is_not_sent() {
    run_paused(async || {
        let (io, other_end) = duplex(64);
        let (client, mut peer) = connected(io, other_end, &json_only(), json!({})).await;
        let since = Instant::now();
        let big = begin_big(&client.with_timeout(2 * SECOND)).await;
        settle().await; // the write of the first has begun
        let unsent =
            [begin(&client.with_timeout(SECOND), 1).await, begin(&client.with_timeout(SECOND), 2).await];
        for call in unsent {
            assert_timeout(within("the end of a call that is not sent", call).await, SECOND);
        }
        assert!(since.elapsed() < 2 * SECOND);
        assert_timeout(within("the end of a call that is being written", big).await, 2 * SECOND);
        assert_took(since, 2 * SECOND);
        assert_eq!(client.in_flight(), 0);

        let _last = begin(&client, 4711).await;
        assert_eq!(next_call(&mut peer).await.fields("call")["service_method"], "Test.big");
        assert_eq!(next_call(&mut peer).await.value(), 4711, "the next call that is sent");
    });
}

/// A call with a limit of `Duration::MAX`, or of another number that no clock can hold, waits for its reply.
///
/// Such a number plus the time of today is a panic, and under the lock of the table it would take all calls with it.
///
/// Hint: `checked_add`; a deadline that is too far away to be an instant may be any one that never comes.
#[test]
fn the_longest_call_timeout_is_never_reached() {
    run_paused(async || {
        const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
        for limit in [Duration::MAX, Duration::from_millis(u64::MAX), Duration::from_secs(1 << 40)] {
            let options = json_only().call_timeout(limit).ping_interval(Duration::MAX);
            let (client, mut peer) = pair_with(&options, json!({})).await;
            let (mut calls, seen) = begin_many(&client, &mut peer, 1).await;
            sleep(YEAR).await;
            answer(&mut peer, &seen[0], json!(42)).await;
            assert_eq!(within("the reply", calls.remove(0)).await.unwrap(), 42, "{limit:?}");
        }
    });
}
