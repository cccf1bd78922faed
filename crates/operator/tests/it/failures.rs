//! Rows of `docs/failures.md` that take a kubelet which does as the test says, or more time than a test has.

use std::time::Duration;

use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{
    Resource as _,
    api::{DeleteParams, ListParams},
};
use kubeopencode_api::v1alpha1::{Agent, TaskPhase};
use kubeopencode_engine::{handover::MAY_PASS, observe::JobView};

use super::{
    faults::{Fault, Faults},
    kubelet::Play,
    life::phase,
    time::virtual_time,
    world::{TASK, World, limited},
};

#[expect(dead_code, reason = "the table shows all of it")]
#[path = "../../../../tests/failures/row.rs"]
mod row;

const ROWS: &str = include_str!("../../../../tests/failures/rows.yaml");

/// The Task `it` ends as the row with these words says.
pub async fn shows(world: &World, when: &str) {
    let rows: Vec<row::Row> = serde_saphyr::from_str(ROWS).unwrap();
    let row = rows.into_iter().find(|row| row.when == when).expect(when);
    let end = row.ends.unwrap();
    let mut events = world.events("it", row.events.len()).await;
    while !events.contains(&end.reason) {
        events = world.events("it", events.len() + 1).await;
    }
    // Under a clock that jumps while the store writes, the Pod may be late enough for a word of its own.
    let mut seen = events.iter();
    let told = row
        .events
        .iter()
        .all(|reason| seen.any(|event| event == reason));
    assert!(told, "{events:?}, not {:?}", row.events);
    let status = world.ends("it").await;
    let phase = match status.phase.as_ref().unwrap() {
        TaskPhase::Completed => "Completed",
        TaskPhase::Failed => "Failed",
        other => panic!("{other:?} is no end"),
    };
    assert_eq!(phase, end.phase);
    assert_eq!(status.reason, Some(end.reason));
    let message = status.message.unwrap();
    assert!(message.contains(&end.message), "{message}");
    match row.left.slot {
        row::Slot::Free => world.all_slots_are_free().await,
        row::Slot::Never => {
            let agent = world.api::<Agent>().get("default").await.unwrap();
            let in_use = agent.status.unwrap_or_default().slots_in_use;
            assert_eq!(in_use, None, "a slot was given");
        }
        row::Slot::Gone => panic!("the Agent is there"),
    }
    let attempts = u64::try_from(status.attempts.unwrap_or_default()).unwrap();
    assert_eq!(attempts, end.attempts);
    match (row.left.job, &status.job_name) {
        (row::Job::Never, None) => return,
        (row::Job::Stays, Some(job)) => {
            world.until::<Job>(job, "there", |job| job.is_some()).await;
        }
        (row::Job::Suspended, Some(job)) => {
            let suspended = |job: Option<&Job>| {
                let spec = job.and_then(|job| job.spec.as_ref());
                spec.is_some_and(|spec| spec.suspend == Some(true))
            };
            world.until::<Job>(job, "suspended", suspended).await;
        }
        (row::Job::Closed, Some(job)) => {
            let closed = |job: Option<&Job>| {
                let view = job.map(JobView::of);
                view.is_some_and(|job| job.closed && !job.suspended)
            };
            world.until::<Job>(job, "closed", closed).await;
        }
        (row::Job::Gone, Some(job)) => {
            world.until::<Job>(job, "gone", |job| job.is_none()).await;
        }
        (left, job) => panic!("{left:?} is expected of {job:?}"),
    }
    // Logs are the kubelet's; what can be read follows from what has started and was not deleted.
    let pods = world
        .api::<Pod>()
        .list(&ListParams::default())
        .await
        .unwrap();
    let started = pods.items.iter().any(|pod| {
        let now = pod.status.clone().unwrap_or_default();
        let containers = now.container_statuses.unwrap_or_default();
        let waits = |state: &k8s_openapi::api::core::v1::ContainerStatus| {
            state
                .state
                .as_ref()
                .is_some_and(|state| state.waiting.is_some())
        };
        pod.meta().deletion_timestamp.is_none() && containers.iter().any(|state| !waits(state))
    });
    assert_eq!(started, row.left.logs == row::Logs::Agent);
}

/// A Task whose Pod is played so, under a clock that goes to the next timer when nothing happens.
async fn world(play: Play) -> World {
    world_of(play, TASK).await
}

/// The same, of this Task.
async fn world_of(play: Play, task: &str) -> World {
    let mut world = World::new(play).await;
    world.guard = Duration::from_hours(24);
    world.operate_with(&Faults::none(), &virtual_time());
    world.create(&limited(1)).await;
    world.create(task).await;
    world
}

