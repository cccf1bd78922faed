//! The life of a Task, and what others can do to its Job and Pod meanwhile.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kubeopencode_api::v1alpha1::{Task, TaskPhase};
use serde_json::json;

use super::{
    failures::shows,
    faults::{Fault, Faults},
    kubelet::Play,
    world::{AGENT, TASK, World, condition, limited, task},
};

#[tokio::test]
async fn a_task_runs_once_and_completes() {
    let world = World::start(Play::Ends(0)).await;
    world.create(AGENT).await;
    world.create(TASK).await;
    let status = world.ends("it").await;
    assert_eq!(status.phase, Some(TaskPhase::Completed));
    assert_eq!(status.reason.as_deref(), Some("Succeeded"));
    assert_eq!(condition(&status, "Complete"), Some("True"));
    assert_eq!(condition(&status, "JobCreated"), Some("True"));
    assert_eq!(status.result.unwrap().exit_code, Some(0));
    assert!(status.completion_time.is_some());
    assert_eq!(
        world.events("it", 2).await.last().map(String::as_str),
        Some("Succeeded")
    );
    assert_eq!(world.kubelet.starts("it"), 1);
    world.end().await;
}

#[tokio::test]
async fn a_task_follows_its_pod_through_a_slow_life() {
    let world = World::start(Play::Unscheduled).await;
    world.create(AGENT).await;
    world.create(TASK).await;
    let job = world.job_of("it").await;
    world.pod_of(&job, |_| true).await;
    world.kubelet.now(Play::Works);
    world.pod_of(&job, |pod| phase(pod) == "Running").await;
    let running = world.api::<Task>().get("it").await.unwrap().status.unwrap();
    assert_eq!(running.phase, Some(TaskPhase::Running));
    world.kubelet.now(Play::Ends(0));
    assert_eq!(world.ends("it").await.reason.as_deref(), Some("Succeeded"));
    assert_eq!(world.kubelet.starts("it"), 1);
    world.end().await;
}

#[tokio::test]
async fn an_agent_that_fails_fails_the_task() {
    let world = World::start(Play::Ends(7)).await;
    world.create(AGENT).await;
    world.create(TASK).await;
    let status = world.ends("it").await;
    assert_eq!(status.phase, Some(TaskPhase::Failed));
    assert_eq!(status.reason.as_deref(), Some("AgentExitNonZero"));
    assert_eq!(status.result.unwrap().exit_code, Some(7));
    world.end().await;
}

/// It can write there what it wants. A status that the API server refuses would be no end, for ever.
#[tokio::test]
async fn whatever_the_agent_writes_as_its_report_the_task_ends() {
    let world = World::start(Play::Works).await;
    world.create(AGENT).await;
    for (number, (message, reason)) in [
        ("{", "Succeeded"),
        (
            r#"{"exitCode":-2147483648,"durationMillis":18446744073709551615}"#,
            "Succeeded",
        ),
        (
            r#"{"exitCode":99999999999,"agent":{"steps":-1}}"#,
            "Succeeded",
        ),
        (
            r#"{"agent":{"steps":18446744073709551615,"tools":18446744073709551615,"refused":18446744073709551615,"unread":18446744073709551615,
                "usage":{"input":18446744073709551615,"output":18446744073709551615,"cached":18446744073709551615,"cost":"a fortune"}}}"#,
            "Succeeded",
        ),
        (
            r#"{"agent":{"steps":1,"tools":1,"failure":{"class":"\u0000\u001b[31m","message":"\ud83d\ude00\n\u0007"}}}"#,
            "AgentUnfinished",
        ),
        (
            r#"{"passed":{"limit":"","allowed":"","reached":""}}"#,
            "LimitExceeded",
        ),
        (
            r#"{"checkouts":[{"path":"","commits":4294967295,"files":4294967295,"newest":[{"id":"","subject":""}],"pushed":{"branch":"","state":"Pushed"}}]}"#,
            "Succeeded",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("it-{number}");
        world.kubelet.now(Play::Says(message));
        world
            .create(&task(&name))
            .await;
        let status = world.ends(&name).await;
        assert_eq!(status.reason.as_deref(), Some(reason), "{message}");
        assert!(status.result.is_some(), "{message}");
    }
    world.end().await;
}

