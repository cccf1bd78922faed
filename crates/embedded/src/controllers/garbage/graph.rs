//! Who owns whom: a graph of objects by uid, built from what watches show.
//!
//! Pure: changes go in, the uids of objects to look at come out.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::controllers::inventory::{Change, Resource, ResourceId};

/// Finalizer of an owner that goes after its dependents.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";
/// Finalizer of an owner that leaves its dependents behind.
pub(crate) const ORPHAN: &str = "orphan";

/// The uid of an object.
pub(crate) type Uid = String;

/// An object, as far as ownership goes.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Its kind.
    pub(crate) resource: Arc<Resource>,
    /// Its namespace, if it has one.
    pub(crate) namespace: Option<String>,
    /// Its name.
    pub(crate) name: String,
    /// Its owners.
    pub(crate) owners: Vec<OwnerReference>,
    /// Somebody has deleted it.
    pub(crate) deleting: bool,
    /// It waits until its dependents are gone.
    pub(crate) foreground: bool,
    /// It waits until its dependents no longer name it.
    pub(crate) orphan: bool,
}

impl Node {
    /// From what the API says.
    pub(crate) fn new(resource: Arc<Resource>, meta: &ObjectMeta) -> Self {
        let has = |finalizer: &str| {
            meta.finalizers
                .iter()
                .flatten()
                .any(|name| name == finalizer)
        };
        let deleting = meta.deletion_timestamp.is_some();
        Self {
            resource,
            namespace: meta.namespace.clone(),
            name: meta.name.clone().unwrap_or_default(),
            owners: meta.owner_references.clone().unwrap_or_default(),
            deleting,
            foreground: deleting && has(FOREGROUND),
            orphan: deleting && has(ORPHAN),
        }
    }

    /// Whether `reference`, found in an object of `namespace`, means this object.
    pub(crate) fn is_meant(&self, reference: &OwnerReference, namespace: Option<&str>) -> bool {
        owner_id(reference)
            == (
                self.resource.api.group.clone(),
                self.resource.api.kind.clone(),
            )
            && reference.name == self.name
            && (!self.resource.namespaced || self.namespace.as_deref() == namespace)
    }
}

/// Group and kind that an owner reference names. The version does not matter.
pub(crate) fn owner_id(owner: &OwnerReference) -> ResourceId {
    let group = owner
        .api_version
        .split_once('/')
        .map_or("", |(group, _)| group);
    (group.to_owned(), owner.kind.clone())
}

/// All objects that are known, and their dependents, also of owners that are not known.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    nodes: HashMap<Uid, Node>,
    dependents: HashMap<Uid, BTreeSet<Uid>>,
    /// Kinds that are being listed, with the uids seen so far.
    listing: HashMap<ResourceId, HashSet<Uid>>,
    /// Objects with an owner of a kind that is not served.
    unresolved: BTreeSet<Uid>,
}

fn id(resource: &Resource) -> ResourceId {
    (resource.api.group.clone(), resource.api.kind.clone())
}

impl Graph {
    /// The object with this uid.
    pub(crate) fn get(&self, uid: &Uid) -> Option<&Node> {
        self.nodes.get(uid)
    }

    /// The uids of objects that name this one as an owner.
    pub(crate) fn dependents(&self, uid: &Uid) -> impl Iterator<Item = &Uid> {
        self.dependents.get(uid).into_iter().flatten()
    }

    /// Those of them that do not wait for their own dependents. Looking at the others changes nothing.
    pub(crate) fn dependents_to_delete(&self, uid: &Uid) -> Vec<Uid> {
        let dependents = self.dependents(uid);
        let to_delete = dependents.filter(|uid| !self.waits_for_dependents(uid));
        to_delete.cloned().collect()
    }

    /// Whether one of them waits for its own dependents: perhaps for this object in the end.
    pub(crate) fn has_waiting_dependents(&self, uid: &Uid) -> bool {
        let mut dependents = self.dependents(uid);
        dependents.any(|uid| self.waits_for_dependents(uid))
    }

    /// Whether a dependent keeps an owner that is deleted in the foreground.
    pub(crate) fn is_blocked(&self, uid: &Uid) -> bool {
        self.dependents(uid)
            .filter_map(|uid| self.nodes.get(uid))
            .any(|node| {
                let mut refs = node.owners.iter().filter(|owner| owner.uid == *uid);
                refs.any(|owner| owner.block_owner_deletion == Some(true))
            })
    }

