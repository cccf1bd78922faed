//! Performs a scenario: applies, waits for what has to be seen by watching, compares.

mod events;
mod left;
mod logs;

use std::{collections::HashMap, fmt::Write as _, path::Path, sync::Mutex, time::Duration};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Pod, ServiceAccount};
use kube::{
    Api, Client, ResourceExt as _,
    api::{
        DeleteParams, DynamicObject, EvictParams, ListParams, ObjectMeta, Patch, PatchParams,
        PostParams, PropagationPolicy,
    },
    core::{ApiResource, GroupVersionKind},
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::{
    cluster::Cluster,
    matching::difference,
    model::{Model, Turn},
    repositories::Repositories,
    scenario::{self, Ends, ObjectName, Scenario, Step},
};

/// How long anything may take before the scenario is given up. A guard, not a measure: everything waits for events.
/// An agent whose model fails tries for more than a minute.
const PATIENCE: Duration = Duration::from_mins(3);

/// Real agents that run at the same time. Each needs seconds of a processor before it asks its model for the first time, and
/// a timeout counts those too.
static REAL_AGENTS: Semaphore = Semaphore::const_new(2);

/// The model of a scenario, if it has one. It starts on a thread of its own, because it has a runtime of its own.
fn model(cluster: &Cluster, script: &[Turn]) -> Result<Option<Model>> {
    if script.is_empty() {
        return Ok(None);
    }
    let (address, script) = (cluster.address(), script.to_vec());
    let started = std::thread::spawn(move || Model::at(address, script)).join();
    started
        .map(Some)
        .map_err(|_| anyhow!("the model does not start"))
}

/// Performs the scenario of this file.
pub async fn run(cluster: &Cluster, path: &Path) -> Result<()> {
    let text = std::fs::read_to_string(path)?;
    let name = scenario::name(path);
    let folder = tempfile::tempdir()?;
    let namespace = format!("{}-{}", &name[..name.len().min(40)], std::process::id());
    let text = fill(&text.replace("${namespace}", &namespace))?;
    let first: Scenario = scenario::parse(&text, path)?;
    let _one_of_few = match &first.agent {
        Some(_) => Some(REAL_AGENTS.acquire().await?),
        None => None,
    };
    let repositories = Repositories::make(cluster, folder.path(), &first.repositories)?;
    let model = model(cluster, &first.model)?;
    let text = repositories.fill(&text)?;
    let text = match &model {
        Some(model) => text.replace("${model.url}", &model.url()),
        None => text,
    };
    let scenario = scenario::parse(&text, path)?;

    let client = cluster.client();
    let stage = Stage {
        client: client.clone(),
        namespace: namespace.clone(),
        remembered: Mutex::default(),
        model,
    };
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let object = Namespace {
        metadata: ObjectMeta {
            name: Some(namespace.clone()),
            ..Default::default()
        },
        ..Default::default()
    };
    namespaces
        .create(&PostParams::default(), &object)
        .await
        .context("creating the namespace")?;
    let outcome = async {
        stage.has_an_account().await?;
        stage.perform(&scenario).await
    };
    let outcome = outcome.await.with_context(|| scenario.title.clone());
    let outcome = match outcome {
        Err(error) => Err(anyhow!(
            "{error:#}\n{}\n{}",
            stage.describe().await,
            cluster.said(&namespace)
        )),
        Ok(()) => Ok(()),
    };
    let parameters = DeleteParams::default();
    match namespaces.delete(&namespace, &parameters).await {
        // A scenario may be about just that.
        Err(kube::Error::Api(status)) if status.is_not_found() => {}
        deleted => drop(deleted?),
    }
    stage
        .gone(&namespaces, &namespace)
        .await
        .context("the namespace goes away with all that is in it")?;
    outcome
}

/// Replaces `${fill:N}` by N characters.
fn fill(text: &str) -> Result<String> {
    let mut parts = text.split("${fill:");
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (count, rest) = part.split_once('}').context("${fill:N} is not closed")?;
        filled.push_str(&"x".repeat(count.parse()?));
        filled.push_str(rest);
    }
    Ok(filled)
}

/// Where a scenario plays: a cluster and a namespace of its own.
struct Stage {
    client: Client,
    namespace: String,
    /// Names of objects, by what the scenario calls them.
    remembered: Mutex<HashMap<String, String>>,
    model: Option<Model>,
}

