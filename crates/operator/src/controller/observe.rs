//! observe: the Job and the Pods of a Run, from the caches where they show something, and from the API server where
//! they show nothing. A cache that lags is believed when it says "this is how it was", never when it says "there is none".

use std::sync::Arc;

use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{Api, api::ListParams};
use kubeopencode_engine::{
    decide::job_name,
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

impl<F: FrontEnd<Resource: Owning> + 'static> Controller<F> {
    pub(super) async fn observe(
        &self,
        owner: &Owner,
        state: &RunState,
    ) -> Result<Observation, ObserveError> {
        let name = job_name(owner, state);
        let cached = self.cached_job(owner, &name);
        if cached.is_none() && state.phase.is_terminal() {
            // After the end nothing follows from absence, and its Job may be long gone. A Pod may have outlived it.
            let recorded = state.job.as_ref();
            return Ok(Observation {
                pods: recorded.map_or_else(Vec::new, |job| self.cached_pods(owner, &job.uid)),
                ..Observation::default()
            });
        }
        let job = match cached {
            Some(job) => Some(job),
            None => self.live_job(owner, &name).await?.as_ref().map(JobView::of),
        };
        // Of the Job on record, also where another one has taken its name.
        let recorded = state.job.as_ref().map(|recorded| &recorded.uid);
        let pods = match recorded.or(job.as_ref().map(|job| &job.uid)) {
            Some(uid) if !never_released(job.as_ref(), uid) => {
                self.find_pods(owner, &name, uid).await?
            }
            _ => Vec::new(),
        };
        Ok(Observation {
            job,
            pods,
            refused: None,
        })
    }

    fn cached_job(&self, owner: &Owner, name: &str) -> Option<JobView> {
        let cached = self.jobs.get(&job_key(&owner.namespace, name));
        let cached = cached.into_iter().next()?;
        let job = self
            .memory
            .of(&owner.uid, |remembered| remembered.job.over(cached));
        Some(JobView::of(&job))
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
                    Some(overlay) => overlay.over(pod),
                    None => pod,
                })
            };
            cached.into_iter().map(newest).collect()
        })
    }

    /// The Pods of a Job.
    pub(super) async fn find_pods(
        &self,
        owner: &Owner,
        job: &str,
        job_uid: &str,
    ) -> Result<Vec<PodView>, ObserveError> {
        let cached = self.cached_pods(owner, job_uid);
        if !cached.is_empty() {
            return Ok(cached);
        }
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

/// Whether the Job of that UID was never released: then no Pod of it was ever made, and asking for them would cost a
/// request in each life.
pub(super) fn never_released(job: Option<&JobView>, uid: &str) -> bool {
    job.is_some_and(|job| job.uid == uid && job.suspended && !job.released)
}
