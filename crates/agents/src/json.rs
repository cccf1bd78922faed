//! Looking into JSON of which nothing is certain.

use serde_json::Value;

/// The text there, or an empty one.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The text there, if there is one.
pub(crate) fn some_text(value: &Value) -> Option<String> {
    value
        .as_str()
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
}

/// The number there, or 0.
pub(crate) fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

/// The first of these fields that is a text: what a tool is about, which each tool has in a field of its own.
pub(crate) fn first_text(value: &Value, fields: &[&str]) -> String {
    let found = fields.iter().find_map(|field| some_text(&value[*field]));
    found.unwrap_or_else(|| match value {
        Value::Null => String::new(),
        value => value.to_string(),
    })
}
