//! A Kubernetes of this machine alone, with everything in it: API, controllers, node, operator.
//!
//! `run` has one for itself, in memory; `local` has a durable one that serves HTTPS. It is the same in both.

mod opencode;

use std::path::{Path, PathBuf};

use kube::Client;
use kubeopencode_embedded::{
    cluster::{Cluster, ClusterError, Options},
    controllers::{self, ControllerOptions},
    lock::LockError,
    logs::LogStore,
    node::{HostImage, Node, NodeOptions, sandbox},
};
use kubeopencode_engine::handover;
use kubeopencode_operator::{Operator, OperatorOptions};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    create,
    failure::{Failure, Problem},
};

pub(crate) use opencode::find as find_opencode;

/// The program that the node starts again for each container: this one.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// A running machine. Dropping it ends everything without waiting; [`Machine::shutdown`] waits.
pub(crate) struct Machine {
    client: Client,
    cluster: Option<Cluster>,
    work: Vec<JoinHandle<()>>,
    controllers: Option<JoinHandle<()>>,
    /// Ends the node and the operator.
    front: CancellationToken,
    /// Ends the controllers, which still tidy up what the node says last.
    back: CancellationToken,
}

/// What a machine is made of.
pub(crate) struct MachineOptions {
    /// Where everything is.
    pub(crate) directory: PathBuf,
    /// The port to serve HTTPS on, durably; None keeps the objects in memory and serves nobody else.
    pub(crate) listen: Option<u16>,
}

impl Machine {
    /// Starts it.
    pub(crate) async fn start(options: MachineOptions) -> Result<Self, Failure> {
        let MachineOptions { directory, listen } = options;
        if let Err(error) = sandbox::probe(Path::new(THIS_PROGRAM)).await {
            return Err(Problem::new(format!("this machine cannot lock processes in: {error}"))
                .hint("docs/local.md says what the node needs; `--context` runs Tasks on another cluster")
                .failed());
        }
        let definitions = kubeopencode_api::crds()
            .iter()
            .map(serde_json::to_value)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| {
                Problem::new(format!("a definition cannot be written: {error}")).failed()
            })?;
        let logs_dir = directory.join("logs");
        let logs = || {
            LogStore::open(&logs_dir).map_err(|error| {
                Problem::new(format!("it cannot be used: {error}"))
                    .at(logs_dir.display())
                    .failed()
            })
        };
        // The lock on the directory comes with the cluster: nothing is touched before it is ours.
        std::fs::create_dir_all(&directory).map_err(|error| {
            Problem::new(format!("it cannot be used: {error}"))
                .at(directory.display())
                .failed()
        })?;
        let logs = logs()?;
        let cluster = Cluster::start(Options {
            data_dir: listen.is_some().then(|| directory.clone()),
            definitions,
            listen,
            logs: Some(logs.clone()),
            ..Options::default()
        })
        .await
        .map_err(|error| cannot_start(&error))?;
        let client = cluster.client();
        let front = CancellationToken::new();
        let back = CancellationToken::new();
        let controllers =
            controllers::spawn(client.clone(), ControllerOptions::default(), back.clone());
        let node = node(&client, &directory, logs)?;
        let operator = Operator::new(
            client.clone(),
            OperatorOptions {
                settings: create::settings(true),
                ..OperatorOptions::default()
            },
        );
        let work = vec![
            tokio::spawn(node.run(front.clone().cancelled_owned())),
            tokio::spawn({
                let ended = front.clone().cancelled_owned();
                async move {
                    if let Err(error) = operator.run(ended).await {
                        tracing::error!(%error, "the operator ended");
                    }
                }
            }),
        ];
        Ok(Self {
            client,
            cluster: Some(cluster),
            work,
            controllers: Some(controllers),
            front,
            back,
        })
    }

    /// Talks to it, without any network.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Ends everything and waits until nothing runs any more.
    pub(crate) async fn shutdown(mut self) {
        self.front.cancel();
        for work in std::mem::take(&mut self.work) {
            // What panicked has ended too.
            let _ = work.await;
        }
        self.back.cancel();
        if let Some(controllers) = self.controllers.take() {
            let _ = controllers.await;
        }
        if let Some(cluster) = self.cluster.take() {
            cluster.shutdown().await;
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.front.cancel();
        self.back.cancel();
        for work in self.work.iter().chain(&self.controllers) {
            work.abort();
        }
    }
}

/// The workspace or another volume of a Pod of this machine's node.
pub(crate) fn volume(directory: &Path, pod_uid: &str, volume: &str) -> PathBuf {
    directory
        .join("pods")
        .join(pod_uid)
        .join("volumes")
        .join(volume)
}

fn node(client: &Client, directory: &Path, logs: LogStore) -> Result<Node, Failure> {
    let settings = create::settings(true);
    let name = |image: &kubeopencode_engine::run::Image| {
        image
            .reference
            .rsplit_once(':')
            .map_or(image.reference.clone(), |(name, _)| name.to_owned())
    };
    let this = std::env::current_exe()?;
    let system = HostImage {
        name: name(&settings.system_image),
        files: vec![(PathBuf::from(handover::PROGRAM), this)],
        ..HostImage::default()
    };
    let opencode = HostImage {
        name: name(&settings.opencode_image),
        ..HostImage::default()
    };
    let opencode = match opencode::find() {
        Some(program) => HostImage {
            files: vec![(PathBuf::from(handover::OPENCODE_PROGRAM), program)],
            ..opencode
        },
        None => HostImage {
            missing: Some(format!(
                "OpenCode is not installed on this machine: {}",
                opencode::INSTALL
            )),
            ..opencode
        },
    };
    let mut options = NodeOptions::new(
        "local",
        directory.to_owned(),
        PathBuf::from(THIS_PROGRAM),
        logs,
    );
    options.images = vec![system, opencode];
    Node::new(client.clone(), options).map_err(|error| Failure::from(anyhow::Error::from(error)))
}

fn cannot_start(error: &ClusterError) -> Failure {
    match error {
        ClusterError::Lock(LockError::Taken { .. }) => Problem::new(error.to_string())
            .hint("kubeopencode local is running already; end that one first, or give another --data-dir")
            .failed(),
        _ => {
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(error);
            while let Some(next) = cause {
                text = format!("{text}: {next}");
                cause = next.source();
            }
            Problem::new(text).failed()
        }
    }
}