impl Stage {
    /// A Pod that comes before the account is refused, and its Job waits for long until it tries again.
    async fn has_an_account(&self) -> Result<()> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &self.namespace);
        let is_there = |account: Option<&ServiceAccount>| account.is_some();
        let there = kube::runtime::wait::await_condition(accounts, "default", is_there);
        tokio::time::timeout(PATIENCE, there)
            .await
            .context("the namespace gets its service account")??;
        Ok(())
    }

    async fn perform(&self, scenario: &Scenario) -> Result<()> {
        let agent = match (&scenario.agent, &self.model) {
            (Some(agent), Some(model)) => agent.manifests(&model.url())?,
            (Some(agent), None) => bail!("{} has no model: `model` says what it does", agent.is),
            (None, _) => Vec::new(),
        };
        for manifest in agent.iter().chain(&scenario.given) {
            self.apply(manifest).await.context("given")?;
        }
        for (index, step) in scenario.steps.iter().enumerate() {
            tokio::time::timeout(PATIENCE, self.step(step))
                .await
                .unwrap_or_else(|_| Err(anyhow!("nothing happened for {} s", PATIENCE.as_secs())))
                .with_context(|| format!("step {}: {step:?}", index + 1))?;
        }
        Ok(())
    }

    async fn step(&self, step: &Step) -> Result<()> {
        match step {
            Step::Apply(manifests) => {
                for manifest in manifests {
                    self.apply(manifest).await?;
                }
                Ok(())
            }
            Step::Refused { apply, message } => match self.apply(apply).await {
                Ok(()) => bail!("the API server took it"),
                Err(error) => {
                    let text = format!("{error:#}");
                    ensure!(text.contains(message.as_str()), "the message is: {text}");
                    Ok(())
                }
            },
            Step::Until(expected) => self.until(expected).await.map(|_| ()),
            Step::Expect(expected) => {
                let (api, name) = self.object(expected).await?;
                let actual = serde_json::to_value(api.get(&name).await?)?;
                difference(&subset(expected), &actual, "").map_or(Ok(()), |text| Err(anyhow!(text)))
            }
            Step::Ends(ends) => self.ends(ends).await,
            Step::Stop(task) => {
                self.patch(&json!({
                    "apiVersion": "kubeopencode.io/v1alpha1", "kind": "Task",
                    "metadata": {"name": task, "annotations": {"kubeopencode.io/stop": "true"}},
                }))
                .await
            }
            Step::Patch(patch) => self.patch(patch).await,
            Step::Delete(object) => {
                let (api, name) = self.named(object).await?;
                let propagation_policy = match object.propagation.as_deref() {
                    Some("Foreground") => Some(PropagationPolicy::Foreground),
                    Some("Orphan") => Some(PropagationPolicy::Orphan),
                    _ => Some(PropagationPolicy::Background),
                };
                api.delete(
                    &name,
                    &DeleteParams {
                        propagation_policy,
                        ..Default::default()
                    },
                )
                .await?;
                Ok(())
            }
            Step::Evict(task) => {
                let pod = self.pod_of(&self.job_of(task).await?).await?;
                let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
                pods.evict(&pod, &EvictParams::default()).await?;
                Ok(())
            }
            Step::Remember { kind, name, r#as } => {
                let object = ObjectName {
                    kind: kind.clone(),
                    name: name.clone(),
                    propagation: None,
                };
                let (_, name) = self.named(&object).await?;
                let mut remembered = self.remembered.lock().map_err(|_| anyhow!("poisoned"))?;
                remembered.insert(r#as.clone(), name);
                Ok(())
            }
            Step::Gone(object) => {
                let (api, name) = self.named(object).await?;
                self.gone(&api, &name).await
            }
            Step::Logs(logs) => self.logs(logs).await,
            Step::Events { task, reasons } => self.events(task, reasons).await,
            Step::Pods { task, made } => self.made(task, *made).await,
            Step::Asked(times) => {
                let asked = self.model.as_ref().map(|model| model.requests().len());
                let asked = asked.context("there is no model")?;
                ensure!(asked >= *times, "its model was asked {asked} times");
                Ok(())
            }
            Step::Warned { task, message } => self.warned(task, message).await,
            Step::Empty(kinds) => {
                for kind in kinds {
                    self.empty(kind).await?;
                }
                Ok(())
            }
            Step::Left {
                task,
                job,
                logs,
                slot,
            } => self.left(task, *job, *logs, *slot).await,
            Step::NoPod(task) => self.no_pod(task).await,
        }
    }

    /// Looks for Pods of a Task, and at what the Job controller has said of those that are gone.
    async fn no_pod(&self, task: &str) -> Result<()> {
        let of_task = format!("{task}-");
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let found = pods.list(&ListParams::default()).await?;
        let there: Vec<String> = found
            .iter()
            .map(kube::ResourceExt::name_any)
            .filter(|name| name.starts_with(&of_task))
            .collect();
        ensure!(there.is_empty(), "there is {there:?}");
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let created =
            ListParams::default().fields("involvedObject.kind=Job,reason=SuccessfulCreate");
        let found = events.list(&created).await?;
        let told: Vec<_> = found
            .iter()
            .filter(|event| {
                let job = event.involved_object.name.as_deref();
                job.is_some_and(|name| name.starts_with(&of_task))
            })
            .map(|event| &event.message)
            .collect();
        ensure!(told.is_empty(), "there was one: {told:?}");
        Ok(())
    }

    /// The API and name of the object that a manifest speaks of.
    async fn object(&self, manifest: &Value) -> Result<(Api<DynamicObject>, String)> {
        let kind = manifest["kind"].as_str().context("kind is missing")?;
        let name = manifest["metadata"]["name"]
            .as_str()
            .context("metadata.name is missing")?;
        self.named(&ObjectName {
            kind: kind.to_owned(),
            name: name.to_owned(),
            propagation: None,
        })
        .await
    }

    async fn named(&self, object: &ObjectName) -> Result<(Api<DynamicObject>, String)> {
        let (group, version, kind) = match object.kind.as_str() {
            "Task" | "Agent" | "KubeOpenCodeConfig" => {
                ("kubeopencode.io", "v1alpha1", object.kind.as_str())
            }
            "Job" => ("batch", "v1", "Job"),
            "Role" | "RoleBinding" => ("rbac.authorization.k8s.io", "v1", object.kind.as_str()),
            kind => ("", "v1", kind),
        };
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        if kind == "Namespace" {
            let api = Api::all_with(self.client.clone(), &resource);
            return Ok((api, object.name.clone()));
        }
        let api = Api::namespaced_with(self.client.clone(), &self.namespace, &resource);
        if let Some(known) = object.name.strip_prefix("is:") {
            let remembered = self.remembered.lock().map_err(|_| anyhow!("poisoned"))?;
            let name = remembered
                .get(known)
                .with_context(|| format!("nothing is remembered as {known}"))?;
            return Ok((api, name.clone()));
        }
        let name = match object.name.strip_prefix("of:") {
            None => object.name.clone(),
            Some(task) => {
                let job = self.job_of(task).await?;
                match kind {
                    "Pod" => self.pod_of(&job).await?,
                    "ConfigMap" => self.files_of(task).await?,
                    _ => job,
                }
            }
        };
        Ok((api, name))
    }

    fn tasks(&self) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(
            "kubeopencode.io",
            "v1alpha1",
            "Task",
        ));
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    /// The name of the Task's Job, waited for.
    async fn job_of(&self, task: &str) -> Result<String> {
        let config = watcher::Config::default().fields(&format!("metadata.name={task}"));
        let mut stream = watcher(self.tasks(), config).applied_objects().boxed();
        while let Some(task) = stream.try_next().await? {
            if let Some(job) = task.data["status"]["jobName"].as_str() {
                return Ok(job.to_owned());
            }
        }
        bail!("the watch ended")
    }

    async fn pod_of(&self, job: &str) -> Result<String> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let config =
            watcher::Config::default().labels(&format!("batch.kubernetes.io/job-name={job}"));
        let mut stream = watcher(pods, config).applied_objects().boxed();
        Ok(stream
            .try_next()
            .await?
            .context("the watch ended")?
            .name_any())
    }

    /// The ConfigMap that was made for the Pod of a Task: it is there when the Job is.
    async fn files_of(&self, task: &str) -> Result<String> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let of_task = ListParams::default().labels(&format!("kubeopencode.io/task={task}"));
        let found = maps.list(&of_task).await?;
        let first = found.items.first();
        Ok(first.context("there is no ConfigMap of it")?.name_any())
    }

    async fn apply(&self, manifest: &Value) -> Result<()> {
        let (api, name) = self.object(manifest).await?;
        api.patch(
            &name,
            &PatchParams::apply("scenario").force(),
            &Patch::Apply(manifest),
        )
        .await?;
        Ok(())
    }

    async fn patch(&self, patch: &Value) -> Result<()> {
        let (api, name) = self.object(patch).await?;
        let mut patch = patch.clone();
        if let Some(metadata) = patch["metadata"].as_object_mut() {
            metadata.remove("name");
        }
        api.patch(&name, &PatchParams::default(), &Patch::Merge(patch))
            .await?;
        Ok(())
    }

    /// Watches an object until it contains what is expected; the whole object then.
    async fn until(&self, expected: &Value) -> Result<Value> {
        let (api, name) = self.object(expected).await?;
        let expected = subset(expected);
        let mut stream = watcher(
            api,
            watcher::Config::default().fields(&format!("metadata.name={name}")),
        )
        .applied_objects()
        .boxed();
        while let Some(object) = stream.try_next().await? {
            let actual = serde_json::to_value(object)?;
            if difference(&expected, &actual, "").is_none() {
                return Ok(actual);
            }
        }
        bail!("the watch ended")
    }

    async fn ends(&self, ends: &Ends) -> Result<()> {
        let config = watcher::Config::default().fields(&format!("metadata.name={}", ends.task));
        let mut stream = watcher(self.tasks(), config).applied_objects().boxed();
        while let Some(task) = stream.try_next().await? {
            let status = task.data["status"].clone();
            if !matches!(status["phase"].as_str(), Some("Completed" | "Failed")) {
                continue;
            }
            let mut expected = json!({"phase": ends.phase, "reason": ends.reason});
            if let Some(message) = &ends.message {
                expected["message"] = json!(format!("~ {message}"));
            }
            ensure!(
                status["completionTime"].is_string(),
                "there is no completionTime in {status}"
            );
            let miss = difference(&expected, &status, "status").or_else(|| {
                ends.status
                    .as_ref()
                    .and_then(|more| difference(more, &status, "status"))
            });
            return miss.map_or(Ok(()), |text| {
                Err(anyhow!(
                    "{text}\n{}",
                    serde_json::to_string_pretty(&status).unwrap_or_default()
                ))
            });
        }
        bail!("the watch ended")
    }

    async fn gone<K>(&self, api: &Api<K>, name: &str) -> Result<()>
    where
        K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
    {
        let wait = kube::runtime::wait::await_condition(api.clone(), name, |object: Option<&K>| {
            object.is_none()
        });
        tokio::time::timeout(PATIENCE, wait)
            .await
            .context("it is still there")??;
        Ok(())
    }

    /// Waits until there is no object of this kind.
    async fn empty(&self, kind: &str) -> Result<()> {
        let (api, _) = self
            .named(&ObjectName {
                kind: kind.to_owned(),
                name: String::new(),
                propagation: None,
            })
            .await?;
        // Until a list is empty: what goes may have been followed by another.
        loop {
            let found = api.list(&ListParams::default()).await?.items;
            if found.is_empty() {
                return Ok(());
            }
            for object in found {
                self.gone(&api, &object.name_any()).await?;
            }
        }
    }

    /// Compares the number of Pods that a Job was given, also of those that are gone.
    async fn made(&self, task: &str, made: usize) -> Result<()> {
        let job = self.job_of(task).await?;
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let of_job = ListParams::default().fields(&format!(
            "involvedObject.kind=Job,involvedObject.name={job},reason=SuccessfulCreate"
        ));
        let found = events.list(&of_job).await?;
        let told: Vec<_> = found.iter().map(|event| &event.message).collect();
        ensure!(told.len() == made, "{made} were expected: {told:?}");
        Ok(())
    }

    /// Watches the Events of a Task's Pod until one warns of this.
    async fn warned(&self, task: &str, message: &str) -> Result<()> {
        let pod = self.pod_of(&self.job_of(task).await?).await?;
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let config = watcher::Config::default().fields(&format!(
            "involvedObject.kind=Pod,involvedObject.name={pod},type=Warning"
        ));
        let mut stream = watcher(events, config).applied_objects().boxed();
        while let Some(event) = stream.try_next().await? {
            if event.message.is_some_and(|said| said.contains(message)) {
                return Ok(());
            }
        }
        bail!("the watch ended")
    }

    /// What there is, for the message of a scenario that failed.
    async fn describe(&self) -> String {
        let mut text = String::new();
        for kind in ["Task", "Job", "Pod", "Event"] {
            let Ok((api, _)) = self
                .named(&ObjectName {
                    kind: kind.to_owned(),
                    name: String::new(),
                    propagation: None,
                })
                .await
            else {
                continue;
            };
            for object in api
                .list(&ListParams::default())
                .await
                .map(|list| list.items)
                .unwrap_or_default()
            {
                let shown = match kind {
                    "Event" => {
                        json!({"reason": object.data["reason"], "message": object.data["message"]})
                    }
                    _ => json!({"name": object.name_any(), "status": object.data["status"]}),
                };
                let _ = writeln!(text, "{kind} {shown}");
            }
        }
        text
    }
}

/// An expectation without the parts that only name the object.
fn subset(expected: &Value) -> Value {
    let mut expected = expected.clone();
    if let Some(fields) = expected.as_object_mut() {
        fields.remove("apiVersion");
        fields.remove("kind");
    }
    if expected["metadata"]["name"]
        .as_str()
        .is_some_and(|name| name.starts_with("of:") || name.starts_with("is:"))
        && let Some(metadata) = expected["metadata"].as_object_mut()
    {
        metadata.remove("name");
    }
    expected
}
