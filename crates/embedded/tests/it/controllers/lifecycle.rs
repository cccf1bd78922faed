//! The lives of Jobs, as a real cluster lived them: the test plays the person and the kubelet of the recording,
//! and every recorded status of the Job and every Event must come, in order. What may be more are statuses in
//! between: a real Job controller gathers changes of Pods for up to a second, ours does not.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::SignedDuration;
use kube::api::{
    Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, PropagationPolicy,
};
use serde_json::{Value, json};

use super::world::{Follow, World};

const RECORDING: &str = include_str!("../../data/job-lifecycle.jsonl");

/// How far past a full second a scenario began, where that shows: a deadline counts from whole seconds.
const SECOND_FRACTIONS: [(&str, i64); 4] = [
    ("job-deadline", 800),
    ("pod-deleted-b1", 800),
    ("retry", 400),
    ("term-ignored", 200),
];

struct Play {
    world: World,
    jobs: Api<DynamicObject>,
    pods: Api<DynamicObject>,
    job_events: Follow,
    pod_events: Follow,
    /// Recorded name of a Pod to its name here.
    names: HashMap<String, String>,
    /// When the main container was last seen before it ended, by the Pod's name.
    alive: HashMap<String, String>,
    /// The last event of the Job.
    job: Option<(&'static str, Value)>,
    /// The Pods as last seen, by name.
    seen: BTreeMap<String, Value>,
    elapsed: Duration,
    where_: String,
}

impl Play {
    async fn new(scenario: &str) -> Self {
        let fraction = SECOND_FRACTIONS.iter().find(|(name, _)| *name == scenario);
        let start: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let start =
            start + SignedDuration::from_millis(fraction.map_or(500, |(_, millis)| *millis));
        let world = World::new(start).await;
        let namespaces = world.api("v1", "Namespace", "namespaces");
        let life = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "life"}});
        create(&namespaces, life).await;
        let jobs = world.api_in("life", "batch/v1", "Job", "jobs");
        let pods = world.api_in("life", "v1", "Pod", "pods");
        Self {
            job_events: world.follow(&jobs).await,
            pod_events: world.follow(&pods).await,
            world,
            jobs,
            pods,
            names: HashMap::new(),
            alive: HashMap::new(),
            job: None,
            seen: BTreeMap::new(),
            elapsed: Duration::ZERO,
            where_: scenario.to_owned(),
        }
    }

    async fn at(&mut self, t: f64) {
        let t = Duration::try_from_secs_f64(t).unwrap();
        if let Some(wait) = t.checked_sub(self.elapsed).filter(|wait| !wait.is_zero()) {
            self.world.advance(wait).await;
            self.elapsed = t;
        }
    }

    async fn act(&mut self, job: &Value, note: &str) {
        let name = job["metadata"]["name"].as_str().unwrap();
        match note.split_once(' ').unwrap() {
            ("POST", _) => {
                let mut job = job.clone();
                job["metadata"]["namespace"] = json!("life");
                create(&self.jobs, job).await;
            }
            ("PATCH", rest) => {
                let (what, patch) = rest.split_once(' ').unwrap();
                let patch: Value = serde_json::from_str(patch).unwrap();
                let pod = self.names.values().next().cloned();
                let (api, name) = match what {
                    "job" => (&self.jobs, name.to_owned()),
                    _ => (&self.pods, pod.expect("a Pod")),
                };
                api.patch(&name, &PatchParams::default(), &Patch::Merge(patch))
                    .await
                    .unwrap();
            }
            ("DELETE", "pod") => {
                let pod = self.names.values().next().expect("a Pod").clone();
                self.pods
                    .delete(&pod, &DeleteParams::default())
                    .await
                    .unwrap();
            }
            ("DELETE", rest) => {
                let policy = match rest.split_once('=').unwrap().1 {
                    "Background" => PropagationPolicy::Background,
                    "Foreground" => PropagationPolicy::Foreground,
                    "Orphan" => PropagationPolicy::Orphan,
                    other => panic!("{other}"),
                };
                let params = DeleteParams {
                    propagation_policy: Some(policy),
                    ..DeleteParams::default()
                };
                self.jobs.delete(name, &params).await.unwrap();
            }
            other => panic!("{other:?}"),
        }
    }

    /// Waits until the Job is as recorded. The status of one that a person has just changed or deleted is still
    /// what it was, perhaps with a change of readiness that a real controller would have noticed later.
    async fn job_event(&mut self, event: &Value) {
        let gone = event["type"] == "DELETED";
        let marked = event["metadata"]["deletionTimestamp"].is_string();
        let by_others = gone || event["metadata"].get("generation").is_some();
        let wanted = normal(&event["status"]);
        let matches = |kind: &str, object: &Value| {
            (kind == "DELETED") == gone
                && (by_others || normal(&object["status"]) == wanted)
                && (!marked || object["metadata"]["deletionTimestamp"].is_string())
        };
        let what = format!("{}: {wanted}", self.where_);
        let mut passed = Vec::new();
        while !self
            .job
            .as_ref()
            .is_some_and(|(kind, job)| matches(kind, job))
        {
            let (kind, job) = self.job_events.next(&(&what, &passed)).await;
            assert!(
                kind != "DELETED" || gone,
                "{what}: the Job is gone; it passed {passed:?}"
            );
            passed.push(normal(&job["status"]));
            self.job = Some((kind, job));
        }
    }

    /// Plays the kubelet, or waits until a Pod is as somebody else made it.
    async fn pod_event(&mut self, event: &Value) {
        let recorded = event["metadata"]["name"].as_str().unwrap().to_owned();
        let meta = &event["metadata"];
        if event["type"] == "ADDED" {
            let known: Vec<String> = self.names.values().cloned().collect();
            let new = self
                .until_pod("a new Pod", |pods| {
                    pods.keys().find(|name| !known.contains(name)).cloned()
                })
                .await;
            let pod = self.seen[&new].clone();
            let fields = ["finalizers", "ownerReferences", "labels"];
            for field in fields {
                let theirs = uids(&meta[field]);
                assert_eq!(
                    uids(&pod["metadata"][field]),
                    theirs,
                    "{} {field}",
                    self.where_
                );
            }
            self.names.insert(recorded, new);
            return;
        }
        let name = self.names[&recorded].clone();
        if event["type"] == "DELETED" {
            let gone = |pods: &BTreeMap<String, Value>| (!pods.contains_key(&name)).then_some(());
            return self.until_pod("the Pod to go", gone).await;
        }
        if meta.get("finalizers").is_some_and(Value::is_null) {
            let free = |pods: &BTreeMap<String, Value>| match pods.get(&name) {
                Some(pod) => pod["metadata"]["finalizers"].is_null().then_some(()),
                None => Some(()),
            };
            return self.until_pod("the finalizer to go", free).await;
        }
        if let Some(grace) = meta.get("deletionGracePeriodSeconds") {
            let last = *grace == json!(0);
            let marked = |pod: &Value| pod["metadata"]["deletionTimestamp"].is_string();
            if last && self.seen.get(&name).is_some_and(marked) {
                let params = DeleteParams::default().grace_period(0);
                self.pods.delete(&name, &params).await.unwrap();
                return;
            }
            let asked =
                |pods: &BTreeMap<String, Value>| pods.get(&name).is_none_or(marked).then_some(());
            return self.until_pod("the Pod to be deleted", asked).await;
        }
        if let Some(node) = event["spec"]["nodeName"].as_str() {
            return self.bind(&name, node).await;
        }
        let mut status = event["status"].clone();
        let now = self.world.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let state = &mut status["containerStatuses"][0]["state"];
        if state["terminated"].is_object() {
            // The container ended some time before the kubelet wrote so.
            state["terminated"]["finishedAt"] = json!(self.alive.get(&name).unwrap_or(&now));
        } else {
            self.alive.insert(name.clone(), now.clone());
        }
        times(&mut status, &now);
        let patch = Patch::Merge(json!({"status": status}));
        self.pods
            .patch_status(&name, &PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    async fn bind(&self, pod: &str, node: &str) {
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod, "namespace": "life"},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        let _: Value = self
            .pods
            .create_subresource("binding", pod, &PostParams::default(), &binding)
            .await
            .unwrap();
    }

    /// Takes events of Pods in until `done` finds what it looks for.
    async fn until_pod<T>(
        &mut self,
        what: &str,
        done: impl Fn(&BTreeMap<String, Value>) -> Option<T>,
    ) -> T {
        loop {
            if let Some(found) = done(&self.seen) {
                return found;
            }
            let (kind, pod) = self
                .pod_events
                .next(&(&self.where_, what, &self.seen))
                .await;
            let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
            if kind == "DELETED" {
                self.seen.remove(&name);
            } else {
                self.seen.insert(name, pod);
            }
        }
    }

    /// Waits until the Job controller has told what it told in the recording.
    async fn tells(&mut self, recorded: &[Value]) {
        let api = self.world.api_in("life", "v1", "Event", "events");
        let mut events = self.world.follow(&api).await;
        let wanted: Vec<_> = recorded
            .iter()
            .map(|event| {
                let mut message = event["message"].as_str().unwrap().to_owned();
                for (theirs, ours) in &self.names {
                    message = message.replace(theirs, ours);
                }
                (
                    event["type"].clone(),
                    event["reason"].clone(),
                    json!(message),
                    event["count"].clone(),
                )
            })
            .collect();
        let mut told = Vec::new();
        while told.len() < wanted.len() {
            let (_, event) = events.next(&(&self.where_, &wanted, &told)).await;
            if event["source"]["component"] == "job-controller" {
                let version: u64 = event["metadata"]["resourceVersion"]
                    .as_str()
                    .unwrap()
                    .parse()
                    .unwrap();
                told.push((
                    version,
                    event["type"].clone(),
                    event["reason"].clone(),
                    event["message"].clone(),
                    event["count"].clone(),
                ));
            }
        }
        // Those written before the watch began came in the order of their names.
        told.sort_by_key(|event| event.0);
        let told: Vec<_> = told
            .into_iter()
            .map(|(_, kind, reason, message, count)| (kind, reason, message, count))
            .collect();
        assert_eq!(told, wanted, "{}", self.where_);
    }
}

