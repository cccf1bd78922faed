//! What the command line makes of words: a Task and, where it needs them, a Secret and an Agent of its own.
//!
//! All of it is created and never applied: a name that is taken belongs to somebody, whose object this must not change,
//! and even less take along when the Task is deleted. The Task comes first, so that the others are its own from their
//! first moment: whatever refuses one of them, or ends this process in between, leaves no key behind that goes with
//! nothing. The Task waits for its Agent, so that comes last: a Task that starts has its Secret.
//!
//! On a cluster that is for this command alone, and ends with it, there is nobody else: the Task comes last, and waits for
//! nothing.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{
    Client, ResourceExt as _,
    api::{DeleteParams, DynamicObject, Preconditions},
};
use serde_json::json;

use super::{api, post, rank};
use crate::{
    failure::{Failure, Problem},
    manifest::Manifest,
};

/// Creates what was said in words, on a cluster that is for this command alone.
pub(super) async fn create_alone(client: &Client, manifests: &[Manifest]) -> Result<(), Failure> {
    let said = manifests
        .iter()
        .filter(|manifest| manifest.source.is_command_line());
    let mut ordered: Vec<&Manifest> = said.collect();
    ordered.sort_by_key(|manifest| rank(manifest));
    for manifest in ordered {
        post(client, manifest, manifest.object.clone()).await?;
    }
    Ok(())
}

/// Creates what was said in words, on a cluster that others use. Where something refuses a part of it, none of it stays.
pub(super) async fn create_among_others(
    client: &Client,
    manifests: &[Manifest],
) -> Result<(), Failure> {
    let (tasks, mut rest): (Vec<&Manifest>, Vec<&Manifest>) = manifests
        .iter()
        .filter(|manifest| manifest.source.is_command_line())
        .partition(|manifest| manifest.is_task());
    let Some(task) = tasks.first() else {
        return Ok(());
    };
    let created = post(client, task, task.object.clone()).await?;
    let owner = owner(task, &created);
    rest.sort_by_key(|manifest| rank(manifest));
    for manifest in rest {
        let mut object = manifest.object.clone();
        object["metadata"]["ownerReferences"] = json!([owner]);
        if let Err(mut failure) = post(client, manifest, object).await {
            failure
                .problems
                .extend(take_back(client, task, &created).await);
            return Err(failure);
        }
    }
    Ok(())
}

/// The name of a Secret or Agent that would be made is taken.
pub(super) fn taken(manifest: &Manifest) -> Failure {
    manifest
        .problem(
            "metadata.name",
            format!(
                "{} is in the cluster already, and is not this Task's",
                manifest.title()
            ),
        )
        .hint("give this Task, and what is made for it, another --name")
        .input()
}

/// Deletes the Task, and with it all that it owns. Answers what a person has to do where that does not work.
async fn take_back(client: &Client, task: &Manifest, created: &DynamicObject) -> Option<Problem> {
    let only_this = DeleteParams {
        preconditions: Some(Preconditions {
            uid: created.uid(),
            resource_version: None,
        }),
        ..DeleteParams::background()
    };
    match api(client, task).delete(task.name(), &only_this).await {
        Ok(_) => None,
        // It is gone, or it is another one by now.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => None,
        Err(error) => {
            let namespace = task.namespace().unwrap_or_default();
            let name = task.name();
            Some(
                Problem::new(format!("{} cannot be deleted again: {error}", task.title())).hint(
                    format!("`kubeopencode task delete {name} -n {namespace}` deletes it"),
                ),
            )
        }
    }
}

