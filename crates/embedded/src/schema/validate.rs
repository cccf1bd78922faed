//! The faults of a custom resource against its schema: types, bounds, forms, required fields, duplicates in lists.
//!
//! Classes and texts are those of the real server. It looks at a value's type first and says nothing more about a
//! value of the wrong type.

use serde_json::{Number, Value};

use super::{ListType, Schema, Type, format, path, rules::type_name};
use crate::status::Cause;

/// Every fault of `value`; `path` is empty for a whole object.
pub(crate) fn check(schema: &Schema, value: &Value, path: &str) -> Vec<Cause> {
    let mut causes = Vec::new();
    node(schema, value, path, &mut causes);
    causes
}

/// Items that stand twice in a list of type `set` or `map`.
pub(crate) fn check_lists(schema: &Schema, value: &Value, path: &str) -> Vec<Cause> {
    let mut causes = Vec::new();
    lists(schema, value, path, &mut causes);
    causes
}

/// The cause that the real server adds when it did not evaluate CEL rules because of the other faults, if it is due.
pub(crate) fn blocked_rules(causes: &[Cause]) -> Option<Cause> {
    let blocking = |cause: &Cause| {
        matches!(
            cause.reason.as_str(),
            "FieldValueNotSupported"
                | "FieldValueRequired"
                | "FieldValueTooLong"
                | "FieldValueTooMany"
                | "FieldValueTypeInvalid"
        )
    };
    causes.iter().any(blocking).then(|| {
        Cause::invalid(
            "<nil>",
            &Value::Null,
            "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation",
        )
    })
}

fn node(schema: &Schema, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    if value.is_null() && schema.nullable {
        return;
    }
    if !check_type(schema, value, path, causes) {
        return;
    }
    if let Some(allowed) = &schema.limits.one_of_values
        && !allowed.contains(value)
    {
        let list: Vec<String> = allowed.iter().map(ToString::to_string).collect();
        let message = format!(
            "Unsupported value: {value}: supported values: {}",
            list.join(", ")
        );
        causes.push(Cause::new("FieldValueNotSupported", path, message));
    }
    match value {
        Value::String(text) => check_string(schema, text, path, causes),
        Value::Number(number) => check_number(schema, number, path, causes),
        Value::Array(items) => check_array(schema, value, items, path, causes),
        Value::Object(map) => check_object(schema, value, map, path, causes),
        _ => {}
    }
    check_branches(schema, value, path, causes);
}

fn body(path: &str) -> String {
    if path.is_empty() {
        "in body".to_owned()
    } else {
        format!("{path} in body")
    }
}

fn check_type(schema: &Schema, value: &Value, path: &str, causes: &mut Vec<Cause>) -> bool {
    let fits = if schema.int_or_string {
        value.is_string() || is_integer(value)
    } else {
        match schema.json_type {
            Type::Any => true,
            Type::Object => value.is_object(),
            Type::Array => value.is_array(),
            Type::String => value.is_string(),
            Type::Integer => is_integer(value),
            Type::Number => value.is_number(),
            Type::Boolean => value.is_boolean(),
        }
    };
    if fits {
        return true;
    }
    let wanted = if schema.int_or_string {
        "integer,string"
    } else {
        schema.json_type.name()
    };
    let (wanted, actual) = match (wanted, schema.format.as_str()) {
        ("integer", "int32" | "int64") if value.is_number() => (schema.format.as_str(), "float64"),
        _ => (wanted, type_name(value)),
    };
    let message = format!(
        "Invalid value: \"{actual}\": {} must be of type {wanted}: \"{actual}\"",
        body(path)
    );
    causes.push(Cause::new("FieldValueTypeInvalid", path, message));
    if schema.json_type == Type::Integer && value.is_number() {
        causes.push(not_of_format(&schema.format, path));
    }
    false
}

