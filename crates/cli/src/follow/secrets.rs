//! The secrets that a Pod knows: values of its environment, and files of the Secrets that are mounted into it.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, Pod, Secret};
use kube::{Api, Client, ResourceExt as _};

/// What is known of them.
#[derive(Default)]
pub(super) struct Known {
    pub(super) values: Vec<Vec<u8>>,
    /// Why others are not known, so that nothing of them can be hidden: a line for each.
    pub(super) unknown: Vec<String>,
}

/// All that whoever asks may read. A Secret that is gone, or a key that it has not, is nothing that could be printed now.
pub(super) async fn of_pod(client: &Client, pod: &Pod) -> Known {
    let secrets: Api<Secret> =
        Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let mut known = Known::default();
    for (name, keys) in named_by(pod) {
        match secrets.get_opt(&name).await {
            Ok(secret) => {
                let data = secret.and_then(|secret| secret.data).unwrap_or_default();
                let wanted = data
                    .into_iter()
                    .filter(|(key, _)| keys.is_empty() || keys.contains(key));
                known.values.extend(wanted.map(|(_, value)| value.0));
            }
            Err(error) => known.unknown.push(format!(
                "what is in the Secret {name} is not hidden, for it cannot be read: {error}"
            )),
        }
    }
    known
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
