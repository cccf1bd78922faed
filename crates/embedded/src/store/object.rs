//! An object at one revision, and the change that led to it.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde_json::Value;

/// An object as it was at one revision.
#[derive(Debug)]
pub struct Revised {
    /// Key in the store.
    pub key: String,
    /// The revision, equal to `metadata.resourceVersion`.
    pub revision: u64,
    /// Revision at which the object was created.
    pub created: u64,
    /// The object.
    pub value: Value,
    json: OnceLock<Bytes>,
}

impl Revised {
    pub(super) fn new(key: String, revision: u64, created: u64, value: Value) -> Self {
        Self {
            key,
            revision,
            created,
            value,
            json: OnceLock::new(),
        }
    }

    /// The object as JSON, made once and shared by all who read it.
    #[must_use]
    pub fn json(&self) -> &Bytes {
        self.json
            .get_or_init(|| Bytes::from(serde_json::to_vec(&self.value).unwrap_or_default()))
    }
}

/// One change of one object.
#[derive(Debug)]
pub struct Change {
    /// The state after it; for a deletion the last state with the deletion's revision.
    pub object: Arc<Revised>,
    /// The state before; `None` for a creation.
    pub previous: Option<Arc<Revised>>,
    /// The object is gone.
    pub deleted: bool,
}

/// Writes `metadata.resourceVersion`, making `metadata` where it is missing.
pub(super) fn stamp(value: &mut Value, revision: u64) {
    if let Some(object) = value.as_object_mut() {
        let metadata = object
            .entry("metadata")
            .or_insert_with(|| Value::Object(serde_json::Map::new()));
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.insert("resourceVersion".into(), revision.to_string().into());
        }
    }
}
