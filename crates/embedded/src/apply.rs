//! Field ownership: server-side apply, and the `managedFields` that every write leaves behind.
//!
//! Who last set a field owns it. An applied configuration is merged into the object field by field; what its manager
//! applied before and no longer does goes away, unless others own it too; what others own with another value is a
//! conflict. The rules are those of <https://kubernetes.io/docs/reference/using-api/server-side-apply/>.

use serde_json::Value;

use crate::{
    kinds::Kind,
    schema::Schema,
    status::{Cause, Details, Failure},
};

mod compare;
mod managers;
mod merge;
mod set;
mod shape;

use compare::Changes;
use managers::{Managers, Operation};
use set::Set;

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
/// 500 for a configuration that does not fit the schema.
pub fn apply(
    kind: &Kind,
    live: Option<&Value>,
    applied: &Value,
    writer: Writer<'_>,
    force: bool,
) -> Result<Value, Failure> {
    let schema = kind.schema().as_ref();
    let whole = in_scope(kind, applied, writer.subresource);
    let mut configuration = whole.clone();
    if !kind.custom {
        merge::drop_hollow(Some(schema), live, &mut configuration);
    }
    shape::check(schema, &without_bookkeeping(applied)).map_err(|fault| {
        let text = |key: &str| applied["metadata"][key].as_str().unwrap_or_default();
        Failure::internal(format!(
            "failed to create typed patch object ({}/{}; {}/{}, Kind={}): {fault}",
            text("namespace"),
            text("name"),
            kind.group,
            kind.version,
            kind.kind
        ))
    })?;
    let mut managers = live.map(Managers::of).unwrap_or_default();
    let before = match live {
        Some(live) => without_bookkeeping(live),
        None => kind.empty(),
    };
    if live.is_some() && managers.is_empty() {
        let own = in_scope(kind, &before, writer.subresource);
        let all = Changes::between(schema, &kind.empty(), &own).gained();
        managers.own(
            "before-first-apply",
            Operation::Update,
            &kind.api_version(),
            Some(writer.time),
            owned(all),
        );
    }
    let last = managers.applied_set(writer.manager, writer.subresource);
    // Also the empty maps that are not kept have an owner.
    let set = owned(Set::of_configuration(schema, &whole));
    managers.replace_applied(writer, &kind.api_version(), set);
    let mut merged = merge::merge(Some(schema), &before, &configuration);
    if let Some(last) = last {
        let kept = managers.union();
        merge::prune(Some(schema), &mut merged, &last, &kept);
    }
    let changes = Changes::between(schema, &before, &merged);
    let gained = changes.gained();
    let conflicts = managers.conflicts(writer, &gained);
    let taken_over = || {
        let before_kubectl = applied_by_kubectl(kind, live).filter(|_| writer.manager == KUBECTL);
        before_kubectl.is_some_and(|applied| {
            let others = gained.without(&applied);
            managers.conflicts(writer, &others).is_empty()
        })
    };
    if !conflicts.is_empty() && !force && !taken_over() {
        return Err(refuse(&conflicts));
    }
    managers.yield_fields(writer, &gained, &changes.removed);
    if live.is_none() || before != merged || configuration != whole {
        managers.stamp_applied(writer);
    }
    managers.write_into(&mut merged);
    Ok(merged)
}

/// The field manager of `kubectl apply --server-side`.
const KUBECTL: &str = "kubectl";

/// What `kubectl apply` applied last without the server's help. It may take these fields over from itself: the real
/// server's `LastAppliedManager` does not count them as conflicts.
fn applied_by_kubectl(kind: &Kind, live: Option<&Value>) -> Option<Set> {
    let annotations = &live?["metadata"]["annotations"];
    let text = annotations["kubectl.kubernetes.io/last-applied-configuration"].as_str()?;
    let configuration: Value = serde_json::from_str(text).ok()?;
    let configuration = in_scope(kind, &configuration, None);
    Some(owned(Set::of_configuration(
        kind.schema().as_ref(),
        &configuration,
    )))
}

