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

use super::{Schema, Type, listkinds};

/// Definitions whose inside is free, or refers to itself.
const FREE: [&str; 4] = ["FieldsV1", "JSONSchemaProps", "RawExtension", "JSON"];

/// The schema of a built-in kind, `None` if there is no such kind.
pub(crate) fn schema(group: &str, kind: &str) -> Option<Schema> {
    let schema = match (group, kind) {
        ("", "ConfigMap") => of::<core::v1::ConfigMap>(),
        ("", "Event") => of::<core::v1::Event>(),
        ("", "Namespace") => of::<core::v1::Namespace>(),
        ("", "Node") => of::<core::v1::Node>(),
        ("", "PersistentVolumeClaim") => of::<core::v1::PersistentVolumeClaim>(),
        ("", "Pod") => of::<core::v1::Pod>(),
        ("", "Secret") => of::<core::v1::Secret>(),
        ("", "Service") => of::<core::v1::Service>(),
        ("", "ServiceAccount") => of::<core::v1::ServiceAccount>(),
        ("events.k8s.io", "Event") => of::<events::v1::Event>(),
        ("batch", "CronJob") => of::<batch::v1::CronJob>(),
        ("batch", "Job") => of::<batch::v1::Job>(),
        ("coordination.k8s.io", "Lease") => of::<coordination::v1::Lease>(),
        ("rbac.authorization.k8s.io", "ClusterRole") => of::<rbac::v1::ClusterRole>(),
        ("rbac.authorization.k8s.io", "ClusterRoleBinding") => of::<rbac::v1::ClusterRoleBinding>(),
        ("rbac.authorization.k8s.io", "Role") => of::<rbac::v1::Role>(),
        ("rbac.authorization.k8s.io", "RoleBinding") => of::<rbac::v1::RoleBinding>(),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => {
            of::<apiextensions::v1::CustomResourceDefinition>()
        }
        ("authentication.k8s.io", "SelfSubjectReview") => {
            of::<authentication::v1::SelfSubjectReview>()
        }
        ("authorization.k8s.io", "SelfSubjectAccessReview") => {
            of::<authorization::v1::SelfSubjectAccessReview>()
        }
        ("authorization.k8s.io", "SelfSubjectRulesReview") => {
            of::<authorization::v1::SelfSubjectRulesReview>()
        }
        ("authorization.k8s.io", "SubjectAccessReview") => {
            of::<authorization::v1::SubjectAccessReview>()
        }
        ("authorization.k8s.io", "LocalSubjectAccessReview") => {
            of::<authorization::v1::LocalSubjectAccessReview>()
        }
        _ => return None,
    };
    Some(schema)
}

/// The schema of the metadata of every object.
pub(crate) fn object_meta() -> &'static Schema {
    static SCHEMA: LazyLock<Schema> = LazyLock::new(of::<ObjectMeta>);
    &SCHEMA
}

/// The JSON schema of a type with the definitions that it refers to.
pub(crate) fn definitions<T: JsonSchema>() -> (Value, Map<String, Value>) {
    let mut generator: SchemaGenerator = SchemaSettings::default().into_generator();
    let root = generator.subschema_for::<T>().to_value();
    (root, generator.take_definitions(true))
}

fn of<T: JsonSchema>() -> Schema {
    let (root, definitions) = definitions::<T>();
    let mut reader = Reader {
        definitions,
        types: BTreeMap::new(),
    };
    reader.node(&root).as_ref().clone()
}

/// Reads definitions, each once.
struct Reader {
    definitions: Map<String, Value>,
    types: BTreeMap<String, Arc<Schema>>,
}

impl Reader {
    fn node(&mut self, schema: &Value) -> Arc<Schema> {
        match schema["$ref"].as_str() {
            Some(reference) => {
                let name = reference.rsplit('/').next().unwrap_or(reference).to_owned();
                self.definition(&name)
            }
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
            "Quantity" => schema.format = "quantity".to_owned(),
            "MicroTime" => schema.format = "micro-time".to_owned(),
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
