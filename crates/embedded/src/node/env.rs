//! The environment of a container: `env`, `envFrom`, and what the node adds.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvVarSource, Pod};

use super::downward;
use super::expand::expand;
use super::references::{Fetched, Kind, Reference, Unresolved};

/// Where programs are found when the container says nothing.
pub(super) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The objects that the environment of a container needs.
pub(super) fn references(container: &Container) -> Vec<Reference> {
    let mut found = Vec::new();
    let mut add = |kind, name: &str| {
        found.push(Reference {
            kind,
            name: name.to_owned(),
        });
    };
    for from in container.env_from.iter().flatten() {
        if let Some(map) = &from.config_map_ref {
            add(Kind::ConfigMap, &map.name);
        }
        if let Some(secret) = &from.secret_ref {
            add(Kind::Secret, &secret.name);
        }
    }
    for source in container
        .env
        .iter()
        .flatten()
        .filter_map(|env| env.value_from.as_ref())
    {
        if let Some(key) = &source.config_map_key_ref {
            add(Kind::ConfigMap, &key.name);
        }
        if let Some(key) = &source.secret_key_ref {
            add(Kind::Secret, &key.name);
        }
    }
    found
}

/// The whole environment, in the order of definition; a later definition replaces an earlier one.
pub(super) fn build(
    pod: &Pod,
    container: &Container,
    added: &[(String, String)],
    fetched: &Fetched,
) -> Result<Vec<(String, String)>, Unresolved> {
    let mut env = Environment::default();
    let name = pod.metadata.name.clone().unwrap_or_default();
    env.set("PATH", DEFAULT_PATH.to_owned());
    env.set("HOME", "/root".to_owned());
    env.set("HOSTNAME", name);
    for (name, value) in added {
        env.set(name, value.clone());
    }
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let content = match (&from.config_map_ref, &from.secret_ref) {
            (Some(map), _) => fetched.content(Kind::ConfigMap, &map.name, map.optional)?,
            (None, Some(secret)) => fetched.content(Kind::Secret, &secret.name, secret.optional)?,
            (None, None) => None,
        };
        for (key, value) in content.iter().flat_map(|content| &content.data) {
            if let Ok(value) = String::from_utf8(value.clone()) {
                env.set(&format!("{prefix}{key}"), value);
            }
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match &variable.value_from {
            Some(source) => match from_source(pod, container, source, fetched)? {
                Some(value) => value,
                None => continue,
            },
            None => expand(variable.value.as_deref().unwrap_or_default(), |name| {
                env.get(name)
            }),
        };
        env.set(&variable.name, value);
    }
    Ok(env.into_list())
}

fn from_source(
    pod: &Pod,
    container: &Container,
    source: &EnvVarSource,
    fetched: &Fetched,
) -> Result<Option<String>, Unresolved> {
    let (kind, name, key, optional) = if let Some(reference) = &source.config_map_key_ref {
        (
            Kind::ConfigMap,
            &reference.name,
            &reference.key,
            reference.optional,
        )
    } else if let Some(reference) = &source.secret_key_ref {
        (
            Kind::Secret,
            &reference.name,
            &reference.key,
            reference.optional,
        )
    } else if let Some(field) = &source.field_ref {
        return downward::field(pod, &field.field_path).map(Some);
    } else {
        return Err(Unresolved::Invalid(format!(
            "container {:?}: a variable's value comes from a source that this node does not have",
            container.name
        )));
    };
    let Some(content) = fetched.content(kind, name, optional)? else {
        return Ok(None);
    };
    match content.data.get(key) {
        Some(value) => Ok(Some(String::from_utf8_lossy(value).into_owned())),
        None if optional == Some(true) => Ok(None),
        None => {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            let word = match kind {
                Kind::ConfigMap => "ConfigMap",
                Kind::Secret => "Secret",
                Kind::ServiceAccountToken => "token",
            };
            let message = format!("couldn't find key {key} in {word} {namespace}/{name}");
            Err(fetched.without_key(kind, name, message))
        }
    }
}

/// Variables in the order of their first definition.
#[derive(Default)]
struct Environment {
    order: Vec<String>,
    values: BTreeMap<String, String>,
}

impl Environment {
    /// A name or value that no process can have (`=` in the name, NUL) is left out.
    fn set(&mut self, name: &str, value: String) {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return;
        }
        if self.values.insert(name.to_owned(), value).is_none() {
            self.order.push(name.to_owned());
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    fn into_list(mut self) -> Vec<(String, String)> {
        self.order
            .into_iter()
            .filter_map(|name| {
                let value = self.values.remove(&name)?;
                Some((name, value))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(yaml: &str, fetched: &Fetched) -> Result<Vec<String>, String> {
        let pod: Pod = serde_saphyr::from_str(yaml).unwrap();
        let container = pod.spec.as_ref().unwrap().containers[0].clone();
        build(&pod, &container, &[("SERVICE".into(), "s".into())], fetched)
            .map(|env| {
                env.into_iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .filter(|line| !line.starts_with("PATH=") && !line.starts_with("HOME="))
                    .collect()
            })
            .map_err(|error| error.to_string())
    }

    #[test]
    fn sources_in_order_with_expansion() {
        let fetched = Fetched::of(Kind::Secret, "s", &[("TOKEN", "t"), ("OTHER", "o")]);
        let yaml = "
metadata: {name: p, namespace: ns, labels: {app: x}}
spec:
  containers:
  - name: c
    envFrom:
    - {prefix: P_, secretRef: {name: s}}
    - {configMapRef: {name: none, optional: true}}
    env:
    - {name: A, value: '$(P_TOKEN)-$(SERVICE)-$(B)'}
    - {name: B, value: b}
    - {name: T, valueFrom: {secretKeyRef: {name: s, key: TOKEN}}}
    - {name: N, valueFrom: {secretKeyRef: {name: s, key: NONE, optional: true}}}
    - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: APP, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['app']\"}}}
    - {name: P_OTHER, value: mine}
";
        assert_eq!(
            built(yaml, &fetched).unwrap(),
            [
                "HOSTNAME=p",
                "SERVICE=s",
                "P_OTHER=mine",
                "P_TOKEN=t",
                "A=t-s-$(B)",
                "B=b",
                "T=t",
                "NAME=p",
                "APP=x",
            ]
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let missing_object = "
metadata: {name: p, namespace: ns}
spec: {containers: [{name: c, envFrom: [{secretRef: {name: none}}]}]}
";
        let fetched = Fetched::of(Kind::Secret, "s", &[]);
        assert_eq!(
            built(missing_object, &fetched).unwrap_err(),
            "secret \"none\" not found"
        );
        let missing_key = "
metadata: {name: p, namespace: ns}
spec: {containers: [{name: c, env: [{name: A, valueFrom: {secretKeyRef: {name: s, key: k}}}]}]}
";
        assert_eq!(
            built(missing_key, &fetched).unwrap_err(),
            "couldn't find key k in Secret ns/s"
        );
    }
}
