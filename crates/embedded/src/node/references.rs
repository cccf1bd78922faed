//! The ConfigMaps, Secrets and tokens that a Pod names: fetched when something needs them, and waited for
//! by watching when they do not exist yet.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use kube::api::PostParams;
use kube::runtime::wait::await_condition;
use kube::{Api, Client};

/// Which kind of object is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    ConfigMap,
    Secret,
    /// A token of the service account of this name; its content has the one key `token`.
    ServiceAccountToken,
}

/// One object of the Pod's namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Reference {
    pub(super) kind: Kind,
    pub(super) name: String,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::ConfigMap => "configmap",
            Kind::Secret => "secret",
            Kind::ServiceAccountToken => "service account",
        };
        write!(f, "{kind} {:?}", self.name)
    }
}

/// The content of a ConfigMap or Secret. Not printable, for it may be secret.
#[derive(Clone, Default)]
pub(super) struct Content {
    pub(super) data: BTreeMap<String, Vec<u8>>,
    /// The resource version.
    version: Option<String>,
}

/// Something that a Pod needs and that is not there.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unresolved {
    /// The object or the key may still come: worth waiting for a change of the object.
    #[error("{message}")]
    Missing {
        reference: Reference,
        /// The resource version that was looked at; `None`: the object does not exist.
        seen: Option<String>,
        message: String,
    },
    /// The specification asks for what can never be.
    #[error("{0}")]
    Invalid(String),
    /// The API did not answer.
    #[error("{0}")]
    Api(#[source] Box<kube::Error>),
}

/// What was fetched of a Pod's references.
#[derive(Clone, Default)]
pub(super) struct Fetched(BTreeMap<Reference, Option<Content>>);

impl Fetched {
    /// Fetches objects; those that do not exist are remembered as such.
    pub(super) async fn fetch(
        client: &Client,
        namespace: &str,
        references: impl IntoIterator<Item = Reference>,
    ) -> Result<Self, Unresolved> {
        let mut fetched = BTreeMap::new();
        for reference in references {
            if fetched.contains_key(&reference) {
                continue;
            }
            let content = get(client, namespace, &reference)
                .await
                .map_err(|error| Unresolved::Api(Box::new(error)))?;
            fetched.insert(reference, content);
        }
        Ok(Self(fetched))
    }

    /// The content of an object; `None` when it does not exist and that is all right.
    pub(super) fn content(
        &self,
        kind: Kind,
        name: &str,
        optional: Option<bool>,
    ) -> Result<Option<&Content>, Unresolved> {
        let reference = Reference {
            kind,
            name: name.to_owned(),
        };
        match self.0.get(&reference) {
            Some(Some(content)) => Ok(Some(content)),
            _ if optional == Some(true) => Ok(None),
            _ => Err(Unresolved::Missing {
                message: format!("{reference} not found"),
                reference,
                seen: None,
            }),
        }
    }

    /// What to say of a key that an object does not have.
    pub(super) fn without_key(&self, kind: Kind, name: &str, message: String) -> Unresolved {
        let reference = Reference {
            kind,
            name: name.to_owned(),
        };
        let content = self.0.get(&reference).and_then(Option::as_ref);
        Unresolved::Missing {
            seen: content.and_then(|content| content.version.clone()),
            reference,
            message,
        }
    }

    /// For tests: what a fetch would have found.
    #[cfg(test)]
    pub(super) fn of(kind: Kind, name: &str, data: &[(&str, &str)]) -> Self {
        let content = data
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()))
            .collect();
        let reference = Reference {
            kind,
            name: name.to_owned(),
        };
        let content = Content {
            data: content,
            version: None,
        };
        Self(BTreeMap::from([(reference, Some(content))]))
    }
}

async fn get(
    client: &Client,
    namespace: &str,
    reference: &Reference,
) -> kube::Result<Option<Content>> {
    let name = &reference.name;
    Ok(match reference.kind {
        Kind::ConfigMap => Api::<ConfigMap>::namespaced(client.clone(), namespace)
            .get_opt(name)
            .await?
            .map(|map| {
                let text = map.data.unwrap_or_default().into_iter();
                let binary = map.binary_data.unwrap_or_default().into_iter();
                Content {
                    data: text
                        .map(|(key, value)| (key, value.into_bytes()))
                        .chain(binary.map(|(key, value)| (key, value.0)))
                        .collect(),
                    version: map.metadata.resource_version,
                }
            }),
        Kind::Secret => Api::<Secret>::namespaced(client.clone(), namespace)
            .get_opt(name)
            .await?
            .map(|secret| {
                let data = secret.data.unwrap_or_default().into_iter();
                Content {
                    data: data.map(|(key, value)| (key, value.0)).collect(),
                    version: secret.metadata.resource_version,
                }
            }),
        Kind::ServiceAccountToken => {
            let accounts = Api::<ServiceAccount>::namespaced(client.clone(), namespace);
            let request = TokenRequest::default();
            match accounts
                .create_token_request(name, &PostParams::default(), &request)
                .await
            {
                Ok(answer) => answer.status.map(|status| {
                    let token = status.token.unwrap_or_default();
                    Content {
                        data: BTreeMap::from([("token".to_owned(), token.into_bytes())]),
                        version: None,
                    }
                }),
                Err(kube::Error::Api(status)) if status.is_not_found() => None,
                Err(error) => return Err(error),
            }
        }
    })
}

/// Waits until the object is another than the one that was seen: it appears, or changes.
pub(super) async fn changed(
    client: &Client,
    namespace: &str,
    reference: &Reference,
    seen: Option<String>,
) {
    async fn wait<K>(api: Api<K>, name: &str, seen: Option<String>)
    where
        K: Clone + fmt::Debug + Send + kube::Resource + serde::de::DeserializeOwned + 'static,
        K::DynamicType: Default,
    {
        let differs = move |object: Option<&K>| {
            object.is_some_and(|object| seen.is_none() || object.meta().resource_version != seen)
        };
        if let Err(error) = await_condition(api, name, differs).await {
            tracing::debug!(%error, name, "watching a reference of a Pod");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    let (client, name) = (client.clone(), &reference.name);
    match reference.kind {
        Kind::ConfigMap => {
            wait(Api::<ConfigMap>::namespaced(client, namespace), name, seen).await;
        }
        Kind::Secret => wait(Api::<Secret>::namespaced(client, namespace), name, seen).await,
        Kind::ServiceAccountToken => {
            wait(
                Api::<ServiceAccount>::namespaced(client, namespace),
                name,
                seen,
            )
            .await;
        }
    }
}
