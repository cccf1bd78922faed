//! What the operator hands to the programs in the Pod, and what they hand back: the JSON that both sides agree on.
//!
//! `render` writes [`ContextPlan`] and [`GitPlan`] into the context ConfigMap, which is mounted at [`CONTEXT_DIR`] in
//! the init containers. `git-init` leaves [`CheckoutRecord`]s at [`CHECKOUTS_FILE`] for `supervise`, which writes
//! [`Report`] to the termination message, where `decide` reads it. Before that it asks `git-push`, where there is one, with
//! a [`PushRequest`] through [`PUSH_SOCKET`], and is told [`PushReport`]s. `plan` and `record` paths are constants, so that a
//! Pod can be read without the code at hand.

mod checkout;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::checkout::CheckoutReport;

/// Path of this program in the system image, and where the embedded node provides it.
pub const PROGRAM: &str = "/kubeopencode";
/// Path in the system image of the Pod's programs alone. Where it is there, `context-init` hands on a copy of this one,
/// which has a small part of the size: each Pod has a copy of its own, and many may begin at once.
pub const POD_PROGRAM: &str = "/kubeopencode-pod";
/// Variable that a node sets in every container when it shows this program at the path that is its value, in all of
/// them, whatever their image. `context-init` then makes a link instead of a copy: a Pod that has ended keeps its
/// volumes, and a program for each would fill a laptop's disk.
pub const PROGRAM_EVERYWHERE: &str = "KUBEOPENCODE_PROGRAM";
/// Path of the OpenCode program in the OpenCode image, and where the embedded node provides it.
pub const OPENCODE_PROGRAM: &str = "/opencode";
/// Where the context ConfigMaps are mounted in the init containers.
pub const CONTEXT_DIR: &str = "/kubeopencode-context";
/// Key of the [`ContextPlan`] in the context ConfigMap.
pub const CONTEXT_PLAN: &str = "context.json";
/// Key of the [`GitPlan`] in the context ConfigMap.
pub const GIT_PLAN: &str = "git.json";
/// The volume with the programs: writable in the init containers, read-only for the agent.
pub const TOOLS_DIR: &str = "/tools";
/// Where `context-init` copies this program to.
pub const SUPERVISOR: &str = "/tools/kubeopencode";
/// Where `opencode-init` copies OpenCode to.
pub const OPENCODE: &str = "/tools/opencode";
/// In [`TOOLS_DIR`]: the directory that the agent's container alone may write to, and sees as [`BEGUN_DIR`].
pub const BEGUN_DIR_IN_TOOLS: &str = "begun";
/// Where it is for the agent's container.
pub const BEGUN_DIR: &str = "/kubeopencode-begun";
/// In it: a file that is there once the agent has begun. Nothing starts one after that.
pub const BEGUN_FILE: &str = "agent";
/// Where `git-init` records what it checked out.
pub const CHECKOUTS_FILE: &str = "/tools/checkouts.json";
/// What `GIT_CONFIG_SYSTEM` points to in the agent: written by `git-init` (safe.directory, a default identity), after
/// what `/etc/gitconfig` says. The agent cannot write to it; `git config --global` writes to a file of its own.
pub const GIT_CONFIG: &str = "/tools/gitconfig";
/// Below it, one directory for each Secret with Git credentials, in `git-init` alone.
pub const GIT_SECRETS_DIR: &str = "/kubeopencode-git-secrets";
/// Below it, one directory for each repository of the host, in `git-init` alone.
pub const HOST_REPOSITORIES_DIR: &str = "/kubeopencode-repositories";
/// The volume that `git-push` writes to, and that the agent sees read-only: the socket.
pub const PUSH_DIR: &str = "/kubeopencode-push";
/// Where `git-push` listens until `supervise` has come.
pub const PUSH_SOCKET: &str = "/kubeopencode-push/socket";
/// The first that `git-push` says to `supervise`, once nobody else can connect. The same comes back, with a descriptor of
/// the process 1 of the agent's container.
pub const GREETING: &[u8; 1] = b"\n";
/// Below it, one directory for each Secret with Git credentials that may write, in `git-push` alone.
pub const PUSH_SECRETS_DIR: &str = "/kubeopencode-push-secrets";
/// Where `context-init` finds the volume for files that are mounted alone: each is one file in it, and
/// [`PlannedFile::target`] says which.
pub const FILES_DIR: &str = "/kubeopencode-files";
/// Key of the [`CredentialsPlan`] in the context ConfigMap.
pub const CREDENTIALS_PLAN: &str = "credentials.json";
/// Below it, one directory for each Secret that the agent gets as files, in `credentials-init` alone.
pub const SECRETS_DIR: &str = "/kubeopencode-secrets";
/// Where `credentials-init` finds the volume in memory that the agent sees parts of: one directory for each Secret.
pub const CREDENTIALS_DIR: &str = "/kubeopencode-credentials";
/// Environment variable: the Pod's `terminationGracePeriodSeconds`, for `supervise` and `git-push`.
pub const GRACE_VARIABLE: &str = "KUBEOPENCODE_GRACE_SECONDS";
/// Environment variable of the agent container: for how many seconds the agent may run, for `supervise`; absent, for ever.
/// Not the kubelet's business: its deadline counts pulling images and the init containers too.
pub const TIMEOUT_VARIABLE: &str = "KUBEOPENCODE_TIMEOUT_SECONDS";
/// Environment variable of the agent container: where `git-push` listens, for `supervise`; absent, nothing is pushed.
pub const PUSH_VARIABLE: &str = "KUBEOPENCODE_PUSH_SOCKET";
/// Environment variable of the agent container: name of the profile of an agent whose events `supervise` reads.
pub const PROFILE_VARIABLE: &str = "KUBEOPENCODE_PROFILE";
/// Environment variable of the agent container: [`Limits`] as JSON, for `supervise`.
pub const LIMITS_VARIABLE: &str = "KUBEOPENCODE_LIMITS";
/// Environment variable of the agent container: [`Secrets`] as JSON, for `supervise`.
pub const SECRETS_VARIABLE: &str = "KUBEOPENCODE_SECRETS";
/// Environment variable of the agent container, for `supervise`: variables and their values, as a JSON object, that the agent
/// gets where it has none of that name. It is there where a Secret gives all its keys as variables, whose names nobody
/// knows before: one that stood in the Pod itself would win over them.
pub const DEFAULTS_VARIABLE: &str = "KUBEOPENCODE_DEFAULTS";
/// Exit code of `supervise` when the agent ended with 0, and told that its work is not done: a Job must not be complete when
/// its Task has failed. `EX_SOFTWARE` of sysexits.h.
pub const UNFINISHED: u8 = 70;
/// Exit code of `supervise` when the agent ended well and its commits could not be pushed. `EX_CANTCREAT` of sysexits.h.
pub const NOT_PUSHED: u8 = 73;
/// Exit code of `supervise` when the agent's time was over, or another limit was passed, whatever the agent answered to
/// SIGTERM: with a 0 the Job would be complete. As `timeout` of the GNU coreutils has it.
pub const TIMED_OUT: u8 = 124;
/// Exit code of `supervise` when the agent was told to end by somebody, and answered with a 0: what it did until then is not
/// what it was asked for. As that of a process which SIGTERM ended.
pub const TOLD_TO_END: u8 = 128 + 15;
/// Exit code of an init container whose failure may pass by itself: nobody answers, a server has a problem of its own, a
/// disk is full. The agent has not run then, so another attempt repeats nothing, and may succeed; after any other code
/// somebody has to change something first. `EX_TEMPFAIL` of sysexits.h.
pub const MAY_PASS: u8 = 75;
/// Exit code of an init container that finds the mark of an agent that has begun in its Pod. Whatever else the kubelet says,
/// it was started. `EX_PROTOCOL` of sysexits.h.
pub const BEGUN_BEFORE: u8 = 76;
/// Where `supervise` writes its [`Report`]: Kubernetes' default `terminationMessagePath`.
pub const TERMINATION_LOG: &str = "/dev/termination-log";
/// Environment variable of the agent container: how many bytes its termination message may have, for `supervise`.
pub const REPORT_BYTES_VARIABLE: &str = "KUBEOPENCODE_REPORT_BYTES";
/// The kubelet keeps no more of one container's termination message, in bytes.
pub const LONGEST_TERMINATION_MESSAGE: usize = 4096;
/// What it keeps of all containers of a Pod together, each of which gets the same share, init containers among them.
const TERMINATION_MESSAGES: usize = 12 * 1024;
/// How many containers a cluster may add that nobody here knows of: a service mesh two, and `kubectl debug` one. Who counted
/// without them would have the end of the report cut off, and half a JSON object says nothing.
const ADDED_CONTAINERS: usize = 3;
/// Where nobody said how many containers there are: for our six.
pub const SHORTEST_TERMINATION_MESSAGE: usize = termination_message(6);

