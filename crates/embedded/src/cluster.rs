//! A cluster as a whole: the store, the API service and what works behind it.
//!
//! [`Cluster::start`] assembles one, [`Cluster::client`] is how everything talks to it, and
//! [`Cluster::shutdown`] ends all of it. There is no global state: a process can have many.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use kube::Client;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt as _;

use crate::api::{Api, Options as ApiOptions, Token, User};
use crate::clock::{Clock, Entropy, system_clock, system_entropy};
use crate::controllers::{self, ControllerOptions};
use crate::lock::{DirectoryLock, LockError};
use crate::logs::LogStore;
use crate::node::{Node, NodeError, NodeOptions};
use crate::serve::{Bound, Credentials, ServeError, write_private};
use crate::status::Failure;
use crate::store::{Location, Retention, Store, StoreError};

/// The namespaces that every cluster has.
const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Who the holder of a cluster's own token is.
const ADMINISTRATOR: &str = "kubernetes-admin";

/// What a cluster is made of.
pub struct Options {
    /// Where everything is kept, for one process at a time; `None`: in memory.
    pub data_dir: Option<PathBuf>,
    /// Custom resource definitions to serve; stored ones that differ are brought up to date.
    pub definitions: Vec<Value>,
    /// Offers HTTPS on this port of the loopback device; 0 takes any free one.
    pub listen: Option<u16>,
    /// Who may come in over HTTPS, beside the cluster's own administrator.
    pub tokens: Vec<Token>,
    /// Whether Jobs, garbage collection and namespaces have their controllers.
    pub controllers: bool,
    /// Runs Pods; without it they stay unscheduled.
    pub node: Option<NodeOptions>,
    /// What containers print, where there is no node that says so.
    pub logs: Option<LogStore>,
    /// For timestamps.
    pub clock: Clock,
    /// For UIDs, generated names and the token.
    pub entropy: Entropy,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            data_dir: None,
            definitions: Vec::new(),
            listen: None,
            tokens: Vec::new(),
            controllers: true,
            node: None,
            logs: None,
            clock: system_clock(),
            entropy: system_entropy(),
        }
    }
}

