//! Counts agents outside of Kubernetes: each says itself, over HTTP, when it starts and when it ends.
//!
//! What an agent did is in the world for good: no status takes it back. So this is what is believed, and it is in a
//! file before the agent is answered.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Write as _,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Result;
use axum::{Router, extract, http::StatusCode, routing::post};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

/// The address of the cluster's node, which Pods reach.
const NODE: &str = "192.0.2.10";

/// Runs of one Task's agent. Each has an identity that it made up itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Runs {
    pub(crate) started: BTreeSet<String>,
    pub(crate) ended: BTreeSet<String>,
}

/// How many agents there were, in one namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// That have started.
    pub(crate) started: usize,
    /// That have ended.
    pub(crate) ended: usize,
}

/// A running counter. Ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Counter {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    counted: Mutex<Counted>,
    /// By namespace.
    counts: watch::Sender<BTreeMap<String, Count>>,
}

#[derive(Debug)]
struct Counted {
    file: File,
    /// By namespace and Task.
    runs: BTreeMap<(String, String), Runs>,
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Counter {
    /// A counter that keeps this file.
    pub(crate) async fn new(file: &Path) -> Result<Self> {
        let listener = TcpListener::bind((NODE, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            counted: Mutex::new(Counted {
                file: File::create(file)?,
                runs: BTreeMap::new(),
            }),
            counts: watch::Sender::new(BTreeMap::new()),
        });
        let router = Router::new()
            .route("/{what}/{namespace}/{task}/{run}", post(count))
            .with_state(shared.clone());
        let server = tokio::spawn(async move {
            // It serves until it is aborted.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self {
            address,
            shared,
            server,
        })
    }

    /// What an Agent has to be so that its runs are counted; each takes so many seconds.
    pub(crate) fn agent(&self, image: &str, seconds: u32) -> Value {
        let counter = format!("http://{}", self.address);
        // The identity is new in each process, so that a second run in the same Pod would be counted too.
        let script = format!(
            "run=$(cat /proc/sys/kernel/random/uuid)\n\
             say() {{ curl -fsS -X POST {counter}/$1/$TASK_NAMESPACE/$TASK_NAME/$run; }}\n\
             say started && sleep {seconds} && say ended"
        );
        json!({
            "agentImage": image,
            "serviceAccountName": "default",
            "command": ["sh", "-c", script],
            "podSpec": {"terminationGracePeriodSeconds": 1},
        })
    }

    /// The runs of all Tasks of a namespace.
    pub(crate) fn runs(&self, namespace: &str) -> BTreeMap<String, Runs> {
        let counted = self.shared.lock();
        let of_namespace = counted.runs.iter().filter(|(key, _)| key.0 == namespace);
        of_namespace
            .map(|(key, runs)| (key.1.clone(), runs.clone()))
            .collect()
    }

    pub(crate) fn count(&self, namespace: &str) -> Count {
        let counts = self.shared.counts.borrow();
        counts.get(namespace).copied().unwrap_or_default()
    }

    /// Waits until the count is so; false if that takes longer.
    pub(crate) async fn until(
        &self,
        namespace: &str,
        within: Duration,
        mut enough: impl FnMut(Count) -> bool,
    ) -> bool {
        let mut counts = self.shared.counts.subscribe();
        let reached =
            counts.wait_for(|counts| enough(counts.get(namespace).copied().unwrap_or_default()));
        tokio::time::timeout(within, reached)
            .await
            .is_ok_and(|reached| reached.is_ok())
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn count(
    extract::State(shared): extract::State<Arc<Shared>>,
    extract::Path((what, namespace, task, run)): extract::Path<(String, String, String, String)>,
) -> StatusCode {
    let mut counted = shared.lock();
    let line = json!({"at": jiff::Timestamp::now(), "what": what, "namespace": namespace, "task": task, "run": run});
    if writeln!(counted.file, "{line}").is_err() {
        return StatusCode::INSUFFICIENT_STORAGE;
    }
    let runs = counted.runs.entry((namespace.clone(), task)).or_default();
    let new = match what.as_str() {
        "started" => runs.started.insert(run),
        "ended" => runs.ended.insert(run),
        _ => return StatusCode::NOT_FOUND,
    };
    drop(counted);
    shared.counts.send_modify(|counts| {
        let count = counts.entry(namespace).or_default();
        match what.as_str() {
            "started" => count.started += usize::from(new),
            _ => count.ended += usize::from(new),
        }
    });
    StatusCode::OK
}
