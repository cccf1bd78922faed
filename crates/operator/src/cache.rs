//! A cache of the Jobs and Pods that this system created, reduced to what a decision needs.
//!
//! Fed by a watch, read by rounds. Two things that kube's own store does not do: objects are found by a key of ours
//! (Pods by the UID of their Job) without looking at all of them, and after a watch had to begin anew the objects that
//! vanished meanwhile are reported, so that whoever waits for them is woken.

use std::{
    collections::{BTreeMap, HashMap},
    mem,
    sync::{Arc, Mutex},
};

use k8s_openapi::api::{
    batch::v1::{Job, JobSpec},
    core::v1::{Container, Pod, PodSpec, PodTemplateSpec},
};
use kube::{ResourceExt as _, runtime::watcher::Event};
use tokio::sync::watch;

use crate::memory::lock;

/// What can be cached.
pub(crate) trait Cached: kube::Resource<DynamicType = ()> + Clone {
    /// What it is found by. None: it is of no use.
    fn key(&self) -> Option<String>;

    /// Drop what no decision needs.
    fn trim(&mut self);
}

/// Found by namespace and name.
impl Cached for Job {
    fn key(&self) -> Option<String> {
        Some(job_key(&self.namespace()?, &self.name_any()))
    }

    fn trim(&mut self) {
        self.metadata.managed_fields = None;
        self.spec = self.spec.take().map(|spec| JobSpec {
            suspend: spec.suspend,
            parallelism: spec.parallelism,
            active_deadline_seconds: spec.active_deadline_seconds,
            backoff_limit: spec.backoff_limit,
            template: PodTemplateSpec {
                spec: spec.template.spec.map(|pod| PodSpec {
                    active_deadline_seconds: pod.active_deadline_seconds,
                    ..PodSpec::default()
                }),
                ..PodTemplateSpec::default()
            },
            ..JobSpec::default()
        });
    }
}

/// Label that the Job controller puts on the Pods of a Job: its UID.
pub(crate) const LABEL_CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";

/// Found by the UID of the Job that controls it, or did before the Pod was orphaned.
impl Cached for Pod {
    fn key(&self) -> Option<String> {
        let controller = controller_uid(self).map(str::to_owned);
        controller.or_else(|| self.labels().get(LABEL_CONTROLLER_UID).cloned())
    }

    fn trim(&mut self) {
        self.metadata.managed_fields = None;
        self.spec = self.spec.take().map(|spec| PodSpec {
            active_deadline_seconds: spec.active_deadline_seconds,
            termination_grace_period_seconds: spec.termination_grace_period_seconds,
            node_name: spec.node_name,
            // That they are sidecars is what matters of them.
            init_containers: spec.init_containers.map(|containers| {
                containers
                    .into_iter()
                    .filter(|container| container.restart_policy.is_some())
                    .map(|container| Container {
                        name: container.name,
                        restart_policy: container.restart_policy,
                        ..Container::default()
                    })
                    .collect()
            }),
            ..PodSpec::default()
        });
    }
}

/// UID of the controlling owner.
pub(crate) fn controller_uid(object: &impl kube::Resource) -> Option<&str> {
    let owners = object.owner_references();
    let owner = owners.iter().find(|owner| owner.controller == Some(true));
    owner.map(|owner| owner.uid.as_str())
}

