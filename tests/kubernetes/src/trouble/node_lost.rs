//! The node is gone for good while agents run: its kubelet says nothing any more, and somebody, as an autoscaler does,
//! deletes the Node. Then another one comes.

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, ObjectMeta, PostParams},
};
use nix::sys::signal::Signal;

use super::{
    judge::Ends,
    stage::{SOON, Stage, signal_part},
};
use crate::api;

/// Created before the node goes.
const BEFORE: usize = 20;
/// Those that come later have never been on it.
pub(super) const ENDS: Ends = Ends {
    lost_at_least: 1,
    lost_at_most: BEFORE,
};

pub(super) async fn happens(stage: &mut Stage<'_>) -> Result<()> {
    stage.two_operators().await?;
    stage.create(BEFORE).await?;
    stage.more_start(5).await?;
    let client = stage.setting.client.clone();
    let nodes: Api<Node> = Api::all(client.clone());
    let listed = nodes.list(&ListParams::default()).await?;
    let node = listed.items.into_iter().next().context("it has no node")?;
    let name = node.name_any();
    signal_part("kubelet", Signal::SIGSTOP)?;
    nodes.delete(&name, &DeleteParams::default()).await?;
    // These have no node to run on.
    stage.create(5).await?;
    // The garbage collector for Pods waits 40 s in case the Node comes back, and then takes them away.
    let on_the_node = |pod: &Pod| {
        let bound = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
        let phase = pod.status.as_ref().and_then(|now| now.phase.as_deref());
        bound == Some(&name) && !matches!(phase, Some("Succeeded" | "Failed"))
    };
    let pods = Api::<Pod>::namespaced(client, &stage.namespace);
    api::until(pods, "", SOON, "the end of its Pods", |pods| {
        !pods.values().any(on_the_node)
    })
    .await?;
    signal_part("kubelet", Signal::SIGCONT)?;
    let again = Node {
        metadata: ObjectMeta {
            name: Some(name),
            labels: node.metadata.labels,
            annotations: node.metadata.annotations,
            ..ObjectMeta::default()
        },
        spec: node.spec.map(|mut spec| {
            // What Kubernetes has put there because the kubelet was silent.
            spec.taints = None;
            spec
        }),
        status: None,
    };
    nodes.create(&PostParams::default(), &again).await?;
    Ok(())
}
