//! Events about Pods, written beside the work: a slow or refusing API never holds up a Pod.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::mpsc;

use crate::clock::Clock;

/// How many Events may wait to be written; more are dropped.
const WAITING: usize = 1024;

/// Where Events go. Cheap to clone.
#[derive(Clone)]
pub(super) struct Events {
    queue: mpsc::Sender<Event>,
    node: String,
    clock: Clock,
}

/// Which of Kubernetes' components the Event comes from.
#[derive(Clone, Copy)]
pub(super) enum Component {
    Scheduler,
    Kubelet,
}

impl Events {
    /// The sender, and the task that writes until the last sender is gone.
    pub(super) fn new(
        client: Client,
        node: &str,
        clock: Clock,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (queue, mut waiting) = mpsc::channel::<Event>(WAITING);
        let writer = async move {
            while let Some(event) = waiting.recv().await {
                let namespace = event.metadata.namespace.clone().unwrap_or_default();
                let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
                if let Err(error) = api.create(&PostParams::default(), &event).await {
                    tracing::debug!(%error, "cannot write an event");
                }
            }
        };
        let events = Self {
            queue,
            node: node.to_owned(),
            clock,
        };
        (events, writer)
    }

    /// `part` is a container: its field path in the Pod. A warning unless `normal`.
    pub(super) fn send(
        &self,
        component: Component,
        pod: &Pod,
        part: Option<String>,
        normal: bool,
        reason: &str,
        message: &str,
    ) {
        let now: Timestamp = (self.clock)();
        let name = pod.metadata.name.clone().unwrap_or_default();
        let (component, host) = match component {
            Component::Scheduler => ("default-scheduler", None),
            Component::Kubelet => ("kubelet", Some(self.node.clone())),
        };
        let event = Event {
            metadata: ObjectMeta {
                name: Some(format!("{name}.{}", uuid::Uuid::new_v4().simple())),
                namespace: pod.metadata.namespace.clone(),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: pod.metadata.name.clone(),
                namespace: pod.metadata.namespace.clone(),
                uid: pod.metadata.uid.clone(),
                resource_version: pod.metadata.resource_version.clone(),
                field_path: part,
            },
            type_: Some(if normal { "Normal" } else { "Warning" }.to_owned()),
            reason: Some(reason.to_owned()),
            // The API takes at most 1024 bytes.
            message: Some(message.chars().take(1000).collect()),
            source: Some(EventSource {
                component: Some(component.to_owned()),
                host,
            }),
            reporting_component: Some(component.to_owned()),
            reporting_instance: Some(self.node.clone()),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            count: Some(1),
            ..Event::default()
        };
        if self.queue.try_send(event).is_err() {
            tracing::debug!(reason, "an event was dropped");
        }
    }
}
