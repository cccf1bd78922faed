//! From watch events to the objects that have to be looked at.

use std::{collections::HashSet, fmt::Debug, sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _, future::ready, stream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{
    Api, Client, Resource, ResourceExt as _,
    core::{DeserializeGuard, NamespaceResourceScope, PartialObjectMeta},
    runtime::{
        WatchStreamExt as _,
        reflector::{ObjectRef, store::Writer},
        utils::Backoff,
        watcher::{self, Event, watcher},
    },
};
use kubeopencode_api::names;
use kubeopencode_engine::lower::{FrontEnd, Reference, ReferenceKind};
use serde::de::DeserializeOwned;
use tracing::warn;

use super::{Controller, Owning, admit::facts, waiter};
use crate::{
    cache::{Cache, Cached},
    clock::Entropy,
    metrics::Metrics,
    operator::Scope,
    pools::Key,
};

impl<F: FrontEnd<Resource: Owning, Agent: Owning> + 'static> Controller<F> {
    /// The objects themselves. What is remembered of one goes when it goes.
    pub(super) fn owners(
        self: Arc<Self>,
        writer: Writer<F::Resource>,
    ) -> impl Stream<Item = ObjectRef<F::Resource>> {
        self.reflected(writer).flat_map(move |event| {
            stream::iter(match event {
                Event::Apply(object) => {
                    self.enlist(&object);
                    vec![ObjectRef::from_obj(&object)]
                }
                Event::Delete(object) => {
                    self.forget(&object);
                    Vec::new()
                }
                // The store shows the objects of a list when it is complete, not as they come in.
                Event::Init | Event::InitApply(_) => Vec::new(),
                Event::InitDone => self.all(),
            })
        })
    }

    /// All objects that there are, after what is remembered of others is forgotten.
    fn all(&self) -> Vec<ObjectRef<F::Resource>> {
        let mut all = self.store.state();
        // The oldest first: where there is a queue, they are.
        all.sort_by_key(|object| (object.creation_timestamp(), waiter(object.as_ref())));
        let known: HashSet<Option<String>> = all.iter().map(|object| object.uid()).collect();
        let names: HashSet<_> = all.iter().map(|object| waiter(object.as_ref())).collect();
        self.memory
            .keep(|uid| known.contains(&Some(uid.to_owned())));
        self.waiting.keep(|waiter| names.contains(waiter));
        for object in &all {
            self.enlist(object);
        }
        let kept = self.pools.keep(|uid| known.contains(&Some(uid.to_owned())));
        self.wake_all(&kept);
        all.iter()
            .map(|object| ObjectRef::from_obj(object.as_ref()))
            .collect()
    }

    /// All objects, each time that this operator becomes the leader.
    pub(super) fn elected(self: Arc<Self>) -> impl Stream<Item = ObjectRef<F::Resource>> {
        self.leadership
            .begins()
            .flat_map(move |()| stream::iter(self.all()))
    }

    /// The owners of the Jobs or Pods that this system created.
    pub(super) fn children<C>(
        self: Arc<Self>,
        cache: fn(&Self) -> &Cache<C>,
    ) -> impl Stream<Item = ObjectRef<F::Resource>>
    where
        C: Cached<Scope = NamespaceResourceScope>
            + Debug
            + DeserializeOwned
            + Send
            + Sync
            + 'static,
    {
        let ours = watcher::Config::default().labels(&format!(
            "{}={}",
            names::LABEL_MANAGED_BY,
            names::MANAGER
        ));
        let watch = watcher(self.api::<C>(), ours)
            .backoff(self.patience())
            .modify(C::trim);
        logged::<C, _>(&self.metrics, watch).flat_map(move |event| {
            let about = cache(&self).take_in(event);
            let mut owners = Vec::with_capacity(about.len());
            for child in about {
                let owner = owner_of::<F::Resource>(child.as_ref());
                self.tell_agents(child.as_ref(), owner.as_ref());
                owners.extend(owner);
            }
            stream::iter(owners)
        })
    }

    /// Where its owner is gone, its slot is free when this was the last of it. Another one may have its name by now; and of
    /// one that was orphaned, whose annotations somebody takes off, only the label says whose it was.
    fn tell_agents(&self, child: &impl Resource, owner: Option<&ObjectRef<F::Resource>>) {
        let metadata = child.meta();
        let labels = metadata.labels.as_ref();
        let Some(uid) = labels.and_then(|labels| labels.get(names::LABEL_OWNER_UID)) else {
            return;
        };
        let lives = |owner: Arc<F::Resource>| owner.meta().uid.as_ref() == Some(uid);
        match owner {
            Some(owner) if self.store.get(owner).is_some_and(lives) => {}
            Some(_) => self.wake_all(&self.pools.gone(uid)),
            None => self.wake_all(&self.pools.may_leave(uid)),
        }
    }

    /// The Agents. A change of what one says wakes those that refer to it and have not started; a change of its status
    /// alone does not, because there may be many.
    pub(super) fn agents(
        self: Arc<Self>,
        writer: Writer<F::Agent>,
    ) -> impl Stream<Item = ObjectRef<F::Resource>> {
        self.reflected(writer).flat_map(move |event| {
            let waiters = match event {
                Event::Apply(agent) | Event::InitApply(agent) => {
                    let key = waiter(&agent);
                    let (changed, woken) = self.pools.agent(&key, Arc::new(agent), facts::<F>);
                    self.wake_all(&woken);
                    self.wake_agent(&key);
                    if changed {
                        self.waiters(&key)
                    } else {
                        Vec::new()
                    }
                }
                Event::Delete(agent) => {
                    let key = waiter(&agent);
                    self.wake_all(&self.pools.no_agent(&key));
                    self.waiters(&key)
                }
                Event::Init => Vec::new(),
                Event::InitDone => self.all_agents(),
            };
            stream::iter(waiters)
        })
    }

    pub(super) fn waiters(&self, (namespace, name): &Key) -> Vec<ObjectRef<F::Resource>> {
        let waiters = self.waiting.of(&Reference {
            kind: ReferenceKind::Agent,
            namespace: namespace.clone(),
            name: name.clone(),
        });
        let waiters = waiters.into_iter();
        waiters
            .map(|(namespace, name)| ObjectRef::new(&name).within(&namespace))
            .collect()
    }

    /// The store shows the Agents of a list when it is complete. Those that vanished meanwhile wake their Tasks.
    fn all_agents(&self) -> Vec<ObjectRef<F::Resource>> {
        let mut woken = Vec::new();
        for key in self.pools.agents() {
            let (namespace, name) = &key;
            if self
                .agents
                .get(&ObjectRef::new(name).within(namespace))
                .is_none()
            {
                self.wake_all(&self.pools.no_agent(&key));
                woken.extend(self.waiters(&key));
            } else {
                self.wake_agent(&key);
            }
        }
        woken
    }

    /// Those that refer to an object of this kind, and have not started.
    pub(super) fn references<R>(
        self: Arc<Self>,
        kind: ReferenceKind,
    ) -> impl Stream<Item = ObjectRef<F::Resource>>
    where
        R: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + Send
            + Sync
            + 'static,
    {
        let api = self.api::<PartialObjectMeta<R>>();
        let watch = watcher(api, watcher::Config::default()).backoff(self.patience());
        logged::<PartialObjectMeta<R>, _>(&self.metrics, watch).flat_map(move |event| {
            let waiters = match event {
                Event::Apply(object) | Event::InitApply(object) | Event::Delete(object) => {
                    self.waiting.of(&Reference {
                        kind,
                        namespace: object.namespace().unwrap_or_default(),
                        name: object.name_any(),
                    })
                }
                Event::Init | Event::InitDone => Vec::new(),
            };
            let waiters = waiters.into_iter();
            stream::iter(waiters.map(|(namespace, name)| ObjectRef::new(&name).within(&namespace)))
        })
    }

    /// The objects of a kind, as far as they can be read, in a store too.
    fn reflected<K: Owning>(&self, writer: Writer<K>) -> impl Stream<Item = Event<K>> + use<K, F> {
        let api = self.api::<DeserializeGuard<K>>();
        let watch = watcher(api, watcher::Config::default())
            .backoff(self.patience())
            .filter_map(|event| ready(event.map(readable).transpose()))
            .modify(|object: &mut K| object.managed_fields_mut().clear())
            .reflect(writer);
        logged::<K, _>(&self.metrics, watch)
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        api(&self.client, &self.scope)
    }

    fn patience(&self) -> Patience {
        Patience {
            entropy: self.entropy.clone(),
            failures: 0,
        }
    }
}

