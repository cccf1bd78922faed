//! Task: one execution of an agent.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ContextItem, DURATION_PATTERN, Limits};

/// What to do, with which context, by which Agent.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Debug, Clone, Default, PartialEq)]
#[kube(
    group = "kubeopencode.io",
    version = "v1alpha1",
    kind = "Task",
    plural = "tasks",
    singular = "task",
    shortname = "tk",
    category = "kubeopencode",
    namespaced,
    status = "TaskStatus",
    derive = "PartialEq",
    doc = "Task is one execution of an agent. It runs at most once.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Agent", type_ = "string", json_path = ".status.agent.name"),
    printcolumn(name = "Job", type_ = "string", json_path = ".status.jobName"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason"),
    printcolumn(name = "Outcome", type_ = "string", json_path = ".status.result.outcome", priority = 1, description = "What came out of it"),
    printcolumn(name = "Commits", type_ = "integer", json_path = ".status.result.commits", priority = 1, description = "New commits in its checkouts"),
    printcolumn(name = "Cost", type_ = "string", json_path = ".status.result.usage.cost", priority = 1, description = "US dollars that the agent says its models cost"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1),
    validation = Rule::new("!has(oldSelf.status) || !(has(oldSelf.status.attempts) || has(oldSelf.status.completionTime)) || self.spec == oldSelf.spec").message("spec is immutable once the Task has started or ended: create a new Task").field_path(".spec"),
    validation = Rule::new("(has(self.spec.agentRef) ? self.spec.agentRef : '') == (has(oldSelf.spec.agentRef) ? oldSelf.spec.agentRef : '') || (has(oldSelf.status) && has(oldSelf.status.conditions) && oldSelf.status.conditions.exists(c, c.type == 'Ready' && c.status == 'False') && !oldSelf.status.conditions.exists(c, c.type == 'Queued' || c.type == 'JobCreated'))").message("agentRef can be changed only while the Task waits for something that does not exist and was never queued: create a new Task").field_path(".spec.agentRef"),
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TaskSpec {
    /// What the agent is asked to do; the beginning of task.md.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What the agent is given to know, after the context of its Agent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub contexts: Vec<ContextItem>,
    /// Name of the Agent, in the Task's namespace. Default: the Agent named default, or the built-in one if there is none
    /// and was none when the Task was queued or started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub agent_ref: Option<String>,
    /// How long the agent may run once it has started, as in `1h30m`: waiting, pulling images and the init containers do
    /// not count. Default: the Agent's timeout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32), regex(pattern = DURATION_PATTERN))]
    pub timeout: Option<String>,
    /// How much the agent may do. Where its Agent has a limit too, the stricter one holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// Who comes first where an Agent has a limit: the higher number, then the older Task, then the name. Default: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
}

/// Where a Task stands. Written by the operator alone.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TaskStatus {
    /// The generation of the Task that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Pending, Queued, Running, Completed or Failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<TaskPhase>,
    /// Why the Task ended, in one word. Set with the terminal phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The same for people, or what the Task waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Name of the Job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_name: Option<String>,
    /// UID of the Job. Only the Job with this UID is ever released to run.
    #[serde(rename = "jobUID", default, skip_serializing_if = "Option::is_none")]
    pub job_uid: Option<String>,
    /// How many Jobs this Task had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<i32>,
    /// Attempts that ended before the agent was started, for a cause that may pass. Another follows when the Job has ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub failed_attempts: Vec<FailedAttempt>,
    /// Where it stands in the queue of its Agent, while it is Queued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueStatus>,
    /// The Agent that the Task was started with, or waits for a slot of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentUsed>,
    /// When its first Job was put on record. The release follows at once, unless it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the Task ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// What came out of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<TaskResult>,
    /// Ready, Queued, JobCreated, Stopped, Complete, Failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
}

/// Where a Task is in its life.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TaskPhase {
    /// Not started: something it refers to is missing, or the Job is being made.
    Pending,
    /// Waits for a free slot of its Agent.
    Queued,
    /// Its Job is on record. The release follows at once, unless it is refused.
    Running,
    /// Ended well, or was stopped by a person.
    Completed,
    /// Ended badly.
    Failed,
}

/// An attempt that ended before the agent was started.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct FailedAttempt {
    /// Name of its Job.
    pub job_name: String,
    /// What went wrong.
    pub message: String,
    /// When that was seen.
    pub time: Time,
}

