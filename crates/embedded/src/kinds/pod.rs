//! Pods and Pod templates: the defaults, the first status, and what may be changed.

use serde_json::{Map, Value, json};

use crate::{schema::path, status::Cause};

mod check;
mod gates;

pub(super) use check::{check_spec, check_template_spec};

fn default(object: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    object.entry(key).or_insert_with(|| value.into());
}

/// Defaults of a Pod.
pub(super) fn default_pod(pod: &mut Map<String, Value>) {
    if let Some(Value::Object(status)) = pod.get_mut("status") {
        pair_addresses(status);
    }
    let Some(Value::Object(spec)) = pod.get_mut("spec") else {
        return;
    };
    default_spec(spec);
    default(spec, "enableServiceLinks", true);
    for list in ["containers", "initContainers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            default_requests(container);
        }
    }
    if spec.get("hostNetwork") == Some(&Value::Bool(true)) {
        default_host_ports(spec);
    }
}

/// The address of a Pod is the first of its addresses.
fn pair_addresses(status: &mut Map<String, Value>) {
    let first = status
        .get("podIPs")
        .and_then(|list| list.get(0)?.get("ip").cloned());
    match (status.get("podIP").cloned(), first) {
        (Some(ip), None) => {
            status.insert("podIPs".into(), json!([{"ip": ip}]));
        }
        (None, Some(ip)) => {
            status.insert("podIP".into(), ip);
        }
        _ => {}
    }
}

/// Defaults of the spec of a Pod or Pod template.
pub(super) fn default_spec(spec: &mut Map<String, Value>) {
    default(spec, "dnsPolicy", "ClusterFirst");
    default(spec, "restartPolicy", "Always");
    default(spec, "securityContext", json!({}));
    default(spec, "terminationGracePeriodSeconds", 30);
    default(spec, "schedulerName", "default-scheduler");
    match (
        spec.get("serviceAccountName").cloned(),
        spec.get("serviceAccount").cloned(),
    ) {
        (Some(name), _) => {
            spec.insert("serviceAccount".into(), name);
        }
        (None, Some(name)) => {
            spec.insert("serviceAccountName".into(), name);
        }
        (None, None) => {}
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        for container in containers
            .into_iter()
            .flatten()
            .filter_map(Value::as_object_mut)
        {
            default_container(container);
        }
    }
    let volumes = spec.get_mut("volumes").and_then(Value::as_array_mut);
    for volume in volumes
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
    {
        default_volume(volume);
    }
}

fn default_container(container: &mut Map<String, Value>) {
    default(container, "terminationMessagePath", "/dev/termination-log");
    default(container, "terminationMessagePolicy", "File");
    let image = container
        .get("image")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let policy = if is_latest(image) {
        "Always"
    } else {
        "IfNotPresent"
    };
    default(container, "imagePullPolicy", policy);
    let ports = container.get_mut("ports").and_then(Value::as_array_mut);
    for port in ports.into_iter().flatten().filter_map(Value::as_object_mut) {
        default(port, "protocol", "TCP");
    }
    let env = container.get_mut("env").and_then(Value::as_array_mut);
    for variable in env.into_iter().flatten() {
        if let Some(Value::Object(field)) = variable.pointer_mut("/valueFrom/fieldRef") {
            default(field, "apiVersion", "v1");
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(Value::Object(probe)) = container.get_mut(probe) {
            default(probe, "timeoutSeconds", 1);
            default(probe, "periodSeconds", 10);
            default(probe, "successThreshold", 1);
            default(probe, "failureThreshold", 3);
            if let Some(Value::Object(get)) = probe.get_mut("httpGet") {
                default(get, "path", "/");
                default(get, "scheme", "HTTP");
            }
        }
    }
    for hook in ["/lifecycle/postStart/httpGet", "/lifecycle/preStop/httpGet"] {
        let mut value = Value::Object(std::mem::take(container));
        if let Some(Value::Object(get)) = value.pointer_mut(hook) {
            default(get, "path", "/");
            default(get, "scheme", "HTTP");
        }
        if let Value::Object(map) = value {
            *container = map;
        }
    }
}

/// Whether an image is pulled each time: it has the tag `latest` or neither tag nor digest.
fn is_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let name = image.rsplit('/').next().unwrap_or(image);
    name.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

fn default_volume(volume: &mut Map<String, Value>) {
    if volume.len() <= 1 {
        default(volume, "emptyDir", json!({}));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(Value::Object(source)) = volume.get_mut(source) {
            default(source, "defaultMode", 0o644);
        }
    }
    if let Some(Value::Object(source)) = volume.get_mut("hostPath") {
        default(source, "type", "");
    }
    let mut value = Value::Object(std::mem::take(volume));
    let sources = value
        .pointer_mut("/projected/sources")
        .and_then(Value::as_array_mut);
    for source in sources.into_iter().flatten() {
        if let Some(Value::Object(token)) = source.get_mut("serviceAccountToken") {
            default(token, "expirationSeconds", 3600);
        }
        default_field_refs(source.pointer_mut("/downwardAPI/items"));
    }
    default_field_refs(value.pointer_mut("/downwardAPI/items"));
    if let Value::Object(map) = value {
        *volume = map;
    }
}

fn default_field_refs(items: Option<&mut Value>) {
    let items = items.and_then(Value::as_array_mut);
    for item in items.into_iter().flatten() {
        if let Some(Value::Object(field)) = item.get_mut("fieldRef") {
            default(field, "apiVersion", "v1");
        }
    }
}

/// Requests that are not given are the limits.
fn default_requests(container: &mut Value) {
    let Some(Value::Object(limits)) = container.pointer("/resources/limits").cloned() else {
        return;
    };
    for (resource, quantity) in limits {
        let requests = &mut container["resources"]["requests"];
        if requests.get(&resource).is_none() {
            requests[resource] = quantity;
        }
    }
}

fn default_host_ports(spec: &mut Map<String, Value>) {
    for list in ["containers", "initContainers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let ports = container.get_mut("ports").and_then(Value::as_array_mut);
            for port in ports.into_iter().flatten().filter_map(Value::as_object_mut) {
                let number = port.get("containerPort").cloned().unwrap_or_default();
                default(port, "hostPort", number);
            }
        }
    }
}

