//! Writing to the API: the status of a Pod, and its end.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use serde_json::{Value, json};

/// The longest pause between two attempts to reach an API that does not answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The Pod is no more, or another has its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone;

fn api(client: &Client, pod: &Pod) -> Api<Pod> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    Api::namespaced(client.clone(), namespace)
}

/// Writes the status of exactly this Pod, however long the API takes.
pub(super) async fn status(client: &Client, pod: &Pod, status: &PodStatus) -> Result<(), Gone> {
    let (api, name) = (
        api(client, pod),
        pod.metadata.name.as_deref().unwrap_or_default(),
    );
    let mut value = absent(&["message", "reason"], json!(status));
    // Conditions are merged by their type: one that somebody else wrote meanwhile stays.
    for condition in value["conditions"].as_array_mut().into_iter().flatten() {
        *condition = absent(&["message", "reason"], condition.take());
    }
    let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": value});
    persist(|| async {
        api.patch_status(name, &PatchParams::default(), &Patch::Strategic(&patch))
            .await
            .map(drop)
    })
    .await
}

/// The object, in which these fields are null where it has none, so that those of an earlier state go.
fn absent(fields: &[&str], mut object: Value) -> Value {
    if let Value::Object(object) = &mut object {
        for field in fields {
            object.entry(*field).or_insert(Value::Null);
        }
    }
    object
}

/// Removes exactly this Pod, whose processes have ended.
pub(super) async fn remove(client: &Client, pod: &Pod) -> Result<(), Gone> {
    let (api, name) = (
        api(client, pod),
        pod.metadata.name.as_deref().unwrap_or_default(),
    );
    let parameters = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions {
            uid: pod.metadata.uid.clone(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    persist(|| async { api.delete(name, &parameters).await.map(drop) }).await
}

/// Tries until it succeeds, or the Pod is gone.
pub(super) async fn persist<F: Future<Output = kube::Result<()>>>(
    attempt: impl Fn() -> F,
) -> Result<(), Gone> {
    let mut pause = Duration::from_millis(50);
    loop {
        match attempt().await {
            Ok(()) => return Ok(()),
            // Another uid is 409 or 422.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409 | 422) => {
                if status.code != 404 {
                    tracing::warn!(
                        message = status.message,
                        "the API refused a write about a Pod"
                    );
                }
                return Err(Gone);
            }
            Err(error) => tracing::warn!(%error, "writing about a Pod; will try again"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
