//! The form of a scenario file.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::{agent, model::Turn, row, ssh::Sshd};

/// One file of `tests/scenarios`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scenario {
    /// What it shows, in one sentence.
    pub title: String,
    /// It shows what becomes of a Task when something goes wrong: a row of `docs/failures.md`, made of its steps.
    #[serde(default)]
    pub row: Option<Wrong>,
    /// The cluster that it can only run on, and why.
    #[serde(default)]
    pub only: Option<Only>,
    /// Programs that not every machine has and the embedded node takes from it; in an agent's image they are there.
    #[serde(default)]
    pub needs: Vec<String>,
    /// Repositories that exist before anything is applied. In the file, `${NAME.url}` stands for their URL,
    /// `${NAME.first}` for their first commit, `${NAME.head}` for the last on `main`; for those behind a login, what is
    /// needed to come in: `user`, `password`, `ca` or `key`, `knownHosts`.
    #[serde(default)]
    pub repositories: Vec<Repository>,
    /// A model that plays this script, turn by turn, at `${model.url}`.
    #[serde(default)]
    pub model: Vec<Turn>,
    /// A real agent, whose model that is: its manifests are applied before all others.
    #[serde(default)]
    pub agent: Option<agent::Wanted>,
    /// Manifests applied at the beginning, in order, into the scenario's own namespace.
    #[serde(default)]
    pub given: Vec<Value>,
    /// What happens, and what has to be seen, in order.
    pub steps: Vec<Step>,
}

/// Something that goes wrong.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Wrong {
    /// The table that it stands in.
    pub group: String,
    /// What goes wrong.
    pub when: String,
}

/// A restriction to one cluster.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Only {
    /// Which.
    pub cluster: Kind,
    /// Why not on the other.
    #[expect(dead_code, reason = "it is there for the reader")]
    pub because: String,
}

/// A kind of cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// The embedded one.
    Embedded,
    /// A real Kubernetes.
    Kubernetes,
}

impl Kind {
    /// Its word in scenarios and on pages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Kubernetes => "kubernetes",
        }
    }
}

/// A Git repository made for the scenario: one commit on `main`, then what is listed.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Repository {
    /// Its name.
    pub name: String,
    /// How Pods get it. Default: as is easiest for the cluster, without a login.
    #[serde(default)]
    pub over: Option<Over>,
    /// How many seconds an HTTPS server lets whoever asks first wait.
    #[serde(default)]
    pub first_answer_after: u64,
    /// Commits, oldest first.
    pub commits: Vec<Commit>,
}

/// A server of this machine that wants a login.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Over {
    /// HTTPS with a CA of its own, user and password.
    Https,
    /// SSH with a key.
    Ssh,
}

/// A commit.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Commit {
    /// The branch it is made on; created from the last commit when it is new. Default `main`.
    #[serde(default)]
    pub branch: Option<String>,
    /// A tag for it.
    #[serde(default)]
    pub tag: Option<String>,
    /// File contents by path. A value that begins with `-> ` makes a symbolic link.
    pub files: std::collections::BTreeMap<String, String>,
}

/// One thing that happens, or has to be seen.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Step {
    /// Create or change objects by server-side apply.
    Apply(Vec<Value>),
    /// The API server refuses this manifest, and its message contains this text.
    Refused {
        /// The manifest.
        apply: Value,
        /// What the message has to contain.
        message: String,
    },
    /// Wait until an object contains this (a subset of it).
    Until(Value),
    /// An object contains this now.
    Expect(Value),
    /// Wait until a Task has ended, then compare.
    Ends(Box<Ends>),
    /// Annotate a Task `kubeopencode.io/stop=true`.
    Stop(String),
    /// Merge this into an object.
    Patch(Value),
    /// Delete an object.
    Delete(ObjectName),
    /// Drain a Task's Pod away, as `kubectl drain` does.
    Evict(String),
    /// Keep the name of an object for later: `is:NAME` means it when its Task does not exist any more.
    Remember {
        /// For example Job.
        kind: String,
        /// As in [`ObjectName`].
        name: String,
        /// What it is called from now on.
        r#as: String,
    },
    /// Wait until an object is gone.
    Gone(ObjectName),
    /// Look at the logs of a container of a Task's Pod.
    Logs(Logs),
    /// Wait until a Task that has ended has Events with these reasons, and no others, in the order of the first of each; the
    /// end is told once. Those of one second have no order, and that it waits may be told where a cluster is slow.
    Events {
        /// The Task.
        task: String,
        /// Reasons, each once.
        reasons: Vec<String>,
    },
    /// The scenario's model was asked so often until now, or more often, without those requests that only want a title.
    Asked(usize),
    /// Wait until the Pod of a Task has a warning whose message contains this text.
    Warned {
        /// The Task.
        task: String,
        /// A part of the message.
        message: String,
    },
    /// So many Pods were made for a Task, by the word of the Job controller's Events.
    Pods {
        /// The Task.
        task: String,
        /// How many, of its last attempt.
        made: usize,
    },
    /// A Task has no Pod, and by the word of the Job controller's Events never had one.
    NoPod(String),
    /// Wait until this is what there is of a Task that has ended: its Job, whose logs can be read, and its slot.
    Left {
        /// The Task.
        task: String,
        /// `stays`, `suspended`, `closed`, `gone` or `never`.
        job: row::Job,
        /// `agent`, `perhaps`, `init` or `none`.
        logs: row::Logs,
        /// `free`, or `never` where it had none.
        #[serde(default)]
        slot: row::Slot,
    },
    /// Wait until the namespace has no objects of these kinds, one kind after the other.
    Empty(Vec<String>),
}

