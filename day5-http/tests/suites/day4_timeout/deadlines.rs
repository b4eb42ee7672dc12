//! A limit: the future that it waits for is dropped when the time is over.
//!
//! In `src/client/mod.rs`: `negotiate`, which is yesterday's handshake. In `src/wire/frame.rs`: `flush_step`, and
//! change `announced_len`.
//!
//! Works then: a handshake that is not answered ends at its limit.
//!
//! Chapter: Limits

use super::*;

/// A handshake that gets no whole answer ends with `Error::Timeout` at its limit, and the stream is closed.
///
/// A server may accept and then say nothing, or one byte now and then. A limit for each read is never reached by the
/// second one.
///
/// Hint: `tokio::time::timeout` around the whole handshake. It drops the future, and so the stream.
#[test]
fn a_handshake_without_an_answer_ends_at_its_limit() {
    run_paused(async || {
        for drips in [false, true] {
            let (io, other_end) = duplex(1024);
            let server = tokio::spawn(async move {
                let mut peer = Peer { io: other_end };
                peer.read_json().await;
                let answer = if drips { server_refusal("too slow to be read") } else { Vec::new() };
                for byte in answer {
                    sleep(millis(900)).await;
                    if peer.io.write_u8(byte).await.is_err() {
                        return; // the client has closed the stream
                    }
                }
                peer.expect_end().await;
            });
            let since = Instant::now();
            let options = Options::default().connect_timeout(2 * SECOND);
            let ended = within("the end of the handshake", Client::handshake(io, &options)).await;
            assert_timeout(ended, 2 * SECOND);
            assert_took(since, 2 * SECOND);
            within("the end of the stream", server).await.unwrap();
        }
    });
}

/// `Duration::MAX` and other numbers that no clock can hold mean "no limit", and are no panic.
///
/// `Instant::now() + Duration::MAX` panics, and `Duration::MAX` is what a user writes for "never".
///
/// Hint: `tokio::time::timeout` takes any duration, and `Instant::checked_add` tells you when a sum is too large.
#[test]
fn the_longest_limit_is_never_reached() {
    run_paused(async || {
        const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
        for limit in [Duration::MAX, Duration::from_millis(u64::MAX), Duration::from_secs(1 << 40)] {
            let (io, other_end) = duplex(1024);
            let handshake = tokio::spawn(async move {
                Client::handshake(io, &Options::default().connect_timeout(limit)).await
            });
            let mut peer = Peer { io: other_end };
            peer.read_json().await;
            sleep(YEAR).await;
            peer.send(&server_refusal("a year later")).await;
            let ended = within("the end of the handshake", handshake).await.unwrap();
            assert!(matches!(ended, Err(Error::Handshake(_))), "{limit:?}: {ended:?}");
        }
    });
}
