//! Random objects and parts of objects.

use fastrand::Rng;
use serde_json::{Map, Value, json};

/// The kinds that requests are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    ConfigMap,
    Secret,
    Lease,
    Job,
    Pod,
    Task,
    Agent,
    Namespace,
}

impl Kind {
    pub(super) const ALL: [Self; 8] = [
        Self::ConfigMap,
        Self::Secret,
        Self::Lease,
        Self::Job,
        Self::Pod,
        Self::Task,
        Self::Agent,
        Self::Namespace,
    ];

    /// Where its objects are.
    pub(super) fn collection(self) -> &'static str {
        match self {
            Self::ConfigMap => "/api/v1/{ns}/configmaps",
            Self::Secret => "/api/v1/{ns}/secrets",
            Self::Lease => "/apis/coordination.k8s.io/v1/{ns}/leases",
            Self::Job => "/apis/batch/v1/{ns}/jobs",
            Self::Pod => "/api/v1/{ns}/pods",
            Self::Task => "/apis/kubeopencode.io/v1alpha1/{ns}/tasks",
            Self::Agent => "/apis/kubeopencode.io/v1alpha1/{ns}/agents",
            Self::Namespace => "/api/v1/namespaces",
        }
    }

    pub(super) fn has_status(self) -> bool {
        matches!(self, Self::Job | Self::Pod | Self::Task)
    }

    pub(super) fn is_custom(self) -> bool {
        matches!(self, Self::Task | Self::Agent)
    }

    fn types(self) -> (&'static str, &'static str) {
        match self {
            Self::ConfigMap => ("v1", "ConfigMap"),
            Self::Secret => ("v1", "Secret"),
            Self::Lease => ("coordination.k8s.io/v1", "Lease"),
            Self::Job => ("batch/v1", "Job"),
            Self::Pod => ("v1", "Pod"),
            Self::Task => ("kubeopencode.io/v1alpha1", "Task"),
            Self::Agent => ("kubeopencode.io/v1alpha1", "Agent"),
            Self::Namespace => ("v1", "Namespace"),
        }
    }

    /// An object of this kind.
    pub(super) fn object(self, rng: &mut Rng, name: &str) -> Value {
        let mut object = self.fragment(rng);
        let (api_version, kind) = self.types();
        object["apiVersion"] = api_version.into();
        object["kind"] = kind.into();
        object["metadata"]["name"] = name.into();
        if matches!(self, Self::Task | Self::Agent) && object["spec"].is_null() {
            object["spec"] = json!({});
        }
        object
    }

    /// An object of this kind that is certainly accepted.
    pub(super) fn simplest(self, name: &str) -> Value {
        let (api_version, kind) = self.types();
        let mut object =
            json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}});
        let pod = json!({"restartPolicy": "Never", "containers": [{"name": "main", "image": "i"}]});
        match self {
            Self::Job => {
                object["spec"] =
                    json!({"managedBy": "example.test/fuzz", "template": {"spec": pod}});
            }
            Self::Pod => object["spec"] = pod,
            Self::Task => object["spec"] = json!({}),
            Self::Agent => object["spec"] = json!({"serviceAccountName": "default"}),
            Self::ConfigMap | Self::Secret | Self::Lease | Self::Namespace => {}
        }
        object
    }

    /// Everything but identity: what an update or a patch may say.
    pub(super) fn fragment(self, rng: &mut Rng) -> Value {
        let mut object = match self {
            Self::ConfigMap => config_map(rng),
            Self::Secret => secret(rng),
            Self::Lease => lease(rng),
            Self::Job => job(rng),
            Self::Pod => pod(rng),
            Self::Task => json!({"spec": task(rng)}),
            Self::Agent => json!({"spec": agent(rng)}),
            Self::Namespace => json!({}),
        };
        object["metadata"] = metadata(rng);
        if self == Self::Job && object["metadata"]["labels"].is_null() {
            // Labels that a Job takes from its template are owned by its creator there (README.md).
            object["spec"]["template"]["metadata"] = Value::Null;
        }
        if let (Self::Namespace, Some(metadata)) = (self, object["metadata"].as_object_mut()) {
            // Its end is waited for.
            metadata.remove("finalizers");
        }
        object
    }

    /// A status, without the object around it.
    pub(super) fn status(self, rng: &mut Rng) -> Value {
        let condition = |rng: &mut Rng| {
            json!({
                "type": pick(rng, &["Ready", "Initialized", "Suspended", "example.test/A"]),
                "status": pick(rng, &["True", "False", "Unknown"]),
                "reason": pick(rng, &["R", "S"]), "message": "m",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            })
        };
        let mut status = match self {
            Self::Pod => json!({
                "phase": pick(rng, &["Pending", "Running", "Failed", "Succeeded"]),
                "reason": "R", "message": pick(rng, &["m", "n"]),
            }),
            Self::Job => json!({
                "active": rng.i32(0..3), "ready": rng.i32(0..2), "startTime": "2026-01-01T00:00:00Z",
            }),
            _ => json!({
                "phase": pick(rng, &["Pending", "Running", "Completed", "Failed"]),
                "message": pick(rng, &["m", "n"]), "attempts": rng.i32(0..3),
            }),
        };
        if rng.bool() {
            let first = condition(rng);
            let mut conditions = vec![first];
            let second = condition(rng);
            if rng.bool() && second["type"] != conditions[0]["type"] {
                conditions.push(second);
            }
            status["conditions"] = conditions.into();
        }
        some_of(status, rng)
    }

    /// The places that a JSON patch touches.
    pub(super) fn pointers(self) -> &'static [&'static str] {
        match self {
            Self::ConfigMap => &["/data", "/data/a", "/data/b", "/immutable"],
            Self::Secret => &["/data", "/data/a", "/stringData", "/type"],
            Self::Lease => &["/spec/holderIdentity", "/spec/leaseTransitions", "/spec"],
            Self::Job => &[
                "/spec/suspend",
                "/spec/parallelism",
                "/spec/backoffLimit",
                "/spec/template/spec/containers/0/image",
            ],
            Self::Pod => &[
                "/spec/containers/0/image",
                "/spec/activeDeadlineSeconds",
                "/spec/tolerations/-",
                "/spec/nodeSelector",
            ],
            Self::Task => &[
                "/spec/description",
                "/spec/contexts",
                "/spec/contexts/0",
                "/spec/contexts/-",
                "/spec/timeout",
            ],
            Self::Agent => &[
                "/spec/agentImage",
                "/spec/command",
                "/spec/command/0",
                "/spec/maxConcurrentTasks",
            ],
            Self::Namespace => &[
                "/spec/finalizers",
                "/metadata/labels/kubernetes.io~1metadata.name",
            ],
        }
    }
}