/// What a Job is found by.
pub(crate) fn job_key(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

/// Objects by key, and under it by UID. Ordered, so that the order in which owners are woken depends on nothing else.
#[derive(Debug)]
struct Objects<K> {
    by_key: BTreeMap<String, BTreeMap<String, Arc<K>>>,
    /// The key of each, by UID: a later version may have another, or none.
    keys: HashMap<String, String>,
}

/// A cache. Readers wait for its first complete list.
#[derive(Debug)]
pub(crate) struct Cache<K> {
    content: Mutex<Content<K>>,
    complete: watch::Sender<bool>,
}

#[derive(Debug)]
struct Content<K> {
    objects: Objects<K>,
    /// The list that is coming in; it replaces `objects` when it is complete.
    incoming: Objects<K>,
}

impl<K: Cached> Cache<K> {
    pub(crate) fn new() -> Self {
        Self {
            content: Mutex::new(Content {
                objects: Objects::default(),
                incoming: Objects::default(),
            }),
            complete: watch::Sender::new(false),
        }
    }

    /// Wait until it was complete once.
    pub(crate) async fn ready(&self) {
        // The sender lives as long as this cache, so waiting cannot fail.
        let _ = self
            .complete
            .subscribe()
            .wait_for(|complete| *complete)
            .await;
    }

    /// All objects of a key.
    pub(crate) fn get(&self, key: &str) -> Vec<Arc<K>> {
        let content = lock(&self.content);
        let objects = content.objects.by_key.get(key);
        objects
            .into_iter()
            .flat_map(BTreeMap::values)
            .cloned()
            .collect()
    }

    /// Take in what the watch says; gives back the objects that it is about, all of which [`Self::get`] knows by then.
    /// So the objects of a list are given back when it is complete, not as they come in.
    pub(crate) fn take_in(&self, event: Event<K>) -> Vec<Arc<K>> {
        let mut content = lock(&self.content);
        match event {
            Event::Init => {
                content.incoming = Objects::default();
                Vec::new()
            }
            Event::InitApply(object) => {
                content.incoming.insert(&Arc::new(object));
                Vec::new()
            }
            Event::InitDone => {
                let incoming = mem::take(&mut content.incoming);
                let before = mem::replace(&mut content.objects, incoming);
                let vanished = before
                    .all()
                    .filter(|object| !content.objects.contains(object));
                let about = vanished.chain(content.objects.all()).cloned().collect();
                drop(content);
                self.complete.send_replace(true);
                about
            }
            Event::Apply(object) => {
                let object = Arc::new(object);
                content.objects.insert(&object);
                vec![object]
            }
            Event::Delete(object) => {
                let object = Arc::new(object);
                content.objects.remove(&object);
                vec![object]
            }
        }
    }
}

impl<K> Default for Objects<K> {
    fn default() -> Self {
        Self {
            by_key: BTreeMap::new(),
            keys: HashMap::new(),
        }
    }
}

impl<K: Cached> Objects<K> {
    fn all(&self) -> impl Iterator<Item = &Arc<K>> {
        self.by_key.values().flat_map(BTreeMap::values)
    }

    /// In place of any version of it before.
    fn insert(&mut self, object: &Arc<K>) {
        self.remove(object);
        if let (Some(key), Some(uid)) = (object.key(), object.meta().uid.clone()) {
            self.keys.insert(uid.clone(), key.clone());
            let same_key = self.by_key.entry(key).or_default();
            same_key.insert(uid, object.clone());
        }
    }

    /// Whatever its key is by now.
    fn remove(&mut self, object: &K) {
        let Some(uid) = object.meta().uid.as_deref() else {
            return;
        };
        let Some(key) = self.keys.remove(uid) else {
            return;
        };
        if let Some(same_key) = self.by_key.get_mut(&key) {
            same_key.remove(uid);
            if same_key.is_empty() {
                self.by_key.remove(&key);
            }
        }
    }

    /// Whether it is there, with the same key.
    fn contains(&self, object: &K) -> bool {
        let known = object
            .meta()
            .uid
            .as_ref()
            .and_then(|uid| self.keys.get(uid));
        known.is_some_and(|known| object.key().as_ref() == Some(known))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(name: &str) -> Job {
        let mut job = Job::default();
        job.metadata.name = Some(name.to_owned());
        job.metadata.namespace = Some("ns".to_owned());
        job.metadata.uid = Some(format!("uid-of-{name}"));
        job
    }

    fn names(jobs: &[Arc<Job>]) -> Vec<String> {
        jobs.iter().map(|job| job.name_any()).collect()
    }

    #[test]
    fn what_vanished_while_the_watch_was_down_is_reported() {
        let cache = Cache::new();
        for event in [
            Event::Init,
            Event::InitApply(job("a")),
            Event::InitApply(job("b")),
            Event::InitDone,
        ] {
            cache.take_in(event);
        }
        cache.take_in(Event::Init);
        cache.take_in(Event::InitApply(job("b")));
        assert_eq!(
            names(&cache.get("ns/a")),
            ["a"],
            "shown until the new list is complete"
        );
        assert_eq!(names(&cache.take_in(Event::InitDone)), ["a", "b"]);
        assert!(cache.get("ns/a").is_empty());
        assert_eq!(names(&cache.get("ns/b")), ["b"]);
    }

    /// A decision made from a cache is the one that the objects themselves would give.
    #[test]
    fn what_is_dropped_is_of_no_use() {
        use kubeopencode_engine::observe::{JobView, PodView};
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "uid": "u", "managedFields": [{}], "labels": {LABEL_CONTROLLER_UID: "j"}},
            "spec": {
                "nodeName": "n", "activeDeadlineSeconds": 5, "terminationGracePeriodSeconds": 7,
                "containers": [{"name": "agent"}],
                "initContainers": [
                    {"name": "git-init", "image": "i"},
                    {"name": "git-push", "image": "i", "restartPolicy": "Always"},
                ],
            },
            "status": {
                "phase": "Running", "startTime": "2026-01-01T00:00:00Z",
                "initContainerStatuses": [
                    {"name": "git-init", "image": "i", "imageID": "", "ready": true, "restartCount": 0},
                    {"name": "git-push", "image": "i", "imageID": "", "ready": true, "restartCount": 0},
                ],
            },
        }))
        .unwrap();
        let mut trimmed = pod.clone();
        trimmed.trim();
        assert_ne!(trimmed, pod);
        assert_eq!(PodView::of(&trimmed), PodView::of(&pod));
        assert_eq!(trimmed.key(), pod.key());

        let mut job = job("a");
        job.spec = Some(JobSpec {
            suspend: Some(false),
            parallelism: Some(0),
            active_deadline_seconds: Some(1),
            backoff_limit: Some(0),
            completions: Some(1),
            ..JobSpec::default()
        });
        let mut trimmed = job.clone();
        trimmed.trim();
        assert_ne!(trimmed, job);
        assert_eq!(JobView::of(&trimmed), JobView::of(&job));
    }

    fn pod(version: &str, job: Option<&str>) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.name = Some("p".to_owned());
        pod.metadata.uid = Some("u".to_owned());
        pod.metadata.resource_version = Some(version.to_owned());
        let label = job.map(|job| (LABEL_CONTROLLER_UID.to_owned(), job.to_owned()));
        pod.metadata.labels = Some(label.into_iter().collect());
        pod
    }

    /// The Job controller releases a Pod whose label somebody takes off: then it has neither.
    #[test]
    fn what_loses_its_key_or_gets_another_is_not_shown_as_it_was() {
        let cache = Cache::new();
        cache.take_in(Event::Apply(pod("1", Some("j"))));
        cache.take_in(Event::Apply(pod("2", Some("k"))));
        assert!(cache.get("j").is_empty());
        assert_eq!(cache.get("k").len(), 1);
        cache.take_in(Event::Apply(pod("3", None)));
        assert!(cache.get("k").is_empty());
        cache.take_in(Event::Apply(pod("4", Some("j"))));
        cache.take_in(Event::Delete(pod("5", None)));
        assert!(cache.get("j").is_empty());
        let objects = &lock(&cache.content).objects;
        assert!(objects.by_key.is_empty() && objects.keys.is_empty());
    }

    #[test]
    fn a_deleted_object_leaves_nothing_behind() {
        let cache = Cache::new();
        cache.take_in(Event::Apply(job("a")));
        assert_eq!(names(&cache.take_in(Event::Delete(job("a")))), ["a"]);
        let objects = &lock(&cache.content).objects;
        assert!(objects.by_key.is_empty() && objects.keys.is_empty());
    }
}
