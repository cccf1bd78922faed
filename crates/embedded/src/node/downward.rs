//! The downward API: fields of the Pod itself as variables and files.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use k8s_openapi::api::core::v1::Pod;

use super::references::Unresolved;

/// The address of this node and of all its Pods, which share its network.
pub(super) const ADDRESS: &str = "127.0.0.1";

/// The value of a `fieldRef`.
pub(super) fn field(pod: &Pod, path: &str) -> Result<String, Unresolved> {
    let metadata = &pod.metadata;
    let spec = pod.spec.as_ref();
    let value = match path {
        "metadata.name" => metadata.name.clone(),
        "metadata.namespace" => metadata.namespace.clone(),
        "metadata.uid" => metadata.uid.clone(),
        "metadata.labels" => Some(lines(metadata.labels.as_ref())),
        "metadata.annotations" => Some(lines(metadata.annotations.as_ref())),
        "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()),
        "spec.serviceAccountName" => Some(
            spec.and_then(|spec| spec.service_account_name.clone())
                .unwrap_or_else(|| "default".to_owned()),
        ),
        "status.hostIP" | "status.hostIPs" | "status.podIP" | "status.podIPs" => {
            Some(ADDRESS.to_owned())
        }
        _ => {
            let (map, key) = if let Some(key) = subscript(path, "metadata.labels") {
                (metadata.labels.as_ref(), key)
            } else if let Some(key) = subscript(path, "metadata.annotations") {
                (metadata.annotations.as_ref(), key)
            } else {
                return Err(Unresolved::Invalid(format!(
                    "the field {path} of a Pod cannot be given to its containers"
                )));
            };
            Some(
                map.and_then(|map| map.get(key))
                    .cloned()
                    .unwrap_or_default(),
            )
        }
    };
    Ok(value.unwrap_or_default())
}

/// The key in `list['key']`.
fn subscript<'a>(path: &'a str, list: &str) -> Option<&'a str> {
    path.strip_prefix(list)?
        .strip_prefix("['")?
        .strip_suffix("']")
}

/// Labels or annotations as a file: `key="value"` in order, one a line, no newline at the end.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let mut text = String::new();
    for (key, value) in map.into_iter().flatten() {
        if !text.is_empty() {
            text.push('\n');
        }
        let _ = write!(text, "{key}={value:?}");
    }
    text
}
