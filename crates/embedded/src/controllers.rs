//! The controllers that a controller-manager would run: Jobs with their TTL, garbage collection by owner
//! reference and of Pods without a node, deletion of namespaces, and what every namespace gets.
//!
//! They talk to the API through a [`kube::Client`] alone, as any controller does, and are driven by watch
//! events and timers; nothing polls. Time and randomness come from outside.

use kube::Client;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Entropy, system_clock, system_entropy};

mod cache;
mod events;
mod garbage;
mod inventory;
mod job;
mod namespace;
mod newcomer;
mod pod_garbage;
mod queue;

/// The field manager of everything that the controllers write.
const MANAGER: &str = "kube-controller-manager";

/// What the controllers need besides a client.
#[derive(Clone)]
pub struct ControllerOptions {
    /// For timestamps and deadlines. Waiting is tokio's; both should go at the same pace.
    pub clock: Clock,
    /// For names.
    pub entropy: Entropy,
    /// PEM of the authority that signed the API's certificate, for the ConfigMap `kube-root-ca.crt` of every
    /// namespace.
    pub root_ca: String,
    /// How many objects each controller works on at the same time.
    pub concurrency: usize,
}

impl Default for ControllerOptions {
    fn default() -> Self {
        Self {
            clock: system_clock(),
            entropy: system_entropy(),
            root_ca: String::new(),
            concurrency: 16,
        }
    }
}

/// Runs the controllers until `shutdown`. They may be ended at any moment: whatever they do can be taken up again
/// from what the API holds.
#[must_use]
pub fn spawn(
    client: Client,
    options: ControllerOptions,
    shutdown: CancellationToken,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let concurrency = options.concurrency;
        let (recorder, events) = events::recorder(client.clone(), options.clone());
        let kinds = inventory::Kinds::default();
        let garbage = garbage::GarbageCollector::new(client.clone(), kinds.clone());
        let namespaces =
            namespace::NamespaceController::new(client.clone(), options.clone(), kinds.clone());
        let newcomers = newcomer::NewcomerController::new(client.clone(), options.clone());
        let pods = pod_garbage::PodGarbageCollector::new(client.clone());
        let jobs = job::JobController::new(client.clone(), options, recorder);
        let observed = inventory::run(&client, &kinds, &shutdown, |change| {
            garbage.observe(&change);
            namespaces.observe(&change);
            newcomers.observe(&change);
            pods.observe(&change);
        });
        let work = async {
            tokio::join!(
                observed,
                jobs.run(&shutdown),
                garbage.run(concurrency, &shutdown),
                namespaces.run(&shutdown),
                newcomers.run(&shutdown),
                pods.run(concurrency, &shutdown),
            )
        };
        tokio::select! {
            biased;
            _ = work => {}
            () = events => {}
        }
    })
}
