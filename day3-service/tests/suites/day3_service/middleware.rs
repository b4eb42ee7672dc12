//! Middleware: a handler around a handler.
//!
//! Nothing to write: run it. The map is a `Handler`, and so are closures and an `Arc` of a handler. Read the tests,
//! then write a middleware of your own in `src/main.rs`.
//!
//! Works then: all of day 3's core: `cargo run` asks for a token before any method is called.
//!
//! Chapter: Middleware

use super::*;

/// Lets a request pass if its metadata has the token.
fn with_token(inner: Arc<dyn Handler>) -> impl Handler {
    move |request: Request| -> HandlerFuture {
        if request.metadata().get("token").is_some_and(|token| token == "open sesame") {
            return inner.call(request);
        }
        let error = RemoteError::new(Code::UNAUTHENTICATED, "this server asks for a token");
        Box::pin(std::future::ready(Err(error.into())))
    }
}

/// What the log has of a request: which layer it passed, the method, and who the peer is.
type Line = (&'static str, String, Option<SocketAddr>);

/// Notes each request that passes.
fn with_log(layer: &'static str, log: mpsc::UnboundedSender<Line>, inner: Arc<dyn Handler>) -> impl Handler {
    move |request: Request| {
        log.send((layer, request.service_method().to_owned(), request.peer())).ok();
        inner.call(request)
    }
}

/// A handler around the map looks at the metadata first: a call without the token is refused with a code, and
/// reaches no method. The typed client sends what its client has.
///
/// Hint: `Client::with_metadata` gives a handle whose calls carry one entry more; the other handles are as before.
#[test]
fn a_middleware_asks_for_a_token_in_the_metadata() {
    run(async || {
        let services = arith::services();
        let server = start(Server::new(with_token(Arc::new(services.clone())))).await;
        let client = connect(&server).await;
        let wrong = client.with_metadata("token", "open barley");
        for client in [&client, &wrong] {
            let error = error_of(client, "Arith.sum", TWO_AND_THREE).await;
            assert_eq!(*error.code(), Code::UNAUTHENTICATED);
        }
        assert_eq!(counts(&services, "Arith.sum").0, 0, "a call without the token reached its method");

        let knows_it = client.with_metadata("token", "open sesame").with_metadata("id", "7");
        let arith = ArithClient(knows_it);
        assert_eq!(within("the reply of sum", arith.sum(&TWO_AND_THREE)).await.unwrap(), 5);
        let error = error_of(&client, "Arith.sum", TWO_AND_THREE).await;
        assert_eq!(*error.code(), Code::UNAUTHENTICATED, "the token is on a handle that did not ask for it");

        // The same by hand, for clients in other languages.
        let mut peer = Peer::connect_json(server.addr).await;
        let sum = json!({"num1": 2, "num2": 3});
        peer.send(&call_with("Arith.sum", 1, json!({"token": "open barley"}), sum.clone())).await;
        assert_eq!(peer.read_message().await.code(), "unauthenticated");
        peer.send(&call_with("Arith.sum", 2, json!({"id": "7", "token": "open sesame"}), sum)).await;
        assert_eq!(peer.read_message().await.value(), 5);
    });
}

/// A handler around the map knows who calls: the peer's address, if the listener knows it.
///
/// Hint: the connection puts the address into each request.
#[test]
fn a_middleware_knows_the_peer() {
    run(async || {
        let (log, mut lines) = mpsc::unbounded_channel();
        let server = Server::new(with_log("log", log, Arc::new(arith::services())));
        let over_tcp = start(server.clone()).await;
        let mut peer = Peer::connect_json(over_tcp.addr).await;
        peer.expect_service().await;
        let addr = peer.io.local_addr().unwrap();
        assert_eq!(lines.try_recv(), Ok(("log", "Arith.sum".to_owned(), Some(addr))));

        let (mut peer, _served) = serve_in_memory(server);
        peer.handshake_json().await;
        peer.expect_service().await;
        assert_eq!(lines.try_recv(), Ok(("log", "Arith.sum".to_owned(), None)));
    });
}

/// Layers can be put around each other, as many as one likes, and chosen when the program runs: each is an
/// `Arc<dyn Handler>`. A request passes from the outside to the inside, as far as it gets.
///
/// Hint: `Handler` is object-safe, and implemented for `Arc<H>` also where `H` is not sized.
#[test]
fn layers_are_handlers_around_handlers() {
    run(async || {
        let (log, mut lines) = mpsc::unbounded_channel();
        let mut handler: Arc<dyn Handler> = Arc::new(arith::services());
        handler = Arc::new(with_log("inner", log.clone(), handler));
        handler = Arc::new(with_token(handler));
        handler = Arc::new(with_log("outer", log, handler));
        let server = start(Server::new(handler)).await;
        let client = connect(&server).await;

        error_of(&client, "Arith.sum", TWO_AND_THREE).await;
        assert_still_serves(&client.with_metadata("token", "open sesame")).await;
        let mut layers = Vec::new();
        while let Ok((layer, ..)) = lines.try_recv() {
            layers.push(layer);
        }
        assert_eq!(layers, ["outer", "outer", "inner"]);
    });
}
