//! Hardening: many calls without a list, a list to begin with, chance, and a log that is slow.
//!
//! No new function. See `run`, `finish` and `update` in `src/registry/discovery.rs`.
//!
//! Chapter: Limits; What goes wrong without it

use super::*;

/// While there is no list, a call fails with the registry's error when the attempt has failed: one that hangs costs the
/// registry's time limit.
///
/// Hint: one limit around each request to the registry.
#[test]
fn a_call_without_a_list_fails_in_time() {
    run(async || {
        let registry = HandRegistry::start().await;
        let client =
            client_over(RegistryDiscovery::start(registry.client().timeout(Duration::from_millis(50))));
        let silent = async { registry.request().await };
        let (called, _unanswered) = tokio::join!(sum(&client), silent);
        assert!(matches!(registry_error(called), RegistryError::Timeout { .. }));
        drop(registry);
        assert!(matches!(registry_error(sum(&client).await), RegistryError::Unreachable(_)));
    });
}

/// A registry without a time limit of its own is given up after that of the trait.
///
/// An implementation for another registry is a few lines. It must not hold the list up because a limit was forgotten.
///
/// Hint: `Registry::time_limit` belongs to the trait, and the caller of its methods keeps to it.
#[test]
fn a_registry_that_never_returns_is_given_up() {
    struct Never;
    impl Registry for Never {
        async fn register(&self, _: &Instance) -> Result<Duration, RegistryError> {
            std::future::pending().await
        }
        async fn deregister(&self, _: &Instance) -> Result<(), RegistryError> {
            std::future::pending().await
        }
        async fn servers(&self) -> Result<ServerList, RegistryError> {
            std::future::pending().await
        }
    }
    run_paused(async || {
        let second = Duration::from_secs(1);
        let discovery = RegistryDiscovery::start(Never);
        let heartbeat = Heartbeat::start(Never, endpoint("tcp@a:1"));
        sleep(DEFAULT_REGISTRY_TIMEOUT - second).await;
        assert!(heartbeat.last_error().is_none() && discovery.servers().borrow().error.is_none());
        sleep(2 * second).await;
        assert!(matches!(heartbeat.last_error(), Some(RegistryError::Timeout { .. })));
        assert_eq!(discovery.servers().borrow().attempts, 1);
        let begin = Instant::now();
        let ended =
            tokio::time::timeout(60 * second, heartbeat.shutdown()).await.expect("the end of the shutdown");
        assert!(matches!(ended, Err(RegistryError::Timeout { .. })), "{ended:?}");
        assert!(begin.elapsed() <= DEFAULT_REGISTRY_TIMEOUT + second / 10, "it took {:?}", begin.elapsed());
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
        // The tasks run on a clock that jumps over each pause, with a registry that answers at once: they write all the time.
        let paused = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let fails = || Err(RegistryError::Unreachable(Arc::new(std::fmt::Error)));
        let (discovery, heartbeat) = {
            let _inside = paused.enter();
            let heartbeat = Heartbeat::start(Fake(fails), endpoint("tcp@a:1"));
            (Arc::new(RegistryDiscovery::start(Fake(fails))), Arc::new(heartbeat))
        };
        let (stop, stopped) = oneshot::channel::<()>();
        std::thread::spawn(move || paused.block_on(stopped));
        let begin = Instant::now();
        let is_over = move || begin.elapsed() > Duration::from_secs(1);
        let client = client_over(Arc::clone(&discovery));
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..32 {
            let client = client.clone();
            callers.spawn(async move {
                while !is_over() {
                    registry_error(sum(&client).await);
                }
            });
        }
        // This looks at all that can be seen, with no pause.
        let (looking, looked) = oneshot::channel();
        std::thread::spawn(move || {
            while !is_over() {
                discovery.refresh();
                assert!(discovery.servers().borrow().list.is_none());
                heartbeat.last_error();
                heartbeat.is_registered();
            }
            looking.send(()).ok();
        });
        while let Some(ended) =
            within("the end of every caller: do they hold a lock?", callers.join_next()).await
        {
            ended.unwrap();
        }
        let ended = within("the end of the one that looks: does it hold a lock?", looked).await;
        ended.expect("the one that looks has panicked");
        drop(stop);
    });
}

