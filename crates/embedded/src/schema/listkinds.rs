//! What the types of built-in kinds say beyond their JSON schema: how their lists and maps merge, and which fields
//! Go always writes. Taken from the markers and tags of the API types of Kubernetes
//! (`+listType`, `+listMapKey`, `+structType`, `patchMergeKey`, `omitempty`).

use serde_json::{Value, json};

use super::{ListType, Schema, Type};

/// Type, field, keys of the `map` list (under server-side apply).
const MAP_LISTS: &[(&str, &str, &[&str])] = &[
    ("v1.PodSpec", "containers", &["name"]),
    ("v1.PodSpec", "initContainers", &["name"]),
    ("v1.PodSpec", "ephemeralContainers", &["name"]),
    ("v1.PodSpec", "volumes", &["name"]),
    ("v1.PodSpec", "imagePullSecrets", &["name"]),
    ("v1.PodSpec", "hostAliases", &["ip"]),
    (
        "v1.PodSpec",
        "topologySpreadConstraints",
        &["topologyKey", "whenUnsatisfiable"],
    ),
    ("v1.PodSpec", "resourceClaims", &["name"]),
    ("v1.Container", "env", &["name"]),
    ("v1.Container", "ports", &["containerPort", "protocol"]),
    ("v1.Container", "volumeMounts", &["mountPath"]),
    ("v1.Container", "volumeDevices", &["devicePath"]),
    ("v1.EphemeralContainer", "env", &["name"]),
    (
        "v1.EphemeralContainer",
        "ports",
        &["containerPort", "protocol"],
    ),
    ("v1.EphemeralContainer", "volumeMounts", &["mountPath"]),
    ("v1.EphemeralContainer", "volumeDevices", &["devicePath"]),
    ("v1.ResourceRequirements", "claims", &["name"]),
    ("v1.PodSpec", "schedulingGates", &["name"]),
    ("v1.ContainerStatus", "volumeMounts", &["mountPath"]),
    ("v1.ContainerStatus", "allocatedResourcesStatus", &["name"]),
    ("v1.ResourceStatus", "resources", &["resourceID"]),
    ("v1.PodStatus", "resourceClaimStatuses", &["name"]),
    ("v1.PodStatus", "conditions", &["type"]),
    ("v1.PodStatus", "podIPs", &["ip"]),
    ("v1.NamespaceStatus", "conditions", &["type"]),
    ("v1.NodeStatus", "conditions", &["type"]),
    ("v1.NodeStatus", "addresses", &["type"]),
    ("v1.PersistentVolumeClaimStatus", "conditions", &["type"]),
    ("v1.ServiceSpec", "ports", &["port", "protocol"]),
    ("v1.ServiceStatus", "conditions", &["type"]),
    ("v1.ServiceAccount", "secrets", &["name"]),
    ("v1.ObjectMeta", "ownerReferences", &["uid"]),
    ("v1.CustomResourceDefinitionStatus", "conditions", &["type"]),
];

/// Type and field of the `set` lists.
const SETS: &[(&str, &str)] = &[
    ("v1.ObjectMeta", "finalizers"),
    ("v1.NodeSpec", "podCIDRs"),
    ("v1.ContainerRestartRuleOnExitCodes", "values"),
    ("v1.PodFailurePolicyOnExitCodesRequirement", "values"),
    ("v1.UncountedTerminatedPods", "succeeded"),
    ("v1.UncountedTerminatedPods", "failed"),
];

/// Type, field and key of lists that a strategic merge patch merges by another key than server-side apply, or only it.
const MERGE_KEYS: &[(&str, &str, &str)] = &[
    ("v1.Container", "ports", "containerPort"),
    ("v1.EphemeralContainer", "ports", "containerPort"),
    ("v1.PodSpec", "topologySpreadConstraints", "topologyKey"),
    ("v1.ServiceSpec", "ports", "port"),
    ("v1.JobStatus", "conditions", "type"),
    ("v1.ObjectMeta", "finalizers", ""),
    ("v1.PodStatus", "hostIPs", "ip"),
    ("v1.NodeSpec", "podCIDRs", ""),
];

/// Lists that are `map` under server-side apply and whole values in a strategic merge patch.
const NO_MERGE_KEY: &[(&str, &str)] = &[
    ("v1.ResourceStatus", "resources"),
    ("v1.ResourceRequirements", "claims"),
    ("v1.CustomResourceDefinitionStatus", "conditions"),
];