/// What is watched: everything, or one namespace.
fn api<K>(client: &Client, scope: &Scope) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    match scope {
        Scope::Cluster => Api::all(client.clone()),
        Scope::Namespace(namespace) => Api::namespaced(client.clone(), namespace),
    }
}

/// The event, unless its object cannot be read: one that a newer version of this system wrote must not keep all others
/// from being looked at.
fn readable<K>(event: Event<DeserializeGuard<K>>) -> Option<Event<K>>
where
    K: Resource<DynamicType = ()>,
{
    let read = |guard: DeserializeGuard<K>| match guard.0 {
        Ok(object) => Some(object),
        Err(unreadable) => {
            warn!(
                kind = %K::kind(&()),
                name = unreadable.metadata.name,
                namespace = unreadable.metadata.namespace,
                error = unreadable.error,
                "an object cannot be read and is left alone: was it written for a newer version?"
            );
            None
        }
    };
    Some(match event {
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
        Event::InitApply(guard) => Event::InitApply(read(guard)?),
        Event::Apply(guard) => Event::Apply(read(guard)?),
        Event::Delete(guard) => Event::Delete(read(guard)?),
    })
}

/// The events of a watch; its errors are logged and counted, it goes on by itself.
fn logged<K, S>(metrics: &Metrics, watch: S) -> impl Stream<Item = Event<K>> + use<K, S>
where
    K: Resource<DynamicType = ()>,
    S: Stream<Item = Result<Event<K>, watcher::Error>>,
{
    let metrics = metrics.clone();
    let resource = K::plural(&());
    metrics.watch_begins(&resource);
    watch.filter_map(move |event| {
        ready(match event {
            Ok(event) => Some(event),
            Err(error) => {
                metrics.watch_failed(&resource);
                let error = &error as &dyn std::error::Error;
                warn!(kind = %K::kind(&()), error, "a watch was interrupted");
                None
            }
        })
    })
}

