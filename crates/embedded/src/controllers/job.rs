//! The Job controller: watches Jobs and their Pods, and performs what [`sync`] says.
//!
//! For each Job there is one worker at a time. It asks `sync` for a step, performs it, and asks again with the
//! answers of the API, until nothing is left to do. Everything it needs to know is in the Job, its Pods and
//! [`Memory`]; a restart loses only how long it would have waited.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{Stream, StreamExt as _, future::ready, stream};
use k8s_openapi::{
    api::{
        batch::v1::{Job, JobStatus},
        core::v1::{ObjectReference, Pod},
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Client, ResourceExt as _,
    runtime::{WatchStreamExt as _, watcher},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    ControllerOptions,
    cache::{Cache, Change, ObjectKey, key},
    events::{Occurrence, Recorder},
    queue::{self, After},
};

mod backoff;
mod failure_policy;
mod pods;
mod status;
mod sync;
mod write;

#[cfg(test)]
mod cases;
#[cfg(test)]
mod recorded;

pub(crate) use status::time as whole_seconds;

use backoff::Backoff;
use sync::{Note, Step};

/// Component of the Events.
const COMPONENT: &str = "job-controller";

/// More steps in a row than any Job needs; then others have their turn.
const STEPS_IN_A_ROW: usize = 16;

/// What is worked on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Key {
    /// The Job of this name, and all Pods that name it as their controller.
    Job(ObjectKey),
    /// A tracked Pod that no Job controls.
    Pod(ObjectKey),
}

/// What is known of a Job beyond the API.
#[derive(Debug, Default)]
struct Memory {
    backoff: Backoff,
    /// Names of Pods whose creation was asked for and not answered. They are used again, so that a Pod that was
    /// created all the same is not created under a second name.
    names: Vec<String>,
    /// A write was not answered: what the API holds must be read again.
    unsure: bool,
}

#[derive(Debug, Default)]
struct State {
    jobs: Cache<Job>,
    pods: Cache<Pod>,
    /// Names of the Pods of each Job, by the Job's name.
    by_job: HashMap<ObjectKey, BTreeSet<String>>,
    /// By the uid of the Job.
    memory: HashMap<String, Memory>,
    /// What changed before everything was listed.
    early: BTreeSet<Key>,
}

/// A Job as the caches have it.
struct View {
    job: Option<Arc<Job>>,
    /// Pods that this very Job controls.
    pods: Vec<Arc<Pod>>,
    /// Pods of a namesake that is gone.
    strangers: Vec<Arc<Pod>>,
}

impl State {
    fn observe_jobs(&mut self, event: watcher::Event<Job>) -> Vec<Key> {
        let changes = self.jobs.observe(event);
        for job in changes.iter().filter(|change| change.new.is_none()) {
            if let Some(uid) = job.old.as_ref().and_then(|job| job.metadata.uid.as_ref()) {
                self.memory.remove(uid);
            }
        }
        let jobs = changes
            .iter()
            .filter_map(|change| change.new.as_ref().or(change.old.as_ref()));
        let keys = jobs.map(|job| Key::Job(key(&**job))).collect();
        self.when_synced(keys)
    }

    fn observe_pods(&mut self, event: watcher::Event<Pod>) -> Vec<Key> {
        let changes = self.pods.observe(event);
        let keys = changes
            .iter()
            .flat_map(|change| self.index(change))
            .collect();
        self.when_synced(keys)
    }

    /// Nothing is decided before all Jobs and Pods are known.
    fn when_synced(&mut self, keys: BTreeSet<Key>) -> Vec<Key> {
        self.early.extend(keys);
        if self.jobs.is_synced() && self.pods.is_synced() {
            std::mem::take(&mut self.early).into_iter().collect()
        } else {
            Vec::new()
        }
    }

    /// Keeps `by_job` and answers whom a change of a Pod concerns.
    fn index(&mut self, change: &Change<Pod>) -> BTreeSet<Key> {
        let mut keys = BTreeSet::new();
        if let Some(old) = &change.old
            && let Some(job) = job_key(old)
        {
            if let Some(names) = self.by_job.get_mut(&job) {
                names.remove(&old.name_any());
                if names.is_empty() {
                    self.by_job.remove(&job);
                }
            }
            keys.insert(Key::Job(job));
        }
        if let Some(new) = &change.new {
            if let Some(job) = job_key(new) {
                self.by_job
                    .entry(job.clone())
                    .or_default()
                    .insert(new.name_any());
                keys.insert(Key::Job(job));
            } else if pods::is_tracked(new) {
                keys.insert(Key::Pod(key(&**new)));
            }
        }
        keys
    }