pub(super) fn pick<'a>(rng: &mut Rng, all: &[&'a str]) -> &'a str {
    all[rng.usize(0..all.len())]
}

/// One time in `n`.
pub(super) fn rarely(rng: &mut Rng, n: usize) -> bool {
    rng.usize(0..n) == 0
}

/// An object with some of these fields.
fn some_of(fields: Value, rng: &mut Rng) -> Value {
    let Value::Object(fields) = fields else {
        return fields;
    };
    let kept = fields.into_iter().filter(|_| rng.usize(0..3) > 0);
    Value::Object(kept.collect())
}

fn metadata(rng: &mut Rng) -> Value {
    let mut metadata = json!({});
    if rng.bool() {
        metadata["labels"] = some_of(json!({"app": "a", "tier": "x"}), rng);
        if rng.bool() {
            metadata["labels"]["app"] = pick(rng, &["a", "b", ""]).into();
        }
    }
    if rarely(rng, 3) {
        metadata["annotations"] = json!({"note": pick(rng, &["1", "2"])});
    }
    if rarely(rng, 5) {
        metadata["finalizers"] = if rng.bool() {
            json!(["example.test/a"])
        } else {
            json!(["example.test/b", "example.test/a"])
        };
    }
    metadata
}

fn config_map(rng: &mut Rng) -> Value {
    let mut object = json!({});
    if !rarely(rng, 4) {
        object["data"] = some_of(
            json!({"a": pick(rng, &["1", "2", ""]), "b": "1", "c": "x\ny"}),
            rng,
        );
    }
    if rarely(rng, 6) {
        object["binaryData"] = json!({"d": "AAE="});
    }
    if rarely(rng, 10) {
        object["immutable"] = rng.bool().into();
    }
    object
}

