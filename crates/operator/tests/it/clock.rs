//! The clock of an operator's machine is an hour off, or is set while it runs: every limit is as long as it should be.
//!
//! The cluster's clock goes at the pace of tokio's timers, the operator's own is wrong by so many seconds. What the timers
//! do while the store's own thread writes may make a wait some minutes longer, and never shorter.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use k8s_openapi::{
    api::core::v1::Pod,
    jiff::{SignedDuration, Timestamp},
};
use kube::api::DeleteParams;
use kubeopencode_api::v1alpha1::{TaskPhase, TaskStatus};
use kubeopencode_operator::{Clock, OperatorOptions};
use tokio::time::{Instant, sleep};

use super::{
    faults::{Fault, Faults},
    kubelet::Play,
    life::phase,
    world::{AGENT, TASK, World, condition, task},
};

const HOUR: i64 = 3600;

/// A wait of this long is too long by less than an operator's clock is wrong.
fn too_long(limit: Duration) -> Duration {
    limit + Duration::from_mins(45)
}

/// A cluster and the clock of an operator's machine.
struct Clocks {
    world: World,
    right: Clock,
    wrong_by: Arc<AtomicI64>,
}

impl Clocks {
    async fn differ(play: Play, by: i64) -> Self {
        let (begin, start) = (Timestamp::now(), Instant::now());
        let right: Clock = Arc::new(move || begin + start.elapsed());
        let mut world = World::by(play, &right).await;
        world.guard = Duration::from_hours(24);
        let mut this = Self {
            world,
            right,
            wrong_by: Arc::new(AtomicI64::new(by)),
        };
        this.operate();
        this
    }

    /// An operator begins.
    fn operate(&mut self) {
        let (right, wrong_by) = (self.right.clone(), self.wrong_by.clone());
        let own: Clock =
            Arc::new(move || right() + SignedDuration::from_secs(wrong_by.load(Ordering::Relaxed)));
        let faults = Faults::timed(|_, _| Fault::None);
        self.world
            .operate_by(&faults, own, OperatorOptions::default());
    }

    /// Somebody sets the clock.
    fn set(&self, wrong_by: i64) {
        self.wrong_by.store(wrong_by, Ordering::Relaxed);
    }

    /// The Task ends within bounds of this limit, counted from `since`, and the times of its end are the cluster's.
    async fn ends_after(&self, task: &str, limit: Duration, since: Instant) -> TaskStatus {
        let status = self.world.ends(task).await;
        let waited = since.elapsed();
        let bounds = limit.saturating_sub(Duration::from_secs(6))..too_long(limit);
        assert!(bounds.contains(&waited), "{waited:?}: {status:?}");
        let told = status.completion_time.as_ref().unwrap().0;
        let late = (self.right)().duration_since(told).as_secs();
        assert!((-7..1200).contains(&late), "by {late} s: {status:?}");
        status
    }
}

async fn waits_for_its_agent(clocks: &Clocks) -> Instant {
    let task = TASK.replace("spec: {", "spec: {agentRef: never, ");
    clocks.world.create(&task).await;
    let begin = Instant::now();
    clocks
        .world
        .status("it", "waiting", |status| {
            condition(status, "Ready") == Some("False")
        })
        .await;
    begin
}

#[tokio::test(start_paused = true)]
async fn a_reference_is_waited_for_as_long_as_it_should_be() {
    for by in [HOUR, -HOUR] {
        let clocks = Clocks::differ(Play::Ends(0), by).await;
        let begin = waits_for_its_agent(&clocks).await;
        let limit = Duration::from_mins(5);
        let status = clocks.ends_after("it", limit, begin).await;
        assert_eq!(status.reason.as_deref(), Some("ReferenceNotFound"));
        clocks.world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_operator_whose_clock_is_another_goes_on_with_the_same_wait() {
    for by in [HOUR, -HOUR] {
        let mut clocks = Clocks::differ(Play::Ends(0), 0).await;
        let begin = waits_for_its_agent(&clocks).await;
        clocks.world.stop_operators().await;
        clocks.set(by);
        clocks.operate();
        let limit = Duration::from_mins(5);
        let status = clocks.ends_after("it", limit, begin).await;
        assert_eq!(status.reason.as_deref(), Some("ReferenceNotFound"));
        clocks.world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_meanwhile_changes_nothing() {
    for by in [HOUR, -HOUR] {
        let clocks = Clocks::differ(Play::NoImage, 0).await;
        clocks.world.create(AGENT).await;
        let begin = Instant::now();
        clocks.world.create(TASK).await;
        clocks
            .world
            .status("it", "waiting", |status| status.message.is_some())
            .await;
        clocks.set(by);
        let limit = Duration::from_mins(30);
        let status = clocks.ends_after("it", limit, begin).await;
        assert_eq!(status.reason.as_deref(), Some("InfrastructureError"));
        clocks.world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_has_its_half_hour_to_start_and_runs_once() {
    for by in [HOUR, -HOUR] {
        let clocks = Clocks::differ(Play::NoImage, by).await;
        let world = &clocks.world;
        world.create(AGENT).await;
        world.create(TASK).await;
        world
            .status("it", "waiting", |status| status.message.is_some())
            .await;
        sleep(Duration::from_mins(10)).await;
        world.kubelet.now(Play::Ends(0));
        let status = world.ends("it").await;
        assert_eq!(status.reason.as_deref(), Some("Succeeded"));
        assert_eq!(world.kubelet.starts("it"), 1);

        world.kubelet.now(Play::NoImage);
        let begin = Instant::now();
        world.create(&task("next")).await;
        let limit = Duration::from_mins(30);
        let status = clocks.ends_after("next", limit, begin).await;
        assert_eq!(status.reason.as_deref(), Some("InfrastructureError"));
        clocks.world.end().await;
    }
}

/// The Task that has the only slot is on a node that does not answer; the one behind it starts when that is given up.
#[tokio::test(start_paused = true)]
async fn a_slot_is_kept_as_long_as_a_pod_that_is_being_deleted_may_run() {
    for by in [HOUR, -HOUR] {
        let clocks = Clocks::differ(Play::Works, by).await;
        let world = &clocks.world;
        world
            .create(&AGENT.replace("spec: {", "spec: {maxConcurrentTasks: 1, "))
            .await;
        world.create(TASK).await;
        let job = world.job_of("it").await;
        let pod = world.pod_of(&job, |pod| phase(pod) == "Running").await;
        world.create(&task("next")).await;
        let queued = |status: &TaskStatus| status.phase == Some(TaskPhase::Queued);
        world.status("next", "queued", queued).await;
        world.kubelet.now(Play::Lost);
        let begin = Instant::now();
        let name = pod.metadata.name.unwrap();
        let pods = world.api::<Pod>();
        pods.delete(&name, &DeleteParams::default()).await.unwrap();
        // Its grace, and five minutes.
        let limit = Duration::from_secs(330);
        let status = clocks.ends_after("it", limit, begin).await;
        assert_eq!(status.reason.as_deref(), Some("InfrastructureError"));
        world.job_of("next").await;
        assert!(begin.elapsed() + Duration::from_secs(6) >= limit);
        clocks.world.end().await;
    }
}