#[tokio::test]
async fn an_init_container_that_fails_is_told_in_its_own_words() {
    let world = World::start(Play::InitFails("git-init", 1, "no such branch: topic")).await;
    world.create(AGENT).await;
    world.create(TASK).await;
    let status = world.ends("it").await;
    assert_eq!(status.reason.as_deref(), Some("InfrastructureError"));
    assert!(status.message.unwrap().contains("no such branch: topic"));
    world.end().await;
}

#[tokio::test]
async fn a_job_deleted_by_hand_is_lost_and_not_run_again() {
    let world = World::start(Play::Works).await;
    let job = world.is_at_work().await;
    world
        .api::<Job>()
        .delete(&job, &DeleteParams::background())
        .await
        .unwrap();
    let status = world.ends("it").await;
    assert_eq!(status.reason.as_deref(), Some("JobLost"));
    assert_eq!(world.kubelet.starts("it"), 1);
    world.until::<Job>(&job, "gone", |job| job.is_none()).await;
    world.end().await;
}

#[tokio::test]
async fn what_vanished_while_the_watches_were_down_is_noticed() {
    let mut world = World::new(Play::Works).await;
    let down = Arc::new(AtomicBool::new(false));
    let seen = down.clone();
    let faults = Faults::new(move |_, call| match call.verb {
        "watch" if seen.load(Ordering::SeqCst) => Fault::Expired,
        "list" if seen.load(Ordering::SeqCst) => Fault::Refused,
        _ => Fault::None,
    });
    world.operate(&faults);
    world.create(AGENT).await;
    world.create(TASK).await;
    world.create(&task("gone")).await;
    let job = world.job_of("it").await;
    let others = world.job_of("gone").await;
    world.pod_of(&job, |pod| phase(pod) == "Running").await;
    world.pod_of(&others, |pod| phase(pod) == "Running").await;
    down.store(true, Ordering::SeqCst);
    faults.cut();
    let background = DeleteParams::background();
    world
        .api::<Task>()
        .delete("gone", &background)
        .await
        .unwrap();
    world.api::<Job>().delete(&job, &background).await.unwrap();
    world.until::<Job>(&job, "gone", |job| job.is_none()).await;
    world
        .until::<Job>(&others, "gone", |job| job.is_none())
        .await;
    let so_far = faults.calls().len();
    down.store(false, Ordering::SeqCst);
    assert_eq!(world.ends("it").await.phase, Some(TaskPhase::Failed));
    assert_eq!(world.kubelet.starts("it"), 1);
    world.end().await;
    let calls = faults.calls();
    let lists = calls.iter().skip(so_far).filter(|call| call.verb == "list");
    assert!(lists.count() >= 1, "it began anew");
}

#[tokio::test]
async fn a_pod_deleted_by_hand_ends_the_task_and_is_not_run_again() {
    let world = World::start(Play::Works).await;
    world.create(AGENT).await;
    world.create(TASK).await;
    let job = world.job_of("it").await;
    let pod = world.pod_of(&job, |pod| phase(pod) == "Running").await;
    let name = pod.metadata.name.unwrap();
    world
        .api::<Pod>()
        .delete(&name, &DeleteParams::default())
        .await
        .unwrap();
    let status = world.ends("it").await;
    assert_eq!(status.phase, Some(TaskPhase::Failed));
    assert_eq!(world.kubelet.starts("it"), 1);
    world.end().await;
}

#[tokio::test]
async fn a_job_suspended_by_hand_is_not_released_again() {
    let world = World::start(Play::Works).await;
    let job = world.is_at_work().await;
    let change = Patch::Merge(json!({"spec": {"suspend": true}}));
    world
        .api::<Job>()
        .patch(&job, &PatchParams::default(), &change)
        .await
        .unwrap();
    let status = world.ends("it").await;
    assert_eq!(status.phase, Some(TaskPhase::Failed));
    assert_eq!(world.kubelet.starts("it"), 1);
    world.end().await;
}