    fn pod_written(&mut self, mut pod: Pod) {
        pods::trim(&mut pod);
        if let Some(change) = self.pods.written(pod) {
            self.index(&change);
        }
    }

    fn pod_gone(&mut self, key: &ObjectKey) {
        if let Some(change) = self.pods.forget(key) {
            self.index(&change);
        }
    }

    fn view(&self, key: &ObjectKey) -> View {
        let job = self.jobs.get(key).cloned();
        let uid = job.as_ref().and_then(|job| job.metadata.uid.clone());
        let names = self.by_job.get(key).into_iter().flatten();
        let pods = names.filter_map(|name| self.pods.get(&(key.0.clone(), name.clone())).cloned());
        let (pods, strangers) = pods
            .partition(|pod| pods::controlling_job(pod).map(|owner| &owner.uid) == uid.as_ref());
        View {
            job,
            pods,
            strangers,
        }
    }
}

fn job_key(pod: &Pod) -> Option<ObjectKey> {
    let owner: &OwnerReference = pods::controlling_job(pod)?;
    Some((pod.namespace()?, owner.name.clone()))
}

/// Why a step was not completed.
#[derive(Debug, thiserror::Error)]
enum StepError {
    /// Somebody else changed the object; it has been read again.
    #[error("conflict")]
    Conflict,
    /// The Job is gone.
    #[error("the Job is gone")]
    Gone,
    /// The API refused or did not answer.
    #[error(transparent)]
    Api(#[from] Box<kube::Error>),
}

/// Everything a worker needs.
pub(crate) struct JobController {
    client: Client,
    options: ControllerOptions,
    recorder: Recorder,
    state: Mutex<State>,
}

/// Whether its status counts a Pod.
fn had_pods(job: &Job) -> bool {
    let active = job.status.as_ref().and_then(|status| status.active);
    active.is_some_and(|active| active > 0)
}

impl JobController {
    /// A controller that knows nothing yet.
    pub(crate) fn new(client: Client, options: ControllerOptions, recorder: Recorder) -> Self {
        Self {
            client,
            options,
            recorder,
            state: Mutex::default(),
        }
    }

    /// Works until `shutdown`.
    pub(crate) async fn run(&self, shutdown: &CancellationToken) {
        let changes = Box::pin(self.changes());
        queue::run(changes, self.options.concurrency, shutdown, |key| {
            self.work(key)
        })
        .await;
    }

