//! Agent: how tasks are executed.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, LocalObjectReference, PodSecurityContext, ResourceRequirements, SecurityContext,
    Toleration,
};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ContextItem, DURATION_PATTERN};

/// How Tasks are executed: image, command, context that every Task gets, credentials, and the Pod around them.
#[expect(
    clippy::duplicated_attributes,
    reason = "each printer column has a type of its own"
)]
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[kube(
    group = "kubeopencode.io",
    version = "v1alpha1",
    kind = "Agent",
    plural = "agents",
    singular = "agent",
    shortname = "ag",
    category = "kubeopencode",
    namespaced,
    status = "AgentStatus",
    derive = "PartialEq",
    doc = "Agent says how Tasks are executed.",
    printcolumn(name = "Image", type_ = "string", json_path = ".spec.agentImage"),
    printcolumn(
        name = "Max",
        type_ = "integer",
        json_path = ".spec.maxConcurrentTasks",
        description = "Tasks that may run at once; empty or 0 means no limit"
    ),
    printcolumn(
        name = "In-Use",
        type_ = "integer",
        json_path = ".status.slotsInUse",
        description = "Tasks that count against that limit"
    ),
    printcolumn(
        name = "ServiceAccount",
        type_ = "string",
        json_path = ".spec.serviceAccountName",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentSpec {
    /// Image of the container in which the agent works. Default: the built-in development image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub agent_image: Option<String>,
    /// Where the agent works; task.md is written there. An absolute path, default /workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096), regex(pattern = "^/"))]
    pub workspace_dir: Option<String>,
    /// Which agent it is: how it is started when there is no command, and how the events that it prints are read. Default:
    /// the one whose program the command names, or OpenCode where there is no command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<AgentProfile>,
    /// What to run. Default: the agent of the profile, with task.md as its prompt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub command: Vec<String>,
    /// Context that every Task of this Agent gets, before its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub contexts: Vec<ContextItem>,
    /// Secrets that the agent gets as environment variables or files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub credentials: Vec<Credential>,
    /// The Pod around the agent: labels, scheduling, runtime, resources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_spec: Option<AgentPodSpec>,
    /// ServiceAccount of the agent's Pod.
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: String,
    /// How many Tasks of this Agent may run at once; the others queue. Absent or 0: no limit. At most 1000, because
    /// those that run are listed in the status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub max_concurrent_tasks: Option<i32>,
    /// How long the agent may run once it has started, as in `1h30m`, when the Task itself does not say: waiting, pulling
    /// images and the init containers do not count. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32), regex(pattern = DURATION_PATTERN))]
    pub timeout: Option<String>,
    /// How much else the agent may do for a Task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
}

/// An agent that is known.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentProfile {
    /// OpenCode, from the volume /tools.
    OpenCode,
    /// Claude Code: the program claude of the agent's image.
    ClaudeCode,
    /// Codex: the program codex of the agent's image.
    Codex,
    /// Any command: what it prints is not read.
    Command,
}

impl AgentProfile {
    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenCode => "OpenCode",
            Self::ClaudeCode => "ClaudeCode",
            Self::Codex => "Codex",
            Self::Command => "Command",
        }
    }
}

/// How much an agent may do for one Task. When a limit is passed, the agent is told to end, has its grace period, and the
/// Task fails with the reason LimitExceeded. What it has committed so far is pushed where the Git context says push, and else
/// goes with the Pod. Steps, tokens and cost are those that the agent tells of while it works.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limits {
    /// How long it may run, as in `1h30m`. Unlike a timeout, what an Agent says here cannot be made longer by a Task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32), regex(pattern = DURATION_PATTERN))]
    pub duration: Option<String>,
    /// How often the model may be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub steps: Option<i64>,
    /// How many tokens may go in and out, those from a cache among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub tokens: Option<i64>,
    /// How many US dollars the models may cost, as in `2.50`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20), regex(pattern = "^[0-9]{1,9}([.][0-9]{1,9})?$"))]
    pub cost: Option<String>,
}

/// Which Tasks hold a slot of an Agent with `maxConcurrentTasks`. Written by the operator alone.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// How many slots are in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots_in_use: Option<i32>,
    /// The Tasks that hold one. A Task starts only while it is in this list, and leaves it when nothing of it can run any
    /// more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["uid".into()]))]
    #[schemars(length(max = 10_000))]
    pub slots: Vec<AgentSlot>,
}

/// A slot of an Agent.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AgentSlot {
    /// Name of the Task that holds it.
    pub task: String,
    /// UID of that Task.
    pub uid: String,
}

/// A Secret, or one key of it, given to the agent. The operator never reads it: it only names it in the Pod.
///
/// Without `key`: all keys as environment variables, or as files of the directory `mountPath`.
/// With `key`: one variable `env`, one file `mountPath`, or both.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("has(self.secretRef.key) || !has(self.env)").message("env needs secretRef.key: without a key every key of the secret becomes a variable of its own name").field_path(".env"),
    validation = Rule::new("!has(self.secretRef.key) || has(self.env) || has(self.mountPath)").message("a credential with secretRef.key needs env, mountPath or both"),
    validation = Rule::new("!has(self.fileMode) || has(self.mountPath)").message("fileMode needs mountPath").field_path(".fileMode"),
    validation = Rule::new("!has(self.mountPath) || (self.mountPath.startsWith('/') && !self.mountPath.split('/').exists(p, p == '..'))").message("mountPath must be absolute and must not contain '..'").field_path(".mountPath"),
)]
pub struct Credential {
    /// A name for people, unique in this Agent.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Where the value is.
    pub secret_ref: SecretReference,
    /// Name of the environment variable, for one key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = "^[A-Za-z_][A-Za-z0-9_]*$")
    )]
    pub env: Option<String>,
    /// The file (with a key) or the directory (without), as an absolute path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 4096))]
    pub mount_path: Option<String>,
    /// Permission bits of the file. Default 0600 (384 in JSON).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 511))]
    pub file_mode: Option<i32>,
}

/// A Secret of the Task's namespace, or one key of it.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretReference {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// One key of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub key: Option<String>,
}

/// The Pod around the agent.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentPodSpec {
    /// Labels of the Pod, for network policies and monitoring. The system's own labels win.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations of the Pod.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// On which nodes it may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduling: Option<Scheduling>,
    /// RuntimeClass, for example gvisor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub runtime_class_name: Option<String>,
    /// Requests and limits of the agent container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Security context of the agent container. What is not set here has the system's default:
    /// no privilege escalation, no capabilities, seccomp RuntimeDefault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_context: Option<SecurityContext>,
    /// Security context of the Pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_security_context: Option<PodSecurityContext>,
    /// Secrets for pulling the images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// How long the agent has to end after SIGTERM. Default 30 seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub termination_grace_period_seconds: Option<i64>,
    /// Give the agent the token of its service account. Default: only with a Runtime context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub automount_service_account_token: Option<bool>,
}

/// On which nodes the Pod may run.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scheduling {
    /// Labels that the node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the Pod tolerates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub tolerations: Vec<Toleration>,
    /// Affinity rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
}
