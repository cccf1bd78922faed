//! Scheduling gates: a Pod that has one gets no node, and its status says so from the beginning. They are only taken away.

use serde_json::{Value, json};

use crate::status::Cause;

/// The condition of a new Pod that has gates.
pub(super) fn condition(pod: &Value) -> Option<Value> {
    names(&pod["spec"]).next()?;
    Some(json!({
        "type": "PodScheduled",
        "status": "False",
        "reason": "SchedulingGated",
        "message": "Scheduling is blocked due to non-empty scheduling gates",
        "lastProbeTime": null,
        "lastTransitionTime": pod["metadata"]["creationTimestamp"],
    }))
}

/// Refuses gates that were not there before.
pub(super) fn check_update(spec: &Value, before: &Value, causes: &mut Vec<Cause>) {
    for (index, name) in names(spec).enumerate() {
        if !names(before).any(|there| there == name) {
            causes.push(Cause::forbidden(
                format!("spec.schedulingGates[{index}].name"),
                format!("only deletion is allowed, but found new scheduling gate '{name}'"),
            ));
        }
    }
}

fn names(spec: &Value) -> impl Iterator<Item = &str> {
    let gates = spec["schedulingGates"].as_array();
    gates
        .into_iter()
        .flatten()
        .filter_map(|gate| gate["name"].as_str())
}
