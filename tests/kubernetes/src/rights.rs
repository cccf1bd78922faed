//! Who an operator of these tests is: an account with the roles that `kubeopencode rbac` prints, which are the chart's, and no
//! others. A right that is missing shows where it is needed.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{
    Api, Client, Config,
    api::{ApiResource, DynamicObject, GroupVersionKind, PostParams},
    config::AuthInfo,
};
use kubeopencode_api::names;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Longer than any of these tests.
const VALID_SECONDS: i64 = 24 * 60 * 60;
/// Name of the account.
const ACCOUNT: &str = "operator";
const GROUP: &str = "rbac.authorization.k8s.io";

/// The configuration of an operator whose Lease has the name of this namespace, and which serves it alone or all.
pub(crate) async fn of_operator(
    administrator: &Config,
    program: &Path,
    namespace: &str,
    only_here: bool,
) -> Result<Config> {
    let client = Client::try_from(administrator.clone())?;
    let account = json!({"metadata": {"name": ACCOUNT}});
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    create(&accounts, account).await?;
    for (number, role) in roles(program, namespace, only_here)
        .await?
        .iter()
        .enumerate()
    {
        bind(&client, role, &format!("{namespace}-{number}"), namespace).await?;
    }
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            expiration_seconds: Some(VALID_SECONDS),
            ..TokenRequestSpec::default()
        }),
        ..TokenRequest::default()
    };
    let made = accounts
        .create_token_request(ACCOUNT, &PostParams::default(), &request)
        .await?;
    let token = made.status.and_then(|status| status.token);
    let token = token.context("no token was given")?;
    let mut config = administrator.clone();
    config.auth_info = AuthInfo {
        token: Some(token.into()),
        ..AuthInfo::default()
    };
    Ok(config)
}

async fn roles(program: &Path, namespace: &str, only_here: bool) -> Result<Vec<Value>> {
    let mut rbac = tokio::process::Command::new(program);
    rbac.args(["rbac", "--system-namespace", names::SYSTEM_NAMESPACE]);
    rbac.args(["--lease-name", namespace]);
    if only_here {
        rbac.args(["--namespace", namespace]);
    }
    let printed = rbac.output().await;
    let printed = printed.with_context(|| format!("cannot start {}", program.display()))?;
    ensure!(printed.status.success(), "`kubeopencode rbac` failed");
    Ok(serde_saphyr::from_multiple(&String::from_utf8(
        printed.stdout,
    )?)?)
}

/// Makes a role under a name of its own, since each operator has another Lease, and gives it to the account.
async fn bind(client: &Client, role: &Value, name: &str, account_in: &str) -> Result<()> {
    let kind = role["kind"].as_str().unwrap_or_default();
    let namespace = role["metadata"]["namespace"].as_str();
    let place = |kind: &str| -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, "v1", kind));
        match namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        }
    };
    let binding = match (kind, namespace) {
        ("ClusterRole", None) => "ClusterRoleBinding",
        ("Role", Some(_)) => "RoleBinding",
        _ => bail!("`kubeopencode rbac` prints what is no role: {role}"),
    };
    let mut named = role.clone();
    named["metadata"]["name"] = name.into();
    create(&place(kind), named).await?;
    let bound = json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": binding,
        "metadata": {"name": name},
        "roleRef": {"apiGroup": GROUP, "kind": kind, "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": account_in}],
    });
    create(&place(binding), bound).await
}

async fn create<K>(api: &Api<K>, object: Value) -> Result<()>
where
    K: Clone + std::fmt::Debug + DeserializeOwned + serde::Serialize,
{
    let what = object["metadata"]["name"].to_string();
    let object = serde_json::from_value(object)?;
    let made = api.create(&PostParams::default(), &object).await;
    made.map(drop)
        .with_context(|| format!("cannot make {what}"))
}
