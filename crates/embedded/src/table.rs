//! Tables, the form in which `kubectl get` asks for objects.
//!
//! A custom resource has the columns that its definition says; a built-in kind has those of the real server, which
//! [`builtin`] computes.

use serde_json::{Value, json};

use crate::kinds::Kind;

mod age;
mod builtin;
mod job;
mod json_path;
mod pod;

/// What of each object stands in its row (`includeObject` of a request).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// Its metadata, the default.
    #[default]
    Metadata,
    /// All of it.
    Object,
}

/// What to render and how.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What of each object stands in its row.
    pub include: IncludeObject,
    /// Whether the column definitions are sent; watches send them once.
    pub with_columns: bool,
    /// Now, in seconds since 1970, for ages.
    pub now: i64,
    /// `v1` or `v1beta1` of `meta.k8s.io`.
    pub version: &'static str,
}

/// One column as the definitions show it: name, type, format, priority, description.
struct Definition<'a> {
    name: &'a str,
    kind: &'a str,
    format: &'a str,
    priority: i64,
    description: String,
}

/// A `Table` with one row for each object. `list_metadata` is the metadata of the list (or of the single object's
/// answer: its resourceVersion alone).
#[must_use]
pub fn render(kind: &Kind, objects: &[&Value], list_metadata: &Value, options: Options) -> Value {
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| row(kind, object, options))
        .collect();
    let columns = if options.with_columns {
        definitions(kind).iter().map(shown).collect()
    } else {
        Value::Null
    };
    json!({
        "kind": "Table",
        "apiVersion": format!("meta.k8s.io/{}", options.version),
        "metadata": list_metadata,
        "columnDefinitions": columns,
        "rows": rows,
    })
}

fn shown(column: &Definition<'_>) -> Value {
    json!({
        "name": column.name,
        "type": column.kind,
        "format": column.format,
        "description": column.description,
        "priority": column.priority,
    })
}

fn definitions(kind: &Kind) -> Vec<Definition<'_>> {
    let name = Definition {
        name: "Name",
        kind: "string",
        format: "name",
        priority: 0,
        description: "Name must be unique within a namespace.".to_owned(),
    };
    if !kind.custom {
        return builtin::definitions(&kind.kind);
    }
    let mut columns = vec![name];
    if kind.columns.is_empty() {
        columns.push(Definition {
            name: "Age",
            kind: "date",
            format: "",
            priority: 0,
            description: "Time since the object was created.".to_owned(),
        });
    }
    columns.extend(kind.columns.iter().map(|column| Definition {
        name: &column.name,
        kind: &column.kind,
        format: &column.format,
        priority: column.priority,
        description: if column.description.is_empty() {
            format!(
                "Custom resource definition column (in JSONPath format): {}",
                column.json_path
            )
        } else {
            column.description.clone()
        },
    }));
    columns
}

fn row(kind: &Kind, object: &Value, options: Options) -> Value {
    let cells = if kind.custom {
        custom_cells(kind, object, options.now)
    } else {
        builtin::cells(&kind.kind, &object_of(kind, object), options.now)
    };
    let shown = match options.include {
        IncludeObject::None => Value::Null,
        IncludeObject::Metadata => json!({
            "kind": "PartialObjectMetadata",
            "apiVersion": format!("meta.k8s.io/{}", options.version),
            "metadata": object["metadata"],
        }),
        IncludeObject::Object => object.clone(),
    };
    let mut row = json!({"cells": cells, "object": shown});
    if kind.kind == "Pod"
        && let Some(condition) = pod::completed(object)
    {
        row["conditions"] = json!([condition]);
    }
    row
}

/// The object in the form that the columns are written for: events in that of the core group.
fn object_of(kind: &Kind, object: &Value) -> Value {
    if kind.group == "events.k8s.io" {
        kind.to_stored(object.clone())
    } else {
        object.clone()
    }
}

fn custom_cells(kind: &Kind, object: &Value, now: i64) -> Vec<Value> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let mut cells = vec![Value::from(name)];
    if kind.columns.is_empty() {
        cells.push(age::since(&object["metadata"]["creationTimestamp"], now).into());
    }
    for column in &kind.columns {
        let found = json_path::find(&column.json_path, object);
        cells.push(cell(&column.kind, found, now));
    }
    cells
}

/// A found value in the type of its column; null where it does not fit.
fn cell(kind: &str, found: Option<&Value>, now: i64) -> Value {
    let Some(value) = found.filter(|value| !value.is_null()) else {
        return Value::Null;
    };
    match kind {
        "integer" => match value {
            Value::Number(number) => number.as_i64().map_or_else(
                || number.as_f64().map_or(Value::Null, |n| json!(n.trunc())),
                Value::from,
            ),
            _ => Value::Null,
        },
        "number" if value.is_number() => value.clone(),
        "boolean" if value.is_boolean() => value.clone(),
        "string" => match value {
            Value::String(_) => value.clone(),
            Value::Bool(value) => value.to_string().into(),
            Value::Number(value) => value.to_string().into(),
            other => other.to_string().into(),
        },
        "date" => match value.as_str() {
            Some(_) => age::since(value, now).into(),
            None => Value::Null,
        },
        _ => Value::Null,
    }
}