    /// Look at this object again when kinds are added.
    pub(crate) fn set_unresolved(&mut self, uid: Uid) {
        self.unresolved.insert(uid);
    }

    /// Takes a change in. Answers whom to look at.
    pub(crate) fn observe(&mut self, change: &Change) -> Vec<Uid> {
        match change {
            Change::KindAdded => std::mem::take(&mut self.unresolved).into_iter().collect(),
            Change::KindRemoved(resource) => {
                self.listing.remove(&id(resource));
                self.remove_where(|node| id(&node.resource) == id(resource), &HashSet::new())
            }
            Change::Listing(resource) => {
                self.listing.insert(id(resource), HashSet::new());
                Vec::new()
            }
            Change::Listed(resource) => {
                let seen = self.listing.remove(&id(resource)).unwrap_or_default();
                let mut look = self.remove_where(|node| id(&node.resource) == id(resource), &seen);
                look.extend(self.ownerless(resource));
                look
            }
            Change::Applied(resource, meta) => {
                let Some(uid) = &meta.uid else {
                    return Vec::new();
                };
                if let Some(seen) = self.listing.get_mut(&id(resource)) {
                    seen.insert(uid.clone());
                }
                self.insert(uid, Node::new(resource.clone(), meta))
            }
            Change::Deleted(_, meta) => meta
                .uid
                .as_ref()
                .map(|uid| self.remove(uid))
                .unwrap_or_default(),
        }
    }

    fn insert(&mut self, uid: &Uid, node: Node) -> Vec<Uid> {
        let mut look = Vec::new();
        let old = self.nodes.get(uid);
        let old_owners: Vec<Uid> = old
            .iter()
            .flat_map(|node| &node.owners)
            .map(|owner| owner.uid.clone())
            .collect();
        if node.deleting {
            if (node.foreground || node.orphan)
                && old.is_none_or(|old| {
                    (old.foreground, old.orphan) != (node.foreground, node.orphan)
                })
            {
                look.push(uid.clone());
            }
        } else if node.owners.iter().any(|owner| {
            self.nodes.get(&owner.uid).is_none_or(|known| {
                known.foreground || !known.is_meant(owner, node.namespace.as_deref())
            })
        }) {
            look.push(uid.clone());
        }
        for owner in &old_owners {
            self.unlink(owner, uid);
        }
        for owner in &node.owners {
            self.dependents
                .entry(owner.uid.clone())
                .or_default()
                .insert(uid.clone());
        }
        look.extend(
            old_owners
                .into_iter()
                .filter(|owner| self.waits_for_dependents(owner)),
        );
        self.nodes.insert(uid.clone(), node);
        look
    }

    fn remove(&mut self, uid: &Uid) -> Vec<Uid> {
        self.unresolved.remove(uid);
        let mut look: Vec<Uid> = self.dependents(uid).cloned().collect();
        if let Some(node) = self.nodes.remove(uid) {
            for owner in node.owners {
                self.unlink(&owner.uid, uid);
                if self.waits_for_dependents(&owner.uid) {
                    look.push(owner.uid);
                }
            }
        }
        look
    }

    fn unlink(&mut self, owner: &Uid, dependent: &Uid) {
        if let Some(dependents) = self.dependents.get_mut(owner) {
            dependents.remove(dependent);
            if dependents.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }

    fn waits_for_dependents(&self, uid: &Uid) -> bool {
        self.nodes.get(uid).is_some_and(|node| node.foreground)
    }

    fn remove_where(&mut self, gone: impl Fn(&Node) -> bool, except: &HashSet<Uid>) -> Vec<Uid> {
        let uids: Vec<Uid> = self
            .nodes
            .iter()
            .filter(|(uid, node)| gone(node) && !except.contains(*uid))
            .map(|(uid, _)| uid.clone())
            .collect();
        uids.iter().flat_map(|uid| self.remove(uid)).collect()
    }

    /// Objects whose owner is of this kind and not there.
    fn ownerless(&self, resource: &Resource) -> Vec<Uid> {
        self.nodes
            .iter()
            .filter(|(_, node)| {
                let mut owners = node.owners.iter();
                owners.any(|owner| {
                    owner_id(owner) == id(resource) && !self.nodes.contains_key(&owner.uid)
                })
            })
            .map(|(uid, _)| uid.clone())
            .collect()
    }
}
