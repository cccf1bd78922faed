//! What has to hold after every trouble, whatever it was.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::Result;
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ConfigMap, Pod},
};
use kube::Api;
use kubeopencode_api::{
    names,
    v1alpha1::{Task, TaskPhase},
};

use kubeopencode_engine::state::Reason;

use super::stage::{SOON, Stage};
use crate::{api, counter::Runs};

/// Longest time until all Tasks have ended, after the trouble is over.
const PATIENCE: Duration = Duration::from_mins(10);
/// Open files of an operator: 48 rounds at once, 6 watches, 8 Events and the election are connections.
const OPEN_FILES: usize = 100;
/// Memory of an operator in MiB, with 200 Tasks.
const MEMORY: u64 = 100;

/// How the Tasks may end: Completed, each after one run of its agent, or Failed because what they ran on is lost. Of
/// those nobody knows how far their agents got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ends {
    /// How many are lost at least.
    pub(super) lost_at_least: usize,
    /// And at most.
    pub(super) lost_at_most: usize,
}

impl Ends {
    /// None is lost.
    pub(super) const WELL: Self = Self {
        lost_at_least: 0,
        lost_at_most: 0,
    };
}

pub(super) async fn judge(stage: &mut Stage<'_>, ends: Ends) -> Result<()> {
    let lost = every_task_ended(stage, ends).await?;
    every_agent_ran_once(
        stage,
        &lost,
        "every agent ran exactly once, by its own count",
    );
    one_leads(stage).await?;
    costs_are_bounded(stage)?;
    nothing_is_left(stage, "with the Tasks go all Jobs, Pods and ConfigMaps").await?;
    if let Some(refused) = stage.refused() {
        let what = "no operator was refused anything, with the rights of the chart";
        let is_none = refused.is_empty();
        stage.checks.check(what, is_none, refused.join(", "));
    }
    everybody_goes(stage).await?;
    // Nobody is there any more who could make a Pod, and there is none: what is counted now is final.
    nothing_is_left(stage, "and nothing has come since").await?;
    every_agent_ran_once(stage, &lost, "no agent ran once more until then");
    Ok(())
}

/// Answers which of them are lost.
async fn every_task_ended(stage: &mut Stage<'_>, ends: Ends) -> Result<BTreeSet<String>> {
    let expected = stage.created;
    let mut seen = BTreeMap::new();
    let ended = |tasks: &BTreeMap<String, Task>| {
        seen.clone_from(tasks);
        tasks.len() == expected
            && tasks
                .values()
                .all(|task| phase(task).is_some_and(is_terminal))
    };
    api::until(
        stage.tasks.clone(),
        "",
        PATIENCE,
        "the end of all Tasks",
        ended,
    )
    .await?;
    let lost: BTreeSet<String> = seen
        .iter()
        .filter(|(_, task)| ends != Ends::WELL && is_lost(task))
        .map(|(name, _)| name.clone())
        .collect();
    let others: Vec<String> = seen
        .iter()
        .filter(|(name, task)| phase(task) != Some(TaskPhase::Completed) && !lost.contains(*name))
        .map(|(name, task)| {
            let status = task.status.clone().unwrap_or_default();
            format!(
                "{name}: {} {}",
                status.reason.unwrap_or_default(),
                status.message.unwrap_or_default()
            )
        })
        .collect();
    let well = expected - others.len() - lost.len();
    if ends == Ends::WELL {
        stage.checks.check(
            "every Task is Completed",
            others.is_empty(),
            format!("{well} of {expected} {}", others.join("; ")),
        );
    } else {
        let as_expected = (ends.lost_at_least..=ends.lost_at_most).contains(&lost.len());
        stage.checks.check(
            "every Task is Completed, or lost with what it ran on",
            as_expected && others.is_empty(),
            format!(
                "{} of {expected} lost, where it may be {} to {}, and {well} well {}",
                lost.len(),
                ends.lost_at_least,
                ends.lost_at_most,
                others.join("; ")
            ),
        );
        let words: BTreeSet<&str> = (lost.iter())
            .filter_map(|name| seen.get(name)?.status.as_ref()?.message.as_deref())
            .collect();
        let words: Vec<&str> = words.into_iter().collect();
        stage.checks.note(format!("lost: {}", words.join("; ")));
    }
    Ok(lost)
}

/// It has failed because something was lost that it ran on.
fn is_lost(task: &Task) -> bool {
    let reason = task.status.as_ref().and_then(|now| now.reason.as_deref());
    reason == Some(Reason::InfrastructureError.as_str())
}

fn phase(task: &Task) -> Option<TaskPhase> {
    task.status.as_ref().and_then(|status| status.phase)
}

