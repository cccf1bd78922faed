//! Merging an applied configuration into an object, and taking away what is no longer applied.

use serde_json::Value;

use super::{field_schema, set::Set, shape};
use crate::schema::{ListType, Schema};

/// The object with the configuration merged in: structs and maps by field, lists by their type.
pub(super) fn merge(schema: Option<&Schema>, object: &Value, configuration: &Value) -> Value {
    node(schema, object, configuration, true)
}

fn node(schema: Option<&Schema>, old: &Value, new: &Value, root: bool) -> Value {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) if !schema.is_some_and(|s| s.atomic) => {
            let mut result = old.clone();
            for (name, value) in new {
                let inner = field_schema(schema, root, name);
                let merged = match old.get(name) {
                    Some(old) => node(inner, old, value, false),
                    None => value.clone(),
                };
                result.insert(name.clone(), merged);
            }
            Value::Object(result)
        }
        (Value::Array(old), Value::Array(new)) => match schema {
            Some(list) if list.list_type != ListType::Atomic => {
                Value::Array(merge_list(list, old, new))
            }
            _ => Value::Array(new.clone()),
        },
        (_, new) => new.clone(),
    }
}

/// What both have comes in the order of `new`; what only one of them has keeps its place before what follows it there.
/// The walk is that of the real server's `visitListItems`, so that also lists that disagree come out as there.
fn merge_list(list: &Schema, old: &[Value], new: &[Value]) -> Vec<Value> {
    let elements = |items: &[Value]| -> Vec<Option<String>> {
        let element = |item| shape::element(list, item);
        items.iter().map(element).collect()
    };
    let (left, right) = (elements(old), elements(new));
    let merged = |at: usize| match left.iter().position(|element| *element == right[at]) {
        Some(there) => node(list.items.as_deref(), &old[there], &new[at], false),
        None => new[at].clone(),
    };
    let mut shared = right.iter().filter(|element| left.contains(element));
    let mut next = shared.next();
    let mut result = Vec::new();
    let (mut l, mut r) = (0, 0);
    while l < left.len() || r < right.len() {
        if let (Some(of_old), Some(of_new)) = (left.get(l), right.get(r)) {
            if of_old == of_new {
                result.push(merged(r));
                (l, r) = (l + 1, r + 1);
                next = shared.next();
                continue;
            }
            // It comes when it is its turn.
            if right.contains(of_old) && next.is_some_and(|next| next != of_old) {
                l += 1;
                continue;
            }
        }
        if let Some(of_old) = left.get(l) {
            if !right.contains(of_old) {
                result.push(old[l].clone());
                l += 1;
                continue;
            }
            if right[..r].contains(of_old) {
                l += 1;
            }
        }
        if let Some(of_new) = right.get(r) {
            result.push(merged(r));
            r += 1;
            if next == Some(of_new) {
                next = shared.next();
            }
        }
    }
    result
}

/// Takes empty maps and lists out of a configuration where the object has nothing: the types of built-in kinds do not
/// keep them, and a field that never stays must not be fought over.
pub(super) fn drop_hollow(schema: Option<&Schema>, live: Option<&Value>, value: &mut Value) {
    hollow_node(schema, live, value, true);
}

fn hollow_node(schema: Option<&Schema>, live: Option<&Value>, value: &mut Value, root: bool) {
    match value {
        Value::Object(map) => map.retain(|name, child| {
            let inner = field_schema(schema, root, name);
            let live = live.and_then(|live| live.get(name));
            hollow_node(inner, live, child, false);
            let hollow = match child {
                Value::Object(map) => {
                    map.is_empty() && inner.is_some_and(|s| s.additional.is_some())
                }
                Value::Array(items) => items.is_empty(),
                _ => false,
            };
            !hollow || live.is_some()
        }),
        Value::Array(items) => {
            let Some(list) = schema else { return };
            for item in items {
                let element = shape::element(list, item);
                let there = live.and_then(Value::as_array).into_iter().flatten();
                let live = there
                    .into_iter()
                    .find(|live| element.is_some() && shape::element(list, live) == element);
                hollow_node(list.items.as_deref(), live, item, false);
            }
        }
        _ => {}
    }
}

/// Takes from `value` what is in `last` and not in `kept`. A struct, map or item goes when nothing in it is kept.
pub(super) fn prune(schema: Option<&Schema>, value: &mut Value, last: &Set, kept: &Set) {
    let empty = Set::default();
    prune_node(schema, value, last, kept, &empty, true);
}

fn prune_node(
    schema: Option<&Schema>,
    value: &mut Value,
    last: &Set,
    kept: &Set,
    empty: &Set,
    root: bool,
) {
    match value {
        Value::Object(map) if !schema.is_some_and(|s| s.atomic) => {
            map.retain(|name, child| {
                let element = format!("f:{name}");
                let Some(last) = last.child(&element) else {
                    return true;
                };
                let kept = kept.child(&element).unwrap_or(empty);
                if kept.is_empty() && goes(last, child) {
                    return false;
                }
                prune_node(
                    field_schema(schema, root, name),
                    child,
                    last,
                    kept,
                    empty,
                    false,
                );
                !(kept.is_empty() && is_empty(child))
            });
        }
        Value::Array(items) => {
            let Some(list_schema) = schema else { return };
            items.retain_mut(|item| {
                let Some(element) = shape::element(list_schema, item) else {
                    return true;
                };
                let Some(last) = last.child(&element) else {
                    return true;
                };
                let kept = kept.child(&element).unwrap_or(empty);
                if kept.is_empty() && last.is_member() {
                    return false;
                }
                prune_node(list_schema.items.as_deref(), item, last, kept, empty, false);
                true
            });
        }
        _ => {}
    }
}

/// Whether a field goes whole: it was applied as such, not only something inside it.
fn goes(last: &Set, value: &Value) -> bool {
    last.is_member() || !(value.is_object() || value.is_array())
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}
