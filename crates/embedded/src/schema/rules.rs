//! CEL rules (`x-kubernetes-validations`) of a custom resource.

use kube::core::cel::{CompiledSchema, ErrorKind, Validator, compile_schema};
use serde_json::{Map, Value};

use crate::status::Cause;

/// The compiled rules of one version of a custom resource; `None` inside if it has none.
#[derive(Debug)]
pub(crate) struct Rules {
    compiled: Option<CompiledSchema>,
    /// The text of each rule that names a `fieldPath`, with it.
    field_paths: Vec<(String, String)>,
}

impl Rules {
    /// Compiles all rules of an `openAPIV3Schema`. A rule that does not compile refuses every object.
    pub(crate) fn compile(schema: &Value) -> Self {
        let compiled = has_rules(schema).then(|| compile_schema(&without_defaults(schema)));
        let mut field_paths = Vec::new();
        collect_field_paths(schema, &mut field_paths);
        Self {
            compiled,
            field_paths,
        }
    }

    /// The faults of `new`, with transition rules against `old`.
    pub(crate) fn check(&self, new: &Value, old: Option<&Value>) -> Vec<Cause> {
        let Some(compiled) = &self.compiled else {
            return Vec::new();
        };
        // To `has`, a field that is null is not there.
        let (given, before) = (without_nulls(new), old.map(without_nulls));
        let checked = Validator::new().validate_compiled(compiled, &given, before.as_ref());
        let Err(errors) = checked else {
            return Vec::new();
        };
        errors.into_iter().map(|e| self.cause(&e, new)).collect()
    }

    fn cause(&self, error: &kube::core::cel::ValidationError, object: &Value) -> Cause {
        let path = error.field_path.as_str();
        if error.kind == ErrorKind::ValidationFailure {
            let message = &error.message;
            let path = match path.trim_start_matches('.') {
                "" => "<nil>",
                path => path,
            };
            return match error.reason.as_deref() {
                Some("FieldValueForbidden") => {
                    Cause::new("FieldValueForbidden", path, format!("Forbidden: {message}"))
                }
                Some("FieldValueRequired") => Cause::new(
                    "FieldValueRequired",
                    path,
                    format!("Required value: {message}"),
                ),
                Some("FieldValueDuplicate") => {
                    let value = at(object, path).cloned().unwrap_or_default();
                    Cause::duplicate(path, &value)
                }
                _ => Cause::new(
                    "FieldValueInvalid",
                    path,
                    format!("Invalid value: {message}"),
                ),
            };
        }
        let path = self.place_of_rule(error);
        let rule = error.rule.trim();
        let why = error
            .message
            .strip_prefix("rule evaluation error: ")
            .unwrap_or(&error.message);
        let why = match why.strip_prefix("No such key: ") {
            Some(key) => format!("no such key: {key}"),
            None => why.to_owned(),
        };
        let shown = at(object, path).map_or("object", type_name);
        Cause::invalid(
            path,
            &shown.into(),
            format!("{why} evaluating rule: {rule}"),
        )
    }

    /// Where the rule of an error stands; a rule that could not be evaluated is told there and not at its `fieldPath`.
    fn place_of_rule<'a>(&self, error: &'a kube::core::cel::ValidationError) -> &'a str {
        let path = error.field_path.as_str();
        let mut named = self
            .field_paths
            .iter()
            .filter(|(rule, _)| *rule == error.rule);
        named
            .find_map(|(_, field_path)| path.strip_suffix(field_path.as_str()))
            .map_or(path, |path| path.trim_end_matches('.'))
    }
}

fn collect_field_paths(schema: &Value, found: &mut Vec<(String, String)>) {
    match schema {
        Value::Object(map) => {
            for rule in map
                .get("x-kubernetes-validations")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                if let (Some(text), Some(path)) =
                    (rule["rule"].as_str(), rule["fieldPath"].as_str())
                {
                    found.push((text.to_owned(), path.trim_start_matches('.').to_owned()));
                }
            }
            map.values()
                .for_each(|value| collect_field_paths(value, found));
        }
        Value::Array(items) => items
            .iter()
            .for_each(|value| collect_field_paths(value, found)),
        _ => {}
    }
}

/// The value at a path such as `spec.ports[0].name`.
fn at<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    path.split(['.', '[', ']'])
        .filter(|segment| !segment.is_empty())
        .try_fold(object, |value, segment| match value {
            Value::Array(items) => items.get(segment.parse::<usize>().ok()?),
            _ => value.get(segment),
        })
}

/// The schema word for the type of a value.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn has_rules(schema: &Value) -> bool {
    match schema {
        Value::Object(map) => {
            map.contains_key("x-kubernetes-validations") || map.values().any(has_rules)
        }
        Value::Array(items) => items.iter().any(has_rules),
        _ => false,
    }
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let fields = map.iter().filter(|(_, field)| !field.is_null());
            let fields = fields.map(|(name, field)| (name.clone(), without_nulls(field)));
            Value::Object(fields.collect())
        }
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

/// Objects have their defaults before the rules see them; filling them in again would hide what is missing.
fn without_defaults(schema: &Value) -> Value {
    let Value::Object(map) = schema else {
        return schema.clone();
    };
    let mut result = Map::new();
    for (key, value) in map {
        let value = match (key.as_str(), value) {
            ("default" | "enum", _) => continue,
            ("properties", Value::Object(properties)) => properties
                .iter()
                .map(|(name, property)| (name.clone(), without_defaults(property)))
                .collect::<Map<_, _>>()
                .into(),
            ("allOf" | "anyOf" | "oneOf", Value::Array(branches)) => {
                branches.iter().map(without_defaults).collect()
            }
            (_, Value::Object(_)) => without_defaults(value),
            _ => value.clone(),
        };
        result.insert(key.clone(), value);
    }
    Value::Object(result)
}
