//! Context items: what an agent is given to know, in a Task or in an Agent.
//!
//! An item has a `type` and exactly the member of that name; the rules below make the API server refuse anything else.
//! (A tagged enum would say it better, but no structural schema can express one.)

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One piece of context. Without `mountPath` its content is appended to `task.md`; with one it becomes a file or directory.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("self.type != 'Text' || has(self.text)").message("text is required when type is Text").field_path(".text"),
    validation = Rule::new("self.type == 'Text' || !has(self.text)").message("text is only allowed when type is Text").field_path(".text"),
    validation = Rule::new("self.type != 'ConfigMap' || has(self.configMap)").message("configMap is required when type is ConfigMap").field_path(".configMap"),
    validation = Rule::new("self.type == 'ConfigMap' || !has(self.configMap)").message("configMap is only allowed when type is ConfigMap").field_path(".configMap"),
    validation = Rule::new("self.type != 'Git' || has(self.git)").message("git is required when type is Git").field_path(".git"),
    validation = Rule::new("self.type == 'Git' || !has(self.git)").message("git is only allowed when type is Git").field_path(".git"),
    validation = Rule::new("self.type == 'Runtime' || !has(self.runtime)").message("runtime is only allowed when type is Runtime").field_path(".runtime"),
    validation = Rule::new("self.type != 'Git' || (has(self.mountPath) && self.mountPath != '')").message("mountPath is required when type is Git: a repository has no place in task.md").field_path(".mountPath"),
    validation = Rule::new("!has(self.mountPath) || !self.mountPath.split('/').exists(p, p == '..')").message("mountPath must not contain '..'").field_path(".mountPath"),
)]
pub struct ContextItem {
    /// What kind of context this is: Text, ConfigMap, Git or Runtime.
    #[serde(rename = "type")]
    pub type_: ContextType,
    /// Where it is mounted. Relative paths are below the Agent's workspaceDir. Empty: appended to task.md.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub mount_path: Option<String>,
    /// Permission bits of the files, for example 0755 (493 in JSON). Default 0644.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 511))]
    pub file_mode: Option<i32>,
    /// The content, when type is Text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Where the content comes from, when type is ConfigMap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapContext>,
    /// The repository, when type is Git.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<GitContext>,
    /// Tells the agent about the platform it runs on, when type is Runtime. Has no fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<RuntimeContext>,
}

/// The kinds of context.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContextType {
    /// Text written into the manifest.
    Text,
    /// One key, or all keys, of a ConfigMap of the Task's namespace.
    ConfigMap,
    /// A Git repository, cloned before the agent starts.
    Git,
    /// What the agent should know of the platform: its environment, and how to look at its own Task.
    Runtime,
}

/// A ConfigMap of the Task's namespace.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConfigMapContext {
    /// Name of the ConfigMap.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// One key. Absent: all keys, as a directory of files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub key: Option<String>,
    /// Go on without it when the ConfigMap or the key does not exist. Default false: wait for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// How the tokens of well-known hosts begin: as the user of a URL, they are the password. A rule of [`GitContext`] has them,
/// too.
pub const TOKENS: [&str; 8] = [
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "x-token-auth",
];

/// Whether the user of a URL is such a token.
#[must_use]
pub fn is_token(user: &str) -> bool {
    TOKENS.iter().any(|token| user.starts_with(token))
}

/// A Git repository.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("!self.repository.startsWith('-') && !self.repository.contains('::')").message("repository must be a URL that git can fetch without running a command (https, ssh, git, file, or user@host:path)").field_path(".repository"),
    validation = Rule::new("!self.repository.matches('^[a-zA-Z]+://([^/]*:[^/]*@|(gh[pours]_|github_pat_|glpat-|x-token-auth)[^/]*@)')").message("repository has a password or token in its URL, where everybody can read it: put it into a Secret and name that in secretRef").field_path(".repository"),
    validation = Rule::new("!has(self.ref) || !self.ref.startsWith('-')").message("ref must not begin with '-'").field_path(".ref"),
    validation = Rule::new("!has(self.path) || (!self.path.startsWith('-') && !self.path.startsWith('/') && !self.path.split('/').exists(p, p == '..'))").message("path must be relative, without '..', and must not begin with '-'").field_path(".path"),
    validation = Rule::new("!has(self.push) || !has(self.path) || self.path == ''").message("push is not possible with path: a part of a repository is no checkout that one could commit in").field_path(".push"),
    validation = Rule::new("!has(self.push) || !self.repository.startsWith('file:')").message("push is not possible to a file:// repository").field_path(".push"),
)]
pub struct GitContext {
    /// URL of the repository. Never put credentials into it: name a Secret in secretRef.
    #[schemars(length(min = 1, max = 2048))]
    pub repository: String,
    /// Take only this file or directory of the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub path: Option<String>,
    /// Branch, tag or commit SHA. Default HEAD, the remote's default branch.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub ref_: Option<String>,
    /// How many commits of history to fetch. Default 1; 0 fetches all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub depth: Option<i32>,
    /// Clone submodules too. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submodules: Option<bool>,
    /// Credentials, in a Secret of the Task's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<GitSecretReference>,
    /// Push what the agent has committed, when it has ended. Absent: nothing is pushed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push: Option<GitPush>,
}

/// Where the commits of the agent go. They are pushed by the system, with credentials that the agent never sees, and
/// never with force: a branch that is at another commit than the agent began with is left as it is, and the Task fails.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("!has(self.branch) || self.branch.matches('^([^{}]|[{][{] ?[.](taskName|taskNamespace) ?[}][}])+$')").message("branch may have {{.taskName}} and {{.taskNamespace}} in it, and no other braces").field_path(".branch"),
    validation = Rule::new("!has(self.branch) || !(self.branch.startsWith('-') || self.branch.startsWith('refs/'))").message("branch is the name of a branch: it must not begin with '-' or 'refs/'").field_path(".branch"),
)]
pub struct GitPush {
    /// The branch. `{{.taskName}}` and `{{.taskNamespace}}` stand for name and namespace of the Task. Default:
    /// `kubeopencode/{{.taskName}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub branch: Option<String>,
    /// Credentials that may write, in a Secret of the Task's namespace. Default: those that it is cloned with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<GitSecretReference>,
    /// What becomes of what the agent has changed in the working tree and not committed itself. Default: Leave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncommitted: Option<Uncommitted>,
    /// Allow the branch that it is cloned from, and the default branch of the repository. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_base: Option<bool>,
}

/// What becomes of what the agent has changed in the working tree and not committed itself. Leave, the default: only its
/// commits are pushed, and the rest goes with the Pod. Commit: when the agent has ended, whichever way, the system makes one
/// more commit of it on top of the agent's, by KubeOpenCode, and pushes it with them: files that are changed, deleted or
/// new, staged or not. Not in it are new files that `.gitignore` or `.git/info/exclude` name, files of contexts and
/// credentials, repositories inside of it, and files that only the agent's own user may read. The checkout itself stays as
/// it is.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uncommitted {
    /// It is pushed as one more commit.
    Commit,
    /// It stays in the Pod, and goes with it.
    Leave,
}

/// A Secret with Git credentials: `username` and `password` for HTTPS (and `ca.crt` for a private certificate authority),
/// `ssh-privatekey` and `known_hosts` for SSH.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GitSecretReference {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Has no fields: its content is written by the system.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct RuntimeContext {}
