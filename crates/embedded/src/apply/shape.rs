//! How values divide into what can be owned: a struct or map into its fields, a list by its type into items with
//! keys, anything else not at all.

use serde_json::{Map, Value};

use super::field_schema;
use crate::schema::{ListType, Schema, Type};

/// The parts of a value.
pub(super) enum Parts<'a> {
    /// It has one owner as a whole.
    Whole,
    /// Path element, schema, value.
    Parts(Vec<(String, Option<&'a Schema>, &'a Value)>),
}

/// Divides a value; empty objects and lists are whole.
pub(super) fn parts<'a>(schema: Option<&'a Schema>, value: &'a Value, root: bool) -> Parts<'a> {
    match value {
        Value::Object(map) if !map.is_empty() && !schema.is_some_and(|s| s.atomic) => Parts::Parts(
            map.iter()
                .map(|(name, value)| (format!("f:{name}"), field_schema(schema, root, name), value))
                .collect(),
        ),
        Value::Array(items) if !items.is_empty() => list_parts(schema, items),
        _ => Parts::Whole,
    }
}

fn list_parts<'a>(schema: Option<&'a Schema>, items: &'a [Value]) -> Parts<'a> {
    let Some(list) = schema else {
        return Parts::Whole;
    };
    let inner = list.items.as_deref();
    match &list.list_type {
        ListType::Atomic => Parts::Whole,
        ListType::Set => Parts::Parts(
            items
                .iter()
                .map(|item| (format!("v:{item}"), None, item))
                .collect(),
        ),
        ListType::Map(_) => {
            let keyed = items
                .iter()
                .map(|item| Some((element(list, item)?, inner, item)));
            keyed
                .collect::<Option<Vec<_>>>()
                .map_or(Parts::Whole, Parts::Parts)
        }
    }
}

/// The path element of an item of a list of type `map` or `set`; `None` if a key is missing.
pub(super) fn element(list: &Schema, item: &Value) -> Option<String> {
    match &list.list_type {
        ListType::Atomic => None,
        ListType::Set => Some(format!("v:{item}")),
        ListType::Map(keys) => {
            let properties = list.items.as_ref().map(|items| &items.properties);
            let field = |key: &String| {
                let value = item.get(key).filter(|value| !value.is_null()).cloned();
                let default = || {
                    let schema = properties?.get(key)?;
                    schema
                        .default
                        .clone()
                        .or_else(|| (key == "protocol").then(|| "TCP".into()))
                };
                Some((key.clone(), value.or_else(default)?))
            };
            let fields: Option<Map<String, Value>> = keys.iter().map(field).collect();
            Some(format!("k:{}", Value::Object(fields?)))
        }
    }
}

/// Fields that the schema does not have and values of the wrong type, in the words of the real server.
///
/// # Errors
/// The first fault, with its path.
pub(super) fn check(schema: &Schema, value: &Value) -> Result<(), String> {
    node(Some(schema), value, "", true)
}

fn node(schema: Option<&Schema>, value: &Value, path: &str, root: bool) -> Result<(), String> {
    let Some(schema) = schema else {
        return Ok(());
    };
    let wrong = |wanted: &str| {
        let shown = match value {
            Value::Object(_) | Value::Array(_) => super::super::patch::go_map(value),
            other => other.to_string(),
        };
        Err(format!(
            "{path}: expected {wanted}, got &value.valueUnstructured{{Value:{shown}}}"
        ))
    };
    if value.is_null() || schema.int_or_string || schema.format == "quantity" {
        return Ok(());
    }
    match (schema.json_type, value) {
        (Type::Object, Value::Object(map)) => {
            for (name, value) in map {
                let below = format!("{path}.{name}");
                if root && matches!(name.as_str(), "apiVersion" | "kind") {
                    continue;
                }
                let field = field_schema(Some(schema), root, name);
                if field.is_none() && !schema.keeps_unknown() && !schema.embedded_resource {
                    return Err(format!("{below}: field not declared in schema"));
                }
                node(field, value, &below, false)?;
            }
            Ok(())
        }
        (Type::Array, Value::Array(items)) => check_list(schema, items, path),
        (Type::Any, _)
        | (Type::String, Value::String(_))
        | (Type::Boolean, Value::Bool(_))
        | (Type::Integer | Type::Number, Value::Number(_)) => Ok(()),
        (Type::Object, _) => wrong("map"),
        (Type::Array, _) => wrong("list"),
        (Type::String, _) => wrong("string"),
        (Type::Boolean, _) => wrong("boolean"),
        (Type::Integer | Type::Number, _) => wrong("numeric (int or float)"),
    }
}

fn check_list(list: &Schema, items: &[Value], path: &str) -> Result<(), String> {
    let inner = list.items.as_deref();
    if list.list_type == ListType::Atomic {
        for (i, item) in items.iter().enumerate() {
            node(inner, item, &format!("{path}[{i}]"), false)?;
        }
        return Ok(());
    }
    let mut seen: Vec<String> = Vec::new();
    for (i, item) in items.iter().enumerate() {
        let Some(element) = element(list, item) else {
            let ListType::Map(keys) = &list.list_type else {
                return Ok(());
            };
            let missing = keys.iter().find(|key| item.get(key.as_str()).is_none());
            return Err(format!(
                "{path}: element {i}: associative list with keys has an element that omits key field {:?} (and doesn't have default value)",
                missing.map_or("", String::as_str)
            ));
        };
        let shown = super::set::element_text(&element);
        if seen.contains(&element) {
            return Err(format!("{path}: duplicate entries for key {shown}"));
        }
        node(inner, item, &format!("{path}{shown}"), false)?;
        seen.push(element);
    }
    Ok(())
}
