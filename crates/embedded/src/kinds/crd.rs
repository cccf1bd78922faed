//! Custom resource definitions as objects: defaults, faults, and the status they go through until their resources
//! are served.

use serde_json::{Map, Value, json};

use super::names;
use crate::{
    schema::{Schema, path},
    status::Cause,
};

/// Defaults of a definition.
pub(super) fn default_definition(definition: &mut Map<String, Value>) {
    let Some(Value::Object(spec)) = definition.get_mut("spec") else {
        return;
    };
    spec.entry("conversion")
        .or_insert_with(|| json!({"strategy": "None"}));
    if let Some(Value::Object(names)) = spec.get_mut("names")
        && let Some(kind) = names.get("kind").and_then(Value::as_str).map(str::to_owned)
        && !kind.is_empty()
    {
        names
            .entry("singular")
            .or_insert_with(|| kind.to_lowercase().into());
        names
            .entry("listKind")
            .or_insert_with(|| format!("{kind}List").into());
    }
}

/// The status of a new definition, before its names are looked at.
pub(super) fn prepare_create(definition: &mut Value) {
    let stored: Vec<Value> = versions(definition)
        .iter()
        .filter(|v| v["storage"] == true)
        .map(|v| v["name"].clone())
        .take(1)
        .collect();
    definition["status"] = json!({
        "conditions": null,
        "acceptedNames": {"plural": "", "kind": ""},
        "storedVersions": stored,
    });
}

/// A changed definition remembers each version that was ever stored.
pub(super) fn prepare_update(definition: &mut Value) {
    let stored: Vec<Value> = versions(definition)
        .iter()
        .filter(|v| v["storage"] == true)
        .map(|v| v["name"].clone())
        .collect();
    if let Some(list) = definition
        .pointer_mut("/status/storedVersions")
        .and_then(Value::as_array_mut)
    {
        for version in stored {
            if !list.contains(&version) {
                list.push(version);
            }
        }
    }
}

/// The first step after creation, as the server takes it by itself (manager `kube-apiserver`, subresource `status`):
/// the names are accepted. `time` is RFC 3339 in seconds.
pub fn accept_names(definition: &mut Value, time: &str) {
    let names = definition["spec"]["names"].clone();
    set_condition(
        definition,
        "NamesAccepted",
        "True",
        "NoConflicts",
        "no conflicts found",
        time,
    );
    if !is_established(definition) {
        let message = "the initial names have been accepted";
        set_condition(
            definition,
            "Established",
            "False",
            "Installing",
            message,
            time,
        );
    }
    definition["status"]["acceptedNames"] = names;
}

/// The second step: the resources are served.
pub fn establish(definition: &mut Value, time: &str) {
    let message = "the initial names have been accepted";
    set_condition(
        definition,
        "Established",
        "True",
        "InitialNamesAccepted",
        message,
        time,
    );
}

