//! Hardening: servers that fall silent, a list that is a moment old, connectors, and very many servers.
//!
//! Write `any_connected` in `src/balance/failover.rs`. For the rest see `src/balance/pool.rs`.
//!
//! Chapter: A server that hangs; Servers come and go; Limits

use super::*;

/// A server whose connection was given up for silence rests, as one that cannot be dialed: later calls go to others
/// without waiting for it.
///
/// A cable that is cut refuses nothing. The calls that were on their way have waited long enough for it; those after
/// them should not wait for a handshake that has no answer.
///
/// Hint: the task that has dialed waits for `Client::closed`, and looks at the variant.
#[test]
fn a_server_that_fell_silent_rests() {
    run(async || {
        let good = Site::start("good").await;
        let (listener, silent) = by_hand().await;
        let short = Duration::from_millis(100);
        let options =
            json_only().ping_interval(short).ping_timeout(short).call_timeout(Duration::from_secs(20));
        let client = directed([&silent, &good.endpoint], options);
        let to_silent = to(&client, &silent);
        let lost = spawn_call(&to_silent, "Site.name");
        let mut peer = next_client(&listener).await;
        next_call(&mut peer).await; // and from here on, it says nothing; nor does it answer another handshake
        match outcome(lost).await {
            Err(BalanceError::Call { source: Error::Disconnected(_), endpoint }) => {
                assert_eq!(endpoint, silent);
            }
            other => panic!("the call should have been lost, but: {other:?}"),
        }
        let begin = Instant::now();
        for _ in 0..20 {
            assert_eq!(name(&to_silent).await, "good");
        }
        // Half of its time would be 10 s.
        assert!(begin.elapsed() < Duration::from_secs(5), "20 calls took {:?}", begin.elapsed());
    });
}

/// A server that closes its connection, with a goaway or without one, does not rest: the next call dials it at once.
///
/// It may have been idle for too long, or be a new process by now. It has said that it is there, which one that fell silent
/// has not.
///
/// Hint: only a connection that was given up for silence counts as a failure to dial.
#[test]
fn a_server_that_closed_its_connection_is_dialed_at_once() {
    run(async || {
        let good = Site::start("good").await;
        let (listener, closing) = by_hand().await;
        let client = directed([&closing, &good.endpoint], json_only());
        let to_closing = to(&client, &closing);
        for has_goaway in [true, false, true, false] {
            let call = spawn_call(&to_closing, "Site.name");
            let mut peer = next_client(&listener).await;
            let request = next_call(&mut peer).await;
            answer(&mut peer, &request, json!("closing")).await;
            assert_eq!(outcome(call).await.unwrap(), "closing");
            if has_goaway {
                peer.send(&goaway("no call for a while")).await;
                peer.expect_end().await;
            }
            drop(peer);
            eventually("the client notices the end", || client.connections() == 0).await;
        }
        assert_eq!(good.seen.calls(), 0);
    });
}

/// A list that is a moment old, and a newer one for who asks for it.
struct Behind {
    servers: watch::Sender<Servers>,
    /// What comes of the first `refresh`.
    news: std::sync::Mutex<Option<Vec<Instance>>>,
    /// How often it was called.
    asked: AtomicUsize,
}

impl Behind {
    fn new(list: &[&Endpoint], news: Option<&[&Endpoint]>) -> Arc<Behind> {
        let instances =
            |list: &[&Endpoint]| list.iter().map(|server| Instance::from((*server).clone())).collect();
        let list: Vec<_> = instances(list);
        let servers = Servers { list: Some(list.into()), ..Servers::default() };
        Arc::new(Behind {
            servers: watch::Sender::new(servers),
            news: std::sync::Mutex::new(news.map(instances)),
            asked: AtomicUsize::new(0),
        })
    }
}

impl Discovery for Behind {
    fn servers(&self) -> watch::Receiver<Servers> {
        self.servers.subscribe()
    }

    fn refresh(&self) -> bool {
        self.asked.fetch_add(1, SeqCst);
        let servers = self.servers.clone();
        if let Some(news) = self.news.lock().unwrap().take() {
            tokio::spawn(async move {
                tokio::task::yield_now().await;
                servers.send_modify(|servers| {
                    servers.list = Some(news.into());
                    servers.attempts += 1;
                });
            });
        }
        true
    }
}

/// When no server of the list can be called, the discovery is asked once for a newer list, and the call goes to what is
/// new there.
///
/// In a rolling restart each new server is up before the old one stops, and yet 146 of 2000 calls failed in the first
/// version of this course: their list was a moment old.
///
/// Hint: `Discovery::refresh`, and then wait until `attempts` has grown.
#[test]
fn a_call_that_no_server_takes_asks_for_a_newer_list() {
    run(async || {
        let (_port, old) = refusing();
        let refused = Site::start("refused").await;
        refused.order(Order::Kill);
        let new = Site::start("new").await;
        for mode in [SelectMode::RoundRobin, SelectMode::LeastLoaded, key("k")] {
            let list = [&old, &refused.endpoint];
            let discovery = Behind::new(&list, Some(&[&old, &refused.endpoint, &new.endpoint]));
            let client = BalancedClient::new(Arc::clone(&discovery), mode, &Options::default());
            assert_eq!(name(&client).await, "new");
            assert_eq!(discovery.asked.load(SeqCst), 1, "how often the discovery was asked");
            assert_eq!(name(&client).await, "new");
            assert_eq!(discovery.asked.load(SeqCst), 1, "a server can be called, and nothing is to be asked");
        }
    });
}

