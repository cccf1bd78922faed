//! Unknown fields: found, named, and dropped.

use serde_json::Value;

use super::{Schema, path};

/// Fields that every embedded resource has.
const OBJECT_FIELDS: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Drops what `schema` does not know and adds its path to `unknown`, in alphabetical order of the fields.
pub(crate) fn prune(
    schema: &Schema,
    value: &mut Value,
    path: &str,
    root: bool,
    unknown: &mut Vec<String>,
) {
    match value {
        Value::Object(map) => {
            map.retain(|name, _| {
                let known = schema.field(name).is_some()
                    || schema.keeps_unknown()
                    || ((root || schema.embedded_resource)
                        && OBJECT_FIELDS.contains(&name.as_str()));
                if !known {
                    unknown.push(path::child(path, name));
                }
                known
            });
            for (name, child) in map.iter_mut() {
                if root && OBJECT_FIELDS.contains(&name.as_str()) {
                    continue;
                }
                if let Some(schema) = schema.field(name) {
                    prune(schema, child, &path::child(path, name), false, unknown);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = &schema.items {
                for (i, item) in items.iter_mut().enumerate() {
                    prune(schema, item, &path::index(path, i), false, unknown);
                }
            }
        }
        _ => {}
    }
}