fn refuse(conflicts: &[managers::Conflict]) -> Failure {
    let causes = conflicts
        .iter()
        .map(|conflict| {
            let message = format!("conflict with {}", conflict.manager);
            Cause::new("FieldManagerConflict", conflict.path.as_str(), message)
        })
        .collect();
    let message = if let [only] = conflicts {
        format!(
            "Apply failed with 1 conflict: conflict with {}: {}",
            only.manager, only.path
        )
    } else {
        let mut lines = Vec::new();
        let mut last = None;
        for conflict in conflicts {
            if last != Some(&conflict.manager) {
                lines.push(format!("conflicts with {}:", conflict.manager));
                last = Some(&conflict.manager);
            }
            lines.push(format!("- {}", conflict.path));
        }
        format!(
            "Apply failed with {} conflicts: {}",
            conflicts.len(),
            lines.join("\n")
        )
    };
    let details = Details {
        causes,
        ..Details::default()
    };
    Failure::status(409, "Conflict", message, Some(details))
}

/// Writes into `new` the `managedFields` that follow from a create, update or patch by `writer`; `live` is the object
/// as stored before. To be called with everything but `resourceVersion` in place.
pub fn track_update(kind: &Kind, live: Option<&Value>, new: &mut Value, writer: Writer<'_>) {
    let given = new["metadata"]["managedFields"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let reset = matches!(given.as_slice(), [Value::Object(entry)] if entry.is_empty());
    let mut managers = match live {
        _ if reset => Managers::default(),
        Some(live) if given.is_empty() => Managers::of(live),
        _ => Managers::of(new),
    };
    let untracked = reset || (live.is_some() && managers.is_empty());
    if !untracked {
        let schema = kind.schema().as_ref();
        let before = match live {
            Some(live) => in_scope(kind, &without_bookkeeping(live), writer.subresource),
            None => kind.empty(),
        };
        let mut after = in_scope(kind, &without_bookkeeping(new), writer.subresource);
        kind.fill_in(&mut after);
        let changes = Changes::between(schema, &before, &after);
        let gained = owned(changes.gained());
        managers.yield_all(&gained, &changes.removed);
        if !gained.is_empty() {
            managers.add(writer, &kind.api_version(), gained);
            managers.forget_ancient();
        }
    }
    managers.write_into(new);
}

/// The part of an object that a write through the main resource or through a subresource is about.
fn in_scope(kind: &Kind, object: &Value, subresource: Option<&str>) -> Value {
    let mut object = object.clone();
    let Some(map) = object.as_object_mut() else {
        return object;
    };
    match subresource {
        Some("status") => {
            map.retain(|key, _| {
                kind.custom && matches!(key.as_str(), "apiVersion" | "kind" | "status")
                    || !kind.custom && key != "spec"
            });
        }
        _ if kind.has_status => {
            map.remove("status");
        }
        _ => {}
    }
    object
}

/// An object without its `managedFields`.
fn without_bookkeeping(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    object
}

/// A set without the fields that nobody owns: identity and what the server itself sets.
fn owned(mut set: Set) -> Set {
    for field in ["f:apiVersion", "f:kind"] {
        set.remove_below(&[field]);
    }
    set.disown(&["f:metadata"]);
    for field in [
        "f:name",
        "f:namespace",
        "f:creationTimestamp",
        "f:selfLink",
        "f:uid",
        "f:generation",
        "f:managedFields",
        "f:resourceVersion",
    ] {
        set.remove_below(&["f:metadata", field]);
    }
    set
}

/// The schema of a field; metadata has its own also where a custom resource says nothing about it.
fn field_schema<'a>(schema: Option<&'a Schema>, at_root: bool, name: &str) -> Option<&'a Schema> {
    if at_root && name == "metadata" {
        return Some(crate::schema::builtin::object_meta());
    }
    schema?.field(name)
}
