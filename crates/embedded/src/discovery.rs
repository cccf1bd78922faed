//! Discovery: which groups, versions and resources there are, in the old form (one document for each group version)
//! and in the aggregated one.

use std::{fmt::Write as _, sync::Arc};

use base64::Engine as _;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256, Sha512};

use crate::kinds::{Kind, Registry, Subresource};

/// `GET /api`; `address` is what the server is reached at.
#[must_use]
pub fn api_versions(address: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    })
}

/// The groups beside the core one, in their order, each with its versions, the preferred one first.
fn groups(registry: &Registry) -> Vec<(String, Vec<String>)> {
    let mut groups: Vec<(String, Vec<String>)> = Registry::builtin_groups()
        .iter()
        .filter(|group| !group.is_empty())
        .map(|group| ((*group).to_owned(), Vec::new()))
        .collect();
    for kind in registry.kinds() {
        if kind.group.is_empty() {
            continue;
        }
        let at = groups
            .iter()
            .position(|(group, _)| *group == kind.group)
            .unwrap_or_else(|| {
                groups.push((kind.group.clone(), Vec::new()));
                groups.len() - 1
            });
        let versions = &mut groups[at].1;
        if !versions.contains(&kind.version) {
            versions.push(kind.version.clone());
        }
    }
    for (_, versions) in &mut groups {
        versions.sort_by_key(|version| std::cmp::Reverse(priority(version)));
    }
    groups.retain(|(_, versions)| !versions.is_empty());
    groups
}

/// Versions by stability and number: v2, v1, v1beta2, v1alpha1, others last.
fn priority(version: &str) -> (u8, u32, u32) {
    let number = |text: &str| text.parse::<u32>().ok();
    let parsed = version.strip_prefix('v').and_then(|rest| {
        let end = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let major = number(&rest[..end])?;
        match &rest[end..] {
            "" => Some((3, major, 0)),
            rest if rest.starts_with("beta") => Some((2, major, number(&rest[4..])?)),
            rest if rest.starts_with("alpha") => Some((1, major, number(&rest[5..])?)),
            _ => None,
        }
    });
    parsed.unwrap_or_default()
}

fn group_value(group: &str, versions: &[String]) -> Value {
    let version = |version: &String| json!({"groupVersion": format!("{group}/{version}"), "version": version});
    json!({
        "name": group,
        "versions": versions.iter().map(version).collect::<Vec<_>>(),
        "preferredVersion": versions.first().map(version),
    })
}