/// How many bytes a termination message may have in a Pod with so many containers of ours.
#[must_use]
pub const fn termination_message(containers: usize) -> usize {
    let share = TERMINATION_MESSAGES / (containers + ADDED_CONTAINERS);
    if share < LONGEST_TERMINATION_MESSAGE {
        share
    } else {
        LONGEST_TERMINATION_MESSAGE
    }
}

/// What `context-init` has to write, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ContextPlan {
    /// The files.
    pub files: Vec<PlannedFile>,
}

/// A file to write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlannedFile {
    /// Name of the file below [`CONTEXT_DIR`] that has the content.
    pub source: String,
    /// Absolute path as the agent will see it, for messages and for `.git/info/exclude`.
    pub path: String,
    /// Absolute path where `context-init` writes it. Differs from `path` for a file that is mounted alone.
    pub target: String,
    /// Permission bits.
    pub mode: u32,
}

/// What `credentials-init` has to copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CredentialsPlan {
    /// The Secrets.
    pub credentials: Vec<PlannedCredential>,
}

/// Files of a Secret that the agent gets as its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlannedCredential {
    /// Absolute path as the agent will see it, for messages.
    pub path: String,
    /// Directory that the kubelet filled from the Secret.
    pub source: String,
    /// Directory that the files are copied to.
    pub target: String,
    /// Permission bits of the files.
    pub mode: u32,
}