/// A number that is not of its format. The real server says so of the whole object.
fn not_of_format(format: &str, path: &str) -> Cause {
    let format = match format {
        "" => "(default format)".to_owned(),
        format => format!("with format {format}"),
    };
    let message =
        format!("Invalid value: \"\": Checked value must be of type integer {format} in {path}");
    Cause::new("FieldValueInvalid", "<nil>", message)
}

fn is_integer(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|n| n.fract() == 0.0)
}

fn check_string(schema: &Schema, text: &str, path: &str, causes: &mut Vec<Cause>) {
    let limits = &schema.limits;
    let length = u64::try_from(text.chars().count()).unwrap_or(u64::MAX);
    let shown = Value::from(text);
    if let Some(max) = limits.max_length
        && length > max
    {
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        causes.push(Cause::too_long(path, max));
    } else if let Some(min) = limits.min_length
        && length < min
    {
        let why = format!("{} should be at least {min} chars long", body(path));
        causes.push(Cause::invalid(path, &shown, why));
    } else if let Some(pattern) = &limits.pattern
        && !pattern.is_match(text)
    {
        let why = format!("{} should match '{}'", body(path), pattern.as_str());
        causes.push(Cause::invalid(path, &shown, why));
    }
    if !schema.format.is_empty() && !schema.int_or_string && !format::holds(&schema.format, text) {
        let message = format!(
            "Invalid value: {shown}: {} must be of type {}: {shown}",
            body(path),
            schema.format
        );
        causes.push(Cause::new("FieldValueTypeInvalid", path, message));
    }
}

fn check_number(schema: &Schema, number: &Number, path: &str, causes: &mut Vec<Cause>) {
    let limits = &schema.limits;
    let value = number.as_f64().unwrap_or_default();
    let shown = Value::Number(number.clone());
    let mut fault = |why: String| {
        causes.push(Cause::invalid(
            path,
            &shown,
            format!("{} {why}", body(path)),
        ));
    };
    if let Some((maximum, exclusive)) = &limits.maximum {
        let bound = maximum.as_f64().unwrap_or(f64::INFINITY);
        if *exclusive && value >= bound {
            fault(format!(
                "should be less than {maximum}",
                maximum = bare(maximum)
            ));
        } else if value > bound {
            fault(format!(
                "should be less than or equal to {maximum}",
                maximum = bare(maximum)
            ));
        }
    }
    if let Some((minimum, exclusive)) = &limits.minimum {
        let bound = minimum.as_f64().unwrap_or(f64::NEG_INFINITY);
        if *exclusive && value <= bound {
            fault(format!(
                "should be greater than {minimum}",
                minimum = bare(minimum)
            ));
        } else if value < bound {
            fault(format!(
                "should be greater than or equal to {minimum}",
                minimum = bare(minimum)
            ));
        }
    }
    if let Some(multiple) = &limits.multiple_of {
        let quotient = value / multiple.as_f64().unwrap_or(1.0);
        if quotient.fract().abs() > f64::EPSILON {
            fault(format!("should be a multiple of {multiple}"));
        }
    }
    let bounds = match schema.format.as_str() {
        "int32" => Some((f64::from(i32::MIN), f64::from(i32::MAX))),
        "uint32" => Some((0.0, f64::from(u32::MAX))),
        _ => None,
    };
    if let Some((low, high)) = bounds
        && !(low..=high).contains(&value)
    {
        causes.push(not_of_format(&schema.format, path));
    }
}

