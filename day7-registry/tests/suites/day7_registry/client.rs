//! The registry's client.
//!
//! In `src/registry/url.rs`: `parse_url`. In `src/registry/client.rs`: `exchange` first, then `register`, `deregister`
//! and `servers`.
//!
//! Works then: a program registers itself and reads the list, over HTTP, with a limit on each request.
//!
//! Chapter: The wire; Files of today > src/registry/client.rs

use super::*;

/// Method, path, `Host`, the server with its weight, and who asks: each request has what HTTP and the registry want.
///
/// Every `HttpRegistry` is an instance of its own, and its clones are the same one. A registry or a proxy of another origin must understand them. Some of them refuse a `POST` that does not
/// say how long its content is, be it empty.
///
/// Hint: hyper writes what you give it and adds little. `Host` you have to set yourself.
#[test]
fn the_client_sends_plain_http() {
    run(async || {
        let registry = HandRegistry::start().await;
        let client = registry.client();
        let host = client.url().to_string().replace("http://", "").replace(REGISTRY_PATH, "");
        let server = instance("tcp@127.0.0.1:7001").weight(7);
        let check = |request: &HandRequest, method: &str, server: Option<&str>| {
            assert_eq!(request.head.line, format!("{method} /_rrpc_/registry HTTP/1.1"));
            assert_eq!(request.head.header("host"), Some(&*host), "{method}");
            assert_eq!(request.head.header("x-rrpc-server"), server, "{method}");
        };

        let (lease, id) = tokio::join!(client.register(&server), async {
            let request = registry.request().await;
            check(&request, "POST", Some("tcp@127.0.0.1:7001"));
            assert!(request.head.header("content-length").is_some(), "{:?}", request.head);
            assert_eq!(request.head.header("x-rrpc-weight"), Some("7"));
            let id = request.head.header("x-rrpc-instance").expect("an id").to_owned();
            request.grant(LEASE).await;
            id
        });
        assert_eq!(lease.unwrap(), LEASE);

        let (again, stranger) = (client.clone(), registry.client());
        for (client, is_same) in [(&again, true), (&stranger, false)] {
            let (lease, other) = tokio::join!(client.register(&server), async {
                let request = registry.request().await;
                let id = request.head.header("x-rrpc-instance").expect("an id").to_owned();
                request.grant(LEASE).await;
                id
            });
            assert_eq!((lease.unwrap(), id == other), (LEASE, is_same), "{id} and {other}");
        }

        let (list, ()) = tokio::join!(client.servers(), async {
            let request = registry.request().await;
            check(&request, "GET", None);
            request.list(LEASE, &["tcp@127.0.0.1:7001"]).await;
        });
        let list = list.unwrap();
        assert_eq!((texts(&list.servers), list.lease), (vec!["tcp@127.0.0.1:7001".to_owned()], LEASE));

        let (deregistered, ()) = tokio::join!(client.deregister(&server), async {
            let request = registry.request().await;
            check(&request, "DELETE", Some("tcp@127.0.0.1:7001"));
            assert_eq!(request.head.header("x-rrpc-instance"), Some(&*id));
            request.answer("204 No Content", &[], "").await;
        });
        deregistered.unwrap();
    });
}

/// An answer that is not of the 2xx is an error, with the status and the registry's text, even if the rest of
/// it looks good.
///
/// GeeRPC's heartbeat takes 500 for success, because some answer came.
///
/// Hint: look at the status before you look at anything else.
#[test]
fn only_a_2xx_status_is_a_success() {
    run(async || {
        let registry = HandRegistry::start().await;
        let client = registry.client();
        let server = instance("tcp@a:1");
        let lease = &["X-Rrpc-Lease-Ms: 9000"];
        for (line, code) in [("500 Oops", 500), ("503 Busy", 503), ("302 Found", 302), ("404 Nope", 404)] {
            let answering = async { registry.request().await.answer(line, lease, "[]").await };
            assert_eq!(status(tokio::join!(client.register(&server), answering).0), code);
            let answering = async { registry.request().await.answer(line, lease, "[]").await };
            assert_eq!(status(tokio::join!(client.deregister(&server), answering).0), code);
            let answering = async { registry.request().await.answer(line, lease, "[]").await };
            assert_eq!(status(tokio::join!(client.servers(), answering).0), code);
        }
        let answering = async { registry.request().await.answer("500 Oops", &[], "out of memory\n").await };
        match tokio::join!(client.register(&server), answering).0 {
            Err(RegistryError::Status { text, .. }) => assert_eq!(text.trim(), "out of memory"),
            other => panic!("expected the registry's text, got {other:?}"),
        }
    });
}

