//! A row of the table in `docs/failures.md`: something goes wrong, and what becomes of the Task.
//!
//! Rows come from scenarios, which say it in their steps, and from `rows.yaml` for what only other tests can show; those
//! compare what they see with their row.

use std::fmt;

use serde::Deserialize;

/// Something that goes wrong.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Row {
    /// The table it stands in: a marker `<!-- rows: GROUP -->` of the page.
    pub group: String,
    /// What goes wrong.
    pub when: String,
    /// What the Task says before it ends, if it says something.
    #[serde(default)]
    pub meanwhile: Vec<String>,
    /// How the Task ends; None: it is gone.
    pub ends: Option<End>,
    /// Reasons of the Task's Events.
    pub events: Vec<String>,
    /// What there is afterwards.
    pub left: Left,
    /// What shows it: a scenario's name, or `FILE::FUNCTION`.
    pub shown: String,
    /// The kind of cluster that alone can show it.
    #[serde(default)]
    pub only: Option<String>,
}

/// How a Task ends.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct End {
    /// Completed or Failed.
    pub phase: String,
    /// The terminal reason.
    pub reason: String,
    /// A part of the message.
    pub message: String,
    /// Attempts that were begun.
    pub attempts: u64,
}

/// What there is of a Task's Job and Pod after its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Left {
    /// The Job.
    pub job: Job,
    /// The logs, which live as long as their Pod.
    pub logs: Logs,
    /// Its slot of the Agent, which has a limit.
    #[serde(default)]
    pub slot: Slot,
}

/// What there is of the Job of the last attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Job {
    /// It is there.
    Stays,
    /// It is there, suspended.
    Suspended,
    /// It is there and makes no Pod.
    Closed,
    /// It is not there any more.
    Gone,
    /// The Task has none on record.
    Never,
}

/// Whose logs can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Logs {
    /// The agent's.
    Agent,
    /// The agent's, unless the kubelet was quicker: it removes the containers of a Pod that it evicts.
    Perhaps,
    /// The init containers'; the agent did not start.
    Init,
    /// Nobody's: nothing of the Pod started, or there is no Pod any more.
    None,
}

/// What there is of the slot that a Task had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Slot {
    /// It was given back.
    #[default]
    Free,
    /// The Task never had one.
    Never,
    /// It is gone with its Agent.
    Gone,
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Free => "given back",
            Self::Never => "none was taken",
            Self::Gone => "gone with the Agent",
        })
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stays => "stays",
            Self::Suspended => "stays, suspended",
            Self::Closed => "stays, closed",
            Self::Gone => "gone",
            Self::Never => "none was on record",
        })
    }
}

impl fmt::Display for Logs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Agent => "the agent's stay",
            Self::Perhaps => "the agent's, unless the kubelet has removed its container",
            Self::Init => "those of the init containers stay",
            Self::None => "none",
        })
    }
}
