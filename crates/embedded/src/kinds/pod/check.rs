//! Faults of the spec of a Pod or Pod template.

use serde_json::Value;

use crate::{
    kinds::names,
    schema::{format, path},
    status::Cause,
};

const PULL_POLICIES: [&str; 3] = ["Always", "IfNotPresent", "Never"];
const TERMINATION_POLICIES: [&str; 2] = ["FallbackToLogsOnError", "File"];
const RESTART_POLICIES: [&str; 3] = ["Always", "Never", "OnFailure"];
const DNS_POLICIES: [&str; 4] = ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];

/// Faults of the spec of a Pod at `at` (`spec`).
pub(in crate::kinds) fn check_spec(spec: &Value, at: &str, causes: &mut Vec<Cause>) {
    check_shared(spec, at, causes);
    let policy = spec["restartPolicy"].as_str().unwrap_or_default();
    if !matches!(policy, "Always" | "OnFailure" | "Never") {
        causes.push(Cause::not_supported(
            path::child(at, "restartPolicy"),
            &policy.into(),
            &["Always", "OnFailure", "Never"],
        ));
    }
    check_tail(spec, at, causes);
}

/// Faults of the spec of a Job's Pod template, which must end by itself.
pub(in crate::kinds) fn check_template_spec(spec: &Value, at: &str, causes: &mut Vec<Cause>) {
    check_shared(spec, at, causes);
    let field = path::child(at, "restartPolicy");
    match spec["restartPolicy"].as_str().unwrap_or_default() {
        "OnFailure" | "Never" => {}
        "" | "Always" => causes.push(Cause::required(
            field,
            "valid values: \"OnFailure\", \"Never\"",
        )),
        policy => causes.push(Cause::not_supported(
            field,
            &policy.into(),
            &["OnFailure", "Never"],
        )),
    }
    check_tail(spec, at, causes);
}

fn check_shared(spec: &Value, at: &str, causes: &mut Vec<Cause>) {
    let volumes = check_volumes(spec, &path::child(at, "volumes"), causes);
    let mut seen: Vec<&str> = Vec::new();
    if spec["containers"].as_array().is_none_or(Vec::is_empty) {
        causes.push(Cause::required(path::child(at, "containers"), ""));
    }
    for list in ["containers", "initContainers"] {
        for (i, container) in spec[list].as_array().into_iter().flatten().enumerate() {
            let at = path::index(&path::child(at, list), i);
            check_container(container, &at, &volumes, causes);
            let name = container["name"].as_str().unwrap_or_default();
            if name.is_empty() {
                continue;
            }
            if seen.contains(&name) {
                causes.push(Cause::duplicate(path::child(&at, "name"), &name.into()));
            } else {
                seen.push(name);
            }
        }
    }
}

fn check_tail(spec: &Value, at: &str, causes: &mut Vec<Cause>) {
    if let Some(policy) = spec["dnsPolicy"].as_str()
        && !DNS_POLICIES.contains(&policy)
    {
        causes.push(Cause::not_supported(
            path::child(at, "dnsPolicy"),
            &policy.into(),
            &DNS_POLICIES,
        ));
    }
    if let Some(grace) = spec["terminationGracePeriodSeconds"].as_i64()
        && grace < 0
    {
        let field = path::child(at, "terminationGracePeriodSeconds");
        causes.push(Cause::invalid(
            field,
            &grace.into(),
            "must be greater than or equal to 0",
        ));
    }
    if let Some(deadline) = spec["activeDeadlineSeconds"].as_i64()
        && !(1..=i64::from(i32::MAX)).contains(&deadline)
    {
        let field = path::child(at, "activeDeadlineSeconds");
        causes.push(Cause::invalid(
            field,
            &deadline.into(),
            "must be between 1 and 2147483647, inclusive",
        ));
    }
    if let Some(name) = spec["serviceAccountName"].as_str() {
        for fault in names::subdomain(name) {
            causes.push(Cause::invalid(
                path::child(at, "serviceAccountName"),
                &name.into(),
                fault,
            ));
        }
    }
    for (key, value) in spec["nodeSelector"].as_object().into_iter().flatten() {
        let field = path::child(at, "nodeSelector");
        for fault in names::qualified_name(key) {
            causes.push(Cause::invalid(&field, &key.as_str().into(), fault));
        }
        for fault in names::label_value(value.as_str().unwrap_or_default()) {
            causes.push(Cause::invalid(&field, value, fault));
        }
    }
}

fn check_volumes<'a>(spec: &'a Value, at: &str, causes: &mut Vec<Cause>) -> Vec<&'a str> {
    let mut names = Vec::new();
    for (i, volume) in spec["volumes"].as_array().into_iter().flatten().enumerate() {
        let at = path::index(at, i);
        let name = volume["name"].as_str().unwrap_or_default();
        let field = path::child(&at, "name");
        if name.is_empty() {
            causes.push(Cause::required(field, ""));
            continue;
        }
        for fault in names::label(name) {
            causes.push(Cause::invalid(&field, &name.into(), fault));
        }
        if names.contains(&name) {
            causes.push(Cause::duplicate(&field, &name.into()));
        }
        names.push(name);
        let sources: Vec<&String> = volume
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, _)| key)
            .filter(|k| *k != "name")
            .collect();
        for source in sources.iter().skip(1) {
            causes.push(Cause::forbidden(
                path::child(&at, source),
                "may not specify more than 1 volume type",
            ));
        }
    }
    names
}

