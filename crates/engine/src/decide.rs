//! decide: from what a Run is, what is remembered of it and what the world looks like, to the next step.
//!
//! One call gives one [`Step`]. The operator performs it, observes again and asks again, until the step is to rest. So
//! every order of writes is visible here, and a crash between any two of them is a state that `decide` is asked about.
//!
//! # Never twice
//!
//! 1. The Job is created *suspended*. Its name follows from the owner's UID and the attempt; a Job of that name with
//!    another owner is an error. A suspended Job has no Pod: creating it twice, or late, by an operator that has lost
//!    its lease, runs nothing.
//! 2. The Job's UID is recorded in the owner's status, with a resourceVersion precondition. This is the commit point:
//!    of all operators that try, one succeeds, and it happens once for an attempt.
//! 3. Only the Job with the recorded UID is released (`suspend: false`), on condition that it is suspended and not marked
//!    as released, and marked so in the same write: it is never released a second time, even when somebody has suspended
//!    it again. A Job of ours with another UID never runs and is deleted.
//! 4. From then on a missing Job is lost, not forgotten: the Run fails, it is never started again.
//!
//! A new attempt begins only after the kubelet's own word that the agent of the last one was never started, and that
//! nothing of it runs: see [`again`].

mod again;
mod ended;
mod explain;
mod node_clock;
mod outcome;
pub(crate) mod overdue;
mod pending;
pub(crate) mod problem;
mod record;
mod refused;
mod running;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::{batch::v1::Job, core::v1::ConfigMap};

use crate::{
    handover::Report,
    lower::Lowered,
    observe::{JobView, Observation, PodView},
    render,
    run::Owner,
    state::{Reason, RunState},
};

/// Everything that a decision is made from.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// Whose Run it is.
    pub owner: &'a Owner,
    /// What is remembered.
    pub state: &'a RunState,
    /// The Run, if lowering was asked in this round.
    pub lowered: Option<&'a Lowered>,
    /// The world.
    pub observation: &'a Observation,
    /// Whether a person asked for a stop.
    pub stop_requested: bool,
    /// Whether the owner is being deleted: its objects go with it, by owner reference.
    pub deleting: bool,
    /// The time.
    pub now: Timestamp,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Lower the resource, look up what it needs, and ask again with the outcome in [`Input::lowered`].
    Lower,
    /// Do these, in order; stop at the first that fails. Then observe and ask again.
    Act(Vec<Action>),
    /// Write this state into the owner's status, with the resourceVersion that it was read with as precondition.
    /// If that worked, publish the events. Then ask again.
    Record {
        /// The new state.
        state: Box<RunState>,
        /// What to tell people.
        events: Vec<Event>,
    },
    /// Ask for a slot of this Agent, and ask again with the answer in [`Observation::slot`].
    Claim {
        /// Its name.
        agent: String,
    },
    /// Nothing of the Run can run any more: give back its slot of this Agent. Then observe and ask again.
    GiveBack {
        /// Its name.
        agent: String,
    },
    /// What comes next would follow from something that only a cache does not show: ask the API server itself for Job and
    /// Pods, and ask again.
    Confirm,
    /// Nothing to do until something changes, or until this much time has passed.
    Rest {
        /// When to ask again without a change.
        again: Option<Duration>,
    },
}

