//! Garbage collection by owner reference.
//!
//! An object all of whose owners are gone is deleted. Whether an owner is gone is asked of the API itself, by
//! name and uid, never concluded from what a watch has not shown yet. An owner that is deleted in the
//! foreground keeps the finalizer `foregroundDeletion` until every dependent with `blockOwnerDeletion` is gone; one
//! that leaves its dependents behind keeps `orphan` until none of them names it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{
    Client,
    api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy},
};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    MANAGER,
    inventory::{Change, Kinds},
    queue::{After, Inbox},
};

mod graph;

use graph::{FOREGROUND, Graph, Node, ORPHAN, Uid, owner_id};

/// The collector. [`GarbageCollector::observe`] feeds it, [`GarbageCollector::run`] works.
pub(crate) struct GarbageCollector {
    client: Client,
    kinds: Kinds,
    graph: Mutex<Graph>,
    inbox: Inbox<Uid>,
}

/// What is known of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// It is there.
    Solid,
    /// It is not, or another object has its name.
    Absent,
    /// It is deleted in the foreground and waits for its dependents.
    Waiting,
}

impl GarbageCollector {
    /// A collector that knows no objects yet.
    pub(crate) fn new(client: Client, kinds: Kinds) -> Self {
        Self {
            client,
            kinds,
            graph: Mutex::default(),
            inbox: Inbox::new(),
        }
    }

    /// Takes a change of the inventory in.
    pub(crate) fn observe(&self, change: &Change) {
        let look = self.graph().observe(change);
        self.look_at(look);
    }

    /// Works until `shutdown`; a second call does nothing.
    pub(crate) async fn run(&self, concurrency: usize, shutdown: &CancellationToken) {
        self.inbox
            .run(concurrency, shutdown, |uid| self.work(uid))
            .await;
    }

    fn graph(&self) -> MutexGuard<'_, Graph> {
        self.graph.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look_at(&self, uids: Vec<Uid>) {
        if !uids.is_empty() {
            self.inbox.add(uids);
        }
    }

    async fn work(&self, uid: Uid) -> After {
        let Some(node) = self.graph().get(&uid).cloned() else {
            return After::Idle;
        };
        let result = if node.orphan {
            self.orphan_dependents(&uid, &node).await
        } else if node.foreground {
            self.delete_dependents(&uid, &node).await
        } else if node.deleting {
            Ok(())
        } else {
            self.collect(&uid, &node).await
        };
        match result {
            Ok(()) => After::Idle,
            Err(error) if is_not_found(&error) => After::Idle,
            // Somebody else was faster; what the API holds is read anew.
            Err(kube::Error::Api(status)) if status.is_conflict() => After::Again(Duration::ZERO),
            Err(error) => {
                warn!(%error, kind = node.resource.api.kind, name = node.name, "garbage not collected");
                After::Failed
            }
        }
    }

    /// Deletes the object if no owner is left.
    async fn collect(&self, uid: &Uid, node: &Node) -> Result<(), kube::Error> {
        if !self
            .owners(uid, node, &node.owners)
            .await?
            .values()
            .any(|owner| *owner != Owner::Solid)
        {
            return Ok(());
        }
        // What the watch has shown may be old: decide on what the API holds now.
        let Some(live) = self.live(uid, node).await? else {
            return Ok(());
        };
        let references = live.owner_references.clone().unwrap_or_default();
        if references.is_empty() || live.deletion_timestamp.is_some() {
            return Ok(());
        }
        let owners = self.owners(uid, node, &references).await?;
        let solid = owners.values().any(|owner| *owner == Owner::Solid);
        let waiting = owners.values().any(|owner| *owner == Owner::Waiting);
        if owners.values().all(|owner| *owner == Owner::Solid) {
            return Ok(());
        }
        if solid {
            let keep = |owner: &OwnerReference| owners.get(&owner.uid) == Some(&Owner::Solid);
            return self.set_owners(node, &live, keep).await;
        }
        let has_dependents = self.graph().dependents(uid).next().is_some();
        if waiting && self.graph().has_waiting_dependents(uid) && blocks(&references) {
            // Its owner may wait for it, it for its dependent, and that for the owner. This change leads here again.
            return self.unblock(node, &live, references).await;
        }
        let finalizer = |name: &str| live.finalizers.iter().flatten().any(|other| other == name);
        let policy = if finalizer(ORPHAN) {
            PropagationPolicy::Orphan
        } else if finalizer(FOREGROUND) || (waiting && has_dependents) {
            PropagationPolicy::Foreground
        } else {
            PropagationPolicy::Background
        };
        let params = DeleteParams {
            propagation_policy: Some(policy),
            preconditions: Some(Preconditions {
                uid: Some(uid.clone()),
                resource_version: live.resource_version.clone(),
            }),
            ..DeleteParams::default()
        };
        let api = node.resource.all(&self.client, node.namespace.as_deref());
        api.delete(&node.name, &params).await.map(|_| ())
    }

    /// Where each owner stands, by uid.
    async fn owners(
        &self,
        uid: &Uid,
        node: &Node,
        references: &[OwnerReference],
    ) -> Result<BTreeMap<Uid, Owner>, kube::Error> {
        let mut owners = BTreeMap::new();
        for reference in references {
            let known = self.graph().get(&reference.uid).cloned();
            let known = known.filter(|known| known.is_meant(reference, node.namespace.as_deref()));
            let owner = match known {
                Some(known) if known.foreground => Owner::Waiting,
                Some(_) => Owner::Solid,
                None => self.ask(uid, node, reference).await?,
            };
            owners.insert(reference.uid.clone(), owner);
        }
        Ok(owners)
    }

