//! Columns and cells of the built-in kinds.

use serde_json::Value;

use super::{Definition, age, job, pod};

/// A column: name, type, priority.
type Row = (&'static str, &'static str, i64);

fn columns(kind: &str) -> &'static [Row] {
    match kind {
        "Pod" => &[
            ("Ready", "string", 0),
            ("Status", "string", 0),
            ("Restarts", "string", 0),
            ("Age", "string", 0),
            ("IP", "string", 1),
            ("Node", "string", 1),
            ("Nominated Node", "string", 1),
            ("Readiness Gates", "string", 1),
        ],
        "Job" => &[
            ("Status", "string", 0),
            ("Completions", "string", 0),
            ("Duration", "string", 0),
            ("Age", "string", 0),
            ("Containers", "string", 1),
            ("Images", "string", 1),
            ("Selector", "string", 1),
        ],
        "ConfigMap" => &[("Data", "string", 0), ("Age", "string", 0)],
        "Secret" => &[
            ("Type", "string", 0),
            ("Data", "string", 0),
            ("Age", "string", 0),
        ],
        "ServiceAccount" => &[("Age", "string", 0)],
        "Namespace" | "Node" => &[("Status", "string", 0), ("Age", "string", 0)],
        "Lease" => &[("Holder", "string", 0), ("Age", "string", 0)],
        "PersistentVolumeClaim" => &[
            ("Status", "string", 0),
            ("Volume", "string", 0),
            ("Capacity", "string", 0),
            ("Access Modes", "string", 0),
            ("StorageClass", "string", 0),
            ("VolumeAttributesClass", "string", 0),
            ("Age", "string", 0),
            ("VolumeMode", "string", 1),
        ],
        "Service" => &[
            ("Type", "string", 0),
            ("Cluster-IP", "string", 0),
            ("External-IP", "string", 0),
            ("Port(s)", "string", 0),
            ("Age", "string", 0),
            ("Selector", "string", 1),
        ],
        "RoleBinding" | "ClusterRoleBinding" => &[
            ("Role", "string", 0),
            ("Age", "string", 0),
            ("Users", "string", 1),
            ("Groups", "string", 1),
            ("ServiceAccounts", "string", 1),
        ],
        _ => &[("Created At", "date", 0)],
    }
}

/// Events have no name in front.
const EVENT: [Row; 10] = [
    ("Last Seen", "string", 0),
    ("Type", "string", 0),
    ("Reason", "string", 0),
    ("Object", "string", 0),
    ("Subobject", "string", 1),
    ("Source", "string", 1),
    ("Message", "string", 0),
    ("First Seen", "string", 1),
    ("Count", "string", 1),
    ("Name", "string", 1),
];

/// The columns of a kind.
pub(super) fn definitions(kind: &str) -> Vec<Definition<'static>> {
    let definition = |row: &Row| Definition {
        name: row.0,
        kind: row.1,
        format: if row.0 == "Name" { "name" } else { "" },
        priority: row.2,
        description: format!("{} of the {kind}.", row.0),
    };
    if kind == "Event" {
        return EVENT.iter().map(definition).collect();
    }
    let rest = columns(kind);
    std::iter::once(&("Name", "string", 0))
        .chain(rest)
        .map(definition)
        .collect()
}

/// The cells of an object, one for each column.
pub(super) fn cells(kind: &str, object: &Value, now: i64) -> Vec<Value> {
    if kind == "Event" {
        return event(object, now);
    }
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let age = || Value::from(age::since(&object["metadata"]["creationTimestamp"], now));
    let count = |value: &Value| value.as_object().map_or(0, serde_json::Map::len);
    let text = |value: &Value| Value::from(value.as_str().unwrap_or_default());
    let rest = match kind {
        "Pod" => pod::cells(object, now),
        "Job" => job::cells(object, now),
        "ConfigMap" => vec![
            (count(&object["data"]) + count(&object["binaryData"])).into(),
            age(),
        ],
        "Secret" => vec![text(&object["type"]), count(&object["data"]).into(), age()],
        "ServiceAccount" => vec![age()],
        "Namespace" => vec![text(&object["status"]["phase"]), age()],
        "Node" => vec![node_status(object).into(), age()],
        "Lease" => vec![text(&object["spec"]["holderIdentity"]), age()],
        "PersistentVolumeClaim" => claim(object, age()),
        "Service" => service(object, age()),
        "RoleBinding" | "ClusterRoleBinding" => binding(object, age()),
        _ => vec![object["metadata"]["creationTimestamp"].clone()],
    };
    std::iter::once(name.into()).chain(rest).collect()
}

