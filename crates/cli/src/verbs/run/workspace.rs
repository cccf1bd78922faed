//! What a Pod of this machine left in its workspace: new commits are brought back, and `--keep` tells where it is.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt as _, api::ListParams};
use kubeopencode_api::{names::container::AGENT, v1alpha1::Task};

use super::Session;
use crate::{
    git, machine,
    summary::{BroughtBack, TaskSummary},
};

/// Completes a summary. What does not work is a warning: the Task has ended as it has ended.
pub(super) async fn collect(
    client: &Client,
    data_dir: &Path,
    task: &Task,
    session: &Session<'_>,
    summary: &mut TaskSummary,
) {
    let Some(pod) = pod_of(client, task).await else {
        return;
    };
    let run = session.runs.iter().find(|run| {
        run.owner.name == task.name_any() && Some(&run.owner.namespace) == task.namespace().as_ref()
    });
    if session.arguments.keep
        && let Some(run) = run
    {
        summary.workspace =
            place_of(data_dir, &pod, &run.workspace_dir).map(|path| path.display().to_string());
    }
    for checkout in &mut summary.checkouts {
        let result = &checkout.result;
        let (Some(head), 1..) = (&result.head, result.commits.unwrap_or_default()) else {
            continue;
        };
        let planned = run.and_then(|run| {
            run.checkouts
                .iter()
                .find(|planned| planned.path == result.path)
        });
        let repository = planned.and_then(|planned| {
            session
                .local_repositories
                .iter()
                .find(|local| local.url == planned.repository)
        });
        let (Some(repository), Some(place)) = (repository, place_of(data_dir, &pod, &result.path))
        else {
            continue;
        };
        let branch = format!("kubeopencode/{}", task.name_any());
        match git::bring_back(&repository.directory, &place, head, &branch) {
            Ok(branch) => {
                checkout.brought_back = Some(BroughtBack {
                    repository: repository.shown.display().to_string(),
                    branch,
                });
            }
            Err(error) => session.printer.warn(&format!(
                "the new commits of {} could not be brought back to {}: {error:#}",
                result.path,
                repository.shown.display()
            )),
        }
    }
}

async fn pod_of(client: &Client, task: &Task) -> Option<Pod> {
    let job = task.status.as_ref()?.job_name.clone()?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), &task.namespace()?);
    let of_job = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job}"));
    pods.list(&of_job).await.ok()?.items.into_iter().next()
}

/// Where a path of the agent's container is on this machine: in the volume that is mounted closest to it.
fn place_of(data_dir: &Path, pod: &Pod, path: &str) -> Option<PathBuf> {
    let agent = pod
        .spec
        .as_ref()?
        .containers
        .iter()
        .find(|container| container.name == AGENT)?;
    let mount = agent
        .volume_mounts
        .iter()
        .flatten()
        .filter(|mount| Path::new(path).starts_with(&mount.mount_path) && mount.sub_path.is_none())
        .max_by_key(|mount| mount.mount_path.len())?;
    let below = Path::new(path).strip_prefix(&mount.mount_path).ok()?;
    let place = machine::volume(data_dir, &pod.uid()?, &mount.name).join(below);
    // The agent may have put a link in the place of its checkout.
    let real = place.canonicalize().ok()?;
    let volume = machine::volume(data_dir, &pod.uid()?, &mount.name)
        .canonicalize()
        .ok()?;
    (real.starts_with(&volume) && real.is_dir()).then_some(real)
}

/// Removes everything below a folder, also where an agent has left directories that cannot be written to.
pub(super) fn remove(folder: &Path) -> std::io::Result<()> {
    if std::fs::remove_dir_all(folder).is_ok() {
        return Ok(());
    }
    open_up(folder)?;
    std::fs::remove_dir_all(folder)
}

/// Gives the owner all rights to the directories below; follows no link.
fn open_up(folder: &Path) -> std::io::Result<()> {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}
