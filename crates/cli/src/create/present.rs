//! What manifests name and the cluster has already. It is looked at before anything is written.

use kube::{
    Api, Client, ResourceExt as _,
    api::{DynamicObject, Patch, PatchParams, PostParams},
};
use kubeopencode_api::names;

use super::{api, made, refused};
use crate::{
    failure::{Failure, Problem},
    manifest::Manifest,
};

/// What becomes of an object that is there already with other content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Present {
    /// The manifest is applied to it, as far as nobody else says otherwise.
    Changed,
    /// It stays, and that is an error: what is made is for the Tasks of this command alone, and others may use what is
    /// there.
    Kept,
}

/// The versions of what is there, in the order of the manifests. It is tried whether each can be applied, and nothing is
/// written.
pub(super) async fn look(
    client: &Client,
    manifests: &[Manifest],
    present_is: Present,
) -> Result<Vec<Option<String>>, Failure> {
    let mut versions = Vec::new();
    let mut problems = Vec::new();
    for manifest in manifests {
        // A Task that is there was found before.
        if manifest.is_task() {
            versions.push(None);
            continue;
        }
        let api = api(client, manifest);
        let found = match api.get_opt(manifest.name()).await {
            Ok(found) => found,
            // Whoever may not look may still write.
            Err(kube::Error::Api(status)) if status.code == 403 => {
                problems.extend(unseen(&api, manifest, present_is).await?);
                None
            }
            Err(error) => return Err(refused(manifest, error)),
        };
        if found.is_some() && manifest.source.is_command_line() {
            return Err(made::taken(manifest));
        }
        if let Some(found) = &found {
            let applied = try_out(&api, manifest).await?;
            if present_is == Present::Kept && content(found) != content(&applied) {
                problems.push(stays(manifest, "with other content than here"));
            }
        }
        versions.push(found.and_then(|found| found.resource_version()));
    }
    if problems.is_empty() {
        Ok(versions)
    } else {
        Err(Failure::input(problems))
    }
}

/// What would become of it.
async fn try_out(api: &Api<DynamicObject>, manifest: &Manifest) -> Result<DynamicObject, Failure> {
    let parameters = PatchParams {
        dry_run: true,
        ..PatchParams::apply(names::MANAGER)
    };
    api.patch(
        manifest.name(),
        &parameters,
        &Patch::Apply(&manifest.object),
    )
    .await
    .map_err(|error| refused(manifest, error))
}

/// The problem with one that may not be looked at, and is there. What was made for words is refused when it is created.
async fn unseen(
    api: &Api<DynamicObject>,
    manifest: &Manifest,
    present_is: Present,
) -> Result<Option<Problem>, Failure> {
    if present_is == Present::Changed || manifest.source.is_command_line() {
        return Ok(None);
    }
    let object: DynamicObject = serde_json::from_value(manifest.object.clone())
        .map_err(|error| Problem::new(error.to_string()).failed())?;
    let parameters = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    match api.create(&parameters, &object).await {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(Some(stays(
            manifest,
            "and whether its content is the same cannot be seen",
        ))),
        // What else is wrong with it is told when it is written.
        _ => Ok(None),
    }
}

/// An object without what its cluster keeps of it for itself.
fn content(object: &DynamicObject) -> DynamicObject {
    let mut object = object.clone();
    object.metadata.managed_fields = None;
    object.metadata.resource_version = None;
    object.metadata.generation = None;
    object
}

/// It is there, and stays as it is.
fn stays(manifest: &Manifest, why: &str) -> Problem {
    let namespace = manifest.namespace().filter(|_| manifest.kind.namespaced);
    let place = namespace.map_or_else(
        || "the cluster".to_owned(),
        |name| format!("namespace {name}"),
    );
    let message = format!(
        "{} is in {place} already, {why}; others may use it, so it is not changed",
        manifest.title()
    );
    manifest.problem("metadata.name", message).hint(
        "give this one another name, or leave it out and use the one that is there; `kubectl apply --server-side --force-conflicts -f FILE` replaces it",
    )
}

#[cfg(test)]
mod tests {
    use http::Method;
    use k8s_openapi::api::core::v1::Secret;
    use serde_json::json;

    use super::*;
    use crate::{
        create::{self, Namespaces, refusing::cluster},
        manifest::{Source, check},
    };

    /// A Secret as it stands in a file.
    fn secret(value: &str) -> Manifest {
        let object = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "model"}, "stringData": {"KEY": value},
        });
        let source = Source {
            name: "it.yaml".to_owned(),
            folder: None,
        };
        let made = check::check_made(&object, "default").expect("it is valid");
        Manifest { source, ..made }
    }

    #[tokio::test]
    async fn a_secret_that_may_not_be_looked_at_is_not_replaced_either() {
        let (cluster, client) = cluster(Some((Method::GET, "/secrets/model"))).await;
        let run = async |value: &str| {
            let manifests = [secret(value)];
            create::create(&client, &manifests, Namespaces::Expected, Present::Kept).await
        };
        run("first").await.expect("it is created");
        let secrets: Api<Secret> = Api::namespaced(cluster.client(), "default");
        let before = secrets.get("model").await.expect("the Secret");
        let refused = run("second").await.expect_err("it is refused");
        let said = &refused.problems[0].message;
        let says = "Secret model is in namespace default already, and whether";
        assert!(said.starts_with(says), "{said}");
        assert_eq!(secrets.get("model").await.expect("the Secret"), before);
        cluster.shutdown().await;
    }
}
