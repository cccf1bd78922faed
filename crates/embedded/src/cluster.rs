//! A cluster as a whole: the store, the API service and what works behind it.
//!
//! [`Cluster::start`] assembles one, [`Cluster::client`] is how everything talks to it, and
//! [`Cluster::shutdown`] ends all of it. There is no global state: a process can have many.

use std::path::PathBuf;

use kube::Client;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::api::{Api, Options as ApiOptions, Token, User};
use crate::clock::{Clock, Entropy, system_clock, system_entropy};
use crate::status::Failure;
use crate::store::{Location, Retention, Store, StoreError};

/// The namespaces that every cluster has.
const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// What a cluster is made of.
pub struct Options {
    /// Where everything is kept; `None`: in memory.
    pub data_dir: Option<PathBuf>,
    /// Custom resource definitions to serve.
    pub definitions: Vec<Value>,
    /// For timestamps.
    pub clock: Clock,
    /// For UIDs and generated names.
    pub entropy: Entropy,
    /// Who may come in with which token.
    pub tokens: Vec<Token>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            data_dir: None,
            definitions: Vec::new(),
            clock: system_clock(),
            entropy: system_entropy(),
            tokens: Vec::new(),
        }
    }
}

/// Why a cluster does not start.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The store.
    #[error("cannot open the store")]
    Store(#[from] StoreError),
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
}

impl Cluster {
    /// Starts a cluster.
    ///
    /// # Errors
    /// The store cannot be opened, or a definition is refused.
    pub async fn start(options: Options) -> Result<Self, ClusterError> {
        let location = match &options.data_dir {
            Some(dir) => Location::File(dir.join("store.db")),
            None => Location::Memory,
        };
        let store = Store::open(&location, Retention::default())?;
        let api = Api::new(ApiOptions {
            store,
            clock: options.clock,
            entropy: options.entropy,
            logs: None,
            tokens: options.tokens,
            address: "127.0.0.1:6443".to_owned(),
        })
        .map_err(|failure| ClusterError::SetUp {
            what: "stored definitions".to_owned(),
            failure,
        })?
        .for_user(User::administrator("system:admin"));
        let cluster = Self { api };
        for name in NAMESPACES {
            let namespace = json!({
                "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name},
            });
            cluster.ensure("/api/v1/namespaces", &namespace).await?;
        }
        for definition in &options.definitions {
            let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
            cluster.ensure(path, definition).await?;
        }
        Ok(cluster)
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

    /// Creates an object, or brings one that differs to what it should be.
    async fn ensure(&self, collection: &str, object: &Value) -> Result<(), ClusterError> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let (code, text) = self
            .send("POST", collection, "application/json", object)
            .await;
        if code == 409 {
            let path = format!("{collection}/{name}");
            let spec = json!({"spec": object["spec"]});
            let changes = object["spec"].is_object();
            let (code, text) = if changes {
                self.send("PATCH", &path, "application/merge-patch+json", &spec)
                    .await
            } else {
                (200, String::new())
            };
            return refused(code, name, text);
        }
        refused(code, name, text)
    }

    async fn send(&self, method: &str, path: &str, media: &str, body: &Value) -> (u16, String) {
        use http_body_util::BodyExt as _;
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", media)
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
        self.api.store().close().await;
    }
}

fn refused(code: u16, name: &str, text: String) -> Result<(), ClusterError> {
    if code < 400 {
        return Ok(());
    }
    let status: Value = serde_json::from_str(&text).unwrap_or_default();
    let message = status["message"].as_str().map_or(text, str::to_owned);
    Err(ClusterError::SetUp {
        what: name.to_owned(),
        failure: Failure::status(code, "Invalid", message, None),
    })
}
