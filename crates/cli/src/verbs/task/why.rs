//! `task why`: asks the engine what it makes of the Task as it is now.

use jiff::Timestamp;
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{Api, api::ListParams};
use kubeopencode_engine::{
    decide::{self, Input},
    lower::{FrontEnd as _, kubeopencode::TaskFrontEnd},
    observe::{JobView, Observation, PodView},
};

use crate::{
    cli::NamedArgs,
    create,
    failure::{Failure, Problem},
    lowering::{self, Sources},
    printer::Printer,
    target,
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
    let lowered = lowering::lower(&task, &sources, &settings).await?;

    let jobs: Api<Job> = Api::namespaced(target.client.clone(), &target.namespace);
    let pods: Api<Pod> = Api::namespaced(target.client.clone(), &target.namespace);
    let job_name = decide::job_name(&owner, &state);
    let of_job = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job_name}"));
    let observation = Observation {
        job: jobs.get_opt(&job_name).await?.as_ref().map(JobView::of),
        pods: pods.list(&of_job).await?.iter().map(PodView::of).collect(),
        ..Observation::default()
    };
    let sentences = decide::explain(&Input {
        owner: &owner,
        state: &state,
        lowered: Some(&lowered),
        observation: &observation,
        stop_requested: TaskFrontEnd::stop_requested(&task),
        deleting: task.metadata.deletion_timestamp.is_some(),
        now: Timestamp::now(),
    });
    for sentence in sentences {
        printer.text(&sentence);
    }
    Ok(())
}
