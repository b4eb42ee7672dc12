//! tarpc over TCP, as its README and its examples write it: a task for each request, and its own TCP transport
//! with all defaults. So Nagle's algorithm is on, and its client sends at most 1000 requests that have no reply yet.

use std::net::SocketAddr;

use anyhow::Result;
use futures_util::{Stream, StreamExt};
use serde_bytes::ByteBuf;
use tarpc::serde_transport::tcp;
use tarpc::server::{BaseChannel, Channel};
use tarpc::tokio_serde::formats::{Bincode, Json};
use tarpc::{ClientMessage, Response, Transport, client, context};

use super::Caller;

/// The service of the benchmark.
#[tarpc::service]
pub(crate) trait Arith {
    async fn sum(a: i32, b: i32) -> i32;
    async fn echo(payload: ByteBuf) -> ByteBuf;
}

#[derive(Clone)]
struct Answers;

impl Arith for Answers {
    async fn sum(self, _: context::Context, a: i32, b: i32) -> i32 {
        super::sum(a, b)
    }

    async fn echo(self, _: context::Context, payload: ByteBuf) -> ByteBuf {
        payload
    }
}

pub(crate) async fn serve_bincode(announce: impl FnOnce(SocketAddr)) -> Result<()> {
    let incoming = tcp::listen("127.0.0.1:0", Bincode::default).await?;
    announce(incoming.local_addr());
    serve(incoming).await;
    Ok(())
}

pub(crate) async fn serve_json(announce: impl FnOnce(SocketAddr)) -> Result<()> {
    let incoming = tcp::listen("127.0.0.1:0", Json::default).await?;
    announce(incoming.local_addr());
    serve(incoming).await;
    Ok(())
}

async fn serve<T>(incoming: impl Stream<Item = std::io::Result<T>>)
where
    T: Transport<Response<ArithResponse>, ClientMessage<ArithRequest>> + Send + 'static,
    T::Error: Send + Sync,
{
    incoming
        .filter_map(async |connection| connection.ok())
        .for_each(async |transport| {
            let channel = BaseChannel::with_defaults(transport);
            tokio::spawn(channel.execute(Answers.serve()).for_each(async |request| {
                tokio::spawn(request);
            }));
        })
        .await;
}

pub(crate) async fn connect_bincode(addr: SocketAddr) -> Result<ArithClient> {
    let transport = tcp::connect(addr, Bincode::default).await?;
    Ok(ArithClient::new(client::Config::default(), transport).spawn())
}

pub(crate) async fn connect_json(addr: SocketAddr) -> Result<ArithClient> {
    let transport = tcp::connect(addr, Json::default).await?;
    Ok(ArithClient::new(client::Config::default(), transport).spawn())
}

impl Caller for ArithClient {
    async fn sum(&self, a: i32, b: i32) -> Result<i32> {
        Ok(ArithClient::sum(self, context::current(), a, b).await?)
    }

    async fn echo(&self, payload: Vec<u8>) -> Result<Vec<u8>> {
        let reply = ArithClient::echo(self, context::current(), ByteBuf::from(payload)).await?;
        Ok(reply.into_vec())
    }
}
