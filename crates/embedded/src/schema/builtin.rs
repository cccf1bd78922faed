//! Schemas of the built-in kinds, made from the types of the Kubernetes API.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use k8s_openapi::{
    api::{authentication, authorization, batch, coordination, core, events, rbac},
    apiextensions_apiserver::pkg::apis::apiextensions,
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value};

use super::{ListType, Schema, Type, listkinds};

/// Definitions whose inside is free, or refers to itself.
const FREE: [&str; 4] = ["FieldsV1", "JSONSchemaProps", "RawExtension", "JSON"];

/// The schema of a built-in kind, `None` if there is no such kind.
pub(crate) fn schema(group: &str, kind: &str) -> Option<Schema> {
    Some(read(source(group, kind)?))
}

/// The JSON schema of a built-in kind with the definitions that it refers to.
fn source(group: &str, kind: &str) -> Option<Source> {
    let source = match (group, kind) {
        ("", "ConfigMap") => definitions::<core::v1::ConfigMap>(),
        ("", "Event") => definitions::<core::v1::Event>(),
        ("", "Namespace") => definitions::<core::v1::Namespace>(),
        ("", "Node") => definitions::<core::v1::Node>(),
        ("", "PersistentVolumeClaim") => definitions::<core::v1::PersistentVolumeClaim>(),
        ("", "Pod") => definitions::<core::v1::Pod>(),
        ("", "Secret") => definitions::<core::v1::Secret>(),
        ("", "Service") => definitions::<core::v1::Service>(),
        ("", "ServiceAccount") => definitions::<core::v1::ServiceAccount>(),
        ("events.k8s.io", "Event") => definitions::<events::v1::Event>(),
        ("batch", "Job") => definitions::<batch::v1::Job>(),
        ("coordination.k8s.io", "Lease") => definitions::<coordination::v1::Lease>(),
        ("rbac.authorization.k8s.io", "ClusterRole") => definitions::<rbac::v1::ClusterRole>(),
        ("rbac.authorization.k8s.io", "ClusterRoleBinding") => {
            definitions::<rbac::v1::ClusterRoleBinding>()
        }
        ("rbac.authorization.k8s.io", "Role") => definitions::<rbac::v1::Role>(),
        ("rbac.authorization.k8s.io", "RoleBinding") => definitions::<rbac::v1::RoleBinding>(),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => {
            definitions::<apiextensions::v1::CustomResourceDefinition>()
        }
        ("authentication.k8s.io", "SelfSubjectReview") => {
            definitions::<authentication::v1::SelfSubjectReview>()
        }
        ("authorization.k8s.io", "SelfSubjectAccessReview") => {
            definitions::<authorization::v1::SelfSubjectAccessReview>()
        }
        ("authorization.k8s.io", "SelfSubjectRulesReview") => {
            definitions::<authorization::v1::SelfSubjectRulesReview>()
        }
        ("authorization.k8s.io", "SubjectAccessReview") => {
            definitions::<authorization::v1::SubjectAccessReview>()
        }
        ("authorization.k8s.io", "LocalSubjectAccessReview") => {
            definitions::<authorization::v1::LocalSubjectAccessReview>()
        }
        _ => return None,
    };
    Some(source)
}

/// The schema of the metadata of every object.
pub(crate) fn object_meta() -> &'static Schema {
    static SCHEMA: LazyLock<Schema> = LazyLock::new(|| read(definitions::<ObjectMeta>()));
    &SCHEMA
}

/// A JSON schema and the definitions that it refers to.
type Source = (Value, Map<String, Value>);

fn definitions<T: JsonSchema>() -> Source {
    let mut generator: SchemaGenerator = SchemaSettings::default().into_generator();
    let root = generator.subschema_for::<T>().to_value();
    (root, generator.take_definitions(true))
}

fn read((root, definitions): Source) -> Schema {
    let mut reader = Reader {
        definitions,
        types: BTreeMap::new(),
    };
    reader.node(&root).as_ref().clone()
}

/// The name of the definition of a built-in kind and all definitions that it needs, as an `OpenAPI` document has
/// them: with the markers by which `kubectl` computes its patches.
pub(crate) fn openapi(group: &str, kind: &str) -> Option<(String, Map<String, Value>)> {
    let (root, definitions) = source(group, kind)?;
    let name = definition_name(root["$ref"].as_str()?).to_owned();
    Some((name, documented(definitions)))
}

/// As [`openapi`], for the metadata of a custom resource.
pub(crate) fn openapi_metadata() -> (String, Map<String, Value>) {
    let (root, definitions) = definitions::<ObjectMeta>();
    let name = definition_name(root["$ref"].as_str().unwrap_or_default()).to_owned();
    (name, documented(definitions))
}

