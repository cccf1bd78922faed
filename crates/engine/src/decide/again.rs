//! When an attempt may be followed by another one: only when its agent was never started, for a cause that may pass.
//!
//! That it never started is believed of a kubelet that says of the agent's container that it waits, and of a Pod that was
//! never given to a node. A kubelet that says nothing of its containers knows nothing: one that was restarted admits every
//! Pod once more, also those at work, and the status of a Pod that it refuses then has a reason and no containers. A Pod
//! whose node is lost may be running, whatever its status says; a Pod that is gone cannot be asked any more. So what an
//! ended Pod says is put on record at once: the attempt is *spent*. The next one begins when its Job has an end, and has
//! counted no other Pod than that one, and not before a pause is over: whatever it was has to have time to pass.

use std::time::Duration;

use super::{Input, MOST_ATTEMPTS, Outcome, Step, outcome, record, rest_for};
use crate::{
    handover::{BEGUN_BEFORE, MAY_PASS},
    observe::{ContainerState, ContainerView, JobView, PodPhase, PodView},
    state::{JobRecord, Reason, RunState},
};

/// How long after the first attempt the second one begins at the earliest; the third waits three times as long.
const PAUSE: Duration = Duration::from_secs(5);

/// What comes after a Pod that ended.
pub enum After {
    /// Its Run has ended.
    End,
    /// Its Run has ended, because the attempt was the last that it may have.
    Exhausted,
    /// The attempt is spent.
    Spent,
    /// It would be, but a person wants no other: that goes on record first.
    Stop,
    /// One more Pod of the Job may be at work.
    Wait,
}

/// What comes after `ended`, which is one of these Pods.
pub fn after(
    input: &Input<'_>,
    job: Option<&JobView>,
    pods: &[&PodView],
    ended: &PodView,
) -> After {
    let job_stays = job.is_some_and(|job| !job.deleting());
    let may_follow = job_stays && never_started(ended) && may_pass(ended);
    if !may_follow || input.state.stop_is_recorded() {
        After::End
    } else if input.state.attempts >= MOST_ATTEMPTS {
        After::Exhausted
    } else if input.stopping() {
        After::Stop
    } else if pods.iter().all(|pod| never_started(pod)) {
        After::Spent
    } else {
        After::Wait
    }
}

/// Whether it is on record that the agent of the current attempt was never started.
pub fn is_spent(state: &RunState) -> bool {
    state.job.is_some() && state.failed_attempts.len() == state.attempts as usize
}

/// How long the next attempt waits after so many.
pub fn pause(attempts: u32) -> Duration {
    PAUSE * 3_u32.saturating_pow(attempts.saturating_sub(1))
}

/// The Job of a spent attempt has ended, and no Pod of it is left that has not: the next one, if it had no other.
pub fn next(input: &Input<'_>, job: &JobView, recorded: &JobRecord) -> Step {
    if job.failed == 1 {
        let spent = input.state.failed_attempts.last();
        let since = spent.map_or(input.now, |failed| failed.time);
        return match input.left(since, pause(input.state.attempts)) {
            Some(left) => rest_for(left),
            None => record::again(input),
        };
    }
    let words = format!(
        "its Job {} had {} Pods, and one of them may have run the agent",
        recorded.name, job.failed
    );
    record::end(input, Outcome::new(Reason::InfrastructureError, words))
}

/// Whether it is certain that the agent of this Pod was not started, and never will be.
fn never_started(pod: &PodView) -> bool {
    let mut before = pod.init.iter().chain(&pod.sidecars);
    if before.any(|container| ended_with(container, BEGUN_BEFORE)) {
        return false;
    }
    if !pod.bound && pod.deletion.is_some() && pod.agent.is_none() {
        return true;
    }
    // Where the runtime says that it could not start it, it may have got further than it knows.
    let agent = pod.agent.as_ref().map(|agent| &agent.state);
    let waited = matches!(agent, Some(ContainerState::Waiting { .. }));
    pod.phase == PodPhase::Failed && !pod.given_up && waited && !leaves_no_trace(pod)
}

/// Whether an agent that was started would look as if it had not been. From a Pod that it evicts, a kubelet removes each
/// container as it ends, before it reads how: one that began a moment before the eviction, and of which it had not told yet,
/// leaves no trace. But it tells that the init containers are through before it starts the agent.
/// (`ShouldPodContentBeRemoved` in Kubernetes' `pkg/kubelet/pod_workers.go`. Preemption by the kubelet is an eviction.)
fn leaves_no_trace(pod: &PodView) -> bool {
    let is_through =
        |state: &ContainerState| matches!(state, ContainerState::Terminated { exit_code: 0, .. });
    let evicted = matches!(pod.reason.as_deref(), Some("Evicted" | "Preempting"));
    evicted
        && pod
            .init
            .iter()
            .all(|container| is_through(&container.state))
}

/// Whether another attempt may end differently.
fn may_pass(pod: &PodView) -> bool {
    if outcome::ended_by_deletion(pod) || pod.disruption.is_some() {
        return true;
    }
    match pod.reason.as_deref() {
        // The kubelet's own: it needed the room, or was itself told to end. Of another reason nothing is expected.
        Some(reason) => matches!(reason, "Evicted" | "Preempting" | "Shutdown" | "Terminated"),
        None => pod
            .init
            .iter()
            .any(|container| ended_with(container, MAY_PASS)),
    }
}

fn ended_with(container: &ContainerView, code: u8) -> bool {
    matches!(container.state, ContainerState::Terminated { exit_code, .. } if exit_code == i32::from(code))
}