/// Tolerations that every Pod gets, on each write, unless it has its own for the same taint.
fn tolerate(spec: &mut Map<String, Value>) {
    let tolerations = spec.entry("tolerations").or_insert_with(|| json!([]));
    let Some(tolerations) = tolerations.as_array_mut() else {
        return;
    };
    for key in [
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ] {
        let covers = |t: &Value| {
            (t["key"] == key || t.get("key").is_none_or(|k| k == ""))
                && (t["effect"] == "NoExecute" || t.get("effect").is_none_or(|e| e == ""))
        };
        if !tolerations.iter().any(covers) {
            tolerations.push(json!({
                "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300,
            }));
        }
    }
}

/// The status of a new Pod.
pub(super) fn prepare_create(pod: &mut Value) {
    pod["status"] = json!({"phase": "Pending", "qosClass": qos_class(&pod["spec"])});
    if let Some(condition) = gates::condition(pod) {
        pod["status"]["conditions"] = json!([condition]);
    }
}

/// A Pod changed through the main resource.
pub(super) fn prepare_update(pod: &mut Value) {
    if let Some(Value::Object(spec)) = pod.get_mut("spec") {
        tolerate(spec);
    }
}

/// The quality-of-service class that follows from requests and limits of CPU and memory.
fn qos_class(spec: &Value) -> &'static str {
    let mut any = false;
    let mut guaranteed = true;
    for list in ["containers", "initContainers"] {
        for container in spec[list].as_array().into_iter().flatten() {
            for resource in ["cpu", "memory"] {
                let limit = container["resources"]["limits"].get(resource);
                let request = container["resources"]["requests"].get(resource);
                any |= limit.is_some() || request.is_some();
                guaranteed &= limit.is_some() && limit == request;
            }
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// Faults of a change of a Pod's spec.
pub(super) fn check_update(new: &Value, old: &Value, causes: &mut Vec<Cause>) {
    const WHY: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
    const DEADLINE: &str = "spec.activeDeadlineSeconds";
    let (spec, before) = (&new["spec"], &old["spec"]);
    let length = |spec: &Value, list: &str| spec[list].as_array().map_or(0, Vec::len);
    for list in ["containers", "initContainers"] {
        if length(spec, list) != length(before, list) {
            causes.push(Cause::forbidden(
                path::child("spec", list),
                "pod updates may not add or remove containers",
            ));
            return;
        }
    }
    match (
        spec["activeDeadlineSeconds"].as_i64(),
        before["activeDeadlineSeconds"].as_i64(),
    ) {
        (Some(now), Some(then)) if now > then => {
            let why = "must be less than or equal to previous value";
            causes.push(Cause::invalid(DEADLINE, &now.into(), why));
            return;
        }
        (None, Some(_)) => {
            let why = "must not update from a positive integer to nil value";
            causes.push(Cause::invalid(DEADLINE, &Value::Null, why));
            return;
        }
        _ => {}
    }
    let tolerations = spec["tolerations"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    for (i, toleration) in before["tolerations"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        if !tolerations.contains(toleration) {
            let why = "existing toleration can not be modified except its tolerationSeconds";
            let shown = tolerations.get(i).cloned().unwrap_or_default();
            let seconds_only = tolerations.iter().any(|t| {
                ["key", "operator", "value", "effect"]
                    .iter()
                    .all(|key| t.get(*key) == toleration.get(*key))
            });
            if !seconds_only {
                causes.push(Cause::invalid("spec.tolerations", &shown, why));
                return;
            }
        }
    }
    gates::check_update(spec, before, causes);
    if without_mutable(spec) != without_mutable(before) {
        causes.push(Cause::forbidden("spec", WHY));
    }
}

/// A spec without what may be changed.
fn without_mutable(spec: &Value) -> Value {
    let mut spec = spec.clone();
    if let Some(map) = spec.as_object_mut() {
        map.remove("activeDeadlineSeconds");
        map.remove("tolerations");
        map.remove("schedulingGates");
    }
    for list in ["containers", "initContainers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        for container in containers
            .into_iter()
            .flatten()
            .filter_map(Value::as_object_mut)
        {
            container.remove("image");
        }
    }
    spec
}
