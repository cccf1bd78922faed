//! From the body of a request, or the result of a patch, to an object of a kind.

use serde_json::{Map, Value};

use super::{Decoded, FieldValidation, Kind, builtin, crd, job, pod, simple};
use crate::{
    patch::{self, Form},
    schema::{Document, builtin as types, defaults, prune, typed},
    status::{Cause, Failure},
};

/// Why a body is not an object of the kind.
enum Fault {
    /// What the decoder says; it follows `… cannot be handled as a …: `.
    Decoder(String),
    /// Said as it is.
    Plain(String),
}

pub(super) fn decode(
    kind: &Kind,
    document: Document,
    mode: FieldValidation,
) -> Result<Decoded, Failure> {
    let given = document.value["kind"]
        .as_str()
        .unwrap_or(&kind.kind)
        .to_owned();
    let version = document.value["apiVersion"]
        .as_str()
        .unwrap_or(&kind.version);
    let version = version.rsplit('/').next().unwrap_or(version).to_owned();
    let refuse = |text: String| {
        Failure::bad_request(format!(
            "{given} in version {version:?} cannot be handled as a {}: {text}",
            kind.kind
        ))
    };
    let duplicates = document.duplicates.clone();
    match read(kind, document) {
        Ok((object, unknown)) => {
            let mut warnings: Vec<String> = duplicates
                .iter()
                .map(|field| format!("duplicate field {field:?}"))
                .collect();
            warnings.extend(
                unknown
                    .iter()
                    .map(|field| format!("unknown field {field:?}")),
            );
            match mode {
                FieldValidation::Strict if !warnings.is_empty() => Err(refuse(format!(
                    "strict decoding error: {}",
                    warnings.join(", ")
                ))),
                FieldValidation::Ignore => Ok(finish(kind, object, Vec::new())),
                _ => Ok(finish(kind, object, warnings)),
            }
        }
        Err(Fault::Decoder(text)) => Err(refuse(text)),
        Err(Fault::Plain(text)) => Err(Failure::bad_request(text)),
    }
}

pub(super) fn decode_patched(
    kind: &Kind,
    object: Value,
    patch: &Value,
    form: Form,
    mode: FieldValidation,
) -> Result<Decoded, Failure> {
    let shown = match form {
        Form::Strategic => patch::go_map(patch),
        Form::Json | Form::Merge => object.to_string(),
    };
    let refuse = |text: String| {
        let cause = Cause::invalid("patch", &shown.clone().into(), text);
        Failure::invalid("", "", "", vec![cause])
    };
    match read(kind, Document::from(object)) {
        Ok((object, unknown)) => {
            let mut warnings = Vec::new();
            if form == Form::Json {
                let fields = patch::unknown_operation_fields(patch);
                warnings.extend(
                    fields
                        .iter()
                        .map(|field| format!("json patch unknown field {field:?}")),
                );
            }
            warnings.extend(
                unknown
                    .iter()
                    .map(|field| format!("unknown field {field:?}")),
            );
            match mode {
                FieldValidation::Strict if !warnings.is_empty() => Err(refuse(format!(
                    "strict decoding error: {}",
                    warnings.join(", ")
                ))),
                FieldValidation::Ignore => Ok(finish(kind, object, Vec::new())),
                _ => Ok(finish(kind, object, warnings)),
            }
        }
        Err(Fault::Decoder(text) | Fault::Plain(text)) => Err(refuse(text)),
    }
}

/// Custom resources may name finalizers without a domain, but hear about it.
fn finish(kind: &Kind, object: Value, warnings: Vec<String>) -> Decoded {
    let mut advice = Vec::new();
    if kind.custom {
        for finalizer in object["metadata"]["finalizers"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let name = finalizer.as_str().unwrap_or_default();
            if !name.contains('/') && !matches!(name, "orphan" | "foregroundDeletion") {
                advice.push(format!("metadata.finalizers: {name:?}: prefer a domain-qualified finalizer name to avoid accidental conflicts with other finalizer writers"));
            }
        }
    }
    Decoded {
        object,
        warnings,
        advice,
    }
}

fn read(kind: &Kind, document: Document) -> Result<(Value, Vec<String>), Fault> {
    if kind.custom {
        read_custom(kind, document)
    } else {
        read_builtin(kind, document)
    }
}

