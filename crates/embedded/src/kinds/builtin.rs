//! Names, verbs and subresources of the built-in kinds, as discovery of a real server reports them.

use std::sync::OnceLock;

use super::{Kind, Subresource};

/// Groups with built-in kinds, in the order in which discovery lists them.
pub(super) const GROUPS: [&str; 8] = [
    "",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "batch",
    "rbac.authorization.k8s.io",
    "apiextensions.k8s.io",
    "coordination.k8s.io",
];

const ALL: [&str; 8] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];
const NO_COLLECTION: [&str; 7] = [
    "create", "delete", "get", "list", "patch", "update", "watch",
];
/// Nothing makes these here, and one that a client made would do nothing; clients look whether there are any.
const READ: [&str; 3] = ["get", "list", "watch"];
const CREATE: [&str; 1] = ["create"];
const STATUS: [&str; 3] = ["get", "patch", "update"];

/// One line of the table: group, kind, plural, short names, categories, namespaced, verbs.
type Row = (
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
    bool,
    &'static [&'static str],
);

const ROWS: [Row; 22] = [
    ("", "ConfigMap", "configmaps", &["cm"], &[], true, &ALL),
    ("", "Event", "events", &["ev"], &[], true, &ALL),
    (
        "",
        "Namespace",
        "namespaces",
        &["ns"],
        &[],
        false,
        &NO_COLLECTION,
    ),
    ("", "Node", "nodes", &["no"], &[], false, &READ),
    (
        "",
        "PersistentVolumeClaim",
        "persistentvolumeclaims",
        &["pvc"],
        &[],
        true,
        &ALL,
    ),
    ("", "Pod", "pods", &["po"], &["all"], true, &ALL),
    ("", "Secret", "secrets", &[], &[], true, &ALL),
    ("", "Service", "services", &["svc"], &["all"], true, &READ),
    (
        "",
        "ServiceAccount",
        "serviceaccounts",
        &["sa"],
        &[],
        true,
        &ALL,
    ),
    ("events.k8s.io", "Event", "events", &["ev"], &[], true, &ALL),
    ("batch", "Job", "jobs", &[], &["all"], true, &ALL),
    (
        "coordination.k8s.io",
        "Lease",
        "leases",
        &[],
        &[],
        true,
        &ALL,
    ),
    (
        "rbac.authorization.k8s.io",
        "ClusterRole",
        "clusterroles",
        &[],
        &[],
        false,
        &ALL,
    ),
    (
        "rbac.authorization.k8s.io",
        "ClusterRoleBinding",
        "clusterrolebindings",
        &[],
        &[],
        false,
        &ALL,
    ),
    (
        "rbac.authorization.k8s.io",
        "Role",
        "roles",
        &[],
        &[],
        true,
        &ALL,
    ),
    (
        "rbac.authorization.k8s.io",
        "RoleBinding",
        "rolebindings",
        &[],
        &[],
        true,
        &ALL,
    ),
    (
        "apiextensions.k8s.io",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        &["crd", "crds"],
        &["api-extensions"],
        false,
        &ALL,
    ),
    (
        "authentication.k8s.io",
        "SelfSubjectReview",
        "selfsubjectreviews",
        &[],
        &[],
        false,
        &CREATE,
    ),
    (
        "authorization.k8s.io",
        "SelfSubjectAccessReview",
        "selfsubjectaccessreviews",
        &[],
        &[],
        false,
        &CREATE,
    ),
    (
        "authorization.k8s.io",
        "SelfSubjectRulesReview",
        "selfsubjectrulesreviews",
        &[],
        &[],
        false,
        &CREATE,
    ),
    (
        "authorization.k8s.io",
        "SubjectAccessReview",
        "subjectaccessreviews",
        &[],
        &[],
        false,
        &CREATE,
    ),
    (
        "authorization.k8s.io",
        "LocalSubjectAccessReview",
        "localsubjectaccessreviews",
        &[],
        &[],
        true,
        &CREATE,
    ),
];

/// Every built-in kind.
pub(super) fn kinds() -> Vec<Kind> {
    ROWS.iter().map(kind).collect()
}

/// Whether there is a built-in kind of this name.
pub(super) fn exists(api_version: &str, kind: &str) -> bool {
    ROWS.iter().any(|row| {
        let group_version = if row.0.is_empty() {
            "v1".to_owned()
        } else {
            format!("{}/v1", row.0)
        };
        group_version == api_version && row.1 == kind
    })
}

fn kind(row: &Row) -> Kind {
    let (group, kind, plural, short_names, categories, namespaced, verbs) = *row;
    let subresources = subresources(kind);
    let stored_group = if group == "events.k8s.io" { "" } else { group };
    Kind {
        group: group.to_owned(),
        version: "v1".to_owned(),
        kind: kind.to_owned(),
        list_kind: format!("{kind}List"),
        plural: plural.to_owned(),
        singular: kind.to_lowercase(),
        short_names: short_names.iter().map(ToString::to_string).collect(),
        categories: categories.iter().map(ToString::to_string).collect(),
        namespaced,
        has_status: subresources.iter().any(|s| s.name == "status"),
        custom: false,
        verbs: verbs.to_vec(),
        subresources,
        columns: Vec::new(),
        selectable_fields: Vec::new(),
        stored_as: (stored_group.to_owned(), "v1".to_owned(), plural.to_owned()),
        schema: OnceLock::new(),
        custom_parts: None,
    }
}

fn subresources(kind: &str) -> Vec<Subresource> {
    let own = |name, verbs: &[&'static str]| Subresource {
        name,
        kind: ("", "", kind.to_owned()),
        verbs: verbs.to_vec(),
    };
    let other = |name, group, version, kind: &str, verbs: &[&'static str]| Subresource {
        name,
        kind: (group, version, kind.to_owned()),
        verbs: verbs.to_vec(),
    };
    match kind {
        "Namespace" => vec![own("finalize", &["update"]), own("status", &STATUS)],
        "Pod" => vec![
            other("attach", "", "", "PodAttachOptions", &["create", "get"]),
            other("binding", "", "", "Binding", &["create"]),
            own("ephemeralcontainers", &STATUS),
            other("eviction", "policy", "v1", "Eviction", &["create"]),
            other("exec", "", "", "PodExecOptions", &["create", "get"]),
            own("log", &["get"]),
            other(
                "portforward",
                "",
                "",
                "PodPortForwardOptions",
                &["create", "get"],
            ),
            other(
                "proxy",
                "",
                "",
                "PodProxyOptions",
                &["create", "delete", "get", "patch", "update"],
            ),
            own("resize", &STATUS),
            own("status", &STATUS),
        ],
        "ServiceAccount" => vec![other(
            "token",
            "authentication.k8s.io",
            "v1",
            "TokenRequest",
            &["create"],
        )],
        "PersistentVolumeClaim" | "Job" | "CustomResourceDefinition" => {
            vec![own("status", &STATUS)]
        }
        _ => Vec::new(),
    }
}