/// That of a Task that is lost at most once.
fn every_agent_ran_once(stage: &mut Stage<'_>, lost: &BTreeSet<String>, what: &str) {
    let runs = stage.setting.counter.runs(&stage.namespace);
    let wrong: Vec<String> = runs
        .iter()
        .filter_map(|(task, runs)| {
            if lost.contains(task) {
                (runs.started.len() > 1).then(|| format!("{task} started twice"))
            } else {
                not_once((task, runs))
            }
        })
        .collect();
    let expected = stage.created;
    let others = runs.keys().filter(|task| !lost.contains(*task)).count();
    stage.checks.check(
        what,
        wrong.is_empty() && others + lost.len() == expected,
        format!(
            "{} of {expected} {}",
            expected - wrong.len(),
            wrong.join("; ")
        ),
    );
}

/// What is wrong with the runs of a Task's agent, if anything is.
fn not_once((task, runs): (&String, &Runs)) -> Option<String> {
    let (started, ended) = (runs.started.len(), runs.ended.len());
    (started != 1 || runs.ended != runs.started)
        .then(|| format!("{task} started {started}, ended {ended} times"))
}

async fn one_leads(stage: &mut Stage<'_>) -> Result<()> {
    let leader = stage.leader().await?;
    let name = stage.operators[leader].operator.name.clone();
    stage
        .checks
        .check("the Lease is held by one that lives", true, name);
    Ok(())
}

fn costs_are_bounded(stage: &mut Stage<'_>) -> Result<()> {
    let mut usages = Vec::new();
    for wired in &stage.operators {
        usages.push(wired.operator.usage()?);
    }
    let files = usages
        .iter()
        .map(|usage| usage.open_files)
        .max()
        .unwrap_or_default();
    let memory = usages
        .iter()
        .map(|usage| usage.peak_kib)
        .max()
        .unwrap_or_default()
        / 1024;
    stage.checks.check(
        "no operator has more open files than it can have connections",
        files <= OPEN_FILES,
        format!("{files}"),
    );
    stage.checks.check(
        "no operator has used more memory than it should",
        memory <= MEMORY,
        format!("{memory} MiB at most"),
    );
    Ok(())
}

async fn nothing_is_left(stage: &mut Stage<'_>, what: &str) -> Result<()> {
    api::delete_tasks(&stage.tasks).await?;
    let client = || stage.setting.client.clone();
    let namespace = &stage.namespace;
    let ours = format!("{}={}", names::LABEL_MANAGED_BY, names::MANAGER);
    let left = async {
        api::until(
            stage.tasks.clone(),
            "",
            SOON,
            "the deletion of all Tasks",
            BTreeMap::is_empty,
        )
        .await?;
        let jobs = Api::<Job>::namespaced(client(), namespace);
        api::until(
            jobs,
            "",
            SOON,
            "the deletion of all Jobs",
            BTreeMap::is_empty,
        )
        .await?;
        let pods = Api::<Pod>::namespaced(client(), namespace);
        api::until(
            pods,
            "",
            SOON,
            "the deletion of all Pods",
            BTreeMap::is_empty,
        )
        .await?;
        let files = Api::<ConfigMap>::namespaced(client(), namespace);
        api::until(
            files,
            &ours,
            SOON,
            "the deletion of all ConfigMaps",
            BTreeMap::is_empty,
        )
        .await
    };
    let left = left.await;
    stage.checks.check(
        what,
        left.is_ok(),
        left.err()
            .map_or_else(|| "nothing is left".to_owned(), |error| error.to_string()),
    );
    Ok(())
}

async fn everybody_goes(stage: &mut Stage<'_>) -> Result<()> {
    let mut longest = Duration::ZERO;
    for wired in std::mem::take(&mut stage.operators) {
        longest = longest.max(wired.operator.end(Duration::from_secs(30)).await?);
    }
    let released = stage
        .leases
        .until(Duration::from_secs(5), |holder| holder.name.is_empty());
    let released = released.await.is_some();
    stage.checks.check(
        "operators end when they are told to, and nobody holds the Lease then",
        released,
        format!("after {:.1} s at most", longest.as_secs_f64()),
    );
    Ok(())
}

fn is_terminal(phase: TaskPhase) -> bool {
    matches!(phase, TaskPhase::Completed | TaskPhase::Failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_ran_once_if_one_run_started_and_the_same_one_ended() {
        let task = "task-0001".to_owned();
        let of = |started: &[&str], ended: &[&str]| {
            let set = |runs: &[&str]| runs.iter().map(|run| (*run).to_owned()).collect();
            let (started, ended) = (set(started), set(ended));
            not_once((&task, &Runs { started, ended }))
        };
        assert_eq!(of(&["a"], &["a"]), None);
        let again = of(&["a", "b"], &["a"]);
        assert_eq!(again.as_deref(), Some("task-0001 started 2, ended 1 times"));
        assert!(of(&["a"], &[]).is_some());
        assert!(of(&["a"], &["b"]).is_some());
    }
}