/// Why a cluster does not start.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The data directory.
    #[error("cannot use the data directory {}", path.display())]
    Directory {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another process, mostly.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The store.
    #[error("cannot open the store")]
    Store(#[from] StoreError),
    /// HTTPS.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The node.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The API refused something that every cluster has, or a definition.
    #[error("cannot set up {what}: {failure}")]
    SetUp {
        /// Which object.
        what: String,
        /// The refusal.
        failure: Failure,
    },
}

/// A running cluster. Dropping it ends it without waiting; [`Cluster::shutdown`] waits.
pub struct Cluster {
    api: Api,
    kubeconfig: Option<String>,
    address: Option<SocketAddr>,
    node: Option<(JoinHandle<()>, DropGuard)>,
    tasks: Vec<JoinHandle<()>>,
    end: DropGuard,
    _lock: Option<DirectoryLock>,
}

/// How clients from outside come in.
struct Door {
    bound: Bound,
    credentials: Credentials,
}

impl Door {
    async fn open(
        port: u16,
        data_dir: Option<&Path>,
        entropy: &Entropy,
    ) -> Result<Self, ClusterError> {
        let bound = Bound::new(port).await?;
        let credentials = match data_dir {
            Some(dir) => Credentials::open(&dir.join("pki"), entropy)?,
            None => Credentials::temporary(entropy)?,
        };
        if let Some(dir) = data_dir {
            let text = credentials.kubeconfig(bound.address());
            write_private(&dir.join("kubeconfig"), &text)?;
        }
        Ok(Self { bound, credentials })
    }
}

impl Cluster {
    /// Starts a cluster.
    ///
    /// # Errors
    /// The data directory is in use or cannot be used, the port is taken, or a definition is refused.
    pub async fn start(options: Options) -> Result<Self, ClusterError> {
        let data_dir = options.data_dir.as_deref();
        let lock = data_dir.map(claim).transpose()?;
        let location = match data_dir {
            Some(dir) => Location::File(dir.join("store.db")),
            None => Location::Memory,
        };
        let store = Store::open(&location, Retention::default())?;
        let door = match options.listen {
            Some(port) => Some(Door::open(port, data_dir, &options.entropy).await?),
            None => None,
        };
        let address = door.as_ref().map(|door| door.bound.address());
        let mut tokens = options.tokens;
        tokens.extend(door.as_ref().map(|door| Token {
            secret: door.credentials.token().to_owned(),
            user: User::administrator(ADMINISTRATOR),
        }));
        let api = Api::new(ApiOptions {
            store,
            clock: options.clock.clone(),
            entropy: options.entropy.clone(),
            logs: options
                .logs
                .or_else(|| options.node.as_ref().map(|node| node.logs.clone())),
            tokens,
            address: address.map_or_else(String::new, |address| address.to_string()),
        })
        .map_err(|failure| ClusterError::SetUp {
            what: "stored definitions".to_owned(),
            failure,
        })?;
        let token = CancellationToken::new();
        let mut cluster = Self {
            api: api.for_user(User::administrator("system:admin")),
            kubeconfig: None,
            address,
            node: None,
            tasks: Vec::new(),
            end: token.clone().drop_guard(),
            _lock: lock,
        };
        cluster.set_up(&options.definitions).await?;
        if options.controllers {
            let settings = ControllerOptions {
                clock: options.clock,
                entropy: options.entropy,
                root_ca: door
                    .as_ref()
                    .map_or_else(String::new, |door| door.credentials.authority().to_owned()),
                ..ControllerOptions::default()
            };
            let work = controllers::spawn(
                cluster.component("kube-controller-manager"),
                settings,
                token.clone(),
            );
            cluster.tasks.push(work);
        }
        if let Some(mut node) = options.node {
            if let Some(address) = address {
                let host = (
                    "KUBERNETES_SERVICE_HOST".to_owned(),
                    address.ip().to_string(),
                );
                let port = (
                    "KUBERNETES_SERVICE_PORT".to_owned(),
                    address.port().to_string(),
                );
                node.env.extend([host, port]);
            }
            let end = CancellationToken::new();
            let node = Node::new(cluster.component("kubelet"), node)?;
            let running = tokio::spawn(node.run(end.clone().cancelled_owned()));
            cluster.node = Some((running, end.drop_guard()));
        }
        if let Some(door) = door {
            cluster.kubeconfig = Some(door.credentials.kubeconfig(door.bound.address()));
            let served = door.bound.serve(api, &door.credentials, token.clone())?;
            cluster.tasks.push(tokio::spawn(served));
        }
        Ok(cluster)
    }

    /// What every cluster has, and the definitions.
    async fn set_up(&self, definitions: &[Value]) -> Result<(), ClusterError> {
        for name in NAMESPACES {
            let namespace = json!({
                "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name},
            });
            self.ensure("/api/v1/namespaces", &namespace).await?;
        }
        for definition in definitions {
            let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
            self.ensure(path, definition).await?;
        }
        Ok(())
    }

    /// A kubeconfig for the HTTPS port, if there is one. Holds a secret. With a data directory it is
    /// also the file `kubeconfig` in it.
    #[must_use]
    pub fn kubeconfig(&self) -> Option<&str> {
        self.kubeconfig.as_deref()
    }

    /// Where HTTPS is offered.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The API service, whose callers are administrators.
    #[must_use]
    pub fn api(&self) -> Api {
        self.api.clone()
    }

    /// A client of this cluster that needs no network.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(self.api.clone(), "default")
    }

    fn component(&self, name: &str) -> Client {
        Client::new(self.api.for_component(name), "default")
    }

    /// Creates an object, or brings one whose spec differs to what it should be.
    async fn ensure(&self, collection: &str, object: &Value) -> Result<(), ClusterError> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let (mut code, mut text) = self.send("POST", collection, object).await;
        if code == 409 && object["spec"].is_object() {
            let place = format!("{collection}/{name}");
            let (_, there) = self.send("GET", &place, &Value::Null).await;
            let mut there: Value = serde_json::from_str(&there).unwrap_or_default();
            there["spec"] = object["spec"].clone();
            (code, text) = self.send("PUT", &place, &there).await;
        }
        if code < 400 || (code == 409 && object["spec"].is_null()) {
            return Ok(());
        }
        let status: Value = serde_json::from_str(&text).unwrap_or_default();
        let message = status["message"].as_str().map_or(text, str::to_owned);
        Err(ClusterError::SetUp {
            what: name.to_owned(),
            failure: Failure::status(code, "Invalid", message, None),
        })
    }

    async fn send(&self, method: &str, path: &str, body: &Value) -> (u16, String) {
        use http_body_util::BodyExt as _;
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .header("user-agent", "kube-apiserver")
            .body(crate::api::Body::new(
                http_body_util::Full::from(body.to_string()).map_err(|never| match never {}),
            ));
        let Ok(request) = request else {
            return (400, format!("bad request for {path}"));
        };
        let response = match self.api.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let code = response.status().as_u16();
        let text = match response.into_body().collect().await {
            Ok(collected) => String::from_utf8_lossy(&collected.to_bytes()).into_owned(),
            Err(error) => error.to_string(),
        };
        (code, text)
    }

    /// Ends everything and waits until it has ended.
    pub async fn shutdown(self) {
        // Pods end while there is still an API that can be told so.
        if let Some((node, end)) = self.node {
            drop(end);
            let _ = node.await;
        }
        drop(self.end);
        for task in self.tasks {
            // A task that panicked has ended, which is what is waited for.
            let _ = task.await;
        }
        self.api.store().close().await;
    }
}

/// Makes a data directory that only its owner can read, and takes it.
fn claim(dir: &Path) -> Result<DirectoryLock, ClusterError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| ClusterError::Directory {
            path: dir.to_owned(),
            source,
        })?;
    Ok(DirectoryLock::take(dir)?)
}
