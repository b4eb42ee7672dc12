//! The debug page.
//!
//! In `src/http/debug.rs`: `page`.
//!
//! Works then: a browser shows the services, their methods and what they count.
//!
//! Chapter: The page

use super::*;

/// A handler with a type that would be a tag, if it were not escaped.
async fn total(_: Arc<()>, sums: Vec<Sum>) -> anyhow::Result<Option<i64>> {
    Ok(sums.iter().map(|sum| i64::from(sum.num1) + i64::from(sum.num2)).reduce(|a, b| a + b))
}

async fn ping(_: Arc<()>, (): ()) -> anyhow::Result<()> {
    anyhow::bail!("no pong")
}

/// Two services, registered in an order that is not the alphabet's.
fn two_services() -> ServiceMap {
    let services = ServiceMap::new();
    let zoo = Service::builder("Zoo", ()).method("ping", ping).method("feed", ping).method("total", total);
    services.add(zoo.build().unwrap()).unwrap();
    services.add(Service::builder("Bank", ()).method("total", total).build().unwrap()).unwrap();
    services
}

/// The page shows every service and its methods with their types, sorted. A type such as `Vec<Sum>` must not become
/// a tag. A server that was not asked to show a page shows none.
///
/// What comes from elsewhere is escaped where it is put into HTML. The Go ancestor's page says that it is sorted, and
/// is in the order of a hash map.
///
/// Hint: `ServiceMap::services` and `Service::methods` are sorted. Escape `&`, `<`, `>` and quotes. The columns are
/// method, argument, reply, calls, errors, in flight.
#[test]
fn the_page_shows_services_methods_and_types_sorted_and_escaped() {
    run(async || {
        let services = two_services();
        let server = start_http(Server::new(services.clone()).debug_page(services)).await;
        let page = page(server.addr).await;
        for row in [
            ["feed", "()", "()", "0", "0", "0"],
            ["ping", "()", "()", "0", "0", "0"],
            ["total", "Vec<Sum>", "Option<i64>", "0", "0", "0"],
        ] {
            assert_row(&page, row);
        }
        let is_escaped =
            page.contains("Vec&lt;Sum&gt;") && !page.contains("<Sum>") && !page.contains("<i64>");
        assert!(is_escaped, "{page}");
        let mut names = texts(&page);
        names.retain(|text| ["Bank", "Zoo", "feed", "ping", "total"].contains(&text.as_str()));
        assert_eq!(names, ["Bank", "total", "Zoo", "feed", "ping", "total"]);

        let without = start_http(Server::new(two_services())).await;
        let (head, body) = ask(&mut Peer::connect(without.addr).await, &format!("GET {DEBUG_PATH}")).await;
        assert_eq!(status(&head), 404);
        assert!(!body.contains("Bank"), "{body}");
    });
}

/// The page is live: calls, errors and calls in flight count, however they came to the server; services that are
/// added appear, and those that are removed go.
///
/// Hint: the page reads the map that serves the calls, at each request. No copy.
#[test]
fn the_page_is_live() {
    run(async || {
        let (services, mut watch) = slow_services();
        for service in ["Bank", "Zoo"] {
            let service = Service::builder(service, ()).method("ping", ping).method("total", total);
            services.add(service.build().unwrap()).unwrap();
        }
        let server = Server::new(services.clone()).debug_page(services.clone());
        let (tcp, http) = (start(server.clone()).await, start_http(server).await);
        let through_http = connect_http(http.addr).await;
        let through_tcp = dial(&Endpoint::tcp(tcp.addr)).await.unwrap();
        for client in [&through_http, &through_http, &through_tcp] {
            let sums = vec![TWO_AND_THREE; 2];
            let total = client.call::<_, Option<i64>>("Bank.total", &sums);
            assert_eq!(within("a reply", total).await.unwrap(), Some(10));
        }
        let error = within("a reply", through_http.call::<_, ()>("Zoo.ping", &())).await.unwrap_err();
        assert!(matches!(error, Error::Remote(_)), "{error:?}");
        let slow = start_slow(&through_tcp, 1).await;
        watch.sees("started").await;

        let before = page(http.addr).await;
        assert_row(&before, ["total", "Vec<Sum>", "Option<i64>", "3", "0", "0"]);
        assert_row(&before, ["total", "Vec<Sum>", "Option<i64>", "0", "0", "0"]);
        assert_row(&before, ["ping", "()", "()", "1", "1", "0"]);
        assert_row(&before, ["wait", "u32", "u32", "1", "0", "1"]);

        watch.go.notify_one();
        assert_eq!(slow.await.unwrap(), 1);
        services.remove("Zoo").unwrap();
        services.add(Service::builder("Late", ()).method("come", ping).build().unwrap()).unwrap();
        let after = page(http.addr).await;
        assert_row(&after, ["come", "()", "()", "0", "0", "0"]);
        assert_row(&after, ["wait", "u32", "u32", "1", "0", "0"]);
        assert!(!after.contains("Zoo"), "{after}");
    });
}