/// The owner of a Job or Pod, if it is of this kind: its controller, or the one that its annotation names. Somebody may
/// have taken the annotation off a Job, and a Pod's controller is its Job.
fn owner_of<K>(child: &impl Resource) -> Option<ObjectRef<K>>
where
    K: Resource<DynamicType = ()>,
{
    let metadata = child.meta();
    let controls = |owner: &&OwnerReference| {
        owner.controller == Some(true)
            && owner.kind == K::kind(&())
            && owner.api_version == K::api_version(&())
    };
    let controller = metadata.owner_references.iter().flatten().find(controls);
    let name = match controller {
        Some(owner) => owner.name.as_str(),
        None => named_in(
            metadata
                .annotations
                .as_ref()?
                .get(names::ANNOTATION_OWNER)?,
            K::group(&()),
            K::version(&()),
            K::plural(&()),
        )?,
    };
    Some(ObjectRef::new(name).within(metadata.namespace.as_deref()?))
}

/// The name in `group/version/plural/name`, if it is of this kind.
fn named_in(
    path: &str,
    group: impl AsRef<str>,
    version: impl AsRef<str>,
    plural: impl AsRef<str>,
) -> Option<&str> {
    let mut parts = path.splitn(4, '/');
    let kind = (parts.next()?, parts.next()?, parts.next()?);
    let ours = kind == (group.as_ref(), version.as_ref(), plural.as_ref());
    parts.next().filter(|_| ours)
}

/// How long a watch waits before it begins anew: doubling from a second to half a minute, with randomness from outside.
struct Patience {
    entropy: Entropy,
    failures: u32,
}

impl Iterator for Patience {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let wait = Duration::from_secs(1 << self.failures.min(4));
        self.failures = self.failures.saturating_add(1);
        let spread = u32::try_from((self.entropy)() % 256).unwrap_or_default();
        Some(wait + wait * spread / 256)
    }
}

impl Backoff for Patience {
    fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
    use kubeopencode_api::v1alpha1::Task;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_job_without_annotations_still_wakes_its_task() {
        let owner = json!({
            "apiVersion": "kubeopencode.io/v1alpha1", "kind": "Task", "name": "it", "uid": "u",
            "controller": true,
        });
        let job: Job = serde_json::from_value(json!({
            "metadata": {"namespace": "ns", "name": "it-x", "ownerReferences": [owner]},
        }))
        .unwrap();
        let pod: Pod = serde_json::from_value(json!({"metadata": {
            "namespace": "ns", "name": "it-x-y",
            "annotations": {names::ANNOTATION_OWNER: "kubeopencode.io/v1alpha1/tasks/it"},
        }}))
        .unwrap();
        let task = Some(ObjectRef::<Task>::new("it").within("ns"));
        assert_eq!(owner_of(&job), task);
        assert_eq!(owner_of(&pod), task);
    }
}
