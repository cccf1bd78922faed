//! What a Pod of this machine left in its workspace: the agent's work is brought back, and what is nowhere else is kept.
//!
//! Looked at is every checkout that the Run has, not only those that were reported: a report may be cut, or missing.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt as _};
use kubeopencode_api::{
    names::container::AGENT,
    v1alpha1::{CheckoutResult, PushState, Task},
};
use kubeopencode_engine::{
    handover::{BEGUN_DIR_IN_TOOLS, BEGUN_FILE, CHECKOUTS_FILE, CheckoutRecord, TOOLS_DIR},
    run::{Checkout, Credential, Run},
};
use kubeopencode_pod::work;

use super::session::{Ours, Session};
use crate::{
    git, machine,
    manifest::repository::LocalRepository,
    pods,
    summary::{BroughtBack, CheckoutSummary, TaskSummary},
};

/// Completes a summary. What does not work is a warning: the Task has ended as it has ended. Answers whether work may still
/// be in the workspace alone, which has to stay then.
pub(super) async fn collect(
    client: &Client,
    data_dir: &Path,
    task: &Task,
    session: &Session<'_>,
    summary: &mut TaskSummary,
) -> bool {
    let Some(run) = session.run(&task.namespace().unwrap_or_default(), &task.name_any()) else {
        return false;
    };
    let volumes = match pods::of_task(client, task).await {
        Ok(pod) => pod.map(|pod| Volumes { data_dir, pod }),
        Err(error) => {
            let name = task.name_any();
            session.printer.warn(&format!(
                "the Pod of {name} cannot be asked for, so what its agent left is not looked at: {error}"
            ));
            summary.workspace = Some(data_dir.display().to_string());
            return true;
        }
    };
    let Some(volumes) = volumes else {
        return false;
    };
    let mut left = false;
    let records = volumes.records();
    if records.is_none() && volumes.has_begun() && !run.checkouts.is_empty() {
        session.printer.warn(&format!(
            "what was cloned for {} cannot be read, so what its agent left is not looked at",
            task.name_any()
        ));
        left = true;
    }
    for record in records.unwrap_or_default() {
        let Some(planned) = run.checkouts.iter().find(|it| it.path == record.path) else {
            continue;
        };
        let checkout = entry(summary, &record);
        left |= !look_at(record, planned, checkout, &volumes, run, session).await;
    }
    if session.arguments.keep || left {
        let workspace = volumes.place(&run.workspace_dir);
        // Where not even that is known, a person may still find it.
        let workspace = workspace.or_else(|| left.then(|| data_dir.to_owned()));
        summary.workspace = workspace.map(|path| path.display().to_string());
    }
    left
}

/// Brings the work in a checkout back where it can be. Answers whether all of it is known to be elsewhere, or nothing.
async fn look_at(
    record: CheckoutRecord,
    planned: &Checkout,
    checkout: &mut CheckoutSummary,
    volumes: &Volumes<'_>,
    run: &Run,
    session: &Session<'_>,
) -> bool {
    let place = volumes.place(&record.path);
    let is_safe = match origin(session, planned) {
        Some(repository) => {
            let job = Job {
                record,
                ours: volumes.ours(run, planned),
                place: place.clone(),
                data_dir: volumes.data_dir.to_owned(),
                repository: repository.clone(),
                branch: format!("kubeopencode/{}", run.owner.name),
                modules: planned.submodules && checkout.result.dirty != Some(false),
            };
            bring_back(job, checkout, session).await
        }
        None => !volumes.has_begun() || is_elsewhere(&checkout.result, planned),
    };
    if !is_safe {
        checkout.kept = place.map(|place| place.display().to_string());
    }
    is_safe
}

/// What the summary says of a checkout, also where the report says nothing of it.
fn entry<'s>(summary: &'s mut TaskSummary, record: &CheckoutRecord) -> &'s mut CheckoutSummary {
    let mut known = summary.checkouts.iter();
    let at = known.position(|it| it.result.path == record.path);
    let at = at.unwrap_or_else(|| {
        summary
            .checkouts
            .push(CheckoutSummary::of(unreported(record)));
        summary.checkouts.len() - 1
    });
    &mut summary.checkouts[at]
}

