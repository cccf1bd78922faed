//! The operator fails or dies at every single call of a Task's life: the Task ends all the same, and ran at most once.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use k8s_openapi::api::batch::v1::Job;
use kube::api::{DeleteParams, Patch, PatchParams, PropagationPolicy};
use kubeopencode_api::v1alpha1::Task;
use kubeopencode_engine::{observe::JobView, render::job_name};
use serde_json::json;

use super::{
    faults::{Fault, Faults},
    kubelet::Play,
    life::{owner, phase},
    world::{AGENT, TASK, World, limited, task},
};

/// Lives that go on at the same time.
const AT_ONCE: usize = 16;

/// A kind of life, which ends in one way whatever happens to the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// The agent ends by itself.
    Succeeds,
    /// The same with a slot of its Agent, which is free again in the end.
    HasASlot,
    /// The same in the second attempt: the Pod of the first fails before its agent is started.
    Repeats,
    /// A person stops it while the agent works.
    IsStopped,
    /// A person deletes it as soon as it has a Job, and a finalizer holds it until nothing of it can run any more.
    IsDeleted,
}

/// How a life ended.
struct Lived {
    /// The reason in the status, if there is one.
    reason: Option<String>,
    /// How many Pods were started.
    starts: usize,
    /// How many calls the operator made.
    calls: usize,
}

impl Life {
    fn reason(self) -> Option<&'static str> {
        match self {
            Self::Succeeds | Self::HasASlot | Self::Repeats => Some("Succeeded"),
            Self::IsStopped => Some("UserStopped"),
            Self::IsDeleted => None,
        }
    }

    fn attempts(self) -> usize {
        if self == Self::Repeats { 2 } else { 1 }
    }

    /// Each change of phase is an Event, also where nobody heard that it is on record.
    async fn is_told(self, world: &World) {
        let expected: &[&str] = match self {
            Self::Succeeds | Self::HasASlot => &["Running", "Succeeded"],
            Self::Repeats => &["Running", "NewAttempt", "Succeeded"],
            Self::IsStopped => &["Running", "Stopping", "UserStopped"],
            Self::IsDeleted => &[],
        };
        let mut events = world.events("it", expected.len()).await;
        while !expected
            .iter()
            .all(|word| events.iter().any(|event| event == word))
        {
            events = world.events("it", events.len() + 1).await;
        }
    }

    /// What happens to the Task meanwhile, until its end. Returns the reason of that.
    async fn goes_on(self, world: &World, task: &Task) -> Option<String> {
        match self {
            Self::Succeeds | Self::HasASlot | Self::Repeats => {}
            Self::IsStopped => {
                let job = world.job_of("it").await;
                world.pod_of(&job, |pod| phase(pod) == "Running").await;
                world.stop("it").await;
            }
            Self::IsDeleted => {
                is_deleted(world, &job_name(&owner(task), 1)).await;
                return None;
            }
        }
        let status = world.ends("it").await;
        if self == Self::HasASlot {
            world.all_slots_are_free().await;
        }
        status.reason
    }

    async fn live(self, at: usize, fault: Fault) -> Lived {
        let play = match self {
            Self::Succeeds | Self::HasASlot | Self::IsDeleted => Play::Ends(0),
            Self::Repeats => Play::Passes,
            Self::IsStopped => Play::Works,
        };
        let mut world = World::new(play).await;
        if self == Self::HasASlot {
            world.create(&limited(1)).await;
        } else {
            world.create(AGENT).await;
        }
        let task = if self == Self::IsDeleted {
            TASK.replace("{name: it}", "{name: it, finalizers: [example.org/held]}")
        } else {
            TASK.to_owned()
        };
        let task: Task = world.create(&task).await.try_parse().unwrap();
        let faults = Faults::one(at, fault);
        world.operate(&faults);
        let reason = self.goes_on(&world, &task).await;
        if matches!(fault, Fault::AnswerLost) {
            self.is_told(&world).await;
        }
        let (calls, starts) = (faults.calls().len(), world.kubelet.starts("it"));
        let jobs = world.jobs().await.len();
        let most = self.attempts();
        assert!(jobs <= most, "{jobs} Jobs with {fault:?} at call {at}");
        world.end().await;
        Lived {
            reason,
            starts,
            calls,
        }
    }
}

