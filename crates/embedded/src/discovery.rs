//! Discovery: which groups, versions and resources there are, in the old form (one document for each group version)
//! and in the aggregated one.

use serde_json::Value;

use crate::kinds::Registry;

/// `GET /api`; `address` is what the server is reached at.
#[must_use]
pub fn api_versions(address: &str) -> Value {
    serde_json::json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    })
}

/// `GET /apis`.
#[must_use]
pub fn group_list(registry: &Registry) -> Value {
    let _ = registry;
    Value::Null
}

/// `GET /apis/GROUP`, or `None` if there is no such group.
#[must_use]
pub fn group(registry: &Registry, group: &str) -> Option<Value> {
    let _ = (registry, group);
    None
}

/// `GET /api/v1` and `GET /apis/GROUP/VERSION`, or `None` if there is no such group version.
#[must_use]
pub fn resource_list(registry: &Registry, group: &str, version: &str) -> Option<Value> {
    let _ = (registry, group, version);
    None
}

/// The aggregated form of `/api` (`core`) or `/apis`, as `APIGroupDiscoveryList` of `version` (`v2` or `v2beta1`).
#[must_use]
pub fn aggregated(registry: &Registry, core: bool, version: &str) -> Value {
    let _ = (registry, core, version);
    Value::Null
}

/// `GET /`: all paths.
#[must_use]
pub fn paths(registry: &Registry) -> Value {
    let _ = registry;
    serde_json::json!({"paths": []})
}

/// The `ETag` (without quotes) of a document: 64 hex digits or more.
#[must_use]
pub fn etag(document: &Value) -> String {
    use sha2::{Digest, Sha512};
    let digest = Sha512::digest(document.to_string().as_bytes());
    digest.iter().map(|byte| format!("{byte:02X}")).collect()
}
