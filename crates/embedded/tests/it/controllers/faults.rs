//! Answers that get lost, and refusals.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use http_body_util::{BodyExt as _, BodyStream, StreamBody};
use kube::Client;
use kube::api::{DeleteParams, ListParams, PostParams, PropagationPolicy};
use kubeopencode_embedded::cluster::Cluster;
use serde_json::json;
use tokio::sync::watch;
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

/// A client whose watches of whole Jobs say nothing while `held`, and which counts the Pods that it creates.
fn late_with_jobs(
    cluster: &Cluster,
    held: &watch::Sender<bool>,
    created: &Arc<AtomicUsize>,
) -> Client {
    let api = cluster.api();
    let (held, created) = (held.clone(), created.clone());
    let service = service_fn(move |request: http::Request<kube::client::Body>| {
        let (api, held) = (api.clone(), held.subscribe());
        let uri = request.uri().to_string();
        let accept = request.headers().get("accept").cloned();
        if request.method() == http::Method::POST && uri.contains("/pods?") {
            created.fetch_add(1, Ordering::SeqCst);
        }
        let whole = accept.is_none_or(|accept| !format!("{accept:?}").contains("Partial"));
        let late = whole && uri.contains("/jobs") && uri.contains("watch=true");
        async move {
            let Ok(response) = api.oneshot(request).await;
            Ok::<_, std::convert::Infallible>(response.map(|body| {
                let frames = BodyStream::new(body).then(move |frame| {
                    let mut held = held.clone();
                    async move {
                        if late {
                            held.wait_for(|held| !held).await.unwrap();
                        }
                        frame
                    }
                });
                StreamBody::new(frames).boxed_unsync()
            }))
        }
    });
    Client::new(service, "default")
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_deletion_was_not_heard_of_gets_no_pod_for_the_one_that_it_left() {
    let start = "2026-01-01T00:00:00Z".parse().unwrap();
    let held = watch::Sender::new(false);
    let created = Arc::default();
    let world = World::with(start, |cluster| late_with_jobs(cluster, &held, &created)).await;
    let jobs = world.api_in("default", "batch/v1", "Job", "jobs");
    let pods = world.api_in("default", "v1", "Pod", "pods");
    let mut pod_events = world.follow(&pods).await;
    let mut job_events = world.follow(&jobs).await;
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}, "spec": {
        "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "i"}]}},
    }});
    let job = serde_json::from_value(job).unwrap();
    jobs.create(&PostParams::default(), &job).await.unwrap();
    let counted = |_: &str, job: &serde_json::Value| job["status"]["active"] == 1;
    job_events.until("the Job to count its Pod", counted).await;
    held.send_replace(true);
    let orphan = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Orphan),
        ..DeleteParams::default()
    };
    jobs.delete("job", &orphan).await.unwrap();
    let nobodys = |_: &str, pod: &serde_json::Value| pod["metadata"]["ownerReferences"].is_null();
    pod_events.until("a Pod without an owner", nobodys).await;
    world.advance(Duration::from_mins(2)).await;
    held.send_replace(false);
    let gone = |event: &str, _: &serde_json::Value| event == "DELETED";
    job_events.until("the Job to be gone", gone).await;
    assert_eq!(created.load(Ordering::SeqCst), 1, "Pods that were created");
    world.end().await;
}
