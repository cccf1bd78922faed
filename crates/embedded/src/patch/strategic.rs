//! Strategic merge patch, for built-in kinds.
//!
//! Objects are merged field by field and null removes. A list is replaced, unless its type has a merge key: then its
//! items are merged by that key, and a list of plain values is united. Directives in the patch say otherwise.

use serde_json::{Map, Value};

use crate::schema::Schema;

const DIRECTIVE: &str = "$patch";
const DELETE_VALUES: &str = "$deleteFromPrimitiveList/";
const ORDER: &str = "$setElementOrder/";
const RETAIN: &str = "$retainKeys";

/// Merges `patch` into `object`.
///
/// # Errors
/// The real server's text about a directive that it does not know, or a list item without its key.
pub(super) fn merge(schema: &Schema, object: &Value, patch: &Value) -> Result<Value, String> {
    let empty = Map::new();
    let (object, patch) = (
        object.as_object().unwrap_or(&empty),
        patch.as_object().unwrap_or(&empty),
    );
    merge_map(Some(schema), object, patch).map(Value::Object)
}

fn merge_map(
    schema: Option<&Schema>,
    object: &Map<String, Value>,
    patch: &Map<String, Value>,
) -> Result<Map<String, Value>, String> {
    match patch.get(DIRECTIVE).map(|d| d.as_str().unwrap_or_default()) {
        None | Some("merge") => {}
        Some("replace") => return Ok(without_directives(patch)),
        Some("delete") => return Ok(Map::new()),
        Some(other) => {
            let shown = super::go_map(&Value::Object(patch.clone()));
            return Err(format!("unknown patch type: {other} in map: {shown}"));
        }
    }
    let mut result = object.clone();
    if let Some(Value::Array(keys)) = patch.get(RETAIN) {
        result.retain(|key, _| keys.iter().any(|k| k == key));
    }
    for (key, value) in patch {
        if let Some(field) = key.strip_prefix(DELETE_VALUES) {
            if let (Some(Value::Array(items)), Value::Array(gone)) = (result.get_mut(field), value)
            {
                items.retain(|item| !gone.contains(item));
            }
            continue;
        }
        if key.starts_with('$') {
            continue;
        }
        let field = schema.and_then(|schema| schema.field(key));
        let merged = match (result.get(key), value) {
            (_, Value::Null) => {
                result.remove(key);
                continue;
            }
            (Some(Value::Object(old)), Value::Object(new)) => {
                if new
                    .get(DIRECTIVE)
                    .is_some_and(|directive| directive == "delete")
                {
                    result.remove(key);
                    continue;
                }
                Value::Object(merge_map(field, old, new)?)
            }
            (old, Value::Array(new)) => {
                let old = old
                    .and_then(Value::as_array)
                    .map(Vec::as_slice)
                    .unwrap_or_default();
                let order = patch
                    .get(&format!("{ORDER}{key}"))
                    .and_then(Value::as_array);
                Value::Array(merge_list(field, old, new, order.map(Vec::as_slice))?)
            }
            // There is nothing to replace or to delete, and nothing is added.
            (None, Value::Object(new)) if matches!(new.get(DIRECTIVE), Some(d) if d == "replace" || d == "delete") =>
            {
                continue;
            }
            (_, Value::Object(new)) => Value::Object(merge_map(field, &Map::new(), new)?),
            (_, value) => value.clone(),
        };
        result.insert(key.clone(), merged);
    }
    for (key, order) in patch {
        if let Some(field) = key.strip_prefix(ORDER)
            && !patch.contains_key(field)
            && let Some(Value::Array(items)) = result.get(field)
        {
            let merge_key = schema
                .and_then(|s| s.field(field))
                .and_then(|s| s.merge_key);
            let order = order.as_array().map(Vec::as_slice).unwrap_or_default();
            let sorted = in_order(items.clone(), merge_key.unwrap_or_default(), order, items);
            result.insert(field.to_owned(), Value::Array(sorted));
        }
    }
    Ok(result)
}

fn without_directives(patch: &Map<String, Value>) -> Map<String, Value> {
    let kept = patch.iter().filter(|(key, _)| !key.starts_with('$'));
    kept.map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn merge_list(
    schema: Option<&Schema>,
    old: &[Value],
    new: &[Value],
    order: Option<&[Value]>,
) -> Result<Vec<Value>, String> {
    let Some(merge_key) = schema.and_then(|schema| schema.merge_key) else {
        return Ok(new.to_vec());
    };
    if merge_key.is_empty() {
        let mut result = old.to_vec();
        for item in new {
            if !result.contains(item) {
                result.push(item.clone());
            }
        }
        return Ok(in_order(result, "", order.unwrap_or(new), old));
    }
    let replaces = |item: &&Value| {
        item[DIRECTIVE] == "replace" && item.as_object().is_some_and(|map| map.len() == 1)
    };
    if new.iter().any(|item| replaces(&item)) {
        return Ok(new.iter().filter(|item| !replaces(item)).cloned().collect());
    }
    let items = schema.and_then(|schema| schema.items.as_deref());
    let mut result = old.to_vec();
    for item in new {
        let Some(patch) = item.as_object() else {
            result.push(item.clone());
            continue;
        };
        let Some(key) = patch.get(merge_key) else {
            return Err(format!(
                "map: {} does not contain declared merge key: {merge_key}",
                super::go_map(item)
            ));
        };
        let at = result
            .iter()
            .position(|old| old.get(merge_key) == Some(key));
        if item[DIRECTIVE] == "delete" {
            result.retain(|old| old.get(merge_key) != Some(key));
            continue;
        }
        match at.map(|at| (at, result[at].as_object().cloned().unwrap_or_default())) {
            Some((at, old)) => result[at] = Value::Object(merge_map(items, &old, patch)?),
            None => result.push(Value::Object(merge_map(items, &Map::new(), patch)?)),
        }
    }
    Ok(in_order(result, merge_key, order.unwrap_or(new), old))
}

/// Puts a merged list into order: the items of the patch as `order` says, those that only the server has as they
/// were, and the two lists merged so that items of the server keep their order where that is possible.
fn in_order(items: Vec<Value>, merge_key: &str, order: &[Value], old: &[Value]) -> Vec<Value> {
    let key = |item: &Value| {
        if merge_key.is_empty() {
            item.clone()
        } else {
            item[merge_key].clone()
        }
    };
    let rank = |list: &[Value], item: &Value| list.iter().position(|other| key(other) == key(item));
    let (mut patched, mut others): (Vec<Value>, Vec<Value>) = items
        .into_iter()
        .partition(|item| rank(order, item).is_some());
    patched.sort_by_key(|item| rank(order, item));
    others.sort_by_key(|item| rank(old, item));
    let mut merged = Vec::with_capacity(patched.len() + others.len());
    let (mut patched, mut others) = (
        patched.into_iter().peekable(),
        others.into_iter().peekable(),
    );
    while let (Some(left), Some(right)) = (others.peek(), patched.peek()) {
        let before = matches!((rank(old, left), rank(old, right)), (Some(l), Some(r)) if l < r);
        merged.extend(if before {
            others.next()
        } else {
            patched.next()
        });
    }
    merged.extend(others);
    merged.extend(patched);
    merged
}
