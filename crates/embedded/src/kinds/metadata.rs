//! The rules about `metadata` that hold for every kind.

use serde_json::Value;

use super::names::{self, NameForm};
use crate::{schema::path, status::Cause};

/// Size of all annotations together, in bytes.
const ANNOTATIONS_LIMIT: usize = 262_144;
/// Finalizers without a domain that the core kinds know.
const STANDARD_FINALIZERS: [&str; 4] = [
    "kubernetes",
    "orphan",
    "foregroundDeletion",
    "kubernetes.io/pv-protection",
];

/// Faults of the metadata of one object. `strict_finalizers` is for built-in kinds, whose finalizers must have a
/// domain.
pub(super) fn check(
    metadata: &Value,
    form: NameForm,
    strict_finalizers: bool,
    causes: &mut Vec<Cause>,
) {
    let text = |key: &str| metadata[key].as_str().unwrap_or_default();
    let mut invalid = |field: &str, value: &str, faults: Vec<String>| {
        for fault in faults {
            causes.push(Cause::invalid(field, &value.into(), fault));
        }
    };
    let generate_name = text("generateName");
    if !generate_name.is_empty() {
        let faults = names::object_name(form, generate_name, true);
        invalid("metadata.generateName", generate_name, faults);
    }
    let name = text("name");
    if !name.is_empty() {
        invalid("metadata.name", name, names::object_name(form, name, false));
    }
    if name.is_empty() {
        causes.push(Cause::required(
            "metadata.name",
            "name or generateName is required",
        ));
    }
    check_labels(&metadata["labels"], "metadata.labels", causes);
    check_annotations(&metadata["annotations"], "metadata.annotations", causes);
    check_owners(&metadata["ownerReferences"], causes);
    check_finalizers(&metadata["finalizers"], strict_finalizers, causes);
}

/// Faults of keys and values of labels.
pub(super) fn check_labels(labels: &Value, field: &str, causes: &mut Vec<Cause>) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        for fault in names::qualified_name(key) {
            causes.push(Cause::invalid(field, &key.as_str().into(), fault));
        }
        for fault in names::label_value(value.as_str().unwrap_or_default()) {
            causes.push(Cause::invalid(field, value, fault));
        }
    }
}

/// Faults of keys of annotations, and of their size.
pub(super) fn check_annotations(annotations: &Value, field: &str, causes: &mut Vec<Cause>) {
    let mut size = 0;
    for (key, value) in annotations.as_object().into_iter().flatten() {
        for fault in names::qualified_name(&key.to_lowercase()) {
            causes.push(Cause::invalid(field, &key.as_str().into(), fault));
        }
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > ANNOTATIONS_LIMIT {
        causes.push(Cause::too_long(field, ANNOTATIONS_LIMIT));
    }
}

fn check_owners(owners: &Value, causes: &mut Vec<Cause>) {
    const FIELD: &str = "metadata.ownerReferences";
    let owners = owners.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut controller: Option<&Value> = None;
    for owner in owners {
        let text = |key: &str| owner[key].as_str().unwrap_or_default();
        let api_version = text("apiVersion");
        let mut empty = |key: &str, why: &str| {
            let value = owner[key].as_str().unwrap_or_default();
            causes.push(Cause::invalid(path::child(FIELD, key), &value.into(), why));
        };
        if api_version.is_empty() || api_version.ends_with('/') {
            empty("apiVersion", "version must not be empty");
        }
        for key in ["kind", "name", "uid"] {
            if text(key).is_empty() {
                empty(key, "must not be empty");
            }
        }
        if api_version == "v1" && text("kind") == "Event" {
            let message = format!(
                "Invalid value: {}: /v1, Kind=Event is disallowed from being an owner",
                shown_owner(owner)
            );
            causes.push(Cause::new("FieldValueInvalid", FIELD, message));
        }
        if owner["controller"] == true {
            if let Some(first) = controller {
                let named = |o: &Value| {
                    format!(
                        "{}/{}",
                        o["kind"].as_str().unwrap_or_default(),
                        o["name"].as_str().unwrap_or_default()
                    )
                };
                let list: Vec<String> = owners.iter().map(shown_owner).collect();
                let message = format!(
                    "Invalid value: [{}]: Only one reference can have Controller set to true. Found \"true\" in references for {} and {}",
                    list.join(","),
                    named(first),
                    named(owner)
                );
                causes.push(Cause::new("FieldValueInvalid", FIELD, message));
            } else {
                controller = Some(owner);
            }
        }
    }
}

/// An owner reference as Go prints it: its fields in the order of the type.
fn shown_owner(owner: &Value) -> String {
    let keys = [
        "apiVersion",
        "kind",
        "name",
        "uid",
        "controller",
        "blockOwnerDeletion",
    ];
    let fields = keys
        .iter()
        .filter_map(|key| Some(format!("\"{key}\":{}", owner.get(*key)?)));
    format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
}

fn check_finalizers(finalizers: &Value, strict: bool, causes: &mut Vec<Cause>) {
    const FIELD: &str = "metadata.finalizers";
    let finalizers = finalizers.as_array().map(Vec::as_slice).unwrap_or_default();
    for finalizer in finalizers {
        for fault in names::qualified_name(finalizer.as_str().unwrap_or_default()) {
            causes.push(Cause::invalid(FIELD, finalizer, fault));
        }
    }
    let has = |name: &str| finalizers.iter().any(|f| f == name);
    if has("orphan") && has("foregroundDeletion") {
        causes.push(Cause::invalid(
            FIELD,
            &finalizers.into(),
            "finalizer orphan and foregroundDeletion cannot be both set",
        ));
    }
    if strict {
        for (i, finalizer) in finalizers.iter().enumerate() {
            let name = finalizer.as_str().unwrap_or_default();
            if !name.contains('/') && !STANDARD_FINALIZERS.contains(&name) {
                causes.push(Cause::invalid(
                    path::index(FIELD, i),
                    finalizer,
                    "name is neither a standard finalizer name nor is it fully qualified",
                ));
            }
        }
    }
}

/// Faults of a change of metadata.
pub(super) fn check_update(new: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let (new, old) = (&new["metadata"], &old["metadata"]);
    let finalizers = |metadata: &Value| -> Vec<String> {
        let list = metadata["finalizers"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        list.iter()
            .filter_map(|f| f.as_str().map(str::to_owned))
            .collect()
    };
    if old.get("deletionTimestamp").is_some_and(|t| !t.is_null()) {
        let before = finalizers(old);
        let mut added: Vec<String> = finalizers(new)
            .into_iter()
            .filter(|f| !before.contains(f))
            .collect();
        added.sort();
        if !added.is_empty() {
            let list: Vec<String> = added.iter().map(|f| format!("{f:?}")).collect();
            causes.push(Cause::forbidden(
                "metadata.finalizers",
                format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                    list.join(", ")
                ),
            ));
        }
    }
    for key in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        if new.get(key) != old.get(key) {
            let value = new.get(key).cloned().unwrap_or_default();
            causes.push(Cause::invalid(
                path::child("metadata", key),
                &value,
                "field is immutable",
            ));
        }
    }
}