/// However often it is called or hinted at without a list, the pauses between attempts grow.
///
/// A caller in a loop is a common caller. If each of its calls is a request, the back-off is for nothing: a registry
/// that is down because of its load gets thousands of requests a second.
///
/// Hint: after a failure, a hint cuts nothing short.
#[test]
fn calls_without_a_list_do_not_go_round_the_back_off() {
    run(async || {
        let registry = HandRegistry::start().await;
        let discovery = Arc::new(RegistryDiscovery::start(registry.client()));
        let client = client_over(Arc::clone(&discovery));
        let calling = async {
            loop {
                registry_error(sum(&client).await);
            }
        };
        let hinting = async {
            loop {
                discovery.refresh();
                sleep(Duration::from_millis(1)).await;
            }
        };
        let counting = async {
            registry.request().await.answer("503 Busy", &[], "").await;
            let begin = Instant::now();
            for _ in 0..4 {
                registry.request().await.answer("503 Busy", &[], "").await;
            }
            begin.elapsed()
        };
        let took = tokio::select! {
            never = calling => never,
            never = hinting => never,
            took = counting => took,
        };
        // Half of 100, 200, 400 and 800 ms: that is how much chance may take off.
        assert!(took >= Duration::from_millis(750), "four attempts in {took:?}");
    });
}

/// A call whose servers are down fails at once while the discovery rests after a failed attempt: no newer list can come in
/// its time.
///
/// Servers and registry are down together if the network is. A call that waits for the next attempt waits for nothing.
///
/// Hint: `refresh` says whether an attempt is on its way, and a back-off is none.
#[test]
fn a_call_does_not_wait_for_the_end_of_a_back_off() {
    run_paused(async || {
        let list = ServerList::new(vec![instance("tcp@dead:1")], Duration::from_secs(3600));
        let requests = AtomicU32::new(0);
        let discovery = Arc::new(RegistryDiscovery::start(Fake(move || {
            match requests.fetch_add(1, Ordering::Relaxed) {
                0 => Ok(list.clone()),
                _ => Err(RegistryError::Unreachable(Arc::new(std::fmt::Error))),
            }
        })));
        let client = client_over(Arc::clone(&discovery)).with_connector(|_, _| {
            Box::pin(async { Err(std::io::Error::from(std::io::ErrorKind::ConnectionRefused).into()) })
        });
        // The pause after so many failures is 2.5 s at least.
        let mut servers = discovery.servers();
        let failed = servers.wait_for(|servers| servers.attempts == 9);
        let failed = tokio::time::timeout(Duration::from_secs(3600), failed).await;
        drop(failed.expect("the eighth failure in a row, within an hour").unwrap());
        let begin = Instant::now();
        sum(&client).await.unwrap_err();
        assert!(begin.elapsed() < Duration::from_millis(500), "it failed after {:?}", begin.elapsed());
    });
}

/// A list to begin with is used at once, before the registry has answered.
///
/// A program that knows some servers, from its last run or its configuration, can start while the registry is
/// down.
///
/// Hint: put it where the answers go, before the first request.
#[test]
fn a_list_to_begin_with_is_used_at_once() {
    run(async || {
        let registry = HandRegistry::start().await;
        let seed = MultiServersDiscovery::new([endpoint("tcp@seed:1")]);
        let discovery = RegistryDiscovery::start_with(registry.client(), seed);
        assert_eq!(list_of(&discovery), ["tcp@seed:1"]);
        registry.request().await.answer("503 Busy", &[], "").await;
        let request = registry.request().await;
        assert_eq!(list_of(&discovery), ["tcp@seed:1"]);
        request.list(LEASE, &["tcp@a:1"]).await;
        wait_for_list(&discovery, &["tcp@a:1"]).await;
    });
}

