//! Connecting: one limit for the TCP connection and the handshake, and the server's own for the handshake.
//!
//! Change `connect` in `src/client/mod.rs`. On the server's side change `serve` in `src/server/connection.rs`, as far
//! as the handshake goes, and write what a peer gets that does not shake hands: `refuse` in `src/wire/handshake.rs`,
//! `discard` in `src/wire/frame.rs`, and `linger` in `src/wire/linger.rs`.
//!
//! Works then: one limit for TCP and the handshake, and the server's own for the handshake.
//!
//! Chapter: Limits; What goes wrong without it

use super::*;

/// The TCP connection and the handshake share one limit: what the first has taken, the second has not.
///
/// "Five seconds" that are five for each step are ten. In GeeRPC they are.
///
/// Hint: one `limit` around both steps. `Client::handshake` has a limit of its own, so do not call that.
#[cfg(target_os = "linux")]
#[test]
fn tcp_and_the_handshake_share_one_limit() {
    run(async || {
        // Linux lets a connection wait while the listener's queue is full, and tries again after a second.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let addr = listener.local_addr().unwrap();
        let mut queued = Vec::new();
        while let Ok(io) = std::net::TcpStream::connect_timeout(&addr, millis(50)) {
            queued.push(io);
            assert!(queued.len() < 64, "the listener's queue is never full");
        }

        // The clock moves when the test says so. A paused clock jumps to the next timer when no task can run, but not
        // while a thread of the runtime works. This one waits for real time to pass.
        tokio::time::pause();
        let (_done, waiting) = std::sync::mpsc::channel::<()>();
        let real_time = tokio::task::spawn_blocking(move || waiting.recv_timeout(STEP));
        let test = async {
            let options = Options::default().connect_timeout(2 * SECOND);
            let mut connecting = pin!(Client::connect(addr, &options));
            assert!(waits(connecting.as_mut()).await, "no server has answered");
            tokio::time::advance(millis(1500)).await;

            let handshake = async {
                let io = loop {
                    let (io, peer) = listener.accept().await.unwrap();
                    if !queued.iter().any(|io| io.local_addr().ok() == Some(peer)) {
                        break io; // the queue had room again, so TCP has connected
                    }
                };
                let mut peer = Peer { io };
                peer.read_json().await;
                peer
            };
            let mut peer = tokio::select! {
                ended = &mut connecting => panic!("it ended before its limit: {ended:?}"),
                peer = handshake => peer,
            };
            tokio::time::advance(millis(600)).await;
            assert_timeout(connecting.await, 2 * SECOND);
            peer.expect_end().await;
        };
        tokio::select! {
            () = test => {}
            _ = real_time => panic!("never happened within {STEP:?}: the end of connecting, at its limit"),
        }
    });
}

/// Dials that time out, or whose future is dropped, leave no task and no socket behind.
///
/// A system's queue accepts for a process that hangs, so TCP connects. A dial in a task of its own, with a timer
/// beside it, ends for its caller only: GeeRPC leaks a goroutine for each.
///
/// Hint: spawn nothing before the handshake is done. Dropping the future then closes the socket.
#[test]
fn dials_that_are_given_up_leave_nothing_behind() {
    run(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let before = alive_tasks();
        let mut dials = JoinSet::new();
        let mut accepted = Vec::new();
        for dial in 0..100 {
            let is_dropped = dial % 2 == 1;
            dials.spawn(async move {
                let limit = if is_dropped { Duration::MAX } else { millis(50) };
                let options = Options::default().connect_timeout(limit);
                let connecting = Client::connect(addr, &options);
                if is_dropped {
                    assert!(timeout(millis(50), connecting).await.is_err(), "no server has answered");
                } else {
                    assert_timeout(connecting.await, limit);
                }
            });
            accepted.push(within("a connection", listener.accept()).await.unwrap().0);
        }
        while let Some(dialed) = within("the end of a dial", dials.join_next()).await {
            dialed.unwrap();
        }
        for mut io in accepted {
            within("the end of the stream", io.read_to_end(&mut Vec::new())).await.unwrap();
        }
        eventually("the end of all tasks of the dials", || alive_tasks() == before).await;
    });
}

/// A peer that does not finish its handshake in time reads an error, and is dropped: one that says nothing, and one
/// that sends a byte now and then.
///
/// Connections that cost a peer nothing are held by the thousand. A limit for each read is never reached by the second.
///
/// Hint: one `limit` around the handshake, and then `refuse`.
#[test]
fn a_peer_that_does_not_shake_hands_is_dropped() {
    run_paused(async || {
        for drips in [false, true] {
            let (handler, _probe) = probe();
            let server = Server::new(handler).handshake_timeout(2 * SECOND);
            let (io, other_end) = duplex(1024);
            let served = tokio::spawn(async move { server.serve_connection(other_end).await });
            let (read, mut write) = tokio::io::split(io);
            let since = Instant::now();
            let _dripping = tokio::spawn(async move {
                for byte in client_hello(&["application/json"]) {
                    sleep(millis(400)).await;
                    if drips && write.write_u8(byte).await.is_err() {
                        break; // the server has closed the stream
                    }
                }
            });
            let mut peer = Peer { io: tokio::io::join(read, tokio::io::sink()) };
            let answer = peer.read_json().await;
            assert_took(since, 2 * SECOND);
            assert!(answer["error"].is_string(), "{answer}");
            peer.expect_end().await;
            assert_timeout(within("the end of the connection", served).await.unwrap(), 2 * SECOND);
        }
    });
}
