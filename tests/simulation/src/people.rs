//! Everybody else who has access to the cluster: they create Tasks, stop and delete them, and lay hands on what the
//! operator has made.
//!
//! What they do not do is what no operator could hold against, as `docs/design.md` says: wipe a Task's status, or
//! suspend *and* resume a Job that was released. They do raise the `backoffLimit` of Jobs: what is left of that by a node that
//! loses a Pod in the wrong moment, the same page says.

use std::fmt::Debug;

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ConfigMap, Namespace, Pod},
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, PropagationPolicy},
    core::NamespaceResourceScope,
};
use kubeopencode_api::{
    names,
    v1alpha1::{Agent, Task},
};
use kubeopencode_engine::{
    decide::job_name,
    lower::{FrontEnd as _, kubeopencode::TaskFrontEnd},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{dice::Dice, trace::Trace};

/// Where Tasks are created. The second one is deleted sometimes.
pub const NAMESPACES: [&str; 2] = ["default", "team"];

/// Agents that there are from the beginning, with their limits.
const AGENTS: [(&str, Option<u32>); 3] = [("default", None), ("one", Some(1)), ("two", Some(2))];

/// An Agent that comes later, if at all, and a ConfigMap of that kind.
const LATER: &str = "later";

/// All of them.
pub struct People {
    client: Client,
    dice: Dice,
    trace: Trace,
    created: u32,
    /// How many Tasks are created at most.
    tasks: u32,
    /// Whether they all want the same Agent, at the same time.
    crowd: bool,
}

impl People {
    /// People at the end of this client.
    #[must_use]
    pub fn new(client: Client, dice: &Dice, trace: &Trace) -> Self {
        let dice = dice.fork();
        Self {
            client,
            tasks: u32::try_from(dice.number(2..9)).unwrap_or(2),
            crowd: dice.chance(250),
            dice,
            trace: trace.clone(),
            created: 0,
        }
    }

    /// Namespaces and Agents.
    ///
    /// # Errors
    /// The API server refuses something.
    pub async fn set_up(&self) -> kube::Result<()> {
        let namespace = json!({"metadata": {"name": NAMESPACES[1]}});
        let all: Api<Namespace> = Api::all(self.client.clone());
        all.create(&PostParams::default(), &object(namespace)?)
            .await?;
        for namespace in NAMESPACES {
            for (name, limit) in AGENTS {
                self.create::<Agent>(namespace, agent(name, limit)).await?;
            }
        }
        Ok(())
    }

    /// They are about until this is dropped.
    pub async fn run(mut self) {
        loop {
            sleep(self.dice.millis(10..120_000)).await;
            if let Err(error) = self.one_thing().await {
                self.trace.say("people", format_args!("in vain: {error}"));
            }
        }
    }

    async fn one_thing(&mut self) -> kube::Result<()> {
        let namespace = *self.dice.pick(&NAMESPACES);
        match self.dice.number(0..100) {
            0..=44 if self.crowd => {
                for _ in 0..self.dice.number(1..5) {
                    self.create_task(NAMESPACES[0]).await?;
                }
                Ok(())
            }
            0..=44 => self.create_task(namespace).await,
            45..=52 => self.stop(namespace).await,
            53..=58 => self.delete_one::<Task>(namespace).await,
            59..=61 => self.delete_one::<Job>(namespace).await,
            62..=64 => self.delete_one::<Pod>(namespace).await,
            65..=66 => self.force_delete(namespace).await,
            67..=69 => self.suspend(namespace).await,
            70..=71 => self.resume(namespace).await,
            72..=79 => self.set_limit(namespace).await,
            80..=82 => self.change_image(namespace).await,
            83..=86 => self.recreate_agent(namespace).await,
            87..=92 => self.bring_later(namespace).await,
            93..=94 => self.delete_one::<ConfigMap>(namespace).await,
            95 => self.delete_namespace().await,
            96 => self.take_annotations(namespace).await,
            97 => match self.any::<Task>(namespace).await? {
                Some(task) => self.edit(&task).await,
                None => Ok(()),
            },
            _ => self.take_back_stop(namespace).await,
        }
    }

    fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    async fn create<K>(&self, namespace: &str, manifest: Value) -> kube::Result<()>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + Serialize
            + DeserializeOwned,
    {
        let api = self.api::<K>(namespace);
        api.create(&PostParams::default(), &object(manifest)?)
            .await?;
        Ok(())
    }

    /// One of those that there are.
    async fn any<K>(&self, namespace: &str) -> kube::Result<Option<K>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let all = self
            .api::<K>(namespace)
            .list(&ListParams::default())
            .await?;
        Ok((!all.items.is_empty()).then(|| self.dice.pick(&all.items).clone()))
    }

    async fn change<K>(&self, object: &K, change: Value) -> kube::Result<()>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let api = self.api::<K>(&object.namespace().unwrap_or_default());
        let patch = Patch::Merge(change);
        api.patch(&object.name_any(), &PatchParams::default(), &patch)
            .await?;
        Ok(())
    }

    async fn create_task(&mut self, namespace: &str) -> kube::Result<()> {
        if self.created >= self.tasks {
            return Ok(());
        }
        self.created += 1;
        let mut spec = json!({"description": "Do it."});
        match self.dice.number(0..10) {
            _ if self.crowd => spec["agentRef"] = json!("one"),
            0..=2 => {}
            3..=5 => spec["agentRef"] = json!("one"),
            6..=7 => spec["agentRef"] = json!("two"),
            _ => spec["agentRef"] = json!(LATER),
        }
        if self.dice.chance(300) {
            spec["priority"] = json!(self.dice.pick(&[-1, 1, 10]));
        }
        if self.dice.chance(250) {
            spec["timeout"] = json!(self.dice.pick(&["5s", "30s", "5m"]));
        }
        if self.dice.chance(200) {
            let optional = self.dice.chance(300);
            spec["contexts"] = json!([{
                "type": "ConfigMap", "mountPath": "/workspace/later",
                "configMap": {"name": LATER, "optional": optional},
            }]);
        }
        let name = format!("task-{}", self.created);
        let task = object::<Task>(json!({"metadata": {"name": name}, "spec": spec}))?;
        let tasks = self.api::<Task>(namespace);
        let task = tasks.create(&PostParams::default(), &task).await?;
        if self.dice.chance(60) {
            return self.take_name(&task).await;
        }
        if self.dice.chance(500) {
            return self.interfere(&task).await;
        }
        Ok(())
    }

    /// Somebody has second thoughts at once, while the Job is being made.
    async fn interfere(&self, task: &Task) -> kube::Result<()> {
        let namespace = task.namespace().unwrap_or_default();
        let name =
            TaskFrontEnd::owner(task).map(|owner| job_name(&owner, &TaskFrontEnd::state(task)));
        let name = name.unwrap_or_default();
        for _ in 0..self.dice.number(1..4) {
            sleep(self.dice.millis(1..10_000)).await;
            let job = self.api::<Job>(&namespace).get_opt(&name).await?;
            match (self.dice.number(0..12), job) {
                (10..=11, Some(job)) => {
                    self.change(&job, json!({"spec": {"backoffLimit": 3}}))
                        .await?;
                }
                (9, _) => self.suspend_as_it_begins(task, &name).await?,
                (8, _) => self.edit(task).await?,
                (0, _) => {
                    self.stop_one(task).await?;
                    if self.dice.chance(500) {
                        sleep(self.dice.millis(1..20_000)).await;
                        self.take_back(task).await?;
                    }
                }
                (1, _) => self.delete(task).await?,
                (2..=4, Some(job)) => self.delete(&job).await?,
                (5, Some(job)) => {
                    self.change(&job, json!({"spec": {"suspend": true}}))
                        .await?;
                }
                (6, Some(job)) => self.resume_one(&job).await?,
                (7, Some(job)) => {
                    let at_once = DeleteParams::background().grace_period(0);
                    let jobs = self.api::<Job>(&namespace);
                    jobs.delete(&job.name_any(), &at_once).await?;
                    self.create_foreign(&namespace, &name).await?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Somebody suspends a Job that was just released, when its Pod may be on its way, and has done with the Task.
    async fn suspend_as_it_begins(&self, task: &Task, name: &str) -> kube::Result<()> {
        const LOOKS: u32 = 100;
        let jobs = self.api::<Job>(&task.namespace().unwrap_or_default());
        for _ in 0..LOOKS {
            let job = jobs.get_opt(name).await?;
            let begins = |job: &Job| job.spec.as_ref().and_then(|spec| spec.suspend) == Some(false);
            let Some(job) = job.filter(begins) else {
                sleep(self.dice.millis(10..200)).await;
                continue;
            };
            self.change(&job, json!({"spec": {"suspend": true}}))
                .await?;
            return if self.dice.chance(500) {
                self.stop_one(task).await
            } else {
                self.delete(task).await
            };
        }
        Ok(())
    }

    /// Somebody has a Job with the name that the Task's own is going to have.
    async fn take_name(&self, task: &Task) -> kube::Result<()> {
        let Some(owner) = TaskFrontEnd::owner(task) else {
            return Ok(());
        };
        let name = job_name(&owner, &TaskFrontEnd::state(task));
        self.create_foreign(&owner.namespace, &name).await
    }

    async fn create_foreign(&self, namespace: &str, name: &str) -> kube::Result<()> {
        let suspended = self.dice.chance(500);
        self.create::<Job>(
            namespace,
            json!({
                "metadata": {"name": name},
                "spec": {"suspend": suspended, "backoffLimit": 0, "template": {"spec": {
                    "restartPolicy": "Never", "containers": [{"name": "agent", "image": "i"}],
                }}},
            }),
        )
        .await
    }

    async fn stop(&self, namespace: &str) -> kube::Result<()> {
        match self.any::<Task>(namespace).await? {
            Some(task) => self.stop_one(&task).await,
            None => Ok(()),
        }
    }

    async fn stop_one(&self, task: &Task) -> kube::Result<()> {
        let stop = json!({"metadata": {"annotations": {names::ANNOTATION_STOP: "true"}}});
        self.change(task, stop).await
    }

    async fn take_back_stop(&self, namespace: &str) -> kube::Result<()> {
        match self.any::<Task>(namespace).await? {
            Some(task) => self.take_back(&task).await,
            None => Ok(()),
        }
    }

    async fn take_back(&self, task: &Task) -> kube::Result<()> {
        let stop = json!({"metadata": {"annotations": {names::ANNOTATION_STOP: null}}});
        self.change(task, stop).await
    }

    async fn delete_one<K>(&self, namespace: &str) -> kube::Result<()>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        match self.any::<K>(namespace).await? {
            Some(object) => self.delete(&object).await,
            None => Ok(()),
        }
    }

    async fn delete<K>(&self, object: &K) -> kube::Result<()>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let propagation_policy = match self.dice.number(0..4) {
            0 => Some(PropagationPolicy::Foreground),
            1 => Some(PropagationPolicy::Background),
            2 => Some(PropagationPolicy::Orphan),
            _ => None,
        };
        self.trace.say(
            "people",
            format_args!(
                "delete {} {}: {propagation_policy:?}",
                K::kind(&()),
                object.name_any()
            ),
        );
        let parameters = DeleteParams {
            propagation_policy,
            ..DeleteParams::default()
        };
        self.api::<K>(&object.namespace().unwrap_or_default())
            .delete(&object.name_any(), &parameters)
            .await?;
        Ok(())
    }

    async fn force_delete(&self, namespace: &str) -> kube::Result<()> {
        let Some(pod) = self.any::<Pod>(namespace).await? else {
            return Ok(());
        };
        let at_once = DeleteParams::default().grace_period(0);
        self.api::<Pod>(namespace)
            .delete(&pod.name_any(), &at_once)
            .await?;
        Ok(())
    }

    async fn suspend(&self, namespace: &str) -> kube::Result<()> {
        let Some(job) = self.any::<Job>(namespace).await? else {
            return Ok(());
        };
        self.change(&job, json!({"spec": {"suspend": true}})).await
    }

    /// Of a Job that was never released, or that makes no Pods any more: others must not be resumed, as the documentation
    /// says.
    async fn resume(&self, namespace: &str) -> kube::Result<()> {
        match self.any::<Job>(namespace).await? {
            Some(job) => self.resume_one(&job).await,
            None => Ok(()),
        }
    }

    async fn resume_one(&self, job: &Job) -> kube::Result<()> {
        let closed = job.spec.as_ref().and_then(|spec| spec.parallelism) == Some(0);
        if job.annotations().contains_key(names::ANNOTATION_RELEASED) && !closed {
            return Ok(());
        }
        let version = job.resource_version();
        let change = json!({"metadata": {"resourceVersion": version}, "spec": {"suspend": false}});
        self.change(job, change).await
    }

    /// The API server refuses that of one that has started.
    async fn edit(&self, task: &Task) -> kube::Result<()> {
        let words = format!("Do it, {}.", self.dice.number(1..1000));
        self.change(task, json!({"spec": {"description": words}}))
            .await
    }

    async fn set_limit(&self, namespace: &str) -> kube::Result<()> {
        let agent = if self.crowd {
            // That for which they queue.
            let agents = self.api::<Agent>(NAMESPACES[0]);
            agents.get_opt(AGENTS[1].0).await?
        } else {
            self.any::<Agent>(namespace).await?
        };
        let Some(agent) = agent else {
            return Ok(());
        };
        let limit = self.dice.pick(&[None, Some(0), Some(1), Some(2), Some(3)]);
        self.change(&agent, json!({"spec": {"maxConcurrentTasks": limit}}))
            .await
    }

    async fn change_image(&self, namespace: &str) -> kube::Result<()> {
        let Some(agent) = self.any::<Agent>(namespace).await? else {
            return Ok(());
        };
        let image = format!("agent:{}", self.dice.number(1..9));
        self.change(&agent, json!({"spec": {"agentImage": image}}))
            .await
    }

    async fn recreate_agent(&self, namespace: &str) -> kube::Result<()> {
        let (name, limit) = *self.dice.pick(&AGENTS);
        let agents = self.api::<Agent>(namespace);
        agents.delete(name, &DeleteParams::default()).await?;
        if self.dice.chance(150) {
            // For good.
            return Ok(());
        }
        sleep(self.dice.seconds(1..400)).await;
        self.create::<Agent>(namespace, agent(name, limit)).await
    }

    async fn bring_later(&self, namespace: &str) -> kube::Result<()> {
        if self.dice.chance(500) {
            return self.create::<Agent>(namespace, agent(LATER, Some(1))).await;
        }
        let files = json!({"metadata": {"name": LATER}, "data": {"a": "b"}});
        self.create::<ConfigMap>(namespace, files).await
    }

    async fn delete_namespace(&self) -> kube::Result<()> {
        let all: Api<Namespace> = Api::all(self.client.clone());
        all.delete(NAMESPACES[1], &DeleteParams::default()).await?;
        Ok(())
    }

    /// Somebody takes the annotations off a Job.
    async fn take_annotations(&self, namespace: &str) -> kube::Result<()> {
        let Some(job) = self.any::<Job>(namespace).await? else {
            return Ok(());
        };
        let annotations = json!({names::ANNOTATION_AGENT: null, names::ANNOTATION_OWNER: null});
        self.change(&job, json!({"metadata": {"annotations": annotations}}))
            .await
    }
}

fn agent(name: &str, limit: Option<u32>) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "agentImage": "agent:1", "workspaceDir": "/workspace", "serviceAccountName": "default",
            "command": ["sh", "-c", "true"], "maxConcurrentTasks": limit,
            "timeout": (name == AGENTS[2].0).then_some("1m"),
        },
    })
}

fn object<K: DeserializeOwned>(manifest: Value) -> kube::Result<K> {
    serde_json::from_value(manifest).map_err(kube::Error::SerdeError)
}
