//! The row of a Job.

use serde_json::Value;

use super::age;

/// Status, completions, duration, age, containers, images, selector.
pub(super) fn cells(job: &Value, now: i64) -> Vec<Value> {
    let containers = &job["spec"]["template"]["spec"]["containers"];
    let joined = |key: &str| -> Value {
        let containers = containers.as_array().into_iter().flatten();
        let names: Vec<&str> = containers.filter_map(|c| c[key].as_str()).collect();
        names.join(",").into()
    };
    vec![
        status(job).into(),
        completions(job).into(),
        duration(job, now).into(),
        age::since(&job["metadata"]["creationTimestamp"], now).into(),
        joined("name"),
        joined("image"),
        super::builtin::selector(&job["spec"]["selector"]).into(),
    ]
}

fn status(job: &Value) -> &'static str {
    let has = |kind: &str| {
        let conditions = job["status"]["conditions"].as_array().into_iter().flatten();
        conditions
            .into_iter()
            .any(|c| c["type"] == kind && c["status"] == "True")
    };
    if has("Complete") {
        "Complete"
    } else if has("Failed") {
        "Failed"
    } else if job["metadata"]["deletionTimestamp"].is_string() {
        "Terminating"
    } else if has("Suspended") {
        "Suspended"
    } else if has("FailureTarget") {
        "FailureTarget"
    } else if has("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

fn completions(job: &Value) -> String {
    let succeeded = job["status"]["succeeded"].as_i64().unwrap_or_default();
    let parallelism = job["spec"]["parallelism"].as_i64().unwrap_or_default();
    match job["spec"]["completions"].as_i64() {
        Some(completions) => format!("{succeeded}/{completions}"),
        None if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        None => format!("{succeeded}/1"),
    }
}

fn duration(job: &Value, now: i64) -> String {
    let Some(start) = age::seconds(&job["status"]["startTime"]) else {
        return String::new();
    };
    let end = age::seconds(&job["status"]["completionTime"]).unwrap_or(now);
    age::duration(end - start)
}
