//! What the operator may do: its RBAC rules, as data, each with the reason. The chart and a test are made from them.
//!
//! Secrets are not in here: the operator never reads one, it only names them in Pods.

use k8s_openapi::api::rbac::v1::PolicyRule;

/// One rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Resource, or `resource/subresource`.
    pub resource: &'static str,
    /// Verbs.
    pub verbs: &'static [&'static str],
    /// What for.
    pub why: &'static str,
}

/// In every namespace that the operator serves.
pub const ACCESS: &[Access] = &[
    Access {
        group: "kubeopencode.io",
        resource: "tasks",
        verbs: &["get", "list", "watch"],
        why: "the work to do",
    },
    Access {
        group: "kubeopencode.io",
        resource: "tasks/status",
        verbs: &["update"],
        why: "what became of it",
    },
    Access {
        group: "kubeopencode.io",
        resource: "tasks/finalizers",
        verbs: &["update"],
        why: "owner references that block deletion, where the API server checks them",
    },
    Access {
        group: "kubeopencode.io",
        resource: "agents",
        verbs: &["get", "list", "watch"],
        why: "how to do it; a change wakes the Tasks that wait for it",
    },
    Access {
        group: "kubeopencode.io",
        resource: "agents/status",
        verbs: &["update"],
        why: "which Tasks hold a slot of an Agent with a limit",
    },
    Access {
        group: "kubeopencode.io",
        resource: "kubeopencodeconfigs",
        verbs: &["get", "list", "watch"],
        why: "settings",
    },
    Access {
        group: "",
        resource: "configmaps",
        verbs: &["get", "list", "watch", "create"],
        why: "contexts are read from ConfigMaps (only their metadata is watched) and given to Pods in others",
    },
    Access {
        group: "batch",
        resource: "jobs",
        verbs: &["get", "list", "watch", "create", "patch", "delete"],
        why: "one Job for each attempt: created, released, suspended; deleted only if it was never released",
    },
    Access {
        group: "",
        resource: "pods",
        verbs: &["list", "watch", "patch", "delete"],
        why: "what became of the attempt; a stop sets activeDeadlineSeconds; deleted only if no kubelet has taken it and its Job is gone or going",
    },
    Access {
        group: "",
        resource: "events",
        verbs: &["create"],
        why: "what happened, for people",
    },
];

/// In the operator's own namespace, for leader election. All but `create` is limited to the one Lease: RBAC cannot limit a
/// creation to a name.
pub const LEASE: &[Access] = &[
    Access {
        group: "coordination.k8s.io",
        resource: "leases",
        verbs: &["get", "watch", "update"],
        why: "which of several operators acts: the one that holds this Lease",
    },
    Access {
        group: "coordination.k8s.io",
        resource: "leases",
        verbs: &["create"],
        why: "the Lease, where it does not exist yet",
    },
];

/// In the operator's own namespace, where it serves one namespace that is another one. Limited to the configuration that
/// holds for all namespaces, `default`.
pub const CONFIGURATION: &[Access] = &[Access {
    group: "kubeopencode.io",
    resource: "kubeopencodeconfigs",
    verbs: &["get"],
    why: "settings for all namespaces",
}];

impl Access {
    /// The rule of a Role or `ClusterRole` for objects of any name.
    #[must_use]
    pub fn rule(&self) -> PolicyRule {
        PolicyRule {
            api_groups: Some(vec![self.group.to_owned()]),
            resources: Some(vec![self.resource.to_owned()]),
            verbs: self.verbs.iter().map(|verb| (*verb).to_owned()).collect(),
            ..PolicyRule::default()
        }
    }

    /// The rule of a Role for the object of this name alone, as far as RBAC can say that.
    #[must_use]
    pub fn rule_for(&self, name: &str) -> PolicyRule {
        let names = (!self.verbs.contains(&"create")).then(|| vec![name.to_owned()]);
        PolicyRule {
            resource_names: names,
            ..self.rule()
        }
    }
}
