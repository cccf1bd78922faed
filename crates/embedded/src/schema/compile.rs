//! From the `openAPIV3Schema` of a custom resource definition to a [`Schema`].

use std::sync::Arc;

use serde_json::Value;

use super::{Limits, ListType, Schema, Type};

/// A schema that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// A pattern that is not a regular expression.
    #[error("pattern {pattern:?} does not compile: {source}")]
    Pattern {
        /// The text of the pattern.
        pattern: String,
        /// What is wrong with it.
        source: Box<regex::Error>,
    },
}

impl Schema {
    /// Compiles an `openAPIV3Schema`. Fields that structural schemas do not have are not looked at.
    ///
    /// # Errors
    /// A pattern that does not compile.
    pub fn compile(schema: &Value) -> Result<Self, CompileError> {
        let text = |key: &str| schema[key].as_str().unwrap_or_default().to_owned();
        let flag = |key: &str| schema[key].as_bool().unwrap_or_default();
        let mut compiled = Self {
            description: text("description"),
            json_type: json_type(&schema["type"]),
            format: text("format"),
            required: strings(&schema["required"]),
            default: schema.get("default").filter(|d| !d.is_null()).cloned(),
            nullable: flag("nullable"),
            int_or_string: flag("x-kubernetes-int-or-string"),
            preserve_unknown: flag("x-kubernetes-preserve-unknown-fields")
                || schema["additionalProperties"] == Value::Bool(true),
            embedded_resource: flag("x-kubernetes-embedded-resource"),
            atomic: schema["x-kubernetes-map-type"] == "atomic",
            list_type: match schema["x-kubernetes-list-type"].as_str() {
                Some("set") => ListType::Set,
                Some("map") => ListType::Map(strings(&schema["x-kubernetes-list-map-keys"])),
                _ => ListType::Atomic,
            },
            limits: limits(schema)?,
            ..Self::default()
        };
        if let Some(properties) = schema["properties"].as_object() {
            for (name, property) in properties {
                compiled
                    .properties
                    .insert(name.clone(), Arc::new(Self::compile(property)?));
            }
        }
        if schema["additionalProperties"].is_object() {
            compiled.additional = Some(Arc::new(Self::compile(&schema["additionalProperties"])?));
        }
        if schema["items"].is_object() {
            compiled.items = Some(Arc::new(Self::compile(&schema["items"])?));
        }
        Ok(compiled)
    }
}

fn json_type(name: &Value) -> Type {
    match name.as_str() {
        Some("object") => Type::Object,
        Some("array") => Type::Array,
        Some("string") => Type::String,
        Some("integer") => Type::Integer,
        Some("number") => Type::Number,
        Some("boolean") => Type::Boolean,
        _ => Type::Any,
    }
}

fn strings(list: &Value) -> Vec<String> {
    let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
    items
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

fn limits(schema: &Value) -> Result<Limits, CompileError> {
    let number = |key: &str, exclusive: &str| {
        let bound = schema[key].as_number()?.clone();
        Some((bound, schema[exclusive].as_bool().unwrap_or_default()))
    };
    let list = |key: &str| -> Result<Vec<Schema>, CompileError> {
        let items = schema[key]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        items.iter().map(Schema::compile).collect()
    };
    let pattern = match schema["pattern"].as_str().filter(|p| !p.is_empty()) {
        Some(pattern) => {
            Some(
                regex::Regex::new(pattern).map_err(|source| CompileError::Pattern {
                    pattern: pattern.to_owned(),
                    source: Box::new(source),
                })?,
            )
        }
        None => None,
    };
    Ok(Limits {
        one_of_values: schema["enum"].as_array().cloned(),
        minimum: number("minimum", "exclusiveMinimum"),
        maximum: number("maximum", "exclusiveMaximum"),
        multiple_of: schema["multipleOf"].as_number().cloned(),
        min_length: schema["minLength"].as_u64(),
        max_length: schema["maxLength"].as_u64(),
        pattern,
        min_items: schema["minItems"].as_u64(),
        max_items: schema["maxItems"].as_u64(),
        unique_items: schema["uniqueItems"].as_bool().unwrap_or_default(),
        min_properties: schema["minProperties"].as_u64(),
        max_properties: schema["maxProperties"].as_u64(),
        all_of: list("allOf")?,
        any_of: list("anyOf")?,
        one_of: list("oneOf")?,
        not: if schema["not"].is_object() {
            Some(Box::new(Schema::compile(&schema["not"])?))
        } else {
            None
        },
    })
}