async fn create(api: &Api<DynamicObject>, object: Value) {
    let object = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
}

fn times(value: &mut Value, now: &str) {
    match value {
        Value::String(text) if text == "<time>" => now.clone_into(text),
        Value::Array(items) => items.iter_mut().for_each(|item| times(item, now)),
        Value::Object(fields) => fields.values_mut().for_each(|field| times(field, now)),
        _ => {}
    }
}

/// Without what differs from run to run.
fn normal(value: &Value) -> Value {
    const TIMES: [&str; 4] = [
        "lastProbeTime",
        "lastTransitionTime",
        "startTime",
        "completionTime",
    ];
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .map(|(key, field)| {
                    let field = match field {
                        _ if TIMES.contains(&key.as_str()) => json!("<time>"),
                        Value::Array(uids) if key == "succeeded" || key == "failed" => {
                            json!(uids.len())
                        }
                        field => normal(field),
                    };
                    (key.clone(), field)
                })
                .collect(),
        ),
        Value::Array(items) => items.iter().map(normal).collect(),
        other => other.clone(),
    }
}

fn uids(value: &Value) -> Value {
    let is_uid = |text: &str| {
        text.starts_with("<uid:") || (text.len() == 36 && text.matches('-').count() == 4)
    };
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .map(|(key, field)| (key.clone(), uids(field)))
                .collect(),
        ),
        Value::Array(items) => items.iter().map(uids).collect(),
        Value::String(text) if is_uid(text) => json!("<uid>"),
        other => other.clone(),
    }
}

async fn play(scenario: &str, steps: &[Value]) {
    let mut play = Play::new(scenario).await;
    let job = &steps[0]["job"];
    let mut told = Vec::new();
    for step in &steps[1..] {
        play.where_ = format!("{scenario} step {}", step["step"]);
        if let Some(t) = step["t"].as_f64() {
            play.at(t).await;
        }
        match step["kind"].as_str().unwrap() {
            "action" => play.act(job, step["note"].as_str().unwrap()).await,
            "Job" => play.job_event(step).await,
            "Pod" => play.pod_event(step).await,
            "Event" if step["component"] == "job-controller" => told.push(step.clone()),
            _ => {}
        }
    }
    play.tells(&told).await;
    play.world.end().await;
}

#[tokio::test(start_paused = true)]
async fn jobs_live_as_recorded() {
    let mut scenarios: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in RECORDING.lines() {
        let step: Value = serde_json::from_str(line).unwrap();
        let scenario = step["scenario"].as_str().unwrap().to_owned();
        scenarios.entry(scenario).or_default().push(step);
    }
    assert_eq!(scenarios.len(), 27);
    for (scenario, steps) in &scenarios {
        play(scenario, steps).await;
    }
}
