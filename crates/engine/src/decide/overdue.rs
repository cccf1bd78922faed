//! Pods that stay although everything that was to be done is done, or has long been due: nobody else ends them.

use std::time::Duration;

use jiff::Timestamp;

use super::{LOST_LIMIT, node_clock};
use crate::observe::{ContainerState, JobView, PodView};

/// How long the rest of a Pod may go on after its agent, besides the grace period that its sidecars have.
const OUTLIVE_LIMIT: Duration = Duration::from_mins(1);

/// `terminationGracePeriodSeconds`.
pub fn grace(pod: &PodView) -> Duration {
    Duration::from_secs(u64::try_from(pod.grace_seconds).unwrap_or_default())
}

/// A Pod that lives on although its agent has ended: nobody ends one whose last container, which somebody has put beside
/// the agent, runs for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outlives {
    /// When the agent ended, as far as that is known, by the API server's clock.
    pub since: Option<Timestamp>,
    /// How long after that the Pod is to be ended.
    pub limit: Duration,
    /// How long after that it should have ended, and its node does not answer.
    pub lost: Duration,
}

impl Outlives {
    /// None of a Pod whose agent has not ended. It is asked of Pods that have not ended themselves.
    pub fn of(pod: &PodView, now: Timestamp) -> Option<Self> {
        let ContainerState::Terminated { finished, .. } = &pod.agent.as_ref()?.state else {
            return None;
        };
        let limit = grace(pod) + OUTLIVE_LIMIT;
        Some(Self {
            since: finished
                .or(pod.started)
                .map(|told| node_clock::by_the_api_server(pod, told, now)),
            limit,
            lost: limit + grace(pod) + LOST_LIMIT,
        })
    }
}

/// From when on, and for how long, a Pod that has not ended by the deadline which it was made with is waited for: the
/// kubelet ends it by that, and when it has not, there is no kubelet. Kubernetes does not always give a lost node up: a Pod
/// that tolerates everything stays. What somebody has made of the deadline since says nothing: it may be over in the moment
/// in which it is set.
pub fn has_to_end(pod: &PodView, job: &JobView) -> Option<(Timestamp, Duration)> {
    let allowed = u64::try_from(job.pod_deadline_seconds?).ok()?;
    let limit = Duration::from_secs(allowed) + grace(pod) + LOST_LIMIT;
    Some((node_clock::taken(pod)?, limit))
}
