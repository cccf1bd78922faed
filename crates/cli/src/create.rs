//! From manifests to objects in a cluster: first everything that can be found wrong, then the writes.
//!
//! What stands in files is applied, but for Tasks; [`present`] is for what is there already, [`made`] for what the command
//! line itself makes.

mod made;
mod present;
#[cfg(test)]
mod refusing;

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, ResourceExt as _,
    api::{DynamicObject, Patch, PatchParams, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use kubeopencode_api::names;
use kubeopencode_engine::{
    lower::{Lowered, Settings},
    render,
    run::Run,
};
use serde_json::json;

use crate::{
    failure::{Failure, Problem},
    lowering::{self, Sources},
    manifest::Manifest,
};

pub(crate) use present::Present;

/// What a reference to something that is nowhere means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// The Task waits for it, as Tasks do.
    Waits,
    /// Nobody is going to create it: an error.
    Fails,
}

/// How Tasks are lowered, on the cluster of this machine or on another one.
pub(crate) fn settings(on_this_machine: bool) -> Settings {
    Settings {
        host_repositories: on_this_machine,
        ..Settings::default()
    }
}

/// Finds everything that can never work; the Runs of the Tasks that can, in order.
pub(crate) async fn check(
    manifests: &[Manifest],
    sources: &Sources<'_>,
    settings: &Settings,
    missing_means: Missing,
) -> Result<Vec<Run>, Failure> {
    let in_cluster = sources.client.is_some();
    let mut problems = Vec::new();
    let mut runs = Vec::new();
    for manifest in manifests.iter().filter(|manifest| manifest.is_task()) {
        let task = lowering::task_of(manifest)?;
        match lowering::lower(&task, sources, settings).await? {
            Lowered::Invalid(error) => {
                problems.push(never_works(manifest, &error.to_string()));
            }
            Lowered::Ready(run) => {
                if let Err(error) = render::render(&run, 1) {
                    problems.push(never_works(manifest, &error.to_string()));
                }
                if missing_means == Missing::Fails {
                    for secret in sources.missing_secrets(&run).await? {
                        problems.push(missing(
                            manifest,
                            &format!("Secret {}/{secret}", run.owner.namespace),
                            in_cluster,
                        ));
                    }
                }
                runs.push(*run);
            }
            Lowered::Missing { missing: what, .. } if missing_means == Missing::Fails => {
                problems.extend(
                    what.iter()
                        .map(|what| missing(manifest, &what.to_string(), in_cluster)),
                );
            }
            Lowered::Missing { .. } | Lowered::Needs(_) => {}
        }
    }
    if problems.is_empty() {
        Ok(runs)
    } else {
        Err(Failure::input(problems))
    }
}

/// A Task that can never run as it is written. The place is that of the context item that is named last.
pub(crate) fn never_works(manifest: &Manifest, error: &str) -> Problem {
    let title = manifest.title();
    let item = error
        .rsplit_once(&format!("{title}: contexts["))
        .and_then(|(_, rest)| rest.split_once(']'))
        .map(|(number, _)| format!("spec.contexts[{number}]"));
    let field = item.as_deref().unwrap_or("spec");
    if error.contains(&title) {
        manifest.problem(field, error)
    } else {
        manifest.problem(field, format!("{title}: {error}"))
    }
}

fn missing(manifest: &Manifest, what: &str, in_cluster: bool) -> Problem {
    let field = match what.split_once(' ') {
        Some(("Agent", _)) => "spec.agentRef",
        _ => "spec.contexts",
    };
    manifest
        .problem(
            field,
            format!(
                "{} needs {what}, which is {}",
                manifest.title(),
                if in_cluster {
                    "neither in the files nor in the cluster"
                } else {
                    "in none of the files"
                }
            ),
        )
        .hint("put it into one of the files, or give its file with another -f")
}

/// What a namespace that is not there means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Namespaces {
    /// It is created: the cluster is for this command alone.
    Made,
    /// It is an error: others use the cluster, and a name that is mistyped would stay in it.
    Expected,
}

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    Created,
    Configured,
    Unchanged,
}

impl Written {
    /// In the word that kubectl has for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
        }
    }
}