    /// Asks the API for an owner that no watch has shown.
    async fn ask(
        &self,
        uid: &Uid,
        node: &Node,
        reference: &OwnerReference,
    ) -> Result<Owner, kube::Error> {
        let Some(resource) = self.kinds.get(&owner_id(reference)) else {
            // Nobody knows; perhaps its definition comes yet.
            self.graph().set_unresolved(uid.clone());
            return Ok(Owner::Solid);
        };
        if resource.namespaced && node.namespace.is_none() {
            // Not allowed, and never deleted for it.
            return Ok(Owner::Solid);
        }
        let api = resource.all(&self.client, node.namespace.as_deref());
        let live = match api.get_metadata_opt(&reference.name).await {
            // A kind that is no longer served: its 404 is not a Status.
            Err(kube::Error::Api(status)) if status.code == 404 => None,
            answer => answer?,
        };
        Ok(match live {
            Some(live) if live.metadata.uid.as_ref() == Some(&reference.uid) => {
                if Node::new(resource, &live.metadata).foreground {
                    Owner::Waiting
                } else {
                    Owner::Solid
                }
            }
            _ => Owner::Absent,
        })
    }

    /// What the API holds of this object; `None` if it is gone.
    async fn live(&self, uid: &Uid, node: &Node) -> Result<Option<ObjectMeta>, kube::Error> {
        let api = node.resource.all(&self.client, node.namespace.as_deref());
        let live = api.get_metadata_opt(&node.name).await?;
        Ok(live
            .map(|live| live.metadata)
            .filter(|live| live.uid.as_ref() == Some(uid)))
    }

    async fn set_owners(
        &self,
        node: &Node,
        live: &ObjectMeta,
        keep: impl Fn(&OwnerReference) -> bool,
    ) -> Result<(), kube::Error> {
        let owners: Vec<_> = live
            .owner_references
            .iter()
            .flatten()
            .filter(|owner| keep(owner))
            .collect();
        let owners = if owners.is_empty() {
            json!(null)
        } else {
            json!(owners)
        };
        self.patch(node, live, json!({"ownerReferences": owners}))
            .await
    }

    /// Nobody waits for this object any more.
    async fn unblock(
        &self,
        node: &Node,
        live: &ObjectMeta,
        mut references: Vec<OwnerReference>,
    ) -> Result<(), kube::Error> {
        for reference in &mut references {
            reference.block_owner_deletion = Some(false);
        }
        self.patch(node, live, json!({"ownerReferences": references}))
            .await
    }

    async fn remove_finalizer(
        &self,
        uid: &Uid,
        node: &Node,
        name: &str,
    ) -> Result<(), kube::Error> {
        let Some(live) = self.live(uid, node).await? else {
            return Ok(());
        };
        let rest: Vec<_> = live
            .finalizers
            .iter()
            .flatten()
            .filter(|other| *other != name)
            .collect();
        let rest = if rest.is_empty() {
            json!(null)
        } else {
            json!(rest)
        };
        self.patch(node, &live, json!({"finalizers": rest})).await
    }

    /// Changes metadata, if the object is still as `live` says.
    async fn patch(
        &self,
        node: &Node,
        live: &ObjectMeta,
        mut metadata: serde_json::Value,
    ) -> Result<(), kube::Error> {
        metadata["uid"] = json!(live.uid);
        metadata["resourceVersion"] = json!(live.resource_version);
        let params = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let api = node.resource.all(&self.client, node.namespace.as_deref());
        let patch = Patch::Merge(json!({"metadata": metadata}));
        api.patch_metadata(&node.name, &params, &patch)
            .await
            .map(|_| ())
    }

    /// Foreground: dependents go first, then the finalizer.
    async fn delete_dependents(&self, uid: &Uid, node: &Node) -> Result<(), kube::Error> {
        if self.graph().is_blocked(uid) {
            let dependents = self.graph().dependents_to_delete(uid);
            self.look_at(dependents);
            return Ok(());
        }
        self.remove_finalizer(uid, node, FOREGROUND).await
    }

    /// Orphan: no dependent names this object any more, then the finalizer goes.
    async fn orphan_dependents(&self, uid: &Uid, node: &Node) -> Result<(), kube::Error> {
        let dependents: Vec<(Uid, Node)> = {
            let graph = self.graph();
            let known = |other: &Uid| Some((other.clone(), graph.get(other)?.clone()));
            graph.dependents(uid).filter_map(known).collect()
        };
        for (dependent_uid, dependent) in dependents {
            if let Some(live) = self.live(&dependent_uid, &dependent).await? {
                let patched = self
                    .set_owners(&dependent, &live, |owner| owner.uid != *uid)
                    .await;
                patched.or_else(|error| {
                    if is_not_found(&error) {
                        Ok(())
                    } else {
                        Err(error)
                    }
                })?;
            }
        }
        self.remove_finalizer(uid, node, ORPHAN).await
    }
}

/// Whether some owner waits for whoever has these references.
fn blocks(references: &[OwnerReference]) -> bool {
    let mut references = references.iter();
    references.any(|reference| reference.block_owner_deletion == Some(true))
}

fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}
