//! Jobs: defaults, the generated selector and labels, and what may be changed.

use serde_json::{Map, Value, json};

use super::{metadata, names, pod};
use crate::{schema::path, status::Cause};

const UID_LABEL: &str = "batch.kubernetes.io/controller-uid";
const NAME_LABEL: &str = "batch.kubernetes.io/job-name";
/// The labels of before Kubernetes 1.27, which Pods still get.
const OLD_UID_LABEL: &str = "controller-uid";
const OLD_NAME_LABEL: &str = "job-name";

fn default(object: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    object.entry(key).or_insert_with(|| value.into());
}

/// Defaults of a Job.
pub(super) fn default_job(job: &mut Map<String, Value>) {
    let Some(Value::Object(spec)) = job.get_mut("spec") else {
        return;
    };
    if !spec.contains_key("completions") && !spec.contains_key("parallelism") {
        spec.insert("completions".into(), 1.into());
    }
    default(spec, "parallelism", 1);
    if !spec.contains_key("backoffLimit") {
        let limit = if spec.contains_key("backoffLimitPerIndex") {
            i32::MAX
        } else {
            6
        };
        spec.insert("backoffLimit".into(), limit.into());
    }
    default(spec, "completionMode", "NonIndexed");
    default(spec, "suspend", false);
    default(spec, "manualSelector", false);
    if !spec.contains_key("podReplacementPolicy") {
        let policy = if spec.contains_key("podFailurePolicy") {
            "Failed"
        } else {
            "TerminatingOrFailed"
        };
        spec.insert("podReplacementPolicy".into(), policy.into());
    }
    if let Some(Value::Object(spec)) = spec.get_mut("template").and_then(|t| t.get_mut("spec")) {
        pod::default_spec(spec);
    }
}

/// Selector and labels of a new Job, from its uid and name, unless it brings its own selector; its first status.
pub(super) fn prepare_create(job: &mut Value) {
    job["status"] = json!({});
    if job["spec"]["manualSelector"] != true {
        generate_selector(job);
    }
    take_labels(job);
}

/// A Job without labels has those of its template.
pub(super) fn take_labels(job: &mut Value) {
    let labels = job["spec"]["template"]["metadata"]["labels"].clone();
    let unlabelled = job["metadata"]["labels"]
        .as_object()
        .is_none_or(Map::is_empty);
    if unlabelled && labels.is_object() {
        job["metadata"]["labels"] = labels;
    }
}

fn generate_selector(job: &mut Value) {
    let uid = job["metadata"]["uid"].clone();
    let name = job["metadata"]["name"].clone();
    let labels = &mut job["spec"]["template"]["metadata"]["labels"];
    if !labels.is_object() {
        *labels = json!({});
    }
    if let Value::Object(labels) = labels {
        for (label, value) in [
            (UID_LABEL, &uid),
            (OLD_UID_LABEL, &uid),
            (NAME_LABEL, &name),
            (OLD_NAME_LABEL, &name),
        ] {
            default(labels, label, value.clone());
        }
    }
    let selector = &mut job["spec"]["selector"];
    if !selector.is_object() {
        *selector = json!({});
    }
    let matched = &mut selector["matchLabels"];
    if !matched.is_object() {
        *matched = json!({});
    }
    if let Value::Object(matched) = matched {
        default(matched, UID_LABEL, uid);
    }
}

/// Faults of a Job. The real server looks at the spec once for the Job and once more for its change.
pub(super) fn check(job: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    check_generated(job, causes);
    check_spec(&job["spec"], causes);
    check_indexed_name(job, causes);
    if let Some(old) = old {
        check_spec(&job["spec"], causes);
        check_update(job, old, causes);
    }
}