/// Whether the resources of a definition are served.
#[must_use]
pub fn is_established(definition: &Value) -> bool {
    let conditions = definition["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|c| c["type"] == "Established" && c["status"] == "True")
}

fn set_condition(
    definition: &mut Value,
    kind: &str,
    status: &str,
    reason: &str,
    message: &str,
    time: &str,
) {
    let conditions = &mut definition["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(conditions) = conditions.as_array_mut() else {
        return;
    };
    let known = conditions.iter_mut().find(|c| c["type"] == kind);
    let changed = known.as_ref().is_none_or(|c| c["status"] != status);
    let since = match &known {
        Some(condition) if !changed => condition["lastTransitionTime"].clone(),
        _ => time.into(),
    };
    let condition = json!({
        "type": kind, "status": status, "lastTransitionTime": since, "reason": reason, "message": message,
    });
    match known {
        Some(known) => *known = condition,
        None => conditions.push(condition),
    }
}

/// The versions of a definition.
pub(super) fn versions(definition: &Value) -> &[Value] {
    definition["spec"]["versions"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
}

/// Faults of a definition; `old` is the stored one of an update.
pub(super) fn check(definition: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = &definition["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (group, plural) = (text(&spec["group"]), text(&spec["names"]["plural"]));
    let name = &definition["metadata"]["name"];
    if *name != format!("{plural}.{group}") {
        causes.push(Cause::invalid(
            "metadata.name",
            name,
            "must be spec.names.plural+\".\"+spec.group",
        ));
    }
    if group.is_empty() {
        causes.push(Cause::required("spec.group", ""));
    } else if !group.contains('.') {
        causes.push(Cause::invalid(
            "spec.group",
            &spec["group"],
            "should be a domain with at least one dot",
        ));
    } else {
        for fault in names::subdomain(&group) {
            causes.push(Cause::invalid("spec.group", &spec["group"], fault));
        }
    }
    match spec["scope"].as_str().unwrap_or_default() {
        "Cluster" | "Namespaced" => {}
        "" => causes.push(Cause::required("spec.scope", "")),
        _ => causes.push(Cause::not_supported(
            "spec.scope",
            &spec["scope"],
            &["Cluster", "Namespaced"],
        )),
    }
    check_versions(definition, causes);
    for key in ["plural", "singular", "kind", "listKind"] {
        let value = text(&spec["names"][key]);
        let field = format!("spec.names.{key}");
        if value.is_empty() {
            causes.push(Cause::required(field, ""));
            continue;
        }
        for fault in names::label(&value.to_lowercase()) {
            causes.push(Cause::invalid(&field, &spec["names"][key], fault));
        }
    }
    if let Some(old) = old {
        check_update(definition, old, causes);
    }
}

/// What of a definition stays as it was: objects are kept under it.
fn check_update(definition: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let served: &[&str] = &["/spec/scope", "/spec/names/kind"];
    let fixed = if is_established(old) { served } else { &[] };
    for place in fixed.iter().chain(&["/spec/group", "/spec/names/plural"]) {
        let (new, before) = (definition.pointer(place), old.pointer(place));
        if new != before {
            let field = place.trim_start_matches('/').replace('/', ".");
            let value = new.cloned().unwrap_or_default();
            causes.push(Cause::invalid(field, &value, "field is immutable"));
        }
    }
    let stored = definition["status"]["storedVersions"].as_array();
    for (i, version) in stored.into_iter().flatten().enumerate() {
        if !versions(definition).iter().any(|v| v["name"] == *version) {
            let field = path::index("status.storedVersions", i);
            causes.push(Cause::invalid(
                field,
                version,
                "must appear in spec.versions",
            ));
        }
    }
}

fn check_versions(definition: &Value, causes: &mut Vec<Cause>) {
    let versions = versions(definition);
    let mut cost = 0;
    let mut faulty = Vec::new();
    for (i, version) in versions.iter().enumerate() {
        let schema = &version["schema"]["openAPIV3Schema"];
        // With a single version the real server moves its schema to the top before it looks at it.
        let at = if versions.len() == 1 {
            "spec.validation.openAPIV3Schema".to_owned()
        } else {
            format!("spec.versions[{i}].schema.openAPIV3Schema")
        };
        if schema.is_object() {
            let before = faulty.len();
            check_structure(schema, &at, true, &mut faulty);
            if faulty.len() == before {
                check_rules(schema, &at, &mut faulty, &mut cost);
                if cost > 0 {
                    faulty.push(Cause::forbidden(&at, "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget by factor of more than 100x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"));
                }
                if let Err(error) = Schema::compile(schema) {
                    faulty.push(Cause::invalid(&at, &"".into(), error.to_string()));
                }
            }
        } else {
            causes.push(Cause::required(
                format!("spec.versions[{i}].schema.openAPIV3Schema"),
                "",
            ));
        }
    }
    causes.extend(faulty);
    let storage: Vec<&Value> = versions.iter().filter(|v| v["storage"] == true).collect();
    if storage.len() != 1 {
        let shown = definition["spec"]["versions"].clone();
        causes.push(Cause::invalid(
            "spec.versions",
            &shown,
            "must have exactly one version marked as storage version",
        ));
    }
    let stored = &definition["status"]["storedVersions"];
    if let (Some(last), Some(list)) = (storage.last(), stored.as_array())
        && !list.contains(&last["name"])
    {
        let why = format!(
            "must have the storage version {}",
            last["name"].as_str().unwrap_or_default()
        );
        causes.push(Cause::invalid("status.storedVersions", stored, why));
    }
}

/// Nodes without a type, and fields that a structural schema may not have.
fn check_structure(schema: &Value, at: &str, root: bool, causes: &mut Vec<Cause>) {
    let kind = schema["type"].as_str().unwrap_or_default();
    let free = schema["x-kubernetes-int-or-string"] == true
        || schema["x-kubernetes-preserve-unknown-fields"] == true;
    if kind.is_empty() && !free {
        let what = if root {
            "must not be empty at the root"
        } else {
            "must not be empty for specified object fields"
        };
        let what = if at.rsplit_once('.').is_some_and(|(_, last)| last == "items") {
            "must not be empty for specified array items"
        } else {
            what
        };
        causes.push(Cause::required(path::child(at, "type"), what));
    } else if root && kind != "object" {
        causes.push(Cause::invalid(
            path::child(at, "type"),
            &kind.into(),
            "must be object at the root",
        ));
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        check_structure(
            property,
            &path::key(&path::child(at, "properties"), name),
            false,
            causes,
        );
    }
    if schema["items"].is_object() {
        check_structure(&schema["items"], &path::child(at, "items"), false, causes);
    }
    if schema["additionalProperties"].is_object() {
        check_structure(
            &schema["additionalProperties"],
            &path::child(at, "additionalProperties"),
            false,
            causes,
        );
    }
    if kind == "array" && !schema["items"].is_object() {
        causes.push(Cause::required(
            path::child(at, "items"),
            "must be specified",
        ));
    }
}

/// CEL rules that do not compile, and those whose cost cannot be bounded.
fn check_rules(schema: &Value, at: &str, causes: &mut Vec<Cause>, cost: &mut usize) {
    for (i, rule) in schema["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        let at = path::index(&path::child(at, "x-kubernetes-validations"), i);
        let text = |key: &str| rule[key].as_str().unwrap_or_default();
        if text("rule").trim().is_empty() {
            causes.push(Cause::required(
                path::child(&at, "rule"),
                "rule is not specified",
            ));
            continue;
        }
        for key in ["rule", "messageExpression"] {
            let expression = text(key);
            if expression.is_empty() {
                continue;
            }
            let field = path::child(&at, key);
            if let Err(error) = kube::core::cel::cel::Program::compile(expression) {
                causes.push(Cause::invalid(
                    &field,
                    &expression.into(),
                    format!("compilation failed: {error}"),
                ));
            }
            // A text made of a number has no bound in the estimate, and a message made of it exceeds the budget.
            if key == "messageExpression" && expression.contains("string(") {
                causes.push(Cause::forbidden(&field, "estimated messageExpression cost exceeds budget by factor of more than 100x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"));
                causes.push(Cause::forbidden(&field, "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"));
                *cost += 1;
            }
        }
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        check_rules(
            property,
            &path::key(&path::child(at, "properties"), name),
            causes,
            cost,
        );
    }
    for key in ["items", "additionalProperties"] {
        if schema[key].is_object() {
            check_rules(&schema[key], &path::child(at, key), causes, cost);
        }
    }
}
