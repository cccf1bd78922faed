//! What the engine is told about the world: the Job and the Pods of a Run, reduced to what a decision needs.
//!
//! `JobView::of` and `PodView::of` read the real objects; they are the only place that knows where Kubernetes keeps
//! these facts. The operator fills an [`Observation`]. What a cache does not show may exist all the same, so an observation
//! says whether absence in it was confirmed by the API server itself; nothing is concluded from it otherwise.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        batch::v1::Job,
        core::v1::{ContainerStateTerminated, ContainerStatus, Pod},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kubeopencode_api::names;

use crate::{decide::Action, queue::SlotView, run::AgentUsed};

/// The world, as far as one Run is concerned.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observation {
    /// The Job of the name that [`decide::job_name`](crate::decide::job_name) tells, whoever owns it.
    /// None: there is none, unless something is `unseen`.
    pub job: Option<JobView>,
    /// The Pods that belong to that Job. Empty: there are none, unless something is `unseen`.
    pub pods: Vec<PodView>,
    /// Jobs of attempts that are over, as far as they are seen: an operator that was cut off may have made one since.
    pub superseded: Vec<JobView>,
    /// Whether what is absent here is only absent from a cache. [`Step::Confirm`](crate::decide::Step) asks for more.
    pub unseen: bool,
    /// Whether the Pods are the API server's own word. A cache may show them as they were long ago.
    pub confirmed: bool,
    /// An action of this round that the API server refused for good. It is forgotten with the round.
    pub refused: Option<Refusal>,
    /// Where it stands with a slot of an Agent, as far as that is known without asking. A slot is held until nothing of
    /// the Run can run any more, so one that is shown as held is held, unless the Agent itself is gone.
    pub slot: Option<SlotView>,
}

/// An answer of the API server that trying again at once does not change. Conflicts (409 with another reason than
/// AlreadyExists), throttling and an API server that is away are none: the round ends, and comes back; unless they last.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// What was refused, for example `Job fix-abcdef`.
    pub what: String,
    /// In which way.
    pub kind: RefusalKind,
    /// The API server's words.
    pub message: String,
    /// The change that was refused; None for a create.
    pub change: Option<Box<Action>>,
    /// Whether the change before it was refused, too, in an earlier round.
    pub again: bool,
}

impl Refusal {
    /// Whether doing these would be to ask again.
    #[must_use]
    pub fn is_of_one_of(&self, actions: &[Action]) -> bool {
        self.change
            .as_ref()
            .is_some_and(|change| actions.contains(change))
    }
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
    /// Another answer for this one object, for some time: 500 where an admission webhook does not answer or a key is out of
    /// reach, 504 where one is late, or what it chose. It may accept it later, and somebody has to know what it waits for.
    Broken,
    /// It was granted, and had to be granted again and again: somebody undoes it.
    Undone,
}

