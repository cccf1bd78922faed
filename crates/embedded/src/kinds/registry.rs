//! The table of kinds being served. Shared by all requests; custom kinds come and go at run time.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use serde_json::Value;

use super::{Kind, builtin, custom};
use crate::status::Failure;

/// Group, plural and version, the order in which discovery lists them.
type Key = (String, String, String);

/// The kinds being served.
#[derive(Debug)]
pub struct Registry {
    kinds: RwLock<BTreeMap<Key, Arc<Kind>>>,
    documents: Mutex<BTreeMap<(String, String), Arc<Document>>>,
}

/// An `OpenAPI` document with the hash of its content, kept while the kinds of its group version stay the same.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) value: Value,
    pub(crate) hash: String,
}

impl Registry {
    /// Only the built-in kinds.
    #[must_use]
    pub fn builtin() -> Self {
        let kinds = builtin::kinds()
            .into_iter()
            .map(|kind| (key(&kind), Arc::new(kind)));
        Self {
            kinds: RwLock::new(kinds.collect()),
            documents: Mutex::default(),
        }
    }

    /// Serves what a `CustomResourceDefinition` says, in place of what it said before; answers the kinds, one for
    /// each served version.
    ///
    /// # Errors
    /// 422 if a schema cannot be compiled.
    pub fn install_crd(&self, crd: &Value) -> Result<Vec<Arc<Kind>>, Failure> {
        let added: Vec<Arc<Kind>> = custom::kinds(crd)?.into_iter().map(Arc::new).collect();
        if let Some(first) = added.first() {
            self.remove(&first.group, &first.plural);
        }
        for kind in &added {
            self.forget_documents(&kind.group);
        }
        let mut kinds = self.kinds.write().unwrap_or_else(PoisonError::into_inner);
        kinds.extend(added.iter().map(|kind| (key(kind), kind.clone())));
        Ok(added)
    }

    /// Stops serving a resource in all its versions.
    pub fn remove(&self, group: &str, plural: &str) {
        self.forget_documents(group);
        let mut kinds = self.kinds.write().unwrap_or_else(PoisonError::into_inner);
        kinds.retain(|key, _| key.0 != group || key.1 != plural);
    }

    /// The kind behind a path.
    #[must_use]
    pub fn lookup(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Kind>> {
        let key = (group.to_owned(), plural.to_owned(), version.to_owned());
        let kinds = self.kinds.read().unwrap_or_else(PoisonError::into_inner);
        kinds.get(&key).cloned()
    }

    /// The kind of an object by its `apiVersion` and `kind`.
    #[must_use]
    pub fn lookup_kind(&self, api_version: &str, kind: &str) -> Option<Arc<Kind>> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let kinds = self.kinds.read().unwrap_or_else(PoisonError::into_inner);
        let found = kinds
            .values()
            .find(|k| k.kind == kind && k.group == group && k.version == version);
        found.cloned()
    }

    /// All kinds, by group, plural and version.
    #[must_use]
    pub fn kinds(&self) -> Vec<Arc<Kind>> {
        let kinds = self.kinds.read().unwrap_or_else(PoisonError::into_inner);
        kinds.values().cloned().collect()
    }

    /// The `OpenAPI` document of a group version, made by `make` unless it is there.
    pub(crate) fn document(
        &self,
        group: &str,
        version: &str,
        make: impl FnOnce() -> Option<Document>,
    ) -> Option<Arc<Document>> {
        let key = (group.to_owned(), version.to_owned());
        let mut documents = self
            .documents
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(document) = documents.get(&key) {
            return Some(document.clone());
        }
        let document = Arc::new(make()?);
        documents.insert(key, document.clone());
        Some(document)
    }

    fn forget_documents(&self, group: &str) {
        let mut documents = self
            .documents
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        documents.retain(|(of, _), _| of != group);
    }

    /// The groups of the built-in kinds, in the order in which discovery lists them.
    #[must_use]
    pub fn builtin_groups() -> &'static [&'static str] {
        &builtin::GROUPS
    }

    /// Whether a group is one of the built-in ones (an unknown resource in those is a `Status`, elsewhere plain text).
    #[must_use]
    pub fn is_builtin_group(group: &str) -> bool {
        builtin::GROUPS.contains(&group)
    }
}

fn key(kind: &Kind) -> Key {
    (
        kind.group.clone(),
        kind.plural.clone(),
        kind.version.clone(),
    )
}
