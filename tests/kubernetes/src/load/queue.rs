//! From a freed slot to the next Job, with so many Tasks in the queue of one Agent.
//!
//! One Task after the other ends: its Pod is said to have succeeded, as a kubelet would. What is measured is the time from
//! the moment at which a watch shows the end of the Task to the one at which another shows the release of the next Job.
//! Beside it, in the same namespace: one write by a bare client. The operator's writes are counted on the wire.

use std::{collections::BTreeSet, fmt::Debug, future::ready, time::Duration};

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, stream::BoxStream};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ConfigMap, Pod},
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
    core::NamespaceResourceScope,
    runtime::{WatchStreamExt as _, watcher},
};
use kubeopencode_api::v1alpha1::{Task, TaskPhase};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use tokio::time::Instant;

use super::{Bench, CREATORS, PATIENCE, name, reached};
use crate::{api, wire::Wire};

/// Slots of the Agent.
const SLOTS: usize = 50;
/// Slots that are freed.
const FREED: usize = 200;

/// One length of the queue.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Queue {
    /// Tasks of the Agent, 50 of which run.
    pub(super) tasks: usize,
    /// From a freed slot to the next Job, in milliseconds.
    pub(super) median: f64,
    /// The slowest but one in a hundred.
    pub(super) p99: f64,
    /// One write by a bare client, in milliseconds.
    pub(super) write: f64,
    /// From the first create until all wait in the queue that do not run, in seconds.
    pub(super) queued: f64,
    /// Writes of the operator for each Task, Events not among them, until all wait that do not run.
    pub(super) writes_waiting: f64,
    /// The same for each slot that was freed: the end of one Task, and the next Job.
    pub(super) writes_freed: f64,
    /// The operator's peak of resident memory, in KiB.
    pub(super) peak_kib: u64,
}

impl Bench {
    pub(super) async fn queue(&self, tasks: usize) -> Result<Queue> {
        let namespace = format!("load-queue-{tasks}");
        api::namespace(&self.client, &namespace).await?;
        let spec = json!({
            "serviceAccountName": "default", "command": ["true"], "maxConcurrentTasks": SLOTS,
        });
        api::agent(&self.client, &namespace, spec).await?;
        let (wire, operator) = self.wired(&namespace).await?;
        let measured = self.freed(&namespace, tasks, &wire).await;
        let mut queue = measured.map_err(|error| error.context(operator.last_words(10)))?;
        queue.peak_kib = operator.usage()?.peak_kib;
        operator.end(Duration::from_mins(1)).await?;
        Ok(queue)
    }

    async fn freed(&self, namespace: &str, count: usize, wire: &Wire) -> Result<Queue> {
        let tasks = Api::<Task>::namespaced(self.client.clone(), namespace);
        let begin = Instant::now();
        api::create(&tasks, (0..count).map(name).collect(), CREATORS).await?;
        self.released(namespace, SLOTS).await?;
        reached(tasks.clone(), count - SLOTS, "the queue", |task: &Task| {
            task.status.as_ref().and_then(|status| status.phase) == Some(TaskPhase::Queued)
        })
        .await?;
        let queued = begin.elapsed().as_secs_f64();
        let to_queue = wire.acts();

        let mut seen = Seen::of(self, namespace).await?;
        let freed = FREED.min(count - SLOTS);
        let mut times = Vec::with_capacity(freed);
        for _ in 0..freed {
            let next = tokio::time::timeout(PATIENCE, seen.next(self, namespace));
            times.push(next.await.context("no Job followed")??);
        }
        let for_slots = wire.acts() - to_queue;
        let mut writes = Vec::with_capacity(FREED);
        let config_maps = Api::<ConfigMap>::namespaced(self.client.clone(), namespace);
        for number in 0..FREED {
            let mut object = ConfigMap::default();
            object.metadata.name = Some(format!("bare-{number}"));
            let begin = Instant::now();
            config_maps.create(&PostParams::default(), &object).await?;
            writes.push(begin.elapsed());
        }
        Ok(Queue {
            tasks: count,
            median: quantile(&mut times, 50),
            p99: quantile(&mut times, 99),
            write: quantile(&mut writes, 50),
            queued,
            writes_waiting: each(to_queue, count),
            writes_freed: each(for_slots, freed),
            peak_kib: 0,
        })
    }
}