/// As Kubernetes does when a node has not answered for long enough.
async fn give_up(world: &World, pod: Pod) {
    let pods = world.api::<Pod>();
    let name = pod.metadata.name.unwrap();
    pods.delete(&name, &DeleteParams::default()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn its_node_is_lost_while_the_agent_works() {
    let world = world(Play::Works).await;
    let job = world.job_of("it").await;
    let pod = world.pod_of(&job, |pod| phase(pod) == "Running").await;
    world.kubelet.now(Play::Lost);
    give_up(&world, pod).await;
    shows(&world, "its node is lost while the agent works").await;
    assert_eq!(world.kubelet.starts("it"), 1);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn its_node_is_lost_before_the_agent_has_started() {
    let world = world(Play::NoImage).await;
    let job = world.job_of("it").await;
    let taken = |pod: &Pod| {
        pod.status
            .as_ref()
            .is_some_and(|status| status.start_time.is_some())
    };
    let pod = world.pod_of(&job, taken).await;
    world
        .status("it", "waiting", |status| status.message.is_some())
        .await;
    world.kubelet.now(Play::Lost);
    give_up(&world, pod).await;
    shows(&world, "its node is lost before the agent has started").await;
    assert_eq!(world.kubelet.starts("it"), 0);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn its_image_cannot_be_pulled_for_half_an_hour() {
    let world = world(Play::NoImage).await;
    shows(&world, "its image cannot be pulled for half an hour").await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_volume_cannot_be_mounted_for_half_an_hour() {
    let world = world(Play::NoVolume).await;
    let waiting = world
        .status("it", "waiting", |status| status.message.is_some())
        .await;
    let message = waiting.message.unwrap();
    assert!(message.contains("no container of its Pod"), "{message}");
    shows(
        &world,
        "a volume of its Pod cannot be mounted for half an hour, as when the ConfigMap that was made for it is gone",
    )
    .await;
    world.end().await;
}

#[tokio::test]
async fn the_registry_is_away_for_a_while() {
    let world = World::start(Play::NoImage).await;
    world.create(&limited(1)).await;
    world.create(TASK).await;
    let waiting = world
        .status("it", "waiting", |status| status.message.is_some())
        .await;
    let message = waiting.message.unwrap();
    assert!(message.contains("of agent cannot be pulled"), "{message}");
    world.kubelet.now(Play::Ends(0));
    shows(&world, "the registry is away for a while").await;
    world.end().await;
}

/// The timeout is the agent's.
#[tokio::test(start_paused = true)]
async fn pulling_an_image_is_no_part_of_the_timeout() {
    let task = TASK.replace("Do it.", "Do it., timeout: 30s");
    let world = world_of(Play::NoImage, &task).await;
    let job = world.job_of("it").await;
    world.pod_of(&job, |pod| phase(pod) == "Pending").await;
    tokio::time::sleep(Duration::from_mins(20)).await;
    world.kubelet.now(Play::Ends(0));
    let status = world.ends("it").await;
    assert_eq!(status.reason.as_deref(), Some("Succeeded"));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn no_node_fits_for_half_an_hour() {
    let world = world(Play::Unscheduled).await;
    shows(&world, "no node takes the Pod for half an hour").await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_container_beside_the_agent_does_not_end() {
    let world = world(Play::Outlives).await;
    shows(
        &world,
        "a container that somebody's webhook has put into its Pod runs on after the agent",
    )
    .await;
    world.end().await;
}

/// As `context-init` says it, which has met a full disk in a test of its own.
#[tokio::test(start_paused = true)]
async fn the_disk_of_the_node_is_full() {
    let says = "cannot write /workspace/notes.md: No space left on device (os error 28)";
    let world = world(Play::InitFails("context-init", MAY_PASS, says)).await;
    shows(&world, "the disk of its node is full").await;
    assert_eq!(world.kubelet.starts("it"), 0);
    world.end().await;
}

/// Of a Pod that tolerates everything, which Kubernetes leaves where it is.
#[tokio::test(start_paused = true)]
async fn its_node_does_not_answer_and_nobody_takes_its_pod_away() {
    let task = TASK.replace("Do it.", "Do it., timeout: 30m");
    let world = world_of(Play::Works, &task).await;
    let job = world.job_of("it").await;
    world.pod_of(&job, |pod| phase(pod) == "Running").await;
    world.kubelet.now(Play::Lost);
    shows(
        &world,
        "its node does not answer any more, and its Pod stays because it tolerates that; it has a timeout",
    )
    .await;
    world.end().await;
}

/// A Task of an Agent with one slot, and an API server to which this happens with such a call.
pub async fn answered(verb: &'static str, resource: &'static str, fault: Fault) -> World {
    let mut world = World::new(Play::Ends(0)).await;
    world.guard = Duration::from_hours(24);
    let faults = Faults::timed(move |_, call| {
        if call.verb == verb && call.resource == resource {
            fault
        } else {
            Fault::None
        }
    });
    world.operate_with(&faults, &virtual_time());
    world.create(&limited(1)).await;
    world.create(TASK).await;
    world
}

/// As where a Role lacks something, or a webhook decides about reading.
#[tokio::test(start_paused = true)]
async fn the_operator_may_not_read_its_agent() {
    let world = answered("get", "agents", Fault::Forbidden).await;
    shows(
        &world,
        "the operator may not read its Agent for half an hour",
    )
    .await;
    world.end().await;
}

/// As where an admission webhook for Jobs has no backend.
#[tokio::test(start_paused = true)]
async fn the_api_server_cannot_create_its_job() {
    let world = answered("create", "jobs", Fault::Refused).await;
    shows(
        &world,
        "the API server answers with 500 to each creation of its Job for half an hour, as where a webhook is down",
    )
    .await;
    world.end().await;
}