fn check_container(container: &Value, at: &str, volumes: &[&str], causes: &mut Vec<Cause>) {
    let text = |key: &str| container[key].as_str().unwrap_or_default();
    let field = |key: &str| path::child(at, key);
    let name = text("name");
    if name.is_empty() {
        causes.push(Cause::required(field("name"), ""));
    } else {
        for fault in names::label(name) {
            causes.push(Cause::invalid(field("name"), &name.into(), fault));
        }
    }
    let image = text("image");
    if image.is_empty() {
        causes.push(Cause::required(field("image"), ""));
    } else if image.trim() != image {
        let why = "must not have leading or trailing whitespace";
        causes.push(Cause::invalid(field("image"), &image.into(), why));
    }
    let policy = text("terminationMessagePolicy");
    if !policy.is_empty() && !TERMINATION_POLICIES.contains(&policy) {
        causes.push(Cause::not_supported(
            field("terminationMessagePolicy"),
            &policy.into(),
            &TERMINATION_POLICIES,
        ));
    }
    let policy = text("restartPolicy");
    if !policy.is_empty() && !RESTART_POLICIES.contains(&policy) {
        causes.push(Cause::not_supported(
            field("restartPolicy"),
            &policy.into(),
            &RESTART_POLICIES,
        ));
    }
    check_env(container, at, causes);
    check_mounts(container, at, volumes, causes);
    let policy = text("imagePullPolicy");
    if !PULL_POLICIES.contains(&policy) {
        causes.push(Cause::not_supported(
            field("imagePullPolicy"),
            &policy.into(),
            &PULL_POLICIES,
        ));
    }
    check_resources(&container["resources"], &field("resources"), causes);
}

fn check_env(container: &Value, at: &str, causes: &mut Vec<Cause>) {
    for (i, variable) in container["env"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        let at = path::index(&path::child(at, "env"), i);
        let name = variable["name"].as_str().unwrap_or_default();
        if name.is_empty() {
            causes.push(Cause::required(path::child(&at, "name"), ""));
        } else {
            for fault in names::env_name(name) {
                causes.push(Cause::invalid(
                    path::child(&at, "name"),
                    &name.into(),
                    fault,
                ));
            }
        }
        if let Some(Value::Object(source)) = variable.get("valueFrom") {
            let field = path::child(&at, "valueFrom");
            let shown = Value::from("");
            if source.is_empty() {
                let why = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
                causes.push(Cause::invalid(&field, &shown, why));
            }
            if variable["value"]
                .as_str()
                .is_some_and(|value| !value.is_empty())
            {
                causes.push(Cause::invalid(
                    &field,
                    &shown,
                    "may not be specified when `value` is not empty",
                ));
            }
            if source.len() > 1 {
                let why = "may not have more than one field specified at a time";
                causes.push(Cause::invalid(&field, &shown, why));
            }
        }
    }
}

fn check_mounts(container: &Value, at: &str, volumes: &[&str], causes: &mut Vec<Cause>) {
    let mut paths: Vec<&str> = Vec::new();
    for (i, mount) in container["volumeMounts"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        let at = path::index(&path::child(at, "volumeMounts"), i);
        let name = mount["name"].as_str().unwrap_or_default();
        if name.is_empty() {
            causes.push(Cause::required(path::child(&at, "name"), ""));
        }
        if !volumes.contains(&name) {
            let message = format!("Not found: {}", Value::from(name));
            causes.push(Cause::new(
                "FieldValueNotFound",
                path::child(&at, "name"),
                message,
            ));
        }
        let mount_path = mount["mountPath"].as_str().unwrap_or_default();
        let field = path::child(&at, "mountPath");
        if mount_path.is_empty() {
            causes.push(Cause::required(&field, ""));
        }
        if paths.contains(&mount_path) {
            causes.push(Cause::invalid(&field, &mount_path.into(), "must be unique"));
        }
        paths.push(mount_path);
        if let Some(sub_path) = mount["subPath"].as_str() {
            let field = path::child(&at, "subPath");
            if sub_path.starts_with('/') {
                causes.push(Cause::invalid(
                    &field,
                    &sub_path.into(),
                    "must be a relative path",
                ));
            }
            if sub_path.split('/').any(|part| part == "..") {
                causes.push(Cause::invalid(
                    &field,
                    &sub_path.into(),
                    "must not contain '..'",
                ));
            }
        }
    }
}

fn check_resources(resources: &Value, at: &str, causes: &mut Vec<Cause>) {
    for list in ["limits", "requests"] {
        for (resource, quantity) in resources[list].as_object().into_iter().flatten() {
            if quantity
                .as_str()
                .and_then(format::quantity)
                .is_some_and(|n| n < 0.0)
            {
                let field = path::key(&path::child(at, list), resource);
                causes.push(Cause::invalid(
                    field,
                    quantity,
                    "must be greater than or equal to 0",
                ));
            }
        }
    }
    for (resource, request) in resources["requests"].as_object().into_iter().flatten() {
        let Some(limit) = resources["limits"].get(resource).and_then(Value::as_str) else {
            continue;
        };
        let wanted = request.as_str().and_then(format::quantity);
        if let (Some(wanted), Some(allowed)) = (wanted, format::quantity(limit))
            && wanted > allowed
        {
            let why = format!("must be less than or equal to {resource} limit of {limit}");
            causes.push(Cause::invalid(path::child(at, "requests"), request, why));
        }
    }
}