/// A registry that says it is young each time, and lists other servers each time: the list does not grow without end.
/// And the registry's word on a weight is the newer one.
///
/// Hint: what the registry lists comes first, and of the rest as much as there is room for.
#[test]
fn the_list_of_a_young_registry_is_bounded() {
    run_paused(async || {
        let round = AtomicU32::new(0);
        let registry = Fake(move || {
            let round = round.fetch_add(1, Ordering::Relaxed);
            let servers =
                (1..=6000).map(|n| instance(&format!("tcp@{}.example:{n}", round.min(9))).weight(round));
            Ok(ServerList::new(servers.collect(), LEASE).age(Duration::ZERO))
        });
        let discovery = RegistryDiscovery::start(registry);
        for _ in 0..12 {
            sleep(LEASE / 3).await;
        }
        let list = discovery.servers().borrow().list.clone().unwrap();
        assert!((6000..=DEFAULT_MAX_SERVERS).contains(&list.len()), "{} servers", list.len());
        let weights: Vec<_> = list
            .iter()
            .filter(|server| server.endpoint.to_string().starts_with("tcp@9."))
            .map(|server| server.weight)
            .collect();
        assert!(weights.len() == 6000 && weights.iter().all(|weight| *weight > 9), "{weights:?}");
    });
}

/// Each time between two refreshes is shortened by chance, by up to a half.
///
/// Clients that were started together would else send their requests together, round after round.
///
/// Hint: as for heartbeats.
#[test]
fn refreshes_of_many_clients_spread() {
    run_paused(async || {
        let (sender, mut times) = mpsc::unbounded_channel();
        let begin = Instant::now();
        let mut discoveries = Vec::new();
        for _ in 0..20 {
            let sender = sender.clone();
            discoveries.push(RegistryDiscovery::start(Fake(move || {
                sender.send(begin.elapsed()).ok();
                Ok(ServerList::new(vec![], LEASE))
            })));
        }
        let mut next = async || within("a refresh", times.recv()).await.unwrap();
        for _ in 0..20 {
            assert_eq!(next().await, Duration::ZERO, "the first is at once");
        }
        let second: Vec<_> = [next().await, next().await, next().await, next().await, next().await].into();
        assert!(second.iter().all(|time| (LEASE / 6..=LEASE / 3).contains(time)), "{second:?}");
        assert!(second.iter().collect::<HashSet<_>>().len() > 1, "all at the same moment: {second:?}");
    });
}

/// Whatever the lease, a list is refreshed every 30 s. After failures it is tried again at the latest after 5 s, or after a
/// third of the lease, and after a success the pauses start anew.
///
/// Hint: as for a heartbeat, with `MAX_REFRESH_INTERVAL`.
#[test]
fn the_pauses_of_a_discovery_are_bounded() {
    run_paused(async || {
        let hour = Some(Duration::from_secs(3600));
        let script = [hour, None, None, None, None, None, None, None, None, hour, None, hour];
        let (registry, mut times) = Scripted::new(script);
        let _discovery = RegistryDiscovery::start(registry);
        let pauses = pauses(&mut times, 13).await;
        expect_pauses(&pauses[..1], &[30_000]);
        expect_pauses(&pauses[1..9], &[100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        expect_pauses(&pauses[9..], &[30_000, 100, 30_000, 30_000]);

        let (registry, mut times) = Scripted::new([Some(Duration::from_millis(1200)), None]);
        let _discovery = RegistryDiscovery::start(registry);
        expect_pauses(&super::pauses(&mut times, 5).await, &[400, 100, 200, 400, 400]);
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
    // Alone, as `tracing` asks only the thread that first comes to a line whether anyone wants that line.
    alone(module_path!(), "the_log_is_written_under_no_lock", || {
        run(async || {
            let registry = HandRegistry::start().await;
            let shared = Arc::<OnceLock<RegistryDiscovery>>::default();
            let (lines, mut written) = mpsc::unbounded_channel();
            let log = {
                let shared = Arc::clone(&shared);
                tracing_subscriber::fmt().with_writer(move || {
                    if let Some(discovery) = shared.get() {
                        drop(discovery.servers().borrow().clone());
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
            wait_for_list(first, &["tcp@a:1"]).await;
        });
    });
}