fn owner(manifest: &Manifest, created: &DynamicObject) -> OwnerReference {
    OwnerReference {
        api_version: format!("{}/{}", manifest.kind.group, manifest.kind.version),
        kind: manifest.kind.kind.clone(),
        name: created.name_any(),
        uid: created.uid().unwrap_or_default(),
        ..OwnerReference::default()
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use k8s_openapi::{NamespaceResourceScope, api::core::v1::Secret};
    use kube::{Api, Resource, api::PostParams, runtime::wait::await_condition};
    use kubeopencode_api::v1alpha1::{Agent, Task};
    use kubeopencode_embedded::cluster::Cluster;
    use serde::{Serialize, de::DeserializeOwned};

    use super::*;
    use crate::{
        create::{Namespaces, Present, refusing::cluster},
        manifest::check,
    };

    const NAME: &str = "fix-it";

    /// As `run` makes them of words and `--env`.
    fn said() -> Vec<Manifest> {
        let credential =
            json!({"name": "KEY", "secretRef": {"name": NAME, "key": "KEY"}, "env": "KEY"});
        let objects = [
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": NAME}, "stringData": {"KEY": "hush"}}),
            json!({
                "apiVersion": "kubeopencode.io/v1alpha1", "kind": "Agent", "metadata": {"name": NAME},
                "spec": {"serviceAccountName": "default", "credentials": [credential]},
            }),
            json!({
                "apiVersion": "kubeopencode.io/v1alpha1", "kind": "Task", "metadata": {"name": NAME},
                "spec": {"description": "Fix it", "agentRef": NAME},
            }),
        ];
        let made = objects
            .iter()
            .map(|object| check::check_made(object, "default"));
        made.collect::<Result<_, _>>().expect("they are valid")
    }

    fn of<K>(cluster: &Cluster) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(cluster.client(), "default")
    }

    async fn there<K>(cluster: &Cluster) -> Option<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + Serialize
            + DeserializeOwned,
    {
        of::<K>(cluster).get_opt(NAME).await.expect("an answer")
    }

    /// Of which it is known that it goes with its owner.
    async fn goes<K>(cluster: &Cluster)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + Send
            + DeserializeOwned
            + 'static,
    {
        await_condition(of::<K>(cluster), NAME, |found: Option<&K>| found.is_none())
            .await
            .expect("it goes");
    }

    async fn refusal(client: &Client) -> String {
        let written =
            super::super::create(client, &said(), Namespaces::Expected, Present::Kept).await;
        let failure = written.expect_err("it is refused");
        let problems = failure.problems.iter();
        let said =
            problems.map(|problem| format!("{} ({:?})", problem.message, problem.hint.as_deref()));
        said.collect::<Vec<_>>().join("\n")
    }

    /// What a team has had for long.
    async fn a_secret_of_that_name(cluster: &Cluster) -> Secret {
        let secret = json!({"metadata": {"name": NAME}, "stringData": {"theirs": "precious"}});
        let secret = serde_json::from_value(secret).expect("a Secret");
        let api = of::<Secret>(cluster);
        api.create(&PostParams::default(), &secret)
            .await
            .expect("it is created")
    }

    #[tokio::test]
    async fn what_is_made_for_a_task_is_its_own_from_the_first_moment() {
        let (cluster, client) = cluster(None).await;
        super::super::create(&client, &said(), Namespaces::Expected, Present::Kept)
            .await
            .expect("all is created");
        let task = there::<Task>(&cluster).await.expect("the Task");
        let secret = there::<Secret>(&cluster).await.expect("the Secret");
        let agent = there::<Agent>(&cluster).await.expect("the Agent");
        for metadata in [&secret.metadata, &agent.metadata] {
            let owners = metadata.owner_references.as_deref().unwrap_or_default();
            assert_eq!(owners.len(), 1);
            assert_eq!(Some(&owners[0].uid), task.metadata.uid.as_ref());
            // Nobody has written to it since.
            assert_eq!(metadata.generation.unwrap_or(1), 1);
            let managers = metadata.managed_fields.iter().flatten().count();
            assert!(managers <= 1, "{:?}", metadata.managed_fields);
        }
        cluster.shutdown().await;
    }

    #[tokio::test]
    async fn where_a_part_is_refused_nothing_stays() {
        for refused in ["/tasks", "/secrets", "/agents"] {
            let (cluster, client) = cluster(Some((Method::POST, refused))).await;
            let said = refusal(&client).await;
            assert!(said.contains("a quota is used up"), "{said}");
            assert_eq!(there::<Task>(&cluster).await, None);
            assert_eq!(there::<Agent>(&cluster).await, None);
            goes::<Secret>(&cluster).await;
            cluster.shutdown().await;
        }
    }

    #[tokio::test]
    async fn a_secret_of_that_name_is_not_touched() {
        // Where it can be seen before anything is written, and where it cannot.
        for refused in [None, Some((Method::GET, "/secrets/fix-it"))] {
            let (cluster, client) = cluster(refused).await;
            let before = a_secret_of_that_name(&cluster).await;
            let said = refusal(&client).await;
            assert!(said.contains("Secret fix-it is in the cluster"), "{said}");
            assert!(said.contains("another --name"), "{said}");
            assert_eq!(there::<Secret>(&cluster).await, Some(before));
            assert_eq!(there::<Task>(&cluster).await, None);
            assert_eq!(there::<Agent>(&cluster).await, None);
            cluster.shutdown().await;
        }
    }
}
