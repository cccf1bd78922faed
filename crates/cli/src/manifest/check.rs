//! Holds each object against what an API server would hold it against: kind, fields, types, defaults, rules.
//!
//! All faults of all objects are told at once. Nothing here asks a cluster.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use kubeopencode_embedded::{
    clock,
    kinds::{FieldValidation, Kind, Registry},
    schema::Schema,
};
use serde_json::Value;

use super::{Document, Manifest, Source, tree::Node};
use crate::failure::{Failure, Problem};

/// Every kind that a manifest may have: the built-in ones and ours.
static REGISTRY: LazyLock<Registry> = LazyLock::new(|| {
    let registry = Registry::builtin();
    for definition in kubeopencode_api::crds() {
        if let Ok(definition) = serde_json::to_value(definition) {
            // A definition that cannot be compiled is found by the tests; here its kind is then unknown.
            let _ = registry.install_crd(&definition);
        }
    }
    registry
});

/// Checks documents; objects of namespaced kinds that name no namespace are put into `namespace`.
pub(crate) fn check(documents: Vec<Document>, namespace: &str) -> Result<Vec<Manifest>, Failure> {
    let mut problems = Vec::new();
    let mut manifests: Vec<Manifest> = Vec::new();
    let mut seen: BTreeMap<(String, String, String, String), String> = BTreeMap::new();
    for (source, node) in documents {
        match check_one(source, node, namespace) {
            Err(found) => problems.extend(found),
            Ok(manifest) => {
                let key = (
                    manifest.kind.group.clone(),
                    manifest.kind.kind.clone(),
                    manifest.namespace().unwrap_or_default().to_owned(),
                    manifest.name().to_owned(),
                );
                let place = manifest.source.at(manifest.node.place);
                if let Some(first) = seen.insert(key, place) {
                    problems.push(
                        manifest
                            .problem(
                                "metadata.name",
                                format!("{} is already at {first}", manifest.title()),
                            )
                            .hint("give one of them another name"),
                    );
                }
                manifests.push(manifest);
            }
        }
    }
    if problems.is_empty() {
        Ok(manifests)
    } else {
        Err(Failure::input(problems))
    }
}

/// Checks one object that was made from the command line.
pub(crate) fn check_made(object: &Value, namespace: &str) -> Result<Manifest, Failure> {
    let nodes = super::tree::parse(&object.to_string()).unwrap_or_default();
    let Some(node) = nodes.into_iter().next() else {
        return Err(Problem::new("there is nothing to do").input());
    };
    check_one(Source::command_line(), node, namespace).map_err(|mut problems| {
        for problem in &mut problems {
            "the command line".clone_into(&mut problem.place);
        }
        Failure::input(problems)
    })
}

fn check_one(source: Source, node: Node, namespace: &str) -> Result<Manifest, Vec<Problem>> {
    let mut object = node.to_value();
    let at = |field: &str| source.at(node.place_of(field));
    let kind = known_kind(&object, at)?;
    let metadata = &mut object["metadata"];
    if let Some(prefix) = metadata["generateName"].as_str().map(str::to_owned)
        && metadata["name"].is_null()
    {
        metadata["name"] = format!("{prefix}{}", clock::suffix(&clock::system_entropy())).into();
    }
    if metadata["name"].as_str().is_none_or(str::is_empty) {
        let problem = Problem::new(format!("this {} has no metadata.name", kind.kind))
            .at(at("metadata"))
            .hint("every object needs a name: lower-case letters, digits and '-'");
        return Err(vec![problem]);
    }
    if kind.namespaced && metadata["namespace"].as_str().is_none_or(str::is_empty) {
        metadata["namespace"] = namespace.into();
    }
    let manifest = Manifest {
        source,
        node,
        object,
        kind,
    };
    let object = valid(&manifest)?;
    Ok(Manifest { object, ..manifest })
}

/// The kind that an object says it is.
fn known_kind(object: &Value, at: impl Fn(&str) -> String) -> Result<Arc<Kind>, Vec<Problem>> {
    let (Some(api_version), Some(kind)) = (object["apiVersion"].as_str(), object["kind"].as_str())
    else {
        let missing = if object["apiVersion"].is_string() {
            "kind"
        } else {
            "apiVersion"
        };
        let problem = Problem::new(format!("this object has no {missing}"))
            .at(at(missing))
            .hint("a manifest begins with apiVersion and kind, for example `apiVersion: kubeopencode.io/v1alpha1` and `kind: Task`");
        return Err(vec![problem]);
    };
    if let Some(found) = REGISTRY
        .lookup_kind(api_version, kind)
        .filter(|found| found.is_stored())
    {
        return Ok(found);
    }
    let kinds = REGISTRY.kinds();
    let same: Vec<String> = kinds
        .iter()
        .filter(|other| other.kind == kind)
        .map(|other| other.api_version())
        .collect();
    let names: Vec<&str> = kinds
        .iter()
        .filter(|kind| kind.is_stored())
        .map(|kind| kind.kind.as_str())
        .collect();
    let problem =
        Problem::new(format!("there is no kind {kind:?} in {api_version:?}")).at(at("kind"));
    let problem = if let Some(version) = same.first() {
        problem.hint(format!("{kind} is in `apiVersion: {version}`"))
    } else if let Some(name) = nearest(kind, &names) {
        problem.hint(format!("did you mean {name}?"))
    } else {
        problem.hint("known are Task, Agent and KubeOpenCodeConfig of kubeopencode.io/v1alpha1, and ConfigMap, Secret, ServiceAccount, Namespace and the like of Kubernetes")
    };
    Err(vec![problem])
}