/// Something to do to the world.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Create it. AlreadyExists with the same owner is success: its name follows from its content.
    CreateConfigMap(Box<ConfigMap>),
    /// Create it, suspended. AlreadyExists with the same owner is success.
    CreateJob(Box<Job>),
    /// Set `spec.suspend` to false and [`ANNOTATION_RELEASED`](kubeopencode_api::names::ANNOTATION_RELEASED) to the time,
    /// in one write, on condition that it is suspended and does not have the annotation. Not on a resourceVersion: the
    /// Job controller writes to each new Job at once.
    ReleaseJob {
        /// Its name.
        name: String,
        /// Precondition.
        uid: String,
        /// Whether it has annotations at all: precondition, too.
        annotated: bool,
    },
    /// Put [`ANNOTATION_RELEASED`](kubeopencode_api::names::ANNOTATION_RELEASED) on a Job that somebody else has released,
    /// or taken it off: whoever suspends it later must not see us release it.
    MarkReleased {
        /// Its name.
        name: String,
        /// Precondition.
        uid: String,
    },
    /// Delete it and its Pods in the background, with both preconditions. NotFound is success.
    DeleteJob {
        /// Its name.
        name: String,
        /// Precondition.
        uid: String,
        /// Precondition.
        resource_version: String,
    },
    /// Set the Pod's `spec.activeDeadlineSeconds`, so that the kubelet ends it with SIGTERM and keeps it and its logs.
    SetPodDeadline {
        /// Its name.
        name: String,
        /// Precondition.
        uid: String,
        /// At least 1; Kubernetes allows to set or to lower it.
        seconds: i64,
    },
    /// Delete a Pod that no node has, with both preconditions: one that has got a node meanwhile is another version.
    /// NotFound is success.
    DeletePod {
        /// Its name.
        name: String,
        /// Precondition.
        uid: String,
        /// Precondition.
        resource_version: String,
    },
    /// Set `spec.parallelism` to 0, `spec.activeDeadlineSeconds` to 1 and `spec.suspend` to false: it makes no Pod any
    /// more, Kubernetes deletes those of it that are still active, and it ends. Its end is the word of the Job controller
    /// that it has seen this, and makes none; a Job that is only suspended never gives such a word.
    CloseJob {
        /// Its name.
        name: String,
        /// Precondition.
        uid: String,
    },
    /// Set `spec.suspend` to true: of a Job that has ended, so that a person sees that it was stopped.
    SuspendJob {
        /// Its name.
        name: String,
        /// Precondition.
        uid: String,
    },
}

impl Action {
    /// What is changed by it, in words that `is refused` can follow. None for a create: what that makes says more.
    #[must_use]
    pub fn what(&self) -> Option<String> {
        match self {
            Self::CreateConfigMap(_) | Self::CreateJob(_) => None,
            Self::ReleaseJob { name, .. } => Some(format!("the release of Job {name}")),
            Self::MarkReleased { name, .. }
            | Self::CloseJob { name, .. }
            | Self::SuspendJob { name, .. } => Some(format!("a change of Job {name}")),
            Self::DeleteJob { name, .. } => Some(format!("the deletion of Job {name}")),
            Self::DeletePod { name, .. } => Some(format!("the deletion of Pod {name}")),
            Self::SetPodDeadline { name, .. } => Some(format!("the deadline of Pod {name}")),
        }
    }

    /// Whether something may run by it.
    fn begins(&self) -> bool {
        matches!(
            self,
            Self::CreateConfigMap(_) | Self::CreateJob(_) | Self::ReleaseJob { .. }
        )
    }

    /// A Job that was never released; a release that is under way fails then, or the deletion does.
    pub(crate) fn delete_job(job: &JobView) -> Self {
        Self::DeleteJob {
            name: job.name.clone(),
            uid: job.uid.clone(),
            resource_version: job.resource_version.clone(),
        }
    }

    /// A Pod that nothing else ends: its Job is gone, and no kubelet has it.
    pub(crate) fn delete_pod(pod: &PodView) -> Self {
        Self::DeletePod {
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            resource_version: pod.resource_version.clone(),
        }
    }

    /// Whether it only makes what is over look so to people.
    fn is_for_the_eye(&self) -> bool {
        matches!(self, Self::SuspendJob { .. })
    }

    /// Whether it follows from what was seen, and would be wrong where that is old.
    fn trusts_the_view(&self) -> bool {
        matches!(self, Self::CloseJob { .. } | Self::SetPodDeadline { .. })
    }

    /// A Pod that its kubelet has.
    pub(crate) fn end_pod(pod: &PodView) -> Self {
        Self::SetPodDeadline {
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            seconds: 1,
        }
    }

    /// A Job that has no Pod, or none that a kubelet has taken.
    pub(crate) fn close_job(job: &JobView) -> Self {
        Self::CloseJob {
            name: job.name.clone(),
            uid: job.uid.clone(),
        }
    }
}

/// What a person should hear of: becomes an Event of the owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Whether it is a warning.
    pub type_: EventType,
    /// One word.
    pub reason: String,
    /// A sentence.
    pub note: String,
}

/// Normal or Warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventType {
    /// As expected.
    Normal,
    /// Something is wrong.
    Warning,
}

