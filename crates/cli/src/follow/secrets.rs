//! The secrets that a Pod knows: values of its environment, and files of the Secrets that are mounted into it.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, Pod, Secret};
use kube::{Api, Client, ResourceExt as _};

/// All that whoever asks may read. Of the others nothing is known here, so nothing can be hidden.
pub(super) async fn of_pod(client: &Client, pod: &Pod) -> Vec<Vec<u8>> {
    let secrets: Api<Secret> =
        Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let mut found = Vec::new();
    for (name, keys) in named_by(pod) {
        let Ok(Some(secret)) = secrets.get_opt(&name).await else {
            continue;
        };
        let data = secret.data.unwrap_or_default().into_iter();
        let wanted = data.filter(|(key, _)| keys.is_empty() || keys.contains(key));
        found.extend(wanted.map(|(_, value)| value.0));
    }
    found
}

/// The Secrets that it refers to, with the keys of each; none are all.
fn named_by(pod: &Pod) -> BTreeMap<String, BTreeSet<String>> {
    let Some(spec) = &pod.spec else {
        return BTreeMap::new();
    };
    let mut keys: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut whole = BTreeSet::new();
    let containers = spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers);
    for Container { env, env_from, .. } in containers {
        let sources = env
            .iter()
            .flatten()
            .filter_map(|variable| variable.value_from.as_ref()?.secret_key_ref.as_ref());
        for source in sources {
            keys.entry(source.name.clone())
                .or_default()
                .insert(source.key.clone());
        }
        let sources = env_from.iter().flatten();
        whole.extend(sources.filter_map(|source| Some(source.secret_ref.as_ref()?.name.clone())));
    }
    for volume in spec.volumes.iter().flatten() {
        let mounted = volume.secret.as_ref();
        whole.extend(mounted.and_then(|secret| secret.secret_name.clone()));
        let projected = volume
            .projected
            .iter()
            .flat_map(|projected| &projected.sources);
        whole.extend(
            projected
                .flatten()
                .filter_map(|source| Some(source.secret.as_ref()?.name.clone())),
        );
    }
    keys.extend(whole.into_iter().map(|name| (name, BTreeSet::new())));
    keys
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_way_to_a_secret_is_known() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "a"},
            "spec": {
                "initContainers": [{"name": "init", "env": [
                    {"name": "A", "valueFrom": {"secretKeyRef": {"name": "one", "key": "x"}}},
                ]}],
                "containers": [{"name": "agent", "envFrom": [{"secretRef": {"name": "all"}}], "env": [
                    {"name": "B", "valueFrom": {"secretKeyRef": {"name": "one", "key": "y"}}},
                    {"name": "C", "value": "plain"},
                ]}],
                "volumes": [
                    {"name": "v", "secret": {"secretName": "mounted"}},
                    {"name": "w", "projected": {"sources": [{"secret": {"name": "projected"}}]}},
                    {"name": "x", "emptyDir": {}},
                ],
            },
        }))
        .expect("a Pod");
        let shown: Vec<String> = named_by(&pod)
            .into_iter()
            .map(|(name, keys)| format!("{name} {}", Vec::from_iter(keys).join(",")))
            .collect();
        assert_eq!(shown, ["all ", "mounted ", "one x,y", "projected "]);
    }
}