fn check_spec(spec: &Value, causes: &mut Vec<Cause>) {
    for key in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "maxFailedIndexes",
        "backoffLimitPerIndex",
    ] {
        if let Some(number) = spec[key].as_i64()
            && number < 0
        {
            let why = "must be greater than or equal to 0";
            causes.push(Cause::invalid(format!("spec.{key}"), &number.into(), why));
        }
    }
    if let Some(mode) = spec["completionMode"].as_str() {
        if !matches!(mode, "NonIndexed" | "Indexed") {
            causes.push(Cause::not_supported(
                "spec.completionMode",
                &mode.into(),
                &["NonIndexed", "Indexed"],
            ));
        }
        if mode == "Indexed" && spec["completions"].is_null() {
            let why = "when completion mode is Indexed";
            causes.push(Cause::required("spec.completions", why));
        }
    }
    let policy = &spec["podReplacementPolicy"];
    let allowed: &[&str] = if spec["podFailurePolicy"].is_object() {
        &["Failed"]
    } else {
        &["Failed", "TerminatingOrFailed"]
    };
    if let Some(given) = policy.as_str()
        && !allowed.contains(&given)
    {
        let field = "spec.podReplacementPolicy";
        causes.push(Cause::not_supported(field, policy, allowed));
    }
    if let Some(manager) = spec["managedBy"].as_str() {
        check_manager(manager, causes);
    }
    let template = &spec["template"];
    metadata::check_labels(
        &template["metadata"]["labels"],
        "spec.template.labels",
        causes,
    );
    metadata::check_annotations(
        &template["metadata"]["annotations"],
        "spec.template.annotations",
        causes,
    );
    pod::check_template_spec(&template["spec"], "spec.template.spec", causes);
    if spec["selector"].is_null() {
        causes.push(Cause::required("spec.selector", ""));
    }
    let labels = &template["metadata"]["labels"];
    if !matches(&spec["selector"], labels) {
        causes.push(Cause::invalid(
            "spec.template.metadata.labels",
            labels,
            "`selector` does not match template `labels`",
        ));
    }
}

/// Whether what a selector names is there; no selector matches nothing.
fn matches(selector: &Value, labels: &Value) -> bool {
    let wanted = selector["matchLabels"].as_object();
    let mut wanted = wanted.into_iter().flatten();
    selector.is_object() && wanted.all(|(key, value)| labels.get(key) == Some(value))
}

/// The Pods of an indexed Job are named after it.
fn check_indexed_name(job: &Value, causes: &mut Vec<Cause>) {
    let (spec, name) = (&job["spec"], &job["metadata"]["name"]);
    let Some(last) = spec["completions"]
        .as_i64()
        .filter(|n| *n > 0)
        .map(|n| n - 1)
    else {
        return;
    };
    let pod = format!("{}-{last}", name.as_str().unwrap_or_default());
    if spec["completionMode"] == "Indexed" && !names::label(&pod).is_empty() {
        let name = name.as_str().unwrap_or_default().into();
        let why = format!("will not able to create pod with invalid DNS label: {pod}");
        causes.push(Cause::invalid("metadata.name", &name, why));
    }
}

fn check_manager(manager: &str, causes: &mut Vec<Cause>) {
    let mut invalid = |why: &str| {
        causes.push(Cause::invalid("spec.managedBy", &manager.into(), why));
    };
    match manager.split_once('/') {
        Some((domain, path)) if !domain.is_empty() && !path.is_empty() => {
            for why in names::subdomain(domain) {
                invalid(&why);
            }
        }
        _ => invalid("must be a domain-prefixed path (such as \"acme.io/foo\")"),
    }
}

/// A Job that does not bring its own selector keeps what was generated for it.
fn check_generated(job: &Value, causes: &mut Vec<Cause>) {
    let selector = &job["spec"]["selector"];
    if job["spec"]["manualSelector"] == true || selector.is_null() {
        return;
    }
    let (uid, name) = (&job["metadata"]["uid"], &job["metadata"]["name"]);
    let expected =
        json!({OLD_UID_LABEL: uid, OLD_NAME_LABEL: name, UID_LABEL: uid, NAME_LABEL: name});
    let labels = &job["spec"]["template"]["metadata"]["labels"];
    for (label, value) in expected.as_object().into_iter().flatten() {
        let why = format!("must be '{}'", value.as_str().unwrap_or_default());
        let field = path::key("spec.template.metadata.labels", label);
        match labels.get(label) {
            Some(given) if given == value => {}
            Some(_) => causes.push(Cause::invalid(field, labels, why)),
            None => causes.push(Cause::required(field, why)),
        }
    }
    if !matches(selector, &expected) || !selector["matchExpressions"].is_null() {
        let why = "`selector` not auto-generated";
        causes.push(Cause::invalid("spec.selector", selector, why));
    }
}

fn check_update(job: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let (spec, before) = (&job["spec"], &old["spec"]);
    let mut immutable = |field: &str, same: bool, value: &Value| {
        if !same {
            causes.push(Cause::invalid(field, value, "field is immutable"));
        }
    };
    let indexed = spec["completionMode"] == "Indexed";
    immutable(
        "spec.completions",
        indexed || spec["completions"] == before["completions"],
        &spec["completions"],
    );
    immutable(
        "spec.selector",
        spec["selector"] == before["selector"],
        &spec["selector"],
    );
    let (template, template_before) = (fixed_template(job, old), fixed_template(old, old));
    // While its scheduling may change, the rest is looked at piece by piece.
    let (field, value) = if may_be_scheduled_anew(old) {
        ("spec.template.spec", &spec["template"]["spec"])
    } else {
        ("spec.template", &spec["template"])
    };
    immutable(field, template == template_before, value);
    for key in [
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ] {
        immutable(
            &format!("spec.{key}"),
            spec.get(key) == before.get(key),
            &spec[key],
        );
    }
    let completions = &spec["completions"];
    let changed = completions.is_i64() && *completions != before["completions"];
    if indexed && changed && *completions != spec["parallelism"] {
        let why = "can only be modified in tandem with spec.parallelism";
        causes.push(Cause::invalid("spec.completions", completions, why));
    }
}

