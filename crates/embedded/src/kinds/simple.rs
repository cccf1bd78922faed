//! The rules of the kinds that have few: `ConfigMap`, Secret, Namespace, Lease, Event, `ServiceAccount`, RBAC.

use serde_json::{Map, Value, json};

use super::names;
use crate::{schema::path, status::Cause};

/// All data of a `ConfigMap` or Secret together, in bytes.
const DATA_LIMIT: usize = 1_048_576;

/// A Secret's `stringData` moves into `data`; the type has a default.
pub(super) fn default_secret(object: &mut Map<String, Value>) {
    use base64::Engine as _;
    if let Some(Value::Object(plain)) = object.remove("stringData") {
        let data = object.entry("data").or_insert_with(|| json!({}));
        for (key, value) in plain {
            let bytes = value.as_str().unwrap_or_default();
            data[key] = base64::engine::general_purpose::STANDARD
                .encode(bytes)
                .into();
        }
    }
    object.entry("type").or_insert_with(|| "Opaque".into());
}

/// A Namespace carries its name as a label.
pub(super) fn default_namespace(object: &mut Map<String, Value>) {
    let Some(metadata) = object.get_mut("metadata") else {
        return;
    };
    if let Some(name) = metadata["name"].as_str().map(str::to_owned)
        && !name.is_empty()
    {
        metadata["labels"]["kubernetes.io/metadata.name"] = name.into();
    }
}

/// Role references name their group.
pub(super) fn default_binding(object: &mut Map<String, Value>) {
    if let Some(Value::Object(role)) = object.get_mut("roleRef")
        && role.get("apiGroup").is_none_or(|group| group == "")
    {
        role.insert("apiGroup".into(), "rbac.authorization.k8s.io".into());
    }
    let subjects = object.get_mut("subjects").and_then(Value::as_array_mut);
    for subject in subjects.into_iter().flatten() {
        if subject.get("apiGroup").is_none_or(|group| group == "")
            && matches!(subject["kind"].as_str(), Some("User" | "Group"))
        {
            subject["apiGroup"] = "rbac.authorization.k8s.io".into();
        }
    }
}

/// The role of a binding stays.
pub(super) fn check_binding(object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let role = &object["roleRef"];
    if old.is_some_and(|old| old["roleRef"] != *role) {
        // In the spelling of Go's own structure.
        let shown = format!(
            "{{\"APIGroup\":{},\"Kind\":{},\"Name\":{}}}",
            role["apiGroup"], role["kind"], role["name"]
        );
        let message = format!("Invalid value: {shown}: cannot change roleRef");
        causes.push(Cause::new("FieldValueInvalid", "roleRef", message));
    }
}

/// Volume claims are for file systems unless they say otherwise.
pub(super) fn default_claim(object: &mut Map<String, Value>) {
    if let Some(Value::Object(spec)) = object.get_mut("spec") {
        spec.entry("volumeMode")
            .or_insert_with(|| "Filesystem".into());
    }
    if let Some(Value::Object(status)) = object.get_mut("status") {
        status.entry("phase").or_insert_with(|| "Pending".into());
    }
}

/// Keys and size of a `ConfigMap`.
pub(super) fn check_config_map(object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let mut size = 0;
    for field in ["data", "binaryData"] {
        for (key, value) in object[field].as_object().into_iter().flatten() {
            for fault in names::config_key(key) {
                causes.push(Cause::invalid(
                    path::key(field, key),
                    &key.as_str().into(),
                    fault,
                ));
            }
            if field == "binaryData" && object["data"].get(key).is_some() {
                let why = "duplicate of key present in data";
                causes.push(Cause::invalid(
                    path::key(field, key),
                    &key.as_str().into(),
                    why,
                ));
            }
            let length = value.as_str().map_or(0, str::len);
            size += if field == "binaryData" {
                length / 4 * 3
            } else {
                length
            };
        }
    }
    if size > DATA_LIMIT {
        causes.push(Cause::too_long("[]", DATA_LIMIT));
    }
    if let Some(old) = old {
        check_immutable(object, old, &["data", "binaryData"], causes);
    }
}