/// The page says how many connections are open, on all ports of the server together, and for how long there is this
/// server.
///
/// Hint: the words are `connections` and `uptime`, each with its value in the next tag; the time as `h:mm:ss`. The
/// connection that asks for the page counts as well.
#[test]
fn the_page_counts_connections() {
    run(async || {
        let server = Server::new(arith()).debug_page(ServiceMap::new());
        let (tcp, http) = (start(server.clone()).await, start_http(server).await);
        let value = |page: &str, name: &str| {
            let texts = texts(page);
            let at = texts.iter().position(|text| text.to_lowercase().ends_with(name));
            at.and_then(|at| texts.get(at + 1).cloned()).unwrap_or_else(|| panic!("no {name} in {texts:#?}"))
        };
        let mut browser = Peer::connect(http.addr).await;
        let mut expect = async |connections: &str| {
            let what = format!("a page that counts {connections} connections");
            let seen = async {
                loop {
                    let (_, page) = ask(&mut browser, &format!("GET {DEBUG_PATH}")).await;
                    if value(&page, "connections") == connections {
                        break page;
                    }
                }
            };
            within(&what, seen).await
        };
        let page = expect("1").await;
        let uptime = value(&page, "uptime");
        assert!(uptime.starts_with("0:00:0"), "{uptime:?}");
        let clients = (connect_http(http.addr).await, dial(&Endpoint::tcp(tcp.addr)).await.unwrap());
        expect("3").await;
        drop(clients);
        expect("1").await;
    });
}

/// `HEAD` of the page has the head of the `GET` and no body. No answer is kept or guessed at: each has
/// `Cache-Control: no-store` and `X-Content-Type-Options: nosniff`.
///
/// Monitoring asks with `HEAD`. A browser that keeps the page shows old counts; one that guesses may take a text with
/// a peer's bytes in it for HTML.
///
/// Hint: hyper leaves out the body of an answer to `HEAD`. Make all answers in one function.
#[test]
fn head_has_no_body_and_no_answer_is_kept_or_guessed_at() {
    run(async || {
        let server = start_http(Server::new(arith()).debug_page(two_services())).await;
        let mut peer = Peer::connect(server.addr).await;
        peer.send(format!("HEAD {DEBUG_PATH} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await;
        let head = read_head(&mut peer.io).await;
        assert_eq!(status(&head), 200, "{head}");
        assert!(header(&head, "content-type").is_some_and(|value| value.starts_with("text/html")), "{head}");
        // What comes next on the connection is the next answer, so there was no body.
        let requests = [format!("GET {DEBUG_PATH}"), "GET /".to_owned(), format!("DELETE {DEBUG_PATH}")];
        let mut heads = vec![head];
        for request in &requests {
            heads.push(ask(&mut peer, request).await.0);
        }
        for head in heads {
            assert_eq!(header(&head, "cache-control"), Some("no-store"), "{head}");
            assert_eq!(header(&head, "x-content-type-options"), Some("nosniff"), "{head}");
        }
    });
}
