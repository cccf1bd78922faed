//! A stand-in for the kubelet: reports Pods as started and ended as the test says, and counts what it started.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex},
};

use futures::StreamExt as _;
use k8s_openapi::{
    api::core::v1::{Pod, PodStatus},
    jiff::Timestamp,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    runtime::watcher::{self, Event, watcher},
};
use kubeopencode_api::names;
use kubeopencode_engine::handover::MAY_PASS;
use kubeopencode_operator::Clock;
use serde_json::{Value, json};
use tokio::sync::watch;

/// What becomes of every Pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Play {
    /// Nobody takes it.
    Unscheduled,
    /// Its agent's image cannot be pulled.
    NoImage,
    /// A volume of it cannot be mounted.
    NoVolume,
    /// Its node does not answer any more, whatever is asked of it.
    Lost,
    /// Its first init container does not end.
    Initializes,
    /// This init container of it fails, with this exit code and this message.
    InitFails(&'static str, u8, &'static str),
    /// In the first attempt an init container fails for a cause that passes; then its agent ends with 0.
    Passes,
    /// Its agent works, until it is told to end.
    Works,
    /// Its agent ends with this exit code.
    Ends(i32),
    /// Its agent ends with 0, and with this termination message.
    Says(&'static str),
    /// Its agent ends with 0, and a container that somebody has put beside it does not.
    Outlives,
}

/// The stand-in. Cloning gives another handle of the same.
#[derive(Clone)]
pub struct Kubelet {
    play: Arc<watch::Sender<Play>>,
    started: Arc<Mutex<HashMap<String, HashSet<String>>>>,
    clock: Clock,
}

impl Kubelet {
    pub fn new(play: Play, clock: Clock) -> Self {
        Self {
            clock,
            play: Arc::new(watch::Sender::new(play)),
            started: Arc::default(),
        }
    }

    /// From now on, also for Pods that are already there.
    pub fn now(&self, play: Play) {
        self.play.send_replace(play);
    }

    /// How many Pods of this Task were ever started.
    pub fn starts(&self, task: &str) -> usize {
        let started = self.started.lock().unwrap();
        let owner = format!("kubeopencode.io/v1alpha1/tasks/{task}");
        started.get(&owner).map_or(0, HashSet::len)
    }

    /// Until dropped.
    pub async fn run(self, client: Client) {
        let mut pods: BTreeMap<String, Pod> = BTreeMap::new();
        let mut play = self.play.subscribe();
        let api: Api<Pod> = Api::all(client.clone());
        let mut events = watcher(api, watcher::Config::default()).boxed();
        loop {
            let changed: Vec<Pod> = tokio::select! {
                event = events.next() => match event {
                    Some(Ok(Event::Apply(pod) | Event::InitApply(pod))) => {
                        pods.insert(pod.uid().unwrap(), pod.clone());
                        vec![pod]
                    }
                    Some(Ok(Event::Delete(pod))) => {
                        pods.remove(&pod.uid().unwrap());
                        Vec::new()
                    }
                    Some(_) => Vec::new(),
                    None => return,
                },
                changed = play.changed() => {
                    changed.unwrap();
                    pods.values().cloned().collect()
                }
            };
            let now = *play.borrow_and_update();
            for pod in changed {
                self.tend(&client, &pod, now).await;
            }
        }
    }