/// Where the checkouts of a Task are, if its agent has begun and nobody has looked at what it left.
pub(super) async fn unseen(
    client: &Client,
    data_dir: &Path,
    task: &Ours,
    run: &Run,
) -> Vec<PathBuf> {
    if run.checkouts.iter().all(|it| it.sub_path.is_some()) {
        return Vec::new();
    }
    let tasks: Api<Task> = Api::namespaced(client.clone(), &task.namespace);
    let pod = match tasks.get_opt(&task.name).await {
        Ok(Some(task)) => pods::of_task(client, &task).await,
        Ok(None) => Ok(None),
        Err(error) => Err(error),
    };
    match pod {
        Ok(Some(pod)) => {
            let volumes = Volumes { data_dir, pod };
            let whole = || data_dir.to_owned();
            let place = |record: CheckoutRecord| volumes.place(&record.path).unwrap_or_else(whole);
            match volumes.records() {
                _ if !volumes.has_begun() => Vec::new(),
                Some(records) => records.into_iter().map(place).collect(),
                None => vec![whole()],
            }
        }
        Ok(None) => Vec::new(),
        Err(_) => vec![data_dir.to_owned()],
    }
}

/// What is known of a checkout that is not in the report.
fn unreported(record: &CheckoutRecord) -> CheckoutResult {
    CheckoutResult {
        path: record.path.clone(),
        base: Some(record.base.clone()),
        error: Some("it is not in the report of how its agent ended".to_owned()),
        ..CheckoutResult::default()
    }
}

/// Whether all that may have been done in the checkout is in the repository that it was cloned from.
pub(super) fn is_elsewhere(result: &CheckoutResult, planned: &Checkout) -> bool {
    let arrived = result
        .pushed
        .as_ref()
        .is_some_and(|pushed| matches!(pushed.state, PushState::Pushed | PushState::Nothing));
    let with_all = planned.push.as_ref().is_some_and(|push| push.uncommitted);
    let commits = arrived || result.commits == Some(0);
    // A note may say that something was left out.
    let without_a_word = result
        .pushed
        .as_ref()
        .is_some_and(|it| it.message.is_none());
    let all = arrived && with_all && without_a_word;
    let files = result.dirty == Some(false) || (all && !planned.submodules);
    let others = result.other_commits.unwrap_or_default();
    commits && files && others == 0 && result.error.is_none()
}

/// One checkout, whose work is brought back.
struct Job {
    record: CheckoutRecord,
    /// Where the system put something into it, on this machine.
    ours: Vec<PathBuf>,
    place: Option<PathBuf>,
    data_dir: PathBuf,
    repository: LocalRepository,
    branch: String,
    /// Whether there may be work in submodules, which is not looked at.
    modules: bool,
}

/// Brings the work back. Answers whether all of it is there.
async fn bring_back(job: Job, checkout: &mut CheckoutSummary, session: &Session<'_>) -> bool {
    let (path, shown) = (job.record.path.clone(), job.repository.shown.clone());
    // A large checkout takes its time, and other Tasks go on.
    let brought = tokio::task::spawn_blocking(move || job.bring_back()).await;
    let brought = brought
        .context("it was given up")
        .and_then(|brought| brought);
    match brought {
        Ok(Brought {
            back,
            left_out,
            failed,
        }) => {
            checkout.brought_back = back;
            checkout.not_brought_back = failed.as_ref().map(|why| {
                format!(
                    "what the agent did not commit could not be brought back to {}: {why}",
                    shown.display()
                )
            });
            if left_out {
                session.printer.warn(&format!(
                    "a repository inside of {path}, or another working tree of it, is not brought back with it"
                ));
            }
            !left_out && failed.is_none()
        }
        Err(error) => {
            checkout.not_brought_back = Some(format!(
                "the agent's work could not be brought back to {}: {error:#}",
                shown.display()
            ));
            false
        }
    }
}

/// What came of a [`Job`].
struct Brought {
    /// `None`: there is nothing for it.
    back: Option<BroughtBack>,
    /// Whether there is something in the checkout that is never taken.
    left_out: bool,
    /// Why nothing of what is uncommitted is in it.
    failed: Option<String>,
}

