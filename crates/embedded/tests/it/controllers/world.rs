//! A cluster with its controllers, in time that moves only when the test says so.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use futures::{StreamExt as _, stream::BoxStream};
use jiff::Timestamp;
use kube::Client;
use kube::api::{Api, DynamicObject, WatchEvent, WatchParams};
use kube::core::ApiResource;
use kubeopencode_embedded::cluster::{Cluster, Options};
use kubeopencode_embedded::controllers::{ControllerOptions, spawn};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Only against a hang, in real time; nothing waits for it to pass.
const GUARD: Duration = Duration::from_mins(1);

/// A cluster, its controllers, and its time. Needs tokio's paused clock.
pub(super) struct World {
    pub(super) client: Client,
    cluster: Cluster,
    controllers: JoinHandle<()>,
    shutdown: CancellationToken,
    /// Milliseconds since the Unix epoch.
    now: Arc<AtomicI64>,
    /// While this is there, tokio does not advance its clock by itself.
    _hold: mpsc::Sender<()>,
    hung: tokio::sync::watch::Receiver<bool>,
}

impl World {
    /// Begins at `start`.
    pub(super) async fn new(start: Timestamp) -> Self {
        Self::with(start, Cluster::client).await
    }

    /// Begins at `start`; the controllers use another client than the test.
    pub(super) async fn with(start: Timestamp, client: impl FnOnce(&Cluster) -> Client) -> Self {
        let now = Arc::new(AtomicI64::new(start.as_millisecond()));
        let clock: Arc<dyn Fn() -> Timestamp + Send + Sync> = {
            let now = now.clone();
            Arc::new(move || Timestamp::from_millisecond(now.load(Ordering::SeqCst)).unwrap())
        };
        let (hold, ended) = mpsc::channel::<()>();
        let (alarm, hung) = tokio::sync::watch::channel(false);
        tokio::task::spawn_blocking(move || {
            if ended.recv_timeout(GUARD) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _ = alarm.send(true);
            }
        });
        let options = Options {
            clock: clock.clone(),
            // They get their own, with another certificate.
            controllers: false,
            ..Options::default()
        };
        let cluster = Cluster::start(options).await.unwrap();
        let shutdown = CancellationToken::new();
        let options = ControllerOptions {
            clock,
            root_ca: "the root".to_owned(),
            ..ControllerOptions::default()
        };
        let controllers = spawn(client(&cluster), options, shutdown.clone());
        Self {
            client: cluster.client(),
            cluster,
            controllers,
            shutdown,
            now,
            _hold: hold,
            hung,
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.now.load(Ordering::SeqCst)).unwrap()
    }

    pub(super) async fn advance(&self, time: Duration) {
        let millis = i64::try_from(time.as_millis()).unwrap();
        self.now.fetch_add(millis, Ordering::SeqCst);
        tokio::time::advance(time).await;
    }

    /// All objects of a kind, in any namespace.
    pub(super) fn api(&self, api_version: &str, kind: &str, plural: &str) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &resource(api_version, kind, plural))
    }

    /// Objects of a kind in one namespace.
    pub(super) fn api_in(
        &self,
        namespace: &str,
        api_version: &str,
        kind: &str,
        plural: &str,
    ) -> Api<DynamicObject> {
        let resource = resource(api_version, kind, plural);
        Api::namespaced_with(self.client.clone(), namespace, &resource)
    }

    /// What happens to the objects of `api` from now on, and everything that exists.
    pub(super) async fn follow(&self, api: &Api<DynamicObject>) -> Follow {
        let events = api.watch(&WatchParams::default(), "0").await.unwrap();
        Follow {
            events: events.boxed(),
            hung: self.hung.clone(),
        }
    }

    pub(super) async fn end(self) {
        self.shutdown.cancel();
        self.controllers.await.unwrap();
        self.cluster.shutdown().await;
    }
}

fn resource(api_version: &str, kind: &str, plural: &str) -> ApiResource {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}

/// An open watch.
pub(super) struct Follow {
    events: BoxStream<'static, kube::Result<WatchEvent<DynamicObject>>>,
    hung: tokio::sync::watch::Receiver<bool>,
}

impl Follow {
    /// The next event, as its type and its object. `what` is waited for, if it hangs.
    pub(super) async fn next(&mut self, what: &dyn Debug) -> (&'static str, Value) {
        let event = loop {
            let event = tokio::select! {
                event = self.events.next() => event.expect("the watch goes on").unwrap(),
                _ = self.hung.wait_for(|hung| *hung) => panic!("waited in vain for {what:?}"),
            };
            if !matches!(event, WatchEvent::Bookmark(_)) {
                break event;
            }
        };
        let (kind, object) = match event {
            WatchEvent::Added(object) => ("ADDED", object),
            WatchEvent::Modified(object) => ("MODIFIED", object),
            WatchEvent::Deleted(object) => ("DELETED", object),
            other => panic!("{other:?}"),
        };
        (kind, serde_json::to_value(object).unwrap())
    }

    /// Waits until the object of this name is gone.
    pub(super) async fn until_gone(&mut self, name: &str) {
        loop {
            let (event, object) = self.next(&format!("{name} to go")).await;
            if event == "DELETED" && object["metadata"]["name"] == name {
                return;
            }
        }
    }

    /// Waits until an object is as `wanted` says, and answers it.
    pub(super) async fn until(
        &mut self,
        what: &str,
        wanted: impl Fn(&'static str, &Value) -> bool,
    ) -> Value {
        loop {
            let (event, object) = self.next(&what).await;
            if wanted(event, &object) {
                return object;
            }
        }
    }
}
