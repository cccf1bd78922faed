//! What keeps a Pod from starting, as far as its status tells.

use jiff::Timestamp;

use super::node_clock;
use crate::observe::{ContainerState, ContainerView, PodPhase, PodView, Refusal};

/// Something that is wrong now, and may pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The part of the message that stays the same while the problem does: the kubelet changes its words at every
    /// attempt, and each change of a status wakes everybody up.
    subject: String,
    /// For a person.
    pub message: String,
}

impl Problem {
    fn new(subject: String, detail: &str) -> Self {
        let message = match detail.trim() {
            "" => subject.clone(),
            detail => format!("{subject}: {detail}"),
        };
        Self { subject, message }
    }

    /// What hinders nothing, but is not as it should be.
    pub fn refused(refusal: &Refusal) -> Self {
        Self::new(format!("{} is refused", refusal.what), &refusal.message)
    }

    /// Whether this message is about the same problem.
    pub fn is_told_by(&self, message: &str) -> bool {
        message.starts_with(&self.subject)
    }
}

/// The first problem of a Pod that has not ended.
pub fn of_pod(pod: &PodView) -> Option<Problem> {
    if let Some(why) = &pod.unschedulable {
        return Some(Problem::new("its Pod cannot be scheduled".to_owned(), why));
    }
    let containers = pod.init.iter().chain(&pod.sidecars).chain(&pod.agent);
    containers.into_iter().find_map(of_container)
}

/// Nothing of the Pod runs, and its status does not say why: what mounts volumes tells of it in Events alone.
pub fn silent(pod: &PodView) -> Problem {
    Problem::new(
        format!("no container of its Pod {} starts", pod.name),
        "the Events of the Pod say why (often a ConfigMap or Secret that a volume needs, or a large image)",
    )
}

fn of_container(container: &ContainerView) -> Option<Problem> {
    let ContainerState::Waiting { reason, message } = &container.state else {
        return None;
    };
    let ContainerView { name, image, .. } = container;
    match reason.as_str() {
        "" | "PodInitializing" | "ContainerCreating" => None,
        "ErrImagePull"
        | "ImagePullBackOff"
        | "InvalidImageName"
        | "ErrImageNeverPull"
        | "ImageInspectError"
        | "RegistryUnavailable" => Some(Problem::new(
            format!("the image {image} of {name} cannot be pulled"),
            message,
        )),
        reason => Some(Problem::new(
            format!("{name} cannot start ({reason})"),
            message,
        )),
    }
}

/// Since when nothing of the Pod runs although the agent has not started; None while something runs or has run.
pub fn stalled_since(pod: &PodView, now: Timestamp) -> Option<Timestamp> {
    let waits =
        |container: &ContainerView| matches!(container.state, ContainerState::Waiting { .. });
    let runs = |container: &ContainerView| matches!(container.state, ContainerState::Running);
    let agent_waits = pod.agent.as_ref().is_none_or(waits);
    if pod.phase != PodPhase::Pending || !agent_waits || pod.init.iter().any(runs) {
        return None;
    }
    let last_end = pod
        .init
        .iter()
        .filter_map(|container| match container.state {
            ContainerState::Terminated { finished, .. } => finished,
            _ => None,
        });
    last_end
        .map(|told| node_clock::by_the_api_server(pod, told, now))
        .chain(pod.created)
        .max()
}
