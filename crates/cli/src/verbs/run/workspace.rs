//! What a Pod of this machine left in its workspace: new commits are brought back, and `--keep` tells where it is.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{Client, ResourceExt as _};
use kubeopencode_api::{names::container::AGENT, v1alpha1::Task};
use kubeopencode_engine::run::Run;

use super::session::Session;
use crate::{
    git, machine,
    manifest::repository::LocalRepository,
    pods,
    summary::{BroughtBack, TaskSummary},
};

/// Completes a summary. What does not work is a warning: the Task has ended as it has ended. Answers whether commits that
/// were to come back are still in the workspace alone, which has to stay then.
pub(super) async fn collect(
    client: &Client,
    data_dir: &Path,
    task: &Task,
    session: &Session<'_>,
    summary: &mut TaskSummary,
) -> bool {
    let pod = pods::of_task(client, task).await.ok().flatten();
    let place = |path: &str| place_of(data_dir, pod.as_ref()?, path);
    let run = session.runs.iter().find(|run| {
        run.owner.name == task.name_any() && Some(&run.owner.namespace) == task.namespace().as_ref()
    });
    let mut left = false;
    for checkout in &mut summary.checkouts {
        let result = &checkout.result;
        let (Some(head), 1..) = (&result.head, result.commits.unwrap_or_default()) else {
            continue;
        };
        let Some(repository) = run.and_then(|run| origin(session, run, &result.path)) else {
            continue;
        };
        let branch = format!("kubeopencode/{}", task.name_any());
        let brought_back = place(&result.path)
            .context("the checkout is not to be found where the agent had it")
            .and_then(|place| git::bring_back(&repository.directory, &place, head, &branch));
        match brought_back {
            Ok(branch) => {
                checkout.brought_back = Some(BroughtBack {
                    repository: repository.shown.display().to_string(),
                    branch,
                });
            }
            Err(error) => {
                left = true;
                session.printer.warn(&format!(
                    "the new commits of {} could not be brought back to {}: {error:#}",
                    result.path,
                    repository.shown.display()
                ));
            }
        }
    }
    if session.arguments.keep || left {
        let workspace = run.and_then(|run| place(&run.workspace_dir));
        // Where not even that is known, a person may still find it.
        let workspace = workspace.or_else(|| left.then(|| data_dir.to_owned()));
        summary.workspace = workspace.map(|path| path.display().to_string());
    }
    left
}

/// The repository of this machine that a checkout was cloned from.
fn origin<'a>(session: &'a Session<'_>, run: &Run, path: &str) -> Option<&'a LocalRepository> {
    let mut planned = run.checkouts.iter();
    let planned = planned.find(|planned| planned.path == path)?;
    let mut local = session.local_repositories.iter();
    local.find(|local| local.url == planned.repository)
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
