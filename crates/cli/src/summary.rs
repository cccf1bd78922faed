//! How Tasks ended: for people on standard error, as JSON for programs, and the exit status of `run`.

use std::fmt::Write as _;

use kube::ResourceExt as _;
use kubeopencode_api::v1alpha1::{
    CheckoutResult, PushState, Task, TaskOutcome, TaskPhase, TaskResult,
};
use kubeopencode_engine::{handover::TIMED_OUT, state::Reason};
use serde::Serialize;

use crate::{
    printer::Printer,
    shell,
    used::{Used, count},
};

/// How a Task ended.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TaskSummary {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) phase: TaskPhase,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) job: Option<String>,
    /// What came out of it, without its checkouts.
    #[serde(flatten)]
    pub(crate) result: TaskResult,
    pub(crate) checkouts: Vec<CheckoutSummary>,
    /// Where the Pod's workspace is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) workspace: Option<String>,
}

/// What became of a checkout.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CheckoutSummary {
    #[serde(flatten)]
    pub(crate) result: CheckoutResult,
    /// The branch with the agent's work, in a repository of this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) brought_back: Option<BroughtBack>,
    /// Why it was not, where it should have been.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) not_brought_back: Option<String>,
    /// Where it is on this machine, if there may be work in it that is nowhere else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kept: Option<String>,
    /// Whether there is, or may be, something in it that was not pushed, on a cluster into whose Pods nobody here looks.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) only_in_pod: bool,
}

impl CheckoutSummary {
    /// Nothing but what was reported of it.
    pub(crate) fn of(result: CheckoutResult) -> Self {
        Self {
            result,
            brought_back: None,
            not_brought_back: None,
            kept: None,
            only_in_pod: false,
        }
    }

    /// What goes with its Pod.
    fn going(&self) -> Option<&'static str> {
        if !self.only_in_pod {
            return None;
        }
        let pushed = self.result.pushed.as_ref().map(|pushed| pushed.state);
        Some(match pushed {
            Some(PushState::Pushed | PushState::Nothing) => {
                "what is not committed, or not on this branch, is not pushed, and goes with its Pod"
            }
            // Unless it was too large for that; its message says it.
            Some(PushState::Refused | PushState::Failed) => {
                "this goes with its Pod; docs/tasks.md (Push) has the commands that take it out of the log of git-push before"
            }
            _ if self.result.error.is_some() || self.result.commits.is_none() => {
                "whatever the agent left there is not pushed anywhere, and goes with its Pod"
            }
            _ => "this is not pushed anywhere, and goes with its Pod",
        })
    }
}

/// Where an agent's work was brought to.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BroughtBack {
    pub(crate) repository: String,
    /// With its commits, and what it did not commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) branch: Option<String>,
    /// Whether the last commit of it is what the agent did not commit.
    pub(crate) uncommitted: bool,
    /// With what it had on other branches, or put aside.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) other_branches: Vec<String>,
    /// What a person calls the place that it began at.
    #[serde(skip)]
    pub(crate) from: String,
    /// Those of the branches that have no commit in common with that place.
    #[serde(skip)]
    pub(crate) unrelated: Vec<String>,
}

impl BroughtBack {
    fn lines(&self, printer: &Printer) -> Vec<String> {
        let Self {
            repository,
            branch,
            uncommitted,
            other_branches,
            from,
            unrelated,
        } = self;
        let place = shell::word(repository);
        let look = |branch: &String| {
            if unrelated.contains(branch) {
                format!("look at it with `git -C {place} log {branch}`")
            } else {
                format!("look at it with `git -C {place} diff {from}...{branch}`")
            }
        };
        let mut lines = Vec::new();
        if let Some(branch) = branch {
            let last = if *uncommitted {
                "; its last commit is what the agent did not commit"
            } else {
                ""
            };
            lines.push(format!(
                "  the work is in branch {} of {repository}{last}",
                printer.good(branch)
            ));
            let take = if unrelated.contains(branch) {
                String::new()
            } else {
                format!(", take it with `git -C {place} merge {branch}`")
            };
            lines.push(format!("  {}{take}", look(branch)));
        }
        for other in other_branches {
            lines.push(format!(
                "  what it had on another branch, or put aside, is in branch {} of {repository}",
                printer.good(other)
            ));
            lines.push(format!("  {}", look(other)));
        }
        lines
    }
}

impl TaskSummary {
    /// What the status of a Task says.
    pub(crate) fn of(task: &Task) -> Self {
        let status = task.status.clone().unwrap_or_default();
        let mut result = status.result.unwrap_or_default();
        let checkouts = std::mem::take(&mut result.checkouts);
        Self {
            name: task.name_any(),
            namespace: task.namespace().unwrap_or_default(),
            phase: status.phase.unwrap_or(TaskPhase::Pending),
            reason: status.reason,
            message: status.message,
            job: status.job_name,
            result,
            checkouts: checkouts.into_iter().map(CheckoutSummary::of).collect(),
            workspace: None,
        }
    }