/// A newer list that has nothing new, and one that does not come, leave the call with its error, in time.
///
/// A call must not become a question without end.
///
/// Hint: ask once, and wait a second at most, or as long as the call may take.
#[test]
fn a_newer_list_is_waited_for_once_and_not_for_long() {
    run(async || {
        let (_port, down) = refusing();
        for news in [Some(&[&down][..]), None] {
            let discovery = Behind::new(&[&down], news);
            let options = Options::default().call_timeout(Duration::from_secs(15));
            let client = BalancedClient::new(Arc::clone(&discovery), SelectMode::RoundRobin, &options);
            let begin = Instant::now();
            match try_call(&client).await {
                Err(BalanceError::Dial { endpoint, source }) if endpoint == down => {
                    assert!(matches!(*source, Error::Io(_)), "{source:?}");
                }
                other => panic!("dialing should have failed, but: {other:?}"),
            }
            assert!(begin.elapsed() < Duration::from_secs(7), "it took {:?}", begin.elapsed());
            assert_eq!(discovery.asked.load(SeqCst), 1, "how often the discovery was asked");
        }
    });
}

/// A call that finds no list waits for the first one. If the attempt to learn it fails, so does the call, with the error of
/// the discovery.
///
/// A program starts before its registry has answered. Its first call need not fail; and if it does, "no servers" would be
/// the wrong reason.
///
/// Hint: `Servers` tells an empty list from one that is not known, and has the error.
#[test]
fn a_call_waits_for_the_first_list() {
    run(async || {
        let site = Site::start("a").await;
        let list = Arc::new(MultiServersDiscovery::unknown());
        let client = client_of(&list, Options::default());
        for is_good in [false, false, true] {
            let mut call = pin!(client.call::<_, String>("Site.name", &()));
            let mut broadcast = pin!(client.broadcast::<_, String>("Site.name", &()));
            for _ in 0..10 {
                assert!(waits(call.as_mut()).await, "there is no list yet, and no failure");
                assert!(waits(broadcast.as_mut()).await, "there is no list yet, and no failure");
                tokio::task::yield_now().await;
            }
            if is_good {
                list.update([site.endpoint.clone().into()]);
                assert_eq!(within("the call", call).await.unwrap(), "a");
                assert_eq!(within("the broadcast", broadcast).await.unwrap(), "a");
                continue;
            }
            list.fail("the registry is asleep");
            for outcome in [within("the call", call).await, within("the broadcast", broadcast).await] {
                match outcome {
                    Err(BalanceError::Discovery(DiscoveryError::Unavailable(source))) => {
                        assert_eq!(source.to_string(), "the registry is asleep");
                    }
                    other => {
                        panic!("the call should have failed with the error of the discovery, but: {other:?}")
                    }
                }
            }
        }
    });
}

/// A server that has left the list gets no further call, in any mode, from the moment on at which the list has changed.
///
/// Its connection is closed a moment later, by a task; a call that is chosen from the connections that are there would still
/// go to it.
///
/// Hint: least-loaded chooses among the connected servers that are in the list.
#[test]
fn a_server_that_has_left_gets_no_call() {
    run(async || {
        let modes = [
            SelectMode::LeastLoaded,
            SelectMode::RoundRobin,
            SelectMode::Random,
            SelectMode::WeightedRoundRobin,
            key("k"),
        ];
        for mode in modes {
            let mut sites = Vec::new();
            for _ in 0..12 {
                sites.push(Site::start("left").await);
            }
            let stays = Site::start("stays").await;
            let list = list_of(sites.iter().chain([&stays]).map(|site| &site.endpoint));
            let client = client_of(&list, Options::default()).with_mode(mode.clone());
            within("a broadcast", client.broadcast::<_, String>("Site.name", &())).await.unwrap();
            assert_eq!(client.connections(), 13);
            list.update([stays.endpoint.clone().into()]);
            assert_eq!(name(&client).await, "stays", "{mode}");
        }
    });
}

