//! Lowering of Tasks outside of the operator: to find what can never work before anything is created, and to show it.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};
use kubeopencode_api::v1alpha1::{Agent, KubeOpenCodeConfig, Task};
use kubeopencode_engine::{
    lower::{
        Found, FrontEnd as _, Lowered, Reference, ReferenceKind, References, Setting, Settings,
        kubeopencode::TaskFrontEnd,
    },
    run::{Credential, Run},
};
use serde::de::DeserializeOwned;

use crate::{
    failure::{Failure, Problem},
    manifest::Manifest,
    table,
};

/// The UID of a Task that no cluster has accepted yet.
const NO_UID: &str = "00000000-0000-0000-0000-000000000000";

/// Where references are looked up: in the manifests, then in a cluster, if there is one.
pub(crate) struct Sources<'a> {
    /// What was given.
    pub(crate) manifests: &'a [Manifest],
    /// The cluster.
    pub(crate) client: Option<&'a Client>,
}

/// The Task of a manifest, as if a cluster had accepted it.
pub(crate) fn task_of(manifest: &Manifest) -> Result<Task, Failure> {
    let mut task: Task = typed(manifest)?;
    task.metadata.uid.get_or_insert_with(|| NO_UID.to_owned());
    task.metadata.generation.get_or_insert(1);
    Ok(task)
}

/// Lowers a Task with everything that it refers to.
pub(crate) async fn lower(
    task: &Task,
    sources: &Sources<'_>,
    settings: &Settings,
) -> Result<Lowered, Failure> {
    Ok(lower_and_tell(task, sources, settings).await?.0)
}

/// The same, with what the Task is executed with and who said so.
pub(crate) async fn lower_and_tell(
    task: &Task,
    sources: &Sources<'_>,
    settings: &Settings,
) -> Result<(Lowered, Vec<Setting>), Failure> {
    let mut references = References::new();
    loop {
        let lowered = TaskFrontEnd::lower(task, &references, settings);
        let Lowered::Needs(needs) = lowered else {
            let told = TaskFrontEnd::settings(task, &references, settings);
            return Ok((lowered, told));
        };
        let before = references.keys().count();
        for reference in needs {
            let found = sources.find(&reference).await?;
            references.insert(reference, found);
        }
        if references.keys().count() == before {
            return Err(Problem::new("the Task asks for the same things again and again").failed());
        }
    }
}

impl Sources<'_> {
    async fn find(&self, reference: &Reference) -> Result<Option<Found>, Failure> {
        let (namespace, name) = (reference.namespace.as_str(), reference.name.as_str());
        Ok(match reference.kind {
            ReferenceKind::Agent => self
                .object::<Agent>("Agent", namespace, name)
                .await?
                .map(|it| Found::Agent(Box::new(it))),
            ReferenceKind::ConfigMap => self
                .object::<ConfigMap>("ConfigMap", namespace, name)
                .await?
                .map(|it| Found::ConfigMap(Box::new(it))),
            ReferenceKind::KubeOpenCodeConfig => self
                .object::<KubeOpenCodeConfig>("KubeOpenCodeConfig", namespace, name)
                .await?
                .map(|it| Found::KubeOpenCodeConfig(Box::new(it))),
        })
    }

    async fn object<K>(&self, kind: &str, namespace: &str, name: &str) -> Result<Option<K>, Failure>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>
            + DeserializeOwned
            + Clone
            + std::fmt::Debug,
        K::DynamicType: Default,
    {
        if let Some(manifest) = self.manifest(kind, namespace, name) {
            let mut object: K = typed(manifest)?;
            object.meta_mut().generation.get_or_insert(1);
            return Ok(Some(object));
        }
        match self.client {
            None => Ok(None),
            Some(client) => Ok(Api::<K>::namespaced(client.clone(), namespace)
                .get_opt(name)
                .await?),
        }
    }

    fn manifest(&self, kind: &str, namespace: &str, name: &str) -> Option<&Manifest> {
        self.manifests.iter().find(|manifest| {
            manifest.kind.kind == kind
                && manifest.namespace() == Some(namespace)
                && manifest.name() == name
        })
    }

    /// The Secrets that a Run names and that are nowhere. Kubernetes would wait for them without an end.
    pub(crate) async fn missing_secrets(&self, run: &Run) -> Result<Vec<String>, Failure> {
        let mut missing = Vec::new();
        for name in secrets(run) {
            let namespace = run.owner.namespace.as_str();
            if self.manifest("Secret", namespace, &name).is_some() {
                continue;
            }
            let found = match self.client {
                None => false,
                Some(client) => {
                    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
                    match secrets.get_metadata_opt(&name).await {
                        Ok(found) => found.is_some(),
                        // Whoever may not look at Secrets may still run Tasks that use them.
                        Err(kube::Error::Api(status)) if status.code == 403 => true,
                        Err(error) => return Err(error.into()),
                    }
                }
            };
            if !found {
                missing.push(name);
            }
        }
        Ok(missing)
    }
}

/// The Secrets that a Run names.
pub(crate) fn secrets(run: &Run) -> BTreeSet<String> {
    let credentials = run.credentials.iter().map(|credential| match credential {
        Credential::AllAsEnv { secret }
        | Credential::Directory { secret, .. }
        | Credential::Key { secret, .. } => secret.clone(),
    });
    credentials
        .chain(run.checkouts.iter().flat_map(|checkout| {
            let push = checkout.push.as_ref();
            let push = push.and_then(|push| push.secret.clone());
            checkout.secret.clone().into_iter().chain(push)
        }))
        .collect()
}

fn typed<K: DeserializeOwned>(manifest: &Manifest) -> Result<K, Failure> {
    serde_json::from_value(manifest.object.clone()).map_err(|error| {
        manifest
            .problem(
                "",
                format!("this is no valid {}: {error}", manifest.kind.kind),
            )
            .input()
    })
}

/// A line for each setting: name, value, source.
pub(crate) fn settings_table(told: &[Setting]) -> String {
    let rows: Vec<Vec<String>> = told
        .iter()
        .map(|setting| {
            vec![
                setting.name.to_owned(),
                setting.value.clone(),
                setting.source.to_string(),
            ]
        })
        .collect();
    table::render(&rows)
}
