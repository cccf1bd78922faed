//! The Run: one execution, whatever resource asked for it.
//!
//! A front end has resolved everything before a Run exists: defaults are applied, paths are absolute and free of `..`,
//! ConfigMaps are read, `task.md` is written out. Rendering a Run needs nothing else.

use std::{collections::BTreeMap, num::NonZeroUsize, time::Duration};

use k8s_openapi::api::core::v1::{
    Affinity, LocalObjectReference, PodSecurityContext, ResourceRequirements, SecurityContext,
    Toleration,
};
use kubeopencode_agents::Profile;

use crate::handover::Limits;

/// The resource that a Run belongs to. Owner references, labels and names come from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// For example `kubeopencode.io`. Also the prefix of the labels `<group>/task` and `<group>/agent`.
    pub group: String,
    /// For example `v1alpha1`.
    pub version: String,
    /// For example `Task`.
    pub kind: String,
    /// For example `tasks`.
    pub plural: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.uid`. Names of everything created for this owner follow from it, so that a re-created owner of the
    /// same name never meets its predecessor's objects.
    pub uid: String,
    /// `metadata.generation`.
    pub generation: i64,
}

/// One execution, completely resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Whose Run it is.
    pub owner: Owner,
    /// The Agent that was used; its generation is None for the built-in default.
    pub agent: AgentUsed,
    /// Which image each container uses.
    pub images: Images,
    /// Absolute, no trailing slash, for example `/workspace`.
    pub workspace_dir: String,
    /// What the agent container runs under `supervise`. None: the image's own entrypoint, unsupervised.
    pub command: Option<Vec<String>>,
    /// Which agent that is, where its events are read.
    pub profile: Option<&'static Profile>,
    /// `task.md` first, then every context file; no two have the same path.
    pub files: Vec<File>,
    /// Repositories to clone; no two have the same path, and none has the path of a file.
    pub checkouts: Vec<Checkout>,
    /// What the agent gets from Secrets.
    pub credentials: Vec<Credential>,
    /// The Pod around it.
    pub pod: PodOptions,
    /// How long the agent may run, once it has started.
    pub timeout: Option<Duration>,
    /// How much else the agent may do.
    pub limits: Limits,
    /// How many Runs of its Agent may run at once. None: as many as there are, and no slot is needed.
    pub limit: Option<NonZeroUsize>,
}

impl Run {
    /// Whether anything of it is pushed. Only where the agent is supervised does anybody know that it has ended.
    #[must_use]
    pub fn pushes(&self) -> bool {
        self.command.is_some()
            && self
                .checkouts
                .iter()
                .any(|checkout| checkout.push.is_some())
    }
}

/// The Agent that a Run was lowered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentUsed {
    /// Its name.
    pub name: String,
    /// Its generation; None for the built-in default.
    pub generation: Option<i64>,
}

/// The images of a Run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    /// git-init, context-init and git-push.
    pub system: Image,
    /// opencode-init; None when the agent does not use OpenCode from `/tools`.
    pub opencode: Option<Image>,
    /// The agent container.
    pub agent: Image,
}

/// An image, and when it is pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Reference, for example `quay.io/kubeopencode/kubeopencode:latest`.
    pub reference: String,
    /// `Always`, `Never` or `IfNotPresent`; None leaves it to Kubernetes.
    pub pull_policy: Option<String>,
}

/// A file that the agent finds when it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Absolute path in the agent container.
    pub path: String,
    /// Its bytes.
    pub content: Vec<u8>,
    /// Permission bits; None means 0644.
    pub mode: Option<u32>,
}

/// A repository that the agent finds cloned when it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkout {
    /// Absolute path in the agent container.
    pub path: String,
    /// URL without credentials, or an scp-like `user@host:path`.
    pub repository: String,
    /// Branch, tag or commit SHA; None is the remote's HEAD.
    pub reference: Option<String>,
    /// Commits of history; 0 is all.
    pub depth: u32,
    /// Only this file or directory of the repository, relative.
    pub sub_path: Option<String>,
    /// Clone submodules too.
    pub submodules: bool,
    /// Secret with the credentials, seen by git-init alone.
    pub secret: Option<String>,
    /// Directory of the host that holds the repository (`file://` on the embedded node), mounted read-only into
    /// git-init alone. Only set where [`Settings::host_repositories`](crate::lower::Settings) allows it.
    pub host_path: Option<String>,
    /// Permission bits for all files of a sub-path.
    pub mode: Option<u32>,
    /// Where the agent's commits go. None: nowhere.
    pub push: Option<Push>,
}

/// A push of what the agent commits, to the repository that its checkout was cloned from. Never of a part of a repository
/// (`sub_path`), and never to a directory of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    /// Name of the branch, without `refs/heads/`; no other checkout of the Run pushes to it.
    pub branch: String,
    /// Secret with credentials that may write, seen by git-push alone (and by git-init, if the checkout names it too).
    pub secret: Option<String>,
    /// Push what is left uncommitted too.
    pub uncommitted: bool,
    /// Whether it may be the branch that was cloned, or the repository's default branch.
    pub allow_base: bool,
}

/// A Secret given to the agent. The operator never reads it; it only names it in the Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// All keys become variables.
    AllAsEnv {
        /// Name of the Secret.
        secret: String,
    },
    /// All keys become files of a directory.
    Directory {
        /// Name of the Secret.
        secret: String,
        /// Absolute path of the directory.
        path: String,
        /// Permission bits.
        mode: u32,
    },
    /// One key becomes a variable, a file, or both.
    Key {
        /// Name of the Secret.
        secret: String,
        /// The key.
        key: String,
        /// Name of the variable.
        env: Option<String>,
        /// Absolute path of the file and its permission bits.
        file: Option<(String, u32)>,
    },
}

/// What an Agent says of the Pod.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PodOptions {
    /// Labels besides the system's own.
    pub labels: BTreeMap<String, String>,
    /// Annotations besides the system's own.
    pub annotations: BTreeMap<String, String>,
    /// Labels of the node.
    pub node_selector: BTreeMap<String, String>,
    /// Tolerated taints.
    pub tolerations: Vec<Toleration>,
    /// Affinity.
    pub affinity: Option<Affinity>,
    /// RuntimeClass.
    pub runtime_class_name: Option<String>,
    /// Of the agent container.
    pub resources: Option<ResourceRequirements>,
    /// Of the agent container; merged over the restricted defaults.
    pub security_context: Option<SecurityContext>,
    /// Of the Pod; merged over the restricted defaults.
    pub pod_security_context: Option<PodSecurityContext>,
    /// For pulling images.
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// Seconds between SIGTERM and SIGKILL; None is Kubernetes' 30.
    pub termination_grace_period_seconds: Option<i64>,
    /// ServiceAccount; None is the namespace's default one.
    pub service_account_name: Option<String>,
    /// Whether the agent gets the token of its service account.
    pub service_account_token: bool,
}
