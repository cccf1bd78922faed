//! observe: the Job and the Pods of a Run, as the caches show them. A cache that lags is believed when it says "this is
//! how it was", never when it says "there is none", nor that nothing has changed since: where something would follow from
//! that, the engine asks for [`confirm`]. Most rounds of a life need no request for that.
//!
//! [`confirm`]: Controller::confirm

use std::sync::Arc;

use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{Api, Resource as _, api::ListParams};
use kubeopencode_engine::{
    decide::{job_name, superseded_names},
    lower::FrontEnd,
    observe::{JobView, Observation, PodView},
    run::Owner,
    state::RunState,
};

use super::{Controller, Owning};
use crate::{
    cache::{Cached as _, LABEL_CONTROLLER_UID, job_key},
    error::ObserveError,
};

impl<F: FrontEnd<Resource: Owning, Agent: Owning> + 'static> Controller<F> {
    /// What the caches show.
    pub(super) fn observe(&self, owner: &Owner, state: &RunState) -> Observation {
        let job = self.cached_job(owner, &job_name(owner, state));
        let pods = match job_uid(state, job.as_ref()) {
            Some(uid) => self.cached_pods(owner, uid),
            None => Vec::new(),
        };
        // After the end nothing follows from absence but that a slot is free, and its Job may be long gone. A Pod may have
        // outlived it.
        let holds = self.pools.held_by(&owner.uid).is_some();
        let over = job.is_none() && state.phase.is_terminal() && !holds;
        let absent = job.as_ref().is_none_or(|job| is_another(state, job));
        let unseen = !over && (absent || may_have_others(state, job.as_ref(), &pods));
        Observation {
            job,
            pods,
            superseded: self.superseded(owner, state),
            unseen,
            confirmed: false,
            refused: None,
            slot: None,
        }
    }

    /// The same, with the API server's own word for what the caches do not show.
    pub(super) async fn confirm(
        &self,
        owner: &Owner,
        state: &RunState,
    ) -> Result<Observation, ObserveError> {
        let name = job_name(owner, state);
        let cached = self.cached_job(owner, &name);
        let job = match cached.filter(|job| !is_another(state, job)) {
            Some(job) => Some(job),
            None => self.live_job(owner, &name).await?.as_ref().map(JobView::of),
        };
        let pods = match job_uid(state, job.as_ref()) {
            Some(uid) if !never_released(job.as_ref(), uid) => {
                self.live_pods(owner, &name, uid).await?
            }
            _ => Vec::new(),
        };
        Ok(Observation {
            job,
            pods,
            superseded: self.superseded(owner, state),
            unseen: false,
            confirmed: true,
            refused: None,
            slot: None,
        })
    }

    /// The resource whose Run it is, as the API server has it. `None`: it is gone.
    pub(super) async fn live_owner(
        &self,
        owner: &Owner,
    ) -> Result<Option<Arc<F::Resource>>, ObserveError> {
        let api: Api<F::Resource> = Api::namespaced(self.client.clone(), &owner.namespace);
        let live = api.get_opt(&owner.name).await;
        let live = live.map_err(|source| ObserveError::GetOwner {
            name: owner.name.clone(),
            source: Box::new(source),
        })?;
        let live = live.filter(|live| live.meta().uid.as_ref() == Some(&owner.uid));
        Ok(live.map(Arc::new))
    }

    fn cached_job(&self, owner: &Owner, name: &str) -> Option<JobView> {
        let cached = self.jobs.get(&job_key(&owner.namespace, name));
        let cached = cached.into_iter().next()?;
        let job = self.memory.of(&owner.uid, |remembered| {
            // The Job controller wrote to it before we released it, and the cache shows that now. What has an end, or runs
            // without our mark, is from later: somebody took the mark off.
            let earlier = |ours: &Job, shown: &Job| {
                let (ours, shown) = (JobView::of(ours), JobView::of(shown));
                let before = !shown.released && shown.suspended && shown.end.is_none();
                ours.uid == shown.uid && ours.released && before
            };
            remembered.job.over(cached, earlier)
        });
        Some(JobView::of(&job))
    }

    fn superseded(&self, owner: &Owner, state: &RunState) -> Vec<JobView> {
        let names = superseded_names(owner, state).into_iter();
        let cached = names.flat_map(|name| self.jobs.get(&job_key(&owner.namespace, &name)));
        cached.map(|job| JobView::of(&job)).collect()
    }

    /// What the API server itself says.
    pub(super) async fn live_job(
        &self,
        owner: &Owner,
        name: &str,
    ) -> Result<Option<Job>, ObserveError> {
        let api: Api<Job> = Api::namespaced(self.client.clone(), &owner.namespace);
        api.get_opt(name)
            .await
            .map_err(|source| ObserveError::GetJob {
                name: name.to_owned(),
                source: Box::new(source),
            })
    }

    fn cached_pods(&self, owner: &Owner, job_uid: &str) -> Vec<PodView> {
        let cached = self.pods.get(job_uid);
        if cached.is_empty() {
            return Vec::new();
        }
        self.memory.of(&owner.uid, |remembered| {
            let newest = |pod: Arc<Pod>| {
                let overlay = pod.metadata.uid.as_ref();
                let overlay = overlay.and_then(|uid| remembered.pods.get_mut(uid));
                PodView::of(&*match overlay {
                    Some(overlay) => overlay.over(pod, |_, _| false),
                    None => pod,
                })
            };
            cached.into_iter().map(newest).collect()
        })
    }

    /// The Pods of a Job, as the cache shows them where it shows any.
    pub(super) async fn find_pods(
        &self,
        owner: &Owner,
        job: &str,
        job_uid: &str,
    ) -> Result<Vec<PodView>, ObserveError> {
        let cached = self.cached_pods(owner, job_uid);
        if cached.is_empty() {
            self.live_pods(owner, job, job_uid).await
        } else {
            Ok(cached)
        }
    }

    /// What the API server itself says.
    async fn live_pods(
        &self,
        owner: &Owner,
        job: &str,
        job_uid: &str,
    ) -> Result<Vec<PodView>, ObserveError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &owner.namespace);
        let selector = format!("{LABEL_CONTROLLER_UID}={job_uid}");
        let pods = api.list(&ListParams::default().labels(&selector)).await;
        let pods = pods.map_err(|source| ObserveError::ListPods {
            job: job.to_owned(),
            source: Box::new(source),
        })?;
        let ours = |pod: &&Pod| pod.key().as_deref() == Some(job_uid);
        Ok(pods.iter().filter(ours).map(PodView::of).collect())
    }
}

/// Whether the Job on record is another one: this one may be what had its name before, in a cache that is late.
fn is_another(state: &RunState, job: &JobView) -> bool {
    let recorded = state.job.as_ref();
    recorded.is_some_and(|recorded| recorded.uid != job.uid)
}

/// The UID of the Job on record, also where another one has taken its name; without a record, of the Job that is seen.
fn job_uid<'a>(state: &'a RunState, job: Option<&'a JobView>) -> Option<&'a String> {
    let recorded = state.job.as_ref().map(|recorded| &recorded.uid);
    recorded.or(job.map(|job| &job.uid))
}

/// Whether there may be Pods that are not among these.
fn may_have_others(state: &RunState, job: Option<&JobView>, pods: &[PodView]) -> bool {
    pods.is_empty() && job_uid(state, job).is_some_and(|uid| !never_released(job, uid))
}

/// Whether the Job of that UID was never released: then no Pod of it was ever made, and asking for them would cost a
/// request in each life.
pub(super) fn never_released(job: Option<&JobView>, uid: &str) -> bool {
    job.is_some_and(|job| job.uid == uid && job.suspended && !job.released)
}