    async fn tend(&self, client: &Client, pod: &Pod, play: Play) {
        let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap());
        let name = pod.name_any();
        if play == Play::Lost {
            return;
        }
        // What follows may come too late: then the Pod was deleted, and the watch will say so.
        let assigned = pod
            .spec
            .as_ref()
            .is_some_and(|spec| spec.node_name.is_some());
        if !assigned && play != Play::Unscheduled && pod.metadata.deletion_timestamp.is_none() {
            let binding = json!({
                "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
                "target": {"apiVersion": "v1", "kind": "Node", "name": "stand-in"},
            });
            let parameters = PostParams::default();
            let _: Result<Value, _> = api
                .create_subresource("binding", &name, &parameters, &binding)
                .await;
            return;
        }
        if let Some(status) = self.next_status(pod, play) {
            let change = json!({"metadata": {"uid": pod.uid()}, "status": status});
            let parameters = PatchParams::default();
            let _ = api
                .patch_status(&name, &parameters, &Patch::Merge(change))
                .await;
        } else if pod.metadata.deletion_timestamp.is_some() {
            let at_once = DeleteParams::default()
                .grace_period(0)
                .preconditions(Preconditions {
                    uid: pod.uid(),
                    resource_version: None,
                });
            let _ = api.delete(&name, &at_once).await;
        }
    }

    fn next_status(&self, pod: &Pod, play: Play) -> Option<Value> {
        let status = pod.status.clone().unwrap_or_default();
        let phase = status.phase.as_deref().unwrap_or("Pending");
        if matches!(phase, "Succeeded" | "Failed") {
            return None;
        }
        let told_to_end = pod.spec.as_ref()?.active_deadline_seconds == Some(1);
        let taken = status.start_time.is_some();
        let now = (self.clock)();
        let attempt = pod.annotations().get(names::ANNOTATION_ATTEMPT);
        let play = match play {
            Play::Passes if attempt.is_none_or(|attempt| attempt != "1") => Play::Ends(0),
            play => play,
        };
        match play {
            _ if pod.metadata.deletion_timestamp.is_some() => taken.then(|| {
                let agent = (phase == "Running").then(|| ended(143, "Error", now));
                json!({
                    "phase": "Failed",
                    "containerStatuses": agent.into_iter().collect::<Vec<_>>(),
                })
            }),
            _ if taken && told_to_end => {
                let agent = agent_ended(&status)
                    .or_else(|| (phase == "Running").then(|| ended(143, "Error", now)));
                Some(json!({
                    "phase": "Failed", "reason": "DeadlineExceeded",
                    "message": "Pod was active on the node longer than the specified deadline",
                    "containerStatuses": agent.into_iter().collect::<Vec<_>>(),
                }))
            }
            Play::Initializes => (!taken).then(|| {
                self.count(pod);
                json!({"phase": "Pending", "startTime": now})
            }),
            Play::NoImage | Play::NoVolume => (!taken).then(|| {
                let state = match play {
                    Play::NoImage => json!({"waiting": {
                        "reason": "ImagePullBackOff", "message": "Back-off pulling image",
                    }}),
                    _ => json!({"waiting": {"reason": "PodInitializing"}}),
                };
                json!({
                    "phase": "Pending", "startTime": now,
                    "containerStatuses": [container("agent", &state)],
                })
            }),
            Play::Passes => Some(init_failed("git-init", MAY_PASS, "", now)),
            Play::InitFails(name, code, message) => Some(init_failed(name, code, message, now)),
            Play::Works | Play::Ends(_) | Play::Says(_) | Play::Outlives if phase != "Running" => {
                self.count(pod);
                let agent = container("agent", &json!({"running": {"startedAt": now}}));
                Some(json!({"phase": "Running", "startTime": now, "containerStatuses": [agent]}))
            }
            Play::Unscheduled | Play::Lost | Play::Works => None,
            Play::Ends(0) => Some(
                json!({"phase": "Succeeded", "containerStatuses": [ended(0, "Completed", now)]}),
            ),
            Play::Says(message) => {
                let mut agent = ended(0, "Completed", now);
                agent["state"]["terminated"]["message"] = json!(message);
                Some(json!({"phase": "Succeeded", "containerStatuses": [agent]}))
            }
            Play::Outlives => agent_ended(&status).is_none().then(|| {
                let mut agent = ended(0, "Completed", now);
                let report = json!({"exitCode": 0, "toldToEnd": false}).to_string();
                agent["state"]["terminated"]["message"] = json!(report);
                let proxy = container("proxy", &json!({"running": {"startedAt": now}}));
                json!({"phase": "Running", "containerStatuses": [agent, proxy]})
            }),
            Play::Ends(code) => {
                Some(json!({"phase": "Failed", "containerStatuses": [ended(code, "Error", now)]}))
            }
        }
    }

    fn count(&self, pod: &Pod) {
        let owner = pod.annotations().get("kubeopencode.io/owner").cloned();
        let mut started = self.started.lock().unwrap();
        started
            .entry(owner.unwrap_or_default())
            .or_default()
            .insert(pod.uid().unwrap());
    }
}

/// The agent's status, once it has ended.
fn agent_ended(status: &PodStatus) -> Option<Value> {
    let mut containers = status.container_statuses.iter().flatten();
    let agent = containers.find(|container| container.name == "agent")?;
    agent.state.as_ref()?.terminated.as_ref()?;
    serde_json::to_value(agent).ok()
}

/// The status of a Pod whose agent waited until an init container failed.
fn init_failed(name: &str, code: u8, message: &str, now: Timestamp) -> Value {
    json!({
        "phase": "Failed", "startTime": now,
        "initContainerStatuses": [container(name, &json!({
            "terminated": {"exitCode": code, "reason": "Error", "message": message, "finishedAt": now},
        }))],
        "containerStatuses": [
            container("agent", &json!({"waiting": {"reason": "PodInitializing"}})),
        ],
    })
}

fn ended(code: i32, reason: &str, now: Timestamp) -> Value {
    let report = json!({"exitCode": code, "durationMillis": 1234});
    container(
        "agent",
        &json!({"terminated": {
            "exitCode": code, "reason": reason, "message": report.to_string(),
            "finishedAt": now,
        }}),
    )
}

fn container(name: &str, state: &Value) -> Value {
    json!({
        "name": name, "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state,
    })
}
