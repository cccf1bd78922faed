//! The node of the embedded cluster: runs Pods as sandboxed processes of this machine.
//!
//! In: a client of the API, and what this host offers ([`NodeOptions`]). Out: bound Pods, their
//! processes, statuses, Events and logs. It is scheduler and kubelet in one, event-driven: it
//! sleeps unless a Pod, a process or a deadline wakes it.
//!
//! Images are not pulled: the host's own programs serve, read-only ([`sandbox`]). What a Pod asks
//! for that this node cannot give fails the Pod before anything starts, with one clear message.
//! Pods share the host's network. Their processes run as the node's own user, whatever number they
//! see themselves as; resource limits are not enforced.

mod attempt;
mod container;
mod downward;
mod env;
mod events;
pub mod expand;
mod image;
mod leftovers;
mod pod;
mod references;
mod refuse;
pub mod sandbox;
mod schedule;
mod status;
mod volumes;
mod write;

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use self::image::{HostFiles, HostImage, LookUp};
use self::pod::{Update, Worker};
pub use self::refuse::REASON as UNSUPPORTED;
use crate::clock::Clock;
use crate::logs::LogStore;

/// What a node is made of, and what its host offers to Pods.
#[derive(Clone)]
pub struct NodeOptions {
    /// The node's name.
    pub name: String,
    /// Where the Pods' volumes lie while they exist. Made with mode 0700; Pods cannot see it.
    pub data_dir: PathBuf,
    /// A binary that calls [`sandbox::helper_main`] first thing; `/proc/self/exe` for one's own.
    pub helper: PathBuf,
    /// What the host has in place of images.
    pub files: LookUp,
    /// Further directories of the host that Pods may see, read-only.
    pub visible: Vec<PathBuf>,
    /// Paths of the host that look empty to Pods, besides homes and the data directory.
    pub hidden: Vec<PathBuf>,
    /// Variables that every container gets, such as `KUBERNETES_SERVICE_HOST`.
    pub env: Vec<(String, String)>,
    /// Where the containers' output goes.
    pub logs: LogStore,
    /// For timestamps.
    pub clock: Clock,
    /// The longest that the end of the node waits for its Pods to end.
    pub shutdown_grace: Duration,
}

impl NodeOptions {
    /// A node with nothing special about it.
    #[must_use]
    pub fn new(name: &str, data_dir: PathBuf, helper: PathBuf, logs: LogStore) -> Self {
        Self {
            name: name.to_owned(),
            data_dir,
            helper,
            files: LookUp::default(),
            visible: Vec::new(),
            hidden: Vec::new(),
            env: Vec::new(),
            logs,
            clock: crate::clock::system_clock(),
            shutdown_grace: Duration::from_secs(5),
        }
    }
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the node's directory {}", path.display())]
pub struct NodeError {
    path: PathBuf,
    #[source]
    source: std::io::Error,
}

/// What all workers of a node share.
struct Shared {
    client: Client,
    options: NodeOptions,
    events: events::Events,
}

impl Shared {
    fn pods(&self) -> PathBuf {
        self.options.data_dir.join("pods")
    }

    fn offer(&self) -> refuse::Offer<'_> {
        refuse::Offer {
            files: self.options.files.now(),
            visible: &self.options.visible,
        }
    }
}

/// A node that is ready to run.
pub struct Node {
    client: Client,
    options: NodeOptions,
}

impl Node {
    /// A node that works through `client`, whose user may do everything with Pods and read
    /// ConfigMaps and Secrets.
    pub fn new(client: Client, mut options: NodeOptions) -> Result<Self, NodeError> {
        let failed = |source| NodeError {
            path: options.data_dir.clone(),
            source,
        };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(options.data_dir.join("pods"))
            .map_err(failed)?;
        options.data_dir = options.data_dir.canonicalize().map_err(failed)?;
        Ok(Self { client, options })
    }

