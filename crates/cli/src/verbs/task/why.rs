//! `task why`: asks the engine what it makes of the Task as it is now, and while that waits for its Pod, what the
//! cluster warns about: a missing volume, for one, is told by the kubelet in an Event and nowhere else.

use jiff::Timestamp;
use k8s_openapi::api::{batch::v1::Job, core::v1::Event};
use kube::{Api, Client, api::ListParams};
use kubeopencode_engine::{
    decide::{self, Input},
    lower::{FrontEnd as _, Setting, Source, kubeopencode::TaskFrontEnd},
    observe::{ContainerState, JobView, Observation, PodView},
};

use super::queue::{self, Place};
use crate::{
    cli::NamedArgs,
    create,
    failure::{Failure, Problem},
    lowering::{self, Sources},
    pods,
    printer::Printer,
    table, target,
};

/// Prints where a Task stands, in sentences.
pub(super) async fn why(arguments: &NamedArgs, printer: &Printer) -> Result<(), Failure> {
    let target = target::connect(&arguments.target).await?;
    let task = super::fetch(&target, &arguments.name).await?;
    let owner = TaskFrontEnd::owner(&task)
        .ok_or_else(|| Problem::new(format!("the Task {} has no UID", arguments.name)).failed())?;
    let state = TaskFrontEnd::state(&task);
    let settings = create::settings(target.data_dir.is_some());
    let sources = Sources {
        manifests: &[],
        client: Some(&target.client),
    };
    let (lowered, told) = lowering::lower_and_tell(&task, &sources, &settings).await?;

    let jobs: Api<Job> = Api::namespaced(target.client.clone(), &target.namespace);
    let job_name = decide::job_name(&owner, &state);
    let pods = pods::of_job(&target.client, &target.namespace, &job_name).await?;
    let place = queue::place(&target, &task).await?;
    let observation = Observation {
        superseded: Vec::new(),
        job: jobs.get_opt(&job_name).await?.as_ref().map(JobView::of),
        pods: pods.iter().map(PodView::of).collect(),
        slot: place.as_ref().map(|place| place.slot.clone()),
        confirmed: true,
        ..Observation::default()
    };
    let now = Timestamp::now();
    let mut sentences = decide::explain(&Input {
        owner: &owner,
        state: &state,
        lowered: Some(&lowered),
        observation: &observation,
        stop_requested: TaskFrontEnd::stop_requested(&task),
        deleting: task.metadata.deletion_timestamp.is_some(),
        now,
    });
    let stopping = TaskFrontEnd::stop_requested(&task) || state.stop_is_recorded();
    // Whoever is to stop does not wait for a slot.
    sentences.extend(place.as_ref().filter(|_| !stopping).and_then(Place::why));
    let began = |pod: &PodView| {
        let agent = pod.agent.as_ref().map(|agent| &agent.state);
        !matches!(agent, None | Some(ContainerState::Waiting { .. }))
    };
    if !state.phase.is_terminal() && !observation.pods.iter().any(began) {
        let objects = observation
            .pods
            .iter()
            .map(|pod| ("Pod", &pod.name, &pod.uid))
            .chain(
                observation
                    .job
                    .iter()
                    .map(|job| ("Job", &job.name, &job.uid)),
            );
        for (kind, name, uid) in objects {
            for warning in warnings(&target.client, &target.namespace, uid).await {
                if !sentences.iter().any(|said| said.contains(&warning.message)) {
                    let Warning {
                        reason,
                        message,
                        seen,
                    } = warning;
                    let message = message.trim_end_matches('.');
                    let age = table::age(seen, now);
                    sentences.push(format!(
                        "Its {kind} {name} warned {age} ago ({reason}): {message}."
                    ));
                }
            }
        }
    }
    for sentence in sentences {
        printer.text(&sentence);
    }
    let title = match (state.job.is_some(), state.phase.is_terminal()) {
        (true, _) => "Settings as they are now (its Job has those of when it was made):",
        (false, true) => "Settings as they are now:",
        (false, false) => "Settings:",
    };
    let ours = target.data_dir.is_some();
    printer.text(&settings_section(title, &told, ours));
    Ok(())
}

/// What the Task is executed with, and who says so. `ours`: the operator is this same program; another one may have been
/// started with other images.
fn settings_section(title: &str, told: &[Setting], ours: bool) -> String {
    let lines: Vec<String> = lowering::settings_table(told)
        .lines()
        .map(|line| format!("  {line}"))
        .collect();
    let built_in = told.iter().any(|setting| setting.source == Source::BuiltIn);
    let note = if built_in && !ours {
        "\n\"built in\" is as this program has it; the operator may have been started with other images."
    } else {
        ""
    };
    format!("\n{title}\n{}{note}", lines.join("\n"))
}

/// How many warnings are shown of one object.
const WARNINGS: usize = 3;

/// What the cluster warns about.
struct Warning {
    reason: String,
    message: String,
    /// When it was last seen.
    seen: Option<Timestamp>,
}

/// The newest warnings about an object, the newest first, once each. Events help to understand; who may not read them
/// gets an answer without.
async fn warnings(client: &Client, namespace: &str, uid: &str) -> Vec<Warning> {
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    let about = ListParams::default().fields(&format!("involvedObject.uid={uid},type=Warning"));
    let mut found = match events.list(&about).await {
        Ok(found) => found.items,
        Err(error) => {
            tracing::debug!(%error, "cannot read the Events");
            return Vec::new();
        }
    };
    found.sort_by_key(|event| std::cmp::Reverse(when(event)));
    let mut newest: Vec<Warning> = Vec::new();
    for event in found {
        let seen = when(&event);
        let reason = event.reason.unwrap_or_default();
        let message = event.message.unwrap_or_default();
        let is_known = |known: &Warning| known.reason == reason && known.message == message;
        if !newest.iter().any(is_known) {
            newest.push(Warning {
                reason,
                message,
                seen,
            });
        }
        if newest.len() == WARNINGS {
            break;
        }
    }
    newest
}

/// When it was last seen, wherever its sender wrote that.
fn when(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref();
    let times = [
        series.and_then(|series| series.last_observed_time.as_ref().map(|time| time.0)),
        event.last_timestamp.as_ref().map(|time| time.0),
        event.event_time.as_ref().map(|time| time.0),
        event
            .metadata
            .creation_timestamp
            .as_ref()
            .map(|time| time.0),
    ];
    times.into_iter().flatten().max()
}
