//! The trait `Registry` on etcd: a server is a key with a lease.
//!
//! ```text
//! register     no lease yet? grant, put      a lease? keepalive       the lease is lost? grant, put
//! deregister   revoke: the key goes with its lease
//! servers      range over /rrpc/NAME/
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use day7_registry::{
    DEFAULT_LEASE, DEFAULT_REGISTRY_TIMEOUT, Endpoint, Instance, Registry, RegistryError, ServerList,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::gateway::{Gateway, Member, base64, from_base64, number};

/// A registry that an etcd cluster keeps: register servers of one service in it, and list them.
///
/// Clones share what was registered. That is one server: after another instance was registered, the entry of the first one
/// stays until its lease ends.
#[derive(Clone, Debug)]
pub struct EtcdRegistry {
    pub(crate) gateway: Arc<Gateway>,
    /// Where the keys of the service begin.
    prefix: String,
    ttl: Duration,
    /// Held across the requests of one registration, so that there is one lease.
    held: Arc<Mutex<Option<Lease>>>,
}

#[derive(Debug)]
struct Lease {
    /// As etcd writes it: 64 bits, as text.
    id: Value,
    instance: Instance,
}

/// What stands at a key.
#[derive(Serialize, Deserialize)]
struct Entry {
    endpoint: String,
    weight: u32,
}

impl EtcdRegistry {
    /// The servers of `service`, kept by these members. All of them are tried; name at least two.
    pub fn new(members: impl IntoIterator<Item = Member>, service: &str) -> EtcdRegistry {
        EtcdRegistry {
            gateway: Arc::new(Gateway::new(members.into_iter().collect(), DEFAULT_REGISTRY_TIMEOUT)),
            prefix: format!("/rrpc/{service}/"),
            ttl: DEFAULT_LEASE,
            held: Arc::default(),
        }
    }

    /// Asks for leases of this length, rounded up to whole seconds; etcd may grant longer ones. Default:
    /// [`DEFAULT_LEASE`].
    pub fn lease(mut self, ttl: Duration) -> EtcdRegistry {
        self.ttl = ttl;
        self
    }

    /// All keys of the service, and no other: from the prefix to the one behind it.
    pub(crate) fn range(&self) -> Value {
        let end = format!("{}0", self.prefix.trim_end_matches('/')); // "0" is what comes after "/"
        json!({ "key": base64(&self.prefix), "range_end": base64(end) })
    }

    /// How long the lease has now, or `None` if it is lost. etcd answers 200 in both cases: with a lost lease, there
    /// is no TTL in it.
    async fn keep_alive(&self, id: &Value) -> Result<Option<Duration>, RegistryError> {
        let answer = self.gateway.post("/v3/lease/keepalive", &json!({ "ID": id })).await?;
        let ttl = number(&answer["result"]["TTL"]);
        Ok((ttl > 0).then(|| Duration::from_secs(ttl.unsigned_abs())))
    }

    async fn grant(&self) -> Result<(Value, Duration), RegistryError> {
        let seconds = self.ttl.as_nanos().div_ceil(1_000_000_000).clamp(1, 1_000_000);
        let answer = self.gateway.post("/v3/lease/grant", &json!({ "TTL": seconds })).await?;
        match (&answer["ID"], number(&answer["TTL"])) {
            (id @ Value::String(_), ttl @ 1..) => Ok((id.clone(), Duration::from_secs(ttl.unsigned_abs()))),
            _ => Err(RegistryError::InvalidResponse("it grants no lease".to_owned())),
        }
    }

    /// Each lease has a key of its own. So a process that has been replaced cannot take its endpoint back, nor take the
    /// new one's entry along when it goes.
    async fn put(&self, id: &Value, instance: &Instance) -> Result<(), RegistryError> {
        let Instance { endpoint, weight, .. } = instance;
        let key = format!("{}{endpoint}/{}", self.prefix, id.as_str().unwrap_or_default());
        let entry = json!(Entry { endpoint: endpoint.to_string(), weight: *weight }).to_string();
        let put = json!({ "key": base64(key), "value": base64(entry), "lease": id });
        self.gateway.post("/v3/kv/put", &put).await.map(|_| ())
    }
}

impl Registry for EtcdRegistry {
    async fn register(&self, instance: &Instance) -> Result<Duration, RegistryError> {
        let mut held = self.held.lock().await;
        if let Some(lease) = held.as_ref().filter(|lease| lease.instance == *instance)
            && let Some(ttl) = self.keep_alive(&lease.id).await?
        {
            return Ok(ttl);
        }
        let (id, ttl) = self.grant().await?;
        self.put(&id, instance).await?;
        *held = Some(Lease { id, instance: instance.clone() });
        Ok(ttl)
    }

    async fn deregister(&self, _: &Instance) -> Result<(), RegistryError> {
        let mut held = self.held.lock().await;
        let Some(lease) = held.as_ref() else { return Ok(()) };
        match self.gateway.post("/v3/lease/revoke", &json!({ "ID": lease.id })).await {
            // 404: it has ended already.
            Ok(_) | Err(RegistryError::Status { status: 404, .. }) => {
                *held = None;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn servers(&self) -> Result<ServerList, RegistryError> {
        let mut answer = self.gateway.post("/v3/kv/range", &self.range()).await?;
        let mut newest = BTreeMap::new();
        for entry in answer["kvs"].as_array_mut().map(std::mem::take).unwrap_or_default() {
            let Some(instance) = parse(&entry["value"]) else {
                tracing::warn!(key = ?entry["key"], "left out: no server");
                continue;
            };
            // A server that came back before its old lease had ended has two entries.
            let revision = number(&entry["create_revision"]);
            let known = newest.entry(instance.endpoint.clone()).or_insert((revision, instance.clone()));
            if known.0 < revision {
                *known = (revision, instance);
            }
        }
        let servers = newest.into_values().map(|(_, instance)| instance).collect();
        // The cluster remembers: it knows all servers at any time.
        Ok(ServerList::new(servers, self.ttl))
    }

    fn time_limit(&self) -> Duration {
        self.gateway.limit
    }
}

fn parse(value: &Value) -> Option<Instance> {
    let Entry { endpoint, weight } = serde_json::from_slice(&from_base64(value)?).ok()?;
    let endpoint: Endpoint = endpoint.parse().ok()?;
    Some(Instance::new(endpoint).weight(weight))
}