/// Nothing of it begins any more, and what has begun ends: then it goes.
async fn is_deleted(world: &World, job: &str) {
    world.until::<Job>(job, "there", |job| job.is_some()).await;
    let (tasks, background) = (world.api::<Task>(), DeleteParams::background());
    tasks.delete("it", &background).await.unwrap();
    let over = |job: Option<&Job>| job.is_none_or(|job| JobView::of(job).end.is_some());
    world.until::<Job>(job, "over", over).await;
    let released = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    let parameters = PatchParams::default();
    tasks.patch("it", &parameters, &released).await.unwrap();
    world.until::<Task>("it", "gone", |it| it.is_none()).await;
    world.until::<Job>(job, "gone", |job| job.is_none()).await;
}

async fn at_every_call(life: Life, fault: Fault) {
    let calls = life.live(usize::MAX, Fault::None).await.calls;
    assert!(calls > 10, "only {calls} calls in a whole life");
    let ends = stream::iter(0..calls + 2)
        .map(|at| async move { (at, life.live(at, fault).await) })
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<_>>()
        .await;
    let least = usize::from(life != Life::IsDeleted);
    let bad: BTreeMap<usize, (Option<String>, usize)> = ends
        .into_iter()
        .filter(|(_, lived)| {
            lived.reason.as_deref() != life.reason() || !(least..=1).contains(&lived.starts)
        })
        .map(|(at, lived)| (at, (lived.reason, lived.starts)))
        .collect();
    assert!(
        bad.is_empty(),
        "{life:?} with {fault:?} at call N, end and starts: {bad:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_before_the_effect_of_any_call() {
    at_every_call(Life::Succeeds, Fault::Refused).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_to_any_call() {
    at_every_call(Life::Succeeds, Fault::AnswerLost).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn death_before_any_call() {
    at_every_call(Life::Succeeds, Fault::DiesBefore).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn death_after_any_call() {
    at_every_call(Life::Succeeds, Fault::DiesAfter).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_to_any_call_of_a_life_that_is_stopped() {
    at_every_call(Life::IsStopped, Fault::AnswerLost).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn death_after_any_call_of_a_life_that_is_stopped() {
    at_every_call(Life::IsStopped, Fault::DiesAfter).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_to_any_call_of_a_life_that_has_a_slot() {
    at_every_call(Life::HasASlot, Fault::AnswerLost).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn death_after_any_call_of_a_life_that_has_a_slot() {
    at_every_call(Life::HasASlot, Fault::DiesAfter).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn death_after_any_call_of_a_life_of_two_attempts() {
    at_every_call(Life::Repeats, Fault::DiesAfter).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn death_after_any_call_of_a_life_that_is_deleted() {
    at_every_call(Life::IsDeleted, Fault::DiesAfter).await;
}

/// The same faults for the same seed and order of calls: of a hundred calls, ten fail in one way or the other, and
/// every watch is late.
fn storm(seed: u64) -> Faults {
    Faults::new(move |number, call| {
        let mut hash = DefaultHasher::new();
        (seed, number).hash(&mut hash);
        match hash.finish() % 100 {
            0..5 => Fault::Refused,
            5..10 => Fault::AnswerLost,
            late if call.verb == "watch" => Fault::Late(Duration::from_millis(late)),
            _ => Fault::None,
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_operators_in_a_storm_run_each_task_once() {
    let mut world = World::new(Play::Ends(0)).await;
    world.create(AGENT).await;
    world.operate(&storm(1));
    world.operate(&storm(2));
    let names: Vec<String> = (0..30).map(|number| format!("it-{number}")).collect();
    for name in &names {
        world.create(&task(name)).await;
    }
    for name in &names {
        let status = world.ends(name).await;
        assert_eq!(status.reason.as_deref(), Some("Succeeded"), "{name}");
        assert_eq!(world.kubelet.starts(name), 1, "{name}");
    }
    assert_eq!(world.jobs().await.len(), names.len());
    world.end().await;
}

/// The Job is deleted and its Pod is not, and the operator dies between the record of that and the end of the Pod.
#[tokio::test]
async fn death_before_a_pod_that_outlived_its_job_was_ended() {
    let mut world = World::new(Play::Works).await;
    world.operate(&Faults::new(|_, call| {
        if call.verb == "patch" && call.resource == "pods" {
            Fault::DiesBefore
        } else {
            Fault::None
        }
    }));
    let job = world.is_at_work().await;
    let orphaning = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Orphan),
        ..DeleteParams::default()
    };
    let jobs = world.api::<Job>();
    jobs.delete(&job, &orphaning).await.unwrap();
    let status = world.ends("it").await;
    assert_eq!(status.reason.as_deref(), Some("JobLost"));
    world.pod_of(&job, |pod| phase(pod) == "Failed").await;
    world.end().await;
}
