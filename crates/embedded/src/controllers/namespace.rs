//! Deletion of namespaces: everything in one goes, of every kind, then the namespace itself.
//!
//! While something remains the namespace's conditions say what, and which finalizers hold it. Nothing is
//! asked again and again: the inventory tells when an object of a terminating namespace changes or goes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::{
    api::core::v1::{Namespace, NamespaceCondition},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, PostParams},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    ControllerOptions, MANAGER,
    inventory::{Change, Kinds, Resource},
    job::whole_seconds,
    queue::{After, Inbox},
};

/// What keeps a namespace until its content is gone.
const FINALIZER: &str = "kubernetes";

/// The controller. [`NamespaceController::observe`] feeds it, [`NamespaceController::run`] works.
pub(crate) struct NamespaceController {
    client: Client,
    options: ControllerOptions,
    kinds: Kinds,
    terminating: Mutex<BTreeSet<String>>,
    inbox: Inbox<String>,
}

/// What is left of a namespace after everything was deleted.
#[derive(Debug, Default)]
struct Remains {
    /// Number of objects by `plural.group`.
    objects: BTreeMap<String, usize>,
    /// Number of objects by finalizer.
    finalizers: BTreeMap<String, usize>,
    /// What could not be deleted or listed.
    failures: Vec<String>,
}

impl NamespaceController {
    /// A controller that knows no namespace yet.
    pub(crate) fn new(client: Client, options: ControllerOptions, kinds: Kinds) -> Self {
        Self {
            client,
            options,
            kinds,
            terminating: Mutex::default(),
            inbox: Inbox::new(),
        }
    }

    /// Takes a change of the inventory in.
    pub(crate) fn observe(&self, change: &Change) {
        let (resource, meta, gone) = match change {
            Change::Applied(resource, meta) => (resource, meta, false),
            Change::Deleted(resource, meta) => (resource, meta, true),
            Change::KindRemoved(_) => {
                let all = self.terminating().iter().cloned().collect();
                return self.look_at(all);
            }
            Change::KindAdded | Change::Listing(_) | Change::Listed(_) => return,
        };
        if is_namespace(resource) {
            let name = meta.name.clone().unwrap_or_default();
            if gone {
                self.terminating().remove(&name);
            } else if meta.deletion_timestamp.is_some() && self.terminating().insert(name.clone()) {
                self.look_at(vec![name]);
            }
        } else if let Some(namespace) = &meta.namespace
            && self.terminating().contains(namespace)
        {
            self.look_at(vec![namespace.clone()]);
        }
    }

    /// Works until `shutdown`; a second call does nothing.
    pub(crate) async fn run(&self, shutdown: &CancellationToken) {
        self.inbox
            .run(self.options.concurrency, shutdown, |name| self.work(name))
            .await;
    }

    fn terminating(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.terminating
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn look_at(&self, names: Vec<String>) {
        self.inbox.add(names);
    }

    async fn work(&self, name: String) -> After {
        match self.empty(&name).await {
            Ok(after) => after,
            Err(kube::Error::Api(status)) if status.is_not_found() => After::Idle,
            Err(kube::Error::Api(status)) if status.is_conflict() => After::Again(Duration::ZERO),
            Err(error) => {
                warn!(%error, namespace = name, "namespace not emptied");
                After::Failed
            }
        }
    }

    async fn empty(&self, name: &str) -> Result<After, kube::Error> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let Some(namespace) = api.get_opt(name).await? else {
            return Ok(After::Idle);
        };
        if namespace.metadata.deletion_timestamp.is_none() || !is_held(&namespace) {
            return Ok(After::Idle);
        }
        let mut remains = Remains::default();
        for resource in self
            .kinds
            .all()
            .iter()
            .filter(|resource| resource.namespaced)
        {
            if let Err(error) = self.delete_all(resource, name, &mut remains).await {
                remains.failures.push(error.to_string());
            }
        }
        let namespace = self.write_conditions(&api, namespace, &remains).await?;
        if !remains.failures.is_empty() {
            return Ok(After::Failed);
        }
        if remains.objects.is_empty() {
            finalize(&api, namespace).await?;
        }
        Ok(After::Idle)
    }

    /// Deletes all objects of one kind, and counts those that are still there.
    async fn delete_all(
        &self,
        resource: &Resource,
        namespace: &str,
        remains: &mut Remains,
    ) -> Result<(), kube::Error> {
        let api = resource.all(&self.client, Some(namespace));
        let all = ListParams::default();
        let before = api.list_metadata(&all).await?;
        let params = DeleteParams::background();
        if before.items.is_empty() {
            return Ok(());
        }
        if before
            .iter()
            .any(|object| object.metadata.deletion_timestamp.is_none())
        {
            if resource.deletes_collections {
                api.delete_collection(&params, &all).await?;
            } else {
                for object in before.iter() {
                    match api.delete(&object.name_any(), &params).await {
                        Err(kube::Error::Api(status)) if status.is_not_found() => {}
                        answer => drop(answer?),
                    }
                }
            }
        }
        let after = api.list_metadata(&all).await?;
        if !after.items.is_empty() {
            let name = format!("{}.{}", resource.api.plural, resource.api.group);
            remains.objects.insert(name, after.items.len());
        }
        for finalizer in after.iter().flat_map(kube::ResourceExt::finalizers) {
            *remains.finalizers.entry(finalizer.clone()).or_default() += 1;
        }
        Ok(())
    }