/// The object with its defaults, or every fault of it.
fn valid(manifest: &Manifest) -> Result<Value, Vec<Problem>> {
    let kind = &manifest.kind;
    let decoded = kind
        .decode(manifest.object.clone().into(), FieldValidation::Warn)
        .map_err(|failure| refusal(manifest, &failure))?;
    let mut unknown: Vec<&str> = decoded
        .warnings
        .iter()
        .filter_map(|warning| warning.strip_prefix("unknown field "))
        .map(|field| field.trim_matches('"'))
        .collect();
    // As the file is read, not as an API server lists them.
    unknown.sort_by_key(|field| manifest.node.place_of(field));
    let mut problems: Vec<Problem> = unknown
        .into_iter()
        .map(|field| unknown_field(manifest, field))
        .collect();
    let mut object = decoded.object;
    let mut admitted = object.clone();
    admitted["metadata"]["uid"] = "00000000-0000-0000-0000-000000000000".into();
    kind.prepare_create(&mut admitted);
    let secret = kind.group.is_empty() && kind.kind == "Secret";
    for cause in kind.validate(&admitted, None, None) {
        if cause.field == "<nil>" && !(problems.is_empty()) {
            // It only says that there may be more.
            continue;
        }
        let message = if secret && !cause.field.starts_with("metadata") {
            // What is wrong in a Secret is quoted nowhere.
            format!("{} is not valid", cause.field)
        } else {
            told(&cause.field, &cause.message)
        };
        let mut problem = manifest.problem(&cause.field, message);
        if cause.field.ends_with("timeout") {
            problem = problem.hint("a duration is hours, minutes and seconds, as in `1h30m`");
        }
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if problems.is_empty() {
        Ok(object)
    } else {
        Err(problems)
    }
}

/// What is wrong with a field, without the words that an API server puts around it.
fn told(field: &str, message: &str) -> String {
    let message = match message.strip_prefix("Invalid value: ") {
        Some(rest) => after_value(rest),
        None => message,
    };
    let message = message
        .strip_prefix(&format!("{field} in body "))
        .unwrap_or(message);
    if message.starts_with(field) {
        message.to_owned()
    } else {
        format!("{field}: {message}")
    }
}

/// What stands behind `<value as JSON>: `; all of it where no value stands in front.
fn after_value(text: &str) -> &str {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    match values.next() {
        Some(Ok(_)) => text[values.byte_offset()..]
            .strip_prefix(": ")
            .unwrap_or(text),
        _ => text,
    }
}

/// The refusal of a decoder, whose text begins with words that only an API server's log needs.
fn refusal(manifest: &Manifest, failure: &kubeopencode_embedded::status::Failure) -> Vec<Problem> {
    let status = failure.to_value();
    let causes = status["details"]["causes"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    if !causes.is_empty() {
        return causes
            .iter()
            .map(|cause| {
                let field = cause["field"].as_str().unwrap_or_default();
                let message = cause["message"].as_str().unwrap_or_default();
                manifest.problem(field, told(field, message))
            })
            .collect();
    }
    let message = status["message"].as_str().unwrap_or_default();
    let message = message
        .split_once(&format!("cannot be handled as a {}: ", manifest.kind.kind))
        .map_or(message, |(_, rest)| rest);
    vec![manifest.problem(
        "",
        format!("this is no valid {}: {message}", manifest.kind.kind),
    )]
}

fn unknown_field(manifest: &Manifest, field: &str) -> Problem {
    let (parent, name) = field.rsplit_once('.').unwrap_or(("", field));
    let problem = manifest.problem(
        field,
        format!("{} has no field {field:?}", manifest.kind.kind),
    );
    let known = known_fields(manifest.kind.schema(), parent);
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    match nearest(name, &known) {
        Some(nearest) => problem.hint(format!("did you mean {nearest:?}?")),
        None if known.is_empty() => problem,
        None => problem.hint(format!("known here: {}", known.join(", "))),
    }
}

/// The fields that a schema has at a path such as `spec.contexts[0]`.
fn known_fields(schema: &Schema, path: &str) -> Vec<String> {
    let mut schema = Some(schema);
    for step in path.split(['.', '[', ']']).filter(|step| !step.is_empty()) {
        schema = schema.and_then(|schema| match &schema.items {
            Some(items) if step.parse::<usize>().is_ok() => Some(items.as_ref()),
            _ => schema.field(step),
        });
    }
    schema
        .map(|schema| schema.properties.keys().cloned().collect())
        .unwrap_or_default()
}

/// The candidate that somebody may have meant.
pub(crate) fn nearest<'a>(name: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let lower = name.to_lowercase();
    candidates
        .iter()
        .map(|candidate| {
            (
                strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()),
                *candidate,
            )
        })
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4)
        .min()
        .map(|(_, candidate)| candidate)
}
