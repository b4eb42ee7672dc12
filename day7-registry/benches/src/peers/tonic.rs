//! tonic: gRPC over one HTTP/2 connection, with its defaults but one. A server lets a client have 200 calls in
//! flight; the workload has up to 1024, so the limit is raised, as a user would who needs that many.

use std::net::SocketAddr;

use anyhow::Result;
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};

use super::Caller;

/// What tonic's generator makes of the service; see `build.rs`.
#[allow(missing_docs, unreachable_pub, clippy::all)]
mod generated {
    tonic::include_proto!("bench.Arith");
}

use generated::arith_client::ArithClient;
use generated::arith_server::{Arith, ArithServer};

const MAX_IN_FLIGHT: u32 = 1024;

// These five are what prost makes of a `.proto` file.

/// Two numbers.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct SumRequest {
    #[prost(int32, tag = "1")]
    a: i32,
    #[prost(int32, tag = "2")]
    b: i32,
}

/// Their sum.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct SumReply {
    #[prost(int32, tag = "1")]
    sum: i32,
}

/// Any bytes.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct EchoRequest {
    #[prost(bytes = "vec", tag = "1")]
    payload: Vec<u8>,
}

/// The same bytes.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct EchoReply {
    #[prost(bytes = "vec", tag = "1")]
    payload: Vec<u8>,
}

struct Answers;

#[tonic::async_trait]
impl Arith for Answers {
    async fn sum(&self, request: Request<SumRequest>) -> Result<Response<SumReply>, Status> {
        let SumRequest { a, b } = request.into_inner();
        Ok(Response::new(SumReply { sum: super::sum(a, b) }))
    }

    async fn echo(&self, request: Request<EchoRequest>) -> Result<Response<EchoReply>, Status> {
        Ok(Response::new(EchoReply { payload: request.into_inner().payload }))
    }
}

pub(crate) async fn serve(announce: impl FnOnce(SocketAddr)) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    announce(listener.local_addr()?);
    // `Server::serve` sets this option too, but it does not tell which port it got.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    Server::builder()
        .max_concurrent_streams(MAX_IN_FLIGHT)
        .add_service(ArithServer::new(Answers))
        .serve_with_incoming(incoming)
        .await?;
    Ok(())
}

pub(crate) async fn connect(addr: SocketAddr) -> Result<ArithClient<Channel>> {
    Ok(ArithClient::new(Endpoint::try_from(format!("http://{addr}"))?.connect().await?))
}

impl Caller for ArithClient<Channel> {
    async fn sum(&self, a: i32, b: i32) -> Result<i32> {
        // tonic's methods take `&mut self`; its documentation says that a clone for each call is cheap.
        Ok(ArithClient::sum(&mut self.clone(), SumRequest { a, b }).await?.into_inner().sum)
    }

    async fn echo(&self, payload: Vec<u8>) -> Result<Vec<u8>> {
        Ok(ArithClient::echo(&mut self.clone(), EchoRequest { payload }).await?.into_inner().payload)
    }
}