impl EventType {
    /// As it stands in the Event.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Name of the Job that an [`Observation`] has to be about: the recorded one, or that of the next attempt.
#[must_use]
pub fn job_name(owner: &Owner, state: &RunState) -> String {
    match &state.job {
        Some(job) => job.name.clone(),
        None => render::job_name(owner, state.attempts + 1),
    }
}

/// Names of the Jobs of attempts that are over. That an attempt is over stays true, so an old view of the state is right about
/// each of them.
#[must_use]
pub fn superseded_names(owner: &Owner, state: &RunState) -> Vec<String> {
    let current = job_name(owner, state);
    let over = (1..=state.attempts).map(|attempt| render::job_name(owner, attempt));
    over.filter(|name| *name != current).collect()
}

/// How long a Run may be in a state in which nothing of it runs and something is visibly wrong (an image that cannot
/// be pulled, a node that cannot be found, a quota), before it fails.
pub const STALL_LIMIT: Duration = Duration::from_mins(30);

/// Attempts that a Run has at most. Another one begins only when the agent of the last one was never started.
pub const MOST_ATTEMPTS: u32 = 3;

/// How long after the time at which a Pod should have been gone it is given up as lost with its node.
pub const LOST_LIMIT: Duration = Duration::from_mins(5);

/// The next step. The same input gives the same step.
#[must_use]
pub fn decide(input: &Input<'_>) -> Step {
    let step = ended::clear_away(input, as_seen(input));
    let step = match (&input.observation.refused, step) {
        (Some(refusal), Step::Act(actions)) if refusal.is_of_one_of(&actions) => {
            refused::change(input, refusal)
        }
        (_, step) => step,
    };
    if input.observation.unseen && !step.holds_with_more() {
        Step::Confirm
    } else {
        step
    }
}

impl Step {
    /// Whether the step is right as well when there is more than what was seen: a create finds out by itself, a release
    /// speaks of a Job that was seen, and who rests is woken by what appears.
    fn holds_with_more(&self) -> bool {
        match self {
            Self::Lower | Self::Confirm | Self::Claim { .. } | Self::Rest { .. } => true,
            Self::Act(actions) => actions.iter().all(Action::begins),
            Self::Record { .. } | Self::GiveBack { .. } => false,
        }
    }
}

/// As if everything that there is had been seen.
fn as_seen(input: &Input<'_>) -> Step {
    let state = input.state;
    if input.deleting {
        ended::give_back(input, going(input))
    } else if state.phase.is_terminal() {
        ended::give_back(input, ended::decide(input))
    } else if let Some(job) = &state.job {
        running::decide(input, job)
    } else if state.attempts as usize > state.failed_attempts.len() {
        // Somebody has edited the status. What was begun is not begun again.
        record::end(
            input,
            Outcome::new(
                Reason::JobLost,
                "the record of its Job is gone from its status",
            ),
        )
    } else {
        pending::decide(input)
    }
}

/// It is being deleted, and may be for long where a finalizer holds it: nothing of it begins any more, and what runs is
/// followed, unless it is being deleted too.
fn going(input: &Input<'_>) -> Step {
    let job = input.observation.job.as_ref();
    let Some(job) = job.filter(|job| !job.deleting()) else {
        return rest();
    };
    if input.state.phase.is_terminal() {
        return ended::decide(input);
    }
    let Some(recorded) = &input.state.job else {
        // An operator died before it had recorded it, and whoever resumed it would start the agent.
        let ours = job.owner_uid.as_deref() == Some(&input.owner.uid);
        return if ours && job.unreleased() {
            pending::delete_unrecorded(input, job)
        } else {
            rest()
        };
    };
    match running::decide(input, recorded) {
        Step::Act(actions) if actions.iter().any(Action::begins) => delete(job),
        step => step,
    }
}

pub use explain::explain;
pub use refused::REFUSED_AGAIN;

/// How a Run ended.
#[derive(Debug, Clone, PartialEq)]
struct Outcome {
    reason: Reason,
    message: String,
    result: Option<Report>,
}

impl Outcome {
    fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            result: None,
        }
    }
}

impl Input<'_> {
    /// A person wants it to end, now or before: taking the annotation off again does not start it again.
    fn stopping(&self) -> bool {
        self.stop_requested || self.state.stop_is_recorded()
    }

    fn elapsed_since(&self, since: Timestamp) -> Duration {
        Duration::try_from(self.now.duration_since(since)).unwrap_or_default()
    }

    /// The time left of `limit` from `since` on; None when it is over.
    fn left(&self, since: Timestamp, limit: Duration) -> Option<Duration> {
        limit
            .checked_sub(self.elapsed_since(since))
            .filter(|left| !left.is_zero())
    }
}

fn delete(job: &JobView) -> Step {
    Step::Act(vec![Action::delete_job(job)])
}

fn rest() -> Step {
    Step::Rest { again: None }
}

fn rest_for(again: Duration) -> Step {
    Step::Rest { again: Some(again) }
}
