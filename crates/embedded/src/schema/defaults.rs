//! Defaults of a custom resource: a missing field takes its default, null takes it too unless null is a value of
//! the field, and null that is neither is dropped.

use serde_json::Value;

use super::Schema;

/// Fills in defaults, from the outside in, so that a default object gets the defaults of its own fields.
pub(crate) fn fill(schema: &Schema, value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (name, child) in &schema.properties {
                let missing = match map.get(name) {
                    None => true,
                    Some(Value::Null) => !child.nullable,
                    Some(_) => false,
                };
                if !missing {
                    continue;
                }
                if let Some(default) = &child.default {
                    map.insert(name.clone(), default.clone());
                } else {
                    map.remove(name);
                }
            }
            if let Some(additional) = &schema.additional {
                let unnamed = |name: &str| !schema.declares(name);
                map.retain(|name, child| {
                    !(unnamed(name)
                        && child.is_null()
                        && !additional.nullable
                        && additional.default.is_none())
                });
                for (name, child) in map.iter_mut() {
                    if unnamed(name)
                        && child.is_null()
                        && !additional.nullable
                        && let Some(default) = &additional.default
                    {
                        *child = default.clone();
                    }
                }
            }
            for (name, child) in map.iter_mut() {
                if let Some(schema) = schema.field(name) {
                    fill(schema, child);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = &schema.items {
                for item in items {
                    fill(schema, item);
                }
            }
        }
        _ => {}
    }
}
