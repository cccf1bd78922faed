//! Which cluster a command talks to: the one that was named, else the running `kubeopencode local`, else the current
//! context of the kubeconfig.

use std::{
    fmt::Debug,
    path::{Path, PathBuf},
    time::Duration,
};

use kube::{
    Api, Client, Config, Resource,
    api::ListParams,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
    core::NamespaceResourceScope,
};
use serde::de::DeserializeOwned;

use crate::{
    cli::{ListArgs, TargetArgs},
    failure::{Failure, Problem},
};

/// How long a cluster that is on this machine may take to answer. A guard: one that is gone refuses at once.
const LOCAL_PATIENCE: Duration = Duration::from_secs(5);

/// A cluster to talk to.
#[derive(Clone)]
pub(crate) struct Target {
    /// Talks to it.
    pub(crate) client: Client,
    /// Where objects are that name no namespace.
    pub(crate) namespace: String,
    /// Where its data is, when it is the `local` of this machine and this user.
    pub(crate) data_dir: Option<PathBuf>,
}

impl Target {
    /// The objects of a kind that a `list` asks for.
    pub(crate) async fn list<K>(&self, arguments: &ListArgs) -> Result<Vec<K>, Failure>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let api: Api<K> = if arguments.all_namespaces {
            Api::all(self.client.clone())
        } else {
            Api::namespaced(self.client.clone(), &self.namespace)
        };
        let mut parameters = ListParams::default();
        if let Some(selector) = &arguments.selector {
            parameters = parameters.labels(selector);
        }
        Ok(api.list(&parameters).await?.items)
    }
}

/// The data directory of `kubeopencode local`.
pub(crate) fn data_dir() -> Result<PathBuf, Failure> {
    let base = match std::env::var_os("XDG_DATA_HOME").filter(|path| !path.is_empty()) {
        Some(base) => PathBuf::from(base),
        None => match std::env::var_os("HOME").filter(|path| !path.is_empty()) {
            Some(home) => PathBuf::from(home).join(".local/share"),
            None => {
                return Err(
                    Problem::new("there is no HOME, so there is no place for data")
                        .hint("set HOME or XDG_DATA_HOME")
                        .input(),
                );
            }
        },
    };
    Ok(base.join("kubeopencode"))
}

/// The kubeconfig that `local` writes into its data directory.
pub(crate) fn kubeconfig_of(data_dir: &Path) -> PathBuf {
    data_dir.join("kubeconfig")
}

/// The file that says that the `local` of this data directory is about to end: nobody begins anything there any more.
pub(crate) fn ending_of(data_dir: &Path) -> PathBuf {
    data_dir.join("ending")
}

/// Connects to what was named, else to the running local cluster, else to the current context.
pub(crate) async fn connect(arguments: &TargetArgs) -> Result<Target, Failure> {
    if !is_named(arguments)
        && let Some(local) = running_local(arguments.namespace.as_deref()).await
    {
        return Ok(local);
    }
    named(
        arguments.kubeconfig.as_deref(),
        arguments.context.as_deref(),
        arguments.namespace.as_deref(),
    )
    .await
}

/// Whether a cluster was named.
pub(crate) fn is_named(arguments: &TargetArgs) -> bool {
    arguments.context.is_some() || arguments.kubeconfig.is_some()
}

/// The local cluster of this user, when it is running.
pub(crate) async fn running_local(namespace: Option<&str>) -> Option<Target> {
    local_at(&data_dir().ok()?, namespace).await
}

/// The local cluster whose data is here, when it is running.
pub(crate) async fn local_at(data_dir: &Path, namespace: Option<&str>) -> Option<Target> {
    if ending_of(data_dir).exists() {
        return None;
    }
    let kubeconfig = Kubeconfig::read_from(kubeconfig_of(data_dir)).ok()?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .ok()?;
    // Loopback: whatever proxy the environment names has no business there.
    config.proxy_url = None;
    let client = Client::try_from(config).ok()?;
    tokio::time::timeout(LOCAL_PATIENCE, client.apiserver_version())
        .await
        .ok()?
        .ok()?;
    Some(Target {
        client,
        namespace: namespace.unwrap_or("default").to_owned(),
        data_dir: Some(data_dir.to_owned()),
    })
}

/// The cluster of a kubeconfig's context.
pub(crate) async fn named(
    kubeconfig: Option<&Path>,
    context: Option<&str>,
    namespace: Option<&str>,
) -> Result<Target, Failure> {
    let config = config(kubeconfig, context).await?;
    let default = config.default_namespace.clone();
    let client = Client::try_from(config)?;
    Ok(Target {
        client,
        namespace: namespace.map_or(default, str::to_owned),
        data_dir: None,
    })
}

/// What a kubeconfig says of a cluster.
pub(crate) async fn config(
    kubeconfig: Option<&Path>,
    context: Option<&str>,
) -> Result<Config, Failure> {
    let shown = kubeconfig.map_or_else(
        || "the kubeconfig".to_owned(),
        |path| path.display().to_string(),
    );
    let read = match kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    let found = read.map_err(|error| match (&error, kubeconfig) {
        (KubeconfigError::ReadConfig(..) | KubeconfigError::FindPath, None) => Problem::new(
            "there is no cluster: no kubeopencode local is running, and there is no kubeconfig",
        )
        .hint("`kubeopencode local` serves one on this machine; `kubeopencode run` needs none")
        .failed(),
        _ => Problem::new(format!("it cannot be read: {error}"))
            .at(&shown)
            .input(),
    })?;
    let names: Vec<String> = found
        .contexts
        .iter()
        .map(|context| context.name.clone())
        .collect();
    if let Some(context) = context.filter(|context| !names.iter().any(|name| name == context)) {
        return Err(Problem::new(format!("there is no context {context:?}"))
            .at(&shown)
            .hint(if names.is_empty() {
                "it has no contexts".to_owned()
            } else {
                format!("there are: {}", names.join(", "))
            })
            .input());
    }
    let options = KubeConfigOptions {
        context: context.map(str::to_owned),
        ..KubeConfigOptions::default()
    };
    Config::from_custom_kubeconfig(found, &options)
        .await
        .map_err(|error| {
            Problem::new(format!("no cluster can be made of it: {error}"))
                .at(&shown)
                .input()
        })
}