/// With least-loaded, a server that is new in the list is dialed beside the calls: none waits for it, and it gets calls
/// when its connection is there.
///
/// A mode that chooses among the connected servers would leave a new one without calls.
///
/// Hint: each call takes any server of the list, and has it dialed if it is not connected.
#[test]
fn load_reaches_new_servers_beside_the_calls() {
    run(async || {
        let (old, new) = (Site::start("old").await, Site::hung("new").await);
        let list = list_of([&old.endpoint]);
        let client = client_of(&list, Options::default()).with_mode(SelectMode::LeastLoaded);
        assert_eq!(name(&client).await, "old");
        list.update([&old, &new].map(|site| site.endpoint.clone().into()));
        let begin = Instant::now();
        let dialed = async {
            while new.seen.accepted() == 0 {
                assert_eq!(name(&client).await, "old", "a call has waited for the new server");
            }
        };
        within("the new server is dialed", dialed).await;
        for _ in 0..20 {
            assert_eq!(name(&client).await, "old");
        }
        assert!(begin.elapsed() < Duration::from_secs(5), "the calls took {:?}", begin.elapsed());
        new.answer_handshakes();
        let used = async { while name(&client).await != "new" {} };
        within("the new server gets calls", used).await;
        assert_eq!(new.seen.accepted(), 1);
    });
}

/// With a connector, the client has its connections from there: calls and broadcasts go over streams in memory, to the
/// endpoint that was chosen, with the client's options.
///
/// TLS, a proxy, a test without sockets: how a server is reached is not the balancer's to decide.
///
/// Hint: `Client::dial` is the connector that is there if no other is given.
#[test]
fn a_connector_makes_the_connections() {
    run(async || {
        let connect = |endpoint: Endpoint, options: Options| -> Connecting {
            Box::pin(async move {
                let name = endpoint.to_string();
                let server = Server::new(move |request: Request| {
                    let name = name.clone();
                    async move { anyhow::Ok::<Reply>(request.reply(&name)?) }
                });
                let (ours, theirs) = tokio::io::duplex(4096);
                tokio::spawn(async move { server.serve_connection(theirs).await });
                Client::handshake(ours, &options).await
            })
        };
        let list = servers("ab");
        let client = directed(&list, json_only()).with_connector(connect);
        let mut called = [name(&client).await, name(&client).await];
        called.sort();
        assert_eq!(called, [list[0].to_string(), list[1].to_string()]);
        let all = within("a broadcast", client.broadcast_all::<_, String>("Site.name", &())).await.unwrap();
        assert!(
            all.iter().all(|(endpoint, name)| endpoint.to_string() == *name.as_ref().unwrap()),
            "{all:?}"
        );
        assert_eq!(client.connections(), 2);
    });
}

/// A connector that never ends is given up after the time for connecting, and the call goes elsewhere.
///
/// A connector is written elsewhere, and may forget its limit.
///
/// Hint: the pool limits the attempt, whichever connector makes it.
#[test]
fn a_connector_that_hangs_is_limited() {
    run(async || {
        let hang = |_: Endpoint, _: Options| -> Connecting { Box::pin(std::future::pending()) };
        let options = Options::default().connect_timeout(Duration::from_millis(50));
        let client = directed(&servers("a"), options).with_connector(hang);
        match try_call(&client).await {
            Err(BalanceError::Dial { source, .. }) => {
                assert!(matches!(*source, Error::Timeout { what: "connecting", .. }), "{source:?}");
            }
            other => panic!("connecting should have timed out, but: {other:?}"),
        }
    });
}

/// Of ten thousand servers one is alive. Once it is connected, a call dials three others at most before it goes there.
///
/// In the first version of this course each such call looked through the whole list, again for each server that it dialed:
/// 340 ms of CPU.
///
/// Hint: after a few that cannot be dialed, any connected server will do. (Here a connector stands for the network.)
#[test]
fn one_living_server_of_ten_thousand_is_found() {
    run(async || {
        let dials = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&dials);
        let connect = move |endpoint: Endpoint, options: Options| -> Connecting {
            counter.fetch_add(1, SeqCst);
            Box::pin(async move {
                if endpoint.to_string() != "tcp@alive:7000" {
                    return Err(Error::Io(std::io::ErrorKind::ConnectionRefused.into()));
                }
                let (ours, theirs) = tokio::io::duplex(4096);
                tokio::spawn(async move { site_server("alive", Seen::new()).serve_connection(theirs).await });
                Client::handshake(ours, &options).await
            })
        };
        let alive = Instance::new(endpoint("tcp@alive:7000"));
        let list = list_of([&alive.endpoint]);
        let client = client_of(&list, Options::default()).with_connector(connect);
        assert_eq!(name(&client).await, "alive");
        let dead = (1..10_000).map(|n| Instance::new(endpoint(&format!("tcp@dead-{n}.test:7000"))));
        list.update(dead.chain([alive]));
        for mode in [
            SelectMode::RoundRobin,
            SelectMode::Random,
            SelectMode::WeightedRoundRobin,
            SelectMode::LeastLoaded,
        ] {
            let before = dials.load(SeqCst);
            let client = client.with_mode(mode.clone());
            for _ in 0..50 {
                assert_eq!(name(&client).await, "alive");
            }
            let dials = dials.load(SeqCst) - before;
            assert!(dials <= 50 * 3, "{mode}: {dials} attempts for 50 calls");
        }
    });
}
