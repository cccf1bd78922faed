//! `OpenAPI` v3 documents, as far as `kubectl` needs them: which kinds honour `fieldValidation`, how lists merge, and
//! the fields with their descriptions for `kubectl explain`.

pub mod v2;

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::{
    discovery,
    kinds::{KeptDocument, Kind, Registry},
    schema::builtin,
};

/// Media types of a patch of a built-in kind; a custom resource has no strategic merge patch.
const PATCHES: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];
const PATCH_BODY: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";

/// `GET /openapi/v3`: the documents, each with a hash of its content in its address.
#[must_use]
pub fn index(registry: &Registry) -> Value {
    let mut paths = Map::new();
    for kind in registry.kinds() {
        let place = place(&kind.group, &kind.version);
        if paths.contains_key(&place) {
            continue;
        }
        if let Some(document) = kept(registry, &kind.group, &kind.version) {
            let url = format!("/openapi/v3/{place}?hash={}", document.hash);
            paths.insert(place, json!({"serverRelativeURL": url}));
        }
    }
    json!({"paths": paths})
}

fn place(group: &str, version: &str) -> String {
    if group.is_empty() {
        format!("api/{version}")
    } else {
        format!("apis/{group}/{version}")
    }
}

/// `GET /openapi/v3/api/v1` or `/openapi/v3/apis/GROUP/VERSION`; `None` if there is no such group version.
#[must_use]
pub fn document(registry: &Registry, group: &str, version: &str) -> Option<Value> {
    kept(registry, group, version).map(|document| document.value.clone())
}

fn kept(registry: &Registry, group: &str, version: &str) -> Option<Arc<KeptDocument>> {
    registry.document(group, version, || {
        let value = make(registry, group, version)?;
        let hash = discovery::etag(&value);
        Some(KeptDocument { value, hash })
    })
}

fn make(registry: &Registry, group: &str, version: &str) -> Option<Value> {
    let mut kinds = registry.kinds();
    kinds.retain(|kind| kind.group == group && kind.version == version);
    if kinds.is_empty() {
        return None;
    }
    let mut schemas = Map::new();
    let mut paths = Map::new();
    for kind in &kinds {
        let name = add_schemas(kind, &mut schemas);
        add_paths(kind, &name, &mut paths);
    }
    schemas.insert(
        PATCH_BODY.to_owned(),
        json!({"description": "Patch is provided to give a concrete name and type to the request body of a patch.", "type": "object"}),
    );
    schemas.insert(LIST_META.to_owned(), list_meta());
    let title = if kinds.iter().all(|kind| kind.custom) {
        "Kubernetes CRD Swagger"
    } else {
        "Kubernetes"
    };
    let version = if kinds.iter().all(|kind| kind.custom) {
        "v0.1.0"
    } else {
        "v1.36.3"
    };
    Some(json!({
        "openapi": "3.0.0",
        "info": {"title": title, "version": version},
        "paths": paths,
        "components": {"schemas": schemas},
    }))
}

