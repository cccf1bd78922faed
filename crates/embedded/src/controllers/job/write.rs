//! The writes of the Job controller. Each takes the API's answer into the caches at once.

use futures::future::join_all;
use kube::{
    ResourceExt as _,
    api::{
        DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy,
    },
    core::response::Status,
};
use serde_json::json;

use super::{
    Job, JobController, JobStatus, Note, Pod, StepError, key, pods, pods::TRACKING_FINALIZER,
};
use crate::{clock, controllers::MANAGER};

/// How many Pods of one Job are created at the same time, at most.
const WIDEST_BATCH: usize = 16;

impl JobController {
    /// Takes the tracking finalizer off.
    pub(super) async fn release(&self, pod: &Pod) -> Result<(), StepError> {
        if !pods::is_tracked(pod) {
            return Ok(());
        }
        let place = key(pod);
        let patch = json!({"metadata": {
            "uid": pod.metadata.uid,
            "$deleteFromPrimitiveList/finalizers": [TRACKING_FINALIZER],
        }});
        let params = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let answer = self
            .pods(&place.0)
            .patch(&place.1, &params, &Patch::Strategic(patch))
            .await;
        match answer {
            Ok(pod) => self.state().pod_written(pod),
            // Gone, or another Pod of the same name.
            Err(kube::Error::Api(status)) if status.is_not_found() || is_namesake(&status) => {
                self.state().pod_gone(&place);
            }
            Err(error) => return Err(Box::new(error).into()),
        }
        Ok(())
    }

    pub(super) async fn delete_pod(&self, job: &Job, pod: &Pod) -> Result<(), StepError> {
        let place = key(pod);
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: pod.metadata.uid.clone(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match self.pods(&place.0).delete(&place.1, &params).await {
            Ok(answer) => {
                match answer.left() {
                    Some(pod) => self.state().pod_written(pod),
                    None => self.state().pod_gone(&place),
                }
                self.note(job, "SuccessfulDelete", format!("Deleted pod: {}", place.1));
            }
            // Gone, or the uid is another's.
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {
                self.state().pod_gone(&place);
            }
            Err(error) => return Err(Box::new(error).into()),
        }
        Ok(())
    }

    /// Creates Pods, one first, then twice as many each time, until one fails. Answers how many there are.
    pub(super) async fn create_pods(&self, job: &Job, count: usize) -> (usize, Option<StepError>) {
        let mut names = Vec::new();
        self.remember(job, |memory| {
            let suffix = || clock::suffix(&self.options.entropy);
            while memory.names.len() < count {
                memory.names.push(pods::name(job, &suffix()));
            }
            names.extend(memory.names.iter().take(count).cloned());
        });
        let mut created = 0;
        let mut batch = 1;
        while created < count {
            let width = batch.min(count - created);
            let some = &names[created..created + width];
            let answers = join_all(some.iter().map(|name| self.create_pod(job, name))).await;
            let mut failure = None;
            for answer in answers {
                match answer {
                    Ok(()) => created += 1,
                    Err(error) => failure = Some(error),
                }
            }
            if failure.is_some() {
                return (created, failure);
            }
            batch = (batch * 2).min(WIDEST_BATCH);
        }
        (created, None)
    }

    async fn create_pod(&self, job: &Job, name: &str) -> Result<(), StepError> {
        let namespace = job.namespace().unwrap_or_default();
        let pod = pods::from_template(job, name.to_owned());
        let params = PostParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PostParams::default()
        };
        match self.pods(&namespace).create(&params, &pod).await {
            Ok(pod) => {
                self.state().pod_written(pod);
                self.remember(job, |memory| memory.names.retain(|other| other != name));
                self.note(job, "SuccessfulCreate", format!("Created pod: {name}"));
                Ok(())
            }
            Err(kube::Error::Api(status)) => {
                let exists = status.is_already_exists();
                self.remember(job, |memory| {
                    memory.names.retain(|other| other != name);
                    // Perhaps an earlier attempt of ours that was not answered.
                    memory.unsure |= exists;
                });
                if exists {
                    return Err(StepError::Conflict);
                }
                if is_terminating_namespace(&status) {
                    return Err(StepError::Gone);
                }
                self.tell(
                    job,
                    Note {
                        warning: true,
                        reason: "FailedCreate".to_owned(),
                        message: format!("Error creating: {}", status.message),
                    },
                );
                Err(Box::new(kube::Error::Api(status)).into())
            }
            Err(error) => {
                self.remember(job, |memory| memory.unsure = true);
                Err(Box::new(error).into())
            }
        }
    }