/// A 200 that is not the answer of a registry is an error too: no JSON array, no lease, a lease of zero, or a
/// list without end.
///
/// The port may belong to another program by now. And a lease of zero would make a heartbeat spin.
///
/// Hint: `http_body_util::Limited` ends a list without end. Check the lease where it is read.
#[test]
fn an_invalid_response_is_an_error() {
    run(async || {
        let registry = HandRegistry::start().await;
        let client = registry.client();
        let too_long = format!("[\"{}\"]", "a".repeat(MAX_LIST_LEN));
        let lists: [(&[&str], &str); 6] = [
            (&["X-Rrpc-Lease-Ms: 9000"], "<html>"),
            (&["X-Rrpc-Lease-Ms: 9000"], "{\"servers\":[]}"),
            (&["X-Rrpc-Lease-Ms: 9000"], &too_long),
            (&["X-Rrpc-Lease-Ms: 0"], "[]"),
            (&["X-Rrpc-Lease-Ms: soon"], "[]"),
            (&[], "[]"),
        ];
        for (headers, body) in lists {
            let answering = async { registry.request().await.answer("200 OK", headers, body).await };
            let result = tokio::join!(client.servers(), answering).0;
            assert!(matches!(result, Err(RegistryError::InvalidResponse(_))), "{headers:?}: {result:?}");
        }
        let longest = format!("[{{\"endpoint\":\"tcp@a:1\"}}{}]", " ".repeat(MAX_LIST_LEN - 24));
        assert_eq!(longest.len(), MAX_LIST_LEN);
        let answering =
            async { registry.request().await.answer("200 OK", &["X-Rrpc-Lease-Ms: 9000"], &longest).await };
        let list = tokio::join!(client.servers(), answering).0.expect("a list of exactly the limit");
        assert_eq!(texts(&list.servers), ["tcp@a:1"]);

        let server = instance("tcp@a:1");
        for headers in [&[][..], &["X-Rrpc-Lease-Ms: 0"]] {
            let answering = async { registry.request().await.answer("200 OK", headers, "{}").await };
            let result = tokio::join!(client.register(&server), answering).0;
            assert!(matches!(result, Err(RegistryError::InvalidResponse(_))), "{headers:?}: {result:?}");
        }
    });
}

/// A registry that does not answer, or stops in the middle of its answer, costs the time limit and no more. One
/// that is not there is a different error.
///
/// GeeRPC asks without a time limit, inside of the call.
///
/// Hint: one limit around connecting, asking and reading all of the answer.
#[test]
fn a_registry_that_hangs_costs_the_time_limit() {
    run(async || {
        let registry = HandRegistry::start().await;
        let after = Duration::from_millis(100);
        let client = registry.client().timeout(after);
        let silent = async { registry.request().await };
        let (result, unanswered) =
            within("the time limit", async { tokio::join!(client.servers(), silent) }).await;
        assert!(matches!(result, Err(RegistryError::Timeout { after: a }) if a == after), "{result:?}");
        drop(unanswered);

        let answer_half = async {
            let mut request = registry.request().await;
            let half = b"HTTP/1.1 200 OK\r\nX-Rrpc-Lease-Ms: 9000\r\nContent-Length: 9\r\n\r\n[";
            request.send(half).await;
            request
        };
        let (result, unfinished) =
            within("the time limit", async { tokio::join!(client.servers(), answer_half) }).await;
        assert!(matches!(result, Err(RegistryError::Timeout { .. })), "{result:?}");
        drop(unfinished);

        drop(registry);
        let result = within("no connection", client.servers()).await;
        assert!(matches!(result, Err(RegistryError::Unreachable(_))), "{result:?}");
    });
}

/// A URL may leave out the port and the path. What is no URL of a registry is refused, with a text that shows what
/// was given.
///
/// A mistake in a URL should be found when the program starts, and not at the first heartbeat, in a log.
///
/// Hint: `FromStr`, with an error that holds the text. `http::Uri` takes a URL apart for you, and it takes
/// more than a registry can have.
#[test]
fn urls_are_checked_when_they_are_parsed() {
    let good = [
        ("http://registry", "http://registry:80/_rrpc_/registry"),
        ("http://registry:9999/", "http://registry:9999/_rrpc_/registry"),
        ("http://[::1]", "http://[::1]:80/_rrpc_/registry"),
        ("http://10.0.0.7:9999/my/path", "http://10.0.0.7:9999/my/path"),
        ("http://r:1/_rrpc_/registry/Arith", "http://r:1/_rrpc_/registry/Arith"),
    ];
    for (text, full) in good {
        let url: RegistryUrl = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(url.to_string(), full);
        assert_eq!(full.parse::<RegistryUrl>().unwrap(), url, "what is shown can be parsed again");
    }
    let bad = [
        "https://registry",
        "ftp://registry",
        "registry:9999",
        "http://",
        "http://:9999",
        "http://registry:99999",
        "http://registry:",
        "http://me@registry",
        "http://registry/a?b",
        "http://registry/a#b",
        "http://registry/a b",
    ];
    for text in bad {
        match text.parse::<RegistryUrl>() {
            Ok(url) => panic!("{text:?} was taken for {url}"),
            Err(error) => assert!(error.to_string().contains(text), "{text:?}: {error}"),
        }
    }
}
