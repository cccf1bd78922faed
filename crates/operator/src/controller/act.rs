//! act: performs what the engine decided. The only place that changes anything but the status and Events.
//!
//! Every write but a create has preconditions, and a create has a name that follows from what it is for, so a write
//! that is sent twice, late, or by two operators does what it does once. What the API server answers goes into the
//! observation. An answer that no repetition changes goes there too, as a refusal: it is the engine's to judge.

use std::{fmt::Debug, mem, ops::ControlFlow, sync::Arc};

use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        batch::v1::Job,
        core::v1::{ConfigMap, Pod},
    },
};
use kube::{
    Api, Error as KubeError, Resource, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use kubeopencode_api::names;
use kubeopencode_engine::{
    decide::Action,
    lower::FrontEnd,
    observe::{JobView, Observation, PodView, Refusal, RefusalKind},
    run::Owner,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tracing::{info, warn};

use super::{Controller, Owning, observe::never_released};
use crate::{
    cache::{Cached as _, controller_uid},
    error::{ActError, RoundError},
    memory::Remembered,
};

/// What became of a create.
enum Created<K> {
    /// It exists now, created by this call or an earlier one.
    Exists(K),
    /// It does not.
    Refused(Refusal),
}

/// Whether the object is not what we took it for: gone, or another version or UID.
fn moved_on(error: &KubeError) -> bool {
    matches!(error, KubeError::Api(status) if status.is_not_found() || status.is_conflict())
}

/// How many rounds in a row fail with any other answer before that is a refusal: about half a minute, in which most mishaps
/// pass, and most conflicts are settled.
const BROKEN_AFTER: u32 = 7;

/// Whether the API server would say the same again: forbidden, by rights or by admission, never valid, or something else
/// for this one object, as where a webhook is late (504) or chooses the code. Who is not known to it (401) can tell nobody.
fn refusal(what: String, error: &KubeError) -> Option<Refusal> {
    let KubeError::Api(status) = error else {
        return None;
    };
    let kind = match status.code {
        403 => RefusalKind::Forbidden,
        400 | 413 | 422 => RefusalKind::Invalid,
        401 => return None,
        _ => RefusalKind::Broken,
    };
    Some(Refusal {
        what,
        kind,
        message: status.message.clone(),
        change: None,
        again: false,
    })
}

/// What was granted, and has to be done again. That is as good as a refusal, and repeating it at once would be endless.
fn undone(what: String) -> Refusal {
    Refusal {
        what,
        kind: RefusalKind::Undone,
        message: "it was granted, and somebody, perhaps a webhook, undoes it".to_owned(),
        change: None,
        again: false,
    }
}

/// Whether a JSON Patch was refused, perhaps because a `test` in it did not hold.
fn not_as_tested(error: &KubeError) -> bool {
    matches!(error, KubeError::Api(status) if status.code == 422)
}

impl<F: FrontEnd<Resource: Owning, Agent: Owning> + 'static> Controller<F> {
    /// The refusal that it is to be taken for.
    pub(super) fn refusal(
        &self,
        owner: &Owner,
        what: String,
        error: &KubeError,
    ) -> Option<Refusal> {
        let answered = self.memory.of(&owner.uid, |remembered| remembered.answered);
        let lasts =
            |refusal: &Refusal| refusal.kind != RefusalKind::Broken || answered >= BROKEN_AFTER;
        refusal(what, error).filter(lasts)
    }

    /// Performs these in order, up to the first that is refused or finds the world changed.
    pub(super) async fn act(
        &self,
        owner: &Owner,
        actions: Vec<Action>,
        observation: &mut Observation,
    ) -> Result<(), RoundError> {
        for action in actions {
            self.must_lead()?;
            if self.perform(owner, action, observation).await?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Safety rests on preconditions; this only saves the requests of an operator that has lost.
    pub(super) fn must_lead(&self) -> Result<(), RoundError> {
        if self.leadership.holds() {
            Ok(())
        } else {
            Err(RoundError::NotLeading)
        }
    }

    /// What the API server refuses is no error of the round: what follows from it is decided.
    async fn perform(
        &self,
        owner: &Owner,
        action: Action,
        observation: &mut Observation,
    ) -> Result<ControlFlow<()>, RoundError> {
        let Some(what) = action.what() else {
            let created = self
                .perform_unless_refused(owner, action, observation)
                .await;
            self.memory
                .of(&owner.uid, |it| it.refused &= created.is_err());
            return created;
        };
        let change = Box::new(action.clone());
        let refusal = if self.memory.of(&owner.uid, |it| it.is_undone(&change)) {
            undone(what)
        } else {
            let performed = self
                .perform_unless_refused(owner, action, observation)
                .await;
            let refusal = match &performed {
                Err(RoundError::Act(error)) => self.refusal(owner, what, error.answer()),
                _ => None,
            };
            let Some(refusal) = refusal else {
                self.memory
                    .of(&owner.uid, |it| it.tried(change, &performed));
                return performed;
            };
            refusal
        };
        warn!(what = refusal.what, message = refusal.message, "refused");
        let again = |it: &mut Remembered<_>| mem::replace(&mut it.refused, true);
        observation.refused = Some(Refusal {
            change: Some(change),
            again: self.memory.of(&owner.uid, again),
            ..refusal
        });
        Ok(ControlFlow::Break(()))
    }

    async fn perform_unless_refused(
        &self,
        owner: &Owner,
        action: Action,
        observation: &mut Observation,
    ) -> Result<ControlFlow<()>, RoundError> {
        match action {
            Action::CreateConfigMap(config_map) => {
                self.create_config_map(owner, &config_map, observation)
                    .await
            }
            Action::CreateJob(job) => self.create_job(owner, &job, observation).await,
            Action::ReleaseJob {
                name,
                uid,
                annotated,
            } => {
                self.release(owner, name, &uid, annotated, observation)
                    .await
            }
            Action::CloseJob { name, uid } => {
                let spec = json!({"parallelism": 0, "activeDeadlineSeconds": 1, "suspend": false});
                let change = json!({"spec": spec});
                self.change_job(owner, name, &uid, change, observation)
                    .await
            }
            Action::SuspendJob { name, uid } => {
                let change = json!({"spec": {"suspend": true}});
                self.change_job(owner, name, &uid, change, observation)
                    .await
            }
            Action::MarkReleased { name, uid } => {
                let mark = json!({names::ANNOTATION_RELEASED: self.released_now()});
                let change = json!({"metadata": {"annotations": mark}});
                self.change_job(owner, name, &uid, change, observation)
                    .await
            }
            Action::DeleteJob {
                name,
                uid,
                resource_version,
            } => {
                self.delete::<Job>(&owner.namespace, &name, &uid, resource_version)
                    .await?;
                let superseded = observation.superseded.len();
                observation.superseded.retain(|job| job.uid != uid);
                if observation.superseded.len() < superseded {
                    // Whether it was that version, an event tells.
                    return Ok(ControlFlow::Break(()));
                }
                self.look_again(owner, &name, &uid, observation).await
            }
            Action::DeletePod {
                name,
                uid,
                resource_version,
            } => {
                self.delete::<Pod>(&owner.namespace, &name, &uid, resource_version)
                    .await?;
                // Whether it was that version, the API server tells.
                observation.pods.retain(|pod| pod.uid != uid);
                observation.unseen = true;
                Ok(ControlFlow::Break(()))
            }
            Action::SetPodDeadline { name, uid, seconds } => {
                let change = json!({
                    "metadata": {"uid": uid},
                    "spec": {"activeDeadlineSeconds": seconds},
                });
                let pod = self.patch::<Pod>(owner, &name, &change).await;
                let pod = pod.map_err(|source| ActError::SetPodDeadline { name, source })?;
                self.wrote_pod(owner, pod, observation);
                Ok(ControlFlow::Continue(()))
            }
        }
    }

    async fn create_config_map(
        &self,
        owner: &Owner,
        config_map: &ConfigMap,
        observation: &mut Observation,
    ) -> Result<ControlFlow<()>, RoundError> {
        match self.create(owner, config_map).await? {
            Created::Exists(_) => Ok(ControlFlow::Continue(())),
            Created::Refused(refusal) => {
                observation.refused = Some(refusal);
                Ok(ControlFlow::Break(()))
            }
        }
    }

    async fn create_job(
        &self,
        owner: &Owner,
        job: &Job,
        observation: &mut Observation,
    ) -> Result<ControlFlow<()>, RoundError> {
        match self.create(owner, job).await? {
            Created::Exists(job) => {
                info!(job = job.name_any(), "created");
                let view = self.wrote_job(owner, None, job);
                observation.unseen = !never_released(Some(&view), &view.uid);
                observation.job = Some(view);
                Ok(ControlFlow::Continue(()))
            }
            Created::Refused(refusal) => {
                observation.refused = Some(refusal);
                Ok(ControlFlow::Break(()))
            }
        }
    }

    /// Releases a Job, once.
    async fn release(
        &self,
        owner: &Owner,
        name: String,
        uid: &str,
        annotated: bool,
        observation: &mut Observation,
    ) -> Result<ControlFlow<()>, RoundError> {
        match self.release_job(owner, &name, uid, annotated).await {
            Ok(job) => {
                let before = observation.job.take().map(|job| job.resource_version);
                observation.job = Some(self.wrote_job(owner, before.as_deref(), job));
                // From now on it may have a Pod.
                observation.unseen = true;
                Ok(ControlFlow::Continue(()))
            }
            Err(error) if moved_on(&error) => self.look_again(owner, &name, uid, observation).await,
            Err(source) if not_as_tested(&source) => {
                let flow = self.look_again(owner, &name, uid, observation).await?;
                let as_tested = |job: &JobView| {
                    job.uid == uid && job.suspended && !job.released && job.annotated == annotated
                };
                // Not our conditions, then, but the API server's own: asking once more changes nothing.
                if observation.job.as_ref().is_some_and(as_tested) {
                    return Err(ActError::ReleaseJob { name, source }.into());
                }
                Ok(flow)
            }
            Err(source) => Err(ActError::ReleaseJob { name, source }.into()),
        }
    }

    /// A merge patch of this very Job.
    async fn change_job(
        &self,
        owner: &Owner,
        name: String,
        uid: &str,
        mut change: Value,
        observation: &mut Observation,
    ) -> Result<ControlFlow<()>, RoundError> {
        let before = observation
            .job
            .as_ref()
            .map(|job| job.resource_version.clone());
        change["metadata"]["uid"] = json!(uid);
        match self.patch::<Job>(owner, &name, &change).await {
            Ok(job) => {
                observation.job = Some(self.wrote_job(owner, before.as_deref(), job));
                Ok(ControlFlow::Continue(()))
            }
            Err(error) if moved_on(&error) => self.look_again(owner, &name, uid, observation).await,
            Err(source) => Err(ActError::ChangeJob { name, source }.into()),
        }
    }

    /// Create it. If its name is taken by an object of the same owner, that is the one.
    async fn create<K>(&self, owner: &Owner, object: &K) -> Result<Created<K>, ActError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Serialize,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), &owner.namespace);
        let name = object.name_any();
        let what = format!("{} {name}", K::kind(&()));
        let parameters = PostParams {
            field_manager: Some(names::MANAGER.to_owned()),
            ..PostParams::default()
        };
        match api.create(&parameters, object).await {
            Ok(created) => Ok(Created::Exists(created)),
            Err(KubeError::Api(status)) if status.is_already_exists() => {
                let taken = match api.get(&name).await {
                    Ok(taken) => taken,
                    Err(source) => {
                        let source = Box::new(source);
                        return Err(ActError::LookAtTaken { what, source });
                    }
                };
                if controller_uid(&taken) == Some(owner.uid.as_str()) {
                    return Ok(Created::Exists(taken));
                }
                Ok(Created::Refused(Refusal {
                    what,
                    kind: RefusalKind::NameTaken,
                    message: status.message,
                    change: None,
                    again: false,
                }))
            }
            Err(source) => match self.refusal(owner, what.clone(), &source) {
                Some(refusal) => Ok(Created::Refused(refusal)),
                None => Err(ActError::Create {
                    what,
                    source: Box::new(source),
                }),
            },
        }
    }

    /// A merge patch. UID and resourceVersion in its metadata are preconditions: the API server answers 409 if they
    /// are not the object's own.
    async fn patch<K>(&self, owner: &Owner, name: &str, change: &Value) -> Result<K, Box<KubeError>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), &owner.namespace);
        let parameters = PatchParams {
            field_manager: Some(names::MANAGER.to_owned()),
            ..PatchParams::default()
        };
        api.patch(name, &parameters, &Patch::Merge(change))
            .await
            .map_err(Box::new)
    }

    /// A JSON Patch, because its conditions are on what the Job says of itself, and not on a version.
    async fn release_job(
        &self,
        owner: &Owner,
        name: &str,
        uid: &str,
        annotated: bool,
    ) -> Result<Job, Box<KubeError>> {
        let annotations = "/metadata/annotations";
        let released = format!(
            "{annotations}/{}",
            names::ANNOTATION_RELEASED.replace('/', "~1")
        );
        let mut change = vec![
            json!({"op": "test", "path": "/metadata/uid", "value": uid}),
            json!({"op": "test", "path": "/spec/suspend", "value": true}),
        ];
        if annotated {
            change.push(json!({"op": "test", "path": released, "value": null}));
        } else {
            change.push(json!({"op": "test", "path": annotations, "value": null}));
            change.push(json!({"op": "add", "path": annotations, "value": {}}));
        }
        let now = self.released_now();
        change.push(json!({"op": "add", "path": released, "value": now}));
        change.push(json!({"op": "replace", "path": "/spec/suspend", "value": false}));
        let change = serde_json::from_value(Value::Array(change))
            .map_err(|error| Box::new(KubeError::SerdeError(error)))?;
        let api: Api<Job> = Api::namespaced(self.client.clone(), &owner.namespace);
        let parameters = PatchParams {
            field_manager: Some(names::MANAGER.to_owned()),
            ..PatchParams::default()
        };
        api.patch(name, &parameters, &Patch::Json::<()>(change))
            .await
            .map_err(Box::new)
    }

    /// The mark of a Job that is released now.
    fn released_now(&self) -> String {
        (self.clock)().to_string()
    }

    /// Deletes this version of it, and none that came after.
    async fn delete<K>(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
        resource_version: String,
    ) -> Result<(), ActError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let exactly = DeleteParams::background().preconditions(Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: Some(resource_version),
        });
        match api.delete(name, &exactly).await {
            Ok(_) => Ok(()),
            Err(error) if moved_on(&error) => Ok(()),
            Err(source) => Err(ActError::Delete {
                what: format!("{} {name}", K::kind(&())),
                source: Box::new(source),
            }),
        }
    }

    /// Somebody else was faster: the Job controller writes each new Job at once, so this is nothing unusual. What was
    /// decided is void; the API server itself says how the Job is now. It may have been released, and even have ended,
    /// since the cache saw it: then its Pods tell how.
    async fn look_again(
        &self,
        owner: &Owner,
        name: &str,
        uid: &str,
        observation: &mut Observation,
    ) -> Result<ControlFlow<()>, RoundError> {
        let before = observation.job.take().map(|job| job.resource_version);
        if let Some(job) = self.live_job(owner, name).await? {
            observation.job = Some(self.wrote_job(owner, before.as_deref(), job));
        }
        observation.unseen = false;
        if !never_released(observation.job.as_ref(), uid) {
            let pods = self.find_pods(owner, name, uid).await?;
            let others = |pod: &PodView| pod.job_uid.as_deref() != Some(uid);
            observation.pods.retain(others);
            observation.pods.extend(pods);
        }
        Ok(ControlFlow::Break(()))
    }

    fn wrote_job(&self, owner: &Owner, before: Option<&str>, mut job: Job) -> JobView {
        job.trim();
        let view = JobView::of(&job);
        self.memory.of(&owner.uid, |remembered| {
            remembered.job.knows(before, Arc::new(job));
        });
        view
    }

    fn wrote_pod(&self, owner: &Owner, mut pod: Pod, observation: &mut Observation) {
        pod.trim();
        let view = PodView::of(&pod);
        let mut known = observation.pods.iter_mut();
        let Some(known) = known.find(|known| known.uid == view.uid) else {
            observation.pods.push(view);
            return;
        };
        // As it was decided upon: what the cache shows by now may be from after the write.
        let before = mem::replace(known, view.clone()).resource_version;
        if before != view.resource_version {
            self.memory.of(&owner.uid, |remembered| {
                let overlay = remembered.pods.entry(view.uid).or_default();
                overlay.knows(Some(&before), Arc::new(pod));
            });
        }
    }
}