/// What a decision needs to know of a Job.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own about the object"
)]
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
    /// Whether it makes no Pod and ends by itself, unless it is suspended: what [`Action::CloseJob`](crate::decide::Action)
    /// sets.
    pub closed: bool,
    /// Whether its controller makes another Pod after one that failed: somebody has raised `backoffLimit`, which is 0.
    pub retries: bool,
    /// `activeDeadlineSeconds` of the Pods that it makes.
    pub pod_deadline_seconds: Option<i64>,
    /// Whether it was ever released by us: the annotation that [`Action::ReleaseJob`](crate::decide::Action) sets.
    pub released: bool,
    /// When, as that annotation says.
    pub released_at: Option<Timestamp>,
    /// The generation of its owner that it was rendered from.
    pub generation: Option<i64>,
    /// Whether it has annotations at all. We give it some; a person may have taken them off.
    pub annotated: bool,
    /// When its deletion was asked for.
    pub deletion: Option<Timestamp>,
    /// Pods that its controller counts as active.
    pub active: i32,
    /// Pods that its controller has counted as failed. It counts each, also one that is gone by then.
    pub failed: i32,
    /// How it ended.
    pub end: Option<JobEnd>,
    /// Name and generation of the Agent that it was rendered for.
    pub agent: Option<AgentUsed>,
    /// Whether that Agent had a limit.
    pub limited: bool,
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
    /// Whether it is being deleted. Its controller makes no Pod for it any more.
    #[must_use]
    pub fn deleting(&self) -> bool {
        self.deletion.is_some()
    }

    /// Whether it has never run: no Pod of it was ever made.
    #[must_use]
    pub fn unreleased(&self) -> bool {
        self.suspended && !self.released
    }

    /// Read it from the object.
    #[must_use]
    pub fn of(job: &Job) -> Self {
        let metadata = &job.metadata;
        let annotation = |name: &str| {
            metadata
                .annotations
                .as_ref()
                .and_then(|annotations| annotations.get(name))
        };
        let status = job.status.as_ref();
        let ended = |type_: &str| {
            status
                .and_then(|status| status.conditions.as_ref())
                .into_iter()
                .flatten()
                .find(|condition| condition.type_ == type_ && condition.status == "True")
        };
        let end = if ended("Complete").is_some() {
            Some(JobEnd::Complete)
        } else {
            ended("Failed").map(|condition| JobEnd::Failed {
                reason: condition.reason.clone().unwrap_or_default(),
                message: condition.message.clone().unwrap_or_default(),
            })
        };
        Self {
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            resource_version: metadata.resource_version.clone().unwrap_or_default(),
            owner_uid: controller_uid(metadata),
            suspended: job
                .spec
                .as_ref()
                .and_then(|spec| spec.suspend)
                .unwrap_or(false),
            closed: job.spec.as_ref().is_some_and(|spec| {
                spec.parallelism == Some(0) && spec.active_deadline_seconds == Some(1)
            }),
            retries: job
                .spec
                .as_ref()
                .and_then(|spec| spec.backoff_limit)
                .is_none_or(|limit| limit > 0),
            pod_deadline_seconds: job
                .spec
                .as_ref()
                .and_then(|spec| spec.template.spec.as_ref())
                .and_then(|pod| pod.active_deadline_seconds),
            released: annotation(names::ANNOTATION_RELEASED).is_some(),
            released_at: annotation(names::ANNOTATION_RELEASED).and_then(|at| at.parse().ok()),
            generation: annotation(names::ANNOTATION_GENERATION)
                .and_then(|generation| generation.parse().ok()),
            annotated: metadata.annotations.is_some(),
            deletion: metadata.deletion_timestamp.as_ref().map(|time| time.0),
            active: status.and_then(|status| status.active).unwrap_or_default(),
            failed: status.and_then(|status| status.failed).unwrap_or_default(),
            end,
            agent: annotation(names::ANNOTATION_AGENT).map(|name| AgentUsed {
                name: name.clone(),
                generation: annotation(names::ANNOTATION_AGENT_GENERATION)
                    .and_then(|generation| generation.parse().ok()),
            }),
            limited: annotation(names::ANNOTATION_LIMITED).is_some(),
        }
    }
}

fn controller_uid(metadata: &ObjectMeta) -> Option<String> {
    metadata
        .owner_references
        .iter()
        .flatten()
        .find(|owner| owner.controller == Some(true))
        .map(|owner| owner.uid.clone())
}

