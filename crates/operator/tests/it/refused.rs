//! What the API server, or something in front of it, does not let the operator do: the Task says so, and has an end.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use kube::api::{Patch, PatchParams};
use kubeopencode_api::{
    names,
    v1alpha1::{TaskPhase, TaskStatus},
};
use serde_json::json;

use super::{
    failures::{answered, shows},
    faults::{Call, Fault, Faults},
    kubelet::Play,
    time::virtual_time,
    world::{TASK, World, condition, limited, task},
};

fn says_refused(status: &TaskStatus) -> bool {
    let message = status.message.as_deref();
    message.is_some_and(|message| message.contains("is refused"))
}

/// As where an admission webhook for Jobs is down for updates alone. What becomes of the Job hangs on nothing that is refused.
#[tokio::test(start_paused = true)]
async fn the_api_server_cannot_release_its_job() {
    let world = answered("patch", "jobs", Fault::Refused).await;
    shows(
        &world,
        "the API server answers with 500 to each release of its Job for half an hour",
    )
    .await;
    assert_eq!(world.kubelet.starts("it"), 0);
    world.all_slots_are_free().await;
    world.end().await;
}

/// A webhook that answers late, or with a code that it chose.
#[tokio::test(start_paused = true)]
async fn whatever_is_answered_to_each_creation_of_its_job_is_told() {
    for code in [404, 409, 429, 503, 504] {
        let world = answered("create", "jobs", Fault::Answered(code)).await;
        let told = world.status("it", "told", says_refused).await;
        assert_eq!(condition(&told, "JobCreated"), Some("False"), "{code}");
        let status = world.ends("it").await;
        assert_eq!(status.reason.as_deref(), Some("InfrastructureError"));
        world.all_slots_are_free().await;
        world.end().await;
    }
}

/// As where a Role lacks it: nobody is let in, and the queue is not why.
#[tokio::test(start_paused = true)]
async fn the_operator_may_not_write_the_slots() {
    let world = answered("update", "agents/status", Fault::Forbidden).await;
    shows(
        &world,
        "the operator may not write the slots of its Agent for half an hour",
    )
    .await;
    world.end().await;
}

/// The same with what passes; and who is behind in the queue waits for a slot, and not for that.
#[tokio::test]
async fn who_is_let_in_is_told_that_it_is_refused_and_who_is_behind_is_queued() {
    let mut world = World::new(Play::Works).await;
    let (allow, mut allowed) = tokio::sync::watch::channel(false);
    let faults = Faults::new(move |_, call: &Call| {
        let slots = call.verb == "update" && call.resource == "agents/status";
        if slots && !*allowed.borrow_and_update() {
            Fault::Answered(422)
        } else {
            Fault::None
        }
    });
    world.operate(&faults);
    world.create(&limited(1)).await;
    world.create(&task("first")).await;
    let told = world.status("first", "told", says_refused).await;
    assert_eq!(told.phase, Some(TaskPhase::Pending));
    world.create(&task("second")).await;
    let is_queued = |status: &TaskStatus| status.phase == Some(TaskPhase::Queued);
    world.status("second", "queued", is_queued).await;
    allow.send_replace(true);
    world.job_of("first").await;
    world.status("second", "queued", is_queued).await;
    world.end().await;
}

/// The mark of a Job keeps it from being released again, and somebody takes it off each time.
#[tokio::test]
async fn a_mark_that_is_taken_off_again_and_again_is_put_on_with_pauses_and_a_stop_is_heard() {
    let mut world = World::new(Play::Works).await;
    let faults = Faults::none();
    world.operate(&faults);
    let job = world.is_at_work().await;
    let person = async {
        loop {
            let marked = |job: Option<&Job>| {
                let annotations = job.and_then(|job| job.metadata.annotations.as_ref());
                annotations.is_some_and(|all| all.contains_key(names::ANNOTATION_RELEASED))
            };
            world.until::<Job>(&job, "marked", marked).await;
            let off = json!({"metadata": {"annotations": {names::ANNOTATION_RELEASED: null}}});
            let jobs = world.api::<Job>();
            jobs.patch(&job, &PatchParams::default(), &Patch::Merge(off))
                .await
                .unwrap();
        }
    };
    tokio::select! {
        () = person => {}
        _ = world.status("it", "told", says_refused) => {}
    }
    let patches = |faults: &Faults| {
        let calls = faults.calls();
        let of_jobs = |call: &&Call| call.verb == "patch" && call.resource == "jobs";
        calls.iter().filter(of_jobs).count()
    };
    // The release is one more.
    assert!(patches(&faults) <= 5, "{} patches", patches(&faults));
    world.stop("it").await;
    let status = world.ends("it").await;
    assert_eq!(status.reason.as_deref(), Some("UserStopped"));
    world.end().await;
}

/// A webhook that undoes what it is asked about: as many requests as pauses, and not as many as there can be.
#[tokio::test(start_paused = true)]
async fn what_a_webhook_undoes_is_not_repeated_at_once_and_has_an_end() {
    let mut world = World::new(Play::Ends(0)).await;
    world.guard = std::time::Duration::from_hours(24);
    let faults = Faults::timed(|_, call: &Call| {
        if call.verb == "patch" && call.resource == "jobs" {
            Fault::Undone
        } else {
            Fault::None
        }
    });
    world.operate_with(&faults, &super::time::virtual_time());
    world.create(&limited(1)).await;
    world.create(TASK).await;
    let told = world.status("it", "told", says_refused).await;
    assert_eq!(told.phase, Some(TaskPhase::Running));
    let status = world.ends("it").await;
    assert_eq!(status.reason.as_deref(), Some("InfrastructureError"));
    world.all_slots_are_free().await;
    world.end().await;
    let calls = faults.calls();
    let patches = calls.iter().filter(|call| call.verb == "patch").count();
    assert!((2..=70).contains(&patches), "{patches} patches");
}

/// As under load, or while a webhook is late.
#[tokio::test(start_paused = true)]
async fn an_event_that_the_api_server_has_no_time_for_is_sent_again() {
    let mut world = World::new(Play::Ends(0)).await;
    world.guard = Duration::from_hours(24);
    let mut refused = 0;
    let busy = Faults::new(move |_, call: &Call| {
        let first = call.verb == "create" && call.resource == "events" && refused < 2;
        refused += u32::from(first);
        if first {
            Fault::Answered(503)
        } else {
            Fault::None
        }
    });
    world.operate_with(&busy, &virtual_time());
    world.create(&limited(1)).await;
    world.create(TASK).await;
    world.ends("it").await;
    let mut told = world.events("it", 2).await;
    told.sort();
    assert_eq!(told, ["Running", "Succeeded"]);
    world.end().await;
}
