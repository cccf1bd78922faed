//! The operator fails or dies at every single call of a Task's life: the Task ends all the same, and ran at most once.

use std::collections::BTreeMap;

use futures::{StreamExt as _, stream};

use super::{
    faults::{Fault, Faults},
    kubelet::Play,
    world::{AGENT, TASK, World},
};

/// Lives that go on at the same time.
const AT_ONCE: usize = 8;

/// One life with one fault. Returns how it ended, and how many calls the operator made until then.
async fn life(play: Play, at: usize, fault: Fault) -> (String, usize, usize) {
    let mut world = World::new(play).await;
    world.create(AGENT).await;
    world.create(TASK).await;
    let faults = Faults::one(at, fault);
    world.operate(&faults);
    let status = world.ends("it").await;
    let (calls, starts) = (faults.calls().len(), world.kubelet.starts("it"));
    let jobs = world.jobs().await.len();
    assert!(jobs <= 1, "{jobs} Jobs with {fault:?} at call {at}");
    world.end().await;
    (status.reason.unwrap(), starts, calls)
}

async fn at_every_call(fault: Fault) {
    let (_, _, calls) = life(Play::Ends(0), usize::MAX, Fault::None).await;
    assert!(calls > 10, "only {calls} calls in a whole life");
    let ends = stream::iter(0..calls + 2)
        .map(|at| async move {
            let (reason, starts, _) = life(Play::Ends(0), at, fault).await;
            (at, reason, starts)
        })
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<_>>()
        .await;
    let bad: BTreeMap<usize, (String, usize)> = ends
        .into_iter()
        .filter(|(_, reason, starts)| reason != "Succeeded" || *starts != 1)
        .map(|(at, reason, starts)| (at, (reason, starts)))
        .collect();
    assert!(
        bad.is_empty(),
        "with {fault:?} at call N, the Task did not succeed with one start: {bad:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_before_the_effect_of_any_call() {
    at_every_call(Fault::Refused).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_to_any_call() {
    at_every_call(Fault::AnswerLost).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn death_before_any_call() {
    at_every_call(Fault::DiesBefore).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn death_after_any_call() {
    at_every_call(Fault::DiesAfter).await;
}