/// A bound as Go prints it: without a fraction that is nothing.
fn bare(bound: &Number) -> String {
    let text = bound.to_string();
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

fn check_array(
    schema: &Schema,
    value: &Value,
    items: &[Value],
    path: &str,
    causes: &mut Vec<Cause>,
) {
    let limits = &schema.limits;
    let length = items.len() as u64;
    if let Some(max) = limits.max_items
        && length > max
    {
        let message = format!("Too many: {length}: must have at most {max} items");
        causes.push(Cause::new("FieldValueTooMany", path, message));
    }
    if let Some(min) = limits.min_items
        && length < min
    {
        let why = format!("{} should have at least {min} items", body(path));
        causes.push(Cause::invalid(path, value, why));
    }
    if limits.unique_items
        && items
            .iter()
            .enumerate()
            .any(|(i, item)| items[..i].contains(item))
    {
        let why = format!("{} shouldn't contain duplicates", body(path));
        causes.push(Cause::invalid(path, value, why));
    }
    if let Some(schema) = &schema.items {
        for (i, item) in items.iter().enumerate() {
            node(schema, item, &path::index(path, i), causes);
        }
    }
}

fn check_object(
    schema: &Schema,
    value: &Value,
    map: &serde_json::Map<String, Value>,
    path: &str,
    causes: &mut Vec<Cause>,
) {
    let limits = &schema.limits;
    let length = map.len() as u64;
    if let Some(max) = limits.max_properties
        && length > max
    {
        let message = format!("Too many: {length}: must have at most {max} items");
        causes.push(Cause::new("FieldValueTooMany", path, message));
    }
    if let Some(min) = limits.min_properties
        && length < min
    {
        let why = format!("{} should have at least {min} properties", body(path));
        causes.push(Cause::invalid(path, value, why));
    }
    for name in &schema.required {
        if !map.contains_key(name) {
            causes.push(Cause::required(path::child(path, name), ""));
        }
    }
    for (name, child) in map {
        if let Some(schema) = schema.field(name) {
            node(schema, child, &path::child(path, name), causes);
        }
    }
}

fn check_branches(schema: &Schema, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    let limits = &schema.limits;
    let holds = |branch: &Schema| check(branch, value, path).is_empty();
    let shown = match value {
        Value::Object(_) | Value::Array(_) => Value::String(String::new()),
        other => other.clone(),
    };
    let mut fault = |why: String| {
        let message = format!("Invalid value: {shown}: \"{path}\" {why}");
        causes.push(Cause::new("FieldValueInvalid", path, message));
    };
    if !limits.all_of.is_empty() && !limits.all_of.iter().all(holds) {
        fault("must validate all the schemas (allOf)".to_owned());
    }
    if !limits.any_of.is_empty() && !limits.any_of.iter().any(holds) {
        fault("must validate at least one schema (anyOf)".to_owned());
    }
    if !limits.one_of.is_empty() {
        match limits.one_of.iter().filter(|branch| holds(branch)).count() {
            1 => {}
            0 => {
                fault("must validate one and only one schema (oneOf). Found none valid".to_owned());
            }
            n => fault(format!(
                "must validate one and only one schema (oneOf). Found {n} valid alternatives"
            )),
        }
    }
    if let Some(not) = &limits.not
        && holds(not)
    {
        fault("must not validate the schema (not)".to_owned());
    }
}

fn lists(schema: &Schema, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    match value {
        Value::Object(map) => {
            for (name, child) in map {
                if let Some(schema) = schema.field(name) {
                    lists(schema, child, &path::child(path, name), causes);
                }
            }
        }
        Value::Array(items) => {
            let keys: Vec<Value> = match &schema.list_type {
                ListType::Atomic => Vec::new(),
                ListType::Set => items.clone(),
                ListType::Map(keys) => items
                    .iter()
                    .map(|item| key_of(schema, item, keys))
                    .collect(),
            };
            for (i, key) in keys.iter().enumerate() {
                if keys[..i].contains(key) {
                    causes.push(Cause::duplicate(path::index(path, i), key));
                }
            }
            if let Some(schema) = &schema.items {
                for (i, item) in items.iter().enumerate() {
                    lists(schema, item, &path::index(path, i), causes);
                }
            }
        }
        _ => {}
    }
}

/// The key fields of an item of a `map` list, with defaults where they are missing.
fn key_of(list: &Schema, item: &Value, keys: &[String]) -> Value {
    let default = |key: &str| list.items.as_ref()?.properties.get(key)?.default.clone();
    let fields = keys.iter().filter_map(|key| {
        let value = item.get(key).cloned().or_else(|| default(key))?;
        Some((key.clone(), value))
    });
    Value::Object(fields.collect())
}
