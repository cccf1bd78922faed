//! The garbage collector for Pods, as far as a cluster of one node needs it: a Pod that is deleted before it was given to
//! a node has no kubelet that would end it, so it is marked as failed, and goes. Without that the Job controller, which
//! waits for the end of each Pod that it counts, holds it for ever.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    MANAGER,
    cache::ObjectKey,
    inventory::Change,
    queue::{After, Inbox},
};

/// The controller. [`PodGarbageCollector::observe`] feeds it, [`PodGarbageCollector::run`] works.
pub(crate) struct PodGarbageCollector {
    client: Client,
    inbox: Inbox<ObjectKey>,
}

impl PodGarbageCollector {
    /// A collector that knows no Pod yet.
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            inbox: Inbox::new(),
        }
    }

    /// Takes a change of the inventory in.
    pub(crate) fn observe(&self, change: &Change) {
        let Change::Applied(resource, meta) = change else {
            return;
        };
        if resource.api.group.is_empty()
            && resource.api.kind == "Pod"
            && meta.deletion_timestamp.is_some()
        {
            let key = (
                meta.namespace.clone().unwrap_or_default(),
                meta.name.clone().unwrap_or_default(),
            );
            self.inbox.add(vec![key]);
        }
    }

    /// Works until `shutdown`; a second call does nothing.
    pub(crate) async fn run(&self, concurrency: usize, shutdown: &CancellationToken) {
        self.inbox
            .run(concurrency, shutdown, |key| self.work(key))
            .await;
    }

    async fn work(&self, (namespace, name): ObjectKey) -> After {
        match self.collect(&namespace, &name).await {
            Ok(()) => After::Idle,
            Err(kube::Error::Api(status)) if status.is_not_found() => After::Idle,
            Err(kube::Error::Api(status)) if status.is_conflict() => After::Again(Duration::ZERO),
            Err(error) => {
                warn!(%error, namespace, name, "Pod without a node not collected");
                After::Failed
            }
        }
    }

    async fn collect(&self, namespace: &str, name: &str) -> Result<(), kube::Error> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let Some(pod) = pods.get_opt(name).await? else {
            return Ok(());
        };
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
        if pod.metadata.deletion_timestamp.is_none() || node.is_some() {
            return Ok(());
        }
        let phase = pod.status.as_ref().and_then(|status| status.phase.clone());
        if !matches!(phase.as_deref(), Some("Succeeded" | "Failed")) {
            let failed = json!({
                "metadata": {"uid": pod.uid()},
                "status": {"phase": "Failed"},
            });
            let params = PatchParams {
                field_manager: Some(MANAGER.to_owned()),
                ..PatchParams::default()
            };
            pods.patch_status(name, &params, &Patch::Merge(failed))
                .await?;
        }
        if pod.metadata.deletion_grace_period_seconds == Some(0) {
            return Ok(());
        }
        let at_once = DeleteParams::default()
            .grace_period(0)
            .preconditions(Preconditions {
                uid: pod.uid(),
                resource_version: None,
            });
        pods.delete(name, &at_once).await.map(drop)
    }
}