fn documented(definitions: Map<String, Value>) -> Map<String, Value> {
    let mut reader = Reader {
        definitions: definitions.clone(),
        types: BTreeMap::new(),
    };
    let mut documented = Map::new();
    for (name, mut definition) in definitions {
        let schema = reader.definition(&name);
        for (field, property) in definition
            .get_mut("properties")
            .and_then(Value::as_object_mut)
            .into_iter()
            .flatten()
        {
            if let Some(schema) = schema.properties.get(field) {
                mark(schema, property);
            }
        }
        documented.insert(name, definition);
    }
    documented
}

/// Writes how a field merges into its schema.
fn mark(schema: &Schema, property: &mut Value) {
    match schema.merge_key {
        Some("") => property["x-kubernetes-patch-strategy"] = "merge".into(),
        Some(key) => {
            let strategy = if schema.retain_keys {
                "merge,retainKeys"
            } else {
                "merge"
            };
            property["x-kubernetes-patch-strategy"] = strategy.into();
            property["x-kubernetes-patch-merge-key"] = key.into();
        }
        None => {}
    }
    match &schema.list_type {
        ListType::Map(keys) => {
            property["x-kubernetes-list-type"] = "map".into();
            property["x-kubernetes-list-map-keys"] = keys.clone().into();
        }
        ListType::Set => property["x-kubernetes-list-type"] = "set".into(),
        ListType::Atomic if schema.json_type == Type::Array => {
            property["x-kubernetes-list-type"] = "atomic".into();
        }
        ListType::Atomic => {}
    }
}

fn definition_name(reference: &str) -> &str {
    reference.rsplit('/').next().unwrap_or(reference)
}

/// Reads definitions, each once.
struct Reader {
    definitions: Map<String, Value>,
    types: BTreeMap<String, Arc<Schema>>,
}

impl Reader {
    fn node(&mut self, schema: &Value) -> Arc<Schema> {
        match schema["$ref"].as_str() {
            Some(reference) => self.definition(definition_name(reference)),
            None => Arc::new(self.inline(schema, "")),
        }
    }

    fn definition(&mut self, name: &str) -> Arc<Schema> {
        if let Some(known) = self.types.get(name) {
            return known.clone();
        }
        let short = name.rsplit('.').next().unwrap_or(name);
        let definition = self.definitions.get(name).cloned().unwrap_or_default();
        let mut schema = if FREE.contains(&short) {
            Schema {
                json_type: if short == "JSON" {
                    Type::Any
                } else {
                    Type::Object
                },
                preserve_unknown: true,
                atomic: true,
                ..Schema::default()
            }
        } else {
            let table_name = if name.starts_with("io.k8s.api.events.") {
                format!("events.{}", go_name(name))
            } else {
                go_name(name)
            };
            self.inline(&definition, &table_name)
        };
        match short {
            "Quantity" => "quantity".clone_into(&mut schema.format),
            "MicroTime" => "micro-time".clone_into(&mut schema.format),
            _ => {}
        }
        schema.type_name = go_name(name);
        let schema = Arc::new(schema);
        self.types.insert(name.to_owned(), schema.clone());
        schema
    }

    fn inline(&mut self, schema: &Value, type_name: &str) -> Schema {
        let text = |key: &str| schema[key].as_str().unwrap_or_default().to_owned();
        let mut node = Schema {
            description: text("description"),
            format: text("format"),
            int_or_string: schema["x-kubernetes-int-or-string"] == Value::Bool(true),
            json_type: match schema["type"].as_str() {
                Some("object") => Type::Object,
                Some("array") => Type::Array,
                Some("string") => Type::String,
                Some("integer") => Type::Integer,
                Some("number") => Type::Number,
                Some("boolean") => Type::Boolean,
                _ => Type::Any,
            },
            ..Schema::default()
        };
        listkinds::complete(&mut node, type_name);
        let required: Vec<&str> = schema["required"]
            .as_array()
            .map(|names| names.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        if let Some(properties) = schema["properties"].as_object() {
            for (name, property) in properties {
                let mut field = self.node(property).as_ref().clone();
                if let Some(description) = property["description"].as_str() {
                    description.clone_into(&mut field.description);
                }
                listkinds::complete_field(
                    type_name,
                    name,
                    required.contains(&name.as_str()),
                    &mut field,
                );
                node.properties.insert(name.clone(), Arc::new(field));
            }
        }
        node.required = required.into_iter().map(str::to_owned).collect();
        if schema["additionalProperties"].is_object() {
            node.additional = Some(self.node(&schema["additionalProperties"]));
        }
        if schema["items"].is_object() {
            node.items = Some(self.node(&schema["items"]));
        }
        node
    }
}

/// `v1.PodSpec` for `io.k8s.api.core.v1.PodSpec`.
fn go_name(definition: &str) -> String {
    let mut segments = definition.rsplit('.');
    let name = segments.next().unwrap_or_default();
    format!("{}.{name}", segments.next().unwrap_or_default())
}
