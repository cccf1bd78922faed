//! Every name that the system writes on an object: labels, annotations, condition types, reasons, containers.
//!
//! A name that stands in two places is a name that will differ one day, so it stands here.

/// API group of the main API.
pub const GROUP: &str = "kubeopencode.io";

/// Name that `app.kubernetes.io/managed-by` and field managers carry.
pub const MANAGER: &str = "kubeopencode";

/// Label on all that the operator creates; its value is [`MANAGER`]. Watches select by it.
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Annotation by which a person stops a Task: `kubeopencode.io/stop=true`, or another word for yes.
pub const ANNOTATION_STOP: &str = "kubeopencode.io/stop";

/// Annotation on Job, Pod and ConfigMap: the owner as `group/version/plural/name`.
/// A label cannot carry it: label values end at 63 characters, object names at 253.
pub const ANNOTATION_OWNER: &str = "kubeopencode.io/owner";

/// Annotation on Job and Pod: the attempt, counted from 1.
pub const ANNOTATION_ATTEMPT: &str = "kubeopencode.io/attempt";

/// Annotation on a Job: the generation of the owner that it was rendered from. An owner that is edited before the Job is
/// on record gets another one.
pub const ANNOTATION_GENERATION: &str = "kubeopencode.io/generation";

/// Annotation on a Job that was released to run: when. A released Job is never released again.
pub const ANNOTATION_RELEASED: &str = "kubeopencode.io/released";

/// Annotation on Job and Pod: the Agent that they were rendered for.
pub const ANNOTATION_AGENT: &str = "kubeopencode.io/agent";

/// Annotation on Job and Pod: the generation of that Agent; absent for the built-in default.
pub const ANNOTATION_AGENT_GENERATION: &str = "kubeopencode.io/agent-generation";

/// Annotation on Job and Pod: that Agent had a limit, so the Job is recorded only while its owner holds a slot.
pub const ANNOTATION_LIMITED: &str = "kubeopencode.io/limited";

/// Label on Job and Pod: the owner's UID. Finds them when the owner is gone.
pub const LABEL_OWNER_UID: &str = "kubeopencode.io/owner-uid";

/// Name of the Agent that a Task without `agentRef` uses, and of the configuration that applies.
pub const DEFAULT: &str = "default";

/// Namespace where the operator lives when nothing else is said.
pub const SYSTEM_NAMESPACE: &str = "kubeopencode-system";

/// Lease by which several operators elect the one that acts, when nothing else is said.
pub const LEASE: &str = "kubeopencode";

/// Condition types on a Task.
pub mod condition {
    /// All that the Task refers to was found and is valid.
    pub const READY: &str = "Ready";
    /// The Task waits for a free slot of its Agent.
    pub const QUEUED: &str = "Queued";
    /// The Job exists and its UID is on record. False while the API server refuses the Job, absent until it
    /// is asked for, and again between two attempts.
    pub const JOB_CREATED: &str = "JobCreated";
    /// A person stopped the Task.
    pub const STOPPED: &str = "Stopped";
    /// The Task ended well (or was stopped).
    pub const COMPLETE: &str = "Complete";
    /// The Task ended badly.
    pub const FAILED: &str = "Failed";
}

/// Names of the containers in an agent Pod.
pub mod container {
    /// Copies OpenCode to `/tools`.
    pub const OPENCODE_INIT: &str = "opencode-init";
    /// Clones the repositories.
    pub const GIT_INIT: &str = "git-init";
    /// Writes the context files and copies the supervisor to `/tools`.
    pub const CONTEXT_INIT: &str = "context-init";
    /// Makes files of Secrets the agent's own; runs in the agent's image.
    pub const CREDENTIALS_INIT: &str = "credentials-init";
    /// Pushes what the agent has committed; a sidecar.
    pub const GIT_PUSH: &str = "git-push";
    /// Runs the agent.
    pub const AGENT: &str = "agent";
}
