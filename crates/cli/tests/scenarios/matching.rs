//! Whether an object contains what a scenario expects of it.

use serde_json::Value;

/// Where `expected` is not contained in `actual`; None when it is.
///
/// Objects: every expected key. Lists: every expected item is matched by some item. Strings: equal, or, when the
/// expected one is written `~ text`, containing the text. `null`: absent.
pub fn difference(expected: &Value, actual: &Value, at: &str) -> Option<String> {
    match (expected, actual) {
        (Value::Null, Value::Null) => None,
        (Value::Null, _) => Some(format!("{at}: expected to be absent, is {actual}")),
        (Value::Object(fields), Value::Object(_)) => fields.iter().find_map(|(key, value)| {
            difference(
                value,
                actual.get(key).unwrap_or(&Value::Null),
                &format!("{at}.{key}"),
            )
        }),
        (Value::Array(items), Value::Array(found)) => {
            items.iter().enumerate().find_map(|(index, item)| {
                let at = format!("{at}[{index}]");
                let misses: Vec<String> = found
                    .iter()
                    .map_while(|candidate| difference(item, candidate, &at))
                    .collect();
                (misses.len() == found.len())
                    .then(|| format!("{at}: no item matches {item} in {actual}"))
            })
        }
        (Value::String(text), Value::String(found)) => match text.strip_prefix("~ ") {
            Some(part) if found.contains(part) => None,
            None if text == found => None,
            _ => Some(format!("{at}: expected {text:?}, is {found:?}")),
        },
        (expected, actual) if expected == actual => None,
        (expected, actual) => Some(format!("{at}: expected {expected}, is {actual}")),
    }
}
