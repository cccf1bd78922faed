//! How a Pod ends before it is done: deadline, deletion, by force.

use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, WatchEvent, WatchParams};
use kubeopencode_embedded::logs::LogOptions;
use serde_json::json;

use super::{Bench, PATIENT, guarded, status, termination};

#[tokio::test]
async fn a_deadline_set_later_ends_a_running_pod_and_keeps_it() {
    let bench = Bench::new().await;
    bench.create(PATIENT).await;
    let pod = bench.running("p").await;
    assert_eq!(bench.first_line(&pod, "main").await, "ready\n");
    let patch = Patch::Merge(json!({"spec": {"activeDeadlineSeconds": 1}}));
    bench
        .pods
        .patch("p", &PatchParams::default(), &patch)
        .await
        .unwrap();
    let pod = bench.ended("p").await;
    assert_eq!(status(&pod).reason.as_deref(), Some("DeadlineExceeded"));
    assert_eq!(
        termination(&pod, "main"),
        (143, "Error".into(), "stopped".into())
    );
    assert!(bench.all(&pod, "main").await.contains("got TERM"));
    bench.end().await;
}

#[tokio::test]
async fn deletion_asks_waits_and_leaves_nothing() {
    let mut bench = Bench::new().await;
    let created = bench.create(PATIENT).await;
    let uid = created.metadata.uid.unwrap();
    let pod = bench.running("p").await;
    assert_eq!(bench.first_line(&pod, "main").await, "ready\n");
    let directory = bench.data_dir().join("pods").join(&uid);
    assert!(directory.is_dir());
    let watch = bench
        .pods
        .watch(&WatchParams::default(), "0")
        .await
        .unwrap();
    bench
        .pods
        .delete("p", &DeleteParams::default())
        .await
        .unwrap();
    bench.gone("p").await;
    let last: Vec<WatchEvent<Pod>> = guarded(
        watch
            .try_take_while(|event| futures::future::ok(!matches!(event, WatchEvent::Deleted(_))))
            .try_collect(),
    )
    .await
    .unwrap();
    let told = last.iter().any(|event| {
        matches!(event, WatchEvent::Modified(pod) if status(pod).phase.as_deref() == Some("Failed")
            && termination(pod, "main") == (143, "Error".into(), "stopped".into()))
    });
    assert!(told, "{last:#?}");
    // The end of the node waits for the cleaning up.
    let (data_dir, logs) = (bench.data_dir(), bench.logs.clone());
    bench.stop_node().await;
    assert_eq!(std::fs::read_dir(data_dir.join("pods")).unwrap().count(), 0);
    assert!(logs.pod_uids().unwrap().is_empty());
    bench.end().await;
}

#[tokio::test]
async fn a_program_that_ignores_sigterm_is_killed_after_the_grace_period() {
    let bench = Bench::new().await;
    bench
        .create("
metadata: {name: p, finalizers: [example.org/keep]}
spec:
  restartPolicy: Never
  containers: [{name: main, image: any, command: [sh, -c, 'trap \"\" TERM; echo ready; while :; do sleep 0.1; done']}]
")
        .await;
    let pod = bench.running("p").await;
    assert_eq!(bench.first_line(&pod, "main").await, "ready\n");
    bench
        .pods
        .delete("p", &DeleteParams::default().grace_period(1))
        .await
        .unwrap();
    let pod = bench.ended("p").await;
    assert_eq!(termination(&pod, "main").0, 137);
    let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    bench
        .pods
        .patch("p", &PatchParams::default(), &patch)
        .await
        .unwrap();
    bench.gone("p").await;
    bench.end().await;
}

#[tokio::test]
async fn a_pod_removed_by_force_leaves_no_process() {
    let bench = Bench::new().await;
    bench.create(PATIENT).await;
    let pod = bench.running("p").await;
    bench
        .pods
        .delete("p", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    bench.gone("p").await;
    // A follower's log ends with the last process.
    let uid = pod.metadata.uid.as_deref().unwrap();
    let follow = LogOptions {
        follow: true,
        ..LogOptions::default()
    };
    if let Ok(stream) = bench.logs.read(uid, "main", follow).await {
        let _: Result<Vec<bytes::Bytes>, _> = guarded(stream.try_collect()).await;
    }
    bench.end().await;
}