/// What `git-init` has to clone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GitPlan {
    /// The repositories, cloned at the same time.
    pub checkouts: Vec<PlannedCheckout>,
}

/// A repository to clone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlannedCheckout {
    /// Absolute path of the checkout, the same in every container.
    pub path: String,
    /// What git fetches from.
    pub repository: String,
    /// The repository as the user wrote it, for messages and as the checkout's `origin`, when it differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Branch, tag or SHA; absent is the remote's HEAD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Commits of history; 0 is all.
    pub depth: u32,
    /// Take only this file or directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub_path: Option<String>,
    /// Submodules too.
    #[serde(default)]
    pub submodules: bool,
    /// Directory with the credentials: `username`, `password`, `ssh-privatekey`, `known_hosts`, `ca.crt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_dir: Option<String>,
    /// Permission bits for the files of a sub-path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// Push what the agent commits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push: Option<PlannedPush>,
}

/// Where the commits of a checkout go: to this branch of the repository that it was cloned from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlannedPush {
    /// Name of the branch, without `refs/heads/`.
    pub branch: String,
    /// As [`PlannedCheckout::secret_dir`], with credentials that may write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_dir: Option<String>,
    /// Push what is uncommitted too, as one commit.
    #[serde(default)]
    pub uncommitted: bool,
    /// The branch may be the one that was cloned, or the repository's default branch.
    #[serde(default)]
    pub allow_base: bool,
}