/// Types whose whole value has one owner.
const ATOMIC_TYPES: &[&str] = &[
    "v1.LabelSelector",
    "v1.ObjectReference",
    "v1.LocalObjectReference",
    "v1.ObjectFieldSelector",
    "v1.ResourceFieldSelector",
    "v1.ConfigMapKeySelector",
    "v1.SecretKeySelector",
    "v1.NodeSelector",
    "v1.NodeSelectorTerm",
    "v1.FileKeySelector",
    "v1.TypedLocalObjectReference",
    "v1.OwnerReference",
    "v1.RoleRef",
    "v1.Subject",
    "v1.ScopeSelector",
    "v1.SecretReference",
    "v1.TopologySelectorTerm",
];

/// Type and field of maps with one owner.
const ATOMIC_MAPS: &[(&str, &str)] = &[
    ("v1.PodSpec", "nodeSelector"),
    ("v1.ServiceSpec", "selector"),
];

/// Types in which `$retainKeys` works.
const RETAIN_KEYS: &[(&str, &str)] = &[
    ("v1.PodSpec", "volumes"),
    ("v1.PodSpec", "resourceClaims"),
    ("v1.PodStatus", "resourceClaimStatuses"),
];

/// Type, field and JSON text of what Go writes when nothing is there.
const ALWAYS: &[(&str, &str, &str)] = &[
    ("v1.Pod", "spec", "{}"),
    ("v1.Pod", "status", "{}"),
    ("v1.PodSpec", "containers", "null"),
    ("v1.Container", "name", "\"\""),
    ("v1.Container", "resources", "{}"),
    ("v1.EphemeralContainer", "name", "\"\""),
    ("v1.EphemeralContainer", "resources", "{}"),
    ("v1.PodTemplateSpec", "metadata", "{}"),
    ("v1.PodTemplateSpec", "spec", "{}"),
    ("v1.PodCondition", "lastProbeTime", "null"),
    ("v1.PodCondition", "lastTransitionTime", "null"),
    ("v1.ContainerStatus", "state", "{}"),
    ("v1.ContainerStatus", "lastState", "{}"),
    ("v1.ContainerStatus", "ready", "false"),
    ("v1.ContainerStatus", "restartCount", "0"),
    ("v1.ContainerStatus", "image", "\"\""),
    ("v1.ContainerStatus", "imageID", "\"\""),
    ("v1.ContainerStateRunning", "startedAt", "null"),
    ("v1.ContainerStateTerminated", "exitCode", "0"),
    ("v1.ContainerStateTerminated", "startedAt", "null"),
    ("v1.ContainerStateTerminated", "finishedAt", "null"),
    ("v1.Job", "spec", "{}"),
    ("v1.Job", "status", "{}"),
    ("v1.JobSpec", "template", "{}"),
    ("v1.JobCondition", "lastProbeTime", "null"),
    ("v1.JobCondition", "lastTransitionTime", "null"),
    ("v1.Namespace", "spec", "{}"),
    ("v1.Namespace", "status", "{}"),
    ("v1.Node", "spec", "{}"),
    ("v1.Node", "status", "{}"),
    ("v1.Service", "spec", "{}"),
    ("v1.Service", "status", "{}"),
    ("v1.ServiceStatus", "loadBalancer", "{}"),
    ("v1.ServicePort", "targetPort", "0"),
    ("v1.PersistentVolumeClaim", "spec", "{}"),
    ("v1.PersistentVolumeClaim", "status", "{}"),
    ("v1.PersistentVolumeClaimSpec", "resources", "{}"),
    ("v1.Lease", "spec", "{}"),
    ("v1.Event", "involvedObject", "{}"),
    ("v1.Event", "source", "{}"),
    ("v1.Event", "firstTimestamp", "null"),
    ("v1.Event", "lastTimestamp", "null"),
    ("v1.Event", "eventTime", "null"),
    ("v1.Event", "reportingComponent", "\"\""),
    ("v1.Event", "reportingInstance", "\"\""),
    ("events.v1.Event", "eventTime", "null"),
    ("events.v1.Event", "regarding", "{}"),
    ("events.v1.Event", "deprecatedSource", "{}"),
    ("events.v1.Event", "deprecatedFirstTimestamp", "null"),
    ("events.v1.Event", "deprecatedLastTimestamp", "null"),
    ("v1.Role", "rules", "null"),
    ("v1.ClusterRole", "rules", "null"),
    ("v1.RoleBinding", "roleRef", "{}"),
    ("v1.ClusterRoleBinding", "roleRef", "{}"),
    ("v1.PolicyRule", "verbs", "null"),
    ("v1.CustomResourceDefinition", "spec", "{}"),
    ("v1.CustomResourceDefinition", "status", "{}"),
    ("v1.CustomResourceDefinitionSpec", "names", "{}"),
    ("v1.CustomResourceDefinitionStatus", "acceptedNames", "{}"),
    ("v1.CustomResourceDefinitionStatus", "conditions", "null"),
    (
        "v1.CustomResourceDefinitionStatus",
        "storedVersions",
        "null",
    ),
    ("v1.CustomResourceDefinitionNames", "kind", "\"\""),
    ("v1.CustomResourceDefinitionNames", "plural", "\"\""),
    ("v1.SelfSubjectAccessReview", "spec", "{}"),
    ("v1.SubjectAccessReview", "spec", "{}"),
    ("v1.SelfSubjectRulesReview", "spec", "{}"),
];

