//! What a cluster adds to new objects or refuses about them: the namespace must be there, and Pods get
//! a service account, tolerations and a priority.

use serde_json::{Value, json};

use super::{Inner, key};
use crate::clock;
use crate::kinds::Kind;
use crate::status::Failure;

/// Namespaces that cannot be deleted.
pub(super) const PROTECTED: [&str; 3] = ["default", "kube-system", "kube-public"];

/// Default time after which a Pod leaves a node that went away.
const TOLERATED_SECONDS: i64 = 300;

impl Inner {
    /// Refuses a new object in a namespace that is missing or going away.
    pub(super) fn admit_namespace(
        &self,
        kind: &Kind,
        namespace: &str,
        name: &str,
    ) -> Result<(), Failure> {
        let Some(found) = self.store.get(&format!("/core/namespaces/{namespace}")) else {
            return Err(Failure::not_found("", "namespaces", namespace));
        };
        if found.value["metadata"]["deletionTimestamp"].is_string() {
            return Err(Failure::namespace_terminating(
                &kind.group,
                &kind.plural,
                name,
                namespace,
            ));
        }
        Ok(())
    }

    /// Fills in what a cluster decides for a new object.
    pub(super) fn admit(&self, kind: &Kind, object: &mut Value) {
        if kind.group.is_empty() && kind.kind == "Pod" {
            self.admit_pod(object);
        }
    }

    fn admit_pod(&self, pod: &mut Value) {
        let namespace = pod["metadata"]["namespace"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let spec = &mut pod["spec"];
        if !spec.is_object() {
            return;
        }
        let account = spec["serviceAccountName"]
            .as_str()
            .unwrap_or("default")
            .to_owned();
        spec["serviceAccountName"] = account.as_str().into();
        spec["serviceAccount"] = account.as_str().into();
        let set = |spec: &mut Value, key: &str, value: Value| {
            if spec[key].is_null() {
                spec[key] = value;
            }
        };
        set(spec, "priority", 0.into());
        set(spec, "preemptionPolicy", "PreemptLowerPriority".into());
        for taint in [
            "node.kubernetes.io/not-ready",
            "node.kubernetes.io/unreachable",
        ] {
            tolerate(spec, taint);
        }
        let stored = self
            .store
            .get(&format!("/core/serviceaccounts/{namespace}/{account}"));
        let mounted = spec["automountServiceAccountToken"].as_bool().or_else(|| {
            stored.and_then(|account| account.value["automountServiceAccountToken"].as_bool())
        });
        if mounted.unwrap_or(true) {
            mount_token(
                spec,
                &format!("kube-api-access-{}", clock::suffix(&self.entropy)),
            );
        }
    }

    pub(super) fn get_value(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        name: &str,
    ) -> Option<Value> {
        let found = self.store.get(&key(kind, namespace, name))?;
        Some(kind.from_stored(found.value.clone()))
    }
}

fn list<'a>(object: &'a mut Value, key: &str) -> Option<&'a mut Vec<Value>> {
    if object[key].is_null() {
        object[key] = json!([]);
    }
    object[key].as_array_mut()
}

fn tolerate(spec: &mut Value, taint: &str) {
    let Some(tolerations) = list(spec, "tolerations") else {
        return;
    };
    let covered = tolerations.iter().any(|toleration| {
        let key = toleration["key"].as_str().unwrap_or_default();
        let effect = toleration["effect"].as_str().unwrap_or_default();
        (key.is_empty() || key == taint) && (effect.is_empty() || effect == "NoExecute")
    });
    if !covered {
        tolerations.push(json!({
            "key": taint,
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": TOLERATED_SECONDS,
        }));
    }
}

const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Seconds for which a mounted token is good.
const TOKEN_SECONDS: i64 = 3607;

fn mount_token(spec: &mut Value, volume: &str) {
    let mut used = false;
    for containers in ["initContainers", "containers"] {
        let all = spec.get_mut(containers).and_then(Value::as_array_mut);
        for container in all.into_iter().flatten() {
            let mounts = container["volumeMounts"].as_array();
            let taken =
                mounts.is_some_and(|all| all.iter().any(|mount| mount["mountPath"] == TOKEN_PATH));
            if !taken && let Some(mounts) = list(container, "volumeMounts") {
                mounts.push(json!({"name": volume, "readOnly": true, "mountPath": TOKEN_PATH}));
                used = true;
            }
        }
    }
    if !used {
        return;
    }
    if let Some(volumes) = list(spec, "volumes") {
        volumes.push(json!({
            "name": volume,
            "projected": {
                "sources": [
                    {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
                    {"configMap": {
                        "name": "kube-root-ca.crt",
                        "items": [{"key": "ca.crt", "path": "ca.crt"}],
                    }},
                    {"downwardAPI": {"items": [{
                        "path": "namespace",
                        "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
                    }]}},
                ],
                "defaultMode": 420,
            },
        }));
    }
}