    async fn write_conditions(
        &self,
        api: &Api<Namespace>,
        mut namespace: Namespace,
        remains: &Remains,
    ) -> Result<Namespace, kube::Error> {
        let old = namespace.status.clone().unwrap_or_default();
        let mut new = old.clone();
        let now = whole_seconds((self.options.clock)());
        let conditions = new.conditions.get_or_insert_default();
        for wanted in conditions_of(remains) {
            set(conditions, wanted, &now);
        }
        if new == old {
            return Ok(namespace);
        }
        namespace.status = Some(new);
        let params = PostParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PostParams::default()
        };
        api.replace_status(&namespace.name_any(), &params, &namespace)
            .await
    }
}

fn is_namespace(resource: &Resource) -> bool {
    resource.api.group.is_empty() && resource.api.kind == "Namespace"
}

fn is_held(namespace: &Namespace) -> bool {
    let finalizers = namespace
        .spec
        .as_ref()
        .and_then(|spec| spec.finalizers.as_ref());
    finalizers
        .into_iter()
        .flatten()
        .any(|finalizer| finalizer == FINALIZER)
}

/// Takes our finalizer out of the spec, upon which the API lets the namespace go.
async fn finalize(api: &Api<Namespace>, mut namespace: Namespace) -> Result<(), kube::Error> {
    let spec = namespace.spec.get_or_insert_default();
    spec.finalizers
        .get_or_insert_default()
        .retain(|finalizer| finalizer != FINALIZER);
    let params = PostParams::default();
    api.replace_subresource("finalize", &namespace.name_any(), &params, &namespace)
        .await?;
    Ok(())
}

/// Type, status, reason and message of every condition.
type Words = (&'static str, bool, &'static str, String);

fn conditions_of(remains: &Remains) -> [Words; 5] {
    let list = |counts: &BTreeMap<String, usize>, words: &str| {
        let parts: Vec<String> = counts
            .iter()
            .map(|(name, count)| format!("{name}{words}{count} resource instances"))
            .collect();
        parts.join(", ")
    };
    let failures = &remains.failures;
    [
        (
            "NamespaceDeletionDiscoveryFailure",
            false,
            "ResourcesDiscovered",
            "All resources successfully discovered".to_owned(),
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            false,
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed".to_owned(),
        ),
        if failures.is_empty() {
            (
                "NamespaceDeletionContentFailure",
                false,
                "ContentDeleted",
                "All content successfully deleted, may be waiting on finalization".to_owned(),
            )
        } else {
            let message = format!(
                "Failed to delete all resource types, {} remaining: {}",
                failures.len(),
                failures.join(", ")
            );
            (
                "NamespaceDeletionContentFailure",
                true,
                "ContentDeletionFailed",
                message,
            )
        },
        if remains.objects.is_empty() {
            (
                "NamespaceContentRemaining",
                false,
                "ContentRemoved",
                "All content successfully removed".to_owned(),
            )
        } else {
            let what = list(&remains.objects, " has ");
            let message = format!("Some resources are remaining: {what}");
            (
                "NamespaceContentRemaining",
                true,
                "SomeResourcesRemain",
                message,
            )
        },
        if remains.finalizers.is_empty() {
            (
                "NamespaceFinalizersRemaining",
                false,
                "ContentHasNoFinalizers",
                "All content-preserving finalizers finished".to_owned(),
            )
        } else {
            let what = list(&remains.finalizers, " in ");
            let message = format!("Some content in the namespace has finalizers remaining: {what}");
            (
                "NamespaceFinalizersRemaining",
                true,
                "SomeFinalizersRemain",
                message,
            )
        },
    ]
}

fn set(
    conditions: &mut Vec<NamespaceCondition>,
    (type_, holds, reason, message): Words,
    now: &Time,
) {
    let status = if holds { "True" } else { "False" };
    let mut new = NamespaceCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        last_transition_time: Some(now.clone()),
        reason: Some(reason.to_owned()),
        message: Some(message),
    };
    match conditions
        .iter_mut()
        .find(|condition| condition.type_ == type_)
    {
        Some(old) => {
            if old.status == new.status {
                new.last_transition_time
                    .clone_from(&old.last_transition_time);
            }
            *old = new;
        }
        None => conditions.push(new),
    }
}