fn list_meta() -> Value {
    json!({
        "description": "Metadata of a list.",
        "type": "object",
        "properties": {
            "continue": {"type": "string", "description": "Where the next page begins; empty at the end."},
            "remainingItemCount": {"type": "integer", "format": "int64", "description": "How many items are left."},
            "resourceVersion": {"type": "string", "description": "The state of the store that the list shows."},
            "selfLink": {"type": "string", "description": "No longer set."},
        },
    })
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn identity(kind: &Kind) -> Value {
    json!({"group": kind.group, "version": kind.version, "kind": kind.kind})
}

/// Adds the schemas of a kind and of its list; answers the name of the first.
fn add_schemas(kind: &Arc<Kind>, schemas: &mut Map<String, Value>) -> String {
    let (name, mut object) = if kind.custom {
        custom_schema(kind, schemas)
    } else {
        let Some((name, definitions)) = builtin::openapi(&kind.group, &kind.kind) else {
            return String::new();
        };
        for (name, definition) in definitions {
            schemas
                .entry(name)
                .or_insert_with(|| with_references(definition));
        }
        let object = schemas.get(&name).cloned().unwrap_or_default();
        (name, object)
    };
    object["x-kubernetes-group-version-kind"] = json!([identity(kind)]);
    if !kind.selectable_fields.is_empty() {
        let fields: Vec<Value> = kind
            .selectable_fields
            .iter()
            .map(|path| json!({"fieldPath": path.trim_start_matches('.')}))
            .collect();
        object["x-kubernetes-selectable-fields"] = fields.into();
    }
    schemas.insert(name.clone(), object);
    if kind.is_stored() {
        let list = json!({
            "description": format!("{} is a list of {}.", kind.list_kind, kind.kind),
            "type": "object",
            "required": ["items"],
            "properties": {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "metadata": {"allOf": [reference(LIST_META)]},
                "items": {"type": "array", "items": reference(&name)},
            },
            "x-kubernetes-group-version-kind": [{"group": kind.group, "version": kind.version, "kind": kind.list_kind}],
        });
        schemas.insert(list_name(&name, kind), list);
    }
    name
}

fn list_name(name: &str, kind: &Kind) -> String {
    let package = name.rsplit_once('.').map_or("", |(package, _)| package);
    format!("{package}.{}", kind.list_kind)
}

/// The schema of a custom resource under the name that the real server gives it, `test.example.v1.Widget` for a
/// Widget of `example.test/v1`.
fn custom_schema(kind: &Kind, schemas: &mut Map<String, Value>) -> (String, Value) {
    let mut package: Vec<&str> = kind.group.split('.').rev().collect();
    package.push(&kind.version);
    let name = format!("{}.{}", package.join("."), kind.kind);
    let (metadata, definitions) = builtin::openapi_metadata();
    for (name, definition) in definitions {
        schemas
            .entry(name)
            .or_insert_with(|| with_references(definition));
    }
    let mut object = kind
        .openapi_schema()
        .cloned()
        .unwrap_or_else(|| json!({"type": "object"}));
    if !object.is_object() {
        object = json!({"type": "object"});
    }
    widen(&mut object);
    let fields = &mut object["properties"];
    if !fields.is_object() {
        *fields = json!({});
    }
    fields["apiVersion"] = json!({"type": "string", "description": "Group and version of this representation of the object."});
    fields["kind"] = json!({"type": "string", "description": "The type of the object."});
    fields["metadata"] =
        json!({"description": "The object's metadata.", "allOf": [reference(&metadata)]});
    (name, object)
}

/// A value that may be an integer or text says so in `OpenAPI`'s own words too.
fn widen(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if map.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true))
                && !map.contains_key("anyOf")
            {
                map.insert(
                    "anyOf".into(),
                    json!([{"type": "integer"}, {"type": "string"}]),
                );
            }
            for (key, value) in map.iter_mut() {
                if !matches!(key.as_str(), "default" | "enum" | "example") {
                    widen(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(widen),
        _ => {}
    }
}

/// References in the form and at the place that `OpenAPI` documents have them: beside a description, inside `allOf`.
fn with_references(schema: Value) -> Value {
    match schema {
        Value::Object(map) => {
            let mut result: Map<String, Value> = map
                .into_iter()
                .map(|(key, value)| (key, with_references(value)))
                .collect();
            let target = result
                .get("$ref")
                .and_then(Value::as_str)
                .and_then(|text| text.strip_prefix("#/$defs/"))
                .map(reference);
            if let Some(target) = target {
                result.remove("$ref");
                if result.is_empty() {
                    return target;
                }
                result.insert("allOf".into(), json!([target]));
            }
            Value::Object(result)
        }
        Value::Array(items) => items.into_iter().map(with_references).collect(),
        other => other,
    }
}

fn add_paths(kind: &Kind, schema: &str, paths: &mut Map<String, Value>) {
    let base = format!("/{}", place(&kind.group, &kind.version));
    let scope = if kind.namespaced {
        "/namespaces/{namespace}"
    } else {
        ""
    };
    let collection = format!("{base}{scope}/{}", kind.plural);
    let mut operations = Map::new();
    for (verb, method, action) in [
        ("list", "get", "list"),
        ("create", "post", "post"),
        ("deletecollection", "delete", "deletecollection"),
    ] {
        if kind.verbs.contains(&verb) {
            operations.insert(method.into(), operation(kind, schema, action));
        }
    }
    paths.insert(collection.clone(), Value::Object(operations));
    if !kind.is_stored() {
        return;
    }
    let item = format!("{collection}/{{name}}");
    paths.insert(
        item.clone(),
        item_operations(kind, schema, &["get", "put", "patch", "delete"]),
    );
    if kind.has_status {
        paths.insert(
            format!("{item}/status"),
            item_operations(kind, schema, &["get", "put", "patch"]),
        );
    }
}

fn item_operations(kind: &Kind, schema: &str, methods: &[&str]) -> Value {
    let operations = methods
        .iter()
        .map(|method| ((*method).to_owned(), operation(kind, schema, method)));
    Value::Object(operations.collect())
}

fn operation(kind: &Kind, schema: &str, action: &str) -> Value {
    let answer = match action {
        "list" => reference(&list_name(schema, kind)),
        _ => reference(schema),
    };
    let mut operation = json!({
        "responses": {"200": {"content": {"application/json": {"schema": answer}}}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": identity(kind),
    });
    let parameters: &[(&str, &str)] = match action {
        "patch" => &[
            ("dryRun", "string"),
            ("fieldManager", "string"),
            ("fieldValidation", "string"),
            ("force", "boolean"),
        ],
        "post" | "put" => &[
            ("dryRun", "string"),
            ("fieldManager", "string"),
            ("fieldValidation", "string"),
        ],
        "delete" => &[
            ("dryRun", "string"),
            ("gracePeriodSeconds", "integer"),
            ("propagationPolicy", "string"),
        ],
        "list" | "deletecollection" => &[
            ("fieldSelector", "string"),
            ("labelSelector", "string"),
            ("limit", "integer"),
            ("resourceVersion", "string"),
        ],
        _ => &[],
    };
    let parameters: Vec<Value> = parameters
        .iter()
        .map(|(name, kind)| json!({"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": true}}))
        .collect();
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    let content: Map<String, Value> = match action {
        "patch" => PATCHES
            .iter()
            .filter(|media| !(kind.custom && media.contains("strategic")))
            .map(|media| {
                (
                    (*media).to_owned(),
                    json!({"schema": reference(PATCH_BODY)}),
                )
            })
            .collect(),
        "post" | "put" => Map::from_iter([(
            "application/json".to_owned(),
            json!({"schema": reference(schema)}),
        )]),
        _ => Map::new(),
    };
    if !content.is_empty() {
        operation["requestBody"] = json!({"content": content, "required": true});
    }
    operation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_declares_field_validation_on_its_patch() {
        let registry = Registry::builtin();
        for kind in registry.kinds().iter().filter(|kind| kind.is_stored()) {
            let document = document(&registry, &kind.group, &kind.version).expect("a document");
            let patches = document["paths"]
                .as_object()
                .into_iter()
                .flatten()
                .filter_map(|(_, path)| path.get("patch"));
            let declares = |patch: &Value| {
                patch["x-kubernetes-group-version-kind"] == identity(kind)
                    && patch["parameters"]
                        .as_array()
                        .is_some_and(|all| all.iter().any(|p| p["name"] == "fieldValidation"))
            };
            assert!(
                patches.into_iter().any(declares),
                "{} {}",
                kind.group,
                kind.kind
            );
        }
    }

    #[test]
    fn every_reference_has_its_schema() {
        fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
            match value {
                Value::Object(map) => {
                    found.extend(map.get("$ref").and_then(Value::as_str));
                    map.values().for_each(|value| references(value, found));
                }
                Value::Array(items) => items.iter().for_each(|value| references(value, found)),
                _ => {}
            }
        }
        let registry = Registry::builtin();
        let document = document(&registry, "batch", "v1").expect("a document");
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 100);
        for reference in found {
            assert!(
                document.pointer(&reference[1..]).is_some(),
                "{reference} is missing"
            );
        }
        let containers = &document["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"]
            ["containers"];
        assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    }
}
