//! Time comes from outside: the operator under a clock that a test winds on.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kubeopencode_api::v1alpha1::TaskPhase;
use kubeopencode_operator::OperatorOptions;
use tokio::time::Instant;

use super::{
    faults::{Call, Fault, Faults},
    kubelet::Play,
    world::{AGENT, TASK, World, condition, task},
};

/// The clock goes at the pace of tokio's timers, which stand still while something works and jump to the next one
/// when nothing does.
pub fn virtual_time() -> OperatorOptions {
    let (begin, start) = (Timestamp::now(), Instant::now());
    OperatorOptions {
        clock: std::sync::Arc::new(move || begin + start.elapsed()),
        ..OperatorOptions::default()
    }
}

#[tokio::test(start_paused = true)]
async fn five_minutes_of_waiting_take_no_time() {
    let mut world = World::new(Play::Ends(0)).await;
    world.guard = Duration::from_hours(10_000);
    let faults = Faults::none();
    world.operate_with(&faults, &virtual_time());
    let begin = Instant::now();
    world
        .create(&TASK.replace("spec: {", "spec: {agentRef: never, "))
        .await;
    world
        .status("it", "waiting", |status| {
            condition(status, "Ready") == Some("False")
        })
        .await;
    let so_far = faults.calls().len();
    let status = world.ends("it").await;
    assert_eq!(status.phase, Some(TaskPhase::Failed));
    assert_eq!(status.reason.as_deref(), Some("ReferenceNotFound"));
    // The timers also jump while the store's own thread writes, so there is no use in an upper bound.
    assert!(begin.elapsed() >= Duration::from_secs(299));
    let calls = faults.calls();
    let meanwhile: Vec<_> = calls
        .iter()
        .skip(so_far)
        .filter(|call| call.verb != "watch")
        .collect();
    assert!(meanwhile.len() <= 60, "{meanwhile:?}");
    world.end().await;
}

/// Another Task waits for the same request.
#[tokio::test(start_paused = true)]
async fn a_look_up_that_is_never_answered_is_sent_again() {
    let mut world = World::new(Play::Ends(0)).await;
    world.guard = Duration::from_hours(10_000);
    world.create(AGENT).await;
    world.create(TASK).await;
    world.create(&task("other")).await;
    let mut lost = false;
    let faults = Faults::timed(move |_, call: &Call| {
        let hangs = call.resource == "agents" && call.verb == "get" && !lost;
        lost |= hangs;
        if hangs { Fault::Hangs } else { Fault::None }
    });
    world.operate_with(&faults, &virtual_time());
    for task in ["it", "other"] {
        let status = world.ends(task).await;
        assert_eq!(status.reason.as_deref(), Some("Succeeded"));
    }
    world.end().await;
}

/// One Task runs, one waits in the queue, one for something that is not there yet and one has ended: an hour in which
/// nothing happens costs no request, but that watches begin anew.
#[tokio::test(start_paused = true)]
async fn nothing_is_asked_while_nothing_happens() {
    let mut world = World::new(Play::Works).await;
    world.guard = Duration::from_hours(10_000);
    let faults = Faults::none();
    world.operate_with(&faults, &virtual_time());
    world
        .create(&AGENT.replace("spec: {", "spec: {maxConcurrentTasks: 1, "))
        .await;
    for (name, phase) in [
        ("ended", TaskPhase::Running),
        ("runs", TaskPhase::Queued),
        ("waits", TaskPhase::Queued),
    ] {
        world.create(&task(name)).await;
        world
            .status(name, "begun", |status| status.phase == Some(phase))
            .await;
    }
    world.stop("ended").await;
    world.ends("ended").await;
    let job = world.job_of("runs").await;
    world
        .pod_of(&job, |pod| super::life::phase(pod) == "Running")
        .await;
    // What was still on its way arrives.
    tokio::time::sleep(Duration::from_mins(5)).await;
    let so_far = faults.calls().len();
    tokio::time::sleep(Duration::from_hours(1)).await;
    let calls = faults.calls();
    let requests: Vec<_> = calls
        .iter()
        .skip(so_far)
        .filter(|call| call.verb != "watch")
        .collect();
    assert!(requests.is_empty(), "{requests:?}");
    world.end().await;
}
