//! Changes are seen at once: a watch asks the discovery to look again.

use std::sync::Arc;
use std::time::Duration;

use day7_registry::{Discovery, RegistryDiscovery, RegistryError};
use http_body_util::BodyExt;
use serde_json::json;
use tokio_util::task::AbortOnDropHandle;

use crate::registry::EtcdRegistry;

/// The pause after a watch has ended, before the next one, with the next member.
const PAUSE: Duration = Duration::from_secs(1);

impl EtcdRegistry {
    /// A discovery of the service's servers that looks again as soon as etcd reports a change, and every third of a
    /// lease, as [`RegistryDiscovery`] does by itself. The task that watches ends when the handle is dropped.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn discovery(&self) -> (Arc<RegistryDiscovery>, AbortOnDropHandle<()>) {
        let discovery = Arc::new(RegistryDiscovery::start(self.clone()));
        let (registry, watched) = (self.clone(), Arc::clone(&discovery));
        let watching = tokio::spawn(async move {
            loop {
                if let Err(error) = registry.watch(&watched).await {
                    tracing::debug!(%error, "the watch has ended");
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
        (discovery, AbortOnDropHandle::new(watching))
    }

    /// Each piece of the answer means that something has changed. The list itself is read anew.
    async fn watch(&self, discovery: &RegistryDiscovery) -> Result<(), RegistryError> {
        let mut changes =
            self.gateway.stream("/v3/watch", &json!({ "create_request": self.range() })).await?;
        while let Some(Ok(_)) = changes.frame().await {
            discovery.refresh();
        }
        Ok(())
    }
}
