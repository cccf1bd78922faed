//! The operations of a JSON Patch.
//!
//! The real server's library differs from RFC 6902: `test` of null holds where the key is missing and its parent is
//! there, and `replace` of a missing key adds it.

use serde_json::Value;

/// Members of an operation.
const FIELDS: [&str; 4] = ["op", "path", "from", "value"];

/// Members of operations that no operation has, as `[0].name`.
#[must_use]
pub fn unknown_operation_fields(patch: &Value) -> Vec<String> {
    let operations = patch.as_array().map(Vec::as_slice).unwrap_or_default();
    let unknown = operations.iter().enumerate().flat_map(|(i, operation)| {
        let keys = operation
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, _)| key);
        keys.filter(|key| !FIELDS.contains(&key.as_str()))
            .map(move |key| format!("[{i}].{key}"))
    });
    unknown.collect()
}

/// Does one operation; `None` if it cannot be done or does not hold.
pub(super) fn apply(object: &mut Value, operation: &Value) -> Option<()> {
    let path = operation["path"].as_str()?;
    let value = || operation.get("value").cloned();
    match operation["op"].as_str()? {
        "add" => add(object, path, value()?),
        "remove" => remove(object, path).map(|_| ()),
        "replace" => replace(object, path, value()?),
        "move" => {
            let moved = remove(object, operation["from"].as_str()?)?;
            add(object, path, moved)
        }
        "copy" => {
            let from = operation["from"].as_str()?;
            let copied = match object.pointer(from) {
                Some(value) => value.clone(),
                // A key that is missing from an object that is there is copied as null.
                None if object.pointer(split(from)?.0)?.is_object() => Value::Null,
                None => return None,
            };
            add(object, path, copied)
        }
        "test" => test(object, path, &value().unwrap_or_default()),
        _ => None,
    }
}

/// The parent of what a path names, and its last segment.
fn split(path: &str) -> Option<(&str, String)> {
    let (parent, last) = path.rsplit_once('/')?;
    Some((parent, last.replace("~1", "/").replace("~0", "~")))
}

fn index(segment: &str, length: usize) -> Option<usize> {
    if let Some(back) = segment.strip_prefix('-') {
        return length.checked_sub(back.parse().ok()?);
    }
    segment.parse().ok()
}

fn add(object: &mut Value, path: &str, value: Value) -> Option<()> {
    if path.is_empty() {
        *object = value;
        return Some(());
    }
    let (parent, last) = split(path)?;
    match object.pointer_mut(parent)? {
        Value::Object(map) => {
            map.insert(last, value);
        }
        Value::Array(items) => {
            let at = if last == "-" {
                items.len()
            } else {
                index(&last, items.len())?
            };
            if at > items.len() {
                return None;
            }
            items.insert(at, value);
        }
        _ => return None,
    }
    Some(())
}

fn remove(object: &mut Value, path: &str) -> Option<Value> {
    let (parent, last) = split(path)?;
    match object.pointer_mut(parent)? {
        Value::Object(map) => map.remove(&last),
        Value::Array(items) => {
            let at = index(&last, items.len())?;
            (at < items.len()).then(|| items.remove(at))
        }
        _ => None,
    }
}

fn replace(object: &mut Value, path: &str, value: Value) -> Option<()> {
    if path.is_empty() {
        *object = value;
        return Some(());
    }
    let (parent, last) = split(path)?;
    match object.pointer_mut(parent)? {
        Value::Object(map) => {
            map.insert(last, value);
        }
        Value::Array(items) => {
            let at = index(&last, items.len())?;
            *items.get_mut(at)? = value;
        }
        _ => return None,
    }
    Some(())
}

fn test(object: &Value, path: &str, wanted: &Value) -> Option<()> {
    let found = match split(path) {
        None => Some(object),
        Some((parent, last)) => match object.pointer(parent)? {
            Value::Object(map) => map.get(&last),
            Value::Array(items) => Some(items.get(index(&last, items.len())?)?),
            _ => return None,
        },
    };
    let holds = match found {
        Some(found) => same(found, wanted),
        None => wanted.is_null(),
    };
    holds.then_some(())
}

/// Equality in which `1` and `1.0` are the same number.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}
