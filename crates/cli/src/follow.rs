//! Follows a Task to its end: each change of its phase, and what its agent prints while it prints it.

mod changes;
mod logs;
mod output;
mod position;
mod secrets;

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::future::OptionFuture;
use kube::{Client, ResourceExt as _};
use kubeopencode_api::v1alpha1::{Task, TaskPhase};
use tokio::task::JoinHandle;

use crate::{failure::Failure, pods, printer::Printer};

use changes::Changes;
pub(crate) use logs::{Cut, container_state, copy};
pub(crate) use output::{Output, Show};

/// What is said about a Task, besides what its agent prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Talk {
    /// Every change of phase, on standard error.
    Phases,
    /// Why the agent prints nothing yet, on standard error, once for each reason.
    Waiting,
}

/// How long a started Task may be without a running agent and without a reason in its status before a person is told
/// where to look.
const QUIET: Duration = Duration::from_secs(10);

/// A Task as it ended.
pub(crate) struct Followed {
    pub(crate) task: Task,
    /// Why its log is not all of it.
    pub(crate) cut: Option<Cut>,
}

/// Follows a Task until it has ended and everything that its agent printed is printed, as far as it can be had.
pub(crate) async fn follow(
    client: &Client,
    namespace: &str,
    name: &str,
    output: Output,
    about: Talk,
    printer: &Printer,
) -> Result<Followed, Failure> {
    let mut changes = Changes::new(client, namespace, name, printer);
    // Of the Job of the present attempt, by its name.
    let mut logs: Option<(String, JoinHandle<Result<(), logs::Cut>>)> = None;
    let mut said = String::new();
    let begun = Arc::new(AtomicBool::new(false));
    let mut quiet = pin!(OptionFuture::from(None));
    let ended = loop {
        let task = tokio::select! {
            task = changes.next() => task?,
            Some(()) = quiet.as_mut() => {
                quiet.set(None.into());
                if said.is_empty() && !begun.load(Ordering::Relaxed) {
                    printer.about(name, &format!("its agent has not started yet; `kubeopencode task why {name}` says more"));
                }
                continue;
            }
        };
        match about {
            Talk::Phases => say(&task, &mut said, printer),
            Talk::Waiting => say_why(&task, &mut said, printer),
        }
        let status = task.status.clone().unwrap_or_default();
        if let (Some(job), Some(_)) = (&status.job_name, &status.start_time)
            && logs.as_ref().is_none_or(|(followed, _)| followed != job)
        {
            let (client, namespace, of, output, begun) = (
                client.clone(),
                namespace.to_owned(),
                job.clone(),
                output.clone(),
                Arc::clone(&begun),
            );
            let following = tokio::spawn(async move {
                logs::of_job(&client, &namespace, &of, &output, &begun).await
            });
            // That of an attempt before has ended, or is about to: its agent was never started.
            logs = Some((job.clone(), following));
            if about == Talk::Waiting {
                quiet.set(Some(tokio::time::sleep(QUIET)).into());
            }
        }
        if is_terminal(status.phase) {
            break task;
        }
    };
    let cut = match logs {
        Some((_, logs)) => finish_logs(client, &ended, logs).await,
        None => None,
    };
    output.finish();
    printer.progress_end();
    Ok(Followed { task: ended, cut })
}

/// Whether nothing changes after this phase.
pub(crate) fn is_terminal(phase: Option<TaskPhase>) -> bool {
    matches!(phase, Some(TaskPhase::Completed | TaskPhase::Failed))
}

/// Says where the Task is, when that has changed.
fn say(task: &Task, said: &mut String, printer: &Printer) {
    let status = task.status.clone().unwrap_or_default();
    let phase = status.phase.unwrap_or(TaskPhase::Pending);
    let text = match phase {
        // The end is in the summary.
        TaskPhase::Completed | TaskPhase::Failed => return,
        TaskPhase::Running => match &status.job_name {
            Some(job) => format!("Running (job {job})"),
            None => "Running".to_owned(),
        },
        TaskPhase::Pending | TaskPhase::Queued => format!("{phase:?}"),
    };
    // An Agent of the same name is one that the command line makes, right after the Task.
    let is_made = task.spec.agent_ref == task.metadata.name;
    let namespace = task.namespace().unwrap_or_default();
    let made = format!("waits for Agent {namespace}/{}", task.name_any());
    let message = status.message.as_ref();
    let text = match message.filter(|message| !(is_made && **message == made)) {
        Some(message) => format!("{text}: {message}"),
        None => text,
    };
    if *said != text {
        printer.about(&task.name_any(), &text);
        printer.progress(&format!("{} {phase:?}", task.name_any()));
        *said = text;
    }
}

/// Says why the agent prints nothing, when the status has a reason for it, and a new one.
fn say_why(task: &Task, said: &mut String, printer: &Printer) {
    let status = task.status.clone().unwrap_or_default();
    if let Some(message) = status.message.filter(|_| !is_terminal(status.phase))
        && *said != message
    {
        printer.about(&task.name_any(), &message);
        *said = message;
    }
}

/// Waits for the rest of the logs, unless there is no container that could have any. Answers why it is not all of them.
async fn finish_logs(
    client: &Client,
    task: &Task,
    mut logs: JoinHandle<Result<(), logs::Cut>>,
) -> Option<Cut> {
    let job = task
        .status
        .as_ref()
        .and_then(|status| status.job_name.clone())
        .unwrap_or_default();
    let namespace = task.namespace().unwrap_or_default();
    // Where nobody says that no agent ran, its log is waited for.
    let ran = pods::of_job(client, &namespace, &job)
        .await
        .map_or(true, |pods| {
            pods.iter()
                .any(|pod| logs::has_ended(pod) || logs::has_started(pod))
        });
    if !ran {
        logs.abort();
        return None;
    }
    match tokio::time::timeout(logs::PATIENCE, &mut logs).await {
        // Aborting it is no fault of anybody.
        Ok(Ok(Ok(())) | Err(_)) => None,
        Ok(Ok(Err(cut))) => Some(cut),
        Err(_) => {
            logs.abort();
            Some(Cut::Late)
        }
    }
}
