//! The scheduler of a cluster with one node: binds every Pod that may run here, and says why the
//! others wait.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Binding, ObjectReference, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Api;
use kube::api::PostParams;

use super::events::Component;
use super::{Shared, write};

/// The labels that a node selector can ask for.
pub(super) fn labels(node: &str) -> BTreeMap<String, String> {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    [
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", arch),
        ("kubernetes.io/hostname", node),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// Why the Pod cannot be on this node; `None` when it can.
pub(super) fn objection(pod: &Pod, labels: &BTreeMap<String, String>) -> Option<String> {
    let selector = pod.spec.as_ref()?.node_selector.as_ref()?;
    let fits = selector
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value));
    (!fits).then(|| {
        "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.".to_owned()
    })
}

/// Whether the Pod waits for a node.
pub(super) fn wants_node(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    let gated = spec
        .and_then(|spec| spec.scheduling_gates.as_ref())
        .is_some_and(|gates| !gates.is_empty());
    spec.is_some_and(|spec| spec.node_name.is_none())
        && !gated
        && pod.metadata.deletion_timestamp.is_none()
}

/// Binds the Pod to this node, or writes down why not.
pub(super) async fn schedule(shared: &Shared, pod: &Pod) {
    let node = &shared.options.name;
    if let Some(message) = objection(pod, &labels(node)) {
        let component = Component::Scheduler;
        shared
            .events
            .send(component, pod, None, false, "FailedScheduling", &message);
        let mut status = pod.status.clone().unwrap_or_default();
        let conditions = status.conditions.get_or_insert_default();
        conditions.retain(|condition| condition.type_ != "PodScheduled");
        conditions.push(PodCondition {
            type_: "PodScheduled".to_owned(),
            status: "False".to_owned(),
            reason: Some("Unschedulable".to_owned()),
            message: Some(message),
            last_transition_time: Some(Time((shared.options.clock)())),
            observed_generation: pod.metadata.generation,
            ..PodCondition::default()
        });
        let _ = write::status(&shared.client, pod, &status).await;
        return;
    }
    let (name, namespace) = (
        pod.metadata.name.clone().unwrap_or_default(),
        pod.metadata.namespace.clone().unwrap_or_default(),
    );
    let binding = Binding {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(namespace.clone()),
            uid: pod.metadata.uid.clone(),
            ..ObjectMeta::default()
        },
        target: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(node.clone()),
            ..ObjectReference::default()
        },
    };
    let api: Api<Pod> = Api::namespaced(shared.client.clone(), &namespace);
    let bound = write::persist(|| async {
        api.create_subresource("binding", &name, &PostParams::default(), &binding)
            .await
            .map(|_: serde_json::Value| ())
    });
    if bound.await.is_ok() {
        let message = format!("Successfully assigned {namespace}/{name} to {node}");
        let component = Component::Scheduler;
        shared
            .events
            .send(component, pod, None, true, "Scheduled", &message);
    }
}
