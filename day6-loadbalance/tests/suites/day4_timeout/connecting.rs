//! Connecting has one deadline for all of it.
//!
//! Write `limit` and `deadline` in `src/deadline.rs`, the limits of `Options` in `src/wire/handshake.rs`,
//! and `Client::connect` and `shake_hands` in `src/client/mod.rs`.
//!
//! Chapter: Limits > connecting; Files of today > src/client/mod.rs

use super::*;

/// Connecting to a server that accepts and then says nothing ends with `Error::Timeout`, in time.
///
/// TCP connects although nobody is at home; the system's queue accepts for a process that hangs.
///
/// Hint: `tokio::time::timeout` around all of `connect`, with the limit from the options.
#[test]
fn a_server_that_accepts_and_never_answers_is_given_up() {
    run(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let options = Options::default().connect_timeout(millis(50));
        let connecting = Client::connect(listener.local_addr().unwrap(), &options);
        assert_timeout(within("the end of connecting", connecting).await, millis(50));
    });
}

/// The time that TCP took is not given to the handshake once more.
///
/// "Five seconds" that are five for the connection and five for the handshake are ten.
///
/// Hint: one `timeout` around both steps; `Client::new` has one of its own, so do not call it from there.
#[cfg(target_os = "linux")]
#[test]
fn connecting_has_one_deadline_for_tcp_and_the_handshake() {
    run(async || {
        // A listener whose queue is full: Linux lets the next one wait, and tries again after a second.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let addr = listener.local_addr().unwrap();
        let mut queued = Vec::new();
        while let Ok(connected) = timeout(millis(50), TcpStream::connect(addr)).await {
            queued.push(connected.unwrap());
            assert!(queued.len() < 64, "the queue of the listener is never full");
        }
        let limit = millis(1500);
        let since = std::time::Instant::now();
        let connecting =
            tokio::spawn(
                async move { Client::connect(addr, &Options::default().connect_timeout(limit)).await },
            );
        sleep(millis(100)).await; // not for an event: it is what makes TCP slow
        let _accepted = tokio::spawn(async move {
            let mut accepted = Vec::new();
            while let Ok((io, _)) = listener.accept().await {
                accepted.push(io); // kept open, and never answered
            }
        });
        assert_timeout(within("the end of connecting", connecting).await.unwrap(), limit);
        let took = since.elapsed();
        assert!(took < limit + millis(700), "took {took:?}: more than one limit of {limit:?}");
    });
}

/// After many dials that timed out, no task is left, and the server sees every connection closed.
///
/// A dial in a task of its own, with a timer beside it, leaves that task behind.
///
/// Hint: nothing is spawned before the handshake is done; dropping the future drops the socket.
#[test]
fn dials_that_time_out_leave_nothing_behind() {
    run(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let before = alive_tasks();
        let mut dials = tokio::task::JoinSet::new();
        let mut accepted = Vec::new();
        for _ in 0..100 {
            dials.spawn(async move {
                Client::connect(addr, &Options::default().connect_timeout(millis(50))).await
            });
            accepted.push(within("a connection", listener.accept()).await.unwrap().0);
        }
        while let Some(dialed) = within("the end of a dial", dials.join_next()).await {
            assert_timeout(dialed.unwrap(), millis(50));
        }
        for io in &mut accepted {
            within("the client closes the socket", io.read_to_end(&mut Vec::new())).await.unwrap();
        }
        eventually("all tasks of the dials have ended", || alive_tasks() == before).await;
    });
}