fn may_be_scheduled_anew(old: &Value) -> bool {
    let started = !old["status"]["startTime"].is_null();
    old["spec"]["suspend"] == true && !started
}

/// The part of a template that cannot be changed: all of it, but while a Job is suspended and never started, not
/// what decides where its Pods go.
fn fixed_template(job: &Value, old: &Value) -> Value {
    let mut template = job["spec"]["template"].clone();
    if !may_be_scheduled_anew(old) {
        return template;
    }
    if let Some(spec) = template.get_mut("spec").and_then(Value::as_object_mut) {
        for key in ["nodeSelector", "affinity", "tolerations", "schedulingGates"] {
            spec.remove(key);
        }
        for list in ["containers", "initContainers"] {
            let containers = spec.get_mut(list).and_then(Value::as_array_mut);
            for container in containers
                .into_iter()
                .flatten()
                .filter_map(Value::as_object_mut)
            {
                container.remove("resources");
            }
        }
    }
    if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("labels");
        metadata.remove("annotations");
    }
    template
}

/// Faults of a change of a Job's status.
pub(super) fn check_status(job: &Value, old: &Value, causes: &mut Vec<Cause>) {
    const FIELD: &str = "status.conditions";
    let status = &job["status"];
    let is_true = |job: &Value, kind: &str| {
        let conditions = job["status"]["conditions"].as_array().into_iter().flatten();
        conditions
            .into_iter()
            .any(|c| c["type"] == kind && c["status"] == "True")
    };
    let set = |key: &str| status.get(key).is_some_and(|value| !value.is_null());
    let (complete, failed) = (is_true(job, "Complete"), is_true(job, "Failed"));
    let newly = |kind: &str| is_true(job, kind) && !is_true(old, kind);
    for key in ["active", "succeeded", "failed", "ready", "terminating"] {
        if status[key].as_i64().is_some_and(|count| count < 0) {
            let why = "must be greater than or equal to 0";
            causes.push(Cause::invalid(format!("status.{key}"), &status[key], why));
        }
    }
    if status["ready"].as_i64() > Some(status["active"].as_i64().unwrap_or(0)) {
        let why = "cannot set more ready pods than active";
        causes.push(Cause::invalid("status.ready", &status["ready"], why));
    }
    if (complete || failed) && status["active"].as_i64().is_some_and(|count| count > 0) {
        let why = "active>0 is invalid for finished job";
        causes.push(Cause::invalid("status.active", &status["active"], why));
    }
    let mut invalid = |why: &str| {
        causes.push(Cause::new(
            "FieldValueInvalid",
            FIELD,
            format!("Invalid value: {why}"),
        ));
    };
    if complete && failed {
        invalid("cannot set Complete=True and Failed=true conditions");
    }
    if complete && is_true(job, "FailureTarget") {
        invalid("cannot set Complete=True and FailureTarget=true conditions");
    }
    for kind in ["Complete", "Failed"] {
        if is_true(old, kind) && !is_true(job, kind) {
            invalid(&format!(
                "cannot disable the terminal Job {kind}=True condition"
            ));
        }
    }
    if complete && !set("completionTime") {
        let why = "completionTime is required for Complete jobs";
        causes.push(Cause::required("status.completionTime", why));
    }
    if !complete && set("completionTime") {
        let why = "cannot set completionTime when there is no Complete=True condition";
        causes.push(Cause::new(
            "FieldValueInvalid",
            "status.completionTime",
            format!("Invalid value: {}: {why}", status["completionTime"]),
        ));
    }
    let mut invalid = |why: &str| {
        causes.push(Cause::new(
            "FieldValueInvalid",
            FIELD,
            format!("Invalid value: {why}"),
        ));
    };
    if newly("Failed") && !is_true(job, "FailureTarget") {
        invalid("cannot set Failed=True condition without the FailureTarget=true condition");
    }
    if newly("Complete") && !is_true(job, "SuccessCriteriaMet") {
        invalid("cannot set Complete=True condition without the SuccessCriteriaMet=true condition");
    }
    if (complete || failed) && !set("startTime") {
        causes.push(Cause::required(
            "status.startTime",
            "startTime is required for finished job",
        ));
    }
}
