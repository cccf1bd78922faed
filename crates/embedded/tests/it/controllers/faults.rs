//! Answers that get lost, and refusals.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kube::Client;
use kube::api::{ListParams, PostParams};
use kubeopencode_embedded::cluster::Cluster;
use serde_json::json;
use tower::{ServiceExt as _, service_fn};

use super::world::World;

/// A client that does everything, and loses the first answer to the creation of a Pod.
fn forgetful(cluster: &Cluster) -> Client {
    let api = cluster.api();
    let lost = Arc::new(AtomicBool::new(false));
    let service = service_fn(move |request: http::Request<kube::client::Body>| {
        let (api, lost) = (api.clone(), lost.clone());
        async move {
            let creates =
                request.method() == http::Method::POST && request.uri().path().ends_with("/pods");
            let Ok(response) = api.oneshot(request).await;
            if creates && !lost.swap(true, Ordering::SeqCst) {
                return Err(std::io::Error::other("the connection is gone"));
            }
            Ok(response)
        }
    });
    Client::new(service, "default")
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_creation_was_not_answered_is_not_created_again() {
    let start = "2026-01-01T00:00:00Z".parse().unwrap();
    let world = World::with(start, forgetful).await;
    let jobs = world.api_in("default", "batch/v1", "Job", "jobs");
    let pods = world.api_in("default", "v1", "Pod", "pods");
    let mut pod_events = world.follow(&pods).await;
    let mut job_events = world.follow(&jobs).await;
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}, "spec": {
        "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "i"}]}},
    }});
    jobs.create(
        &PostParams::default(),
        &serde_json::from_value(job).unwrap(),
    )
    .await
    .unwrap();
    pod_events.until("a Pod", |_, _| true).await;
    let counted = |_: &str, job: &serde_json::Value| job["status"]["active"] == 1;
    job_events.until("the Job to count it", counted).await;
    world.advance(Duration::from_mins(2)).await;
    // A Job created later has its Pod: by then the first one has been looked at again.
    let other = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "other"}, "spec": {
        "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "i"}]}},
    }});
    jobs.create(
        &PostParams::default(),
        &serde_json::from_value(other).unwrap(),
    )
    .await
    .unwrap();
    let of_other =
        |_: &str, pod: &serde_json::Value| pod["metadata"]["labels"]["job-name"] == "other";
    pod_events.until("a Pod of the other Job", of_other).await;
    let mine = ListParams::default().labels("job-name=job");
    assert_eq!(pods.list(&mine).await.unwrap().items.len(), 1);
    world.end().await;
}