/// `a=b,c=d` for a label selector, `<none>` for an empty one.
pub(super) fn selector(selector: &Value) -> String {
    let mut parts: Vec<String> = selector["matchLabels"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    for expression in selector["matchExpressions"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let text = |key: &str| expression[key].as_str().unwrap_or_default().to_owned();
        let values = expression["values"].as_array().into_iter().flatten();
        let values: Vec<&str> = values.filter_map(Value::as_str).collect();
        parts.push(match text("operator").as_str() {
            "Exists" => text("key"),
            "DoesNotExist" => format!("!{}", text("key")),
            operator => format!(
                "{} {} ({})",
                text("key"),
                operator.to_lowercase(),
                values.join(",")
            ),
        });
    }
    if parts.is_empty() {
        "<none>".to_owned()
    } else {
        parts.join(",")
    }
}

fn event(event: &Value, now: i64) -> Vec<Value> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let involved = &event["involvedObject"];
    let first = if event["firstTimestamp"].is_string() {
        &event["firstTimestamp"]
    } else {
        &event["eventTime"]
    };
    let series = &event["series"];
    let last = if series["lastObservedTime"].is_string() {
        &series["lastObservedTime"]
    } else if event["lastTimestamp"].is_string() {
        &event["lastTimestamp"]
    } else {
        first
    };
    let count = series["count"]
        .as_i64()
        .or(event["count"].as_i64())
        .filter(|n| *n > 0)
        .unwrap_or(1);
    let object = format!(
        "{}/{}",
        text(&involved["kind"]).to_lowercase(),
        text(&involved["name"])
    );
    vec![
        age::since(last, now).into(),
        text(&event["type"]).into(),
        text(&event["reason"]).into(),
        object.into(),
        text(&involved["fieldPath"]).into(),
        source(event).into(),
        text(&event["message"]).trim().into(),
        age::since(first, now).into(),
        count.into(),
        text(&event["metadata"]["name"]).into(),
    ]
}

fn source(event: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut component = text(&event["source"]["component"]);
    if component.is_empty() {
        component = text(&event["reportingComponent"]);
    }
    let mut host = text(&event["source"]["host"]);
    if host.is_empty() {
        host = text(&event["reportingInstance"]);
    }
    if host.is_empty() {
        component
    } else {
        format!("{component}, {host}")
    }
}

fn node_status(node: &Value) -> &'static str {
    let conditions = node["status"]["conditions"].as_array();
    match conditions
        .into_iter()
        .flatten()
        .find(|c| c["type"] == "Ready")
    {
        Some(ready) if ready["status"] == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
}

fn claim(claim: &Value, age: Value) -> Vec<Value> {
    let text = |value: &Value| Value::from(value.as_str().unwrap_or_default());
    let short = |mode: &Value| match mode.as_str().unwrap_or_default() {
        "ReadWriteOnce" => "RWO".to_owned(),
        "ReadOnlyMany" => "ROX".to_owned(),
        "ReadWriteMany" => "RWX".to_owned(),
        "ReadWriteOncePod" => "RWOP".to_owned(),
        other => other.to_owned(),
    };
    let bound = claim["spec"]["volumeName"]
        .as_str()
        .is_some_and(|name| !name.is_empty());
    let modes = claim["status"]["accessModes"]
        .as_array()
        .into_iter()
        .flatten();
    let modes: Vec<String> = modes.map(short).collect();
    let status = if claim["metadata"]["deletionTimestamp"].is_string() {
        "Terminating".into()
    } else {
        text(&claim["status"]["phase"])
    };
    vec![
        status,
        text(&claim["spec"]["volumeName"]),
        if bound {
            text(&claim["status"]["capacity"]["storage"])
        } else {
            "".into()
        },
        if bound {
            modes.join(",").into()
        } else {
            "".into()
        },
        text(&claim["spec"]["storageClassName"]),
        Value::from(
            claim["spec"]["volumeAttributesClassName"]
                .as_str()
                .unwrap_or("<unset>"),
        ),
        age,
        Value::from(claim["spec"]["volumeMode"].as_str().unwrap_or("<unset>")),
    ]
}

fn service(service: &Value, age: Value) -> Vec<Value> {
    let spec = &service["spec"];
    let or_none =
        |value: &Value| Value::from(value.as_str().filter(|v| !v.is_empty()).unwrap_or("<none>"));
    let ports = spec["ports"].as_array().into_iter().flatten().map(|port| {
        let number = port["port"].as_i64().unwrap_or_default();
        let protocol = port["protocol"].as_str().unwrap_or("TCP");
        match port["nodePort"].as_i64() {
            Some(node) if node > 0 => format!("{number}:{node}/{protocol}"),
            _ => format!("{number}/{protocol}"),
        }
    });
    let ports: Vec<String> = ports.collect();
    let labels = serde_json::json!({"matchLabels": spec["selector"]});
    vec![
        Value::from(spec["type"].as_str().unwrap_or("ClusterIP")),
        or_none(&spec["clusterIP"]),
        or_none(&spec["externalName"]),
        if ports.is_empty() {
            "<none>".into()
        } else {
            ports.join(",").into()
        },
        age,
        selector(&labels).into(),
    ]
}

fn binding(binding: &Value, age: Value) -> Vec<Value> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of_kind = |kind: &str| -> Value {
        let subjects = binding["subjects"].as_array().into_iter().flatten();
        let names: Vec<String> = subjects
            .filter(|subject| subject["kind"] == kind)
            .map(|subject| match kind {
                "ServiceAccount" => {
                    format!("{}/{}", text(&subject["namespace"]), text(&subject["name"]))
                }
                _ => text(&subject["name"]),
            })
            .collect();
        names.join(", ").into()
    };
    let role = &binding["roleRef"];
    vec![
        format!("{}/{}", text(&role["kind"]), text(&role["name"])).into(),
        age,
        of_kind("User"),
        of_kind("Group"),
        of_kind("ServiceAccount"),
    ]
}
