//! The cluster that the scenarios run on.

use std::path::Path;

use anyhow::Result;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use crate::local::Local;

/// A `kubeopencode local` of our own, or a cluster that somebody else runs.
pub struct Cluster {
    client: Client,
    local: Option<(Local, tempfile::TempDir)>,
}

impl Cluster {
    /// Connects to the context in `KUBEOPENCODE_SCENARIO_CONTEXT`, or starts a local cluster.
    pub async fn start() -> Result<Self> {
        if let Ok(context) = std::env::var("KUBEOPENCODE_SCENARIO_CONTEXT") {
            let options = KubeConfigOptions {
                context: Some(context),
                ..Default::default()
            };
            let client = Client::try_from(Config::from_kubeconfig(&options).await?)?;
            return Ok(Self {
                client,
                local: None,
            });
        }
        let folder = tempfile::tempdir()?;
        let local = Local::start(folder.path())?;
        let kubeconfig = Kubeconfig::read_from(local.kubeconfig())?;
        let config =
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok(Self {
            client: Client::try_from(config)?,
            local: Some((local, folder)),
        })
    }

    /// What a scenario calls this cluster in `only`.
    pub fn kind(&self) -> &'static str {
        if self.local.is_some() {
            "embedded"
        } else {
            "kubernetes"
        }
    }

    /// A client with all rights.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The URL under which Pods reach a repository of this machine.
    pub fn repository_url(path: &Path) -> String {
        match std::env::var("KUBEOPENCODE_SCENARIO_REPOSITORIES") {
            Ok(base) => format!("{base}{}", path.display()),
            Err(_) => format!("file://{}", path.display()),
        }
    }
}