/// An object, by kind and name; what belongs to a Task may be named by it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectName {
    /// For example Task.
    pub kind: String,
    /// Its name, or `of:TASK` for the Job, Pod or ConfigMap of a Task, or `is:NAME` for one that was remembered.
    pub name: String,
    /// Background, Foreground or Orphan.
    #[serde(default)]
    pub propagation: Option<String>,
}

/// How a Task ends.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ends {
    /// The Task.
    pub task: String,
    /// Completed or Failed.
    pub phase: String,
    /// The terminal reason.
    pub reason: String,
    /// What the message has to contain.
    #[serde(default)]
    pub message: Option<String>,
    /// A subset of the whole status.
    #[serde(default)]
    pub status: Option<Value>,
}

/// What the logs have to contain: to be followed, or as they are now.
#[derive(Debug, Deserialize)]
#[serde(try_from = "LogsForm")]
pub struct Logs {
    /// The Task.
    pub task: String,
    /// The container; default `agent`.
    pub container: Option<String>,
    /// How they are looked at.
    pub look: Look,
}

/// How logs are looked at.
#[derive(Debug)]
pub enum Look {
    /// Until this text is there.
    Follow(String),
    /// As they are now.
    Now {
        /// Texts that are in them, in this order.
        has: Vec<String>,
        /// Texts that are not.
        lacks: Vec<String>,
    },
}

/// `logs` as a scenario writes it: `follow`, or `has` and `lacks`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LogsForm {
    task: String,
    container: Option<String>,
    follow: Option<String>,
    #[serde(default)]
    has: Vec<String>,
    #[serde(default)]
    lacks: Vec<String>,
}

impl TryFrom<LogsForm> for Logs {
    type Error = &'static str;

    fn try_from(form: LogsForm) -> Result<Self, Self::Error> {
        let now = !form.has.is_empty() || !form.lacks.is_empty();
        let look = match form.follow {
            Some(_) if now => {
                return Err("`follow` ends at its text: `has` and `lacks` are for another step");
            }
            None if !now => return Err("`logs` looks for nothing: `follow`, `has` or `lacks`"),
            Some(text) => Look::Follow(text),
            None => Look::Now {
                has: form.has,
                lacks: form.lacks,
            },
        };
        Ok(Self {
            task: form.task,
            container: form.container,
            look,
        })
    }
}

/// The name of the test: the file's name.
pub fn name(path: &Path) -> String {
    path.file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// The same files, with those that have a real agent evenly among the others: few of them run at the same time, and who has
/// to wait for that keeps others from beginning.
pub fn spread(paths: Vec<PathBuf>) -> Vec<PathBuf> {
    let has_agent = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        parse(&text, path).is_ok_and(|scenario| scenario.agent.is_some())
    };
    let (agents, mut paths): (Vec<_>, Vec<_>) = paths.into_iter().partition(has_agent);
    let step = paths.len() / (agents.len() + 1) + 1;
    for (number, path) in agents.into_iter().enumerate() {
        paths.insert((number * step).min(paths.len()), path);
    }
    paths
}

/// Whether this file's scenario cannot be shown here: it is for another kind of cluster, or needs a program that is
/// missing, unless `KUBEOPENCODE_TEST_REQUIRE` names that. A file that cannot be read is no such: it fails when it runs.
pub fn elsewhere(path: &Path, kind: Kind) -> bool {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let Ok(scenario) = parse(&text, path) else {
        return false;
    };
    let required = std::env::var("KUBEOPENCODE_TEST_REQUIRE").unwrap_or_default();
    let is_required = |program: &str| required.split(',').any(|item| item == program);
    let missing = |program: &String| {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        !std::env::split_paths(&paths).any(|folder| folder.join(program).is_file())
            && !is_required(program)
    };
    let over_ssh = |repository: &Repository| matches!(repository.over, Some(Over::Ssh));
    // One that cannot be read is missed when it runs.
    let program = scenario.agent.as_ref().map(agent::Wanted::program);
    let program = program.and_then(Result::ok);
    let mut needs = scenario.needs.iter().chain(&program);
    scenario.only.is_some_and(|only| only.cluster != kind)
        || (kind == Kind::Embedded && needs.any(missing))
        || (scenario.repositories.iter().any(over_ssh) && !Sshd::is_there() && !is_required("sshd"))
}

/// A step that would not do all that it says is refused.
pub fn logs_are_followed_or_compared() -> Result<()> {
    let with = |logs: &str| {
        let text = format!("title: it\nsteps:\n  - logs: {{task: it{logs}}}\n");
        parse(&text, Path::new("it.yaml"))
    };
    for good in [", follow: a", ", has: [a]", ", lacks: [a]"] {
        with(good)?;
    }
    for (wrong, why) in [
        (", follow: a, has: [b]", "for another step"),
        (", follow: a, lacks: [b]", "for another step"),
        ("", "looks for nothing"),
    ] {
        let error = with(wrong)
            .err()
            .with_context(|| format!("it is taken: {wrong}"))?;
        let error = format!("{error:#}");
        ensure!(error.contains(why), "{wrong}: {error}");
    }
    Ok(())
}

/// Reads a scenario, with `${…}` replaced.
pub fn parse(text: &str, path: &Path) -> Result<Scenario> {
    serde_saphyr::from_str(text).with_context(|| format!("{}", path.display()))
}