/// What `git-init` checked out: a JSON array of these is at [`CHECKOUTS_FILE`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckoutRecord {
    /// Absolute path of the checkout.
    pub path: String,
    /// The commit that was checked out.
    pub base: String,
    /// The remote's branch that it is from, where it is from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The branch that `git-push` pushes to, where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push: Option<String>,
}

/// What `supervise` says to `git-push` when the agent and all its processes have ended: one line of JSON; `null` where
/// nothing is to be pushed. What is pushed, and where to, is not for it to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PushRequest {
    /// In how many milliseconds the answer has to be there.
    pub within_millis: u64,
}

/// What `git-push` answers: one line of JSON, an array with one of these for each checkout that asks for a push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PushAnswer {
    /// Absolute path of the checkout.
    pub path: String,
    /// What became of its commits.
    pub pushed: PushReport,
}

/// What became of the commits of a checkout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PushReport {
    /// Name of the branch.
    pub branch: String,
    /// Whether they were pushed.
    pub state: PushState,
    /// The commit that the remote says the branch is at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// Why not, and where they are, for a person; or what is not certain of a push that the server accepted, and what is
    /// not in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Whether commits were pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PushState {
    /// The remote has them.
    Pushed,
    /// There was nothing that it did not have.
    Nothing,
    /// The remote did not take them: its branch has other commits, or is protected.
    Refused,
    /// It could not be tried, did not succeed, or has nothing of what is uncommitted although it should: then there is a
    /// head.
    Failed,
}

impl PushState {
    /// Whether something is not where it should be.
    #[must_use]
    pub fn is_loss(self) -> bool {
        matches!(self, Self::Refused | Self::Failed)
    }
}

/// How much an agent may do before it is told to end. What is absent has no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limits {
    /// How long it may run, in whole seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    /// How often its model may be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// How many tokens may go in and out, those from a cache among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// How many US dollars that may cost, as a decimal number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<String>,
}

/// Where the agent has its secrets: what is there does not get into a report, whoever writes it there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Secrets {
    /// Names of variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variables: Vec<String>,
    /// Every other variable may be one too: all keys of a Secret became variables, and only the kubelet knows their names.
    #[serde(default)]
    pub all_variables: bool,
    /// Absolute paths of files, or of directories of files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
}

/// A limit that was passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Passed {
    /// Its field: `duration`, `steps`, `tokens` or `cost`.
    pub limit: String,
    /// What was allowed, in the unit of the field.
    pub allowed: String,
    /// What it was when the agent was told to end; [`UNKNOWN`] where a limit cannot be held because that is not known.
    pub reached: String,
    /// Whether the agent had ended before it could be told to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended_by_itself: bool,
}

/// After "told to end" or the like: what it was, and what was allowed.
impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            limit,
            allowed,
            reached,
            ..
        } = self;
        if reached == UNKNOWN {
            write!(
                f,
                "with a {limit} that is not known (the model has no price)"
            )?;
        } else {
            write!(f, "at {limit} {reached}")?;
        }
        write!(f, ": limits.{limit} is {allowed}")
    }
}

/// What stands for an amount that nobody knows.
pub const UNKNOWN: &str = "unknown";

/// What an agent told of its work.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentReport {
    /// Id of its session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// How often its model was asked.
    #[serde(default)]
    pub steps: u64,
    /// How many tools it called.
    #[serde(default)]
    pub tools: u64,
    /// How many of them it was not allowed to use.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub refused: u64,
    /// Tokens and money.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<UsageReport>,
    /// The last thing that it said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Why it gave up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureReport>,
    /// Where it stopped, as in `after a tool call`, when it did not end by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// How many lines were too long to be read, or had too many parts.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unread: u64,
    /// Whether nobody knows how it ended, because what told that was not read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub end_is_unread: bool,
}

