//! Everything that the API holds, as metadata: one watch for each kind, which come and go with the custom
//! resource definitions.
//!
//! The garbage collector and the deletion of namespaces must hear of every object; they share these watches.
//! Events are left out: nothing owns or waits for them, and there are many.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use futures::{
    StreamExt as _,
    stream::{self, BoxStream, SelectAll},
};
use k8s_openapi::{
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client,
    api::DynamicObject,
    core::{ApiResource, PartialObjectMeta},
    discovery::{Discovery, Scope},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, watcher},
    },
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// Metadata of an object of any kind.
pub(crate) type Meta = PartialObjectMeta<DynamicObject>;

/// A kind that the API serves, in the version it prefers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    /// Group, version, kind and plural.
    pub(crate) api: ApiResource,
    /// Whether its objects live in namespaces.
    pub(crate) namespaced: bool,
    /// Whether its objects can be deleted together.
    pub(crate) deletes_collections: bool,
    /// Whether its objects are in the inventory.
    watched: bool,
}

impl Resource {
    /// Objects of this kind; in one namespace, or everywhere if that is `None` or the kind has none.
    pub(crate) fn all(&self, client: &Client, namespace: Option<&str>) -> Api<DynamicObject> {
        match namespace.filter(|_| self.namespaced) {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &self.api),
            None => Api::all_with(client.clone(), &self.api),
        }
    }

    fn id(&self) -> ResourceId {
        (self.api.group.clone(), self.api.kind.clone())
    }
}

/// Group and kind.
pub(crate) type ResourceId = (String, String);

/// The kinds that the API serves now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kinds(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    served: BTreeMap<ResourceId, Arc<Resource>>,
    /// Those that were served and no longer are.
    retired: BTreeMap<ResourceId, Arc<Resource>>,
}

impl Kinds {
    /// The kind of this group and name. One that is no longer served can still be asked for: the answer is 404.
    pub(crate) fn get(&self, id: &ResourceId) -> Option<Arc<Resource>> {
        let known = self.lock();
        known
            .served
            .get(id)
            .or_else(|| known.retired.get(id))
            .cloned()
    }

    /// All that are served, by group and name.
    pub(crate) fn all(&self) -> Vec<Arc<Resource>> {
        self.lock().served.values().cloned().collect()
    }

    /// Takes over what is served now; answers what was until now.
    fn replace(
        &self,
        served: BTreeMap<ResourceId, Arc<Resource>>,
    ) -> BTreeMap<ResourceId, Arc<Resource>> {
        let mut known = self.lock();
        let old = std::mem::replace(&mut known.served, served);
        known.retired.extend(old.clone());
        old
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What happened.
#[derive(Debug)]
pub(crate) enum Change {
    /// A kind is served that was not.
    KindAdded,
    /// A kind is no longer served; its objects are gone.
    KindRemoved(Arc<Resource>),
    /// An object is new or changed.
    Applied(Arc<Resource>, ObjectMeta),
    /// An object is gone.
    Deleted(Arc<Resource>, ObjectMeta),
    /// The kind is listed from the start.
    Listing(Arc<Resource>),
    /// All objects of the kind have been listed; those not mentioned since are gone.
    Listed(Arc<Resource>),
}

enum Signal {
    /// The kinds may have changed.
    Definitions,
    /// One of the kinds' watches.
    Object(Arc<Resource>, Box<watcher::Event<Meta>>),
}

/// Tells `observer` of every change, in the order of each kind, until `shutdown`.
pub(crate) async fn run(
    client: &Client,
    kinds: &Kinds,
    shutdown: &CancellationToken,
    mut observer: impl FnMut(Change),
) {
    let definitions = watcher(
        Api::<PartialObjectMeta<CustomResourceDefinition>>::all(client.clone()),
        watcher::Config::default(),
    )
    .default_backoff()
    .map(|_| Signal::Definitions)
    .boxed();
    let mut watches: SelectAll<BoxStream<'static, Signal>> = SelectAll::new();
    watches.push(definitions);
    let mut running: BTreeMap<ResourceId, CancellationToken> = BTreeMap::new();
    loop {
        let signal = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            signal = watches.next() => signal,
        };
        match signal {
            None => return,
            Some(Signal::Object(resource, event)) => object_event(resource, *event, &mut observer),
            Some(Signal::Definitions) => {
                let found = tokio::select! {
                    biased;
                    () = shutdown.cancelled() => return,
                    found = discover(client) => found,
                };
                match found {
                    Ok(found) => {
                        let new = update(kinds, &found, &mut running, &mut observer);
                        for (resource, token) in new {
                            watches.push(watch(client, resource, token));
                        }
                    }
                    Err(error) => {
                        debug!(%error, "discovery");
                        watches.push(later());
                    }
                }
            }
        }
    }
}

/// Another discovery after a moment; only for one that failed.
fn later() -> BoxStream<'static, Signal> {
    stream::once(async {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        Signal::Definitions
    })
    .boxed()
}

