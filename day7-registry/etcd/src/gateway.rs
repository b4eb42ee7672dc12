//! etcd's JSON gateway: one POST, one answer, from whichever member has one.
//!
//! The gateway is gRPC in JSON. Keys and values are base64, numbers of 64 bits are text, and whatever is zero or empty
//! is left out.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use day7_registry::RegistryError;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::time::timeout;

/// Where a member of the cluster answers clients, such as `http://10.0.0.7:2379`.
pub type Member = Uri;

/// The longest answer that is read, in bytes: a list of 10,000 servers has two thirds of it.
const MAX_ANSWER_LEN: usize = 8 * 1024 * 1024;
/// What is quoted of a member's error.
const MAX_QUOTE: usize = 200;

/// The members, and the one that answered last.
#[derive(Debug)]
pub(crate) struct Gateway {
    http: Client<HttpConnector, Full<Bytes>>,
    members: Vec<Member>,
    current: AtomicUsize,
    /// For one request, whichever members it takes.
    pub(crate) limit: Duration,
}

impl Gateway {
    pub(crate) fn new(members: Vec<Member>, limit: Duration) -> Gateway {
        let http = Client::builder(TokioExecutor::new()).build_http();
        Gateway { http, members, current: AtomicUsize::new(0), limit }
    }

    /// Asks one member after the other, beginning with the one that answered last, until one has an answer. Each has an
    /// equal part of the time. To ask twice does no harm: an unused lease ends, the rest is the same again.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, RegistryError> {
        let mut last = RegistryError::Unreachable(Arc::from(Box::from("there are no members")));
        let share = self.limit / self.members.len().max(1) as u32;
        let first = self.current.load(Ordering::Relaxed);
        for attempt in 0..self.members.len() {
            let index = (first + attempt) % self.members.len();
            let answer = timeout(share, self.exchange(index, path, body)).await;
            match answer.unwrap_or(Err(RegistryError::Timeout { after: share })) {
                Ok(answer) => {
                    self.current.store(index, Ordering::Relaxed);
                    return Ok(answer);
                }
                // The request is wrong, not the member.
                Err(error @ RegistryError::Status { status: 400..500, .. }) => return Err(error),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn exchange(&self, member: usize, path: &str, body: &Value) -> Result<Value, RegistryError> {
        let response = self.send(member, path, body).await?;
        let status = response.status();
        let answer = Limited::new(response.into_body(), MAX_ANSWER_LEN).collect().await;
        let answer = answer.map_err(|error| RegistryError::Unreachable(Arc::from(error)))?.to_bytes();
        if !status.is_success() {
            let text: String = String::from_utf8_lossy(&answer).chars().take(MAX_QUOTE).collect();
            return Err(RegistryError::Status { status: status.as_u16(), text });
        }
        serde_json::from_slice(&answer).map_err(|error| RegistryError::InvalidResponse(error.to_string()))
    }

    /// Sends a request to a member, and returns the answer as it begins.
    async fn send(
        &self,
        member: usize,
        path: &str,
        body: &Value,
    ) -> Result<Response<Incoming>, RegistryError> {
        let unreachable =
            |error: Box<dyn std::error::Error + Send + Sync>| RegistryError::Unreachable(error.into());
        let member = self.members[member].to_string();
        let request = Request::post(format!("{}{path}", member.trim_end_matches('/')));
        let request =
            request.body(Full::from(body.to_string())).map_err(|error| unreachable(error.into()))?;
        self.http.request(request).await.map_err(|error| unreachable(error.into()))
    }

    /// An answer that goes on: from the next member in turn.
    pub(crate) async fn stream(&self, path: &str, body: &Value) -> Result<Incoming, RegistryError> {
        let member = self.current.fetch_add(1, Ordering::Relaxed) % self.members.len().max(1);
        let response = timeout(self.limit, self.send(member, path, body)).await;
        let response = response.unwrap_or(Err(RegistryError::Timeout { after: self.limit }))?;
        match response.status() {
            status if status.is_success() => Ok(response.into_body()),
            status => Err(RegistryError::Status { status: status.as_u16(), text: String::new() }),
        }
    }
}

pub(crate) fn base64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_STANDARD.encode(bytes)
}

pub(crate) fn from_base64(text: &Value) -> Option<Vec<u8>> {
    BASE64_STANDARD.decode(text.as_str()?).ok()
}

/// A number of 64 bits, which is text. One that is left out is 0.
pub(crate) fn number(value: &Value) -> i64 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or(0)
}