impl Job {
    fn bring_back(self) -> anyhow::Result<Brought> {
        let place = self.place.as_ref();
        let place = place.context("the checkout is not to be found where the agent had it")?;
        let checkout = work::Checkout {
            path: place,
            base: &self.record.base,
            ours: &self.ours,
        };
        let packed = work::pack(&checkout, &self.data_dir).map_err(anyhow::Error::msg)?;
        Ok(Brought {
            left_out: !packed.left_out.is_empty() || self.modules,
            back: self.taken_in(&packed)?,
            failed: packed.failed,
        })
    }

    /// Has the repository of this machine take the work in.
    fn taken_in(&self, packed: &work::Packed) -> anyhow::Result<Option<BroughtBack>> {
        if packed.is_empty() {
            return Ok(None);
        }
        let repository = &self.repository;
        let brought = git::bring_back(&repository.directory, packed, &self.branch)?;
        if brought.branch.is_none() && brought.others.is_empty() {
            return Ok(None);
        }
        let base = &self.record.base;
        let branches = brought.branch.iter().chain(&brought.others);
        let brought = BroughtBack {
            repository: repository.shown.display().to_string(),
            from: git::began_at(&repository.shown, base),
            unrelated: branches
                .filter(|branch| !git::have_common_history(&repository.directory, base, branch))
                .cloned()
                .collect(),
            branch: brought.branch,
            uncommitted: packed.uncommitted,
            other_branches: brought.others,
        };
        Ok(Some(brought))
    }
}

/// The repository of this machine that a checkout was cloned from.
fn origin<'a>(session: &'a Session<'_>, planned: &Checkout) -> Option<&'a LocalRepository> {
    let mut local = session.local_repositories.iter();
    local.find(|local| local.url == planned.repository)
}

/// The volumes of a Pod, as directories of this machine.
struct Volumes<'a> {
    data_dir: &'a Path,
    pod: Pod,
}

impl Volumes<'_> {
    /// What was cloned. The agent cannot write there.
    fn records(&self) -> Option<Vec<CheckoutRecord>> {
        let name = Path::new(CHECKOUTS_FILE).file_name().unwrap_or_default();
        let json = self
            .place(TOOLS_DIR)
            .and_then(|tools| std::fs::read(tools.join(name)).ok());
        json.and_then(|json| serde_json::from_slice(&json).ok())
    }

    /// Whether the agent has begun.
    fn has_begun(&self) -> bool {
        let tools = self.place(TOOLS_DIR);
        tools.is_none_or(|tools| tools.join(BEGUN_DIR_IN_TOOLS).join(BEGUN_FILE).exists())
    }

    /// Where a path of the agent's container is: in the volume that is mounted closest to it.
    fn place(&self, path: &str) -> Option<PathBuf> {
        let agent = self
            .pod
            .spec
            .as_ref()?
            .containers
            .iter()
            .find(|container| container.name == AGENT)?;
        let mount = agent
            .volume_mounts
            .iter()
            .flatten()
            .filter(|mount| {
                Path::new(path).starts_with(&mount.mount_path) && mount.sub_path.is_none()
            })
            .max_by_key(|mount| mount.mount_path.len())?;
        let below = Path::new(path).strip_prefix(&mount.mount_path).ok()?;
        let volume = machine::volume(self.data_dir, &self.pod.uid()?, &mount.name);
        // The agent may have put a link in the place of its checkout.
        let real = volume.join(below).canonicalize().ok()?;
        let volume = volume.canonicalize().ok()?;
        (real.starts_with(&volume) && real.is_dir()).then_some(real)
    }

    /// What the system put into a checkout: files of contexts and credentials, and other checkouts.
    fn ours(&self, run: &Run, checkout: &Checkout) -> Vec<PathBuf> {
        let files = run.files.iter().map(|file| file.path.as_str());
        let credentials = run.credentials.iter().filter_map(|it| match it {
            Credential::Directory { path, .. } => Some(path.as_str()),
            Credential::Key { file, .. } => file.as_ref().map(|(path, _)| path.as_str()),
            Credential::AllAsEnv { .. } => None,
        });
        let checkouts = run.checkouts.iter().map(|checkout| checkout.path.as_str());
        let Some(place) = self.place(&checkout.path) else {
            return Vec::new();
        };
        let inside = |path| Path::new(path).strip_prefix(&checkout.path).ok();
        files
            .chain(credentials)
            .chain(checkouts)
            .filter_map(inside)
            .filter(|below| !below.as_os_str().is_empty())
            .map(|below| place.join(below))
            .collect()
    }
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