    /// Runs until `shutdown`; then its Pods are ended, and nothing of them runs when this returns.
    /// A node that is dropped ends its Pods without waiting.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        let (events, writer) = events::Events::new(
            self.client.clone(),
            &self.options.name,
            self.options.clock.clone(),
        );
        let writer = tokio::spawn(writer);
        // For the Pods to end, and then for an API that does not answer.
        let patience = self.options.shutdown_grace + Duration::from_secs(10);
        let mut desk = Desk {
            shared: Arc::new(Shared {
                client: self.client.clone(),
                options: self.options,
                events,
            }),
            workers: HashMap::new(),
            scheduling: HashSet::new(),
            listed: HashSet::new(),
            swept: false,
            tasks: JoinSet::new(),
            shutdown: CancellationToken::new(),
        };
        let pods =
            watcher(Api::<Pod>::all(self.client), watcher::Config::default()).default_backoff();
        let mut pods = std::pin::pin!(pods);
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            tokio::select! {
                event = pods.next() => match event {
                    Some(Ok(event)) => desk.handle(event).await,
                    Some(Err(error)) => tracing::warn!(%error, "watching Pods"),
                    None => break,
                },
                // Only to let go of what has ended.
                Some(_) = desk.tasks.join_next(), if !desk.tasks.is_empty() => {}
                () = &mut shutdown => break,
            }
        }
        desk.shutdown.cancel();
        let ended = async { while desk.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(patience, ended).await;
        drop(desk);
        let _ = tokio::time::timeout(Duration::from_secs(1), writer).await;
    }
}

/// Which worker has which Pod.
struct Desk {
    shared: Arc<Shared>,
    /// By the Pod's uid.
    workers: HashMap<String, watch::Sender<Update>>,
    /// Pods that were looked at for binding.
    scheduling: HashSet<String>,
    /// Pods seen in the list that is being received.
    listed: HashSet<String>,
    /// What an earlier run of the node left has been removed.
    swept: bool,
    /// Dropped, they end at once, and the processes with them.
    tasks: JoinSet<()>,
    shutdown: CancellationToken,
}

impl Desk {
    async fn handle(&mut self, event: watcher::Event<Pod>) {
        match event {
            watcher::Event::Init => self.listed.clear(),
            watcher::Event::InitApply(pod) => {
                self.listed.extend(pod.metadata.uid.clone());
                self.apply(pod);
            }
            watcher::Event::InitDone => {
                let gone: Vec<String> = self
                    .workers
                    .keys()
                    .filter(|uid| !self.listed.contains(*uid))
                    .cloned()
                    .collect();
                for uid in gone {
                    self.gone(&uid);
                }
                self.scheduling.retain(|uid| self.listed.contains(uid));
                if !std::mem::replace(&mut self.swept, true) {
                    let logs = &self.shared.options.logs;
                    leftovers::sweep(&self.shared.pods(), logs, &self.listed).await;
                }
                self.listed.clear();
            }
            watcher::Event::Apply(pod) => self.apply(pod),
            watcher::Event::Delete(pod) => {
                let uid = pod.metadata.uid.unwrap_or_default();
                self.scheduling.remove(&uid);
                self.gone(&uid);
            }
        }
    }

    fn apply(&mut self, pod: Pod) {
        let Some(uid) = pod.metadata.uid.clone() else {
            return;
        };
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        if let Some(worker) = self.workers.get(&uid) {
            worker.send_replace(Update {
                pod: Arc::new(pod),
                gone: false,
            });
        } else if node == Some(self.shared.options.name.as_str()) {
            self.scheduling.remove(&uid);
            let (sender, updates) = watch::channel(Update {
                pod: Arc::new(pod),
                gone: false,
            });
            let worker = Worker::new(Arc::clone(&self.shared), updates, self.shutdown.clone());
            self.tasks.spawn(worker.run());
            self.workers.insert(uid, sender);
        } else if schedule::wants_node(&pod) && self.scheduling.insert(uid) {
            let shared = Arc::clone(&self.shared);
            self.tasks
                .spawn(async move { schedule::schedule(&shared, &pod).await });
        }
    }

    /// The object is no more: its worker ends what runs, and cleans up.
    fn gone(&mut self, uid: &str) {
        if let Some(worker) = self.workers.remove(uid) {
            worker.send_modify(|update| update.gone = true);
        }
    }
}
