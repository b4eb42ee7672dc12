//! Hardening: a registry that breaks off, stalls, or lists too many servers.
//!
//! No new function. The limits are in `exchange` and `servers` in `src/registry/client.rs`.
//!
//! Chapter: Limits; What goes wrong without it

use super::*;

/// A connection that is reset in the middle of an exchange: the error's text says so, and says it once. That
/// holds for the text of the error itself and for the one with all its causes.
///
/// This text is all that the log of a heartbeat shows. hyper's own is "connection error", with the cause behind.
///
/// Hint: `error::error_chain` makes one text of an error and its causes, and leaves out what was said already. The
/// word that the test looks for, "reset", is the system's.
#[test]
fn an_exchange_that_breaks_names_the_cause() {
    run(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = client_of(listener.local_addr().unwrap());
        let resetting = async {
            let (mut io, _) = listener.accept().await.unwrap();
            io.read_u8().await.unwrap();
            io.set_zero_linger().unwrap();
        };
        let (result, ()) = within("an error", async { tokio::join!(client.servers(), resetting) }).await;
        let error = result.unwrap_err();
        assert!(matches!(error, RegistryError::Unreachable(_)), "{error:?}");
        for text in [error.to_string(), error_chain(&error.into())] {
            assert!(text.contains("reset"), "{text}");
            let parts: Vec<_> = text.split(": ").collect();
            assert_eq!(parts.iter().collect::<HashSet<_>>().len(), parts.len(), "said twice: {text}");
        }
    });
}

/// A refusal with a text that never comes to its end: the error is the status, with the text that has come so far.
///
/// A registry is overloaded, answers 503 and stalls. "It did not answer" would be wrong, and would take longer.
///
/// Hint: day 5 has the same at `CONNECT`: a short limit for reading the text of a refusal.
#[test]
fn a_registry_that_refuses_and_stalls_is_told_with_its_status() {
    run(async || {
        let registry = HandRegistry::start().await;
        let client = registry.client().timeout(Duration::MAX);
        let stalling = async {
            let mut request = registry.request().await;
            request.send(b"HTTP/1.1 503 Busy\r\nContent-Length: 100\r\n\r\nnot now").await;
            request
        };
        let asking = async { tokio::join!(client.servers(), stalling) };
        let (result, _unfinished) = within("the status", asking).await;
        match result {
            Err(RegistryError::Status { status, text }) => {
                assert_eq!((status, text.trim()), (503, "not now"));
            }
            other => panic!("expected the status, got {other:?}"),
        }
    });
}

/// A list of more servers than a registry holds is refused. One of exactly so many is taken.
///
/// Short names make a list of 150,000 in the bytes that are allowed. It would be a burden to everything behind:
/// the ring of `ConsistentHash` has a hundred points for each server, and calls wait while it is made.
///
/// Hint: count what is in the array, before you look at each entry.
#[test]
fn a_list_of_too_many_servers_is_refused() {
    run(async || {
        let registry = HandRegistry::start().await;
        let client = registry.client();
        for (servers, is_taken) in [(DEFAULT_MAX_SERVERS, true), (DEFAULT_MAX_SERVERS + 1, false)] {
            let list: Vec<_> = (1..=servers).map(|port| format!("tcp@a:{port}")).collect();
            let list: Vec<_> = list.iter().map(String::as_str).collect();
            let answering = async { registry.request().await.list(LEASE, &list).await };
            match tokio::join!(client.servers(), answering).0 {
                Ok(taken) => assert!(is_taken && taken.servers.len() == servers, "{servers} were taken"),
                Err(RegistryError::InvalidResponse(text)) => assert!(!is_taken, "{servers}: {text}"),
                other => panic!("{servers} servers: {other:?}"),
            }
        }
    });
}
