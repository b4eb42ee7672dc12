//! Hardening: many calls without a list, and a log that is slow.
//!
//! No new function. See `wait_for_list`, `run` and `finish` in `src/registry/discovery.rs`.
//!
//! Chapter: Limits; What goes wrong without it

use super::*;

/// While there is no list, a call makes the next attempt come soon, however long the pause would be.
///
/// After a few failures that pause is seconds. The registry may be back, and then a call that waits for its turn
/// fails for nothing.
///
/// Hint: a call that needs a list now wakes the task.
#[test]
fn a_call_without_a_list_does_not_sit_out_the_pause() {
    run(async || {
        let registry = HandRegistry::start().await;
        let discovery = RegistryDiscovery::start(registry.client());
        let begin = Instant::now();
        for _ in 0..8 {
            let refusing = async { registry.request().await.answer("503 Busy", &[], "").await };
            let (error, ()) = tokio::join!(discovery.get_all(), refusing);
            assert_eq!(status::<()>(Err(registry_error(error.unwrap_err()))), 503);
            // Seven whole pauses are at least 4 s.
            assert!(begin.elapsed() < Duration::from_secs(3), "it took {:?}", begin.elapsed());
        }
        let answering = async { registry.request().await.list(LEASE, &["tcp@a:1"]).await };
        let (list, ()) = tokio::join!(discovery.get_all(), answering);
        assert_eq!(endpoints(&list.unwrap()), ["tcp@a:1"]);
    });
}

/// Many calls without a list, while the registry cannot be reached: each of them fails, and none stops the others.
///
/// A `watch` has a lock. With two of its guards alive in one expression, the second waits for a writer that came in
/// between, the writer waits for the first, and every other thread that wants to read waits for both.
///
/// Hint: read all that you need through one guard, and end it before the next.
#[test]
fn calls_without_a_list_do_not_lock_each_other_out() {
    run_threads(async || {
        let socket = TcpSocket::new_v4().unwrap(); // it keeps the port for us, and does not listen
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let nowhere = socket.local_addr().unwrap();
        // The task runs on a clock that jumps over each pause. So it writes as soon as the callers have read.
        let paused = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let discovery = {
            let _inside = paused.enter();
            Arc::new(RegistryDiscovery::start(client_of(nowhere)))
        };
        let (stop, stopped) = oneshot::channel::<()>();
        std::thread::spawn(move || paused.block_on(stopped));
        let begin = Instant::now();
        let call = |_| {
            let discovery = Arc::clone(&discovery);
            tokio::spawn(async move {
                while begin.elapsed() < Duration::from_secs(2) {
                    registry_error(discovery.get_all().await.unwrap_err());
                }
            })
        };
        let callers: Vec<_> = (0..32).map(call).collect();
        for caller in callers {
            within("the end of every caller: do they hold a lock?", caller).await.unwrap();
        }
        drop(stop);
    });
}

/// However often it is called without a list, the registry is not asked without a pause.
///
/// A caller in a loop is a common caller. If each of its calls is a request, the back-off is for nothing: a registry
/// that is down because of its load gets thousands of requests a second.
///
/// Hint: a call may cut the pause short, but not to less than `MIN_REFRESH_INTERVAL`.
#[test]
fn calls_without_a_list_do_not_go_round_the_back_off() {
    run(async || {
        let registry = HandRegistry::start().await;
        let discovery = RegistryDiscovery::start(registry.client());
        let calling = async {
            loop {
                registry_error(discovery.get_all().await.unwrap_err());
            }
        };
        let counting = async {
            registry.request().await.answer("503 Busy", &[], "").await;
            let begin = Instant::now();
            for _ in 0..5 {
                registry.request().await.answer("503 Busy", &[], "").await;
            }
            begin.elapsed()
        };
        let took = tokio::select! {
            never = calling => never,
            took = counting => took,
        };
        // The first regular pause may be shorter.
        assert!(took >= 4 * MIN_REFRESH_INTERVAL, "five attempts in {took:?}");
        assert!(MIN_REFRESH_INTERVAL >= Duration::from_millis(50), "{MIN_REFRESH_INTERVAL:?} is no pause");
    });
}

/// No lock is held while a line is written to the log.
///
/// A log may be slow: a full pipe, a terminal that is paused. Calls must not wait for it. The log of this test reads
/// the discovery's state, which waits for as long as that is locked.
///
/// Hint: look at the state, then write the line, then change the state.
#[test]
fn the_log_is_written_under_no_lock() {
    run(async || {
        let registry = HandRegistry::start().await;
        let shared = Arc::<OnceLock<RegistryDiscovery>>::default();
        let (lines, mut written) = mpsc::unbounded_channel();
        let log = {
            let shared = Arc::clone(&shared);
            tracing_subscriber::fmt().with_writer(move || {
                if let Some(discovery) = shared.get() {
                    drop(discovery.last_error());
                    lines.send(()).ok();
                }
                std::io::sink()
            })
        };
        let _log = tracing::subscriber::set_default(log.finish());
        let first = shared.get_or_init(|| RegistryDiscovery::start(registry.client()));
        registry.request().await.answer("503 Busy", &[], "").await;
        within("a line that the list is stale", written.recv()).await;
        registry.request().await.list(LEASE, &["tcp@a:1"]).await;
        assert_eq!(listed(first).await, ["tcp@a:1"]);
    });
}