/// Creates everything: namespaces first, Tasks last; answers what became of each, in the order of the manifests.
///
/// What is not a Task is applied, so that it may be there already, unless somebody else owns it with other content, or
/// what is there is not to be changed. A Task is created, and so is what was made for one that was said in words.
/// Whatever is in the way is an error that is found before anything is written.
pub(crate) async fn create(
    client: &Client,
    manifests: &[Manifest],
    namespaces_are: Namespaces,
    present_is: Present,
) -> Result<Vec<Written>, Failure> {
    for manifest in manifests.iter().filter(|manifest| manifest.is_task()) {
        if api(client, manifest)
            .get_metadata_opt(manifest.name())
            .await?
            .is_some()
        {
            let namespace = manifest.namespace().unwrap_or_default();
            return Err(manifest
                .problem("metadata.name", format!("there is a {} in namespace {namespace} already, and a Task runs only once", manifest.title()))
                .hint(format!("delete it with `kubeopencode task delete {} -n {namespace}`, or give this one another name", manifest.name()))
                .input());
        }
    }
    let missing = missing_namespaces(client, manifests, namespaces_are).await?;
    let before = present::look(client, manifests, present_is).await?;
    make(client, missing).await?;
    let mut outcomes = vec![Written::Created; manifests.len()];
    let mut ordered: Vec<usize> = (0..manifests.len())
        .filter(|index| !manifests[*index].source.is_command_line())
        .collect();
    ordered.sort_by_key(|index| rank(&manifests[*index]));
    for index in ordered {
        let manifest = &manifests[index];
        let api = api(client, manifest);
        if manifest.is_task() {
            post(client, manifest, manifest.object.clone()).await?;
            continue;
        }
        if present_is == Present::Kept && before[index].is_some() {
            outcomes[index] = Written::Unchanged;
            continue;
        }
        let written = api
            .patch(
                manifest.name(),
                &PatchParams::apply(names::MANAGER),
                &Patch::Apply(&manifest.object),
            )
            .await
            .map_err(|error| refused(manifest, error))?;
        if let Some(version) = &before[index] {
            outcomes[index] = if written.resource_version().as_ref() == Some(version) {
                Written::Unchanged
            } else {
                Written::Configured
            };
        }
    }
    match namespaces_are {
        Namespaces::Made => made::create_alone(client, manifests).await?,
        Namespaces::Expected => made::create_among_others(client, manifests).await?,
    }
    Ok(outcomes)
}

/// Creates one; answers what it is now.
async fn post(
    client: &Client,
    manifest: &Manifest,
    object: serde_json::Value,
) -> Result<DynamicObject, Failure> {
    let object: DynamicObject = serde_json::from_value(object).map_err(|error| {
        manifest
            .problem("", format!("this is no object: {error}"))
            .input()
    })?;
    api(client, manifest)
        .create(&PostParams::default(), &object)
        .await
        .map_err(|error| refused(manifest, error))
}

fn refused(manifest: &Manifest, error: kube::Error) -> Failure {
    match error {
        kube::Error::Api(status)
            if status.code == 409
                && status.reason == "AlreadyExists"
                && manifest.source.is_command_line() =>
        {
            made::taken(manifest)
        }
        kube::Error::Api(status) if status.code == 409 && !manifest.is_task() => manifest
            .problem(
                "metadata.name",
                format!(
                    "{} is in the cluster already, and somebody else made it as it is: {}",
                    manifest.title(),
                    status.message
                ),
            )
            .hint("give this one another name, or use the one that is there; `kubectl apply --server-side --force-conflicts -f FILE` replaces it")
            .input(),
        kube::Error::Api(status) if matches!(status.code, 400 | 409 | 422) => manifest
            .problem("", format!("the cluster refuses it: {}", status.message))
            .input(),
        kube::Error::Api(status) if status.code == 404 && manifest.kind.custom => Problem::new(
            format!("the cluster does not know the kind {}", manifest.kind.kind),
        )
        .hint("install the definitions with `kubeopencode crds | kubectl apply --server-side -f -`")
        .failed(),
        other => other.into(),
    }
}

/// Namespaces that manifests name, that are not there, and that no manifest is.
async fn missing_namespaces(
    client: &Client,
    manifests: &[Manifest],
    namespaces_are: Namespaces,
) -> Result<Vec<String>, Failure> {
    let named: BTreeSet<&str> = manifests.iter().filter_map(Manifest::namespace).collect();
    let api: Api<Namespace> = Api::all(client.clone());
    let mut missing = Vec::new();
    for name in named {
        if manifests
            .iter()
            .any(|manifest| manifest.kind.kind == "Namespace" && manifest.name() == name)
        {
            continue;
        }
        match api.get_metadata_opt(name).await {
            Ok(Some(_)) => {}
            // Whoever may not look may still use it.
            Err(kube::Error::Api(status)) if status.code == 403 => {}
            Err(error) => return Err(error.into()),
            Ok(None) if namespaces_are == Namespaces::Made => missing.push(name.to_owned()),
            Ok(None) => {
                return Err(Problem::new(format!("there is no namespace {name:?} in this cluster"))
                    .hint(format!("`kubectl create namespace {name}` makes one, and so does a Namespace in the files"))
                    .input());
            }
        }
    }
    Ok(missing)
}

async fn make(client: &Client, namespaces: Vec<String>) -> Result<(), Failure> {
    let api: Api<Namespace> = Api::all(client.clone());
    for name in namespaces {
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name}}))
            .map_err(|error| Problem::new(error.to_string()).failed())?;
        match api.create(&PostParams::default(), &namespace).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            other => drop(other?),
        }
    }
    Ok(())
}

/// What others refer to comes first.
fn rank(manifest: &Manifest) -> u8 {
    match manifest.kind.kind.as_str() {
        "CustomResourceDefinition" => 0,
        "Namespace" => 1,
        "Task" => 4,
        "Agent" => 3,
        _ => 2,
    }
}

fn api(client: &Client, manifest: &Manifest) -> Api<DynamicObject> {
    let kind = &manifest.kind;
    let mut resource = ApiResource::from_gvk(&GroupVersionKind::gvk(
        &kind.group,
        &kind.version,
        &kind.kind,
    ));
    resource.plural.clone_from(&kind.plural);
    match manifest.namespace() {
        Some(namespace) if kind.namespaced => {
            Api::namespaced_with(client.clone(), namespace, &resource)
        }
        _ => Api::all_with(client.clone(), &resource),
    }
}
