//! This course: day 7, with its defaults.

use std::net::SocketAddr;

use anyhow::Result;
use day7_registry::{Client, Codec, Options, Server, ServiceMap, service};
use serde_bytes::{ByteBuf, Bytes};
use tokio::net::TcpListener;

use super::Caller;

struct Arith;

impl Arith {
    async fn sum(&self, (a, b): (i32, i32)) -> Result<i32> {
        Ok(super::sum(a, b))
    }

    async fn echo(&self, payload: ByteBuf) -> Result<ByteBuf> {
        Ok(payload)
    }
}

/// The server of all three.
pub(crate) fn server() -> Result<Server> {
    let services = ServiceMap::new();
    services.add(service!("Arith", Arith, [sum, echo])?)?;
    Ok(Server::new(services))
}

pub(crate) async fn serve(announce: impl FnOnce(SocketAddr)) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    announce(listener.local_addr()?);
    server()?.serve(listener).await;
    Ok(())
}

pub(crate) async fn serve_http(announce: impl FnOnce(SocketAddr)) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    announce(listener.local_addr()?);
    server()?.serve_http(listener).await;
    Ok(())
}

pub(crate) async fn connect(addr: SocketAddr, codec: Codec) -> Result<Client> {
    Ok(Client::connect(addr, &Options::default().codecs([codec])).await?)
}

pub(crate) async fn connect_http(addr: SocketAddr) -> Result<Client> {
    Ok(Client::connect_http(addr, &Options::default().codecs([Codec::Bincode])).await?)
}

impl Caller for Client {
    async fn sum(&self, a: i32, b: i32) -> Result<i32> {
        Ok(self.call("Arith.sum", &(a, b)).await?)
    }

    async fn echo(&self, payload: Vec<u8>) -> Result<Vec<u8>> {
        let reply: ByteBuf = self.call("Arith.echo", Bytes::new(&payload)).await?;
        Ok(reply.into_vec())
    }
}