/// What a decision needs to know of a Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodView {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its resourceVersion.
    pub resource_version: String,
    /// UID of the Job that controls it.
    pub job_uid: Option<String>,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// When it was given to its node, by the API server's clock: since when its condition `PodScheduled` is true. A kubelet
    /// leaves that time as it is.
    pub bound_at: Option<Timestamp>,
    /// When the kubelet took it, by the node's clock; from then on `activeDeadlineSeconds` ends it.
    pub started: Option<Timestamp>,
    /// When it should be gone, once it is being deleted (`metadata.deletionTimestamp`).
    pub deletion: Option<Timestamp>,
    /// When its deletion was asked for.
    pub deletion_requested: Option<Timestamp>,
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
    /// Whether it was marked as ended by the garbage collector for Pods, which does that to Pods whose node is gone:
    /// no kubelet has said that nothing runs.
    pub given_up: bool,
    /// Whether it was given to a node. One that was not, and is being deleted, never will be.
    pub bound: bool,
    /// Message of the condition `PodScheduled`, when it is false.
    pub unschedulable: Option<String>,
    /// The init containers that have a status, in order, without those that run beside the agent.
    pub init: Vec<ContainerView>,
    /// The init containers that run beside the agent (`restartPolicy: Always`), ours or a cluster's: that one runs is no
    /// progress, and how it ended says nothing.
    pub sidecars: Vec<ContainerView>,
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
        /// When, by the node's clock.
        finished: Option<Timestamp>,
    },
}

/// Reason of a container of which the kubelet knows only that it is not there. Its exit code, 137, is made up.
pub const CONTAINER_UNKNOWN: &str = "ContainerStatusUnknown";

impl ContainerView {
    fn of(status: &ContainerStatus) -> Self {
        let state = status.state.as_ref();
        let state = if let Some(unknown) = state
            .and_then(|state| state.terminated.as_ref())
            .filter(|ended| was_never_made(status, ended))
        {
            ContainerState::Waiting {
                reason: unknown.reason.clone().unwrap_or_default(),
                message: unknown.message.clone().unwrap_or_default(),
            }
        } else if let Some(ended) = state.and_then(|state| state.terminated.as_ref()) {
            ContainerState::Terminated {
                exit_code: ended.exit_code,
                reason: ended.reason.clone().unwrap_or_default(),
                message: ended.message.clone().unwrap_or_default(),
                finished: ended.finished_at.as_ref().map(|time| time.0),
            }
        } else if state.is_some_and(|state| state.running.is_some()) {
            ContainerState::Running
        } else {
            // The API's own rule: no state is Waiting.
            let waiting = state.and_then(|state| state.waiting.clone());
            let waiting = waiting.unwrap_or_default();
            ContainerState::Waiting {
                reason: waiting.reason.unwrap_or_default(),
                message: waiting.message.unwrap_or_default(),
            }
        };
        Self {
            name: status.name.clone(),
            image: status.image.clone(),
            state,
        }
    }

    /// An agent is started once. So one that waits and has a last state, which is usual for others, waits for nothing: it
    /// ran, and how it ended will never be known.
    fn of_agent(status: &ContainerStatus) -> Self {
        let mut agent = Self::of(status);
        if let ContainerState::Waiting { message, .. } = &agent.state
            && used_to_run(status)
        {
            agent.state = ContainerState::Terminated {
                exit_code: 137,
                reason: CONTAINER_UNKNOWN.to_owned(),
                message: message.clone(),
                finished: None,
            };
        }
        agent
    }
}

/// A kubelet that ends a Pod whose init containers are through gives each container that it never made the state of one
/// that ended with 137. It has asked the runtime, which knows of none; of one that was made there would be an ID, also after
/// the kubelet itself began anew, or, where the runtime has lost it, a last state and a restart.
/// (`TerminatePod` in Kubernetes' `pkg/kubelet/status/status_manager.go`.)
fn was_never_made(status: &ContainerStatus, ended: &ContainerStateTerminated) -> bool {
    let no = |text: &Option<String>| text.as_deref().unwrap_or_default().is_empty();
    ended.reason.as_deref() == Some(CONTAINER_UNKNOWN)
        && ended.started_at.is_none()
        && !used_to_run(status)
        && no(&ended.container_id)
        && no(&status.container_id)
}

/// Whether the kubelet knows that there was a container before this one. It writes so also of the only one there was, when
/// that has been removed before its end was read. (`convertToAPIContainerStatuses` in Kubernetes'
/// `pkg/kubelet/kubelet_pods.go`.)
fn used_to_run(status: &ContainerStatus) -> bool {
    let last = status.last_state.as_ref();
    status.restart_count > 0 || last.is_some_and(|last| last.terminated.is_some())
}

