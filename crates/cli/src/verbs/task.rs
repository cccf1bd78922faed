//! `task …`: create, list, get, logs, stop, why, delete.

mod list;
mod logs;
mod queue;
mod why;

use jiff::Timestamp;
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use kubeopencode_api::{
    names,
    v1alpha1::{Task, TaskPhase},
};
use kubeopencode_engine::lower::{FrontEnd as _, kubeopencode::TaskFrontEnd};
use serde_json::json;

use crate::{
    cli::{CreateArgs, GetArgs, NamedArgs, TaskCommand},
    create,
    failure::{Failure, Problem},
    follow,
    lowering::Sources,
    machine, manifest,
    printer::Printer,
    table,
    target::{self, Target},
    used::Used,
};

/// Does it.
pub(crate) async fn task(command: &TaskCommand, printer: &Printer) -> Result<(), Failure> {
    match command {
        TaskCommand::Create(arguments) => create_all(arguments, printer).await,
        TaskCommand::List(arguments) => list::list(arguments, printer).await,
        TaskCommand::Get(arguments) => get(arguments, printer).await,
        TaskCommand::Logs(arguments) => logs::logs(arguments, printer).await,
        TaskCommand::Stop(arguments) => stop(arguments, printer).await,
        TaskCommand::Why(arguments) => why::why(arguments, printer).await,
        TaskCommand::Delete(arguments) => delete(arguments, printer).await,
    }
}

async fn create_all(arguments: &CreateArgs, printer: &Printer) -> Result<(), Failure> {
    let target = target::connect(&arguments.target).await?;
    let manifests = manifest::load(&arguments.files, &target.namespace)?;
    manifest::repository::refuse(&manifests)?;
    let sources = Sources {
        manifests: &manifests,
        client: Some(&target.client),
    };
    let runs = create::check(
        &manifests,
        &sources,
        &create::settings(target.data_dir.is_some()),
        create::Missing::Waits,
    )
    .await?;
    if let Some(data_dir) = &target.data_dir {
        let search = machine::Search::of_local(data_dir);
        // It may be installed before the Task begins.
        for lacking in runs.iter().filter_map(|run| machine::lacking(run, &search)) {
            printer.warn_of(&lacking.problem());
        }
    }
    let written = create::create(
        &target.client,
        &manifests,
        create::Namespaces::Expected,
        create::Present::Changed,
    )
    .await?;
    for (manifest, written) in manifests.iter().zip(written) {
        printer.text(&format!(
            "{}/{} {}",
            manifest.kind.singular,
            manifest.name(),
            written.word()
        ));
    }
    Ok(())
}

/// A row, with the namespace in front when Tasks of several are shown.
pub(super) fn row<const N: usize>(
    with_namespace: bool,
    namespace: &str,
    cells: [String; N],
) -> Vec<String> {
    with_namespace
        .then(|| namespace.to_owned())
        .into_iter()
        .chain(cells)
        .collect()
}

async fn get(arguments: &GetArgs, printer: &Printer) -> Result<(), Failure> {
    let target = target::connect(&arguments.target).await?;
    let task = fetch(&target, &arguments.name).await?;
    if let Some(format) = arguments.output {
        return table::objects("task.kubeopencode.io", &[task], true, format, printer);
    }
    printer.text(&table::render(&facts(&task)));
    Ok(())
}

/// What is known of a Task, a row each: all that kubectl has in its columns, and more.
fn facts(task: &Task) -> Vec<Vec<String>> {
    let status = task.status.clone().unwrap_or_default();
    let result = status.result.unwrap_or_default();
    let mut rows = Vec::new();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            rows.push(vec![format!("{name}:"), value]);
        }
    };
    add("Name", Some(task.name_any()));
    add("Namespace", task.namespace());
    let phase = status.phase.unwrap_or(TaskPhase::Pending);
    add("Phase", Some(format!("{phase:?}")));
    let created = task.creation_timestamp().map(|time| time.0);
    add("Age", Some(table::age(created, Timestamp::now())));
    add("Reason", status.reason);
    add("Message", status.message);
    // Before it has started, the one that it asks for.
    add("Agent", Some(TaskFrontEnd::agent(task).to_owned()));
    add("Job", status.job_name);
    add(
        "Outcome",
        result.outcome.map(|outcome| format!("{outcome:?}")),
    );
    add("Exit code", result.exit_code.map(|code| code.to_string()));
    add("Signal", result.signal.clone());
    add(
        "Duration",
        result.duration_millis.map(crate::summary::duration),
    );
    add("Used", Used::of_result(&result).map(|used| used.line()));
    add("Commits", result.commits.map(|commits| commits.to_string()));
    for checkout in &result.checkouts {
        add(&checkout.path, Some(crate::summary::checkout(checkout)));
    }
    rows
}

async fn stop(arguments: &NamedArgs, printer: &Printer) -> Result<(), Failure> {
    let target = target::connect(&arguments.target).await?;
    let task = fetch(&target, &arguments.name).await?;
    if follow::is_terminal(task.status.as_ref().and_then(|status| status.phase)) {
        printer.line(&format!("{} has already ended.", arguments.name));
        return Ok(());
    }
    request_stop(&target.client, &target.namespace, &arguments.name).await?;
    let started = task
        .status
        .is_some_and(|status| status.start_time.is_some());
    let rest = if started {
        "it ends the agent, which has its grace period, and the Task is Completed, unless its time was over before. Pod and \
         logs stay."
    } else {
        "the Task is Completed, and its agent does not start."
    };
    printer.line(&format!(
        "{} is asked to stop (annotation {}=true). The operator does the rest: {rest}",
        arguments.name,
        names::ANNOTATION_STOP
    ));
    Ok(())
}

/// Sets the annotation that asks for a stop.
pub(crate) async fn request_stop(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<(), kube::Error> {
    let tasks: Api<Task> = Api::namespaced(client.clone(), namespace);
    let patch = json!({"metadata": {"annotations": {(names::ANNOTATION_STOP): "true"}}});
    tasks
        .patch_metadata(name, &PatchParams::default(), &Patch::Merge(patch))
        .await?;
    Ok(())
}

async fn delete(arguments: &NamedArgs, printer: &Printer) -> Result<(), Failure> {
    let target = target::connect(&arguments.target).await?;
    fetch(&target, &arguments.name).await?;
    let tasks: Api<Task> = Api::namespaced(target.client.clone(), &target.namespace);
    tasks
        .delete(&arguments.name, &DeleteParams::background())
        .await?;
    printer.line(&format!(
        "{} is deleted, with its Job, Pod and logs.",
        arguments.name
    ));
    Ok(())
}

/// A Task by its name, or an error that says where it was looked for.
async fn fetch(target: &Target, name: &str) -> Result<Task, Failure> {
    let tasks: Api<Task> = Api::namespaced(target.client.clone(), &target.namespace);
    if let Some(task) = tasks.get_opt(name).await? {
        return Ok(task);
    }
    let found = tasks.list_metadata(&ListParams::default()).await?.items;
    let known: Vec<String> = found.iter().map(kube::ResourceExt::name_any).collect();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let problem = Problem::new(format!(
        "there is no Task {name:?} in namespace {}",
        target.namespace
    ));
    let longer = known.iter().copied().find(|known| known.starts_with(name));
    Err(
        match longer.or_else(|| manifest::check::nearest(name, &known)) {
            Some(nearest) => problem.hint(format!("did you mean {nearest}?")),
            None => problem.hint("`kubeopencode task list --all-namespaces` lists all"),
        }
        .failed(),
    )
}
