//! Events are one kind under two API groups: `v1` and `events.k8s.io/v1` show the same objects with other field
//! names. They are kept in the form of the core group.

use serde_json::{Map, Value};

/// Field of `events.k8s.io/v1`, field of `v1`.
const FIELDS: [(&str, &str); 7] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
    ("reportingController", "reportingComponent"),
];

/// Fields that the core group always writes, with what it writes when nothing is there.
const CORE: [(&str, &str); 8] = [
    ("involvedObject", "{}"),
    ("source", "{}"),
    ("firstTimestamp", "null"),
    ("lastTimestamp", "null"),
    ("eventTime", "null"),
    ("reportingComponent", "\"\""),
    ("reportingInstance", "\"\""),
    ("metadata", "{}"),
];

/// The core form of an event of `events.k8s.io`.
pub(super) fn to_core(event: Value) -> Value {
    let mut event = renamed(event, |name| {
        FIELDS
            .iter()
            .find(|(new, _)| *new == name)
            .map(|(_, core)| *core)
    });
    event.insert("apiVersion".into(), "v1".into());
    for (field, empty) in CORE {
        event
            .entry(field)
            .or_insert_with(|| serde_json::from_str(empty).unwrap_or_default());
    }
    Value::Object(event)
}

/// The form of `events.k8s.io` of a core event.
pub(super) fn from_core(event: Value) -> Value {
    let mut event = renamed(event, |name| {
        FIELDS
            .iter()
            .find(|(_, core)| *core == name)
            .map(|(new, _)| *new)
    });
    event.insert("apiVersion".into(), "events.k8s.io/v1".into());
    for field in ["reportingController", "reportingInstance"] {
        if event.get(field).is_some_and(|text| text == "") {
            event.remove(field);
        }
    }
    Value::Object(event)
}

fn renamed(event: Value, name: impl Fn(&str) -> Option<&'static str>) -> Map<String, Value> {
    let Value::Object(event) = event else {
        return Map::new();
    };
    let rename = |(field, value): (String, Value)| match name(&field) {
        Some(other) => (other.to_owned(), value),
        None => (field, value),
    };
    event.into_iter().map(rename).collect()
}
