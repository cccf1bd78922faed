//! The life of one Pod on the node: scheduled, pulled, initialized, run, ended; or ended before.

use std::{pin::pin, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Error as KubeError, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use kubeopencode_api::names::container::{AGENT, GIT_INIT};
use kubeopencode_engine::handover::{Report, TIMED_OUT, TIMEOUT_VARIABLE};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use super::Node;

/// A node that is never found, an image that never comes.
pub(super) const FOR_EVER: Duration = Duration::from_hours(1000);

/// How long an agent has to end when it is told to.
const GRACE: Duration = Duration::from_secs(30);

/// What becomes of a Pod.
#[derive(Debug)]
struct Fate {
    scheduled_after: Duration,
    unschedulable: Option<Duration>,
    pull_fails: Option<Duration>,
    init: Duration,
    init_fails: Option<i32>,
    cannot_start: bool,
    /// The node evicts it that long after it has taken it.
    evicted: Option<Duration>,
    agent: Duration,
    exit: (i32, &'static str),
    /// How long the agent takes to end when it is asked to.
    obeys: Duration,
    /// Something that was put beside the agent does not end with it.
    outlived: bool,
}

/// What ends a container before it ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// The Pod is being deleted.
    Deleted,
    /// The Pod's `activeDeadlineSeconds` are over.
    Deadline,
    /// The node has no room.
    Evicted,
    /// There is no such Pod any more: somebody has forced its deletion.
    Gone,
}

/// The life of one Pod.
pub(super) struct Life {
    node: Node,
    name: String,
    uid: String,
    api: Api<Pod>,
    seen: watch::Receiver<Option<Arc<Pod>>>,
    fate: Fate,
    taken: Option<(Instant, Timestamp)>,
    conditions: Vec<Value>,
}

impl Fate {
    fn draw(node: &Node) -> Self {
        let dice = &node.dice;
        let sometimes = |in_thousand, range| {
            let is = !*node.calm.borrow() && dice.chance(in_thousand);
            is.then(|| dice.seconds(range))
        };
        let for_ever_perhaps = |wait| if dice.chance(300) { FOR_EVER } else { wait };
        Self {
            scheduled_after: dice.millis(1..3000),
            unschedulable: sometimes(80, 10..3000).map(for_ever_perhaps),
            pull_fails: sometimes(80, 10..3000).map(for_ever_perhaps),
            init: dice.millis(10..20_000),
            init_fails: dice.chance(100).then(|| *dice.pick(&[1, 75, 137])),
            cannot_start: dice.chance(30),
            evicted: sometimes(80, 1..600),
            agent: dice.seconds(1..1200),
            exit: *dice.pick(&[
                (0, "Completed"),
                (0, "Completed"),
                (0, "Completed"),
                (1, "Error"),
                (137, "OOMKilled"),
                (139, "Error"),
            ]),
            obeys: dice.millis(10..60_000),
            outlived: dice.chance(50),
        }
    }
}

impl Life {
    pub(super) fn new(node: Node, pod: &Pod, seen: watch::Receiver<Option<Arc<Pod>>>) -> Self {
        let namespace = pod.namespace().unwrap_or_default();
        Self {
            name: pod.name_any(),
            uid: pod.uid().unwrap_or_default(),
            api: Api::namespaced(node.client.clone(), &namespace),
            fate: Fate::draw(&node),
            node,
            seen,
            taken: None,
            conditions: Vec::new(),
        }
    }

    fn pod(&self) -> Option<Arc<Pod>> {
        self.seen.borrow().clone()
    }

    pub(super) async fn run(mut self) {
        if self.has_ended() {
            return self.goes_when_deleted().await;
        }
        if self.node.has_taken(&self.uid) {
            return self.is_lost().await;
        }
        self.node.trace.say(
            "node",
            format_args!("sees Pod {}: {:?}", self.name, self.fate),
        );
        if let Err(told) = self.live().await {
            self.end_early(told, None).await;
        }
    }

    /// By what is written down.
    fn has_ended(&self) -> bool {
        let pod = self.pod();
        let status = pod.as_ref().and_then(|pod| pod.status.as_ref());
        let phase = status.and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    }

    /// The node had taken the Pod and crashed. It cannot know how far it had come, so no container counts as never made.
    async fn is_lost(&mut self) {
        self.node
            .trace
            .say("node", format_args!("Pod {} is lost", self.name));
        let lost = |name: &str| {
            let mut lost = container(
                name,
                &json!({"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown"}}),
            );
            lost["containerID"] = json!(format!("runtime://{name}"));
            lost
        };
        let mut change = json!({
            "initContainerStatuses": [lost(GIT_INIT)], "containerStatuses": [lost(AGENT)],
        });
        match self.node.dice.number(0..3) {
            0 => {}
            1 => {
                let reason = self.node.dice.pick(&["NodeRestart", "Terminated"]);
                change["reason"] = json!(reason);
            }
            // A kubelet that begins admits its Pods once more, and may refuse what it ran before.
            _ => {
                change = json!({
                    "initContainerStatuses": null, "containerStatuses": null,
                    "reason": self.node.dice.pick(&["OutOfmemory", "NodeAffinity", "Evicted"]),
                });
            }
        }
        self.finish("Failed", change).await;
    }

    /// Until the Pod has ended by itself; or what ended it before its agent ran.
    async fn live(&mut self) -> Result<(), Told> {
        self.schedule().await?;
        self.take().await?;
        if let Some(pull) = self.fate.pull_fails {
            let waiting =
                json!({"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}});
            self.write(json!({"initContainerStatuses": [container(GIT_INIT, &waiting)]}))
                .await;
            let node = self.node.clone();
            self.while_not_told(async move { node.until_better(pull).await })
                .await?;
        }
        let running = json!({"running": {"startedAt": self.node.time.now()}});
        self.write(json!({"initContainerStatuses": [container(GIT_INIT, &running)]}))
            .await;
        self.while_not_told(sleep(self.fate.init)).await?;
        if let Some(code) = self.fate.init_fails {
            let ended = self.terminated(GIT_INIT, code, "Error");
            self.finish("Failed", json!({"initContainerStatuses": [ended]}))
                .await;
            return Ok(());
        }
        let ended = self.terminated(GIT_INIT, 0, "Completed");
        self.write(json!({"initContainerStatuses": [ended]})).await;
        // The kubelet looks once more before it starts a container.
        self.while_not_told(sleep(Duration::from_millis(1))).await?;
        if self.fate.cannot_start {
            let ended = self.terminated(AGENT, 128, "StartError");
            self.finish("Failed", json!({"containerStatuses": [ended]}))
                .await;
            return Ok(());
        }
        self.run_agent().await;
        Ok(())
    }

    async fn schedule(&mut self) -> Result<(), Told> {
        self.while_not_told(sleep(self.fate.scheduled_after))
            .await?;
        if let Some(wait) = self.fate.unschedulable {
            self.condition("PodScheduled", "False", "Unschedulable");
            self.write(json!({})).await;
            let node = self.node.clone();
            self.while_not_told(async move { node.until_better(wait).await })
                .await?;
        }
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": {"name": self.name, "uid": self.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": "node"},
        });
        loop {
            let parameters = PostParams::default();
            let bound = self.api.create_subresource::<Value, Value>(
                "binding",
                &self.name,
                &parameters,
                &binding,
            );
            match bound.await {
                Ok(_) => break,
                Err(KubeError::Api(status)) if matches!(status.code, 404 | 409) => break,
                Err(_) => sleep(Duration::from_secs(1)).await,
            }
        }
        self.conditions.clear();
        // Bound or not, and deleted or not: the watch tells.
        loop {
            let bound = |pod: &Pod| {
                pod.spec
                    .as_ref()
                    .is_some_and(|spec| spec.node_name.is_some())
            };
            match self.pod() {
                None => return Err(Told::Gone),
                Some(pod) if bound(&pod) => return Ok(()),
                Some(_) => {}
            }
            if self.seen.changed().await.is_err() {
                return Err(Told::Gone);
            }
        }
    }

    async fn take(&mut self) -> Result<(), Told> {
        self.node.until_reachable().await;
        self.while_not_told(sleep(Duration::from_millis(1))).await?;
        let now = self.node.time.now();
        self.taken = Some((Instant::now(), now));
        self.node.takes(&self.uid);
        self.condition("PodScheduled", "True", "Scheduled");
        self.write(json!({"phase": "Pending", "startTime": now}))
            .await;
        Ok(())
    }

    async fn run_agent(&mut self) {
        let Some(pod) = self.pod() else { return };
        let pod = serde_json::to_value(pod.as_ref()).unwrap_or_default();
        self.node.trace.say(
            "node",
            format_args!("STARTS the agent of Pod {}", self.name),
        );
        self.node.checker.agent_starts(&pod);
        let began = self.node.time.now();
        let running = json!({"running": {"startedAt": began}});
        let started = self
            .write(json!({"phase": "Running", "containerStatuses": [container(AGENT, &running)]}));
        started.await;
        let timeout = timeout(&pod).filter(|timeout| *timeout < self.fate.agent);
        let works = timeout.unwrap_or(self.fate.agent);
        let told = self.while_not_told(sleep(works)).await;
        match told {
            Ok(()) if let Some(timeout) = timeout => {
                sleep(self.fate.obeys.min(GRACE)).await;
                self.node.checker.agent_timed_out(&pod);
                let code = i32::from(TIMED_OUT);
                self.agent_ended(code);
                let mut ended = self.terminated(AGENT, code, "Error");
                let report = Report {
                    exit_code: Some(code),
                    told_to_end: Some(false),
                    timed_out_after_seconds: Some(timeout.as_secs()),
                    ..Report::default()
                };
                ended["state"]["terminated"]["message"] =
                    json!(serde_json::to_string(&report).unwrap_or_default());
                self.finish("Failed", json!({"containerStatuses": [ended]}))
                    .await;
            }
            Ok(()) => {
                let (code, reason) = self.fate.exit;
                self.agent_ended(code);
                let phase = if code == 0 { "Succeeded" } else { "Failed" };
                let ended = self.terminated(AGENT, code, reason);
                if self.fate.outlived {
                    return self.is_outlived(ended, code).await;
                }
                self.finish(phase, json!({"containerStatuses": [ended]}))
                    .await;
            }
            Err(told) => {
                sleep(self.fate.obeys.min(GRACE)).await;
                let code = if self.fate.obeys > GRACE { 137 } else { 143 };
                self.agent_ended(code);
                self.end_early(told, Some(code)).await;
            }
        }
    }

    /// The Pod runs on, until it is told to end.
    async fn is_outlived(&mut self, mut agent: Value, code: i32) {
        let report = Report {
            exit_code: Some(code),
            told_to_end: Some(false),
            ..Report::default()
        };
        agent["state"]["terminated"]["message"] =
            json!(serde_json::to_string(&report).unwrap_or_default());
        self.write(json!({"phase": "Running", "containerStatuses": [agent]}))
            .await;
        let mut change = json!({"containerStatuses": [agent]});
        match self.while_not_told(sleep(FOR_EVER)).await {
            Err(Told::Gone) => return,
            Err(Told::Deadline) => change["reason"] = json!("DeadlineExceeded"),
            Err(Told::Evicted) => change["reason"] = json!("Evicted"),
            Err(Told::Deleted) | Ok(()) => {}
        }
        self.finish("Failed", change).await;
    }

    fn agent_ended(&self, code: i32) {
        let name = &self.name;
        self.node.trace.say(
            "node",
            format_args!("the agent of Pod {name} has ended: {code}"),
        );
        self.node.checker.agent_ended(name);
    }

    /// The Pod ends by what it was told; `agent` is the exit code of an agent that ran.
    async fn end_early(&mut self, told: Told, agent: Option<i32>) {
        let evicted = matches!(told, Told::Evicted);
        let agent = match (agent, self.node.dice.number(0..3)) {
            (None, _) => container(AGENT, &json!({"waiting": {"reason": "PodInitializing"}})),
            (Some(_), 1) if evicted => removed(true),
            (Some(_), 2) if evicted => removed(false),
            (Some(code), _) => self.terminated(AGENT, code, "Error"),
        };
        let mut change = json!({"containerStatuses": [agent]});
        match told {
            Told::Gone => return,
            Told::Deleted => {}
            Told::Deadline => {
                change["reason"] = json!("DeadlineExceeded");
                change["message"] =
                    json!("Pod was active on the node longer than the specified deadline");
            }
            Told::Evicted => {
                change["reason"] = json!("Evicted");
                change["message"] = json!("The node was low on resource: memory.");
                self.condition("DisruptionTarget", "True", "TerminationByKubelet");
            }
        }
        self.finish("Failed", change).await;
    }

    /// The Pod has ended; its object goes when it is being deleted.
    async fn finish(&mut self, phase: &str, mut change: Value) {
        // Also of one that was never bound: that is the work of Kubernetes' Pod garbage collector.
        change["phase"] = json!(phase);
        self.write(change).await;
        self.goes_when_deleted().await;
    }

    async fn goes_when_deleted(&mut self) {
        loop {
            self.node.until_reachable().await;
            match self.pod() {
                None => return,
                Some(pod) if pod.metadata.deletion_timestamp.is_some() => break,
                Some(_) => {}
            }
            if self.seen.changed().await.is_err() {
                return;
            }
        }
        let at_once = DeleteParams::default()
            .grace_period(0)
            .preconditions(Preconditions {
                uid: Some(self.uid.clone()),
                resource_version: None,
            });
        loop {
            self.node.until_reachable().await;
            match self.api.delete(&self.name, &at_once).await {
                Ok(_) => return,
                Err(KubeError::Api(status)) if matches!(status.code, 404 | 409) => return,
                Err(_) => sleep(Duration::from_secs(1)).await,
            }
        }
    }

    /// Does this, unless the Pod is told to end before.
    async fn while_not_told(&mut self, work: impl Future<Output = ()>) -> Result<(), Told> {
        let mut work = pin!(work);
        let evicted = self.fate.evicted.filter(|_| self.taken.is_some());
        loop {
            let deadline = self.deadline();
            let eviction = self
                .taken
                .zip(evicted)
                .map(|((taken, _), after)| taken + after);
            let reachable = *self.node.reachable.borrow();
            if reachable {
                match self.seen.borrow_and_update().as_ref() {
                    None => return Err(Told::Gone),
                    Some(pod) if pod.metadata.deletion_timestamp.is_some() => {
                        return Err(Told::Deleted);
                    }
                    Some(_) => {}
                }
            }
            let mut touch = self.node.reachable.subscribe();
            let far = Instant::now() + Duration::from_hours(24);
            tokio::select! {
                biased;
                () = &mut work => return Ok(()),
                () = sleep_until(deadline.unwrap_or(far)), if deadline.is_some() => {
                    return Err(Told::Deadline);
                }
                () = sleep_until(eviction.unwrap_or(far)), if eviction.is_some() => {
                    return Err(Told::Evicted);
                }
                changed = self.seen.changed(), if reachable => {
                    if changed.is_err() {
                        return Err(Told::Gone);
                    }
                }
                // The sender lives as long as the node.
                _ = touch.changed() => {}
            }
        }
    }

    /// When the Pod's time is over, as far as the node has heard.
    fn deadline(&self) -> Option<Instant> {
        let (taken, _) = self.taken?;
        let seconds = self.pod()?.spec.as_ref()?.active_deadline_seconds?;
        Some(taken + Duration::from_secs(u64::try_from(seconds).ok()?))
    }

    fn condition(&mut self, type_: &str, status: &str, reason: &str) {
        self.conditions.retain(|known| known["type"] != type_);
        self.conditions.push(json!({
            "type": type_, "status": status, "reason": reason, "message": reason,
            "lastTransitionTime": self.node.time.now(),
        }));
    }

    fn terminated(&self, name: &str, code: i32, reason: &str) -> Value {
        let now = self.node.time.now();
        container(
            name,
            &json!({"terminated": {
                "exitCode": code, "reason": reason, "message": "", "startedAt": now, "finishedAt": now,
            }}),
        )
    }

    /// Writes the status, as soon as the node is heard and as often as it takes.
    async fn write(&self, mut status: Value) {
        if !self.conditions.is_empty() {
            status["conditions"] = json!(self.conditions);
        }
        // A kubelet that has taken a Pod speaks of all its containers.
        let told = status.get("containerStatuses");
        let nothing = told.is_none_or(|told| *told == json!([]));
        if self.taken.is_some() && nothing {
            let waiting = json!({"waiting": {"reason": "PodInitializing"}});
            status["containerStatuses"] = json!([container(AGENT, &waiting)]);
        }
        let change = json!({"metadata": {"uid": self.uid}, "status": status});
        loop {
            self.node.until_reachable().await;
            let parameters = PatchParams::default();
            let written = self
                .api
                .patch_status(&self.name, &parameters, &Patch::Merge(&change))
                .await;
            match written {
                Ok(_) => return,
                Err(KubeError::Api(status)) if status.code < 500 => {
                    // Gone, or another one has its name.
                    self.node.trace.say(
                        "node",
                        format_args!("Pod {}: {}", self.name, status.message),
                    );
                    return;
                }
                Err(_) => sleep(Duration::from_secs(1)).await,
            }
        }
    }
}

/// How long the agent may run: what `supervise` goes by.
fn timeout(pod: &Value) -> Option<Duration> {
    let containers = pod["spec"]["containers"].as_array()?;
    let agent = containers.iter().find(|one| one["name"] == AGENT)?;
    let variables = agent["env"].as_array()?;
    let variable = variables
        .iter()
        .find(|one| one["name"] == TIMEOUT_VARIABLE)?;
    Some(Duration::from_secs(
        variable["value"].as_str()?.parse().ok()?,
    ))
}

/// The agent's container, which ran, of a Pod that the kubelet evicted: it was removed before anybody asked how it had ended.
fn removed(had_been_told_of: bool) -> Value {
    let unknown = json!({"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown"}});
    let mut removed = container(AGENT, &unknown);
    if had_been_told_of {
        removed["lastState"] = unknown;
        removed["restartCount"] = json!(1);
    }
    removed
}

fn container(name: &str, state: &Value) -> Value {
    json!({
        "name": name, "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state,
    })
}
