//! When an attempt may be followed by another one: only when its agent was never started, for a cause that may pass.
//!
//! That it never started is believed of the kubelet alone, and of a Pod that was never given to a node. A Pod whose node
//! is lost may be running, whatever its status says; a Pod that is gone cannot be asked any more.

use super::{Input, MOST_ATTEMPTS, outcome};
use crate::{
    handover::MAY_PASS,
    observe::{ContainerState, JobView, PodPhase, PodView},
};

/// What comes after an attempt.
pub enum After {
    /// Its Run has ended.
    End,
    /// Its Job has not ended, or a Pod of it has not: their events tell.
    Wait,
    /// Another attempt.
    Again,
}

/// What comes after the attempt of these Pods, of which `ended` is one that ended.
pub fn after(
    input: &Input<'_>,
    job: Option<&JobView>,
    pods: &[&PodView],
    ended: &PodView,
) -> After {
    let Some(job) = job else { return After::End };
    if input.stopping() || !never_started(ended) || !may_pass(ended) {
        After::End
    } else if !pods.iter().all(|pod| never_started(pod)) {
        // One more Pod of this Job, which may be at work.
        After::Wait
    } else if input.state.attempts >= MOST_ATTEMPTS || job.deleting {
        After::End
    } else if job.end.is_none() {
        After::Wait
    } else {
        After::Again
    }
}

/// Whether it is certain that the agent of this Pod was not started, and never will be.
fn never_started(pod: &PodView) -> bool {
    if !pod.bound && pod.deletion.is_some() && pod.agent.is_none() {
        return true;
    }
    let started = match pod.agent.as_ref().map(|agent| &agent.state) {
        None | Some(ContainerState::Waiting { .. }) => false,
        // The runtime says that it could not start it. It may have got further than it knows.
        Some(ContainerState::Running | ContainerState::Terminated { .. }) => true,
    };
    pod.phase == PodPhase::Failed && !pod.given_up && !started
}

/// Whether another attempt may end differently.
fn may_pass(pod: &PodView) -> bool {
    if outcome::ended_by_deletion(pod) || pod.disruption.is_some() {
        return true;
    }
    match pod.reason.as_deref() {
        // The kubelet's own: it needed the room, had none, or was itself told to end. Of a reason that is not known, such
        // as a node that does not know what the Pod asks for, nothing is expected.
        Some(reason) => {
            reason.starts_with("OutOf")
                || matches!(
                    reason,
                    "Evicted"
                        | "Preempting"
                        | "NodeAffinity"
                        | "NodeShutdown"
                        | "Shutdown"
                        | "Terminated"
                        | "UnexpectedAdmissionError"
                )
        }
        None => pod.init.iter().any(|container| {
            matches!(container.state, ContainerState::Terminated { exit_code, .. } if exit_code == i32::from(MAY_PASS))
        }),
    }
}