/// `GET /apis`.
#[must_use]
pub fn group_list(registry: &Registry) -> Value {
    let groups: Vec<Value> = groups(registry)
        .iter()
        .map(|(group, versions)| group_value(group, versions))
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `GET /apis/GROUP`, or `None` if there is no such group.
#[must_use]
pub fn group(registry: &Registry, group: &str) -> Option<Value> {
    let groups = groups(registry);
    let (_, versions) = groups.iter().find(|(name, _)| name == group)?;
    let mut value = group_value(group, versions);
    value["kind"] = "APIGroup".into();
    value["apiVersion"] = "v1".into();
    Some(value)
}

fn kinds_of(registry: &Registry, group: &str, version: &str) -> Vec<Arc<Kind>> {
    let mut kinds = registry.kinds();
    kinds.retain(|kind| kind.group == group && kind.version == version);
    kinds
}

/// `GET /api/v1` and `GET /apis/GROUP/VERSION`, or `None` if there is no such group version.
#[must_use]
pub fn resource_list(registry: &Registry, group: &str, version: &str) -> Option<Value> {
    let kinds = kinds_of(registry, group, version);
    if kinds.is_empty() {
        return None;
    }
    let mut resources = Vec::new();
    for kind in &kinds {
        resources.push(resource(kind));
        resources.extend(kind.subresources.iter().map(|sub| subresource(kind, sub)));
    }
    let mut list = json!({
        "kind": "APIResourceList",
        "groupVersion": kinds[0].api_version(),
        "resources": resources,
    });
    if !group.is_empty() {
        list["apiVersion"] = "v1".into();
    }
    Some(list)
}

fn resource(kind: &Kind) -> Value {
    let mut resource = json!({
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": kind.verbs,
    });
    if !kind.short_names.is_empty() {
        resource["shortNames"] = kind.short_names.clone().into();
    }
    if !kind.categories.is_empty() {
        resource["categories"] = kind.categories.clone().into();
    }
    if kind.is_stored() {
        resource["storageVersionHash"] = storage_version_hash(kind).into();
    }
    resource
}

fn subresource(kind: &Kind, sub: &Subresource) -> Value {
    let (group, version, name) = &sub.kind;
    let mut resource = json!({
        "name": format!("{}/{}", kind.plural, sub.name),
        "singularName": "",
        "namespaced": kind.namespaced,
        "kind": name,
        "verbs": sub.verbs,
    });
    if !group.is_empty() {
        resource["group"] = (*group).into();
        resource["version"] = (*version).into();
    }
    resource
}

/// Names the stored version of a resource without saying which it is.
fn storage_version_hash(kind: &Kind) -> String {
    let (group, version, _) = &kind.stored_as;
    let digest = Sha256::digest(format!("{group}/{version}/{}", kind.kind).as_bytes());
    base64::engine::general_purpose::STANDARD.encode(&digest[..8])
}

/// The aggregated form of `/api` (`core`) or `/apis`, as `APIGroupDiscoveryList` of `version` (`v2` or `v2beta1`).
#[must_use]
pub fn aggregated(registry: &Registry, core: bool, version: &str) -> Value {
    let groups = if core {
        vec![(String::new(), vec!["v1".to_owned()])]
    } else {
        groups(registry)
    };
    let items: Vec<Value> = groups
        .iter()
        .map(|(group, versions)| {
            let mut metadata = Map::new();
            if !group.is_empty() {
                metadata.insert("name".into(), group.clone().into());
            }
            let versions: Vec<Value> = versions
                .iter()
                .map(|version| {
                    let kinds = kinds_of(registry, group, version);
                    let resources: Vec<Value> =
                        kinds.iter().map(|kind| aggregated_resource(kind)).collect();
                    json!({"version": version, "resources": resources, "freshness": "Current"})
                })
                .collect();
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": items,
    })
}

fn aggregated_resource(kind: &Kind) -> Value {
    // Built-in kinds leave out the group and version that their place in the document says.
    let response = |group: &str, version: &str, name: &str| {
        let (group, version) = if kind.custom && group.is_empty() {
            (kind.group.as_str(), kind.version.as_str())
        } else {
            (group, version)
        };
        json!({"group": group, "version": version, "kind": name})
    };
    let mut resource = json!({
        "resource": kind.plural,
        "responseKind": response("", "", &kind.kind),
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": kind.singular,
        "verbs": kind.verbs,
    });
    if !kind.short_names.is_empty() {
        resource["shortNames"] = kind.short_names.clone().into();
    }
    if !kind.categories.is_empty() {
        resource["categories"] = kind.categories.clone().into();
    }
    let subresources: Vec<Value> = kind
        .subresources
        .iter()
        .map(|sub| {
            let (group, version, name) = &sub.kind;
            json!({
                "subresource": sub.name,
                "responseKind": response(group, version, name),
                "verbs": sub.verbs,
            })
        })
        .collect();
    if !subresources.is_empty() {
        resource["subresources"] = subresources.into();
    }
    resource
}

/// `GET /`: all paths.
#[must_use]
pub fn paths(registry: &Registry) -> Value {
    let mut paths = vec![
        "/api".to_owned(),
        "/api/v1".to_owned(),
        "/apis".to_owned(),
        "/apis/".to_owned(),
    ];
    for (group, versions) in groups(registry) {
        paths.push(format!("/apis/{group}"));
        paths.extend(
            versions
                .iter()
                .map(|version| format!("/apis/{group}/{version}")),
        );
    }
    let others = [
        "/healthz",
        "/livez",
        "/openapi/v2",
        "/openapi/v3",
        "/openapi/v3/",
        "/readyz",
        "/version",
    ];
    paths.extend(others.map(str::to_owned));
    paths.sort();
    json!({"paths": paths})
}

/// The `ETag` (without quotes) of a document: 128 hexadecimal digits.
#[must_use]
pub fn etag(document: &Value) -> String {
    let digest = Sha512::digest(document.to_string().as_bytes());
    digest.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02X}");
        text
    })
}
