//! A person stops a Task, in each phase of its life.

use std::time::Duration;

use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kubeopencode_api::v1alpha1::{TaskPhase, TaskStatus};
use serde_json::json;

use super::{
    faults::{Call, Fault, Faults},
    kubelet::Play,
    life::phase,
    world::{AGENT, TASK, World, condition, task},
};

fn assert_stopped(status: &TaskStatus) {
    assert_eq!(status.phase, Some(TaskPhase::Completed), "{status:#?}");
    assert_eq!(status.reason.as_deref(), Some("UserStopped"));
    assert_eq!(condition(status, "Stopped"), Some("True"));
    assert_eq!(condition(status, "Complete"), Some("True"));
}

#[tokio::test]
async fn before_the_operator_has_seen_it() {
    let mut world = World::new(Play::Ends(0)).await;
    world.create(AGENT).await;
    world.create(TASK).await;
    world.stop("it").await;
    world.operate(&Faults::none());
    assert_stopped(&world.ends("it").await);
    assert_eq!(world.kubelet.starts("it"), 0);
    assert!(world.jobs().await.is_empty());
    world.end().await;
}

#[tokio::test]
async fn while_it_waits_for_its_agent() {
    let world = World::start(Play::Ends(0)).await;
    world
        .create(&TASK.replace("spec: {", "spec: {agentRef: later, "))
        .await;
    world
        .status("it", "waiting", |status| {
            condition(status, "Ready") == Some("False")
        })
        .await;
    world.stop("it").await;
    assert_stopped(&world.ends("it").await);
    assert!(world.jobs().await.is_empty());
    world.end().await;
}

/// The watch is faster than the answer: when that comes, the Pod has changed twice since.
#[tokio::test]
async fn by_a_request_whose_answer_comes_after_the_end() {
    let mut world = World::new(Play::Works).await;
    world.create(AGENT).await;
    world.create(TASK).await;
    world.operate(&Faults::new(|_, call: &Call| {
        let deadline = call.verb == "patch" && call.resource == "pods";
        if deadline {
            Fault::Late(Duration::from_secs(1))
        } else {
            Fault::None
        }
    }));
    let job = world.job_of("it").await;
    world.pod_of(&job, |pod| phase(pod) == "Running").await;
    world.stop("it").await;
    assert_stopped(&world.ends("it").await);
    world.end().await;
}

#[tokio::test]
async fn while_no_node_has_taken_the_pod() {
    let world = World::start(Play::Unscheduled).await;
    world.create(AGENT).await;
    world.create(TASK).await;
    let job = world.job_of("it").await;
    world.pod_of(&job, |_| true).await;
    world.stop("it").await;
    assert_stopped(&world.ends("it").await);
    assert_eq!(world.kubelet.starts("it"), 0);
    world.end().await;
}

#[tokio::test]
async fn while_the_init_containers_run() {
    let world = World::start(Play::Initializes).await;
    world.create(AGENT).await;
    world.create(TASK).await;
    let job = world.job_of("it").await;
    let pod = world
        .pod_of(&job, |pod| {
            pod.status
                .as_ref()
                .is_some_and(|status| status.start_time.is_some())
        })
        .await;
    world.stop("it").await;
    assert_stopped(&world.ends("it").await);
    let pod = world
        .api::<Pod>()
        .get(&pod.metadata.name.unwrap())
        .await
        .unwrap();
    assert_eq!(phase(&pod), "Failed", "the Pod stays, and its logs with it");
    world.end().await;
}

#[tokio::test]
async fn while_the_agent_works_and_then_pod_result_and_suspended_job_stay() {
    let world = World::start(Play::Works).await;
    world.create(AGENT).await;
    world.create(TASK).await;
    let job = world.job_of("it").await;
    let pod = world.pod_of(&job, |pod| phase(pod) == "Running").await;
    world.stop("it").await;
    let status = world.ends("it").await;
    assert_stopped(&status);
    assert_eq!(status.result.unwrap().exit_code, Some(143));
    world
        .api::<Pod>()
        .get(&pod.metadata.name.unwrap())
        .await
        .unwrap();
    world
        .until::<Job>(&job, "suspended or ended", |job| {
            let job = job.unwrap();
            let suspended = job.spec.as_ref().unwrap().suspend == Some(true);
            let conditions = job
                .status
                .as_ref()
                .and_then(|status| status.conditions.as_ref());
            let failed = conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Failed"));
            suspended || failed
        })
        .await;
    world.end().await;
}

#[tokio::test]
async fn after_the_end_it_changes_nothing() {
    let world = World::start(Play::Ends(0)).await;
    world.create(AGENT).await;
    world.create(TASK).await;
    let before = world.ends("it").await;
    world.stop("it").await;
    // Another Task that comes after has been through: the operator has seen the stop.
    world.create(&task("after")).await;
    world.ends("after").await;
    assert_eq!(world.ends("it").await, before);
    world.end().await;
}

#[tokio::test]
async fn taken_back_it_is_stopped_all_the_same() {
    let world = World::start(Play::Works).await;
    world.is_at_work().await;
    world.stop("it").await;
    world
        .status("it", "being stopped", |status| {
            condition(status, "Stopped") == Some("True")
        })
        .await;
    world
        .annotate("it", &json!({"kubeopencode.io/stop": null}))
        .await;
    assert_stopped(&world.ends("it").await);
    world.end().await;
}