fn read_builtin(kind: &Kind, document: Document) -> Result<(Value, Vec<String>), Fault> {
    let summary = document.summary();
    let Value::Object(mut object) = document.value else {
        return Err(Fault::Plain(format!(
            "the object provided is unrecognized (must be of type {}): couldn't get version/kind; json parse error: json: cannot unmarshal {} into Go value of type struct {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }} ({summary})",
            kind.kind,
            match document.value {
                Value::Array(_) => "array",
                Value::String(_) => "string",
                Value::Bool(_) => "bool",
                _ => "number",
            }
        )));
    };
    let text = |key: &str| {
        object
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let (api_version, given) = (text("apiVersion"), text("kind"));
    let api_version = if api_version.is_empty() {
        kind.api_version()
    } else {
        api_version
    };
    let given = if given.is_empty() {
        kind.kind.clone()
    } else {
        given
    };
    if api_version != kind.api_version() || given != kind.kind {
        return Err(Fault::Decoder(mismatch(kind, &api_version, &given)));
    }
    object.insert("apiVersion".into(), api_version.into());
    object.insert("kind".into(), given.into());
    let mut unknown = Vec::new();
    let schema = kind.schema();
    let value =
        typed::decode(schema, &Value::Object(object), &mut unknown).map_err(Fault::Decoder)?;
    let Value::Object(mut object) = value else {
        return Err(Fault::Plain(
            "the object provided is unrecognized".to_owned(),
        ));
    };
    object
        .entry("metadata")
        .or_insert_with(|| Value::Object(Map::new()));
    fill_defaults(kind, &mut object);
    Ok((Value::Object(object), unknown))
}

fn mismatch(kind: &Kind, api_version: &str, given: &str) -> String {
    if builtin::exists(api_version, given) {
        let package = |group: &str| match group {
            "" => "core".to_owned(),
            "rbac.authorization.k8s.io" => "rbac".to_owned(),
            group => group.split('.').next().unwrap_or(group).to_owned(),
        };
        format!(
            "converting (v1.{given}) to ({}.{}): unknown conversion",
            package(&kind.group),
            kind.kind
        )
    } else {
        format!(
            "no kind {given:?} is registered for version {api_version:?} in scheme \"pkg/runtime/scheme.go:111\""
        )
    }
}

/// The defaults that the real server gives a built-in kind when it decodes it.
fn fill_defaults(kind: &Kind, object: &mut Map<String, Value>) {
    match (kind.group.as_str(), kind.kind.as_str()) {
        ("", "Namespace") => simple::default_namespace(object),
        ("", "Secret") => simple::default_secret(object),
        ("", "PersistentVolumeClaim") => simple::default_claim(object),
        ("", "Pod") => pod::default_pod(object),
        ("batch", "Job") => job::default_job(object),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => {
            simple::default_binding(object);
        }
        ("apiextensions.k8s.io", "CustomResourceDefinition") => crd::default_definition(object),
        _ => {}
    }
}

fn read_custom(kind: &Kind, document: Document) -> Result<(Value, Vec<String>), Fault> {
    let summary = document.summary();
    let whole = document.shown();
    let missing = |what: &str| {
        Fault::Plain(format!(
            "the object provided is unrecognized (must be of type {}): Object '{what}' is missing in '{whole}' ({summary})",
            kind.kind
        ))
    };
    let Value::Object(mut object) = document.value else {
        return Err(missing("Kind"));
    };
    let text = |key: &str| {
        object
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let (api_version, given) = (text("apiVersion"), text("kind"));
    if given.is_empty() {
        return Err(missing("Kind"));
    }
    if api_version != kind.api_version() {
        return Err(Fault::Plain(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({})",
            kind.api_version()
        )));
    }
    let mut unknown = Vec::new();
    let metadata = object.remove("metadata").unwrap_or_default();
    let mut below = Vec::new();
    let metadata =
        typed::decode(types::object_meta(), &metadata, &mut below).map_err(Fault::Decoder)?;
    unknown.extend(below.into_iter().map(|field| format!("metadata.{field}")));
    let metadata = if metadata.is_object() {
        metadata
    } else {
        Value::Object(Map::new())
    };
    object.insert("metadata".into(), metadata);
    let mut value = Value::Object(object);
    if given == kind.kind {
        let schema = kind.schema();
        prune::prune(schema, &mut value, "", true, &mut unknown);
        unknown.sort();
        defaults::fill(schema, &mut value);
    }
    whole_numbers(&mut value);
    Ok((value, unknown))
}

/// A number without a fraction is written as Go writes it: `4.0` and `4e0` are read as 4. Built-in kinds refuse them.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Number(number) => {
            // Beyond 2^53 not every whole number has a float of its own, and nothing is gained.
            let whole = number
                .as_f64()
                .filter(|float| number.is_f64() && float.fract() == 0.0 && float.abs() < 9e15);
            if let Some(whole) = whole.and_then(|float| format!("{float:.0}").parse::<i64>().ok()) {
                *value = whole.into();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(map) => map.values_mut().for_each(whole_numbers),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// An object of the kind in which nothing is set, as field ownership compares a new object with it.
pub(super) fn empty(kind: &Kind) -> Value {
    let mut object = if kind.custom {
        Value::Object(Map::new())
    } else {
        typed::empty(kind.schema())
    };
    object["apiVersion"] = kind.api_version().into();
    object["kind"] = kind.kind.clone().into();
    object
}