/// What watches have shown so far.
struct Seen {
    ended: BTreeSet<String>,
    released: BTreeSet<String>,
    pods: BTreeSet<String>,
    events: BoxStream<'static, What>,
}

enum What {
    Ended(String),
    Released(String),
    Pod(String),
}

impl Seen {
    /// As soon as every Task that runs has a Pod.
    async fn of(bench: &Bench, namespace: &str) -> Result<Self> {
        let client = &bench.client;
        let tasks = applied(client, namespace, |task: Task| {
            let ended = task.status.as_ref()?.completion_time.is_some();
            ended.then(|| What::Ended(task.name_any()))
        });
        let jobs = applied(client, namespace, |job: Job| {
            let released = job.spec.as_ref()?.suspend == Some(false);
            released.then(|| What::Released(job.name_any()))
        });
        let pods = applied(client, namespace, |pod: Pod| {
            let pending = pod.status.as_ref()?.phase.as_deref() == Some("Pending");
            pending.then(|| What::Pod(pod.name_any()))
        });
        let events = futures::stream::select_all([tasks, jobs, pods]);
        let mut seen = Self {
            ended: BTreeSet::new(),
            released: BTreeSet::new(),
            pods: BTreeSet::new(),
            events: events.boxed(),
        };
        let begun = async {
            while seen.pods.len() < SLOTS || seen.released.len() < SLOTS {
                seen.take().await?;
            }
            Ok(seen)
        };
        tokio::time::timeout(PATIENCE, begun)
            .await
            .context("no Pods")?
    }

    async fn take(&mut self) -> Result<()> {
        match self.events.next().await.context("the watches go on")? {
            What::Ended(name) => drop(self.ended.insert(name)),
            What::Released(name) => drop(self.released.insert(name)),
            What::Pod(name) => drop(self.pods.insert(name)),
        }
        Ok(())
    }

    /// A Task ends; how long until the next Job is released.
    async fn next(&mut self, bench: &Bench, namespace: &str) -> Result<Duration> {
        while self.pods.is_empty() {
            self.take().await?;
        }
        let pod = self.pods.pop_first().context("a Pod")?;
        let (ended, released) = (self.ended.len(), self.released.len());
        let time = "2026-01-01T00:00:00Z";
        let status = json!({"status": {"phase": "Succeeded", "containerStatuses": [{
            "name": "agent", "image": "agent", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": 0, "startedAt": time, "finishedAt": time}},
        }]}});
        Api::<Pod>::namespaced(bench.client.clone(), namespace)
            .patch_status(&pod, &PatchParams::default(), &Patch::Merge(status))
            .await?;
        while self.ended.len() == ended {
            self.take().await?;
        }
        let freed = Instant::now();
        while self.released.len() == released {
            self.take().await?;
        }
        Ok(freed.elapsed())
    }
}

/// What each change of an object of this kind says.
fn applied<K>(
    client: &Client,
    namespace: &str,
    says: impl Fn(K) -> Option<What> + Send + 'static,
) -> BoxStream<'static, What>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + 'static,
{
    let api = Api::<K>::namespaced(client.clone(), namespace);
    let objects = watcher(api, watcher::Config::default()).default_backoff();
    // A watch that broke goes on by itself.
    objects
        .applied_objects()
        .filter_map(move |object| ready(object.ok().and_then(&says)))
        .boxed()
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
fn each(writes: usize, of: usize) -> f64 {
    writes as f64 / of as f64
}

/// In milliseconds.
fn quantile(times: &mut [Duration], percent: usize) -> f64 {
    times.sort_unstable();
    let at = (times.len() * percent / 100).min(times.len().saturating_sub(1));
    times
        .get(at)
        .map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
}
