//! `task logs`: what a container of the Task's Pod printed, or why there is nothing.

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt as _};
use kubeopencode_api::{names::container::AGENT, v1alpha1::Task};

use super::fetch;
use crate::{
    cli::LogsArgs,
    failure::{Failure, Problem},
    follow::{self, Cut, Followed, Output, Show, Talk},
    pods,
    printer::Printer,
    target::{self, Target},
};

/// Prints it; of an agent that is followed, to the end of its Task.
pub(super) async fn logs(arguments: &LogsArgs, printer: &Printer) -> Result<(), Failure> {
    let target = target::connect(&arguments.target).await?;
    let task = fetch(&target, &arguments.name).await?;
    let show = Show {
        raw: arguments.raw,
        ..Show::default()
    };
    let output = Output::new(printer, &arguments.name, show);
    let ended = if arguments.follow && arguments.container == AGENT {
        to_the_end(&target, &task, &output, printer).await
    } else {
        of_container(&target, &task, arguments, &output, printer).await
    };
    if let Some(total) = output.total() {
        printer.text(&total);
    }
    ended
}

/// What the agent prints, in whichever attempt.
async fn to_the_end(
    target: &Target,
    task: &Task,
    output: &Output,
    printer: &Printer,
) -> Result<(), Failure> {
    let Followed { task: ended, cut } = follow::follow(
        &target.client,
        &task.namespace().unwrap_or_default(),
        &task.name_any(),
        output.clone(),
        Talk::Waiting,
        printer,
    )
    .await?;
    if let Some(why) = cut {
        let name = ended.name_any();
        let again = match why {
            // Nobody has it any more.
            Cut::Rotated => String::new(),
            _ => format!("`kubeopencode task logs {name}` tries again; "),
        };
        return Err(Problem::new(format!("{name}: {why}"))
            .hint(format!(
                "{again}`kubeopencode task get {name}` says how the Task ended"
            ))
            .failed());
    }
    match pods::of_task(&target.client, &ended).await? {
        Some(_) => Ok(()),
        None => Err(ended_without_logs(&ended)),
    }
}

/// What a container has printed, and with `--follow` goes on to print.
async fn of_container(
    target: &Target,
    task: &Task,
    arguments: &LogsArgs,
    output: &Output,
    printer: &Printer,
) -> Result<(), Failure> {
    let container = &arguments.container;
    let pod = pods::of_task(&target.client, task)
        .await?
        .ok_or_else(|| not_yet(task))?;
    has_begun(&pod, task, container)?;
    let pods: Api<Pod> = Api::namespaced(target.client.clone(), &target.namespace);
    let copied = follow::copy(&pods, &pod.name_any(), container, arguments.follow, output).await;
    output.finish();
    printer.progress_end();
    copied.map_err(|cut| Problem::new(format!("{container}: {cut}")).failed())
}

/// An error where a container has printed nothing, with the reason.
fn has_begun(pod: &Pod, task: &Task, container: &str) -> Result<(), Failure> {
    let begun = follow::container_state(pod, container).is_some();
    let spec = pod.spec.iter();
    let known: Vec<&str> = spec
        .flat_map(|spec| {
            let first = spec.init_containers.iter().flatten();
            first.chain(&spec.containers)
        })
        .map(|container| container.name.as_str())
        .collect();
    if !begun && !known.contains(&container) {
        return Err(Problem::new(format!("there is no container {container:?}"))
            .hint(format!("there are: {}", known.join(", ")))
            .input());
    }
    if let Some(problem) = never_ran(pod, &task.name_any(), container) {
        return Err(problem.failed());
    }
    if begun { Ok(()) } else { Err(not_yet(task)) }
}

/// Why a Task without a Pod has nothing to print.
fn not_yet(task: &Task) -> Failure {
    if follow::is_terminal(task.status.as_ref().and_then(|status| status.phase)) {
        return ended_without_logs(task);
    }
    let name = task.name_any();
    Problem::new(format!(
        "the Task {name} has no Pod yet, so there are no logs"
    ))
    .hint(format!(
        "`kubeopencode task why {name}` says what it waits for; `--follow` waits"
    ))
    .failed()
}

/// Why a container of a Pod that has ended has no logs; none when it has.
fn never_ran(pod: &Pod, task: &str, container: &str) -> Option<Problem> {
    let status = pod.status.as_ref()?;
    let ran = follow::container_state(pod, container)
        .is_some_and(|state| state.running.is_some() || state.terminated.is_some());
    if ran || status.phase.as_deref() != Some("Failed") {
        return None;
    }
    let failed = status
        .init_container_statuses
        .iter()
        .flatten()
        .find(|init| {
            let ended = init
                .state
                .as_ref()
                .and_then(|state| state.terminated.as_ref());
            ended.is_some_and(|ended| ended.exit_code != 0)
        });
    if let Some(init) = failed {
        let init = &init.name;
        return Some(
            Problem::new(format!(
                "{init} failed, so {container} never ran and has no logs"
            ))
            .hint(format!(
                "`kubeopencode task logs -c {init} {task}` shows why"
            )),
        );
    }
    let why = status.message.as_deref().or(status.reason.as_deref());
    let why = why.unwrap_or("the Pod failed before");
    Some(
        Problem::new(format!("{container} never ran and has no logs: {why}")).hint(format!(
            "`kubeopencode task why {task}` says how the Task ended"
        )),
    )
}

/// Why a Task that has ended has nothing to print.
fn ended_without_logs(task: &Task) -> Failure {
    let status = task.status.clone().unwrap_or_default();
    let told: Vec<String> = status.reason.into_iter().chain(status.message).collect();
    Problem::new(format!(
        "the Task {} has ended without logs that are still there ({})",
        task.name_any(),
        told.join(": ")
    ))
    .failed()
}
