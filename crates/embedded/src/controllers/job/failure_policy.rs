//! `podFailurePolicy`: what a failed Pod means for its Job (KEP-3329).

use k8s_openapi::api::{
    batch::v1::{JobSpec, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule},
    core::v1::Pod,
};
use kube::ResourceExt as _;

/// What becomes of a failed Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It counts towards `backoffLimit`.
    Count,
    /// It is replaced and does not count.
    Ignore,
    /// The Job fails, with this message.
    FailJob(String),
}

/// The first rule that matches decides; without one the Pod counts.
pub(crate) fn judge(spec: &JobSpec, pod: &Pod) -> Verdict {
    let rules = spec
        .pod_failure_policy
        .iter()
        .flat_map(|policy| &policy.rules);
    for (index, rule) in rules.enumerate() {
        let Some(why) = matches(rule, pod) else {
            continue;
        };
        return match rule.action.as_str() {
            "Ignore" => Verdict::Ignore,
            "FailJob" => Verdict::FailJob(format!("{why} matching FailJob rule at index {index}")),
            _ => Verdict::Count,
        };
    }
    Verdict::Count
}

fn matches(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let place = format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
    if let Some(codes) = &rule.on_exit_codes {
        return status
            .init_container_statuses
            .iter()
            .chain(&status.container_statuses)
            .flatten()
            .filter(|container| {
                codes
                    .container_name
                    .as_ref()
                    .is_none_or(|name| *name == container.name)
            })
            .find_map(|container| {
                let code = container.state.as_ref()?.terminated.as_ref()?.exit_code;
                exit_code_matches(codes, code).then(|| {
                    format!(
                        "Container {} for pod {place} failed with exit code {code}",
                        container.name
                    )
                })
            });
    }
    rule.on_pod_conditions.iter().flatten().find_map(|pattern| {
        let found = status.conditions.iter().flatten().any(|condition| {
            condition.type_ == pattern.type_
                && condition.status == pattern.status.as_deref().unwrap_or("True")
        });
        found.then(|| format!("Pod {place} has condition {}", pattern.type_))
    })
}

fn exit_code_matches(codes: &PodFailurePolicyOnExitCodesRequirement, code: i32) -> bool {
    let listed = codes.values.contains(&code);
    code != 0
        && if codes.operator == "NotIn" {
            !listed
        } else {
            listed
        }
}
