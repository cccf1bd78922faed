//! The cluster that the scenarios run on.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context as _, Result};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use crate::{local::Local, scenario::Kind};

/// Names the address of this machine that Pods of a real cluster reach.
const ADDRESS: &str = "KUBEOPENCODE_SCENARIO_ADDRESS";

/// A `kubeopencode local` of our own, or a cluster that somebody else runs.
pub struct Cluster {
    client: Client,
    local: Option<(Local, tempfile::TempDir)>,
    address: IpAddr,
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
            let address = std::env::var(ADDRESS)
                .with_context(|| format!("{ADDRESS} has to be an address that Pods reach"))?;
            return Ok(Self {
                client,
                local: None,
                address: address.parse().context(ADDRESS)?,
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
            address: Ipv4Addr::LOCALHOST.into(),
        })
    }

    /// What a scenario calls the cluster in `only`: the one that [`Cluster::start`] will give.
    pub fn kind() -> Kind {
        match std::env::var_os("KUBEOPENCODE_SCENARIO_CONTEXT") {
            None => Kind::Embedded,
            Some(_) => Kind::Kubernetes,
        }
    }

    /// A client with all rights.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// What the operator said about a namespace, where it can be known.
    pub fn said(&self, namespace: &str) -> String {
        let log = self
            .local
            .as_ref()
            .and_then(|(_, folder)| std::fs::read_to_string(folder.path().join("local.log")).ok());
        log.unwrap_or_default()
            .lines()
            .filter(|line| line.contains(namespace))
            .fold(String::new(), |said, line| said + line + "\n")
    }

    /// Whether Pods can clone from a directory of this machine.
    pub fn has_directories(&self) -> bool {
        self.local.is_some()
    }

    /// Where Pods reach servers of this machine.
    pub fn address(&self) -> IpAddr {
        self.address
    }
}