#[tokio::test]
async fn a_name_taken_by_somebody_else_fails_the_task_and_leaves_the_other_alone() {
    let mut world = World::new(Play::Ends(0)).await;
    world.create(&limited(1)).await;
    let task = world.create(TASK).await;
    let task: Task = task.try_parse().unwrap();
    let name = kubeopencode_engine::render::job_name(&owner(&task), 1);
    world
        .create(&format!(
            "
apiVersion: batch/v1
kind: Job
metadata: {{name: {name}}}
spec: {{suspend: true, template: {{spec: {{restartPolicy: Never, containers: [{{name: c, image: i}}]}}}}}}
"
        ))
        .await;
    world.operate(&Faults::none());
    let status = world.ends("it").await;
    assert!(status.message.unwrap().contains(&name));
    shows(
        &world,
        "a Job of its name exists and belongs to somebody else",
    )
    .await;
    let job = world.api::<Job>().get(&name).await.unwrap();
    assert_eq!(job.spec.unwrap().suspend, Some(true));
    assert_eq!(world.kubelet.starts("it"), 0);
    world.end().await;
}

#[tokio::test]
async fn a_deleted_task_takes_its_job_and_pod_with_it() {
    let world = World::start(Play::Works).await;
    world.create(AGENT).await;
    world.create(TASK).await;
    let job = world.job_of("it").await;
    let pod = world.pod_of(&job, |pod| phase(pod) == "Running").await;
    world
        .api::<Task>()
        .delete("it", &DeleteParams::background())
        .await
        .unwrap();
    world.until::<Job>(&job, "gone", |job| job.is_none()).await;
    world
        .until::<Pod>(&pod.metadata.name.unwrap(), "gone", |pod| pod.is_none())
        .await;
    world.end().await;
}

#[tokio::test]
async fn a_task_created_again_runs_again_and_never_meets_its_predecessors_job() {
    let world = World::start(Play::Ends(0)).await;
    world.create(AGENT).await;
    world.create(TASK).await;
    let first = world.ends("it").await.job_name;
    world
        .api::<Task>()
        .delete("it", &DeleteParams::background())
        .await
        .unwrap();
    world
        .until::<Task>("it", "gone", |task| task.is_none())
        .await;
    world.create(TASK).await;
    let second = world.ends("it").await.job_name;
    assert!(
        first.is_some() && second.is_some() && first != second,
        "{first:?} {second:?}"
    );
    world.end().await;
}

#[tokio::test]
async fn two_operators_at_once_run_a_task_once() {
    let mut world = World::new(Play::Ends(0)).await;
    world.operate(&Faults::none());
    world.operate(&Faults::none());
    world.create(AGENT).await;
    let names: Vec<String> = (0..20).map(|number| format!("it-{number}")).collect();
    for name in &names {
        world.create(&task(name)).await;
    }
    for name in &names {
        assert_eq!(
            world.ends(name).await.reason.as_deref(),
            Some("Succeeded"),
            "{name}"
        );
        assert_eq!(world.kubelet.starts(name), 1, "{name}");
    }
    let pods = world
        .api::<Pod>()
        .list(&ListParams::default())
        .await
        .unwrap();
    assert_eq!(pods.items.len(), names.len());
    world.end().await;
}

#[tokio::test]
async fn an_operator_that_is_told_to_end_at_once_ends() {
    for calls in 0..12 {
        let mut world = World::new(Play::Ends(0)).await;
        world.create(TASK).await;
        // The end comes at one of its first calls, and that call and all later ones are never answered.
        let faults = Faults::one(calls, Fault::DiesBefore);
        world.operate(&faults);
        faults.died().await;
        world.end().await;
    }
}

pub fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

pub fn owner(task: &Task) -> kubeopencode_engine::run::Owner {
    use kubeopencode_engine::lower::{FrontEnd as _, kubeopencode::TaskFrontEnd};
    TaskFrontEnd::owner(task).unwrap()
}

#[tokio::test]
async fn a_task_of_a_newer_version_does_not_hold_up_the_others() {
    let newer = |definition: &mut serde_json::Value| {
        let spec = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
            ["spec"];
        spec["x-kubernetes-preserve-unknown-fields"] = true.into();
    };
    let mut world = World::with(Play::Ends(0), newer).await;
    world.create(AGENT).await;
    world
        .create(
            &TASK
                .replace("{name: it}", "{name: newer}")
                .replace("{description", "{fromTomorrow: 1, description"),
        )
        .await;
    world.operate(&Faults::none());
    world.create(TASK).await;
    assert_eq!(world.ends("it").await.reason.as_deref(), Some("Succeeded"));
    world.end().await;
}