    /// Whom each event of the two watches concerns.
    fn changes(&self) -> impl Stream<Item = Vec<Key>> {
        let config = watcher::Config::default();
        let jobs = watcher(Api::<Job>::all(self.client.clone()), config.clone())
            .default_backoff()
            .filter_map(|event| {
                ready(
                    event
                        .inspect_err(|error| debug!(%error, "watch of Jobs"))
                        .ok(),
                )
            })
            .map(|event| {
                let trimmed = event.modify(|job| job.metadata.managed_fields = None);
                self.state().observe_jobs(trimmed)
            });
        let pods = watcher(Api::<Pod>::all(self.client.clone()), config)
            .default_backoff()
            .filter_map(|event| {
                ready(
                    event
                        .inspect_err(|error| debug!(%error, "watch of Pods"))
                        .ok(),
                )
            })
            .map(|event| self.state().observe_pods(event.modify(pods::trim)));
        stream::select(Box::pin(jobs), Box::pin(pods))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn work(&self, key: Key) -> After {
        let result = match &key {
            Key::Job(job) => self.work_on_job(job).await,
            Key::Pod(pod) => self.work_on_pod(pod).await,
        };
        match result {
            Ok(after) => after,
            Err(StepError::Conflict) => After::Again(Duration::ZERO),
            Err(StepError::Gone) => After::Idle,
            Err(StepError::Api(error)) => {
                warn!(%error, ?key, "Job not synced");
                After::Failed
            }
        }
    }

    /// Frees a Pod that no Job controls any more.
    async fn work_on_pod(&self, pod: &ObjectKey) -> Result<After, StepError> {
        let known = self.state().pods.get(pod).cloned();
        if let Some(known) =
            known.filter(|known| pods::is_tracked(known) && job_key(known).is_none())
        {
            self.release(&known).await?;
        }
        Ok(After::Idle)
    }

    async fn work_on_job(&self, name: &ObjectKey) -> Result<After, StepError> {
        for _ in 0..STEPS_IN_A_ROW {
            let view = self.state().view(name);
            self.release_strangers(name, &view).await?;
            let Some(job) = view.job else {
                return Ok(After::Idle);
            };
            if self.is_unsure(&job) {
                self.read_again(&job).await?;
                continue;
            }
            let backoff = self.backoff(&job, &view.pods);
            let now = (self.options.clock)();
            let step = sync::sync(&job, &view.pods, &backoff, now);
            if step.is_settled() {
                let wait = step
                    .wake
                    .and_then(|wake| Duration::try_from(wake.duration_since(now)).ok());
                return Ok(wait.map_or(After::Idle, After::Again));
            }
            // A Pod that it had is gone, or nobody's now. The Job's own watch may be late to say that the Job is being
            // deleted, too: another Pod would then run a second time what ran already.
            if step.create > 0 && had_pods(&job) {
                let live = self.jobs(&name.0).get_opt(&name.1).await;
                let Some(mut live) = live.map_err(Box::new)? else {
                    return Ok(After::Idle);
                };
                if live.metadata.resource_version != job.metadata.resource_version {
                    live.metadata.managed_fields = None;
                    self.state().jobs.written(live);
                    continue;
                }
            }
            self.perform(&job, &view.pods, step).await?;
        }
        Ok(After::Again(Duration::ZERO))
    }

    /// Frees Pods whose Job is gone, after asking the API whether it really is.
    async fn release_strangers(&self, name: &ObjectKey, view: &View) -> Result<(), StepError> {
        let tracked: Vec<_> = view
            .strangers
            .iter()
            .filter(|pod| pods::is_tracked(pod))
            .collect();
        if tracked.is_empty() {
            return Ok(());
        }
        let live = self
            .jobs(&name.0)
            .get_opt(&name.1)
            .await
            .map_err(Box::new)?;
        let uid = live.as_ref().and_then(|job| job.metadata.uid.clone());
        for pod in tracked {
            if pods::controlling_job(pod).map(|owner| &owner.uid) != uid.as_ref() {
                self.release(pod).await?;
            }
        }
        Ok(())
    }

    fn backoff(&self, job: &Job, pods: &[Arc<Pod>]) -> Backoff {
        let uid = job.metadata.uid.clone().unwrap_or_default();
        let mut state = self.state();
        let memory = state.memory.entry(uid).or_insert_with(|| Memory {
            backoff: Backoff::from_counted(pods.iter().map(Arc::as_ref)),
            ..Memory::default()
        });
        memory.backoff.clone()
    }

    fn is_unsure(&self, job: &Job) -> bool {
        let uid = job.metadata.uid.as_deref().unwrap_or_default();
        self.state()
            .memory
            .get(uid)
            .is_some_and(|memory| memory.unsure)
    }

    fn remember(&self, job: &Job, change: impl FnOnce(&mut Memory)) {
        let uid = job.metadata.uid.clone().unwrap_or_default();
        change(self.state().memory.entry(uid).or_default());
    }

    async fn perform(&self, job: &Job, pods: &[Arc<Pod>], step: Step) -> Result<(), StepError> {
        let find = |name: &String| pods.iter().find(|pod| pod.name_any() == *name);
        for pod in step.release.iter().filter_map(find) {
            self.release(pod).await?;
        }
        for pod in step.delete.iter().filter_map(find) {
            self.delete_pod(job, pod).await?;
        }
        let mut status = step.status;
        let mut failure = None;
        if step.create > 0 {
            let (created, error) = self.create_pods(job, step.create).await;
            failure = error;
            let missing = step.create - created;
            if let Some(status) = &mut status {
                status.active =
                    status::counter(status::number(status.active).saturating_sub(missing));
            }
        }
        if let Some(status) = status.filter(|status| job.status.as_ref() != Some(status)) {
            self.write_status(job, status).await?;
            self.remember(job, |memory| memory.backoff = step.backoff);
            for note in step.notes {
                self.tell(job, note);
            }
        }
        if step.expired {
            self.delete_expired(job).await?;
        }
        failure.map_or(Ok(()), Err)
    }

    fn jobs(&self, namespace: &str) -> Api<Job> {
        Api::namespaced(self.client.clone(), namespace)
    }

    fn pods(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }

    fn tell(&self, job: &Job, note: Note) {
        self.recorder.record(Occurrence {
            about: ObjectReference {
                api_version: Some("batch/v1".to_owned()),
                kind: Some("Job".to_owned()),
                namespace: job.namespace(),
                name: Some(job.name_any()),
                uid: job.uid(),
                resource_version: job.resource_version(),
                ..ObjectReference::default()
            },
            component: COMPONENT,
            warning: note.warning,
            reason: note.reason,
            message: note.message,
        });
    }
}
