//! Looking into JSON of which nothing is certain.

use std::collections::VecDeque;

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

/// Something for each of some names, of which only the last so many are kept: an agent may make up names for ever.
#[derive(Debug)]
pub(crate) struct Recent<T>(VecDeque<(String, T)>);

/// How many things can be under way at the same time, and be told apart.
const MOST: usize = 64;

impl<T: Default> Recent<T> {
    /// What there is of that name; new where there is nothing.
    pub(crate) fn of(&mut self, name: &str) -> &mut T {
        let kept = self.take(name).unwrap_or_default();
        self.0.truncate(MOST - 1);
        self.0.push_front((name.to_owned(), kept));
        &mut self.0[0].1
    }

    /// The same, which is not kept any longer.
    pub(crate) fn take(&mut self, name: &str) -> Option<T> {
        let at = self.0.iter().position(|(kept, _)| kept == name)?;
        self.0.remove(at).map(|(_, kept)| kept)
    }
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}