/// Fields of Go type `bool` or `int32` with `omitempty`: false and 0 are left out.
const OMIT_ZERO: &[&str] = &[
    "active",
    "count",
    "deprecatedCount",
    "failed",
    "failureThreshold",
    "generation",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "hostPort",
    "initialDelaySeconds",
    "nodePort",
    "observedGeneration",
    "periodSeconds",
    "publishNotReadyAddresses",
    "readOnly",
    "signal",
    "stdin",
    "stdinOnce",
    "succeeded",
    "successThreshold",
    "timeoutSeconds",
    "tty",
];

/// Fields of Go type `*string`: an empty text is a value.
const STRING_POINTERS: &[&str] = &[
    "holderIdentity",
    "storageClassName",
    "volumeMode",
    "appProtocol",
    "runtimeClassName",
    "priorityClassName",
    "timeZone",
    "subdomain",
    "reason",
    "podReplacementPolicy",
];

/// Completes the schema of the type `type_name`, whose fields are all there.
pub(super) fn complete(schema: &mut Schema, type_name: &str) {
    schema.atomic |= ATOMIC_TYPES.contains(&type_name);
}

/// What the table says of one field of a type.
pub(super) fn complete_field(type_name: &str, field: &str, required: bool, schema: &mut Schema) {
    let here = |row: &(&str, &str)| *row == (type_name, field);
    if let Some((_, _, keys)) = MAP_LISTS.iter().find(|(t, f, _)| here(&(t, f)))
        && let Some(first) = keys.first()
    {
        schema.list_type = ListType::Map(keys.iter().map(ToString::to_string).collect());
        if !NO_MERGE_KEY.iter().any(here) {
            schema.merge_key = Some(first);
        }
    }
    if SETS.iter().any(here) {
        schema.list_type = ListType::Set;
    }
    if let Some((_, _, key)) = MERGE_KEYS.iter().find(|(t, f, _)| here(&(t, f))) {
        schema.merge_key = Some(key);
    }
    schema.atomic |= ATOMIC_MAPS.iter().any(here);
    schema.retain_keys |= RETAIN_KEYS.iter().any(here);
    if let Some((_, _, text)) = ALWAYS.iter().find(|(t, f, _)| here(&(t, f))) {
        schema.zero = Some(serde_json::from_str(text).unwrap_or(json!({})));
    } else if required && field != "metadata" {
        schema.zero = match schema.json_type {
            Type::String if matches!(schema.format.as_str(), "date-time" | "micro-time") => {
                Some(Value::Null)
            }
            Type::String => Some("".into()),
            Type::Integer | Type::Number => Some(0.into()),
            Type::Boolean => Some(false.into()),
            Type::Array => Some(Value::Null),
            Type::Object if schema.additional.is_some() => Some(Value::Null),
            Type::Object => Some(json!({})),
            Type::Any => None,
        };
    }
    schema.omit_zero = match schema.json_type {
        Type::String => !STRING_POINTERS.contains(&field) && !required && schema.zero.is_none(),
        _ => OMIT_ZERO.contains(&field),
    };
}
