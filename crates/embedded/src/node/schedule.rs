//! The scheduler of a cluster with one node: binds every Pod that may run here, and says why the
//! others wait.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Binding, NodeSelectorRequirement, NodeSelectorTerm, ObjectReference, Pod, PodCondition,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Api;
use kube::api::PostParams;

use super::events::Component;
use super::{Shared, write};

const HOSTNAME: &str = "kubernetes.io/hostname";

/// The labels that a node selector can ask for.
pub(super) fn labels(node: &str) -> BTreeMap<String, String> {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    [
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", arch),
        (HOSTNAME, node),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// Why the Pod cannot be on this node; `None` when it can.
pub(super) fn objection(pod: &Pod, labels: &BTreeMap<String, String>) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let mut selector = spec.node_selector.iter().flatten();
    let selected = selector.all(|(key, value)| labels.get(key) == Some(value));
    let required = (spec.affinity.as_ref())
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| {
            let required = &affinity.required_during_scheduling_ignored_during_execution;
            required.as_ref()
        });
    let wanted = required.is_none_or(|required| {
        let mut terms = required.node_selector_terms.iter();
        terms.any(|term| meets(labels, term))
    });
    (!selected || !wanted).then(|| {
        "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.".to_owned()
    })
}

/// Whether a node with these labels is one that the term means: it fulfils all that the term says, which is something.
fn meets(labels: &BTreeMap<String, String>, term: &NodeSelectorTerm) -> bool {
    let expressions = term.match_expressions.iter().flatten();
    let fields = term.match_fields.iter().flatten();
    // A field is the name alone.
    let name = BTreeMap::from([(
        "metadata.name".to_owned(),
        labels.get(HOSTNAME).cloned().unwrap_or_default(),
    )]);
    let mut asked = expressions
        .map(|asked| (labels, asked))
        .chain(fields.map(|asked| (&name, asked)))
        .peekable();
    asked.peek().is_some() && asked.all(|(labels, asked)| fulfils(labels, asked))
}

/// As `k8s.io/component-helpers/scheduling/corev1/nodeaffinity` takes it.
fn fulfils(labels: &BTreeMap<String, String>, asked: &NodeSelectorRequirement) -> bool {
    let label = labels.get(&asked.key);
    let values = asked.values.as_deref().unwrap_or_default();
    let listed = label.is_some_and(|label| values.contains(label));
    let compared = || {
        let there: i64 = label?.parse().ok()?;
        Some(there.cmp(&values.first()?.parse().ok()?))
    };
    match asked.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => label.is_some(),
        "DoesNotExist" => label.is_none(),
        "Gt" => compared() == Some(Ordering::Greater),
        "Lt" => compared() == Some(Ordering::Less),
        _ => false,
    }
}

/// Whether the Pod waits for a node.
pub(super) fn wants_node(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    let gated = spec
        .and_then(|spec| spec.scheduling_gates.as_ref())
        .is_some_and(|gates| !gates.is_empty());
    spec.is_some_and(|spec| spec.node_name.is_none())
        && !gated
        && pod.metadata.deletion_timestamp.is_none()
}

/// Binds the Pod to this node, or writes down why not.
pub(super) async fn schedule(shared: &Shared, pod: &Pod) {
    let node = &shared.options.name;
    if let Some(message) = objection(pod, &labels(node)) {
        let component = Component::Scheduler;
        shared
            .events
            .send(component, pod, None, false, "FailedScheduling", &message);
        let mut status = pod.status.clone().unwrap_or_default();
        let conditions = status.conditions.get_or_insert_default();
        conditions.retain(|condition| condition.type_ != "PodScheduled");
        conditions.push(PodCondition {
            type_: "PodScheduled".to_owned(),
            status: "False".to_owned(),
            reason: Some("Unschedulable".to_owned()),
            message: Some(message),
            last_transition_time: Some(Time((shared.options.clock)())),
            observed_generation: pod.metadata.generation,
            ..PodCondition::default()
        });
        let _ = write::status(&shared.client, pod, &status).await;
        return;
    }
    let (name, namespace) = (
        pod.metadata.name.clone().unwrap_or_default(),
        pod.metadata.namespace.clone().unwrap_or_default(),
    );
    let binding = Binding {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(namespace.clone()),
            uid: pod.metadata.uid.clone(),
            ..ObjectMeta::default()
        },
        target: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(node.clone()),
            ..ObjectReference::default()
        },
    };
    let api: Api<Pod> = Api::namespaced(shared.client.clone(), &namespace);
    let bound = write::persist(|| async {
        api.create_subresource("binding", &name, &PostParams::default(), &binding)
            .await
            .map(|_: serde_json::Value| ())
    });
    if bound.await.is_ok() {
        let message = format!("Successfully assigned {namespace}/{name} to {node}");
        let component = Component::Scheduler;
        shared
            .events
            .send(component, pod, None, true, "Scheduled", &message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(spec: &str) -> bool {
        let pod: Pod =
            serde_saphyr::from_str(&format!("spec: {{containers: [], {spec}}}")).unwrap();
        let labels = [
            ("kubernetes.io/os", "linux"),
            (HOSTNAME, "here"),
            ("cores", "8"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
        objection(&pod, &labels.into()).is_none()
    }

    fn terms(terms: &str) -> bool {
        fits(&format!(
            "affinity: {{nodeAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: \
             {{nodeSelectorTerms: [{terms}]}}}}}}"
        ))
    }

    #[test]
    fn a_pod_is_bound_where_its_selector_and_its_required_affinity_allow_it() {
        assert!(fits("nodeSelector: {kubernetes.io/os: linux}"));
        assert!(!fits("nodeSelector: {kubernetes.io/os: windows}"));
        for (asked, expected) in [
            (
                "{key: kubernetes.io/os, operator: In, values: [linux, windows]}",
                true,
            ),
            (
                "{key: kubernetes.io/os, operator: In, values: [windows]}",
                false,
            ),
            (
                "{key: kubernetes.io/os, operator: NotIn, values: [windows]}",
                true,
            ),
            ("{key: zone, operator: NotIn, values: [a]}", true),
            ("{key: zone, operator: Exists}", false),
            ("{key: zone, operator: DoesNotExist}", true),
            ("{key: cores, operator: Gt, values: ['7']}", true),
            ("{key: cores, operator: Lt, values: ['8']}", false),
            ("{key: zone, operator: Gt, values: ['7']}", false),
        ] {
            assert_eq!(
                terms(&format!("{{matchExpressions: [{asked}]}}")),
                expected,
                "{asked}"
            );
        }
        let here = "{matchFields: [{key: metadata.name, operator: In, values: [here]}]}";
        let windows =
            "{matchExpressions: [{key: kubernetes.io/os, operator: In, values: [windows]}]}";
        assert!(terms(here));
        assert!(
            terms(&format!("{windows}, {here}")),
            "one of the terms is enough"
        );
        assert!(!terms("{}"), "a term that says nothing means no node");
    }
}
