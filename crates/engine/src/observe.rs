//! What the engine is told about the world: the Job and the Pods of a Run, reduced to what a decision needs.
//!
//! `JobView::of` and `PodView::of` read the real objects; they are the only place that knows where Kubernetes keeps
//! these facts. The operator fills an [`Observation`]; absence in it has been confirmed by the API server itself, never
//! only by a cache.

use jiff::Timestamp;
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};

/// The world, as far as one Run is concerned.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observation {
    /// The Job of the name that [`decide::job_name`](crate::decide::job_name) tells, whoever owns it.
    /// None: the API server said that there is none.
    pub job: Option<JobView>,
    /// The Pods that belong to that Job. Empty: the API server said that there are none.
    pub pods: Vec<PodView>,
    /// An action of this round that the API server refused for good. It is forgotten with the round.
    pub refused: Option<Refusal>,
}

/// An answer of the API server that trying again at once does not change. Conflicts (409 with another reason than
/// AlreadyExists), throttling and server errors are none: the round ends, and comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What was refused, for example `Job fix-abcdef`.
    pub what: String,
    /// In which way.
    pub kind: RefusalKind,
    /// The API server's words.
    pub message: String,
}

/// In which way the API server refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// AlreadyExists, and the object has another controlling owner (by UID).
    NameTaken,
    /// 422 Invalid or 400 BadRequest: it never accepts this object.
    Invalid,
    /// 403 Forbidden: quota, admission, Pod security, a namespace that is going away. It may accept it later.
    Forbidden,
}

/// What a decision needs to know of a Job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobView {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its resourceVersion.
    pub resource_version: String,
    /// UID of the controlling owner.
    pub owner_uid: Option<String>,
    /// Whether `spec.suspend` is true.
    pub suspended: bool,
    /// Whether it was ever released by us: the annotation that [`Action::ReleaseJob`](crate::decide::Action) sets.
    pub released: bool,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Pods that its controller counts as active.
    pub active: i32,
    /// How it ended.
    pub end: Option<JobEnd>,
    /// Name and generation of the Agent that it was rendered for.
    pub agent: Option<crate::run::AgentUsed>,
}

/// How a Job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobEnd {
    /// Condition Complete.
    Complete,
    /// Condition Failed, with its reason and message.
    Failed {
        /// For example `BackoffLimitExceeded`.
        reason: String,
        /// For a person.
        message: String,
    },
}

impl JobView {
    /// Read it from the object.
    #[must_use]
    pub fn of(_job: &Job) -> Self {
        unimplemented!()
    }
}

/// What a decision needs to know of a Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodView {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// UID of the Job that controls it.
    pub job_uid: Option<String>,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// When the kubelet took it; from then on `activeDeadlineSeconds` ends it.
    pub started: Option<Timestamp>,
    /// When it should be gone, once it is being deleted (`metadata.deletionTimestamp`).
    pub deletion: Option<Timestamp>,
    /// `spec.activeDeadlineSeconds`.
    pub active_deadline_seconds: Option<i64>,
    /// `spec.terminationGracePeriodSeconds`, in seconds.
    pub grace_seconds: i64,
    /// `status.phase`.
    pub phase: PodPhase,
    /// `status.reason`, for example `Evicted` or `DeadlineExceeded`.
    pub reason: Option<String>,
    /// `status.message`.
    pub message: Option<String>,
    /// Message of the condition `DisruptionTarget`, when it is true.
    pub disruption: Option<String>,
    /// Message of the condition `PodScheduled`, when it is false.
    pub unschedulable: Option<String>,
    /// The init containers that have a status, in order.
    pub init: Vec<ContainerView>,
    /// The agent container, when it has a status.
    pub agent: Option<ContainerView>,
}

/// `status.phase` of a Pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodPhase {
    /// Pending, or none yet.
    Pending,
    /// Running, or Unknown: its node does not answer.
    Running,
    /// All containers ended with 0.
    Succeeded,
    /// Ended otherwise.
    Failed,
}

/// A container of a Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerView {
    /// Its name.
    pub name: String,
    /// Its image.
    pub image: String,
    /// What it is doing.
    pub state: ContainerState,
}

/// What a container is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerState {
    /// It has not started.
    Waiting {
        /// For example `ImagePullBackOff`.
        reason: String,
        /// For a person.
        message: String,
    },
    /// It runs.
    Running,
    /// It ended.
    Terminated {
        /// Exit code.
        exit_code: i32,
        /// For example `OOMKilled` or `StartError`.
        reason: String,
        /// The termination message.
        message: String,
        /// When.
        finished: Option<Timestamp>,
    },
}

impl PodView {
    /// Read it from the object.
    #[must_use]
    pub fn of(_pod: &Pod) -> Self {
        unimplemented!()
    }

    /// Succeeded or Failed: no process of it runs any more.
    #[must_use]
    pub fn ended(&self) -> bool {
        matches!(self.phase, PodPhase::Succeeded | PodPhase::Failed)
    }
}
