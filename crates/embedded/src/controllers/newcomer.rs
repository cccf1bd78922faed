//! What every namespace gets: the ServiceAccount `default` and the ConfigMap `kube-root-ca.crt`, again if
//! somebody deletes or changes them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
    core::ObjectMeta,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    ControllerOptions, MANAGER,
    inventory::Change,
    queue::{After, Inbox},
};

const SERVICE_ACCOUNT: &str = "default";
const ROOT_CA: &str = "kube-root-ca.crt";
const ROOT_CA_KEY: &str = "ca.crt";
const DESCRIPTION_KEY: &str = "kubernetes.io/description";
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";

/// The controller. [`NewcomerController::observe`] feeds it, [`NewcomerController::run`] works.
pub(crate) struct NewcomerController {
    client: Client,
    options: ControllerOptions,
    /// Namespaces that are not being deleted.
    active: Mutex<BTreeSet<String>>,
    inbox: Inbox<String>,
}

impl NewcomerController {
    /// A controller that knows no namespace yet.
    pub(crate) fn new(client: Client, options: ControllerOptions) -> Self {
        Self {
            client,
            options,
            active: Mutex::default(),
            inbox: Inbox::new(),
        }
    }

    /// Takes a change of the inventory in.
    pub(crate) fn observe(&self, change: &Change) {
        let (resource, meta, gone) = match change {
            Change::Applied(resource, meta) => (resource, meta, false),
            Change::Deleted(resource, meta) => (resource, meta, true),
            _ => return,
        };
        let name = meta.name.clone().unwrap_or_default();
        let mut active = self.active();
        let namespace = match (resource.api.group.as_str(), resource.api.kind.as_str()) {
            ("", "Namespace") => {
                if gone || meta.deletion_timestamp.is_some() {
                    active.remove(&name);
                    return;
                }
                if !active.insert(name.clone()) {
                    return;
                }
                name
            }
            ("", "ServiceAccount") if gone && name == SERVICE_ACCOUNT => namespace(meta),
            ("", "ConfigMap") if name == ROOT_CA => namespace(meta),
            _ => return,
        };
        if active.contains(&namespace) {
            self.inbox.add(vec![namespace]);
        }
    }

    /// Works until `shutdown`; a second call does nothing.
    pub(crate) async fn run(&self, shutdown: &CancellationToken) {
        self.inbox
            .run(self.options.concurrency, shutdown, |name| self.work(name))
            .await;
    }

    fn active(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn work(&self, namespace: String) -> After {
        if !self.active().contains(&namespace) {
            return After::Idle;
        }
        let both = async {
            self.service_account(&namespace).await?;
            self.root_ca(&namespace).await
        };
        match both.await {
            Ok(()) => After::Idle,
            // The namespace is going or gone.
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_forbidden() => {
                After::Idle
            }
            Err(error) => {
                warn!(%error, namespace, "namespace not furnished");
                After::Failed
            }
        }
    }

    async fn service_account(&self, namespace: &str) -> Result<(), kube::Error> {
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        if api.get_metadata_opt(SERVICE_ACCOUNT).await?.is_some() {
            return Ok(());
        }
        let mut account = ServiceAccount::default();
        account.metadata.name = Some(SERVICE_ACCOUNT.to_owned());
        there_already(api.create(&params(), &account).await)
    }

    async fn root_ca(&self, namespace: &str) -> Result<(), kube::Error> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let data = BTreeMap::from([(ROOT_CA_KEY.to_owned(), self.options.root_ca.clone())]);
        let description = BTreeMap::from([(DESCRIPTION_KEY.to_owned(), DESCRIPTION.to_owned())]);
        let Some(found) = api.get_opt(ROOT_CA).await? else {
            let mut new = ConfigMap {
                data: Some(data),
                ..ConfigMap::default()
            };
            new.metadata.name = Some(ROOT_CA.to_owned());
            new.metadata.annotations = Some(description);
            return there_already(api.create(&params(), &new).await);
        };
        if found.data.as_ref() == Some(&data) && found.metadata.deletion_timestamp.is_none() {
            return Ok(());
        }
        let patch = json!({"data": data, "metadata": {"annotations": description}});
        let params = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        api.patch(ROOT_CA, &params, &Patch::Merge(patch))
            .await
            .map(|_| ())
    }
}

fn namespace(meta: &ObjectMeta) -> String {
    meta.namespace.clone().unwrap_or_default()
}

fn params() -> PostParams {
    PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    }
}

fn there_already<T>(answer: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match answer {
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        answer => answer.map(|_| ()),
    }
}