impl AgentReport {
    /// Whether it told that its work is not done.
    #[must_use]
    pub fn is_unfinished(&self) -> bool {
        self.failure.is_some() || self.stopped.is_some()
    }
}

/// What its models were used for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageReport {
    /// Tokens that went in, those from a cache not among them.
    pub input: u64,
    /// Tokens that came out.
    pub output: u64,
    /// Tokens that went in from a cache.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cached: u64,
    /// US dollars, as a decimal number, where the agent knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<String>,
}

/// Why an agent gave up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailureReport {
    /// One of the words of [`FailureClass`](kubeopencode_agents::FailureClass).
    pub class: String,
    /// In the agent's own words.
    pub message: String,
}

fn is_zero<N: Default + PartialEq>(number: &N) -> bool {
    *number == N::default()
}

/// A commit of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommitReport {
    /// Its id, shortened.
    pub id: String,
    /// The first line of its message.
    pub subject: String,
}

/// What `supervise` writes to the termination message: facts, measured, never guessed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Exit code; absent when a signal ended the agent or it could not be started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Name of the signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// Why it could not be started, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whether it was not started because it has begun in this Pod before. How that went is not known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub begun_before: bool,
    /// Whether a signal that means "end" came from outside before the agent had ended, and before `supervise` itself told it
    /// to end. Absent where nobody looked: there is no `supervise`, or an older one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told_to_end: Option<bool>,
    /// The timeout that was over, in seconds, when that is why it was told to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timed_out_after_seconds: Option<u64>,
    /// The limit that was passed, when that is why it was told to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed: Option<Passed>,
    /// What the agent told, where its events are read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentReport>,
    /// From start to end, in milliseconds. Absent where nobody measured it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_millis: Option<u64>,
    /// The checkouts as the agent left them; as many as fit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checkouts: Vec<CheckoutReport>,
    /// The others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub omitted: Option<Omitted>,
}

/// Checkouts for which there was no room, all together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Omitted {
    /// How many.
    pub checkouts: u32,
    /// Their new commits, as far as they are known.
    pub commits: u32,
    /// Whether the agent left all of them as they were.
    pub unchanged: bool,
}

impl Report {
    /// Whether there are checkouts, and the agent left all of them as they were.
    #[must_use]
    pub fn changed_nothing(&self) -> bool {
        let any = !self.checkouts.is_empty() || self.omitted.is_some();
        any && self.checkouts.iter().all(CheckoutReport::is_unchanged)
            && self
                .omitted
                .as_ref()
                .is_none_or(|omitted| omitted.unchanged)
    }

    /// New commits in all checkouts, as far as they are known.
    #[must_use]
    pub fn commits(&self) -> Option<u64> {
        let omitted = self.omitted.as_ref().map(|omitted| omitted.commits);
        let known = self.checkouts.iter().filter_map(|it| it.commits);
        known
            .chain(omitted.filter(|commits| *commits > 0))
            .map(u64::from)
            .reduce(u64::saturating_add)
    }

    /// Takes out a checkout for which there is no room. What it says still counts.
    pub fn omit(&mut self, at: usize) {
        let checkout = self.checkouts.remove(at);
        let omitted = self.omitted.get_or_insert(Omitted {
            checkouts: 0,
            commits: 0,
            unchanged: true,
        });
        omitted.checkouts = omitted.checkouts.saturating_add(1);
        let commits = checkout.commits.unwrap_or_default();
        omitted.commits = omitted.commits.saturating_add(commits);
        omitted.unchanged &= checkout.is_unchanged();
    }

    /// Whether commits of a checkout are not where they should be.
    #[must_use]
    pub fn lost_a_push(&self) -> bool {
        let pushes = self.checkouts.iter().filter_map(|it| it.pushed.as_ref());
        let mut states = pushes.map(|pushed| pushed.state);
        states.any(PushState::is_loss)
    }
}
