//! From manifests to objects in a cluster: first everything that can be found wrong, then the writes.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client,
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

/// Creates everything: namespaces first, Tasks last. What is not a Task is applied, so that it may be there already;
/// a Task is created, and one of the same name is an error that is found before anything is written.
pub(crate) async fn create(client: &Client, manifests: &[Manifest]) -> Result<(), Failure> {
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
    namespaces(client, manifests).await?;
    let mut ordered: Vec<&Manifest> = manifests.iter().collect();
    ordered.sort_by_key(|manifest| rank(manifest));
    for manifest in ordered {
        let api = api(client, manifest);
        let written = if manifest.is_task() {
            let object: DynamicObject =
                serde_json::from_value(manifest.object.clone()).map_err(|error| {
                    manifest
                        .problem("", format!("this is no object: {error}"))
                        .input()
                })?;
            api.create(&PostParams::default(), &object)
                .await
                .map(|_| ())
        } else {
            let parameters = PatchParams::apply(names::MANAGER).force();
            api.patch(
                manifest.name(),
                &parameters,
                &Patch::Apply(&manifest.object),
            )
            .await
            .map(|_| ())
        };
        written.map_err(|error| refused(manifest, error))?;
    }
    Ok(())
}

fn refused(manifest: &Manifest, error: kube::Error) -> Failure {
    match error {
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

/// Namespaces that manifests name and that are not there.
async fn namespaces(client: &Client, manifests: &[Manifest]) -> Result<(), Failure> {
    let named: BTreeSet<&str> = manifests.iter().filter_map(Manifest::namespace).collect();
    let api: Api<Namespace> = Api::all(client.clone());
    for name in named {
        match api.get_metadata_opt(name).await {
            Ok(Some(_)) => continue,
            // Whoever may not look may still use it.
            Err(kube::Error::Api(status)) if status.code == 403 => continue,
            Err(error) => return Err(error.into()),
            Ok(None) => {}
        }
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
