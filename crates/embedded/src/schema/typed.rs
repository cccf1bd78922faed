//! Decoding a built-in kind: what the real server's typed decoder makes of JSON and writes again.
//!
//! Unknown fields are collected, wrong types refused with Go's texts, null and empty values left out where Go leaves
//! them out, and fields written that Go always writes.

use serde_json::{Map, Number, Value};

use super::{Schema, Type, path};

mod text;

/// Reads `value` as an object of the type of `schema`; paths of unknown fields go into `unknown`.
///
/// # Errors
/// The decoder's text about the first value that does not fit.
pub(crate) fn decode(
    schema: &Schema,
    value: &Value,
    unknown: &mut Vec<String>,
) -> Result<Value, String> {
    let place = Place {
        type_name: short(&schema.type_name).to_owned(),
        fields: String::new(),
        path: String::new(),
    };
    node(schema, value, &place, unknown).map(Option::unwrap_or_default)
}

/// What Go writes for an object of the type in which nothing is set.
pub(crate) fn empty(schema: &Schema) -> Value {
    decode(schema, &Value::Object(Map::new()), &mut Vec::new()).unwrap_or_default()
}

/// Where a value stands, in the forms that the texts need.
struct Place {
    /// Name of the innermost struct, without its package.
    type_name: String,
    /// Names of the fields from the root, without indices and keys.
    fields: String,
    /// The path with indices and keys.
    path: String,
}

fn short(type_name: &str) -> &str {
    type_name.rsplit('.').next().unwrap_or(type_name)
}

/// The value as written; `None` if it is left out.
fn node(
    schema: &Schema,
    value: &Value,
    place: &Place,
    unknown: &mut Vec<String>,
) -> Result<Option<Value>, String> {
    if value.is_null() {
        return Ok(None);
    }
    if let Some(special) = text::special(schema, value) {
        return special.map(Some);
    }
    if schema.preserve_unknown {
        return Ok(Some(value.clone()));
    }
    match (schema.json_type, value) {
        (Type::Object, Value::Object(map)) if schema.additional.is_some() => {
            map_of(schema, map, place, unknown)
        }
        (Type::Object, Value::Object(map)) => fields(schema, map, place, unknown).map(Some),
        (Type::Array, Value::Array(items)) => list(schema, items, place, unknown),
        (Type::String, Value::String(_))
        | (Type::Boolean, Value::Bool(_))
        | (Type::Number, Value::Number(_))
        | (Type::Any, _) => Ok(Some(value.clone())),
        (Type::Integer, Value::Number(number)) if fits(&schema.format, number) => {
            Ok(Some(value.clone()))
        }
        _ => Err(mismatch(schema, value, place)),
    }
}

fn fits(format: &str, number: &Number) -> bool {
    let fits = |n: i64| format != "int32" || i32::try_from(n).is_ok();
    number.as_i64().is_some_and(fits)
}

fn fields(
    schema: &Schema,
    map: &Map<String, Value>,
    place: &Place,
    unknown: &mut Vec<String>,
) -> Result<Value, String> {
    let mut result = Map::new();
    for (name, value) in map {
        let Some(field) = schema.properties.get(name) else {
            unknown.push(path::child(&place.path, name));
            continue;
        };
        let place = Place {
            type_name: short(&schema.type_name).to_owned(),
            fields: path::child(&place.fields, name),
            path: path::child(&place.path, name),
        };
        if let Some(value) = node(field, value, &place, unknown)?
            && !(field.omit_zero && is_zero(&value))
        {
            result.insert(name.clone(), value);
        }
    }
    for (name, field) in &schema.properties {
        if let Some(zero) = &field.zero
            && !result.contains_key(name)
        {
            let value = if zero.is_object() {
                empty(field)
            } else {
                zero.clone()
            };
            result.insert(name.clone(), value);
        }
    }
    Ok(Value::Object(result))
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

fn map_of(
    schema: &Schema,
    map: &Map<String, Value>,
    place: &Place,
    unknown: &mut Vec<String>,
) -> Result<Option<Value>, String> {
    let Some(additional) = &schema.additional else {
        return Ok(None);
    };
    let mut result = Map::new();
    for (key, value) in map {
        let place = Place {
            type_name: place.type_name.clone(),
            fields: place.fields.clone(),
            path: path::child(&place.path, key),
        };
        let zero = || match additional.json_type {
            Type::String => Value::String(String::new()),
            _ => Value::Null,
        };
        let value = node(additional, value, &place, unknown)?.unwrap_or_else(zero);
        result.insert(key.clone(), value);
    }
    Ok((!result.is_empty() || schema.zero.is_some()).then_some(Value::Object(result)))
}

fn list(
    schema: &Schema,
    items: &[Value],
    place: &Place,
    unknown: &mut Vec<String>,
) -> Result<Option<Value>, String> {
    let Some(item_schema) = &schema.items else {
        return Ok(Some(Value::Array(items.to_vec())));
    };
    let mut result = Vec::with_capacity(items.len());
    for (i, item) in items.iter().enumerate() {
        let place = Place {
            type_name: place.type_name.clone(),
            fields: place.fields.clone(),
            path: path::index(&place.path, i),
        };
        let item = match node(item_schema, item, &place, unknown)? {
            Some(item) => item,
            None if item_schema.json_type == Type::Object => empty(item_schema),
            None => Value::String(String::new()),
        };
        result.push(item);
    }
    Ok((!result.is_empty() || schema.zero.is_some()).then_some(Value::Array(result)))
}

fn mismatch(schema: &Schema, value: &Value, place: &Place) -> String {
    let kind = match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(number) if schema.json_type == Type::Integer => format!("number {number}"),
        Value::Number(_) => "number".to_owned(),
        Value::String(_) => "string".to_owned(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    };
    let target = go_type(schema);
    if place.fields.is_empty() {
        format!("json: cannot unmarshal {kind} into Go value of type {target}")
    } else {
        format!(
            "json: cannot unmarshal {kind} into Go struct field {}.{} of type {target}",
            place.type_name, place.fields
        )
    }
}

/// The type of a value in Go's notation.
fn go_type(schema: &Schema) -> String {
    let inner = |node: &Option<std::sync::Arc<Schema>>| {
        node.as_ref().map_or_else(String::new, |s| go_type(s))
    };
    match schema.json_type {
        Type::Object if schema.additional.is_some() => {
            format!("map[string]{}", inner(&schema.additional))
        }
        Type::Object => schema.type_name.clone(),
        Type::Array => format!("[]{}", inner(&schema.items)),
        Type::String if schema.format == "byte" => "[]uint8".to_owned(),
        Type::String => "string".to_owned(),
        Type::Integer if schema.format.is_empty() => "int64".to_owned(),
        Type::Integer => schema.format.clone(),
        Type::Number => "float64".to_owned(),
        Type::Boolean => "bool".to_owned(),
        Type::Any => "interface {}".to_owned(),
    }
}
