//! A Kubernetes of this machine alone, with everything in it: API, controllers, node, operator.
//!
//! `run` has one for itself, in memory; `local` has a durable one that serves HTTPS. It is the same in both.

mod access;
mod agents;

use std::{
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use kube::Client;
use kubeopencode_embedded::{
    cluster::{Cluster, ClusterError, Options},
    lock::{DirectoryLock, LockError},
    logs::LogStore,
    node::{LookUp, NodeOptions, sandbox},
};
use kubeopencode_engine::handover;
use kubeopencode_operator::{Operator, OperatorOptions};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    create,
    failure::{Failure, Problem},
};

pub(crate) use agents::{Search, lacking};

/// The program that the node starts again for each container: this one.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// Where programs are found when nobody says more.
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where containers find the agents of this machine.
const AGENTS_DIR: &str = "/kubeopencode-agents";

/// A running machine. Dropping it ends everything without waiting; [`Machine::shutdown`] waits.
pub(crate) struct Machine {
    client: Client,
    cluster: Cluster,
    operator: JoinHandle<()>,
    end: DropGuard,
}

/// What a machine is made of.
pub(crate) struct MachineOptions {
    /// Where everything is.
    pub(crate) directory: PathBuf,
    /// Whether its objects are kept there, and not in memory.
    pub(crate) durable: bool,
    /// The port of the loopback device to serve HTTPS on, 0 for any; None serves this process alone.
    pub(crate) listen: Option<u16>,
}

impl Machine {
    /// Starts it.
    pub(crate) async fn start(options: MachineOptions) -> Result<Self, Failure> {
        let MachineOptions {
            directory,
            durable,
            listen,
        } = options;
        let definitions = kubeopencode_api::crds()
            .iter()
            .map(serde_json::to_value)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| {
                Problem::new(format!("a definition cannot be written: {error}")).failed()
            })?;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(|error| unusable(&directory, &error))?;
        if durable {
            // The cluster keeps the lock; this only looks, so that nothing of a running one is touched.
            DirectoryLock::take(&directory).map_err(|error| cannot_start(&error.into()))?;
            Search::keep(&directory).map_err(|error| unusable(&directory, &error))?;
        }
        let logs_dir = directory.join("logs");
        let logs = LogStore::open(&logs_dir).map_err(|error| unusable(&logs_dir, &error))?;
        let starting = Cluster::start(Options {
            data_dir: durable.then(|| directory.clone()),
            definitions,
            listen,
            node: Some(node(&directory, durable, logs)?),
            ..Options::default()
        });
        let (probed, started) = tokio::join!(sandbox::probe(Path::new(THIS_PROGRAM)), starting);
        probed.map_err(|error| {
            Problem::new(format!("this machine cannot lock processes in: {error}"))
                .hint("docs/local.md says what the node needs; `--context` runs Tasks on another cluster")
                .failed()
        })?;
        let cluster = started.map_err(|error| cannot_start(&error))?;
        let client = cluster.client();
        if listen.is_some() {
            access::install(&client).await?;
        }
        let options = OperatorOptions {
            settings: create::settings(true),
            ..OperatorOptions::default()
        };
        let operator = Operator::new(client.clone(), options);
        let end = CancellationToken::new();
        let ended = end.clone().cancelled_owned();
        let operator = tokio::spawn(async move {
            if let Err(error) = operator.run(ended).await {
                tracing::error!(%error, "the operator ended");
            }
        });
        Ok(Self {
            client,
            cluster,
            operator,
            end: end.drop_guard(),
        })
    }

    /// Talks to it, without any network.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Ends everything and waits until nothing runs any more.
    pub(crate) async fn shutdown(self) {
        drop(self.end);
        // What panicked has ended too.
        let _ = self.operator.await;
        self.cluster.shutdown().await;
    }
}

fn unusable(path: &Path, error: &std::io::Error) -> Failure {
    Problem::new(format!("it cannot be used: {error}"))
        .at(path.display())
        .failed()
}

/// The workspace or another volume of a Pod of this machine's node.
pub(crate) fn volume(directory: &Path, pod_uid: &str, volume: &str) -> PathBuf {
    directory
        .join("pods")
        .join(pod_uid)
        .join("volumes")
        .join(volume)
}

fn node(directory: &Path, is_local: bool, logs: LogStore) -> Result<NodeOptions, Failure> {
    let this = std::env::current_exe()?;
    let mut options = NodeOptions::new(
        "local",
        directory.to_owned(),
        PathBuf::from(THIS_PROGRAM),
        logs,
    );
    options.files = LookUp::new(move || agents::host_files(&this, is_local));
    options.env = vec![
        (
            handover::PROGRAM_EVERYWHERE.to_owned(),
            handover::PROGRAM.to_owned(),
        ),
        ("PATH".to_owned(), format!("{USUAL_PATH}:{AGENTS_DIR}")),
    ];
    Ok(options)
}

fn cannot_start(error: &ClusterError) -> Failure {
    if matches!(error, ClusterError::Lock(LockError::Taken { .. })) {
        return Problem::new(error.to_string())
            .hint("kubeopencode local is running already; end that one first, or give another --data-dir")
            .failed();
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    Problem::new(text).failed()
}
