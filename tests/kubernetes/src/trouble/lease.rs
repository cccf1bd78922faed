//! Who leads, as the Lease says.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use futures::StreamExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, Client,
    runtime::{WatchStreamExt as _, watcher},
};
use kubeopencode_api::names;
use tokio::{sync::watch, task::JoinHandle};

/// Somebody who took the Lease, or nobody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Holder {
    /// Name of the operator; empty where it was released.
    pub(crate) name: String,
    /// When it took it, by its own word.
    pub(crate) since: Option<SystemTime>,
}

/// Follows a Lease. Ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Leases {
    now: watch::Receiver<Holder>,
    history: Arc<Mutex<Vec<Holder>>>,
    follower: JoinHandle<()>,
}

impl Drop for Leases {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

impl Leases {
    pub(crate) fn follow(client: Client, name: &str) -> Self {
        let (tell, now) = watch::channel(Holder::default());
        let history = Arc::<Mutex<Vec<Holder>>>::default();
        let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let mut leases = watcher(
            Api::<Lease>::namespaced(client, names::SYSTEM_NAMESPACE),
            only,
        )
        .default_backoff()
        .applied_objects()
        .boxed();
        let all = history.clone();
        let follower = tokio::spawn(async move {
            while let Some(lease) = leases.next().await {
                // A watch that broke goes on by itself.
                let Ok(lease) = lease else { continue };
                let holder = holder(&lease);
                if *tell.borrow() != holder {
                    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                    all.push(holder.clone());
                    drop(all);
                    tell.send_replace(holder);
                }
            }
        });
        Self {
            now,
            history,
            follower,
        }
    }

    /// Waits for a holder like this.
    pub(crate) async fn until(
        &self,
        within: Duration,
        mut is: impl FnMut(&Holder) -> bool,
    ) -> Option<Holder> {
        let mut now = self.now.clone();
        let reached = tokio::time::timeout(within, now.wait_for(|holder| is(holder))).await;
        reached.ok()?.ok().map(|holder| holder.clone())
    }

    pub(crate) fn now(&self) -> Holder {
        self.now.borrow().clone()
    }

    /// All who were seen, in order.
    pub(crate) fn history(&self) -> Vec<Holder> {
        let history = self.history.lock();
        history.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn holder(lease: &Lease) -> Holder {
    let spec = lease.spec.clone().unwrap_or_default();
    let identity = spec.holder_identity.unwrap_or_default();
    // An identity is the name that the operator was given, and a random part.
    let name = identity.split('_').next().unwrap_or_default().to_owned();
    let since = spec.acquire_time.filter(|_| !name.is_empty());
    Holder {
        name,
        since: since.map(|since| since.0.into()),
    }
}
