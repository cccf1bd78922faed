//! What Pods of this machine may do with its API: look at the objects of this system, and nothing else.
//!
//! A Pod that has a token is its service account; roles bound to that account add to this.

use k8s_openapi::api::{
    core::v1::Namespace,
    rbac::v1::{ClusterRole, ClusterRoleBinding},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use kubeopencode_api::names;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::failure::{Failure, Problem};

/// Name of the role and of its binding.
const NAME: &str = "kubeopencode-pods";

/// What every installation has: the namespace of the system, and the rights of Pods.
pub(super) async fn install(client: &Client) -> Result<(), Failure> {
    apply::<Namespace>(
        client,
        names::SYSTEM_NAMESPACE,
        json!({"apiVersion": "v1", "kind": "Namespace"}),
    )
    .await?;
    let read = json!(["get", "list", "watch"]);
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "rules": [
            {"apiGroups": [names::GROUP], "resources": ["*"], "verbs": read},
            {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": read},
            {"apiGroups": [""], "resources": ["pods", "pods/log", "events"], "verbs": read},
        ],
    });
    apply::<ClusterRole>(client, NAME, role).await?;
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": NAME},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:serviceaccounts"}],
    });
    apply::<ClusterRoleBinding>(client, NAME, binding).await
}

async fn apply<K>(client: &Client, name: &str, mut object: Value) -> Result<(), Failure>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::ClusterResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    object["metadata"]["name"] = name.into();
    let parameters = PatchParams::apply(names::MANAGER).force();
    let api: Api<K> = Api::all(client.clone());
    match api.patch(name, &parameters, &Patch::Apply(object)).await {
        Ok(_) => Ok(()),
        Err(error) => Err(Problem::new(format!("{name} cannot be set up: {error}")).failed()),
    }
}