/// Keys, size and type of a Secret.
pub(super) fn check_secret(object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let mut size = 0;
    for (key, value) in object["data"].as_object().into_iter().flatten() {
        for fault in names::config_key(key) {
            causes.push(Cause::invalid(
                path::key("data", key),
                &key.as_str().into(),
                fault,
            ));
        }
        size += value.as_str().map_or(0, str::len) / 4 * 3;
    }
    if size > DATA_LIMIT + 2 {
        causes.push(Cause::too_long("data", DATA_LIMIT));
    }
    if let Some(old) = old {
        if object["type"] != old["type"] {
            causes.push(Cause::invalid(
                "type",
                &object["type"],
                "field is immutable",
            ));
        }
        check_immutable(object, old, &["data"], causes);
    }
}

fn check_immutable(object: &Value, old: &Value, fields: &[&str], causes: &mut Vec<Cause>) {
    const WHY: &str = "field is immutable when `immutable` is set";
    if old["immutable"] != true {
        return;
    }
    if object["immutable"] != true {
        causes.push(Cause::forbidden("immutable", WHY));
    }
    for field in fields {
        if object.get(*field) != old.get(*field) {
            causes.push(Cause::forbidden(*field, WHY));
        }
    }
}

/// Numbers of a Lease.
pub(super) fn check_lease(object: &Value, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    if spec["leaseDurationSeconds"]
        .as_i64()
        .is_some_and(|n| n <= 0)
    {
        causes.push(Cause::invalid(
            "spec.leaseDurationSeconds",
            &spec["leaseDurationSeconds"],
            "must be greater than 0",
        ));
    }
    if spec["leaseTransitions"].as_i64().is_some_and(|n| n < 0) {
        causes.push(Cause::invalid(
            "spec.leaseTransitions",
            &spec["leaseTransitions"],
            "must be greater than or equal to 0",
        ));
    }
}

/// An Event of either API group, in the form of the core group.
pub(super) fn check_event(
    object: &Value,
    through_events_group: bool,
    update: bool,
    causes: &mut Vec<Cause>,
) {
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
    let involved = object["involvedObject"]["namespace"]
        .as_str()
        .unwrap_or_default();
    if through_events_group {
        if update {
            return;
        }
        if involved.is_empty() && namespace != "default"
            || !involved.is_empty() && involved != namespace
        {
            let why = "does not match event.namespace";
            causes.push(Cause::invalid(
                "involvedObject.namespace",
                &involved.into(),
                why,
            ));
        }
        if object["eventTime"].is_null() {
            causes.push(Cause::required("eventTime", ""));
            let kind = object["type"].as_str().unwrap_or_default();
            if !matches!(kind, "Normal" | "Warning") {
                causes.push(Cause::invalid(
                    "type",
                    &"".into(),
                    format!("has invalid value: {kind}"),
                ));
            }
            return;
        }
        let required = [
            ("reportingComponent", "reportingController"),
            ("reportingInstance", "reportingInstance"),
            ("action", "action"),
            ("reason", "reason"),
        ];
        for (field, shown) in required {
            if object[field].as_str().unwrap_or_default().is_empty() {
                causes.push(Cause::required(shown, ""));
            }
        }
        let kind = object["type"].as_str().unwrap_or_default();
        if !matches!(kind, "Normal" | "Warning") {
            causes.push(Cause::invalid(
                "type",
                &"".into(),
                format!("has invalid value: {kind}"),
            ));
        }
        return;
    }
    if involved.is_empty() {
        if namespace != "default" {
            causes.push(Cause::invalid(
                "involvedObject.namespace",
                &involved.into(),
                "not allowed in namespace",
            ));
        }
    } else if involved != namespace {
        let why = "does not match event.namespace";
        causes.push(Cause::invalid(
            "involvedObject.namespace",
            &involved.into(),
            why,
        ));
    }
}
