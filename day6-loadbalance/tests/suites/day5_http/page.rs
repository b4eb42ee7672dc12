//! The debug page.
//!
//! Write `Server::debug_page` in `src/server/mod.rs` and `page` in `src/http/debug.rs`.
//!
//! Chapter: Files of today > src/http/debug.rs; The wire > The page is open

use super::*;

/// The page shows every service, its methods with their types, and how often each was called; and it is
/// sorted, as it says. A type such as `Vec<Sum>` must not become a tag.
///
/// Hint: `ServiceMap::services` and `Service::methods` are sorted. Escape `&`, `<`, `>` and quotes.
#[test]
fn the_debug_page_shows_services_methods_and_types_sorted_and_escaped() {
    run(async || {
        let services = two_services();
        let door = open(Server::new(services.clone()).debug_page(services)).await;
        let page = page(door.addr).await;
        for row in
            [["feed", "()", "()", "0"], ["ping", "()", "()", "0"], ["total", "Vec<Sum>", "Option<i64>", "0"]]
        {
            assert_row(&page, row);
        }
        assert!(
            page.contains("Vec&lt;Sum&gt;") && !page.contains("<Sum>") && !page.contains("<i64>"),
            "{page}"
        );

        let mut names = texts(&page);
        names.retain(|text| ["Bank", "Zoo", "feed", "ping", "total"].contains(&text.as_str()));
        assert_eq!(names, ["Bank", "total", "Zoo", "feed", "ping", "total"]);
    });
}

/// The page is live: calls count, through whichever door they come, services that are added appear and those
/// that are removed go.
///
/// Hint: the page reads the map that serves the calls, at each request. No copy.
#[test]
fn the_debug_page_is_live() {
    run(async || {
        let services = two_services();
        let server = Server::new(services.clone()).debug_page(services.clone());
        let (tcp, http) = (start(server.clone()).await, open(server).await);
        let through_http = connect_http(http.addr).await;
        let through_tcp = dial(&Endpoint::tcp(tcp.addr)).await.unwrap();
        let sums = vec![TWO_AND_THREE, TWO_AND_THREE];
        for client in [&through_http, &through_http, &through_tcp] {
            let total = client.call::<_, Option<i64>>("Bank.total", &sums);
            assert_eq!(within("a reply", total).await.unwrap(), Some(10));
        }
        let error = within("a reply", through_http.call::<_, ()>("Zoo.ping", &())).await.unwrap_err();
        assert!(matches!(error, Error::Remote(_)), "{error:?}");
        let before = page(http.addr).await;
        assert_row(&before, ["total", "Vec<Sum>", "Option<i64>", "3"]);
        assert_row(&before, ["total", "Vec<Sum>", "Option<i64>", "0"]);
        assert_row(&before, ["ping", "()", "()", "1"]);

        services.remove("Zoo").unwrap();
        services.add(Service::builder("Late", ()).method("come", ping).build().unwrap()).unwrap();
        let after = page(http.addr).await;
        assert_row(&after, ["come", "()", "()", "0"]);
        assert_row(&after, ["total", "Vec<Sum>", "Option<i64>", "3"]);
        assert!(!after.contains("Zoo"), "{after}");
    });
}

/// A server that was not asked to show a page shows none: what it can do is nobody's business.
///
/// Hint: the page is an option of the server, and off by default.
#[test]
fn without_debug_page_there_is_no_page() {
    run(async || {
        let door = open(Server::new(two_services())).await;
        let (head, body) = ask(&mut Peer::connect(door.addr).await, &format!("GET {DEBUG_PATH}")).await;
        assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
        assert!(!body.contains("Bank"), "{body}");
    });
}
