//! The node dies, or ends: what becomes of its Pods.

use super::{Bench, PATIENT, container, status, termination};

#[tokio::test]
async fn a_pod_that_lost_its_processes_is_failed_and_never_started_again() {
    let mut bench = Bench::new().await;
    bench.create(PATIENT).await;
    let pod = bench.running("p").await;
    assert_eq!(bench.first_line(&pod, "main").await, "ready\n");
    bench.crash_node().await;
    let leftover = bench
        .data_dir()
        .join("pods/11111111-0000-0000-0000-000000000000/volumes");
    std::fs::create_dir_all(&leftover).unwrap();
    bench.start_node();
    let pod = bench.ended("p").await;
    assert_eq!(status(&pod).phase.as_deref(), Some("Failed"));
    assert_eq!(status(&pod).reason.as_deref(), Some("NodeRestart"));
    assert_eq!(termination(&pod, "main").1, "ContainerStatusUnknown");
    assert!(bench.all(&pod, "main").await.starts_with("ready\n"));
    bench.stop_node().await;
    assert!(!leftover.exists());
    bench.end().await;
}

/// The last status that was written may be older than the last process that was started: nobody is told that a container
/// was never made.
#[tokio::test]
async fn a_node_that_died_does_not_say_of_a_container_that_it_was_never_made() {
    let mut bench = Bench::new().await;
    bench
        .create(
            "
metadata: {name: p}
spec:
  restartPolicy: Never
  initContainers: [{name: before, image: any, command: [sh, -c, 'echo ready; sleep 1000']}]
  containers: [{name: main, image: any, command: [sh, -c, 'true']}]
",
        )
        .await;
    let pod = bench
        .until("p", |status| {
            let init = status.init_container_statuses.iter().flatten();
            let mut states = init.filter_map(|container| container.state.as_ref());
            states.any(|state| state.running.is_some())
        })
        .await;
    assert_eq!(container(&pod, "main").container_id, None);
    bench.crash_node().await;
    bench.start_node();
    let pod = bench.ended("p").await;
    assert_eq!(termination(&pod, "main").1, "ContainerStatusUnknown");
    assert!(container(&pod, "main").container_id.is_some());
    bench.end().await;
}

#[tokio::test]
async fn the_end_of_the_node_fails_its_pods_and_leaves_no_process() {
    let mut bench = Bench::new().await;
    bench.create(PATIENT).await;
    let pod = bench.running("p").await;
    assert_eq!(bench.first_line(&pod, "main").await, "ready\n");
    bench.stop_node().await;
    let pod = bench.ended("p").await;
    assert_eq!(status(&pod).reason.as_deref(), Some("NodeShutdown"));
    assert_eq!(termination(&pod, "main").0, 143);
    bench.end().await;
}