    /// Reads the Job's Pods from the API itself, after a write that was not answered.
    pub(super) async fn read_again(&self, job: &Job) -> Result<(), StepError> {
        let namespace = job.namespace().unwrap_or_default();
        let uid = job.metadata.uid.clone().unwrap_or_default();
        let list = self
            .pods(&namespace)
            .list(&ListParams::default())
            .await
            .map_err(Box::new)?;
        let mut state = self.state();
        let memory = state.memory.entry(uid.clone()).or_default();
        memory.unsure = false;
        memory
            .names
            .retain(|name| list.iter().all(|pod| pod.name_any() != *name));
        for pod in list {
            if pods::controlling_job(&pod).is_some_and(|owner| owner.uid == uid) {
                state.pod_written(pod);
            }
        }
        Ok(())
    }

    pub(super) async fn write_status(&self, job: &Job, status: JobStatus) -> Result<(), StepError> {
        let (namespace, name) = key(job);
        let mut new = job.clone();
        new.status = Some(status);
        let params = PostParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PostParams::default()
        };
        let answer = self
            .jobs(&namespace)
            .replace_status(&name, &params, &new)
            .await;
        match answer {
            Ok(mut job) => {
                job.metadata.managed_fields = None;
                self.state().jobs.written(job);
                Ok(())
            }
            Err(error) => self.refused(job, error).await,
        }
    }

    /// Deletes a Job whose time to live is over, if it is still as we know it.
    pub(super) async fn delete_expired(&self, job: &Job) -> Result<(), StepError> {
        let (namespace, name) = key(job);
        let params = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Foreground),
            preconditions: Some(Preconditions {
                uid: job.metadata.uid.clone(),
                resource_version: job.metadata.resource_version.clone(),
            }),
            ..DeleteParams::default()
        };
        match self.jobs(&namespace).delete(&name, &params).await {
            Ok(answer) => {
                if let Some(job) = answer.left() {
                    self.state().jobs.written(job);
                    return Ok(());
                }
                Err(StepError::Gone)
            }
            Err(error) => self.refused(job, error).await,
        }
    }

    /// A write to the Job was refused: after a conflict the Job is read again.
    async fn refused(&self, job: &Job, error: kube::Error) -> Result<(), StepError> {
        let (namespace, name) = key(job);
        match error {
            kube::Error::Api(status) if status.is_not_found() => Err(StepError::Gone),
            kube::Error::Api(status) if status.is_conflict() => {
                let live = self
                    .jobs(&namespace)
                    .get_opt(&name)
                    .await
                    .map_err(Box::new)?;
                let live = live.filter(|live| live.metadata.uid == job.metadata.uid);
                self.state().jobs.written(live.ok_or(StepError::Gone)?);
                Err(StepError::Conflict)
            }
            error => Err(Box::new(error).into()),
        }
    }

    fn note(&self, job: &Job, reason: &str, message: String) {
        self.tell(
            job,
            Note {
                warning: false,
                reason: reason.to_owned(),
                message,
            },
        );
    }
}

/// Whether a patch was refused because its uid is not the object's: 422 about `metadata.uid`.
fn is_namesake(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 422
        && causes
            .into_iter()
            .any(|cause| cause.field == "metadata.uid")
}

fn is_terminating_namespace(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes
        .into_iter()
        .any(|cause| cause.reason == "NamespaceTerminating")
}