    /// The exit status that says the same: the agent's own, 128 + N for signal N, that of `timeout` where its time or
    /// another limit was over; never 0 for what failed, or where its work could not be brought back.
    pub(crate) fn exit_status(&self) -> u8 {
        let reason = self.reason.as_deref().and_then(Reason::from_word);
        if matches!(reason, Some(Reason::Timeout | Reason::LimitExceeded)) {
            return TIMED_OUT;
        }
        let agent = match (self.result.exit_code, &self.result.signal) {
            (Some(code), _) => u8::try_from(code).unwrap_or(1),
            (None, Some(signal)) => 128 + signal_number(signal),
            (None, None) => u8::from(
                self.phase != TaskPhase::Completed || self.reason.as_deref() == Some("UserStopped"),
            ),
        };
        let mut checkouts = self.checkouts.iter();
        let is_lost = checkouts.any(|it| it.not_brought_back.is_some());
        if agent == 0 && (self.phase != TaskPhase::Completed || is_lost) {
            1
        } else {
            agent
        }
    }

    /// For people.
    pub(crate) fn print(&self, printer: &Printer) {
        let phase = format!("{:?}", self.phase);
        let phase = match (self.phase, self.reason.as_deref()) {
            (TaskPhase::Completed, Some("Succeeded")) => printer.good(&phase),
            _ => printer.bad(&phase),
        };
        let mut text = phase;
        if let Some(duration_millis) = self.result.duration_millis {
            let _ = write!(text, " after {}", duration(duration_millis));
        }
        if let Some(reason) = &self.reason {
            let _ = write!(text, " ({reason})");
        }
        if let Some(message) = self
            .message
            .as_ref()
            .filter(|_| self.reason.as_deref() != Some("Succeeded"))
        {
            let _ = write!(text, ": {message}");
        }
        if self.result.outcome == Some(TaskOutcome::NoChanges) {
            text.push_str(", and nothing was changed");
        }
        // In one piece: other Tasks may go on printing.
        text.extend(
            self.more(printer)
                .into_iter()
                .map(|line| format!("\n{line}")),
        );
        printer.about(&self.name, &text);
    }

    /// The lines after the first.
    fn more(&self, printer: &Printer) -> Vec<String> {
        let used = Used::of_result(&self.result);
        let mut lines: Vec<String> = used
            .map(|used| format!("  {}", used.line()))
            .into_iter()
            .collect();
        for summary in &self.checkouts {
            let result = &summary.result;
            lines.push(format!("  {}: {}", result.path, checkout(result)));
            let newest = result.newest.iter();
            lines.extend(newest.map(|commit| format!("    {} {}", commit.id, commit.subject)));
            let brought = summary.brought_back.iter();
            lines.extend(brought.flat_map(|brought| brought.lines(printer)));
            let missing = summary.not_brought_back.iter();
            lines.extend(missing.map(|why| format!("  {}", printer.bad(why))));
            lines.extend(
                summary
                    .going()
                    .map(|going| format!("  {}", printer.bad(going))),
            );
            if let Some(place) = &summary.kept {
                lines.push(format!(
                    "  what the agent left there is nowhere else, so it is kept: {place}"
                ));
            }
        }
        if let Some(omitted) = self.result.omitted_checkouts {
            let omitted = count(u64::try_from(omitted).unwrap_or_default(), "more checkout");
            lines.push(format!("  {omitted}, for which the report had no room"));
        }
        if let Some(workspace) = &self.workspace {
            lines.push(format!("  the workspace is kept in {workspace}"));
        }
        lines
    }
}

/// A checkout in one line.
pub(crate) fn checkout(checkout: &CheckoutResult) -> String {
    if let Some(error) = &checkout.error {
        return error.clone();
    }
    let place = match &checkout.branch {
        Some(branch) => format!("branch {branch}"),
        None => "no branch".to_owned(),
    };
    let number = |number: i32| u64::try_from(number).unwrap_or_default();
    let mut commits = match checkout.commits {
        None => "how many new commits is not known".to_owned(),
        Some(0) => "no new commits".to_owned(),
        Some(commits) => count(number(commits), "new commit"),
    };
    if let Some(others) = checkout.other_commits.filter(|others| *others > 0) {
        let others = count(number(others), "commit");
        let _ = write!(commits, ", {others} on other branches or put aside");
    }
    let dirty = if checkout.dirty == Some(true) {
        ", and changes that are not committed"
    } else {
        ""
    };
    let pushed = match &checkout.pushed {
        Some(pushed) if pushed.state == PushState::Pushed => {
            let note = pushed.message.as_ref();
            let note = note.map_or_else(String::new, |note| format!(" ({note})"));
            format!("; pushed to branch {}{note}", pushed.branch)
        }
        Some(pushed) if pushed.state != PushState::Nothing => "; not pushed".to_owned(),
        _ => String::new(),
    };
    format!(
        "{place} at {}, {commits}{dirty}{pushed}",
        short(checkout.head.as_deref())
    )
}

fn short(commit: Option<&str>) -> &str {
    commit.map_or("?", |commit| commit.get(..10).unwrap_or(commit))
}

/// Milliseconds for people.
pub(crate) fn duration(milliseconds: i64) -> String {
    match milliseconds {
        0..10_000 => format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100),
        _ => crate::table::duration(milliseconds / 1000),
    }
}

fn signal_number(name: &str) -> u8 {
    match name {
        "SIGHUP" => 1,
        "SIGINT" => 2,
        "SIGQUIT" => 3,
        "SIGILL" => 4,
        "SIGTRAP" => 5,
        "SIGABRT" => 6,
        "SIGBUS" => 7,
        "SIGFPE" => 8,
        "SIGUSR1" => 10,
        "SIGSEGV" => 11,
        "SIGUSR2" => 12,
        "SIGPIPE" => 13,
        "SIGALRM" => 14,
        "SIGTERM" => 15,
        // SIGKILL, and what nobody has a name for.
        _ => 9,
    }
}
