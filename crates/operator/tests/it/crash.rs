//! The operator fails or dies at every single call of a Task's life: the Task ends all the same, and ran at most once.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use k8s_openapi::api::batch::v1::Job;
use kube::api::{DeleteParams, PropagationPolicy};

use super::{
    faults::{Fault, Faults},
    kubelet::Play,
    life::phase,
    world::{AGENT, TASK, World},
};

/// Lives that go on at the same time.
const AT_ONCE: usize = 16;

/// A kind of life, which ends in one way whatever happens to the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// The agent ends by itself.
    Succeeds,
    /// A person stops it while the agent works.
    IsStopped,
}

impl Life {
    fn reason(self) -> &'static str {
        match self {
            Self::Succeeds => "Succeeded",
            Self::IsStopped => "UserStopped",
        }
    }

    /// Each change of phase is an Event, also where nobody heard that it is on record.
    async fn is_told(self, world: &World) {
        let expected: &[&str] = match self {
            Self::Succeeds => &["Running", "Succeeded"],
            Self::IsStopped => &["Running", "Stopping", "UserStopped"],
        };
        let mut events = world.events("it", expected.len()).await;
        while !expected
            .iter()
            .all(|word| events.iter().any(|event| event == word))
        {
            events = world.events("it", events.len() + 1).await;
        }
    }

    /// With one fault. Returns how it ended, how many Pods were started, and how many calls the operator made.
    async fn live(self, at: usize, fault: Fault) -> (String, usize, usize) {
        let play = match self {
            Self::Succeeds => Play::Ends(0),
            Self::IsStopped => Play::Works,
        };
        let mut world = World::new(play).await;
        world.create(AGENT).await;
        world.create(TASK).await;
        let faults = Faults::one(at, fault);
        world.operate(&faults);
        if self == Self::IsStopped {
            let job = world.job_of("it").await;
            world.pod_of(&job, |pod| phase(pod) == "Running").await;
            world.stop("it").await;
        }
        let status = world.ends("it").await;
        if matches!(fault, Fault::AnswerLost) {
            self.is_told(&world).await;
        }
        let (calls, starts) = (faults.calls().len(), world.kubelet.starts("it"));
        let jobs = world.jobs().await.len();
        assert!(jobs <= 1, "{jobs} Jobs with {fault:?} at call {at}");
        world.end().await;
        (status.reason.unwrap(), starts, calls)
    }
}

async fn at_every_call(life: Life, fault: Fault) {
    let (_, _, calls) = life.live(usize::MAX, Fault::None).await;
    assert!(calls > 10, "only {calls} calls in a whole life");
    let ends = stream::iter(0..calls + 2)
        .map(|at| async move {
            let (reason, starts, _) = life.live(at, fault).await;
            (at, reason, starts)
        })
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<_>>()
        .await;
    let bad: BTreeMap<usize, (String, usize)> = ends
        .into_iter()
        .filter(|(_, reason, starts)| reason != life.reason() || *starts != 1)
        .map(|(at, reason, starts)| (at, (reason, starts)))
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
        world
            .create(&TASK.replace("{name: it}", &format!("{{name: {name}}}")))
            .await;
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
    world.create(AGENT).await;
    world.create(TASK).await;
    let job = world.job_of("it").await;
    world.pod_of(&job, |pod| phase(pod) == "Running").await;
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