fn object_event(
    resource: Arc<Resource>,
    event: watcher::Event<Meta>,
    observer: &mut impl FnMut(Change),
) {
    observer(match event {
        watcher::Event::Init => Change::Listing(resource),
        watcher::Event::InitDone => Change::Listed(resource),
        watcher::Event::Apply(object) | watcher::Event::InitApply(object) => {
            Change::Applied(resource, object.metadata)
        }
        watcher::Event::Delete(object) => Change::Deleted(resource, object.metadata),
    });
}

/// Takes over which kinds there are; answers those to watch from now on.
fn update(
    kinds: &Kinds,
    found: &BTreeMap<ResourceId, Arc<Resource>>,
    running: &mut BTreeMap<ResourceId, CancellationToken>,
    observer: &mut impl FnMut(Change),
) -> Vec<(Arc<Resource>, CancellationToken)> {
    let old = kinds.replace(found.clone());
    for (id, resource) in &old {
        if found.get(id) != Some(resource) {
            if let Some(token) = running.remove(id) {
                token.cancel();
            }
            observer(Change::KindRemoved(resource.clone()));
        }
    }
    let mut new = Vec::new();
    for (id, resource) in found {
        if old.get(id) == Some(resource) {
            continue;
        }
        observer(Change::KindAdded);
        if resource.watched {
            let token = CancellationToken::new();
            running.insert(id.clone(), token.clone());
            new.push((resource.clone(), token));
        }
    }
    new
}

fn watch(
    client: &Client,
    resource: Arc<Resource>,
    token: CancellationToken,
) -> BoxStream<'static, Signal> {
    let api: Api<Meta> = Api::all_with(client.clone(), &resource.api);
    watcher(api, watcher::Config::default())
        .default_backoff()
        .map(move |event| match event {
            Ok(event) => Signal::Object(resource.clone(), Box::new(event)),
            // Perhaps the kind is gone.
            Err(error) => {
                debug!(%error, kind = resource.api.kind, "watch");
                Signal::Definitions
            }
        })
        .take_until(async move { token.cancelled().await })
        .boxed()
}

async fn discover(client: &Client) -> Result<BTreeMap<ResourceId, Arc<Resource>>, kube::Error> {
    let discovery = Discovery::new(client.clone()).run().await?;
    let mut found = BTreeMap::new();
    for group in discovery.groups() {
        for (api, capabilities) in group.recommended_resources() {
            let can = |verb| capabilities.supports_operation(verb);
            if !(can("list") && can("watch") && can("delete")) {
                continue;
            }
            let is_event =
                api.kind == "Event" && matches!(api.group.as_str(), "" | "events.k8s.io");
            let resource = Resource {
                namespaced: capabilities.scope == Scope::Namespaced,
                deletes_collections: can("deletecollection"),
                watched: !is_event,
                api,
            };
            found.insert(resource.id(), Arc::new(resource));
        }
    }
    Ok(found)
}