impl PodView {
    /// Read it from the object.
    #[must_use]
    pub fn of(pod: &Pod) -> Self {
        let metadata = &pod.metadata;
        let spec = pod.spec.as_ref();
        let status = pod.status.as_ref();
        let condition = |type_: &str, value: &str| {
            status
                .and_then(|status| status.conditions.as_ref())
                .into_iter()
                .flatten()
                .find(|condition| condition.type_ == type_ && condition.status == value)
                .map(|condition| {
                    let words = condition.message.clone().filter(|text| !text.is_empty());
                    words.or(condition.reason.clone()).unwrap_or_default()
                })
        };
        let given_up = status
            .and_then(|status| status.conditions.as_ref())
            .into_iter()
            .flatten()
            .any(|condition| condition.reason.as_deref() == Some("DeletionByPodGC"));
        let is_sidecar = |status: &&ContainerStatus| {
            spec.and_then(|spec| spec.init_containers.as_ref())
                .into_iter()
                .flatten()
                .any(|container| {
                    container.name == status.name
                        && container.restart_policy.as_deref() == Some("Always")
                })
        };
        let (sidecars, init): (Vec<&ContainerStatus>, Vec<_>) = status
            .and_then(|status| status.init_container_statuses.as_ref())
            .into_iter()
            .flatten()
            .partition(is_sidecar);
        Self {
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            resource_version: metadata.resource_version.clone().unwrap_or_default(),
            job_uid: controller_uid(metadata).or_else(|| {
                // A Pod that was orphaned still has the Job controller's label.
                let labels = metadata.labels.as_ref()?;
                labels.get("batch.kubernetes.io/controller-uid").cloned()
            }),
            created: metadata.creation_timestamp.as_ref().map(|time| time.0),
            bound_at: status
                .and_then(|status| status.conditions.as_ref())
                .into_iter()
                .flatten()
                .find(|condition| condition.type_ == "PodScheduled" && condition.status == "True")
                .and_then(|condition| condition.last_transition_time.as_ref())
                .map(|time| time.0),
            started: status
                .and_then(|status| status.start_time.as_ref())
                .map(|time| time.0),
            deletion: metadata.deletion_timestamp.as_ref().map(|time| time.0),
            deletion_requested: metadata.deletion_timestamp.as_ref().map(|gone| {
                let grace = metadata.deletion_grace_period_seconds.unwrap_or_default();
                let grace = SignedDuration::from_secs(grace);
                gone.0.checked_sub(grace).unwrap_or(gone.0)
            }),
            active_deadline_seconds: spec.and_then(|spec| spec.active_deadline_seconds),
            grace_seconds: spec
                .and_then(|spec| spec.termination_grace_period_seconds)
                .unwrap_or(30),
            phase: match status.and_then(|status| status.phase.as_deref()) {
                Some("Succeeded") => PodPhase::Succeeded,
                Some("Failed") => PodPhase::Failed,
                Some("Running" | "Unknown") => PodPhase::Running,
                _ => PodPhase::Pending,
            },
            reason: status
                .and_then(|status| status.reason.clone())
                .filter(|reason| !reason.is_empty()),
            message: status
                .and_then(|status| status.message.clone())
                .filter(|message| !message.is_empty()),
            disruption: condition("DisruptionTarget", "True"),
            given_up,
            bound: spec.is_some_and(|spec| spec.node_name.is_some()),
            unschedulable: condition("PodScheduled", "False"),
            init: init.into_iter().map(ContainerView::of).collect(),
            sidecars: sidecars.into_iter().map(ContainerView::of).collect(),
            agent: status
                .and_then(|status| status.container_statuses.as_ref())
                .into_iter()
                .flatten()
                .find(|container| container.name == names::container::AGENT)
                .map(ContainerView::of_agent),
        }
    }

    /// Succeeded or Failed: no process of it runs any more.
    #[must_use]
    pub fn ended(&self) -> bool {
        matches!(self.phase, PodPhase::Succeeded | PodPhase::Failed)
    }
}
