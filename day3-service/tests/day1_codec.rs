//! Day 1.
mod support;
#[test]
fn smoke() {
    support::run(async || {
        let server = support::start(day3_service::Server::new(support::arith())).await;
        let mut peer = support::peer::Peer::connect_json(server.addr).await;
        peer.send(&support::peer::json_message("Arith.sum", 1, serde_json::json!({"num1":1,"num2":2}))).await;
        let m = peer.read_message().await;
        assert_eq!(m.value(), 3);
        peer.send(&support::peer::json_message("Arith.panic", 2, serde_json::json!({"num1":1,"num2":2})))
            .await;
        assert_eq!(peer.read_message().await.error(), "the handler panicked");
    });
}