fn secret(rng: &mut Rng) -> Value {
    let mut object = json!({});
    if rng.bool() {
        object["data"] = some_of(json!({"a": "MQ==", "b": pick(rng, &["Mg==", ""])}), rng);
    }
    if rarely(rng, 3) {
        object["stringData"] = some_of(json!({"a": "1", "c": "3"}), rng);
    }
    if rarely(rng, 5) {
        object["type"] = pick(rng, &["Opaque", "example.test/t"]).into();
    }
    if rarely(rng, 10) {
        object["immutable"] = true.into();
    }
    object
}

fn lease(rng: &mut Rng) -> Value {
    let spec = json!({
        "holderIdentity": pick(rng, &["a", "b"]), "leaseDurationSeconds": rng.i32(0..16),
        "leaseTransitions": rng.i32(-1..4), "renewTime": "2026-01-01T00:00:00.000001Z",
        "acquireTime": "2026-01-01T00:00:00.000000Z",
    });
    json!({"spec": some_of(spec, rng)})
}

fn container(rng: &mut Rng, name: &str) -> Value {
    let mut container =
        json!({"name": name, "image": pick(rng, &["i:1", "i:2", "i", "r.example/i:latest"])});
    let more = json!({
        "command": ["sh", "-c", "true"], "workingDir": "/w", "imagePullPolicy": pick(rng, &["Always", "Never"]),
        "env": [{"name": "A", "value": pick(rng, &["1", "2"])}, {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "resources": {"requests": {"cpu": pick(rng, &["100m", "0.5", "1"]), "memory": pick(rng, &["1Gi", "1024Mi"])}},
        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
    });
    if let Value::Object(more) = more
        && let Value::Object(container) = &mut container
    {
        container.extend(more.into_iter().filter(|_| rarely(rng, 4)));
    }
    container
}

fn pod_spec(rng: &mut Rng) -> Value {
    let mut containers = vec![container(rng, "main")];
    if rarely(rng, 4) {
        containers.push(container(rng, "side"));
    }
    let mut spec = json!({"containers": containers, "restartPolicy": pick(rng, &["Never", "OnFailure"]), "volumes": [{"name": "v", "emptyDir": {}}]});
    let more = json!({
        "nodeSelector": {"disk": pick(rng, &["a", "b"])}, "activeDeadlineSeconds": rng.i32(1..1000),
        "terminationGracePeriodSeconds": rng.i32(0..60), "automountServiceAccountToken": false,
        "initContainers": [container(rng, "first")], "enableServiceLinks": false,
        "tolerations": [{"key": "k", "operator": "Exists", "effect": "NoSchedule"}],
        "securityContext": {"runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
        "serviceAccountName": "default", "hostname": "h", "priority": 0,
    });
    if let Value::Object(more) = more
        && let Value::Object(spec) = &mut spec
    {
        spec.extend(more.into_iter().filter(|_| rarely(rng, 4)));
    }
    spec
}

fn pod(rng: &mut Rng) -> Value {
    json!({"spec": pod_spec(rng)})
}

fn job(rng: &mut Rng) -> Value {
    let more = json!({
        "backoffLimit": rng.i32(0..3), "completions": rng.i32(1..3), "parallelism": rng.i32(0..3),
        "suspend": rng.bool(), "ttlSecondsAfterFinished": 1000, "activeDeadlineSeconds": rng.i32(1..1000),
        "podReplacementPolicy": "Failed", "completionMode": pick(rng, &["NonIndexed", "Indexed"]),
    });
    let mut spec = Map::new();
    if let Value::Object(more) = more {
        spec.extend(more.into_iter().filter(|_| rarely(rng, 3)));
    }
    // The Job controller is at work at its own pace, on both sides: these Jobs are not its business.
    spec.insert("managedBy".into(), "example.test/fuzz".into());
    let mut template = json!({"spec": pod_spec(rng)});
    if rarely(rng, 3) {
        template["metadata"] = json!({"labels": {"app": pick(rng, &["a", "b"])}});
    }
    spec.insert("template".into(), template);
    json!({"spec": spec})
}

fn context(rng: &mut Rng) -> Value {
    match rng.usize(0..5) {
        0 => json!({"type": "Text", "text": pick(rng, &["a", "b"])}),
        1 => {
            json!({"type": "ConfigMap", "configMap": {"name": "c", "key": "k"}, "mountPath": pick(rng, &["f", "../f"])})
        }
        2 => {
            json!({"type": "Git", "mountPath": "w", "git": {"repository": pick(rng, &["https://example.com/a.git", "ext::x"]), "depth": rng.i32(-1..3)}})
        }
        3 => json!({"type": "Runtime"}),
        _ => {
            json!({"type": "Text", "text": "a", "mountPath": "f", "fileMode": pick_number(rng, &[420, 493, 512])})
        }
    }
}

fn pick_number(rng: &mut Rng, all: &[i64]) -> i64 {
    all[rng.usize(0..all.len())]
}

fn task(rng: &mut Rng) -> Value {
    let contexts: Vec<Value> = (0..rng.usize(0..3)).map(|_| context(rng)).collect();
    let spec = json!({
        "description": pick(rng, &["Do it.", "Do that.", ""]), "agentRef": pick(rng, &["default", "a"]),
        "timeout": pick(rng, &["1h", "30m", "soon", "90s"]), "contexts": contexts,
    });
    some_of(spec, rng)
}

fn agent(rng: &mut Rng) -> Value {
    let more = json!({
        "agentImage": pick(rng, &["a:1", "a:2"]), "command": ["sh", "-c", pick(rng, &["true", "false"])],
        "maxConcurrentTasks": rng.i32(-1..3), "workspaceDir": pick(rng, &["/workspace", "/w"]),
        "credentials": [{"name": "c", "secretRef": {"name": "s", "key": "k"}, "env": pick(rng, &["E", "F"])}],
    });
    let mut spec = some_of(more, rng);
    if !rarely(rng, 6) {
        spec["serviceAccountName"] = pick(rng, &["default", "agent"]).into();
    }
    spec
}

/// Something goes wrong with a body: a field is missing, null, of another type, or unknown.
pub(super) fn damage(rng: &mut Rng, value: &mut Value) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let keys: Vec<String> = fields.keys().cloned().collect();
            let key = &keys[rng.usize(0..keys.len())];
            if rng.bool()
                && let Some(inner) = fields
                    .get_mut(key)
                    .filter(|inner| inner.is_object() || inner.is_array())
            {
                return damage(rng, inner);
            }
            let wrong = [
                json!(null),
                json!(7),
                json!("text"),
                json!([]),
                json!({}),
                json!(true),
                json!(1.5),
            ];
            match rng.usize(0..4) {
                0 => drop(fields.remove(key)),
                1 => drop(fields.insert("unknownField".into(), 1.into())),
                _ => drop(fields.insert(key.clone(), wrong[rng.usize(0..wrong.len())].clone())),
            }
        }
        Value::Array(items) if !items.is_empty() => {
            let index = rng.usize(0..items.len());
            damage(rng, &mut items[index]);
        }
        other => *other = 7.into(),
    }
}
