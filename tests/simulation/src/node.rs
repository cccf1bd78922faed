//! Scheduler and kubelet of one node. What becomes of a Pod is drawn from the seed when the Pod is seen.
//!
//! It counts the agents that it starts, and that count is the truth that "never twice" is held against.
//!
//! It can crash. What it remembers then is which Pods it had taken: it says of them that they are lost, and starts nothing
//! of them again.

mod pod;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt as _,
    api::DeleteParams,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use tokio::{sync::watch, task::JoinSet, time::sleep};

use crate::{checker::Checker, dice::Dice, time::Time, trace::Trace};
use pod::Life;

/// How long after the node was last heard of its Pods are marked for deletion, as Kubernetes does.
const UNREACHABLE: Duration = Duration::from_mins(5);

/// The node. Clones are the same one.
#[derive(Clone)]
pub struct Node {
    client: Client,
    dice: Dice,
    time: Time,
    trace: Trace,
    checker: Checker,
    /// Whether the node hears and is heard.
    reachable: Arc<watch::Sender<bool>>,
    /// Nothing goes wrong any more: what waits for a better time need not wait longer.
    calm: Arc<watch::Sender<bool>>,
    /// How often it has crashed.
    crashes: Arc<watch::Sender<u32>>,
    /// UIDs of the Pods that it has taken, on its disk.
    taken: Arc<watch::Sender<BTreeSet<String>>>,
}

impl Node {
    /// A node at the end of this client.
    #[must_use]
    pub fn new(client: Client, dice: &Dice, time: Time, trace: &Trace, checker: &Checker) -> Self {
        Self {
            client,
            dice: dice.fork(),
            time,
            trace: trace.clone(),
            checker: checker.clone(),
            reachable: Arc::new(watch::Sender::new(true)),
            calm: Arc::new(watch::Sender::new(false)),
            crashes: Arc::new(watch::Sender::new(0)),
            taken: Arc::new(watch::Sender::new(BTreeSet::new())),
        }
    }

    /// The node is back, and everything can be scheduled and pulled.
    pub fn calm_down(&self) {
        self.reachable.send_replace(true);
        self.calm.send_replace(true);
    }

    /// Lives until it is dropped.
    pub async fn run(self) {
        let mut crashes = self.crashes.subscribe();
        loop {
            tokio::select! {
                biased;
                // The sender lives as long as this node.
                _ = crashes.changed() => self.checker.agents_ended(),
                () = self.live() => return,
            }
        }
    }

    /// Until it crashes: what runs on it is dropped with this.
    async fn live(&self) {
        let mut lives: BTreeMap<String, watch::Sender<Option<Arc<Pod>>>> = BTreeMap::new();
        let mut listed: Option<Vec<String>> = None;
        let mut running = JoinSet::new();
        let api: Api<Pod> = Api::all(self.client.clone());
        let mut events = watcher(api, watcher::Config::default())
            .default_backoff()
            .boxed();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => listed = Some(Vec::new()),
                Ok(Event::Apply(pod) | Event::InitApply(pod)) => {
                    let Some(uid) = pod.uid() else { continue };
                    if let Some(listed) = &mut listed {
                        listed.push(uid.clone());
                    }
                    let pod = Arc::new(pod);
                    if let Some(life) = lives.get(&uid) {
                        life.send_replace(Some(pod));
                    } else {
                        let (life, seen) = watch::channel(Some(pod.clone()));
                        lives.insert(uid, life);
                        running.spawn(Life::new(self.clone(), &pod, seen).run());
                    }
                }
                Ok(Event::Delete(pod)) => {
                    if let Some(life) = pod.uid().and_then(|uid| lives.remove(&uid)) {
                        life.send_replace(None);
                    }
                }
                Ok(Event::InitDone) => {
                    let listed = listed.take().unwrap_or_default();
                    lives.retain(|uid, life| {
                        let there = listed.contains(uid);
                        if !there {
                            life.send_replace(None);
                        }
                        there
                    });
                }
                Err(_) => {}
            }
            while let Some(ended) = running.try_join_next() {
                assert!(ended.is_ok(), "a Pod's life panicked");
            }
        }
    }

    /// The node is cut off for this time. Its Pods are marked for deletion when that is long.
    pub async fn loses_touch(&self, lasts: Duration) {
        self.trace
            .say("node", format_args!("is lost for {lasts:?}"));
        self.reachable.send_replace(false);
        sleep(lasts.min(UNREACHABLE)).await;
        if lasts > UNREACHABLE {
            self.mark_all().await;
            sleep(lasts.saturating_sub(UNREACHABLE)).await;
        }
        self.trace.say("node", "is back");
        self.reachable.send_replace(true);
    }

    /// Some time after it has taken its next Pod the node dies with everything that runs on it. It is back after a while.
    pub async fn crashes(&self) {
        let mut taken = self.taken.subscribe();
        // The sender lives as long as this node.
        let _ = taken.changed().await;
        sleep(self.dice.millis(1..60_000)).await;
        let down = self.dice.seconds(1..1200);
        self.trace.say("node", "CRASHES");
        self.crashes.send_modify(|crashes| *crashes += 1);
        self.loses_touch(down).await;
    }

    /// It takes a Pod.
    fn takes(&self, uid: &str) {
        self.taken.send_modify(|taken| {
            taken.insert(uid.to_owned());
        });
    }

    fn has_taken(&self, uid: &str) -> bool {
        self.taken.borrow().contains(uid)
    }

    async fn mark_all(&self) {
        let Ok(pods) = Api::<Pod>::all(self.client.clone())
            .list(&kube::api::ListParams::default())
            .await
        else {
            return;
        };
        for pod in pods {
            let bound = pod
                .spec
                .as_ref()
                .is_some_and(|spec| spec.node_name.is_some());
            if bound && let Some(namespace) = pod.namespace() {
                let api: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
                // Gone meanwhile: then there is nothing to mark.
                let _ = api.delete(&pod.name_any(), &DeleteParams::default()).await;
            }
        }
    }

    async fn until_reachable(&self) {
        let mut reachable = self.reachable.subscribe();
        // The sender lives as long as this node.
        let _ = reachable.wait_for(|reachable| *reachable).await;
    }

    /// Waits for this long, or until nothing goes wrong any more.
    async fn until_better(&self, at_most: Duration) {
        let mut calm = self.calm.subscribe();
        tokio::select! {
            biased;
            _ = calm.wait_for(|calm| *calm), if at_most < pod::FOR_EVER => {}
            () = sleep(at_most) => {}
        }
    }
}