/// A place in the queue of an Agent.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct QueueStatus {
    /// The place, counted from 1. Written when the Task is queued, and again when it reaches place 100 and place 10.
    pub position: i32,
    /// The Agent whose slots are in use.
    pub agent: String,
}

/// The Agent that a Task was started with.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AgentUsed {
    /// Its name.
    pub name: String,
    /// Its generation at that time; absent for the built-in default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
}

/// What came out of a Task, in one word.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskOutcome {
    /// The agent ended well.
    Done,
    /// The agent ended well, and left its checkouts as they were.
    NoChanges,
    /// The agent did not come to its end: it gave up, was refused something, or a limit or its timeout ended it.
    Unfinished,
    /// It failed.
    Failed,
    /// A person stopped it.
    Stopped,
}

/// What came out of a Task, as the Pod reported it.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TaskResult {
    /// The same in one word; the reason says more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<TaskOutcome>,
    /// Exit code of the agent; absent when it was ended by a signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Name of the signal that ended the agent, for example SIGTERM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// Why the agent could not be started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How long the agent ran, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_millis: Option<i64>,
    /// The last thing that the agent said, shortened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_message: Option<String>,
    /// The agent's own name of its session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// How often its model was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<i64>,
    /// How many tools it called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<i64>,
    /// How many of these it was not allowed to make.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_tool_calls: Option<i64>,
    /// What its models were used for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Why it gave up, if it told that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<AgentFailure>,
    /// Where it stopped, as in `after a tool call`, if it did not end by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// The limit that was passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed_limit: Option<PassedLimit>,
    /// Lines of its output that were too long to be read, or had too many parts; what they told is missing here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread_lines: Option<i64>,
    /// New commits in all checkouts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commits: Option<i64>,
    /// The checkouts as the agent left them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub checkouts: Vec<CheckoutResult>,
    /// How many more there are, for which there was no room; their commits are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub omitted_checkouts: Option<i64>,
}

/// What models were used for, as the agent tells it.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Tokens that went in, those from a cache not among them.
    pub input_tokens: i64,
    /// Tokens that came out.
    pub output_tokens: i64,
    /// Tokens that went in from a cache.
    pub cached_tokens: i64,
    /// US dollars, as a decimal number; absent where the agent does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<String>,
}

/// Why an agent gave up.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AgentFailure {
    /// Authentication, RateLimit, ContextOverflow, PermissionRefused, Network, ModelNotFound, ModelServer, Agent (it is
    /// broken itself), or Unknown where it told none of these.
    pub class: String,
    /// In the agent's own words.
    pub message: String,
}

/// A limit that was passed.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PassedLimit {
    /// The field of `limits`.
    pub limit: String,
    /// What was allowed.
    pub allowed: String,
    /// What it was when the agent was told to end.
    pub reached: String,
}

/// A commit of the agent.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CommitResult {
    /// Its id, shortened.
    pub id: String,
    /// The first line of its message.
    pub subject: String,
}

/// A checkout as the agent left it.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CheckoutResult {
    /// Where it is in the Pod.
    pub path: String,
    /// The branch it is on; absent when HEAD is detached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The commit that was checked out before the agent started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// The commit that HEAD is at now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// How many commits HEAD has that neither the base nor the branch that was cloned has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commits: Option<i32>,
    /// The newest of these first, ten at most, as many as the report had room for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub newest: Vec<CommitResult>,
    /// How many files differ between base and HEAD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<i32>,
    /// How many commits are on other local branches, or put aside with `git stash`, that neither HEAD nor the base has;
    /// absent if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_commits: Option<i32>,
    /// Whether changes were left uncommitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dirty: Option<bool>,
    /// Why the rest is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What became of the commits, where the Git context says push.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pushed: Option<PushResult>,
}

/// What became of the commits of a checkout.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PushResult {
    /// The branch they were to be pushed to.
    pub branch: String,
    /// Pushed, Nothing, Refused or Failed.
    pub state: PushState,
    /// The commit that the remote says the branch is at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// Why they were not pushed, and where they are: mostly in the log of the Pod's container git-push, as a Git bundle. Or
    /// what is not certain of a push that the server accepted, and which uncommitted files are not in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Whether commits were pushed.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushState {
    /// The remote has them.
    Pushed,
    /// There was nothing that it did not have.
    Nothing,
    /// The remote did not take them: its branch has other commits, or is protected.
    Refused,
    /// It could not be tried, did not succeed, or has nothing of what is uncommitted: then `head` is there.
    Failed,
}
