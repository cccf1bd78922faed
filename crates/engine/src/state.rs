//! The state of a Run: what the engine remembers between two looks at the world.
//!
//! It is kept in the owner's `status`, written only with a resourceVersion precondition. Each front end maps it to the
//! words of its own API.

use jiff::Timestamp;

use crate::{handover::Report, run::AgentUsed};

/// What the engine remembers of a Run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunState {
    /// Where it is in its life.
    pub phase: Phase,
    /// The generation of the owner that this state speaks of.
    pub observed_generation: Option<i64>,
    /// The Job of the current attempt. Once it is set, no Job with another UID is ever released for this attempt.
    pub job: Option<JobRecord>,
    /// Attempts begun, counted when their Job is recorded.
    pub attempts: u32,
    /// Attempts that ended before the agent was started. Another follows each, unless its Job had a Pod that nobody saw.
    pub failed_attempts: Vec<FailedAttempt>,
    /// Its place in the queue, while it is Queued.
    pub queue: Option<QueuePlace>,
    /// The Agent it was started with.
    pub agent: Option<AgentUsed>,
    /// When the first Job was put on record; its release follows at once, unless it is refused.
    pub start_time: Option<Timestamp>,
    /// When it ended; set with a terminal phase, never changed after.
    pub completion_time: Option<Timestamp>,
    /// Why it ended; set with a terminal phase, never changed after.
    pub reason: Option<Reason>,
    /// For a person: why it ended, or what it waits for.
    pub message: Option<String>,
    /// What came out of it.
    pub result: Option<Report>,
    /// Conditions, in the order in which they first appeared.
    pub conditions: Vec<Condition>,
}

impl RunState {
    /// The condition of that type.
    #[must_use]
    pub fn condition(&self, type_: &str) -> Option<&Condition> {
        self.conditions
            .iter()
            .find(|condition| condition.type_ == type_)
    }

    /// Whether a stop is on record: the condition is there, false while the agent has its time to end, true after it.
    #[must_use]
    pub fn stop_is_recorded(&self) -> bool {
        self.condition(kubeopencode_api::names::condition::STOPPED)
            .is_some()
    }

    /// Whether the condition of that type is known and true.
    #[must_use]
    pub fn is_true(&self, type_: &str) -> bool {
        self.condition(type_)
            .is_some_and(|condition| condition.status)
    }

    /// Set a condition; its transition time stays when its status does.
    pub fn set_condition(&mut self, condition: Condition) {
        match self
            .conditions
            .iter_mut()
            .find(|known| known.type_ == condition.type_)
        {
            Some(known) => {
                let last_transition = if known.status == condition.status {
                    known.last_transition
                } else {
                    condition.last_transition
                };
                *known = Condition {
                    last_transition,
                    ..condition
                };
            }
            None => self.conditions.push(condition),
        }
    }
}

/// The Job that was recorded for an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRecord {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// An attempt that ended before the agent was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedAttempt {
    /// Name of its Job.
    pub job: String,
    /// What went wrong.
    pub message: String,
    /// When that was seen.
    pub time: Timestamp,
}

/// A place in the queue of an Agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuePlace {
    /// The Agent.
    pub agent: String,
    /// Counted from 1, as it was when it was written.
    pub position: usize,
}

/// Where a Run is in its life.
///
/// What ends each state: Pending ends when the Job is recorded, the references time out or are found invalid, or a
/// person stops it; Queued when a slot is free, its Agent loses its limit or disappears, or a person stops it; Running
/// when its Pod has ended or its Job is gone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Not started.
    #[default]
    Pending,
    /// Waits for a slot.
    Queued,
    /// The Job was recorded.
    Running,
    /// Ended well, or stopped by a person.
    Completed,
    /// Ended badly.
    Failed,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Pending,
        Self::Queued,
        Self::Running,
        Self::Completed,
        Self::Failed,
    ];

    /// Its word. Front ends may have others in their statuses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Queued => "Queued",
            Self::Running => "Running",
            Self::Completed => "Completed",
            Self::Failed => "Failed",
        }
    }

    /// Completed and Failed: nothing changes after.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }
}

/// Why a Run ended. The list is fixed: people and programs rely on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The agent exited 0.
    Succeeded,
    /// The agent exited with another code, or by a signal.
    AgentExitNonZero,
    /// The agent exited 0, and a remote did not take its commits: the branch has others, or is protected.
    PushRefused,
    /// The agent exited 0, and its commits could not be pushed for any other cause.
    PushFailed,
    /// The agent exited 0, and told that its work is not done: it gave up, was refused something, or stopped half-way.
    AgentUnfinished,
    /// It ran longer than it was allowed to.
    Timeout,
    /// It did more than one of its limits allows.
    LimitExceeded,
    /// A person stopped it.
    UserStopped,
    /// Something it refers to did not appear in time.
    ReferenceNotFound,
    /// It can never run as it is written.
    InvalidSpec,
    /// Kubernetes could not run it to its end: image, node, init container, quota.
    InfrastructureError,
    /// Its Job disappeared after it was recorded.
    JobLost,
    /// The last attempt that it may have ended before the agent was started, as those before did.
    RetriesExhausted,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Succeeded,
        Self::AgentExitNonZero,
        Self::AgentUnfinished,
        Self::PushRefused,
        Self::PushFailed,
        Self::Timeout,
        Self::LimitExceeded,
        Self::UserStopped,
        Self::ReferenceNotFound,
        Self::InvalidSpec,
        Self::InfrastructureError,
        Self::JobLost,
        Self::RetriesExhausted,
    ];

    /// The word that stands in `status.reason`, in conditions and in Events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "Succeeded",
            Self::AgentExitNonZero => "AgentExitNonZero",
            Self::PushRefused => "PushRefused",
            Self::PushFailed => "PushFailed",
            Self::AgentUnfinished => "AgentUnfinished",
            Self::Timeout => "Timeout",
            Self::LimitExceeded => "LimitExceeded",
            Self::UserStopped => "UserStopped",
            Self::ReferenceNotFound => "ReferenceNotFound",
            Self::InvalidSpec => "InvalidSpec",
            Self::InfrastructureError => "InfrastructureError",
            Self::JobLost => "JobLost",
            Self::RetriesExhausted => "RetriesExhausted",
        }
    }

    /// The reason of that word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }
}

/// A condition, as `metav1.Condition` without the parts that follow from the writing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// One of [`names::condition`](kubeopencode_api::names::condition).
    pub type_: String,
    /// True or False; a condition that is not known is absent.
    pub status: bool,
    /// One word.
    pub reason: String,
    /// For a person.
    pub message: String,
    /// When `status` last changed.
    pub last_transition: Timestamp,
    /// The owner's generation that it speaks of.
    pub observed_generation: Option<i64>,
}
